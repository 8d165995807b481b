//! What can go wrong with a catalog, as facts.

use std::path::PathBuf;

/// A failure of the catalog; never about a source file or a volume.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// There is no such file.
    #[error("there is no catalog at {}; create it with `raidtape init`, or bring it back with `raidtape rebuild-catalog --volume DIR`", .0.display())]
    Missing(PathBuf),
    /// `init` found one.
    #[error("there is already a catalog at {}; it was left as it is", .0.display())]
    Exists(PathBuf),
    /// The file is something else.
    #[error("{} is not a RaidTape catalog", .0.display())]
    Foreign(PathBuf),
    /// The schema is of a newer release.
    #[error("the catalog {} has schema {found}, this RaidTape knows up to {known}; update RaidTape to use it", path.display())]
    Newer {
        /// The catalog.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Another process has it.
    #[error("the catalog {} is in use by another raidtape process; wait until that one is done", .0.display())]
    Locked(PathBuf),
    /// The lock file, or the catalog's folder, cannot be made or opened.
    #[error("cannot open {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// SQLite keeps its log beside the catalog, and can do without only where another process has made it.
    #[error(
        "the catalog {} cannot be opened: even reading it needs write permission to it and to its directory; run as \
         its owner",
        .0.display()
    )]
    NotWritable(PathBuf),
    /// Rows of a run under way cannot be kept beside the catalog.
    #[error("the rows of the run cannot be kept in {}, the catalog's folder: {source}", folder.display())]
    Spool {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// SQLite reports an error.
    #[error("the catalog reports: {0}")]
    Sql(#[source] rusqlite::Error),
    /// SQLite finds its file damaged, or a row holds what no writer puts there.
    #[error("the catalog is damaged ({0}); bring it back with `raidtape rebuild-catalog`")]
    Damaged(String),
    /// A change that cannot follow the ones before it.
    #[error("changes contradict each other ({0})")]
    Contradiction(&'static str),
}

impl CatalogError {
    /// Whether a change was refused because it contradicts rows that are there: the fault of who asked for it.
    pub fn is_contradiction(&self) -> bool {
        match self {
            Self::Contradiction(_) => true,
            Self::Sql(error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation),
            _ => false,
        }
    }

    /// A row that cannot be.
    pub fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    /// Whether the file itself is damaged or no database, so that a rebuild is the next step.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Foreign(_))
    }
}

impl From<rusqlite::Error> for CatalogError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::{Error, ErrorCode};
        let is_damage = match &error {
            // Values that no writer puts there, and rows that others name.
            Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..)
            | Error::QueryReturnedNoRows => true,
            _ => matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)),
        };
        if is_damage { Self::Damaged(error.to_string()) } else { Self::Sql(error) }
    }
}

/// What every function of this room returns.
pub type Result<T> = std::result::Result<T, CatalogError>;
