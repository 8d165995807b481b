//! Where a file is cut. Owns the rule and its streaming form, [`Cutter`]; knows nothing of buffers, hashes of chunks or
//! dedup. The engine feeds it a file's bytes in order.
//!
//! The rule is of the FastCDC family (Xia et al.: "FastCDC: a fast and efficient content-defined chunking approach for
//! data deduplication", USENIX ATC 2016), with the gear hash taken over a full window of 64 bytes. A chunk that starts
//! at `s` ends at the first `e` for which, with `len = e - s` and `hash` over the bytes `e - 64 .. e`,
//!
//! - `min <= len < avg` and the top `log2(avg) + normalization` bits of `hash` are zero, or
//! - `avg <= len < max` and the top `log2(avg) - normalization` bits of `hash` are zero, or
//! - `len == max`, or the file ends.
//!
//! So a cut depends on the 64 bytes before it and on where its chunk began, on nothing else: equal bytes after a cut
//! are cut alike in every file, whatever came before. A window of zeros is never a place to cut: a run of zeros gives
//! chunks of `max` bytes, and costs no time.

use super::gear::{WINDOW, ZERO_HASH, roll};
use crate::model::limits::CHUNK_LEN_MAX;
use crate::model::params::ChunkerParams;

/// The parameters that `init` chooses; `CHOICES.md` has the trials.
pub const fn default_params() -> ChunkerParams {
    ChunkerParams { min: 64 << 10, avg: 256 << 10, max: 1 << 20, normalization: 1 }
}

/// Fewest bits that a hash is tested for; a window of zeros has a one among its hash's top bits.
const MASK_BITS_MIN: u32 = 4;

/// Parameters that no chunker can follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadParams {
    /// The average is not a power of two.
    #[error("the average chunk length {avg} is not a power of two")]
    AvgNotPowerOfTwo {
        /// Bytes.
        avg: u32,
    },
    /// The lengths do not lie in `64 <= min < avg < max <= CHUNK_LEN_MAX`.
    #[error("chunk lengths must be 64 <= min < avg < max <= {CHUNK_LEN_MAX}, not {min}, {avg}, {max}")]
    LengthsOutOfOrder {
        /// Bytes.
        min: u32,
        /// Bytes.
        avg: u32,
        /// Bytes.
        max: u32,
    },
    /// The normalization leaves fewer than 4 bits to test beyond the average.
    #[error("normalization {normalization} is too much for an average chunk length of {avg}")]
    NormalizationTooLarge {
        /// Bits.
        normalization: u32,
        /// Bytes.
        avg: u32,
    },
}

/// The rule, made ready from checked parameters.
#[derive(Debug, Clone, Copy)]
pub struct Chunker {
    min: usize,
    avg: usize,
    max: usize,
    /// A hash below it is a place to cut before the average: its top bits are zero.
    strict_below: u64,
    /// The same from the average on; a multiple of `strict_below`.
    loose_below: u64,
}

impl Chunker {
    /// Checks the parameters: `avg` a power of two, `64 <= min < avg < max <= CHUNK_LEN_MAX`, and at least 4 bits left
    /// after the normalization.
    pub fn new(params: &ChunkerParams) -> Result<Self, BadParams> {
        let ChunkerParams { min, avg, max, normalization } = *params;
        if !avg.is_power_of_two() {
            return Err(BadParams::AvgNotPowerOfTwo { avg });
        }
        let [min_len, avg_len, max_len] = [min, avg, max].map(|len| len as usize);
        if !(WINDOW <= min_len && min < avg && avg < max && max_len <= CHUNK_LEN_MAX) {
            return Err(BadParams::LengthsOutOfOrder { min, avg, max });
        }
        let bits = avg.ilog2();
        if normalization > bits - MASK_BITS_MIN {
            return Err(BadParams::NormalizationTooLarge { normalization, avg });
        }
        Ok(Self {
            min: min_len,
            avg: avg_len,
            max: max_len,
            strict_below: 1 << (64 - bits - normalization),
            loose_below: 1 << (64 - bits + normalization),
        })
    }

    /// A cutter at the start of a file.
    pub fn cutter(&self) -> Cutter {
        Cutter { rule: *self, start: 0, len: 0, hash: 0 }
    }

    /// Appends the end of every chunk of a file that lies in memory whole; nothing for an empty one.
    pub fn cut_whole(&self, file: &[u8], cuts: &mut Vec<u64>) {
        let mut cutter = self.cutter();
        cutter.feed(file, cuts);
        cutter.finish(cuts);
    }

    /// The length up to which a chunk of `len` bytes may grow before the test changes, and the test: a hash below the
    /// second number is a place to cut. With 0 none is.
    fn phase(&self, len: usize) -> (usize, u64) {
        if len + 1 < self.min {
            (self.min - 1, 0)
        } else if len + 1 < self.avg {
            (self.avg - 1, self.strict_below)
        } else {
            (self.max, self.loose_below)
        }
    }

    /// The length of a chunk at which its first window begins; what lies before is never looked at.
    fn blind_len(&self) -> usize {
        self.min - WINDOW
    }
}

/// Cuts one file, fed in order in pieces of any size; the cuts do not depend on the pieces. Constant memory: it keeps
/// no bytes. Cuts are absolute offsets in the file, ascending, each the end of a chunk and the start of the next.
#[derive(Debug, Clone)]
pub struct Cutter {
    rule: Chunker,
    /// Offset in the file of the current chunk.
    start: u64,
    /// Bytes of the current chunk so far; less than `max`.
    len: usize,
    /// Of the current chunk's bytes from `min - 64` on.
    hash: u64,
}

impl Cutter {
    /// Takes the next bytes of the file and appends the cuts that lie in them, one at their very end included.
    pub fn feed(&mut self, mut data: &[u8], cuts: &mut Vec<u64>) {
        while !data.is_empty() {
            let (used, is_cut) = self.advance(data);
            data = &data[used..];
            if is_cut {
                cuts.push(self.cut());
            }
        }
    }

    /// The same as feeding `len` bytes of zero, in time that grows with the number of cuts alone.
    pub fn feed_zeros(&mut self, mut len: u64, emit: &mut dyn FnMut(u64)) {
        while len > 0 {
            let step = usize::try_from(len).unwrap_or(usize::MAX);
            let (used, is_cut) = self.advance_zeros(step);
            len -= used as u64;
            if is_cut {
                emit(self.cut());
            }
        }
    }

    /// Ends the file: appends the end of its last chunk unless a cut fell there already. The cutter then stands at the
    /// start of another file.
    pub fn finish(&mut self, cuts: &mut Vec<u64>) {
        if self.len > 0 {
            cuts.push(self.cut());
        }
        self.start = 0;
    }

    /// Offset in the file where the chunk begins that is not cut yet; equal to [`Self::position`] right after a cut.
    pub fn chunk_start(&self) -> u64 {
        self.start
    }

    /// Bytes fed so far.
    pub fn position(&self) -> u64 {
        self.start + self.len as u64
    }

    fn cut(&mut self) -> u64 {
        self.start += self.len as u64;
        self.len = 0;
        self.hash = 0;
        self.start
    }

    /// Takes a part of `data`, not empty: how much, and whether the chunk ends there.
    fn advance(&mut self, data: &[u8]) -> (usize, bool) {
        let blind = self.rule.blind_len();
        if self.len < blind {
            let used = data.len().min(blind - self.len);
            self.len += used;
            return (used, false);
        }
        let (until, below) = self.rule.phase(self.len);
        let seen = &data[..data.len().min(until - self.len)];
        let found = roll(&mut self.hash, seen, below);
        let used = found.unwrap_or(seen.len());
        self.len += used;
        (used, found.is_some() || self.len == self.rule.max)
    }

    /// [`Self::advance`] for `len` zeros, `len` not 0.
    fn advance_zeros(&mut self, len: usize) -> (usize, bool) {
        let blind = self.rule.blind_len();
        let used = if self.len < blind {
            len.min(blind - self.len)
        } else if self.hash == ZERO_HASH {
            // One more zero leaves it as it is (2z + g = z for z = -g), so no cut can come before `max`.
            len.min(self.rule.max - self.len)
        } else {
            return self.advance(&[0; WINDOW][..len.min(WINDOW)]);
        };
        self.len += used;
        (used, self.len == self.rule.max)
    }
}

#[cfg(test)]
#[path = "chunker_tests.rs"]
mod tests;
