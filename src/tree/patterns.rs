//! The patterns that a user gives, with their case and without: what `select` leaves out of a source, and what a restore
//! takes or leaves out.

use super::error::TreeError;
use super::pattern::PatternList;
use crate::model::path::show;

/// Patterns by the rules of gitignore, ready for use on many threads.
#[derive(Debug, Default)]
pub struct Patterns {
    exact: PatternList,
    any_case: PatternList,
}

impl Patterns {
    /// Takes patterns apart, the second ones for upper and lower case alike; where one of those speaks, it decides.
    ///
    /// # Errors
    /// `BadPattern`.
    pub fn new<'l>(exact: impl Iterator<Item = &'l [u8]>, any_case: &[String]) -> Result<Self, TreeError> {
        let bad = |(line, why): (Vec<u8>, &str)| TreeError::BadPattern { pattern: show(&line), text: why.to_owned() };
        Ok(Self {
            exact: PatternList::new(exact, false).map_err(bad)?,
            any_case: PatternList::new(any_case.iter().map(String::as_bytes), true).map_err(bad)?,
        })
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.any_case.is_empty()
    }

    /// Whether a path fits: `Some(false)` where a `!` takes it back, `None` where no pattern speaks of it. The directories
    /// above it are the caller's to ask for.
    pub fn fits(&self, path: &[u8], is_dir: bool) -> Option<bool> {
        self.any_case.leave_out(path, is_dir).or_else(|| self.exact.leave_out(path, is_dir))
    }
}
