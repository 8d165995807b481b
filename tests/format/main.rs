//! The format as it is on disk: the examples of `FORMAT.md` are decoded, and volumes written by earlier releases are
//! rebuilt and restored.
#![expect(clippy::unwrap_used, reason = "a test answers by panicking")]

mod examples;
mod fences;
mod fixtures;
