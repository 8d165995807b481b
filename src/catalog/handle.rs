//! Opening, creating, locking and configuring the catalog's file. The file and its WAL are touched by SQLite alone:
//! closing them by other means would drop SQLite's locks.

use super::error::{CatalogError, Result};
use super::keys;
use super::settings::Settings;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use rustix::fs::Access;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `RTcA`: marks the file as a RaidTape catalog.
const APPLICATION_ID: i64 = 0x5254_6341;
/// First bytes of a file by which a catalog is known.
pub const CATALOG_HEAD_LEN: usize = 72;
/// What the names of the files beside a catalog end in.
pub const CATALOG_ENDINGS: [&str; 4] = ["-wal", "-shm", "-journal", ".lock"];
/// The schema that this release writes. It reads those before as they are.
const SCHEMA_VERSION: i64 = 5;
/// What brings a catalog from schema 1 to 2, and so on.
const STEPS: [&str; 4] = [
    "ALTER TABLE runs ADD COLUMN selected INTEGER; ALTER TABLE runs ADD COLUMN roots TEXT;",
    // Nothing to change: a release that knows neither further copies nor removed volumes must not write it.
    "",
    "ALTER TABLE parity_groups ADD COLUMN uuid BLOB;
     CREATE UNIQUE INDEX parity_groups_by_uuid ON parity_groups(uuid);
     CREATE INDEX parity_members_by_block ON parity_members(block);",
    keys::STEP,
];
/// How long a statement waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(20);
/// Statements kept prepared; there are about so many in this room.
const STATEMENT_CACHE: usize = 128;
/// Pages that the writer keeps in memory, and a reader beside it.
const CACHE_KIB: i64 = 16 << 10;
const READER_CACHE_KIB: i64 = 4 << 10;
/// The oldest SQLite whose WAL is safe under concurrent checkpoints.
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// An open catalog.
pub struct Catalog {
    pub(super) conn: Connection,
    path: PathBuf,
    settings: Settings,
}

/// Keeps other processes from writing the catalog; gone when dropped or when the process dies.
#[derive(Debug)]
pub struct CatalogLock {
    _file: File,
}

/// One state of the catalog, until it is dropped; see [`Catalog::reading`].
pub struct Reading<'c> {
    conn: &'c Connection,
    is_outermost: bool,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        // Nothing was written, so that there is nothing to lose.
        if self.is_outermost && !self.conn.is_autocommit() {
            let ended = self.conn.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
            if ended.is_err() {
                let _ = self.conn.execute_batch("ROLLBACK");
            }
        }
    }
}

impl Catalog {
    /// Creates a catalog with its folder, for the lock's holder; refuses to touch an existing file. What a crash
    /// leaves is no catalog: see [`super::replace::create`].
    pub fn create(path: &Path, settings: &Settings) -> Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(CatalogError::Exists(path.to_owned()));
        }
        make_folder(path)?;
        let io = |source| CatalogError::Io { path: path.to_owned(), source };
        // SQLite would create the file with the umask's mode; made here first, it is the owner's alone.
        drop(OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?);
        let mut conn = connect(path)?;
        configure(&conn)?;
        let tx = conn.transaction_with_behavior(TransactionBehavior::Exclusive)?;
        tx.execute_batch(include_str!("schema.sql"))?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        settings.store(&tx)?;
        tx.commit()?;
        sync_folder(path).map_err(io)?;
        Ok(Self { conn, path: path.to_owned(), settings: settings.clone() })
    }

    /// Opens an existing catalog; checks that it is one and of a schema that this release knows.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.try_exists().map_err(|source| CatalogError::Io { path: path.to_owned(), source })? {
            return Err(CatalogError::Missing(path.to_owned()));
        }
        if path.is_dir() {
            return Err(CatalogError::Foreign(path.to_owned()));
        }
        Self::open_there(path).map_err(|error| match error {
            CatalogError::Sql(cause) if is_for_want_of_writing(&cause, path) => {
                CatalogError::NotWritable(path.to_owned())
            }
            other => other,
        })
    }

    fn open_there(path: &Path) -> Result<Self> {
        let conn = connect(path)?;
        // Before anything is set: somebody else's database stays as it is to the last byte.
        let application: i64 = pragma(&conn, "application_id", path)?;
        if application != APPLICATION_ID {
            return Err(CatalogError::Foreign(path.to_owned()));
        }
        let found: i64 = pragma(&conn, "user_version", path)?;
        if found > SCHEMA_VERSION {
            return Err(CatalogError::Newer { path: path.to_owned(), found, known: SCHEMA_VERSION });
        }
        configure(&conn)?;
        see_as_newer(&conn, found)?;
        let settings = Settings::load(&conn)?;
        Ok(Self { conn, path: path.to_owned(), settings })
    }

    /// Brings a catalog of an earlier release to the schema of this one, for the lock's holder. Readers of that release
    /// refuse it from then on.
    pub fn step_up(&mut self) -> Result<()> {
        let path = self.path.clone();
        if pragma(&self.conn, "user_version", &path)? >= SCHEMA_VERSION {
            return Ok(());
        }
        let tx = self.begin()?;
        let found = pragma(&tx, "user_version", &path)?;
        let done = usize::try_from(found - 1).map_err(|_| CatalogError::damaged("its schema has no number"))?;
        STEPS.iter().skip(done).try_for_each(|step| tx.execute_batch(step))?;
        tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        Ok(tx.commit()?)
    }

    /// A further connection to the same file, for reading beside the writer. A run has several, each with a small cache:
    /// the system's is behind it.
    pub fn reader(&self) -> Result<Self> {
        let conn = connect(&self.path)?;
        configure(&conn)?;
        see_as_newer(&conn, pragma(&conn, "user_version", &self.path)?)?;
        conn.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        Ok(Self { conn, path: self.path.clone(), settings: self.settings.clone() })
    }

    /// Takes the lock file beside the catalog, without waiting.
    pub fn lock(path: &Path) -> Result<CatalogLock> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock_path = PathBuf::from(name);
        let io = |source| CatalogError::Io { path: lock_path.clone(), source };
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock_path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(CatalogLock { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => Err(CatalogError::Locked(path.to_owned())),
            Err(std::fs::TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// Whether another process holds the lock beside the catalog. Makes no file; the look itself lasts an instant, and
    /// is to be had only where it matters: who starts just then finds the lock taken.
    pub fn is_locked(&self) -> Result<bool> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".lock");
        let lock_path = PathBuf::from(name);
        let io = |source| CatalogError::Io { path: lock_path.clone(), source };
        let file = match File::open(&lock_path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(io(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(std::fs::TryLockError::WouldBlock) => Ok(true),
            Err(std::fs::TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was chosen at `init`.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Begins a writing transaction; dropping it undoes it.
    pub fn begin(&mut self) -> Result<Transaction<'_>> {
        Ok(self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?)
    }

    /// Holds one state of the catalog for several reads, and spares each its own locks. SQLite's log cannot be
    /// shortened meanwhile, so it is for short whiles.
    pub fn reading(&self) -> Result<Reading<'_>> {
        let is_outermost = self.conn.is_autocommit();
        if is_outermost {
            self.conn.prepare_cached("BEGIN DEFERRED")?.execute([])?;
        }
        Ok(Reading { conn: &self.conn, is_outermost })
    }

    /// The connection, for reading.
    pub fn conn(&self) -> &Connection {
        &self.conn
    }

    /// Moves the WAL into the file and truncates it, as far as readers allow: nobody is waited for.
    pub fn checkpoint(&self) -> Result<()> {
        self.conn.busy_timeout(Duration::ZERO)?;
        let moved = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        self.conn.busy_timeout(BUSY_TIMEOUT)?;
        Ok(moved?)
    }

    /// Asks SQLite to check the whole file's structure.
    pub fn quick_check(&self) -> Result<()> {
        let answer: String = self.conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if answer == "ok" { Ok(()) } else { Err(CatalogError::Damaged(answer)) }
    }
}

/// Whether a file that begins so is a RaidTape catalog: <https://www.sqlite.org/fileformat2.html>, offset 68.
pub fn is_catalog_head(head: &[u8]) -> bool {
    let application = head.get(68..CATALOG_HEAD_LEN).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    head.starts_with(b"SQLite format 3\0")
        && application.is_some_and(|bytes| i64::from(u32::from_be_bytes(bytes)) == APPLICATION_ID)
}

/// Makes the folder that a catalog is to lie in, for its owner alone.
pub fn make_folder(path: &Path) -> Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| CatalogError::Io { path: folder.to_owned(), source })
}

fn connect(path: &Path) -> Result<Connection> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        return Err(CatalogError::damaged(format!("SQLite {} is too old", rusqlite::version())));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    // Otherwise SQLite plans a statement anew for each value that is bound to it, which takes longer than the reading.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(conn)
}

/// Whether SQLite could read the catalog, and fails because it may not write it or its folder.
fn is_for_want_of_writing(error: &rusqlite::Error, path: &Path) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, ReadOnly};
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let allowed = |path: &Path, access| rustix::fs::access(path, access).is_ok();
    matches!(error.sqlite_error_code(), Some(ReadOnly | CannotOpen))
        && allowed(path, Access::READ_OK)
        && !(allowed(path, Access::WRITE_OK) && allowed(folder, Access::WRITE_OK | Access::EXEC_OK))
}

fn configure(conn: &Connection) -> Result<()> {
    conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
    conn.pragma_update(None, "temp_store", "memory")?;
    Ok(())
}

/// Lets this connection read an older schema by the names of the newer one, where it could not otherwise.
fn see_as_newer(conn: &Connection, found: i64) -> Result<()> {
    if found < 5 { Ok(conn.execute_batch(keys::OLDER_VIEWS)?) } else { Ok(()) }
}

fn pragma(conn: &Connection, name: &str, path: &Path) -> Result<i64> {
    conn.pragma_query_value(None, name, |row| row.get(0)).map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => CatalogError::Foreign(path.to_owned()),
        _ => error.into(),
    })
}

/// Makes the names in a catalog's folder durable, and the folder's own, and those of the folders above it, which may
/// have been made for it: up to the root of the file system. A folder above that may not be read cannot be synced;
/// it was there before.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut folder = folder.to_owned();
    File::open(&folder)?.sync_all()?;
    let identity = |dir: &Path| dir.metadata().map(|found| (found.dev(), found.ino()));
    loop {
        let above = folder.join("..");
        let (own, next) = (identity(&folder)?, identity(&above)?);
        if own == next || own.0 != next.0 {
            return Ok(());
        }
        match File::open(&above) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            opened => opened?.sync_all()?,
        }
        folder = above;
    }
}
