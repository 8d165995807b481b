//! Reading an object from the disk itself: with `O_DIRECT` where the file system takes it, else after the page cache
//! was told to let go of it. For who wants to know what really arrived; slower than `local_object` for all else.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{self, Advice, OFlags};
use rustix::io::Errno;

use super::local_object::advise;
use super::root::Root;
use super::store::{Object, StoreError};

/// What offsets, lengths and memory are aligned to: no disk in use wants more.
const ALIGN: usize = 4096;

/// An open file that is read past the page cache.
pub(super) struct UncachedObject {
    file: File,
    key: String,
    len: u64,
    is_direct: bool,
    /// Longer than what is read by up to [`ALIGN`] bytes, so that an aligned part of it is long enough.
    buffer: Mutex<Vec<u8>>,
}

impl UncachedObject {
    /// Opens a regular file whose bytes are durable, and notes its length.
    pub(super) fn open(root: &Root, key: &str) -> Result<Self, StoreError> {
        let (file, is_direct) = match root.open_file_with(key, OFlags::DIRECT) {
            Err(StoreError::Io { source, .. }) if is_refusal(&source) => (root.open_file(key)?, false),
            opened => (opened?, true),
        };
        let found = file.metadata().map_err(|source| StoreError::from_io(key, "stat", source))?;
        let buffer = Mutex::default();
        let mut object = Self { file, key: key.to_owned(), len: found.len(), is_direct, buffer };
        object.try_direct()?;
        Ok(object)
    }

    /// Some file systems take the flag and refuse to read with it.
    fn try_direct(&mut self) -> Result<(), StoreError> {
        if self.is_direct && self.len > 0 && self.read_direct(0, &mut [0]).is_err_and(|error| is_refusal(&error)) {
            let set = fs::fcntl_setfl(&self.file, OFlags::empty());
            set.map_err(|errno| StoreError::from_io(&self.key, "fcntl", errno.into()))?;
            self.is_direct = false;
        }
        Ok(())
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if self.is_direct {
            return self.read_direct(offset, buf);
        }
        // Clean pages are dropped; the bytes were synced, so all are clean. The last page may be a part of one.
        advise(&self.file, 0, self.len.next_multiple_of(ALIGN as u64), Advice::DontNeed);
        self.file.read_exact_at(buf, offset)
    }

    /// Reads whole aligned blocks around the range and copies what was asked for.
    fn read_direct(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let lead = usize::try_from(offset % ALIGN as u64).unwrap_or_default();
        let from = offset - lead as u64;
        let wanted = lead + buf.len();
        let span = wanted.next_multiple_of(ALIGN);
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len() < span + ALIGN {
            buffer.resize(span + ALIGN, 0);
        }
        let skip = buffer.as_ptr().align_offset(ALIGN);
        let aligned = &mut buffer[skip..skip + span];
        let mut filled = 0;
        while filled < wanted {
            match self.file.read_at(&mut aligned[filled..], from + filled as u64) {
                Ok(len) if filled + len < wanted && len % ALIGN != 0 || len == 0 => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(len) => filled += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buf.copy_from_slice(&aligned[lead..wanted]);
        Ok(())
    }
}

impl Object for UncachedObject {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let end = offset.saturating_add(buf.len() as u64);
        let truncated = || StoreError::Truncated { key: self.key.clone(), offset, end, len_bytes: self.len };
        if end > self.len {
            return Err(truncated());
        }
        self.read(offset, buf).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => truncated(),
            _ => StoreError::from_io(&self.key, "read back", source),
        })
    }

    fn forget(&self, _offset: u64, _len: u64) {}

    fn will_read(&self, _offset: u64, _len: u64) {}
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::OPNOTSUPP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Reads ranges of a file of `len` bytes in `dir`, aligned and not, and compares them.
    fn ranges_are_right(dir: &Path, len: usize) {
        let bytes: Vec<u8> = (0..len).map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap()).collect();
        let file = File::create(dir.join("object")).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        file.sync_all().unwrap();
        let root = Root::open(dir).unwrap();
        let opened = UncachedObject::open(&root, "object").unwrap();
        let cached = UncachedObject { is_direct: false, ..UncachedObject::open(&root, "object").unwrap() };
        fs::fcntl_setfl(&cached.file, OFlags::empty()).unwrap();
        for object in [&opened, &cached] {
            assert_eq!(object.len(), len as u64);
            for (from, to) in [(0, len), (0, 1), (1, len / 2), (len / 3, len), (len - 1, len), (len, len)] {
                let from = from.min(to);
                let mut read = vec![0; to - from];
                object.read_exact_at(from as u64, &mut read).unwrap();
                assert!(read == bytes[from..to], "{from}..{to} of {len}");
            }
            let beyond = object.read_exact_at(len as u64, &mut [0]);
            assert!(matches!(beyond, Err(StoreError::Truncated { .. })));
            let beyond = object.read_exact_at(u64::MAX, &mut [0, 0]);
            assert!(matches!(beyond, Err(StoreError::Truncated { .. })));
        }
    }

    #[test]
    fn any_range_is_read_past_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        for len in [1, 4095, 4096, 4097, 3 * 4096, 1_000_003] {
            ranges_are_right(dir.path(), len);
        }
    }

    #[test]
    fn an_object_cut_while_it_is_open_reads_as_truncated() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("object"), [7; 10_000]).unwrap();
        let object = UncachedObject::open(&Root::open(dir.path()).unwrap(), "object").unwrap();
        File::options().write(true).open(dir.path().join("object")).unwrap().set_len(5000).unwrap();
        let read = object.read_exact_at(0, &mut [0; 10_000]);
        assert!(matches!(read, Err(StoreError::Truncated { .. })));
    }
}
