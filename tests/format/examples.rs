//! Every example of `FORMAT.md`, decoded field by field, and written again to the same bytes.

use crate::fences;
use raidtape::codec::hash::hash_bytes;
use raidtape::codec::parity::{self, ParityCode, column_hash};
use raidtape::format::attrs;
use raidtape::format::block::{BlockTable, SegmentEntry};
use raidtape::format::bytes::Reader;
use raidtape::format::container::{ContainerKind, Header, SegmentHeader, SegmentKind, Trailer};
use raidtape::format::manifest::{BlockRecord, DictionaryRun, SectionTag};
use raidtape::format::manifest_rows::{ContentOp, PutRow, Row, RowDecoder, RowEncoder};
use raidtape::format::parity::{ParityMember, ParityTable};
use raidtape::model::attrs::Attrs;
use raidtape::model::entry::EntryKind;
use raidtape::model::ids::{BlockId, ChunkId, ChunkNo, FileHash, RepositoryUuid, VolumeUuid};
use raidtape::model::params::HashAlgo;
use raidtape::model::version::{Detection, EndReason, Marks, Object, Owner, Version};

const CHUNKS: [&[u8]; 2] = [b"hello, tape\n", b"RaidTape\n"];
const BLOCK_ID: &str = "429d6d5b0610168ceca2c5471994c71ea11636e588165859534fb0278f726794";

/// Equal, or the right bytes in the message, ready to be put into the document.
#[track_caller]
fn assert_bytes(found: &[u8], expected: &[u8]) {
    let hex = |bytes: &[u8]| {
        let lines = bytes.chunks(16).map(|line| line.iter().map(|byte| format!("{byte:02x} ")).collect::<String>());
        lines.collect::<Vec<_>>().join("\n")
    };
    assert!(found == expected, "the document has\n{}\nthe library writes\n{}", hex(found), hex(expected));
}

fn chunk(index: usize) -> (ChunkId, u32) {
    let bytes = CHUNKS[index];
    (ChunkId(hash_bytes(HashAlgo::Blake3, bytes)), u32::try_from(bytes.len()).unwrap())
}

fn header() -> Header {
    let mut salt = [0; 32];
    salt[..16].copy_from_slice(&[0xa5; 16]);
    let repository = RepositoryUuid(*b"\x11\x11\x11\x11\x22\x22\x43\x33\x84\x44\x55\x55\x55\x55\x55\x55");
    Header { kind: ContainerKind::Block, hash: HashAlgo::Blake3, repository, salt }
}

fn segment_header() -> SegmentHeader {
    SegmentHeader { kind: SegmentKind::Data as u8, codec: 0, index: 0, stored_len: 21, raw_len: 21 }
}

fn table() -> BlockTable {
    let segment = SegmentEntry { offset: 96, stored_len: 21, raw_len: 21, codec: 0, chunks: vec![chunk(0), chunk(1)] };
    BlockTable { segments: vec![segment] }
}

fn table_header() -> SegmentHeader {
    SegmentHeader { kind: SegmentKind::Table as u8, codec: 0, index: 1, stored_len: 104, raw_len: 104 }
}

fn trailer() -> Trailer {
    Trailer { table_offset: 149, table_len: 136, segment_count: 2, pad_len: 0, file_len: 349 }
}

#[test]
fn the_example_of_a_header() {
    let bytes = fences::bytes("header");
    assert_bytes(&bytes, &header().encode());
    assert_eq!(Header::decode(&bytes), Ok(header()));
}

#[test]
fn the_example_of_a_segment() {
    let bytes = fences::bytes("segment");
    let stored = CHUNKS.concat();
    assert_bytes(&bytes, &[&segment_header().encode(&stored)[..], &stored].concat());
    assert_eq!(SegmentHeader::decode(&bytes), Ok(segment_header()));
    assert_eq!(SegmentHeader::check(&bytes[..32], &bytes[32..]), Ok(()));
}

#[test]
fn the_example_of_a_block_table() {
    let bytes = fences::bytes("table");
    let stored = table().encode();
    assert_bytes(&bytes, &[&table_header().encode(&stored)[..], &stored].concat());
    assert_eq!(SegmentHeader::decode(&bytes), Ok(table_header()));
    assert_eq!(SegmentHeader::check(&bytes[..32], &bytes[32..]), Ok(()));
    assert_eq!(BlockTable::decode(&bytes[32..], 149), Ok(table()));
}

#[test]
fn the_example_of_a_trailer() {
    let bytes = fences::bytes("trailer");
    assert_bytes(&bytes, &trailer().encode());
    assert_eq!(Trailer::decode(&bytes, 349), Ok(trailer()));
}

#[test]
fn the_four_examples_one_behind_the_other_are_the_block_of_that_name() {
    let block = ["header", "segment", "table", "trailer"].map(fences::bytes).concat();
    assert_eq!(block.len(), 349);
    assert_eq!(BlockId(hash_bytes(HashAlgo::Blake3, &block)).to_string(), BLOCK_ID);
    assert!(include_str!("../../src/format/FORMAT.md").contains(&format!("`{BLOCK_ID}`")));
}

#[test]
fn the_example_of_a_block_record() {
    let record = BlockRecord {
        id: BLOCK_ID.parse().unwrap(),
        size: 349,
        kind: 1,
        volumes: vec![VolumeUuid([0x77; 16])],
        table: table(),
        numbers: vec![ChunkNo(41), ChunkNo(42)],
    };
    let mut section = SectionTag::Blocks.start();
    record.encode(&mut section);
    let bytes = fences::bytes("blocks");
    assert_bytes(&bytes, &section);
    let (tag, body) = SectionTag::split(&bytes).unwrap().unwrap();
    let mut fields = Reader::new(body);
    assert_eq!((tag, BlockRecord::decode(&mut fields), fields.is_at_end()), (SectionTag::Blocks, Ok(record), true));
}

#[test]
fn the_example_of_a_dictionary() {
    let run = DictionaryRun { first: ChunkNo(7), chunks: vec![(ChunkId([0xcc; 32]), 65_536)] };
    let mut section = SectionTag::Dictionary.start();
    run.encode(&mut section);
    let bytes = fences::bytes("dictionary");
    assert_bytes(&bytes, &section);
    let (tag, body) = SectionTag::split(&bytes).unwrap().unwrap();
    let mut fields = Reader::new(body);
    assert_eq!((tag, DictionaryRun::decode(&mut fields), fields.is_at_end()), (SectionTag::Dictionary, Ok(run), true));
}

const SECOND_NS: i64 = 1_000_000_000;

fn put(name: &[u8], kind: EntryKind, (mode, ino): (u32, u64), object: Object) -> PutRow {
    let is_root = name.is_empty();
    let version = Version {
        kind,
        mode,
        owner: Owner { uid: 1000, gid: 100, user: b"ann".to_vec(), group: b"users".to_vec() },
        size: 0,
        mtime_ns: 1_700_000_000 * SECOND_NS,
        btime_ns: is_root.then_some(1_699_999_999 * SECOND_NS),
        link: 0,
        inconsistent: false,
        object,
        attrs: Vec::new(),
    };
    let marks = Marks { racy: false, recheck: false, attrs_known: false };
    let detection = Detection { ctime_ns: 1_700_000_000 * SECOND_NS, ino, nlink: 1, marks };
    PutRow { name: name.to_vec(), version, hash_is_chunk_id: false, same_content: false, detection, ops: Vec::new() }
}

fn rows() -> Vec<Row> {
    let mut note = put(b"note", EntryKind::File, (0o644, 131), Object::Content(FileHash([0; 32])));
    note.version.size = 12;
    note.hash_is_chunk_id = true;
    note.ops = vec![ContentOp::Chunks { first: ChunkNo(41), n: 1 }];
    let mut kept = put(b"kept", EntryKind::File, (0o400, 134), Object::Content(FileHash([0; 32])));
    kept.same_content = true;
    let mut disk = put(b"disk", EntryKind::File, (0o600, 130), Object::Content(FileHash([0xee; 32])));
    disk.version.size = (1 << 20) + 65_536 + 9;
    disk.version.mtime_ns += 1;
    disk.version.link = 3;
    disk.version.inconsistent = true;
    disk.detection.nlink = 2;
    disk.detection.marks.racy = true;
    disk.ops = vec![
        ContentOp::Copy { from: 0, n: 1 },
        ContentOp::Zeros { len: 1 << 20 },
        ContentOp::Chunks { first: ChunkNo(42), n: 1 },
    ];
    vec![
        Row::Dir(Vec::new()),
        Row::Put(Box::new(put(b"", EntryKind::Dir, (0o755, 128), Object::Nothing))),
        Row::Put(Box::new(note)),
        Row::Put(Box::new(disk)),
        Row::Dir(b"sub".to_vec()),
        Row::Put(Box::new(put(b"to", EntryKind::Symlink, (0o777, 132), Object::Target(b"../note".to_vec())))),
        Row::Put(Box::new(put(b"null", EntryKind::CharDevice, (0o666, 133), Object::Device(0x103)))),
        Row::Put(Box::new(kept)),
        Row::Touch {
            name: b"old".to_vec(),
            detection: Detection { ctime_ns: 5, ino: 135, nlink: 1, marks: Marks::default() },
            btime_ns: None,
        },
        Row::End { name: b"gone".to_vec(), reason: EndReason::Deleted },
    ]
}

#[test]
fn the_example_of_rows() {
    let (mut section, mut encoder) = (SectionTag::Rows.start(), RowEncoder::default());
    rows().iter().for_each(|row| encoder.put(&mut section, row));
    let bytes = fences::bytes("rows");
    assert_bytes(&bytes, &section);
    let (tag, body) = SectionTag::split(&bytes).unwrap().unwrap();
    assert_eq!(tag, SectionTag::Rows);
    let mut decoder = RowDecoder::new(body);
    for row in rows() {
        assert_eq!(decoder.next_row(), Ok(Some(row)));
    }
    assert_eq!(decoder.next_row(), Ok(None));
}

#[test]
fn the_example_of_attributes() {
    let bytes = fences::bytes("attributes");
    let expected = Attrs {
        xattrs: vec![(b"user.a".to_vec(), b"hi".to_vec())],
        flags: 0x80,
        project: 77,
        holes: Some(vec![(4096, 8192), (16_384, 4096)]),
    };
    assert_bytes(&bytes, &attrs::encode(&expected));
    assert_eq!(attrs::decode(&bytes).unwrap(), expected);
}

/// The block of the document alone in a group of three with two parities; of these the second.
#[test]
fn the_example_of_a_parity_table() {
    let block = ["header", "segment", "table", "trailer"].map(fences::bytes).concat();
    let mut parity = vec![Vec::new(); 2];
    let code = ParityCode::new(3, 2).unwrap();
    code.encode(&[b"", &block, b""], block.len(), &mut parity).unwrap();
    let member = ParityMember {
        position: 1,
        block: BLOCK_ID.parse().unwrap(),
        len: block.len() as u64,
        hashes: vec![column_hash(&block)],
    };
    let expected = ParityTable {
        algorithm: parity::ALGORITHM,
        group: [0x99; 16],
        positions: 3,
        parities: 2,
        index: 1,
        column_len: 1 << 20,
        members: vec![member],
        hashes: vec![column_hash(&parity[1])],
    };
    let bytes = fences::bytes("parity");
    assert_bytes(&bytes, &expected.encode());
    assert_eq!(ParityTable::decode(&bytes), Ok(expected));
}

/// The number 1 at one position and nothing elsewhere makes that position's factors the parities.
#[test]
fn the_example_of_factors() {
    let mut factors = Vec::new();
    let code = ParityCode::new(2, 3).unwrap();
    for index in 0..3 {
        for position in 0..2 {
            let mut parity = vec![Vec::new(); 3];
            code.toggle(position, &[1], &mut parity).unwrap();
            factors.extend([parity[index][0], parity[index][32]]);
        }
    }
    assert_bytes(&fences::bytes("parity factors"), &factors);
}

#[test]
fn the_example_of_a_row_hash() {
    let mut link = put(b"to", EntryKind::Symlink, (0o777, 132), Object::Target(b"note".to_vec())).version;
    link.owner = Owner { uid: 1000, gid: 100, user: Vec::new(), group: Vec::new() };
    link.mtime_ns = 1;
    let canonical = fences::bytes("canonical row");
    assert_eq!(hash_bytes(HashAlgo::Blake3, &canonical), link.row_hash(b"to"));
}

#[test]
fn every_example_of_the_document_is_looked_at_here() {
    let known = [
        "header",
        "segment",
        "table",
        "trailer",
        "blocks",
        "dictionary",
        "attributes",
        "rows",
        "canonical row",
        "parity",
        "parity factors",
    ];
    assert_eq!(fences::names(), known);
}
