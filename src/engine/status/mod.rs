//! `status`: how things stand, as facts and as what a monitoring system should make of them. Reads the catalog, and how
//! full the volumes are that are here.

mod checks;
mod forecast;

pub use forecast::{Forecast, forecast};

use super::error::Result;
use super::protect;
use super::repository::Repository;
use super::select::source_words;
use super::volumes::{VolumeStanding, VolumeSummary, volumes_since};
use crate::catalog::redundancy;
use crate::catalog::runs::{self, Run, RunState};
use crate::model::ids::RunSeq;
use crate::model::redundancy::Redundancy;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// Where limits lie.
#[derive(Debug, Clone, Copy)]
pub struct StatusOptions {
    /// The newest complete run of each source is to have begun within this.
    pub max_run_age: Duration,
    /// Each block is to be verified, or written, within this.
    pub max_verify_age: Duration,
    /// Days until the volumes are full that are few.
    pub space_warning: Duration,
    /// Days that are too few.
    pub space_critical: Duration,
}

impl Default for StatusOptions {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        Self {
            max_run_age: Duration::from_secs(36 * 3600),
            max_verify_age: days(30),
            space_warning: days(30),
            space_critical: days(7),
        }
    }
}

impl StatusOptions {
    /// The age from which on a run is called late: three quarters of what it may have.
    pub fn late_run_age(&self) -> Duration {
        self.max_run_age.mul_f64(0.75)
    }
}

/// How bad it is, by the names and numbers of monitoring plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// To be seen to some day soon.
    Warning,
    /// To be seen to now.
    Critical,
}

impl Severity {
    /// The word that a plugin says.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of thing: run, unfinished, problems, damage, redundancy, verification, volume, space.
    pub what: &'static str,
    /// The sentence.
    pub text: String,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SourceStatus {
    /// `host:name`.
    pub source: String,
    /// Its newest complete run.
    pub last_good: Option<RunSeq>,
    /// When that began, nanoseconds since 1970.
    pub last_good_ns: Option<i64>,
    /// Seconds since then; below 0 when the clock says that it is to come.
    pub age_s: Option<i64>,
    /// Problems of that run.
    pub problems: u64,
    /// Bytes that restoring it gives.
    pub bytes: u64,
    /// Bytes that it added to volumes.
    pub bytes_stored: u64,
    /// A newer run that is not complete, and what has become of it.
    pub unfinished: Option<Unfinished>,
}

/// A run newer than the newest complete one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Unfinished {
    /// Its number.
    pub run: RunSeq,
    /// When it began, nanoseconds since 1970.
    pub started_ns: i64,
    /// Whether a process works on the catalog now, so that it may well be this run.
    pub is_running: bool,
}

/// How things stand.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct StatusReport {
    /// The worst of all checks.
    pub state: Severity,
    /// All of it in one sentence.
    pub sentence: String,
    /// The checks, the worst first.
    pub checks: Vec<Check>,
    /// By number of their rows.
    pub sources: Vec<SourceStatus>,
    /// In the order in which they were added.
    pub volumes: Vec<VolumeSummary>,
    /// Blocks that are damaged or missing, every copy of them.
    pub blocks_damaged: u64,
    /// On how many volumes blocks are to lie.
    pub redundancy: Redundancy,
    /// Blocks that lie on fewer.
    pub blocks_under_protected: u64,
    /// Their bytes.
    pub bytes_under_protected: u64,
    /// Where there are enough runs.
    pub forecast: Option<Forecast>,
    /// When this was looked at, nanoseconds since 1970.
    pub now_ns: i64,
}

impl StatusReport {
    /// Bytes of all copies, those never verified, and those neither verified nor written lately.
    pub fn verification_bytes(&self) -> (u64, u64, u64) {
        self.volumes.iter().fold((0, 0, 0), |(all, never, due), volume| {
            let found = &volume.verification;
            (
                found.bytes.saturating_add(all),
                found.never_bytes.saturating_add(never),
                found.due_bytes.saturating_add(due),
            )
        })
    }

    /// Copies of blocks that are damaged or missing, where another one is sound.
    pub fn bad_copies(&self) -> u64 {
        let all = self.volumes.iter().fold(0_u64, |sum, volume| sum.saturating_add(volume.verification.bad_blocks));
        if self.blocks_damaged > 0 { 0 } else { all }
    }
}

/// Nanoseconds since 1970.
pub fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Looks at everything, at the time `now_ns`.
pub fn status(repository: &Repository, options: &StatusOptions, now_ns: i64) -> Result<StatusReport> {
    let conn = repository.catalog.conn();
    let all = runs::all(conn)?;
    let mut sources = Vec::new();
    for source in runs::sources(conn)? {
        let own: Vec<&Run> = all.iter().filter(|run| run.source == source.id).collect();
        let good = own.iter().rev().find(|run| run.state == RunState::Complete);
        let newest = own.last().filter(|run| matches!(run.state, RunState::Open | RunState::Aborted));
        // A run that a crash left open is told from one under way by the lock that a backup holds all the while.
        let unfinished = match newest {
            Some(run) => Some(Unfinished {
                run: run.seq,
                started_ns: run.started_ns,
                is_running: run.state == RunState::Open && repository.catalog.is_locked()?,
            }),
            None => None,
        };
        sources.push(SourceStatus {
            source: source_words(&source),
            last_good: good.map(|run| run.seq),
            last_good_ns: good.map(|run| run.started_ns),
            age_s: good.map(|run| now_ns.saturating_sub(run.started_ns) / 1_000_000_000),
            problems: good.map_or(0, |run| run.counts.problems),
            bytes: good.map_or(0, |run| run.counts.bytes_total),
            bytes_stored: good.map_or(0, |run| run.counts.bytes_stored),
            unfinished,
        });
    }
    let since_ns = now_ns.saturating_sub(i64::try_from(options.max_verify_age.as_nanos()).unwrap_or(i64::MAX));
    let volumes = volumes_since(repository, since_ns)?;
    let room = room(&volumes);
    let lacking = protect::shortfall(repository)?;
    let complete: Vec<Run> = all.into_iter().filter(|run| run.state == RunState::Complete).collect();
    let mut report = StatusReport {
        state: Severity::Ok,
        sentence: String::new(),
        checks: Vec::new(),
        sources,
        volumes,
        blocks_damaged: redundancy::bad_blocks(conn)?,
        redundancy: repository.settings().redundancy,
        blocks_under_protected: lacking.blocks,
        bytes_under_protected: lacking.bytes,
        forecast: forecast(&complete, room),
        now_ns,
    };
    checks::judge(&mut report, options);
    Ok(report)
}

/// Bytes that the active volumes can take together; those on one file system share what is free there.
fn room(volumes: &[VolumeSummary]) -> u64 {
    let mut by_device: BTreeMap<Option<u64>, u64> = BTreeMap::new();
    for volume in volumes.iter().filter(|volume| volume.state == VolumeStanding::Active) {
        let metadata = volume.path.as_ref().and_then(|path| std::fs::metadata(path).ok());
        let most = by_device.entry(metadata.map(|metadata| metadata.dev())).or_default();
        *most = (*most).max(volume.room().unwrap_or(0));
    }
    by_device.into_values().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests;
