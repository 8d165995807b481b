//! The one ordered assembler: takes items in the order of the walk, looks every chunk up or claims it, numbers the new
//! ones and packs them into the open segments of their directory's volume, and turns files into rows.

use super::commit::CommitMsg;
use super::items::{
    DirContext, FileJob, HashStep, HashedPiece, InodeKey, Item, LargePart, RawSegment, ReadAttrs, ReadFile,
    SegmentChunk, SmallOutcome, StagedChange, StagedFile, StagedRow,
};
use super::jobs::content_problem;
use super::layout::{note_holes, zeros_of};
use super::lookup::Lookup;
use super::place::Placement;
use super::rows::{detection_of, version_of};
use crate::catalog::CatalogError;
use crate::catalog::chunks::KnownChunk;
use crate::catalog::contents::ExtentBuilder;
use crate::catalog::versions::Change;
use crate::codec::compress::looks_incompressible;
use crate::codec::hash::FileHasher;
use crate::engine::observer::Observer;
use crate::model::content::Content;
use crate::model::ids::{ChunkId, ChunkNo, FileHash};
use crate::model::limits::SEGMENT_RAW_MAX;
use crate::model::params::HashAlgo;
use crate::model::problem::{Problem, ProblemOp};
use crate::model::version::Object;
use crate::tree::names::Names;
use crossbeam_channel::{Receiver, Sender};
use hashbrown::HashMap;
use std::sync::Arc;

/// Chunks of one segment at most: its share of the bound on a block's table.
const SEGMENT_CHUNKS_MAX: usize = 50_000;

/// Takes a segment for a lane.
pub type PutSegment<'p> = Box<dyn FnMut(usize, RawSegment) + Send + 'p>;

/// A chunk of this run that is not in the catalog yet.
#[derive(Debug, Clone, Copy)]
struct Claim {
    no: ChunkNo,
    ticket: u64,
}

/// What the assembler is connected to.
pub struct Wiring<'w> {
    /// For looking chunks up.
    pub lookup: Lookup,
    /// Chunks that the catalog has from now on.
    pub known: Receiver<Vec<ChunkId>>,
    /// To the committer.
    pub commits: Sender<CommitMsg>,
    /// To the lanes.
    pub put_segment: PutSegment<'w>,
    /// Who watches.
    pub observer: &'w dyn Observer,
}

/// What was read and found new.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Bytes of new chunks.
    pub bytes_new: u64,
    /// Files that could not be read, or not soundly.
    pub problems: Vec<Problem>,
}

/// The content of a file whose pieces are being gathered.
#[derive(Default)]
struct Gathered {
    extents: ExtentBuilder,
    needs: u64,
}

/// What all names of an inode have in common.
#[derive(Clone)]
struct LinkedContent {
    content: Content,
    /// All segments below this ticket must be durable before a row may name the content.
    needs: u64,
    attrs: Vec<u8>,
    attrs_known: bool,
}

struct LargeFile {
    gathered: Gathered,
    hasher: FileHasher,
}

/// See the module.
pub struct Assembler<'w> {
    wiring: Wiring<'w>,
    placement: Placement,
    algo: HashAlgo,
    claims: HashMap<ChunkId, Claim>,
    next_no: i64,
    next_ticket: u64,
    open: Vec<[Option<RawSegment>; 2]>,
    links: HashMap<InodeKey, LinkedContent>,
    names: Names,
    large: Option<LargeFile>,
    staged: Vec<StagedRow>,
    /// What was read.
    pub tally: Tally,
}

type Result<T> = std::result::Result<T, CatalogError>;

impl<'w> Assembler<'w> {
    /// With nothing open. Chunk numbers go on behind the catalog's.
    pub fn new(wiring: Wiring<'w>, placement: Placement, algo: HashAlgo) -> Result<Self> {
        let next_no = wiring.lookup.next_chunk_no()?;
        let open = (0..placement.lane_count()).map(|_| [None, None]).collect();
        Ok(Self {
            wiring,
            placement,
            algo,
            claims: HashMap::new(),
            next_no,
            next_ticket: 0,
            open,
            links: HashMap::new(),
            names: Names::default(),
            large: None,
            staged: Vec::new(),
            tally: Tally::default(),
        })
    }

    /// Takes the next item.
    pub fn push(&mut self, item: Item) -> Result<()> {
        for ids in self.wiring.known.try_iter() {
            for id in ids {
                self.claims.remove(&id);
            }
        }
        self.take(item)?;
        if !self.staged.is_empty() {
            let rows = std::mem::take(&mut self.staged);
            self.send(CommitMsg::Rows(rows));
        }
        Ok(())
    }

    fn take(&mut self, item: Item) -> Result<()> {
        match item {
            Item::Row(row) => {
                let change = StagedChange::Ready(Box::new(row.change));
                self.stage(StagedRow { dir: row.dir, name: row.name, change, needs: 0 });
                Ok(())
            }
            Item::Batch { buffer, files } => {
                let pieces =
                    files.iter().filter_map(|(_, outcome)| outcome.as_ref().ok()).flat_map(|(_, pieces)| pieces);
                let mut known = self.known_of(pieces)?.into_iter();
                for (job, outcome) in files {
                    self.small(&job, outcome, (&buffer, &mut known))?;
                }
                Ok(())
            }
            Item::Part(part) => self.part(part),
            Item::LargeEnd { job, stat, size, is_inconsistent, attrs } => {
                let Some(large) = self.large.take() else { return Ok(()) };
                let hash = FileHash(large.hasher.finish());
                self.file(&job, ReadFile { stat, hash, size, is_inconsistent, attrs: *attrs }, large.gathered);
                Ok(())
            }
            Item::LargeFailed(problem) => {
                self.large = None;
                self.tally.problems.push(problem);
                Ok(())
            }
            Item::LinkTo(job) => {
                self.further_name(&job);
                Ok(())
            }
            Item::Rescued { buffer, chunks } => {
                let known = self.wiring.lookup.find_all(chunks.iter().map(|(id, _)| id))?;
                for ((id, range), known) in chunks.into_iter().zip(known) {
                    let bytes = &buffer[range];
                    self.chunk(None, (id, bytes), (known, looks_incompressible(bytes)));
                }
                Ok(())
            }
        }
    }

    /// Sends what is in the open segments on its way.
    pub fn flush(&mut self) {
        for lane in 0..self.open.len() {
            for slot in 0..2 {
                if let Some(segment) = self.open[lane][slot].take() {
                    (self.wiring.put_segment)(lane, segment);
                }
            }
        }
    }

    /// What the catalog has of the chunks among `pieces`, in their order.
    fn known_of<'p>(&mut self, pieces: impl Iterator<Item = &'p HashedPiece>) -> Result<Vec<Option<KnownChunk>>> {
        self.wiring.lookup.find_all(pieces.filter_map(|piece| match piece {
            HashedPiece::Chunk { id, .. } => Some(id),
            HashedPiece::Zeros(_) => None,
        }))
    }

    fn small(
        &mut self,
        job: &FileJob,
        outcome: SmallOutcome,
        (buffer, known): (&[u8], &mut std::vec::IntoIter<Option<KnownChunk>>),
    ) -> Result<()> {
        match outcome {
            Ok((read, pieces)) => {
                let mut gathered = Gathered::default();
                for piece in pieces {
                    self.piece(&job.dir, &piece, (buffer, known), &mut gathered);
                }
                self.tally.bytes_read += read.size;
                self.wiring.observer.advance(1, read.size);
                self.file(job, read, gathered);
            }
            Err(problem) => self.tally.problems.push(problem),
        }
        Ok(())
    }

    fn part(&mut self, part: LargePart) -> Result<()> {
        let LargePart { dir, is_restart, buffer, pieces, hashes } = part;
        let large = self.large.take().filter(|_| !is_restart);
        let mut large =
            large.unwrap_or_else(|| LargeFile { gathered: Gathered::default(), hasher: FileHasher::new(self.algo) });
        let mut bytes = 0;
        for step in hashes {
            match step {
                HashStep::Piece { hash, range } => {
                    bytes += range.len() as u64;
                    large.hasher.push(hash, &buffer[range]);
                }
                HashStep::Zeros(len) => {
                    self.wiring.observer.advance(0, len);
                    large.hasher.push_zeros(len);
                }
            }
        }
        let mut known = self.known_of(pieces.iter())?.into_iter();
        for piece in &pieces {
            self.piece(&dir, piece, (&buffer, &mut known), &mut large.gathered);
        }
        self.tally.bytes_read += bytes;
        self.wiring.observer.advance(0, bytes);
        self.large = Some(large);
        Ok(())
    }

    fn piece(
        &mut self,
        dir: &Arc<DirContext>,
        piece: &HashedPiece,
        (buffer, known): (&[u8], &mut std::vec::IntoIter<Option<KnownChunk>>),
        gathered: &mut Gathered,
    ) {
        match piece {
            HashedPiece::Zeros(len) => gathered.extents.push_zeros(*len),
            HashedPiece::Chunk { id, range, is_incompressible } => {
                let bytes = &buffer[range.clone()];
                let (no, needs) = self.chunk(Some(dir), (*id, bytes), (known.next().flatten(), *is_incompressible));
                let len = u32::try_from(bytes.len()).expect("chunks are bounded by 4 MiB");
                gathered.extents.push_chunk(no, len);
                gathered.needs = gathered.needs.max(needs);
            }
        }
    }

    /// The chunk's number, and the ticket below which all must be durable before a row may name it. `known` is what the
    /// catalog had of it. Without a directory it goes wherever is being filled.
    fn chunk(
        &mut self,
        dir: Option<&Arc<DirContext>>,
        (id, bytes): (ChunkId, &[u8]),
        (known, is_incompressible): (Option<KnownChunk>, bool),
    ) -> (ChunkNo, u64) {
        if let Some(claim) = self.claims.get(&id) {
            return (claim.no, claim.ticket + 1);
        }
        let no = match known {
            Some(known) if known.is_usable => return (known.no, 0),
            Some(damaged) => damaged.no,
            None => {
                self.next_no += 1;
                ChunkNo(self.next_no - 1)
            }
        };
        let lane = match dir {
            Some(dir) => self.lane_of(dir, bytes.len()),
            None => self.placement.lane_for_any(bytes.len() as u64),
        };
        let slot = usize::from(is_incompressible);
        let len = u32::try_from(bytes.len()).expect("chunks are bounded by 4 MiB");
        let is_full = self.open[lane][slot].as_ref().is_some_and(|segment| {
            segment.bytes.len() + bytes.len() > SEGMENT_RAW_MAX || segment.chunks.len() >= SEGMENT_CHUNKS_MAX
        });
        if is_full && let Some(segment) = self.open[lane][slot].take() {
            (self.wiring.put_segment)(lane, segment);
        }
        let segment = self.open[lane][slot].get_or_insert_with(|| {
            self.next_ticket += 1;
            RawSegment {
                ticket: self.next_ticket - 1,
                bytes: Vec::with_capacity(SEGMENT_RAW_MAX),
                chunks: Vec::new(),
                compress: !is_incompressible,
            }
        });
        segment.bytes.extend_from_slice(bytes);
        segment.chunks.push(SegmentChunk { id, len, no });
        let ticket = segment.ticket;
        self.claims.insert(id, Claim { no, ticket });
        self.tally.bytes_new += bytes.len() as u64;
        (no, ticket + 1)
    }

    fn lane_of(&mut self, dir: &Arc<DirContext>, len: usize) -> usize {
        let (lane, is_new) = self.placement.lane_for(&dir.path, dir.affinity, len as u64);
        if is_new {
            let volume = self.placement.volume_of(lane);
            self.send(CommitMsg::Affinity { dir: dir.path.to_vec(), volume });
        }
        lane
    }

    fn file(&mut self, job: &FileJob, read: ReadFile, gathered: Gathered) {
        let (extents, size) = gathered.extents.finish();
        let content = Content { size, hash: read.hash, extents };
        let problem = content_problem(job, &read);
        self.tally.problems.extend(problem);
        let ReadAttrs { body: mut attrs, holes, problem } = read.attrs;
        let attrs_known = problem.is_none();
        note_holes(&mut attrs, holes.as_ref(), &zeros_of(&content.extents, size));
        self.tally.problems.extend(problem);
        let linked = LinkedContent { content, needs: gathered.needs, attrs, attrs_known };
        if job.link != 0 {
            let key = InodeKey { dev: job.stat.dev, ino: job.stat.ino };
            self.links.insert(key, linked.clone());
        }
        self.stage_file(job, &read.stat, linked, read.is_inconsistent);
    }

    fn further_name(&mut self, job: &FileJob) {
        let key = InodeKey { dev: job.stat.dev, ino: job.stat.ino };
        match self.links.get(&key).cloned() {
            Some(linked) => self.stage_file(job, &job.stat, linked, false),
            None => self.tally.problems.push(Problem {
                path: crate::model::path::join(&job.dir.path, &job.name),
                op: ProblemOp::Read,
                errno: None,
                text: "another name of the same file could not be read".to_owned(),
            }),
        }
    }

    fn stage_file(
        &mut self,
        job: &FileJob,
        stat: &crate::model::entry::Stat,
        LinkedContent { content, needs, attrs, attrs_known }: LinkedContent,
        inconsistent: bool,
    ) {
        let owner = self.names.owner(stat.uid, stat.gid);
        let mut version = version_of(stat, owner, job.link, Object::Content(content.hash));
        version.size = content.size;
        version.inconsistent = inconsistent;
        version.attrs = attrs;
        let detection = detection_of(stat, job.dir.racy_within_ns, attrs_known);
        let expected = job.expected.map(|content| (content, stat.dev));
        let file = StagedFile { change: Change::Put { version, content: None, detection }, content, expected };
        let dir: Arc<[u8]> = Arc::clone(&job.dir.path);
        self.stage(StagedRow { dir, name: job.name.clone(), change: StagedChange::File(Box::new(file)), needs });
    }

    fn stage(&mut self, row: StagedRow) {
        self.staged.push(row);
    }

    fn send(&self, message: CommitMsg) {
        // The committer is gone only when the attempt has failed; then nothing more matters.
        drop(self.wiring.commits.send(message));
    }
}
