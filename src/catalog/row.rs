//! The columns that `live`, `past` and `pending` share, and their way to and from [`Version`].

use super::contents;
use super::error::{CatalogError, Result};
use super::interned::{Interner, attrs_by_id, owner_by_id};
use crate::model::entry::EntryKind;
use crate::model::ids::ContentId;
use crate::model::version::{Detection, Marks, Object, Owner, Version};
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Row, ToSql};

/// What column `obj` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredObject {
    /// Directory, fifo, socket.
    Nothing,
    /// A regular file's content.
    Content(ContentId),
    /// A symlink's target.
    Target(Vec<u8>),
    /// A device's number.
    Device(u64),
}

impl ToSql for StoredObject {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Nothing => ToSqlOutput::Owned(Value::Null),
            Self::Content(id) => ToSqlOutput::Owned(Value::Integer(id.0)),
            Self::Target(target) => ToSqlOutput::Borrowed(ValueRef::Blob(target)),
            Self::Device(number) => ToSqlOutput::Owned(Value::Integer(number.cast_signed())),
        })
    }
}

/// A version as the tables hold it: owner, content and attributes by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVersion {
    /// Kind of the file.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u32,
    /// Number of the owner.
    pub owner: i64,
    /// Bytes of a regular file.
    pub size: u64,
    /// Last change of the content.
    pub mtime_ns: i64,
    /// Birth, where known.
    pub btime_ns: Option<i64>,
    /// What it holds.
    pub object: StoredObject,
    /// Hard-link group, or 0.
    pub link: i64,
    /// Number of the attribute body.
    pub attr: Option<i64>,
    /// Its bytes changed while they were read.
    pub inconsistent: bool,
}

/// The shared columns in the order in which [`StoredVersion::from_row`] takes them.
pub const VERSION_COLUMNS: &str = "mode, owner, size, mtime_ns, btime_ns, obj, link, attr, flags";
/// The columns that [`detection_from_row`] takes.
pub const DETECTION_COLUMNS: &str = "ctime_ns, ino, nlink, marks";

impl StoredVersion {
    /// Reads [`VERSION_COLUMNS`] from column `first` on.
    pub fn from_row(row: &Row<'_>, first: usize) -> Result<Self> {
        let st_mode: u32 = row.get(first)?;
        let kind = kind_of_st_mode(st_mode).ok_or_else(|| CatalogError::damaged("a version of an unknown kind"))?;
        let object = match (kind, row.get_ref(first + 5)?) {
            (EntryKind::File, ValueRef::Integer(id)) => StoredObject::Content(ContentId(id)),
            (EntryKind::Symlink, ValueRef::Blob(target)) => StoredObject::Target(target.to_vec()),
            (EntryKind::CharDevice | EntryKind::BlockDevice, ValueRef::Integer(number)) => {
                StoredObject::Device(number.cast_unsigned())
            }
            (EntryKind::Dir | EntryKind::Fifo | EntryKind::Socket, ValueRef::Null) => StoredObject::Nothing,
            _ => {
                return Err(CatalogError::damaged("a version whose object does not fit its kind"));
            }
        };
        Ok(Self {
            kind,
            mode: st_mode & 0o7777,
            owner: row.get(first + 1)?,
            size: row.get::<_, i64>(first + 2)?.cast_unsigned(),
            mtime_ns: row.get(first + 3)?,
            btime_ns: row.get(first + 4)?,
            object,
            link: row.get(first + 6)?,
            attr: row.get(first + 7)?,
            inconsistent: row.get::<_, i64>(first + 8)? & 1 != 0,
        })
    }

    /// The form that the tables hold; owner and attributes are interned, the content is there already.
    pub fn intern(
        conn: &Connection,
        interner: &mut Interner,
        version: &Version,
        content: Option<ContentId>,
    ) -> Result<Self> {
        let object = match &version.object {
            Object::Content(_) => {
                StoredObject::Content(content.ok_or_else(|| CatalogError::damaged("a file without content"))?)
            }
            Object::Nothing => StoredObject::Nothing,
            Object::Target(target) => StoredObject::Target(target.clone()),
            Object::Device(number) => StoredObject::Device(*number),
        };
        Ok(Self {
            kind: version.kind,
            mode: version.mode,
            owner: interner.owner(conn, &version.owner)?,
            size: version.size,
            mtime_ns: version.mtime_ns,
            btime_ns: version.btime_ns,
            object,
            link: version.link,
            attr: interner.attrs(conn, &version.attrs)?,
            inconsistent: version.inconsistent,
        })
    }

    /// Column `mode`.
    pub fn st_mode(&self) -> u32 {
        st_mode_of(self.kind) | self.mode
    }

    /// Column `flags`.
    pub fn flags(&self) -> i64 {
        i64::from(self.inconsistent)
    }

    /// The version with owner, content hash and attributes in full.
    pub fn resolve(&self, conn: &Connection) -> Result<Version> {
        let (owner, attrs) = (owner_by_id(conn, self.owner)?, attrs_by_id(conn, self.attr)?);
        Ok(self.with((owner, self.object.resolve(conn)?, attrs)))
    }
}

impl StoredVersion {
    /// As [`Self::resolve`], beside another version in both forms: what the two share is not looked up again.
    pub fn resolve_beside(&self, conn: &Connection, (stored, full): (&Self, &Version)) -> Result<Version> {
        let object = match &self.object {
            object if *object == stored.object && self.kind == stored.kind => full.object.clone(),
            object => object.resolve(conn)?,
        };
        let owner = if self.owner == stored.owner { full.owner.clone() } else { owner_by_id(conn, self.owner)? };
        let attrs = if self.attr == stored.attr { full.attrs.clone() } else { attrs_by_id(conn, self.attr)? };
        Ok(self.with((owner, object, attrs)))
    }

    /// The version with these, which its numbers stand for.
    pub(super) fn with(&self, (owner, object, attrs): (Owner, Object, Vec<u8>)) -> Version {
        Version {
            kind: self.kind,
            mode: self.mode,
            owner,
            size: self.size,
            mtime_ns: self.mtime_ns,
            btime_ns: self.btime_ns,
            link: self.link,
            inconsistent: self.inconsistent,
            object,
            attrs,
        }
    }
}

impl StoredObject {
    /// In full.
    pub fn resolve(&self, conn: &Connection) -> Result<Object> {
        Ok(match self {
            Self::Nothing => Object::Nothing,
            Self::Content(id) => Object::Content(contents::hash_of(conn, *id)?),
            Self::Target(target) => Object::Target(target.clone()),
            Self::Device(number) => Object::Device(*number),
        })
    }
}

/// Reads [`DETECTION_COLUMNS`] from column `first` on.
pub fn detection_from_row(row: &Row<'_>, first: usize) -> Result<Detection> {
    Ok(Detection {
        ctime_ns: row.get(first)?,
        ino: row.get::<_, i64>(first + 1)?.cast_unsigned(),
        nlink: row.get(first + 2)?,
        marks: Marks::from_bits(row.get(first + 3)?),
    })
}

/// The bits of a kind in `st_mode`.
pub(super) fn st_mode_of(kind: EntryKind) -> u32 {
    let bits = match kind {
        EntryKind::Fifo => 1,
        EntryKind::CharDevice => 2,
        EntryKind::Dir => 4,
        EntryKind::BlockDevice => 6,
        EntryKind::File => 8,
        EntryKind::Symlink => 10,
        EntryKind::Socket => 12,
    };
    bits << 12
}

fn kind_of_st_mode(st_mode: u32) -> Option<EntryKind> {
    EntryKind::ALL.into_iter().find(|kind| st_mode_of(*kind) == st_mode & 0o170_000)
}
