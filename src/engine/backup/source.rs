//! The source's thread: takes directories from the walk in order, merge-joins each with the rows of the state before,
//! and emits rows, batches of small files and parts of large ones. Decides nothing about volumes.

mod attributes;
mod forced;
mod links;

use super::compare::{Trust, Verdict, is_only_inode, judge};
use super::items::{DirContext, FileJob, Item, RowItem};
use super::jobs::{Job, SMALL_MAX, empty_mount, vanished_root};
use super::large::{Emit, read_large};
use super::links::LinkTable;
use super::prior::{Prior, PriorDir};
use super::rows::{detection_of, version_of};
use super::seen::{DetectionOptions, MountSeen, Seen};
use crate::catalog::CatalogError;
use crate::catalog::row::{StoredObject, StoredVersion};
use crate::catalog::state::LiveEntry;
use crate::catalog::versions::Change;
use crate::codec::chunker::Chunker;
use crate::engine::observer::Observer;
use crate::model::entry::{EntryKind, FsTrust, Stat};
use crate::model::ids::ContentId;
use crate::model::path;
use crate::model::problem::{Problem, ProblemOp};
use crate::model::version::{EndReason, Object, Version};
use crate::tree::list::Listing;
use crate::tree::names::Names;
use crate::tree::walk::Walker;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Files of one batch at most.
const BATCH_FILES_MAX: usize = 64;
/// Bytes of one batch, unless a single file has more.
const BATCH_BYTES: u64 = 1 << 20;
/// An inode that changed so shortly before it was looked at may change again within the same tick.
const RACY_LOCAL_NS: i64 = 2_000_000_000;
/// The same where another machine's clock stamps the files.
const RACY_REMOTE_NS: i64 = 15 * 60 * 1_000_000_000;

/// See the module.
pub struct Source<'s> {
    walker: Walker,
    prior: Prior,
    options: DetectionOptions,
    links: LinkTable,
    names: Names,
    chunker: Chunker,
    observer: &'s dyn Observer,
    batch: Vec<FileJob>,
    batch_bytes: u64,
    /// What the walk saw so far.
    pub seen: Seen,
}

type Flow = ControlFlow<()>;
type Result<T> = std::result::Result<T, CatalogError>;

impl<'s> Source<'s> {
    /// A walk, compared with `prior`.
    pub fn new(
        walker: Walker,
        (prior, options): (Prior, DetectionOptions),
        chunker: Chunker,
        observer: &'s dyn Observer,
    ) -> Result<Self> {
        let links = LinkTable::new(prior.next_link()?);
        Ok(Self {
            walker,
            prior,
            options,
            links,
            names: Names::default(),
            chunker,
            observer,
            batch: Vec::new(),
            batch_bytes: 0,
            seen: Seen::default(),
        })
    }

    /// Walks to the end, or until `emit` breaks.
    pub fn run(&mut self, emit: Emit<'_>) -> Result<Flow> {
        while let Some(listing) = self.walker.next() {
            if self.directory(listing, emit)?.is_break() || self.flush(emit).is_break() {
                return Ok(Flow::Break(()));
            }
        }
        let mut left_out = self.walker.left_out();
        // What lies in a directory that could not be listed is told with that.
        left_out.retain(|path| !self.seen.problems.iter().any(|problem| path::is_within(path, &problem.path)));
        left_out.sort_unstable();
        self.seen.listed_left_out = left_out;
        self.seen.problems.extend(self.walker.not_met());
        Ok(Flow::Continue(()))
    }

    fn directory(&mut self, listing: Listing, emit: Emit<'_>) -> Result<Flow> {
        let before = self.prior.directory(&listing.path, &listing.stat)?;
        let is_remote = listing.trust == FsTrust::Remote;
        let dir = Arc::new(DirContext {
            path: Arc::from(listing.path.as_slice()),
            handle: listing.dir.clone(),
            affinity: before.affinity,
            racy_within_ns: if is_remote { RACY_REMOTE_NS } else { RACY_LOCAL_NS },
        });
        if let Err(problem) = &listing.outcome {
            // What could not be listed is not gone: its rows stay.
            self.seen.problems.push(problem.clone());
            return Ok(Flow::Continue(()));
        }
        if self.is_unmounted(&listing, &before) {
            self.seen.problems.push(empty_mount(&listing.path));
            return Ok(Flow::Continue(()));
        }
        let mount = MountSeen {
            path: listing.path.clone(),
            is_mount_point: listing.is_mount_point,
            inodes_untrusted: before.inodes_untrusted,
        };
        if listing.is_mount_point != before.was_mount_point {
            self.seen.mounts.push(mount.clone());
        }
        let file_system = self.seen.file_systems.entry(listing.stat.dev).or_insert(mount);
        let trust = Trust {
            inode: listing.trust == FsTrust::Local && !file_system.inodes_untrusted && !self.options.ignore_inode,
            ctime: !self.options.ignore_ctime,
            strict_ctime: self.options.strict_ctime,
        };
        if listing.path.is_empty() {
            let root = before.entry(b"");
            if self.name(&dir, (b"", &listing.stat), (root, None, trust), emit)?.is_break() {
                return Ok(Flow::Break(()));
            }
        }
        self.merge(&dir, &listing, (&before, trust), emit)
    }

    /// Whether an empty directory had something in it that a file system brought which is not mounted now.
    fn is_unmounted(&self, listing: &Listing, before: &PriorDir) -> bool {
        let is_empty = listing.entries.is_empty() && listing.unreadable.is_empty();
        let is_empty = is_empty && listing.skipped.is_empty() && listing.left_out.is_empty() && !listing.is_left_out;
        let was_root_with_entries = self.walker.is_root(&listing.path) && before.has_children();
        let had_mount = before.was_mount_point && before.has_children();
        is_empty && !self.options.allow_empty && !listing.is_mount_point && (was_root_with_entries || had_mount)
    }

    /// Names in order, rows in order: one pass over both.
    fn merge(
        &mut self,
        dir: &Arc<DirContext>,
        listing: &Listing,
        (before, trust): (&PriorDir, Trust),
        emit: Emit<'_>,
    ) -> Result<Flow> {
        self.seen.problems.extend(listing.unreadable.iter().map(|(_, problem)| problem.clone()));
        self.seen.skipped.extend(listing.skipped.iter().map(|name| path::join(&listing.path, name)));
        let mut rows = before.rows.iter().filter(|row| !row.name.is_empty()).peekable();
        for entry in &listing.entries {
            while let Some(gone) = rows.next_if(|row| row.name < entry.name) {
                if self.gone(dir, listing, gone, emit).is_break() {
                    return Ok(Flow::Break(()));
                }
            }
            let old = rows.next_if(|row| row.name == entry.name);
            let hint = if old.is_some() && before.hints.is_empty() { None } else { before.hint(&entry.name) };
            if self.name(dir, (&entry.name, &entry.stat), (old, hint, trust), emit)?.is_break() {
                return Ok(Flow::Break(()));
            }
        }
        for gone in rows {
            if self.gone(dir, listing, gone, emit).is_break() {
                return Ok(Flow::Break(()));
            }
        }
        Ok(Flow::Continue(()))
    }

    fn gone(&mut self, dir: &Arc<DirContext>, listing: &Listing, row: &LiveEntry, emit: Emit<'_>) -> Flow {
        if listing.unreadable.iter().any(|(name, _)| *name == row.name) {
            return Flow::Continue(());
        }
        let full_path = path::join(&listing.path, &row.name);
        if self.walker.leads(&full_path) {
            self.seen.problems.push(vanished_root(full_path));
            return Flow::Continue(());
        }
        let has = |names: &[Vec<u8>]| names.binary_search(&row.name).is_ok();
        let is_left_out = listing.is_left_out || has(&listing.skipped) || has(&listing.left_out);
        let is_left_out = is_left_out || !self.walker.wants(&full_path);
        let reason = if is_left_out { EndReason::Excluded } else { EndReason::Deleted };
        emit_row(dir, &row.name, Change::End(reason), emit)
    }

    /// One name: its row before, a hint from an unfinished run, and what may be relied on.
    fn name(
        &mut self,
        dir: &Arc<DirContext>,
        (name, stat): (&[u8], &Stat),
        (old, hint, trust): (Option<&LiveEntry>, Option<&LiveEntry>, Trust),
        emit: Emit<'_>,
    ) -> Result<Flow> {
        self.seen.paths += 1;
        if stat.kind == EntryKind::File {
            self.seen.bytes += stat.size;
            if stat.nlink > 1 {
                return self.linked_file(dir, (name, stat), (old, trust), emit);
            }
            return self.file(dir, (name, stat, 0), (old, hint, trust), emit);
        }
        let link = self.link_of_special(stat, old);
        let verdict = match old {
            Some(old) => judge(stat, link, (old, self.prior.owner(old.version.owner)?), trust),
            None => Verdict::Read,
        };
        self.observer.advance(1, 0);
        Ok(match verdict {
            Verdict::Unchanged => Flow::Continue(()),
            Verdict::Touch => match (self.attrs_now(dir, (name, stat), old.and_then(|old| old.version.attr))?, old) {
                // Told of; the row stays as it is, so that the next run looks again.
                (None, _) => Flow::Continue(()),
                (Some(now), Some(old)) if now != self.prior.attrs(old.version.attr)? => {
                    self.special(dir, (name, stat, link), (now, true), emit)
                }
                _ => emit_touch(dir, (name, stat), emit),
            },
            Verdict::Metadata | Verdict::Read => {
                let attrs = self.attrs_or_before(dir, (name, stat), old.and_then(|old| old.version.attr))?;
                self.special(dir, (name, stat, link), attrs, emit)
            }
        })
    }

    /// Directories, symlinks, fifos, sockets, devices: the row holds all of it.
    fn special(
        &mut self,
        dir: &Arc<DirContext>,
        (name, stat, link): (&[u8], &Stat, i64),
        (attrs, attrs_known): (Vec<u8>, bool),
        emit: Emit<'_>,
    ) -> Flow {
        let object = match stat.kind {
            EntryKind::Symlink => match dir.handle.read_link(name) {
                Ok(target) => Object::Target(target),
                Err(error) => {
                    let full_path = path::join(&dir.path, name);
                    self.seen.paths -= 1;
                    self.seen.problems.push(Problem::from_io(&full_path, ProblemOp::Read, &error));
                    return Flow::Continue(());
                }
            },
            EntryKind::CharDevice | EntryKind::BlockDevice => Object::Device(stat.rdev),
            _ => Object::Nothing,
        };
        let detection = detection_of(stat, dir.racy_within_ns, attrs_known);
        let owner = self.names.owner(stat.uid, stat.gid);
        let version = Version { attrs, ..version_of(stat, owner, link, object) };
        emit_row(dir, name, Change::Put { version, content: None, detection }, emit)
    }

    fn file(
        &mut self,
        dir: &Arc<DirContext>,
        (name, stat, link): (&[u8], &Stat, i64),
        (old, hint, trust): (Option<&LiveEntry>, Option<&LiveEntry>, Trust),
        emit: Emit<'_>,
    ) -> Result<Flow> {
        let verdict = self.verdict_of(dir, (name, stat, link), (old, trust))?;
        match (verdict, old) {
            (Verdict::Unchanged, _) => {
                self.observer.advance(1, stat.size);
                Ok(Flow::Continue(()))
            }
            (Verdict::Touch, Some(old)) => {
                if old.detection.ctime_ns != stat.ctime_ns || !old.detection.marks.attrs_known {
                    let Some(now) = self.attrs_now(dir, (name, stat), old.version.attr)? else {
                        return Ok(Flow::Continue(()));
                    };
                    if now != self.prior.attrs(old.version.attr)? {
                        return self.keep_content(dir, (name, stat, link), &old.version, emit);
                    }
                }
                self.observer.advance(1, stat.size);
                Ok(emit_touch(dir, (name, stat), emit))
            }
            (Verdict::Metadata, Some(old)) => self.keep_content(dir, (name, stat, link), &old.version, emit),
            _ => {
                // A row of an unfinished run, or of a renamed directory, may know the content.
                let is_doubtful = old.is_some_and(|old| old.detection.marks.recheck);
                if let Some(hint) = hint.filter(|_| !is_doubtful && !self.options.force) {
                    let owner = self.prior.owner(hint.version.owner)?;
                    if matches!(
                        judge(stat, hint.version.link, (hint, owner), trust),
                        Verdict::Unchanged | Verdict::Metadata
                    ) {
                        return self.keep_content(dir, (name, stat, link), &hint.version, emit);
                    }
                }
                let only_inode = old.filter(|old| is_only_inode(stat, old, trust));
                let expected = only_inode.map(|old| content_of(&old.version)).transpose()?;
                let must_hold = self.must_hold(stat, (old, trust))?;
                let job = FileJob { dir: Arc::clone(dir), name: name.to_vec(), stat: *stat, link, expected, must_hold };
                Ok(self.read(job, emit))
            }
        }
    }

    /// A version with new metadata and the content that a row names.
    fn keep_content(
        &mut self,
        dir: &Arc<DirContext>,
        (name, stat, link): (&[u8], &Stat, i64),
        known: &StoredVersion,
        emit: Emit<'_>,
    ) -> Result<Flow> {
        let content = content_of(known)?;
        self.observer.advance(1, stat.size);
        let object = Object::Content(self.prior.content_hash(content)?);
        let (attrs, attrs_known) = self.attrs_or_before(dir, (name, stat), known.attr)?;
        let mut version = version_of(stat, self.names.owner(stat.uid, stat.gid), link, object);
        version.attrs = attrs;
        version.size = known.size;
        let detection = detection_of(stat, dir.racy_within_ns, attrs_known);
        Ok(emit_row(dir, name, Change::Put { version, content: Some(content), detection }, emit))
    }

    fn read(&mut self, job: FileJob, emit: Emit<'_>) -> Flow {
        if job.stat.size > SMALL_MAX {
            self.flush(emit)?;
            let flow = read_large(&job, &self.chunker, emit);
            self.observer.advance(1, 0);
            return flow;
        }
        let size = job.stat.size;
        if self.batch.len() >= BATCH_FILES_MAX || self.batch_bytes + size > BATCH_BYTES {
            self.flush(emit)?;
        }
        self.batch_bytes += size;
        self.batch.push(job);
        Flow::Continue(())
    }

    fn flush(&mut self, emit: Emit<'_>) -> Flow {
        self.batch_bytes = 0;
        if self.batch.is_empty() {
            return Flow::Continue(());
        }
        emit(Job::Batch(std::mem::take(&mut self.batch)))
    }
}

fn content_of(version: &StoredVersion) -> Result<ContentId> {
    match version.object {
        StoredObject::Content(id) => Ok(id),
        _ => Err(CatalogError::damaged("a file without content")),
    }
}

/// Its attributes are those of the row.
fn emit_touch(dir: &Arc<DirContext>, (name, stat): (&[u8], &Stat), emit: Emit<'_>) -> Flow {
    let detection = detection_of(stat, dir.racy_within_ns, true);
    emit_row(dir, name, Change::Touch { detection, btime_ns: stat.btime_ns }, emit)
}

/// Hands on a row that needs no reading.
pub fn emit_row(dir: &Arc<DirContext>, name: &[u8], change: Change, emit: Emit<'_>) -> Flow {
    let row = RowItem { dir: Arc::clone(&dir.path), name: name.to_vec(), change };
    emit(Job::Ready(Item::Row(Box::new(row))))
}
