//! The directories of a restore target that are open now: the last used ones, so that many files of one directory
//! cost one resolution.
//!
//! Every directory is reached from the target's root (or from its kept parent) without following a link.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;

use super::beneath::open_beneath;
use crate::model::path::split;

/// More would not help: a restore goes through directories in order, each thread in one or two at a time.
const KEPT_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct TargetDirs {
    root: Arc<OwnedFd>,
    /// The last used one at the end.
    kept: Mutex<Vec<(Vec<u8>, Arc<OwnedFd>)>>,
    max: usize,
}

impl TargetDirs {
    pub(super) fn new(root: OwnedFd, fds_max: usize) -> Self {
        Self { root: Arc::new(root), kept: Mutex::new(Vec::new()), max: fds_max.clamp(1, KEPT_MAX) }
    }

    /// The target's root, open for reading.
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// A descriptor (opened as a path only) of the directory `path`, which must exist.
    pub(super) fn open(&self, path: &[u8]) -> io::Result<Arc<OwnedFd>> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        let (above, name) = split(path);
        let parent = {
            let mut kept = self.lock();
            if let Some(fd) = last_used(&mut kept, path) {
                return Ok(fd);
            }
            last_used(&mut kept, above)
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let opened = match parent {
            Some(parent) => open_beneath(parent.as_fd(), name, flags)?,
            None => open_beneath(self.root.as_fd(), path, flags)?,
        };
        let fd = Arc::new(opened);
        let mut kept = self.lock();
        if kept.len() >= self.max {
            kept.remove(0);
        }
        kept.push((path.to_vec(), Arc::clone(&fd)));
        Ok(fd)
    }

    /// Forgets a directory, so that its name is looked up afresh.
    pub(super) fn forget(&self, path: &[u8]) {
        self.lock().retain(|(kept, _)| kept != path);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Vec<u8>, Arc<OwnedFd>)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn last_used(kept: &mut [(Vec<u8>, Arc<OwnedFd>)], path: &[u8]) -> Option<Arc<OwnedFd>> {
    let found = kept.iter().rposition(|(other, _)| other == path)?;
    kept[found..].rotate_left(1);
    kept.last().map(|(_, fd)| Arc::clone(fd))
}
