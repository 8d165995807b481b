//! Extended attributes and inode flags as bytes: one form for one set, so that equal bytes mean equal attributes. The
//! layout is in `FORMAT.md`, "Attributes".

use super::bytes::{Reader, put_bytes, put_varint};
use super::container::FormatError;
use crate::model::attrs::{Attrs, FLAGS_KEPT, Xattrs};
use crate::model::limits::{ATTRS_LEN_MAX, NAME_LEN_MAX};

const XATTRS: u8 = 1;
const FLAGS: u8 = 2;

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
    if attrs.flags != 0 {
        let mut field = Vec::new();
        put_varint(&mut field, u64::from(attrs.flags));
        body.push(FLAGS);
        put_bytes(&mut body, &field);
    }
    body
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
            FLAGS => {
                let mut field = Reader::new(field);
                attrs.flags = field.varint_u32()? & FLAGS_KEPT;
                if !field.is_at_end() {
                    return invalid;
                }
            }
            _ => {}
        }
    }
    Ok(attrs)
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
        Attrs { xattrs: vec![xattr("user.a", b"1"), xattr("user.b", b"")], flags: 0x40 }
    }

    #[test]
    fn attributes_have_one_form_and_come_back_from_it() {
        assert_eq!(encode(&Attrs::default()), b"");
        let body = encode(&sample());
        assert_eq!(body, b"\x01\x11\x06user.a\x011\x06user.b\x00\x02\x01\x40");
        assert_eq!(decode(&body).unwrap(), sample());
        let only_flags = Attrs { xattrs: Vec::new(), ..sample() };
        assert_eq!(decode(&encode(&only_flags)).unwrap(), only_flags);
    }

    #[test]
    fn a_field_of_a_newer_release_is_passed_over() {
        let mut body = encode(&sample());
        body.extend(b"\x07\x02xy");
        assert_eq!(decode(&body).unwrap(), sample());
    }

    #[test]
    fn bodies_that_no_writer_makes_are_refused() {
        let wrong: [&[u8]; 7] = [
            b"\x01",
            b"\x01\x05\x01a",
            b"\x00\x00",
            b"\x02\x01\x40\x01\x04\x01a\x011",
            b"\x01\x06\x01b\x00\x01a\x00",
            b"\x01\x03\x00\x011",
            b"\x02\x02\x40\x00",
        ];
        for body in wrong {
            assert!(decode(body).is_err(), "{}", body.escape_ascii());
        }
    }
}
