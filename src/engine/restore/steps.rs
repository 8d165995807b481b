//! The steps of a restore in their order: directories, files, hard links, symlinks and special files, metadata of
//! directories from the bottom up, sync. Each step walks the stored tree again, page by page.
//! Hard links are in [`super::links`].

use super::Overwrite;
use super::dest::{self, Decision, Dest};
use super::fetch::Worker;
use super::file::{FileSpec, Ground};
use super::links::{LinkKey, link_key};
use super::plan::{Job, Planner};
use super::resumed::has_content;
use super::sites::Stores;
use super::tally::{Failure, Tally};
use crate::catalog::interned;
use crate::catalog::places::{self, ContentHead};
use crate::catalog::row::{StoredObject, StoredVersion};
use crate::catalog::view::{Entry, Walk};
use crate::engine::error::{EngineError, Result};
use crate::engine::observer::{Expected, Observer, Phase};
use crate::engine::repository::Repository;
use crate::engine::select::Picked;
use crate::model::attrs::Attrs;
use crate::model::entry::EntryKind;
use crate::model::path::{join, show};
use crate::tree::names::{may_give_away, numbers_here};
use crate::tree::target::{Existing, Placement, Special};
use crate::tree::target_meta::TargetMeta;
use std::collections::HashMap;
use std::sync::Arc;

/// Jobs between the planner and the threads: a small one holds a few references, a large one some thousands.
const JOBS_MAX: usize = 64;

/// Files whose contents are looked up together.
const HEADS_AT_ONCE: usize = 256;

/// A directory of the target: its metadata, and its attributes by number.
type PlannedDir = (Vec<u8>, TargetMeta, Option<i64>);

/// A file that is to be restored as `path` inside the target.
pub(super) struct PlannedFile {
    pub entry: Entry,
    pub path: Vec<u8>,
}

/// One restore under way.
pub(super) struct Restorer<'a> {
    pub repository: &'a Repository,
    picked: &'a Picked,
    pub dest: &'a Dest,
    observer: &'a dyn Observer,
    workers: usize,
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
    has_small_ones: bool,
}

impl<'a> Restorer<'a> {
    pub fn new(
        (repository, picked): (&'a Repository, &'a Picked),
        (dest, stores, tally): (&'a Dest, &'a Stores, &'a Tally),
        (observer, workers, numeric_ids): (&'a dyn Observer, Option<usize>, bool),
    ) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            repository,
            picked,
            dest,
            observer,
            workers: workers.unwrap_or_else(cores).max(1),
            tally,
            stores,
            owners: HashMap::new(),
            by_name: !numeric_ids && may_give_away(),
            no_attrs: Arc::default(),
            attrs: HashMap::new(),
            firsts: HashMap::new(),
            further_names: Vec::new(),
            special_firsts: HashMap::new(),
            has_small_ones: false,
        }
    }

    /// Restores a directory's contents; the metadata of the target itself is the caller's to set.
    pub fn tree(&mut self) -> Result<()> {
        let dirs = self.directories()?;
        self.files(None)?;
        self.hard_links()?;
        if self.has_small_ones {
            self.small_ones()?;
        }
        for (path, meta, attr) in dirs.iter().rev() {
            let meta = TargetMeta { attrs: Some(self.attrs_of(*attr)?), ..meta.clone() };
            self.tally.note_last_flags(path, &meta);
            match self.dest.target.set_dir_meta(path, &meta) {
                Ok(outcome) => self.tally.note_meta(outcome),
                Err(error) => self.tally.fail(&self.source_path(path), &Failure::Target(error)),
            }
        }
        self.check()
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

    fn walk(&self) -> Result<Walk> {
        Ok(Walk::below(self.repository.catalog.conn(), self.picked.as_of(), &self.picked.path)?)
    }

    fn next_page(&self, walk: &mut Walk) -> Result<Option<Vec<Entry>>> {
        self.check()?;
        Ok(walk.next_page(self.repository.catalog.conn())?)
    }

    /// Whether to go on.
    pub fn check(&self) -> Result<()> {
        if self.observer.is_cancelled() {
            self.tally.stop(EngineError::Interrupted);
        }
        self.tally.take_fatal().map_or(Ok(()), Err)
    }

    /// The path inside the target.
    fn target_path(&self, entry: &Entry) -> Vec<u8> {
        let top = &self.picked.path;
        let rest = entry.path.get(top.len()..).unwrap_or_default();
        rest.strip_prefix(b"/").unwrap_or(rest).to_vec()
    }

    pub fn source_path(&self, target_path: &[u8]) -> Vec<u8> {
        join(&self.picked.path, target_path)
    }

    /// Makes all directories, parents first, and finds out how much there is to do.
    fn directories(&mut self) -> Result<Vec<PlannedDir>> {
        let (mut dirs, mut items, mut bytes) = (Vec::new(), 0, 0_u64);
        let mut walk = self.walk()?;
        while let Some(page) = self.next_page(&mut walk)? {
            for entry in page {
                match entry.version.kind {
                    EntryKind::File => {
                        items += 1;
                        bytes = bytes.saturating_add(entry.version.size);
                    }
                    EntryKind::Dir => {
                        let path = self.target_path(&entry);
                        match self.dest.make_dir(&path) {
                            Ok(()) => {
                                self.tally.counts().dirs += 1;
                                if self.dest.sets_dir_meta() {
                                    let meta = self.meta_of(&entry.version)?;
                                    let meta = TargetMeta { attrs: None, ..meta };
                                    dirs.push((path, meta, entry.version.attr));
                                }
                            }
                            Err(error) => self.tally.fail(&entry.path, &Failure::Target(error)),
                        }
                    }
                    _ => self.has_small_ones = true,
                }
            }
        }
        self.observer.begin(Phase::Restore, Expected { items: Some(items), bytes: Some(bytes) });
        Ok(dirs)
    }

    /// Restores regular files: all of the tree, or the given ones.
    pub fn files(&mut self, given: Option<Vec<PlannedFile>>) -> Result<()> {
        let (repository, dest, observer) = (self.repository, self.dest, self.observer);
        let (tally, stores) = (self.tally, self.stores);
        let algo = repository.settings().hash;
        let ground = Ground { target: &dest.target, observer, tally, algo, is_all_ours: dest.is_all_ours() };
        let (sender, jobs) = crossbeam_channel::bounded::<Job>(JOBS_MAX);
        let planned = std::thread::scope(|scope| {
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
        let mut walk = self.walk()?;
        while !self.tally.is_stopped()
            && let Some(page) = self.next_page(&mut walk)?
        {
            let mut files = page.into_iter().filter(|entry| entry.version.kind == EntryKind::File).peekable();
            while files.peek().is_some() {
                let some: Vec<Entry> = files.by_ref().take(HEADS_AT_ONCE).collect();
                for (entry, head) in self.with_heads(some)? {
                    let path = self.target_path(&entry);
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
        let expected = (self.repository.settings().hash, head.hash);
        let decision = self.dest.decide(&path, &entry).and_then(|decision| match decision {
            Decision::Keep if matches!(self.dest.ground, dest::Ground::Resumed { .. }) => {
                let is_whole = has_content(&self.dest.target, &path, expected, self.observer)?;
                Ok(if is_whole { Decision::Keep } else { Decision::Write(Existing::Replace) })
            }
            decision => Ok(decision),
        });
        let existing = match decision {
            Ok(Decision::Write(existing)) => existing,
            Ok(Decision::Keep) => {
                // What stays may be anything: the group's other names must not become names of it.
                if let Some(link) = link_key(&entry.version)
                    && !self.dest.holds(&path, &entry)
                {
                    self.tally.counts().failed_links.insert(link, None);
                }
                // What an unfinished restore left whole lacks the flags that come last.
                if matches!(
                    self.dest.ground,
                    dest::Ground::Resumed { .. } | dest::Ground::Occupied(Overwrite::IfChanged)
                ) {
                    let meta = self.meta_of(&entry.version)?;
                    self.tally.note_last_flags(&path, &meta);
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
        let meta = self.meta_of(&entry.version)?;
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

    /// Makes symlinks and special files.
    fn small_ones(&mut self) -> Result<()> {
        let mut walk = self.walk()?;
        while let Some(page) = self.next_page(&mut walk)? {
            for entry in page {
                if !matches!(entry.version.kind, EntryKind::File | EntryKind::Dir) {
                    let path = self.target_path(&entry);
                    if !self.link_special(&entry, &path) && self.small_one(&entry, &path)? {
                        self.note_special(entry.version, path);
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes one; false when what was there stays, or when that failed.
    fn small_one(&mut self, entry: &Entry, path: &[u8]) -> Result<bool> {
        let meta = self.meta_of(&entry.version)?;
        let target = &self.dest.target;
        let existing = match self.dest.decide(path, entry) {
            Ok(Decision::Write(existing)) => existing,
            Ok(Decision::Keep) => {
                self.tally.counts().skipped_existing += 1;
                return Ok(false);
            }
            Err(error) => {
                self.tally.fail(&entry.path, &Failure::Target(error));
                return Ok(false);
            }
        };
        let placement = Placement { meta: &meta, existing };
        let made = match (entry.version.kind, &entry.version.object) {
            (_, StoredObject::Target(to)) => target.symlink(path, to, placement),
            (EntryKind::CharDevice, StoredObject::Device(no)) => {
                target.special(path, Special::CharDevice(*no), placement)
            }
            (_, StoredObject::Device(no)) => target.special(path, Special::BlockDevice(*no), placement),
            (EntryKind::Fifo, _) => target.special(path, Special::Fifo, placement),
            _ => target.special(path, Special::Socket, placement),
        };
        match made {
            Ok(outcome) => {
                self.tally.note_meta(outcome);
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
}
