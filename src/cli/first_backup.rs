//! The first backup in one command: a catalog and its volumes, made by `backup --volume DIR` where there is no catalog,
//! or one that knows no volume yet: that of a first backup that was cut off.

use super::session::Session;
use super::{add_volume, words};
use raidtape::engine::add_volume::{AddVolumeOptions, AddVolumeReport, add_volume};
use raidtape::engine::init::{InitOptions, init};
use raidtape::engine::observer::Silent;
use raidtape::engine::repository::Access;
use raidtape::engine::{EngineError, Repository};
use raidtape::tree::error::TreeError;
use raidtape::volume::handle::{Volume, VolumeError};
use std::path::{Path, PathBuf};

/// Makes the catalog and every volume that was given. When the first volume cannot be made there is no catalog
/// either, so that the same command can be given again.
pub fn set_up(session: &mut Session, sources: &[PathBuf]) -> Result<Repository, EngineError> {
    sources.iter().try_for_each(|source| check_source(source))?;
    let path = session.catalog_path()?;
    let is_new = path.symlink_metadata().is_err();
    let mut dirs: Vec<PathBuf> = Vec::new();
    for dir in &session.global.volumes {
        if is_new {
            refuse_volume(dir, &path)?;
        }
        if !dirs.contains(dir) {
            dirs.push(dir.clone());
        }
    }
    let mut repository = match is_new {
        true => init(&path, &InitOptions::default())?.0,
        false => Repository::open(&path, &[], Access::Write)?,
    };
    let mut made = Vec::with_capacity(dirs.len());
    for (index, dir) in dirs.iter().enumerate() {
        match make_volume(&mut repository, dir, is_new) {
            Ok(report) => made.push(report),
            Err(error) if index == 0 && !is_new => return Err(error),
            Err(error) if index == 0 => {
                drop(repository);
                forget_catalog(&path);
                return Err(error);
            }
            Err(error) => {
                let before = words::plural(index as u64, "volume");
                return Err(EngineError::Usage(format!(
                    "{error}; the catalog and {before} before it are made: add this one with `raidtape add-volume`"
                )));
            }
        }
    }
    if is_new {
        session.out.say(&format!("Created the catalog {}", path.display()));
    }
    made.iter().for_each(|report| add_volume::say(session, report));
    Ok(repository)
}

/// Whether the catalog knows no volume.
pub fn is_without_volumes(catalog: &Path) -> bool {
    let opened = Repository::open(catalog, &[], Access::Read);
    opened.is_ok_and(|repository| repository.mounted.is_empty() && repository.away.is_empty())
}

/// Nothing is made for a source that is not there.
fn check_source(source: &Path) -> Result<(), EngineError> {
    let shown = source.display();
    match std::fs::metadata(source) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(EngineError::Usage(format!("{shown} is not a directory; give the directory to back up"))),
        // The same failure, and the same code, as with a catalog in place.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(TreeError::RootMissing { path: source.to_owned() }.into())
        }
        Err(error) => Err(EngineError::Usage(format!("{shown} cannot be backed up: {error}; nothing was made"))),
    }
}

/// A volume with a label belongs to a catalog that is elsewhere or lost.
fn refuse_volume(dir: &Path, catalog: &Path) -> Result<(), EngineError> {
    let shown = dir.display();
    match Volume::open(dir) {
        Ok(_) => Err(EngineError::Usage(format!(
            "{shown} is a volume already, but there is no catalog at {}; bring the catalog back with \
             `raidtape rebuild-catalog --volume {shown}`, or give the right --catalog",
            catalog.display()
        ))),
        Err(VolumeError::NoLabel { .. } | VolumeError::NotMounted { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn make_volume(repository: &mut Repository, dir: &Path, is_new: bool) -> Result<AddVolumeReport, EngineError> {
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent)
            .map_err(|error| EngineError::Usage(format!("cannot create {}: {error}", parent.display())))?;
    }
    let by_hand = |what: &str| {
        let (shown, init) = (dir.display(), if is_new { "`raidtape init` and " } else { "" });
        EngineError::Usage(format!("{shown} {what}, or use {init}`raidtape add-volume {shown} --force`"))
    };
    let options = AddVolumeOptions { dir: dir.to_owned(), ..AddVolumeOptions::default() };
    add_volume(repository, &options, &Silent).map_err(|error| match error {
        EngineError::Volume(VolumeError::EmptyMountPoint { .. }) => by_hand(
            "is empty and on the file system of its parent: an unmounted mount point? Mount the disk, or give a \
             directory that does not exist yet",
        ),
        EngineError::Volume(VolumeError::NotEmpty { .. }) => {
            by_hand("is not empty; give a directory that does not exist yet")
        }
        other => other,
    })
}

/// Takes back a catalog that was made a moment ago, is closed again and knows nothing.
fn forget_catalog(path: &Path) {
    for ending in ["", "-wal", "-shm", ".lock"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        // What stays is an empty catalog: the next command says so.
        let _ = std::fs::remove_file(name);
    }
}
