//! What `--force` adds to the comparison: every file is read, and one that looks untouched must hold what it held.

use super::super::compare::{Trust, is_untouched};
use super::{Result, Source, content_of};
use crate::catalog::state::LiveEntry;
use crate::model::entry::Stat;
use crate::model::ids::{FileHash, RunSeq};

impl Source<'_> {
    /// The hash that a file must have if its fields tell the truth, and the run that says so.
    pub(super) fn must_hold(
        &mut self,
        stat: &Stat,
        (old, trust): (Option<&LiveEntry>, Trust),
    ) -> Result<Option<Box<(FileHash, RunSeq)>>> {
        let (true, Some(run), Some(old)) = (self.options.force, self.options.newest, old) else { return Ok(None) };
        if !is_untouched(stat, old, trust) {
            return Ok(None);
        }
        Ok(Some(Box::new((self.prior.content_hash(content_of(&old.version)?)?, run))))
    }
}
