//! `protect`: brings every block to as many volumes as the policy wants. A run does the same with its own blocks before
//! it is complete.
//!
//! `plan` chooses where copies go, `copy` makes one, `make` makes many: each volume that is written has a thread; one thread
//! alone writes the catalog, and only what is durable. A volume that fails or is full is left out, and its share planned anew.

pub(super) mod copy;
mod make;
mod plan;

pub(super) use self::make::give_copies;

use super::backup::no_volume_words;
use super::error::{EngineError, Exit, Result};
use super::observer::Observer;
use super::recover::{recover, with_what_works};
use super::repository::Repository;
use crate::catalog::redundancy::{self, Scope, Shortfall, Want};
use crate::catalog::volumes::VolumeState;
use crate::model::ids::{BlockNo, VolumeId};
use crate::model::redundancy::Redundancy;
use crate::volume::index::{IndexDb, IndexedBlock};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Blocks that are planned at once: 32 GiB of full ones.
const BATCH: usize = 256;

/// How long to go on.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProtectOptions {
    /// Begin no further block when so much time is over; one for each volume is always copied, so that every call comes
    /// further than the one before.
    pub max_duration: Option<Duration>,
}

/// What `protect` did, and what is left.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ProtectReport {
    /// The policy.
    pub redundancy: Redundancy,
    /// Copies that were made.
    pub blocks_copied: u64,
    /// Their bytes.
    pub bytes_copied: u64,
    /// Where they are, by name.
    pub volumes_written: Vec<String>,
    /// Blocks that lie on fewer volumes than the policy wants.
    pub blocks_under_protected: u64,
    /// Their bytes.
    pub bytes_under_protected: u64,
    /// Copies that could not be read, and volumes that could not be written.
    pub problems: Vec<String>,
    /// Blocks that are known to be damaged: no copy is sound, as far as they are here.
    pub blocks_damaged: u64,
    /// The time given was over before the end.
    pub is_out_of_time: bool,
    /// Seconds.
    pub duration_s: f64,
}

impl ProtectReport {
    /// `Damage` when a block cannot be read from any copy that is here, `UnderProtected` while something is left.
    pub fn exit(&self) -> Exit {
        match (self.blocks_damaged, self.blocks_under_protected) {
            (0, 0) => Exit::Done,
            (0, _) => Exit::UnderProtected,
            _ => Exit::Damage,
        }
    }
}

/// What came of making copies.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pub blocks: u64,
    pub bytes: u64,
    pub problems: Vec<String>,
    pub damaged: BTreeSet<BlockNo>,
    /// Those among them of which every copy is known to be damaged.
    pub bad: u64,
    /// The end was not reached: for want of time, or because the user asked.
    pub is_cut_short: bool,
    made: BTreeMap<VolumeId, Vec<IndexedBlock>>,
    failed: BTreeSet<VolumeId>,
    beside: BTreeSet<(VolumeId, VolumeId)>,
}

impl Copied {
    /// Takes in what came of more.
    pub fn add(&mut self, mut more: Self) {
        self.blocks += more.blocks;
        self.bytes += more.bytes;
        self.problems.append(&mut more.problems);
        self.damaged.append(&mut more.damaged);
        self.bad += more.bad;
        self.is_cut_short |= more.is_cut_short;
        for (volume, mut made) in more.made {
            self.made.entry(volume).or_default().append(&mut made);
        }
    }
}

/// How copies are made.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CopyLimits {
    pub deadline: Option<Instant>,
    /// On this thread alone.
    pub is_alone: bool,
    /// The volume that is filled before others.
    pub onto: Option<VolumeId>,
}

/// Makes the copies that the policy wants and that can be made now.
pub fn protect(
    repository: &mut Repository,
    options: &ProtectOptions,
    observer: &dyn Observer,
) -> Result<ProtectReport> {
    let began = Instant::now();
    make_ready(repository, observer)?;
    let redundancy = repository.settings().redundancy;
    let want = Want::everywhere(redundancy);
    let deadline = options.max_duration.and_then(|given| began.checked_add(given));
    let copied = give_copies(repository, &want, CopyLimits { deadline, ..CopyLimits::default() }, observer)?;
    update_indexes(repository, &copied, observer);
    repository.catalog.checkpoint().ok();
    if observer.is_cancelled() {
        return Err(EngineError::Interrupted);
    }
    let left = shortfall(repository)?;
    Ok(ProtectReport {
        redundancy,
        blocks_copied: copied.blocks,
        bytes_copied: copied.bytes,
        volumes_written: copied.made.keys().map(|id| name_of(repository, *id)).collect(),
        blocks_under_protected: left.blocks,
        bytes_under_protected: left.bytes,
        problems: copied.problems,
        blocks_damaged: redundancy::bad_blocks(repository.catalog.conn())?,
        is_out_of_time: copied.is_cut_short,
        duration_s: began.elapsed().as_secs_f64(),
    })
}

/// Takes the volumes' locks and brings in what was left behind, as every command does that writes blocks.
pub(super) fn make_ready(repository: &mut Repository, observer: &dyn Observer) -> Result<()> {
    with_what_works(repository, observer, &|repository| repository.lock_volumes(observer))?;
    if repository.writable().next().is_none() {
        return Err(EngineError::NoVolume(no_volume_words(repository)));
    }
    with_what_works(repository, observer, &|repository| recover(repository, observer))?;
    if repository.writable().next().is_none() {
        return Err(EngineError::NoVolume(no_volume_words(repository)));
    }
    Ok(())
}

/// Copies of the blocks that no record lists yet: those of the run that is about to be complete. What cannot be done is
/// left to `protect`; the run is saved all the same.
pub(super) fn protect_new(repository: &mut Repository, is_alone: bool, observer: &dyn Observer) -> Result<Copied> {
    let redundancy = repository.settings().redundancy;
    if redundancy.copies() < 2 {
        return Ok(Copied::default());
    }
    let want = Want { scope: Scope::Unlisted, ..Want::everywhere(redundancy) };
    let copied = give_copies(repository, &want, CopyLimits { is_alone, ..CopyLimits::default() }, observer)?;
    copied.problems.iter().for_each(|problem| observer.warn(problem));
    Ok(copied)
}

/// How much of the whole repository lies on fewer volumes than the policy wants.
pub fn shortfall(repository: &Repository) -> Result<Shortfall> {
    let want = Want::everywhere(repository.settings().redundancy);
    // What lay on a volume that was given up and nowhere else is lost, and no matter of more copies.
    if want.copies < 2 {
        return Ok(Shortfall::default());
    }
    Ok(redundancy::shortfall(repository.catalog.conn(), &want)?)
}

/// Why that may be so, and what helps.
pub fn shortfall_words(repository: &Repository) -> String {
    let wanted = repository.settings().redundancy.copies() as usize;
    let here = repository.mounted.iter().filter(|mounted| mounted.volume.is_writable()).count();
    let awaited = repository.away.iter().filter(|row| row.state != VolumeState::Lost).count();
    let known = repository.mounted.len() + awaited;
    let again = "then run `raidtape protect`";
    if redundancy::has_bad_copies(repository.catalog.conn()).unwrap_or(false) {
        "some copies are damaged; `raidtape validate --repair` writes them anew".to_owned()
    } else if known < wanted {
        let volumes = if wanted - known == 1 { "another volume" } else { "more volumes" };
        format!("there are {known} of {wanted} volumes; add {volumes} with `raidtape add-volume DIR`, {again}")
    } else if here < wanted {
        format!(
            "too few volumes are here and can be written; mount the others, or add one with `raidtape add-volume DIR`, {again}"
        )
    } else {
        "run `raidtape protect`; where it finds no room, add a volume with `raidtape add-volume DIR`".to_owned()
    }
}

/// Tells the volumes' own indexes what came. They are caches: a failure is only said.
pub(super) fn update_indexes(repository: &Repository, copied: &Copied, observer: &dyn Observer) {
    for (id, made) in &copied.made {
        let Some(mounted) = repository.volume(*id).filter(|mounted| mounted.is_locked_for_writing()) else { continue };
        if let Err(error) = IndexDb::update(&mounted.volume.root, made, &[], &[]) {
            observer.warn(&format!("volume {}: its index is not up to date: {error}", mounted.row.name));
        }
    }
}

pub(super) fn name_of(repository: &Repository, id: VolumeId) -> String {
    repository.volume(id).map_or_else(|| id.to_string(), |mounted| mounted.row.name.clone())
}
