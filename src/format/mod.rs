//! Every byte on a volume: pure encoding and decoding, no I/O. `FORMAT.md` beside this file is the specification.
//!
//! Decoders are total: whatever the bytes, the answer is a value or an error, never a panic and never an
//! allocation that the bytes alone could make large.

pub mod attrs;
pub mod block;
pub mod bytes;
pub mod container;
pub mod label;
pub mod layout;
pub mod manifest;
pub mod manifest_rows;
pub mod parity;
pub mod sidecar;
