//! A row of a run under way as bytes: a tenth of what it takes as values, of which a first run has as many as its
//! source has files. Private to one process; nothing of it outlives the run.

use super::error::{CatalogError, Result};
use super::versions::Change;
use crate::format::bytes::{Reader, put_bytes, put_signed, put_varint};
use crate::format::container::FormatError;
use crate::model::content::{Content, Extent};
use crate::model::entry::EntryKind;
use crate::model::ids::{ChunkNo, ContentId, FileHash};
use crate::model::version::{Detection, EndReason, Marks, Object, Owner, Version};

const OP_PUT: u8 = 1;
const OP_TOUCH: u8 = 2;
const OP_END: u8 = 3;

const HAS_BTIME: u8 = 1;
const IS_INCONSISTENT: u8 = 2;
const HAS_CONTENT: u8 = 4;

/// What [`decode`] brings back: name, change, and the content that it was encoded with.
pub type SpoolRow = (Vec<u8>, Change, Option<Content>);

/// The row but for its directory and the number of its content, which [`decode`] is told. `content`: a file's, where
/// this run read it.
pub fn encode(name: &[u8], change: &Change, content: Option<&Content>) -> Box<[u8]> {
    let mut out = Vec::with_capacity(192 + name.len());
    put_bytes(&mut out, name);
    match change {
        Change::Put { version, detection, .. } => {
            out.push(OP_PUT);
            put_version(&mut out, version, content);
            put_detection(&mut out, detection);
        }
        Change::Touch { detection, btime_ns } => {
            out.push(OP_TOUCH);
            out.push(if btime_ns.is_some() { HAS_BTIME } else { 0 });
            put_signed(&mut out, btime_ns.unwrap_or(0));
            put_detection(&mut out, detection);
        }
        Change::End(reason) => out.extend([OP_END, *reason as u8]),
    }
    out.into_boxed_slice()
}

fn put_version(out: &mut Vec<u8>, version: &Version, content: Option<&Content>) {
    let mut flags = 0;
    flags |= if version.btime_ns.is_some() { HAS_BTIME } else { 0 };
    flags |= if version.inconsistent { IS_INCONSISTENT } else { 0 };
    flags |= if content.is_some() { HAS_CONTENT } else { 0 };
    out.extend([flags, version.kind as u8]);
    put_varint(out, u64::from(version.mode));
    put_varint(out, u64::from(version.owner.uid));
    put_varint(out, u64::from(version.owner.gid));
    put_bytes(out, &version.owner.user);
    put_bytes(out, &version.owner.group);
    put_varint(out, version.size);
    put_signed(out, version.mtime_ns);
    put_signed(out, version.btime_ns.unwrap_or(0));
    put_signed(out, version.link);
    put_bytes(out, &version.attrs);
    match &version.object {
        Object::Content(hash) => {
            out.push(1);
            out.extend(hash.0);
        }
        Object::Nothing => out.push(2),
        Object::Target(target) => {
            out.push(3);
            put_bytes(out, target);
        }
        Object::Device(number) => {
            out.push(4);
            put_varint(out, *number);
        }
    }
    let Some(content) = content else { return };
    put_varint(out, content.size);
    out.extend(content.hash.0);
    put_varint(out, content.extents.len() as u64);
    for extent in &content.extents {
        put_varint(out, extent.at);
        put_signed(out, extent.chunk.0);
        put_varint(out, u64::from(extent.n));
    }
}

fn put_detection(out: &mut Vec<u8>, detection: &Detection) {
    put_signed(out, detection.ctime_ns);
    put_varint(out, detection.ino);
    put_varint(out, u64::from(detection.nlink));
    out.push(detection.marks.bits());
}

/// The row that was encoded; `id` is the number of its content, where it has one.
///
/// # Errors
/// `Damaged` if these are not bytes that [`encode`] made.
pub fn decode(row: &[u8], id: Option<ContentId>) -> Result<SpoolRow> {
    let mut from = Reader::new(row);
    let decoded = read(&mut from, id);
    match decoded {
        Ok(row) if from.is_at_end() => Ok(row),
        _ => Err(CatalogError::damaged("a row that was kept for the end of the run does not read back")),
    }
}

fn read(from: &mut Reader<'_>, id: Option<ContentId>) -> std::result::Result<SpoolRow, FormatError> {
    let name = from.bytes(usize::MAX)?.to_vec();
    match from.u8()? {
        OP_PUT => {
            let (version, content) = read_version(from)?;
            let detection = read_detection(from)?;
            Ok((name, Change::Put { version, content: id, detection }, content))
        }
        OP_TOUCH => {
            let btime_ns = read_btime(from.u8()?, from.signed()?);
            Ok((name, Change::Touch { detection: read_detection(from)?, btime_ns }, None))
        }
        OP_END => {
            let reason = EndReason::from_tag(from.u8()?).ok_or(FormatError::Invalid("reason"))?;
            Ok((name, Change::End(reason), None))
        }
        _ => Err(FormatError::Invalid("kind of a row")),
    }
}

fn read_btime(flags: u8, btime_ns: i64) -> Option<i64> {
    (flags & HAS_BTIME != 0).then_some(btime_ns)
}

fn read_version(from: &mut Reader<'_>) -> std::result::Result<(Version, Option<Content>), FormatError> {
    let flags = from.u8()?;
    let tag = from.u8()?;
    let kind = EntryKind::ALL.into_iter().find(|kind| *kind as u8 == tag).ok_or(FormatError::Invalid("kind"))?;
    let mode = from.varint_u32()?;
    let owner = Owner {
        uid: from.varint_u32()?,
        gid: from.varint_u32()?,
        user: from.bytes(usize::MAX)?.to_vec(),
        group: from.bytes(usize::MAX)?.to_vec(),
    };
    let size = from.varint()?;
    let mtime_ns = from.signed()?;
    let btime_ns = read_btime(flags, from.signed()?);
    let link = from.signed()?;
    let attrs = from.bytes(usize::MAX)?.to_vec();
    let object = match from.u8()? {
        1 => Object::Content(FileHash(from.array()?)),
        2 => Object::Nothing,
        3 => Object::Target(from.bytes(usize::MAX)?.to_vec()),
        4 => Object::Device(from.varint()?),
        _ => return Err(FormatError::Invalid("object")),
    };
    let inconsistent = flags & IS_INCONSISTENT != 0;
    let content = if flags & HAS_CONTENT == 0 { None } else { Some(read_content(from)?) };
    Ok((Version { kind, mode, owner, size, mtime_ns, btime_ns, link, inconsistent, object, attrs }, content))
}

fn read_content(from: &mut Reader<'_>) -> std::result::Result<Content, FormatError> {
    let (size, hash, count) = (from.varint()?, FileHash(from.array()?), from.varint()?);
    let mut extents = Vec::new();
    for _ in 0..count {
        extents.push(Extent { at: from.varint()?, chunk: ChunkNo(from.signed()?), n: from.varint_u32()? });
    }
    Ok(Content { size, hash, extents })
}

fn read_detection(from: &mut Reader<'_>) -> std::result::Result<Detection, FormatError> {
    Ok(Detection {
        ctime_ns: from.signed()?,
        ino: from.varint()?,
        nlink: from.varint_u32()?,
        marks: Marks::from_bits(from.u8()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(kind: EntryKind, object: Object) -> Version {
        Version {
            kind,
            mode: 0o7755,
            owner: Owner { uid: u32::MAX, gid: 8, user: b"\xffu".to_vec(), group: Vec::new() },
            size: u64::MAX,
            mtime_ns: i64::MIN,
            btime_ns: Some(-3),
            link: 2,
            inconsistent: kind == EntryKind::File,
            object,
            attrs: b"\x02\x01\x40".to_vec(),
        }
    }

    /// Every kind of change, with and without a content.
    pub(in crate::catalog) fn every_change() -> Vec<(Change, Option<Content>)> {
        let marks = Marks { racy: true, recheck: false, attrs_known: true };
        let detection = Detection { ctime_ns: i64::MAX, ino: u64::MAX, nlink: 1, marks };
        let extent = |at, chunk, n| Extent { at, chunk: ChunkNo(chunk), n };
        let put = |kind, object| Change::Put { version: version(kind, object), content: None, detection };
        let contents = [
            Content { size: 0, hash: FileHash([1; 32]), extents: Vec::new() },
            Content { size: 9, hash: FileHash([2; 32]), extents: vec![extent(0, 4, 2)] },
            Content { size: 99, hash: FileHash([3; 32]), extents: vec![extent(0, 4, 256), extent(9, 0, 1)] },
        ];
        let mut all: Vec<_> = contents
            .into_iter()
            .map(|content| (put(EntryKind::File, Object::Content(content.hash)), Some(content)))
            .collect();
        all.extend([
            (put(EntryKind::File, Object::Content(FileHash([4; 32]))), None),
            (put(EntryKind::Dir, Object::Nothing), None),
            (put(EntryKind::Symlink, Object::Target(b"\xff/..".to_vec())), None),
            (put(EntryKind::CharDevice, Object::Device(u64::MAX)), None),
            (Change::Touch { detection, btime_ns: None }, None),
            (Change::Touch { detection: Detection::default(), btime_ns: Some(0) }, None),
            (Change::End(EndReason::Deleted), None),
            (Change::End(EndReason::Excluded), None),
        ]);
        all
    }

    #[test]
    fn every_row_comes_back_as_it_was() {
        for (change, content) in every_change() {
            let row = encode(b"na\nme", &change, content.as_ref());
            let (name, back, found) = decode(&row, None).unwrap();
            assert_eq!((name.as_slice(), &found), (&b"na\nme"[..], &content));
            assert_eq!(format!("{back:?}"), format!("{change:?}"));
            for end in 0..row.len() {
                assert!(decode(&row[..end], None).is_err(), "{end} of {} bytes of {change:?}", row.len());
            }
        }
    }

    #[test]
    fn a_row_takes_the_number_of_its_content_where_it_has_one() {
        for (change, content) in every_change() {
            let (_, back, _) = decode(&encode(b"", &change, content.as_ref()), Some(ContentId(7))).unwrap();
            let is_put = matches!(change, Change::Put { .. });
            assert_eq!(super::super::pending::content_of(&back), is_put.then_some(ContentId(7)));
        }
    }
}
