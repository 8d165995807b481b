//! Sections of manifests, and whole manifests section by section.

use super::{Memory, mend};
use raidtape::engine::manifest_file::ManifestReader;
use raidtape::format::bytes::Reader;
use raidtape::format::manifest::{BlockRecord, DictionaryRun, ManifestMeta, ManifestVolume, SectionTag};
use raidtape::format::manifest_rows::{Row, RowDecoder, RowEncoder};
use raidtape::model::path::{is_valid, is_valid_name};

/// Block records, and the same bytes as a dictionary.
pub fn records(data: &[u8]) {
    let mut fields = Reader::new(data);
    while let Ok(record) = BlockRecord::decode(&mut fields) {
        assert_eq!(record.numbers.len(), record.table.chunk_count());
        super::tables::check(&record.table, record.size);
        let mut out = Vec::new();
        record.encode(&mut out);
        assert_eq!(BlockRecord::decode(&mut Reader::new(&out)), Ok(record));
    }
    let mut fields = Reader::new(data);
    while let Ok(run) = DictionaryRun::decode(&mut fields) {
        assert!(run.chunks.len() * 33 <= data.len());
        let mut out = Vec::new();
        run.encode(&mut out);
        assert_eq!(DictionaryRun::decode(&mut Reader::new(&out)), Ok(run));
    }
}

/// The rows of a section; what is taken comes back when it is written again.
pub fn rows(data: &[u8]) {
    let (mut decoder, mut encoder) = (RowDecoder::new(data), RowEncoder::default());
    let (mut rows, mut out, mut is_in_root) = (Vec::new(), Vec::new(), true);
    while let Ok(Some(row)) = decoder.next_row() {
        match &row {
            Row::Dir(path) => {
                assert!(is_valid(path));
                is_in_root = path.is_empty();
            }
            Row::Put(row) => check_name(&row.name, is_in_root),
            Row::Touch { name, .. } | Row::End { name, .. } => check_name(name, is_in_root),
        }
        encoder.put(&mut out, &row);
        rows.push(row);
    }
    assert!(rows.len() <= data.len());
    let mut again = RowDecoder::new(&out);
    for row in rows {
        assert_eq!(again.next_row(), Ok(Some(row)));
    }
    assert_eq!(again.next_row(), Ok(None));
}

fn check_name(name: &[u8], is_in_root: bool) {
    assert!(is_valid_name(name) || (name.is_empty() && is_in_root), "{}", name.escape_ascii());
}

/// A whole manifest, as it is and with right checksums.
pub fn manifest(data: &[u8]) {
    read(data);
    let mut mended = data.to_vec();
    mend(&mut mended);
    read(&mended);
}

fn read(bytes: &[u8]) {
    let object = Memory(bytes);
    let Ok((mut reader, _)) = ManifestReader::open(&object, None) else { return };
    let mut count = 0;
    while let Ok(Some((tag, body))) = reader.next_section() {
        count += 1;
        assert!(count <= bytes.len() / 32, "more sections than fit");
        assert!(body.len() <= 4 << 20);
        match tag {
            SectionTag::Meta => drop(serde_json::from_slice::<ManifestMeta>(&body)),
            SectionTag::Volumes => drop(serde_json::from_slice::<Vec<ManifestVolume>>(&body)),
            SectionTag::Blocks | SectionTag::Dictionary => records(&body),
            SectionTag::Rows => rows(&body),
        }
    }
    let _ = reader.digest();
}
