//! What travels through the backup: jobs from the source, hashed items to the assembler, segments to the writers,
//! rows to the committer.

use crate::catalog::versions::Change;
use crate::codec::hash::PieceHash;
use crate::model::attrs::Holes;
use crate::model::content::Content;
use crate::model::entry::Stat;
use crate::model::ids::{ChunkId, ChunkNo, ContentId, FileHash, RunSeq, VolumeId};
use crate::model::problem::Problem;
use crate::tree::dir::Dir;
use std::ops::Range;
use std::sync::Arc;

/// A directory that is being backed up.
#[derive(Debug)]
pub struct DirContext {
    /// Path inside the source.
    pub path: Arc<[u8]>,
    /// For opening its files.
    pub handle: Dir,
    /// Volume that its chunks go to, when they went to one before.
    pub affinity: Option<VolumeId>,
    /// Time within which a changed inode counts as racy.
    pub racy_within_ns: i64,
}

/// What names of one inode have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InodeKey {
    /// File system, within this run.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
}

/// A regular file that must be read.
#[derive(Debug, Clone)]
pub struct FileJob {
    /// Its directory.
    pub dir: Arc<DirContext>,
    /// Its name there.
    pub name: Vec<u8>,
    /// As the walk saw it.
    pub stat: Stat,
    /// Hard-link group, or 0.
    pub link: i64,
    /// The content that it has if only its inode changed: were it the same, the inode would mean little.
    pub expected: Option<ContentId>,
    /// What it holds by an earlier run, if its size, times and inode tell the truth; known only where all is read.
    pub must_hold: Option<Box<(FileHash, RunSeq)>>,
}

/// A stored or zero part of a file; a chunk's bytes lie in the item's buffer.
#[derive(Debug, Clone)]
pub enum HashedPiece {
    /// Bytes to store.
    Chunk {
        /// Their hash.
        id: ChunkId,
        /// Where they are in the buffer.
        range: Range<usize>,
        /// They are not worth compressing.
        is_incompressible: bool,
    },
    /// Zeros.
    Zeros(u64),
}

/// The attributes of a file that is read.
#[derive(Debug)]
pub struct ReadAttrs {
    /// Encoded, without holes.
    pub body: Vec<u8>,
    /// The file's holes, where they are known.
    pub holes: Option<Holes>,
    /// Why some of them are missing.
    pub problem: Option<Problem>,
}

/// How reading a file ended.
#[derive(Debug)]
pub struct ReadFile {
    /// As it was when it was opened.
    pub stat: Stat,
    /// Hash of what was read.
    pub hash: FileHash,
    /// Bytes that were read.
    pub size: u64,
    /// It changed while it was read, each time.
    pub is_inconsistent: bool,
    /// Extended attributes and flags.
    pub attrs: ReadAttrs,
}

/// A small file with its pieces, or why it could not be read.
pub type SmallOutcome = Result<(ReadFile, Vec<HashedPiece>), Problem>;

/// Something for the assembler, in the order of the walk.
#[derive(Debug)]
pub enum Item {
    /// A row without new content.
    Row(Box<RowItem>),
    /// Small files, read and hashed.
    Batch {
        /// The bytes of all of them.
        buffer: Vec<u8>,
        /// Files with their pieces, or why one could not be read.
        files: Vec<(FileJob, SmallOutcome)>,
    },
    /// Some of a large file.
    Part(LargePart),
    /// A large file was read to its end.
    LargeEnd {
        /// The file.
        job: Box<FileJob>,
        /// As it was when it was opened.
        stat: Stat,
        /// Bytes that were read.
        size: u64,
        /// It changed while it was read, each time.
        is_inconsistent: bool,
        /// Extended attributes and flags.
        attrs: Box<ReadAttrs>,
    },
    /// A large file could not be read.
    LargeFailed(Problem),
    /// Sound chunks of a damaged block.
    Rescued {
        /// The decoded segment.
        buffer: Vec<u8>,
        /// Chunks and their places in it.
        chunks: Vec<(ChunkId, Range<usize>)>,
    },
    /// A further name of an inode whose first name came before.
    LinkTo(FileJob),
}

/// A row that is ready.
#[derive(Debug)]
pub struct RowItem {
    /// Directory.
    pub dir: Arc<[u8]>,
    /// Name.
    pub name: Vec<u8>,
    /// What changes.
    pub change: Change,
}

/// Consecutive bytes of a large file, from a chunk's start to a chunk's end.
#[derive(Debug)]
pub struct LargePart {
    /// The file's directory.
    pub dir: Arc<DirContext>,
    /// The file is read from its start again: forget earlier parts.
    pub is_restart: bool,
    /// The bytes.
    pub buffer: Vec<u8>,
    /// Chunks and zeros, in file order.
    pub pieces: Vec<HashedPiece>,
    /// Steps of the whole file's hash.
    pub hashes: Vec<HashStep>,
}

/// A step of a file's hash.
#[derive(Debug)]
pub enum HashStep {
    /// A piece that was read.
    Piece {
        /// Its hash.
        hash: PieceHash,
        /// Where its bytes are in the buffer.
        range: Range<usize>,
    },
    /// Zeros that were not read.
    Zeros(u64),
}

/// A segment before compression.
#[derive(Debug)]
pub struct RawSegment {
    /// Ordinal among all segments of the attempt.
    pub ticket: u64,
    /// The chunks' bytes.
    pub bytes: Vec<u8>,
    /// The chunks in order.
    pub chunks: Vec<SegmentChunk>,
    /// Whether compressing it may gain anything.
    pub compress: bool,
}

/// A chunk in a segment.
#[derive(Debug, Clone, Copy)]
pub struct SegmentChunk {
    /// Hash of its bytes.
    pub id: ChunkId,
    /// Bytes.
    pub len: u32,
    /// Its number in the catalog.
    pub no: ChunkNo,
}

/// A row on its way into the catalog.
#[derive(Debug)]
pub struct StagedRow {
    /// Directory.
    pub dir: Arc<[u8]>,
    /// Name.
    pub name: Vec<u8>,
    /// What changes.
    pub change: StagedChange,
    /// All segments below this ticket must be durable before the row may be written.
    pub needs: u64,
}

/// A change whose content may not be in the catalog yet.
#[derive(Debug)]
pub enum StagedChange {
    /// Complete as it is.
    Ready(Box<Change>),
    /// A file with content of this run.
    File(Box<StagedFile>),
}

/// A file version that this run read.
#[derive(Debug)]
pub struct StagedFile {
    /// The version; the number of its content is missing.
    pub change: Change,
    /// Its content; chunk numbers are final.
    pub content: Content,
    /// What its content was if only its inode changed, and its file system.
    pub expected: Option<(ContentId, u64)>,
}

impl StagedChange {
    /// The change, and the content of a file that this run read.
    pub fn parts(&self) -> (&Change, Option<&Content>) {
        match self {
            Self::Ready(change) => (change, None),
            Self::File(file) => (&file.change, Some(&file.content)),
        }
    }
}
