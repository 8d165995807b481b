//! The file `index.db` itself: how it is opened, what makes its rows trustworthy, what SQLite's errors mean for it.
//!
//! Everything here may meet a hostile file. Changing rows is `index`'s.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::index::IndexProblem;
use super::store::StoreError;
use crate::format::layout;
use crate::model::ids::BlockId;

/// Marks the file as a volume's index (`RTvi`).
pub(super) const APPLICATION_ID: i64 = 0x5254_7669;
/// Version of the schema that this release writes.
pub(super) const SCHEMA_VERSION: i64 = 1;
/// Blocks of one volume at most: 512 TiB in full blocks. A hostile index must not fill the memory.
pub(super) const INDEX_BLOCKS_MAX: usize = 1 << 22;

/// How long another process may hold the file before it counts as busy.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) const META_SQL: &str = "CREATE TABLE meta(key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT";
pub(super) const BLOCKS_SQL: &str = "CREATE TABLE blocks(name BLOB PRIMARY KEY CHECK(length(name) = 32), \
     size INTEGER NOT NULL CHECK(size >= 0), verified_ns INTEGER) STRICT, WITHOUT ROWID";

/// Size and verify time by name.
pub(super) type Rows = BTreeMap<BlockId, (u64, Option<i64>)>;

/// Opens the file if it is one; never creates it, never follows a link.
pub(super) fn open(root: &Path, access: OpenFlags) -> Result<Connection, IndexProblem> {
    let path = root.join(layout::INDEX);
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(damaged("it is no regular file")),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(IndexProblem::Missing);
        }
        Err(source) => {
            let error = StoreError::from_io(layout::INDEX, "stat", source);
            return Err(IndexProblem::Store(error));
        }
    }
    connect(path, access)
}

pub(super) fn connect(path: PathBuf, access: OpenFlags) -> Result<Connection, IndexProblem> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(problem)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(problem)?;
    connection
        .execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;")
        .map_err(problem)?;
    Ok(connection)
}

/// Every row, after all that makes them trustworthy: our kind of file, our version, exactly our tables, the digest.
pub(super) fn checked_rows(connection: &Connection) -> Result<Rows, IndexProblem> {
    if pragma(connection, "application_id")? != APPLICATION_ID {
        return Err(damaged("it is not a volume's index"));
    }
    match pragma(connection, "user_version")? {
        SCHEMA_VERSION => {}
        version if version > SCHEMA_VERSION => return Err(IndexProblem::Newer { version }),
        _ => return Err(damaged("it was never finished")),
    }
    check_schema(connection)?;
    let rows = read_rows(connection)?;
    let stored: Vec<u8> =
        connection.query_row("SELECT value FROM meta WHERE key = 'digest'", [], |row| row.get(0)).map_err(problem)?;
    if stored != digest_of(&rows) {
        return Err(IndexProblem::DigestWrong);
    }
    Ok(rows)
}

fn pragma(connection: &Connection, name: &str) -> Result<i64, IndexProblem> {
    connection.pragma_query_value(None, name, |row| row.get(0)).map_err(problem)
}

/// A view or a trigger in the place of a table could do anything, so the schema must be ours to the letter.
fn check_schema(connection: &Connection) -> Result<(), IndexProblem> {
    let mut query = connection
        .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name LIMIT 3")
        .map_err(problem)?;
    let found = query
        .query_map([], |row| row.get::<_, String>(0))
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(problem)?;
    if found != [BLOCKS_SQL, META_SQL] {
        return Err(damaged("its tables are not those of an index"));
    }
    Ok(())
}

fn read_rows(connection: &Connection) -> Result<Rows, IndexProblem> {
    let mut query = connection.prepare("SELECT name, size, verified_ns FROM blocks ORDER BY name").map_err(problem)?;
    let found = query
        .query_map([], |row| {
            let name: [u8; 32] = row.get(0)?;
            let size: i64 = row.get(1)?;
            let size = u64::try_from(size).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(1, size))?;
            Ok((BlockId(name), (size, row.get(2)?)))
        })
        .map_err(problem)?;
    let mut rows = Rows::new();
    for row in found {
        let (id, facts) = row.map_err(problem)?;
        rows.insert(id, facts);
        if rows.len() > INDEX_BLOCKS_MAX {
            return Err(damaged("it lists more blocks than any volume holds"));
        }
    }
    Ok(rows)
}

/// BLAKE3 over the rows sorted by name: name, size, whether verified, when; integers little-endian, 8 bytes.
pub(super) fn digest_of(rows: &Rows) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for (id, (size, verified_ns)) in rows {
        hasher.update(&id.0);
        hasher.update(&size.to_le_bytes());
        hasher.update(&[u8::from(verified_ns.is_some())]);
        hasher.update(&verified_ns.unwrap_or(0).to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}

pub(super) fn damaged(what: &str) -> IndexProblem {
    IndexProblem::Damaged { what: what.to_owned() }
}

/// What a SQLite error means here.
pub(super) fn problem(error: rusqlite::Error) -> IndexProblem {
    use rusqlite::ffi::{SQLITE_READONLY_CANTINIT, SQLITE_READONLY_RECOVERY, SQLITE_READONLY_ROLLBACK};
    if let rusqlite::Error::SqliteFailure(code, _) = &error {
        match (code.code, code.extended_code) {
            (_, SQLITE_READONLY_ROLLBACK) => return IndexProblem::Interrupted,
            (_, SQLITE_READONLY_RECOVERY | SQLITE_READONLY_CANTINIT) => {
                return damaged("it is in a journal mode that an index never has");
            }
            (ErrorCode::DiskFull, _) => return IndexProblem::NoSpace,
            (ErrorCode::ReadOnly, _) => return IndexProblem::ReadOnly,
            (
                ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::Unknown
                | ErrorCode::TypeMismatch
                | ErrorCode::ConstraintViolation,
                _,
            ) => {
                return IndexProblem::Damaged { what: error.to_string() };
            }
            _ => return IndexProblem::Sql(error),
        }
    }
    // A row of the wrong type or range, or a meta row that is not there.
    IndexProblem::Damaged { what: error.to_string() }
}
