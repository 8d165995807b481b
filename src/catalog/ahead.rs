//! What a change replaces, read before it is applied: by [`super::versions::Applier`] itself, or ahead of it on another
//! connection, which sees the state before. The applier's writes ask for the very row that was read, so that one which
//! this transaction has changed meanwhile is read again.

use super::error::Result;
use super::interned::{Interner, attrs_by_id, find_dir, owner_by_id};
use super::row::{StoredObject, StoredVersion};
use super::versions::Change;
use crate::model::ids::{DirId, SourceId};
use crate::model::path;
use crate::model::version::{Object, Owner, Version};
use rusqlite::{Connection, params};
use std::collections::HashMap;

/// Owners that are remembered at most; then it starts afresh.
const OWNERS_MAX: usize = 10_000;
/// `first_run`, then [`super::row::VERSION_COLUMNS`].
const LIVE_ROW: &str = "SELECT first_run, mode, owner, size, mtime_ns, btime_ns, obj, link, attr, flags FROM live
     WHERE dir = ?1 AND name = ?2";

/// What is known of a version that is to enter.
#[derive(Debug)]
pub struct Ahead {
    /// Of its row, for the digest.
    pub hash: [u8; 32],
    /// What its path holds.
    pub old: Option<OldRow>,
}

/// A row of `live`.
#[derive(Debug)]
pub struct OldRow {
    /// As it stands there.
    pub stored: StoredVersion,
    /// The run that made it: with its path, what tells it from all other versions.
    pub first_run: i64,
    /// In full.
    pub version: Version,
    /// Of its row.
    pub hash: [u8; 32],
}

/// The live row of a name, and the run that made it.
pub fn live_row(conn: &Connection, dir: DirId, name: &[u8]) -> Result<Option<(StoredVersion, i64)>> {
    let mut select = conn.prepare_cached(LIVE_ROW)?;
    let mut rows = select.query(params![dir.0, name])?;
    match rows.next()? {
        Some(row) => Ok(Some((StoredVersion::from_row(row, 1)?, row.get(0)?))),
        None => Ok(None),
    }
}

/// A live row's version by its path, for readers of records that must know what a change replaces.
pub fn live_version(conn: &Connection, source: SourceId, (dir, name): (&[u8], &[u8])) -> Result<Option<StoredVersion>> {
    let Some(dir) = find_dir(conn, source, dir)? else { return Ok(None) };
    Ok(live_row(conn, dir.id, name)?.map(|(stored, _)| stored))
}

/// Reads ahead for one source; writes nothing.
pub struct LookAhead<'c> {
    conn: &'c Connection,
    source: SourceId,
    interner: Interner,
    owners: HashMap<i64, Owner>,
}

impl<'c> LookAhead<'c> {
    /// Over what `conn` sees.
    pub fn new(conn: &'c Connection, source: SourceId) -> Self {
        Self { conn, source, interner: Interner::default(), owners: HashMap::new() }
    }

    /// What a change at `dir`/`name` replaces, and the hashes of both rows; `None` where none of this is wanted.
    pub fn look(&mut self, dir: &[u8], name: &[u8], change: &Change) -> Result<Option<Ahead>> {
        let Change::Put { version, content, .. } = change else { return Ok(None) };
        let full_path = path::join(dir, name);
        let old = match self.interner.known_dir(self.conn, self.source, dir)? {
            Some(dir_id) => live_row(self.conn, dir_id, name)?,
            None => None,
        };
        let old = match old {
            None => None,
            Some((stored, first_run)) => {
                let same = content.is_some_and(|id| stored.object == StoredObject::Content(id));
                let object = match &version.object {
                    Object::Content(hash) if same => Object::Content(*hash),
                    _ => stored.object.resolve(self.conn)?,
                };
                let attrs = attrs_by_id(self.conn, stored.attr)?;
                let old = stored.with((self.owner(stored.owner)?, object, attrs));
                Some(OldRow { hash: old.row_hash(&full_path), stored, first_run, version: old })
            }
        };
        Ok(Some(Ahead { hash: version.row_hash(&full_path), old }))
    }

    fn owner(&mut self, id: i64) -> Result<Owner> {
        if let Some(owner) = self.owners.get(&id) {
            return Ok(owner.clone());
        }
        if self.owners.len() >= OWNERS_MAX {
            self.owners.clear();
        }
        let owner = owner_by_id(self.conn, id)?;
        self.owners.insert(id, owner.clone());
        Ok(owner)
    }
}
