//! Extended attributes and flags while the source is compared: when they are looked at, and what they explain. A name whose
//! inode did not change has those of its row.

use super::super::compare::{Trust, Verdict, is_only_ctime, judge};
use super::super::items::DirContext;
use super::super::jobs::attrs_problem;
use super::{Result, Source};
use crate::catalog::state::LiveEntry;
use crate::format::attrs;
use crate::model::attrs::Attrs;
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
        let before = self.prior.attrs(old.version.attr)?;
        let is_explained = encoded(now.attrs, &before) != before;
        Ok(if is_explained { Verdict::Metadata } else { Verdict::Read })
    }

    /// The encoded attributes of a name that has the content of an earlier row, and with it the holes; `None` when they
    /// cannot all be read, which is a problem of the run then.
    pub(super) fn attrs_now(
        &mut self,
        dir: &DirContext,
        (name, stat): (&[u8], &Stat),
        before: Option<i64>,
    ) -> Result<Option<Vec<u8>>> {
        let failed = match dir.handle.attrs(name, stat.kind) {
            Ok(FoundAttrs { attrs, failed: None }) => {
                let before = if stat.kind == EntryKind::File { self.prior.attrs(before)? } else { Vec::new() };
                return Ok(Some(encoded(attrs, &before)));
            }
            Ok(FoundAttrs { failed: Some(error), .. }) => error,
            // Whoever lists a directory that cannot be opened tells of it.
            Err(error) if stat.kind == EntryKind::Dir && error.kind() == ErrorKind::PermissionDenied => {
                return Ok(None);
            }
            Err(error) => error,
        };
        self.seen.problems.push(attrs_problem(&path::join(&dir.path, name), &failed));
        Ok(None)
    }

    /// The same, and true; those of an earlier row, and false, where they cannot be read.
    pub(super) fn attrs_or_before(
        &mut self,
        dir: &DirContext,
        (name, stat): (&[u8], &Stat),
        before: Option<i64>,
    ) -> Result<(Vec<u8>, bool)> {
        match self.attrs_now(dir, (name, stat), before)? {
            Some(now) => Ok((now, true)),
            None => Ok((self.prior.attrs(before)?, false)),
        }
    }
}

/// Attributes as bytes, with the holes of earlier ones: where a file has holes is looked at when it is read.
fn encoded(attrs: Attrs, before: &[u8]) -> Vec<u8> {
    let holes = attrs::decode(before).ok().and_then(|before| before.holes);
    attrs::encode(&Attrs { holes, ..attrs })
}
