//! Hashes: of bytes in hand, of a stream, and of a whole file whose pieces may be hashed side by side.
//!
//! Owns which function an algorithm's word means. The hash of a file is what `b3sum` or `sha256sum` prints for it, so
//! nothing about pieces or chunks goes into it. Starting threads is the engine's: [`piece_hash`] is pure.

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use sha2::{Digest, Sha256};

use crate::model::params::HashAlgo;

/// Bytes of every piece of a file but its last: a power of two, so that a piece is a whole subtree of BLAKE3.
pub const PIECE_LEN: usize = 4 << 20;

/// Zeros to hash from; small enough to stay in the nearest cache.
static ZEROS: [u8; 16 << 10] = [0; 16 << 10];

/// The hash of bytes in hand.
pub fn hash_bytes(algo: HashAlgo, bytes: &[u8]) -> [u8; 32] {
    match algo {
        HashAlgo::Blake3 => *blake3::hash(bytes).as_bytes(),
        HashAlgo::Sha256 => Sha256::digest(bytes).into(),
    }
}

/// The hash of a stream, bytes given in order; for block files.
#[derive(Debug, Clone)]
pub struct Hasher(State);

#[derive(Debug, Clone)]
enum State {
    Blake3(Box<blake3::Hasher>),
    Sha256(Sha256),
}

impl Hasher {
    /// Nothing hashed yet.
    pub fn new(algo: HashAlgo) -> Self {
        Self(match algo {
            HashAlgo::Blake3 => State::Blake3(Box::default()),
            HashAlgo::Sha256 => State::Sha256(Sha256::new()),
        })
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Blake3(hasher) => {
                hasher.update(bytes);
            }
            State::Sha256(hasher) => hasher.update(bytes),
        }
    }

    /// The hash of all bytes taken.
    pub fn finalize(self) -> [u8; 32] {
        match self.0 {
            State::Blake3(hasher) => *hasher.finalize().as_bytes(),
            State::Sha256(hasher) => hasher.finalize().into(),
        }
    }
}

/// What [`FileHasher::push`] needs to know about one piece of a file beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceHash(Piece);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// The piece's node in the tree; `root` is the file's hash if this first piece is the only one.
    Subtree { index: u64, value: ChainingValue, root: Option<[u8; 32]> },
    /// SHA-256 has no tree: the bytes are hashed when they are pushed.
    Bytes,
    /// The same for zeros, whose bytes nobody has to bring.
    Zeros { len: usize },
}

/// Hashes piece number `index` (from 0) of a file: [`PIECE_LEN`] bytes, fewer only in the last piece, never none.
/// May run on any thread, pieces in any order. For SHA-256 it costs nothing and does nothing.
pub fn piece_hash(algo: HashAlgo, index: u64, piece: &[u8]) -> PieceHash {
    debug_assert!((1..=PIECE_LEN).contains(&piece.len()));
    match algo {
        HashAlgo::Blake3 => subtree(index, |hasher| {
            hasher.update(piece);
        }),
        HashAlgo::Sha256 => PieceHash(Piece::Bytes),
    }
}

/// [`piece_hash`] of `len` zeros, without the caller's having them; push it with no bytes.
///
/// BLAKE3 puts the offset of every KiB into its hash, so no two pieces of zeros are alike and none can be remembered:
/// this costs as much as hashing any bytes that lie in the nearest cache.
pub fn piece_hash_zeros(algo: HashAlgo, index: u64, len: usize) -> PieceHash {
    debug_assert!((1..=PIECE_LEN).contains(&len));
    match algo {
        HashAlgo::Blake3 => subtree(index, |hasher| {
            each_zeros(len, |zeros| {
                hasher.update(zeros);
            });
        }),
        HashAlgo::Sha256 => PieceHash(Piece::Zeros { len }),
    }
}

fn subtree(index: u64, fill: impl FnOnce(&mut blake3::Hasher)) -> PieceHash {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(index * PIECE_LEN as u64);
    fill(&mut hasher);
    PieceHash(Piece::Subtree {
        index,
        value: hasher.finalize_non_root(),
        root: (index == 0).then(|| *hasher.finalize().as_bytes()),
    })
}

fn each_zeros(mut len: usize, mut take: impl FnMut(&[u8])) {
    while len > 0 {
        let zeros = &ZEROS[..len.min(ZEROS.len())];
        take(zeros);
        len -= zeros.len();
    }
}

/// The hash of a whole file from its pieces, pushed in order. Memory: 32 bytes per level of the tree.
#[derive(Debug, Clone)]
pub struct FileHasher(Fold);

#[derive(Debug, Clone)]
enum Fold {
    Tree {
        /// Roots of the finished subtrees to the left, widest first: one per bit of `pieces`, merged only when a
        /// further piece shows that they do not hold the end of the file.
        stack: Vec<ChainingValue>,
        pieces: u64,
        only: Option<[u8; 32]>,
    },
    Stream(Box<Sha256>),
}

impl FileHasher {
    /// An empty file so far.
    pub fn new(algo: HashAlgo) -> Self {
        Self(match algo {
            HashAlgo::Blake3 => Fold::Tree { stack: Vec::new(), pieces: 0, only: None },
            HashAlgo::Sha256 => Fold::Stream(Box::default()),
        })
    }

    /// Takes the next piece: its hash, of the same algorithm, and its bytes, which only SHA-256 looks at. Every piece
    /// before it must have been a full one.
    pub fn push(&mut self, hash: PieceHash, bytes: &[u8]) {
        match (&mut self.0, hash.0) {
            (Fold::Tree { stack, pieces, only }, Piece::Subtree { index, value, root }) => {
                debug_assert_eq!(index, *pieces, "pieces come in order");
                push_subtree(stack, *pieces, value);
                *only = root;
                *pieces += 1;
            }
            (Fold::Stream(hasher), Piece::Bytes) => hasher.update(bytes),
            (Fold::Stream(hasher), Piece::Zeros { len }) => {
                each_zeros(len, |zeros| hasher.update(zeros));
            }
            _ => debug_assert!(false, "the piece was hashed with another algorithm"),
        }
    }

    /// Takes `len` bytes of zero from the start of a piece on; no multiple of [`PIECE_LEN`] only at the file's end.
    /// Costs as much as hashing them (see [`piece_hash_zeros`], which can run side by side).
    pub fn push_zeros(&mut self, mut len: u64) {
        while len > 0 {
            let piece_len = usize::try_from(len).map_or(PIECE_LEN, |len| len.min(PIECE_LEN));
            let hash = match &self.0 {
                Fold::Tree { pieces, .. } => piece_hash_zeros(HashAlgo::Blake3, *pieces, piece_len),
                Fold::Stream(_) => PieceHash(Piece::Zeros { len: piece_len }),
            };
            self.push(hash, &[]);
            len -= piece_len as u64;
        }
    }

    /// The hash of the file; with no piece pushed, of an empty one.
    pub fn finish(self) -> [u8; 32] {
        let (mut stack, only) = match self.0 {
            Fold::Stream(hasher) => return hasher.finalize().into(),
            Fold::Tree { stack, only, .. } => (stack, only),
        };
        if let Some(root) = only {
            return root;
        }
        let Some(mut right) = stack.pop() else {
            return hash_bytes(HashAlgo::Blake3, &[]);
        };
        while stack.len() > 1 {
            if let Some(left) = stack.pop() {
                right = merge_subtrees_non_root(&left, &right, Mode::Hash);
            }
        }
        match stack.pop() {
            Some(left) => *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes(),
            None => right,
        }
    }
}

/// Pushes the node of piece number `pieces`, after merging what is complete now that the file is known to go on.
fn push_subtree(stack: &mut Vec<ChainingValue>, pieces: u64, value: ChainingValue) {
    while stack.len() > pieces.count_ones() as usize {
        if let (Some(right), Some(left)) = (stack.pop(), stack.pop()) {
            stack.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
    }
    stack.push(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALGOS: [HashAlgo; 2] = [HashAlgo::Blake3, HashAlgo::Sha256];

    fn bytes(len: usize) -> Vec<u8> {
        (0..len as u64).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]).collect()
    }

    fn by_pieces(algo: HashAlgo, file: &[u8]) -> [u8; 32] {
        let mut hasher = FileHasher::new(algo);
        let pieces: Vec<_> = file.chunks(PIECE_LEN).enumerate().collect();
        let hashes: Vec<_> = pieces.iter().rev().map(|(index, piece)| piece_hash(algo, *index as u64, piece)).collect();
        for ((_, piece), hash) in pieces.iter().zip(hashes.iter().rev()) {
            hasher.push(*hash, piece);
        }
        hasher.finish()
    }

    #[test]
    fn known_answers_of_both_algorithms() {
        let hex = |hash: [u8; 32]| crate::model::ids::ChunkId(hash).to_string();
        assert_eq!(
            hex(hash_bytes(HashAlgo::Blake3, b"")),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
        assert_eq!(
            hex(hash_bytes(HashAlgo::Sha256, b"abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_file_by_pieces_has_the_hash_of_the_file_at_every_count_of_pieces() {
        let file = bytes(9 * PIECE_LEN + 5);
        for algo in ALGOS {
            for pieces in 0..=9 {
                for tail in [0, 1, 5, 1024, PIECE_LEN - 1] {
                    let file = &file[..(pieces * PIECE_LEN + tail).min(file.len())];
                    assert_eq!(by_pieces(algo, file), hash_bytes(algo, file), "{algo:?} {pieces} {tail}");
                }
            }
        }
    }

    #[test]
    fn zeros_hash_like_zeros_wherever_they_lie() {
        let mut file = bytes(PIECE_LEN);
        file.resize(4 * PIECE_LEN, 0);
        file.extend(bytes(PIECE_LEN));
        file.resize(6 * PIECE_LEN + 77, 0);
        for algo in ALGOS {
            let mut hasher = FileHasher::new(algo);
            hasher.push(piece_hash(algo, 0, &file[..PIECE_LEN]), &file[..PIECE_LEN]);
            hasher.push_zeros(3 * PIECE_LEN as u64);
            let data = &file[4 * PIECE_LEN..5 * PIECE_LEN];
            hasher.push(piece_hash(algo, 4, data), data);
            hasher.push(piece_hash_zeros(algo, 5, PIECE_LEN), &[]);
            hasher.push_zeros(77);
            assert_eq!(hasher.finish(), hash_bytes(algo, &file), "{algo:?}");
        }
    }

    #[test]
    fn pieces_of_zeros_differ_by_where_they_lie_so_none_is_remembered() {
        let at = |index| match piece_hash_zeros(HashAlgo::Blake3, index, PIECE_LEN).0 {
            Piece::Subtree { value, .. } => value,
            _ => [0; 32],
        };
        assert_ne!(at(1), at(2));
    }

    #[test]
    fn a_stream_has_the_hash_of_its_bytes() {
        let file = bytes(100_000);
        for algo in ALGOS {
            let mut hasher = Hasher::new(algo);
            file.chunks(777).for_each(|part| hasher.update(part));
            assert_eq!(hasher.finalize(), hash_bytes(algo, &file));
        }
    }
}
