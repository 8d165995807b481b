//! What a restore has done and what went wrong so far, gathered from all of its threads.

use super::delete::Left;
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
    pub refused: Refused,
    /// Names of which something was refused, where they are wanted.
    pub refused_names: Vec<RefusedName>,
    pub metadata_set: u64,
    pub too_short: u64,
    /// Segments that a volume could not give and another one could.
    pub read_elsewhere: u64,
    pub deleted: u64,
    /// What was deleted, where it is wanted, as paths in the target.
    pub deleted_names: Vec<Vec<u8>>,
    /// Nothing was deleted because something could not be restored.
    pub delete_skipped: bool,
    /// What stayed although the run does not have it.
    pub left: Vec<Left>,
    /// What a rehearsal would restore, where it is wanted, as paths in the target.
    pub names: Vec<Vec<u8>>,
    pub inconsistent: Vec<String>,
    pub problems: Vec<Problem>,
    /// How many problems are only because of volumes that are away.
    pub away: u64,
    pub volumes_wanted: BTreeSet<String>,
    /// What is whole now, and immutable or append-only once everything is done.
    pub last_flags: Vec<LastFlags>,
    /// Hard-link groups whose first name failed, and how its bytes did if they were the reason.
    pub failed_links: HashMap<LinkKey, Option<DataFailure>>,
}

impl Counts {
    /// Whether no name was restored, or left, or failed.
    pub fn is_nothing(&self) -> bool {
        let made = self.files + self.dirs + self.symlinks + self.hardlinks + self.specials;
        made + self.skipped_existing + self.too_short == 0 && self.problems.is_empty()
    }
}

/// How many names have something that the system would not set, by kind; a name may count in several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Refused {
    /// Owner or group.
    pub owner: u64,
    /// Permissions.
    pub mode: u64,
    /// The time of the last change.
    pub times: u64,
    /// Extended attributes, ACLs and capabilities among them.
    pub attributes: u64,
    /// Flags of `chattr`.
    pub flags: u64,
}

/// One name of which something was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedName {
    /// Path inside the source.
    pub path: Vec<u8>,
    /// What: the fields of [`Refused`].
    pub kinds: Vec<&'static str>,
}

impl Refused {
    fn note(&mut self, outcome: MetaOutcome) -> Vec<&'static str> {
        let kinds = [
            (outcome.owner_refused, &mut self.owner, "owner"),
            (outcome.mode_refused, &mut self.mode, "mode"),
            (outcome.time_refused, &mut self.times, "times"),
            (outcome.attrs_refused, &mut self.attributes, "attributes"),
            (outcome.flags_refused, &mut self.flags, "flags"),
        ];
        let mut words = Vec::new();
        for (is_refused, count, word) in kinds {
            if is_refused {
                *count += 1;
                words.push(word);
            }
        }
        words
    }
}

/// Flags that a name gets when everything is done.
#[derive(Debug)]
pub(super) struct LastFlags {
    /// In the target.
    pub path: Vec<u8>,
    pub flags: u32,
    /// What was refused of the name before.
    pub before: MetaOutcome,
}

/// Names of which something was refused that are kept unless all are wanted.
const REFUSED_NAMES_MAX: usize = 20;

/// Which names a report is to have.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Named {
    /// Those of which something was refused, the first ones at least.
    pub refused: bool,
    /// Those that were deleted, or would be.
    pub deleted: bool,
    /// All.
    pub all: bool,
}

/// Shared by the threads of one restore.
#[derive(Debug, Default)]
pub(super) struct Tally {
    named: Named,
    counts: Mutex<Counts>,
    fatal: Mutex<Option<EngineError>>,
    is_stopped: AtomicBool,
}

impl Tally {
    pub fn new(named: Named) -> Self {
        Self { named, ..Self::default() }
    }

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
    pub fn note_last_flags(&self, path: &[u8], (meta, before): (&TargetMeta, MetaOutcome)) {
        let flags = meta.attrs.as_ref().map_or(0, |attrs| attrs.flags);
        if flags & FLAGS_LAST != 0 {
            self.counts().last_flags.push(LastFlags { path: path.to_vec(), flags, before });
        }
    }

    /// Counts what the system refused of a name's metadata; the path is the source's.
    pub fn note_meta(&self, path: &[u8], outcome: MetaOutcome) {
        if outcome != MetaOutcome::default() {
            let mut counts = self.counts();
            counts.metadata_refused += 1;
            let kinds = counts.refused.note(outcome);
            let is_kept = self.named.all || counts.refused_names.len() < REFUSED_NAMES_MAX;
            if self.named.refused && is_kept {
                counts.refused_names.push(RefusedName { path: path.to_vec(), kinds });
            }
        }
    }

    /// The same of a name's last flags; a name of which something was refused before is not counted twice.
    pub fn note_last_flags_refused(&self, path: &[u8], before: MetaOutcome) {
        if before == MetaOutcome::default() {
            return self.note_meta(path, MetaOutcome { flags_refused: true, ..before });
        }
        let mut counts = self.counts();
        counts.refused.flags += u64::from(!before.flags_refused);
        if let Some(name) = counts.refused_names.iter_mut().find(|name| name.path == path)
            && !before.flags_refused
        {
            name.kinds.push("flags");
        }
    }

    /// Counts a name that was deleted, or would be.
    pub fn note_deleted(&self, path: &[u8]) {
        let mut counts = self.counts();
        counts.deleted += 1;
        if self.named.all || self.named.deleted {
            counts.deleted_names.push(path.to_vec());
        }
    }

    /// Keeps the name that would be restored as `path`.
    pub fn note_name(&self, path: &[u8]) {
        if self.named.all {
            self.counts().names.push(path.to_vec());
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
