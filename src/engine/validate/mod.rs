//! `validate`: looks whether everything that is stored is there and sound, and names what is not.
//!
//! `plan` chooses the copies to look at, `scan` reads the volumes side by side and `block_check` looks at one copy;
//! `touched` finds the files behind the damage; `volumes` and `manifests` look at what is beside the blocks; `record`
//! keeps the outcome. Volumes are only read, but for their index.

mod block_check;
mod heal;
mod manifests;
mod plan;
mod record;
mod repair;
mod report;
mod scan;
#[cfg(test)]
mod tests;
mod touched;
mod volumes;

pub use report::{AffectedFile, DamagedBlock, ValidateReport};

use super::Observer;
use super::error::{EngineError, Result};
use super::observer::{Expected, Phase};
use super::protect;
use super::recover;
use super::repository::Repository;
use crate::catalog::places::{self, BlockRow};
use crate::catalog::{Catalog, CatalogError, blocks, damage, digests, parity, runs};
use crate::model::ids::{BlockNo, VolumeId};
use block_check::Damage;
use heal::HealedBy;
use plan::Plan;
use record::Outcomes;
use scan::{Finding, Outcome, ScanSettings};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use touched::Toucher;

/// Sentences about rows at most, of each kind.
const ROW_PROBLEMS_MAX: u32 = 100;

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Blocks are there and as long as they should be.
    Quick,
    /// And their bytes hash to their names.
    #[default]
    Blocks,
    /// And their segments decode to chunks that hash to theirs.
    Deep,
}

/// What to look at.
#[derive(Debug, Clone, Default)]
pub struct ValidateOptions {
    /// How deep.
    pub level: Level,
    /// Leave out blocks that were verified more recently.
    pub max_age: Option<Duration>,
    /// Only so many hundredths of the blocks, those verified longest ago.
    pub sample_percent: Option<f64>,
    /// Begin no further block when so much time is over since the start; one block of each volume is always looked at,
    /// so that every check comes further than the one before. Has no use with [`Level::Quick`], which leaves no times.
    pub max_duration: Option<Duration>,
    /// Threads that decode; one a core when not given.
    pub workers: Option<usize>,
    /// Write damaged copies anew from sound ones.
    pub repair: bool,
}

/// Checks the repository. What is damaged is in the report, and marked in the catalog so that the next backup heals it
/// from the source; an error means that the check itself could not go on. When cancelled, what was found so far is
/// kept and the answer is `Interrupted`.
pub fn validate(
    repository: &mut Repository,
    options: &ValidateOptions,
    observer: &dyn Observer,
) -> Result<ValidateReport> {
    let started = Instant::now();
    let mut report = ValidateReport::new(options.level);
    report.manifest_problems.extend(recover::catch_up(repository, observer)?);
    let rows = places::all_blocks(repository.catalog.conn())?;
    let facts = volumes::look_at(repository, &rows, &mut report)?;
    let now_ns = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    let given_back = parity::recoverable(repository.catalog.conn(), &[])?;
    let plan = plan::plan(repository, (&rows, &given_back), options, now_ns);
    (report.blocks_skipped, report.blocks_away, report.blocks_condemned) = (plan.skipped, plan.away, plan.condemned);
    let expected = Expected { items: Some(plan.count()), bytes: Some(plan.bytes()) };
    observer.begin(Phase::Validate, expected);

    let mut outcomes = Outcomes::default();
    outcomes.damaged.extend(plan.given_up.iter().map(|copy| (*copy, Damage::GivenUp)));
    // The catalog is checked beside the volumes: one waits for its processor, the other mostly for disks.
    let (reader, states_reader) = (repository.catalog.reader()?, repository.catalog.reader()?);
    let deadline = options.max_duration.and_then(|given| started.checked_add(given));
    let is_done = std::thread::scope(|scope| -> Result<bool> {
        let row_check = scope.spawn(move || check_rows(&reader));
        let with_states = options.level != Level::Quick;
        let state_check = with_states.then(|| scope.spawn(move || check_states(&states_reader)));
        let is_done = look_inside(repository, (&plan, options, deadline), (&mut outcomes, &mut report), observer)?;
        for check in [Some(row_check), state_check].into_iter().flatten() {
            let problems = check.join().map_err(|_| EngineError::Fault("the check of the rows broke".into()))??;
            report.row_problems.extend(problems);
        }
        Ok(is_done)
    })?;
    find_given_back(repository, (&rows, &plan.spared), &mut outcomes)?;
    describe_damage(repository, &rows, &outcomes, &mut report)?;
    if options.repair {
        heal(repository, (&rows, &mut outcomes), &mut report, observer)?;
    }
    record::record(repository, &rows, &outcomes, now_ns)?;
    let notes = record::update_indexes(repository, (&facts, &rows), (&outcomes, now_ns), observer);
    report.notes.extend(notes);
    if !is_done || (options.repair && observer.is_cancelled()) {
        return Err(EngineError::Interrupted);
    }
    if options.repair && options.level != Level::Quick && report.is_whole() {
        repair::empty_quarantine(repository, &mut report);
    }
    report.blocks_under_protected = protect::shortfall(repository)?.blocks;
    report.duration_s = started.elapsed().as_secs_f64();
    Ok(report)
}

/// Reads manifests and blocks; returns whether it came to the end.
fn look_inside(
    repository: &Repository,
    (plan, options, deadline): (&Plan, &ValidateOptions, Option<Instant>),
    (outcomes, report): (&mut Outcomes, &mut ValidateReport),
    observer: &dyn Observer,
) -> Result<bool> {
    manifests::check_manifests(repository, observer, report)?;
    let settings = ScanSettings {
        algo: repository.settings().hash,
        repository: repository.settings().repository,
        workers: options.workers,
        deadline,
    };
    let mut left = Left { blocks: plan.count(), bytes: plan.bytes() };
    let is_done = scan::scan(plan, &settings, observer, &mut |finding| {
        left.take(&finding);
        take_in(repository, finding, outcomes, report)
    })?;
    (report.blocks_left, report.bytes_left) = (left.blocks, left.bytes);
    Ok(is_done)
}

/// What the plan has and nobody looked at yet.
struct Left {
    blocks: u64,
    bytes: u64,
}

impl Left {
    fn take(&mut self, finding: &Finding) {
        self.blocks = self.blocks.saturating_sub(1);
        if finding.job.level != Level::Quick {
            self.bytes = self.bytes.saturating_sub(finding.job.size);
        }
    }
}

/// Looks at the catalog itself: its file's structure, and what its rows name.
fn check_rows(catalog: &Catalog) -> Result<Vec<String>> {
    let mut problems = unless_corrupt(catalog.quick_check().map(|()| Vec::new()))?;
    problems.extend(unless_corrupt(damage::dangling(catalog.conn(), ROW_PROBLEMS_MAX))?);
    Ok(problems)
}

/// Whether the rows are still those that the runs wrote.
fn check_states(catalog: &Catalog) -> Result<Vec<String>> {
    unless_corrupt(wrong_states(catalog))
}

/// A catalog whose file is damaged is a finding, and no reason to stop.
fn unless_corrupt(checked: std::result::Result<Vec<String>, CatalogError>) -> Result<Vec<String>> {
    match checked {
        Err(error) if error.is_corruption() => Ok(vec![error.to_string()]),
        checked => Ok(checked?),
    }
}

/// A sentence for each source whose rows do not add up to the digests of its runs.
fn wrong_states(catalog: &Catalog) -> std::result::Result<Vec<String>, CatalogError> {
    let mut problems = Vec::new();
    for source in runs::sources(catalog.conn())? {
        let wrong = digests::wrong_runs(catalog.conn(), source.id)?;
        let Some(first) = wrong.first() else { continue };
        problems.push(format!(
            "the rows of {}:{} are not those that its runs wrote ({} of its runs do not add up, the first is run \
             {first}): the catalog is damaged; bring it back with `raidtape rebuild-catalog`",
            source.host,
            source.name,
            wrong.len()
        ));
    }
    Ok(problems)
}

/// Counts one copy, and compares its own table with the catalog's rows where it was read.
fn take_in(
    repository: &Repository,
    finding: Finding,
    outcomes: &mut Outcomes,
    report: &mut ValidateReport,
) -> Result<()> {
    let Finding { volume, job, outcome, tally } = finding;
    report.bytes_read += tally.bytes;
    report.chunks_checked += tally.chunks;
    let copy = (job.no, volume);
    match outcome {
        Outcome::VolumeGone => {
            report.blocks_away += 1;
            let words = repository.volume_words(volume);
            if !report.volumes_away.contains(&words) {
                report.volumes_away.push(words);
            }
            return Ok(());
        }
        Outcome::Damaged(damage) => {
            outcomes.damaged.insert(copy, damage);
        }
        Outcome::Sound => {
            if job.level != Level::Quick {
                outcomes.verified.insert(copy, job.id);
            }
            if job.was_bad {
                outcomes.sound_again.insert(job.no);
            }
        }
    }
    report.blocks_checked += 1;
    if let Some(table) = tally.table {
        let (by_rows, _) = blocks::table_of(repository.catalog.conn(), job.no)?;
        if by_rows != table {
            report.row_problems.push(format!("the rows of block {} are not what its own table says", job.id));
        }
    }
    Ok(())
}

/// Heals damaged copies, and says in the report from where.
fn heal(
    repository: &mut Repository,
    (rows, outcomes): (&[BlockRow], &mut Outcomes),
    report: &mut ValidateReport,
    observer: &dyn Observer,
) -> Result<()> {
    if outcomes.damaged.is_empty() {
        return Ok(());
    }
    repository.lock_volumes(observer)?;
    let healed = repair::repair(repository, (rows, outcomes), report, observer)?;
    for ((no, volume), from) in healed {
        let id = rows.iter().find(|row| row.no == no).map(|row| row.id);
        let words = repository.volume_words(volume);
        let from = match from {
            HealedBy::Copy(from) => repository.volume_words(from),
            HealedBy::Parity => "parity".to_owned(),
            HealedBy::Pieces => "what is sound in its copies".to_owned(),
        };
        let told = report.damaged.iter_mut().find(|block| Some(block.block) == id && block.volume == words);
        if let Some(block) = told {
            block.healed_from = Some(from);
        }
    }
    Ok(())
}

/// Notes the damaged blocks that their parity groups give back, and those of `spared` that these do not give back after all.
fn find_given_back(
    repository: &Repository,
    (rows, spared): (&[BlockRow], &[(BlockNo, VolumeId)]),
    outcomes: &mut Outcomes,
) -> Result<()> {
    let hit: BTreeSet<BlockNo> = outcomes.damaged.keys().map(|(block, _)| *block).collect();
    for row in rows.iter().filter(|row| !row.is_parity && hit.contains(&row.no)) {
        let is_damaged = |volume: &VolumeId| outcomes.is_damaged((row.no, *volume));
        if !row.volumes.iter().all(is_damaged) {
            continue;
        }
        if recover::is_given_back(repository, (row.no, row.id))? {
            outcomes.given_back.insert(row.no);
        } else if recover::is_awaited(repository, row.no)? {
            outcomes.awaited.insert(row.no);
        }
    }
    for (no, volume) in spared {
        let groups = parity::of_block(repository.catalog.conn(), *no)?;
        let is_hit = groups.iter().flat_map(|group| &group.members).any(|member| hit.contains(&member.no));
        let Some(row) = rows.iter().find(|row| row.no == *no).filter(|_| is_hit) else { continue };
        if !recover::is_given_back(repository, (row.no, row.id))? {
            outcomes.damaged.insert((*no, *volume), Damage::GivenUp);
            if recover::is_awaited(repository, row.no)? {
                outcomes.awaited.insert(row.no);
            }
        }
    }
    Ok(())
}

fn describe_damage(
    repository: &Repository,
    rows: &[BlockRow],
    outcomes: &Outcomes,
    report: &mut ValidateReport,
) -> Result<()> {
    let mut toucher = Toucher::new(repository, rows, outcomes)?;
    for (copy, damage) in &outcomes.damaged {
        report.damaged.extend(toucher.describe(*copy, damage)?);
    }
    Ok(())
}
