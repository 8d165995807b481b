//! A file's bytes as chunks: where each lies in the file. No locations on volumes.

use super::ids::{ChunkId, ChunkNo, FileHash};

/// One chunk as it was cut: its length and identity, or a run of zeros that is stored nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Bytes that are stored.
    Chunk {
        /// Hash of the bytes.
        id: ChunkId,
        /// How many.
        len: u32,
    },
    /// Zeros, whether a hole or written.
    Zeros {
        /// How many.
        len: u64,
    },
}

/// Consecutive chunk numbers at an offset of a file; `chunk` 0 stands for zeros up to the next extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the file, in bytes.
    pub at: u64,
    /// First chunk.
    pub chunk: ChunkNo,
    /// How many chunks; 1 for zeros.
    pub n: u32,
}

/// A distinct content: size, hash, and its extents in file order. An empty file has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Bytes.
    pub size: u64,
    /// Hash of the whole.
    pub hash: FileHash,
    /// In file order, without gaps.
    pub extents: Vec<Extent>,
}
