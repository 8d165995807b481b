//! The text of one sidecar, measured or written as its mappings come.

use crate::catalog::places::BlockRow;
use crate::format::sidecar::{self, Mapping};
use crate::volume::store::{Existing, Sink, Store, StoreError};

/// Bytes gathered before they are written.
const BUFFER_LEN: usize = 256 << 10;

/// A text that is finished.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// BLAKE3 of the text.
    pub digest: [u8; 32],
    /// Bytes.
    pub len: u64,
}

/// A text while it grows. A failure to write is kept and told at the end; what comes after it goes nowhere.
pub(super) struct Text<'s> {
    store: Option<&'s dyn Store>,
    sink: Option<Box<dyn Sink>>,
    failed: Option<StoreError>,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    len: u64,
    is_empty: bool,
}

impl<'s> Text<'s> {
    /// A text of which only digest and length are wanted.
    pub fn measure(block: &BlockRow) -> Self {
        Self::new(block, None)
    }

    /// A text that goes to `store`.
    pub fn write(block: &BlockRow, store: &'s dyn Store) -> Self {
        Self::new(block, Some(store))
    }

    fn new(block: &BlockRow, store: Option<&'s dyn Store>) -> Self {
        let buffer = sidecar::head(&block.id.to_string(), block.size).into_bytes();
        Self { store, sink: None, failed: None, hasher: blake3::Hasher::new(), buffer, len: 0, is_empty: true }
    }

    /// Appends a mapping.
    pub fn put(&mut self, mapping: &Mapping) {
        sidecar::put_mapping(&mut self.buffer, self.is_empty, mapping);
        self.is_empty = false;
        if self.buffer.len() >= BUFFER_LEN {
            self.flush();
        }
    }

    /// Ends the text; with a key it is durable under it on return, in place of any that was there. `None` when there
    /// was no mapping: then nothing is written.
    pub fn finish(mut self, key: Option<&str>) -> Result<Option<Written>, StoreError> {
        if self.is_empty {
            return Ok(None);
        }
        self.buffer.extend_from_slice(sidecar::TAIL.as_bytes());
        self.flush();
        if let Some(error) = self.failed {
            return Err(error);
        }
        if let (Some(sink), Some(key)) = (self.sink, key) {
            sink.commit(key, Existing::Replace)?;
        }
        Ok(Some(Written { digest: *self.hasher.finalize().as_bytes(), len: self.len }))
    }

    fn flush(&mut self) {
        self.hasher.update(&self.buffer);
        self.len += self.buffer.len() as u64;
        if self.failed.is_none()
            && let Err(error) = self.write_buffer()
        {
            self.failed = Some(error);
        }
        self.buffer.clear();
    }

    fn write_buffer(&mut self) -> Result<(), StoreError> {
        let Some(store) = self.store else {
            return Ok(());
        };
        let sink = match &mut self.sink {
            Some(sink) => sink,
            none => none.insert(store.begin(0)?),
        };
        sink.write(&self.buffer)
    }
}
