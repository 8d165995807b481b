//! Symlinks and special files of a restore: what has no content of its own, made in one step.

use super::dest::Decision;
use super::steps::Restorer;
use super::tally::Failure;
use crate::catalog::row::StoredObject;
use crate::catalog::view::Entry;
use crate::engine::error::Result;
use crate::model::entry::EntryKind;
use crate::tree::error::TreeError;
use crate::tree::target::{Existing, Placement, Special};
use crate::tree::target_meta::{MetaOutcome, TargetMeta};
use crate::tree::target_same::Small;

impl Restorer<'_> {
    /// Makes all of them.
    pub fn small_ones(&mut self) -> Result<()> {
        let mut walk = self.tour.begin()?;
        while let Some(page) = self.next_wanted(&mut walk)? {
            for entry in page {
                if matches!(entry.version.kind, EntryKind::File | EntryKind::Dir) {
                    continue;
                }
                let Some(path) = self.tour.target_path(&entry) else { continue };
                self.small_or_link(entry, path)?;
            }
        }
        Ok(())
    }

    /// Makes one: a further name of one of its hard-link group, or the first of it.
    pub fn small_or_link(&mut self, entry: Entry, path: Vec<u8>) -> Result<()> {
        if !self.link_special(&entry, &path) && self.small_one(&entry, &path)? {
            self.note_special(entry.version, path);
        }
        Ok(())
    }

    /// Makes one by itself, unless what lies there stays. False when it is not there now as it was stored.
    pub fn small_one(&mut self, entry: &Entry, path: &[u8]) -> Result<bool> {
        let meta = self.meta_of(&entry.version)?;
        let existing = match self.decide_small(entry, (path, &meta)) {
            Ok(Decision::Write(existing)) => existing,
            Ok(Decision::Keep) => {
                self.tally.counts().skipped_existing += 1;
                return Ok(self.dest.brings_meta());
            }
            Err(error) => {
                self.tally.fail(&entry.path, &Failure::Target(error));
                return Ok(false);
            }
        };
        match self.make_small(entry, (path, Placement { meta: &meta, existing })) {
            Ok(outcome) => {
                self.tally.note_meta(&entry.path, outcome);
                let mut counts = self.tally.counts();
                let is_symlink = entry.version.kind == EntryKind::Symlink;
                *if is_symlink { &mut counts.symlinks } else { &mut counts.specials } += 1;
                Ok(true)
            }
            Err(error) => {
                self.tally.fail(&entry.path, &Failure::Target(error));
                Ok(false)
            }
        }
    }

    fn decide_small(
        &self,
        entry: &Entry,
        (path, meta): (&[u8], &TargetMeta),
    ) -> std::result::Result<Decision, TreeError> {
        let decision = self.dest.decide(path, entry)?;
        if decision != Decision::Write(Existing::Replace) || !self.dest.brings_meta() {
            return Ok(decision);
        }
        let is_there = self.dest.target.has_small(path, (small_of(entry), meta))?;
        Ok(if is_there { Decision::Keep } else { decision })
    }

    fn make_small(
        &self,
        entry: &Entry,
        (path, placement): (&[u8], Placement<'_>),
    ) -> std::result::Result<MetaOutcome, TreeError> {
        match small_of(entry) {
            Small::Symlink(to) => self.dest.target.symlink(path, to, placement),
            Small::Special(special) => self.dest.target.special(path, special, placement),
        }
    }
}

/// What an entry that is neither file nor directory is.
pub(super) fn small_of(entry: &Entry) -> Small<'_> {
    match (entry.version.kind, &entry.version.object) {
        (_, StoredObject::Target(to)) => Small::Symlink(to),
        (EntryKind::CharDevice, StoredObject::Device(no)) => Small::Special(Special::CharDevice(*no)),
        (_, StoredObject::Device(no)) => Small::Special(Special::BlockDevice(*no)),
        (EntryKind::Fifo, _) => Small::Special(Special::Fifo),
        _ => Small::Special(Special::Socket),
    }
}
