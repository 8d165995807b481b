//! Directories of a restore: made before all else, parents first, and given their metadata when all else is done, from
//! the bottom up.

use super::steps::Restorer;
use super::tally::Failure;
use super::tour::Way;
use crate::catalog::view::Entry;
use crate::engine::error::Result;
use crate::engine::observer::{Expected, Phase};
use crate::model::entry::EntryKind;
use crate::tree::target_meta::TargetMeta;

/// A directory of the target: its metadata, and its attributes by number.
pub(super) struct PlannedDir {
    path: Vec<u8>,
    source_path: Vec<u8>,
    meta: TargetMeta,
    attr: Option<i64>,
}

impl Restorer<'_> {
    /// Makes all directories, parents first, and finds out how much there is to do.
    pub fn directories(&mut self) -> Result<Vec<PlannedDir>> {
        let (mut dirs, mut way) = (Vec::new(), Way::default());
        let (mut items, mut bytes) = (0, 0_u64);
        let tour = self.tour;
        let mut walk = tour.begin()?;
        while let Some(page) = self.next_page(&mut walk)? {
            for entry in page.into_iter().filter(|entry| tour.is_wanted(entry)) {
                if tour.target_path(&entry).is_none() {
                    self.tally.counts().too_short += u64::from(entry.version.kind != EntryKind::Dir);
                    continue;
                }
                for (path, dir) in way.due(&tour, &entry) {
                    dirs.extend(self.directory(path, dir)?);
                }
                match entry.version.kind {
                    EntryKind::File => {
                        items += 1;
                        bytes = bytes.saturating_add(entry.version.size);
                    }
                    EntryKind::Dir => {}
                    _ => self.has_small_ones = true,
                }
            }
        }
        self.observer.begin(Phase::Restore, Expected { items: Some(items), bytes: Some(bytes) });
        Ok(dirs)
    }

    fn directory(&mut self, path: Vec<u8>, entry: Entry) -> Result<Option<PlannedDir>> {
        if let Err(error) = self.dest.make_dir(&path) {
            self.tally.fail(&entry.path, &Failure::Target(error));
            return Ok(None);
        }
        self.dest.check_parts_in(&path)?;
        self.tally.counts().dirs += 1;
        if !self.dest.sets_dir_meta() {
            return Ok(None);
        }
        let meta = TargetMeta { attrs: None, ..self.meta_of(&entry.version)? };
        Ok(Some(PlannedDir { path, source_path: entry.path, meta, attr: entry.version.attr }))
    }

    /// Gives directories their metadata, the last ones first.
    pub fn dirs_meta(&mut self, dirs: &[PlannedDir]) -> Result<()> {
        for dir in dirs.iter().rev() {
            let meta = TargetMeta { attrs: Some(self.attrs_of(dir.attr)?), ..dir.meta.clone() };
            match self.dest.set_dir_meta(&dir.path, &meta) {
                Ok(outcome) => {
                    self.tally.note_meta(&dir.source_path, outcome);
                    self.tally.note_last_flags(&dir.path, (&meta, outcome));
                }
                Err(error) => self.tally.fail(&dir.source_path, &Failure::Target(error)),
            }
        }
        Ok(())
    }
}
