//! One object of a local directory, while it is written and while it is read.
//!
//! Owns the lease, the all-or-nothing write and the hints to the page cache. The order in which bytes become durable
//! is `durable`'s; which objects there are is `local`'s.

use std::fs::File;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{self, Advice, FallocateFlags, Mode};
use rustix::io::{Errno, retry_on_intr};

use super::durable;
use super::root::Root;
use super::store::{Existing, Object, Sink, Space, StoreError, check_key};
use crate::format::layout;

/// Written bytes are sent to the disk in steps of this size, so that the sync at the end has little left to do.
const WRITEBACK_STEP: u64 = 8 << 20;

/// A file under `tmp/` that becomes an object.
pub(super) struct LocalSink {
    root: Arc<Root>,
    file: File,
    part: String,
    /// Bytes of whole writes; the file may be longer until [`durable::seal`] cuts it.
    len: u64,
    /// Bytes that the kernel was told to start writing.
    sent: u64,
    /// It has its key; there is nothing left under `tmp/`.
    is_placed: bool,
}

impl LocalSink {
    /// A new file under `tmp/`, which is made if somebody removed it.
    pub(super) fn begin(root: &Arc<Root>) -> Result<Self, StoreError> {
        let part = layout::tmp_key(&format!("{}.part", uuid::Uuid::new_v4()));
        let file = match root.create_file(&part) {
            Err(StoreError::NotFound { .. }) => {
                root.make_dir(layout::TMP)?;
                root.create_file(&part)
            }
            created => created,
        }?;
        Ok(Self { root: Arc::clone(root), file, part, len: 0, sent: 0, is_placed: false })
    }

    /// Allocates space for the whole object; `NoSpace` when the disk does not have it.
    pub(super) fn set_aside(
        &self,
        lease_bytes: u64,
        space: impl Fn() -> Result<Space, StoreError>,
    ) -> Result<(), StoreError> {
        if lease_bytes == 0 {
            return Ok(());
        }
        let asked = retry_on_intr(|| fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, lease_bytes));
        match asked {
            // Some file systems cannot set space aside; then a look must do.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) if space()?.free_bytes < lease_bytes => {
                Err(StoreError::NoSpace { key: self.part.clone(), op: "statvfs" })
            }
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            asked => asked.map_err(|errno| StoreError::from_io(&self.part, "fallocate", errno.into())),
        }
    }

    /// Names the sealed file. On a full disk, where not even a directory fits, the reserve makes room once.
    fn place(&self, key: &str, existing: Existing) -> Result<(), StoreError> {
        match durable::place(&self.root, &self.part, key, existing) {
            Err(StoreError::NoSpace { op: "mkdir" | "rename", .. }) if free_reserve(&self.root)? => {
                durable::place(&self.root, &self.part, key, existing)
            }
            placed => placed,
        }
    }
}

impl Sink for LocalSink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        // A torn write leaves bytes behind `len`; the next write overwrites them and the seal cuts them off. Cutting
        // here would give the lease back, and with it the room in which a full disk finishes its block.
        self.file.write_all_at(bytes, self.len).map_err(|source| StoreError::from_io(&self.part, "write", source))?;
        self.len += bytes.len() as u64;
        if self.len - self.sent >= WRITEBACK_STEP {
            // On Linux this starts the writing of dirty pages and drops the clean ones of the step before.
            advise(&self.file, self.sent.saturating_sub(WRITEBACK_STEP), self.len, Advice::DontNeed);
            self.sent = self.len;
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn commit(mut self: Box<Self>, key: &str, existing: Existing) -> Result<(), StoreError> {
        check_key(key)?;
        let is_block = key.strip_prefix(layout::CHUNKS).is_some_and(|below| below.starts_with('/'));
        if is_block {
            durable::set_mode(&self.file, key, Mode::RUSR)?;
        }
        durable::seal(&self.file, key, self.len)?;
        advise(&self.file, 0, self.len, Advice::DontNeed);
        self.place(key, existing)?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for LocalSink {
    fn drop(&mut self) {
        if !self.is_placed {
            // What cannot be removed now is swept at the next start.
            let _ = self.root.unlink(&self.part);
        }
    }
}

/// An open file that is read.
pub(super) struct LocalObject {
    file: File,
    key: String,
    len: u64,
}

impl LocalObject {
    /// Opens a regular file and notes its length.
    pub(super) fn open(root: &Root, key: &str) -> Result<Self, StoreError> {
        let file = root.open_file(key)?;
        let found = file.metadata().map_err(|source| StoreError::from_io(key, "stat", source))?;
        Ok(Self { file, key: key.to_owned(), len: found.len() })
    }

    fn truncated(&self, offset: u64, len: usize) -> StoreError {
        StoreError::Truncated {
            key: self.key.clone(),
            offset,
            end: offset.saturating_add(len as u64),
            len_bytes: self.len,
        }
    }
}

impl Object for LocalObject {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(self.truncated(offset, buf.len()));
        }
        self.file.read_exact_at(buf, offset).map_err(|source| {
            if source.kind() == std::io::ErrorKind::UnexpectedEof {
                return self.truncated(offset, buf.len());
            }
            StoreError::from_io(&self.key, "read", source)
        })
    }

    fn forget(&self, offset: u64, len: u64) {
        advise(&self.file, offset, offset.saturating_add(len), Advice::DontNeed);
    }

    fn will_read(&self, offset: u64, len: u64) {
        advise(&self.file, offset, offset.saturating_add(len), Advice::WillNeed);
    }
}

/// Advice may be ignored by the kernel, so its failure is too.
pub(super) fn advise(file: &File, from: u64, to: u64, advice: Advice) {
    if let Some(len) = NonZeroU64::new(to.saturating_sub(from)) {
        let _ = fs::fadvise(file, from, Some(len), advice);
    }
}

/// Gives up the reserve file; false when there is none.
pub(super) fn free_reserve(root: &Root) -> Result<bool, StoreError> {
    match root.unlink(layout::RESERVE) {
        Err(StoreError::NotFound { .. }) => Ok(false),
        unlinked => unlinked.map(|()| true),
    }
}
