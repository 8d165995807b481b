//! The verbs: the only place where volume, catalog and tree meet. One file or folder a verb, with the same name as its
//! subcommand; each is `fn verb(&mut Repository, &Options, &dyn Observer) -> Result<Report>`.
//!
//! Reports are plain data that `cli` prints; nothing here prints.

pub mod add_volume;
pub mod backup;
pub mod block_file;
mod chunk_ranges;
pub mod diff;
pub mod error;
#[cfg(test)]
mod every_crash_tests;
#[cfg(test)]
mod every_fault_copies_tests;
#[cfg(test)]
mod every_fault_parity_tests;
#[cfg(test)]
mod every_fault_tests;
pub mod find;
pub mod genmeta;
pub mod history;
pub mod init;
pub mod list_changes;
pub mod local_time;
pub mod ls;
mod manifest_apply;
mod manifest_apply_rows;
pub mod manifest_file;
mod manifest_write;
mod manifest_write_rows;
mod missed;
pub mod observer;
mod parity;
pub mod protect;
mod rebuild_blocks;
pub mod rebuild_catalog;
mod recover;
pub mod remove_volume;
pub mod replace_volume;
pub mod report;
pub mod repository;
pub mod restore;
pub mod runs;
pub mod select;
pub mod set_redundancy;
pub mod stats;
pub mod status;
#[cfg(test)]
mod test_bench;
#[cfg(test)]
mod test_repo;
#[cfg(test)]
mod test_repository;
pub mod validate;
pub mod volumes;

pub use error::{EngineError, Exit};
pub use observer::Observer;
pub use repository::Repository;
