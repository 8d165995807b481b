//! A store that believes nothing it has written before it has read it again, from the disk and not from memory.
//!
//! Blocks and manifests, which are written with [`Store::begin`], are compared by hash with what was given to their
//! sink; small objects that can be made anew are not. What a volume needs to be listed and locked is unchanged.

use std::sync::Arc;

use super::store::{Existing, Object, Sink, Space, Store, StoreError};
use crate::codec::hash::Hasher;
use crate::format::layout;
use crate::model::params::HashAlgo;

/// Bytes read at once.
const READ_LEN: usize = 1 << 20;

/// A store whose commits are read back.
pub(super) struct VerifiedStore {
    inner: Arc<dyn Store>,
}

impl VerifiedStore {
    pub(super) fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner }
    }
}

impl Store for VerifiedStore {
    fn begin(&self, lease_bytes: u64) -> Result<Box<dyn Sink>, StoreError> {
        let sink = self.inner.begin(lease_bytes)?;
        Ok(Box::new(VerifiedSink::new(sink, Arc::clone(&self.inner))))
    }

    fn open(&self, key: &str) -> Result<Box<dyn Object>, StoreError> {
        self.inner.open(key)
    }

    fn open_uncached(&self, key: &str) -> Result<Box<dyn Object>, StoreError> {
        self.inner.open_uncached(key)
    }

    fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.inner.head(key)
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(&str, u64)) -> Result<(), StoreError> {
        self.inner.list(prefix, each)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner.delete(key)
    }

    fn set_aside(&self, key: &str, aside: &str) -> Result<(), StoreError> {
        self.inner.set_aside(key, aside)
    }

    fn settle(&self, key: &str) -> Result<(), StoreError> {
        self.inner.settle(key)
    }

    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.inner.put_new(key, bytes)
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.inner.put(key, bytes)
    }

    fn space(&self) -> Result<Space, StoreError> {
        self.inner.space()
    }

    fn free_reserve(&self) -> Result<bool, StoreError> {
        self.inner.free_reserve()
    }

    fn restore_reserve(&self) -> Result<(), StoreError> {
        self.inner.restore_reserve()
    }

    fn sweep(&self) -> Result<u64, StoreError> {
        self.inner.sweep()
    }
}

/// A sink that remembers what it was given, as a hash.
struct VerifiedSink {
    inner: Box<dyn Sink>,
    store: Arc<dyn Store>,
    hasher: Hasher,
}

impl VerifiedSink {
    fn new(inner: Box<dyn Sink>, store: Arc<dyn Store>) -> Self {
        // The fastest one, whatever the repository names its blocks by: it never leaves this process.
        Self { inner, store, hasher: Hasher::new(HashAlgo::Blake3) }
    }
}

impl Sink for VerifiedSink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.inner.write(bytes)?;
        self.hasher.update(bytes);
        Ok(())
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn commit(self: Box<Self>, key: &str, existing: Existing) -> Result<(), StoreError> {
        let Self { inner, store, hasher } = *self;
        let written = (inner.len(), hasher.finalize());
        inner.commit(key, existing)?;
        let verified = read_back(store.as_ref(), key, written);
        if verified.is_err() && !is_block(key) {
            // The name of a block's bytes is their hash, so a bad block misleads nobody and stays as evidence. Any
            // other object would be taken for what its key says, though this commit has failed.
            let _ = store.delete(key);
        }
        verified
    }
}

fn is_block(key: &str) -> bool {
    key.strip_prefix(layout::CHUNKS).is_some_and(|below| below.starts_with('/'))
}

/// Reads the whole object from the disk and compares length and hash with what was written.
fn read_back(store: &dyn Store, key: &str, (len, hash): (u64, [u8; 32])) -> Result<(), StoreError> {
    let object = store.open_uncached(key)?;
    let mut hasher = Hasher::new(HashAlgo::Blake3);
    let mut buffer = vec![0; READ_LEN];
    let mut at = 0;
    while at < object.len() {
        let piece = usize::try_from(object.len() - at).unwrap_or(READ_LEN).min(READ_LEN);
        object.read_exact_at(at, &mut buffer[..piece])?;
        hasher.update(&buffer[..piece]);
        at += piece as u64;
    }
    if (object.len(), hasher.finalize()) != (len, hash) {
        return Err(StoreError::Altered { key: key.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::local::LocalStore;
    use super::*;

    /// A disk that stores another bit than it was given, in the byte at `at`.
    struct BadDisk {
        inner: Box<dyn Sink>,
        at: u64,
    }

    impl Sink for BadDisk {
        fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
            let mut stored = bytes.to_vec();
            let inside =
                self.at.checked_sub(self.inner.len()).and_then(|at| stored.get_mut(usize::try_from(at).unwrap()));
            if let Some(byte) = inside {
                *byte ^= 0x10;
            }
            self.inner.write(&stored)
        }

        fn len(&self) -> u64 {
            self.inner.len()
        }

        fn commit(self: Box<Self>, key: &str, existing: Existing) -> Result<(), StoreError> {
            self.inner.commit(key, existing)
        }
    }

    const BLOCK: &str = "chunks/aa/bb/block";
    const MANIFEST: &str = "runs/manifest";

    fn written(store: &Arc<dyn Store>, key: &str, bad_at: u64) -> Result<(), StoreError> {
        let inner = Box::new(BadDisk { inner: store.begin(0)?, at: bad_at });
        let mut sink = Box::new(VerifiedSink::new(inner, Arc::clone(store)));
        for piece in vec![3; 2_500_000].chunks(999_999) {
            sink.write(piece)?;
        }
        assert_eq!(sink.len(), 2_500_000);
        sink.commit(key, Existing::Fail)
    }

    #[test]
    fn a_bit_that_did_not_arrive_is_noticed_wherever_it_is() {
        for bad_at in [0, 1_048_576, 2_499_999] {
            let dir = tempfile::tempdir().unwrap();
            let store: Arc<dyn Store> = Arc::new(LocalStore::open(dir.path()).unwrap());
            let block = written(&store, BLOCK, bad_at);
            assert!(matches!(block, Err(StoreError::Altered { key }) if key == BLOCK));
            assert!(store.head(BLOCK).unwrap().is_some(), "a bad block is evidence");
            assert!(matches!(written(&store, MANIFEST, bad_at), Err(StoreError::Altered { .. })));
            assert!(store.head(MANIFEST).unwrap().is_none(), "a bad manifest would be believed");
        }
    }

    #[test]
    fn what_arrived_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::open(dir.path()).unwrap());
        for key in [BLOCK, MANIFEST] {
            written(&store, key, u64::MAX).unwrap();
            assert_eq!(store.head(key).unwrap(), Some(2_500_000));
        }
        let again = VerifiedStore::new(Arc::clone(&store)).begin(0).unwrap().commit(BLOCK, Existing::Fail);
        assert!(matches!(again, Err(StoreError::Exists { .. })));
    }
}
