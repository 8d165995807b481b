//! Tables of blocks, and whole blocks as restore and validate read them.

use super::{Memory, mend, take};
use raidtape::engine::block_file::{SegmentReader, SegmentRef, read_header, read_table, read_trailer};
use raidtape::format::block::{BLOCK_CHUNKS_MAX, BlockTable};
use raidtape::model::limits::{CHUNK_LEN_MAX, SEGMENT_RAW_MAX};

/// The end of the data, then a table's raw bytes.
pub fn table(mut data: &[u8]) {
    let data_end = u64::from_le_bytes(take(&mut data));
    if let Ok(table) = BlockTable::decode(data, data_end) {
        check(&table, data_end);
        assert!(table.chunk_count() * 36 <= data.len());
        assert_eq!(BlockTable::decode(&table.encode(), data_end), Ok(table));
    }
}

/// What every table that is taken holds.
pub fn check(table: &BlockTable, data_end: u64) {
    assert!(table.chunk_count() <= BLOCK_CHUNKS_MAX);
    let mut floor = 0;
    for segment in &table.segments {
        assert!(segment.offset >= floor && segment.raw_len as usize <= SEGMENT_RAW_MAX);
        floor = segment.offset.checked_add(32 + u64::from(segment.stored_len)).expect("a segment inside the block");
        assert!(floor <= data_end && !segment.chunks.is_empty());
        assert!(segment.chunks.iter().all(|(_, len)| (1..=CHUNK_LEN_MAX).contains(&(*len as usize))));
        let total: u64 = segment.chunks.iter().map(|(_, len)| u64::from(*len)).sum();
        assert_eq!(total, u64::from(segment.raw_len));
    }
}

/// A whole block, as it is and with right checksums.
pub fn block(data: &[u8]) {
    read(data);
    let mut mended = data.to_vec();
    mend(&mut mended);
    read(&mended);
}

fn read(bytes: &[u8]) {
    let object = Memory(bytes);
    let _ = read_header(&object);
    if let Ok(trailer) = read_trailer(&object) {
        assert_eq!(trailer.file_len, bytes.len() as u64);
    }
    let Ok(table) = read_table(&object) else { return };
    check(&table, bytes.len() as u64);
    let mut reader = SegmentReader::new();
    for segment in &table.segments {
        let place = SegmentRef {
            offset: segment.offset,
            stored_len: segment.stored_len,
            raw_len: segment.raw_len,
            codec: segment.codec,
        };
        if let Ok(raw) = reader.read(&object, &place) {
            assert_eq!(raw.len(), segment.raw_len as usize);
        }
    }
}
