//! Content work: cutting, hashing, compressing, protecting. Pure CPU: no I/O, no threads of its own, no bytes of a
//! format.
//!
//! [`chunker`] says where a file is cut, [`hash`] names bytes, [`compress`] makes segments smaller and back, [`parity`]
//! makes columns from which lost ones come back. What is written where belongs to `format` and `volume`; who runs on
//! which thread to `engine`. Why the defaults are what they are: `CHOICES.md` beside this file.

pub mod chunker;
pub mod compress;
mod gear;
pub mod hash;
pub mod parity;
mod probe;
