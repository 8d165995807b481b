//! What a restore is asked for.

use super::WantedOptions;
use super::tally::{Named, Tally};
use crate::model::ids::RunSeq;
use crate::model::run_spec::RunSpec;
use std::path::PathBuf;

/// What becomes of a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// It is replaced.
    Always,
    /// It is replaced unless it is a regular file of the same size and time.
    IfChanged,
    /// It is replaced if the stored one is newer.
    IfNewer,
    /// It stays.
    Never,
}

impl Overwrite {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::Always, Self::IfChanged, Self::IfNewer, Self::Never];

    /// The word of the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::IfChanged => "if-changed",
            Self::IfNewer => "if-newer",
            Self::Never => "never",
        }
    }
}

/// What becomes of names in the target that the run does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delete {
    /// They stay.
    #[default]
    Nothing,
    /// They are deleted, if the run is of all that its source had.
    Lacking,
    /// They are deleted, also what the run may have left out on purpose.
    Excluded,
}

/// How it is restored, beside from where and to where.
#[derive(Debug, Clone, Default)]
pub struct RestoreHow {
    /// What of a tree is restored.
    pub wanted: WantedOptions,
    /// What becomes of what the run does not have.
    pub delete: Delete,
    /// Nothing is written.
    pub dry_run: bool,
    /// What the system refuses of a name's metadata makes the restore incomplete.
    pub strict: bool,
    /// The report has the names that were refused or would be restored, all of them.
    pub names_all: bool,
    /// Owners are the numbers that were stored, whatever their names mean on this system.
    pub numeric_ids: bool,
}

impl RestoreHow {
    pub(super) fn tally(&self) -> Tally {
        Tally::new(Named { refused: self.strict || self.names_all, deleted: self.dry_run, all: self.names_all })
    }
}

/// What to restore, and where.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// Path inside the source, or absolute below its root.
    pub path: Vec<u8>,
    /// Where to.
    pub dest: PathBuf,
    /// As of this run; the newest complete one when not given.
    pub run: Option<RunSpec>,
    /// `name` or `host:name`, where several sources fit.
    pub source: Option<String>,
    /// What becomes of what lies there; without it nothing may lie there.
    pub overwrite: Option<Overwrite>,
    /// Threads that read, decode and write; one a core when not given.
    pub workers: Option<usize>,
    /// How.
    pub how: RestoreHow,
}

/// Which run to go back to, and where.
#[derive(Debug, Clone)]
pub struct RevertOptions {
    /// The run.
    pub run: RunSeq,
    /// Directory that its tree is put in.
    pub dest: PathBuf,
    /// What becomes of what lies there; without it nothing may lie there.
    pub overwrite: Option<Overwrite>,
    /// Threads that read, decode and write; one a core when not given.
    pub workers: Option<usize>,
    /// How.
    pub how: RestoreHow,
}
