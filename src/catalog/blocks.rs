//! Blocks, their segments and chunks: registering what is durable, and a block's state when it is found damaged.

use super::error::{CatalogError, Result};
use super::keys::{self, Key, Keyed};
use crate::format::block::{BlockTable, SegmentEntry};
use crate::format::manifest::BlockRecord;
use crate::model::ids::{BlockId, BlockNo, ChunkId, ChunkNo, RunSeq, SegmentNo, VolumeId, VolumeUuid};
use rusqlite::{Connection, OptionalExtension, params};

/// A block that is durable on `volume` and not yet in the catalog.
#[derive(Debug, Clone)]
pub struct NewBlock {
    /// Name.
    pub id: BlockId,
    /// Bytes of the file.
    pub size: u64,
    /// Kind of container.
    pub kind: u8,
    /// Where it is.
    pub volumes: Vec<VolumeId>,
    /// What lies where in it.
    pub table: BlockTable,
    /// Chunk numbers in the order of the table.
    pub numbers: Vec<ChunkNo>,
    /// The complete run whose manifest lists it; `None` until there is one.
    pub listed_by: Option<RunSeq>,
}

/// Registers a durable block; registering it again adds only its copies.
pub fn register(conn: &Connection, block: &NewBlock) -> Result<BlockNo> {
    let known = number_of(conn, block.id)?;
    let is_placeless = match known {
        // Known by name from a parity.
        Some(no) => conn.execute("UPDATE blocks SET state = 'ok' WHERE id = ?1 AND state = 'gone'", [no.0])? > 0,
        None => false,
    };
    let no = match known {
        Some(no) => no,
        None => {
            conn.prepare_cached("INSERT INTO blocks(name, kind, size, state, run) VALUES(?1, ?2, ?3, 'ok', ?4)")?
                .execute(params![block.id.0, block.kind, block.size.cast_signed(), block.listed_by.map(|run| run.0)])?;
            BlockNo(conn.last_insert_rowid())
        }
    };
    for volume in &block.volumes {
        conn.prepare_cached("INSERT OR IGNORE INTO copies(block, volume, role, state) VALUES(?1, ?2, 0, 'ok')")?
            .execute(params![no.0, volume.0])?;
    }
    if known.is_some() && !is_placeless {
        return Ok(no);
    }
    let (mut numbers, mut new) = (block.numbers.iter(), Vec::with_capacity(block.numbers.len()));
    for segment in &block.table.segments {
        register_segment(conn, (no, segment), &mut numbers, &mut new)?;
    }
    new.sort_unstable();
    keys::put(conn, Keyed::Chunks, new)?;
    Ok(no)
}

fn register_segment(
    conn: &Connection,
    (block, segment): (BlockNo, &SegmentEntry),
    numbers: &mut std::slice::Iter<'_, ChunkNo>,
    new: &mut Vec<(Key, i64)>,
) -> Result<()> {
    conn.prepare_cached("INSERT INTO segments(block, off, stored, raw, codec) VALUES(?1, ?2, ?3, ?4, ?5)")?
        .execute(params![block.0, segment.offset.cast_signed(), segment.stored_len, segment.raw_len, segment.codec])?;
    let seg = conn.last_insert_rowid();
    let mut add = conn.prepare_cached(
        "INSERT INTO chunks(no, id, seg, off, len) VALUES(?1, ?2, ?3, ?4, ?5) ON CONFLICT(no) DO NOTHING",
    )?;
    let mut offset = 0_i64;
    for (id, len) in &segment.chunks {
        let no = numbers.next().ok_or_else(|| CatalogError::damaged("a block with fewer numbers than chunks"))?;
        if add.execute(params![no.0, id.0, seg, offset, len])? == 0 {
            relocate(conn, *no, (seg, offset, *len))?;
        } else {
            new.push((keys::key_of(&id.0), no.0));
        }
        offset += i64::from(*len);
    }
    Ok(())
}

/// A chunk that has a place gets another one; it becomes the first when the old one cannot be relied on.
fn relocate(conn: &Connection, no: ChunkNo, (seg, offset, len): (i64, i64, u32)) -> Result<()> {
    let (old_seg, old_offset): (i64, i64) = conn
        .prepare_cached("SELECT seg, off FROM chunks WHERE no = ?1")?
        .query_row([no.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let old_is_sound: bool = conn
        .prepare_cached(
            "SELECT EXISTS(SELECT 1 FROM segments s JOIN blocks b ON b.id = s.block
             JOIN copies p ON p.block = b.id JOIN volumes v ON v.id = p.volume
             WHERE s.id = ?1 AND b.state = 'ok' AND p.state = 'ok' AND v.state NOT IN ('lost', 'removed'))",
        )?
        .query_row([old_seg], |row| row.get(0))?;
    let mut further = conn.prepare_cached("INSERT OR IGNORE INTO chunk_more(no, seg, off) VALUES(?1, ?2, ?3)")?;
    if old_is_sound {
        further.execute(params![no.0, seg, offset])?;
        return Ok(());
    }
    if old_seg != 0 {
        further.execute(params![no.0, old_seg, old_offset])?;
    }
    // A chunk that was known by name alone had no length either.
    conn.prepare_cached("UPDATE chunks SET seg = ?2, off = ?3, len = ?4 WHERE no = ?1")?
        .execute(params![no.0, seg, offset, len])?;
    Ok(())
}

/// The number of the block with this name.
pub fn number_of(conn: &Connection, id: BlockId) -> Result<Option<BlockNo>> {
    Ok(conn
        .prepare_cached("SELECT id FROM blocks WHERE name = ?1")?
        .query_row([id.0], |row| row.get(0).map(BlockNo))
        .optional()?)
}

/// Whether a segment's bytes can be relied on: a sound block on a volume that is not given up and not in `avoid`.
pub fn is_segment_usable(conn: &Connection, segment: SegmentNo, avoid: &[VolumeId]) -> Result<bool> {
    let mut select = conn.prepare_cached(
        "SELECT p.volume FROM segments s JOIN blocks b ON b.id = s.block
         JOIN copies p ON p.block = b.id JOIN volumes v ON v.id = p.volume
         WHERE s.id = ?1 AND b.state = 'ok' AND p.state = 'ok' AND v.state NOT IN ('lost', 'removed')",
    )?;
    let mut rows = select.query([segment.0])?;
    while let Some(row) = rows.next()? {
        if !avoid.contains(&VolumeId(row.get(0)?)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The block that a segment is in; 0 where it is not known.
pub fn block_of(conn: &Connection, segment: SegmentNo) -> Result<BlockNo> {
    let mut select = conn.prepare_cached("SELECT block FROM segments WHERE id = ?1")?;
    Ok(select.query_row([segment.0], |row| row.get(0).map(BlockNo)).optional()?.unwrap_or(BlockNo(0)))
}

/// Hands every block that no manifest lists to `each`, with its table rebuilt from the rows.
pub fn for_each_unlisted(conn: &Connection, each: &mut dyn FnMut(&BlockRecord) -> Result<()>) -> Result<()> {
    let mut select = conn.prepare(
        "SELECT id, name, size, kind FROM blocks WHERE run IS NULL AND state <> 'gone' AND kind = 1 ORDER BY id",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let no: i64 = row.get(0)?;
        let (table, numbers) = table_of(conn, BlockNo(no))?;
        let mut volumes = conn.prepare_cached(
            "SELECT v.uuid FROM copies p JOIN volumes v ON v.id = p.volume
             WHERE p.block = ?1 AND p.state <> 'deleting' ORDER BY v.id",
        )?;
        let volumes = volumes.query_map([no], |row| row.get(0).map(VolumeUuid))?.collect::<rusqlite::Result<_>>()?;
        each(&BlockRecord {
            id: BlockId(row.get(1)?),
            size: row.get::<_, i64>(2)?.cast_unsigned(),
            kind: row.get(3)?,
            volumes,
            table,
            numbers,
        })?;
    }
    Ok(())
}

/// A block's table with its chunk numbers, from the rows. Chunks that have another first place are found too.
pub fn table_of(conn: &Connection, block: BlockNo) -> Result<(BlockTable, Vec<ChunkNo>)> {
    let (mut table, mut numbers) = (BlockTable::default(), Vec::new());
    let mut segments =
        conn.prepare_cached("SELECT id, off, stored, raw, codec FROM segments WHERE block = ?1 ORDER BY off")?;
    let mut rows = segments.query([block.0])?;
    while let Some(row) = rows.next()? {
        let seg: i64 = row.get(0)?;
        let mut chunks = conn.prepare_cached(
            "SELECT off, no, id, len FROM chunks WHERE seg = ?1
             UNION ALL SELECT m.off, m.no, c.id, c.len FROM chunk_more m JOIN chunks c ON c.no = m.no WHERE m.seg = ?1
             ORDER BY 1",
        )?;
        let mut entry = SegmentEntry {
            offset: row.get::<_, i64>(1)?.cast_unsigned(),
            stored_len: row.get(2)?,
            raw_len: row.get(3)?,
            codec: row.get(4)?,
            chunks: Vec::new(),
        };
        let mut chunk_rows = chunks.query([seg])?;
        while let Some(chunk) = chunk_rows.next()? {
            numbers.push(ChunkNo(chunk.get(1)?));
            entry.chunks.push((ChunkId(chunk.get(2)?), chunk.get(3)?));
        }
        table.segments.push(entry);
    }
    Ok((table, numbers))
}

/// All unlisted blocks are listed by the manifest of `run` from now on.
pub fn mark_listed(conn: &Connection, run: RunSeq) -> Result<()> {
    conn.execute("UPDATE blocks SET run = ?1 WHERE run IS NULL", [run.0])?;
    Ok(())
}

/// A block was found damaged or missing: it is no dedup target any more, and live files that use it are read again
/// by the next run, those of an unfinished run too.
pub fn mark_bad(conn: &Connection, block: BlockNo) -> Result<()> {
    conn.execute("UPDATE blocks SET state = 'bad' WHERE id = ?1 AND state IN ('ok', 'bad')", [block.0])?;
    promote_further_places(conn, block)?;
    // By the contents one by one: their rows are found by an index then.
    let mut select = conn.prepare_cached(
        "WITH hit(no) AS (SELECT no FROM chunks WHERE seg IN (SELECT id FROM segments WHERE block = ?1))
         SELECT t.id FROM hit CROSS JOIN contents t
           ON t.chunk BETWEEN hit.no - 255 AND hit.no AND t.chunk + t.n > hit.no AND +t.chunk > 0
         UNION SELECT e.content FROM hit CROSS JOIN extents e
           ON e.chunk BETWEEN hit.no - 255 AND hit.no AND e.chunk + e.n > hit.no AND +e.chunk > 0",
    )?;
    let has_pending: bool = conn.query_row("SELECT EXISTS(SELECT 1 FROM pending)", [], |row| row.get(0))?;
    for content in select.query_map([block.0], |row| row.get::<_, i64>(0))?.collect::<rusqlite::Result<Vec<_>>>()? {
        for rows in ["live", "pending"].into_iter().take(if has_pending { 2 } else { 1 }) {
            let sql = format!("UPDATE {rows} SET marks = marks | 2 WHERE obj = ?1 AND mode >> 12 = 8");
            conn.prepare_cached(&sql)?.execute([content])?;
        }
    }
    Ok(())
}

/// Chunks of a damaged block that lie in a sound one too are looked for there first from now on.
fn promote_further_places(conn: &Connection, block: BlockNo) -> Result<()> {
    let mut select = conn.prepare_cached(
        "SELECT c.no, c.seg, c.off, m.seg, m.off FROM segments s JOIN chunks c ON c.seg = s.id
         JOIN chunk_more m ON m.no = c.no JOIN segments t ON t.id = m.seg JOIN blocks b ON b.id = t.block
         WHERE s.block = ?1 AND b.state = 'ok' GROUP BY c.no",
    )?;
    let rows = select.query_map([block.0], |row| {
        Ok((row.get::<_, i64>(0)?, [row.get::<_, i64>(1)?, row.get(2)?], [row.get::<_, i64>(3)?, row.get(4)?]))
    })?;
    for (no, [old_seg, old_off], [new_seg, new_off]) in rows.collect::<rusqlite::Result<Vec<_>>>()? {
        conn.prepare_cached("UPDATE chunks SET seg = ?2, off = ?3 WHERE no = ?1")?
            .execute(params![no, new_seg, new_off])?;
        conn.prepare_cached("DELETE FROM chunk_more WHERE no = ?1 AND seg = ?2 AND off = ?3")?
            .execute(params![no, new_seg, new_off])?;
        conn.prepare_cached("INSERT OR IGNORE INTO chunk_more(no, seg, off) VALUES(?1, ?2, ?3)")?
            .execute(params![no, old_seg, old_off])?;
    }
    Ok(())
}

/// A block that was bad was found sound.
pub fn mark_sound(conn: &Connection, block: BlockNo) -> Result<()> {
    conn.execute("UPDATE blocks SET state = 'ok' WHERE id = ?1 AND state = 'bad'", [block.0])?;
    Ok(())
}

/// Bad blocks of which no chunk that a content uses has its first place there any more are condemned: nothing
/// needs them. Returns how many.
pub fn condemn_superseded(conn: &Connection) -> Result<usize> {
    Ok(conn.execute(
        "UPDATE blocks SET state = 'condemned' WHERE state = 'bad' AND NOT EXISTS(
           SELECT 1 FROM segments s JOIN chunks c ON c.seg = s.id WHERE s.block = blocks.id AND (
             EXISTS(SELECT 1 FROM contents t WHERE t.chunk BETWEEN c.no - 255 AND c.no AND t.chunk + t.n > c.no
                    AND +t.chunk > 0)
             OR EXISTS(SELECT 1 FROM extents e WHERE e.chunk BETWEEN c.no - 255 AND c.no AND e.chunk + e.n > c.no
                       AND +e.chunk > 0)))",
        [],
    )?)
}

/// Bad blocks, whose sound chunks want a new place.
pub fn bad_ones(conn: &Connection) -> Result<Vec<BlockNo>> {
    let mut select = conn.prepare_cached("SELECT id FROM blocks WHERE state = 'bad' ORDER BY id")?;
    Ok(select.query_map([], |row| row.get(0).map(BlockNo))?.collect::<rusqlite::Result<_>>()?)
}

/// Remembers that a block's copy was read and found sound.
pub fn set_verified(conn: &Connection, block: BlockNo, (volume, at_ns): (VolumeId, i64)) -> Result<()> {
    conn.prepare_cached("UPDATE copies SET verified_ns = ?3 WHERE block = ?1 AND volume = ?2")?
        .execute(params![block.0, volume.0, at_ns])?;
    Ok(())
}

/// A block is listed by the manifest of `run`, unless an earlier one lists it.
pub fn set_listed(conn: &Connection, block: BlockNo, run: RunSeq) -> Result<()> {
    conn.prepare_cached("UPDATE blocks SET run = ?2 WHERE id = ?1 AND run IS NULL")?
        .execute(params![block.0, run.0])?;
    Ok(())
}

/// Name, size and volume of every copy of the blocks that the manifest of `run` lists.
pub fn listed_by(conn: &Connection, run: RunSeq) -> Result<Vec<(BlockId, u64, VolumeId)>> {
    let mut select = conn.prepare(
        "SELECT b.name, b.size, p.volume FROM blocks b JOIN copies p ON p.block = b.id WHERE b.run = ?1 ORDER BY b.id",
    )?;
    let rows = select.query_map([run.0], |row| {
        Ok((BlockId(row.get(0)?), row.get::<_, i64>(1)?.cast_unsigned(), VolumeId(row.get(2)?)))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Number, name and length of every block of which a volume is to hold a copy.
pub fn copies_on(conn: &Connection, volume: VolumeId) -> Result<Vec<(BlockNo, BlockId, u64)>> {
    let mut select =
        conn.prepare("SELECT b.id, b.name, b.size FROM copies p JOIN blocks b ON b.id = p.block WHERE p.volume = ?1 AND p.state <> 'deleting'")?;
    let rows = select.query_map([volume.0], |row| {
        Ok((BlockNo(row.get(0)?), BlockId(row.get(1)?), row.get::<_, i64>(2)?.cast_unsigned()))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A volume holds a sound copy of a block.
pub fn put_copy(conn: &Connection, block: BlockNo, volume: VolumeId) -> Result<()> {
    conn.prepare_cached(
        "INSERT INTO copies(block, volume, role, state) VALUES(?1, ?2, 0, 'ok')
         ON CONFLICT(block, volume) DO UPDATE SET state = 'ok'",
    )?
    .execute(params![block.0, volume.0])?;
    Ok(())
}

/// Sets the state of one copy: `ok`, `bad` or `missing`.
pub fn set_copy_state(conn: &Connection, block: BlockNo, (volume, state): (VolumeId, &str)) -> Result<()> {
    conn.prepare_cached("UPDATE copies SET state = ?3 WHERE block = ?1 AND volume = ?2 AND state <> ?3")?
        .execute(params![block.0, volume.0, state])?;
    Ok(())
}

/// Gives a block another name, as if it had been written wrong from the start.
#[cfg(test)]
pub(crate) fn rename_for_test(conn: &Connection, from: BlockId, to: BlockId) {
    let renamed = conn.execute("UPDATE blocks SET name = ?2 WHERE name = ?1", params![from.0, to.0]).unwrap();
    assert_eq!(renamed, 1);
}
