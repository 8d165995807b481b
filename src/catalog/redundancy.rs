//! Which blocks lie on fewer volumes than they should. A copy counts when it is not known to be damaged and its volume is
//! not given up; whether that is here does not matter.

use super::error::Result;
use crate::model::ids::{BlockId, BlockNo, VolumeId};
use crate::model::redundancy::Redundancy;
use rusqlite::{Connection, params};

/// How much lies on fewer volumes than it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Shortfall {
    /// Blocks.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the copies that they lack.
    pub missing_bytes: u64,
}

/// A copy of a block, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyRow {
    /// Where.
    pub volume: VolumeId,
    /// It counts.
    pub is_counted: bool,
    /// Something that is damaged has the block's name there.
    pub is_bad: bool,
}

/// A block that wants more copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantingBlock {
    /// Number.
    pub no: BlockNo,
    /// Name.
    pub id: BlockId,
    /// Bytes.
    pub size: u64,
    /// Those that there are, or should be.
    pub copies: Vec<CopyRow>,
}

/// Which blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All that are sound.
    All,
    /// Those of them that no record lists: an unfinished run's.
    Unlisted,
    /// Those of them that this volume holds.
    On(VolumeId),
}

impl Scope {
    fn sql(self) -> String {
        match self {
            Self::All => "TRUE".to_owned(),
            Self::Unlisted => "b.run IS NULL".to_owned(),
            Self::On(volume) => {
                format!("EXISTS(SELECT 1 FROM copies o WHERE o.block = b.id AND o.volume = {})", volume.0)
            }
        }
    }
}

/// What is wanted of which blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Which.
    pub scope: Scope,
    /// On how many volumes they are to lie.
    pub copies: u32,
    /// A volume on which they are not to lie any more.
    pub leaving: Option<VolumeId>,
}

impl Want {
    /// This policy for all blocks.
    pub fn everywhere(redundancy: Redundancy) -> Self {
        Self { scope: Scope::All, copies: redundancy.copies(), leaving: None }
    }

    /// Copies of block `b` that count.
    fn counted_sql(&self) -> String {
        let elsewhere = self.leaving.map(|volume| format!(" AND p.volume <> {}", volume.0)).unwrap_or_default();
        format!(
            "(SELECT count(*) FROM copies p JOIN volumes v ON v.id = p.volume
              WHERE p.block = b.id AND p.state = 'ok' AND v.state NOT IN ('lost', 'removed'){elsewhere})"
        )
    }
}

/// How many sound blocks lie on fewer volumes than wanted.
pub fn shortfall(conn: &Connection, want: &Want) -> Result<Shortfall> {
    let sql = format!(
        "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(size * (?1 - counted)), 0)
         FROM (SELECT b.size AS size, {} AS counted FROM blocks b WHERE b.state = 'ok' AND {}) WHERE counted < ?1",
        want.counted_sql(),
        want.scope.sql()
    );
    let unsigned = |row: &rusqlite::Row<'_>, at| row.get::<_, i64>(at).map(i64::cast_unsigned);
    Ok(conn.query_row(&sql, [want.copies], |row| {
        Ok(Shortfall { blocks: unsigned(row, 0)?, bytes: unsigned(row, 1)?, missing_bytes: unsigned(row, 2)? })
    })?)
}

/// The next sound blocks behind `after` that lie on fewer volumes than wanted, by number.
pub fn wanting(conn: &Connection, want: &Want, after: BlockNo, limit: usize) -> Result<Vec<WantingBlock>> {
    let sql = format!(
        "SELECT b.id, b.name, b.size FROM blocks b
         WHERE b.id > ?1 AND b.state = 'ok' AND {} AND {} < ?2 ORDER BY b.id LIMIT ?3",
        want.scope.sql(),
        want.counted_sql()
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut select = conn.prepare(&sql)?;
    let rows = select.query_map(params![after.0, want.copies, limit], |row| {
        Ok(WantingBlock {
            no: BlockNo(row.get(0)?),
            id: BlockId(row.get(1)?),
            size: row.get::<_, i64>(2)?.cast_unsigned(),
            copies: Vec::new(),
        })
    })?;
    let mut found = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    for block in &mut found {
        block.copies = copies(conn, block.no)?;
    }
    Ok(found)
}

/// All copies of a block.
pub fn copies(conn: &Connection, block: BlockNo) -> Result<Vec<CopyRow>> {
    let mut select = conn.prepare_cached(
        "SELECT p.volume, p.state = 'ok' AND v.state NOT IN ('lost', 'removed'), p.state = 'bad'
         FROM copies p JOIN volumes v ON v.id = p.volume WHERE p.block = ?1 ORDER BY p.volume",
    )?;
    let rows = select.query_map([block.0], |row| {
        Ok(CopyRow { volume: VolumeId(row.get(0)?), is_counted: row.get(1)?, is_bad: row.get(2)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Damaged blocks that lie on this volume and on no other that is not given up, and their bytes. Those that nothing needs
/// any more do not count.
pub fn bad_only_on(conn: &Connection, volume: VolumeId) -> Result<(u64, u64)> {
    let mut select = conn.prepare_cached(
        "SELECT count(*), coalesce(sum(b.size), 0) FROM blocks b JOIN copies p ON p.block = b.id
         WHERE b.state = 'bad' AND p.volume = ?1 AND NOT EXISTS(
           SELECT 1 FROM copies o JOIN volumes v ON v.id = o.volume
           WHERE o.block = b.id AND o.volume <> ?1 AND v.state NOT IN ('lost', 'removed'))",
    )?;
    let unsigned = |row: &rusqlite::Row<'_>, at| row.get::<_, i64>(at).map(i64::cast_unsigned);
    Ok(select.query_row([volume.0], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::test_plans::catalog;

    #[test]
    fn a_copy_counts_when_it_is_sound_and_its_volume_is_not_given_up() {
        let (_dir, catalog) = catalog();
        catalog
            .conn()
            .execute_batch(
                "INSERT INTO volumes(id, uuid, name, state, reserve) VALUES(1, x'01', 'a', 'active', '0'),
                   (2, x'02', 'b', 'sealed', '0'), (3, x'03', 'c', 'lost', '0');
                 INSERT INTO blocks(id, name, kind, size, state, run) VALUES
                   (1, zeroblob(32), 1, 10, 'ok', 7), (2, CAST(x'01' || zeroblob(31) AS BLOB), 1, 100, 'ok', NULL),
                   (3, CAST(x'02' || zeroblob(31) AS BLOB), 1, 1000, 'ok', 7), (4, CAST(x'03' || zeroblob(31) AS BLOB), 1, 10000, 'bad', 7),
                   (5, CAST(x'04' || zeroblob(31) AS BLOB), 1, 100000, 'ok', 7);
                 INSERT INTO copies(block, volume, role, state) VALUES(1, 1, 0, 'ok'), (1, 2, 0, 'ok'), (2, 1, 0, 'ok'),
                   (2, 3, 0, 'ok'), (3, 1, 0, 'bad'), (3, 2, 0, 'ok'), (4, 1, 0, 'bad'), (5, 3, 0, 'ok');",
            )
            .unwrap();
        let want = |scope, copies| Want { scope, copies, leaving: None };
        let short = |want: Want| {
            let found = shortfall(catalog.conn(), &want).unwrap();
            (found.blocks, found.bytes, found.missing_bytes)
        };
        assert_eq!(short(want(Scope::All, 1)), (1, 100_000, 100_000));
        assert_eq!(short(want(Scope::All, 2)), (3, 101_100, 201_100));
        assert_eq!(short(want(Scope::All, 3)).0, 4);
        assert_eq!(short(want(Scope::Unlisted, 2)), (1, 100, 100));
        assert_eq!(short(want(Scope::On(VolumeId(2)), 2)), (1, 1000, 1000));
        let leaving = Want { leaving: Some(VolumeId(2)), ..want(Scope::On(VolumeId(2)), 1) };
        assert_eq!(short(leaving), (1, 1000, 1000));
        let found = wanting(catalog.conn(), &want(Scope::All, 2), BlockNo(2), 9).unwrap();
        assert_eq!(found.iter().map(|block| block.no.0).collect::<Vec<_>>(), [3, 5]);
        let copy = |volume, is_counted, is_bad| CopyRow { volume: VolumeId(volume), is_counted, is_bad };
        assert_eq!(found[0].copies, [copy(1, false, true), copy(2, true, false)]);
        assert_eq!(found[1].copies, [copy(3, false, false)]);
        assert_eq!(wanting(catalog.conn(), &want(Scope::All, 2), BlockNo(0), 1).unwrap().len(), 1);
    }
}
