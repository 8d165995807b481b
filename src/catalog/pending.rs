//! Rows of a run that is under way, kept out of memory and across a crash. Readers of versions never see them.

use super::contents;
use super::error::{CatalogError, Result};
use super::interned::{Interner, attrs_by_id, owner_by_id};
use super::row::{DETECTION_COLUMNS, StoredObject, StoredVersion, VERSION_COLUMNS, detection_from_row};
use super::versions::Change;
use crate::model::content::Content;
use crate::model::ids::{ContentId, RunSeq, SourceId};
use crate::model::version::{Detection, EndReason, Object, Owner, Version};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

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

/// Takes a change, and the content of a file.
pub type ChangeVisitor<'v> = &'v mut dyn FnMut(PendingChange, Option<Content>) -> Result<()>;

/// Hands the changes of `run` to `each`, grouped by directory in the order in which directories were met.
pub fn for_each(conn: &Connection, run: RunSeq, each: ChangeVisitor<'_>) -> Result<()> {
    let columns = |list: &str| list.split(", ").map(|column| format!("p.{column}")).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT d.path, p.name, p.op, {}, {}, c.size, c.hash, c.chunk, c.n,
           EXISTS(SELECT 1 FROM extents e WHERE e.content = c.id)
         FROM pending p JOIN dirs d ON d.id = p.dir
         LEFT JOIN contents c ON p.op = {OP_PUT} AND p.mode >> 12 = 8 AND c.id = p.obj
         WHERE p.run = ?1 ORDER BY p.dir, p.name",
        columns(VERSION_COLUMNS),
        columns(DETECTION_COLUMNS)
    );
    let mut select = conn.prepare(&sql)?;
    let mut rows = select.query([run.0])?;
    let mut known = Known::default();
    while let Some(row) = rows.next()? {
        let detection = detection_from_row(row, 12)?;
        let mut content = None;
        let change = match row.get::<_, i64>(2)? {
            OP_PUT => {
                let (version, held) = known.put_from_row(conn, row)?;
                let id = held.as_ref().map(|(id, _)| *id);
                content = held.map(|(_, content)| content);
                Change::Put { version, content: id, detection }
            }
            OP_TOUCH => Change::Touch { detection, btime_ns: row.get(7)? },
            OP_END => Change::End(end_from_row(row)?),
            _ => return Err(CatalogError::damaged("a pending row of an unknown kind")),
        };
        each(PendingChange { dir: row.get(0)?, name: row.get(1)?, change }, content)?;
    }
    Ok(())
}

fn end_from_row(row: &Row<'_>) -> Result<EndReason> {
    let reason = match row.get_ref(8)? {
        ValueRef::Integer(tag) => u8::try_from(tag).ok().and_then(EndReason::from_tag),
        _ => None,
    };
    reason.ok_or_else(|| CatalogError::damaged("a pending row without a reason"))
}

/// Owners, of which there are few, and the attributes of the row before.
#[derive(Default)]
struct Known {
    owners: HashMap<i64, Owner>,
    attrs: Option<(i64, Vec<u8>)>,
}

impl Known {
    /// A row's version, and its content where it is a file.
    fn put_from_row(&mut self, conn: &Connection, row: &Row<'_>) -> Result<(Version, Option<(ContentId, Content)>)> {
        let stored = StoredVersion::from_row(row, 3)?;
        let (object, content) = match &stored.object {
            StoredObject::Content(id) => {
                if row.get_ref(16)? == ValueRef::Null {
                    return Err(CatalogError::damaged(format!("content {id} is missing")));
                }
                let content = contents::whole(conn, *id, contents::head_from_row(row, 16)?)?;
                (Object::Content(content.hash), Some((*id, content)))
            }
            StoredObject::Nothing => (Object::Nothing, None),
            StoredObject::Target(target) => (Object::Target(target.clone()), None),
            StoredObject::Device(number) => (Object::Device(*number), None),
        };
        let owner = match self.owners.entry(stored.owner) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => new.insert(owner_by_id(conn, stored.owner)?).clone(),
        };
        let attrs = self.attrs(conn, stored.attr)?;
        Ok((stored.with((owner, object, attrs)), content))
    }

    fn attrs(&mut self, conn: &Connection, id: Option<i64>) -> Result<Vec<u8>> {
        let Some(id) = id else { return Ok(Vec::new()) };
        if let Some((known, body)) = &self.attrs
            && *known == id
        {
            return Ok(body.clone());
        }
        let body = attrs_by_id(conn, Some(id))?;
        self.attrs = Some((id, body.clone()));
        Ok(body)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::catalog::settings::Settings;
    use crate::model::content::Extent;
    use crate::model::entry::EntryKind;
    use crate::model::ids::{ChunkNo, FileHash, RepositoryUuid};
    use crate::model::params::{ChunkerParams, Compression, HashAlgo, Reserve};

    fn catalog(dir: &std::path::Path) -> Catalog {
        let settings = Settings {
            repository: RepositoryUuid([1; 16]),
            hash: HashAlgo::Blake3,
            chunker: ChunkerParams { min: 1 << 18, avg: 1 << 20, max: 1 << 22, normalization: 2 },
            block_size: 1 << 20,
            compression: Compression::None,
            reserve: Reserve::Percent(1.0),
        };
        Catalog::create(&dir.join("backup.cat"), &settings).unwrap()
    }

    fn version(kind: EntryKind, object: Object, attrs: &[u8]) -> Version {
        let owner = Owner { uid: 7, gid: 8, user: b"u".to_vec(), group: Vec::new() };
        Version {
            kind,
            mode: 0o4750,
            owner,
            size: 0,
            mtime_ns: -5,
            btime_ns: Some(3),
            link: 2,
            inconsistent: kind == EntryKind::File,
            object,
            attrs: attrs.to_vec(),
        }
    }

    #[test]
    fn what_was_put_comes_back_with_its_content_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut catalog = catalog(dir.path());
        let tx = catalog.begin().unwrap();
        let extent = |at, chunk, n| Extent { at, chunk: ChunkNo(chunk), n };
        let contents = [
            Content { size: 0, hash: FileHash([1; 32]), extents: Vec::new() },
            Content { size: 9, hash: FileHash([2; 32]), extents: vec![extent(0, 4, 2)] },
            Content {
                size: 99,
                hash: FileHash([3; 32]),
                extents: vec![extent(0, 4, 2), extent(9, 0, 1), extent(50, 7, 1)],
            },
        ];
        let detection = Detection { ctime_ns: 11, ino: u64::MAX, nlink: 1, marks: Default::default() };
        let mut put: Vec<(Change, Option<Content>)> = contents
            .iter()
            .map(|content| {
                let id = contents::put(&tx, content).unwrap();
                let mut version = version(EntryKind::File, Object::Content(content.hash), b"\x02\x01\x40");
                version.size = content.size;
                (Change::Put { version, content: Some(id), detection }, Some(content.clone()))
            })
            .collect();
        for (kind, object) in [
            (EntryKind::Dir, Object::Nothing),
            (EntryKind::Symlink, Object::Target(b"\xff/..".to_vec())),
            // A number that is a content's as well.
            (EntryKind::BlockDevice, Object::Device(1)),
        ] {
            put.push((Change::Put { version: version(kind, object, b""), content: None, detection }, None));
        }
        put.push((Change::Touch { detection, btime_ns: Some(-1) }, None));
        put.extend([EndReason::Deleted, EndReason::Excluded].map(|reason| (Change::End(reason), None)));
        let mut writer = PendingWriter::new(SourceId(1), RunSeq(3));
        for (number, (change, _)) in (1_u8..).zip(&put) {
            let row = PendingChange { dir: b"d".to_vec(), name: vec![number], change: change.clone() };
            writer.put(&tx, &row).unwrap();
        }
        let mut found = Vec::new();
        for_each(&tx, RunSeq(3), &mut |row, content| {
            assert_eq!(row.dir, b"d");
            found.push((row.change, content));
            Ok(())
        })
        .unwrap();
        assert_eq!(format!("{found:?}"), format!("{put:?}"));
        for_each(&tx, RunSeq(2), &mut |row, _| unreachable!("{row:?} is of another run")).unwrap();
    }
}
