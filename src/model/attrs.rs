//! What a file system keeps of a file beside its inode's fields: extended attributes, POSIX ACLs and capabilities among
//! them, the flags of `chattr`, the project of quotas, and where the file has holes.

/// Names and values of extended attributes.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Ranges of a file for which nothing is stored on its disk: start and length, ascending, with something between any two.
pub type Holes = Vec<(u64, u64)>;

/// Extended attributes, flags, project and holes of one file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attrs {
    /// Ascending by name, each name once.
    pub xattrs: Xattrs,
    /// Inode flags, of [`FLAGS_KEPT`] alone.
    pub flags: u32,
    /// Project that quotas count the file to; 0 for none.
    pub project: u32,
    /// Exactly these holes and no others; `None` for a file whose holes are the runs of zeros in its content.
    pub holes: Option<Holes>,
}

impl Attrs {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.xattrs.is_empty() && self.flags == 0 && self.project == 0 && self.holes.is_none()
    }
}

/// The flags that a user may set and that mean the same elsewhere (`FS_IOC_GETFLAGS`): s u c S i a d A j t D T C x P. What
/// only says how the file system stores the file is left out; so is m, which btrfs sets by itself where bytes did not
/// shrink.
pub const FLAGS_KEPT: u32 = 0x2283_c0ff;

/// What decides how bytes are written: no copy on write, compression. Only an empty file takes the first.
pub const FLAGS_FIRST: u32 = 0x0080_0004;

/// Immutable and append-only: a file that has one takes no new name and no new bytes, so they are set last of all.
pub const FLAGS_LAST: u32 = 0x30;
