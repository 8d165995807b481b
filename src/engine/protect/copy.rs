//! One more copy of a block: read from a volume, hashed on the way, and durable on another before anybody hears of it.

use crate::codec::hash::Hasher;
use crate::engine::observer::Observer;
use crate::engine::recover::hash_object;
use crate::format::layout;
use crate::model::ids::BlockId;
use crate::model::params::HashAlgo;
use crate::volume::store::{Existing, Object, Store, StoreError};

/// Damaged blocks of one name that are kept at most.
const ASIDE_MAX: u32 = 100;

/// Bytes read and written at a time.
const PIECE_LEN: usize = 1 << 20;

/// Why there is no further copy.
#[derive(Debug)]
pub enum CopyFailure {
    /// The copy that was read is not there, not readable or not what its name says.
    From(Unread),
    /// The volume that was written.
    To(StoreError),
    /// The user asked to stop.
    Stopped,
}

/// What is wrong with a copy that was to be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// Nothing has its name.
    #[error("it is missing")]
    Missing,
    /// It is not what its name says.
    #[error("{0}")]
    Bad(String),
    /// The volume does not give it, now.
    #[error("{0}")]
    Unreadable(String),
}

impl Unread {
    /// The state that a copy has then, where that is known for good.
    pub fn state(&self) -> Option<&'static str> {
        match self {
            Self::Missing => Some("missing"),
            Self::Bad(_) => Some("bad"),
            Self::Unreadable(_) => None,
        }
    }
}

/// A block, as the catalog knows it.
#[derive(Debug, Clone, Copy)]
pub struct BlockFile {
    /// Name.
    pub id: BlockId,
    /// Bytes.
    pub size: u64,
    /// Hash that its name is.
    pub algo: HashAlgo,
}

/// What has a block's name on a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The block, whole; it is durable now.
    Sound,
    /// Something else.
    Other,
    /// Nothing.
    Nothing,
}

/// Looks whether a block is on a volume, and hashes what has its name. A copy that was made and not noted is made durable.
pub fn look(store: &dyn Store, block: &BlockFile) -> Result<Found, StoreError> {
    let key = layout::block_key(&block.id);
    match store.head(&key)? {
        None if store.head(layout::LABEL)?.is_none() => {
            return Err(StoreError::NotFound { key: layout::LABEL.to_owned() });
        }
        None => return Ok(Found::Nothing),
        Some(size) if size != block.size => return Ok(Found::Other),
        Some(_) => {}
    }
    let object = store.open_uncached(&key)?;
    if hash_object(object.as_ref(), block.algo)? != block.id.0 {
        return Ok(Found::Other);
    }
    store.settle(&key)?;
    Ok(Found::Sound)
}

/// What becomes of something that has the block's name already, once the right bytes are there in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// It is replaced: nobody knows of it.
    Replaced,
    /// It is kept under `quarantine/`.
    SetAside,
}

/// Copies a block.
pub fn copy_block(
    (from, to): (&dyn Store, &dyn Store),
    block: &BlockFile,
    present: Present,
    observer: &dyn Observer,
) -> Result<(), CopyFailure> {
    let key = layout::block_key(&block.id);
    let bad = |what: String| CopyFailure::From(Unread::Bad(what));
    let unread = |error: StoreError| match error {
        // Nothing is there either when the whole volume went away.
        StoreError::NotFound { .. } if from.head(layout::LABEL).is_ok_and(|label| label.is_some()) => {
            CopyFailure::From(Unread::Missing)
        }
        StoreError::Truncated { .. } | StoreError::NotAnObject { .. } => bad(error.to_string()),
        other => CopyFailure::From(Unread::Unreadable(other.to_string())),
    };
    let object = from.open(&key).map_err(unread)?;
    copy_object((object.as_ref(), &unread), to, (block, present), observer)
}

/// Copies a block from an object that should be it; `unread` tells what an error in reading it means.
pub fn copy_object(
    (object, unread): (&dyn Object, &dyn Fn(StoreError) -> CopyFailure),
    to: &dyn Store,
    (block, present): (&BlockFile, Present),
    observer: &dyn Observer,
) -> Result<(), CopyFailure> {
    let bad = |what: String| CopyFailure::From(Unread::Bad(what));
    if object.len() != block.size {
        return Err(bad(format!("it has {} bytes, not {}", object.len(), block.size)));
    }
    let mut sink = to.begin(block.size).map_err(CopyFailure::To)?;
    let (mut hasher, mut piece, mut at) = (Hasher::new(block.algo), vec![0; PIECE_LEN], 0);
    while at < block.size {
        if observer.is_cancelled() {
            return Err(CopyFailure::Stopped);
        }
        let len = usize::try_from(block.size - at).map_or(PIECE_LEN, |left| left.min(PIECE_LEN));
        let bytes = &mut piece[..len];
        object.read_exact_at(at, bytes).map_err(unread)?;
        hasher.update(bytes);
        sink.write(bytes).map_err(CopyFailure::To)?;
        object.forget(at, len as u64);
        at += len as u64;
        observer.advance(0, len as u64);
    }
    if hasher.finalize() != block.id.0 {
        return Err(bad("its bytes do not hash to its name".to_owned()));
    }
    if present == Present::SetAside {
        set_aside(to, &block.id).map_err(CopyFailure::To)?;
    }
    sink.commit(&layout::block_key(&block.id), Existing::Replace).map_err(CopyFailure::To)
}

/// Keeps what has a block's name under `quarantine/`.
pub fn set_aside(store: &dyn Store, id: &BlockId) -> Result<(), StoreError> {
    let key = layout::block_key(id);
    let mut number = 1;
    loop {
        match store.set_aside(&key, &layout::quarantine_key(id, number)) {
            Err(StoreError::Exists { .. }) if number < ASIDE_MAX => number += 1,
            // It went away meanwhile: all the better.
            Err(StoreError::NotFound { .. }) => return Ok(()),
            set => return set,
        }
    }
}
