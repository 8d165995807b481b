//! Small real inputs for every target, from the volumes that released versions wrote and from what the library writes.

use crate::targets::rebuild::{RECORD, fixture};
use raidtape::engine::block_file::{SegmentReader, SegmentRef};
use raidtape::format::container::{SEGMENT_HEADER_LEN, SegmentHeader, Trailer};
use raidtape::format::parity::{ParityMember, ParityTable};
use raidtape::model::ids::BlockId;
use std::fs;
use std::path::{Path, PathBuf};

/// All files below a folder, in order.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() { found.extend(files(&entry)) } else { found.push(entry) }
    }
    found.sort();
    found
}

fn volume(part: &str) -> Vec<Vec<u8>> {
    files(&fixture().join(part)).iter().map(|path| fs::read(path).expect("a file")).collect()
}

/// The sections of a manifest, decoded.
fn sections(manifest: &[u8]) -> Vec<Vec<u8>> {
    let (mut at, mut found) = (96, Vec::new());
    while at + 64 + SEGMENT_HEADER_LEN <= manifest.len() {
        let header = SegmentHeader::decode(&manifest[at..]).expect("a section");
        let place = SegmentRef {
            offset: at as u64,
            stored_len: header.stored_len,
            raw_len: header.raw_len,
            codec: header.codec,
        };
        let object = crate::targets::Memory(manifest);
        found.push(SegmentReader::new().read(&object, &place).expect("a sound section").to_vec());
        at += SEGMENT_HEADER_LEN + header.stored_len as usize;
    }
    found
}

/// The same manifest with sections that are not compressed, so that a changed byte is a changed field.
pub fn plain(manifest: &[u8]) -> Vec<u8> {
    let mut out = manifest[..96].to_vec();
    let sections = sections(manifest);
    for (index, raw) in (0_u32..).zip(&sections) {
        let len = u32::try_from(raw.len()).expect("a small section");
        out.extend(SegmentHeader { kind: 3, codec: 0, index, stored_len: len, raw_len: len }.encode(raw));
        out.extend(raw);
    }
    let (segment_count, file_len) = (u32::try_from(sections.len()).expect("few"), out.len() as u64 + 64);
    out.extend(Trailer { table_offset: 0, table_len: 0, segment_count, pad_len: 0, file_len }.encode());
    out
}

fn bodies(tags: &[u8]) -> Vec<Vec<u8>> {
    let all = volume("runs").into_iter().flat_map(|manifest| sections(&manifest));
    all.filter(|section| tags.contains(&section[0])).map(|section| section[2..].to_vec()).collect()
}

/// The table of a group with members of these lengths, on every second position.
fn parity(lens: &[u64]) -> Vec<u8> {
    let hashes = |len: u64, seed: u8| (0..len.div_ceil(1 << 20)).map(|_| [seed; 16]).collect();
    let member = |(number, len): (u8, &u64)| ParityMember {
        position: number * 2,
        block: BlockId([number; 32]),
        len: *len,
        hashes: hashes(*len, number),
    };
    let members = (0..).zip(lens).map(member).collect();
    let own = hashes(lens.iter().copied().max().unwrap_or(0), 0xee);
    let (group, column_len) = ([7; 16], 1 << 20);
    ParityTable { algorithm: 1, group, positions: 6, parities: 2, index: 1, column_len, members, hashes: own }.encode()
}

/// The inputs of one target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "label" => vec![fs::read(fixture().join("raidtape-volume.json")).expect("a label")],
        "keys" => {
            let paths = files(&fixture());
            paths
                .iter()
                .map(|path| path.strip_prefix(fixture()).expect("below"))
                .map(|path| path.to_string_lossy().into_owned().into_bytes())
                .collect()
        }
        "frame" => {
            let blocks = volume("chunks");
            let cut =
                |block: &Vec<u8>| [block[..96].to_vec(), block[96..160].to_vec(), block[block.len() - 64..].to_vec()];
            blocks.iter().flat_map(cut).collect()
        }
        "segment" => {
            let text: Vec<u8> = (0..3000_u32).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
            let stored = zstd::bulk::compress(&text, 3).expect("a frame");
            let of = |codec: u8, raw: usize, bytes: &[u8]| {
                [&[codec][..], &u32::try_from(raw).expect("small").to_le_bytes(), bytes].concat()
            };
            vec![of(1, text.len(), &stored), of(0, 100, &text[..100]), of(1, 0, &[]), of(1, 4 << 20, &stored)]
        }
        "table" => {
            let with_end = |block: Vec<u8>| {
                let trailer = Trailer::decode(&block[block.len() - 64..], block.len() as u64).expect("a trailer");
                let at = usize::try_from(trailer.table_offset).expect("small");
                [&trailer.table_offset.to_le_bytes()[..], &block[at + 32..block.len() - 64]].concat()
            };
            volume("chunks").into_iter().map(with_end).collect()
        }
        "block" => volume("chunks"),
        "records" => bodies(&[3, 4]),
        "rows" => bodies(&[5]),
        "manifest" => volume("runs").iter().flat_map(|manifest| [manifest.clone(), plain(manifest)]).collect(),
        "parity" => vec![parity(&[5]), parity(&[1 << 20, 3, (2 << 20) + 1])],
        "rebuild" => vec![plain(&fs::read(fixture().join(RECORD)).expect("a record"))],
        other => panic!("no target {other}"),
    }
}
