//! Bringing what stays in a restore target to the metadata that was stored. What is right already is not touched, so that
//! nothing of it looks changed afterwards.
//!
//! Its metadata is the inode's: a name that shares its inode with others, which may lie outside, is told to be written
//! anew instead.

use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::attrs::{attrs_of_fd, attrs_of_name};
use super::beneath::open_beneath;
use super::error::TreeError;
use super::stat::{stat_at, stat_fd};
use super::target::{Special, Target, check};
use super::target_attrs::{OURS, set_flags};
use super::target_meta::{MetaOutcome, NOBODYS, TargetMeta, group, mode, owner, owner_stays, set_meta};
use crate::model::attrs::{Attrs, FLAGS_LAST, Xattrs};
use crate::model::entry::{EntryKind, Stat};
use crate::model::path::split;

/// What became of a name that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brought {
    /// It has what was stored, but for what the system refuses.
    Same(MetaOutcome),
    /// It was different, and was set.
    Set(MetaOutcome),
    /// It cannot be looked at, or shares its inode with other names: it is to be written anew.
    WriteAnew,
}

/// What a name without content of its own is.
#[derive(Debug, Clone, Copy)]
pub enum Small<'a> {
    /// A symlink to here.
    Symlink(&'a [u8]),
    /// Anything else.
    Special(Special),
}

/// What of an open name is compared.
#[derive(PartialEq, Eq)]
struct Look {
    owner: (u32, u32),
    mode: u32,
    mtime_ns: i64,
    attrs: Attrs,
    is_complete: bool,
}

impl Target {
    /// Gives a regular file whose content stays the metadata that was stored.
    pub fn bring_file(&self, path: &[u8], meta: &TargetMeta) -> Result<Brought, TreeError> {
        let opened = match self.open_name(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Brought::WriteAnew),
            opened => opened.map_err(TreeError::at(path))?,
        };
        let bring = || -> io::Result<Brought> {
            let stat = stat_fd(&opened)?;
            if stat.kind != EntryKind::File {
                return Ok(Brought::WriteAnew);
            }
            let before = Look::at(opened.as_fd(), &stat);
            if before.has(meta, false) {
                return Ok(Brought::Same(MetaOutcome::default()));
            }
            if stat.nlink > 1 { Ok(Brought::WriteAnew) } else { bring(opened.as_fd(), &before, meta) }
        };
        bring().map_err(TreeError::at(path))
    }

    /// The same for a directory, after everything in it is done; the empty path is the target itself.
    pub fn bring_dir(&self, path: &[u8], meta: &TargetMeta) -> Result<Brought, TreeError> {
        check(path)?;
        let bring = || -> io::Result<Brought> {
            let opened = self.open_name(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            let before = Look::at(opened.as_fd(), &stat_fd(&opened)?);
            if before.has(meta, false) {
                return Ok(Brought::Same(MetaOutcome::default()));
            }
            bring(opened.as_fd(), &before, meta)
        };
        let brought = bring().map_err(TreeError::at(path));
        self.shared.dirs.forget(path);
        brought
    }

    /// Whether a symlink or special file is there already as it was stored, with all of its metadata.
    pub fn has_small(&self, path: &[u8], (small, meta): (Small<'_>, &TargetMeta)) -> Result<bool, TreeError> {
        let look = || -> io::Result<bool> {
            let parent = self.shared.dirs.open(split(path).0)?;
            let name = split(path).1;
            let stat = stat_at(&*parent, name, 0)?;
            let is_it = match small {
                Small::Symlink(to) => {
                    stat.kind == EntryKind::Symlink
                        && rustix::fs::readlinkat(&*parent, name, Vec::new())?.as_bytes() == to
                }
                Small::Special(special) => (stat.kind, stat.rdev) == kind_and_number(special) && stat.mode == meta.mode,
            };
            let has_attrs = |wanted: &Attrs| {
                let found = attrs_of_name(parent.as_fd(), name);
                found.failed.is_none() && has_xattrs(&found.attrs.xattrs, &wanted.xattrs)
            };
            Ok(is_it
                && is_owned_by(&(stat.uid, stat.gid), meta)
                && stat.mtime_ns == meta.mtime_ns
                && meta.attrs.as_deref().is_none_or(has_attrs))
        };
        look().or_else(|error| match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::INVAL) => Ok(false),
            _ => Err(TreeError::at(path)(error)),
        })
    }

    fn open_name(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let parent = self.shared.dirs.open(split(path).0)?;
        open_beneath(parent.as_fd(), split(path).1, flags)
    }
}

fn kind_and_number(special: Special) -> (EntryKind, u64) {
    match special {
        Special::Fifo => (EntryKind::Fifo, 0),
        Special::Socket => (EntryKind::Socket, 0),
        Special::CharDevice(number) => (EntryKind::CharDevice, number),
        Special::BlockDevice(number) => (EntryKind::BlockDevice, number),
    }
}

impl Look {
    fn at(fd: BorrowedFd<'_>, stat: &Stat) -> Self {
        let found = attrs_of_fd(fd, stat.dev);
        Self {
            owner: (stat.uid, stat.gid),
            mode: stat.mode,
            mtime_ns: stat.mtime_ns,
            attrs: found.attrs,
            is_complete: found.failed.is_none(),
        }
    }

    /// Whether it is what was stored; `but_owner`: as it is where the owner is refused.
    fn has(&self, meta: &TargetMeta, but_owner: bool) -> bool {
        let has_attrs = |wanted: &Attrs| {
            let (there, wanted_flags) = (self.attrs.flags, wanted.flags);
            let has_flags = there & !FLAGS_LAST == wanted_flags & !FLAGS_LAST
                // Those that are missing of the last ones are set last.
                && there & FLAGS_LAST & !wanted_flags == 0;
            // What has none is counted where its directory is.
            let has_project = wanted.project == 0 || self.attrs.project == wanted.project;
            self.is_complete && has_flags && has_project && has_xattrs(&self.attrs.xattrs, &wanted.xattrs)
        };
        (but_owner || is_owned_by(&self.owner, meta))
            && self.mode == mode(meta, but_owner).as_raw_mode()
            && self.mtime_ns == meta.mtime_ns
            && meta.attrs.as_deref().is_none_or(has_attrs)
    }
}

fn is_owned_by((uid, gid): &(u32, u32), meta: &TargetMeta) -> bool {
    [(meta.uid, *uid), (meta.gid, *gid)].iter().all(|(wanted, there)| wanted == there || *wanted == NOBODYS)
}

/// Whether the attributes are the stored ones; those of others that were not stored do not count.
fn has_xattrs(found: &Xattrs, wanted: &Xattrs) -> bool {
    let is_wanted = |name: &[u8]| wanted.iter().any(|(other, _)| other == name);
    let counts = |name: &[u8]| OURS.iter().any(|ours| name.starts_with(ours)) || is_wanted(name);
    found.iter().filter(|(name, _)| counts(name)).eq(wanted.iter())
}

fn bring(fd: BorrowedFd<'_>, before: &Look, meta: &TargetMeta) -> io::Result<Brought> {
    if before.attrs.flags & FLAGS_LAST != 0 {
        // They forbid all that follows.
        set_flags(fd, before.attrs.flags & !FLAGS_LAST, false)?;
    }
    if !is_owned_by(&before.owner, meta) {
        let is_refused = owner_stays(meta, rustix::fs::fchown(fd, owner(meta), group(meta)))?;
        if is_refused && before.has(meta, true) {
            return Ok(Brought::Same(MetaOutcome { owner_refused: true, ..MetaOutcome::default() }));
        }
    }
    let outcome = set_meta(fd, meta, false)?;
    let is_same = Look::at(fd, &stat_fd(fd)?) == *before;
    Ok(if is_same { Brought::Same(outcome) } else { Brought::Set(outcome) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn meta(mode: u32) -> TargetMeta {
        TargetMeta { mode, uid: u32::MAX, gid: u32::MAX, mtime_ns: 1_000_000_007, attrs: None }
    }

    #[test]
    fn what_differs_is_set_and_what_does_not_is_not_touched() {
        let temp = tempfile::tempdir().unwrap();
        let target = Target::open(temp.path(), false).unwrap();
        target.write_whole(b"f", b"bytes", &meta(0o640)).unwrap();
        let ctime = || {
            let found = fs::metadata(temp.path().join("f")).unwrap();
            (found.ctime(), found.ctime_nsec(), found.ino())
        };
        let before = ctime();
        assert_eq!(target.bring_file(b"f", &meta(0o640)).unwrap(), Brought::Same(MetaOutcome::default()));
        assert_eq!(ctime(), before);
        assert!(matches!(target.bring_file(b"f", &meta(0o400)).unwrap(), Brought::Set(_)));
        let found = fs::metadata(temp.path().join("f")).unwrap();
        assert_eq!((found.mode() & 0o7777, found.mtime(), found.ino()), (0o400, 1, before.2));
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(target.bring_dir(b"", &meta(0o700)).unwrap(), Brought::Set(_)));
        assert!(matches!(target.bring_dir(b"", &meta(0o700)).unwrap(), Brought::Same(_)));
    }

    #[test]
    fn a_file_with_further_names_is_not_changed_through_one_of_them() {
        let temp = tempfile::tempdir().unwrap();
        let (inside, outside) = (temp.path().join("t"), temp.path().join("outside"));
        fs::create_dir(&inside).unwrap();
        fs::write(&outside, b"mine").unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o600)).unwrap();
        fs::hard_link(&outside, inside.join("f")).unwrap();
        symlink(&outside, inside.join("l")).unwrap();
        let target = Target::open(&inside, false).unwrap();
        assert_eq!(target.bring_file(b"f", &meta(0o644)).unwrap(), Brought::WriteAnew);
        assert!(target.bring_file(b"l", &meta(0o644)).is_err());
        assert_eq!(fs::metadata(&outside).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn links_are_the_same_only_with_their_target_and_time() {
        let temp = tempfile::tempdir().unwrap();
        let target = Target::open(temp.path(), false).unwrap();
        let stored = meta(0o777);
        let placement =
            super::super::target::Placement { meta: &stored, existing: super::super::target::Existing::Refuse };
        target.symlink(b"l", b"there", placement).unwrap();
        target.special(b"p", Special::Fifo, placement).unwrap();
        let has = |name: &[u8], small, meta: &TargetMeta| target.has_small(name, (small, meta)).unwrap();
        assert!(has(b"l", Small::Symlink(b"there"), &stored) && has(b"p", Small::Special(Special::Fifo), &stored));
        assert!(!has(b"l", Small::Symlink(b"other"), &stored) && !has(b"p", Small::Symlink(b"there"), &stored));
        assert!(!has(b"p", Small::Special(Special::Fifo), &meta(0o600)));
        assert!(!has(b"l", Small::Symlink(b"there"), &TargetMeta { mtime_ns: 5, ..stored.clone() }));
        assert!(!has(b"no", Small::Symlink(b"there"), &stored));
    }
}
