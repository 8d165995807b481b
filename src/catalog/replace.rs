//! Putting a catalog in place when it is whole: a new one, or a rebuilt one where there was another. Where it is
//! built, and the names at the end. No connection to either is open then. Used by `init` and `rebuild-catalog`.
//!
//! A power cut at any instant leaves what was in place, or the new catalog: never a part of one, never neither.

use super::error::{CatalogError, Result};
use super::handle::{Catalog, CatalogLock, make_folder, sync_folder};
use super::settings::Settings;
use std::path::{Path, PathBuf};

/// What SQLite keeps beside a database.
const SUFFIXES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Creates a catalog with its folder and takes its lock; refuses to touch an existing file. The catalog has its name
/// when it is whole and durable: of one that was cut off, nothing is left that the next creation does not take away.
pub fn create(path: &Path, settings: &Settings) -> Result<(Catalog, CatalogLock)> {
    let refuse_existing = || match path.symlink_metadata() {
        Ok(_) => Err(CatalogError::Exists(path.to_owned())),
        Err(_) => Ok(()),
    };
    refuse_existing()?;
    make_folder(path)?;
    let lock = Catalog::lock(path)?;
    // Again, for whoever had the lock may have made one.
    refuse_existing()?;
    let building = building_place(path)?;
    let catalog = Catalog::create(&building, settings)?;
    catalog.checkpoint()?;
    drop(catalog);
    swap_in(path, &building)?;
    Ok((Catalog::open(path)?, lock))
}

/// What the name of a catalog in the making ends in.
pub const BUILDING: &str = ".rebuilding";

/// Where the catalog at `path` is rebuilt: beside it, with what an earlier attempt left there taken away.
pub fn building_place(path: &Path) -> Result<PathBuf> {
    let building = beside(path, BUILDING);
    for suffix in SUFFIXES.into_iter().chain([""]) {
        remove_if_there(&beside(&building, suffix))?;
    }
    Ok(building)
}

/// Puts the catalog at `building` in place, durably. What was there is kept; returns where.
pub fn swap_in(path: &Path, building: &Path) -> Result<Option<PathBuf>> {
    let kept = if path.symlink_metadata().is_ok() { Some(keep(path)?) } else { None };
    std::fs::rename(building, path).map_err(io(building))?;
    for suffix in ["-wal", "-shm"] {
        remove_if_there(&beside(building, suffix))?;
    }
    sync_folder(path).map_err(io(path))?;
    Ok(kept)
}

/// Gives the catalog in place a second name, and what lies beside it another one, durably: SQLite would take a journal
/// that stays for the new catalog's own. The catalog keeps its first name until the new one takes it. A sound one
/// has no journal here, because `rebuild-catalog` has just opened and closed it.
fn keep(path: &Path) -> Result<PathBuf> {
    let aside = free_name(path);
    let linked = std::fs::hard_link(path, &aside);
    for suffix in SUFFIXES {
        let from = beside(path, suffix);
        if from.symlink_metadata().is_ok() {
            std::fs::rename(&from, beside(&aside, suffix)).map_err(io(&from))?;
        }
    }
    if linked.is_err() {
        // A file system without hard links (exFAT): for a moment, nothing is in place.
        std::fs::rename(path, &aside).map_err(io(path))?;
    }
    sync_folder(path).map_err(io(path))?;
    Ok(aside)
}

/// A name beside `path` that nothing has, with or without a suffix: what an earlier rebuild kept stays.
fn free_name(path: &Path) -> PathBuf {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let is_free = |aside: &PathBuf| {
        let mut all = SUFFIXES.into_iter().chain([""]);
        all.all(|suffix| beside(aside, suffix).symlink_metadata().is_err())
    };
    let first = beside(path, &format!(".broken-{stamp}"));
    let mut further = (2_u64..).map(|number| beside(path, &format!(".broken-{stamp}-{number}")));
    if is_free(&first) { first } else { further.find(is_free).expect("numbers do not end") }
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> CatalogError {
    let path = path.to_owned();
    move |source| CatalogError::Io { path: path.clone(), source }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(CatalogError::Io { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::RepositoryUuid;
    use crate::model::params::{ChunkerParams, Compression, HashAlgo, Reserve};

    #[test]
    fn what_was_in_place_is_kept_with_its_journal_and_the_new_one_takes_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup.cat");
        std::fs::write(beside(&path, ".rebuilding-wal"), "left").unwrap();
        let building = building_place(&path).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        std::fs::write(&building, "first").unwrap();
        assert_eq!(swap_in(&path, &building).unwrap(), None);
        std::fs::write(beside(&path, "-wal"), "journal of first").unwrap();
        std::fs::write(&building, "second").unwrap();
        let kept = swap_in(&path, &building).unwrap().unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!((read(&path), read(&kept)), ("second".to_owned(), "first".to_owned()));
        assert_eq!(read(&beside(&kept, "-wal")), "journal of first");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
        // In the same second: what was kept before stays.
        std::fs::write(&building, "third").unwrap();
        let kept_too = swap_in(&path, &building).unwrap().unwrap();
        assert_eq!((read(&path), read(&kept_too)), ("third".to_owned(), "second".to_owned()));
        assert_eq!((read(&kept), read(&beside(&kept, "-wal"))), ("first".to_owned(), "journal of first".to_owned()));
    }

    #[test]
    fn a_creation_that_was_cut_off_is_no_catalog_and_the_next_one_takes_it_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/folder/backup.cat");
        let settings = Settings {
            repository: RepositoryUuid::random(),
            hash: HashAlgo::Blake3,
            chunker: ChunkerParams { min: 1 << 18, avg: 1 << 20, max: 1 << 22, normalization: 2 },
            block_size: 1 << 23,
            compression: Compression::None,
            reserve: Reserve::Percent(5.0),
            redundancy: crate::model::redundancy::Redundancy::None,
        };
        make_folder(&path).unwrap();
        std::fs::write(beside(&path, ".rebuilding"), "").unwrap();
        std::fs::write(beside(&path, ".rebuilding-wal"), "left").unwrap();
        assert!(matches!(Catalog::open(&path), Err(CatalogError::Missing(_))));
        let (catalog, lock) = create(&path, &settings).unwrap();
        assert_eq!(catalog.settings().repository, settings.repository);
        drop((catalog, lock));
        let left = std::fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(
            left.collect::<std::collections::BTreeSet<_>>(),
            ["backup.cat", "backup.cat.lock"].map(Into::into).into()
        );
        assert!(matches!(create(&path, &settings), Err(CatalogError::Exists(_))));
    }

    #[test]
    fn three_catalogs_of_one_second_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup.cat");
        let building = building_place(&path).unwrap();
        let mut kept = Vec::new();
        for text in ["first", "second", "third", "fourth"] {
            std::fs::write(&building, text).unwrap();
            kept.extend(swap_in(&path, &building).unwrap());
        }
        let read = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
        assert_eq!(kept.iter().map(read).collect::<Vec<_>>(), ["first", "second", "third"]);
        assert_eq!(read(&path), "fourth");
    }
}
