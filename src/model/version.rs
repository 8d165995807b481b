//! A file version: what one path was. Owns the canonical form whose hash goes into a run's digest.

use super::entry::EntryKind;
use super::ids::FileHash;

/// Owner and group, by number and, where known, by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// User's name, empty when not recorded.
    pub user: Vec<u8>,
    /// Group's name, empty when not recorded.
    pub group: Vec<u8>,
}

/// What a version holds, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A regular file's bytes.
    Content(FileHash),
    /// A directory, fifo or socket: nothing.
    Nothing,
    /// A symlink's target.
    Target(Vec<u8>),
    /// A device's number.
    Device(u64),
}

/// What one path was: everything that makes a version a different one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Kind of the file.
    pub kind: EntryKind,
    /// Permission bits (`0o7777`).
    pub mode: u32,
    /// Owner and group.
    pub owner: Owner,
    /// Bytes of a regular file, else 0.
    pub size: u64,
    /// Last change of the content.
    pub mtime_ns: i64,
    /// Birth, where known. Not part of what makes a version: it cannot be restored, so it may differ.
    pub btime_ns: Option<i64>,
    /// Hard-link group within the source; 0 when the file has one name.
    pub link: i64,
    /// Its bytes changed while they were read.
    pub inconsistent: bool,
    /// What it holds.
    pub object: Object,
    /// Encoded extended attributes, ACL, flags and holes; empty when there are none.
    pub attrs: Vec<u8>,
}

impl Version {
    /// BLAKE3 of the canonical form of this version at `path`; the same on every machine and release.
    /// Fields in the order of `src/format/FORMAT.md`, "Digest of a state": integers little-endian, byte strings
    /// behind a u64 length.
    pub fn row_hash(&self, path: &[u8]) -> [u8; 32] {
        let mut row = Vec::with_capacity(128 + path.len());
        put_bytes(&mut row, path);
        row.push(self.kind as u8);
        row.extend(self.mode.to_le_bytes());
        row.extend(self.owner.uid.to_le_bytes());
        row.extend(self.owner.gid.to_le_bytes());
        put_bytes(&mut row, &self.owner.user);
        put_bytes(&mut row, &self.owner.group);
        row.extend(self.size.to_le_bytes());
        row.extend(self.mtime_ns.to_le_bytes());
        row.extend(self.link.to_le_bytes());
        row.push(u8::from(self.inconsistent));
        match &self.object {
            Object::Content(hash) => {
                row.push(1);
                row.extend(hash.0);
            }
            Object::Nothing => row.push(2),
            Object::Target(target) => {
                row.push(3);
                put_bytes(&mut row, target);
            }
            Object::Device(number) => {
                row.push(4);
                row.extend(number.to_le_bytes());
            }
        }
        put_bytes(&mut row, &self.attrs);
        *blake3::hash(&row).as_bytes()
    }
}

/// Marks beside a live row: what the next run must know about it. Not part of the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// The inode changed so shortly before it was looked at that a later change may carry the same time.
    pub racy: bool,
    /// Stored bytes of it were found damaged: read it again.
    pub recheck: bool,
    /// Its attributes were looked at, all of them. Rows of releases that did not are without it.
    pub attrs_known: bool,
}

impl Marks {
    /// The number in catalog and manifest.
    pub fn bits(self) -> u8 {
        u8::from(self.racy) | u8::from(self.recheck) << 1 | u8::from(self.attrs_known) << 2
    }

    /// The inverse of [`Self::bits`]; unknown bits are dropped.
    pub fn from_bits(bits: u8) -> Self {
        Self { racy: bits & 1 != 0, recheck: bits & 2 != 0, attrs_known: bits & 4 != 0 }
    }
}

/// What lets the next run find a file unchanged without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Detection {
    /// Last change of the inode.
    pub ctime_ns: i64,
    /// Inode number.
    pub ino: u64,
    /// Hard links.
    pub nlink: u32,
    /// What to be careful about.
    pub marks: Marks,
}

/// Why a version ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum EndReason {
    /// Another version took its place.
    Modified = 1,
    /// The path was gone.
    Deleted = 2,
    /// The path is no longer selected.
    Excluded = 3,
}

impl EndReason {
    /// The reason with this number.
    pub fn from_tag(tag: u8) -> Option<Self> {
        [Self::Modified, Self::Deleted, Self::Excluded].into_iter().find(|reason| *reason as u8 == tag)
    }
}

fn put_bytes(row: &mut Vec<u8>, bytes: &[u8]) {
    row.extend((bytes.len() as u64).to_le_bytes());
    row.extend(bytes);
}
