//! RaidTape backs up directory trees to a set of ordinary disks.
//!
//! The rooms, from the outside in: [`engine`] holds the verbs; [`volume`], [`catalog`] and [`tree`] are the three
//! sides that only a verb brings together; [`codec`] works on content; [`format`] knows every byte on a volume;
//! [`model`] holds the nouns. `ARCHITECTURE.md` beside this file is the map.

pub mod codec;
pub mod model;
