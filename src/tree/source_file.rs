//! An open regular file of a source: reading at offsets, its data ranges, its state by descriptor.
//!
//! Opened only by [`super::dir::Dir::open_file`]. Does not judge whether the file changed while it was read.

use std::io;
use std::time::{Duration, Instant};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Advice, SeekFrom};
use rustix::io::{Errno, retry_on_intr};

use super::attrs::{FoundAttrs, attrs_of_fd};
use super::stat::{stamp_clock_ns, stat_fd};
use crate::model::attrs::Holes;
use crate::model::entry::{EntryKind, Stat};
use crate::model::limits::HOLES_MAX;

/// The longest tick of the clock that stamps files: that of a 100 Hz timer.
const TICK_NS: i64 = 10_000_000;
/// A clock that stands still is not waited for any longer.
const SETTLE_MAX: Duration = Duration::from_millis(100);

/// A regular file, open for reading. May be shared by threads: no call moves a common position that another uses.
#[derive(Debug)]
pub struct SourceFile {
    fd: OwnedFd,
    opened: Stat,
}

impl SourceFile {
    /// Takes an open descriptor; anything but a regular file is an error.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let opened = stat_fd(&fd)?;
        if opened.kind != EntryKind::File {
            return Err(io::Error::other("not a regular file any more"));
        }
        Ok(Self { fd, opened })
    }

    /// What the file was when it was opened; costs nothing.
    pub fn opened(&self) -> &Stat {
        &self.opened
    }

    /// Waits, for a tick of the clock that stamps files at most, until no further change can carry the same time as
    /// the last one. False when the file changed again meanwhile: then the same times before and after a reading prove
    /// nothing.
    pub fn settle(&mut self) -> io::Result<bool> {
        let ahead_ns = self.opened.ctime_ns.saturating_sub(self.opened.taken_ns);
        // Times further ahead come from another clock, a server's or one that was set back.
        if !(0..2 * TICK_NS).contains(&ahead_ns) {
            return Ok(true);
        }
        let begun = Instant::now();
        while stamp_clock_ns() <= self.opened.ctime_ns && begun.elapsed() < SETTLE_MAX {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.opened = stat_fd(&self.fd)?;
        Ok(self.opened.taken_ns > self.opened.ctime_ns)
    }

    /// What the file is now, by its descriptor.
    pub fn stat(&self) -> io::Result<Stat> {
        stat_fd(&self.fd)
    }

    /// Its extended attributes and flags.
    pub fn attrs(&self) -> FoundAttrs {
        attrs_of_fd(self.fd.as_fd(), self.opened.dev)
    }

    /// Reads at an offset, once; returns how many bytes, 0 at the end of the file.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::pread(&self.fd, &mut *bytes, offset))?)
    }

    /// Reads at an offset, once, as much as `bytes` has room for without growing, and appends it; returns how many bytes.
    pub fn append_at(&self, offset: u64, bytes: &mut Vec<u8>) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::pread(&self.fd, rustix::buffer::spare_capacity(&mut *bytes), offset))?)
    }

    /// The next range (start, end) that may hold other bytes than zeros, at or after `offset`; `None` when only a
    /// hole or nothing is left. Where the file system does not know, everything up to the end is one range.
    pub fn next_data(&self, offset: u64) -> io::Result<Option<(u64, u64)>> {
        let start = match rustix::fs::seek(&self.fd, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOTTY) => {
                let end = self.stat()?.size;
                return Ok((offset < end).then_some((offset, end)));
            }
            Err(error) => return Err(error.into()),
        };
        match rustix::fs::seek(&self.fd, SeekFrom::Hole(start)) {
            Ok(end) => Ok((start < end).then_some((start, end))),
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// All holes below `size`; `None` where the file system does not tell, or where there are more than can be kept.
    pub fn holes(&self, size: u64) -> Option<Holes> {
        let (mut holes, mut at) = (Holes::new(), 0);
        while at < size {
            let data = match rustix::fs::seek(&self.fd, SeekFrom::Data(at)) {
                Ok(data) => data.min(size),
                Err(Errno::NXIO) => size,
                Err(_) => return None,
            };
            if data > at {
                holes.push((at, data - at));
            }
            if data == size || holes.len() > HOLES_MAX {
                break;
            }
            let end = match rustix::fs::seek(&self.fd, SeekFrom::Hole(data)) {
                Ok(end) => end,
                Err(Errno::NXIO) => size,
                Err(_) => return None,
            };
            at = Some(end).filter(|end| *end > data)?;
        }
        (holes.len() <= HOLES_MAX).then_some(holes)
    }

    /// Tells the kernel to read ahead generously. A file system that does not listen is no error.
    pub fn advise_sequential(&self) {
        let _ = rustix::fs::fadvise(self.fd.as_fd(), 0, None, Advice::Sequential);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    #[test]
    fn data_ranges_skip_holes_and_end_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparse");
        let file = File::create(&path).unwrap();
        file.set_len(4 << 20).unwrap();
        file.write_all_at(b"data", 1 << 20).unwrap();
        let file = SourceFile::new(File::open(&path).unwrap().into()).unwrap();
        file.advise_sequential();
        let (start, end) = file.next_data(0).unwrap().unwrap();
        assert!(start <= 1 << 20 && end > 1 << 20 && end <= 4 << 20);
        let mut at = 0;
        while let Some((_, end)) = file.next_data(at).unwrap() {
            assert!(end > at);
            at = end;
        }
        assert_eq!(file.next_data(4 << 20).unwrap(), None);
        let mut bytes = [9; 8];
        assert_eq!(file.read_at((1 << 20) - 2, &mut bytes).unwrap(), 8);
        assert_eq!(&bytes, b"\0\0data\0\0");
        assert_eq!(file.read_at(4 << 20, &mut bytes).unwrap(), 0);
        assert_eq!(file.opened().size, 4 << 20);
    }

    #[test]
    fn a_file_that_changed_just_now_settles_and_is_looked_at_again() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"now", 0).unwrap();
        let mut source = SourceFile::new(file.into()).unwrap();
        assert!(source.settle().unwrap());
        assert!(source.opened().taken_ns > source.opened().ctime_ns);
        source.opened.ctime_ns = source.opened.taken_ns + 3_600_000_000_000;
        assert!(source.settle().unwrap(), "a time that is far ahead is not waited for");
    }

    #[test]
    fn an_empty_file_has_no_data() {
        let file = SourceFile::new(tempfile::tempfile().unwrap().into()).unwrap();
        assert_eq!(file.next_data(0).unwrap(), None);
    }
}
