//! Putting a rebuilt catalog in the place of the one before: where it is built, and the renames at the end. No
//! connection to either is open then. Used by `rebuild-catalog` alone.

use super::error::{CatalogError, Result};
use std::path::{Path, PathBuf};

/// What SQLite keeps beside a database.
const SUFFIXES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Where the catalog at `path` is rebuilt: beside it, with what an earlier attempt left there taken away.
pub fn building_place(path: &Path) -> Result<PathBuf> {
    let building = beside(path, ".rebuilding");
    for suffix in SUFFIXES.into_iter().chain([""]) {
        remove_if_there(&beside(&building, suffix))?;
    }
    Ok(building)
}

/// Puts the catalog at `building` in place, durably. What was there is kept; returns where.
pub fn swap_in(path: &Path, building: &Path) -> Result<Option<PathBuf>> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| CatalogError::Io { path, source }
    };
    let mut kept = None;
    if path.symlink_metadata().is_ok() {
        let aside = free_place(path);
        for suffix in SUFFIXES.into_iter().chain([""]) {
            let from = beside(path, suffix);
            if from.symlink_metadata().is_ok() {
                std::fs::rename(&from, beside(&aside, suffix)).map_err(io(&from))?;
            }
        }
        kept = Some(aside);
    }
    std::fs::rename(building, path).map_err(io(building))?;
    for suffix in ["-wal", "-shm"] {
        remove_if_there(&beside(building, suffix))?;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder))?;
    Ok(kept)
}

/// Where a catalog is kept that gives way: a name that nothing has, also when the last one was kept a moment ago.
fn free_place(path: &Path) -> PathBuf {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let is_free = |place: &PathBuf| {
        let mut all = SUFFIXES.into_iter().chain([""]);
        all.all(|suffix| beside(place, suffix).symlink_metadata().is_err())
    };
    let first = beside(path, &format!(".broken-{stamp}"));
    let further = (2_u64..).map(|number| beside(path, &format!(".broken-{stamp}-{number}")));
    std::iter::once(first.clone()).chain(further).find(is_free).unwrap_or(first)
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
    }
}
