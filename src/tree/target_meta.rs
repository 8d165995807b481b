//! Owner, mode, extended attributes, time and flags of a restored file, set through its descriptor.
//!
//! Owns their order and what is done when the system refuses. Giving a file away takes its capabilities; an ordinary user
//! may set attributes only while the mode lets him write; the mode is the mask of an ACL, so that comes after it; the time
//! comes last, because whoever finds it right takes all the rest for done.

use super::target_attrs::{
    access_acl, clear_others, give_project, set_access_acl, set_flags, set_xattrs, set_xattrs_of_path,
};
use crate::model::attrs::{Attrs, FLAGS_LAST, Holes};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::{Errno, Result};

use std::sync::Arc;

const NS_PER_S: i64 = 1_000_000_000;

/// What a restored name gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetMeta {
    /// Permission bits with suid, sgid and sticky (`0o7777`); a symlink has none.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime_ns: i64,
    /// Exactly these extended attributes and flags; `None` leaves what is there. The flags of `FLAGS_LAST` are set by
    /// [`super::target::Target::set_last_flags`].
    pub attrs: Option<Arc<Attrs>>,
}

impl TargetMeta {
    /// The holes that a file shall have, where they are not its runs of zeros.
    pub(super) fn holes(&self) -> Option<&Holes> {
        self.attrs.as_ref().and_then(|attrs| attrs.holes.as_ref())
    }
}

/// What the system or the file system would not set; the rest is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MetaOutcome {
    /// Owner and group are those of this process; suid and sgid bits were left out.
    pub owner_refused: bool,
    /// Permissions stay as they were made: for the owner only.
    pub mode_refused: bool,
    /// The time is that of the restore.
    pub time_refused: bool,
    /// Some extended attributes or ACLs are missing, or stayed that should have gone.
    pub attrs_refused: bool,
    /// The same of the flags of `chattr`.
    pub flags_refused: bool,
}

/// Sets everything on a descriptor that is open for reading or writing. `is_fresh`: nothing was handed down to it and it
/// has no attributes yet.
pub(super) fn set_meta(fd: BorrowedFd<'_>, meta: &TargetMeta, is_fresh: bool) -> Result<MetaOutcome> {
    let attrs = meta.attrs.as_deref();
    let owner_refused = owner_stays(meta, rustix::fs::fchown(fd, owner(meta), group(meta)))?;
    let (mut attrs_refused, mut flags_refused) = (false, false);
    if let Some(attrs) = attrs {
        attrs_refused = !is_fresh && clear_others(fd, attrs)?;
        attrs_refused |= set_xattrs(fd, attrs)?;
    }
    let mut mode_refused = refused(rustix::fs::fchmod(fd, mode(meta, owner_refused)))?;
    if let Some(attrs) = attrs {
        if let Some(acl) = access_acl(attrs)
            && set_access_acl(fd, acl)?
        {
            attrs_refused = true;
            mode_refused |= refused(rustix::fs::fchmod(fd, mode_without_acl(mode(meta, owner_refused), acl)))?;
        }
        attrs_refused |= give_project(fd, attrs.project)?;
        flags_refused = set_flags(fd, attrs.flags & !FLAGS_LAST, is_fresh)?;
    }
    let time_refused = refused(rustix::fs::futimens(fd, &times(meta)))?;
    Ok(MetaOutcome { owner_refused, mode_refused, time_refused, attrs_refused, flags_refused })
}

/// With an ACL the group's bits are its mask; where the ACL cannot be had they must not become the group's own rights.
fn mode_without_acl(mode: Mode, acl: &[u8]) -> Mode {
    const GROUP_OBJ: u16 = 4;
    let entries = acl.get(4..).unwrap_or_default().chunks_exact(8);
    let mut entries = entries.map(|entry| (u16::from_le_bytes([entry[0], entry[1]]), u32::from(entry[2] & 7)));
    let group = entries.find(|(tag, _)| *tag == GROUP_OBJ).map_or(0, |(_, bits)| bits);
    Mode::from_raw_mode(mode.as_raw_mode() & !0o070 | mode.as_raw_mode() & (group << 3))
}

/// The same for a descriptor that was opened as a path (symlink, fifo, socket, device). The mode of anything but a
/// symlink is set by way of `/proc`; where that is not mounted it counts as refused.
pub(super) fn set_meta_of_path(
    fd: BorrowedFd<'_>,
    meta: &TargetMeta,
    (is_symlink, is_fresh): (bool, bool),
) -> Result<MetaOutcome> {
    let at = AtFlags::EMPTY_PATH;
    let chowned = rustix::fs::chownat(fd, c"", owner(meta), group(meta), at);
    let owner_refused = owner_stays(meta, chowned)?;
    let mode_refused = !is_symlink && {
        let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
        let bits = mode(meta, owner_refused);
        match rustix::fs::chmodat(CWD, link, bits, AtFlags::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => true,
            answer => refused(answer)?,
        }
    };
    let attrs_refused = match meta.attrs.as_deref() {
        Some(attrs) => set_xattrs_of_path(fd, attrs, !is_symlink && !is_fresh)?,
        None => false,
    };
    let time_refused = match rustix::fs::utimensat(fd, c"", &times(meta), at) {
        // Kernels before 5.8 do not know the flag.
        Err(Errno::INVAL | Errno::NOENT) => true,
        answer => refused(answer)?,
    };
    Ok(MetaOutcome { owner_refused, mode_refused, time_refused, attrs_refused, flags_refused: false })
}

/// Whether an answer means "not here, not by you" rather than that something is broken.
fn refused(answer: Result<()>) -> Result<bool> {
    match answer {
        Ok(()) => Ok(false),
        // INVAL: an id that this user namespace does not have; OVERFLOW and RANGE: a time beyond the file system's.
        Err(
            Errno::PERM
            | Errno::ACCESS
            | Errno::INVAL
            | Errno::OPNOTSUPP
            | Errno::NOSYS
            | Errno::OVERFLOW
            | Errno::RANGE,
        ) => Ok(true),
        Err(error) => Err(error),
    }
}

/// `u32::MAX` is nobody's number: to the kernel it means "leave as it is".
pub(super) const NOBODYS: u32 = u32::MAX;

/// Whether owner or group stay those of this process, so that suid and sgid must not be set.
pub(super) fn owner_stays(meta: &TargetMeta, answer: Result<()>) -> Result<bool> {
    Ok(refused(answer)? || meta.uid == NOBODYS || meta.gid == NOBODYS)
}

pub(super) fn owner(meta: &TargetMeta) -> Option<Uid> {
    (meta.uid != NOBODYS).then(|| Uid::from_raw(meta.uid))
}

pub(super) fn group(meta: &TargetMeta) -> Option<Gid> {
    (meta.gid != NOBODYS).then(|| Gid::from_raw(meta.gid))
}

pub(super) fn mode(meta: &TargetMeta, owner_refused: bool) -> Mode {
    let bits = if owner_refused { 0o1777 } else { 0o7777 };
    Mode::from_raw_mode(meta.mode & bits)
}

fn times(meta: &TargetMeta) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: meta.mtime_ns.div_euclid(NS_PER_S),
            tv_nsec: meta.mtime_ns.rem_euclid(NS_PER_S),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::stat::stat_fd;

    #[test]
    fn suid_is_left_out_when_the_owner_is_refused() {
        let meta = TargetMeta { mode: 0o6755, uid: 1, gid: 1, mtime_ns: -1, attrs: None };
        assert_eq!(mode(&meta, true).as_raw_mode(), 0o755);
        assert_eq!(mode(&meta, false).as_raw_mode(), 0o6755);
    }

    #[test]
    fn the_mask_of_an_acl_that_is_not_there_is_nobodys_right() {
        let entry = |tag: u16, bits: u16| [tag.to_le_bytes(), bits.to_le_bytes(), [0xff; 2], [0xff; 2]].concat();
        let acl = [vec![2, 0, 0, 0], entry(1, 7), entry(2, 7), entry(4, 0), entry(16, 7), entry(32, 0)].concat();
        assert_eq!(mode_without_acl(Mode::from_raw_mode(0o2770), &acl).as_raw_mode(), 0o2700);
        let reads = [vec![2, 0, 0, 0], entry(4, 4)].concat();
        assert_eq!(mode_without_acl(Mode::from_raw_mode(0o770), &reads).as_raw_mode(), 0o740);
        assert_eq!(mode_without_acl(Mode::from_raw_mode(0o770), b"").as_raw_mode(), 0o700);
    }

    #[test]
    fn a_file_of_nobody_never_becomes_suid_of_whoever_restores_it() {
        let file = tempfile::tempfile().unwrap();
        for (uid, gid) in [(u32::MAX, 0), (0, u32::MAX)] {
            let meta = TargetMeta { mode: 0o6755, uid, gid, mtime_ns: 0, attrs: None };
            assert!(set_meta(file.as_fd(), &meta, true).unwrap().owner_refused);
            assert_eq!(stat_fd(&file).unwrap().mode, 0o755);
        }
    }

    #[test]
    fn times_before_1970_are_set_to_the_nanosecond() {
        let file = tempfile::tempfile().unwrap();
        let meta = TargetMeta { mode: 0o640, uid: u32::MAX, gid: u32::MAX, mtime_ns: -1_500_000_001, attrs: None };
        let outcome = set_meta(file.as_fd(), &meta, true).unwrap();
        assert!(!outcome.mode_refused && !outcome.time_refused);
        let stat = stat_fd(&file).unwrap();
        assert_eq!((stat.mtime_ns, stat.mode), (-1_500_000_001, 0o640));
    }
}
