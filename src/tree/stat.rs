//! One `statx` as a [`Stat`], and what a file system can be trusted with.
//!
//! Owns the choice of flags, clock and clamping. Follows no link and mounts nothing.

use std::io;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp};
use rustix::time::{ClockId, clock_gettime};

use crate::model::entry::{EntryKind, FsTrust, Stat};

const NS_PER_S: i64 = 1_000_000_000;

/// Now, on the clock that stamps files (`CLOCK_REALTIME_COARSE`): a file changed later never has an earlier time.
/// Take it before the `statx` that it belongs to.
pub fn stamp_clock_ns() -> i64 {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    join_ns(now.tv_sec, now.tv_nsec)
}

/// What `name` in `dir` is, without following it. `taken_ns` is an earlier answer of [`stamp_clock_ns`].
pub fn stat_at<P: rustix::path::Arg>(dir: impl AsFd, name: P, taken_ns: i64) -> io::Result<Stat> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let answer = rustix::fs::statx(dir, name, flags, mask())?;
    from_statx(&answer, taken_ns)
}

/// What an open descriptor is.
pub fn stat_fd(fd: impl AsFd) -> io::Result<Stat> {
    let taken_ns = stamp_clock_ns();
    let answer = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, mask())?;
    from_statx(&answer, taken_ns)
}

/// How far inode numbers and times of the file system under `fd` can be trusted. Unknown ones count as local.
pub fn fs_trust(fd: impl AsFd) -> FsTrust {
    match rustix::fs::fstatfs(fd) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "magic numbers are 32 bits wide; some architectures sign-extend them"
        )]
        Ok(answer) => trust_of_magic(answer.f_type as u32),
        Err(_) => FsTrust::Remote,
    }
}

/// Magic numbers of `linux/magic.h`; smb and ceph from their own headers.
fn trust_of_magic(magic: u32) -> FsTrust {
    const MSDOS: u32 = 0x4d44;
    const EXFAT: u32 = 0x2011_bab0;
    const OVERLAY: u32 = 0x794c_7630;
    const NFS: u32 = 0x6969;
    const SMB: u32 = 0x517b;
    const CIFS: u32 = 0xff53_4d42;
    const SMB2: u32 = 0xfe53_4d42;
    const FUSE: u32 = 0x6573_5546;
    const V9FS: u32 = 0x0102_1997;
    const CEPH: u32 = 0x00c3_6400;
    const AFS: u32 = 0x5346_414f;
    match magic {
        MSDOS | EXFAT | OVERLAY => FsTrust::NoInodes,
        NFS | SMB | CIFS | SMB2 | FUSE | V9FS | CEPH | AFS => FsTrust::Remote,
        _ => FsTrust::Local,
    }
}

fn mask() -> StatxFlags {
    StatxFlags::BASIC_STATS | StatxFlags::BTIME
}

fn from_statx(answer: &Statx, taken_ns: i64) -> io::Result<Stat> {
    let mode = u32::from(answer.stx_mode);
    let has_birth = StatxFlags::from_bits_retain(answer.stx_mask).contains(StatxFlags::BTIME);
    Ok(Stat {
        kind: kind_of_mode(mode).ok_or(io::ErrorKind::InvalidData)?,
        mode: mode & 0o7777,
        uid: answer.stx_uid,
        gid: answer.stx_gid,
        size: answer.stx_size,
        allocated: answer.stx_blocks.saturating_mul(512),
        mtime_ns: ns(&answer.stx_mtime),
        ctime_ns: ns(&answer.stx_ctime),
        btime_ns: has_birth.then(|| ns(&answer.stx_btime)),
        dev: rustix::fs::makedev(answer.stx_dev_major, answer.stx_dev_minor),
        ino: answer.stx_ino,
        nlink: answer.stx_nlink,
        rdev: rustix::fs::makedev(answer.stx_rdev_major, answer.stx_rdev_minor),
        taken_ns,
    })
}

fn kind_of_mode(mode: u32) -> Option<EntryKind> {
    Some(match FileType::from_raw_mode(mode) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Dir,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::CharacterDevice => EntryKind::CharDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::Unknown => return None,
    })
}

fn ns(time: &StatxTimestamp) -> i64 {
    join_ns(time.tv_sec, i64::from(time.tv_nsec))
}

/// Clamps what lies before 1677 or after 2262.
fn join_ns(seconds: i64, nanoseconds: i64) -> i64 {
    let clamped = if seconds < 0 { i64::MIN } else { i64::MAX };
    seconds.checked_mul(NS_PER_S).and_then(|whole| whole.checked_add(nanoseconds)).unwrap_or(clamped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn a_stat_says_what_the_standard_library_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"12345").unwrap();
        let file = File::open(&path).unwrap();
        file.set_modified(UNIX_EPOCH - Duration::from_nanos(1)).unwrap();
        let held = File::open(dir.path()).unwrap();
        let stat = stat_at(&held, "f", stamp_clock_ns()).unwrap();
        let expected = std::fs::metadata(&path).unwrap();
        assert_eq!((stat.kind, stat.size), (EntryKind::File, 5));
        assert_eq!((stat.dev, stat.ino, stat.nlink), (expected.dev(), expected.ino(), 1));
        assert_eq!((stat.mode, stat.uid, stat.mtime_ns), (expected.mode() & 0o7777, expected.uid(), -1));
        let by_fd = stat_fd(&file).unwrap();
        assert_eq!(Stat { taken_ns: 0, ..by_fd }, Stat { taken_ns: 0, ..stat });
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("l")).unwrap();
        let stat = stat_at(File::open(dir.path()).unwrap(), "l", 0).unwrap();
        assert_eq!((stat.kind, stat.size), (EntryKind::Symlink, 4));
    }

    #[test]
    fn a_file_changed_after_its_stat_never_has_an_earlier_time() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..50 {
            let before = stamp_clock_ns();
            std::fs::write(dir.path().join("f"), b"x").unwrap();
            let stat = stat_at(File::open(dir.path()).unwrap(), "f", before).unwrap();
            assert!(stat.mtime_ns >= before && stat.ctime_ns >= before);
        }
    }

    #[test]
    fn times_beyond_the_range_are_clamped() {
        assert_eq!(join_ns(i64::MAX / 2, 0), i64::MAX);
        assert_eq!(join_ns(i64::MIN / 2, 0), i64::MIN);
        assert_eq!(join_ns(-1, 999_999_999), -1);
    }

    #[test]
    fn file_systems_without_stable_inodes_are_known() {
        assert_eq!(trust_of_magic(0xef53), FsTrust::Local);
        assert_eq!(trust_of_magic(0x4d44), FsTrust::NoInodes);
        assert_eq!(trust_of_magic(0x794c_7630), FsTrust::NoInodes);
        assert_eq!(trust_of_magic(0x6969), FsTrust::Remote);
        assert_eq!(trust_of_magic(0xff53_4d42), FsTrust::Remote);
        assert_eq!(fs_trust(File::open("/proc").unwrap()), FsTrust::Local);
    }
}
