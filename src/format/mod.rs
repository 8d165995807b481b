//! Every byte on a volume: pure encode and decode, no I/O. What a file here says, `FORMAT.md` says for people.
//!
//! Called by `volume`, `catalog` and `engine`; uses `model` only.

pub mod label;
pub mod layout;
