//! Extended attributes, inode flags, project ids and holes as bytes: one form for one set, so that equal bytes mean equal attributes. The
//! layout is in `FORMAT.md`, "Attributes".

use super::bytes::{Reader, put_bytes, put_varint};
use super::container::FormatError;
use crate::model::attrs::{Attrs, FLAGS_KEPT, Holes, Xattrs};
use crate::model::limits::{ATTRS_LEN_MAX, FILE_LEN_MAX, HOLES_MAX, NAME_LEN_MAX};

const XATTRS: u8 = 1;
const FLAGS: u8 = 2;
const PROJECT: u8 = 3;
const HOLES: u8 = 4;

/// The bytes of `attrs`; none where there is nothing to keep.
pub fn encode(attrs: &Attrs) -> Vec<u8> {
    let mut body = Vec::new();
    if !attrs.xattrs.is_empty() {
        let mut field = Vec::new();
        for (name, value) in &attrs.xattrs {
            put_bytes(&mut field, name);
            put_bytes(&mut field, value);
        }
        body.push(XATTRS);
        put_bytes(&mut body, &field);
    }
    for (tag, number) in [(FLAGS, attrs.flags), (PROJECT, attrs.project)] {
        if number != 0 {
            let mut field = Vec::new();
            put_varint(&mut field, u64::from(number));
            body.push(tag);
            put_bytes(&mut body, &field);
        }
    }
    if let Some(holes) = &attrs.holes {
        put_holes(&mut body, holes);
    }
    body
}

/// Adds the holes of a file to the bytes of its other attributes; they come last. What would be too long together stays
/// without.
pub fn put_holes(body: &mut Vec<u8>, holes: &Holes) {
    let mut field = Vec::new();
    let mut at = 0;
    for (start, len) in holes {
        put_varint(&mut field, start - at);
        put_varint(&mut field, *len);
        at = start + len;
    }
    if holes.len() <= HOLES_MAX && body.len() + field.len() + 8 <= ATTRS_LEN_MAX {
        body.push(HOLES);
        put_bytes(body, &field);
    }
}

/// The inverse. Fields of kinds that a newer release may add are passed over.
pub fn decode(body: &[u8]) -> Result<Attrs, FormatError> {
    let invalid = Err(FormatError::Invalid("attributes"));
    let mut reader = Reader::new(body);
    let mut attrs = Attrs::default();
    let mut last_tag = 0;
    while !reader.is_at_end() {
        let tag = reader.u8()?;
        if tag <= last_tag {
            return invalid;
        }
        last_tag = tag;
        let field = reader.bytes(ATTRS_LEN_MAX)?;
        match tag {
            XATTRS => attrs.xattrs = decode_xattrs(field)?,
            FLAGS => attrs.flags = decode_number(field)? & FLAGS_KEPT,
            PROJECT => attrs.project = decode_number(field)?,
            HOLES => attrs.holes = Some(decode_holes(field)?),
            _ => {}
        }
    }
    Ok(attrs)
}

fn decode_number(field: &[u8]) -> Result<u32, FormatError> {
    let mut reader = Reader::new(field);
    let number = reader.varint_u32()?;
    if reader.is_at_end() { Ok(number) } else { Err(FormatError::Invalid("attributes")) }
}

fn decode_holes(field: &[u8]) -> Result<Holes, FormatError> {
    let invalid = FormatError::Invalid("attributes");
    let mut reader = Reader::new(field);
    let (mut holes, mut at) = (Holes::new(), 0_u64);
    while !reader.is_at_end() {
        let (gap, len) = (reader.varint()?, reader.varint()?);
        let start = at.checked_add(gap).filter(|_| gap > 0 || holes.is_empty());
        let end = start.and_then(|start| start.checked_add(len)).filter(|end| *end <= FILE_LEN_MAX && len > 0);
        let (Some(start), Some(end)) = (start, end) else { return Err(invalid) };
        if holes.len() == HOLES_MAX {
            return Err(invalid);
        }
        holes.push((start, len));
        at = end;
    }
    Ok(holes)
}

fn decode_xattrs(field: &[u8]) -> Result<Xattrs, FormatError> {
    let mut reader = Reader::new(field);
    let mut xattrs = Xattrs::new();
    while !reader.is_at_end() {
        let name = reader.bytes(NAME_LEN_MAX)?;
        let is_name = !name.is_empty() && !name.contains(&0);
        if !is_name || xattrs.last().is_some_and(|(last, _)| last.as_slice() >= name) {
            return Err(FormatError::Invalid("attributes"));
        }
        xattrs.push((name.to_vec(), reader.bytes(ATTRS_LEN_MAX)?.to_vec()));
    }
    Ok(xattrs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Attrs {
        let xattr = |name: &str, value: &[u8]| (name.as_bytes().to_vec(), value.to_vec());
        Attrs { xattrs: vec![xattr("user.a", b"1"), xattr("user.b", b"")], flags: 0x40, project: 0, holes: None }
    }

    #[test]
    fn attributes_have_one_form_and_come_back_from_it() {
        assert_eq!(encode(&Attrs::default()), b"");
        let body = encode(&sample());
        assert_eq!(body, b"\x01\x11\x06user.a\x011\x06user.b\x00\x02\x01\x40");
        assert_eq!(decode(&body).unwrap(), sample());
        let with_project = Attrs { project: 300, ..sample() };
        assert!(encode(&with_project).ends_with(b"\x02\x01\x40\x03\x02\xac\x02"));
        assert_eq!(decode(&encode(&with_project)).unwrap(), with_project);
        let only_flags = Attrs { xattrs: Vec::new(), ..sample() };
        assert_eq!(decode(&encode(&only_flags)).unwrap(), only_flags);
    }

    #[test]
    fn holes_come_last_and_none_at_all_is_another_thing_than_no_word_of_them() {
        let holes = vec![(0, 4096), (8192, 1 << 40)];
        let with = Attrs { holes: Some(holes.clone()), ..sample() };
        let mut body = encode(&sample());
        put_holes(&mut body, &holes);
        assert_eq!(encode(&with), body);
        assert!(body.ends_with(b"\x04\x0b\x00\x80\x20\x80\x20\x80\x80\x80\x80\x80\x20"), "{}", body.escape_ascii());
        assert_eq!(decode(&body).unwrap(), with);
        let dense = Attrs { holes: Some(Holes::new()), ..Attrs::default() };
        assert_eq!(encode(&dense), b"\x04\x00");
        assert_eq!(decode(b"\x04\x00").unwrap(), dense);
        let mut many = encode(&sample());
        put_holes(&mut many, &(0..=HOLES_MAX as u64).map(|n| (n * 2, 1)).collect());
        assert_eq!(many, encode(&sample()));
    }

    #[test]
    fn a_field_of_a_newer_release_is_passed_over() {
        let mut body = encode(&sample());
        body.extend(b"\x07\x02xy");
        assert_eq!(decode(&body).unwrap(), sample());
    }

    #[test]
    fn bodies_that_no_writer_makes_are_refused() {
        let wrong: [&[u8]; 12] = [
            b"\x01",
            b"\x01\x05\x01a",
            b"\x00\x00",
            b"\x02\x01\x40\x01\x04\x01a\x011",
            b"\x01\x06\x01b\x00\x01a\x00",
            b"\x01\x03\x00\x011",
            b"\x02\x02\x40\x00",
            b"\x03\x02\x05\x00",
            b"\x04\x02\x00\x00",
            b"\x04\x04\x00\x01\x00\x01",
            b"\x04\x01\x01",
            b"\x04\x0b\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ];
        for body in wrong {
            assert!(decode(body).is_err(), "{}", body.escape_ascii());
        }
    }
}
