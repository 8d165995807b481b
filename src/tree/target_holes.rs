//! The holes of a restored file, in exactly their places: what is zeros and shall be stored is written, what is stored and
//! shall be a hole is given back to the file system.
//!
//! Bytes never change by this: a hole is made only where zeros were read. A file system that has no holes, or larger ones
//! alone, keeps the zeros.

use std::io;

use rustix::fd::BorrowedFd;
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::{Errno, retry_on_intr};

use crate::model::attrs::Holes;

/// Bytes that are written, or looked at, at once.
const STEP: usize = 64 << 10;

/// Whether to stop: a file of terabytes of zeros takes long.
pub(super) type IsStopped<'a> = &'a dyn Fn() -> bool;

/// Gives an open file of `len` bytes, all written, exactly these holes.
///
/// # Errors
/// `Interrupted` when `is_stopped` says so: it is asked before each step.
pub(super) fn set_holes(fd: BorrowedFd<'_>, len: u64, holes: &Holes, is_stopped: IsStopped<'_>) -> io::Result<()> {
    let mut at = 0;
    for (start, hole_len) in holes {
        let end = start.saturating_add(*hole_len).min(len);
        if *start >= end {
            break;
        }
        fill(fd, (at, *start), is_stopped)?;
        dig(fd, (*start, end), (len, is_stopped))?;
        at = end;
    }
    fill(fd, (at, len), is_stopped)
}

fn go_on(is_stopped: IsStopped<'_>) -> io::Result<()> {
    if is_stopped() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
}

/// Writes zeros wherever a range has holes.
fn fill(fd: BorrowedFd<'_>, (from, to): (u64, u64), is_stopped: IsStopped<'_>) -> io::Result<()> {
    let zeros = [0; STEP];
    let mut at = from;
    while let Some(hole) = found(rustix::fs::seek(fd, SeekFrom::Hole(at)), to).filter(|hole| *hole < to && at < to) {
        let end = found(rustix::fs::seek(fd, SeekFrom::Data(hole)), to).unwrap_or(to).min(to);
        if end <= hole {
            break;
        }
        at = hole;
        while at < end {
            go_on(is_stopped)?;
            let step = usize::try_from(end - at).map_or(STEP, |left| left.min(STEP));
            match retry_on_intr(|| rustix::io::pwrite(fd, &zeros[..step], at))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => at += written as u64,
            }
        }
    }
    Ok(())
}

/// Makes a range a hole as far as it is zeros.
fn dig(fd: BorrowedFd<'_>, (start, end): (u64, u64), (len, is_stopped): (u64, IsStopped<'_>)) -> io::Result<()> {
    let mut at = start;
    while let Some(data) = found(rustix::fs::seek(fd, SeekFrom::Data(at)), end).filter(|data| *data < end) {
        let data_end = found(rustix::fs::seek(fd, SeekFrom::Hole(data)), end).unwrap_or(end).min(end);
        if !are_zeros(fd, (data, data_end), is_stopped)? {
            return Ok(());
        }
        let done = if data_end == len {
            // Also the last block, of which the file has only a part.
            match retry_on_intr(|| rustix::fs::ftruncate(fd, data)) {
                // Now the file is short: it has its length again, or it has failed.
                Ok(()) => Ok(retry_on_intr(|| rustix::fs::ftruncate(fd, len))?),
                refused @ Err(_) => refused,
            }
        } else {
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            retry_on_intr(|| rustix::fs::fallocate(fd, punch, data, data_end - data))
        };
        match done {
            Ok(()) => at = data_end,
            Err(error @ (Errno::ROFS | Errno::NOSPC | Errno::DQUOT | Errno::IO)) => return Err(error.into()),
            // The rest would be refused as well.
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

fn are_zeros(fd: BorrowedFd<'_>, (from, to): (u64, u64), is_stopped: IsStopped<'_>) -> io::Result<bool> {
    let mut bytes = [0; STEP];
    let mut at = from;
    while at < to {
        go_on(is_stopped)?;
        let step = usize::try_from(to - at).map_or(STEP, |left| left.min(STEP));
        let read = retry_on_intr(|| rustix::io::pread(fd, &mut bytes[..step], at))?;
        if read == 0 || bytes[..read].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += read as u64;
    }
    Ok(true)
}

/// Where a search ended; behind the file counts as `end`. A file system that cannot search ends all of them.
fn found(answer: rustix::io::Result<u64>, end: u64) -> Option<u64> {
    match answer {
        Ok(at) => Some(at),
        Err(Errno::NXIO) => Some(end),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use std::os::unix::fs::{FileExt, MetadataExt};

    fn file(bytes: &[u8], written: &[(usize, usize)]) -> std::fs::File {
        let file = tempfile::tempfile_in("/var/tmp").unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        for (from, to) in written {
            file.write_all_at(&bytes[*from..*to], *from as u64).unwrap();
        }
        file
    }

    #[test]
    fn zeros_become_what_the_file_had_in_their_places_and_bytes_stay() {
        const BLOCK: usize = 4096;
        let mut bytes = vec![0; 10 * BLOCK + 5];
        bytes[2 * BLOCK] = 1;
        bytes[5 * BLOCK] = 1;
        let file = file(&bytes, &[(0, 4 * BLOCK), (5 * BLOCK, 6 * BLOCK), (8 * BLOCK, bytes.len())]);
        let block = BLOCK as u64;
        // The one at block 5 is none: there is a byte in it.
        let holes = vec![(0, 2 * block), (5 * block, block), (9 * block, block + 5)];
        set_holes(file.as_fd(), bytes.len() as u64, &holes, &|| false).unwrap();
        let mut found = vec![1; bytes.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == bytes);
        assert_eq!(file.metadata().unwrap().len(), bytes.len() as u64);
        let source = crate::tree::source_file::SourceFile::new(file.try_clone().unwrap().into()).unwrap();
        let Some(there) = source.holes(bytes.len() as u64).filter(|there| !there.is_empty()) else { return };
        if file.metadata().unwrap().blksize() == block {
            assert_eq!(there, [(0, 2 * block), (9 * block, block + 5)]);
        }
    }

    #[test]
    fn a_file_that_shall_have_no_hole_has_none() {
        let file = file(&vec![0; 1 << 20], &[(70_000, 80_000)]);
        set_holes(file.as_fd(), 1 << 20, &Holes::new(), &|| false).unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 >= 1 << 20);
    }

    #[test]
    fn it_stops_between_two_steps_when_it_is_told_to() {
        let asked = std::cell::Cell::new(0);
        let is_stopped = || {
            asked.set(asked.get() + 1);
            asked.get() > 3
        };
        let len = 64 * STEP as u64;
        let dense = file(&vec![0; 64 * STEP], &[]);
        let error = set_holes(dense.as_fd(), len, &Holes::new(), &is_stopped).unwrap_err();
        assert_eq!((error.kind(), asked.get()), (io::ErrorKind::Interrupted, 4));
        let zeros = file(&vec![0; 64 * STEP], &[(0, 64 * STEP)]);
        asked.set(0);
        assert!(set_holes(zeros.as_fd(), len, &vec![(0, len)], &is_stopped).is_err());
        assert_eq!(asked.get(), 4);
        assert_eq!(zeros.metadata().unwrap().len(), len);
    }
}
