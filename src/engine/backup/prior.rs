//! The state before the run as the comparison wants it: per directory its rows, and hints for names without one from
//! unfinished runs and renamed directories.

use crate::catalog::interned::{attrs_by_id, find_dir, owner_by_id};
use crate::catalog::state::{KnownDir, LiveEntry, has_pending, known_dirs, live_entries, pending_entries};
use crate::catalog::versions::next_link;
use crate::catalog::{Catalog, CatalogError, contents};
use crate::model::entry::Stat;
use crate::model::ids::{ContentId, FileHash, SourceId, VolumeId};
use crate::model::version::Owner;
use std::collections::HashMap;

type Result<T> = std::result::Result<T, CatalogError>;

/// Reads the state before.
pub struct Prior {
    reader: Catalog,
    source: SourceId,
    is_first: bool,
    has_pending: bool,
    owners: HashMap<i64, Owner>,
    /// Live directories by inode and birth; read when the first unknown directory is met.
    by_inode: Option<HashMap<(u64, i64), Vec<u8>>>,
}

/// What is known of a directory.
#[derive(Debug, Default)]
pub struct PriorDir {
    /// Its live rows by name.
    pub rows: Vec<LiveEntry>,
    /// Rows that may say what a name without row holds, by name.
    pub hints: Vec<LiveEntry>,
    /// Volume that its chunks went to.
    pub affinity: Option<VolumeId>,
    /// It was a mount point.
    pub was_mount_point: bool,
    /// Inodes below it are known to change.
    pub inodes_untrusted: bool,
}

impl PriorDir {
    /// The row with this name.
    pub fn entry(&self, name: &[u8]) -> Option<&LiveEntry> {
        find(&self.rows, name)
    }

    /// The hint for this name.
    pub fn hint(&self, name: &[u8]) -> Option<&LiveEntry> {
        find(&self.hints, name)
    }

    /// Whether it has rows beside its own.
    pub fn has_children(&self) -> bool {
        self.rows.iter().any(|row| !row.name.is_empty())
    }
}

fn find<'r>(rows: &'r [LiveEntry], name: &[u8]) -> Option<&'r LiveEntry> {
    rows.binary_search_by(|row| row.name.as_slice().cmp(name)).ok().map(|index| &rows[index])
}

impl Prior {
    /// The state of `source`; `is_first` when it has no complete run.
    pub fn new(reader: Catalog, source: SourceId, is_first: bool) -> Result<Self> {
        let has_pending = has_pending(reader.conn(), source)?;
        Ok(Self { reader, source, is_first, has_pending, owners: HashMap::new(), by_inode: None })
    }

    /// What is known of the directory at `path`, whose inode looks like `stat` now.
    pub fn directory(&mut self, path: &[u8], stat: &Stat) -> Result<PriorDir> {
        if self.is_first && !self.has_pending {
            return Ok(PriorDir::default());
        }
        let reading = self.reader.reading()?;
        let conn = self.reader.conn();
        let mut known = PriorDir::default();
        if let Some(row) = find_dir(conn, self.source, path)? {
            known.rows = live_entries(conn, row.id)?;
            known.affinity = row.volume;
            known.was_mount_point = row.was_mount_point;
            known.inodes_untrusted = row.inodes_untrusted;
            if self.has_pending {
                known.hints = pending_entries(conn, self.source, row.id)?;
            }
        }
        drop(reading);
        if known.rows.is_empty() && known.hints.is_empty() && !self.is_first {
            known.hints = self.renamed(stat)?;
        }
        Ok(known)
    }

    /// The rows of the live directory that has this inode and birth: this is probably it, under another name.
    fn renamed(&mut self, stat: &Stat) -> Result<Vec<LiveEntry>> {
        let Some(btime_ns) = stat.btime_ns else { return Ok(Vec::new()) };
        let conn = self.reader.conn();
        if self.by_inode.is_none() {
            let key = |dir: KnownDir| dir.btime_ns.map(|btime_ns| ((dir.ino, btime_ns), dir.path));
            self.by_inode = Some(known_dirs(conn, self.source)?.into_iter().filter_map(key).collect());
        }
        let before = self.by_inode.as_ref().and_then(|dirs| dirs.get(&(stat.ino, btime_ns)));
        let Some(before) = before else { return Ok(Vec::new()) };
        match find_dir(conn, self.source, before)? {
            Some(row) => Ok(live_entries(conn, row.id)?.into_iter().filter(|row| !row.name.is_empty()).collect()),
            None => Ok(Vec::new()),
        }
    }

    /// An owner by number.
    pub fn owner(&mut self, id: i64) -> Result<&Owner> {
        if !self.owners.contains_key(&id) {
            let owner = owner_by_id(self.reader.conn(), id)?;
            self.owners.insert(id, owner);
        }
        self.owners.get(&id).ok_or_else(|| CatalogError::damaged("an owner is missing"))
    }

    /// The encoded attributes of a row.
    pub fn attrs(&self, id: Option<i64>) -> Result<Vec<u8>> {
        attrs_by_id(self.reader.conn(), id)
    }

    /// The hash of a content.
    pub fn content_hash(&self, id: ContentId) -> Result<FileHash> {
        contents::hash_of(self.reader.conn(), id)
    }

    /// The first free hard-link group.
    pub fn next_link(&self) -> Result<i64> {
        next_link(self.reader.conn(), self.source)
    }
}
