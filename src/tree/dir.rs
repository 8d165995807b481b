//! A directory of a source that can be returned to: by a kept descriptor, or from the root when too many are kept.
//!
//! Owns the walker's descriptors. Reopening spells the same path below the same root without following a link; it
//! does not check that the directory found there is still the one that was listed.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::attrs::{FoundAttrs, attrs_of_fd, attrs_of_name};
use super::beneath::{FdBudget, FdPermit, open_beneath};
use super::error::TreeError;
use super::source_file::SourceFile;
use super::stat::{stamp_clock_ns, stat_at, stat_fd};
use crate::model::entry::{EntryKind, Stat};
use crate::model::path::is_valid_name;

const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A handle on one directory; clones share it. Keeps a descriptor while the walker's bound allows.
#[derive(Debug, Clone)]
pub struct Dir(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: Arc<Root>,
    path: Vec<u8>,
    kept: OnceLock<Kept>,
}

/// The fields are dropped in this order: first closed, then counted out.
#[derive(Debug)]
struct Kept {
    fd: OwnedFd,
    _permit: FdPermit,
}

#[derive(Debug)]
struct Root {
    fd: OwnedFd,
    budget: Arc<FdBudget>,
}

impl Dir {
    /// Opens a source root; a symlink given as root is followed. Keeps at most `fds_max` descriptors below it.
    pub(super) fn open_root(path: &Path, fds_max: usize) -> Result<Self, TreeError> {
        let flags = DIR_FLAGS.difference(OFlags::NOFOLLOW);
        let path_owned = || path.to_path_buf();
        let fd =
            open_quietly(|atime| rustix::fs::openat(CWD, path, flags | atime, Mode::empty())).map_err(|error| {
                match Errno::from_io_error(&error) {
                    Some(Errno::NOENT) => TreeError::RootMissing { path: path_owned() },
                    Some(Errno::NOTDIR) => TreeError::RootNotDirectory { path: path_owned() },
                    _ => TreeError::RootUnreadable { path: path_owned(), source: error },
                }
            })?;
        let budget = FdBudget::new(fds_max);
        Ok(Self::unopened(Arc::new(Root { fd, budget }), Vec::new()))
    }

    fn unopened(root: Arc<Root>, path: Vec<u8>) -> Self {
        Self(Arc::new(Inner { root, path, kept: OnceLock::new() }))
    }

    /// A handle on the directory `path` of the same source, not opened yet.
    pub(super) fn at(&self, path: Vec<u8>) -> Self {
        Self::unopened(Arc::clone(&self.0.root), path)
    }

    /// Opens the subdirectory `name` for listing; a symlink or anything else but a directory is an error.
    pub(super) fn open_subdir(&self, name: &[u8]) -> io::Result<OwnedFd> {
        self.with_fd(|fd| open_quietly(|atime| rustix::fs::openat(fd, name, DIR_FLAGS | atime, Mode::empty())))
    }

    /// Hands over this directory's open descriptor to be kept, if the bound allows.
    pub(super) fn keep(&self, fd: OwnedFd) {
        if let Some(permit) = self.0.root.budget.try_hold() {
            // When another thread was first, this descriptor is closed and its permit goes back.
            let _ = self.0.kept.set(Kept { fd, _permit: permit });
        }
    }

    /// Calls `use_fd` with a descriptor of this directory.
    pub(super) fn with_fd<T>(&self, use_fd: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        let inner = &*self.0;
        if inner.path.is_empty() {
            return use_fd(inner.root.fd.as_fd());
        }
        if let Some(kept) = inner.kept.get() {
            return use_fd(kept.fd.as_fd());
        }
        let fd = open_beneath(inner.root.fd.as_fd(), &inner.path, DIR_FLAGS)?;
        let answer = use_fd(fd.as_fd());
        self.keep(fd);
        answer
    }

    /// The directory's path inside its source.
    pub fn path(&self) -> &[u8] {
        &self.0.path
    }

    /// Opens a regular file for reading, without following a link, waiting or touching its access time where that
    /// is allowed. Call it only for a name whose [`Stat`] says regular file: what else lies there by now is an
    /// error.
    pub fn open_file(&self, name: &[u8]) -> io::Result<SourceFile> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let flags = flags | OFlags::NOCTTY;
        self.with_name(name, |dir| open_quietly(|atime| rustix::fs::openat(dir, name, flags | atime, Mode::empty())))
            .and_then(SourceFile::new)
    }

    /// What `name` is now, without following it.
    pub fn stat(&self, name: &[u8]) -> io::Result<Stat> {
        self.with_name(name, |dir| stat_at(dir, name, stamp_clock_ns()))
    }

    /// Extended attributes and flags of `name`, which is of this kind; of the directory itself when it is empty. An
    /// error only when the name cannot be opened or is another kind of file by now.
    pub fn attrs(&self, name: &[u8], kind: EntryKind) -> io::Result<FoundAttrs> {
        if name.is_empty() {
            return self.with_fd(|fd| Ok(attrs_of_fd(fd, stat_fd(fd)?.dev)));
        }
        self.with_name(name, |dir| {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
            let flags = match kind {
                EntryKind::Dir => flags | OFlags::DIRECTORY,
                EntryKind::File => flags,
                _ => return Ok(attrs_of_name(dir, name)),
            };
            let opened = open_quietly(|atime| rustix::fs::openat(dir, name, flags | atime, Mode::empty()))?;
            let found = stat_fd(&opened)?;
            if found.kind != kind {
                return Err(io::Error::other("it is another kind of file by now"));
            }
            Ok(attrs_of_fd(opened.as_fd(), found.dev))
        })
    }

    /// The target of the symlink `name`.
    pub fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        self.with_name(name, |dir| Ok(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes()))
    }

    fn with_name<T>(&self, name: &[u8], use_fd: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        if !is_valid_name(name) {
            return Err(Errno::INVAL.into());
        }
        self.with_fd(use_fd)
    }
}

/// Opens with O_NOATIME, or without where only the owner may ask for it.
fn open_quietly(open: impl Fn(OFlags) -> rustix::io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    let opened = rustix::io::retry_on_intr(|| open(OFlags::NOATIME));
    match opened {
        Err(Errno::PERM) => Ok(rustix::io::retry_on_intr(|| open(OFlags::empty()))?),
        answer => Ok(answer?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("a/b")).unwrap();
        std::fs::write(temp.path().join("a/b/f"), b"bytes").unwrap();
        std::os::unix::fs::symlink("f", temp.path().join("a/b/l")).unwrap();
        temp
    }

    #[test]
    fn files_and_links_are_read_with_and_without_kept_descriptors() {
        let temp = sample();
        for fds_max in [0, 4] {
            let root = Dir::open_root(temp.path(), fds_max).unwrap();
            let dir = root.at(b"a/b".to_vec());
            let mut bytes = [0; 8];
            for _ in 0..2 {
                let file = dir.open_file(b"f").unwrap();
                assert_eq!(file.read_at(1, &mut bytes).unwrap(), 4);
                assert_eq!(dir.stat(b"l").unwrap().kind, EntryKind::Symlink);
                assert_eq!(dir.read_link(b"l").unwrap(), b"f");
            }
            assert_eq!(dir.0.kept.get().is_some(), fds_max > 0);
        }
    }

    #[test]
    fn links_directories_pipes_and_names_that_lead_out_are_not_opened_as_files() {
        let temp = sample();
        let fifo = temp.path().join("a/b/p");
        rustix::fs::mkfifoat(CWD, &fifo, Mode::RUSR).unwrap();
        let root = Dir::open_root(temp.path(), 4).unwrap();
        let dir = root.at(b"a/b".to_vec());
        for name in [&b"l"[..], b"p", b"..", b".", b"../b/f", b"", b"f\0"] {
            assert!(dir.open_file(name).is_err(), "{}", name.escape_ascii());
        }
        assert!(root.open_file(b"a").is_err());
    }
}
