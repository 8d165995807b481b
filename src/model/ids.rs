//! Identities: hashes of bytes, UUIDs, numbers. Owns their text forms; says nothing about where the things lie.

use std::fmt;
use std::str::FromStr;

/// A text that was to name a thing and does not: wrong length or a character that is no hex digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {expected_digits} lower-case hex digits")]
pub struct NotHex {
    /// How many digits the identity has.
    pub expected_digits: usize,
}

fn decode_hex<const N: usize>(text: &str) -> Result<[u8; N], NotHex> {
    let bad = NotHex { expected_digits: N * 2 };
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return Err(bad);
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(bad),
    };
    let mut bytes = [0_u8; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(bytes)
}

fn write_hex(out: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(out, &self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, concat!(stringify!($name), "({})"), self)
            }
        }
        impl FromStr for $name {
            type Err = NotHex;
            fn from_str(text: &str) -> Result<Self, NotHex> {
                decode_hex(text).map(Self)
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'_, str> as serde::Deserialize>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hash_id!(
    /// Hash of a chunk's plain bytes.
    ChunkId
);
hash_id!(
    /// Hash of a block file's own bytes; its name under `chunks/`.
    BlockId
);
hash_id!(
    /// Hash of a whole file's bytes: what `b3sum` or `sha256sum` prints for it.
    FileHash
);
hash_id!(
    /// Digest of all versions that are live in one source after a run: the sum mod 2^256 of the rows' hashes.
    StateDigest
);

impl StateDigest {
    /// The digest of a source with no rows.
    pub const EMPTY: Self = Self([0; 32]);

    /// Adds the hash of a row that enters the state.
    pub fn add(&mut self, row_hash: [u8; 32]) {
        let mut carry = 0_u16;
        for (sum, byte) in self.0.iter_mut().zip(row_hash) {
            let total = u16::from(*sum) + u16::from(byte) + carry;
            *sum = total.to_le_bytes()[0];
            carry = total >> 8;
        }
    }

    /// Takes out the hash of a row that leaves the state; the inverse of [`Self::add`].
    pub fn remove(&mut self, row_hash: [u8; 32]) {
        let mut borrow = 0_u16;
        for (sum, byte) in self.0.iter_mut().zip(row_hash) {
            let total = 0x100 + u16::from(*sum) - u16::from(byte) - borrow;
            *sum = total.to_le_bytes()[0];
            borrow = 1 - (total >> 8);
        }
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// A fresh random identity (UUID version 4).
            pub fn random() -> Self {
                Self(*uuid::Uuid::new_v4().as_bytes())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                uuid::Uuid::from_bytes(self.0).hyphenated().fmt(out)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, concat!(stringify!($name), "({})"), self)
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                uuid::Uuid::try_parse(text).map(|uuid| Self(*uuid.as_bytes()))
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'_, str> as serde::Deserialize>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

uuid_id!(
    /// What a catalog and its volumes have in common; made by `init`.
    RepositoryUuid
);
uuid_id!(
    /// A volume's identity, written once in its label.
    VolumeUuid
);
uuid_id!(
    /// A run's identity, beside its number.
    RunUuid
);

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(out)
            }
        }
    };
}

number_id!(
    /// A run's number in its catalog: counts up, never reused, not dense.
    RunSeq
);
number_id!(
    /// A source's row in the catalog.
    SourceId
);
number_id!(
    /// An interned directory name of one source; the row exists whether or not the directory does.
    DirId
);
number_id!(
    /// A block's row in the catalog.
    BlockNo
);
number_id!(
    /// A segment's row in the catalog.
    SegmentNo
);
number_id!(
    /// A chunk's number in the catalog, given in stream order from 1; 0 stands for zeros.
    ChunkNo
);
number_id!(
    /// A content's row in the catalog.
    ContentId
);
number_id!(
    /// A volume's row in the catalog.
    VolumeId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_text_goes_there_and_back_and_nothing_else_is_taken() {
        let id = ChunkId([0xa5; 32]);
        assert_eq!(id.to_string().parse::<ChunkId>(), Ok(id));
        assert!("a5".parse::<ChunkId>().is_err());
        assert!("A5".repeat(32).parse::<ChunkId>().is_err());
        assert!("zz".repeat(32).parse::<ChunkId>().is_err());
    }

    #[test]
    fn digest_forgets_what_is_removed_whatever_the_order() {
        let (one, two) = ([0xff; 32], [0x81; 32]);
        let mut digest = StateDigest::EMPTY;
        digest.add(one);
        digest.add(two);
        digest.remove(one);
        assert_eq!(digest, StateDigest(two));
        digest.remove(two);
        assert_eq!(digest, StateDigest::EMPTY);
    }
}
