//! Work between the source's thread and the assembler: pure functions of a job, run on any worker. Small files are read
//! here, a batch at a time; a large file's bytes come with the job.

use super::items::{DirContext, FileJob, HashStep, HashedPiece, Item, LargePart, ReadAttrs, ReadFile};
use super::layout::holes_of;
use super::rescue::RescueJob;
use crate::codec::chunker::Chunker;
use crate::codec::compress::{is_all_zero, looks_incompressible};
use crate::codec::hash::{PIECE_LEN, hash_bytes, piece_hash};
use crate::format::attrs;
use crate::model::entry::Stat;
use crate::model::ids::{ChunkId, FileHash};
use crate::model::params::HashAlgo;
use crate::model::problem::{Problem, ProblemOp};
use crate::tree::source_file::SourceFile;
use std::ops::Range;
use std::sync::Arc;

/// Files up to this many bytes are read and cut whole on one worker; the pieces of a longer one are cut in order.
pub const SMALL_MAX: u64 = 4 * PIECE_LEN as u64;
/// How often a file is read that changes meanwhile; the last reading is kept.
pub const READINGS_MAX: u32 = 3;
/// A file that was small when it was listed is read up to this size all the same.
const GROWN_MAX: usize = 16 * PIECE_LEN;

/// What all jobs of a run share.
#[derive(Debug, Clone, Copy)]
pub struct HashContext {
    /// The repository's hash.
    pub algo: HashAlgo,
    /// Where files are cut.
    pub chunker: Chunker,
}

/// One piece of work whose result goes to the assembler.
#[derive(Debug)]
pub enum Job {
    /// Nothing to do.
    Ready(Item),
    /// Small files of one directory.
    Batch(Vec<FileJob>),
    /// Some of a large file: bytes, and the spans in them.
    Part(RawPart),
    /// A segment of a damaged block.
    Rescue(RescueJob),
}

/// Consecutive bytes of a large file, cut but not hashed.
#[derive(Debug)]
pub struct RawPart {
    /// The file's directory.
    pub dir: Arc<DirContext>,
    /// The file is read from its start again.
    pub is_restart: bool,
    /// The bytes.
    pub buffer: Vec<u8>,
    /// Chunks in the buffer, and zeros that are not in it.
    pub spans: Vec<Span>,
    /// Steps of the whole file's hash.
    pub steps: Vec<RawStep>,
}

/// A stretch of a large file.
#[derive(Debug, Clone)]
pub enum Span {
    /// A chunk's place in the buffer.
    Chunk(Range<usize>),
    /// A hole's zeros.
    Zeros(u64),
}

/// A step of a large file's hash.
#[derive(Debug, Clone)]
pub enum RawStep {
    /// Piece number `index` lies at `range` in the buffer.
    Piece {
        /// Number of the piece in the file.
        index: u64,
        /// Its place.
        range: Range<usize>,
    },
    /// Zeros that were not read.
    Zeros(u64),
}

impl Job {
    /// Bytes that it will hold in memory, about.
    pub fn weight(&self) -> u64 {
        match self {
            Self::Ready(_) => 512,
            Self::Batch(files) => files.iter().map(|file| file.stat.size + 1024).sum(),
            Self::Part(part) => part.buffer.len() as u64 + 1024,
            Self::Rescue(job) => job.weight(),
        }
    }

    /// Does the work.
    pub fn run(self, context: &HashContext) -> Item {
        match self {
            Self::Ready(item) => item,
            Self::Batch(files) => read_batch(files, context),
            Self::Part(part) => Item::Part(hash_part(part, context)),
            Self::Rescue(job) => job.run(context),
        }
    }
}

fn hash_part(part: RawPart, context: &HashContext) -> LargePart {
    let RawPart { dir, is_restart, buffer, spans, steps } = part;
    let mut pieces = Vec::with_capacity(spans.len());
    for span in spans {
        match span {
            Span::Chunk(range) => put_piece(&mut pieces, &buffer, range, context.algo),
            Span::Zeros(len) => put_zeros(&mut pieces, len),
        }
    }
    let hashes = steps
        .into_iter()
        .map(|step| match step {
            RawStep::Piece { index, range } => {
                HashStep::Piece { hash: piece_hash(context.algo, index, &buffer[range.clone()]), range }
            }
            RawStep::Zeros(len) => HashStep::Zeros(len),
        })
        .collect();
    LargePart { dir, is_restart, buffer, pieces, hashes }
}

fn put_piece(pieces: &mut Vec<HashedPiece>, buffer: &[u8], range: Range<usize>, algo: HashAlgo) {
    let bytes = &buffer[range.clone()];
    if is_all_zero(bytes) {
        put_zeros(pieces, bytes.len() as u64);
        return;
    }
    let id = ChunkId(hash_bytes(algo, bytes));
    pieces.push(HashedPiece::Chunk { id, range, is_incompressible: looks_incompressible(bytes) });
}

fn put_zeros(pieces: &mut Vec<HashedPiece>, len: u64) {
    match pieces.last_mut() {
        Some(HashedPiece::Zeros(before)) => *before += len,
        _ => pieces.push(HashedPiece::Zeros(len)),
    }
}

fn read_batch(files: Vec<FileJob>, context: &HashContext) -> Item {
    let room: u64 = files.iter().map(|file| file.stat.size + 1).sum();
    let mut buffer = Vec::with_capacity(usize::try_from(room).unwrap_or(0));
    let mut done = Vec::with_capacity(files.len());
    for file in files {
        let outcome = read_small(&file, &mut buffer, context);
        done.push((file, outcome));
    }
    Item::Batch { buffer, files: done }
}

/// Reads a file to the end of `buffer`; reads it again when it changed meanwhile.
fn read_small(
    file: &FileJob,
    buffer: &mut Vec<u8>,
    context: &HashContext,
) -> Result<(ReadFile, Vec<HashedPiece>), Problem> {
    let start = buffer.len();
    let path = || crate::model::path::join(&file.dir.path, &file.name);
    let mut last = None;
    for _ in 0..READINGS_MAX {
        buffer.truncate(start);
        let mut source = file.dir.handle.open_file(&file.name).map_err(|error| open_problem(&path(), &error))?;
        let is_settled = source.settle();
        let read = is_settled.and_then(|is_settled| {
            read_once(&source, buffer)?;
            let attrs = read_attrs(&source, file, (buffer.len() - start) as u64, Some(&buffer[start..]));
            Ok((is_settled, attrs, source.stat()?))
        });
        let (is_settled, attrs, after) = read.map_err(|error| Problem::from_io(&path(), ProblemOp::Read, &error))?;
        let is_same =
            is_settled && is_unchanged(source.opened(), &after) && (buffer.len() - start) as u64 == after.size;
        last = Some((*source.opened(), is_same, attrs));
        if is_same {
            break;
        }
    }
    let Some((stat, is_same, attrs)) = last else { return Err(changed_problem(path())) };
    let bytes = &buffer[start..];
    let mut cuts = Vec::new();
    context.chunker.cut_whole(bytes, &mut cuts);
    let mut pieces = Vec::with_capacity(cuts.len());
    let mut from = start;
    for cut in cuts {
        let to = start + usize::try_from(cut).unwrap_or(bytes.len());
        put_piece(&mut pieces, buffer, from..to, context.algo);
        from = to;
    }
    let size = (buffer.len() - start) as u64;
    // A file of one chunk has the chunk's name as its hash: hashing it once is enough.
    let hash = match pieces.as_slice() {
        [HashedPiece::Chunk { id, .. }] => FileHash(id.0),
        _ => FileHash(hash_bytes(context.algo, &buffer[start..])),
    };
    Ok((ReadFile { stat, hash, size, is_inconsistent: !is_same, attrs }, pieces))
}

/// What lies beside the bytes of an open file of so many bytes; they themselves where they are at hand.
pub fn read_attrs(source: &SourceFile, file: &FileJob, size: u64, bytes: Option<&[u8]>) -> ReadAttrs {
    let path = || crate::model::path::join(&file.dir.path, &file.name);
    let found = source.attrs();
    ReadAttrs {
        body: attrs::encode(&found.attrs),
        holes: holes_of(source, size, (!found.attrs.xattrs.is_empty(), bytes)),
        problem: found.failed.map(|error| attrs_problem(&path(), &error)),
    }
}

/// Why attributes could not all be read.
pub fn attrs_problem(path: &[u8], error: &std::io::Error) -> Problem {
    let mut problem = Problem::from_io(path, ProblemOp::Attrs, error);
    problem.text = format!("its extended attributes or flags cannot all be read, the rest of it is stored: {error}");
    problem
}

fn read_once(source: &SourceFile, buffer: &mut Vec<u8>) -> std::io::Result<()> {
    let start = buffer.len();
    // One byte more than expected, so that the end of the file is seen by the same call.
    let mut want = usize::try_from(source.opened().size).unwrap_or(GROWN_MAX).min(GROWN_MAX) + 1;
    loop {
        let at = buffer.len();
        if at - start > GROWN_MAX {
            return Err(std::io::Error::other("it grows faster than it can be read; the next run will try again"));
        }
        buffer.reserve_exact(want);
        let asked = buffer.capacity() - at;
        let n = source.append_at((at - start) as u64, buffer)?;
        if n < asked {
            // Short of what was asked for: a regular file ends there.
            return Ok(());
        }
        want = PIECE_LEN;
    }
}

/// What is wrong with the bytes of a file that was read: they changed each time, or are others than they must be.
pub fn content_problem(file: &FileJob, read: &ReadFile) -> Option<Problem> {
    let (op, text) = match file.must_hold.as_deref() {
        _ if read.is_inconsistent => (
            ProblemOp::Changed,
            "it changed each time it was read; its last reading is kept, marked as inconsistent".to_owned(),
        ),
        // Somebody may have written it since it was listed.
        Some((held, run)) if *held != read.hash && is_unchanged(&file.stat, &read.stat) => (
            ProblemOp::Rot,
            format!(
                "its bytes are others than in run {run}, but its size, times and inode say that nobody wrote it: is the \
                 source's disk failing? Both versions are kept; `raidtape restore --run {run}` gives the one before"
            ),
        ),
        _ => return None,
    };
    Some(Problem { path: crate::model::path::join(&file.dir.path, &file.name), op, errno: None, text })
}

/// Whether a file was left alone between two looks.
pub fn is_unchanged(before: &Stat, after: &Stat) -> bool {
    (before.size, before.mtime_ns, before.ctime_ns, before.ino)
        == (after.size, after.mtime_ns, after.ctime_ns, after.ino)
}

/// A root or mount point that had something in it is empty.
pub fn empty_mount(path: &[u8]) -> Problem {
    let text = "it is empty now and was not before: is something not mounted? Its earlier versions are kept; with \
                --allow-empty they count as deleted";
    Problem { path: path.to_vec(), op: ProblemOp::EmptyMount, errno: None, text: text.to_owned() }
}

/// A root, or a directory above one, is gone since the walk began.
pub fn vanished_root(path: Vec<u8>) -> Problem {
    let text = "a root of the source vanished during the run; its earlier versions are kept".to_owned();
    Problem { path, op: ProblemOp::Stat, errno: None, text }
}

/// Why a file could not be opened.
pub fn open_problem(path: &[u8], error: &std::io::Error) -> Problem {
    use rustix::io::Errno;
    let mut problem = Problem::from_io(path, ProblemOp::Open, error);
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => "it vanished before it could be read".clone_into(&mut problem.text),
        Some(Errno::LOOP) => "it turned into a symbolic link before it could be read".clone_into(&mut problem.text),
        _ => {}
    }
    problem
}

fn changed_problem(path: Vec<u8>) -> Problem {
    Problem { path, op: ProblemOp::Changed, errno: None, text: "it kept changing while it was read".to_owned() }
}
