//! Parity across volumes: groups of blocks that lie on different ones, each with parities on further ones, so that what is on
//! lost disks can be made again.
//!
//! `plan` chooses groups, `encode` writes their parities, `make` does it for many and tells the catalog; `file` reads a
//! parity, `source` finds a block's group, and `recovered` is a lost block as the group gives it back. `retire` removes what
//! others took the place of. The code is `codec::parity`'s, the table `format::parity`'s.
//!
//! A file is removed only after the commit that takes it out of use; a group changes by a new set of parities, durable
//! before the commit that puts it in the place of the old one.

pub mod encode;
pub mod file;
mod make;
mod plan;
pub mod recovered;
pub mod retire;
pub mod source;

pub use make::{held_by_next, make_groups};
