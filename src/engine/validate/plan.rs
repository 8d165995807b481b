//! Which copies of which blocks are looked at: those known as bad first, then the ones verified longest ago, volume by
//! volume.

use super::{Level, ValidateOptions};
use crate::catalog::places::BlockRow;
use crate::catalog::volumes::VolumeState;
use crate::engine::repository::Repository;
use crate::model::ids::{BlockId, BlockNo, VolumeId};
use crate::volume::store::Store;
use std::collections::BTreeSet;
use std::sync::Arc;

/// One copy to look at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub no: BlockNo,
    pub id: BlockId,
    /// Bytes that the catalog says it has.
    pub size: u64,
    /// How deep: a block that is known as bad is looked at in full, whatever was asked for, because nothing less
    /// can tell that it is sound again.
    pub level: Level,
    pub was_bad: bool,
    /// It holds no chunks.
    pub is_parity: bool,
}

/// The copies on one volume, in the order in which they are read.
pub(super) struct VolumeJobs {
    pub volume: VolumeId,
    pub store: Arc<dyn Store>,
    pub jobs: Vec<Job>,
}

/// All of the work, and what is left out of it.
pub(super) struct Plan {
    pub volumes: Vec<VolumeJobs>,
    pub skipped: u64,
    pub away: u64,
    pub condemned: u64,
    /// Blocks that no volume holds which is here or may come back, each with one on which it was.
    pub given_up: Vec<(BlockNo, VolumeId)>,
    /// The same that parity gives back, if its files are what they should be.
    pub spared: Vec<(BlockNo, VolumeId)>,
}

impl Plan {
    /// Copies to look at.
    pub fn count(&self) -> u64 {
        self.volumes.iter().map(|volume| volume.jobs.len() as u64).sum()
    }

    /// Bytes that will be read.
    pub fn bytes(&self) -> u64 {
        let jobs = self.volumes.iter().flat_map(|volume| &volume.jobs);
        jobs.filter(|job| job.level != Level::Quick).fold(0, |sum, job| sum.saturating_add(job.size))
    }
}

/// Chooses among `blocks`, which are all that the catalog has; `given_back` are those that parity makes again. Blocks that
/// are known as bad are never left out.
pub(super) fn plan(
    repository: &Repository,
    (blocks, given_back): (&[BlockRow], &BTreeSet<BlockNo>),
    options: &ValidateOptions,
    now_ns: i64,
) -> Plan {
    let condemned = blocks.iter().filter(|row| row.state == "condemned").count() as u64;
    let mut wanted: Vec<&BlockRow> = blocks.iter().filter(|row| matches!(row.state.as_str(), "ok" | "bad")).collect();
    let all = wanted.len();
    wanted.retain(|row| row.volumes.iter().any(|id| repository.volume(*id).is_some()));
    let awaited: Vec<VolumeId> =
        repository.away.iter().filter(|row| row.state != VolumeState::Lost).map(|row| row.id).collect();
    let is_given_up =
        |row: &&BlockRow| row.volumes.iter().all(|id| repository.volume(*id).is_none() && !awaited.contains(id));
    // What a parity group gives back is less protected than it should be, and not damaged.
    let is_lost = |row: &&BlockRow| is_given_up(row) && !row.is_parity && !given_back.contains(&row.no);
    let needed = blocks.iter().filter(|row| matches!(row.state.as_str(), "ok" | "bad"));
    let all_given_up = needed.clone().filter(is_given_up).count();
    let first_of = |row: &BlockRow| (row.no, row.volumes.first().copied().unwrap_or(VolumeId(0)));
    let is_spared = |row: &&BlockRow| is_given_up(row) && given_back.contains(&row.no);
    let spared = needed.clone().filter(is_spared).map(first_of).collect();
    let given_up: Vec<_> = needed.filter(is_lost).map(first_of).collect();
    let (away, here) = ((all - wanted.len() - all_given_up) as u64, wanted.len());
    let is_known_bad = |row: &BlockRow| row.state == "bad" || row.has_bad_copy;
    wanted.sort_by_key(|row| (!is_known_bad(row), row.verified_ns.unwrap_or(0), row.no));
    let mut left = sample_size(here, options.sample_percent);
    wanted.retain(|row| {
        let is_fresh = is_fresh(row, options, now_ns);
        let is_taken = is_known_bad(row) || (left > 0 && !is_fresh);
        if is_taken {
            left = left.saturating_sub(1);
        }
        is_taken
    });
    let mut volumes = Vec::new();
    for mounted in &repository.mounted {
        let of_this = wanted.iter().filter(|row| row.volumes.contains(&mounted.row.id));
        let jobs: Vec<Job> = of_this.map(|row| job_of(row, options.level)).collect();
        if !jobs.is_empty() {
            volumes.push(VolumeJobs { volume: mounted.row.id, store: Arc::clone(mounted.store()), jobs });
        }
    }
    Plan { volumes, skipped: (here - wanted.len()) as u64, away, condemned, given_up, spared }
}

fn job_of(row: &BlockRow, level: Level) -> Job {
    let was_bad = row.state == "bad";
    let level = match level {
        _ if was_bad => Level::Deep,
        // Only its bytes tell that a copy is sound again.
        Level::Quick if row.has_bad_copy => Level::Blocks,
        level => level,
    };
    Job { no: row.no, id: row.id, size: row.size, level, was_bad, is_parity: row.is_parity }
}

fn is_fresh(row: &BlockRow, options: &ValidateOptions, now_ns: i64) -> bool {
    let (Some(max_age), Some(verified_ns)) = (options.max_age, row.verified_ns) else {
        return false;
    };
    let max_age_ns = i64::try_from(max_age.as_nanos()).unwrap_or(i64::MAX);
    // A time in the future says nothing: a clock was wrong.
    (0..max_age_ns).contains(&now_ns.saturating_sub(verified_ns))
}

fn sample_size(count: usize, percent: Option<f64>) -> usize {
    let Some(percent) = percent else {
        return count;
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share between 0 and 1 of a count of blocks"
    )]
    let share = (count as f64 * (percent.clamp(0.0, 100.0) / 100.0)).ceil() as usize;
    share.min(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_rounded_up_and_never_more_than_all() {
        assert_eq!(sample_size(10, None), 10);
        assert_eq!(sample_size(10, Some(10.0)), 1);
        assert_eq!(sample_size(11, Some(10.0)), 2);
        assert_eq!(sample_size(3, Some(0.1)), 1);
        assert_eq!(sample_size(3, Some(250.0)), 3);
    }
}
