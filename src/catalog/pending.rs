//! Rows of a run that is under way, kept out of memory and across a crash. Readers of versions never see them.

use super::error::{CatalogError, Result};
use super::interned::Interner;
use super::row::{DETECTION_COLUMNS, StoredObject, StoredVersion, VERSION_COLUMNS, detection_from_row};
use super::versions::Change;
use crate::model::ids::{ContentId, RunSeq, SourceId};
use crate::model::version::{Detection, EndReason};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};

const OP_PUT: i64 = 1;
const OP_TOUCH: i64 = 2;
const OP_END: i64 = 3;

/// A change with its place.
#[derive(Debug, Clone)]
pub struct PendingChange {
    /// Directory.
    pub dir: Vec<u8>,
    /// Name in it.
    pub name: Vec<u8>,
    /// What changes there.
    pub change: Change,
}

/// Writes changes of one run into `pending`.
#[derive(Debug)]
pub struct PendingWriter {
    source: SourceId,
    run: RunSeq,
    interner: Interner,
}

impl PendingWriter {
    /// For the changes of `run`.
    pub fn new(source: SourceId, run: RunSeq) -> Self {
        Self { source, run, interner: Interner::default() }
    }

    /// Forgets remembered numbers: to be called when a transaction that may have made them was undone.
    pub fn forget(&mut self) {
        self.interner = Interner::default();
    }

    /// Adds one change; its content is in the catalog already.
    pub fn put(&mut self, conn: &Connection, row: &PendingChange) -> Result<()> {
        let dir = self.interner.dir(conn, self.source, &row.dir)?;
        let nothing = Detection::default();
        let sql = "INSERT OR REPLACE INTO pending(run, dir, name, op, mode, owner, size, mtime_ns, btime_ns, obj, link,
                   attr, flags, ctime_ns, ino, nlink, marks)
                   VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)";
        let mut insert = conn.prepare_cached(sql)?;
        let mut add = |op: i64, version: Option<&StoredVersion>, object: StoredObject, detection: &Detection, btime| {
            insert.execute(params![
                self.run.0,
                dir.0,
                row.name,
                op,
                version.map_or(0, StoredVersion::st_mode),
                version.map_or(0, |version| version.owner),
                version.map_or(0, |version| version.size.cast_signed()),
                version.map_or(0, |version| version.mtime_ns),
                btime,
                object,
                version.map_or(0, |version| version.link),
                version.and_then(|version| version.attr),
                version.map_or(0, StoredVersion::flags),
                detection.ctime_ns,
                detection.ino.cast_signed(),
                detection.nlink,
                detection.marks.bits(),
            ])
        };
        match &row.change {
            Change::Put { version, content, detection } => {
                let stored = StoredVersion::intern(conn, &mut self.interner, version, *content)?;
                let object = stored.object.clone();
                add(OP_PUT, Some(&stored), object, detection, version.btime_ns)?;
            }
            Change::Touch { detection, btime_ns } => {
                add(OP_TOUCH, None, StoredObject::Nothing, detection, *btime_ns)?;
            }
            Change::End(reason) => {
                add(OP_END, None, StoredObject::Device(u64::from(*reason as u8)), &nothing, None)?;
            }
        }
        Ok(())
    }
}

/// Hands the changes of `run` to `each`, grouped by directory in the order in which directories were met.
pub fn for_each(conn: &Connection, run: RunSeq, each: &mut dyn FnMut(PendingChange) -> Result<()>) -> Result<()> {
    let sql = format!(
        "SELECT d.path, p.name, p.op, {VERSION_COLUMNS}, {DETECTION_COLUMNS} FROM pending p JOIN dirs d ON d.id = p.dir
         WHERE p.run = ?1 ORDER BY p.dir, p.name"
    );
    let mut select = conn.prepare(&sql)?;
    let mut rows = select.query([run.0])?;
    while let Some(row) = rows.next()? {
        let detection = detection_from_row(row, 12)?;
        let change = match row.get::<_, i64>(2)? {
            OP_PUT => {
                let stored = StoredVersion::from_row(row, 3)?;
                let content = match stored.object {
                    StoredObject::Content(id) => Some(id),
                    _ => None,
                };
                Change::Put { version: stored.resolve(conn)?, content, detection }
            }
            OP_TOUCH => Change::Touch { detection, btime_ns: row.get(7)? },
            OP_END => match row.get_ref(8)? {
                ValueRef::Integer(tag) => Change::End(
                    u8::try_from(tag)
                        .ok()
                        .and_then(EndReason::from_tag)
                        .ok_or_else(|| CatalogError::damaged("a pending row without a reason"))?,
                ),
                _ => return Err(CatalogError::damaged("a pending row without a reason")),
            },
            _ => return Err(CatalogError::damaged("a pending row of an unknown kind")),
        };
        each(PendingChange { dir: row.get(0)?, name: row.get(1)?, change })?;
    }
    Ok(())
}

/// Drops what unfinished runs of `source` left, up to and with `run`.
pub fn clear(conn: &Connection, source: SourceId, run: RunSeq) -> Result<()> {
    conn.prepare_cached("DELETE FROM pending WHERE run IN (SELECT seq FROM runs WHERE source = ?1 AND seq <= ?2)")?
        .execute(params![source.0, run.0])?;
    Ok(())
}

/// A content's number is all that a pending row keeps of a file's bytes.
pub fn content_of(change: &Change) -> Option<ContentId> {
    match change {
        Change::Put { content, .. } => *content,
        _ => None,
    }
}
