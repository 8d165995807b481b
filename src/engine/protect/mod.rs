//! `protect`: brings every block to as many volumes as the policy wants. A run does the same with its own blocks before
//! it is complete.
//!
//! `plan` chooses where copies go, `copy` makes one. Each volume that is written has a thread; this one alone writes the
//! catalog, and only what is durable. A volume that fails or is full is left out, and its share planned anew.

pub(super) mod copy;
mod plan;

use self::copy::{BlockFile, CopyFailure, Present, copy_block, is_there};
use self::plan::{CopyJob, Plan};
use super::backup::no_volume_words;
use super::error::{EngineError, Exit, Result};
use super::observer::{Expected, Observer, Phase};
use super::recover::{recover, with_what_works};
use super::repository::Repository;
use crate::catalog::blocks;
use crate::catalog::redundancy::{self, Scope, Shortfall, Want};
use crate::model::ids::{BlockId, BlockNo, VolumeId};
use crate::model::redundancy::Redundancy;
use crate::volume::index::{IndexDb, IndexedBlock};
use crate::volume::store::{Store, StoreError};
use crossbeam_channel::{Sender, unbounded};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Blocks that are planned at once: 32 GiB of full ones.
const BATCH: usize = 256;

/// How long to go on.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProtectOptions {
    /// Begin no further block when so much time is over; one for each volume is always copied, so that every call comes
    /// further than the one before.
    pub max_duration: Option<Duration>,
}

/// What `protect` did, and what is left.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ProtectReport {
    /// The policy.
    pub redundancy: Redundancy,
    /// Copies that were made.
    pub blocks_copied: u64,
    /// Their bytes.
    pub bytes_copied: u64,
    /// Where they are, by name.
    pub volumes_written: Vec<String>,
    /// Blocks that lie on fewer volumes than the policy wants.
    pub blocks_under_protected: u64,
    /// Their bytes.
    pub bytes_under_protected: u64,
    /// Copies that could not be read, and volumes that could not be written.
    pub problems: Vec<String>,
    /// Blocks of which no copy that is here is sound.
    pub blocks_damaged: u64,
    /// The time given was over before the end.
    pub is_out_of_time: bool,
    /// Seconds.
    pub duration_s: f64,
}

impl ProtectReport {
    /// `Damage` when a block cannot be read from any copy that is here, `UnderProtected` while something is left.
    pub fn exit(&self) -> Exit {
        match (self.blocks_damaged, self.blocks_under_protected) {
            (0, 0) => Exit::Done,
            (0, _) => Exit::UnderProtected,
            _ => Exit::Damage,
        }
    }
}

/// What came of making copies.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pub blocks: u64,
    pub bytes: u64,
    pub problems: Vec<String>,
    pub damaged: BTreeSet<BlockNo>,
    /// The end was not reached: for want of time, or because the user asked.
    pub is_cut_short: bool,
    made: BTreeMap<VolumeId, Vec<IndexedBlock>>,
    failed: BTreeSet<VolumeId>,
    beside: BTreeSet<(VolumeId, VolumeId)>,
}

/// How copies are made.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CopyLimits {
    pub deadline: Option<Instant>,
    /// On this thread alone.
    pub is_alone: bool,
    /// The volume that is filled before others.
    pub onto: Option<VolumeId>,
}

/// Makes the copies that the policy wants and that can be made now.
pub fn protect(
    repository: &mut Repository,
    options: &ProtectOptions,
    observer: &dyn Observer,
) -> Result<ProtectReport> {
    let began = Instant::now();
    make_ready(repository, observer)?;
    let redundancy = repository.settings().redundancy;
    let want = Want::everywhere(redundancy);
    let deadline = options.max_duration.and_then(|given| began.checked_add(given));
    let copied = give_copies(repository, &want, CopyLimits { deadline, ..CopyLimits::default() }, observer)?;
    update_indexes(repository, &copied, observer);
    repository.catalog.checkpoint().ok();
    if observer.is_cancelled() {
        return Err(EngineError::Interrupted);
    }
    let left = shortfall(repository)?;
    Ok(ProtectReport {
        redundancy,
        blocks_copied: copied.blocks,
        bytes_copied: copied.bytes,
        volumes_written: copied.made.keys().map(|id| name_of(repository, *id)).collect(),
        blocks_under_protected: left.blocks,
        bytes_under_protected: left.bytes,
        problems: copied.problems,
        blocks_damaged: copied.damaged.len() as u64,
        is_out_of_time: copied.is_cut_short,
        duration_s: began.elapsed().as_secs_f64(),
    })
}

/// Takes the volumes' locks and brings in what was left behind, as every command does that writes blocks.
pub(super) fn make_ready(repository: &mut Repository, observer: &dyn Observer) -> Result<()> {
    with_what_works(repository, observer, &|repository| repository.lock_volumes(observer))?;
    if repository.writable().next().is_none() {
        return Err(EngineError::NoVolume(no_volume_words(repository)));
    }
    with_what_works(repository, observer, &|repository| recover(repository, observer))?;
    if repository.writable().next().is_none() {
        return Err(EngineError::NoVolume(no_volume_words(repository)));
    }
    Ok(())
}

/// Copies of the blocks that no record lists yet: those of the run that is about to be complete. What cannot be done is
/// left to `protect`; the run is saved all the same.
pub(super) fn protect_new(repository: &mut Repository, is_alone: bool, observer: &dyn Observer) -> Result<Copied> {
    let redundancy = repository.settings().redundancy;
    if redundancy.copies() < 2 {
        return Ok(Copied::default());
    }
    let want = Want { scope: Scope::Unlisted, ..Want::everywhere(redundancy) };
    let copied = give_copies(repository, &want, CopyLimits { is_alone, ..CopyLimits::default() }, observer)?;
    copied.problems.iter().for_each(|problem| observer.warn(problem));
    Ok(copied)
}

/// How much of the whole repository lies on fewer volumes than the policy wants.
pub fn shortfall(repository: &Repository) -> Result<Shortfall> {
    let want = Want::everywhere(repository.settings().redundancy);
    // What lay on a volume that was given up and nowhere else is lost, and no matter of more copies.
    if want.copies < 2 {
        return Ok(Shortfall::default());
    }
    Ok(redundancy::shortfall(repository.catalog.conn(), &want)?)
}

/// Why that may be so, and what helps.
pub fn shortfall_words(repository: &Repository) -> String {
    let wanted = repository.settings().redundancy.copies() as usize;
    let here = repository.mounted.iter().filter(|mounted| mounted.volume.is_writable()).count();
    let known = repository.mounted.len() + repository.away.len();
    if known < wanted {
        let more = wanted - known;
        let volumes = if more == 1 { "another volume" } else { "more volumes" };
        format!(
            "there are {known} of {wanted} volumes; add {volumes} with `raidtape add-volume DIR`, then run `raidtape protect`"
        )
    } else if here < wanted {
        "too few volumes are here and can be written; mount the others, or add one with `raidtape add-volume DIR`, then run \
         `raidtape protect`"
            .to_owned()
    } else {
        "run `raidtape protect`; where it finds no room, add a volume with `raidtape add-volume DIR`".to_owned()
    }
}

/// Makes copies until nothing is wanted any more, nothing can be done, or the limits say so.
pub(super) fn give_copies(
    repository: &Repository,
    want: &Want,
    limits: CopyLimits,
    observer: &dyn Observer,
) -> Result<Copied> {
    let conn = repository.catalog.conn();
    let all = redundancy::shortfall(conn, want)?;
    observer.begin(Phase::Protect, Expected { items: Some(all.blocks), bytes: Some(all.missing_bytes) });
    let mut copied = Copied::default();
    let mut after = BlockNo(0);
    let algo = repository.settings().hash;
    loop {
        let batch = redundancy::wanting(conn, want, after, BATCH)?;
        let Some(last) = batch.last().map(|block| block.no) else { break };
        let avoid: BTreeSet<VolumeId> = copied.failed.iter().copied().chain(want.leaving).collect();
        let mut plan = Plan::new(repository, &avoid, limits.onto);
        for (id, error) in std::mem::take(&mut plan.silent) {
            copied.failed.insert(id);
            copied.problems.push(format!("volume {} gets no more copies: {error}", name_of(repository, id)));
        }
        let mut jobs = BTreeMap::new();
        for block in batch.iter().filter(|block| !copied.damaged.contains(&block.no)) {
            let file = BlockFile { id: block.id, size: block.size, algo };
            plan.put(block, (want, file), &mut jobs);
        }
        copied.beside.append(&mut plan.beside);
        let failed_before = copied.failed.len();
        make_copies(repository, jobs, (limits, &mut copied), observer)?;
        if copied.is_cut_short {
            break;
        }
        // What a failed volume was to take is planned once more, without it.
        if copied.failed.len() == failed_before {
            after = last;
        }
    }
    for (one, other) in &copied.beside {
        let (one, other) = (name_of(repository, *one), name_of(repository, *other));
        observer.warn(&format!(
            "volumes {one} and {other} are on one device, and no other has room: its loss takes both copies"
        ));
    }
    Ok(copied)
}

/// What a thread tells.
enum Outcome {
    Made {
        no: BlockNo,
        block: BlockFile,
        to: VolumeId,
    },
    Unread {
        block: BlockId,
        from: VolumeId,
        what: String,
    },
    /// No copy of a block could be read.
    Damaged(BlockNo),
    TargetFailed {
        to: VolumeId,
        error: StoreError,
    },
    CutShort,
}

/// A volume that copies go to.
struct Target {
    id: VolumeId,
    store: Arc<dyn Store>,
}

fn make_copies(
    repository: &Repository,
    jobs: BTreeMap<VolumeId, Vec<CopyJob>>,
    (limits, copied): (CopyLimits, &mut Copied),
    observer: &dyn Observer,
) -> Result<()> {
    let targets = jobs.into_iter().filter_map(|(id, jobs)| {
        let store = Arc::clone(repository.volume(id)?.store());
        Some((Target { id, store }, jobs))
    });
    let has_ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (sender, outcomes) = unbounded();
        for (target, jobs) in targets {
            let (sender, has_ended) = (sender.clone(), &has_ended);
            let work = move || copy_all(&target, jobs, (limits.deadline, has_ended), (&sender, observer));
            if limits.is_alone {
                work();
                continue;
            }
            let thread = std::thread::Builder::new().name("copy".to_owned()).spawn_scoped(scope, work);
            thread.map_err(|error| EngineError::Fault(format!("no thread can be started: {error}")))?;
        }
        drop(sender);
        for outcome in outcomes {
            let taken = take_in(repository, outcome, copied);
            if taken.is_err() {
                has_ended.store(true, Ordering::Relaxed);
                return taken;
            }
        }
        Ok(())
    })
}

fn take_in(repository: &Repository, outcome: Outcome, copied: &mut Copied) -> Result<()> {
    match outcome {
        Outcome::Made { no, block, to } => {
            blocks::put_copy(repository.catalog.conn(), no, to)?;
            copied.blocks += 1;
            copied.bytes += block.size;
            let indexed = IndexedBlock { id: block.id, size: block.size, verified_ns: None };
            copied.made.entry(to).or_default().push(indexed);
        }
        Outcome::Unread { block, from, what } => {
            let volume = name_of(repository, from);
            copied.problems.push(format!(
                "block {block} on volume {volume} cannot be copied: {what}; `raidtape validate` names the files in it"
            ));
        }
        Outcome::Damaged(no) => {
            copied.damaged.insert(no);
        }
        Outcome::TargetFailed { to, error } => {
            if copied.failed.insert(to) && !matches!(error, StoreError::NoSpace { .. }) {
                let volume = name_of(repository, to);
                copied.problems.push(format!("volume {volume} gets no more copies: {error}"));
            }
        }
        Outcome::CutShort => copied.is_cut_short = true,
    }
    Ok(())
}

/// Works through the copies for one volume, until it fails.
fn copy_all(
    target: &Target,
    jobs: Vec<CopyJob>,
    (deadline, has_ended): (Option<Instant>, &AtomicBool),
    (outcomes, observer): (&Sender<Outcome>, &dyn Observer),
) {
    for (index, job) in jobs.into_iter().enumerate() {
        let is_late = index > 0 && deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if observer.is_cancelled() || is_late || has_ended.load(Ordering::Relaxed) {
            let _ = outcomes.send(Outcome::CutShort);
            return;
        }
        match copy_one(target, &job, (outcomes, observer)) {
            Ok(outcome) => {
                let _ = outcomes.send(outcome);
            }
            Err(CopyFailure::To(error)) => {
                let _ = outcomes.send(Outcome::TargetFailed { to: target.id, error });
                return;
            }
            Err(CopyFailure::Stopped | CopyFailure::From(_)) => {
                let _ = outcomes.send(Outcome::CutShort);
                return;
            }
        }
        observer.advance(1, 0);
    }
}

fn copy_one(
    target: &Target,
    job: &CopyJob,
    (outcomes, observer): (&Sender<Outcome>, &dyn Observer),
) -> std::result::Result<Outcome, CopyFailure> {
    let made = Outcome::Made { no: job.no, block: job.block, to: target.id };
    if is_there(target.store.as_ref(), &job.block).map_err(CopyFailure::To)? {
        observer.advance(0, job.block.size);
        return Ok(made);
    }
    for (from, store) in &job.from {
        let stores = (store.as_ref(), target.store.as_ref());
        match copy_block(stores, &job.block, Present::Replaced, observer) {
            Ok(()) => return Ok(made),
            Err(CopyFailure::From(what)) => {
                let _ = outcomes.send(Outcome::Unread { block: job.block.id, from: *from, what });
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(Outcome::Damaged(job.no))
}

/// Tells the volumes' own indexes what came. They are caches: a failure is only said.
pub(super) fn update_indexes(repository: &Repository, copied: &Copied, observer: &dyn Observer) {
    for (id, made) in &copied.made {
        let Some(mounted) = repository.volume(*id).filter(|mounted| mounted.is_locked_for_writing()) else { continue };
        if let Err(error) = IndexDb::update(&mounted.volume.root, made, &[], &[]) {
            observer.warn(&format!("volume {}: its index is not up to date: {error}", mounted.row.name));
        }
    }
}

fn name_of(repository: &Repository, id: VolumeId) -> String {
    repository.volume(id).map_or_else(|| id.to_string(), |mounted| mounted.row.name.clone())
}
