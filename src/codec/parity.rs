//! Parity of a group of files: a Reed-Solomon erasure code, column by column. Owns the code and its number; not which
//! files make a group (`engine`), and not what a parity file says of it (`format`).
//!
//! A group has K positions and M parities. A column is what lies at one offset in each of its members; a member that
//! ends before, and a position without a member, count as zeros. Any K of a column's K + M parts give the other M.
//!
//! Code 1, [`ALGORITHM`], is that of Leopard-RS in its high-rate form (Lin, Al-Naffouri, Han, Chung: "Novel polynomial
//! basis with fast Fourier transform and its application to Reed-Solomon erasure codes", IEEE Trans. Inf. Theory 62,
//! 2016), as the crate's `HighRate` computes it. Written down without the transform it is a generalized Cauchy matrix:
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
//!
//! Of the crate come the tables of the field and the vectorized product of a column with a number. Sums over the matrix
//! are made here: with so few parts they cost less than transforms, and no memory but what is given and given back
//! (`CHOICES.md`, "Parity").

use reed_solomon_simd::engine::tables::{self, Exp, Log};
use reed_solomon_simd::engine::{DefaultEngine, Engine, GF_MODULUS};

use crate::model::limits::{PARITY_COUNT_MAX, PARITY_POSITIONS_MAX, SEGMENT_RAW_MAX};

/// The number of this code on disk.
pub const ALGORITHM: u8 = 1;

/// Bytes of the blocks that a column is made of.
pub const BLOCK_LEN: usize = 64;

/// Bytes of a checksum of a column.
pub const COLUMN_HASH_LEN: usize = 16;

/// Bytes of each part that are taken at a time, so that a sum over all parts stays near the processor.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParityError {
    /// No such code: 1 to 32 positions, 1 to 8 parities.
    #[error("there is no parity for {positions} positions with {parities} parities")]
    Counts {
        /// K.
        positions: usize,
        /// M.
        parities: usize,
    },
    /// A column of no bytes or of more than a segment may have, or a part that does not have its column's length.
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
}

/// A column of which something is lost.
#[derive(Debug, Clone, Copy)]
pub struct Damaged<'a> {
    /// Bytes of the longest part of the data, lost parts included: 1 to [`SEGMENT_RAW_MAX`].
    pub len: usize,
    /// By position, K of them: the bytes, or `None` where they are lost. A member that ends before the column's end is
    /// short, an empty position has no bytes; neither is lost.
    pub data: &'a [Option<&'a [u8]>],
    /// By index, M of them: [`parity_len`] bytes each, or `None` where they are lost.
    pub parity: &'a [Option<&'a [u8]>],
}

/// The code of groups with K positions and M parities. It keeps nothing between columns: threads can share it.
pub struct ParityCode {
    positions: usize,
    /// `g(i, j)` at `[i][j]`.
    factors: Vec<Vec<u16>>,
    field: Field,
    engine: DefaultEngine,
}

impl ParityCode {
    /// The code for `positions` (1 to 32) and `parities` (1 to 8). The first one of a process computes tables of 8 MiB.
    pub fn new(positions: usize, parities: usize) -> Result<Self, ParityError> {
        let is_known = (1..=PARITY_POSITIONS_MAX).contains(&positions) && (1..=PARITY_COUNT_MAX).contains(&parities);
        if !is_known {
            return Err(ParityError::Counts { positions, parities });
        }
        let field = Field::new();
        let row = |index| (0..positions).map(|position| field.factor(parities, index, position)).collect();
        let factors = (0..parities).map(row).collect();
        Ok(Self { positions, factors, field, engine: DefaultEngine::new() })
    }

    /// K: data positions.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// M: parities.
    pub fn parities(&self) -> usize {
        self.factors.len()
    }

    /// Replaces what is in `out`, M of them, by the parities of a column, [`parity_len`] bytes each. `data` are its K
    /// parts by position, of at most `len` bytes (1 to [`SEGMENT_RAW_MAX`]), none of an empty position.
    pub fn encode(&self, data: &[&[u8]], len: usize, out: &mut [Vec<u8>]) -> Result<(), ParityError> {
        check_parts(data.len(), self.positions)?;
        check_parts(out.len(), self.parities())?;
        check_len(len)?;
        data.iter().try_for_each(|part| check_part(part, len))?;
        out.iter_mut().for_each(|part| zero(part, len));
        let mut out: Vec<_> = out.iter_mut().map(Vec::as_mut_slice).collect();
        self.combine(data, &self.factors, &mut out);
        Ok(())
    }

    /// Gives back what is lost of a column. `data`, K of them, is filled at every position that is lost, with `len`
    /// bytes: those behind a short member's end are zeros. `parity`, M of them, is filled at every index that is lost;
    /// with no element at all the parities are not computed. The other elements are emptied, on an error all that are
    /// given.
    ///
    /// Whether the bytes are right is for their checksums to say: parts that are present but wrong give wrong ones.
    pub fn reconstruct(
        &self,
        damaged: &Damaged<'_>,
        data: &mut [Vec<u8>],
        parity: &mut [Vec<u8>],
    ) -> Result<(), ParityError> {
        data.iter_mut().chain(parity.iter_mut()).for_each(Vec::clear);
        self.check_damaged(damaged)?;
        check_parts(data.len(), self.positions)?;
        if !parity.is_empty() {
            check_parts(parity.len(), self.parities())?;
        }
        self.reconstruct_data(damaged, data)?;
        if !parity.is_empty() {
            self.reconstruct_parity(damaged, data, parity);
        }
        Ok(())
    }

    /// Adds what the member at `position` has in a column, `bytes`, to each of its M parities, or takes it out again:
    /// the same twice changes nothing. No other member is needed. Parities shorter than [`parity_len`] of the bytes are
    /// extended first, as by zeros; from empty ones this makes what the member alone contributes.
    pub fn toggle(&self, position: usize, bytes: &[u8], parity: &mut [Vec<u8>]) -> Result<(), ParityError> {
        check_parts(parity.len(), self.parities())?;
        if position >= self.positions {
            return Err(ParityError::Parts { found: position.saturating_add(1), expected: self.positions });
        }
        check_part(bytes, SEGMENT_RAW_MAX)?;
        if let Some(odd) = parity.iter().find(|part| !part.len().is_multiple_of(BLOCK_LEN)) {
            return Err(ParityError::Length { len: odd.len() });
        }
        let len = parity_len(bytes.len());
        parity.iter_mut().for_each(|part| part.resize(part.len().max(len), 0));
        let rows: Vec<_> = self.factors.iter().map(|row| vec![row[position]]).collect();
        let mut out: Vec<_> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        self.combine(&[bytes], &rows, &mut out);
        Ok(())
    }

    fn check_damaged(&self, damaged: &Damaged<'_>) -> Result<(), ParityError> {
        check_parts(damaged.data.len(), self.positions)?;
        check_parts(damaged.parity.len(), self.parities())?;
        check_len(damaged.len)?;
        damaged.data.iter().flatten().try_for_each(|part| check_part(part, damaged.len))?;
        match damaged.parity.iter().flatten().find(|part| part.len() != parity_len(damaged.len)) {
            Some(wrong) => Err(ParityError::Length { len: wrong.len() }),
            None => Ok(()),
        }
    }

    /// With L the lost positions and P as many parities: those of P, less what the present members contributed, are the
    /// product of the square matrix of L's factors in P with what is lost. Its inverse gives that, as a sum of present
    /// parts with numbers that are the same for the whole column.
    fn reconstruct_data(&self, damaged: &Damaged<'_>, out: &mut [Vec<u8>]) -> Result<(), ParityError> {
        let lost: Vec<usize> = (0..self.positions).filter(|position| damaged.data[*position].is_none()).collect();
        let checks = damaged.parity.iter().enumerate().filter_map(|(index, part)| part.map(|part| (index, part)));
        let checks: Vec<(usize, &[u8])> = checks.take(lost.len()).collect();
        if checks.len() < lost.len() {
            return Err(ParityError::TooFew { lost: lost.len(), parities: checks.len() });
        }
        let square = checks.iter().map(|(index, _)| lost.iter().map(|at| self.factors[*index][*at]).collect());
        let inverse = self.field.invert(square.collect());
        let mut sources: Vec<&[u8]> = checks.iter().map(|(_, part)| *part).collect();
        let mut rows = inverse;
        for (position, part) in damaged.data.iter().enumerate().filter_map(|(at, part)| part.map(|part| (at, part))) {
            sources.push(part);
            for row in &mut rows {
                let shares = row.iter().zip(&checks);
                let share =
                    |(one, (index, _)): (&u16, &(usize, _))| self.field.multiply(*one, self.factors[*index][position]);
                let sum = shares.map(share).fold(0, |sum, share| sum ^ share);
                row.push(sum);
            }
        }
        lost.iter().for_each(|position| zero(&mut out[*position], damaged.len));
        let mut found: Vec<_> = out.iter_mut().filter(|part| !part.is_empty()).map(Vec::as_mut_slice).collect();
        self.combine(&sources, &rows, &mut found);
        lost.iter().for_each(|position| out[*position].truncate(damaged.len));
        Ok(())
    }

    fn reconstruct_parity(&self, damaged: &Damaged<'_>, data: &[Vec<u8>], out: &mut [Vec<u8>]) {
        let parts: Vec<_> = damaged.data.iter().zip(data).map(|(part, found)| part.unwrap_or(found)).collect();
        let lost = damaged.parity.iter().zip(out).zip(&self.factors).filter(|((part, _), _)| part.is_none());
        let (mut found, mut rows) = (Vec::new(), Vec::new());
        for ((_, out), row) in lost {
            zero(out, damaged.len);
            found.push(out.as_mut_slice());
            rows.push(row.clone());
        }
        self.combine(&parts, &rows, &mut found);
    }

    /// Adds to each of `out` the sum of the sources, each times its number in the row. An output has room for whole
    /// blocks of every source.
    fn combine(&self, sources: &[&[u8]], rows: &[Vec<u16>], out: &mut [&mut [u8]]) {
        let longest = sources.iter().map(|source| source.len()).max().unwrap_or(0);
        let mut product = [[0; BLOCK_LEN]; STRIDE_LEN / BLOCK_LEN];
        for at in (0..longest).step_by(STRIDE_LEN) {
            for (column, source) in sources.iter().enumerate() {
                let Some(from) = source.get(at..source.len().min(at + STRIDE_LEN)) else { continue };
                for (row, to) in rows.iter().zip(out.iter_mut()) {
                    match row[column] {
                        0 => {}
                        1 => xor(&mut to[at..], from),
                        number => {
                            let product = &mut product[..from.len().div_ceil(BLOCK_LEN)];
                            let bytes = product.as_flattened_mut();
                            bytes[..from.len()].copy_from_slice(from);
                            bytes[from.len()..].fill(0);
                            self.engine.mul(product, self.field.log[usize::from(number)]);
                            xor(&mut to[at..], product.as_flattened());
                        }
                    }
                }
            }
        }
    }
}

impl std::fmt::Debug for ParityCode {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "ParityCode({}+{})", self.positions, self.parities())
    }
}

/// Products of numbers, by the crate's tables of logarithms.
#[derive(Clone, Copy)]
struct Field {
    exp: &'static Exp,
    log: &'static Log,
}

impl Field {
    fn new() -> Self {
        let tables = tables::get_exp_log();
        Self { exp: &tables.exp, log: &tables.log }
    }

    fn multiply(self, one: u16, other: u16) -> u16 {
        // The table has a logarithm of 0, which is that of nothing.
        if other == 0 { 0 } else { tables::mul(one, self.log[usize::from(other)], self.exp, self.log) }
    }

    /// Of a number that is not 0.
    fn inverse_of(self, number: u16) -> u16 {
        self.exp[usize::from(GF_MODULUS - self.log[usize::from(number)])]
    }

    /// `g(index, position)`.
    fn factor(self, parities: usize, index: usize, position: usize) -> u16 {
        let first = parities.next_power_of_two();
        let others = (0..first).filter(|point| *point != index);
        others.fold(1, |product, point| {
            let sum = u16::try_from((first + position) ^ point).unwrap_or(0);
            self.multiply(product, sum)
        })
    }

    /// The inverse of a square matrix, by Gauss and Jordan. Every square part of `g` has one, and none of its steps meets
    /// a zero on the diagonal: the leading parts of such a part are such parts too.
    fn invert(self, mut matrix: Vec<Vec<u16>>) -> Vec<Vec<u16>> {
        let size = matrix.len();
        let mut inverse: Vec<Vec<u16>> =
            (0..size).map(|row| (0..size).map(|column| u16::from(row == column)).collect()).collect();
        for pivot in 0..size {
            let scale = self.inverse_of(matrix[pivot][pivot]);
            for number in matrix[pivot].iter_mut().chain(&mut inverse[pivot]) {
                *number = self.multiply(*number, scale);
            }
            let (from, from_inverse) = (matrix[pivot].clone(), inverse[pivot].clone());
            for row in (0..size).filter(|row| *row != pivot) {
                let times = matrix[row][pivot];
                let to = matrix[row].iter_mut().chain(&mut inverse[row]);
                for (to, from) in to.zip(from.iter().chain(&from_inverse)) {
                    *to ^= self.multiply(times, *from);
                }
            }
        }
        inverse
    }
}

fn check_parts(found: usize, expected: usize) -> Result<(), ParityError> {
    if found == expected { Ok(()) } else { Err(ParityError::Parts { found, expected }) }
}

fn check_len(len: usize) -> Result<(), ParityError> {
    if (1..=SEGMENT_RAW_MAX).contains(&len) { Ok(()) } else { Err(ParityError::Length { len }) }
}

fn check_part(part: &[u8], len_max: usize) -> Result<(), ParityError> {
    if part.len() <= len_max { Ok(()) } else { Err(ParityError::Length { len: part.len() }) }
}

/// Makes it the zeros of a parity of a column of `len` bytes.
fn zero(part: &mut Vec<u8>, len: usize) {
    part.clear();
    part.resize(parity_len(len), 0);
}

fn xor(to: &mut [u8], from: &[u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to ^= from);
}

#[cfg(test)]
#[path = "parity_tests.rs"]
mod tests;
