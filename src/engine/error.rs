//! What ends a verb, and the exit code that each end has. Failures of a volume, of the catalog and of the user's tree
//! keep their own types; a bad source file is a `Problem` in a report and never gets here.

use crate::catalog::CatalogError;
use crate::format::container::FormatError;
use crate::model::ids::RunSeq;
use crate::tree::error::TreeError;
use crate::volume::handle::VolumeError;
use crate::volume::store::StoreError;

/// The process's answer to its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All done.
    Done = 0,
    /// Nothing was saved.
    Failed = 1,
    /// The request makes no sense.
    Usage = 2,
    /// Saved, but some source files could not be read.
    SomeUnread = 3,
    /// Damage found, or a restore that is not complete.
    Damage = 4,
    /// No volume can take or give the data.
    NoVolume = 5,
    /// Saved, but on fewer volumes than the policy wants.
    UnderProtected = 6,
    /// There is no such catalog.
    NoCatalog = 10,
    /// Somebody else has the catalog or a volume.
    Locked = 11,
    /// SIGINT.
    Interrupted = 130,
}

/// Why a verb could not go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Opening, making or locking a volume.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The catalog failed after the record of a run was durable on its volumes: the run is stored, and is in the catalog
    /// now, or will be when the next backup has read that record.
    #[error(
        "run {run} is stored on its volumes, but the catalog could not be told: {source}. Nothing is lost: see to the disk of \
         the catalog; the next backup puts the run into it"
    )]
    NotListed {
        /// The run.
        run: RunSeq,
        /// The cause.
        source: CatalogError,
    },
    /// Reading or writing on a volume.
    #[error("volume {volume}: {source}")]
    Store {
        /// The volume's name.
        volume: String,
        /// The cause.
        source: StoreError,
    },
    /// The record of a run that cannot be read just now, before a run that would pass it over.
    #[error(
        "volume {volume}: {source}; this is the record of a run that the catalog does not have, so nothing was saved. Try \
         again when the disk can be read; if it stays so, the next backup goes on without that run"
    )]
    Unread {
        /// The volume's name.
        volume: String,
        /// The cause.
        source: StoreError,
    },
    /// Bytes on a volume that are not what they should be.
    #[error("volume {volume}: {key}: {source}")]
    Format {
        /// The volume's name.
        volume: String,
        /// The object.
        key: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// The source's root or the restore's target.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The request makes no sense; the sentence says why and what would.
    #[error("{0}")]
    Usage(String),
    /// No volume has room or is here; the sentence says which and what to do.
    #[error("{0}")]
    NoVolume(String),
    /// Stored data that is damaged.
    #[error("{0}")]
    Damage(String),
    /// Whoever takes a file's bytes takes no more.
    #[error("stdout cannot be written: {0}")]
    Output(std::io::Error),
    /// The user asked to stop; what was finished is kept.
    #[error("interrupted; what was finished so far is kept, and the next run goes on from there")]
    Interrupted,
    /// Something that should not happen: memory, processor or program at fault.
    #[error("{0}")]
    Fault(String),
}

/// What every verb returns.
pub type Result<T> = std::result::Result<T, EngineError>;

impl EngineError {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Catalog(CatalogError::Missing(_)) => Exit::NoCatalog,
            Self::Catalog(CatalogError::Locked(_)) | Self::Volume(VolumeError::Locked { .. }) => Exit::Locked,
            Self::Tree(
                TreeError::RootMissing { .. }
                | TreeError::RootNotDirectory { .. }
                | TreeError::RootUnreadable { .. }
                | TreeError::StreamUnreadable { .. }
                | TreeError::CommandNotStarted { .. }
                | TreeError::CommandFailed { .. }
                | TreeError::TargetUnusable { .. }
                | TreeError::Write { .. },
            ) => Exit::Failed,
            Self::Catalog(CatalogError::Exists(_)) | Self::Usage(_) | Self::Tree(_) => Exit::Usage,
            Self::Volume(VolumeError::Store { .. }) => Exit::Failed,
            Self::Volume(_) => Exit::Usage,
            Self::NoVolume(_) => Exit::NoVolume,
            Self::Damage(_) | Self::Format { .. } => Exit::Damage,
            Self::Interrupted => Exit::Interrupted,
            Self::Catalog(_)
            | Self::NotListed { .. }
            | Self::Store { .. }
            | Self::Unread { .. }
            | Self::Output(_)
            | Self::Fault(_) => Exit::Failed,
        }
    }

    /// A store's failure on a named volume.
    pub fn store(volume: &str) -> impl Fn(StoreError) -> Self {
        let volume = volume.to_owned();
        move |source| Self::Store { volume: volume.clone(), source }
    }
}
