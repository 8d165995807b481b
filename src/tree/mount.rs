//! Whether a directory looks like a mount point with nothing mounted: asked before anything is believed deleted or
//! is created there. Says nothing about what should be mounted.

use std::io;
use std::mem::MaybeUninit;
use std::path::Path;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, RawDir};

use super::stat::{stat_at, stat_fd};

/// Whether the directory lies on the file system of the directory above it, that is, nothing of its own is mounted
/// there. The root directory of the system counts as mounted. Symlinks in `path` are followed.
pub fn is_on_parents_file_system(path: &Path) -> io::Result<bool> {
    Ok(!is_mount_point(open(path)?)?)
}

/// Whether the directory has no entries. A listing that fails is an error, never "empty".
pub fn dir_is_empty(path: &Path) -> io::Result<bool> {
    is_empty(open(path)?)
}

/// Whether the device of an open directory differs from that of its `..`, or it has none above it.
pub(super) fn is_mount_point(dir: impl AsFd) -> io::Result<bool> {
    let own = stat_fd(&dir)?;
    let above = stat_at(&dir, c"..", own.taken_ns)?;
    Ok(own.dev != above.dev || own.ino == above.ino)
}

/// The same as [`dir_is_empty`], of a descriptor whose offset is at the start.
pub(super) fn is_empty(dir: impl AsFd) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut names = RawDir::new(dir, &mut buffer);
    while let Some(name) = names.next() {
        if !matches!(name?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_directory_is_on_its_parents_file_system_and_proc_is_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        assert!(is_on_parents_file_system(&dir.path().join("d")).unwrap());
        assert!(!is_on_parents_file_system(Path::new("/proc")).unwrap());
        assert!(!is_on_parents_file_system(Path::new("/")).unwrap());
        assert!(is_on_parents_file_system(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn a_directory_with_a_hidden_file_is_not_empty() {
        let dir = tempfile::tempdir().unwrap();
        assert!(dir_is_empty(dir.path()).unwrap());
        std::fs::write(dir.path().join(".x"), b"").unwrap();
        assert!(!dir_is_empty(dir.path()).unwrap());
        assert!(dir_is_empty(&dir.path().join("missing")).is_err());
    }
}
