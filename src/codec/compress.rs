//! Segments made smaller and back: zstd contexts that are used again and again. Owns the tags of the codecs and the
//! decision to store raw; not the segment's header (`format`) and not what goes into a segment (`engine`).
//!
//! A context holds megabytes, so each worker has one: see [`with_encoder`] and [`with_decoder`].

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

use crate::model::limits::SEGMENT_RAW_MAX;
use crate::model::params::Compression;

pub use super::probe::{is_all_zero, looks_incompressible};

/// How a segment's bytes are stored, by the number that every format uses for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As they are.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
}

impl Codec {
    /// The codec with this number.
    pub fn from_tag(tag: u8) -> Option<Self> {
        [Self::Raw, Self::Zstd].into_iter().find(|codec| *codec as u8 == tag)
    }

    /// The number of this codec.
    pub fn tag(self) -> u8 {
        self as u8
    }

    /// The word of sidecars and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Zstd => "zstd",
        }
    }
}

/// A segment as it was stored, and what its header promises.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// How it was stored.
    pub codec: Codec,
    /// Its stored bytes.
    pub bytes: &'a [u8],
    /// Bytes that come out.
    pub raw_len: usize,
}

/// Stored bytes that do not decode to what their header promised: damage.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// More raw bytes promised than a segment may have.
    #[error("a segment of {raw_len} bytes is longer than any segment may be")]
    TooLong {
        /// Bytes promised.
        raw_len: usize,
    },
    /// Another number of raw bytes came out.
    #[error("a segment decodes to {found_len} bytes, not to {raw_len}")]
    WrongLength {
        /// Bytes promised.
        raw_len: usize,
        /// Bytes found.
        found_len: usize,
    },
    /// Not a zstd frame, a damaged one, or one with more in it than promised.
    #[error("a segment does not decode")]
    Zstd(#[source] std::io::Error),
}

/// Most that may be stored of `raw_len` bytes for compression to be worth its decoding: 31/32, a gain of 3 %.
fn stored_len_max(raw_len: usize) -> usize {
    raw_len - raw_len / 32
}

/// Log2 of the window: a whole segment, so that its last chunk can refer to its first.
const WINDOW_LOG: u32 = SEGMENT_RAW_MAX.ilog2();

/// Compresses segments, one after the other, with one context.
pub struct SegmentEncoder {
    compression: Compression,
    zstd: Option<Compressor<'static>>,
}

impl SegmentEncoder {
    /// An encoder for this choice. Levels beyond zstd's are taken to its nearest.
    pub fn new(compression: Compression) -> Self {
        let zstd = match compression {
            Compression::None => None,
            Compression::Zstd(level) => Some(compressor(level)),
        };
        Self { compression, zstd }
    }

    /// Replaces what is in `out` by the bytes to store for `raw`: one zstd frame, or a copy of `raw` when that would
    /// not gain 3 %. Says which.
    pub fn encode(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Codec {
        out.clear();
        if let Some(zstd) = &mut self.zstd {
            let stored_max = stored_len_max(raw.len());
            // zstd gives up when the frame outgrows the capacity, which is no more than this in a buffer's first use.
            out.reserve_exact(stored_max);
            if zstd.compress_to_buffer(raw, out).is_ok() && out.len() <= stored_max {
                return Codec::Zstd;
            }
            out.clear();
        }
        out.extend_from_slice(raw);
        Codec::Raw
    }
}

fn compressor(level: i32) -> Compressor<'static> {
    let make = || {
        let mut zstd = Compressor::new(level)?;
        zstd.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
        Ok::<_, std::io::Error>(zstd)
    };
    make().expect("zstd takes every level to its nearest, and every window log from 10 to 30")
}

/// Decodes segments, one after the other, with one context.
pub struct SegmentDecoder {
    zstd: Decompressor<'static>,
}

impl Default for SegmentDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl SegmentDecoder {
    /// A decoder for every codec.
    pub fn new() -> Self {
        Self { zstd: Decompressor::new().expect("zstd takes an empty dictionary") }
    }

    /// Replaces what is in `out` by the raw bytes of a segment. Total: hostile bytes give an error
    /// and leave `out` empty, and never take more memory than `raw_len`, which is at most [`SEGMENT_RAW_MAX`].
    /// That they are the right bytes is for the chunks' hashes to say.
    pub fn decode(&mut self, stored: Stored<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        out.clear();
        let result = self.try_decode(stored, out);
        if result.is_err() {
            out.clear();
        }
        result
    }

    fn try_decode(&mut self, stored: Stored<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let Stored { codec, bytes, raw_len } = stored;
        if raw_len > SEGMENT_RAW_MAX {
            return Err(DecodeError::TooLong { raw_len });
        }
        let found_len = match codec {
            Codec::Raw => bytes.len(),
            Codec::Zstd => {
                out.reserve_exact(raw_len);
                self.zstd.decompress_to_buffer(bytes, out).map_err(DecodeError::Zstd)?
            }
        };
        if found_len != raw_len {
            return Err(DecodeError::WrongLength { raw_len, found_len });
        }
        if codec == Codec::Raw {
            out.extend_from_slice(bytes);
        }
        Ok(())
    }
}

thread_local! {
    static ENCODER: RefCell<Option<SegmentEncoder>> = const { RefCell::new(None) };
    static DECODER: RefCell<Option<SegmentDecoder>> = const { RefCell::new(None) };
}

/// Runs `work` with this thread's encoder for `compression`, made when first needed. Within `work` a second call makes
/// an encoder of its own.
pub fn with_encoder<R>(compression: Compression, work: impl FnOnce(&mut SegmentEncoder) -> R) -> R {
    let mut encoder = ENCODER
        .take()
        .filter(|encoder| encoder.compression == compression)
        .unwrap_or_else(|| SegmentEncoder::new(compression));
    let result = work(&mut encoder);
    ENCODER.set(Some(encoder));
    result
}

/// Runs `work` with this thread's decoder, made when first needed.
pub fn with_decoder<R>(work: impl FnOnce(&mut SegmentDecoder) -> R) -> R {
    let mut decoder = DECODER.take().unwrap_or_default();
    let result = work(&mut decoder);
    DECODER.set(Some(decoder));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZSTD: Compression = Compression::Zstd(3);

    fn text(len: usize) -> Vec<u8> {
        (0_u32..).flat_map(|n| format!("line {n} of {}\n", n / 7).into_bytes()).take(len).collect()
    }

    fn promise(codec: Codec, bytes: &[u8], raw_len: usize) -> Stored<'_> {
        Stored { codec, bytes, raw_len }
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn segments_go_there_and_back_with_contexts_used_again() {
        let (mut stored, mut back) = (Vec::new(), Vec::new());
        for (raw, codec) in [
            (text(SEGMENT_RAW_MAX), Codec::Zstd),
            (noise(SEGMENT_RAW_MAX), Codec::Raw),
            (text(100_000), Codec::Zstd),
            (Vec::new(), Codec::Raw),
            (vec![7], Codec::Raw),
            (noise(100_000), Codec::Raw),
            (vec![0; SEGMENT_RAW_MAX], Codec::Zstd),
        ] {
            let found = with_encoder(ZSTD, |encoder| encoder.encode(&raw, &mut stored));
            assert_eq!(found, codec);
            with_decoder(|decoder| decoder.decode(promise(found, &stored, raw.len()), &mut back)).expect("decodes");
            assert!(back == raw);
            assert!(stored.len() <= raw.len());
        }
    }

    #[test]
    fn a_small_gain_is_not_worth_a_frame() {
        let mut raw = noise(100_000);
        raw[..2_000].fill(0);
        let mut stored = Vec::new();
        let mut encoder = SegmentEncoder::new(ZSTD);
        assert_eq!(encoder.encode(&raw, &mut stored), Codec::Raw);
        raw[..5_000].fill(0);
        assert_eq!(encoder.encode(&raw, &mut stored), Codec::Zstd);
        let none = with_encoder(Compression::None, |encoder| encoder.encode(&raw, &mut stored));
        assert_eq!((none, stored == raw), (Codec::Raw, true));
    }

    #[test]
    fn the_end_of_a_segment_refers_to_its_start() {
        let mut raw = noise(SEGMENT_RAW_MAX);
        let half = SEGMENT_RAW_MAX / 2;
        raw.copy_within(..half, half);
        let mut stored = Vec::new();
        SegmentEncoder::new(ZSTD).encode(&raw, &mut stored);
        assert!(stored.len() < half + half / 8, "{}", stored.len());
    }

    #[test]
    fn what_was_not_promised_does_not_decode_and_leaves_nothing() {
        let raw = text(50_000);
        let mut stored = Vec::new();
        SegmentEncoder::new(ZSTD).encode(&raw, &mut stored);
        let mut decoder = SegmentDecoder::new();
        let mut out = Vec::with_capacity(1 << 20);
        let mut fails = |codec, stored: &[u8], raw_len| {
            assert!(decoder.decode(promise(codec, stored, raw_len), &mut out).is_err());
            assert!(out.is_empty());
        };
        fails(Codec::Zstd, &stored, raw.len() - 1);
        fails(Codec::Zstd, &stored, raw.len() + 1);
        fails(Codec::Zstd, &stored, SEGMENT_RAW_MAX + 1);
        fails(Codec::Zstd, &stored[..stored.len() - 1], raw.len());
        fails(Codec::Zstd, &[], 1);
        fails(Codec::Zstd, &raw, raw.len());
        fails(Codec::Raw, &raw, raw.len() - 1);
        fails(Codec::Raw, &raw, usize::MAX);
        with_decoder(|decoder| decoder.decode(promise(Codec::Zstd, &stored, raw.len()), &mut out))
            .expect("decodes after all that");
        assert!(out == raw);
    }

    proptest::proptest! {
        #[test]
        fn damaged_frames_give_an_error_or_as_many_bytes_as_promised(
            hits in proptest::collection::vec((0_usize..2_000, 0_u8..), 1..8),
        ) {
            let raw = text(20_000);
            let (mut stored, mut out) = (Vec::new(), Vec::new());
            SegmentEncoder::new(ZSTD).encode(&raw, &mut stored);
            for (at, byte) in hits {
                let at = at % stored.len();
                stored[at] = byte;
            }
            match with_decoder(|decoder| decoder.decode(promise(Codec::Zstd, &stored, raw.len()), &mut out)) {
                Ok(()) => assert_eq!(out.len(), raw.len()),
                Err(_) => assert!(out.is_empty()),
            }
        }
    }

    #[test]
    fn tags_are_the_ones_on_disk() {
        for (tag, codec) in [(0, Some(Codec::Raw)), (1, Some(Codec::Zstd)), (2, None)] {
            assert_eq!(Codec::from_tag(tag), codec);
        }
    }
}
