//! What a restore has done and what went wrong so far, gathered from all of its threads.

use super::links::LinkKey;
use crate::engine::error::EngineError;
use crate::model::attrs::FLAGS_LAST;
use crate::model::path::show;
use crate::model::problem::{Problem, ProblemOp};
use crate::tree::error::TreeError;
use crate::tree::target_meta::{MetaOutcome, TargetMeta};
use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Why one name could not be restored.
#[derive(Debug)]
pub(super) enum Failure {
    /// Its stored bytes are damaged or gone.
    Damaged(String),
    /// Its stored bytes are on volumes that are not here; empty when nobody knows on which.
    Away(Vec<String>),
    /// The target would not take it.
    Target(TreeError),
}

/// A [`Failure`] of stored bytes, which every name of a file has in common.
#[derive(Debug, Clone)]
pub(super) enum DataFailure {
    Damaged(String),
    Away(Vec<String>),
}

impl From<DataFailure> for Failure {
    fn from(failure: DataFailure) -> Self {
        match failure {
            DataFailure::Damaged(text) => Self::Damaged(text),
            DataFailure::Away(volumes) => Self::Away(volumes),
        }
    }
}

impl Failure {
    /// The part that other names of the same file share; `None` when it was this name's alone.
    pub fn data(&self) -> Option<DataFailure> {
        match self {
            Self::Damaged(text) => Some(DataFailure::Damaged(text.clone())),
            Self::Away(volumes) => Some(DataFailure::Away(volumes.clone())),
            Self::Target(_) => None,
        }
    }
}

/// The counts and lists of a report.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub files: u64,
    pub dirs: u64,
    pub symlinks: u64,
    pub hardlinks: u64,
    pub specials: u64,
    pub bytes: u64,
    pub skipped_existing: u64,
    pub metadata_refused: u64,
    pub inconsistent: Vec<String>,
    pub problems: Vec<Problem>,
    /// How many problems are only because of volumes that are away.
    pub away: u64,
    pub volumes_wanted: BTreeSet<String>,
    /// What is whole now, and immutable or append-only once everything is done.
    pub last_flags: Vec<(Vec<u8>, u32)>,
    /// Hard-link groups whose first name failed, and how its bytes did if they were the reason.
    pub failed_links: HashMap<LinkKey, Option<DataFailure>>,
}

/// Shared by the threads of one restore.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: Mutex<Counts>,
    fatal: Mutex<Option<EngineError>>,
    is_stopped: AtomicBool,
}

impl Tally {
    pub fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether work is to end early.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Ends all work; the first reason counts.
    pub fn stop(&self, reason: EngineError) {
        let mut fatal = self.fatal.lock().unwrap_or_else(PoisonError::into_inner);
        fatal.get_or_insert(reason);
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// The reason for which work ended early.
    pub fn take_fatal(&self) -> Option<EngineError> {
        self.fatal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps in mind which flags `path` in the target gets at the end; it is whole.
    pub fn note_last_flags(&self, path: &[u8], meta: &TargetMeta) {
        let flags = meta.attrs.as_ref().map_or(0, |attrs| attrs.flags);
        if flags & FLAGS_LAST != 0 {
            self.counts().last_flags.push((path.to_vec(), flags));
        }
    }

    /// Counts what the system refused of a name's metadata.
    pub fn note_meta(&self, outcome: MetaOutcome) {
        if outcome != MetaOutcome::default() {
            self.counts().metadata_refused += 1;
        }
    }

    /// Records that the name `path` (inside the source) could not be restored. A target that is full or read-only
    /// ends the restore: nothing else could be written either.
    pub fn fail(&self, path: &[u8], failure: &Failure) {
        if let Failure::Target(error) = failure
            && let Some(reason) = hopeless(error)
        {
            self.stop(EngineError::Fault(format!(
                "{} could not be written because the restore target {reason}; the same command goes on from here",
                show(path)
            )));
            return;
        }
        let problem = problem_of(path, failure);
        let mut counts = self.counts();
        if let Failure::Away(volumes) = failure {
            counts.away += 1;
            counts.volumes_wanted.extend(volumes.iter().cloned());
        }
        counts.problems.push(problem);
    }
}

fn problem_of(path: &[u8], failure: &Failure) -> Problem {
    let data = |text| Problem { path: path.to_vec(), op: ProblemOp::Data, errno: None, text };
    match failure {
        Failure::Damaged(text) => data(text.clone()),
        Failure::Away(volumes) if volumes.is_empty() => data(
            "its place is unknown: the volume that holds it was never seen; mount that volume and run \
                  `raidtape rebuild-catalog`"
                .to_owned(),
        ),
        Failure::Away(volumes) => data(format!(
            "its data is on {}, not mounted; mount it, or pass `--volume DIR` if it moved",
            volumes.join(" or ")
        )),
        Failure::Target(error) => {
            let text = match error {
                TreeError::Write { source, .. } => source.to_string(),
                TreeError::InTheWay { .. } => "something else already has this name in the target".to_owned(),
                other => other.to_string(),
            };
            Problem { path: path.to_vec(), op: ProblemOp::Write, errno: error.errno(), text }
        }
    }
}

/// Why nothing can be written any more, if that is so.
fn hopeless(error: &TreeError) -> Option<&'static str> {
    let TreeError::Write { source, .. } = error else { return None };
    match source.kind() {
        ErrorKind::StorageFull => Some("is full"),
        ErrorKind::QuotaExceeded => Some("has reached your quota"),
        ErrorKind::ReadOnlyFilesystem => Some("is read-only"),
        _ => None,
    }
}
