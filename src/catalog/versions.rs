//! Applying a run's changes to the state: the only writer of `live` and `past`. A backup's last transaction, the
//! roll-forward of an unfinished run, catch-up and rebuild all go through [`Applier`].

use super::error::{CatalogError, Result};
use super::interned::{Interner, find_dir};
use super::row::{StoredObject, StoredVersion, VERSION_COLUMNS};
use crate::format::manifest::RunCounts;
use crate::model::entry::EntryKind;
use crate::model::ids::{ContentId, DirId, RunSeq, SourceId, StateDigest};
use crate::model::limits::NUMBER_MAX;
use crate::model::path;
use crate::model::version::{Detection, EndReason, Version};
use rusqlite::{Connection, OptionalExtension, params};

/// One change of a source's state at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A version enters, in place of an earlier one of its path.
    Put {
        /// The version.
        version: Version,
        /// Its content, for a regular file.
        content: Option<ContentId>,
        /// For the next run.
        detection: Detection,
    },
    /// Only detection fields differ.
    Touch {
        /// The new ones.
        detection: Detection,
        /// Birth of the file that has the name now.
        btime_ns: Option<i64>,
    },
    /// The path is gone; for a directory, all below it too.
    End(EndReason),
}

/// What a change turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The state is another.
    Changed {
        /// What the path held, if that was a regular file.
        before: Option<ContentId>,
    },
    /// Only detection fields are.
    Touched,
    /// There was nothing to end.
    Nothing,
}

/// The run that changes are applied for.
#[derive(Debug, Clone, Copy)]
pub struct ApplyRun {
    /// Whose state.
    pub source: SourceId,
    /// The run that makes the versions.
    pub run: RunSeq,
    /// The last complete run of the source: `last_run` of what ends.
    pub prev: Option<RunSeq>,
}

/// `first_run`, then [`VERSION_COLUMNS`].
const LIVE_ROW: &str = "SELECT first_run, mode, owner, size, mtime_ns, btime_ns, obj, link, attr, flags FROM live
     WHERE dir = ?1 AND name = ?2";
const INSERT_LIVE: &str = "INSERT INTO live(dir, name, first_run, mode, owner, size, mtime_ns, btime_ns, obj, link,
     attr, flags, ctime_ns, ino, nlink, marks)
     VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
const UPDATE_LIVE: &str = "UPDATE live SET first_run = ?3, mode = ?4, owner = ?5, size = ?6, mtime_ns = ?7,
     btime_ns = ?8, obj = ?9, link = ?10, attr = ?11, flags = ?12, ctime_ns = ?13, ino = ?14, nlink = ?15, marks = ?16
     WHERE dir = ?1 AND name = ?2";
/// The same without `obj`; what is bound as ?9 is the object that the row has.
const UPDATE_LIVE_SAME_OBJECT: &str = "UPDATE live SET first_run = ?3, mode = ?4, owner = ?5, size = ?6,
     mtime_ns = ?7, btime_ns = ?8, link = ?10, attr = ?11, flags = ?12, ctime_ns = ?13, ino = ?14, nlink = ?15,
     marks = ?16 WHERE dir = ?1 AND name = ?2 AND obj IS ?9";
const BURY: &str = "INSERT INTO past(dir, name, first_run, last_run, why, mode, owner, size, mtime_ns, btime_ns, obj,
     link, attr, flags) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

/// Whether nothing but the names of owner and group is another. Numbers are what a file has; a name enters with the next
/// version, so that a user's new name, or a release that records names, rewrites nothing.
pub fn is_same_but_names(old: &Version, new: &Version) -> bool {
    (old.owner.uid, old.owner.gid) == (new.owner.uid, new.owner.gid)
        && old.owner != new.owner
        && *old == Version { owner: old.owner.clone(), btime_ns: old.btime_ns, ..new.clone() }
}

/// Applies changes in one transaction, keeping the digest and the counts.
pub struct Applier<'c> {
    conn: &'c Connection,
    run: ApplyRun,
    interner: Interner,
    digest: StateDigest,
    counts: RunCounts,
    excluded: u64,
    link_max: i64,
    /// A version with nothing but other names of its owner is another one.
    names_count: bool,
}

impl<'c> Applier<'c> {
    /// Starts from the state with digest `base`.
    pub fn new(conn: &'c Connection, run: ApplyRun, base: StateDigest) -> Self {
        let (interner, counts) = (Interner::default(), RunCounts::default());
        Self { conn, run, interner, digest: base, counts, excluded: 0, link_max: 0, names_count: false }
    }

    /// For the rows of a record, of which each is to be taken as it is: whoever wrote it has decided.
    pub fn exactly(self) -> Self {
        Self { names_count: true, ..self }
    }

    /// The digest of the state as it is now.
    pub fn digest(&self) -> StateDigest {
        self.digest
    }

    /// Added, modified, metadata and deleted so far.
    pub fn counts(&self) -> RunCounts {
        self.counts
    }

    /// Those of the deleted that are only no longer selected.
    pub fn excluded(&self) -> u64 {
        self.excluded
    }

    /// Applies one change at `dir`/`name`; an empty name in the root directory is the root itself.
    pub fn apply(&mut self, dir: &[u8], name: &[u8], change: &Change) -> Result<Applied> {
        match change {
            Change::Put { version, content, detection } => {
                if version.link <= NUMBER_MAX {
                    self.link_max = self.link_max.max(version.link);
                }
                let dir_id = self.interner.dir(self.conn, self.run.source, dir)?;
                let stored = StoredVersion::intern(self.conn, &mut self.interner, version, *content)?;
                self.put(Place { dir, dir_id, name }, (version, &stored), detection)
            }
            Change::Touch { detection, btime_ns } => {
                if let Some(dir_id) = self.interner.known_dir(self.conn, self.run.source, dir)? {
                    self.touch(Place { dir, dir_id, name }, (*detection, *btime_ns))?;
                }
                Ok(Applied::Touched)
            }
            Change::End(reason) => match self.interner.known_dir(self.conn, self.run.source, dir)? {
                Some(dir_id) => self.end(Place { dir, dir_id, name }, *reason),
                None => Ok(Applied::Nothing),
            },
        }
    }

    /// Writes what outlives the transaction beside the rows: the next hard-link group.
    pub fn finish(&self) -> Result<()> {
        self.conn
            .prepare_cached("UPDATE sources SET next_link = max(next_link, ?2) WHERE id = ?1")?
            .execute(params![self.run.source.0, self.link_max + 1])?;
        Ok(())
    }

    fn put(
        &mut self,
        place: Place<'_>,
        (version, stored): (&Version, &StoredVersion),
        detection: &Detection,
    ) -> Result<Applied> {
        let full_path = path::join(place.dir, place.name);
        let Some((old, first_run)) = self.live_row(place)? else {
            self.counts.added += 1;
            self.digest.add(version.row_hash(&full_path));
            self.write_row(INSERT_LIVE, place, (stored, detection))?;
            return Ok(Applied::Changed { before: None });
        };
        let old_version = old.resolve_beside(self.conn, (stored, version))?;
        let (old_hash, new_hash) = (old_version.row_hash(&full_path), version.row_hash(&full_path));
        if old_hash == new_hash || (!self.names_count && is_same_but_names(&old_version, version)) {
            self.touch(place, (*detection, version.btime_ns))?;
            return Ok(Applied::Touched);
        }
        if old.kind == EntryKind::Dir && version.kind != EntryKind::Dir {
            self.end_below(&full_path, EndReason::Deleted)?;
        }
        if old.kind != version.kind || old_version.object != version.object {
            self.counts.modified += 1;
        } else {
            self.counts.metadata += 1;
        }
        self.digest.remove(old_hash);
        self.bury(place, (&old, first_run), EndReason::Modified)?;
        self.digest.add(new_hash);
        // A column that is not set costs its index nothing.
        let update = if old.object == stored.object { UPDATE_LIVE_SAME_OBJECT } else { UPDATE_LIVE };
        self.write_row(update, place, (stored, detection))?;
        let before = match old.object {
            StoredObject::Content(id) => Some(id),
            _ => None,
        };
        Ok(Applied::Changed { before })
    }

    fn write_row(&self, sql: &str, place: Place<'_>, (stored, detection): (&StoredVersion, &Detection)) -> Result<()> {
        let written = self.conn.prepare_cached(sql)?.execute(params![
            place.dir_id.0,
            place.name,
            self.run.run.0,
            stored.st_mode(),
            stored.owner,
            stored.size.cast_signed(),
            stored.mtime_ns,
            stored.btime_ns,
            stored.object,
            stored.link,
            stored.attr,
            stored.flags(),
            detection.ctime_ns,
            detection.ino.cast_signed(),
            detection.nlink,
            detection.marks.bits(),
        ])?;
        if written == 1 { Ok(()) } else { Err(CatalogError::damaged("a row was not written")) }
    }

    fn live_row(&self, place: Place<'_>) -> Result<Option<(StoredVersion, i64)>> {
        let mut select = self.conn.prepare_cached(LIVE_ROW)?;
        let mut rows = select.query(params![place.dir_id.0, place.name])?;
        match rows.next()? {
            Some(row) => Ok(Some((StoredVersion::from_row(row, 1)?, row.get(0)?))),
            None => Ok(None),
        }
    }

    /// Puts a version that was read from `live` into `past`; its row in `live` is left to the caller.
    fn bury(&self, place: Place<'_>, (old, first_run): (&StoredVersion, i64), why: EndReason) -> Result<()> {
        let last_run = self.run.prev.filter(|prev| prev.0 >= first_run);
        let last_run = last_run.ok_or(CatalogError::Contradiction("one run changes a path twice"))?;
        self.conn.prepare_cached(BURY)?.execute(params![
            place.dir_id.0,
            place.name,
            first_run,
            last_run.0,
            why as u8,
            old.st_mode(),
            old.owner,
            old.size.cast_signed(),
            old.mtime_ns,
            old.btime_ns,
            old.object,
            old.link,
            old.attr,
            old.flags(),
        ])?;
        Ok(())
    }

    fn touch(&self, place: Place<'_>, (detection, btime_ns): (Detection, Option<i64>)) -> Result<()> {
        self.conn
            .prepare_cached(
                "UPDATE live SET ctime_ns = ?3, ino = ?4, nlink = ?5, marks = ?6, btime_ns = ?7
                 WHERE dir = ?1 AND name = ?2",
            )?
            .execute(params![
                place.dir_id.0,
                place.name,
                detection.ctime_ns,
                detection.ino.cast_signed(),
                detection.nlink,
                detection.marks.bits(),
                btime_ns,
            ])?;
        Ok(())
    }

    fn end(&mut self, place: Place<'_>, reason: EndReason) -> Result<Applied> {
        let full_path = path::join(place.dir, place.name);
        match self.end_one(place, reason)? {
            None => return Ok(Applied::Nothing),
            Some(EntryKind::Dir) if !place.name.is_empty() => self.end_below(&full_path, reason)?,
            Some(_) => {}
        }
        // What ends holds nothing that a record could copy from.
        Ok(Applied::Changed { before: None })
    }

    /// Ends every live version whose path is not in `keep`: for a record of the whole state.
    pub fn end_all_but(&mut self, keep: &std::collections::HashSet<Vec<u8>>) -> Result<()> {
        for (dir_id, dir) in dirs_within(self.conn, self.run.source, b"")? {
            for name in self.names_in(dir_id)? {
                if !keep.contains(&path::join(&dir, &name)) {
                    self.end_one(Place { dir: &dir, dir_id, name: &name }, EndReason::Deleted)?;
                }
            }
        }
        Ok(())
    }

    fn names_in(&self, dir: DirId) -> Result<Vec<Vec<u8>>> {
        let mut select = self.conn.prepare_cached("SELECT name FROM live WHERE dir = ?1")?;
        Ok(select.query_map([dir.0], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// Ends every live version below the directory `top`.
    fn end_below(&mut self, top: &[u8], reason: EndReason) -> Result<()> {
        for (dir_id, dir) in dirs_within(self.conn, self.run.source, top)? {
            for name in self.names_in(dir_id)? {
                self.end_one(Place { dir: &dir, dir_id, name: &name }, reason)?;
            }
        }
        Ok(())
    }

    fn end_one(&mut self, place: Place<'_>, reason: EndReason) -> Result<Option<EntryKind>> {
        let Some((old, first_run)) = self.live_row(place)? else {
            return Ok(None);
        };
        self.digest.remove(old.resolve(self.conn)?.row_hash(&path::join(place.dir, place.name)));
        self.bury(place, (&old, first_run), reason)?;
        self.conn
            .prepare_cached("DELETE FROM live WHERE dir = ?1 AND name = ?2")?
            .execute(params![place.dir_id.0, place.name])?;
        self.counts.deleted += 1;
        self.excluded += u64::from(reason == EndReason::Excluded);
        Ok(Some(old.kind))
    }
}

/// Where a row stands.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    dir: &'a [u8],
    dir_id: DirId,
    name: &'a [u8],
}

/// Interned directories of a source at or below `top`; the root means all.
pub fn dirs_within(conn: &Connection, source: SourceId, top: &[u8]) -> Result<Vec<(DirId, Vec<u8>)>> {
    if top.is_empty() {
        let mut select = conn.prepare_cached("SELECT id, path FROM dirs WHERE source = ?1 ORDER BY path")?;
        let rows = select.query_map([source.0], |row| Ok((DirId(row.get(0)?), row.get(1)?)))?;
        return Ok(rows.collect::<rusqlite::Result<_>>()?);
    }
    let (from, to) = ([top, b"/"].concat(), [top, b"0"].concat());
    let mut dirs: Vec<(DirId, Vec<u8>)> = Vec::new();
    if let Some(row) = find_dir(conn, source, top)? {
        dirs.push((row.id, top.to_vec()));
    }
    let mut select =
        conn.prepare_cached("SELECT id, path FROM dirs WHERE source = ?1 AND path >= ?2 AND path < ?3 ORDER BY path")?;
    let rows = select.query_map(params![source.0, from, to], |row| Ok((DirId(row.get(0)?), row.get(1)?)))?;
    for row in rows {
        dirs.push(row?);
    }
    Ok(dirs)
}

/// A live row's version, for readers of records that must know what a change replaces.
pub fn live_version(conn: &Connection, source: SourceId, (dir, name): (&[u8], &[u8])) -> Result<Option<StoredVersion>> {
    let Some(row) = find_dir(conn, source, dir)? else {
        return Ok(None);
    };
    let sql = format!("SELECT {VERSION_COLUMNS} FROM live WHERE dir = ?1 AND name = ?2");
    let mut select = conn.prepare_cached(&sql)?;
    let mut rows = select.query(params![row.id.0, name])?;
    match rows.next()? {
        Some(row) => Ok(Some(StoredVersion::from_row(row, 0)?)),
        None => Ok(None),
    }
}

/// The first hard-link group that is free in a source.
pub fn next_link(conn: &Connection, source: SourceId) -> Result<i64> {
    Ok(conn
        .query_row("SELECT next_link FROM sources WHERE id = ?1", [source.0], |row| row.get(0))
        .optional()?
        .unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::settings::Settings;
    use crate::catalog::{Catalog, runs};
    use crate::model::ids::RepositoryUuid;
    use crate::model::params::{ChunkerParams, Compression, HashAlgo, Reserve};
    use crate::model::version::{Object, Owner};

    #[test]
    fn names_alone_are_no_change_of_a_run_but_a_record_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            repository: RepositoryUuid([1; 16]),
            hash: HashAlgo::Blake3,
            chunker: ChunkerParams { min: 1 << 18, avg: 1 << 20, max: 1 << 22, normalization: 2 },
            block_size: 1 << 20,
            compression: Compression::None,
            reserve: Reserve::Percent(1.0),
            redundancy: crate::model::redundancy::Redundancy::None,
        };
        let catalog = Catalog::create(&dir.path().join("backup.cat"), &settings).unwrap();
        let source = runs::intern_source(catalog.conn(), "host", "/src", &[]).unwrap();
        let row = |user: &[u8], mode| Change::Put {
            version: Version {
                kind: EntryKind::Fifo,
                mode,
                owner: Owner { uid: 7, gid: 8, user: user.to_vec(), group: Vec::new() },
                size: 0,
                mtime_ns: 1,
                btime_ns: None,
                link: 0,
                inconsistent: false,
                object: Object::Nothing,
                attrs: Vec::new(),
            },
            content: None,
            detection: Detection::default(),
        };
        let run = |seq| ApplyRun { source, run: RunSeq(seq), prev: Some(RunSeq(seq - 1)) };
        let mut first = Applier::new(catalog.conn(), run(1), StateDigest::EMPTY);
        assert_eq!(first.apply(b"", b"f", &row(b"", 0o600)).unwrap(), Applied::Changed { before: None });
        let mut second = Applier::new(catalog.conn(), run(2), first.digest());
        assert_eq!(second.apply(b"", b"f", &row(b"ann", 0o600)).unwrap(), Applied::Touched);
        assert_eq!(second.digest(), first.digest());
        let mut third = Applier::new(catalog.conn(), run(3), second.digest()).exactly();
        assert_eq!(third.apply(b"", b"f", &row(b"ann", 0o600)).unwrap(), Applied::Changed { before: None });
        assert_ne!(third.digest(), second.digest());
    }
}
