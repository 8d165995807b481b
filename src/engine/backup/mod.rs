//! `backup`: stores one source as a new run.

use super::error::{EngineError, Result};
use super::observer::Observer;
use super::repository::Repository;
use crate::format::manifest::RunCounts;
use crate::model::ids::{RunSeq, RunUuid};
use crate::model::problem::Problem;
use std::path::PathBuf;

/// How a source is backed up.
#[derive(Debug, Clone, Default)]
pub struct BackupOptions {
    /// The source's root.
    pub root: PathBuf,
    /// The source's name; the root's absolute path when not given.
    pub name: Option<String>,
    /// Threads that read, hash and compress; one a core when not given.
    pub workers: Option<usize>,
    /// Threads that write blocks; min(4, active volumes) when not given.
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
}

/// What a backup did.
#[derive(Debug, Clone, serde::Serialize)]
pub struct BackupReport {
    /// The run's number.
    pub run: RunSeq,
    /// The run's identity.
    pub run_uuid: RunUuid,
    /// `host:name` of the source.
    pub source: String,
    /// Counts and bytes.
    pub counts: RunCounts,
    /// Blocks that were written.
    pub blocks_written: u64,
    /// Volumes that hold them, by name.
    pub volumes_used: Vec<String>,
    /// Volumes that were not here, by name and identity.
    pub volumes_away: Vec<String>,
    /// Source files that could not be read, or not soundly.
    pub problems: Vec<Problem>,
    /// Seconds.
    pub duration_s: f64,
}

/// Backs the source up. The report's problems mean exit code 3.
pub fn backup(
    _repository: &mut Repository,
    _options: &BackupOptions,
    _observer: &dyn Observer,
) -> Result<BackupReport> {
    Err(EngineError::Fault("not built yet".into()))
}
