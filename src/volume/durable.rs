//! How stored bytes become durable: the only place of this room that renames or syncs.
//!
//! The order, for one object: its bytes ([`seal`]) → every new directory above it, from the root down, each by a sync
//! of its parent → the rename → a sync of the object's directory ([`place`]). A crash before the rename leaves a file
//! under `tmp/`; after it, at worst, an object that nothing refers to. Nothing durable ever hangs in a directory that
//! is not. A sync that failed is never repeated on that file or directory: the kernel may have dropped the pages and
//! would then report success.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::PoisonError;

use rustix::fs::{self, AtFlags, Mode, RenameFlags};
use rustix::io::{Errno, retry_on_intr};

use super::root::{Root, split};
use super::store::{Existing, StoreError};

/// What failed, in an error's words.
const SYNC_DIR: &str = "fsync directory of";

/// Cuts the file to its real length, which gives back what its lease did not need, and makes its bytes durable.
pub(super) fn seal(file: &File, key: &str, len: u64) -> Result<(), StoreError> {
    retry_on_intr(|| fs::ftruncate(file, len)).map_err(failed(key, "ftruncate"))?;
    fs::fdatasync(file).map_err(failed(key, "fdatasync"))
}

/// Sets the permissions. File systems without any (exFAT, some network shares) say EPERM: no reason to lose a block.
pub(super) fn set_mode(file: &File, key: &str, mode: Mode) -> Result<(), StoreError> {
    match fs::fchmod(file, mode) {
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        set => set.map_err(failed(key, "fchmod")),
    }
}

/// Renames the sealed file `from` to `key` and makes that durable.
pub(super) fn place(root: &Root, from: &str, key: &str, existing: Existing) -> Result<(), StoreError> {
    let (to_dir, to_name) = split(key);
    refuse_failed(root, to_dir, key)?;
    make_durable_dirs(root, to_dir)?;
    let (from_dir, from_name) = split(from);
    let from_fd = root.dir(from_dir).map_err(failed(from, "open"))?;
    let to_fd = root.dir(to_dir).map_err(failed(key, "open"))?;
    let renamed = match existing {
        Existing::Replace => fs::renameat(&from_fd, from_name, &to_fd, to_name),
        Existing::Fail => {
            let (old, new) = ((from_fd.as_fd(), from_name), (to_fd.as_fd(), to_name));
            rename_new(old, new)
        }
    };
    renamed.map_err(failed(key, "rename"))?;
    sync_dir(root, to_fd.as_fd(), (to_dir, key))
}

/// Makes every missing directory of `dir_key`, and the entry of each durable before anything is put below it.
///
/// A directory that was there already may be another thread's, or a killed process's, that is not synced yet, so the
/// first use in this process syncs its parent in any case. The lock is held meanwhile: who finds a directory in the
/// set may rely on it.
pub(super) fn make_durable_dirs(root: &Root, dir_key: &str) -> Result<(), StoreError> {
    if dir_key.is_empty() {
        return Ok(());
    }
    let mut durable = root.durable_dirs.lock().unwrap_or_else(PoisonError::into_inner);
    let ends = dir_key.match_indices('/').map(|(at, _)| at);
    for end in ends.chain([dir_key.len()]) {
        let dir = &dir_key[..end];
        if durable.contains(dir) {
            continue;
        }
        root.make_dir(dir)?;
        sync_dir_of(root, split(dir).0)?;
        durable.insert(dir.to_owned());
    }
    Ok(())
}

/// Makes the entries of a directory durable, by its key.
pub(super) fn sync_dir_of(root: &Root, dir_key: &str) -> Result<(), StoreError> {
    let dir = root.dir(dir_key).map_err(failed(dir_key, "open"))?;
    sync_dir(root, dir.as_fd(), (dir_key, dir_key))
}

/// Makes the entry of a volume's own directory durable, and those of the directories above it, which may have been
/// made for it: up to the root of the file system. A parent that may not be read cannot be synced; whoever made the
/// directory there could read it, so that is no loss.
pub(super) fn sync_parents(dir: &Path) -> Result<(), StoreError> {
    let stat = |dir: &Path| fs::stat(dir).map_err(failed("..", "stat"));
    let mut dir = dir.to_owned();
    loop {
        let above = dir.join("..");
        let (own, next) = (stat(&dir)?, stat(&above)?);
        if own.st_dev != next.st_dev || own.st_ino == next.st_ino {
            return Ok(());
        }
        match Root::open(&above) {
            Err(Errno::ACCESS) => {}
            parent => sync_dir_of(&parent.map_err(failed("..", "open"))?, "")?,
        }
        dir = above;
    }
}

/// Syncs the directory `dir_key` for `key` in it. Some network and FUSE file systems cannot sync a directory and say
/// so; that is not a failed sync.
fn sync_dir(root: &Root, dir: BorrowedFd<'_>, (dir_key, key): (&str, &str)) -> Result<(), StoreError> {
    refuse_failed(root, dir_key, key)?;
    match fs::fsync(dir) {
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(errno) => {
            root.failed_dirs.lock().unwrap_or_else(PoisonError::into_inner).insert(dir_key.to_owned());
            Err(failed(key, SYNC_DIR)(errno))
        }
        Ok(()) => Ok(()),
    }
}

/// What a directory whose sync failed got since may be lost, whatever a further sync says.
fn refuse_failed(root: &Root, dir_key: &str, key: &str) -> Result<(), StoreError> {
    let failed_dirs = root.failed_dirs.lock().unwrap_or_else(PoisonError::into_inner);
    if failed_dirs.contains(dir_key) { Err(failed(key, SYNC_DIR)(Errno::IO)) } else { Ok(()) }
}

/// A directory and a name in it.
type At<'a> = (BorrowedFd<'a>, &'a str);

/// Renames without replacing. Where the file system cannot, a hard link does the same; where it has none either, a
/// look before the rename must do: the volume's lock keeps other processes away.
fn rename_new(from: At<'_>, to: At<'_>) -> Result<(), Errno> {
    let ((from_fd, from_name), (to_fd, to_name)) = (from, to);
    match fs::renameat_with(from_fd, from_name, to_fd, to_name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_new(from, to),
        renamed => renamed,
    }
}

fn link_new(from: At<'_>, to: At<'_>) -> Result<(), Errno> {
    let ((from_fd, from_name), (to_fd, to_name)) = (from, to);
    match fs::linkat(from_fd, from_name, to_fd, to_name, AtFlags::empty()) {
        Ok(()) => fs::unlinkat(from_fd, from_name, AtFlags::empty()),
        Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP) => rename_if_free(from, to),
        Err(errno) => Err(errno),
    }
}

fn rename_if_free(from: At<'_>, to: At<'_>) -> Result<(), Errno> {
    match fs::statat(to.0, to.1, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => fs::renameat(from.0, from.1, to.0, to.1),
        Err(errno) => Err(errno),
    }
}

fn failed<'a>(key: &'a str, op: &'static str) -> impl Fn(Errno) -> StoreError + 'a {
    move |errno| StoreError::from_io(key, op, errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(names: [&str; 2]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn every_way_of_renaming_refuses_a_taken_name_and_takes_a_free_one() {
        for rename in [rename_new, link_new, rename_if_free] {
            let (dir, root) = both(["from", "taken"]);
            let at = |name| (root.fd(), name);
            assert_eq!(rename(at("from"), at("taken")), Err(Errno::EXIST));
            assert_eq!(std::fs::read(dir.path().join("taken")).unwrap(), b"taken");
            assert_eq!(rename(at("from"), at("free")), Ok(()));
            assert_eq!(std::fs::read(dir.path().join("free")).unwrap(), b"from");
            assert!(!dir.path().join("from").exists());
        }
    }

    #[test]
    fn nothing_is_put_into_a_directory_whose_sync_failed() {
        let (dir, root) = both(["from", "other"]);
        root.failed_dirs.lock().unwrap().insert("chunks/aa".to_owned());
        assert!(place(&root, "from", "chunks/aa/x", Existing::Fail).is_err());
        assert!(make_durable_dirs(&root, "chunks/aa/bb").is_err());
        assert!(dir.path().join("from").exists() && !dir.path().join("chunks/aa/x").exists());
        assert!(place(&root, "other", "chunks/bb/x", Existing::Fail).is_ok());
    }

    #[test]
    fn a_link_in_the_place_of_a_directory_is_not_followed() {
        let (dir, root) = both(["from", "other"]);
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("chunks")).unwrap();
        let placed = place(&root, "from", "chunks/aa/x", Existing::Fail);
        assert!(placed.is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
