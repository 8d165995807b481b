//! Rows of a manifest: versions put, touched and ended, directory by directory. Neighbouring rows resemble each
//! other, so times, inodes and chunk numbers are written as differences; each section starts afresh.

use super::attrs;
use super::bytes::{Reader, put_bytes, put_signed, put_varint};
use super::container::FormatError;
use crate::model::entry::EntryKind;
use crate::model::ids::{ChunkNo, FileHash};
use crate::model::limits::{FILE_LEN_MAX, LINK_TARGET_LEN_MAX, NAME_LEN_MAX, PATH_LEN_MAX, SECTION_RAW_MAX};
use crate::model::path;
use crate::model::version::{Detection, EndReason, Marks, Object, Owner, Version};

/// How a put row says a file's bytes, in file order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentOp {
    /// `n` pieces, from piece `from` on, of the content that the same path had in the base state. A piece is a
    /// chunk or a run of zeros.
    Copy {
        /// First piece.
        from: u64,
        /// How many.
        n: u64,
    },
    /// Consecutive chunk numbers.
    Chunks {
        /// First chunk.
        first: ChunkNo,
        /// How many.
        n: u32,
    },
    /// Bytes that are zero.
    Zeros {
        /// How many.
        len: u64,
    },
}

/// One record of a row section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// The rows that follow lie in this directory.
    Dir(Vec<u8>),
    /// A version enters the state, in place of an earlier one of its path.
    Put(Box<PutRow>),
    /// Only detection fields of a live row changed.
    Touch {
        /// Name in the directory.
        name: Vec<u8>,
        /// The new fields.
        detection: Detection,
        /// Birth of the file that has the name now.
        btime_ns: Option<i64>,
    },
    /// A version leaves the state; for a directory, all below it leave too.
    End {
        /// Name in the directory.
        name: Vec<u8>,
        /// Deleted or excluded.
        reason: EndReason,
    },
}

/// A version with the fields beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutRow {
    /// Name in the directory; empty for the root itself.
    pub name: Vec<u8>,
    /// The version. Where `hash_is_chunk_id`, its content hash is to be taken from its only chunk.
    pub version: Version,
    /// The file is one chunk, whose identity is the file's hash.
    pub hash_is_chunk_id: bool,
    /// The file's bytes are those that the same path had in the base state: `size`, hash and `ops` say nothing.
    pub same_content: bool,
    /// For the next run.
    pub detection: Detection,
    /// The file's bytes; empty for other kinds.
    pub ops: Vec<ContentOp>,
}

const TAG_DIR: u8 = 1;
const TAG_PUT: u8 = 2;
const TAG_TOUCH: u8 = 3;
const TAG_END: u8 = 4;

/// Permission bits with suid, sgid and sticky; what a file is, its kind says.
const MODE_MAX: u32 = 0o7777;

const HAS_BTIME: u8 = 1;
const INCONSISTENT: u8 = 2;
const HASH_IS_CHUNK_ID: u8 = 4;
const SAME_OWNER: u8 = 8;
const HAS_ATTRS: u8 = 16;
const HAS_LINK: u8 = 32;
const SAME_CONTENT: u8 = 64;

/// What the rows before said, for differences.
#[derive(Debug, Default)]
struct Context {
    mtime_ns: i64,
    ino: u64,
    chunk: i64,
    owner: Owner,
}

/// Appends rows to a section.
#[derive(Debug, Default)]
pub struct RowEncoder {
    context: Context,
}

impl RowEncoder {
    /// Appends `row`. A new section takes a new encoder and begins with [`Row::Dir`].
    pub fn put(&mut self, out: &mut Vec<u8>, row: &Row) {
        match row {
            Row::Dir(dir) => {
                out.push(TAG_DIR);
                put_bytes(out, dir);
            }
            Row::Put(row) => self.put_version(out, row),
            Row::Touch { name, detection, btime_ns } => {
                out.push(TAG_TOUCH);
                put_bytes(out, name);
                out.push(u8::from(btime_ns.is_some()));
                put_signed(out, btime_ns.unwrap_or(0));
                self.put_detection(out, detection, 0);
            }
            Row::End { name, reason } => {
                out.push(TAG_END);
                put_bytes(out, name);
                out.push(*reason as u8);
            }
        }
    }

    fn put_version(&mut self, out: &mut Vec<u8>, row: &PutRow) {
        let version = &row.version;
        let same_owner = version.owner == self.context.owner;
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        out.push(TAG_PUT);
        out.push(version.kind as u8);
        out.push(
            bit(version.btime_ns.is_some(), HAS_BTIME)
                | bit(version.inconsistent, INCONSISTENT)
                | bit(row.hash_is_chunk_id, HASH_IS_CHUNK_ID)
                | bit(same_owner, SAME_OWNER)
                | bit(!version.attrs.is_empty(), HAS_ATTRS)
                | bit(version.link != 0, HAS_LINK)
                | bit(row.same_content, SAME_CONTENT),
        );
        put_bytes(out, &row.name);
        put_varint(out, u64::from(version.mode));
        if !same_owner {
            put_varint(out, u64::from(version.owner.uid));
            put_varint(out, u64::from(version.owner.gid));
            put_bytes(out, &version.owner.user);
            put_bytes(out, &version.owner.group);
            self.context.owner = version.owner.clone();
        }
        put_varint(out, if row.same_content { 0 } else { version.size });
        put_signed(out, version.mtime_ns.wrapping_sub(self.context.mtime_ns));
        self.context.mtime_ns = version.mtime_ns;
        if let Some(btime_ns) = version.btime_ns {
            put_signed(out, row.detection.ctime_ns.wrapping_sub(btime_ns));
        }
        if version.link != 0 {
            put_signed(out, version.link);
        }
        if !version.attrs.is_empty() {
            put_bytes(out, &version.attrs);
        }
        self.put_detection(out, &row.detection, version.mtime_ns);
        match &version.object {
            Object::Content(_) if row.same_content => {}
            Object::Content(hash) => self.put_content(out, row, hash),
            Object::Nothing => {}
            Object::Target(target) => put_bytes(out, target),
            Object::Device(number) => put_varint(out, *number),
        }
    }

    fn put_detection(&mut self, out: &mut Vec<u8>, detection: &Detection, near_ns: i64) {
        put_signed(out, detection.ctime_ns.wrapping_sub(near_ns));
        put_signed(out, detection.ino.wrapping_sub(self.context.ino).cast_signed());
        self.context.ino = detection.ino;
        put_varint(out, u64::from(detection.nlink));
        out.push(detection.marks.bits());
    }

    fn put_content(&mut self, out: &mut Vec<u8>, row: &PutRow, hash: &FileHash) {
        if !row.hash_is_chunk_id {
            out.extend(hash.0);
        }
        put_varint(out, row.ops.len() as u64);
        for op in &row.ops {
            match op {
                ContentOp::Copy { from, n } => {
                    put_varint(out, n << 2);
                    put_varint(out, *from);
                }
                ContentOp::Chunks { first, n } => {
                    put_varint(out, u64::from(*n) << 2 | 1);
                    put_signed(out, first.0.wrapping_sub(self.context.chunk));
                    self.context.chunk = first.0.wrapping_add(i64::from(*n));
                }
                ContentOp::Zeros { len } => {
                    put_varint(out, 2);
                    put_varint(out, *len);
                }
            }
        }
    }
}

/// Takes rows off a section's body.
#[derive(Debug)]
pub struct RowDecoder<'a> {
    fields: Reader<'a>,
    context: Context,
    /// The directory is the root, which alone has a row of its own under no name.
    is_in_root: bool,
}

impl<'a> RowDecoder<'a> {
    /// Reads the body of a row section.
    pub fn new(body: &'a [u8]) -> Self {
        Self { fields: Reader::new(body), context: Context::default(), is_in_root: true }
    }

    /// The next row; `None` at the end of the section. Names and paths are valid, kinds fit their objects.
    pub fn next_row(&mut self) -> Result<Option<Row>, FormatError> {
        if self.fields.is_at_end() {
            return Ok(None);
        }
        let row = match self.fields.u8()? {
            TAG_DIR => {
                let dir = self.fields.bytes(PATH_LEN_MAX)?;
                if !path::is_valid(dir) {
                    return Err(FormatError::Invalid("path"));
                }
                self.is_in_root = dir.is_empty();
                Row::Dir(dir.to_vec())
            }
            TAG_PUT => Row::Put(Box::new(self.version()?)),
            TAG_TOUCH => {
                let name = self.name()?;
                let has_btime = self.fields.u8()? != 0;
                let btime_ns = Some(self.fields.signed()?).filter(|_| has_btime);
                Row::Touch { name, detection: self.detection(0)?, btime_ns }
            }
            TAG_END => {
                let name = self.name()?;
                let reason = EndReason::from_tag(self.fields.u8()?).ok_or(FormatError::Invalid("reason"))?;
                Row::End { name, reason }
            }
            _ => return Err(FormatError::Invalid("row")),
        };
        Ok(Some(row))
    }

    fn name(&mut self) -> Result<Vec<u8>, FormatError> {
        let name = self.fields.bytes(NAME_LEN_MAX)?;
        if !(path::is_valid_name(name) || name.is_empty() && self.is_in_root) {
            return Err(FormatError::Invalid("name"));
        }
        Ok(name.to_vec())
    }

    fn version(&mut self) -> Result<PutRow, FormatError> {
        let kind = EntryKind::from_tag(self.fields.u8()?).ok_or(FormatError::Invalid("kind"))?;
        let bits = self.fields.u8()?;
        let has = |bit: u8| bits & bit != 0;
        let name = self.name()?;
        let mode = self.fields.varint_u32()?;
        if mode > MODE_MAX {
            return Err(FormatError::Invalid("mode"));
        }
        if !has(SAME_OWNER) {
            self.context.owner = Owner {
                uid: self.fields.varint_u32()?,
                gid: self.fields.varint_u32()?,
                user: self.fields.bytes(NAME_LEN_MAX)?.to_vec(),
                group: self.fields.bytes(NAME_LEN_MAX)?.to_vec(),
            };
        }
        let same_content = kind == EntryKind::File && has(SAME_CONTENT);
        let size = if same_content { self.fields.varint().map(|_| 0)? } else { self.fields.varint()? };
        if size > FILE_LEN_MAX {
            return Err(FormatError::Invalid("file size"));
        }
        self.context.mtime_ns = self.context.mtime_ns.wrapping_add(self.fields.signed()?);
        let age_ns = if has(HAS_BTIME) { Some(self.fields.signed()?) } else { None };
        let link = if has(HAS_LINK) { self.fields.signed()? } else { 0 };
        let attrs = if has(HAS_ATTRS) { self.fields.bytes(SECTION_RAW_MAX)?.to_vec() } else { Vec::new() };
        attrs::decode(&attrs)?;
        let detection = self.detection(self.context.mtime_ns)?;
        let (object, ops) = match kind {
            _ if same_content => (Object::Content(FileHash([0; 32])), Vec::new()),
            _ => self.object(kind, has(HASH_IS_CHUNK_ID))?,
        };
        let version = Version {
            kind,
            mode,
            owner: self.context.owner.clone(),
            size,
            mtime_ns: self.context.mtime_ns,
            btime_ns: age_ns.map(|age_ns| detection.ctime_ns.wrapping_sub(age_ns)),
            link,
            inconsistent: has(INCONSISTENT),
            object,
            attrs,
        };
        Ok(PutRow { name, version, hash_is_chunk_id: has(HASH_IS_CHUNK_ID), same_content, detection, ops })
    }

    fn detection(&mut self, near_ns: i64) -> Result<Detection, FormatError> {
        let ctime_ns = near_ns.wrapping_add(self.fields.signed()?);
        self.context.ino = self.context.ino.wrapping_add(self.fields.signed()?.cast_unsigned());
        let nlink = self.fields.varint_u32()?;
        Ok(Detection { ctime_ns, ino: self.context.ino, nlink, marks: Marks::from_bits(self.fields.u8()?) })
    }

    fn object(&mut self, kind: EntryKind, hash_is_chunk_id: bool) -> Result<(Object, Vec<ContentOp>), FormatError> {
        let object = match kind {
            EntryKind::Dir | EntryKind::Fifo | EntryKind::Socket => Object::Nothing,
            EntryKind::Symlink => Object::Target(self.fields.bytes(LINK_TARGET_LEN_MAX)?.to_vec()),
            EntryKind::CharDevice | EntryKind::BlockDevice => Object::Device(self.fields.varint()?),
            EntryKind::File if hash_is_chunk_id => Object::Content(FileHash([0; 32])),
            EntryKind::File => Object::Content(FileHash(self.fields.array()?)),
        };
        if kind != EntryKind::File {
            return Ok((object, Vec::new()));
        }
        let count = self.fields.varint()?;
        if count > self.fields.remaining() as u64 {
            return Err(FormatError::Short);
        }
        let mut ops = Vec::new();
        for _ in 0..count {
            ops.push(self.op()?);
        }
        Ok((object, ops))
    }

    fn op(&mut self) -> Result<ContentOp, FormatError> {
        let head = self.fields.varint()?;
        match head & 3 {
            0 => Ok(ContentOp::Copy { n: head >> 2, from: self.fields.varint()? }),
            1 => {
                let n = u32::try_from(head >> 2).map_err(|_| FormatError::Invalid("chunk count"))?;
                let first = self.context.chunk.wrapping_add(self.fields.signed()?);
                self.context.chunk = first.wrapping_add(i64::from(n));
                Ok(ContentOp::Chunks { first: ChunkNo(first), n })
            }
            2 if head == 2 => Ok(ContentOp::Zeros { len: self.fields.varint()? }),
            _ => Err(FormatError::Invalid("content")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &[u8], ops: Vec<ContentOp>) -> Row {
        Row::Put(Box::new(PutRow {
            name: name.to_vec(),
            version: Version {
                kind: EntryKind::File,
                mode: 0o644,
                owner: Owner { uid: 1000, gid: 100, user: b"me".to_vec(), group: Vec::new() },
                size: 77,
                mtime_ns: 1_700_000_000_123_456_789,
                btime_ns: Some(1_600_000_000_000_000_000),
                link: 3,
                inconsistent: true,
                object: Object::Content(FileHash([5; 32])),
                attrs: b"\x02\x01\x40".to_vec(),
            },
            hash_is_chunk_id: false,
            same_content: false,
            detection: Detection {
                ctime_ns: -5,
                ino: u64::MAX,
                nlink: 2,
                marks: Marks { racy: true, recheck: false, attrs_known: true },
            },
            ops,
        }))
    }

    fn rows() -> Vec<Row> {
        vec![
            Row::Dir(b"a/b".to_vec()),
            file(b"one", vec![ContentOp::Chunks { first: ChunkNo(9), n: 256 }, ContentOp::Zeros { len: 1 << 40 }]),
            file(b"two", vec![ContentOp::Copy { from: 3, n: 4 }, ContentOp::Chunks { first: ChunkNo(2), n: 1 }]),
            Row::Touch { name: b"three".to_vec(), detection: Detection::default(), btime_ns: Some(-1) },
            Row::End { name: b"four".to_vec(), reason: EndReason::Deleted },
        ]
    }

    #[test]
    fn rows_come_back_in_order_and_a_cut_section_is_an_error() {
        let (mut out, mut encoder) = (Vec::new(), RowEncoder::default());
        rows().iter().for_each(|row| encoder.put(&mut out, row));
        let mut decoder = RowDecoder::new(&out);
        for row in rows() {
            assert_eq!(decoder.next_row(), Ok(Some(row)));
        }
        assert_eq!(decoder.next_row(), Ok(None));
        let mut cut = RowDecoder::new(&out[..out.len() - 1]);
        assert!((0..rows().len()).any(|_| cut.next_row().is_err()));
    }

    #[test]
    fn a_row_with_the_content_of_before_says_nothing_of_it() {
        let Row::Put(mut row) = file(b"one", Vec::new()) else { unreachable!("a put row") };
        row.same_content = true;
        row.version.size = 0;
        row.version.object = Object::Content(FileHash([0; 32]));
        let row = Row::Put(row);
        let (mut out, mut encoder) = (Vec::new(), RowEncoder::default());
        encoder.put(&mut out, &row);
        assert!(out.len() < 80);
        assert_eq!(RowDecoder::new(&out).next_row(), Ok(Some(row)));
    }

    #[test]
    fn names_that_leave_their_directory_are_refused() {
        for name in [&b".."[..], b".", b"a/b", b"a\0"] {
            let (mut out, mut encoder) = (Vec::new(), RowEncoder::default());
            encoder.put(&mut out, &Row::End { name: name.to_vec(), reason: EndReason::Deleted });
            assert!(RowDecoder::new(&out).next_row().is_err());
        }
        let (mut out, mut encoder) = (Vec::new(), RowEncoder::default());
        encoder.put(&mut out, &Row::Dir(b"a/../b".to_vec()));
        assert!(RowDecoder::new(&out).next_row().is_err());
    }
}
