//! Applying a run's changes to the state: the only writer of `live` and `past`. A backup's last transaction, the
//! roll-forward of an unfinished run, catch-up and rebuild all go through [`Applier`].

use super::ahead::{Ahead, OldRow, live_row};
use super::error::{CatalogError, Result};
use super::interned::{Interner, dirs_within};
use super::row::{StoredObject, StoredVersion};
use crate::format::manifest::RunCounts;
use crate::model::entry::EntryKind;
use crate::model::ids::{ContentId, DirId, RunSeq, SourceId, StateDigest};
use crate::model::limits::NUMBER_MAX;
use crate::model::path;
use crate::model::version::{Detection, EndReason, Version};
use rusqlite::{Connection, OptionalExtension, ToSql, params};

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

// A write says by what it has done whether the row was the one that had been read.
const INSERT_LIVE: &str = "INSERT INTO live(dir, name, first_run, mode, owner, size, mtime_ns, btime_ns, obj, link,
     attr, flags, ctime_ns, ino, nlink, marks)
     VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
     ON CONFLICT(dir, name) DO NOTHING";
const UPDATE_LIVE: &str = "UPDATE live SET first_run = ?3, mode = ?4, owner = ?5, size = ?6, mtime_ns = ?7,
     btime_ns = ?8, obj = ?9, link = ?10, attr = ?11, flags = ?12, ctime_ns = ?13, ino = ?14, nlink = ?15, marks = ?16
     WHERE dir = ?1 AND name = ?2 AND first_run = ?17";
/// The same without `obj`; what is bound as ?9 is the object that the row has.
const UPDATE_LIVE_SAME_OBJECT: &str = "UPDATE live SET first_run = ?3, mode = ?4, owner = ?5, size = ?6,
     mtime_ns = ?7, btime_ns = ?8, link = ?10, attr = ?11, flags = ?12, ctime_ns = ?13, ino = ?14, nlink = ?15,
     marks = ?16 WHERE dir = ?1 AND name = ?2 AND first_run = ?17 AND obj IS ?9";
const TOUCH: &str = "UPDATE live SET ctime_ns = ?3, ino = ?4, nlink = ?5, marks = ?6, btime_ns = ?7
     WHERE dir = ?1 AND name = ?2 AND first_run = coalesce(?8, first_run)";
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
        self.apply_ahead((dir, name), change, None)
    }

    /// The same of a change that was looked at before.
    pub fn apply_ahead(
        &mut self,
        (dir, name): (&[u8], &[u8]),
        change: &Change,
        ahead: Option<Ahead>,
    ) -> Result<Applied> {
        match change {
            Change::Put { version, content, detection } => {
                if version.link <= NUMBER_MAX {
                    self.link_max = self.link_max.max(version.link);
                }
                let dir_id = self.interner.dir(self.conn, self.run.source, dir)?;
                let stored = StoredVersion::intern(self.conn, &mut self.interner, version, *content)?;
                self.put(Place { dir, dir_id, name }, (version, &stored, detection), ahead)
            }
            Change::Touch { detection, btime_ns } => {
                if let Some(dir_id) = self.interner.known_dir(self.conn, self.run.source, dir)? {
                    self.touch(Place { dir, dir_id, name }, (*detection, *btime_ns), None)?;
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
        (version, stored, detection): (&Version, &StoredVersion, &Detection),
        ahead: Option<Ahead>,
    ) -> Result<Applied> {
        let was_ahead = ahead.is_some();
        let ahead = match ahead {
            Some(ahead) => ahead,
            None => self.look(place, (version, stored))?,
        };
        match self.replace(place, (version, stored, detection), &ahead)? {
            Some(applied) => Ok(applied),
            None if was_ahead => self.put(place, (version, stored, detection), None),
            None => Err(CatalogError::damaged("a row was not written")),
        }
    }

    fn look(&self, place: Place<'_>, (version, stored): (&Version, &StoredVersion)) -> Result<Ahead> {
        let full_path = path::join(place.dir, place.name);
        let old = match live_row(self.conn, place.dir_id, place.name)? {
            None => None,
            Some((old, first_run)) => {
                let version = old.resolve_beside(self.conn, (stored, version))?;
                Some(OldRow { hash: version.row_hash(&full_path), stored: old, first_run, version })
            }
        };
        Ok(Ahead { hash: version.row_hash(&full_path), old })
    }

    /// `None`, and nothing done, where the path does not hold what `ahead` says.
    fn replace(
        &mut self,
        place: Place<'_>,
        (version, stored, detection): (&Version, &StoredVersion, &Detection),
        ahead: &Ahead,
    ) -> Result<Option<Applied>> {
        let Some(old) = &ahead.old else {
            if !self.write_row(INSERT_LIVE, place, (stored, detection), None)? {
                return Ok(None);
            }
            self.counts.added += 1;
            self.digest.add(ahead.hash);
            return Ok(Some(Applied::Changed { before: None }));
        };
        if old.hash == ahead.hash || (!self.names_count && is_same_but_names(&old.version, version)) {
            let is_there = self.touch(place, (*detection, version.btime_ns), Some(old.first_run))?;
            return Ok(is_there.then_some(Applied::Touched));
        }
        // A column that is not set costs its index nothing.
        let update = if old.stored.object == stored.object { UPDATE_LIVE_SAME_OBJECT } else { UPDATE_LIVE };
        if !self.write_row(update, place, (stored, detection), Some(old.first_run))? {
            return Ok(None);
        }
        self.bury(place, (&old.stored, old.first_run), EndReason::Modified)?;
        self.digest.remove(old.hash);
        self.digest.add(ahead.hash);
        if old.stored.kind != version.kind || old.version.object != version.object {
            self.counts.modified += 1;
        } else {
            self.counts.metadata += 1;
        }
        if old.stored.kind == EntryKind::Dir && version.kind != EntryKind::Dir {
            self.end_below(&path::join(place.dir, place.name), EndReason::Deleted)?;
        }
        let before = match old.stored.object {
            StoredObject::Content(id) => Some(id),
            _ => None,
        };
        Ok(Some(Applied::Changed { before }))
    }

    /// Whether there was room for it, or the row that `first_run` made.
    fn write_row(
        &self,
        sql: &str,
        place: Place<'_>,
        (stored, detection): (&StoredVersion, &Detection),
        first_run: Option<i64>,
    ) -> Result<bool> {
        let mut write = self.conn.prepare_cached(sql)?;
        let values: [&dyn ToSql; 16] = [
            &place.dir_id.0,
            &place.name,
            &self.run.run.0,
            &stored.st_mode(),
            &stored.owner,
            &stored.size.cast_signed(),
            &stored.mtime_ns,
            &stored.btime_ns,
            &stored.object,
            &stored.link,
            &stored.attr,
            &stored.flags(),
            &detection.ctime_ns,
            &detection.ino.cast_signed(),
            &detection.nlink,
            &detection.marks.bits(),
        ];
        let first_run = first_run.as_ref().map(|run| run as &dyn ToSql);
        Ok(write.execute(rusqlite::params_from_iter(values.into_iter().chain(first_run)))? == 1)
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

    /// Whether there is a row, the one that `first_run` made where that is given.
    fn touch(
        &self,
        place: Place<'_>,
        (detection, btime_ns): (Detection, Option<i64>),
        first_run: Option<i64>,
    ) -> Result<bool> {
        let touched = self.conn.prepare_cached(TOUCH)?.execute(params![
            place.dir_id.0,
            place.name,
            detection.ctime_ns,
            detection.ino.cast_signed(),
            detection.nlink,
            detection.marks.bits(),
            btime_ns,
            first_run,
        ])?;
        Ok(touched == 1)
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
        let Some((old, first_run)) = live_row(self.conn, place.dir_id, place.name)? else {
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
    use crate::catalog::ahead::LookAhead;
    use crate::catalog::{Catalog, digests, runs};
    use crate::model::version::{Object, Owner};

    /// A catalog with one source.
    fn catalog() -> (tempfile::TempDir, Catalog, SourceId) {
        let (dir, catalog) = crate::catalog::test_plans::catalog();
        let source = runs::intern_source(catalog.conn(), "host", "/src", &[]).unwrap();
        (dir, catalog, source)
    }

    fn fifo(user: &[u8], mode: u32) -> Change {
        Change::Put {
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
        }
    }

    fn run(source: SourceId, seq: i64) -> ApplyRun {
        ApplyRun { source, run: RunSeq(seq), prev: Some(RunSeq(seq - 1)) }
    }

    #[test]
    fn names_alone_are_no_change_of_a_run_but_a_record_is_taken_as_it_is() {
        let (_dir, catalog, source) = catalog();
        let conn = catalog.conn();
        let mut first = Applier::new(conn, run(source, 1), StateDigest::EMPTY);
        assert_eq!(first.apply(b"", b"f", &fifo(b"", 0o600)).unwrap(), Applied::Changed { before: None });
        let mut second = Applier::new(conn, run(source, 2), first.digest());
        assert_eq!(second.apply(b"", b"f", &fifo(b"ann", 0o600)).unwrap(), Applied::Touched);
        assert_eq!(second.digest(), first.digest());
        let mut third = Applier::new(conn, run(source, 3), second.digest()).exactly();
        assert_eq!(third.apply(b"", b"f", &fifo(b"ann", 0o600)).unwrap(), Applied::Changed { before: None });
        assert_ne!(third.digest(), second.digest());
    }

    #[test]
    fn what_was_read_ahead_and_is_not_so_any_more_is_read_again() {
        let (_dir, catalog, source) = catalog();
        let conn = catalog.conn();
        let names: [&[u8]; 5] = [b"ended", b"touched", b"new", b"same", b"there"];
        let mut first = Applier::new(conn, run(source, 1), StateDigest::EMPTY);
        for name in names.iter().filter(|name| **name != b"new") {
            first.apply(b"d", name, &fifo(b"ann", 0o600)).unwrap();
        }
        let change = |name: &[u8]| fifo(b"ann", if name == b"same" { 0o600 } else { 0o640 });
        let mut look = LookAhead::new(conn, source);
        let ahead = names.map(|name| look.look(b"d", name, &change(name)).unwrap());
        // Before they are applied, the same transaction ends two of them and makes the one that was not there.
        let mut second = Applier::new(conn, run(source, 2), first.digest());
        for name in [b"ended".as_slice(), b"same"] {
            second.apply(b"d", name, &Change::End(EndReason::Deleted)).unwrap();
        }
        second.apply(b"d", b"touched", &Change::Touch { detection: Detection::default(), btime_ns: Some(5) }).unwrap();
        second.apply(b"d", b"new", &fifo(b"ann", 0o640)).unwrap();
        let applied: Vec<_> = names
            .into_iter()
            .zip(ahead)
            .map(|(name, ahead)| second.apply_ahead((b"d", name), &change(name), ahead).unwrap())
            .collect();
        let changed = Applied::Changed { before: None };
        assert_eq!(applied, [changed, changed, Applied::Touched, changed, changed]);
        let counts = second.counts();
        assert_eq!((counts.added, counts.metadata, counts.modified, counts.deleted), (3, 2, 0, 2));
        assert_eq!(digests::of_live(conn, source).unwrap(), second.digest());
        let past: i64 = conn.query_row("SELECT count(*) FROM past", [], |row| row.get(0)).unwrap();
        assert_eq!(past, 4);
    }
}
