//! The stored tree as a restore goes through it, page by page: only what is wanted, each name with its path in the target.
//! Every step of a restore, its rehearsal and what it deletes see the same names because they all come from here.

use super::wanted::{Collisions, Standing, Wanted};
use crate::catalog::view::{self, Entry, Walk};
use crate::engine::error::Result;
use crate::engine::repository::Repository;
use crate::engine::select::Picked;
use crate::model::entry::EntryKind;
use crate::model::path::{join, split};
use std::collections::{HashMap, HashSet};

/// What of which run is gone through.
#[derive(Clone, Copy)]
pub(super) struct Tour<'a> {
    pub repository: &'a Repository,
    pub picked: &'a Picked,
    pub wanted: &'a Wanted,
}

impl Tour<'_> {
    /// From the start.
    pub fn begin(&self) -> Result<Walk> {
        Ok(Walk::below(self.repository.catalog.conn(), self.picked.as_of(), &self.picked.path)?)
    }

    /// The next names of the run, wanted or not.
    pub fn next_page(&self, walk: &mut Walk) -> Result<Option<Vec<Entry>>> {
        Ok(walk.next_page(self.repository.catalog.conn())?)
    }

    /// The next wanted names; a page may be empty. Directories that are only on the way are among them.
    pub fn next_wanted(&self, walk: &mut Walk) -> Result<Option<Vec<Entry>>> {
        let Some(mut page) = self.next_page(walk)? else { return Ok(None) };
        page.retain(|entry| self.is_wanted(entry) && (!self.wanted.strips() || self.target_path(entry).is_some()));
        Ok(Some(page))
    }

    /// Whether a name is not left out.
    pub fn is_wanted(&self, entry: &Entry) -> bool {
        self.standing(entry) != Standing::LeftOut
    }

    /// Where a name stands.
    fn standing(&self, entry: &Entry) -> Standing {
        self.wanted.standing(self.below(&entry.path), entry.version.kind == EntryKind::Dir)
    }

    /// Its path in the target; `None` when nothing is left of it.
    pub fn target_path(&self, entry: &Entry) -> Option<Vec<u8>> {
        self.wanted.in_target(self.below(&entry.path))
    }

    /// A path of the source, for reports, from one in the target.
    pub fn source_path(&self, target_path: &[u8]) -> Vec<u8> {
        if self.wanted.strips() { target_path.to_vec() } else { join(&self.picked.path, target_path) }
    }

    /// A path relative to what is restored.
    pub fn below<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        let rest = path.get(self.picked.path.len()..).unwrap_or_default();
        rest.strip_prefix(b"/").unwrap_or(rest)
    }

    /// Where components are taken off: whether names become the same.
    ///
    /// # Errors
    /// `Usage` when they do.
    pub fn check_collisions(&self) -> Result<()> {
        if !self.wanted.strips() {
            return Ok(());
        }
        let mut collisions = Collisions::default();
        let mut walk = self.begin()?;
        while let Some(page) = self.next_wanted(&mut walk)? {
            if let Some(first) = page.first() {
                collisions.note_dir(self.wanted, self.below(split(&first.path).0));
            }
        }
        collisions.check(&mut |dir| {
            let (conn, mut names) = (self.repository.catalog.conn(), Vec::new());
            let in_source = join(&self.picked.path, dir);
            view::for_each_name(conn, self.picked.as_of(), &in_source, &mut |name, is_dir| {
                names.push((name, is_dir));
            })?;
            names.retain(|(name, is_dir)| self.wanted.standing(&join(dir, name), *is_dir) == Standing::Taken);
            Ok(names)
        })
    }
}

/// Directories in the order in which they are needed: one that is only on the way comes when something below it does.
#[derive(Default)]
pub(super) struct Way {
    waiting: HashMap<Vec<u8>, Entry>,
    /// Where components are taken off, one path may come from several directories; the first one counts.
    came: HashSet<Vec<u8>>,
}

impl Way {
    /// The directories that are due with this name, parents first: itself if it is one.
    pub fn due(&mut self, tour: &Tour<'_>, entry: &Entry) -> Vec<(Vec<u8>, Entry)> {
        let Some(path) = tour.target_path(entry) else { return Vec::new() };
        let is_dir = entry.version.kind == EntryKind::Dir;
        if is_dir && tour.wanted.strips() && !self.came.insert(path.clone()) {
            return Vec::new();
        }
        if is_dir && tour.standing(entry) == Standing::OnTheWay {
            self.waiting.insert(path, entry.clone());
            return Vec::new();
        }
        let mut due = Vec::new();
        let mut above = split(&path).0;
        // Above one that came, all came.
        while let Some(entry) = self.waiting.remove(above) {
            due.push((above.to_vec(), entry));
            above = split(above).0;
        }
        due.reverse();
        if is_dir {
            due.push((path, entry.clone()));
        }
        due
    }
}
