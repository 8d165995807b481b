//! `--dry-run`: what a restore would do, told without writing anything, and without reading a volume.

use super::Overwrite;
use super::delete::{Deed, Deletion};
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
use crate::tree::target_delete::Holds;
use crate::tree::target_meta::TargetMeta;
use std::collections::HashSet;

/// A restore that writes nothing.
pub(super) struct Rehearsal<'a> {
    /// The target, if it is there.
    pub target: Option<&'a Target>,
    pub ground: Ground,
    /// What the run does not have would be deleted, but above these roots, where there are several.
    pub deletes: Option<Option<Vec<Vec<u8>>>>,
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
                for (path, dir) in way.due(&tour, &entry) {
                    self.dir(&dir, &path);
                }
                if entry.version.kind != EntryKind::Dir {
                    let is_further = link_key(&entry.version).is_some_and(|link| !links.insert(link));
                    self.name(&entry, (&path, is_further));
                }
            }
        }
        self.deletion(tour)
    }

    fn dir(&self, entry: &Entry, path: &[u8]) {
        let stays = matches!(self.ground, Ground::Occupied(Overwrite::Never | Overwrite::IfNewer));
        let there = self.target.filter(|_| stays).map_or(Ok(None), |target| target.stat(path));
        match there {
            Ok(None) => {}
            Ok(Some(there)) if there.kind == EntryKind::Dir => {}
            Ok(Some(_)) => {
                return self.tally.fail(&entry.path, &Failure::Target(TreeError::InTheWay { path: path.to_vec() }));
            }
            Err(error) => return self.tally.fail(&entry.path, &Failure::Target(error)),
        }
        self.tally.counts().dirs += 1;
        self.tally.note_name(path);
    }

    fn deletion(&self, tour: Tour<'_>) -> Result<()> {
        let Some(target) = self.target.filter(|_| matches!(self.ground, Ground::Occupied(_))) else { return Ok(()) };
        let Some(roots) = self.deletes.clone() else { return Ok(()) };
        let is_incomplete = {
            let counts = self.tally.counts();
            !counts.problems.is_empty() || tour.wanted.has_include() && counts.is_nothing()
        };
        if is_incomplete {
            self.tally.counts().delete_skipped = true;
            return Ok(());
        }
        Deletion::new(tour, (target, self.tally), (self.observer, Deed::Rehearse), roots)?.run()
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
                if decision == Decision::Write(Existing::Replace) && is_full_dir(target, path)? {
                    return Err(TreeError::InTheWay { path: path.to_vec() });
                }
                let is_small = entry.version.kind != EntryKind::File;
                let may_stay = is_small && decision == Decision::Write(Existing::Replace) && self.ground.brings_meta();
                let stays = may_stay && target.has_small(path, (small_of(entry), &meta_but_owner(entry)))?;
                Ok(if stays { Decision::Keep } else { decision })
            }
            None => Ok(Decision::Write(Existing::Refuse)),
        }
    }
}

/// Whether a directory that is not empty, or not the target's alone, lies at a path: it is not replaced.
fn is_full_dir(target: &Target, path: &[u8]) -> std::result::Result<bool, TreeError> {
    if target.stat(path)?.is_none_or(|there| there.kind != EntryKind::Dir) {
        return Ok(false);
    }
    Ok(match target.holds(path)? {
        Holds::Names { names, .. } => !names.is_empty(),
        Holds::Nothing => false,
        Holds::OtherFileSystem => true,
    })
}

/// What is known of an entry's metadata without looking further: owner and attributes are not compared.
fn meta_but_owner(entry: &Entry) -> TargetMeta {
    let version = &entry.version;
    TargetMeta { mode: version.mode, uid: u32::MAX, gid: u32::MAX, mtime_ns: version.mtime_ns, attrs: None }
}
