//! Where bytes lie: the pieces of a content, a chunk's places, the blocks of a volume.

use super::contents;
use super::error::{CatalogError, Result};
use super::parity::PARITY_KIND;
use super::view::AsOf;
use crate::model::ids::{BlockId, BlockNo, ChunkId, ChunkNo, ContentId, FileHash, SegmentNo, VolumeId};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// A segment in a block, and a chunk's offset in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentPlace {
    /// The segment's row.
    pub segment: SegmentNo,
    /// Its block.
    pub block: BlockNo,
    /// Where the segment's header starts in the block.
    pub offset: u64,
    /// Stored bytes behind the header.
    pub stored_len: u32,
    /// Bytes after decoding.
    pub raw_len: u32,
    /// Tag of the codec.
    pub codec: u8,
    /// Where the chunk starts in the decoded segment.
    pub offset_in_segment: u32,
}

/// A chunk with its first place; `None` when only its name is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPlace {
    /// Number.
    pub no: ChunkNo,
    /// Hash of its bytes.
    pub id: ChunkId,
    /// Bytes.
    pub len: u32,
    /// Where it lies.
    pub place: Option<SegmentPlace>,
}

/// One piece of a content, at its offset in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlacedPiece {
    /// Stored bytes.
    Chunk {
        /// Offset in the file.
        at: u64,
        /// The chunk.
        chunk: ChunkPlace,
    },
    /// Zeros.
    Zeros {
        /// Offset in the file.
        at: u64,
        /// How many bytes.
        len: u64,
    },
}

/// A block's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRow {
    /// Number.
    pub no: BlockNo,
    /// Name.
    pub id: BlockId,
    /// Bytes of the file.
    pub size: u64,
    /// ok, bad, condemned, deleting or gone.
    pub state: String,
    /// Volumes that hold a copy.
    pub volumes: Vec<VolumeId>,
    /// When it was verified last, by the oldest of its copies.
    pub verified_ns: Option<i64>,
    /// A copy is known to be damaged or missing.
    pub has_bad_copy: bool,
    /// It holds no chunks: it is a parity of blocks that do.
    pub is_parity: bool,
}

const PLACE_COLUMNS: &str = "s.id, s.block, s.off, s.stored, s.raw, s.codec";

fn place_from_row(row: &Row<'_>, first: usize, offset_in_segment: u32) -> rusqlite::Result<Option<SegmentPlace>> {
    let Some(segment) = row.get::<_, Option<i64>>(first)? else {
        return Ok(None);
    };
    Ok(Some(SegmentPlace {
        segment: SegmentNo(segment),
        block: BlockNo(row.get(first + 1)?),
        offset: row.get::<_, i64>(first + 2)?.cast_unsigned(),
        stored_len: row.get(first + 3)?,
        raw_len: row.get(first + 4)?,
        codec: row.get(first + 5)?,
        offset_in_segment,
    }))
}

/// `n` consecutive chunks from `first` on; a missing number is damage.
pub fn chunks_from(conn: &Connection, first: ChunkNo, n: u32) -> Result<Vec<ChunkPlace>> {
    let sql = format!(
        "SELECT c.no, c.id, c.len, c.off, {PLACE_COLUMNS} FROM chunks c LEFT JOIN segments s ON s.id = c.seg
         WHERE c.no >= ?1 AND c.no < ?2 ORDER BY c.no"
    );
    let mut select = conn.prepare_cached(&sql)?;
    let rows = select.query_map(params![first.0, first.0.saturating_add(i64::from(n))], |row| {
        let offset_in_segment: u32 = row.get(3)?;
        Ok(ChunkPlace {
            no: ChunkNo(row.get(0)?),
            id: ChunkId(row.get(1)?),
            len: row.get(2)?,
            place: place_from_row(row, 4, offset_in_segment)?,
        })
    })?;
    let chunks: Vec<ChunkPlace> = rows.collect::<rusqlite::Result<_>>()?;
    if chunks.len() != n as usize {
        return Err(CatalogError::damaged(format!("chunks from {first} on are missing")));
    }
    Ok(chunks)
}

/// The start of a content, enough for a file of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentHead {
    /// Bytes.
    pub size: u64,
    /// Hash of the whole.
    pub hash: FileHash,
    /// The chunk that is all of it; `None` when there are more, zeros, nothing, or a chunk of unknown place.
    pub only: Option<ChunkPlace>,
}

/// Size, hash and, for a content of one chunk, that chunk: one query for each small file of a restore.
pub fn content_head(conn: &Connection, id: ContentId) -> Result<ContentHead> {
    let sql = format!(
        "SELECT t.size, t.hash, c.no, c.id, c.len, c.off, {PLACE_COLUMNS} FROM contents t
         LEFT JOIN chunks c ON c.no = t.chunk AND t.n = 1 AND c.len = t.size LEFT JOIN segments s ON s.id = c.seg
         WHERE t.id = ?1"
    );
    let head = conn.prepare_cached(&sql)?.query_row([id.0], |row| {
        let only = match row.get::<_, Option<i64>>(2)? {
            None => None,
            Some(no) => Some(ChunkPlace {
                no: ChunkNo(no),
                id: ChunkId(row.get(3)?),
                len: row.get(4)?,
                place: place_from_row(row, 6, row.get(5)?)?,
            }),
        };
        Ok(ContentHead { size: row.get::<_, i64>(0)?.cast_unsigned(), hash: FileHash(row.get(1)?), only })
    });
    head.optional()?.ok_or_else(|| CatalogError::damaged(format!("content {id} is missing")))
}

/// Hands the pieces of a content to `each`, in file order.
pub fn for_each_piece(conn: &Connection, id: ContentId, each: &mut dyn FnMut(PlacedPiece) -> Result<()>) -> Result<()> {
    let content = contents::get(conn, id)?;
    for (index, extent) in content.extents.iter().enumerate() {
        if extent.chunk.0 == 0 {
            let end = content.extents.get(index + 1).map_or(content.size, |next| next.at);
            each(PlacedPiece::Zeros { at: extent.at, len: end.saturating_sub(extent.at) })?;
            continue;
        }
        let mut at = extent.at;
        for chunk in chunks_from(conn, extent.chunk, extent.n)? {
            each(PlacedPiece::Chunk { at, chunk })?;
            at = at.saturating_add(u64::from(chunk.len));
        }
    }
    Ok(())
}

/// The other places of a chunk, beside its first.
pub fn further_places(conn: &Connection, no: ChunkNo) -> Result<Vec<SegmentPlace>> {
    let sql = format!(
        "SELECT m.off, {PLACE_COLUMNS} FROM chunk_more m JOIN segments s ON s.id = m.seg WHERE m.no = ?1 ORDER BY s.id"
    );
    let mut select = conn.prepare_cached(&sql)?;
    let rows = select.query_map([no.0], |row| place_from_row(row, 1, row.get(0)?))?;
    let mut places = Vec::new();
    for place in rows {
        places.extend(place?);
    }
    Ok(places)
}

const BLOCK_SELECT: &str = "SELECT b.id, b.name, b.size, b.state,
     (SELECT group_concat(p.volume) FROM copies p WHERE p.block = b.id AND p.state <> 'deleting'),
     (SELECT min(coalesce(p.verified_ns, 0)) FROM copies p WHERE p.block = b.id) AS verified,
     EXISTS(SELECT 1 FROM copies p WHERE p.block = b.id AND p.state NOT IN ('ok', 'deleting')), b.kind FROM blocks b";

fn block_from_row(row: &Row<'_>) -> rusqlite::Result<BlockRow> {
    let volumes: Option<String> = row.get(4)?;
    Ok(BlockRow {
        no: BlockNo(row.get(0)?),
        id: BlockId(row.get(1)?),
        size: row.get::<_, i64>(2)?.cast_unsigned(),
        state: row.get(3)?,
        volumes: volumes
            .iter()
            .flat_map(|list| list.split(','))
            .filter_map(|id| id.parse().ok().map(VolumeId))
            .collect(),
        verified_ns: row.get::<_, Option<i64>>(5)?.filter(|at_ns| *at_ns > 0),
        has_bad_copy: row.get(6)?,
        is_parity: row.get::<_, u8>(7)? == PARITY_KIND,
    })
}

/// The block with this number, with the copies that are to be deleted: as long as they are there they can be read.
pub fn block(conn: &Connection, no: BlockNo) -> Result<BlockRow> {
    let select = BLOCK_SELECT.replacen("AND p.state <> 'deleting'", "", 1);
    conn.prepare_cached(&format!("{select} WHERE b.id = ?1"))?
        .query_row([no.0], block_from_row)
        .optional()?
        .ok_or_else(|| CatalogError::damaged(format!("block {no} is missing")))
}

/// All blocks that still matter (ok or bad), the one that was verified longest ago first.
pub fn blocks_to_verify(conn: &Connection) -> Result<Vec<BlockRow>> {
    let mut select = conn.prepare(&format!("{BLOCK_SELECT} WHERE b.state IN ('ok', 'bad') ORDER BY verified, b.id"))?;
    Ok(select.query_map([], block_from_row)?.collect::<rusqlite::Result<_>>()?)
}

/// All blocks of any state by number.
pub fn all_blocks(conn: &Connection) -> Result<Vec<BlockRow>> {
    let mut select = conn.prepare(&format!("{BLOCK_SELECT} ORDER BY b.id"))?;
    Ok(select.query_map([], block_from_row)?.collect::<rusqlite::Result<_>>()?)
}

/// Blocks that hold any place of a chunk that a file of one state uses, by number.
pub fn blocks_of_state(conn: &Connection, as_of: AsOf) -> Result<Vec<BlockNo>> {
    let mut select = conn.prepare(
        "WITH used(content) AS (
           SELECT v.obj FROM live v JOIN dirs d ON d.id = v.dir
             WHERE d.source = ?1 AND v.first_run <= ?2 AND v.mode >> 12 = 8
           UNION SELECT v.obj FROM past v JOIN dirs d ON d.id = v.dir
             WHERE d.source = ?1 AND v.first_run <= ?2 AND v.last_run >= ?2 AND v.mode >> 12 = 8),
         span(chunk, n) AS (
           SELECT t.chunk, t.n FROM used JOIN contents t ON t.id = used.content WHERE t.chunk > 0
           UNION SELECT e.chunk, e.n FROM used JOIN extents e ON e.content = used.content WHERE e.chunk > 0)
         SELECT s.block FROM span CROSS JOIN chunks c ON c.no >= span.chunk AND c.no < span.chunk + span.n
           JOIN segments s ON s.id = c.seg
         UNION SELECT s.block FROM span CROSS JOIN chunk_more m ON m.no >= span.chunk AND m.no < span.chunk + span.n
           JOIN segments s ON s.id = m.seg
         ORDER BY 1",
    )?;
    let rows = select.query_map(params![as_of.source.0, as_of.run.0], |row| row.get(0).map(BlockNo))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
