//! What a backup tells of itself.

use super::attempt::AttemptDone;
use super::finish;
use crate::catalog::runs::{Run, Source};
use crate::catalog::volumes::VolumeState;
use crate::engine::error::Result;
use crate::engine::protect::{Copied, shortfall};
use crate::engine::repository::Repository;
use crate::format::manifest::RunCounts;
use crate::model::ids::{RunSeq, RunUuid, VolumeId};
use crate::model::problem::{Problem, ProblemOp};
use crate::model::redundancy::Redundancy;
use std::time::Instant;

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
    /// Those of the deleted that are only no longer selected.
    pub excluded: u64,
    /// Blocks that were written.
    pub blocks_written: u64,
    /// Volumes that hold them, by name.
    pub volumes_used: Vec<String>,
    /// Volumes that were not here, by name and identity.
    pub volumes_away: Vec<String>,
    /// Source files that could not be read, or not soundly.
    pub problems: Vec<Problem>,
    /// Those of them whose bytes changed although nothing says that anybody wrote them.
    pub rotten: u64,
    /// On how many volumes blocks are to lie.
    pub redundancy: Redundancy,
    /// Further copies of this run's blocks that were made.
    pub blocks_copied: u64,
    /// Their bytes.
    pub bytes_copied: u64,
    /// Parity groups that were made or filled.
    pub parity_groups: u64,
    /// Bytes of their parities.
    pub parity_bytes: u64,
    /// Blocks of this run that proved damaged when they were read to be copied: the next backup stores them again.
    pub blocks_damaged: u64,
    /// Copying was interrupted; the run is saved all the same.
    pub copying_interrupted: bool,
    /// Blocks of the whole repository that lie on fewer volumes than the policy wants.
    pub blocks_under_protected: u64,
    /// Their bytes.
    pub bytes_under_protected: u64,
    /// Paths that a list names and that something else leaves out.
    pub listed_left_out: Vec<Vec<u8>>,
    /// Seconds.
    pub duration_s: f64,
}

/// Of a run that is saved.
pub(super) fn report(
    repository: &Repository,
    (source, run, (counts, excluded)): (&Source, &Run, (RunCounts, u64)),
    (done, copied): (&AttemptDone, &Copied),
    began: Instant,
) -> Result<BackupReport> {
    let under_protected = shortfall(repository)?;
    let written = &done.rows.written;
    let problems = finish::all_problems(done);
    let name = |id: &i64| repository.volume(VolumeId(*id)).map_or_else(String::new, |mounted| mounted.row.name.clone());
    Ok(BackupReport {
        run: run.seq,
        run_uuid: run.uuid,
        source: format!("{}:{}", source.host, source.name),
        counts,
        excluded,
        blocks_written: written.blocks,
        volumes_used: written.volumes.iter().map(name).collect(),
        volumes_away: repository
            .away
            .iter()
            .filter(|row| row.state != VolumeState::Lost)
            .map(|row| format!("{} ({})", row.name, row.uuid))
            .collect(),
        rotten: problems.iter().filter(|problem| problem.op == ProblemOp::Rot).count() as u64,
        problems,
        listed_left_out: done.seen.listed_left_out.clone(),
        redundancy: repository.settings().redundancy,
        blocks_copied: copied.blocks,
        bytes_copied: copied.bytes,
        parity_groups: copied.groups,
        parity_bytes: copied.parity_bytes,
        blocks_damaged: copied.bad,
        copying_interrupted: copied.is_cut_short,
        blocks_under_protected: under_protected.blocks,
        bytes_under_protected: under_protected.bytes,
        duration_s: began.elapsed().as_secs_f64(),
    })
}
