//! A block's table: which chunks lie in which segment. Raw layout in `FORMAT.md`, "Block table".

use super::bytes::Reader;
use super::container::{FormatError, SEGMENT_HEADER_LEN};
use crate::model::ids::ChunkId;
use crate::model::limits::{CHUNK_LEN_MAX, SEGMENT_RAW_MAX};

/// Chunks in one block at most, so that its table, and its record in a manifest, stay under 4 MiB even in a block of
/// tiny files.
pub const BLOCK_CHUNKS_MAX: usize = 100_000;

/// Bytes of one segment's entry in the table.
const SEGMENT_ENTRY_LEN: usize = 24;
/// Bytes of one chunk's entry in the table.
const CHUNK_ENTRY_LEN: usize = 36;

/// One data segment of a block with its chunks, which fill its raw bytes without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentEntry {
    /// Where the segment's header starts in the block.
    pub offset: u64,
    /// Stored bytes behind the header.
    pub stored_len: u32,
    /// Bytes after decoding.
    pub raw_len: u32,
    /// Tag of the codec.
    pub codec: u8,
    /// Chunk ids and lengths in raw order.
    pub chunks: Vec<(ChunkId, u32)>,
}

/// A block's table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockTable {
    /// In file order.
    pub segments: Vec<SegmentEntry>,
}

impl BlockTable {
    /// Raw bytes of a table with so many segments and chunks.
    pub fn encoded_len(segments: usize, chunks: usize) -> usize {
        8 + segments * SEGMENT_ENTRY_LEN + chunks * CHUNK_ENTRY_LEN
    }

    /// Chunks in all segments.
    pub fn chunk_count(&self) -> usize {
        self.segments.iter().map(|segment| segment.chunks.len()).sum()
    }

    /// The raw bytes of the table segment.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::encoded_len(self.segments.len(), self.chunk_count()));
        out.extend(count_u32(self.segments.len()).to_le_bytes());
        out.extend(count_u32(self.chunk_count()).to_le_bytes());
        for segment in &self.segments {
            out.extend(segment.offset.to_le_bytes());
            out.extend(segment.stored_len.to_le_bytes());
            out.extend(segment.raw_len.to_le_bytes());
            out.extend([segment.codec, 0, 0, 0]);
            out.extend(count_u32(segment.chunks.len()).to_le_bytes());
        }
        for (id, len) in self.segments.iter().flat_map(|segment| &segment.chunks) {
            out.extend(id.0);
            out.extend(len.to_le_bytes());
        }
        out
    }

    /// Reads a table; segments lie one behind the other below `data_end`, their chunks fill them exactly.
    pub fn decode(raw: &[u8], data_end: u64) -> Result<Self, FormatError> {
        let mut fields = Reader::new(raw);
        let (segment_count, chunk_count) = (fields.u32()? as usize, fields.u32()? as usize);
        if chunk_count > BLOCK_CHUNKS_MAX || segment_count > chunk_count {
            return Err(FormatError::Invalid("table"));
        }
        if raw.len() != Self::encoded_len(segment_count, chunk_count) {
            return Err(FormatError::Invalid("table length"));
        }
        let mut entries = Reader::new(fields.take(segment_count * SEGMENT_ENTRY_LEN)?);
        let mut segments = Vec::with_capacity(segment_count);
        let mut floor = 0;
        for _ in 0..segment_count {
            let segment = decode_segment(&mut entries, &mut fields)?;
            let end = segment.offset.checked_add(SEGMENT_HEADER_LEN as u64 + u64::from(segment.stored_len));
            if segment.offset < floor || end.is_none_or(|end| end > data_end) {
                return Err(FormatError::Invalid("segment place"));
            }
            floor = end.unwrap_or(data_end);
            segments.push(segment);
        }
        if !fields.is_at_end() {
            return Err(FormatError::Invalid("chunk count"));
        }
        Ok(Self { segments })
    }
}

fn decode_segment(entries: &mut Reader<'_>, chunk_fields: &mut Reader<'_>) -> Result<SegmentEntry, FormatError> {
    let offset = entries.u64()?;
    let (stored_len, raw_len) = (entries.u32()?, entries.u32()?);
    let codec = entries.u32()?.to_le_bytes()[0];
    let count = entries.u32()? as usize;
    let mut ids = Reader::new(chunk_fields.take(count.checked_mul(CHUNK_ENTRY_LEN).ok_or(FormatError::Short)?)?);
    let mut chunks = Vec::with_capacity(count);
    for _ in 0..count {
        chunks.push((ChunkId(ids.array()?), ids.u32()?));
    }
    let segment = SegmentEntry { offset, stored_len, raw_len, codec, chunks };
    check_segment(&segment)?;
    Ok(segment)
}

/// Whether lengths are such as a writer gives: a segment is not empty, and its chunks fill it exactly.
pub(super) fn check_segment(segment: &SegmentEntry) -> Result<(), FormatError> {
    let SegmentEntry { stored_len, raw_len, chunks, .. } = segment;
    if *raw_len as usize > SEGMENT_RAW_MAX || *stored_len as usize > SEGMENT_RAW_MAX + 1024 || chunks.is_empty() {
        return Err(FormatError::Invalid("segment length"));
    }
    if chunks.iter().any(|(_, len)| *len == 0 || *len as usize > CHUNK_LEN_MAX) {
        return Err(FormatError::Invalid("chunk length"));
    }
    let total: u64 = chunks.iter().map(|(_, len)| u64::from(*len)).sum();
    if total != u64::from(*raw_len) {
        return Err(FormatError::Invalid("segment length"));
    }
    Ok(())
}

fn count_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> BlockTable {
        let chunk = |byte, len| (ChunkId([byte; 32]), len);
        let segment = |offset, stored_len, chunks: Vec<(ChunkId, u32)>| SegmentEntry {
            offset,
            stored_len,
            raw_len: chunks.iter().map(|(_, len)| len).sum(),
            codec: 1,
            chunks,
        };
        BlockTable {
            segments: vec![segment(96, 10, vec![chunk(1, 7), chunk(2, 9)]), segment(138, 5, vec![chunk(3, 5)])],
        }
    }

    #[test]
    fn a_table_comes_back_and_a_cut_one_does_not() {
        let raw = table().encode();
        assert_eq!(BlockTable::decode(&raw, 175), Ok(table()));
        assert!(BlockTable::decode(&raw, 174).is_err(), "a segment beyond the data");
        for len in 0..raw.len() {
            assert!(BlockTable::decode(&raw[..len], 175).is_err());
        }
    }

    #[test]
    fn hostile_counts_are_refused_before_anything_is_allocated() {
        let mut raw = table().encode();
        raw[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(BlockTable::decode(&raw, 175).is_err());
        let mut raw = table().encode();
        raw[8 + 20..8 + 24].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(BlockTable::decode(&raw, 175).is_err());
    }
}
