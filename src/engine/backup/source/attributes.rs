//! Extended attributes and flags while the source is compared: when they are looked at, and what they explain. A name whose
//! inode did not change has those of its row.

use super::super::compare::{Trust, Verdict, is_only_ctime, judge};
use super::super::items::DirContext;
use super::super::jobs::attrs_problem;
use super::{Result, Source};
use crate::catalog::state::LiveEntry;
use crate::format::attrs;
use crate::model::entry::{EntryKind, Stat};
use crate::model::path;
use crate::tree::attrs::FoundAttrs;
use std::io::ErrorKind;

impl Source<'_> {
    /// What is to be done about a file. When its attributes explain that its inode changed, the content needs no reading.
    pub(super) fn verdict_of(
        &mut self,
        dir: &DirContext,
        (name, stat, link): (&[u8], &Stat, i64),
        (old, trust): (Option<&LiveEntry>, Trust),
    ) -> Result<Verdict> {
        let Some(old) = old.filter(|_| !self.options.force) else { return Ok(Verdict::Read) };
        let owner = self.prior.owner(old.version.owner)?;
        let verdict = judge(stat, link, (old, owner), trust);
        if verdict != Verdict::Read || !is_only_ctime(stat, link, (old, owner), trust) {
            return Ok(verdict);
        }
        // What cannot be looked at now is told by who reads the file.
        let Some(now) = dir.handle.attrs(name, stat.kind).ok().filter(|now| now.failed.is_none()) else {
            return Ok(Verdict::Read);
        };
        let is_explained = attrs::encode(&now.attrs) != self.prior.attrs(old.version.attr)?;
        Ok(if is_explained { Verdict::Metadata } else { Verdict::Read })
    }

    /// The encoded attributes of a name; `None` when they cannot all be read, which is a problem of the run then.
    pub(super) fn attrs_now(&mut self, dir: &DirContext, (name, stat): (&[u8], &Stat)) -> Option<Vec<u8>> {
        let failed = match dir.handle.attrs(name, stat.kind) {
            Ok(FoundAttrs { attrs, failed: None }) => return Some(attrs::encode(&attrs)),
            Ok(FoundAttrs { failed: Some(error), .. }) => error,
            // Whoever lists a directory that cannot be opened tells of it.
            Err(error) if stat.kind == EntryKind::Dir && error.kind() == ErrorKind::PermissionDenied => return None,
            Err(error) => error,
        };
        self.seen.problems.push(attrs_problem(&path::join(&dir.path, name), &failed));
        None
    }

    /// The same, and true; those of an earlier row, and false, where they cannot be read.
    pub(super) fn attrs_or_before(
        &mut self,
        dir: &DirContext,
        (name, stat): (&[u8], &Stat),
        before: Option<i64>,
    ) -> Result<(Vec<u8>, bool)> {
        match self.attrs_now(dir, (name, stat)) {
            Some(now) => Ok((now, true)),
            None => Ok((self.prior.attrs(before)?, false)),
        }
    }
}
