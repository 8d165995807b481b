//! Making a directory a volume: what is refused, and the order in which it comes to be.
//!
//! The label comes last and durably: before it there is no volume. A creation that was cut off leaves known names and
//! no objects, and the next one goes on from there.

use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use super::durable;
use super::handle::{VolumeError, open_root, read_label, store_failed};
use super::index::IndexDb;
use super::local::LocalStore;
use super::root::Root;
use super::store::{Store, StoreError};
use crate::format::label::Label;
use crate::format::layout;

/// Made by every file system of the ext family in its root: a sign of a mounted disk, no content.
const LOST_AND_FOUND: &str = "lost+found";

/// What a creation that was cut off may have left.
const SKELETON: [&str; 8] = [
    layout::CHUNKS,
    layout::META,
    layout::RUNS,
    layout::TMP,
    layout::LOCK,
    layout::RESERVE,
    layout::INDEX,
    layout::INDEX_JOURNAL,
];

/// See `Volume::create`.
pub(super) fn create(dir: &Path, label: &Label, force: bool) -> Result<(), VolumeError> {
    let encoded = label.encode();
    // Nothing is written that could not be read again.
    Label::decode(&encoded).map_err(|source| VolumeError::Label { dir: dir.to_owned(), source })?;
    let is_new = make_root(dir)?;
    let root = open_root(dir)?;
    if let Some(found) = read_label(&root, dir)? {
        return Err(taken(dir, label, &found));
    }
    if !is_new && !force {
        check_empty(dir, &root)?;
    }
    fill(dir, &root).map_err(store_failed(dir))?;
    IndexDb::replace(dir, &[]).map_err(|source| VolumeError::Index { dir: dir.to_owned(), source })?;
    // Syncs the root, and with it every name above.
    LocalStore::at(root).put_new(layout::LABEL, &encoded).map_err(store_failed(dir))
}

/// Creates the directory; false when it is there. Its parent must exist.
fn make_root(dir: &Path) -> Result<bool, VolumeError> {
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => Ok(true),
        Err(source) if source.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            let dir = dir.parent().unwrap_or(dir).to_owned();
            Err(VolumeError::NotMounted { dir })
        }
        Err(source) if source.kind() == std::io::ErrorKind::NotADirectory => {
            let dir = dir.parent().unwrap_or(dir).to_owned();
            Err(VolumeError::NotADirectory { dir })
        }
        Err(source) => Err(store_failed(dir)(StoreError::from_io(".", "mkdir", source))),
    }
}

fn taken(dir: &Path, wanted: &Label, found: &Label) -> VolumeError {
    let dir = dir.to_owned();
    if found.repository != wanted.repository {
        return VolumeError::ForeignRepository { dir, theirs: found.repository, ours: wanted.repository };
    }
    VolumeError::AlreadyAVolume { dir, name: found.name.clone(), uuid: found.volume }
}

/// Whether a directory that existed before may become a volume without being forced to.
fn check_empty(dir: &Path, root: &Arc<Root>) -> Result<(), VolumeError> {
    let failed = |source| store_failed(dir)(StoreError::from_io(".", "list", source));
    let names = std::fs::read_dir(dir)
        .and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<OsString>, _>>()
        })
        .map_err(failed)?;
    let is_one_of = |known: &[&str], name: &OsString| known.iter().any(|known| name == known);
    if names.is_empty() {
        if is_on_parents_file_system(dir).map_err(failed)? {
            return Err(VolumeError::EmptyMountPoint { dir: dir.to_owned() });
        }
        return Ok(());
    }
    let left = names.iter().filter(|name| !is_one_of(&[LOST_AND_FOUND], name));
    let is_unfinished = left.clone().all(|name| is_one_of(&SKELETON, name));
    if is_unfinished && !holds_objects(root).map_err(store_failed(dir))? {
        return Ok(());
    }
    Err(VolumeError::NotEmpty { dir: dir.to_owned() })
}

/// Whether anything lies where blocks, sidecars and manifests do: then this was a volume, and has lost its label.
fn holds_objects(root: &Arc<Root>) -> Result<bool, StoreError> {
    let store = LocalStore::at(Arc::clone(root));
    let mut found = false;
    for prefix in [layout::CHUNKS, layout::META, layout::RUNS] {
        match store.list(prefix, &mut |_, _| found = true) {
            Err(StoreError::NotFound { .. }) => {}
            listed => listed?,
        }
    }
    Ok(found)
}

fn is_on_parents_file_system(dir: &Path) -> std::io::Result<bool> {
    let (own, parent) = (dir.metadata()?, dir.join("..").metadata()?);
    Ok(own.dev() == parent.dev())
}

/// Everything but index and label.
fn fill(dir: &Path, root: &Arc<Root>) -> Result<(), StoreError> {
    for made in [layout::CHUNKS, layout::META, layout::RUNS, layout::TMP] {
        durable::make_durable_dirs(root, made)?;
    }
    let store = LocalStore::at(Arc::clone(root));
    store.sweep()?;
    store.restore_reserve()?;
    match store.put_new(layout::LOCK, b"") {
        Err(StoreError::Exists { .. }) => {}
        put => put?,
    }
    // Only now, because it takes a while: one that is cut off should not be found empty, like an unmounted mount point.
    durable::sync_parents(dir)
}
