//! What a file system says about one name. Pure data; `tree` fills it in, the change detection compares it.

use serde::Serialize;

/// Kinds of file, by the number that every format uses for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum EntryKind {
    /// A regular file.
    File = 1,
    /// A directory.
    Dir = 2,
    /// A symbolic link.
    Symlink = 3,
    /// A named pipe.
    Fifo = 4,
    /// A unix socket.
    Socket = 5,
    /// A character device.
    CharDevice = 6,
    /// A block device.
    BlockDevice = 7,
}

impl EntryKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::File, Self::Dir, Self::Symlink, Self::Fifo, Self::Socket, Self::CharDevice, Self::BlockDevice];

    /// The kind with this number.
    pub fn from_tag(tag: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == tag)
    }

    /// The word for people, SQL and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dir => "dir",
            Self::Symlink => "symlink",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::CharDevice => "char_device",
            Self::BlockDevice => "block_device",
        }
    }
}

/// One answer of `statx`, taken without following a link. Times are nanoseconds since 1970, clamped to `i64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Kind of the file.
    pub kind: EntryKind,
    /// Permission bits with suid, sgid and sticky (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a regular file or of a symlink's target.
    pub size: u64,
    /// Bytes that the file system keeps for it: fewer than its size where it has holes.
    pub allocated: u64,
    /// Last change of the content.
    pub mtime_ns: i64,
    /// Last change of the inode.
    pub ctime_ns: i64,
    /// Birth, where the file system has it.
    pub btime_ns: Option<i64>,
    /// Device of the file system; compared within one run only.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Hard links.
    pub nlink: u32,
    /// Device number of a device file, as `makedev` packs it, else 0.
    pub rdev: u64,
    /// When this answer was taken, on the clock that stamps files.
    pub taken_ns: i64,
}

/// What a file system is, as far as change detection must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FsTrust {
    /// A local file system with stable inodes.
    Local,
    /// Inodes are not stable across mounts (vfat, exfat, overlay), clocks are ours.
    NoInodes,
    /// A network or FUSE file system: no stable inodes, and its clock may differ from ours.
    Remote,
}
