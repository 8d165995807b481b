//! RaidTape backs up directory trees to a set of ordinary disks.
//!
//! The rooms, from the outside in: [`engine`] holds the verbs; [`volume`], [`catalog`] and [`tree`] are the three
//! sides that only a verb brings together; [`codec`] works on content; [`mod@format`] knows every byte on a volume;
//! [`model`] holds the nouns. `ARCHITECTURE.md` beside this file is the map.

pub mod catalog;
pub mod codec;
pub mod engine;
pub mod format;
pub mod model;
pub mod tree;
pub mod volume;
