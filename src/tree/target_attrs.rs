//! Extended attributes and inode flags of a restored name. What the system or the file system refuses is reported as
//! such; the rest is set.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{
    IFlags, XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, ioctl_getflags, ioctl_setflags, removexattr,
    setxattr,
};
use rustix::io::{Errno, Result};

use super::attrs::sized;
use super::project::set_project;
use crate::model::attrs::{Attrs, FLAGS_FIRST, FLAGS_KEPT};

/// What a name may have inherited or had before: taken away where the restored version has none of it. Labels of security
/// modules stay, they belong to the system that it is restored to.
pub(super) const OURS: [&[u8]; 4] = [b"user.", b"trusted.", b"system.posix_acl_", b"security.capability"];

/// The ACL that the mode is the mask of.
const ACCESS_ACL: &str = "system.posix_acl_access";

/// The encoded access ACL among attributes.
pub(super) fn access_acl(attrs: &Attrs) -> Option<&[u8]> {
    attrs.xattrs.iter().find(|(name, _)| name == ACCESS_ACL.as_bytes()).map(|(_, value)| value.as_slice())
}

/// Sets the attributes of an open file or directory but its access ACL; whether any was refused.
pub(super) fn set_xattrs(fd: BorrowedFd<'_>, attrs: &Attrs) -> Result<bool> {
    let mut is_refused = false;
    for (name, value) in attrs.xattrs.iter().filter(|(name, _)| name != ACCESS_ACL.as_bytes()) {
        is_refused |= refused(fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()))?;
    }
    Ok(is_refused)
}

/// Sets the project id, if there is one; whether that was refused. What has none is counted where its directory is.
pub(super) fn give_project(fd: BorrowedFd<'_>, project: u32) -> Result<bool> {
    if project == 0 { Ok(false) } else { refused(set_project(fd, project)) }
}

/// Sets the access ACL; whether it was refused.
pub(super) fn set_access_acl(fd: BorrowedFd<'_>, acl: &[u8]) -> Result<bool> {
    refused(fsetxattr(fd, ACCESS_ACL, acl, XattrFlags::empty()))
}

/// The same for a descriptor that was opened as a path: by way of `/proc`. With `is_heir` an inherited ACL goes.
pub(super) fn set_xattrs_of_path(fd: BorrowedFd<'_>, attrs: &Attrs, is_heir: bool) -> Result<bool> {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let mut is_refused = false;
    if is_heir {
        is_refused = match removexattr(link.as_str(), ACCESS_ACL) {
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => false,
            Err(Errno::NOENT | Errno::NOTDIR) => true,
            answer => refused(answer)?,
        };
    }
    for (name, value) in &attrs.xattrs {
        is_refused |= match setxattr(link.as_str(), name.as_slice(), value, XattrFlags::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => true,
            answer => refused(answer)?,
        };
    }
    Ok(is_refused)
}

/// Takes away what is not among `attrs`.
pub(super) fn clear_others(fd: BorrowedFd<'_>, attrs: &Attrs) -> Result<bool> {
    let names = match sized::<512>(|names| flistxattr(fd, names)) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut is_refused = false;
    for name in names.split(|byte| *byte == 0).filter(|name| OURS.iter().any(|ours| name.starts_with(ours))) {
        if attrs.xattrs.binary_search_by(|(wanted, _)| wanted.as_slice().cmp(name)).is_err() {
            is_refused |= match fremovexattr(fd, name) {
                Err(Errno::NODATA) => false,
                answer => refused(answer)?,
            };
        }
    }
    Ok(is_refused)
}

/// Whether what is made in a directory may begin with an ACL or with flags.
pub(super) fn hands_down(dir: BorrowedFd<'_>) -> bool {
    let acl = fgetxattr(dir, "system.posix_acl_default", &mut [0_u8; 0][..]);
    let has_acl = !matches!(acl, Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS));
    has_acl || ioctl_getflags(dir).is_ok_and(|flags| flags.bits() & FLAGS_KEPT != 0)
}

/// Sets the flags that a file needs before its first byte. What is refused is refused again at the end, and counted there.
pub(super) fn set_first_flags(fd: BorrowedFd<'_>, attrs: Option<&Attrs>) -> Result<()> {
    let flags = attrs.map_or(0, |attrs| attrs.flags & FLAGS_FIRST);
    if flags != 0 {
        let there = ioctl_getflags(fd).map_or(0, |there| there.bits());
        set_flags(fd, there & FLAGS_KEPT | flags, false)?;
    }
    Ok(())
}

/// Gives an open file or directory these of the flags that are kept, and no others; whether any was refused. A fresh file
/// that shall have none is not looked at.
pub(super) fn set_flags(fd: BorrowedFd<'_>, wanted: u32, is_fresh: bool) -> Result<bool> {
    if wanted == 0 && is_fresh {
        return Ok(false);
    }
    let there = match ioctl_getflags(fd) {
        Ok(there) => there.bits(),
        Err(_) if wanted == 0 => return Ok(false),
        Err(error) => return refused(Err(error)),
    };
    let wanted = there & !FLAGS_KEPT | wanted & FLAGS_KEPT;
    if there == wanted {
        return Ok(false);
    }
    let set = |bits: u32| refused(ioctl_setflags(fd, IFlags::from_bits_retain(bits)));
    if !set(wanted)? {
        return Ok(false);
    }
    // One that this file system does not know refuses all: each by itself then.
    let mut now = there;
    for bit in (0..32).map(|shift| 1_u32 << shift).filter(|bit| (there ^ wanted) & bit != 0) {
        if !set(now ^ bit)? {
            now ^= bit;
        }
    }
    Ok(true)
}

/// Whether an attribute cannot be had here. File systems have many words for that; only one that cannot be written any
/// more is broken for the rest as well.
fn refused(answer: Result<()>) -> Result<bool> {
    match answer {
        Ok(()) => Ok(false),
        Err(Errno::ROFS) => Err(Errno::ROFS),
        Err(_) => Ok(true),
    }
}
