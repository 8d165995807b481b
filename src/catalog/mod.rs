//! The catalog: one SQLite file that knows what is stored where and every version of every file. Rows only; nothing
//! here opens a volume or a user's file. `schema.sql` beside this file is the schema.
//!
//! One [`Catalog`] writes; further ones may read beside it (WAL). Facts (directories, contents, blocks, chunks) are
//! written whenever they are durable on a volume; versions only by [`versions`] in the transaction that completes a run.

pub mod ahead;
pub mod blocks;
pub mod changes;
pub mod chunks;
pub mod contents;
pub mod damage;
pub mod digests;
pub mod error;
pub mod frames;
pub mod handle;
pub mod history;
pub mod holders;
pub mod interned;
pub mod keys;
pub mod losses;
pub mod parity;
pub mod pending;
pub mod places;
pub mod redundancy;
pub mod replace;
pub mod retired;
pub mod row;
pub mod runs;
pub mod scan;
pub mod settings;
pub mod sidecars;
pub mod spool;
pub mod spool_row;
pub mod state;
pub mod sums;
#[cfg(test)]
mod test_plans;
pub mod versions;
pub mod view;
pub mod volumes;

pub use error::CatalogError;
pub use handle::Catalog;
/// A connection or open transaction, for passing on; only this room and `volume` name its library.
pub use rusqlite::Connection;
