//! Sound chunks of damaged blocks get a new place: after the source was read, which heals what is still there, the
//! rest of a damaged block that any version needs is copied out of it, chunk by chunk, as far as it proves sound.

use super::items::Item;
use super::jobs::{HashContext, Job};
use super::large::Emit;
use crate::catalog::{CatalogError, Connection, blocks, damage, places};
use crate::codec::compress::with_decoder;
use crate::engine::block_file::{SegmentRef, decode_segment, is_chunk};
use crate::engine::error::Result;
use crate::engine::repository::Repository;
use crate::format::container::SEGMENT_HEADER_LEN;
use crate::format::layout;
use crate::model::ids::{BlockId, BlockNo, ChunkId, ChunkNo};
use crate::model::limits::SEGMENT_RAW_MAX;
use crate::volume::store::Store;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

/// A segment of a damaged block, with the chunks in it that some version needs.
#[derive(Debug, Clone)]
pub struct RescueSegment {
    place: SegmentRef,
    wanted: Vec<WantedChunk>,
}

/// A chunk and its place in the decoded segment.
#[derive(Debug, Clone)]
struct WantedChunk {
    id: ChunkId,
    range: Range<usize>,
}

/// A damaged block that is here.
pub struct RescueBlock {
    id: BlockId,
    store: Arc<dyn Store>,
    segments: Vec<RescueSegment>,
}

/// A segment's stored bytes, to be decoded and proven by a worker.
#[derive(Debug)]
pub struct RescueJob {
    segment: RescueSegment,
    bytes: Vec<u8>,
}

/// The damaged blocks whose volumes are here, with what is needed of them and has its first place there.
pub fn rescue_blocks(repository: &Repository) -> Result<Vec<RescueBlock>> {
    let conn = repository.catalog.conn();
    let mut found = Vec::new();
    for no in blocks::bad_ones(conn)? {
        let row = places::block(conn, no)?;
        // Another copy may have what one has not.
        let stores: Vec<_> =
            row.volumes.iter().filter_map(|volume| Some(Arc::clone(repository.volume(*volume)?.store()))).collect();
        if stores.is_empty() {
            continue;
        }
        let (table, numbers) = blocks::table_of(conn, no)?;
        let mut numbers = numbers.into_iter();
        let mut segments = Vec::new();
        for entry in table.segments {
            let mut wanted = Vec::new();
            let mut at = 0;
            for (id, len) in &entry.chunks {
                let range = at..at + *len as usize;
                at = range.end;
                let Some(chunk) = numbers.next() else { break };
                if is_needed(conn, (chunk, no))? {
                    wanted.push(WantedChunk { id: *id, range });
                }
            }
            if !wanted.is_empty() {
                let place = SegmentRef {
                    offset: entry.offset,
                    stored_len: entry.stored_len,
                    raw_len: entry.raw_len,
                    codec: entry.codec,
                };
                segments.push(RescueSegment { place, wanted });
            }
        }
        found.extend(stores.into_iter().map(|store| RescueBlock { id: row.id, store, segments: segments.clone() }));
    }
    Ok(found)
}

/// Whether some content uses the chunk and looks for it in this block first.
fn is_needed(conn: &Connection, (no, block): (ChunkNo, BlockNo)) -> std::result::Result<bool, CatalogError> {
    let places = places::chunks_from(conn, no, 1)?;
    let is_here = places.iter().any(|chunk| chunk.place.is_some_and(|place| place.block == block));
    Ok(is_here && !damage::extents_with(conn, no, no)?.is_empty())
}

/// Reads the segments and emits them; what cannot be read is left as it is.
pub fn rescue(blocks: &[RescueBlock], emit: Emit<'_>) -> ControlFlow<()> {
    for block in blocks {
        let Ok(object) = block.store.open(&layout::block_key(&block.id)) else { continue };
        for segment in &block.segments {
            let stored_len = segment.place.stored_len as usize;
            if stored_len > SEGMENT_RAW_MAX + 1024 {
                continue;
            }
            let mut bytes = vec![0; SEGMENT_HEADER_LEN + stored_len];
            if object.read_exact_at(segment.place.offset, &mut bytes).is_ok() {
                emit(Job::Rescue(RescueJob { segment: segment.clone(), bytes }))?;
            }
        }
    }
    ControlFlow::Continue(())
}

impl RescueJob {
    /// Bytes that it holds in memory, decoded too.
    pub fn weight(&self) -> u64 {
        self.bytes.len() as u64 + u64::from(self.segment.place.raw_len)
    }

    /// Decodes the segment and keeps the chunks that are what their names say.
    pub fn run(self, context: &HashContext) -> Item {
        let mut buffer = Vec::new();
        let decoded =
            with_decoder(|decoder| decode_segment(&self.segment.place, &self.bytes, (decoder, &mut buffer)).is_ok());
        let is_sound = |chunk: &WantedChunk| {
            buffer.get(chunk.range.clone()).is_some_and(|bytes| is_chunk(context.algo, &chunk.id, bytes))
        };
        let sound = self.segment.wanted.iter().filter(|chunk| decoded && is_sound(chunk));
        let chunks = sound.map(|chunk| (chunk.id, chunk.range.clone())).collect();
        Item::Rescued { buffer, chunks }
    }
}
