//! `--dry-run`: what a restore would do, told without writing anything, and without reading a volume.

use super::dest::{self, Decision, Ground};
use super::links::link_key;
use super::small::small_of;
use super::tally::{Failure, Tally};
use super::tour::{Tour, Way};
use crate::catalog::view::Entry;
use crate::engine::error::{EngineError, Result};
use crate::engine::observer::Observer;
use crate::model::entry::EntryKind;
use crate::model::path::show;
use crate::tree::error::TreeError;
use crate::tree::target::{Existing, Target};
use crate::tree::target_meta::TargetMeta;
use std::collections::HashSet;

/// A restore that writes nothing.
pub(super) struct Rehearsal<'a> {
    /// The target, if it is there.
    pub target: Option<&'a Target>,
    pub ground: Ground,
    pub tally: &'a Tally,
    pub observer: &'a dyn Observer,
}

impl Rehearsal<'_> {
    /// A directory's contents.
    pub fn tree(&self, tour: Tour<'_>) -> Result<()> {
        let (mut way, mut links) = (Way::default(), HashSet::new());
        let mut walk = tour.begin()?;
        while let Some(page) = tour.next_page(&mut walk)? {
            if self.observer.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            for entry in page.into_iter().filter(|entry| tour.is_wanted(entry)) {
                let Some(path) = tour.target_path(&entry) else {
                    self.tally.counts().too_short += u64::from(entry.version.kind != EntryKind::Dir);
                    continue;
                };
                for (path, _) in way.due(&tour, &entry) {
                    self.tally.counts().dirs += 1;
                    self.tally.note_name(&path);
                }
                if entry.version.kind != EntryKind::Dir {
                    let is_further = link_key(&entry.version).is_some_and(|link| !links.insert(link));
                    self.name(&entry, (&path, is_further));
                }
            }
        }
        Ok(())
    }

    /// One name that is no directory.
    pub fn name(&self, entry: &Entry, (path, is_further): (&[u8], bool)) {
        match self.decide(entry, path) {
            Ok(Decision::Keep) => self.tally.counts().skipped_existing += 1,
            Err(error) => self.tally.fail(&entry.path, &Failure::Target(error)),
            Ok(Decision::Write(_)) => {
                self.tally.note_name(path);
                let mut counts = self.tally.counts();
                match entry.version.kind {
                    EntryKind::File if is_further => counts.hardlinks += 1,
                    EntryKind::File => {
                        counts.files += 1;
                        counts.bytes += entry.version.size;
                        if entry.version.inconsistent {
                            counts.inconsistent.push(show(&entry.path));
                        }
                    }
                    EntryKind::Symlink => counts.symlinks += 1,
                    _ => counts.specials += 1,
                }
            }
        }
    }

    fn decide(&self, entry: &Entry, path: &[u8]) -> std::result::Result<Decision, TreeError> {
        match self.target {
            Some(target) => {
                let decision = dest::decide(target, self.ground, (path, entry))?;
                let is_small = entry.version.kind != EntryKind::File;
                let may_stay = is_small && decision == Decision::Write(Existing::Replace) && self.ground.brings_meta();
                let stays = may_stay && target.has_small(path, (small_of(entry), &meta_but_owner(entry)))?;
                Ok(if stays { Decision::Keep } else { decision })
            }
            None => Ok(Decision::Write(Existing::Refuse)),
        }
    }
}

/// What is known of an entry's metadata without looking further: owner and attributes are not compared.
fn meta_but_owner(entry: &Entry) -> TargetMeta {
    let version = &entry.version;
    TargetMeta { mode: version.mode, uid: u32::MAX, gid: u32::MAX, mtime_ns: version.mtime_ns, attrs: None }
}
