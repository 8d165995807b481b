//! One regular file on its way into the target: written in any order by any thread, confirmed as a whole, finished by
//! whoever writes its last byte. Owns the counting that tells when that is; not where the bytes come from.

use super::links::LinkKey;
use super::tally::{Failure, Tally};
use crate::codec::hash::{FileHasher, PIECE_LEN, PieceHash, piece_hash, piece_hash_zeros};
use crate::engine::error::EngineError;
use crate::engine::observer::Observer;
use crate::model::ids::FileHash;
use crate::model::params::HashAlgo;
use crate::tree::error::TreeError;
use crate::tree::target::{Existing, Target};
use crate::tree::target_file::TargetFile;
use crate::tree::target_meta::{MetaOutcome, TargetMeta};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};

/// Pieces of a file that are hashed side by side at most (1 TiB, about 24 MiB of memory); longer files are read back
/// as a whole when they are complete.
const PIECES_MAX: u64 = 1 << 18;

thread_local! {
    /// One piece, read back: a fresh buffer each time would cost as much as hashing it.
    static READ_BACK: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What the threads of one restore have in common.
pub(super) struct Ground<'a> {
    pub target: &'a Target,
    pub observer: &'a dyn Observer,
    pub tally: &'a Tally,
    pub algo: HashAlgo,
    /// Small files may be made under their own names at once, see [`super::dest::Dest::is_all_ours`].
    pub is_all_ours: bool,
}

/// What is known of a file before its bytes are.
#[derive(Debug, Clone)]
pub(super) struct FileSpec {
    /// Path inside the source, for reports.
    pub source_path: Vec<u8>,
    /// Path inside the target.
    pub path: Vec<u8>,
    pub meta: TargetMeta,
    pub size: u64,
    pub hash: FileHash,
    /// Whose further name it may be.
    pub link: Option<LinkKey>,
    pub existing: Existing,
}

/// A file that is being restored.
pub(super) struct FileJob {
    pub spec: FileSpec,
    /// Its place in the plan.
    pub order: u64,
    confirm: Confirm,
    /// Parts that are not done yet, and one for the planner until it has planned all.
    waiting: AtomicU64,
    out: RwLock<Out>,
    failure: OnceLock<Failure>,
}

enum Out {
    NotBegun,
    Open(TargetFile),
    Closed,
}

/// How the whole is shown to be what its hash says.
enum Confirm {
    /// Its one chunk has the same hash.
    ByChunk,
    /// Pieces are read back and hashed as soon as they are complete.
    Pieces(Pieces),
    /// It is read back from begin to end.
    Whole,
}

struct Pieces {
    /// Bytes of each piece that are still to come.
    left: Vec<AtomicU32>,
    hashes: Mutex<Vec<Option<PieceHash>>>,
}

impl FileJob {
    /// `is_one_chunk`: all of it is one chunk whose id is its hash.
    pub fn new(spec: FileSpec, order: u64, (algo, is_one_chunk): (HashAlgo, bool)) -> Self {
        let pieces = spec.size.div_ceil(PIECE_LEN as u64);
        let confirm = if is_one_chunk {
            Confirm::ByChunk
        } else if pieces > PIECES_MAX || algo == HashAlgo::Sha256 {
            Confirm::Whole
        } else {
            let left = (0..pieces).map(|index| AtomicU32::new(piece_len(spec.size, index))).collect();
            let hashes = (0..pieces).map(|_| None).collect();
            Confirm::Pieces(Pieces { left, hashes: Mutex::new(hashes) })
        };
        Self {
            spec,
            order,
            confirm,
            waiting: AtomicU64::new(1),
            out: RwLock::new(Out::NotBegun),
            failure: OnceLock::new(),
        }
    }

    /// Another part is going to be done.
    pub fn expect_part(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it is only there to be counted down.
    pub fn has_failed(&self) -> bool {
        self.failure.get().is_some()
    }

    /// It cannot be restored; the first reason counts.
    pub fn fail(&self, failure: Failure) {
        let _ = self.failure.set(failure);
    }

    /// So many parts are done; the last one finishes the file, or removes what was written of a failed one.
    pub fn parts_done(&self, ground: &Ground<'_>, count: u64) {
        if self.waiting.fetch_sub(count, Ordering::AcqRel) == count {
            self.finish(ground);
        }
    }

    /// Like [`Self::parts_done`] for the planner's own part, but leaves the finishing to the caller: true when it was
    /// the last.
    pub fn is_last_part(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 1
    }

    /// Writes bytes that were checked.
    pub fn write(&self, ground: &Ground<'_>, at: u64, bytes: &[u8]) {
        if self.has_failed() {
            return;
        }
        let written = self.begun(ground).and_then(|out| match &*out {
            Out::Open(file) => file.write_at(at, bytes),
            Out::NotBegun | Out::Closed => Ok(()),
        });
        match written {
            Ok(()) => {
                ground.observer.advance(0, bytes.len() as u64);
                self.note_written(ground, at, bytes);
            }
            Err(error) => self.fail(Failure::Target(error)),
        }
    }

    /// Makes the file at once, where `bytes` are all of it and were shown to be it. False when it must go the long way;
    /// its part is still to be counted down.
    pub fn write_whole(&self, ground: &Ground<'_>, bytes: &[u8]) -> bool {
        let is_all = matches!(self.confirm, Confirm::ByChunk) && bytes.len() as u64 == self.spec.size;
        if !is_all || !ground.is_all_ours || self.spec.existing != Existing::Refuse {
            return false;
        }
        let mut out = self.out.write().unwrap_or_else(PoisonError::into_inner);
        if self.has_failed() || ground.tally.is_stopped() || !matches!(*out, Out::NotBegun) {
            return false;
        }
        *out = Out::Closed;
        drop(out);
        match ground.target.write_whole(&self.spec.path, bytes, &self.spec.meta) {
            Ok(outcome) => {
                ground.observer.advance(0, self.spec.size);
                self.note_finished(ground, outcome);
            }
            Err(error) => self.fail(Failure::Target(error)),
        }
        true
    }

    fn note_finished(&self, ground: &Ground<'_>, outcome: MetaOutcome) {
        ground.tally.note_meta(&self.spec.source_path, outcome);
        ground.tally.note_last_flags(&self.spec.path, (&self.spec.meta, outcome));
        let mut counts = ground.tally.counts();
        counts.files += 1;
        counts.bytes += self.spec.size;
        drop(counts);
        ground.observer.advance(1, 0);
    }

    fn begun(&self, ground: &Ground<'_>) -> Result<RwLockReadGuard<'_, Out>, TreeError> {
        {
            let out = self.out.read().unwrap_or_else(PoisonError::into_inner);
            if !matches!(*out, Out::NotBegun) {
                return Ok(out);
            }
        }
        {
            let mut out = self.out.write().unwrap_or_else(PoisonError::into_inner);
            if matches!(*out, Out::NotBegun) {
                *out = Out::Open(ground.target.begin_file_of(&self.spec.path, self.spec.size, &self.spec.meta)?);
            }
        }
        Ok(self.out.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn note_written(&self, ground: &Ground<'_>, at: u64, bytes: &[u8]) {
        let Confirm::Pieces(pieces) = &self.confirm else { return };
        for (index, overlap) in overlaps(at, bytes.len() as u64) {
            let is_complete = pieces.subtract(index, overlap);
            if !is_complete {
                continue;
            }
            if overlap == piece_len(self.spec.size, index) {
                let begin = usize::try_from((index * PIECE_LEN as u64).saturating_sub(at)).unwrap_or(usize::MAX);
                let piece = bytes.get(begin..).and_then(|rest| rest.get(..overlap as usize));
                if let Some(piece) = piece {
                    pieces.put(index, piece_hash(ground.algo, index, piece));
                    continue;
                }
            }
            self.hash_back(ground, index);
        }
    }

    /// Counts zeros that the planner met as written. Returns the pieces that are zeros as a whole, and those that are
    /// complete now; both are still to be hashed, with [`Self::hash_pieces`].
    pub fn note_zeros(&self, at: u64, len: u64) -> (Range<u64>, Vec<u64>) {
        let Confirm::Pieces(pieces) = &self.confirm else { return (0..0, Vec::new()) };
        let (mut zeros, mut complete) = (0..0, Vec::new());
        for (index, overlap) in overlaps(at, len) {
            if overlap == piece_len(self.spec.size, index) {
                zeros = if zeros.is_empty() { index..index + 1 } else { zeros.start..index + 1 };
            } else if pieces.subtract(index, overlap) {
                complete.push(index);
            }
        }
        (zeros, complete)
    }

    /// Hashes pieces that are complete: zeros without reading them.
    pub fn hash_pieces(&self, ground: &Ground<'_>, range: Range<u64>, are_zeros: bool) {
        let Confirm::Pieces(pieces) = &self.confirm else { return };
        for index in range {
            if self.has_failed() || ground.tally.is_stopped() {
                return;
            }
            if are_zeros {
                let len = piece_len(self.spec.size, index);
                pieces.put(index, piece_hash_zeros(ground.algo, index, len as usize));
            } else {
                self.hash_back(ground, index);
            }
        }
    }

    /// Reads a piece back from the target and hashes it.
    fn hash_back(&self, ground: &Ground<'_>, index: u64) {
        let Confirm::Pieces(pieces) = &self.confirm else { return };
        let mut bytes = READ_BACK.take();
        let read = self.begun(ground).and_then(|out| self.read_piece(&out, index, &mut bytes));
        match read {
            Ok(()) => pieces.put(index, piece_hash(ground.algo, index, &bytes)),
            Err(error) => self.fail(Failure::Target(error)),
        }
        READ_BACK.set(bytes);
    }

    fn read_piece(&self, out: &Out, index: u64, bytes: &mut Vec<u8>) -> Result<(), TreeError> {
        bytes.resize(piece_len(self.spec.size, index) as usize, 0);
        let mut filled = 0;
        while let (Out::Open(file), true) = (out, filled < bytes.len()) {
            let read = file.read_at(index * PIECE_LEN as u64 + filled as u64, &mut bytes[filled..])?;
            if read == 0 {
                let source = std::io::ErrorKind::UnexpectedEof.into();
                return Err(TreeError::Write { path: self.spec.path.clone(), source });
            }
            filled += read;
        }
        Ok(())
    }

    fn finish(&self, ground: &Ground<'_>) {
        let finished = if self.has_failed() || ground.tally.is_stopped() { Ok(()) } else { self.try_finish(ground) };
        if let Err(failure) = finished {
            self.fail(failure);
        }
        // What is unfinished is removed when it is dropped.
        *self.out.write().unwrap_or_else(PoisonError::into_inner) = Out::Closed;
        if let Some(failure) = self.failure.get() {
            if let Some(link) = self.spec.link {
                ground.tally.counts().failed_links.insert(link, failure.data());
            }
            ground.tally.fail(&self.spec.source_path, failure);
        }
    }

    fn try_finish(&self, ground: &Ground<'_>) -> Result<(), Failure> {
        drop(self.begun(ground).map_err(Failure::Target)?);
        if let Some(found) = self.hash_of_whole(ground)?
            && found != self.spec.hash.0
        {
            return Err(Failure::Damaged("its bytes do not have the hash that was recorded for it".to_owned()));
        }
        if ground.tally.is_stopped() {
            return Ok(());
        }
        let mut out = self.out.write().unwrap_or_else(PoisonError::into_inner);
        let Out::Open(file) = std::mem::replace(&mut *out, Out::Closed) else { return Ok(()) };
        let is_stopped = || ground.tally.is_stopped() || ground.observer.is_cancelled();
        let finished = file.finish_unless(&self.spec.meta, self.spec.existing, &is_stopped);
        let outcome = finished.map_err(Failure::Target)?;
        drop(out);
        self.note_finished(ground, outcome);
        Ok(())
    }

    /// The hash of what is in the target; `None` where the chunk's own hash has shown it.
    fn hash_of_whole(&self, ground: &Ground<'_>) -> Result<Option<[u8; 32]>, Failure> {
        let mut hasher = FileHasher::new(ground.algo);
        match &self.confirm {
            Confirm::ByChunk => return Ok(None),
            Confirm::Pieces(pieces) => {
                for hash in pieces.hashes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                    let missing = || Failure::Damaged("a part of it was never written".to_owned());
                    hasher.push(hash.ok_or_else(missing)?, &[]);
                }
            }
            Confirm::Whole => {
                let out = self.out.read().unwrap_or_else(PoisonError::into_inner);
                let mut bytes = Vec::new();
                for index in 0..self.spec.size.div_ceil(PIECE_LEN as u64) {
                    if ground.observer.is_cancelled() {
                        ground.tally.stop(EngineError::Interrupted);
                    }
                    if ground.tally.is_stopped() {
                        return Ok(None);
                    }
                    self.read_piece(&out, index, &mut bytes).map_err(Failure::Target)?;
                    hasher.push(piece_hash(ground.algo, index, &bytes), &bytes);
                }
            }
        }
        Ok(Some(hasher.finish()))
    }
}

impl Pieces {
    /// Whether piece `index` is complete with these bytes.
    fn subtract(&self, index: u64, bytes: u32) -> bool {
        let left = usize::try_from(index).ok().and_then(|index| self.left.get(index));
        left.is_some_and(|left| left.fetch_sub(bytes, Ordering::AcqRel) == bytes)
    }

    fn put(&self, index: u64, hash: PieceHash) {
        let mut hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = usize::try_from(index).ok().and_then(|index| hashes.get_mut(index)) {
            *slot = Some(hash);
        }
    }
}

/// Bytes of piece `index` of a file.
fn piece_len(size: u64, index: u64) -> u32 {
    let rest = size.saturating_sub(index * PIECE_LEN as u64);
    u32::try_from(rest.min(PIECE_LEN as u64)).unwrap_or(0)
}

/// The pieces that a range touches, and how many of its bytes lie in each.
fn overlaps(at: u64, len: u64) -> impl Iterator<Item = (u64, u32)> {
    let piece = PIECE_LEN as u64;
    let end = at + len;
    let touched = if len == 0 { 0..0 } else { at / piece..end.div_ceil(piece) };
    touched.map(move |index| {
        let (from, to) = (at.max(index * piece), end.min((index + 1) * piece));
        (index, u32::try_from(to.saturating_sub(from)).unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_shared_out_over_the_pieces_that_it_touches() {
        let piece = PIECE_LEN as u64;
        let shares = |at, len| overlaps(at, len).collect::<Vec<_>>();
        assert_eq!(shares(0, 10), [(0, 10)]);
        assert_eq!(shares(piece - 1, 2), [(0, 1), (1, 1)]);
        assert_eq!(shares(piece, piece + 5), [(1, 4 << 20), (2, 5)]);
        assert_eq!(shares(7, 0), []);
        assert_eq!((piece_len(piece + 3, 0), piece_len(piece + 3, 1), piece_len(3, 1)), (4 << 20, 3, 0));
    }
}
