//! From stored bytes to the files that need them: chunk → contents → versions → runs, each step by an index. Also the
//! checks that every row is backed by what it names.

use super::error::Result;
use super::parity;
use super::row::{StoredVersion, VERSION_COLUMNS};
use crate::model::ids::{BlockNo, ChunkNo, ContentId, FileHash, SourceId, VolumeId};
use crate::model::path;
use rusqlite::{Connection, Row, params};
use std::sync::LazyLock;

// An extent has at most 256 chunks. The sign keeps the last term from being taken for the index's lower bound, which
// would read all extents from the first.
const EXTENTS_WITH: &str = "SELECT chunk, n, id, 0, 1, hash FROM contents WHERE chunk BETWEEN ?1 - 255 AND ?2 AND chunk + n > ?1 AND +chunk > 0
     UNION ALL
     SELECT e.chunk, e.n, e.content, e.at, 0, t.hash FROM extents e JOIN contents t ON t.id = e.content
     WHERE e.chunk BETWEEN ?1 - 255 AND ?2 AND e.chunk + e.n > ?1 AND +e.chunk > 0";
const CONTENTS_IN_BLOCK: &str =
    "WITH hit(no) AS (SELECT c.no FROM segments s JOIN chunks c ON c.seg = s.id WHERE s.block = ?1)
     SELECT t.id FROM hit JOIN contents t
       ON t.chunk BETWEEN hit.no - 255 AND hit.no AND t.chunk + t.n > hit.no AND +t.chunk > 0
     UNION SELECT e.content FROM hit JOIN extents e
       ON e.chunk BETWEEN hit.no - 255 AND hit.no AND e.chunk + e.n > hit.no AND +e.chunk > 0";

/// An extent of a content that is not all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedExtent {
    /// Its first chunk.
    pub first: ChunkNo,
    /// How many chunks it has, at most 256.
    pub n: u32,
    /// The content.
    pub content: ContentId,
    /// Its offset in the file.
    pub at: u64,
    /// Whether it is the content's first extent.
    pub is_first: bool,
    /// The content's hash.
    pub hash: FileHash,
}

/// A file version that holds a given content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentUser {
    /// Its source.
    pub source: SourceId,
    /// Its path inside the source.
    pub path: Vec<u8>,
    /// The version.
    pub version: StoredVersion,
    /// First run that saw it.
    pub first_run: i64,
    /// Last run that saw it; `None` while it lives.
    pub last_run: Option<i64>,
}

/// The extents that have any of the chunks from `first` to `last`, by their first chunk.
pub fn extents_with(conn: &Connection, first: ChunkNo, last: ChunkNo) -> Result<Vec<UsedExtent>> {
    let mut select = conn.prepare_cached(EXTENTS_WITH)?;
    let rows = select.query_map([first.0, last.0], |row| {
        Ok(UsedExtent {
            first: ChunkNo(row.get(0)?),
            n: row.get(1)?,
            content: ContentId(row.get(2)?),
            at: row.get::<_, i64>(3)?.cast_unsigned(),
            is_first: row.get(4)?,
            hash: FileHash(row.get(5)?),
        })
    })?;
    let mut extents: Vec<UsedExtent> = rows.collect::<rusqlite::Result<_>>()?;
    extents.sort_unstable_by_key(|extent| (extent.first, extent.content, extent.at));
    Ok(extents)
}

/// Hands every version that holds a content to `each`, by path and run.
pub fn for_each_user(
    conn: &Connection,
    content: ContentId,
    each: &mut dyn FnMut(ContentUser) -> Result<()>,
) -> Result<()> {
    let sql = format!("{} ORDER BY source, path, name, first_run", users_sql());
    let mut select = conn.prepare_cached(&sql)?;
    let mut rows = select.query([content.0])?;
    while let Some(row) = rows.next()? {
        each(user_from_row(row)?)?;
    }
    Ok(())
}

/// The versions that hold a content, by path and run, if there are at most `limit` of them; else `None`, and
/// [`for_each_user`] goes through them.
pub fn users_up_to(conn: &Connection, content: ContentId, limit: usize) -> Result<Option<Vec<ContentUser>>> {
    static SQL: LazyLock<String> = LazyLock::new(|| format!("{} LIMIT ?2", users_sql()));
    let mut select = conn.prepare_cached(&SQL)?;
    let mut rows = select.query(params![content.0, i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)])?;
    let mut users = Vec::new();
    while let Some(row) = rows.next()? {
        let place: (i64, Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        users.push((place, user_from_row(row)?));
    }
    if users.len() > limit {
        return Ok(None);
    }
    users.sort_by(|(one, one_user), (other, other_user)| {
        one.cmp(other).then_with(|| one_user.first_run.cmp(&other_user.first_run))
    });
    Ok(Some(users.into_iter().map(|(_, user)| user).collect()))
}

/// The versions that hold content `?1`, for [`user_from_row`].
fn users_sql() -> String {
    let of = |table: &str, last_run: &str| {
        format!(
            "SELECT d.source AS source, d.path AS path, v.name AS name, v.first_run AS first_run, {last_run}, {}
             FROM {table} v JOIN dirs d ON d.id = v.dir WHERE v.obj = ?1 AND v.mode >> 12 = 8",
            VERSION_COLUMNS.split(", ").map(|column| format!("v.{column}")).collect::<Vec<_>>().join(", ")
        )
    };
    format!("{} UNION ALL {}", of("live", "NULL"), of("past", "v.last_run"))
}

fn user_from_row(row: &Row<'_>) -> Result<ContentUser> {
    let (dir, name): (Vec<u8>, Vec<u8>) = (row.get(1)?, row.get(2)?);
    Ok(ContentUser {
        source: SourceId(row.get(0)?),
        path: path::join(&dir, &name),
        first_run: row.get(3)?,
        last_run: row.get(4)?,
        version: StoredVersion::from_row(row, 5)?,
    })
}

/// Contents that use any chunk whose first place is in `block`.
pub fn contents_in_block(conn: &Connection, block: BlockNo) -> Result<Vec<ContentId>> {
    let mut select = conn.prepare_cached(CONTENTS_IN_BLOCK)?;
    Ok(select.query_map([block.0], |row| row.get(0).map(ContentId))?.collect::<rusqlite::Result<_>>()?)
}

/// Versions whose rows name bytes that the catalog cannot place, and rows that name rows that are not there; a
/// sentence each, at most `limit`.
pub fn dangling(conn: &Connection, limit: u32) -> Result<Vec<String>> {
    let checks = [
        ("SELECT 'chunk ' || c.no || ' has no segment' FROM chunks c LEFT JOIN segments s ON s.id = c.seg
             WHERE s.id IS NULL",),
        ("SELECT 'segment ' || s.id || ' has no block' FROM segments s LEFT JOIN blocks b ON b.id = s.block
             WHERE b.id IS NULL OR b.state = 'gone'",),
        ("SELECT 'block ' || lower(hex(b.name)) || ' has no copy' FROM blocks b
             LEFT JOIN copies p ON p.block = b.id WHERE p.block IS NULL AND b.state IN ('ok', 'bad')",),
        ("SELECT 'a live row names content ' || l.obj || ', which is missing' FROM live l
             LEFT JOIN contents c ON c.id = l.obj WHERE l.mode >> 12 = 8 AND c.id IS NULL",),
        ("SELECT 'a past row names content ' || l.obj || ', which is missing' FROM past l
             LEFT JOIN contents c ON c.id = l.obj WHERE l.mode >> 12 = 8 AND c.id IS NULL",),
        ("SELECT 'content ' || t.id || ' names chunk ' || (t.chunk + t.n - 1) || ', which is missing' FROM contents t
             LEFT JOIN chunks c ON c.no = t.chunk + t.n - 1 WHERE t.chunk > 0 AND c.no IS NULL",),
        ("SELECT 'content ' || t.content || ' names chunk ' || (t.chunk + t.n - 1) || ', which is missing'
             FROM extents t LEFT JOIN chunks c ON c.no = t.chunk + t.n - 1 WHERE t.chunk > 0 AND c.no IS NULL",),
    ];
    let mut found = Vec::new();
    for (sql,) in checks {
        let mut select = conn.prepare(&format!("{sql} LIMIT {limit}"))?;
        for sentence in select.query_map([], |row| row.get::<_, String>(0))? {
            found.push(sentence?);
        }
    }
    Ok(found)
}

/// Contents that cannot be had without `volumes`: some chunk lies on none but these, or nowhere.
pub fn contents_only_on(conn: &Connection, volumes: &[VolumeId]) -> Result<Vec<ContentId>> {
    let list = volumes.iter().map(|volume| volume.0.to_string()).collect::<Vec<_>>().join(",");
    let given_back = parity::list_sql(&parity::recoverable(conn, volumes)?);
    let here = format!(
        "(EXISTS(SELECT 1 FROM copies p JOIN blocks b ON b.id = p.block JOIN volumes v ON v.id = p.volume
                WHERE p.block = s.block AND (b.state = 'bad' OR b.state = 'ok' AND p.state <> 'missing')
                  AND v.state NOT IN ('lost', 'removed') AND p.volume NOT IN ({list}))
          OR s.block IN ({given_back}))"
    );
    let sql = format!(
        "WITH away(no) AS (
           SELECT c.no FROM chunks c LEFT JOIN segments s ON s.id = c.seg
           WHERE (s.id IS NULL OR NOT {here})
             AND NOT EXISTS(SELECT 1 FROM chunk_more m JOIN segments s ON s.id = m.seg WHERE m.no = c.no AND {here}))
         SELECT t.id FROM away JOIN contents t
           ON t.chunk BETWEEN away.no - 255 AND away.no AND t.chunk + t.n > away.no AND +t.chunk > 0
         UNION SELECT e.content FROM away JOIN extents e
           ON e.chunk BETWEEN away.no - 255 AND away.no AND e.chunk + e.n > away.no AND +e.chunk > 0"
    );
    let mut select = conn.prepare(&sql)?;
    Ok(select.query_map([], |row| row.get(0).map(ContentId))?.collect::<rusqlite::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::catalog::settings::Settings;
    use crate::model::ids::RepositoryUuid;
    use crate::model::params::{ChunkerParams, Compression, HashAlgo, Reserve};
    use rusqlite::StatementStatus;

    #[test]
    fn what_uses_a_chunk_is_found_without_going_through_all_that_was_stored_before() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            repository: RepositoryUuid([1; 16]),
            hash: HashAlgo::Blake3,
            chunker: ChunkerParams { min: 1 << 18, avg: 1 << 20, max: 1 << 22, normalization: 2 },
            block_size: 1 << 20,
            compression: Compression::None,
            reserve: Reserve::Percent(1.0),
            redundancy: crate::model::redundancy::Redundancy::None,
        };
        let catalog = Catalog::create(&dir.path().join("backup.cat"), &settings).unwrap();
        let conn = catalog.conn();
        conn.execute_batch(
            "WITH RECURSIVE numbers(no) AS (SELECT 1 UNION ALL SELECT no + 1 FROM numbers WHERE no < 60000)
             INSERT INTO contents(size, hash, chunk, n) SELECT no, randomblob(32), no, 1 FROM numbers;
             INSERT INTO extents SELECT id, size, chunk, n FROM contents;
             INSERT INTO blocks(id, name, kind, size, state) VALUES (1, randomblob(32), 1, 1, 'ok');
             INSERT INTO segments(id, block, off, stored, raw, codec) VALUES (1, 1, 0, 1, 1, 0);
             INSERT INTO chunks(no, id, len, seg, off) VALUES (59000, randomblob(32), 1, 1, 0);",
        )
        .unwrap();
        let one_and_some = [vec![59_000, 59_000], vec![59_000, 59_010]].map(|range| (EXTENTS_WITH, range));
        for (sql, range) in one_and_some.into_iter().chain([(CONTENTS_IN_BLOCK, vec![1])]) {
            let mut select = conn.prepare(sql).unwrap();
            let mut rows = select.query(rusqlite::params_from_iter(range)).unwrap();
            let mut found = 0;
            while rows.next().unwrap().is_some() {
                found += 1;
            }
            drop(rows);
            assert!((1..=22).contains(&found), "{found} of {sql}");
            let steps = select.get_status(StatementStatus::VmStep);
            assert!(steps < 20_000, "{steps} steps of {sql}");
        }
    }
}
