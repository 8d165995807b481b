//! Looking at one copy of a block: is it there, is it as long as it should be, does it hash to its name, do its
//! segments decode to chunks that hash to theirs. Each byte is read once.

use super::Level;
use super::plan::Job;
use crate::codec::compress::with_decoder;
use crate::codec::hash::Hasher;
use crate::engine::Observer;
use crate::engine::block_file::{ReadError, SegmentRef, decode_segment, is_chunk, read_header, read_table};
use crate::format::block::{BlockTable, SegmentEntry};
use crate::format::container::{ContainerKind, SEGMENT_HEADER_LEN};
use crate::format::layout;
use crate::model::ids::{BlockId, RepositoryUuid};
use crate::model::params::HashAlgo;
use crate::volume::store::{Object, Store, StoreError};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::cell::RefCell;
use std::sync::Mutex;

/// Bytes read at a time where nothing is decoded: they stay in the cache from the read to the hash.
const PIECE_LEN: usize = 512 << 10;
/// Bytes after which the page cache is told to forget what was read.
const FORGET_STEP: u64 = 8 << 20;

/// What is wrong with a copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    #[error("it is missing")]
    Missing,
    #[error("it was on a volume that is given up or removed, and is nowhere else")]
    GivenUp,
    #[error("it has {found} bytes, not {expected}")]
    Size { found: u64, expected: u64 },
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    #[error("its bytes do not hash to its name")]
    Hash,
    #[error("its content is damaged: {0}")]
    Content(String),
}

/// Why looking ended early.
pub(super) enum Stop {
    Damage(Damage),
    Cancelled,
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Damage(match error {
            ReadError::Store(StoreError::NotFound { .. }) => Damage::Missing,
            ReadError::Store(error) => Damage::Unreadable(error.to_string()),
            other => Damage::Content(other.to_string()),
        })
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        ReadError::from(error).into()
    }
}

/// What was looked at, whatever came of it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub bytes: u64,
    pub chunks: u64,
    /// The block's own table, when its segments were decoded.
    pub table: Option<BlockTable>,
}

/// What all checks share.
pub(super) struct Checker<'a> {
    pub algo: HashAlgo,
    pub repository: RepositoryUuid,
    pub observer: &'a dyn Observer,
    /// There when any block is looked at in full.
    pub decoding: Option<Decoding>,
}

/// Where segments are decoded, and the buffers in which they wait for it: the bound of what is in memory.
pub(super) struct Decoding {
    pool: rayon::ThreadPool,
    free: Receiver<Vec<u8>>,
    give_back: Sender<Vec<u8>>,
}

impl Decoding {
    /// At most this many threads, so that decoded segments take at most 64 MiB.
    const WORKERS_MAX: usize = 16;
    /// At most this many segments wait, of 4 MiB at most each.
    const BUFFERS_MAX: usize = 24;

    pub fn new(workers: Option<usize>) -> Result<Self, rayon::ThreadPoolBuildError> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = workers.unwrap_or(cores).clamp(1, Self::WORKERS_MAX);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(workers)
            .thread_name(|index| format!("decode-{index}"))
            .build()?;
        let count = (workers * 2).clamp(4, Self::BUFFERS_MAX);
        let (give_back, free) = bounded(count);
        for _ in 0..count {
            let _ = give_back.send(Vec::new());
        }
        Ok(Self { pool, free, give_back })
    }
}

thread_local! {
    /// A decoded segment: kept, because giving 4 MiB back and taking them again costs as much as half their decoding.
    static RAW: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Checker<'_> {
    /// Looks at one copy as deep as its job says.
    pub fn check(&self, store: &dyn Store, job: &Job, tally: &mut Tally) -> Result<(), Stop> {
        let key = layout::block_key(&job.id);
        if job.level == Level::Quick {
            let found = store.head(&key)?.ok_or(Stop::Damage(Damage::Missing))?;
            return check_size(found, job.size);
        }
        let object = store.open(&key)?;
        check_size(object.len(), job.size)?;
        match (&self.decoding, job.level) {
            // A parity has nothing that could be decoded: its name tells all.
            (Some(decoding), Level::Deep) if !job.is_parity => self.check_deep(decoding, &*object, (job.id, tally)),
            _ => {
                let mut stream = self.stream(&*object);
                let read = stream.pass_to(object.len());
                tally.bytes += stream.at;
                read?;
                check_name(stream.hasher, job.id)
            }
        }
    }

    /// Reads segment by segment, in file order, by the block's own table; the pool decodes while this thread reads
    /// and hashes on.
    fn check_deep(
        &self,
        decoding: &Decoding,
        object: &dyn Object,
        (id, tally): (BlockId, &mut Tally),
    ) -> Result<(), Stop> {
        let header = read_header(object)?;
        if header.kind != ContainerKind::Block || header.repository != self.repository || header.hash != self.algo {
            return Err(Stop::Damage(Damage::Content("its header is that of something else".to_owned())));
        }
        let table = read_table(object)?;
        let first_bad = Mutex::new(None);
        let mut stream = self.stream(object);
        let read = decoding.pool.in_place_scope(|scope| -> Result<(), Stop> {
            for segment in &table.segments {
                stream.pass_to(segment.offset)?;
                let Ok(mut buffer) = decoding.free.recv() else {
                    return Err(Stop::Cancelled);
                };
                buffer.resize(SEGMENT_HEADER_LEN + segment.stored_len as usize, 0);
                if let Err(stop) = stream.take(&mut buffer) {
                    let _ = decoding.give_back.send(buffer);
                    return Err(stop);
                }
                let (algo, first_bad) = (self.algo, &first_bad);
                scope.spawn(move |_| {
                    let found = check_segment(algo, segment, &buffer);
                    // There is room for every buffer, so this never waits.
                    let _ = decoding.give_back.send(buffer);
                    if let (Err(what), Ok(mut first)) = (found, first_bad.lock()) {
                        first.get_or_insert(what);
                    }
                });
            }
            stream.pass_to(object.len())
        });
        tally.bytes += stream.at;
        read?;
        tally.chunks += table.chunk_count() as u64;
        check_name(stream.hasher, id)?;
        if let Some(what) = first_bad.into_inner().unwrap_or_default() {
            return Err(Stop::Damage(Damage::Content(what)));
        }
        tally.table = Some(table);
        Ok(())
    }

    fn stream<'o>(&'o self, object: &'o dyn Object) -> Stream<'o> {
        Stream {
            object,
            observer: self.observer,
            hasher: Hasher::new(self.algo),
            at: 0,
            forgotten: 0,
            piece: Vec::new(),
        }
    }
}

fn check_size(found: u64, expected: u64) -> Result<(), Stop> {
    if found == expected { Ok(()) } else { Err(Stop::Damage(Damage::Size { found, expected })) }
}

fn check_name(hasher: Hasher, id: BlockId) -> Result<(), Stop> {
    if hasher.finalize() == id.0 { Ok(()) } else { Err(Stop::Damage(Damage::Hash)) }
}

fn check_segment(algo: HashAlgo, segment: &SegmentEntry, bytes: &[u8]) -> Result<(), String> {
    let at = segment.offset;
    RAW.with_borrow_mut(|raw| {
        with_decoder(|decoder| decode_segment(&segment_ref(segment), bytes, (decoder, raw)))
            .map_err(|error| format!("the segment at {at}: {error}"))?;
        match sound_chunks(algo, segment, raw).position(|is_sound| !is_sound) {
            None => Ok(()),
            Some(index) => Err(format!("chunk {index} of the segment at {at} does not hash to its name")),
        }
    })
}

/// Where a segment lies, by the table.
pub(super) fn segment_ref(segment: &SegmentEntry) -> SegmentRef {
    SegmentRef {
        offset: segment.offset,
        stored_len: segment.stored_len,
        raw_len: segment.raw_len,
        codec: segment.codec,
    }
}

/// Whether each chunk of a decoded segment hashes to its name, in the order of the table.
pub(super) fn sound_chunks<'s>(
    algo: HashAlgo,
    segment: &'s SegmentEntry,
    raw: &'s [u8],
) -> impl Iterator<Item = bool> + 's {
    let mut left = raw;
    segment.chunks.iter().map(move |(id, len)| match left.split_at_checked(*len as usize) {
        Some((chunk, rest)) => {
            left = rest;
            is_chunk(algo, id, chunk)
        }
        None => false,
    })
}

/// Reads an object from its start to its end, hashing every byte, forgetting what lies behind.
pub(super) struct Stream<'o> {
    object: &'o dyn Object,
    observer: &'o dyn Observer,
    hasher: Hasher,
    at: u64,
    forgotten: u64,
    piece: Vec<u8>,
}

impl Stream<'_> {
    /// Reads up to `end`.
    fn pass_to(&mut self, end: u64) -> Result<(), Stop> {
        let mut piece = std::mem::take(&mut self.piece);
        while self.at < end {
            let len = usize::try_from(end - self.at).map_or(PIECE_LEN, |left| left.min(PIECE_LEN));
            piece.resize(len, 0);
            self.take(&mut piece)?;
        }
        self.piece = piece;
        Ok(())
    }

    /// Fills `bytes` with what comes next.
    fn take(&mut self, bytes: &mut [u8]) -> Result<(), Stop> {
        if self.observer.is_cancelled() {
            return Err(Stop::Cancelled);
        }
        self.object.read_exact_at(self.at, bytes)?;
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        self.observer.advance(0, bytes.len() as u64);
        if self.at - self.forgotten >= FORGET_STEP || self.at == self.object.len() {
            self.object.forget(self.forgotten, self.at - self.forgotten);
            self.forgotten = self.at;
        }
        Ok(())
    }
}

/// The hash of a whole object.
pub(super) fn hash_object(object: &dyn Object, algo: HashAlgo, observer: &dyn Observer) -> Result<[u8; 32], Stop> {
    let mut hasher = Hasher::new(algo);
    let (mut at, mut piece) = (0, Vec::new());
    while at < object.len() {
        if observer.is_cancelled() {
            return Err(Stop::Cancelled);
        }
        let len = usize::try_from(object.len() - at).map_or(PIECE_LEN, |left| left.min(PIECE_LEN));
        piece.resize(len, 0);
        object.read_exact_at(at, &mut piece)?;
        hasher.update(&piece);
        at += len as u64;
    }
    Ok(hasher.finalize())
}
