//! What a place for objects can do, at block grain, and how it fails. No rename, append or modification time shows
//! above this trait: an object store can implement it by spooling a block and putting it once.
//!
//! Keys are those of `format::layout`: relative, valid names with `/` between them.

use std::io;

use rustix::io::Errno;

use crate::model::path;

/// A place for objects. Every method may be called from several threads at once; one process at a time writes
/// (see `VolumeLock`).
pub trait Store: Send + Sync {
    /// Starts a new object that nobody sees before [`Sink::commit`], with space for `lease_bytes` set aside where the
    /// place can do that. `NoSpace` when it is not there.
    fn begin(&self, lease_bytes: u64) -> Result<Box<dyn Sink>, StoreError>;

    /// Opens an object for reading. `NotFound` when there is none, `NotAnObject` when something else has its name.
    fn open(&self, key: &str) -> Result<Box<dyn Object>, StoreError>;

    /// The same for an object that is durable, past any cache of this machine where that can be done: what is read is
    /// what the place itself holds.
    fn open_uncached(&self, key: &str) -> Result<Box<dyn Object>, StoreError> {
        self.open(key)
    }

    /// A whole object of at most `len_max` bytes; `TooLong` when there are more.
    fn read_all(&self, key: &str, len_max: usize) -> Result<Vec<u8>, StoreError> {
        let object = self.open(key)?;
        let len_bytes = object.len();
        let len = usize::try_from(len_bytes).ok().filter(|len| *len <= len_max);
        let Some(len) = len else {
            return Err(StoreError::TooLong { key: key.to_owned(), len_bytes, len_max });
        };
        let mut bytes = vec![0; len];
        object.read_exact_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// An object's length, or `None` when there is none. A failure to look is an error, never `None`.
    fn head(&self, key: &str) -> Result<Option<u64>, StoreError>;

    /// Calls `each` with key and length of every object below the directory `prefix` (no `/` at its end; empty means
    /// everything), in the order of names. Any read error ends it. A directory of blocks, sidecars or manifests that
    /// was not made yet is empty, provided that the volume itself is still there; any other missing one is `NotFound`.
    fn list(&self, prefix: &str, each: &mut dyn FnMut(&str, u64)) -> Result<(), StoreError>;

    /// Removes an object. Not synced: after a power cut it may be there again.
    fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Gives an object another key; `Exists` when that is taken. Durable on return; after a crash before that it has one
    /// of both.
    fn set_aside(&self, key: &str, aside: &str) -> Result<(), StoreError>;

    /// Makes the name of an object durable that was found, and that a process may have left which died before it could.
    fn settle(&self, key: &str) -> Result<(), StoreError>;

    /// Stores a small object, durable on return; `Exists` when the key is taken.
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError>;

    /// Stores a small object, durable on return, in place of any that has the key: readers see the old or the new.
    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError>;

    /// How large the place is and what is left of it.
    fn space(&self) -> Result<Space, StoreError>;

    /// Gives up the space kept for finishing a block on a full disk; false when there was none left.
    fn free_reserve(&self) -> Result<bool, StoreError>;

    /// Takes that space again; nothing happens when it is there.
    fn restore_reserve(&self) -> Result<(), StoreError>;

    /// Removes what earlier processes began and never committed; returns how many objects. Only under the lock.
    fn sweep(&self) -> Result<u64, StoreError>;
}

/// A new object while it is written. Dropping it without [`Self::commit`] leaves nothing behind.
#[expect(clippy::len_without_is_empty, reason = "a length in bytes, not a collection")]
pub trait Sink: Send {
    /// Appends all the bytes or, with an error, none of them.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Bytes written so far.
    fn len(&self) -> u64;

    /// Gives the object its key. On return it is durable, with every directory above it. After an error it may be
    /// there or not, and must not be relied on; a failed sync is final.
    fn commit(self: Box<Self>, key: &str, existing: Existing) -> Result<(), StoreError>;
}

/// What to do when a key is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Leave it and fail with `Exists`.
    Fail,
    /// Put the new object in its place, atomically.
    Replace,
}

/// An object open for reading.
#[expect(clippy::len_without_is_empty, reason = "a length in bytes, not a collection")]
pub trait Object: Send + Sync {
    /// Its length when it was opened.
    fn len(&self) -> u64;

    /// Fills `buf` from `offset`; `Truncated` when the object ends before.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError>;

    /// Says that this range will not be read again soon.
    fn forget(&self, offset: u64, len: u64);

    /// Says that this range will be read soon.
    fn will_read(&self, offset: u64, len: u64);
}

/// Size of a place, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total_bytes: u64,
    /// What this process may still use.
    pub free_bytes: u64,
}

/// How a store fails. Facts only; the verb decides what they mean.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No object has this key.
    #[error("{key} is not there")]
    NotFound {
        /// The key.
        key: String,
    },
    /// The key is taken.
    #[error("{key} exists already")]
    Exists {
        /// The key.
        key: String,
    },
    /// The disk or a quota is full.
    #[error("no space left for {key} ({op})")]
    NoSpace {
        /// The key, or where the object was being written.
        key: String,
        /// What was being done.
        op: &'static str,
    },
    /// The file system is mounted read-only, or turned itself read-only.
    #[error("{key} cannot be written: the file system is read-only")]
    ReadOnly {
        /// The key.
        key: String,
    },
    /// The object ends before the range that was asked for.
    #[error("{key} has {len_bytes} bytes, but bytes {offset} to {end} were asked for")]
    Truncated {
        /// The key.
        key: String,
        /// First byte asked for.
        offset: u64,
        /// One past the last byte asked for.
        end: u64,
        /// Its length.
        len_bytes: u64,
    },
    /// The object is longer than anything that may have this key.
    #[error("{key} has {len_bytes} bytes, more than the {len_max} that it may have")]
    TooLong {
        /// The key.
        key: String,
        /// Its length.
        len_bytes: u64,
        /// What it may have.
        len_max: usize,
    },
    /// The bytes on the disk are not those that were written a moment ago.
    #[error("{key} reads back otherwise than it was written")]
    Altered {
        /// The key.
        key: String,
    },
    /// The name belongs to a directory, a link or a device.
    #[error("{key} is not a regular file")]
    NotAnObject {
        /// The key.
        key: String,
    },
    /// Not a relative path of valid names.
    #[error("{key:?} is no key")]
    BadKey {
        /// What was given.
        key: String,
    },
    /// Anything else that the system says.
    #[error("{op} {key}: {source}")]
    Io {
        /// The key.
        key: String,
        /// What was being done.
        op: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl StoreError {
    /// The variant for a system error, the same for every store and test double.
    pub fn from_io(key: &str, op: &'static str, source: io::Error) -> Self {
        let key = key.to_owned();
        match Errno::from_io_error(&source) {
            Some(Errno::NOENT) => Self::NotFound { key },
            Some(Errno::EXIST) => Self::Exists { key },
            Some(Errno::NOSPC | Errno::DQUOT) => Self::NoSpace { key, op },
            Some(Errno::ROFS) => Self::ReadOnly { key },
            _ => Self::Io { key, op, source },
        }
    }
}

/// Refuses what is not a key, so that no store is ever asked to leave its volume.
pub fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() || !path::is_valid(key.as_bytes()) {
        return Err(StoreError::BadKey { key: key.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_full_quota_are_the_same_fact() {
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            let error = StoreError::from_io("k", "write", errno.into());
            assert!(matches!(error, StoreError::NoSpace { .. }));
        }
        let error = StoreError::from_io("k", "write", Errno::ROFS.into());
        assert!(matches!(error, StoreError::ReadOnly { .. }));
        let error = StoreError::from_io("k", "write", Errno::IO.into());
        assert!(matches!(error, StoreError::Io { .. }));
    }

    #[test]
    fn a_key_never_leaves_its_volume() {
        for key in ["", "/", "/etc/x", "..", "a/../b", "a//b", "a/", "./a", "a\0b"] {
            let checked = check_key(key);
            assert!(matches!(checked, Err(StoreError::BadKey { .. })), "{key:?}");
        }
        assert!(check_key("chunks/aa/bb/x").is_ok());
    }
}
