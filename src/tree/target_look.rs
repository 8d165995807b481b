//! Looking at what a restore target holds already, and taking away what a restore left there for itself.
//!
//! Reached like everything in a target: below its root, following no link.

use std::fs::File;
use std::io::{self, Read};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, DirEntry, FileType, OFlags};
use rustix::io::Errno;

use super::beneath::open_beneath;
use super::error::TreeError;
use super::stat::stat_at;
use super::target::Target;
use super::target_names::is_temp_name;
use crate::model::entry::{EntryKind, Stat};
use crate::model::path::split;

impl Target {
    /// What `path` is, not followed; `None` when there is nothing, or no directory that could hold it. Not for the
    /// empty path.
    pub fn stat(&self, path: &[u8]) -> Result<Option<Stat>, TreeError> {
        let look = || {
            let parent = self.shared.dirs.open(split(path).0)?;
            stat_at(&*parent, split(path).1, 0)
        };
        match look() {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(TreeError::at(path)(error)),
        }
    }

    /// The bytes of a small regular file; `None` when there is none or it is longer than `len_max`.
    pub fn read_small(&self, path: &[u8], len_max: usize) -> Result<Option<Vec<u8>>, TreeError> {
        if self.stat(path)?.is_none_or(|stat| stat.kind != EntryKind::File || stat.size > len_max as u64) {
            return Ok(None);
        }
        let read = || -> io::Result<Vec<u8>> {
            let parent = self.shared.dirs.open(split(path).0)?;
            let fd = open_beneath(parent.as_fd(), split(path).1, OFlags::RDONLY | OFlags::NONBLOCK)?;
            let mut bytes = Vec::new();
            File::from(fd).take(len_max as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map(Some).map_err(TreeError::at(path))
    }

    /// A regular file, open for reading; `None` when there is none.
    pub fn open_read(&self, path: &[u8]) -> Result<Option<File>, TreeError> {
        if self.stat(path)?.is_none_or(|stat| stat.kind != EntryKind::File) {
            return Ok(None);
        }
        let open = || -> io::Result<File> {
            let parent = self.shared.dirs.open(split(path).0)?;
            Ok(open_beneath(parent.as_fd(), split(path).1, OFlags::RDONLY | OFlags::NONBLOCK)?.into())
        };
        open().map(Some).map_err(TreeError::at(path))
    }

    /// Removes a name that is no directory.
    pub fn remove(&self, path: &[u8]) -> Result<(), TreeError> {
        let parent = self.shared.parent(path)?;
        rustix::fs::unlinkat(&*parent, split(path).1, AtFlags::empty()).map_err(TreeError::at(path))
    }

    /// Removes what a restore that was killed left in the directory `path` under temporary names; returns how many.
    pub fn sweep(&self, path: &[u8]) -> Result<u64, TreeError> {
        let sweep = || -> io::Result<u64> {
            let dir = self.open_dir(path)?;
            let mut left_over = Vec::new();
            for entry in Dir::read_from(&dir)? {
                let entry = entry?;
                if is_temporary(&entry) {
                    left_over.push(entry.file_name().to_owned());
                }
            }
            for name in &left_over {
                rustix::fs::unlinkat(&dir, name.as_c_str(), AtFlags::empty())?;
            }
            Ok(left_over.len() as u64)
        };
        sweep().map_err(TreeError::at(path))
    }

    /// Whether it has no entries, other than what [`Self::sweep`] removes.
    pub fn is_empty(&self) -> Result<bool, TreeError> {
        let look = || -> io::Result<bool> {
            for entry in Dir::read_from(self.open_dir(b"")?)? {
                let entry = entry?;
                let name = entry.file_name();
                if !matches!(name.to_bytes(), b"." | b"..") && !is_temporary(&entry) {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        look().map_err(TreeError::at(b""))
    }

    fn open_dir(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let parent = self.shared.dirs.open(path)?;
        open_beneath(parent.as_fd(), b"", OFlags::RDONLY | OFlags::DIRECTORY)
    }
}

fn is_temporary(entry: &DirEntry) -> bool {
    entry.file_type() != FileType::Directory && entry.file_name().to_str().is_ok_and(is_temp_name)
}

fn is_absence(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_there_is_seen_and_links_are_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("f"), b"12345").unwrap();
        std::os::unix::fs::symlink("/etc", temp.path().join("l")).unwrap();
        let target = Target::open(temp.path(), false).unwrap();
        assert_eq!(target.stat(b"f").unwrap().map(|stat| stat.size), Some(5));
        assert_eq!(target.stat(b"l").unwrap().map(|stat| stat.kind), Some(EntryKind::Symlink));
        for nothing in [&b"x"[..], b"x/y", b"f/y", b"l/passwd"] {
            assert_eq!(target.stat(nothing).unwrap(), None);
            assert_eq!(target.read_small(nothing, 9).unwrap(), None);
        }
        assert_eq!(target.read_small(b"f", 5).unwrap(), Some(b"12345".to_vec()));
        assert_eq!(target.read_small(b"f", 4).unwrap(), None);
        assert_eq!(target.read_small(b"l", 100).unwrap(), None);
        target.remove(b"l").unwrap();
        assert!(target.remove(b"l").is_err() && !temp.path().join("l").exists());
    }

    #[test]
    fn only_left_over_temporary_names_are_swept() {
        let temp = tempfile::tempdir().unwrap();
        let ours = [".raidtape-tmp-0123456789abcdef-1", ".raidtape-tmp-ffffffffffffffff-2a"];
        for name in ours.into_iter().chain(["f", ".raidtape-restore", ".raidtape-tmp-mine", ".raidtape-tmp-0-1"]) {
            fs::write(temp.path().join(name), b"x").unwrap();
        }
        fs::create_dir(temp.path().join(".raidtape-tmp-0123456789abcdef-3")).unwrap();
        let target = Target::open(temp.path(), false).unwrap();
        assert!(!target.is_empty().unwrap());
        assert_eq!(target.sweep(b"").unwrap(), 2);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 5);
    }
}
