//! Taking away what does not belong into a restore target: the one place that deletes what a restore did not make.
//!
//! Every name is reached afresh below the target's root, through no link, over no mount point and into no other file
//! system. A link is deleted as the link that it is. No mode is changed for it.

use std::io::{self, Read};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, OFlags};
use rustix::io::Errno;

use super::beneath::open_on_mount;
use super::error::TreeError;
use super::stat::{stat_at, stat_fd};
use super::target::{Target, check};
use crate::model::entry::EntryKind;
use crate::model::path::split;

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundName {
    /// The name.
    pub name: Vec<u8>,
    /// Whether it is a directory, not a link to one.
    pub is_dir: bool,
}

/// What a directory of the target holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Holds {
    /// All of its names, sorted, and its own device and inode.
    Names {
        /// The names.
        names: Vec<FoundName>,
        /// The directory.
        inode: (u64, u64),
    },
    /// No directory is there.
    Nothing,
    /// It lies on another file system than the target, or behind a mount point: a bind of the same one, a subvolume too.
    OtherFileSystem,
}

impl Target {
    /// All names in the directory `path`: an error when it cannot be listed to its end.
    pub fn holds(&self, path: &[u8]) -> Result<Holds, TreeError> {
        check(path)?;
        let dir = match open_on_mount(self.root(), path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(error) => {
                return match Errno::from_io_error(&error) {
                    Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Holds::Nothing),
                    Some(Errno::XDEV) => Ok(Holds::OtherFileSystem),
                    _ => Err(TreeError::at(path)(error)),
                };
            }
            Ok(dir) => dir,
        };
        let there = stat_fd(&dir).map_err(TreeError::at(path))?;
        let own = stat_fd(self.root()).map_err(TreeError::at(path))?;
        // A subvolume of btrfs is no mount, but a device of its own.
        if there.dev != own.dev {
            return Ok(Holds::OtherFileSystem);
        }
        let mut names = list(&dir).map_err(TreeError::at(path))?;
        names.sort_unstable();
        names.dedup_by(|later, first| later.name == first.name);
        Ok(Holds::Names { names, inode: (there.dev, there.ino) })
    }

    /// The first bytes of a file, not followed; `None` when there are fewer, or no regular file.
    pub fn head(&self, path: &[u8], len: usize) -> Result<Option<Vec<u8>>, TreeError> {
        if self.stat(path)?.is_none_or(|there| there.kind != EntryKind::File || there.size < len as u64) {
            return Ok(None);
        }
        let read = || -> io::Result<Vec<u8>> {
            let fd = open_on_mount(self.root(), path, OFlags::RDONLY | OFlags::NONBLOCK)?;
            let mut head = vec![0; len];
            std::fs::File::from(fd).read_exact(&mut head)?;
            Ok(head)
        };
        match read() {
            Ok(head) => Ok(Some(head)),
            // It has become shorter meanwhile.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(TreeError::at(path)(error)),
        }
    }

    /// Deletes one name: a directory, which must be empty, or anything else.
    ///
    /// # Errors
    /// `Write` when it is another kind of file by now, not empty, or a mount point.
    pub fn delete(&self, path: &[u8], is_dir: bool) -> Result<(), TreeError> {
        check(path)?;
        if path.is_empty() {
            return Err(TreeError::BadPath { path: Vec::new() });
        }
        let delete = || -> io::Result<()> {
            let (above, name) = split(path);
            let dir = open_on_mount(self.root(), above, OFlags::PATH | OFlags::DIRECTORY)?;
            let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            rustix::fs::unlinkat(&dir, name, flags)?;
            // Its name may be used again.
            self.shared.dirs.forget(path);
            Ok(())
        };
        delete().map_err(|source| TreeError::Write { path: path.to_vec(), source })
    }

    fn root(&self) -> BorrowedFd<'_> {
        self.shared.dirs.root().as_fd()
    }
}

fn list(dir: &OwnedFd) -> io::Result<Vec<FoundName>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let is_dir = match entry.file_type() {
            FileType::Unknown => stat_at(dir, name, 0)?.kind == EntryKind::Dir,
            kind => kind == FileType::Directory,
        };
        names.push(FoundName { name: name.to_vec(), is_dir });
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn names(target: &Target, path: &[u8]) -> Vec<(Vec<u8>, bool)> {
        match target.holds(path).unwrap() {
            Holds::Names { names, .. } => names.into_iter().map(|found| (found.name, found.is_dir)).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_link_is_deleted_as_a_link_and_never_gone_through() {
        let temp = tempfile::tempdir().unwrap();
        let (inside, outside) = (temp.path().join("t"), temp.path().join("outside"));
        fs::create_dir_all(outside.join("d")).unwrap();
        fs::write(outside.join("f"), b"mine").unwrap();
        fs::create_dir(&inside).unwrap();
        symlink(&outside, inside.join("l")).unwrap();
        let target = Target::open(&inside, false).unwrap();
        assert_eq!(names(&target, b""), [(b"l".to_vec(), false)]);
        assert_eq!(target.holds(b"l").unwrap(), Holds::Nothing);
        for (path, is_dir) in [(&b"l/f"[..], false), (b"l/d", true), (b"l", true), (b"..", true), (b"", true)] {
            assert!(target.delete(path, is_dir).is_err(), "{}", path.escape_ascii());
        }
        target.delete(b"l", false).unwrap();
        assert!(outside.join("f").exists() && outside.join("d").exists());
        assert!(names(&target, b"").is_empty());
    }

    #[test]
    fn a_directory_goes_only_when_it_is_empty_and_its_mode_stays() {
        let temp = tempfile::tempdir().unwrap();
        let target = Target::open(temp.path(), false).unwrap();
        fs::create_dir(temp.path().join("d")).unwrap();
        fs::write(temp.path().join("d/f"), b"x").unwrap();
        fs::set_permissions(temp.path().join("d"), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(target.delete(b"d", true).is_err() && target.delete(b"d", false).is_err());
        assert_eq!(target.head(b"d/f", 1).unwrap(), Some(b"x".to_vec()));
        for (path, len) in [(&b"d/f"[..], 2), (b"d/g", 0), (b"d", 0)] {
            assert_eq!(target.head(path, len).unwrap(), None);
        }
        assert_eq!(fs::metadata(temp.path().join("d")).unwrap().permissions().mode() & 0o7777, 0o700);
        target.delete(b"d/f", false).unwrap();
        target.delete(b"d", true).unwrap();
        assert_eq!(target.holds(b"d").unwrap(), Holds::Nothing);
    }
}
