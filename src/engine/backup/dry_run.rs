//! `backup --dry-run`: walks, compares, reads and hashes as a backup does, and looks up what would be new; writes nothing,
//! locks nothing, and needs no volume. What a backup first brings in from its volumes is not known to it.

use super::items::{FileJob, HashStep, HashedPiece, InodeKey, Item, LargePart, ReadAttrs, ReadFile};
use super::jobs::{HashContext, content_problem};
use super::layout::{note_holes, zeros_of};
use super::lookup::Lookup;
use super::origin::Origin;
use super::prior::Prior;
use super::rows::version_of;
use super::{BackupOptions, WALK_THREADS_MAX, detection, finish};
use crate::catalog::changes::ChangeKind;
use crate::catalog::contents::ExtentBuilder;
use crate::catalog::runs;
use crate::catalog::versions::{Change, is_same_but_names};
use crate::catalog::view::{self, AsOf};
use crate::catalog::{Catalog, CatalogError};
use crate::codec::chunker::Chunker;
use crate::codec::hash::FileHasher;
use crate::engine::error::{EngineError, Result};
use crate::engine::observer::{Expected, Observer, Phase};
use crate::engine::repository::Repository;
use crate::format::manifest::RunCounts;
use crate::model::entry::EntryKind;
use crate::model::ids::{ChunkId, ChunkNo, FileHash, RunSeq, SourceId};
use crate::model::path::join;
use crate::model::problem::Problem;
use crate::model::version::{EndReason, Object, Version};
use crate::tree::names::Names;
use hashbrown::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::time::Instant;

/// What a backup would do.
#[derive(Debug, Clone)]
pub struct DryRunReport {
    /// `host:name` of the source.
    pub source: String,
    /// The run that it would follow.
    pub against: Option<RunSeq>,
    /// Counts and bytes; nothing is stored.
    pub counts: RunCounts,
    /// Those of the deleted that are only no longer selected.
    pub excluded: u64,
    /// Source files that could not be read, or not soundly.
    pub problems: Vec<Problem>,
    /// Paths that a list names and that something else leaves out.
    pub listed_left_out: Vec<Vec<u8>>,
    /// Seconds.
    pub duration_s: f64,
}

/// Takes each path that would change.
pub type EachChange<'e> = &'e mut dyn FnMut(ChangeKind, &[u8]);

/// Tells what a backup of a tree would do now.
pub fn dry_run(
    repository: &Repository,
    options: &BackupOptions,
    observer: &dyn Observer,
    each: EachChange<'_>,
) -> Result<DryRunReport> {
    let began = Instant::now();
    let origin = Origin::new(options)?;
    origin.check(repository)?;
    let settings = repository.settings();
    let chunker = Chunker::new(&settings.chunker)
        .map_err(|error| EngineError::Fault(format!("the catalog's chunker parameters: {error}")))?;
    let conn = repository.catalog.conn();
    // A source that is not there has no rows under any number.
    let source = origin.find(repository)?.map_or(SourceId(0), |source| source.id);
    let against = runs::newest_complete(conn, source)?.map(|run| run.seq);
    let prior = Prior::new(repository.catalog.reader()?, source, against.is_none())?;
    observer.begin(Phase::Backup, Expected::default());
    let threads = if options.single_threaded { 0 } else { WALK_THREADS_MAX };
    let mut input = origin.input(repository, (prior, detection(options, against)), (threads, chunker), observer)?;
    let mut rehearsal = Rehearsal {
        catalog: &repository.catalog,
        before: against.map(|run| AsOf { source, run }),
        lookup: Lookup::new(repository.catalog.reader()?, Vec::new()),
        context: HashContext { algo: settings.hash, chunker },
        new: HashSet::new(),
        large: None,
        last_no: 0,
        names: Names::default(),
        links: HashMap::new(),
        counts: RunCounts::default(),
        excluded: 0,
        problems: Vec::new(),
        each,
    };
    let mut failure = None;
    let flow = input.run(&mut |job| {
        if observer.is_cancelled() {
            return ControlFlow::Break(());
        }
        let taken = rehearsal.take(job.run(&rehearsal.context), observer);
        taken.map_or_else(
            |error| {
                failure = Some(error);
                ControlFlow::Break(())
            },
            ControlFlow::Continue,
        )
    })?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    if flow.is_break() || observer.is_cancelled() {
        return Err(EngineError::Interrupted);
    }
    let seen = input.into_seen();
    let Rehearsal { counts, excluded, problems, .. } = rehearsal;
    let counts = finish::whole_counts(counts, (&seen, &problems));
    Ok(DryRunReport {
        source: format!("{}:{}", origin.host, origin.name),
        against,
        counts,
        excluded,
        listed_left_out: seen.listed_left_out,
        problems: seen.problems.into_iter().chain(problems).collect(),
        duration_s: began.elapsed().as_secs_f64(),
    })
}

struct Rehearsal<'r> {
    catalog: &'r Catalog,
    before: Option<AsOf>,
    lookup: Lookup,
    context: HashContext,
    /// Chunks that would be new, once each.
    new: HashSet<ChunkId>,
    large: Option<(FileHasher, ExtentBuilder)>,
    /// Stands for the numbers that chunks would get: only where zeros lie is asked for.
    last_no: i64,
    names: Names,
    /// What files with several names hold, with their attributes.
    links: HashMap<InodeKey, (FileHash, u64, Vec<u8>)>,
    counts: RunCounts,
    excluded: u64,
    problems: Vec<Problem>,
    each: EachChange<'r>,
}

type Done = std::result::Result<(), CatalogError>;

impl Rehearsal<'_> {
    fn take(&mut self, item: Item, observer: &dyn Observer) -> Done {
        match item {
            Item::Row(row) => {
                let path = join(&row.dir, &row.name);
                match row.change {
                    Change::Put { version, .. } => self.put(&path, &version),
                    Change::End(reason) => self.end(&path, reason),
                    Change::Touch { .. } => Ok(()),
                }
            }
            Item::Batch { buffer: _, files } => {
                for (job, outcome) in files {
                    match outcome {
                        Ok((read, pieces)) => {
                            observer.advance(1, read.size);
                            self.counts.bytes_read += read.size;
                            let mut extents = ExtentBuilder::default();
                            self.pieces(&pieces, &mut extents)?;
                            self.file(&job, read, extents)?;
                        }
                        Err(problem) => self.problems.push(problem),
                    }
                }
                Ok(())
            }
            Item::Part(part) => self.part(part, observer),
            Item::LargeEnd { job, stat, size, is_inconsistent, attrs } => {
                let Some((hasher, extents)) = self.large.take() else { return Ok(()) };
                let hash = FileHash(hasher.finish());
                self.file(&job, ReadFile { stat, hash, size, is_inconsistent, attrs: *attrs }, extents)
            }
            Item::LargeFailed(problem) => {
                self.large = None;
                self.problems.push(problem);
                Ok(())
            }
            Item::LinkTo(job) => {
                let key = InodeKey { dev: job.stat.dev, ino: job.stat.ino };
                match self.links.get(&key).cloned() {
                    Some((hash, size, attrs)) => {
                        let owner = self.names.owner(job.stat.uid, job.stat.gid);
                        let version = version_of(&job.stat, owner, job.link, Object::Content(hash));
                        self.put(&join(&job.dir.path, &job.name), &Version { size, attrs, ..version })
                    }
                    // Its first name could not be read, and that is told.
                    None => Ok(()),
                }
            }
            Item::Rescued { .. } => Ok(()),
        }
    }

    fn part(&mut self, part: LargePart, observer: &dyn Observer) -> Done {
        let LargePart { is_restart, buffer, pieces, hashes, .. } = part;
        let large = self.large.take().filter(|_| !is_restart);
        let (mut hasher, mut extents) =
            large.unwrap_or_else(|| (FileHasher::new(self.context.algo), ExtentBuilder::default()));
        for step in hashes {
            match step {
                HashStep::Piece { hash, range } => {
                    observer.advance(0, range.len() as u64);
                    self.counts.bytes_read += range.len() as u64;
                    hasher.push(hash, &buffer[range]);
                }
                HashStep::Zeros(len) => {
                    observer.advance(0, len);
                    hasher.push_zeros(len);
                }
            }
        }
        self.pieces(&pieces, &mut extents)?;
        self.large = Some((hasher, extents));
        Ok(())
    }

    fn pieces(&mut self, pieces: &[HashedPiece], extents: &mut ExtentBuilder) -> Done {
        for piece in pieces {
            match piece {
                HashedPiece::Chunk { range, .. } => {
                    self.last_no += 1;
                    // Chunks are bounded by 4 MiB.
                    extents.push_chunk(ChunkNo(self.last_no), u32::try_from(range.len()).unwrap_or(u32::MAX));
                }
                HashedPiece::Zeros(len) => extents.push_zeros(*len),
            }
        }
        let chunks = || {
            pieces.iter().filter_map(|piece| match piece {
                HashedPiece::Chunk { id, range, .. } => Some((id, range.len() as u64)),
                HashedPiece::Zeros(_) => None,
            })
        };
        let known = self.lookup.find_all(chunks().map(|(id, _)| id))?;
        for ((id, len), known) in chunks().zip(known) {
            if !known.is_some_and(|known| known.is_usable) && self.new.insert(*id) {
                self.counts.bytes_new += len;
            }
        }
        Ok(())
    }

    fn file(&mut self, job: &FileJob, read: ReadFile, extents: ExtentBuilder) -> Done {
        self.problems.extend(content_problem(job, &read));
        let ReadAttrs { body: mut attrs, holes, problem } = read.attrs;
        let (extents, size) = extents.finish();
        note_holes(&mut attrs, holes.as_ref(), &zeros_of(&extents, size));
        self.problems.extend(problem);
        if job.link != 0 {
            let key = InodeKey { dev: job.stat.dev, ino: job.stat.ino };
            self.links.insert(key, (read.hash, read.size, attrs.clone()));
        }
        let owner = self.names.owner(read.stat.uid, read.stat.gid);
        let mut version = version_of(&read.stat, owner, job.link, Object::Content(read.hash));
        (version.size, version.attrs, version.inconsistent) = (read.size, attrs, read.is_inconsistent);
        self.put(&join(&job.dir.path, &job.name), &version)
    }

    fn put(&mut self, path: &[u8], version: &Version) -> Done {
        let conn = self.catalog.conn();
        let old = match self.before {
            Some(before) => view::entry(conn, before, path)?,
            None => None,
        };
        let Some(old) = old else {
            self.counts.added += 1;
            (self.each)(ChangeKind::Added, path);
            return Ok(());
        };
        let old = old.version.resolve(conn)?;
        if old.row_hash(path) == version.row_hash(path) || is_same_but_names(&old, version) {
            return Ok(());
        }
        if old.kind == EntryKind::Dir && version.kind != EntryKind::Dir {
            self.end_below(path, EndReason::Deleted)?;
        }
        let is_modified = old.kind != version.kind || old.object != version.object;
        let (count, kind) = match is_modified {
            true => (&mut self.counts.modified, ChangeKind::Modified),
            false => (&mut self.counts.metadata, ChangeKind::Metadata),
        };
        *count += 1;
        (self.each)(kind, path);
        Ok(())
    }

    fn end(&mut self, path: &[u8], reason: EndReason) -> Done {
        let Some(before) = self.before else { return Ok(()) };
        let Some(old) = view::entry(self.catalog.conn(), before, path)? else { return Ok(()) };
        self.one_ends(path, reason);
        if old.version.kind == EntryKind::Dir { self.end_below(path, reason) } else { Ok(()) }
    }

    fn end_below(&mut self, path: &[u8], reason: EndReason) -> Done {
        let Some(before) = self.before else { return Ok(()) };
        let conn = self.catalog.conn();
        let mut below = view::Walk::below(conn, before, path)?;
        while let Some(page) = below.next_page(conn)? {
            page.iter().for_each(|entry| self.one_ends(&entry.path, reason));
        }
        Ok(())
    }

    fn one_ends(&mut self, path: &[u8], reason: EndReason) {
        self.counts.deleted += 1;
        self.excluded += u64::from(reason == EndReason::Excluded);
        let kind = if reason == EndReason::Excluded { ChangeKind::Excluded } else { ChangeKind::Deleted };
        (self.each)(kind, path);
    }
}
