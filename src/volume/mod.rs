//! Where bytes lie: opaque objects under keys, on volumes that are known by their labels.
//!
//! - [`store`] is the face: what a place for objects can do, at block grain. An object store can implement it.
//! - [`local`] keeps objects in a directory and `local_object` writes and reads one; `root` holds that directory by
//!   descriptor; `durable` is the only file that renames or syncs stored data.
//!   `uncached` reads past the page cache, `verified` reads back what was written.
//! - [`handle`] is a volume: its label, its store, its lock. `create` makes one.
//! - [`index`] is the volume's own cache of what it holds, `index.db`; `index_file` decides whether to believe it.
//!
//! Does not know what an object means: blocks and manifests are bytes here. Used by `engine` only; uses `format` for
//! the label and the key names.

mod create;
mod durable;
pub mod handle;
pub mod index;
mod index_file;
pub mod local;
mod local_object;
mod root;
pub mod store;
mod uncached;
mod verified;

#[cfg(test)]
pub(crate) mod test_double;
#[cfg(test)]
mod test_mount;
