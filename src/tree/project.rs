//! Project ids (`chattr -p`), which quotas count by: read and set through the kernel's `fsxattr`.
//!
//! No file pays for what its file system has not. XFS answers with the flags of `chattr` in the same call; ext4 and f2fs
//! need a call more and are asked where they are mounted with project quotas, and about directories that hand theirs down.

use std::cell::Cell;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::ioctl_getflags;
use rustix::io::{Errno, Result};
use rustix::ioctl::{Getter, Opcode, Setter, ioctl, opcode};

/// `struct fsxattr` of `linux/fs.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct FsXattr {
    xflags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    pad: [u8; 8],
}

const GET: Opcode = opcode::read::<FsXattr>(b'X', 31);
const SET: Opcode = opcode::write::<FsXattr>(b'X', 32);

/// A directory's project id becomes that of what is made in it.
const HANDS_DOWN: u32 = 0x2000_0000;

/// Flags of an `fsxattr`, and the same of `FS_IOC_GETFLAGS`: all that XFS has.
const SAME_FLAGS: [(u32, u32); 7] =
    [(0x8, 0x10), (0x10, 0x20), (0x20, 0x8), (0x40, 0x80), (0x80, 0x40), (0x200, HANDS_DOWN), (0x8000, 0x0200_0000)];

/// How a file system is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    /// It has none, or nobody counts by them.
    Not,
    /// One call tells flags and project.
    AtOnce,
    /// A call for the flags and one for the project.
    Beside,
}

thread_local! {
    /// The file system that was asked last: files of one follow each other.
    static LAST: Cell<Option<(u64, Asking)>> = const { Cell::new(None) };
}

/// Inode flags and project id of an open file or directory on the device `dev`.
pub(super) fn flags_and_project(fd: BorrowedFd<'_>, dev: u64) -> Result<(u32, u32)> {
    let asking = match LAST.get() {
        Some((last, asking)) if last == dev => asking,
        _ => {
            let asking = asking_of(fd, dev);
            LAST.set(Some((dev, asking)));
            asking
        }
    };
    if asking == Asking::AtOnce
        && let Ok(found) = get(fd)
    {
        let flags = SAME_FLAGS.iter().filter(|(theirs, _)| found.xflags & theirs != 0).map(|(_, ours)| ours);
        return Ok((flags.fold(0, |all, flag| all | flag), found.project));
    }
    let flags = ioctl_getflags(fd)?.bits();
    let has_one = asking == Asking::Beside || flags & HANDS_DOWN != 0;
    Ok((flags, if has_one { get(fd).map_or(0, |found| found.project) } else { 0 }))
}

/// Gives an open file or directory a project id.
pub(super) fn set_project(fd: BorrowedFd<'_>, project: u32) -> Result<()> {
    let there = get(fd)?;
    if there.project == project {
        return Ok(());
    }
    set(fd, FsXattr { project, ..there })
}

fn asking_of(fd: BorrowedFd<'_>, dev: u64) -> Asking {
    const XFS: u32 = 0x5846_5342;
    const EXT4: u32 = 0xef53;
    const F2FS: u32 = 0xf2f5_2010;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "magic numbers are 32 bits wide; some architectures sign-extend them"
    )]
    let magic = rustix::fs::fstatfs(fd).map_or(0, |found| found.f_type as u32);
    match magic {
        XFS => Asking::AtOnce,
        EXT4 | F2FS => {
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            if counts_projects(&mounts, dev) { Asking::Beside } else { Asking::Not }
        }
        _ => Asking::Not,
    }
}

/// Whether a device is mounted with project quotas, as `/proc/self/mountinfo` has it.
fn counts_projects(mounts: &str, dev: u64) -> bool {
    let number = format!("{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
    let of_device = mounts.lines().filter(|line| line.split(' ').nth(2) == Some(&number));
    let options = of_device.filter_map(|line| line.split_once(" - ")?.1.split(' ').nth(2));
    options.flat_map(|options| options.split(',')).any(|option| option == "prjquota")
}

#[expect(unsafe_code, reason = "rustix and nix have no safe call for it")]
fn get(fd: impl AsFd) -> Result<FsXattr> {
    // SAFETY: the kernel fills one `struct fsxattr`, whose layout `FsXattr` has; the number carries its size.
    unsafe { ioctl(fd, Getter::<GET, FsXattr>::new()) }
}

#[expect(unsafe_code, reason = "rustix and nix have no safe call for it")]
fn set(fd: impl AsFd, wanted: FsXattr) -> Result<()> {
    // SAFETY: the kernel reads one `struct fsxattr`, whose layout `FsXattr` has; the number carries its size.
    unsafe { ioctl(fd, Setter::<SET, FsXattr>::new(wanted)) }
}

/// Whether an error means that a file has neither flags nor a project.
pub(super) fn has_none(error: Errno) -> bool {
    matches!(error, Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::stat::stat_fd;

    #[test]
    fn the_numbers_of_the_calls_are_those_of_the_kernel() {
        assert_eq!(size_of::<FsXattr>(), 28);
        assert_eq!((GET, SET), (0x801c_581f, 0x401c_5820));
    }

    #[test]
    fn quotas_of_projects_are_seen_on_the_right_device() {
        let mounts = [
            "36 35 8:1 / / rw,noatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro",
            "40 36 8:2 / /srv/a\\040b rw - ext4 /dev/sda2 rw,prjquota",
        ];
        let mounts = &mounts.join("\n");
        assert!(counts_projects(mounts, rustix::fs::makedev(8, 2)));
        assert!(!counts_projects(mounts, rustix::fs::makedev(8, 1)));
        assert!(!counts_projects(mounts, rustix::fs::makedev(8, 3)));
        assert!(!counts_projects("", rustix::fs::makedev(8, 2)));
    }

    #[test]
    fn what_this_disk_says_is_what_its_flags_are() {
        let file = tempfile::tempfile_in("/var/tmp").unwrap();
        let dev = stat_fd(&file).unwrap().dev;
        let (Ok(flags), Ok(found)) = (ioctl_getflags(&file), flags_and_project(file.as_fd(), dev)) else { return };
        assert_eq!(found.0 & crate::model::attrs::FLAGS_KEPT, flags.bits() & crate::model::attrs::FLAGS_KEPT);
    }
}
