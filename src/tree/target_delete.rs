//! Taking away what does not belong into a restore target: the one place that deletes what a restore did not make.
//!
//! Every name is reached afresh below the target's root, through no link and over no mount point. A link is deleted as
//! the link that it is.

use std::io;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
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
    /// All of its names, sorted.
    Names(Vec<FoundName>),
    /// No directory is there.
    Nothing,
    /// Something is mounted there or above it.
    OtherMount,
}

impl Target {
    /// All names in the directory `path`: an error when it cannot be listed to its end. `is_doomed`: it is going to be
    /// deleted itself, so a mode of its own that forbids listing and deleting is changed.
    pub fn holds(&self, path: &[u8], is_doomed: bool) -> Result<Holds, TreeError> {
        check(path)?;
        let opened = self.open_to_list(path, is_doomed);
        let dir = match opened {
            Err(error) => {
                return match Errno::from_io_error(&error) {
                    Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Holds::Nothing),
                    Some(Errno::XDEV) => Ok(Holds::OtherMount),
                    _ => Err(TreeError::at(path)(error)),
                };
            }
            Ok(dir) => dir,
        };
        let mut names = list(&dir).map_err(TreeError::at(path))?;
        names.sort_unstable();
        names.dedup_by(|later, first| later.name == first.name);
        Ok(Holds::Names(names))
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

    fn open_to_list(&self, path: &[u8], is_doomed: bool) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = open_on_mount(self.root(), path, flags);
        if !is_doomed {
            return opened;
        }
        match opened {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let by_path = open_on_mount(self.root(), path, OFlags::PATH | OFlags::DIRECTORY)?;
                let link = format!("/proc/self/fd/{}", by_path.as_raw_fd());
                rustix::fs::chmodat(CWD, link, Mode::RWXU, AtFlags::empty())?;
                open_on_mount(self.root(), path, flags)
            }
            Ok(dir) => {
                if stat_fd(&dir)?.mode & 0o700 != 0o700 {
                    // Who may not do that may still be root, who needs it not.
                    let _ = rustix::fs::fchmod(&dir, Mode::RWXU);
                }
                Ok(dir)
            }
            Err(error) => Err(error),
        }
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

    fn found(name: &str, is_dir: bool) -> FoundName {
        FoundName { name: name.into(), is_dir }
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
        assert_eq!(target.holds(b"", false).unwrap(), Holds::Names(vec![found("l", false)]));
        assert_eq!(target.holds(b"l", true).unwrap(), Holds::Nothing);
        for (path, is_dir) in [(&b"l/f"[..], false), (b"l/d", true), (b"l", true), (b"..", true), (b"", true)] {
            assert!(target.delete(path, is_dir).is_err(), "{}", path.escape_ascii());
        }
        target.delete(b"l", false).unwrap();
        assert!(outside.join("f").exists() && outside.join("d").exists());
        assert_eq!(target.holds(b"", false).unwrap(), Holds::Names(vec![]));
    }

    #[test]
    fn a_directory_goes_only_when_it_is_empty_whatever_its_mode() {
        let temp = tempfile::tempdir().unwrap();
        let target = Target::open(temp.path(), false).unwrap();
        fs::create_dir(temp.path().join("d")).unwrap();
        fs::write(temp.path().join("d/f"), b"x").unwrap();
        fs::set_permissions(temp.path().join("d"), fs::Permissions::from_mode(0o0)).unwrap();
        assert_eq!(target.holds(b"d", true).unwrap(), Holds::Names(vec![found("f", false)]));
        assert!(target.delete(b"d", true).is_err() && target.delete(b"d", false).is_err());
        target.delete(b"d/f", false).unwrap();
        target.delete(b"d", true).unwrap();
        assert_eq!(target.holds(b"d", true).unwrap(), Holds::Nothing);
    }
}
