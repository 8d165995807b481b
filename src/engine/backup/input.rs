//! Where jobs come from: a tree that is walked and compared, or a stream.

use super::large::Emit;
use super::seen::Seen;
use super::source::Source;
use super::streamed::Streamed;
use crate::engine::error::Result;
use std::ops::ControlFlow;

/// See the module.
pub enum Input<'s> {
    /// A directory tree.
    Tree(Box<Source<'s>>),
    /// A stream.
    Stream(Box<Streamed<'s>>),
}

impl Input<'_> {
    /// Reads to the end, or until `emit` breaks or the user asks to stop.
    pub fn run(&mut self, emit: Emit<'_>) -> Result<ControlFlow<()>> {
        match self {
            Self::Tree(tree) => Ok(tree.run(emit)?),
            Self::Stream(stream) => stream.run(emit),
        }
    }

    /// What was seen.
    pub fn into_seen(self) -> Seen {
        match self {
            Self::Tree(tree) => tree.seen,
            Self::Stream(stream) => stream.seen,
        }
    }
}
