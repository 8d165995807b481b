//! Making groups: planned in rounds, encoded by a few threads, the catalog told by this one alone, and only what is
//! durable. A volume that fails or is full, and a block that is not what its name says, is left out, and the rest planned
//! anew.

use super::encode::{Made, Out, Part, Shape, Trouble, encode, unread};
use super::file::{ParityFile, is_parity_of};
use super::plan::{GroupPlan, Planner};
use crate::catalog::parity::{self, Group, Ungrouped};
use crate::catalog::redundancy::Scope;
use crate::catalog::{CatalogError, blocks, retired, settings};
use crate::engine::block_file::ReadError;
use crate::engine::error::{EngineError, Result};
use crate::engine::observer::{Expected, Observer, Phase};
use crate::engine::protect::copy::{BlockFile, Unread};
use crate::engine::protect::places::places;
use crate::engine::protect::{Copied, CopyLimits, name_of};
use crate::engine::repository::Repository;
use crate::format::layout;
use crate::format::parity::ParityTable;
use crate::model::ids::{BlockNo, RunUuid, VolumeId};
use crate::model::redundancy::Redundancy;
use crate::volume::index::IndexedBlock;
use crate::volume::store::{Store, StoreError};
use crossbeam_channel::unbounded;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Threads that encode: while one waits for a disk another computes.
const THREADS: usize = 2;
/// Members and parities of the groups that several threads encode side by side: each takes a MiB and more.
const SIDE_BY_SIDE_MAX: usize = 16;

/// A group that is being made.
struct Job {
    shape: Shape,
    /// Members that come, by position.
    members: Vec<JobMember>,
    /// Parities of the members before, by index.
    base: Option<Vec<JobBase>>,
    base_group: Option<Group>,
    outs: Vec<Out>,
}

struct JobMember {
    position: u8,
    no: BlockNo,
    file: BlockFile,
    volume: VolumeId,
    store: Arc<dyn Store>,
}

struct JobBase {
    key: String,
    store: Arc<dyn Store>,
}

enum Outcome {
    Made { job: Job, made: Vec<Made>, table: ParityTable },
    Failed { job: Job, trouble: Trouble },
}

/// What is left out of the next round.
#[derive(Default)]
struct LeftOut {
    volumes: BTreeSet<VolumeId>,
    blocks: BTreeSet<BlockNo>,
    groups: BTreeSet<i64>,
}

/// Puts blocks into groups, as the policy `(K, M)` wants: those of `scope` that are in none, and others that fit beside them.
pub fn make_groups(
    repository: &mut Repository,
    (scope, policy): (Scope, (u8, u8)),
    limits: CopyLimits,
    observer: &dyn Observer,
) -> Result<Copied> {
    let mut copied = Copied::default();
    let mut left_out = LeftOut::default();
    loop {
        let jobs = plan_jobs(repository, (scope, policy), &mut left_out, &mut copied)?;
        if jobs.is_empty() {
            return Ok(copied);
        }
        let members = jobs.iter().flat_map(|job| &job.members);
        let bytes = members.fold(0, |bytes: u64, member| bytes.saturating_add(member.file.size));
        let items = jobs.iter().map(|job| job.members.len() as u64).sum();
        observer.begin(Phase::Protect, Expected { items: Some(items), bytes: Some(bytes) });
        settings::set_protecting(repository.catalog.conn(), true)?;
        let before = (left_out.volumes.len(), left_out.blocks.len(), left_out.groups.len());
        let mut take =
            |repository: &mut Repository, outcome| take_in(repository, outcome, (&mut left_out, &mut copied));
        encode_all(repository, jobs, limits, &mut take, observer)?;
        // A volume that failed may hold what the catalog does not know of: the next writer looks.
        if left_out.volumes.is_empty() {
            settings::set_protecting(repository.catalog.conn(), false)?;
        }
        // What failed is planned once more, without whom it failed for.
        let after = (left_out.volumes.len(), left_out.blocks.len(), left_out.groups.len());
        if copied.is_cut_short || before == after {
            return Ok(copied);
        }
    }
}

fn plan_jobs(
    repository: &Repository,
    (scope, (positions, parities)): (Scope, (u8, u8)),
    left_out: &mut LeftOut,
    copied: &mut Copied,
) -> Result<Vec<Job>> {
    let conn = repository.catalog.conn();
    let sound = parity::in_sound_groups(conn, parities)?;
    let mut candidates = parity::ungrouped(conn, &sound)?;
    candidates.retain(|block| !left_out.blocks.contains(&block.no));
    let is_wanted = |block: &Ungrouped| scope == Scope::All || block.is_unlisted;
    if !candidates.iter().any(is_wanted) {
        return Ok(Vec::new());
    }
    let open = open_groups(repository, (positions, parities), &left_out.groups)?;
    let (places, silent) = places(repository, &left_out.volumes);
    for (id, error) in silent {
        if left_out.volumes.insert(id) {
            copied.problems.push(format!("volume {} gets no parity: {error}", name_of(repository, id)));
        }
    }
    let (plans, beside) = Planner::new((&candidates, &open), places, (positions, parities)).plan(&is_wanted);
    copied.beside.extend(beside);
    plans.iter().map(|plan| job_of(repository, (plan, (positions, parities)), (&candidates, &open))).collect()
}

/// Groups of this shape that have free positions and all of whose parities can be read.
fn open_groups(
    repository: &Repository,
    (positions, parities): (u8, u8),
    left_out: &BTreeSet<i64>,
) -> Result<Vec<Group>> {
    let mut open = Vec::new();
    parity::for_each(repository.catalog.conn(), &mut |group| {
        let is_of_shape = (group.positions, group.parities) == (positions, parities);
        let is_open = group.blocks().count() < usize::from(positions) && !left_out.contains(&group.no);
        let is_here = |volume: VolumeId| repository.volume(volume).is_some();
        let are_here =
            group.parity().all(|member| member.copies.iter().any(|copy| copy.is_held && is_here(copy.volume)));
        if is_of_shape && is_open && are_here && group.is_sound() {
            open.push(group);
        }
        Ok(())
    })?;
    // The fullest first: it is nearest to paying.
    open.sort_by_key(|group| std::cmp::Reverse(group.blocks().count()));
    Ok(open)
}

/// Volumes on which the group that is to be filled next has a block: a new one goes to another, where it comes to that
/// group. None under other policies.
pub fn held_by_next(repository: &Repository) -> Result<BTreeSet<VolumeId>> {
    let Redundancy::Parity { positions, parities } = repository.settings().redundancy else {
        return Ok(BTreeSet::new());
    };
    let open = open_groups(repository, (positions, parities), &BTreeSet::new())?;
    let next = open.first().into_iter().flat_map(Group::blocks).flat_map(|member| &member.copies);
    Ok(next.filter(|copy| copy.is_counted).map(|copy| copy.volume).collect())
}

fn job_of(
    repository: &Repository,
    (plan, (positions, parities)): (&GroupPlan, (u8, u8)),
    (candidates, open): (&[Ungrouped], &[Group]),
) -> Result<Job> {
    let settings = repository.settings();
    let (algo, group) = (settings.hash, RunUuid::random().0);
    let store_of = |id: VolumeId| {
        let found = repository.volume(id).map(|mounted| Arc::clone(mounted.store()));
        found.ok_or_else(|| EngineError::Fault(format!("volume {id} was planned and is not here")))
    };
    let mut members = Vec::new();
    for (position, at, volume) in &plan.members {
        let block = &candidates[*at];
        let file = BlockFile { id: block.id, size: block.size, algo };
        let store = store_of(*volume)?;
        members.push(JobMember { position: *position, no: block.no, file, volume: *volume, store });
    }
    let base_group = plan.base.map(|at| open[at].clone());
    let base = base_group.as_ref().map(|group| {
        let files = group.parity().map(|member| {
            let here = member.copies.iter().filter(|copy| copy.is_held);
            let store = here.filter_map(|copy| store_of(copy.volume).ok()).next();
            let store = store.ok_or_else(|| EngineError::Fault("a parity was planned and is not here".into()))?;
            Ok(JobBase { key: layout::block_key(&member.id), store })
        });
        files.collect::<Result<Vec<_>>>()
    });
    let mut outs = Vec::new();
    for (volume, index) in plan.outs.iter().zip(0_u8..) {
        outs.push(Out { index, volume: *volume, store: store_of(*volume)?, again: None });
    }
    let shape = Shape { repository: settings.repository, algo, positions, parities, group };
    Ok(Job { shape, members, base: base.transpose()?, base_group, outs })
}

/// Encodes on a few threads, or on this one; what comes of it is taken in here.
fn encode_all(
    repository: &mut Repository,
    jobs: Vec<Job>,
    limits: CopyLimits,
    take_in: &mut dyn FnMut(&mut Repository, Outcome) -> Result<()>,
    observer: &dyn Observer,
) -> Result<()> {
    let has_ended = AtomicBool::new(false);
    let widest = jobs.iter().map(|job| usize::from(job.shape.positions) + job.outs.len()).max().unwrap_or(0);
    let threads = if widest > SIDE_BY_SIDE_MAX { 1 } else { THREADS.min(jobs.len()) };
    let mut waiting = jobs.into_iter().enumerate();
    if limits.is_alone {
        for (index, job) in waiting {
            let outcome = one((index, job), (limits.deadline, &has_ended), observer);
            take_in(repository, outcome)?;
        }
        return Ok(());
    }
    let (to_do, to_come) = unbounded::<(usize, Job)>();
    waiting.by_ref().for_each(|job| {
        let _ = to_do.send(job);
    });
    drop(to_do);
    std::thread::scope(|scope| {
        let (sender, outcomes) = unbounded();
        for _ in 0..threads {
            let (sender, to_come, has_ended) = (sender.clone(), to_come.clone(), &has_ended);
            let work = move || {
                for job in to_come {
                    if sender.send(one(job, (limits.deadline, has_ended), observer)).is_err() {
                        return;
                    }
                }
            };
            let thread = std::thread::Builder::new().name("parity".to_owned()).spawn_scoped(scope, work);
            thread.map_err(|error| {
                has_ended.store(true, Ordering::Relaxed);
                EngineError::Fault(format!("no thread can be started: {error}"))
            })?;
        }
        drop(sender);
        for outcome in outcomes {
            let taken = take_in(repository, outcome);
            if taken.is_err() {
                has_ended.store(true, Ordering::Relaxed);
                return taken;
            }
        }
        Ok(())
    })
}

fn one(
    (index, job): (usize, Job),
    (deadline, has_ended): (Option<Instant>, &AtomicBool),
    observer: &dyn Observer,
) -> Outcome {
    let is_late = index > 0 && deadline.is_some_and(|deadline| Instant::now() >= deadline);
    if is_late || has_ended.load(Ordering::Relaxed) || observer.is_cancelled() {
        return Outcome::Failed { job, trouble: Trouble::Stopped };
    }
    match encode_job(&job, observer) {
        Ok((table, made)) => {
            observer.advance(job.members.len() as u64, 0);
            Outcome::Made { job, made, table }
        }
        Err(trouble) => Outcome::Failed { job, trouble },
    }
}

fn encode_job(job: &Job, observer: &dyn Observer) -> std::result::Result<(ParityTable, Vec<Made>), Trouble> {
    let mut parts = Vec::with_capacity(job.members.len());
    for (at, member) in job.members.iter().enumerate() {
        let object = member.store.open(&layout::block_key(&member.file.id)).map_err(|error| {
            // Nothing is there either when the whole volume went away.
            let is_here = member.store.head(layout::LABEL).is_ok_and(|label| label.is_some());
            Trouble::Part(
                at,
                match error {
                    StoreError::NotFound { .. } if is_here => Unread::Missing,
                    StoreError::NotAnObject { .. } => Unread::Bad(error.to_string()),
                    other => Unread::Unreadable(other.to_string()),
                },
            )
        })?;
        parts.push(Part { position: member.position, file: member.file, object });
    }
    let base = job.base.as_ref().map(|files| {
        let mut opened: Vec<ParityFile> = Vec::new();
        for (file, index) in files.iter().zip(0_u8..) {
            let failed = |error: ReadError| Trouble::Base(index, unread(&error));
            let object = file.store.open(&file.key).map_err(|error| failed(error.into()))?;
            let found = ParityFile::open(object, job.shape.repository).map_err(failed)?;
            let is_of = job.base_group.as_ref().is_some_and(|group| is_parity_of(&found.table, group, index));
            if !is_of {
                return Err(Trouble::Base(index, Unread::Bad("it is of another group".to_owned())));
            }
            opened.push(found);
        }
        Ok(opened)
    });
    let base = base.transpose()?;
    encode(&job.shape, &parts, (base.as_deref(), &job.outs), observer)
}

fn take_in(
    repository: &mut Repository,
    outcome: Outcome,
    (left_out, copied): (&mut LeftOut, &mut Copied),
) -> Result<()> {
    match outcome {
        Outcome::Made { job, made, table } => {
            let tx = repository.catalog.begin()?;
            for parity in &made {
                let table = ParityTable { index: parity.index, ..table.clone() };
                parity::register(&tx, (parity.id, parity.size, parity.volume), &table)?;
            }
            if let Some(base) = &job.base_group {
                retired::retire(&tx, base)?;
            }
            // One copy of each is enough from now on, the one that was just read.
            for member in &job.members {
                for copy in crate::catalog::redundancy::copies(&tx, member.no)? {
                    if copy.volume != member.volume && copy.is_counted {
                        retired::retire_copy(&tx, member.no, copy.volume)?;
                    }
                }
            }
            tx.commit().map_err(CatalogError::from)?;
            copied.groups += 1;
            copied.read.extend(job.members.iter().map(|member| member.no));
            for parity in made {
                copied.parity_bytes += parity.size;
                copied.note_made(parity.volume, IndexedBlock { id: parity.id, size: parity.size, verified_ns: None });
            }
        }
        Outcome::Failed { job, trouble } => failed(repository, (&job, trouble), (left_out, copied))?,
    }
    Ok(())
}

fn failed(
    repository: &Repository,
    (job, trouble): (&Job, Trouble),
    (left_out, copied): (&mut LeftOut, &mut Copied),
) -> Result<()> {
    match trouble {
        Trouble::Part(at, what) => {
            let Some(member) = job.members.get(at) else { return Ok(()) };
            left_out.blocks.insert(member.no);
            if let Some(state) = what.state() {
                blocks::set_copy_state(repository.catalog.conn(), member.no, (member.volume, state))?;
            }
            let (id, volume) = (member.file.id, name_of(repository, member.volume));
            copied.problems.push(format!(
                "block {id} on volume {volume} gets no parity: {what}; `raidtape validate --repair` heals it where that can be"
            ));
        }
        Trouble::Out(volume, error) => {
            if left_out.volumes.insert(volume) && !matches!(error, StoreError::NoSpace { .. }) {
                copied.problems.push(format!("volume {} gets no more parity: {error}", name_of(repository, volume)));
            }
        }
        Trouble::Base(index, what) => {
            let Some(group) = &job.base_group else { return Ok(()) };
            left_out.groups.insert(group.no);
            let Some(parity) = group.parity().find(|member| member.position == group.positions + index) else {
                return Ok(());
            };
            let read = parity.copies.iter().find(|copy| copy.is_held && repository.volume(copy.volume).is_some());
            if let (Some(copy), Some(state)) = (read, what.state()) {
                blocks::set_copy_state(repository.catalog.conn(), parity.no, (copy.volume, state))?;
            }
            copied.problems.push(format!(
                "parity {} cannot be read: {what}; `raidtape protect` and `raidtape validate --repair` make it again",
                parity.id
            ));
        }
        Trouble::Stopped => copied.is_cut_short = true,
        Trouble::OtherName => {}
        Trouble::Fault(what) => return Err(EngineError::Fault(what)),
    }
    Ok(())
}
