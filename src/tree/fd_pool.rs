//! Keeps the descriptors of unfinished files bounded: the least recently used one is closed and opened again later.
//!
//! Knows descriptors and who they are (device, inode); how a file is opened again is told by its owner.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::stat::stat_fd;

/// Descriptors of files that are open now, at most `max`, and one more for each thread that is using one.
#[derive(Debug)]
pub(super) struct FdPool {
    open: Mutex<Vec<Arc<Slot>>>,
    clock: AtomicU64,
    max: usize,
}

/// One file's place.
#[derive(Debug)]
pub(super) struct Slot {
    state: Mutex<SlotState>,
    last_used: AtomicU64,
}

#[derive(Debug)]
struct SlotState {
    fd: Option<Arc<OwnedFd>>,
    /// Device and inode, known from when the descriptor was closed.
    identity: Option<(u64, u64)>,
}

impl FdPool {
    pub(super) fn new(max: usize) -> Self {
        Self { open: Mutex::new(Vec::new()), clock: AtomicU64::new(0), max: max.max(1) }
    }

    /// Takes a file that was just created.
    pub(super) fn add(&self, fd: OwnedFd) -> Arc<Slot> {
        let slot = Arc::new(Slot {
            state: Mutex::new(SlotState { fd: Some(Arc::new(fd)), identity: None }),
            last_used: AtomicU64::new(0),
        });
        self.admit(&slot);
        slot
    }

    /// The file's descriptor, opened again with `reopen` if it was closed; another file under the same name is
    /// refused (ESTALE).
    pub(super) fn get(
        &self,
        slot: &Arc<Slot>,
        reopen: impl FnOnce() -> io::Result<OwnedFd>,
    ) -> io::Result<Arc<OwnedFd>> {
        let identity = {
            let state = lock(&slot.state);
            if let Some(fd) = &state.fd {
                self.touch(slot);
                return Ok(Arc::clone(fd));
            }
            state.identity
        };
        let stat_of = reopen().and_then(|fd| Ok((stat_fd(&fd)?, fd)));
        let (stat, opened) = stat_of?;
        if identity != Some((stat.dev, stat.ino)) {
            return Err(Errno::STALE.into());
        }
        let mut state = lock(&slot.state);
        if let Some(fd) = &state.fd {
            // Another thread was first.
            return Ok(Arc::clone(fd));
        }
        let fd = Arc::new(opened);
        state.fd = Some(Arc::clone(&fd));
        drop(state);
        self.admit(slot);
        Ok(fd)
    }

    /// Takes a file out and closes it.
    pub(super) fn remove(&self, slot: &Arc<Slot>) {
        lock(&self.open).retain(|other| !Arc::ptr_eq(other, slot));
        lock(&slot.state).fd = None;
    }

    fn touch(&self, slot: &Slot) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        slot.last_used.store(now, Ordering::Relaxed);
    }

    /// Lock order: never a slot's lock inside the pool's, or the other way round.
    fn admit(&self, slot: &Arc<Slot>) {
        self.touch(slot);
        let evicted = {
            let mut open = lock(&self.open);
            let evicted = (open.len() >= self.max).then(|| take_oldest(&mut open));
            open.push(Arc::clone(slot));
            evicted.flatten()
        };
        if let Some(evicted) = evicted {
            evicted.close();
        }
    }
}

impl Slot {
    fn close(&self) {
        let mut state = lock(&self.state);
        if let Some(fd) = state.fd.take() {
            state.identity = stat_fd(&fd).ok().map(|stat| (stat.dev, stat.ino));
        }
    }
}

fn take_oldest(open: &mut Vec<Arc<Slot>>) -> Option<Arc<Slot>> {
    let age = |slot: &Arc<Slot>| slot.last_used.load(Ordering::Relaxed);
    let (oldest, _) = open.iter().enumerate().min_by_key(|(_, slot)| age(slot))?;
    Some(open.swap_remove(oldest))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, rename};

    #[test]
    fn the_least_recently_used_is_closed_and_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let pool = FdPool::new(2);
        let create = |name: &str| File::create(dir.path().join(name)).unwrap().into();
        let open = |name: &str| File::open(dir.path().join(name)).map(OwnedFd::from);
        let (a, b) = (pool.add(create("a")), pool.add(create("b")));
        pool.get(&a, || panic!("is open")).unwrap();
        let c = pool.add(create("c"));
        assert!(lock(&b.state).fd.is_none() && lock(&a.state).fd.is_some());
        pool.get(&b, || open("b")).unwrap();
        assert_eq!(lock(&pool.open).len(), 2);
        assert!(lock(&a.state).fd.is_none());
        rename(dir.path().join("c"), dir.path().join("a")).unwrap();
        assert!(pool.get(&a, || open("a")).is_err());
        for slot in [&a, &b, &c] {
            pool.remove(slot);
        }
        assert!(lock(&pool.open).is_empty());
    }
}
