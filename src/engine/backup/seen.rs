//! What the source's thread is asked for and what it saw, beside the jobs that it emits.

use crate::model::ids::RunSeq;
use crate::model::problem::Problem;
use std::collections::HashMap;

/// What the user asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct DetectionOptions {
    /// Inode numbers say nothing.
    pub ignore_inode: bool,
    /// The inode's change time says nothing.
    pub ignore_ctime: bool,
    /// A changed inode time always means reading.
    pub strict_ctime: bool,
    /// An empty root or mount point is meant.
    pub allow_empty: bool,
    /// Every file is read, whatever its fields say.
    pub force: bool,
    /// The run whose state is compared with.
    pub newest: Option<RunSeq>,
}

/// What the walk saw.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Paths that are in the run by what was seen now.
    pub paths: u64,
    /// Bytes of regular files among them.
    pub bytes: u64,
    /// What could not be looked at.
    pub problems: Vec<Problem>,
    /// Directories that are mount points now and were not, or the other way.
    pub mounts: Vec<MountSeen>,
    /// The topmost directory of every file system, by device.
    pub file_systems: HashMap<u64, MountSeen>,
    /// Paths that were passed over on purpose.
    pub skipped: Vec<Vec<u8>>,
    /// Paths that a list names and that something else leaves out.
    pub listed_left_out: Vec<Vec<u8>>,
}

/// A directory as a mount point.
#[derive(Debug, Clone)]
pub struct MountSeen {
    /// Its path.
    pub path: Vec<u8>,
    /// It is one now.
    pub is_mount_point: bool,
    /// Inodes below it are known to change.
    pub inodes_untrusted: bool,
}
