//! Making many copies: planned in batches, a thread for each volume that is written, the catalog told by this one alone.

use super::copy::{BlockFile, CopyFailure, Found, Present, Unread, copy_block, copy_object, look};
use super::plan::{CopyJob, Plan};
use super::{BATCH, Copied, CopyLimits, name_of};
use crate::catalog::blocks;
use crate::catalog::redundancy::{self, Want};
use crate::catalog::settings::{self, Doubt};
use crate::engine::error::{EngineError, Result};
use crate::engine::observer::{Expected, Observer, Phase};
use crate::engine::parity::encode::{Out, Trouble};
use crate::engine::recover::is_awaited;
use crate::engine::repository::Repository;
use crate::model::ids::{BlockId, BlockNo, VolumeId};
use crate::volume::index::IndexedBlock;
use crate::volume::store::{Store, StoreError};
use crossbeam_channel::{Sender, unbounded};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Makes copies until nothing is wanted any more, nothing can be done, or the limits say so.
pub fn give_copies(
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
        let avoid: BTreeSet<VolumeId> = copied.failed.iter().chain(&want.leaving).copied().collect();
        let mut plan = Plan::new(repository, &avoid, limits.onto);
        for (id, error) in std::mem::take(&mut plan.silent) {
            copied.failed.insert(id);
            copied.problems.push(format!("volume {} gets no more copies: {error}", name_of(repository, id)));
        }
        let mut jobs = BTreeMap::new();
        for block in batch.iter().filter(|block| !copied.damaged.contains(&block.no)) {
            let file = BlockFile { id: block.id, size: block.size, algo };
            plan.put(block, (want, file), &mut jobs)?;
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
        no: BlockNo,
        block: BlockId,
        from: VolumeId,
        what: Unread,
    },
    /// No copy of a block could be read, and no group gives it back.
    Damaged {
        no: BlockNo,
        is_parity: bool,
    },
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
            thread.map_err(|error| {
                has_ended.store(true, Ordering::Relaxed);
                EngineError::Fault(format!("no thread can be started: {error}"))
            })?;
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
            redundancy::put_made_copy(repository.catalog.conn(), no, to)?;
            copied.blocks += 1;
            copied.bytes += block.size;
            copied.note_made(to, IndexedBlock { id: block.id, size: block.size, verified_ns: None });
        }
        Outcome::Unread { no, block, from, what } => {
            if let Some(state) = what.state() {
                blocks::set_copy_state(repository.catalog.conn(), no, (from, state))?;
            }
            let volume = name_of(repository, from);
            copied.problems.push(format!(
                "block {block} on volume {volume} cannot be copied: {what}; `raidtape validate --repair` heals it from another"
            ));
        }
        Outcome::Damaged { no, is_parity } => {
            copied.damaged.insert(no);
            // One that is away, or could not be read just now, may still be sound. A parity can be made anew in another
            // group.
            let is_held = redundancy::copies(repository.catalog.conn(), no)?.iter().any(|copy| copy.is_held);
            if !is_parity && !is_held && !is_awaited(repository, no)? {
                blocks::mark_bad(repository.catalog.conn(), no)?;
                copied.bad += 1;
            }
        }
        Outcome::TargetFailed { to, error } => {
            if copied.failed.insert(to) && !matches!(error, StoreError::NoSpace { .. }) {
                settings::set_doubt(repository.catalog.conn(), (to, Doubt::Failed), true)?;
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
    if look(target.store.as_ref(), &job.block).map_err(CopyFailure::To)? == Found::Sound {
        observer.advance(0, job.block.size);
        return Ok(made);
    }
    for (from, store) in &job.from {
        let stores = (store.as_ref(), target.store.as_ref());
        match copy_block(stores, &job.block, Present::Replaced, observer) {
            Ok(()) => return Ok(made),
            Err(CopyFailure::From(what)) => {
                let _ = outcomes.send(Outcome::Unread { no: job.no, block: job.block.id, from: *from, what });
            }
            Err(failure) => return Err(failure),
        }
    }
    match &job.group {
        Some(group) if job.is_parity => {
            let store = Arc::clone(&target.store);
            let out = Out { index: 0, volume: target.id, store, again: Some((job.block.id, Present::Replaced)) };
            match group.make_parity(out, observer) {
                Ok(()) => return Ok(made),
                Err(Trouble::Out(_, error)) => return Err(CopyFailure::To(error)),
                Err(Trouble::Stopped) => return Err(CopyFailure::Stopped),
                Err(_) => {}
            }
        }
        Some(group) => {
            let unread = |error: StoreError| CopyFailure::From(Unread::Unreadable(error.to_string()));
            if let Some(recovered) = group.open() {
                match copy_object(
                    (&recovered, &unread),
                    target.store.as_ref(),
                    (&job.block, Present::Replaced),
                    observer,
                ) {
                    Ok(()) => return Ok(made),
                    Err(CopyFailure::From(_)) => {}
                    Err(failure) => return Err(failure),
                }
            }
        }
        None => {}
    }
    Ok(Outcome::Damaged { no: job.no, is_parity: job.is_parity })
}
