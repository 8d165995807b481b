//! The user's files: walking a source, reading its files, and writing a restore target that cannot be left.
//!
//! Owns every system call on the user's trees. Knows nothing of chunks, volumes or the catalog; `engine` brings
//! those together with this room. All calls are relative to a descriptor, so that neither depth nor path length has
//! a limit and a path is never resolved twice.

pub mod attrs;
pub mod dir;
pub mod error;
pub mod list;
pub mod listed;
pub mod mount;
pub mod names;
pub mod patterns;
pub mod select;
pub mod source_file;
pub mod stat;
pub mod stream;
pub mod target;
pub mod target_delete;
pub mod target_file;
pub mod target_meta;
pub mod target_same;
pub mod walk;

mod beneath;
mod fd_pool;
pub mod pattern;
mod project;
mod target_attrs;
mod target_dirs;
mod target_holes;
mod target_look;
mod target_names;
mod target_whole;
