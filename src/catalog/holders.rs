//! From a block, a chunk, a volume or a hash to the contents that have to do with it, each by an index.

use super::error::Result;
use crate::model::hex_prefix::HexPrefix;
use crate::model::ids::{BlockId, BlockNo, ChunkId, ChunkNo, ContentId, SegmentNo, VolumeId};
use rusqlite::{Connection, params};

/// Things of one prefix that are looked at: more than can be told apart by a glance need not be.
const LIKE_MAX: usize = 9;

const BLOCKS_LIKE: &str = "SELECT id, name FROM blocks WHERE name BETWEEN ?1 AND ?2 ORDER BY name";
pub(super) const CHUNKS_LIKE: &str = "SELECT c.no, c.id FROM chunk_keys k CROSS JOIN chunks c ON c.no = k.chunk
     WHERE k.key BETWEEN substr(?1, 1, 8) AND substr(?2, 1, 8) AND c.id BETWEEN ?1 AND ?2";
pub(super) const CONTENTS_LIKE: &str = "SELECT c.id FROM content_keys k CROSS JOIN contents c ON c.id = k.content
     WHERE k.key BETWEEN substr(?1, 1, 8) AND substr(?2, 1, 8) AND c.hash BETWEEN ?1 AND ?2";
const BLOCKS_ON: &str = "SELECT block FROM copies WHERE volume = ?1 ORDER BY block";
const SEGMENTS_OF: &str = "SELECT id FROM segments WHERE block = ?1 ORDER BY off";
const CHUNKS_IN: &str =
    "SELECT no FROM chunks WHERE seg = ?1 UNION SELECT no FROM chunk_more WHERE seg = ?1 ORDER BY 1";

/// Blocks whose name begins so, by name; some of them where there are many.
pub fn blocks_like(conn: &Connection, prefix: &HexPrefix) -> Result<Vec<(BlockNo, BlockId)>> {
    let mut select = conn.prepare_cached(BLOCKS_LIKE)?;
    let rows =
        select.query_map(params![prefix.low, prefix.high], |row| Ok((BlockNo(row.get(0)?), BlockId(row.get(1)?))))?;
    Ok(rows.take(LIKE_MAX).collect::<rusqlite::Result<_>>()?)
}

/// Chunks whose id begins so; some of them where there are many.
pub fn chunks_like(conn: &Connection, prefix: &HexPrefix) -> Result<Vec<(ChunkNo, ChunkId)>> {
    let mut select = conn.prepare_cached(CHUNKS_LIKE)?;
    let rows =
        select.query_map(params![prefix.low, prefix.high], |row| Ok((ChunkNo(row.get(0)?), ChunkId(row.get(1)?))))?;
    Ok(rows.take(LIKE_MAX).collect::<rusqlite::Result<_>>()?)
}

/// Contents whose hash begins so.
pub fn contents_like(conn: &Connection, prefix: &HexPrefix) -> Result<Vec<ContentId>> {
    let mut select = conn.prepare_cached(CONTENTS_LIKE)?;
    let rows = select.query_map(params![prefix.low, prefix.high], |row| row.get(0).map(ContentId))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The segments of a block, in its order.
pub fn segments_of(conn: &Connection, block: BlockNo) -> Result<Vec<SegmentNo>> {
    let mut select = conn.prepare_cached(SEGMENTS_OF)?;
    Ok(select.query_map([block.0], |row| row.get(0).map(SegmentNo))?.collect::<rusqlite::Result<_>>()?)
}

/// The chunks that have a place in a segment, first or further, as stretches of consecutive numbers: first and last.
pub fn chunks_in(conn: &Connection, segment: SegmentNo) -> Result<Vec<(ChunkNo, ChunkNo)>> {
    let mut select = conn.prepare_cached(CHUNKS_IN)?;
    let mut stretches: Vec<(ChunkNo, ChunkNo)> = Vec::new();
    for no in select.query_map([segment.0], |row| row.get::<_, i64>(0))? {
        let no = no?;
        match stretches.last_mut() {
            Some((_, last)) if last.0.checked_add(1) == Some(no) => last.0 = no,
            _ => stretches.push((ChunkNo(no), ChunkNo(no))),
        }
    }
    Ok(stretches)
}

/// Blocks that have a copy on a volume.
pub fn blocks_on(conn: &Connection, volume: VolumeId) -> Result<Vec<BlockNo>> {
    let mut select = conn.prepare_cached(BLOCKS_ON)?;
    Ok(select.query_map([volume.0], |row| row.get(0).map(BlockNo))?.collect::<rusqlite::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::test_plans::{assert_by_index, catalog};

    #[test]
    fn the_chunks_of_a_segment_come_as_stretches_with_those_that_lie_elsewhere_first() {
        let (_dir, catalog) = catalog();
        for no in [3, 4, 5, 9, 11] {
            let seg = if no == 4 { 8 } else { 7 };
            let chunk = "INSERT INTO chunks(no, id, seg, off, len) VALUES(?1, randomblob(32), ?2, 0, 1)";
            catalog.conn().execute(chunk, params![no, seg]).unwrap();
        }
        catalog.conn().execute("INSERT INTO chunk_more(no, seg, off) VALUES(4, 7, 0), (4, 7, 9)", []).unwrap();
        let stretches = chunks_in(catalog.conn(), SegmentNo(7)).unwrap();
        assert_eq!(stretches, [(3, 5), (9, 9), (11, 11)].map(|(first, last)| (ChunkNo(first), ChunkNo(last))));
    }

    #[test]
    fn every_step_goes_by_an_index() {
        assert_by_index(&[BLOCKS_LIKE, CHUNKS_LIKE, CONTENTS_LIKE, BLOCKS_ON, SEGMENTS_OF, CHUNKS_IN]);
    }
}
