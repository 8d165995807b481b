//! Reading the volumes side by side, one thread each; the caller's thread hears of every copy as it is done.

use super::Level;
use super::block_check::{Checker, Damage, Decoding, Stop, Tally};
use super::plan::{Job, Plan, VolumeJobs};
use crate::engine::Observer;
use crate::engine::error::{EngineError, Result};
use crate::format::layout;
use crate::model::ids::{RepositoryUuid, VolumeId};
use crate::model::limits::LABEL_LEN_MAX;
use crate::model::params::HashAlgo;
use crate::volume::store::Store;
use crossbeam_channel::{Sender, bounded};
use std::time::Instant;

/// Copies that were looked at and not yet taken in: each may carry a table.
const FINDINGS_MAX: usize = 4;

/// What came of one copy.
pub(super) struct Finding {
    pub volume: VolumeId,
    pub job: Job,
    pub outcome: Outcome,
    pub tally: Tally,
}

/// How it is.
pub(super) enum Outcome {
    Sound,
    Damaged(Damage),
    /// The volume itself was gone when the copy was looked for; nothing is known about it.
    VolumeGone,
}

/// What the scan needs to know beside the plan.
pub(super) struct ScanSettings {
    pub algo: HashAlgo,
    pub repository: RepositoryUuid,
    /// Threads that decode.
    pub workers: Option<usize>,
    /// When no further block is begun.
    pub deadline: Option<Instant>,
}

/// Works the plan off; `each` gets every finding. Returns whether it went to its end or its deadline, or was cancelled.
pub(super) fn scan(
    plan: &Plan,
    settings: &ScanSettings,
    observer: &dyn Observer,
    each: &mut dyn FnMut(Finding) -> Result<()>,
) -> Result<bool> {
    let is_deep = plan.volumes.iter().flat_map(|volume| &volume.jobs).any(|job| job.level == Level::Deep);
    let decoding = if is_deep {
        let made = Decoding::new(settings.workers);
        Some(made.map_err(|error| EngineError::Fault(format!("cannot start threads: {error}")))?)
    } else {
        None
    };
    let checker = Checker { algo: settings.algo, repository: settings.repository, observer, decoding };
    let (sender, findings) = bounded(FINDINGS_MAX);
    std::thread::scope(|scope| {
        for volume in &plan.volumes {
            let (checker, sender) = (&checker, sender.clone());
            scope.spawn(move || check_volume(checker, (volume, settings.deadline), &sender));
        }
        drop(sender);
        // Leaving drops the receiver, and a thread whose finding nobody takes ends.
        findings.into_iter().try_for_each(each)
    })?;
    Ok(!observer.is_cancelled())
}

fn check_volume(checker: &Checker<'_>, (volume, deadline): (&VolumeJobs, Option<Instant>), findings: &Sender<Finding>) {
    let (mut is_gone, mut has_any) = (false, false);
    for job in &volume.jobs {
        // Known damage is told every time, and one block more than the last time is looked at.
        let is_over = !job.was_bad && has_any && deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if is_over {
            return;
        }
        has_any = has_any || !job.was_bad;
        if checker.observer.is_cancelled() {
            return;
        }
        let mut tally = Tally::default();
        let outcome = if is_gone {
            Outcome::VolumeGone
        } else {
            match checker.check(&*volume.store, job, &mut tally) {
                Ok(()) => Outcome::Sound,
                Err(Stop::Cancelled) => return,
                Err(Stop::Damage(damage)) => {
                    is_gone = may_be_absence(&damage) && !is_here(&*volume.store);
                    if is_gone { Outcome::VolumeGone } else { Outcome::Damaged(damage) }
                }
            }
        };
        checker.observer.advance(1, 0);
        if findings.send(Finding { volume: volume.volume, job: *job, outcome, tally }).is_err() {
            return;
        }
    }
}

fn may_be_absence(damage: &Damage) -> bool {
    matches!(damage, Damage::Missing | Damage::Unreadable(_))
}

/// A disk that was pulled out has not lost its blocks: its label cannot be read either.
fn is_here(store: &dyn Store) -> bool {
    store.read_all(layout::LABEL, LABEL_LEN_MAX).is_ok()
}
