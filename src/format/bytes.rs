//! Reading and writing of small values: fixed little-endian integers, variable-length integers, byte strings.
//! A [`Reader`] never passes its end and never allocates more than is left of its input.

use super::container::FormatError;

/// Appends `value` as a variable-length integer: 7 bits a byte, lowest first, high bit set but for the last.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends a signed value as a variable-length integer, small magnitudes short (zigzag).
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes values off the front of a byte slice.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    /// Whether all was read.
    pub fn is_at_end(&self) -> bool {
        self.left.is_empty()
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.left.len()
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        let (front, rest) = self.left.split_at_checked(len).ok_or(FormatError::Short)?;
        self.left = rest;
        Ok(front)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (front, rest) = self.left.split_first_chunk::<N>().ok_or(FormatError::Short)?;
        self.left = rest;
        Ok(*front)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, FormatError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A little-endian u16.
    pub fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_le_bytes)
    }

    /// A little-endian u32.
    pub fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    /// A little-endian u64.
    pub fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    /// The inverse of [`put_varint`]; at most 10 bytes.
    pub fn varint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(FormatError::Invalid("integer"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(FormatError::Invalid("integer"))
    }

    /// The inverse of [`put_signed`].
    pub fn signed(&mut self) -> Result<i64, FormatError> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A varint that must fit into 32 bits.
    pub fn varint_u32(&mut self) -> Result<u32, FormatError> {
        u32::try_from(self.varint()?).map_err(|_| FormatError::Invalid("integer"))
    }

    /// The inverse of [`put_bytes`]; `len_max` bounds what is accepted.
    pub fn bytes(&mut self, len_max: usize) -> Result<&'a [u8], FormatError> {
        let len = usize::try_from(self.varint()?).map_err(|_| FormatError::Short)?;
        if len > len_max {
            return Err(FormatError::Invalid("length"));
        }
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_size_come_back() {
        let values = [0, 1, 127, 128, 16383, 16384, u64::from(u32::MAX), u64::MAX];
        let signed = [0, -1, 1, i64::MIN, i64::MAX, -64, 64];
        let mut out = Vec::new();
        values.iter().for_each(|value| put_varint(&mut out, *value));
        signed.iter().for_each(|value| put_signed(&mut out, *value));
        let mut reader = Reader::new(&out);
        values.iter().for_each(|value| assert_eq!(reader.varint().unwrap(), *value));
        signed.iter().for_each(|value| assert_eq!(reader.signed().unwrap(), *value));
        assert!(reader.is_at_end());
    }

    #[test]
    fn what_is_too_long_or_too_short_is_an_error() {
        assert!(Reader::new(&[0x80; 11]).varint().is_err());
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).varint().is_err());
        assert!(Reader::new(&[0x80]).varint().is_err());
        assert!(Reader::new(&[5, 1, 2]).bytes(10).is_err());
        assert!(Reader::new(&[5, 1, 2, 3, 4, 5]).bytes(4).is_err());
    }
}
