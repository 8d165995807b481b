//! Reading extended attributes and inode flags, of an open file or of a name that must not be opened.
//!
//! Where a file system has none of them there are none; what it has and does not hand out is told beside the rest.

use std::io;

use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::{fgetxattr, flistxattr, lgetxattr, llistxattr};
use rustix::io::Errno;

use super::project::{flags_and_project, has_none};
use crate::model::attrs::{Attrs, FLAGS_KEPT};
use crate::model::limits::ATTRS_LEN_MAX;

/// The longest list of names, and the longest value, that Linux hands out.
const LIST_MAX: usize = 64 << 10;

/// Bytes that a name and a value take beside themselves, at most.
const FRAME_LEN: usize = 8;

/// What was found, and why it is not all.
#[derive(Debug, Default)]
pub struct FoundAttrs {
    /// Those that could be read.
    pub attrs: Attrs,
    /// The first reason for which some are missing.
    pub failed: Option<io::Error>,
}

/// Those of an open file or directory on the device `dev`.
pub(super) fn attrs_of_fd(fd: BorrowedFd<'_>, dev: u64) -> FoundAttrs {
    let mut found = read_xattrs(|list| flistxattr(fd, list), |name, value| fgetxattr(fd, name, value));
    match flags_and_project(fd, dev) {
        Ok((flags, project)) => (found.attrs.flags, found.attrs.project) = (flags & FLAGS_KEPT, project),
        Err(error) if has_none(error) => {}
        Err(error) => found.failed = found.failed.or(Some(error.into())),
    }
    found
}

/// Those of a symlink, fifo, socket or device: by name below its directory, never opened, so without flags.
pub(super) fn attrs_of_name(dir: BorrowedFd<'_>, name: &[u8]) -> FoundAttrs {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    let path = path.as_slice();
    let mut found = read_xattrs(|list| llistxattr(path, list), |name, value| lgetxattr(path, name, value));
    if found.failed.as_ref().is_some_and(|error| error.kind() == io::ErrorKind::NotFound) && !has_proc() {
        found.failed = Some(io::Error::new(io::ErrorKind::Unsupported, "/proc is not mounted"));
    }
    found
}

fn has_proc() -> bool {
    std::fs::symlink_metadata("/proc/self/fd").is_ok()
}

fn read_xattrs(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> FoundAttrs {
    let mut found = FoundAttrs::default();
    let names = match sized::<512>(list) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return found,
        Err(error) => return FoundAttrs { failed: Some(error.into()), ..found },
    };
    let (xattrs, mut len) = (&mut found.attrs.xattrs, FRAME_LEN);
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        match sized::<256>(|value| get(name, value)) {
            Ok(value) if len + name.len() + value.len() + FRAME_LEN <= ATTRS_LEN_MAX => {
                len += name.len() + value.len() + FRAME_LEN;
                xattrs.push((name.to_vec(), value));
            }
            Ok(_) => found.failed = Some(io::Error::other("they are longer than 1 MiB together")),
            // It was taken away since.
            Err(Errno::NODATA) => {}
            Err(error) => {
                let error = io::Error::from(error);
                let words = format!("{}: {error}", name.escape_ascii());
                found.failed = found.failed.or_else(|| Some(io::Error::new(error.kind(), words)));
            }
        }
    }
    xattrs.sort_unstable();
    xattrs.dedup_by(|later, first| later.0 == first.0);
    found
}

/// An answer of unknown length: mostly a short one.
pub(super) fn sized<const SHORT: usize>(
    ask: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    let mut short = [0; SHORT];
    match ask(&mut short) {
        Ok(len) => Ok(short[..len].to_vec()),
        Err(Errno::RANGE) => {
            let mut long = vec![0; LIST_MAX];
            let len = ask(&mut long)?;
            long.truncate(len);
            Ok(long)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use rustix::fs::{XattrFlags, fsetxattr};

    #[test]
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn attributes_come_sorted_whatever_their_length_and_by_name_as_by_descriptor() {
        let temp = tempfile::tempdir_in("/var/tmp").unwrap();
        let file = std::fs::File::create(temp.path().join("f")).unwrap();
        if fsetxattr(&file, "user.a", b"", XattrFlags::empty()) == Err(Errno::OPNOTSUPP) {
            assert!(std::env::var_os("RAIDTAPE_TEST_STRICT").is_none_or(|strict| strict != "1"), "needs attributes");
            eprintln!("skipped: /var/tmp takes no attributes");
            return;
        }
        let long = vec![7; 1000];
        for (name, value) in [("user.b", long.as_slice()), ("user.a", b""), ("user.c", b"\0\xff")] {
            fsetxattr(&file, name, value, XattrFlags::empty()).unwrap();
        }
        let FoundAttrs { attrs, failed } = attrs_of_fd(file.as_fd(), 1);
        assert!(failed.is_none(), "{failed:?}");
        let own: Vec<_> = attrs.xattrs.iter().filter(|(name, _)| name.starts_with(b"user.")).collect();
        let pair = |name: &[u8], value: &[u8]| (name.to_vec(), value.to_vec());
        assert_eq!(own, [&pair(b"user.a", b""), &pair(b"user.b", &long), &pair(b"user.c", b"\0\xff")]);
        let dir = std::fs::File::open(temp.path()).unwrap();
        assert_eq!(attrs_of_name(dir.as_fd(), b"f").attrs.xattrs, attrs.xattrs);
        assert!(attrs_of_name(dir.as_fd(), b"missing").failed.is_some());
    }

    #[test]
    fn what_can_be_read_is_kept_beside_what_cannot() {
        let list = |names: &mut [u8]| {
            names[..9].copy_from_slice(b"a\0b\0c\0d\0\0");
            Ok(9)
        };
        let get = |name: &[u8], _: &mut [u8]| match name {
            b"a" | b"d" => Ok(1),
            b"b" => Err(Errno::IO),
            _ => Err(Errno::NODATA),
        };
        let found = read_xattrs(list, get);
        let names: Vec<_> = found.attrs.xattrs.iter().map(|(name, _)| name.as_slice()).collect();
        assert_eq!(names, [b"a", b"d"]);
        assert!(found.failed.unwrap().to_string().starts_with("b: "));
        let long = read_xattrs(list, |_, value| if value.len() < 60_000 { Err(Errno::RANGE) } else { Ok(value.len()) });
        assert!(long.failed.is_none() && long.attrs.xattrs.len() == 4);
        assert!(read_xattrs(|_| Err(Errno::IO), get).failed.is_some());
        assert!(read_xattrs(|_| Err(Errno::OPNOTSUPP), get).failed.is_none());
    }

    #[test]
    fn a_file_system_without_attributes_has_none() {
        let file = std::fs::File::open("/proc/self/status").unwrap();
        let found = attrs_of_fd(file.as_fd(), 2);
        assert!(found.attrs.is_empty() && found.failed.is_none(), "{found:?}");
    }
}
