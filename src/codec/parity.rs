//! Parity of a group of files: a Reed-Solomon erasure code, column by column. Owns the code and its number; not which
//! files make a group (`engine`), and not what a parity file says of it (`format`).
//!
//! A group has K positions and M parities. A column is what lies at one offset in each of its members; a member that
//! ends before, and a position without a member, count as zeros. Any K of a column's K + M parts give the other M.
//!
//! Code 1, [`ALGORITHM`], is that of Leopard-RS in its high-rate form (Lin, Al-Naffouri, Han, Chung: "Novel polynomial
//! basis with fast Fourier transform and its application to Reed-Solomon erasure codes", IEEE Trans. Inf. Theory 62,
//! 2016). Written down without the transform it is a generalized Cauchy matrix:
//!
//! - The field is GF(2^16), modulus x^16 + x^5 + x^3 + x^2 + 1. A number stands for the sum of the elements of a Cantor
//!   basis that its bits choose; adding is XOR of numbers. `FORMAT.md`, "Parity", has the basis.
//! - Let C be M rounded up to a power of two. The data of position j lies at the point C + j, parity i at the point i.
//! - Parity i is the sum of `g(i, j)` times the data of position j, where `g(i, j)` is the product of `(C + j) + v` over
//!   all v from 0 to C - 1 but i. So with M = 1 it is the XOR of the members.
//!
//! The code works on blocks of 64 bytes: element e of a block, 0 to 31, has byte e as its low and byte 32 + e as its
//! high half. A column's last block is filled up with zeros, so a parity's column is as long as the longest part of the
//! data in it, rounded up to [`BLOCK_LEN`].
//!
//! The code is linear, and no position's share depends on another's: a member enters a group, or leaves it, by its own
//! bytes alone, [`ParityCode::toggle`].

use reed_solomon_simd::Error as CodeError;
use reed_solomon_simd::engine::{DefaultEngine, Engine, GF_MODULUS, tables};
use reed_solomon_simd::rate::{HighRateDecoder, HighRateEncoder, RateDecoder, RateEncoder};

use crate::model::limits::{PARITY_COUNT_MAX, PARITY_POSITIONS_MAX, SEGMENT_RAW_MAX};

/// The number of this code on disk.
pub const ALGORITHM: u8 = 1;

/// Bytes of the blocks that a column is made of.
pub const BLOCK_LEN: usize = 64;

/// Bytes of a checksum of a column.
pub const COLUMN_HASH_LEN: usize = 16;

/// Bytes that are multiplied at a time: they stay in the processor's first cache.
const STRIDE_LEN: usize = 8 << 10;

/// Bytes of the parity of a column whose longest part has `len` bytes.
pub fn parity_len(len: usize) -> usize {
    len.next_multiple_of(BLOCK_LEN)
}

/// The checksum that tells which parts of a column are lost: BLAKE3 of the bytes as they lie in the file, without the
/// zeros behind them, its first 16 bytes.
pub fn column_hash(bytes: &[u8]) -> [u8; COLUMN_HASH_LEN] {
    let mut short = [0; COLUMN_HASH_LEN];
    short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..COLUMN_HASH_LEN]);
    short
}

/// What keeps a column from being encoded or reconstructed.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum ParityError {
    /// No such code: 1 to 32 positions, 1 to 8 parities.
    #[error("there is no parity for {positions} positions with {parities} parities")]
    Counts {
        /// K.
        positions: usize,
        /// M.
        parities: usize,
    },
    /// A column of no bytes or of more than a segment may have, or a part that is longer than its column.
    #[error("a column, or a part of it, cannot have {len} bytes")]
    Length {
        /// Bytes.
        len: usize,
    },
    /// Another number of parts than the group has.
    #[error("a column of {found} parts where the group has {expected}")]
    Parts {
        /// Parts given.
        found: usize,
        /// Parts of the group.
        expected: usize,
    },
    /// More is lost than there are parities.
    #[error("{lost} members of a column are lost, and only {parities} parities are there")]
    TooFew {
        /// Members lost.
        lost: usize,
        /// Parities present.
        parities: usize,
    },
    /// The code itself refused: a mistake of this program.
    #[error("the parity code refused: {0}")]
    Code(CodeError),
}

impl From<CodeError> for ParityError {
    fn from(error: CodeError) -> Self {
        Self::Code(error)
    }
}

/// A column of which something is lost.
#[derive(Debug, Clone, Copy)]
pub struct Damaged<'a> {
    /// Bytes of the longest part of the data, lost parts included.
    pub len: usize,
    /// By position, K of them: the bytes, or `None` where they are lost. A member that ends before the column's end is
    /// short, an empty position has no bytes; neither is lost.
    pub data: &'a [Option<&'a [u8]>],
    /// By index, M of them: [`parity_len`] bytes each, or `None` where they are lost.
    pub parity: &'a [Option<&'a [u8]>],
}

/// The code of groups with K positions and M parities, with its work space, which is kept from column to column: for
/// encoding K columns, for reconstructing the power of two from K + M on (64 columns at most), each only once it is
/// needed. One thread uses it at a time.
pub struct ParityCode {
    positions: usize,
    parities: usize,
    engine: DefaultEngine,
    encoder: Option<HighRateEncoder<DefaultEngine>>,
    decoder: Option<HighRateDecoder<DefaultEngine>>,
    /// A part filled up to the column's whole blocks.
    filled: Vec<u8>,
}

impl ParityCode {
    /// The code for `positions` (1 to 32) and `parities` (1 to 8). The first one of a process computes tables of 8 MiB.
    pub fn new(positions: usize, parities: usize) -> Result<Self, ParityError> {
        let is_known = (1..=PARITY_POSITIONS_MAX).contains(&positions) && (1..=PARITY_COUNT_MAX).contains(&parities);
        if !is_known {
            return Err(ParityError::Counts { positions, parities });
        }
        let engine = DefaultEngine::new();
        Ok(Self { positions, parities, engine, encoder: None, decoder: None, filled: Vec::new() })
    }

    /// K: data positions.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// M: parities.
    pub fn parities(&self) -> usize {
        self.parities
    }

    /// Replaces what is in `out`, M of them, by the parities of a column, [`parity_len`] bytes each. `data` are its K
    /// parts by position, `len` bytes at most, none of an empty position.
    pub fn encode(&mut self, data: &[&[u8]], len: usize, out: &mut [Vec<u8>]) -> Result<(), ParityError> {
        check_parts(data.len(), self.positions)?;
        check_parts(out.len(), self.parities)?;
        let parts = data.iter().copied().map(Some);
        self.encode_parts(parts, len, |index, bytes| replace(&mut out[index], bytes))
    }

    /// Gives back what is lost of a column. `data`, K of them, is filled at every position that is lost, with `len`
    /// bytes: those behind a short member's end are zeros. `parity`, M of them, is filled at every index that is lost;
    /// with no element at all the parities are not computed. The other elements are emptied. On an error what they hold
    /// is of no use.
    ///
    /// Whether the bytes are right is for their checksums to say: parts that are present but wrong give wrong ones.
    pub fn reconstruct(
        &mut self,
        damaged: &Damaged<'_>,
        data: &mut [Vec<u8>],
        parity: &mut [Vec<u8>],
    ) -> Result<(), ParityError> {
        check_parts(damaged.data.len(), self.positions)?;
        check_parts(damaged.parity.len(), self.parities)?;
        check_parts(data.len(), self.positions)?;
        if !parity.is_empty() {
            check_parts(parity.len(), self.parities)?;
        }
        data.iter_mut().chain(parity.iter_mut()).for_each(Vec::clear);
        let lost = damaged.data.iter().filter(|part| part.is_none()).count();
        let parities = damaged.parity.iter().flatten().count();
        if lost > parities {
            return Err(ParityError::TooFew { lost, parities });
        }
        if lost > 0 {
            self.decode(damaged, data)?;
        }
        if damaged.parity.iter().zip(parity.iter()).any(|(part, _)| part.is_none()) {
            let parts = damaged.data.iter().zip(data.iter()).map(|(part, found)| Some(part.unwrap_or(found)));
            self.encode_parts(parts, damaged.len, |index, bytes| {
                if damaged.parity[index].is_none() {
                    replace(&mut parity[index], bytes);
                }
            })?;
        }
        Ok(())
    }

    /// Adds what the member at `position` has in a column, `bytes`, to each of its M parities, or takes it out again:
    /// the same twice changes nothing. No other member is needed. Parities shorter than [`parity_len`] of the bytes are
    /// extended first, as by zeros; from empty ones this makes what the member alone contributes.
    pub fn toggle(&mut self, position: usize, bytes: &[u8], parity: &mut [Vec<u8>]) -> Result<(), ParityError> {
        check_parts(parity.len(), self.parities)?;
        if position >= self.positions {
            return Err(ParityError::Parts { found: position + 1, expected: self.positions });
        }
        if bytes.len() > SEGMENT_RAW_MAX || parity.iter().any(|part| !part.len().is_multiple_of(BLOCK_LEN)) {
            return Err(ParityError::Length { len: bytes.len() });
        }
        let len = parity_len(bytes.len());
        let mut stride = [[0; BLOCK_LEN]; STRIDE_LEN / BLOCK_LEN];
        for (index, part) in parity.iter_mut().enumerate() {
            if part.len() < len {
                part.resize(len, 0);
            }
            let factor = self.log_factor(index, position);
            for (from, to) in bytes.chunks(STRIDE_LEN).zip(part.chunks_mut(STRIDE_LEN)) {
                let product = &mut stride[..from.len().div_ceil(BLOCK_LEN)];
                let flat = product.as_flattened_mut();
                flat[..from.len()].copy_from_slice(from);
                flat[from.len()..].fill(0);
                self.engine.mul(product, factor);
                to.iter_mut().zip(product.as_flattened()).for_each(|(to, byte)| *to ^= byte);
            }
        }
        Ok(())
    }

    /// The logarithm of `g(index, position)`.
    fn log_factor(&self, index: usize, position: usize) -> u16 {
        let log = &tables::get_exp_log().log;
        let first = self.parities.next_power_of_two();
        let others = (0..first).filter(|point| *point != index);
        let sum: u64 = others.map(|point| u64::from(log[(first + position) ^ point])).sum();
        u16::try_from(sum % u64::from(GF_MODULUS)).unwrap_or(0)
    }

    fn encode_parts<'p>(
        &mut self,
        parts: impl Iterator<Item = Option<&'p [u8]>>,
        len: usize,
        mut take: impl FnMut(usize, &[u8]),
    ) -> Result<(), ParityError> {
        let shard_len = shard_len(len)?;
        let (positions, parities) = (self.positions, self.parities);
        let mut encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => HighRateEncoder::new(positions, parities, shard_len, DefaultEngine::new(), None)?,
        };
        encoder.reset(positions, parities, shard_len)?;
        for part in parts.flatten() {
            encoder.add_original_shard(fill(part, len, &mut self.filled)?)?;
        }
        let parity = encoder.encode()?;
        parity.recovery_iter().enumerate().for_each(|(index, bytes)| take(index, bytes));
        drop(parity);
        self.encoder = Some(encoder);
        Ok(())
    }

    fn decode(&mut self, damaged: &Damaged<'_>, out: &mut [Vec<u8>]) -> Result<(), ParityError> {
        let shard_len = shard_len(damaged.len)?;
        let (positions, parities) = (self.positions, self.parities);
        let mut decoder = match self.decoder.take() {
            Some(decoder) => decoder,
            None => HighRateDecoder::new(positions, parities, shard_len, DefaultEngine::new(), None)?,
        };
        decoder.reset(positions, parities, shard_len)?;
        for (position, part) in damaged.data.iter().enumerate() {
            if let Some(part) = part {
                decoder.add_original_shard(position, fill(part, damaged.len, &mut self.filled)?)?;
            }
        }
        for (index, part) in damaged.parity.iter().enumerate() {
            if let Some(part) = part {
                if part.len() != shard_len {
                    return Err(ParityError::Length { len: part.len() });
                }
                decoder.add_recovery_shard(index, part)?;
            }
        }
        let found = decoder.decode()?;
        for (position, bytes) in found.restored_original_iter() {
            replace(&mut out[position], &bytes[..damaged.len]);
        }
        drop(found);
        self.decoder = Some(decoder);
        Ok(())
    }
}

impl std::fmt::Debug for ParityCode {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "ParityCode({}+{})", self.positions, self.parities)
    }
}

fn check_parts(found: usize, expected: usize) -> Result<(), ParityError> {
    if found == expected { Ok(()) } else { Err(ParityError::Parts { found, expected }) }
}

fn shard_len(len: usize) -> Result<usize, ParityError> {
    if (1..=SEGMENT_RAW_MAX).contains(&len) { Ok(parity_len(len)) } else { Err(ParityError::Length { len }) }
}

/// A part of a column of `len` bytes, filled up with zeros to whole blocks; in `filled` unless it has them already.
fn fill<'p>(part: &'p [u8], len: usize, filled: &'p mut Vec<u8>) -> Result<&'p [u8], ParityError> {
    if part.len() > len {
        return Err(ParityError::Length { len: part.len() });
    }
    if part.len() == parity_len(len) {
        return Ok(part);
    }
    replace(filled, part);
    filled.resize(parity_len(len), 0);
    Ok(filled)
}

fn replace(to: &mut Vec<u8>, bytes: &[u8]) {
    to.clear();
    to.extend_from_slice(bytes);
}

#[cfg(test)]
#[path = "parity_tests.rs"]
mod tests;
