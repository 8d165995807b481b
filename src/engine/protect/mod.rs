//! `protect`: brings every block to as many volumes as the policy wants, or into a parity group. A run does the same with its
//! own blocks before it is complete.
//!
//! `plan` chooses where copies go, `copy` makes one, `make` makes many: each volume that is written has a thread; one thread
//! alone writes the catalog, and only what is durable. A volume that fails or is full is left out, and its share planned anew.

pub(super) mod copy;
pub(super) mod joined;
mod make;
pub(super) mod places;
mod plan;

pub(super) use self::make::give_copies;

use super::backup::no_volume_words;
use super::error::{EngineError, Exit, Result};
use super::observer::Observer;
use super::parity::make_groups;
use super::parity::retire::{delete_retired, drop_extra_copies, drop_superseded};
use super::recover::{recover, with_what_works};
use super::repository::Repository;
use crate::catalog::redundancy::{self, Goal, Scope, Shortfall, Want};
use crate::catalog::volumes::VolumeState;
use crate::model::ids::{BlockId, BlockNo, VolumeId};
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
    /// Parity groups that were made or filled.
    pub parity_groups: u64,
    /// Bytes of the parities that were written for them.
    pub parity_bytes: u64,
    /// Files that were deleted because something else stands for them now.
    pub files_removed: u64,
    /// Their bytes.
    pub bytes_removed: u64,
    /// Blocks that lie on fewer volumes than the policy wants.
    pub blocks_under_protected: u64,
    /// Their bytes.
    pub bytes_under_protected: u64,
    /// Copies that could not be read, and volumes that could not be written.
    pub problems: Vec<String>,
    /// Volumes that the policy needs to do what it promises at its price.
    pub volumes_wanted: u32,
    /// Volumes that there are, here or away.
    pub volumes_known: u32,
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
    /// Parity groups that were made or filled, and bytes of their parities.
    pub groups: u64,
    pub parity_bytes: u64,
    /// Files that are not needed any more and were deleted.
    pub removed: BTreeMap<VolumeId, Vec<BlockId>>,
    pub files_removed: u64,
    pub removed_bytes: u64,
    /// Blocks that were read whole, and put into groups.
    pub read: BTreeSet<BlockNo>,
    made: BTreeMap<VolumeId, Vec<IndexedBlock>>,
    /// Volumes that could not be written: a file may have got its name there.
    pub failed: BTreeSet<VolumeId>,
    /// Volumes on one device that hold what should not be lost together.
    pub beside: BTreeSet<(VolumeId, VolumeId)>,
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
        self.beside.append(&mut more.beside);
        self.failed.append(&mut more.failed);
        self.groups += more.groups;
        self.parity_bytes += more.parity_bytes;
        self.files_removed += more.files_removed;
        self.removed_bytes += more.removed_bytes;
        self.read.append(&mut more.read);
        for (volume, mut made) in more.made {
            self.made.entry(volume).or_default().append(&mut made);
        }
        for (volume, mut removed) in more.removed {
            self.removed.entry(volume).or_default().append(&mut removed);
        }
    }

    /// What was made, and where.
    pub fn made(&self) -> Vec<(VolumeId, IndexedBlock)> {
        let all = self.made.iter();
        all.flat_map(|(volume, files)| files.iter().map(|file| (*volume, *file))).collect()
    }

    /// Copies on this volume are not to be counted; which.
    pub fn take_made(&mut self, volume: VolumeId, which: &dyn Fn(&BlockId) -> bool) -> Vec<BlockId> {
        let Some(made) = self.made.get_mut(&volume) else { return Vec::new() };
        let (out, kept): (Vec<_>, Vec<_>) = std::mem::take(made).into_iter().partition(|file| which(&file.id));
        *made = kept;
        self.blocks -= out.len() as u64;
        self.bytes -= out.iter().map(|file| file.size).sum::<u64>();
        out.into_iter().map(|file| file.id).collect()
    }

    /// A file is durable on a volume.
    pub fn note_made(&mut self, volume: VolumeId, file: IndexedBlock) {
        self.made.entry(volume).or_default().push(file);
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
    let deadline = options.max_duration.and_then(|given| began.checked_add(given));
    let limits = CopyLimits { deadline, ..CopyLimits::default() };
    let copied = bring_about(repository, (redundancy, Scope::All), limits, observer)?;
    tell_beside(repository, &copied, observer);
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
        parity_groups: copied.groups,
        parity_bytes: copied.parity_bytes,
        files_removed: copied.files_removed,
        bytes_removed: copied.removed_bytes,
        volumes_written: copied.made.keys().map(|id| name_of(repository, *id)).collect(),
        blocks_under_protected: left.blocks,
        bytes_under_protected: left.bytes,
        problems: copied.problems,
        volumes_wanted: redundancy.volumes(),
        volumes_known: known_volumes(repository),
        blocks_damaged: redundancy::bad_blocks(repository.catalog.conn())?,
        is_out_of_time: copied.is_cut_short,
        duration_s: began.elapsed().as_secs_f64(),
    })
}

/// Does what the policy wants for the blocks of a scope. Under parity first what is lost of groups is made again, as far as
/// they give it back; then blocks are put into groups, and what does not fit into any gets plain copies.
pub(super) fn bring_about(
    repository: &mut Repository,
    (redundancy, scope): (Redundancy, Scope),
    limits: CopyLimits,
    observer: &dyn Observer,
) -> Result<Copied> {
    let mut copied = Copied::default();
    if let Redundancy::Parity { positions, parities } = redundancy {
        let members = Want { scope, goal: Goal::Members, leaving: Vec::new() };
        copied.add(give_copies(repository, &members, limits, observer)?);
        if !copied.is_cut_short {
            copied.add(make_groups(repository, (scope, (positions, parities)), limits, observer)?);
        }
    }
    if !copied.is_cut_short && redundancy != Redundancy::None {
        let rest = Want::of(repository.catalog.conn(), redundancy, scope)?;
        copied.add(give_copies(repository, &rest, limits, observer)?);
    }
    if !copied.is_cut_short {
        drop_superseded(repository, redundancy)?;
        if scope == Scope::All {
            drop_extra_copies(repository, redundancy)?;
        }
    }
    copied.add(delete_retired(repository, &copied.read, observer)?);
    Ok(copied)
}

/// Says which volumes hold what should not be lost together.
pub(super) fn tell_beside(repository: &Repository, copied: &Copied, observer: &dyn Observer) {
    let mut devices: Vec<BTreeSet<VolumeId>> = Vec::new();
    for (one, other) in &copied.beside {
        match devices.iter_mut().find(|device| device.contains(one) || device.contains(other)) {
            Some(device) => device.extend([*one, *other]),
            None => devices.push([*one, *other].into()),
        }
    }
    for device in devices {
        let names: Vec<String> = device.iter().map(|id| name_of(repository, *id)).collect();
        observer.warn(&format!("volumes {} are on one device: its loss takes them all", names.join(", ")));
    }
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
    if redundancy == Redundancy::None || !redundancy::has_unlisted(repository.catalog.conn())? {
        return Ok(Copied::default());
    }
    let limits = CopyLimits { is_alone, ..CopyLimits::default() };
    let copied = bring_about(repository, (redundancy, Scope::Unlisted), limits, observer)?;
    copied.problems.iter().for_each(|problem| observer.warn(problem));
    Ok(copied)
}

/// How much of the whole repository lies on fewer volumes than the policy wants.
pub fn shortfall(repository: &Repository) -> Result<Shortfall> {
    let redundancy = repository.settings().redundancy;
    // What lay on a volume that was given up and nowhere else is lost, and no matter of more copies.
    if redundancy == Redundancy::None {
        return Ok(Shortfall::default());
    }
    let conn = repository.catalog.conn();
    Ok(redundancy::shortfall(conn, &Want::of(conn, redundancy, Scope::All)?)?)
}

/// Volumes that there are and that are not given up.
fn known_volumes(repository: &Repository) -> u32 {
    let awaited = repository.away.iter().filter(|row| row.state != VolumeState::Lost).count();
    u32::try_from(repository.mounted.len() + awaited).unwrap_or(u32::MAX)
}

/// Why that may be so, and what helps.
pub fn shortfall_words(repository: &Repository) -> String {
    // With fewer than K + M volumes groups are shorter; with M + 1 there are copies in their place.
    let wanted = repository.settings().redundancy.copies() as usize;
    let here = repository.mounted.iter().filter(|mounted| mounted.volume.is_writable()).count();
    let known = known_volumes(repository) as usize;
    let again = "then run `raidtape protect`";
    if redundancy::bad_blocks(repository.catalog.conn()).unwrap_or(0) > 0 {
        "some are damaged: `raidtape validate` names their files, and a backup stores again what its source still has"
            .to_owned()
    } else if redundancy::has_bad_copies(repository.catalog.conn()).unwrap_or(false) {
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
    let volumes: BTreeSet<VolumeId> = copied.made.keys().chain(copied.removed.keys()).copied().collect();
    for id in volumes {
        let Some(mounted) = repository.volume(id).filter(|mounted| mounted.is_locked_for_writing()) else { continue };
        let (mut made, removed) = (copied.made.get(&id).cloned().unwrap_or_default(), copied.removed.get(&id));
        let removed = removed.map_or(&[][..], Vec::as_slice);
        made.retain(|file| !removed.contains(&file.id));
        if let Err(error) = IndexDb::update(&mounted.volume.root, &made, removed, &[]) {
            observer.warn(&format!("volume {}: its index is not up to date: {error}", mounted.row.name));
        }
    }
}

pub(super) fn name_of(repository: &Repository, id: VolumeId) -> String {
    repository.volume(id).map_or_else(|| id.to_string(), |mounted| mounted.row.name.clone())
}
