//! What is encoded decodes to the same, and what is changed on its way is an error or a checked value.

use crate::targets::{frames, manifests, mend, parities, tables};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use raidtape::format::attrs::encode as encode_attrs;
use raidtape::format::block::{BlockTable, SegmentEntry};
use raidtape::format::bytes::Reader;
use raidtape::format::container::{ContainerKind, Header, SegmentHeader, Trailer};
use raidtape::format::label::{Features, Label};
use raidtape::format::manifest::{BlockRecord, DictionaryRun};
use raidtape::format::manifest_rows::{ContentOp, PutRow, Row, RowDecoder, RowEncoder};
use raidtape::format::parity::{ParityMember, ParityTable};
use raidtape::model::attrs::{Attrs, FLAGS_KEPT};
use raidtape::model::entry::EntryKind;
use raidtape::model::ids::{BlockId, ChunkId, ChunkNo, FileHash, RepositoryUuid, VolumeUuid};
use raidtape::model::params::{ChunkerParams, HashAlgo, Reserve};
use raidtape::model::version::{Detection, EndReason, Marks, Object, Owner, Version};

fn algo() -> impl Strategy<Value = HashAlgo> {
    prop_oneof![Just(HashAlgo::Blake3), Just(HashAlgo::Sha256)]
}

fn header() -> impl Strategy<Value = Header> {
    let kind = prop_oneof![Just(ContainerKind::Block), Just(ContainerKind::Manifest)];
    (kind, algo(), any::<[u8; 16]>(), any::<[u8; 32]>()).prop_map(|(kind, hash, repository, salt)| Header {
        kind,
        hash,
        repository: RepositoryUuid(repository),
        salt,
    })
}

fn label() -> impl Strategy<Value = Label> {
    let chunker = (6_u32..21, 1_u32..2, 0_u32..3).prop_filter_map("chunker", |(bits, more, normalization)| {
        let avg = 1 << (bits + 1);
        let params = ChunkerParams { min: avg / 2, avg, max: avg + more, normalization };
        (normalization + 4 <= bits + 1).then_some(params)
    });
    let reserve =
        prop_oneof![any::<u64>().prop_map(Reserve::Bytes), (0_u32..100).prop_map(|n| Reserve::Percent(n.into()))];
    (any::<[u8; 16]>(), any::<[u8; 16]>(), "[^\\p{Cc}]{1,60}", algo(), chunker, reserve, vec("[a-z]{1,9}", 0..5))
        .prop_map(|(repository, volume, name, hash, chunker, reserve, optional)| Label {
            repository: RepositoryUuid(repository),
            volume: VolumeUuid(volume),
            name,
            created: "2026-01-02T03:04:05Z".parse().unwrap(),
            hash,
            chunker,
            block_size: 64 << 20,
            reserve,
            redundancy: raidtape::model::redundancy::Redundancy::None,
            features: Features { required: Vec::new(), optional },
        })
}

/// Chunks by segment, and what is between the segments.
fn table() -> impl Strategy<Value = BlockTable> {
    let chunk = (any::<[u8; 32]>(), 1_u32..20_000).prop_map(|(id, len)| (ChunkId(id), len));
    vec((0_u64..100, 0_u32..100_000, any::<u8>(), vec(chunk, 1..6)), 0..6).prop_map(|segments| {
        let mut at = 96;
        let mut table = BlockTable::default();
        for (gap, stored_len, codec, chunks) in segments {
            let raw_len = chunks.iter().map(|(_, len)| len).sum();
            table.segments.push(SegmentEntry { offset: at + gap, stored_len, raw_len, codec, chunks });
            at += gap + 32 + u64::from(stored_len);
        }
        table
    })
}

fn end_of(table: &BlockTable) -> u64 {
    table.segments.last().map_or(96, |last| last.offset + 32 + u64::from(last.stored_len))
}

fn record() -> impl Strategy<Value = BlockRecord> {
    let volumes = vec(any::<[u8; 16]>().prop_map(VolumeUuid), 0..4);
    (any::<[u8; 32]>(), table(), volumes, vec(any::<i64>(), 40), 200_u64..9000).prop_map(
        |(id, table, volumes, numbers, more)| {
            let numbers = numbers.into_iter().take(table.chunk_count()).map(ChunkNo).collect();
            BlockRecord { id: BlockId(id), size: end_of(&table) + more, kind: 1, volumes, table, numbers }
        },
    )
}

/// A group whose members are found by their number: some positions are empty, the first never.
fn parity_table() -> impl Strategy<Value = ParityTable> {
    let member = (any::<[u8; 31]>(), 1_u64..40_000, vec(any::<[u8; 16]>(), 10), any::<bool>());
    let numbers = (any::<u8>(), any::<[u8; 16]>(), 1_u8..=8, any::<u8>(), 1_u32..1000);
    (numbers, vec(member, 1..=32), vec(any::<[u8; 16]>(), 10)).prop_map(|(numbers, positions, own)| {
        let (algorithm, group, parities, index, unit) = numbers;
        let column_len = 4096 + 64 * unit;
        let cut = |mut hashes: Vec<[u8; 16]>, len: u64| {
            hashes.truncate(usize::try_from(len.div_ceil(column_len.into())).unwrap());
            hashes
        };
        let count = u8::try_from(positions.len()).unwrap();
        let taken = (0..).zip(positions).filter(|(position, (.., is_filled))| *position == 0 || *is_filled);
        let members: Vec<_> = taken
            .map(|(position, (id, len, hashes, _))| {
                let block = BlockId([&[position][..], &id].concat().try_into().unwrap());
                ParityMember { position, block, len, hashes: cut(hashes, len) }
            })
            .collect();
        let hashes = cut(own, members.iter().map(|member| member.len).max().unwrap());
        let index = index % parities;
        ParityTable { algorithm, group, positions: count, parities, index, column_len, members, hashes }
    })
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>().prop_filter("no name", |byte| !matches!(byte, 0 | b'/' | b'.')), 1..=255)
}

fn detection() -> impl Strategy<Value = Detection> {
    (any::<i64>(), any::<u64>(), any::<u32>(), 0..8_u8).prop_map(|(ctime_ns, ino, nlink, bits)| Detection {
        ctime_ns,
        ino,
        nlink,
        marks: Marks::from_bits(bits),
    })
}

fn op() -> impl Strategy<Value = ContentOp> {
    prop_oneof![
        (any::<u64>(), 0..1_u64 << 62).prop_map(|(from, n)| ContentOp::Copy { from, n }),
        (any::<i64>(), any::<u32>()).prop_map(|(first, n)| ContentOp::Chunks { first: ChunkNo(first), n }),
        any::<u64>().prop_map(|len| ContentOp::Zeros { len }),
    ]
}

/// Encoded attributes.
fn attrs() -> impl Strategy<Value = Vec<u8>> {
    let xattrs = proptest::collection::btree_map(name(), vec(any::<u8>(), 0..20), 0..4);
    let holes = vec((1..1_u64 << 40, 1..1_u64 << 40), 0..4).prop_map(|steps| {
        let mut at = 0;
        let hole = |(gap, len)| {
            let start = at + gap;
            at = start + len;
            (start, len)
        };
        steps.into_iter().map(hole).collect()
    });
    (xattrs, any::<u32>(), any::<u32>(), proptest::option::of(holes)).prop_map(|(xattrs, flags, project, holes)| {
        encode_attrs(&Attrs { xattrs: xattrs.into_iter().collect(), flags: flags & FLAGS_KEPT, project, holes })
    })
}

fn put_row() -> impl Strategy<Value = Row> {
    let owner = (any::<u32>(), any::<u32>(), vec(any::<u8>(), 0..9), vec(any::<u8>(), 0..9))
        .prop_map(|(uid, gid, user, group)| Owner { uid, gid, user, group });
    let what = (0..7_usize, any::<[u8; 32]>(), vec(1_u8.., 1..50), any::<u64>(), any::<bool>(), any::<bool>());
    let numbers =
        (0..0o10000_u32, 0..i64::MAX as u64, any::<i64>(), any::<Option<i64>>(), 0..1_i64 << 60, any::<bool>());
    (name(), owner, what, numbers, detection(), vec(op(), 0..6), attrs()).prop_map(
        |(name, owner, (kind, hash, target, device, by_chunk, same), numbers, detection, ops, attrs)| {
            let (mode, size, mtime_ns, btime_ns, link, inconsistent) = numbers;
            let kind = EntryKind::ALL[kind];
            let (is_file, no_hash) = (kind == EntryKind::File, FileHash([0; 32]));
            let (same_content, hash_is_chunk_id) = (is_file && same, by_chunk);
            let object = match kind {
                EntryKind::File => Object::Content(if same || by_chunk { no_hash } else { FileHash(hash) }),
                EntryKind::Symlink => Object::Target(target),
                EntryKind::CharDevice | EntryKind::BlockDevice => Object::Device(device),
                _ => Object::Nothing,
            };
            let size = if same_content { 0 } else { size };
            let ops = if is_file && !same { ops } else { Vec::new() };
            let version = Version { kind, mode, owner, size, mtime_ns, btime_ns, link, inconsistent, object, attrs };
            Row::Put(Box::new(PutRow { name, version, hash_is_chunk_id, same_content, detection, ops }))
        },
    )
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = prop_oneof![
        1 => vec(name(), 0..4).prop_map(|names| Row::Dir(names.join(&b'/'))),
        4 => put_row(),
        1 => (name(), detection(), any::<Option<i64>>())
            .prop_map(|(name, detection, btime_ns)| Row::Touch { name, detection, btime_ns }),
        1 => name().prop_map(|name| Row::End { name, reason: EndReason::Excluded }),
    ];
    vec(row, 0..12)
}

/// Bytes with some hit.
fn hit(mut bytes: Vec<u8>, hits: &[(usize, u8)], cut: usize) -> Vec<u8> {
    for (at, byte) in hits {
        let len = bytes.len().max(1);
        if let Some(hit) = bytes.get_mut(at % len) {
            *hit ^= byte;
        }
    }
    if cut.is_multiple_of(4) {
        bytes.truncate(cut / 4 % (bytes.len() + 1));
    }
    bytes
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn frames_come_back(
        header in header(), numbers in any::<[u32; 4]>(), kind in any::<u8>(),
        (at, len, more) in (0..u64::MAX / 4, 0..u64::MAX / 4, 0..u64::MAX / 4),
    ) {
        assert_eq!(Header::decode(&header.encode()), Ok(header));
        let [index, stored_len, raw_len, segment_count] = numbers;
        let segment = SegmentHeader { kind, codec: kind, index, stored_len, raw_len };
        assert_eq!(SegmentHeader::decode(&segment.encode(b"body")), Ok(segment));
        assert_eq!(SegmentHeader::check(&segment.encode(b"body"), b"body"), Ok(()));
        let file_len = at + len + more;
        let trailer = Trailer { table_offset: at, table_len: len, segment_count, pad_len: index, file_len };
        assert_eq!(Trailer::decode(&trailer.encode(), file_len), Ok(trailer));
    }

    #[test]
    fn labels_come_back_and_changed_ones_are_refused_or_mean_the_same(
        label in label(), hits in vec((any::<usize>(), 1_u8..), 1..4), cut in any::<usize>(),
    ) {
        assert_eq!(Label::decode(&label.encode()), Ok(label.clone()));
        let changed = hit(label.encode(), &hits, cut);
        if let Ok(read) = Label::decode(&changed) {
            assert_eq!(read, label);
        }
        frames::label(&changed);
    }

    #[test]
    fn tables_come_back_and_changed_ones_are_refused_or_checked(
        table in table(), hits in vec((any::<usize>(), 1_u8..), 1..4), cut in any::<usize>(),
    ) {
        let end = end_of(&table);
        assert_eq!(BlockTable::decode(&table.encode(), end), Ok(table.clone()));
        let changed = [&end.to_le_bytes()[..], &hit(table.encode(), &hits, cut)].concat();
        tables::table(&changed);
    }

    #[test]
    fn parity_tables_come_back_and_changed_ones_are_refused_or_checked(
        table in parity_table(), hits in vec((any::<usize>(), 1_u8..), 1..4), cut in any::<usize>(),
    ) {
        assert_eq!(ParityTable::decode(&table.encode()), Ok(table.clone()));
        let raw = table.encode();
        for len in 0..raw.len() {
            assert!(ParityTable::decode(&raw[..len]).is_err());
        }
        parities::table(&hit(raw, &hits, cut));
    }

    #[test]
    fn block_records_come_back_and_changed_ones_are_refused_or_checked(
        record in record(), hits in vec((any::<usize>(), 1_u8..), 1..4), cut in any::<usize>(),
    ) {
        let mut out = Vec::new();
        record.encode(&mut out);
        assert_eq!(BlockRecord::decode(&mut Reader::new(&out)), Ok(record));
        manifests::records(&hit(out, &hits, cut));
    }

    #[test]
    fn dictionaries_come_back_and_changed_ones_are_refused_or_checked(
        first in any::<i64>(), chunks in vec((any::<[u8; 32]>(), 1_u32..4 << 20), 0..20),
        hits in vec((any::<usize>(), 1_u8..), 1..4), cut in any::<usize>(),
    ) {
        let chunks = chunks.into_iter().map(|(id, len)| (ChunkId(id), len)).collect();
        let run = DictionaryRun { first: ChunkNo(first), chunks };
        let mut out = Vec::new();
        run.encode(&mut out);
        assert_eq!(DictionaryRun::decode(&mut Reader::new(&out)), Ok(run));
        manifests::records(&hit(out, &hits, cut));
    }

    #[test]
    fn rows_come_back_and_changed_ones_are_refused_or_checked(
        rows in rows(), hits in vec((any::<usize>(), 1_u8..), 1..4), cut in any::<usize>(),
    ) {
        let (mut out, mut encoder) = (Vec::new(), RowEncoder::default());
        rows.iter().for_each(|row| encoder.put(&mut out, row));
        let mut decoder = RowDecoder::new(&out);
        for row in rows {
            assert_eq!(decoder.next_row(), Ok(Some(row)));
        }
        assert_eq!(decoder.next_row(), Ok(None));
        manifests::rows(&hit(out, &hits, cut));
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in vec(any::<u8>(), 0..600)) {
        crate::targets::ALL.iter().for_each(|(_, target)| target(&data));
        let mut mended = [&b"RAIDTAPE\x01\0\0\0\x01\x01\x01\0\x60\0\0\0"[..], &data].concat();
        mend(&mut mended);
        tables::block(&mended);
        manifests::manifest(&mended);
    }
}

#[test]
fn sections_that_are_swapped_doubled_or_left_out_are_an_error_or_checked() {
    for manifest in crate::corpus::of("manifest") {
        let sections: Vec<&[u8]> = sections(&manifest);
        let put = |order: &[usize]| {
            let middle: Vec<u8> = order.iter().flat_map(|at| sections[*at].to_vec()).collect();
            let end = &manifest[manifest.len() - 64..];
            manifests::manifest(&[&manifest[..96], &middle, end].concat());
        };
        let all: Vec<usize> = (0..sections.len()).collect();
        for at in 0..sections.len() {
            for other in 0..sections.len() {
                let mut order = all.clone();
                order.swap(at, other);
                put(&order);
                order.insert(at, other);
                put(&order);
            }
            put(&[&all[..at], &all[at + 1..]].concat());
        }
    }
}

/// The sections of a manifest as they lie in it, headers included.
fn sections(manifest: &[u8]) -> Vec<&[u8]> {
    let (mut at, mut found) = (96, Vec::new());
    while at + 64 < manifest.len() {
        let len = 32 + SegmentHeader::decode(&manifest[at..]).unwrap().stored_len as usize;
        found.push(&manifest[at..at + len]);
        at += len;
    }
    found
}
