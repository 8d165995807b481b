//! Nouns: identities, parameters, entries of the user's tree, versions, problems. No I/O, no bytes on disk.
//!
//! Every other room may use this one; it uses none. An identity is a newtype, never a bare integer or string.

pub mod attrs;
pub mod content;
pub mod entry;
pub mod hex_prefix;
pub mod ids;
pub mod limits;
pub mod moment;
pub mod nearest;
pub mod params;
pub mod path;
pub mod problem;
pub mod redundancy;
pub mod run_marks;
pub mod run_spec;
pub mod version;
