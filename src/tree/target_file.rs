//! A file of the restore target while it is being written: under a temporary name until it is finished.
//!
//! Any number of them may be unfinished at once; their descriptors are bounded. Nothing is fsynced here, see
//! [`super::target::Target::sync`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::retry_on_intr;

use super::beneath::open_beneath;
use super::error::TreeError;
use super::fd_pool::Slot;
use super::target::{Existing, Shared};
use super::target_attrs::set_first_flags;
use super::target_holes::{IsStopped, set_holes};
use super::target_meta::{MetaOutcome, TargetMeta, set_meta};
use super::target_names::put_in_place;
use crate::model::attrs::Attrs;
use crate::model::path::split;

/// Longer files get their full length at once: the file system sees what is to come and refuses what it cannot
/// hold. Shorter ones are mostly written whole, and so save a call.
const LEN_AT_ONCE_MIN: u64 = 64 << 10;

/// An unfinished file. Threads may write different ranges at once; ranges never written read as zeros and stay
/// holes. Dropped without [`Self::finish`], it is removed.
#[derive(Debug)]
pub struct TargetFile {
    shared: Arc<Shared>,
    path: Vec<u8>,
    temp: String,
    slot: Arc<Slot>,
    len: u64,
    /// How long the file on disk is, at least.
    reached: AtomicU64,
    is_in_place: bool,
}

impl TargetFile {
    pub(super) fn create(
        shared: &Arc<Shared>,
        (path, len): (&[u8], u64),
        attrs: Option<&Attrs>,
    ) -> Result<Self, TreeError> {
        let dir = shared.parent(path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let flags = flags | OFlags::CLOEXEC;
        let (temp, fd) = shared
            .temp_names
            .create(|temp| rustix::fs::openat(&*dir, temp, flags, Mode::RUSR | Mode::WUSR))
            .map_err(TreeError::at(path))?;
        let file = Self {
            shared: Arc::clone(shared),
            path: path.to_vec(),
            temp,
            slot: shared.files.add(fd),
            len,
            reached: AtomicU64::new(0),
            is_in_place: false,
        };
        file.fd().and_then(|fd| Ok(set_first_flags(fd.as_fd(), attrs)?)).map_err(TreeError::at(path))?;
        if len >= LEN_AT_ONCE_MIN {
            file.reach_len().map_err(TreeError::at(path))?;
        }
        Ok(file)
    }

    /// Its path inside the target.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Writes all of `bytes` at an offset.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), TreeError> {
        self.write_all(offset, bytes).map_err(TreeError::at(&self.path))
    }

    /// Reads back what was written, once; returns how many bytes, 0 at the end of the file.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, TreeError> {
        self.read_once(offset, bytes).map_err(TreeError::at(&self.path))
    }

    /// Sets length and metadata, and gives the file its name in one step: it is there whole or not at all.
    ///
    /// # Errors
    /// `InTheWay` when the name is taken (with [`Existing::Replace`]: by a directory that is not empty); on every
    /// error the unfinished file is removed.
    pub fn finish(self, meta: &TargetMeta, existing: Existing) -> Result<MetaOutcome, TreeError> {
        self.finish_unless(meta, existing, &|| false)
    }

    /// The same, given up with an error as soon as `is_stopped`: zeros may still have to be written.
    pub fn finish_unless(
        mut self,
        meta: &TargetMeta,
        existing: Existing,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<MetaOutcome, TreeError> {
        let outcome = self.finish_inner(meta, existing, is_stopped);
        self.is_in_place = outcome.is_ok();
        outcome.map_err(TreeError::at(&self.path))
    }

    fn finish_inner(
        &self,
        meta: &TargetMeta,
        existing: Existing,
        is_stopped: IsStopped<'_>,
    ) -> io::Result<MetaOutcome> {
        self.reach_len()?;
        let fd = self.fd()?;
        if let Some(holes) = meta.holes() {
            set_holes(fd.as_fd(), self.len, holes, is_stopped)?;
        }
        let outcome = set_meta(fd.as_fd(), meta, !self.shared.hands_down())?;
        let (parent, name) = split(&self.path);
        let dir = self.shared.dirs.open(parent)?;
        put_in_place(dir.as_fd(), &self.temp, name, existing)?;
        Ok(outcome)
    }

    fn read_once(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.reach_len()?;
        let fd = self.fd()?;
        Ok(retry_on_intr(|| rustix::io::pread(&*fd, &mut *bytes, offset))?)
    }

    fn write_all(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        let fd = self.fd()?;
        while !bytes.is_empty() {
            match retry_on_intr(|| rustix::io::pwrite(&*fd, bytes, offset))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
            }
        }
        self.reached.fetch_max(offset, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the file as long as it shall be.
    fn reach_len(&self) -> io::Result<()> {
        if self.reached.load(Ordering::Relaxed) != self.len {
            let fd = self.fd()?;
            retry_on_intr(|| rustix::fs::ftruncate(&*fd, self.len))?;
            self.reached.store(self.len, Ordering::Relaxed);
        }
        Ok(())
    }

    fn fd(&self) -> io::Result<Arc<OwnedFd>> {
        self.shared.files.get(&self.slot, || {
            let dir = self.shared.dirs.open(split(&self.path).0)?;
            open_beneath(dir.as_fd(), self.temp.as_bytes(), OFlags::RDWR)
        })
    }
}

impl Drop for TargetFile {
    fn drop(&mut self) {
        self.shared.files.remove(&self.slot);
        if !self.is_in_place
            && let Ok(dir) = self.shared.dirs.open(split(&self.path).0)
        {
            // Not there or not to be removed: nothing that could still be done.
            let _ = rustix::fs::unlinkat(&*dir, &self.temp, AtFlags::empty());
        }
    }
}
