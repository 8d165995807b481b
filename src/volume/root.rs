//! A volume's directory, held by descriptor: every name is looked up from it, one component at a time, and no link is
//! followed. A path that is unmounted or mounted anew therefore redirects nothing.
//!
//! Owns opening, looking and unlinking. Renaming and syncing is `durable`'s.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;

use rustix::fs::{self, AtFlags, Mode, OFlags, Stat, StatVfs};
use rustix::io::{Errno, retry_on_intr};

use super::store::{StoreError, check_key};
use crate::model::path;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An open directory that holds a volume.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    /// Directories whose own entry is known to be durable; at most 65,800 with the layout of blocks.
    pub(super) durable_dirs: Mutex<HashSet<String>>,
    /// Directories whose sync failed once: nothing is put there by this process any more.
    pub(super) failed_dirs: Mutex<HashSet<String>>,
}

impl Root {
    /// Opens the directory that `dir` names now. Writes nothing.
    pub(super) fn open(dir: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| fs::open(dir, flags, Mode::empty()))?;
        Ok(Self { fd, durable_dirs: Mutex::default(), failed_dirs: Mutex::default() })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens the directory with this key; the empty key is the root itself.
    pub(super) fn dir(&self, key: &str) -> Result<OwnedFd, Errno> {
        let mut dir = open_dir(self.fd(), ".")?;
        for name in key.split('/').filter(|name| !name.is_empty()) {
            dir = open_dir(dir.as_fd(), name)?;
        }
        Ok(dir)
    }

    /// Opens a regular file for reading, without ever blocking on a fifo.
    pub(super) fn open_file(&self, key: &str) -> Result<File, StoreError> {
        self.open_file_with(key, OFlags::empty())
    }

    /// The same with further flags.
    pub(super) fn open_file_with(&self, key: &str, more: OFlags) -> Result<File, StoreError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
        let opened = self.at(key, "open", |dir, name| fs::openat(dir, name, flags, Mode::empty()));
        let file = match opened {
            // What `O_NOFOLLOW` says of a link, and `O_RDONLY` of a socket.
            Err(StoreError::Io { source, .. })
                if matches!(Errno::from_io_error(&source), Some(Errno::LOOP | Errno::NXIO)) =>
            {
                return Err(not_an_object(key));
            }
            opened => File::from(opened?),
        };
        let kind = file.metadata().map(|found| found.is_file());
        match kind.map_err(|source| StoreError::from_io(key, "stat", source))? {
            true => Ok(file),
            false => Err(not_an_object(key)),
        }
    }

    /// Creates a file that is not there yet, for writing and reading.
    pub(super) fn create_file(&self, key: &str) -> Result<File, StoreError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let created = self.at(key, "create", |dir, name| fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR));
        created.map(File::from)
    }

    /// Opens a file that this process wrote by its path, so as to sync and place it.
    pub(super) fn open_to_seal(&self, key: &str) -> Result<File, StoreError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = self.at(key, "open", |dir, name| fs::openat(dir, name, flags, Mode::empty()));
        opened.map(File::from)
    }

    /// Makes a directory unless it is there. Not synced.
    pub(super) fn make_dir(&self, key: &str) -> Result<(), StoreError> {
        let made = self.at(key, "mkdir", |dir, name| fs::mkdirat(dir, name, Mode::RWXU));
        match made {
            Err(StoreError::Exists { .. }) => Ok(()),
            made => made,
        }
    }

    /// What has this key, without following a link; `None` when nothing has, or its directory is missing.
    pub(super) fn stat(&self, key: &str) -> Result<Option<Stat>, StoreError> {
        let found = self.at(key, "stat", |dir, name| fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW));
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a name that is no directory's. Not synced.
    pub(super) fn unlink(&self, key: &str) -> Result<(), StoreError> {
        self.at(key, "unlink", |dir, name| fs::unlinkat(dir, name, AtFlags::empty()))
    }

    /// What `statvfs` says of the file system.
    pub(super) fn statvfs(&self) -> Result<StatVfs, StoreError> {
        fs::fstatvfs(&self.fd).map_err(|errno| StoreError::from_io(".", "statvfs", errno.into()))
    }

    /// Does one call with the directory that holds `key` and the name in it.
    pub(super) fn at<T>(
        &self,
        key: &str,
        op: &'static str,
        call: impl Fn(BorrowedFd<'_>, &str) -> Result<T, Errno>,
    ) -> Result<T, StoreError> {
        check_key(key)?;
        let (dir_key, name) = split(key);
        self.dir(dir_key)
            .and_then(|dir| retry_on_intr(|| call(dir.as_fd(), name)))
            .map_err(|errno| StoreError::from_io(key, op, errno.into()))
    }
}

/// The directory's key and the name in it.
pub(super) fn split(key: &str) -> (&str, &str) {
    let (dir, _) = path::split(key.as_bytes());
    let name = key.get(dir.len()..).unwrap_or(key).trim_start_matches('/');
    (key.get(..dir.len()).unwrap_or(""), name)
}

fn open_dir(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    retry_on_intr(|| fs::openat(parent, name, DIRECTORY, Mode::empty()))
}

fn not_an_object(key: &str) -> StoreError {
    StoreError::NotAnObject { key: key.to_owned() }
}
