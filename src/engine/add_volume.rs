//! `add-volume`: makes a directory a volume of the repository.

use super::error::{EngineError, Result};
use super::observer::Observer;
use super::recover;
use super::repository::Repository;
use crate::catalog::{CatalogError, volumes};
use crate::format::label::{Features, Label};
use crate::model::ids::VolumeUuid;
use crate::model::params::Reserve;
use crate::volume::handle::{Volume, VolumeError};
use std::path::{Path, PathBuf};

/// How the volume is to be.
#[derive(Debug, Clone, Default)]
pub struct AddVolumeOptions {
    /// The directory.
    pub dir: PathBuf,
    /// Space to keep free; the repository's when not given.
    pub reserve: Option<Reserve>,
    /// Name for people; the directory's when not given.
    pub name: Option<String>,
    /// Take an existing directory that may be an unmounted mount point, or that holds other things.
    pub force: bool,
}

/// What `add-volume` made.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AddVolumeReport {
    /// The new volume.
    pub volume: VolumeUuid,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub path: String,
    /// Bytes that it can take now, above its reserve.
    pub free_for_data: u64,
    /// Bytes that it keeps free.
    pub reserve_bytes: u64,
}

/// Writes label and skeleton, then adds the row. A directory that carries a label of this repository which the
/// catalog does not have (a cut-off `add-volume`) is taken up as it is.
pub fn add_volume(
    repository: &mut Repository,
    options: &AddVolumeOptions,
    observer: &dyn Observer,
) -> Result<AddVolumeReport> {
    // An older copy of the catalog may not know which names and volumes there are.
    recover::catch_up(repository, observer)?.iter().for_each(|problem| observer.warn(problem));
    let settings = repository.settings().clone();
    let dir = std::path::absolute(&options.dir).unwrap_or_else(|_| options.dir.clone());
    let reserve = options.reserve.unwrap_or(settings.reserve);
    let volume = match Volume::open(&dir) {
        Ok(found) if found.label.repository != settings.repository => {
            let theirs = found.label.repository;
            return Err(VolumeError::ForeignRepository { dir, theirs, ours: settings.repository }.into());
        }
        Ok(found) if volumes::find(repository.catalog.conn(), found.label.volume)?.is_some() || holds_runs(&found)? => {
            let (name, uuid) = (found.label.name.clone(), found.label.volume);
            return Err(VolumeError::AlreadyAVolume { dir, name, uuid }.into());
        }
        Ok(cut_off) => cut_off,
        Err(VolumeError::NoLabel { .. } | VolumeError::NotMounted { .. }) => {
            let name = name_for(repository, options, &dir)?;
            let label = Label {
                repository: settings.repository,
                volume: VolumeUuid::random(),
                name,
                created: jiff::Timestamp::now(),
                hash: settings.hash,
                chunker: settings.chunker,
                block_size: settings.block_size,
                reserve,
                redundancy: settings.redundancy,
                features: Features::default(),
            };
            Volume::create(&dir, &label, options.force)?
        }
        Err(error) => return Err(error.into()),
    };
    let identity = (volume.label.volume, volume.label.name.as_str());
    // One transaction: a volume without a place would be away until somebody says where it is.
    let tx = repository.catalog.begin()?;
    let id = volumes::put(&tx, identity, reserve)?;
    volumes::set_path(&tx, id, &dir)?;
    tx.commit().map_err(CatalogError::from)?;
    let row = volumes::find(repository.catalog.conn(), volume.label.volume)?
        .ok_or_else(|| EngineError::Fault("the volume that was just added is not in the catalog".into()))?;
    let space = volume.store().space().map_err(EngineError::store(&row.name))?;
    let report = AddVolumeReport {
        volume: row.uuid,
        name: row.name.clone(),
        path: dir.display().to_string(),
        free_for_data: volume.space_for_data(reserve)?,
        reserve_bytes: reserve.bytes_of(space.total_bytes),
    };
    repository.adopt_volume(row, volume);
    Ok(report)
}

/// Whether a volume holds the record of any run: then it belongs to a catalog that was lost, not to a new one.
fn holds_runs(volume: &Volume) -> Result<bool> {
    let mut found = false;
    let listed = volume.store().list(crate::format::layout::RUNS, &mut |_, _| found = true);
    listed.map_err(EngineError::store(&volume.label.name))?;
    Ok(found)
}

fn name_for(repository: &Repository, options: &AddVolumeOptions, dir: &Path) -> Result<String> {
    let base = match &options.name {
        Some(name) => name.clone(),
        None => dir.file_name().map_or_else(|| "volume".to_owned(), |name| name.to_string_lossy().into_owned()),
    };
    let taken = volumes::all(repository.catalog.conn())?;
    let is_taken = |name: &str| taken.iter().any(|row| row.name == name);
    if !is_taken(&base) {
        return Ok(base);
    }
    if options.name.is_some() {
        return Err(EngineError::Usage(format!("there is a volume named {base} already; choose another --name")));
    }
    let free = (2..10_000).map(|n| format!("{base}-{n}")).find(|name| !is_taken(name));
    free.ok_or_else(|| EngineError::Usage(format!("all names like {base} are taken; give a --name")))
}
