//! Which blocks lie on fewer volumes than they should. A copy counts when it is not known to be damaged and its volume is
//! neither given up, nor removed, nor rolled back; whether that is here does not matter.

use super::blocks;
use super::error::Result;
use super::parity::{self, PARITY_KIND};
use crate::model::ids::{BlockId, BlockNo, VolumeId};
use crate::model::redundancy::Redundancy;
use rusqlite::{Connection, params};
use std::collections::BTreeSet;

/// States of volumes whose copies do not count.
const GONE: &str = "('lost', 'removed', 'readonly')";

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
    /// Nothing is known to be wrong with it; its volume may not count.
    pub is_sound: bool,
    /// And its volume is neither given up nor removed.
    pub is_held: bool,
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
    /// It is a parity.
    pub is_parity: bool,
    /// On how many volumes it is to lie.
    pub wanted: u32,
    /// Those that there are, or should be.
    pub copies: Vec<CopyRow>,
}

/// Which blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// Those that no record lists: an unfinished run's.
    Unlisted,
    /// Those that this volume holds.
    On(VolumeId),
}

impl Scope {
    fn sql(self) -> String {
        match self {
            Self::All => "TRUE".to_owned(),
            Self::Unlisted => "b.run IS NULL".to_owned(),
            Self::On(volume) => {
                format!(
                    "EXISTS(SELECT 1 FROM copies o WHERE o.block = b.id AND o.volume = {}
                            AND o.state NOT IN ('missing', 'deleting'))",
                    volume.0
                )
            }
        }
    }
}

/// On how many volumes a block is to lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// Everything on so many, parities too.
    Each(u32),
    /// Blocks of chunks on so many.
    Blocks(u32),
    /// The members of parity groups on one.
    Members,
    /// Blocks of chunks on so many, unless they are among `sound`: in a group that stands for them.
    Rest {
        /// How many.
        copies: u32,
        /// For an `IN` list.
        sound: String,
    },
}

impl Goal {
    fn sql(&self) -> String {
        match self {
            Self::Each(copies) => copies.to_string(),
            Self::Blocks(copies) => format!("CASE b.kind WHEN {PARITY_KIND} THEN 0 ELSE {copies} END"),
            Self::Members => "EXISTS(SELECT 1 FROM parity_members t WHERE t.block = b.id)".to_owned(),
            Self::Rest { copies, sound } => {
                format!("CASE WHEN b.kind = {PARITY_KIND} OR b.id IN ({sound}) THEN 0 ELSE {copies} END")
            }
        }
    }
}

/// What is wanted of which blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Which.
    pub scope: Scope,
    /// On how many volumes they are to lie.
    pub goal: Goal,
    /// Volumes on which they are not to lie any more, or whose copies are not relied on.
    pub leaving: Vec<VolumeId>,
}

impl Want {
    /// The copies that a policy wants, as long as the parity groups are as they are.
    pub fn of(conn: &Connection, redundancy: Redundancy, scope: Scope) -> Result<Self> {
        let goal = match redundancy {
            Redundancy::None | Redundancy::Copies(_) => Goal::Blocks(redundancy.copies()),
            Redundancy::Parity { parities, .. } => {
                let sound = parity::list_sql(&parity::in_sound_groups(conn, parities)?);
                Goal::Rest { copies: redundancy.copies(), sound }
            }
        };
        Ok(Self { scope, goal, leaving: Vec::new() })
    }

    /// Copies of block `b` that count.
    fn counted_sql(&self) -> String {
        let leaving = self.leaving.iter().map(|volume| volume.0.to_string()).collect::<Vec<_>>().join(",");
        format!(
            "(SELECT count(*) FROM copies p JOIN volumes v ON v.id = p.volume
              WHERE p.block = b.id AND p.state = 'ok' AND v.state NOT IN {GONE} AND p.volume NOT IN ({leaving}))"
        )
    }
}

/// How many blocks lie on fewer volumes than wanted, damaged ones among them.
pub fn shortfall(conn: &Connection, want: &Want) -> Result<Shortfall> {
    let sql = format!(
        "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(size * (wanted - counted)), 0)
         FROM (SELECT b.size AS size, {} AS wanted, {} AS counted FROM blocks b WHERE b.state IN ('ok', 'bad') AND {})
         WHERE counted < wanted",
        want.goal.sql(),
        want.counted_sql(),
        want.scope.sql()
    );
    let unsigned = |row: &rusqlite::Row<'_>, at| row.get::<_, i64>(at).map(i64::cast_unsigned);
    Ok(conn.query_row(&sql, [], |row| {
        Ok(Shortfall { blocks: unsigned(row, 0)?, bytes: unsigned(row, 1)?, missing_bytes: unsigned(row, 2)? })
    })?)
}

/// The next sound blocks behind `after` that lie on fewer volumes than wanted, by number.
pub fn wanting(conn: &Connection, want: &Want, after: BlockNo, limit: usize) -> Result<Vec<WantingBlock>> {
    let goal = want.goal.sql();
    let sql = format!(
        "SELECT b.id, b.name, b.size, b.kind, {goal} FROM blocks b
         WHERE b.id > ?1 AND b.state = 'ok' AND {} AND {} < {goal} ORDER BY b.id LIMIT ?2",
        want.scope.sql(),
        want.counted_sql()
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut select = conn.prepare(&sql)?;
    let rows = select.query_map(params![after.0, limit], wanting_from_row)?;
    let mut found = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    for block in &mut found {
        block.copies = copies(conn, block.no)?;
    }
    Ok(found)
}

/// All copies of a block.
pub fn copies(conn: &Connection, block: BlockNo) -> Result<Vec<CopyRow>> {
    let mut select = conn.prepare_cached(&format!(
        "SELECT p.volume, p.state = 'ok' AND v.state NOT IN {GONE}, p.state = 'bad', p.state = 'ok',
           p.state = 'ok' AND v.state NOT IN ('lost', 'removed')
         FROM copies p JOIN volumes v ON v.id = p.volume WHERE p.block = ?1 AND p.state <> 'deleting'
         ORDER BY p.volume"
    ))?;
    let rows = select.query_map([block.0], |row| {
        Ok(CopyRow {
            volume: VolumeId(row.get(0)?),
            is_counted: row.get(1)?,
            is_bad: row.get(2)?,
            is_sound: row.get(3)?,
            is_held: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A volume holds a sound copy of a block that was just made there. No record tells of it when that of its run was written
/// already.
pub fn put_made_copy(conn: &Connection, block: BlockNo, volume: VolumeId) -> Result<()> {
    conn.prepare_cached(
        "INSERT INTO copies(block, volume, role, state)
         SELECT ?1, ?2, b.run IS NOT NULL, 'ok' FROM blocks b WHERE b.id = ?1
         ON CONFLICT(block, volume) DO UPDATE SET state = 'ok'",
    )?
    .execute(params![block.0, volume.0])?;
    Ok(())
}

/// What was made on a volume that has failed since is not counted; where it is sound it will be found again.
pub fn forget_made_copy(conn: &Connection, block: BlockId, volume: VolumeId) -> Result<()> {
    conn.prepare_cached(
        "DELETE FROM copies WHERE volume = ?2 AND block = (SELECT id FROM blocks WHERE name = ?1 AND run IS NULL)
           AND EXISTS(SELECT 1 FROM copies o WHERE o.block = copies.block AND o.volume <> ?2 AND o.state = 'ok')",
    )?
    .execute(params![block.0, volume.0])?;
    Ok(())
}

/// Whether there is any block that no record lists.
pub fn has_unlisted(conn: &Connection) -> Result<bool> {
    Ok(conn.query_row("SELECT EXISTS(SELECT 1 FROM blocks WHERE run IS NULL)", [], |row| row.get(0))?)
}

/// Blocks that are known to be damaged and that something needs.
pub fn bad_blocks(conn: &Connection) -> Result<u64> {
    let count: i64 = conn.query_row("SELECT count(*) FROM blocks WHERE state = 'bad'", [], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

/// Damaged blocks of which anything lies on this volume: parts may still be read from it. Their number and bytes.
pub fn bad_on(conn: &Connection, volume: VolumeId) -> Result<(u64, u64)> {
    let mut select = conn.prepare_cached(
        "SELECT count(*), coalesce(sum(b.size), 0) FROM blocks b JOIN copies p ON p.block = b.id
         WHERE b.state = 'bad' AND p.volume = ?1 AND p.state <> 'missing'",
    )?;
    let unsigned = |row: &rusqlite::Row<'_>, at| row.get::<_, i64>(at).map(i64::cast_unsigned);
    Ok(select.query_row([volume.0], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))?)
}

/// Damaged blocks in groups of which a file is, or was, on this volume, beside those of [`bad_on`]. Their number and bytes.
pub fn bad_by_parity_on(conn: &Connection, volume: VolumeId) -> Result<(u64, u64)> {
    let mut select = conn.prepare_cached(
        "SELECT count(*), coalesce(sum(b.size), 0) FROM blocks b WHERE b.state = 'bad'
           AND NOT EXISTS(SELECT 1 FROM copies p WHERE p.block = b.id AND p.volume = ?1 AND p.state <> 'missing')
           AND EXISTS(SELECT 1 FROM parity_members t JOIN parity_members o ON o.grp = t.grp JOIN copies p ON p.block = o.block
             WHERE t.block = b.id AND p.volume = ?1)",
    )?;
    let unsigned = |row: &rusqlite::Row<'_>, at| row.get::<_, i64>(at).map(i64::cast_unsigned);
    Ok(select.query_row([volume.0], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))?)
}

/// Whether any copy is known to be damaged, so that a repair has something to do.
pub fn has_bad_copies(conn: &Connection) -> Result<bool> {
    let sql = "SELECT EXISTS(SELECT 1 FROM copies p JOIN blocks b ON b.id = p.block WHERE p.state = 'bad' AND b.state = 'ok')";
    Ok(conn.query_row(sql, [], |row| row.get(0))?)
}

/// A block without a copy that could be had, now or when some volume is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LonelyBlock {
    /// Number.
    pub no: BlockNo,
    /// Name.
    pub id: BlockId,
    /// Bytes.
    pub size: u64,
    /// It is known as damaged already.
    pub is_bad: bool,
}

/// Blocks of which every copy is missing, damaged, or on a volume that was given up or removed, and that no parity gives
/// back, as far as that can be told by whole files; and all that are known as damaged.
pub fn lonely(conn: &Connection) -> Result<Vec<LonelyBlock>> {
    let recoverable = parity::recoverable(conn, &[])?;
    let mut select = conn.prepare_cached(
        "SELECT b.id, b.name, b.size, b.state = 'bad' FROM blocks b
         WHERE b.kind <> 3 AND b.state = 'bad' OR b.kind <> 3 AND b.state = 'ok' AND NOT EXISTS(
           SELECT 1 FROM copies p JOIN volumes v ON v.id = p.volume
           WHERE p.block = b.id AND p.state = 'ok' AND v.state NOT IN ('lost', 'removed')) ORDER BY b.id",
    )?;
    let rows = select.query_map([], |row| {
        Ok(LonelyBlock {
            no: BlockNo(row.get(0)?),
            id: BlockId(row.get(1)?),
            size: row.get::<_, i64>(2)?.cast_unsigned(),
            is_bad: row.get(3)?,
        })
    })?;
    let mut found = rows.collect::<rusqlite::Result<Vec<LonelyBlock>>>()?;
    found.retain(|block| !recoverable.contains(&block.no));
    Ok(found)
}

/// Blocks without a copy that could be had count as damaged from now on, so many at most, but for those in `spared`.
/// Returns how many were not known to.
pub fn mark_lonely(conn: &Connection, spared: &BTreeSet<BlockNo>, limit: usize) -> Result<usize> {
    let mut news = lonely(conn)?;
    news.retain(|block| !block.is_bad && !spared.contains(&block.no));
    news.truncate(limit);
    news.iter().try_for_each(|block| blocks::mark_bad(conn, block.no))?;
    Ok(news.len())
}

/// The blocks of which a volume has, or should have, a copy and that something needs, by number behind `after`.
pub fn blocks_on(conn: &Connection, volume: VolumeId, after: BlockNo, limit: usize) -> Result<Vec<WantingBlock>> {
    let mut select = conn.prepare_cached(
        "SELECT b.id, b.name, b.size, b.kind, 1 FROM copies p JOIN blocks b ON b.id = p.block
         WHERE p.volume = ?1 AND b.id > ?2 AND b.state IN ('ok', 'bad') AND p.state <> 'deleting' ORDER BY b.id LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = select.query_map(params![volume.0, after.0, limit], wanting_from_row)?;
    let mut found = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    for block in &mut found {
        block.copies = copies(conn, block.no)?;
    }
    Ok(found)
}

fn wanting_from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<WantingBlock> {
    Ok(WantingBlock {
        no: BlockNo(row.get(0)?),
        id: BlockId(row.get(1)?),
        size: row.get::<_, i64>(2)?.cast_unsigned(),
        is_parity: row.get::<_, u8>(3)? == PARITY_KIND,
        wanted: row.get(4)?,
        copies: Vec::new(),
    })
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
        let want = |scope, copies| Want { scope, goal: Goal::Each(copies), leaving: Vec::new() };
        let short = |want: Want| {
            let found = shortfall(catalog.conn(), &want).unwrap();
            (found.blocks, found.bytes, found.missing_bytes)
        };
        assert_eq!(short(want(Scope::All, 1)), (2, 110_000, 110_000));
        assert_eq!(short(want(Scope::All, 2)), (4, 111_100, 221_100));
        assert_eq!(short(want(Scope::All, 3)).0, 5);
        assert_eq!(short(want(Scope::Unlisted, 2)), (1, 100, 100));
        assert_eq!(short(want(Scope::On(VolumeId(2)), 2)), (1, 1000, 1000));
        let leaving = Want { leaving: vec![VolumeId(2)], ..want(Scope::On(VolumeId(2)), 1) };
        assert_eq!(short(leaving), (1, 1000, 1000));
        let found = wanting(catalog.conn(), &want(Scope::All, 2), BlockNo(2), 9).unwrap();
        assert_eq!(found.iter().map(|block| block.no.0).collect::<Vec<_>>(), [3, 5]);
        let copy = |volume, is_counted, is_sound: bool| CopyRow {
            volume: VolumeId(volume),
            is_counted,
            is_bad: !is_sound,
            is_sound,
            is_held: is_counted,
        };
        assert_eq!(found[0].copies, [copy(1, false, false), copy(2, true, true)]);
        assert_eq!(found[1].copies, [copy(3, false, true)]);
        let alone: Vec<i64> = lonely(catalog.conn()).unwrap().iter().map(|block| block.no.0).collect();
        assert_eq!(alone, [4, 5]);
        assert_eq!(
            (mark_lonely(catalog.conn(), &BTreeSet::new(), 9).unwrap(), bad_blocks(catalog.conn()).unwrap()),
            (1, 2)
        );
        assert_eq!(bad_on(catalog.conn(), VolumeId(3)).unwrap(), (1, 100_000));
        assert!(has_bad_copies(catalog.conn()).unwrap());
        assert_eq!(wanting(catalog.conn(), &want(Scope::All, 2), BlockNo(0), 1).unwrap().len(), 1);
    }
}
