//! Attributes in a restore: looked up by their numbers, and the flags that are set when all else is done.

use super::steps::Restorer;
use super::tally::{Failure, LastFlags};
use crate::catalog::interned;
use crate::engine::error::Result;
use crate::format::attrs;
use crate::model::attrs::Attrs;
use crate::model::problem::{Problem, ProblemOp};
use std::sync::Arc;

/// Sets of attributes that are kept; one may be long.
const ATTRS_KEPT_MAX: usize = 64;

impl Restorer<'_> {
    /// Extended attributes and flags by number; few sets are shared by many files.
    pub fn attrs_of(&mut self, id: Option<i64>) -> Result<Arc<Attrs>> {
        let Some(id) = id else { return Ok(Arc::clone(&self.no_attrs)) };
        if let Some(known) = self.attrs.get(&id) {
            return Ok(Arc::clone(known));
        }
        let body = interned::attrs_by_id(self.repository.catalog.conn(), Some(id))?;
        let attrs = Arc::new(attrs::decode(&body).unwrap_or_else(|error| {
            // The rest of the tree is sound, and comes back.
            let text = format!(
                "attributes {id} in the catalog are damaged ({error}); `raidtape rebuild-catalog` brings them back"
            );
            self.tally.counts().problems.push(Problem { path: Vec::new(), op: ProblemOp::Data, errno: None, text });
            Attrs::default()
        }));
        if self.attrs.len() >= ATTRS_KEPT_MAX {
            self.attrs.clear();
        }
        self.attrs.insert(id, Arc::clone(&attrs));
        Ok(attrs)
    }

    /// Sets the flags that forbid everything else; directories after what is in them.
    pub fn last_flags(&self) {
        let noted = std::mem::take(&mut self.tally.counts().last_flags);
        for LastFlags { path, flags, before } in noted {
            match self.dest.target.set_last_flags(&path, flags) {
                Ok(false) => {}
                Ok(true) => self.tally.note_last_flags_refused(&self.tour.source_path(&path), before),
                // A file that could not be restored was told of already.
                Err(_) if !matches!(self.dest.target.stat(&path), Ok(Some(_))) => {}
                Err(error) => self.tally.fail(&self.tour.source_path(&path), &Failure::Target(error)),
            }
        }
    }
}
