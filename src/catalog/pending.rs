//! Rows of a run that is under way, kept across a crash: the next run compares with them. Readers of versions never see
//! them.

use super::error::Result;
use super::interned::Interner;
use super::row::{StoredObject, StoredVersion};
use super::versions::Change;
use crate::model::ids::{ContentId, RunSeq, SourceId};
use crate::model::version::Detection;
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
    use crate::catalog::settings::Settings;
    use crate::catalog::{Catalog, contents, interned, state};
    use crate::model::content::{Content, Extent};
    use crate::model::entry::EntryKind;
    use crate::model::ids::{ChunkNo, FileHash, RepositoryUuid};
    use crate::model::params::{ChunkerParams, Compression, HashAlgo, Reserve};
    use crate::model::version::{EndReason, Object, Owner, Version};

    fn catalog(dir: &std::path::Path) -> Catalog {
        let settings = Settings {
            repository: RepositoryUuid([1; 16]),
            hash: HashAlgo::Blake3,
            chunker: ChunkerParams { min: 1 << 18, avg: 1 << 20, max: 1 << 22, normalization: 2 },
            block_size: 1 << 20,
            compression: Compression::None,
            reserve: Reserve::Percent(1.0),
            redundancy: crate::model::redundancy::Redundancy::None,
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
    fn what_was_put_is_what_the_next_run_compares_with_until_it_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let mut catalog = catalog(dir.path());
        let tx = catalog.begin().unwrap();
        let extent = |at, chunk, n| Extent { at, chunk: ChunkNo(chunk), n };
        let content = Content { size: 99, hash: FileHash([3; 32]), extents: vec![extent(0, 4, 2), extent(9, 0, 1)] };
        let id = contents::put(&tx, &content).unwrap();
        let detection = Detection { ctime_ns: 11, ino: u64::MAX, nlink: 1, marks: Default::default() };
        let mut file = version(EntryKind::File, Object::Content(content.hash), b"\x02\x01\x40");
        file.size = content.size;
        let link = version(EntryKind::Symlink, Object::Target(b"\xff/..".to_vec()), b"");
        let source = SourceId(1);
        let sql =
            "INSERT INTO runs(seq, uuid, source, kind, state, started_ns) VALUES(3, x'03', 1, 'backup', 'open', 1)";
        tx.execute(sql, []).unwrap();
        let mut writer = PendingWriter::new(source, RunSeq(3));
        let changes = [
            Change::Put { version: file.clone(), content: Some(id), detection },
            Change::Put { version: link.clone(), content: None, detection },
            Change::Touch { detection, btime_ns: Some(-1) },
            Change::End(EndReason::Deleted),
        ];
        for (number, change) in (1_u8..).zip(changes) {
            writer.put(&tx, &PendingChange { dir: b"d".to_vec(), name: vec![number], change }).unwrap();
        }
        let dir = interned::find_dir(&tx, source, b"d").unwrap().unwrap();
        let found = state::pending_entries(&tx, source, dir.id).unwrap();
        let seen: Vec<_> = found.iter().map(|row| (row.name.clone(), row.version.resolve(&tx).unwrap())).collect();
        assert_eq!(seen, [(vec![1], file), (vec![2], link)], "only what says what a name holds");
        assert!(found.iter().all(|row| row.detection == detection));
        clear(&tx, source, RunSeq(2)).unwrap();
        assert!(state::has_pending(&tx, source).unwrap());
        clear(&tx, source, RunSeq(3)).unwrap();
        assert!(!state::has_pending(&tx, source).unwrap());
    }
}
