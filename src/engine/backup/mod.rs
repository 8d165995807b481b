//! `backup`: stores one source as a new run.
//!
//! The stages, each in a file of its own: [`origin`] says what is read, [`source`] walks and compares, [`streamed`]
//! reads what lies in no tree, [`jobs`] reads and hashes on workers,
//! [`assemble`] looks chunks up and packs the new ones, [`encode`] compresses and proves, [`writer`] fills blocks,
//! [`commit`] registers them, [`early_copies`] puts them on further volumes meanwhile, [`finish`] makes the run complete, [`full_manifest`] records
//! the whole state now and then. [`attempt`] wires them together.

mod assemble;
mod attempt;
mod budget;
mod commit;
mod compare;
mod dry_run;
mod early_copies;
mod encode;
mod finish;
mod finish_rows;
mod full_manifest;
mod input;
mod items;
mod jobs;
mod lanes;
mod large;
mod layout;
mod links;
mod lookup;
mod origin;
mod place;
mod prior;
mod report;
mod rescue;
mod rows;
mod seen;
mod source;
mod streamed;
mod writer;

use self::attempt::{AttemptDone, AttemptEnd, AttemptPlan, attempt};
pub use self::dry_run::{DryRunReport, dry_run};
use self::early_copies::take_back;
pub use self::origin::StreamOptions;
pub use self::report::BackupReport;

use self::origin::Origin;
use self::prior::Prior;
use self::report::report;
use self::rescue::rescue_blocks;
use self::seen::DetectionOptions;
use self::writer::{LEASE_MIN, LaneVolume};
use super::error::{EngineError, Result};
use super::observer::{Expected, Observer, Phase};
use super::parity::held_by_next;
use super::protect::{Copied, protect_new, tell_beside, update_indexes};
use super::recover::{recover, with_what_works};
use super::repository::Repository;
use crate::catalog::redundancy;
use crate::catalog::runs::{self, Asked, Run, RunState, Source};
use crate::catalog::settings::{self, Doubt};
use crate::catalog::volumes::{self, VolumeState};
use crate::codec::chunker::Chunker;
use crate::format::manifest::RunCounts;
use crate::model::ids::{RunSeq, RunUuid, VolumeId};
use crate::model::redundancy::Redundancy;
use crate::model::run_marks::RunMarks;
use crate::tree::select::SelectOptions;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Threads that walk at most: more only contend for the directory cache.
const WALK_THREADS_MAX: usize = 4;
/// Writers when nothing else is said: one a volume, within these bounds. With two on a single volume one fills a block
/// while the other makes the last one durable.
const WRITERS_DEFAULT_MIN: usize = 2;
const WRITERS_DEFAULT_MAX: usize = 4;

/// How a source is backed up.
#[derive(Debug, Clone, Default)]
pub struct BackupOptions {
    /// The source's roots, unless it is a stream. Several need a name.
    pub roots: Vec<PathBuf>,
    /// A stream in place of a tree.
    pub stream: Option<StreamOptions>,
    /// The source's name; the root's absolute path, or `stdin:` and the stream's name, when not given.
    pub name: Option<String>,
    /// The host that the source counts as of; this one when not given.
    pub host: Option<String>,
    /// What the run is called, beside its number.
    pub marks: RunMarks,
    /// Threads that read, hash and compress; one a core when not given.
    pub workers: Option<usize>,
    /// Threads that write blocks; when not given one per volume, 2 at least and 4 at most.
    pub write_workers: Option<usize>,
    /// Everything on one thread.
    pub single_threaded: bool,
    /// Bytes of memory at which reading pauses.
    pub memory_limit: Option<u64>,
    /// Inode numbers say nothing.
    pub ignore_inode: bool,
    /// The inode's change time says nothing.
    pub ignore_ctime: bool,
    /// A changed inode time always means reading the file again.
    pub strict_ctime: bool,
    /// An empty root or mount point is meant to be empty.
    pub allow_empty: bool,
    /// Every file is read, whatever its size, times and inode say.
    pub force: bool,
    /// What was written is read back from the disk before it counts.
    pub verify_after_write: bool,
    /// What is left out.
    pub select: SelectOptions,
}

/// Backs the source up. The report's problems mean exit code 3. On an error no new run exists; what was finished of
/// it is kept for the next one.
pub fn backup(repository: &mut Repository, options: &BackupOptions, observer: &dyn Observer) -> Result<BackupReport> {
    let began = Instant::now();
    let origin = Origin::new(options)?;
    origin.check(repository)?;
    with_what_works(repository, observer, &|repository| repository.lock_volumes(observer))?;
    if options.verify_after_write {
        repository.mounted.iter_mut().for_each(|mounted| mounted.volume.verify_writes());
    }
    if repository.writable().next().is_none() {
        return Err(EngineError::NoVolume(no_volume_words(repository)));
    }
    with_what_works(repository, observer, &|repository| recover(repository, observer))?;
    if repository.writable().next().is_none() {
        return Err(EngineError::NoVolume(no_volume_words(repository)));
    }
    for row in repository.away.iter().filter(|row| row.state != VolumeState::Lost) {
        observer
            .warn(&format!("volume {} ({}) is not here; it will be brought up to date when it is", row.name, row.uuid));
    }
    let mut copied = Copied::default();
    let tried = attempts(repository, (&origin, options, &mut copied), observer);
    copied.problems.iter().for_each(|problem| observer.warn(problem));
    for volume in &copied.failed {
        settings::set_doubt(repository.catalog.conn(), (*volume, Doubt::Failed), true)?;
    }
    if tried.is_err() {
        tell_beside(repository, &copied, observer);
    }
    let (source, run, done) = tried?;
    // Interrupted here, the run is saved with fewer copies rather than read again.
    copied.add(protect_new(repository, options.single_threaded, observer)?);
    tell_beside(repository, &copied, observer);
    observer.begin(Phase::Finish, Expected::default());
    // On an error the run stays open: its manifest may be durable somewhere, and then the next start completes it.
    let counts = finish::finish(repository, (&source, &run), (&done, options.single_threaded), observer)?;
    // From here on the run is saved: what goes wrong is said, and is no failure of it.
    if let Err(error) = finish::update_indexes(repository, run.seq, observer) {
        observer.warn(&format!("the volumes' indexes are not up to date: {error}"));
    }
    update_indexes(repository, &copied, observer);
    if let Err(error) = full_manifest::write_if_due(repository, (&source, run.seq), observer) {
        observer.warn(&format!("the full record of run {} is missing: {error}", run.seq));
    }
    // Only space is at stake: the next writer does the same.
    repository.catalog.checkpoint().ok();
    report(repository, (&source, &run, counts), (&done, &copied), began)
}

/// Commits the run's row before anything is written for it.
fn open_run(repository: &mut Repository, (origin, options): (&Origin, &BackupOptions)) -> Result<(Source, Run)> {
    let (host, name, roots) = (origin.host.clone(), origin.name.clone(), origin.roots.clone());
    let tx = repository.catalog.begin()?;
    let id = runs::intern_source(&tx, &host, &name, &roots)?;
    let run = Run {
        seq: runs::next_seq(&tx)?,
        uuid: RunUuid::random(),
        source: id,
        state: RunState::Open,
        prev: runs::newest_complete(&tx, id)?.map(|run| run.seq),
        started_ns: finish::jiff_now_ns(),
        ended_ns: None,
        digest: None,
        manifest: None,
        counts: RunCounts::default(),
        marks: options.marks.clone(),
    };
    runs::insert_open(&tx, &run)?;
    runs::set_asked(&tx, run.seq, &Asked { selected: origin.is_selected(), roots: roots.clone() })?;
    tx.commit().map_err(crate::catalog::CatalogError::from)?;
    Ok((Source { id, host, name, roots }, run))
}

/// Tries, and when a volume fails once more without it. Each attempt is a run of its own: the rows of one that failed
/// are hints for the next, never part of it.
fn attempts(
    repository: &mut Repository,
    (origin, options, copied): (&Origin, &BackupOptions, &mut Copied),
    observer: &dyn Observer,
) -> Result<(Source, Run, AttemptDone)> {
    let mut avoid: Vec<VolumeId> = Vec::new();
    let is_copied = matches!(repository.settings().redundancy, Redundancy::Copies(_));
    let mut copies_early = is_copied && origin.can_be_read_again();
    loop {
        let (source, run) = open_run(repository, (origin, options))?;
        let end = one_attempt(repository, (&source, &run, (&avoid, copies_early)), (origin, options, copied), observer);
        if let Ok(AttemptEnd::Done(done)) = end {
            warn_of_skipped(&done, observer);
            return Ok((source, run, *done));
        }
        runs::set_state(repository.catalog.conn(), run.seq, RunState::Aborted)?;
        match end? {
            AttemptEnd::Done(_) => {}
            AttemptEnd::Interrupted => return Err(EngineError::Interrupted),
            AttemptEnd::NoRoom if copies_early && take_back(repository, (copied, &avoid), observer)? => {
                observer.warn(
                    "all volumes are full: copies that were made meanwhile give way to blocks that have none; reading the source \
                     again without copying",
                );
                copies_early = false;
            }
            AttemptEnd::NoRoom if observer.is_cancelled() => return Err(EngineError::Interrupted),
            AttemptEnd::NoRoom => return Err(EngineError::NoVolume(full_words(repository))),
            AttemptEnd::Failed(volume, error) if avoid.is_empty() && origin.can_be_read_again() => {
                let words = repository.volume_words(volume);
                observer
                    .warn(&format!("volume {words} failed and is not written any more: {error}; trying without it"));
                for block in copied.take_made(volume, &|_| true) {
                    redundancy::forget_made_copy(repository.catalog.conn(), block, volume)?;
                }
                copied.failed.insert(volume);
                avoid.push(volume);
            }
            AttemptEnd::Failed(_, error) => return Err(error),
        }
    }
}

fn one_attempt(
    repository: &mut Repository,
    (source, run, (avoid, copies_early)): (&Source, &Run, (&[VolumeId], bool)),
    (origin, options, copied): (&Origin, &BackupOptions, &mut Copied),
    observer: &dyn Observer,
) -> Result<AttemptEnd> {
    let settings = repository.settings().clone();
    let chunker = Chunker::new(&settings.chunker)
        .map_err(|error| EngineError::Fault(format!("the catalog's chunker parameters: {error}")))?;
    let volumes = lane_volumes(repository, avoid)?;
    if volumes.is_empty() {
        return Err(EngineError::NoVolume(
            "no other volume can take the data; check the one that failed, or add another with `raidtape add-volume DIR`"
                .to_owned(),
        ));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = if options.single_threaded { 0 } else { options.workers.unwrap_or(cores).max(1) };
    let prior = Prior::new(repository.catalog.reader()?, source.id, run.prev.is_none())?;
    observer.begin(Phase::Backup, expected(repository, run)?);
    let detection = detection(options, run.prev);
    let threads = workers.min(WALK_THREADS_MAX);
    let input = origin.input(repository, (prior, detection), (threads, chunker), observer)?;
    let plan = AttemptPlan {
        settings,
        run: (source.id, run.seq),
        write_workers: options
            .write_workers
            .unwrap_or_else(|| volumes.len().clamp(WRITERS_DEFAULT_MIN, WRITERS_DEFAULT_MAX))
            .max(1),
        volumes,
        avoid: avoid.to_vec(),
        held: held_by_next(repository)?,
        copies_early,
        rescue: rescue_blocks(repository)?,
        workers,
        memory_limit: options.memory_limit,
        observer,
    };
    attempt(&mut repository.catalog, input, (&plan, copied))
}

fn detection(options: &BackupOptions, newest: Option<RunSeq>) -> DetectionOptions {
    DetectionOptions {
        ignore_inode: options.ignore_inode,
        ignore_ctime: options.ignore_ctime,
        strict_ctime: options.strict_ctime,
        allow_empty: options.allow_empty,
        force: options.force,
        newest,
    }
}

fn warn_of_skipped(done: &AttemptDone, observer: &dyn Observer) {
    for path in &done.seen.skipped {
        let path = crate::model::path::show(path);
        observer.warn(&format!("{path} belongs to this repository (catalog or volume) and is not backed up"));
    }
}

/// The run before gives the totals for the progress bar.
fn expected(repository: &Repository, run: &Run) -> Result<Expected> {
    let before = match run.prev {
        Some(prev) => runs::get(repository.catalog.conn(), prev)?,
        None => None,
    };
    Ok(before.map_or_else(Expected::default, |run| {
        let counts = run.counts;
        let items = [counts.added, counts.modified, counts.metadata, counts.unchanged];
        let items = items.into_iter().fold(0, u64::saturating_add);
        Expected { items: Some(items), bytes: Some(counts.bytes_total) }
    }))
}

/// Whether a volume takes no block, with so many bytes above its reserve. One that was sealed has to have room for more
/// than a whole one again.
pub(super) fn is_full(state: VolumeState, room: u64, block_size: u64) -> bool {
    room < LEASE_MIN || (state == VolumeState::Sealed && room <= block_size)
}

/// Volumes that take blocks: those with room; sealed ones that have room again are opened.
fn lane_volumes(repository: &mut Repository, avoid: &[VolumeId]) -> Result<Vec<(LaneVolume, u64)>> {
    let block_size = repository.settings().block_size;
    let Repository { catalog, mounted, .. } = repository;
    let mut lanes = Vec::new();
    for volume in mounted.iter_mut() {
        if !volume.is_locked_for_writing() || avoid.contains(&volume.row.id) {
            continue;
        }
        let room = volume.volume.space_for_data(volume.row.reserve)?;
        if volume.row.state == VolumeState::Sealed && room > block_size {
            volumes::set_state(catalog.conn(), volume.row.id, VolumeState::Active)?;
            volume.row.state = VolumeState::Active;
        }
        let is_full = is_full(volume.row.state, room, block_size);
        let store = Arc::clone(volume.store());
        let row = &volume.row;
        let device = std::fs::metadata(&volume.volume.root).ok().map(|found| found.dev());
        let lane = LaneVolume { id: row.id, name: row.name.clone(), reserve: row.reserve, store, device };
        lanes.push((is_full, lane, room));
    }
    // When all are full the queues will say so, if there is anything to write at all.
    if lanes.iter().any(|(is_full, _, _)| !is_full) {
        lanes.retain(|(is_full, _, _)| !is_full);
    }
    Ok(lanes.into_iter().map(|(_, lane, room)| (lane, room)).collect())
}

pub(super) fn no_volume_words(repository: &Repository) -> String {
    if repository.mounted.is_empty() && repository.away.is_empty() {
        return "the repository has no volume yet; add one with `raidtape add-volume DIR`".to_owned();
    }
    let away: Vec<String> = repository.away.iter().map(|row| format!("{} ({})", row.name, row.uuid)).collect();
    if away.is_empty() {
        return "no volume can be written; make one writable, or add another with `raidtape add-volume DIR`".to_owned();
    }
    format!(
        "no volume can be written: {} not here; mount it, pass `--volume DIR` if it moved, or add another with \
         `raidtape add-volume DIR`",
        away.join(", ")
    )
}

fn full_words(repository: &Repository) -> String {
    let names: Vec<&str> = repository.mounted.iter().map(|mounted| mounted.row.name.as_str()).collect();
    format!(
        "all volumes are full to their reserve ({}); add one with `raidtape add-volume DIR` or free space, then run the \
         backup again: it goes on from what is stored",
        names.join(", ")
    )
}
