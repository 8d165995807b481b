//! From the first bytes of a hash to the rows that may have it, of chunks and of contents. These are tables of their own
//! and no indexes, because they are filled many rows at a time in the order of the hashes: an index is filled in the
//! order of the rows, all over the place, which takes twice as long as soon as it is larger than the cache. Who finds
//! a row by its key compares the whole hash.

use super::error::Result;
use rusqlite::{Connection, params};

/// The first bytes of a hash. More than one row has them only where somebody takes pains.
pub type Key = [u8; 8];

/// What a catalog before schema 5 has in their place: indexes. For readers, which leave such a catalog as it is.
pub const OLDER_VIEWS: &str =
    "CREATE TEMP VIEW chunk_keys AS SELECT substr(id, 1, 8) AS key, no AS chunk FROM main.chunks;
     CREATE TEMP VIEW content_keys AS SELECT substr(hash, 1, 8) AS key, id AS content FROM main.contents;";

/// Brings a catalog of schema 4 to 5. The old indexes are read in their order, so that nothing is sorted in memory.
pub const STEP: &str = "DROP VIEW IF EXISTS temp.chunk_keys; DROP VIEW IF EXISTS temp.content_keys;
     CREATE TABLE main.chunk_keys(
       key BLOB NOT NULL, chunk INTEGER NOT NULL, PRIMARY KEY(key, chunk)) STRICT, WITHOUT ROWID;
     CREATE TABLE main.content_keys(
       key BLOB NOT NULL, content INTEGER NOT NULL, PRIMARY KEY(key, content)) STRICT, WITHOUT ROWID;
     INSERT INTO chunk_keys SELECT substr(id, 1, 8), no FROM chunks ORDER BY substr(id, 1, 8);
     INSERT INTO content_keys SELECT substr(hash, 1, 8), id FROM contents ORDER BY substr(hash, 1, 8);
     DROP INDEX chunks_by_id; DROP INDEX contents_by_hash;";

/// Which rows are keyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyed {
    /// Chunks, by their identity.
    Chunks,
    /// Contents, by their hash.
    Contents,
}

/// The key of a hash.
pub fn key_of(hash: &[u8; 32]) -> Key {
    let mut key = Key::default();
    key.copy_from_slice(&hash[..8]);
    key
}

/// Adds the keys of new rows; several at a time are added fastest in their order.
pub fn put(conn: &Connection, keyed: Keyed, keys: impl IntoIterator<Item = (Key, i64)>) -> Result<()> {
    let mut insert = conn.prepare_cached(match keyed {
        Keyed::Chunks => "INSERT INTO chunk_keys(key, chunk) VALUES(?1, ?2)",
        Keyed::Contents => "INSERT INTO content_keys(key, content) VALUES(?1, ?2)",
    })?;
    for (key, row) in keys {
        insert.execute(params![key, row])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::test_plans::{assert_by_index, assert_plan, catalog};
    use crate::catalog::{chunks, contents, holders};

    const READS: [&str; 4] = [chunks::FIND, contents::FIND, holders::CHUNKS_LIKE, holders::CONTENTS_LIKE];

    fn make_older(conn: &Connection) {
        conn.execute_batch(
            "DROP TABLE chunk_keys; CREATE INDEX chunks_by_id ON chunks(substr(id, 1, 8));
             DROP TABLE content_keys; CREATE INDEX contents_by_hash ON contents(substr(hash, 1, 8));",
        )
        .unwrap();
    }

    #[test]
    fn rows_are_found_by_their_keys_in_a_catalog_of_either_schema() {
        assert_by_index(&READS);
        let (_dir, catalog) = catalog();
        make_older(catalog.conn());
        catalog.conn().execute_batch(OLDER_VIEWS).unwrap();
        READS.iter().for_each(|sql| assert_plan(catalog.conn(), sql));
    }

    #[test]
    fn the_keys_of_an_older_catalog_are_made_without_sorting() {
        let (_dir, catalog) = catalog();
        make_older(catalog.conn());
        for insert in STEP.split(';').map(str::trim).filter(|sql| sql.starts_with("INSERT")) {
            let select = &insert[insert.find("SELECT").unwrap()..];
            let mut plan = catalog.conn().prepare(&format!("EXPLAIN QUERY PLAN {select}")).unwrap();
            let steps = plan.query_map([], |row| row.get::<_, String>(3)).unwrap();
            let steps: Vec<String> = steps.map(std::result::Result::unwrap).collect();
            assert!(steps.len() == 1 && steps[0].contains("USING COVERING INDEX"), "{steps:?}: {select}");
        }
    }
}
