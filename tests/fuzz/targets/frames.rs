//! Labels, the frame of containers, names of things, single segments.

use super::take;
use raidtape::codec::compress::{Codec, SegmentDecoder, Stored};
use raidtape::format::bytes::{Reader, put_bytes, put_signed, put_varint};
use raidtape::format::container::{HEADER_LEN, Header, SEGMENT_HEADER_LEN, SegmentHeader, TRAILER_LEN, Trailer};
use raidtape::format::label::Label;
use raidtape::format::layout::{
    block_key, manifest_key, parse_block_key, parse_manifest_key, parse_sidecar_key, sidecar_key,
};

/// A label that is taken comes back when it is written again.
pub fn label(data: &[u8]) {
    check_label(data);
    // The same with a digest that is right.
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::from_slice(data) else { return };
    fields.remove("digest");
    let plain = serde_json::to_string(&sorted(&serde_json::Value::Object(fields.clone()))).expect("JSON");
    fields.insert("digest".to_owned(), blake3::hash(plain.as_bytes()).to_hex().to_string().into());
    check_label(&serde_json::to_vec(&fields).expect("JSON"));
}

fn sorted(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<_> = fields.iter().collect();
            keys.sort_by_key(|(key, _)| key.as_str());
            Value::Object(keys.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        plain => plain.clone(),
    }
}

fn check_label(data: &[u8]) {
    if let Ok(label) = Label::decode(data) {
        assert_eq!(Label::decode(&label.encode()), Ok(label.clone()));
        assert!(!label.name.is_empty() && !label.name.chars().any(char::is_control));
        raidtape::codec::chunker::Chunker::new(&label.chunker).expect("a label says how to cut");
    }
}

/// Header, segment header and trailer, as they are and with right checksums; and small values one after the other.
pub fn frame(data: &[u8]) {
    let mut bytes = data.to_vec();
    check_frame(&bytes);
    if bytes.len() >= HEADER_LEN {
        let crc = crc32fast::hash(&bytes[..92]).to_le_bytes();
        bytes[92..96].copy_from_slice(&crc);
        check_frame(&bytes);
    }
    if bytes.len() >= TRAILER_LEN {
        bytes[56..64].copy_from_slice(b"EPATDIAR");
        let crc = crc32fast::hash(&bytes[..52]).to_le_bytes();
        bytes[52..56].copy_from_slice(&crc);
        check_frame(&bytes);
    }
    values(data);
}

fn check_frame(bytes: &[u8]) {
    if let Ok(header) = Header::decode(bytes) {
        assert_eq!(Header::decode(&header.encode()), Ok(header));
    }
    if let Ok(header) = SegmentHeader::decode(bytes) {
        assert_eq!(SegmentHeader::decode(&header.encode(b"")), Ok(header));
        let (head, rest) = bytes.split_at(SEGMENT_HEADER_LEN);
        let _ = SegmentHeader::check(head, rest);
    }
    let said = bytes.get(24..32).map_or(0, |len| u64::from_le_bytes(len.try_into().expect("eight bytes")));
    for file_len in [said, bytes.len() as u64, 0, u64::MAX] {
        if let Ok(trailer) = Trailer::decode(bytes, file_len) {
            let end = trailer.table_offset.checked_add(trailer.table_len).expect("a table inside the file");
            assert!(end <= file_len && trailer.file_len == file_len);
            assert_eq!(Trailer::decode(&trailer.encode(), file_len), Ok(trailer));
        }
    }
}

fn values(data: &[u8]) {
    let mut fields = Reader::new(data);
    while let Ok(kind) = fields.u8() {
        let mut out = Vec::new();
        match kind % 6 {
            0 => drop(fields.varint().map(|value| {
                put_varint(&mut out, value);
                assert_eq!(Reader::new(&out).varint(), Ok(value));
            })),
            1 => drop(fields.signed().map(|value| {
                put_signed(&mut out, value);
                assert_eq!(Reader::new(&out).signed(), Ok(value));
            })),
            2 => drop(fields.bytes(100).map(|bytes| {
                assert!(bytes.len() <= 100);
                put_bytes(&mut out, bytes);
                assert_eq!(Reader::new(&out).bytes(100), Ok(bytes));
            })),
            3 => drop(fields.varint_u32()),
            4 => drop(fields.u64()),
            _ => drop(fields.take(usize::from(kind))),
        }
        assert!(fields.remaining() < data.len() && fields.is_at_end() == (fields.remaining() == 0));
    }
}

/// A key that is taken is the one spelling of what it names.
pub fn keys(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(id) = parse_block_key(&text) {
        assert_eq!(block_key(&id), text);
    }
    if let Some(id) = parse_sidecar_key(&text) {
        assert_eq!(sidecar_key(&id), text);
    }
    if let Some((seq, uuid, copy)) = parse_manifest_key(&text) {
        assert_eq!(manifest_key(seq, &uuid, copy), text);
        assert!(seq.0 >= 0);
    }
}

/// Codec, raw length, stored bytes: as many bytes as promised come out, or none.
pub fn segment(mut data: &[u8]) {
    let [tag] = take(&mut data);
    let raw_len = u32::from_le_bytes(take(&mut data)) as usize;
    let Some(codec) = Codec::from_tag(tag % 3) else { return };
    let mut out = Vec::new();
    let decoded = SegmentDecoder::new().decode(Stored { codec, bytes: data, raw_len }, &mut out);
    assert_eq!(out.len(), if decoded.is_ok() { raw_len } else { 0 });
    assert!(out.capacity() <= (4 << 20) + 64, "{} bytes for a segment", out.capacity());
}
