//! From a block, a chunk, a volume or a hash to the contents that have to do with it, each by an index.

use super::error::Result;
use crate::model::hex_prefix::HexPrefix;
use crate::model::ids::{BlockId, BlockNo, ChunkId, ChunkNo, ContentId, VolumeId};
use rusqlite::{Connection, params};

/// Things of one prefix that are looked at: more than can be told apart by a glance need not be.
const LIKE_MAX: usize = 9;

const BLOCKS_LIKE: &str = "SELECT id, name FROM blocks WHERE name BETWEEN ?1 AND ?2 ORDER BY name";
const CHUNKS_LIKE: &str =
    "SELECT no, id FROM chunks WHERE substr(id, 1, 8) BETWEEN substr(?1, 1, 8) AND substr(?2, 1, 8)
     AND id BETWEEN ?1 AND ?2";
const CONTENTS_LIKE: &str =
    "SELECT id FROM contents WHERE substr(hash, 1, 8) BETWEEN substr(?1, 1, 8) AND substr(?2, 1, 8)
     AND hash BETWEEN ?1 AND ?2";
const BLOCKS_ON: &str = "SELECT block FROM copies WHERE volume = ?1 ORDER BY block";
// As in `damage`; also by the further places of chunks.
const CONTENTS_WITH_BYTES_IN: &str =
    "WITH hit(no) AS (SELECT c.no FROM segments s JOIN chunks c ON c.seg = s.id WHERE s.block = ?1
                      UNION SELECT m.no FROM segments s JOIN chunk_more m ON m.seg = s.id WHERE s.block = ?1)
     SELECT t.id FROM hit JOIN contents t
       ON t.chunk BETWEEN hit.no - 255 AND hit.no AND t.chunk + t.n > hit.no AND +t.chunk > 0
     UNION SELECT e.content FROM hit JOIN extents e
       ON e.chunk BETWEEN hit.no - 255 AND hit.no AND e.chunk + e.n > hit.no AND +e.chunk > 0";

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

/// Contents of which any chunk has a place in `block`, first or further.
pub fn contents_with_bytes_in(conn: &Connection, block: BlockNo) -> Result<Vec<ContentId>> {
    let mut select = conn.prepare_cached(CONTENTS_WITH_BYTES_IN)?;
    Ok(select.query_map([block.0], |row| row.get(0).map(ContentId))?.collect::<rusqlite::Result<_>>()?)
}

/// Blocks that have a copy on a volume.
pub fn blocks_on(conn: &Connection, volume: VolumeId) -> Result<Vec<BlockNo>> {
    let mut select = conn.prepare_cached(BLOCKS_ON)?;
    Ok(select.query_map([volume.0], |row| row.get(0).map(BlockNo))?.collect::<rusqlite::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::test_plans::assert_by_index;

    #[test]
    fn every_step_goes_by_an_index() {
        assert_by_index(&[BLOCKS_LIKE, CHUNKS_LIKE, CONTENTS_LIKE, BLOCKS_ON, CONTENTS_WITH_BYTES_IN]);
    }
}
