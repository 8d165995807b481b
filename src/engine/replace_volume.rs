//! `replace-volume` and `remove-volume --lost`: a volume that will not come back is given up, and what was on it gets new
//! copies from the others. What was nowhere else is named as damaged from then on, and read again from the source by the
//! next backup, as far as that still has it.

use super::add_volume::{AddVolumeOptions, add_volume};
use super::error::{EngineError, Exit, Result};
use super::observer::Observer;
use super::protect::{CopyLimits, bring_about, give_copies, make_ready, shortfall, tell_beside, update_indexes};
use super::recover;
use super::repository::Repository;
use super::volumes::named;
use crate::catalog::blocks;
use crate::catalog::redundancy::{self, Goal, Scope, Want};
use crate::catalog::volumes::{self, VolumeState};
use crate::model::ids::VolumeId;
use crate::volume::handle::Volume;
use std::path::Path;
use std::time::Instant;

/// Which volume, and what comes in its place.
#[derive(Debug, Clone)]
pub struct ReplaceVolumeOptions {
    /// Name or identity of the volume that will not come back.
    pub lost: String,
    /// The new one; none where the others suffice. One that is a volume of the repository already is taken as it is, so
    /// that the same command goes on where it was interrupted.
    pub with: Option<AddVolumeOptions>,
}

/// What was done.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ReplaceVolumeReport {
    /// The volume that was given up.
    pub lost: String,
    /// The one in its place.
    pub volume: Option<String>,
    /// Copies that were made.
    pub blocks_copied: u64,
    /// Their bytes.
    pub bytes_copied: u64,
    /// Blocks that were on the lost volume, or that a parity there gave back, and that are sound nowhere else.
    pub blocks_gone: u64,
    /// Their bytes.
    pub bytes_gone: u64,
    /// Copies that could not be read, and volumes that could not be written.
    pub problems: Vec<String>,
    /// Blocks of the whole repository that lie on fewer volumes than the policy wants.
    pub blocks_under_protected: u64,
    /// Their bytes.
    pub bytes_under_protected: u64,
    /// Seconds.
    pub duration_s: f64,
}

impl ReplaceVolumeReport {
    /// `Damage` when blocks are gone, `UnderProtected` while some want more copies.
    pub fn exit(&self) -> Exit {
        match (self.blocks_gone, self.blocks_under_protected) {
            (0, 0) => Exit::Done,
            (0, _) => Exit::UnderProtected,
            _ => Exit::Damage,
        }
    }
}

/// Gives the volume up and makes the copies. Interrupted, the same command goes on.
pub fn replace_volume(
    repository: &mut Repository,
    options: &ReplaceVolumeOptions,
    observer: &dyn Observer,
) -> Result<ReplaceVolumeReport> {
    let began = Instant::now();
    recover::catch_up(repository, observer)?.iter().for_each(|problem| observer.warn(problem));
    let rows = volumes::all(repository.catalog.conn())?;
    let lost = named(&rows, &options.lost)?.clone();
    if let Some(here) = repository.volume(lost.id) {
        return Err(EngineError::Usage(format!(
            "volume {} is here, at {}; `raidtape remove-volume {}` moves what is on it to the others",
            lost.name,
            here.volume.root.display(),
            lost.name
        )));
    }
    let new = options.with.as_ref().map(|with| new_volume(repository, with, observer)).transpose()?;
    volumes::set_state(repository.catalog.conn(), lost.id, VolumeState::Lost)?;
    for row in repository.away.iter_mut().filter(|row| row.id == lost.id) {
        row.state = VolumeState::Lost;
    }
    // It marks what has no other copy, too.
    make_ready(repository, observer)?;
    let redundancy = repository.settings().redundancy;
    let on_lost = |goal| Want { scope: Scope::On(lost.id), goal, leaving: Vec::new() };
    let limits = CopyLimits { onto: new, ..CopyLimits::default() };
    // What its groups give back, then further copies of the rest.
    let mut copied = give_copies(repository, &on_lost(Goal::Members), limits, observer)?;
    if !observer.is_cancelled() {
        let wanted = Want { scope: Scope::On(lost.id), ..Want::of(repository.catalog.conn(), redundancy, Scope::All)? };
        copied.add(give_copies(repository, &wanted, limits, observer)?);
    }
    if !observer.is_cancelled() && redundancy.copies() > 1 {
        // What else lies on too few volumes: the new one may make the difference.
        copied.add(bring_about(repository, (redundancy, Scope::All), limits, observer)?);
    }
    tell_beside(repository, &copied, observer);
    update_indexes(repository, &copied, observer);
    repository.catalog.checkpoint().ok();
    if observer.is_cancelled() {
        return Err(EngineError::Interrupted);
    }
    // What a run that was cut off left and nothing needs is no loss.
    blocks::condemn_superseded(repository.catalog.conn())?;
    let (on_it, by_parity) = (
        redundancy::bad_on(repository.catalog.conn(), lost.id)?,
        redundancy::bad_by_parity_on(repository.catalog.conn(), lost.id)?,
    );
    let (blocks_gone, bytes_gone) = (on_it.0 + by_parity.0, on_it.1 + by_parity.1);
    let left = shortfall(repository)?;
    Ok(ReplaceVolumeReport {
        lost: format!("{} ({})", lost.name, lost.uuid),
        volume: new.map(|id| repository.volume_words(id)),
        blocks_copied: copied.blocks,
        bytes_copied: copied.bytes,
        blocks_gone,
        bytes_gone,
        problems: copied.problems,
        blocks_under_protected: left.blocks,
        bytes_under_protected: left.bytes,
        duration_s: began.elapsed().as_secs_f64(),
    })
}

fn new_volume(repository: &mut Repository, with: &AddVolumeOptions, observer: &dyn Observer) -> Result<VolumeId> {
    if let Ok(found) = Volume::open(&with.dir)
        && let Some(mounted) = repository.mounted.iter().find(|mounted| mounted.row.uuid == found.label.volume)
    {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if real(&mounted.volume.root) == real(&with.dir) {
            return Ok(mounted.row.id);
        }
        return Err(EngineError::Usage(format!(
            "{} says that it is volume {}, which is at {}; one is a copy of the other. Give an empty directory",
            with.dir.display(),
            mounted.row.name,
            mounted.volume.root.display()
        )));
    }
    let uuid = add_volume(repository, with, observer)?.volume;
    let added = repository.mounted.iter().find(|mounted| mounted.row.uuid == uuid);
    let added = added.ok_or_else(|| EngineError::Fault("the volume that was just added is not here".into()))?;
    Ok(added.row.id)
}
