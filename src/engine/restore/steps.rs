//! The steps of a restore in their order: directories, files, hard links, symlinks and special files, what is deleted,
//! metadata of directories from the bottom up, sync. Each step walks the stored tree again, page by page.
//! Directories are in [`super::dirs`], hard links in [`super::links`], symlinks and the like in [`super::small`].

use super::RestoreHow;
use super::delete::{Deed, Deletion};
use super::dest::{self, Decision, Dest};
use super::fetch::Worker;
use super::file::{FileSpec, Ground};
use super::flush::Flusher;
use super::links::{LinkKey, link_key};
use super::plan::{Job, Planner};
use super::resumed::has_content;
use super::sites::Stores;
use super::tally::{Failure, Tally};
use super::tour::Tour;
use crate::catalog::interned;
use crate::catalog::places::{self, ContentHead};
use crate::catalog::row::{StoredObject, StoredVersion};
use crate::catalog::view::{Entry, Walk};
use crate::engine::error::{EngineError, Result};
use crate::engine::observer::{Expected, Observer, Phase};
use crate::engine::repository::Repository;
use crate::model::attrs::Attrs;
use crate::model::entry::EntryKind;
use crate::model::path::show;
use crate::tree::error::TreeError;
use crate::tree::names::{may_give_away, numbers_here};
use crate::tree::target::Existing;
use crate::tree::target_meta::TargetMeta;
use crate::tree::target_same::Brought;
use std::collections::HashMap;
use std::sync::Arc;

/// Jobs between the planner and the threads: a small one holds a few references, a large one some thousands.
const JOBS_MAX: usize = 64;

/// Files whose contents are looked up together.
const HEADS_AT_ONCE: usize = 256;

/// A file that is to be restored as `path` inside the target.
pub(super) struct PlannedFile {
    pub entry: Entry,
    pub path: Vec<u8>,
}

/// One restore under way.
pub(super) struct Restorer<'a> {
    pub repository: &'a Repository,
    pub tour: Tour<'a>,
    pub dest: &'a Dest,
    pub observer: &'a dyn Observer,
    workers: usize,
    is_strict: bool,
    pub tally: &'a Tally,
    stores: &'a Stores,
    owners: HashMap<i64, (u32, u32)>,
    /// Whether owners are those that their names have on this system.
    by_name: bool,
    pub no_attrs: Arc<Attrs>,
    pub attrs: HashMap<i64, Arc<Attrs>>,
    /// First name in the target of each hard-link group.
    pub firsts: HashMap<LinkKey, Vec<u8>>,
    pub further_names: Vec<PlannedFile>,
    /// First name in the target of each hard-link group without content, and what it is.
    pub special_firsts: HashMap<i64, (Vec<u8>, StoredVersion)>,
    pub has_small_ones: bool,
}

impl<'a> Restorer<'a> {
    pub fn new(
        tour: Tour<'a>,
        (dest, stores, tally): (&'a Dest, &'a Stores, &'a Tally),
        (observer, workers, how): (&'a dyn Observer, Option<usize>, &'a RestoreHow),
    ) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            repository: tour.repository,
            tour,
            dest,
            observer,
            workers: workers.unwrap_or_else(cores).max(1),
            is_strict: how.strict,
            tally,
            stores,
            owners: HashMap::new(),
            by_name: !how.numeric_ids && may_give_away(),
            no_attrs: Arc::default(),
            attrs: HashMap::new(),
            firsts: HashMap::new(),
            further_names: Vec::new(),
            special_firsts: HashMap::new(),
            has_small_ones: false,
        }
    }

    /// Restores a directory's contents; the metadata of the target itself is the caller's to set. `deletes`: what the
    /// run does not have is deleted, but above these roots, where there are several.
    pub fn tree(&mut self, deletes: Option<Option<Vec<Vec<u8>>>>) -> Result<()> {
        let dirs = self.directories()?;
        self.files(None)?;
        self.hard_links()?;
        if self.has_small_ones {
            self.small_ones()?;
        }
        if let Some(roots) = deletes {
            self.check()?;
            self.delete(roots)?;
        }
        // After what was deleted, which changes the times of directories.
        self.dirs_meta(&dirs)?;
        self.check()
    }

    /// Deletes what the run does not have, if all that it has is there now, and on the disk.
    fn delete(&self, roots: Option<Vec<Vec<u8>>>) -> Result<()> {
        if !matches!(self.dest.ground, dest::Ground::Occupied(_)) {
            return Ok(());
        }
        let is_incomplete = {
            let counts = self.tally.counts();
            !counts.problems.is_empty()
                || self.is_strict && counts.metadata_refused > 0
                || self.tour.wanted.has_include() && counts.is_nothing()
        };
        if is_incomplete {
            self.tally.counts().delete_skipped = true;
            return Ok(());
        }
        self.dest.target.sync()?;
        Deletion::new(self.tour, (&self.dest.target, self.tally), (self.observer, Deed::Delete), roots)?.run()
    }

    /// Restores one name that is no directory, as `name`.
    pub fn single(&mut self, entry: Entry, name: &[u8]) -> Result<()> {
        self.observer.begin(Phase::Restore, Expected { items: Some(1), bytes: Some(entry.version.size) });
        if entry.version.kind == EntryKind::File {
            self.files(Some(vec![PlannedFile { entry, path: name.to_vec() }]))?;
            self.last_flags();
            return self.check();
        }
        self.small_one(&entry, name)?;
        self.check()
    }

    /// Metadata of a version.
    pub fn meta_of(&mut self, version: &StoredVersion) -> Result<TargetMeta> {
        let (uid, gid) = match self.owners.get(&version.owner) {
            Some(known) => *known,
            None => {
                let owner = interned::owner_by_id(self.repository.catalog.conn(), version.owner)?;
                let numbers = if self.by_name { numbers_here(&owner) } else { (owner.uid, owner.gid) };
                self.owners.insert(version.owner, numbers);
                numbers
            }
        };
        let attrs = Some(self.attrs_of(version.attr)?);
        Ok(TargetMeta { mode: version.mode, uid, gid, mtime_ns: version.mtime_ns, attrs })
    }

    /// The next names of the run, wanted or not.
    pub fn next_page(&self, walk: &mut Walk) -> Result<Option<Vec<Entry>>> {
        self.check()?;
        self.tour.next_page(walk)
    }

    /// The next wanted names.
    pub fn next_wanted(&self, walk: &mut Walk) -> Result<Option<Vec<Entry>>> {
        self.check()?;
        self.tour.next_wanted(walk)
    }

    /// Whether to go on.
    pub fn check(&self) -> Result<()> {
        if self.observer.is_cancelled() {
            self.tally.stop(EngineError::Interrupted);
        }
        self.tally.take_fatal().map_or(Ok(()), Err)
    }

    /// Restores regular files: all of the tree, or the given ones.
    pub fn files(&mut self, given: Option<Vec<PlannedFile>>) -> Result<()> {
        let (repository, dest, observer) = (self.repository, self.dest, self.observer);
        let (tally, stores) = (self.tally, self.stores);
        let algo = repository.settings().hash;
        let ground = Ground { target: &dest.target, observer, tally, algo, is_all_ours: dest.is_all_ours() };
        let (sender, jobs) = crossbeam_channel::bounded::<Job>(JOBS_MAX);
        let planned = std::thread::scope(|scope| {
            let _flusher = Flusher::spawn(scope, &ground);
            for _ in 0..self.workers {
                let (ground, jobs) = (&ground, jobs.clone());
                let path = repository.catalog.path();
                scope.spawn(move || Worker::new((ground, stores), path).run(&jobs));
            }
            drop(jobs);
            let mut planner = Planner::new(&repository.catalog, (&ground, stores), sender);
            let planned = match given {
                Some(given) => given.into_iter().try_for_each(|PlannedFile { entry, path }| {
                    let with_head = self.with_heads(vec![entry])?;
                    with_head
                        .into_iter()
                        .try_for_each(|(entry, head)| self.file(&mut planner, (entry, path.clone()), &head))
                }),
                None => self.plan_tree(&mut planner),
            };
            planned.and_then(|()| planner.flush())
        });
        self.check()?;
        planned
    }

    fn plan_tree(&mut self, planner: &mut Planner<'_>) -> Result<()> {
        let mut walk = self.tour.begin()?;
        while !self.tally.is_stopped()
            && let Some(page) = self.next_wanted(&mut walk)?
        {
            let mut files = page.into_iter().filter(|entry| entry.version.kind == EntryKind::File).peekable();
            while files.peek().is_some() {
                let some: Vec<Entry> = files.by_ref().take(HEADS_AT_ONCE).collect();
                for (entry, head) in self.with_heads(some)? {
                    let Some(path) = self.tour.target_path(&entry) else { continue };
                    if let Some(link) = link_key(&entry.version) {
                        if self.firsts.contains_key(&link) {
                            self.further_names.push(PlannedFile { entry, path });
                            continue;
                        }
                        self.firsts.insert(link, path.clone());
                    }
                    self.file(planner, (entry, path), &head)?;
                }
            }
        }
        Ok(())
    }

    /// Files with the starts of their contents, all read from one state of the catalog; nothing is waited for meanwhile.
    fn with_heads(&self, entries: Vec<Entry>) -> Result<Vec<(Entry, ContentHead)>> {
        let _held = self.repository.catalog.reading()?;
        let conn = self.repository.catalog.conn();
        let mut with_heads = Vec::with_capacity(entries.len());
        for entry in entries {
            if let StoredObject::Content(content) = entry.version.object {
                with_heads.push((entry, places::content_head(conn, content)?));
            }
        }
        Ok(with_heads)
    }

    /// Plans one file, unless what lies there stays.
    fn file(&mut self, planner: &mut Planner<'_>, (entry, path): (Entry, Vec<u8>), head: &ContentHead) -> Result<()> {
        let StoredObject::Content(content) = entry.version.object else { return Ok(()) };
        let meta = self.meta_of(&entry.version)?;
        let existing = match self.decide_file((&entry, &path), (head, &meta)) {
            Ok(Decision::Write(existing)) => existing,
            Ok(Decision::Keep) => {
                // What stays may be anything: the group's other names must not become names of it.
                if let Some(link) = link_key(&entry.version)
                    && !self.dest.holds(&path, &entry)
                {
                    self.tally.counts().failed_links.insert(link, None);
                }
                self.tally.counts().skipped_existing += 1;
                self.observer.advance(1, entry.version.size);
                return Ok(());
            }
            Err(error) => {
                self.tally.fail(&entry.path, &Failure::Target(error));
                return Ok(());
            }
        };
        if entry.version.inconsistent {
            self.tally.counts().inconsistent.push(show(&entry.path));
        }
        let spec = FileSpec {
            source_path: entry.path,
            path,
            meta,
            size: head.size,
            hash: head.hash,
            link: link_key(&entry.version),
            existing,
        };
        planner.file(spec, content, head)
    }

    /// What becomes of a file's name. What stays has the metadata that was stored then, where that is wanted.
    fn decide_file(
        &self,
        (entry, path): (&Entry, &[u8]),
        (head, meta): (&ContentHead, &TargetMeta),
    ) -> std::result::Result<Decision, TreeError> {
        let decision = self.dest.decide(path, entry)?;
        if decision != Decision::Keep || !self.dest.brings_meta() {
            return Ok(decision);
        }
        let expected = (self.repository.settings().hash, head.hash);
        if matches!(self.dest.ground, dest::Ground::Resumed { .. })
            && !has_content(&self.dest.target, path, expected, self.observer)?
        {
            return Ok(Decision::Write(Existing::Replace));
        }
        let outcome = match self.dest.target.bring_file(path, meta)? {
            Brought::WriteAnew => return Ok(Decision::Write(Existing::Replace)),
            Brought::Same(outcome) => outcome,
            Brought::Set(outcome) => {
                self.tally.counts().metadata_set += 1;
                outcome
            }
        };
        self.tally.note_meta(&entry.path, outcome);
        // What an unfinished restore left whole lacks the flags that come last.
        self.tally.note_last_flags(path, (meta, outcome));
        Ok(Decision::Keep)
    }
}
