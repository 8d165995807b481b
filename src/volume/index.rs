//! A volume's own index, `index.db`: which blocks it holds, how long they are, when each was last verified. No chunk
//! ids, no paths.
//!
//! It is a cache. Whoever finds it missing or wrong rebuilds it from the listing of `chunks/` with [`IndexDb::replace`],
//! under the volume's lock; nothing is promised on its word alone. A digest over its rows, checked at every load, tells
//! a damaged index from a sound one. The connection lives for one call, so that the file may be replaced between calls.

use std::path::Path;

use rusqlite::{OpenFlags, Transaction, TransactionBehavior, params};
use rustix::fs::Mode;

use super::durable;
use super::index_file::{
    APPLICATION_ID, BLOCKS_SQL, META_SQL, Rows, SCHEMA_VERSION, checked_rows, connect, damaged, digest_of, open,
    problem,
};
use super::root::Root;
use super::store::{Existing, StoreError};
use crate::format::layout;
use crate::model::ids::BlockId;

/// One block, as the index knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexedBlock {
    /// Its name.
    pub id: BlockId,
    /// Length of its file in bytes.
    pub size: u64,
    /// When its bytes were last found to hash to its name, in nanoseconds since 1970.
    pub verified_ns: Option<i64>,
}

/// Why an index cannot be gone by, or was not written.
#[derive(Debug, thiserror::Error)]
pub enum IndexProblem {
    /// There is no such file.
    #[error("the volume's index is missing")]
    Missing,
    /// Not the database that was written: another kind of file, a foreign schema, broken pages, impossible rows.
    #[error("the volume's index is damaged: {what}")]
    Damaged {
        /// What does not hold.
        what: String,
    },
    /// The database is sound, but its rows are not those that were written.
    #[error("the volume's index does not match its own digest")]
    DigestWrong,
    /// Written by a later release.
    #[error("the volume's index has version {version}, this release knows {SCHEMA_VERSION}")]
    Newer {
        /// The version that it has.
        version: i64,
    },
    /// A change was cut off; the next [`IndexDb::update`] undoes it, and so does a rebuild.
    #[error("a change of the volume's index was interrupted")]
    Interrupted,
    /// The disk is full.
    #[error("no space left for the volume's index")]
    NoSpace,
    /// The file system is read-only.
    #[error("the volume's index cannot be written: the file system is read-only")]
    ReadOnly,
    /// Anything else that SQLite says.
    #[error("the volume's index: {0}")]
    Sql(#[source] rusqlite::Error),
    /// The file could not be put in its place.
    #[error(transparent)]
    Store(StoreError),
}

/// The index of the volume in a directory.
pub struct IndexDb;

impl IndexDb {
    /// All blocks, sorted by name. Writes nothing, also where the last change was cut off.
    pub fn load(root: &Path) -> Result<Vec<IndexedBlock>, IndexProblem> {
        let connection = open(root, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let rows = checked_rows(&connection)?;
        let block = |(id, (size, verified_ns))| IndexedBlock { id, size, verified_ns };
        Ok(rows.into_iter().map(block).collect())
    }

    /// Adds, removes and marks blocks in one transaction, durable on return. Adding one that is there replaces its
    /// row; removing or marking one that is not there does nothing. Removals come first, marks last. An index that
    /// [`Self::load`] would refuse is left as it is, except that an interrupted change is undone.
    pub fn update(
        root: &Path,
        added: &[IndexedBlock],
        removed: &[BlockId],
        verified: &[(BlockId, i64)],
    ) -> Result<(), IndexProblem> {
        let mut connection = open(root, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        // EXTRA is FULL and also syncs the directory after the journal is gone: else a power cut could bring the
        // journal back and undo the change.
        connection.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = EXTRA;").map_err(problem)?;
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(problem)?;
        let mut rows = checked_rows(&change)?;
        for id in removed {
            if rows.remove(id).is_some() {
                delete_row(&change, id)?;
            }
        }
        for block in added {
            rows.insert(block.id, (block.size, block.verified_ns));
            put_row(&change, block)?;
        }
        for (id, verified_ns) in verified {
            if let Some((size, verified)) = rows.get_mut(id) {
                *verified = Some(*verified_ns);
                let (id, size) = (*id, *size);
                put_row(&change, &IndexedBlock { id, size, verified_ns: *verified })?;
            }
        }
        put_digest(&change, &rows)?;
        change.commit().map_err(problem)
    }

    /// Writes an index that holds exactly these blocks, durable on return, in place of whatever is there.
    pub fn replace(root: &Path, blocks: &[IndexedBlock]) -> Result<(), IndexProblem> {
        let held = Root::open(root)
            .map_err(|errno| IndexProblem::Store(StoreError::from_io(layout::INDEX, "open", errno.into())))?;
        // Nothing is made in a directory that is no volume: the path may be an empty mount point by now. While a
        // volume is created, `tmp/` is there before the label.
        if held.stat(layout::LABEL).map_err(IndexProblem::Store)?.is_some() {
            held.make_dir(layout::TMP).map_err(IndexProblem::Store)?;
        }
        let part = layout::tmp_key(&format!("{}.index", uuid::Uuid::new_v4()));
        let placed =
            build(&root.join(&part), blocks).and_then(|()| put_in_place(&held, &part).map_err(IndexProblem::Store));
        if placed.is_err() {
            // Whatever stays is swept at the next start.
            let _ = held.unlink(&part);
        }
        placed
    }
}

fn put_row(change: &Transaction<'_>, block: &IndexedBlock) -> Result<(), IndexProblem> {
    let mut put = change
        .prepare_cached("INSERT OR REPLACE INTO blocks(name, size, verified_ns) VALUES (?1, ?2, ?3)")
        .map_err(problem)?;
    let size = i64::try_from(block.size).map_err(|_| damaged("a block longer than any file"))?;
    put.execute(params![&block.id.0[..], size, block.verified_ns]).map_err(problem)?;
    Ok(())
}

fn delete_row(change: &Transaction<'_>, id: &BlockId) -> Result<(), IndexProblem> {
    let mut delete = change.prepare_cached("DELETE FROM blocks WHERE name = ?1").map_err(problem)?;
    delete.execute(params![&id.0[..]]).map_err(problem)?;
    Ok(())
}

fn put_digest(change: &Transaction<'_>, rows: &Rows) -> Result<(), IndexProblem> {
    let digest = digest_of(rows);
    change
        .execute("INSERT OR REPLACE INTO meta(key, value) VALUES ('digest', ?1)", params![&digest[..]])
        .map_err(problem)?;
    Ok(())
}

/// Writes a whole new database under `tmp/`. Needs no journal: nobody sees the file before it is sealed.
fn build(path: &Path, blocks: &[IndexedBlock]) -> Result<(), IndexProblem> {
    let access = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut connection = connect(path.to_owned(), access)?;
    connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;").map_err(problem)?;
    let change = connection.transaction().map_err(problem)?;
    change
        .execute_batch(&format!(
            "{META_SQL};{BLOCKS_SQL};\
             PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
        ))
        .map_err(problem)?;
    let mut rows = Rows::new();
    for block in blocks {
        rows.insert(block.id, (block.size, block.verified_ns));
        put_row(&change, block)?;
    }
    put_digest(&change, &rows)?;
    change.commit().map_err(problem)?;
    connection.close().map_err(|(_, error)| problem(error))
}

/// Seals the new file and renames it. A journal left by the old file would be played back into the new one, so all
/// such are gone, durably, before.
fn put_in_place(root: &Root, part: &str) -> Result<(), StoreError> {
    let file = root.open_to_seal(part)?;
    let len = file.metadata().map_err(|source| StoreError::from_io(part, "stat", source))?.len();
    durable::set_mode(&file, part, Mode::RUSR | Mode::WUSR)?;
    durable::seal(&file, part, len)?;
    let mut is_changed = false;
    for left in layout::INDEX_LEFTOVERS {
        match root.unlink(left) {
            Err(StoreError::NotFound { .. }) => {}
            unlinked => {
                unlinked?;
                is_changed = true;
            }
        }
    }
    if is_changed {
        durable::sync_dir_of(root, "")?;
    }
    durable::place(root, part, layout::INDEX, Existing::Replace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;
    use std::os::unix::fs::FileExt;
    use tempfile::TempDir;

    fn block(byte: u8) -> IndexedBlock {
        IndexedBlock { id: BlockId([byte; 32]), size: u64::from(byte) * 1000, verified_ns: None }
    }

    fn bare() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(layout::TMP)).unwrap();
        dir
    }

    fn with(blocks: &[IndexedBlock]) -> TempDir {
        let dir = bare();
        IndexDb::replace(dir.path(), blocks).unwrap();
        dir
    }

    fn shell(dir: &TempDir, sql: &str) {
        let connection = Connection::open(dir.path().join(layout::INDEX)).unwrap();
        connection.execute_batch(sql).unwrap();
    }

    #[test]
    fn what_was_replaced_and_updated_is_loaded_sorted() {
        let dir = with(&[block(3), block(1)]);
        assert_eq!(IndexDb::load(dir.path()).unwrap(), [block(1), block(3)]);
        let marks = [(block(2).id, 77), (block(9).id, 78)];
        IndexDb::update(dir.path(), &[block(2)], &[block(3).id, block(8).id], &marks).unwrap();
        let two = IndexedBlock { verified_ns: Some(77), ..block(2) };
        assert_eq!(IndexDb::load(dir.path()).unwrap(), [block(1), two]);
        let left: Vec<_> = std::fs::read_dir(dir.path().join("tmp")).unwrap().collect();
        assert!(left.is_empty());
    }

    #[test]
    fn a_missing_index_is_missing_and_nothing_is_created() {
        let dir = tempfile::tempdir().unwrap();
        let loaded = IndexDb::load(dir.path());
        assert!(matches!(loaded, Err(IndexProblem::Missing)));
        let updated = IndexDb::update(dir.path(), &[block(1)], &[], &[]);
        assert!(matches!(updated, Err(IndexProblem::Missing)));
        assert!(IndexDb::replace(dir.path(), &[]).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn garbage_in_its_place_is_damage_and_is_replaced() {
        let dir = bare();
        let path = dir.path().join(layout::INDEX);
        for garbage in [&b"x"[..], &[0xa5; 5000], b"SQLite format 3\0"] {
            std::fs::write(&path, garbage).unwrap();
            let loaded = IndexDb::load(dir.path());
            assert!(matches!(loaded, Err(IndexProblem::Damaged { .. })), "{loaded:?}");
            let updated = IndexDb::update(dir.path(), &[block(1)], &[], &[]);
            assert!(matches!(updated, Err(IndexProblem::Damaged { .. })), "{updated:?}");
            IndexDb::replace(dir.path(), &[block(1)]).unwrap();
            assert_eq!(IndexDb::load(dir.path()).unwrap(), [block(1)]);
        }
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(IndexDb::load(dir.path()), Err(IndexProblem::Damaged { .. })));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(matches!(IndexDb::load(dir.path()), Err(IndexProblem::Damaged { .. })));
    }

    #[test]
    fn a_changed_row_is_told_by_the_digest_and_an_update_does_not_bless_it() {
        for sql in [
            "UPDATE blocks SET size = 1",
            "UPDATE blocks SET verified_ns = 5",
            "DELETE FROM blocks WHERE name = x'0101010101010101010101010101010101010101010101010101010101010101'",
        ] {
            let dir = with(&[block(1), block(2)]);
            shell(&dir, sql);
            assert!(matches!(IndexDb::load(dir.path()), Err(IndexProblem::DigestWrong)));
            let updated = IndexDb::update(dir.path(), &[block(3)], &[], &[]);
            assert!(matches!(updated, Err(IndexProblem::DigestWrong)));
        }
    }

    #[test]
    fn a_foreign_schema_is_damage_however_it_looks() {
        for sql in [
            "DROP TABLE blocks; CREATE VIEW blocks(name, size, verified_ns) AS
             WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT zeroblob(32), x, 1 FROM n",
            "CREATE TABLE zz(x)",
            "CREATE TRIGGER t AFTER INSERT ON blocks BEGIN DELETE FROM blocks; END",
            "DELETE FROM meta",
            "PRAGMA application_id = 7",
            "PRAGMA user_version = 0",
        ] {
            let dir = with(&[block(1)]);
            shell(&dir, sql);
            let loaded = IndexDb::load(dir.path());
            assert!(matches!(loaded, Err(IndexProblem::Damaged { .. })), "{sql}: {loaded:?}");
        }
        let dir = with(&[]);
        shell(&dir, "PRAGMA user_version = 2");
        assert!(matches!(IndexDb::load(dir.path()), Err(IndexProblem::Newer { version: 2 })));
    }

    #[test]
    fn no_flipped_byte_panics_or_changes_what_is_loaded() {
        let blocks: Vec<_> = (1..=60).map(block).collect();
        let dir = with(&blocks);
        let path = dir.path().join(layout::INDEX);
        let sound = std::fs::read(&path).unwrap();
        for at in (0..sound.len()).step_by(7) {
            // In place: some file systems write a truncated and rewritten file to the disk at once.
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            let put = |byte| file.write_all_at(&[byte], at as u64).unwrap();
            put(sound[at] ^ 0x41);
            if let Ok(loaded) = IndexDb::load(dir.path()) {
                assert_eq!(loaded, blocks, "byte {at}");
            }
            put(sound[at]);
        }
    }

    #[test]
    fn a_change_that_was_cut_off_is_named_and_undone_by_the_next() {
        let dir = with(&[block(1)]);
        let (db, journal) = (dir.path().join(layout::INDEX), dir.path().join(layout::INDEX_JOURNAL));
        let mut connection = Connection::open(&db).unwrap();
        connection.execute_batch("PRAGMA cache_size = 1; PRAGMA cache_spill = 1; PRAGMA synchronous = OFF").unwrap();
        let change = connection.transaction().unwrap();
        // Enough to spill from the cache into the file before the end.
        for number in 0..20_000_u32 {
            let mut block = block(1);
            block.id.0[..4].copy_from_slice(&number.to_le_bytes());
            put_row(&change, &block).unwrap();
        }
        let (torn, left) = (std::fs::read(&db).unwrap(), std::fs::read(&journal).unwrap());
        drop(change);
        drop(connection);
        std::fs::write(&db, torn).unwrap();
        std::fs::write(&journal, left).unwrap();
        let loaded = IndexDb::load(dir.path());
        assert!(matches!(loaded, Err(IndexProblem::Interrupted)), "{loaded:?}");
        IndexDb::update(dir.path(), &[], &[], &[]).unwrap();
        assert_eq!(IndexDb::load(dir.path()).unwrap(), [block(1)]);
    }

    #[test]
    fn a_journal_of_the_old_file_is_not_played_into_a_new_one() {
        let dir = with(&[block(1)]);
        for left in layout::INDEX_LEFTOVERS {
            std::fs::write(dir.path().join(left), [0xd9; 4096]).unwrap();
        }
        IndexDb::replace(dir.path(), &[block(2)]).unwrap();
        for left in layout::INDEX_LEFTOVERS {
            assert!(!dir.path().join(left).exists());
        }
        assert_eq!(IndexDb::load(dir.path()).unwrap(), [block(2)]);
    }
}
