//! Names that rows refer to by number: directories, owners, attribute bodies. Written when first met, never deleted.

use super::error::Result;
use crate::model::ids::{DirId, SourceId, VolumeId};
use crate::model::version::Owner;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;

/// Directories remembered by an [`Interner`] at most; then it starts afresh.
const REMEMBERED_MAX: usize = 10_000;

/// A directory's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirRow {
    /// Its number.
    pub id: DirId,
    /// It was a mount point when last seen.
    pub was_mount_point: bool,
    /// Inodes below this mount point are known to change.
    pub inodes_untrusted: bool,
    /// Volume that its chunks go to.
    pub volume: Option<VolumeId>,
}

/// Looks names up and adds those that are missing, remembering what it met.
#[derive(Debug, Default)]
pub struct Interner {
    dirs: HashMap<(SourceId, Vec<u8>), DirId>,
    /// The directory that was asked for last: rows come directory by directory.
    last_dir: Option<((SourceId, Vec<u8>), DirId)>,
    owners: HashMap<Owner, i64>,
}

impl Interner {
    /// The number of a directory.
    pub fn dir(&mut self, conn: &Connection, source: SourceId, path: &[u8]) -> Result<DirId> {
        if let Some(id) = self.known_dir(conn, source, path)? {
            return Ok(id);
        }
        conn.prepare_cached("INSERT INTO dirs(source, path) VALUES(?1, ?2)")?.execute(params![source.0, path])?;
        let id = DirId(conn.last_insert_rowid());
        self.remember((source, path.to_vec()), id);
        Ok(id)
    }

    /// The number of a directory, if its name was ever met.
    pub fn known_dir(&mut self, conn: &Connection, source: SourceId, path: &[u8]) -> Result<Option<DirId>> {
        if let Some((last, id)) = &self.last_dir
            && last.0 == source
            && last.1 == path
        {
            return Ok(Some(*id));
        }
        let key = (source, path.to_vec());
        let id = match self.dirs.get(&key) {
            Some(id) => Some(*id),
            None => find_dir(conn, source, path)?.map(|row| row.id),
        };
        if let Some(id) = id {
            self.remember(key, id);
        }
        Ok(id)
    }

    fn remember(&mut self, key: (SourceId, Vec<u8>), id: DirId) {
        if self.dirs.len() >= REMEMBERED_MAX {
            self.dirs.clear();
        }
        self.dirs.insert(key.clone(), id);
        self.last_dir = Some((key, id));
    }

    /// The number of an owner.
    pub fn owner(&mut self, conn: &Connection, owner: &Owner) -> Result<i64> {
        if let Some(id) = self.owners.get(owner) {
            return Ok(*id);
        }
        let values = params![owner.uid, owner.gid, owner.user, owner.group];
        let known = conn
            .prepare_cached("SELECT id FROM owners WHERE uid = ?1 AND gid = ?2 AND uname = ?3 AND gname = ?4")?
            .query_row(values, |row| row.get(0))
            .optional()?;
        let id = match known {
            Some(id) => id,
            None => {
                conn.prepare_cached("INSERT INTO owners(uid, gid, uname, gname) VALUES(?1, ?2, ?3, ?4)")?
                    .execute(values)?;
                conn.last_insert_rowid()
            }
        };
        self.owners.insert(owner.clone(), id);
        Ok(id)
    }

    /// The number of an attribute body; `None` for an empty one.
    pub fn attrs(&self, conn: &Connection, body: &[u8]) -> Result<Option<i64>> {
        if body.is_empty() {
            return Ok(None);
        }
        let hash = *blake3::hash(body).as_bytes();
        let known = conn
            .prepare_cached("SELECT id FROM attrs WHERE hash = ?1")?
            .query_row([hash], |row| row.get(0))
            .optional()?;
        if known.is_some() {
            return Ok(known);
        }
        conn.prepare_cached("INSERT INTO attrs(hash, body) VALUES(?1, ?2)")?.execute(params![hash, body])?;
        Ok(Some(conn.last_insert_rowid()))
    }
}

/// A directory's row, if its name was ever met.
pub fn find_dir(conn: &Connection, source: SourceId, path: &[u8]) -> Result<Option<DirRow>> {
    let row = conn
        .prepare_cached("SELECT id, mount, volume FROM dirs WHERE source = ?1 AND path = ?2")?
        .query_row(params![source.0, path], |row| {
            let mount: i64 = row.get(1)?;
            Ok(DirRow {
                id: DirId(row.get(0)?),
                was_mount_point: mount & 1 != 0,
                inodes_untrusted: mount & 2 != 0,
                volume: row.get::<_, Option<i64>>(2)?.map(VolumeId),
            })
        })
        .optional()?;
    Ok(row)
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

/// Sets what is known of a directory as a mount point.
pub fn set_mount(conn: &Connection, dir: DirId, is_mount_point: bool, inodes_untrusted: bool) -> Result<()> {
    let bits = i64::from(is_mount_point) | i64::from(inodes_untrusted) << 1;
    conn.prepare_cached("UPDATE dirs SET mount = ?2 WHERE id = ?1")?.execute(params![dir.0, bits])?;
    Ok(())
}

/// Sets the volume that a directory's chunks go to.
pub fn set_affinity(conn: &Connection, dir: DirId, volume: VolumeId) -> Result<()> {
    conn.prepare_cached("UPDATE dirs SET volume = ?2 WHERE id = ?1")?.execute(params![dir.0, volume.0])?;
    Ok(())
}

/// An owner by number.
pub fn owner_by_id(conn: &Connection, id: i64) -> Result<Owner> {
    Ok(conn.prepare_cached("SELECT uid, gid, uname, gname FROM owners WHERE id = ?1")?.query_row([id], |row| {
        Ok(Owner { uid: row.get(0)?, gid: row.get(1)?, user: row.get(2)?, group: row.get(3)? })
    })?)
}

/// An attribute body by number; empty for `None`.
pub fn attrs_by_id(conn: &Connection, id: Option<i64>) -> Result<Vec<u8>> {
    match id {
        None => Ok(Vec::new()),
        Some(id) => {
            Ok(conn.prepare_cached("SELECT body FROM attrs WHERE id = ?1")?.query_row([id], |row| row.get(0))?)
        }
    }
}
