//! The state before a run, read directory by directory for the comparison with the walk.

use super::error::Result;
use super::row::{DETECTION_COLUMNS, StoredVersion, VERSION_COLUMNS, detection_from_row};
use crate::model::ids::{DirId, SourceId};
use crate::model::version::Detection;
use rusqlite::{Connection, params};

/// A live row.
#[derive(Debug, Clone)]
pub struct LiveEntry {
    /// Name in its directory; empty for the root itself.
    pub name: Vec<u8>,
    /// The version.
    pub version: StoredVersion,
    /// For finding it unchanged.
    pub detection: Detection,
}

/// The live rows of a directory in the order of their names' bytes: one range of the clustered index.
pub fn live_entries(conn: &Connection, dir: DirId) -> Result<Vec<LiveEntry>> {
    let sql = format!("SELECT name, {VERSION_COLUMNS}, {DETECTION_COLUMNS} FROM live WHERE dir = ?1 ORDER BY name");
    let mut select = conn.prepare_cached(&sql)?;
    let mut rows = select.query([dir.0])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(LiveEntry {
            name: row.get(0)?,
            version: StoredVersion::from_row(row, 1)?,
            detection: detection_from_row(row, 10)?,
        });
    }
    Ok(entries)
}

/// Rows that unfinished runs had put for a directory, in the order of their names: hints, not state.
pub fn pending_entries(conn: &Connection, source: SourceId, dir: DirId) -> Result<Vec<LiveEntry>> {
    let sql = format!(
        "SELECT name, {VERSION_COLUMNS}, {DETECTION_COLUMNS} FROM pending
         WHERE run IN (SELECT seq FROM runs WHERE source = ?1 AND state IN ('open', 'aborted')) AND dir = ?2 AND op = 1
         ORDER BY name, run"
    );
    let mut select = conn.prepare_cached(&sql)?;
    let mut rows = select.query(params![source.0, dir.0])?;
    let mut entries: Vec<LiveEntry> = Vec::new();
    while let Some(row) = rows.next()? {
        let entry = LiveEntry {
            name: row.get(0)?,
            version: StoredVersion::from_row(row, 1)?,
            detection: detection_from_row(row, 10)?,
        };
        match entries.last_mut() {
            Some(last) if last.name == entry.name => *last = entry,
            _ => entries.push(entry),
        }
    }
    Ok(entries)
}

/// Whether unfinished runs of a source left rows.
pub fn has_pending(conn: &Connection, source: SourceId) -> Result<bool> {
    Ok(conn.query_row(
        "SELECT EXISTS(SELECT 1 FROM pending WHERE run IN (SELECT seq FROM runs WHERE source = ?1))",
        [source.0],
        |row| row.get(0),
    )?)
}

/// A live directory as its inode names it: for finding renamed ones.
#[derive(Debug, Clone)]
pub struct KnownDir {
    /// Its path.
    pub path: Vec<u8>,
    /// Inode number.
    pub ino: u64,
    /// Birth.
    pub btime_ns: Option<i64>,
}

/// All live directories of a source.
pub fn known_dirs(conn: &Connection, source: SourceId) -> Result<Vec<KnownDir>> {
    let mut select = conn.prepare_cached(
        "SELECT d.path, l.name, l.ino, l.btime_ns FROM dirs d JOIN live l ON l.dir = d.id
         WHERE d.source = ?1 AND l.mode >> 12 = 4",
    )?;
    let mut rows = select.query([source.0])?;
    let mut known = Vec::new();
    while let Some(row) = rows.next()? {
        let (dir, name): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
        known.push(KnownDir {
            path: crate::model::path::join(&dir, &name),
            ino: row.get::<_, i64>(2)?.cast_unsigned(),
            btime_ns: row.get(3)?,
        });
    }
    Ok(known)
}
