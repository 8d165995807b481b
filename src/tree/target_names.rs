//! Putting a finished temporary name in its place, and names that nobody guesses.
//!
//! The only caller of rename in the target. Nothing here follows a link.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::{Errno, Result};

use super::stat::stat_at;
use super::target::Existing;

/// What unfinished files are called; a number nobody can foresee follows. A restore that was killed leaves them.
const TEMP_PREFIX: &str = ".raidtape-tmp-";

/// How often a name that is taken is tried again under another number.
const ATTEMPTS_MAX: usize = 16;

/// Temporary names of one target: 16 random hex digits and a count.
#[derive(Debug)]
pub(super) struct TempNames {
    random: u64,
    count: AtomicU64,
}

impl TempNames {
    pub(super) fn new() -> Self {
        let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
        Self { random, count: AtomicU64::new(0) }
    }

    /// Calls `create` with fresh names until one is not taken; returns the name too.
    pub(super) fn create<T>(&self, create: impl Fn(&str) -> Result<T>) -> Result<(String, T)> {
        for _ in 0..ATTEMPTS_MAX {
            let count = self.count.fetch_add(1, Ordering::Relaxed);
            let name = format!("{TEMP_PREFIX}{:016x}-{count:x}", self.random);
            match create(&name) {
                Err(Errno::EXIST) => {}
                answer => return Ok((name, answer?)),
            }
        }
        Err(Errno::BUSY)
    }
}

/// Whether a name is one that [`TempNames`] gives: nobody else's file that merely begins so.
pub(super) fn is_temp_name(name: &str) -> bool {
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let parts = name.strip_prefix(TEMP_PREFIX).and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(random, count)| random.len() == 16 && is_hex(random) && is_hex(count))
}

/// Gives `temp` its final name in the same directory. EEXIST: something is there already, and `existing` does not
/// allow to replace it (a directory is replaced only if it is empty). The temporary name is left on any error.
pub(super) fn put_in_place(dir: BorrowedFd<'_>, temp: &str, name: &[u8], existing: Existing) -> Result<()> {
    match existing {
        Existing::Refuse => rename_to_free(dir, temp, name),
        Existing::Replace => match rustix::fs::renameat(dir, temp, dir, name) {
            Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                remove_empty_dir(dir, name)?;
                rustix::fs::renameat(dir, temp, dir, name)
            }
            answer => answer,
        },
    }
}

/// Removes whatever is not a directory, or an empty directory; EEXIST when it is not empty.
pub(super) fn clear_away(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => remove_empty_dir(dir, name),
        answer => answer,
    }
}

fn remove_empty_dir(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY) => Err(Errno::EXIST),
        answer => answer,
    }
}

fn rename_to_free(dir: BorrowedFd<'_>, temp: &str, name: &[u8]) -> Result<()> {
    match rustix::fs::renameat_with(dir, temp, dir, name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_to_free(dir, temp, name),
        answer => answer,
    }
}

/// For file systems that cannot rename without replacing: a second name is never made over an existing one.
fn link_to_free(dir: BorrowedFd<'_>, temp: &str, name: &[u8]) -> Result<()> {
    match rustix::fs::linkat(dir, temp, dir, name, AtFlags::empty()) {
        Ok(()) => rustix::fs::unlinkat(dir, temp, AtFlags::empty()),
        Err(Errno::EXIST) => Err(Errno::EXIST),
        // No hard links either (vfat): looking first is all that is left.
        Err(_) => match stat_at(dir, name, 0) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => {
                rustix::fs::renameat(dir, temp, dir, name)
            }
            _ => Err(Errno::EXIST),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use std::fs;

    #[test]
    fn without_a_rename_that_spares_a_link_never_replaces_either() {
        let temp = tempfile::tempdir().unwrap();
        let dir = fs::File::open(temp.path()).unwrap();
        fs::write(temp.path().join("temp"), b"new").unwrap();
        fs::write(temp.path().join("old"), b"old").unwrap();
        let put = |name: &[u8]| link_to_free(dir.as_fd(), "temp", name);
        assert_eq!(put(b"old"), Err(Errno::EXIST));
        assert_eq!(put(b"free"), Ok(()));
        assert_eq!(fs::read(temp.path().join("old")).unwrap(), b"old");
        assert_eq!(fs::read(temp.path().join("free")).unwrap(), b"new");
        assert!(!temp.path().join("temp").exists());
    }

    #[test]
    fn a_name_that_is_taken_is_passed_over() {
        let names = TempNames::new();
        let first = std::cell::Cell::new(true);
        let create = |_: &str| {
            if first.replace(false) { Err(Errno::EXIST) } else { Ok(()) }
        };
        let (name, ()) = names.create(create).unwrap();
        assert!(name.starts_with(TEMP_PREFIX) && name.ends_with("-1"));
        assert_eq!(names.create(|_| Err::<(), _>(Errno::EXIST)), Err(Errno::BUSY));
    }
}
