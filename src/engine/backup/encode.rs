//! A segment's stored form, proven before it is trusted: decoded again, every chunk hashed to its name. Memory and
//! codec faults end the run here, not in a restore.

use super::items::RawSegment;
use crate::catalog::settings::Settings;
use crate::codec::compress::{Codec, Stored, with_decoder, with_encoder};
use crate::engine::block_file::{EncodedSegment, is_chunk};
use crate::engine::error::{EngineError, Result};
use crate::model::params::Compression;
use std::cell::RefCell;

thread_local! {
    /// A segment decoded again: fresh memory each time would cost about as much as hashing it.
    static DECODED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Encodes a segment and checks the result; a mismatch is tried once more.
pub fn encode_segment(raw: RawSegment, settings: &Settings) -> Result<EncodedSegment> {
    let compression = if raw.compress { settings.compression } else { Compression::None };
    for _ in 0..2 {
        let mut bytes = Vec::new();
        let codec = with_encoder(compression, |encoder| encoder.encode(&raw.bytes, &mut bytes));
        bytes.shrink_to_fit();
        if is_sound(&raw, codec, &bytes, settings) {
            let raw_len = u32::try_from(raw.bytes.len()).expect("segments are bounded by 4 MiB");
            return Ok(EncodedSegment { codec, raw_len, bytes });
        }
    }
    Err(EngineError::Fault(
        "data changed in memory between reading and storing it: check this machine's memory; nothing of it was kept"
            .to_owned(),
    ))
}

fn is_sound(raw: &RawSegment, codec: Codec, stored: &[u8], settings: &Settings) -> bool {
    let mut decoded = DECODED.take();
    let stored = Stored { codec, bytes: stored, raw_len: raw.bytes.len() };
    let is_decoded = with_decoder(|decoder| decoder.decode(stored, &mut decoded)).is_ok();
    let is_sound = is_decoded && holds_chunks(raw, &decoded, settings);
    DECODED.set(decoded);
    is_sound
}

fn holds_chunks(raw: &RawSegment, decoded: &[u8], settings: &Settings) -> bool {
    let mut at = 0;
    raw.chunks.iter().all(|chunk| {
        let bytes = decoded.get(at..at + chunk.len as usize);
        at += chunk.len as usize;
        bytes.is_some_and(|bytes| is_chunk(settings.hash, &chunk.id, bytes))
    }) && at == decoded.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::chunker::default_params;
    use crate::codec::hash::hash_bytes;
    use crate::engine::backup::items::SegmentChunk;
    use crate::model::ids::{ChunkId, ChunkNo, RepositoryUuid};
    use crate::model::params::{HashAlgo, Reserve};
    use crate::model::redundancy::Redundancy;

    fn settings() -> Settings {
        Settings {
            repository: RepositoryUuid([1; 16]),
            hash: HashAlgo::Blake3,
            chunker: default_params(),
            block_size: 128 << 20,
            compression: Compression::Zstd(3),
            reserve: Reserve::Percent(1.0),
            redundancy: Redundancy::None,
        }
    }

    fn segment(id: ChunkId) -> RawSegment {
        let chunks = vec![SegmentChunk { id, len: 1000, no: ChunkNo(1) }];
        RawSegment { ticket: 0, bytes: vec![7; 1000], chunks, compress: true }
    }

    #[test]
    fn a_segment_whose_bytes_are_not_its_chunks_is_refused() {
        let right = ChunkId(hash_bytes(HashAlgo::Blake3, &[7; 1000]));
        let encoded = encode_segment(segment(right), &settings()).unwrap();
        assert_eq!(encoded.codec, Codec::Zstd);
        assert!(encoded.bytes.len() < 100);
        let wrong = encode_segment(segment(ChunkId([0; 32])), &settings());
        assert!(matches!(wrong, Err(EngineError::Fault(_))));
    }
}
