//! What keeps a tree from being walked or written at all, or one name of a target from being written.
//!
//! A source file that cannot be read is no such error but a `Problem` in the listing.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::model::path::show;

/// Facts about a failed operation of this room.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Nothing lies at a source root.
    #[error("source root {} does not exist; mount or create it, or take it out of the sources", path.display())]
    RootMissing {
        /// The root as it was given.
        path: PathBuf,
    },
    /// A source root is no directory.
    #[error("source root {} is not a directory; name the directory that holds it", path.display())]
    RootNotDirectory {
        /// The root as it was given.
        path: PathBuf,
    },
    /// A source root cannot be opened.
    #[error("source root {} cannot be opened: {source}", path.display())]
    RootUnreadable {
        /// The root as it was given.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A pattern that has no meaning.
    #[error("the pattern `{pattern}` is not valid: {text}")]
    BadPattern {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        text: String,
    },
    /// A list of paths that cannot be read.
    #[error("the list of paths in {} cannot be read: {source}", path.display())]
    ListUnreadable {
        /// As it was given.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A path in a list that can be none of the source.
    #[error("{} names {}, which {why}", list.display(), show(path))]
    BadListed {
        /// The list.
        list: PathBuf,
        /// The path as it stands there.
        path: Vec<u8>,
        /// What is wrong with it.
        why: String,
    },
    /// Lists without a path.
    #[error("the list of what is to be backed up names no path; nothing was backed up")]
    EmptyLists,
    /// A stream that is to be backed up and cannot be read.
    #[error("what is to be backed up cannot be read: {source}; no run was saved")]
    StreamUnreadable {
        /// The system's answer.
        source: io::Error,
    },
    /// A command whose output is to be backed up.
    #[error("the command `{command}` cannot be started: {source}")]
    CommandNotStarted {
        /// Its words.
        command: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The same, when it does not end well.
    #[error("the command `{command}` ended with {how}: what it wrote may not be all, so no run was saved")]
    CommandFailed {
        /// Its words.
        command: String,
        /// Its status.
        how: String,
    },
    /// A file with patterns that cannot be read.
    #[error("the patterns in {} cannot be read: {source}", path.display())]
    PatternsUnreadable {
        /// As it was given.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The restore target does not exist and was not to be created.
    #[error("restore target {} does not exist", path.display())]
    TargetMissing {
        /// The target as it was given.
        path: PathBuf,
    },
    /// The directory that was to hold the restore target does not exist.
    #[error("restore target {} cannot be created because its parent directory does not exist; create that first", path.display())]
    TargetParentMissing {
        /// The target as it was given.
        path: PathBuf,
    },
    /// The restore target is no directory.
    #[error("restore target {} is not a directory", path.display())]
    TargetNotDirectory {
        /// The target as it was given.
        path: PathBuf,
    },
    /// The restore target can be neither opened nor created.
    #[error("restore target {} cannot be opened: {source}", path.display())]
    TargetUnusable {
        /// The target as it was given.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The kernel (or a sandbox) lacks `openat2`, without which a target cannot be written safely.
    #[error(
        "this kernel or sandbox does not offer openat2 (Linux 5.6), without which a restore cannot be kept inside its target"
    )]
    NoOpenat2,
    /// A path from a repository that leaves its directory or breaks the limits.
    #[error("{:?} is no path that a restore may write", show(path))]
    BadPath {
        /// The path inside the target.
        path: Vec<u8>,
    },
    /// Something else already has this name.
    #[error("{} already exists in the target", show(path))]
    InTheWay {
        /// The path inside the target.
        path: Vec<u8>,
    },
    /// One name of the target could not be written.
    #[error("{} cannot be written in the target: {source}", show(path))]
    Write {
        /// The path inside the target.
        path: Vec<u8>,
        /// The system's answer.
        source: io::Error,
    },
}

impl TreeError {
    /// Turns a system error about `path` into the error that says so.
    pub(super) fn at<E: Into<io::Error>>(path: &[u8]) -> impl Fn(E) -> Self {
        move |error| {
            let source = error.into();
            match Errno::from_io_error(&source) {
                Some(Errno::EXIST) => Self::InTheWay { path: path.to_vec() },
                _ => Self::Write { path: path.to_vec(), source },
            }
        }
    }

    /// The system's error number, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::RootUnreadable { source, .. } | Self::TargetUnusable { source, .. } | Self::Write { source, .. } => {
                source.raw_os_error()
            }
            _ => None,
        }
    }
}
