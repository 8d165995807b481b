//! The format as it is on disk: the examples of `FORMAT.md` are decoded, and volumes written by earlier releases are
//! rebuilt and restored.

mod examples;
mod fences;
mod fixtures;
