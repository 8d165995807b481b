//! The frame that blocks and manifests share: a 96-byte header, segments behind 32-byte headers, a 64-byte trailer.
//! Owns the frame alone; what a table or a section says is in `block` and `manifest`.

use super::bytes::Reader;
use crate::model::ids::RepositoryUuid;
use crate::model::params::HashAlgo;

/// Bytes of a container's header.
pub const HEADER_LEN: usize = 96;
/// Bytes of a segment's header.
pub const SEGMENT_HEADER_LEN: usize = 32;
/// Bytes of a container's trailer.
pub const TRAILER_LEN: usize = 64;

/// Version that this release writes. A reader refuses a higher major, and takes a higher minor.
pub const MAJOR: u16 = 1;
/// Counts changes that older readers may ignore.
pub const MINOR: u16 = 0;

/// How every block and every record of a run begins.
pub const HEADER_MAGIC: [u8; 8] = *b"RAIDTAPE";
const TRAILER_MAGIC: [u8; 8] = *b"EPATDIAR";
const SEGMENT_SYNC: u32 = 0x5347_4d54;
/// Required features that this release understands: none are defined yet.
const KNOWN_REQUIRED: u64 = 0;

/// Bytes from a volume that cannot be what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes end too early.
    #[error("it ends too early")]
    Short,
    /// The first or last bytes are not RaidTape's.
    #[error("it is not a RaidTape file")]
    Magic,
    /// A checksum does not match.
    #[error("the checksum of its {0} is wrong")]
    Checksum(&'static str),
    /// A field has a value that no writer gives it.
    #[error("its {0} is not valid")]
    Invalid(&'static str),
    /// Written by a newer release.
    #[error("it was written by a newer RaidTape (format {0}); update RaidTape to read it")]
    Newer(u16),
    /// Needs something that this release does not have.
    #[error("it needs features that this RaidTape does not have (bits {0:#x}); update RaidTape to read it")]
    Required(u64),
    /// Encrypted or of another identity scheme.
    #[error("it uses {0}, which this RaidTape does not support")]
    Unsupported(&'static str),
}

/// What a container holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ContainerKind {
    /// Chunks of files.
    Block = 1,
    /// The record of one run.
    Manifest = 2,
    /// A parity of blocks on other volumes.
    Parity = 3,
}

/// The first bytes of a container: only what is known when it is opened for writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Block, manifest or parity.
    pub kind: ContainerKind,
    /// Hash of chunk ids, file hashes and block names.
    pub hash: HashAlgo,
    /// Where it belongs.
    pub repository: RepositoryUuid,
    /// Fresh for each attempt, so that two writings of the same chunks have different names; later the key's salt.
    pub salt: [u8; 32],
}

impl Header {
    /// The bytes on disk.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend(HEADER_MAGIC);
        out.extend(MAJOR.to_le_bytes());
        out.extend(MINOR.to_le_bytes());
        let hash = hash_tag(self.hash);
        out.extend([self.kind as u8, hash, hash, 0]);
        out.extend(96_u32.to_le_bytes());
        out.extend([0; 16]);
        out.extend(self.repository.0);
        out.extend([0; 8]);
        out.extend(self.salt);
        let crc = crc32fast::hash(&out);
        out.extend(crc.to_le_bytes());
        let mut bytes = [0; HEADER_LEN];
        bytes.copy_from_slice(&out);
        bytes
    }

    /// Reads a header; refuses newer majors, unknown required features, ciphers and id schemes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Reader::new(bytes.get(..HEADER_LEN).ok_or(FormatError::Short)?);
        if fields.array::<8>()? != HEADER_MAGIC {
            return Err(FormatError::Magic);
        }
        let major = fields.u16()?;
        if major > MAJOR {
            return Err(FormatError::Newer(major));
        }
        if crc32fast::hash(&bytes[..HEADER_LEN - 4]).to_le_bytes() != bytes[HEADER_LEN - 4..HEADER_LEN] {
            return Err(FormatError::Checksum("header"));
        }
        let _minor = fields.u16()?;
        let kind = match fields.u8()? {
            1 => ContainerKind::Block,
            2 => ContainerKind::Manifest,
            3 => ContainerKind::Parity,
            _ => return Err(FormatError::Invalid("kind")),
        };
        let hash_byte = fields.u8()?;
        let hash = hash_from_tag(hash_byte)?;
        if fields.u8()? != hash_byte {
            return Err(FormatError::Unsupported("keyed chunk ids"));
        }
        if fields.u8()? != 0 {
            return Err(FormatError::Unsupported("encryption"));
        }
        if fields.u32()? != 96 {
            return Err(FormatError::Invalid("header length"));
        }
        let unknown = fields.u64()? & !KNOWN_REQUIRED;
        if unknown != 0 {
            return Err(FormatError::Required(unknown));
        }
        let _optional = fields.u64()?;
        let repository = RepositoryUuid(fields.array()?);
        let _key_and_zero = fields.u64()?;
        Ok(Self { kind, hash, repository, salt: fields.array()? })
    }
}

fn hash_tag(hash: HashAlgo) -> u8 {
    match hash {
        HashAlgo::Blake3 => 1,
        HashAlgo::Sha256 => 2,
    }
}

fn hash_from_tag(tag: u8) -> Result<HashAlgo, FormatError> {
    match tag {
        1 => Ok(HashAlgo::Blake3),
        2 => Ok(HashAlgo::Sha256),
        _ => Err(FormatError::Unsupported("an unknown hash")),
    }
}

/// What a segment holds. Unknown kinds are skipped by readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SegmentKind {
    /// Chunks.
    Data = 1,
    /// A block's table.
    Table = 2,
    /// A section of a manifest.
    Section = 3,
    /// Filler.
    Pad = 4,
}

/// The 32 bytes before a segment's stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Tag of [`SegmentKind`]; others may come.
    pub kind: u8,
    /// Tag of the codec: 0 raw, 1 zstd.
    pub codec: u8,
    /// Ordinal in its container.
    pub index: u32,
    /// Bytes that follow.
    pub stored_len: u32,
    /// Bytes after decoding.
    pub raw_len: u32,
}

impl SegmentHeader {
    /// The bytes on disk, with the checksum over them and the stored bytes.
    pub fn encode(&self, stored: &[u8]) -> [u8; SEGMENT_HEADER_LEN] {
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        bytes[0..4].copy_from_slice(&SEGMENT_SYNC.to_le_bytes());
        bytes[4] = self.kind;
        bytes[5] = self.codec;
        bytes[8..12].copy_from_slice(&self.index.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.stored_len.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.raw_len.to_le_bytes());
        let crc = segment_crc(&bytes, stored);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the fields; the checksum is judged by [`Self::check`] when the stored bytes are at hand.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Reader::new(bytes.get(..SEGMENT_HEADER_LEN).ok_or(FormatError::Short)?);
        if fields.u32()? != SEGMENT_SYNC {
            return Err(FormatError::Invalid("segment mark"));
        }
        let (kind, codec) = (fields.u8()?, fields.u8()?);
        if fields.u16()? != 0 {
            return Err(FormatError::Unsupported("segment flags"));
        }
        Ok(Self { kind, codec, index: fields.u32()?, stored_len: fields.u32()?, raw_len: fields.u32()? })
    }

    /// Whether `header` and `stored` are as they were written.
    pub fn check(header: &[u8], stored: &[u8]) -> Result<(), FormatError> {
        let header = header.get(..SEGMENT_HEADER_LEN).ok_or(FormatError::Short)?;
        if segment_crc(header, stored).to_le_bytes() != header[28..32] {
            return Err(FormatError::Checksum("segment"));
        }
        Ok(())
    }
}

fn segment_crc(header: &[u8], stored: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[..28]);
    crc.update(stored);
    crc.finalize()
}

/// The last bytes of a container: they locate its table, or its last section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Where the table segment's header starts; in a manifest 0.
    pub table_offset: u64,
    /// Bytes of the table segment with its header; in a manifest 0.
    pub table_len: u64,
    /// Segments in the container, the table's included.
    pub segment_count: u32,
    /// Filler bytes before the trailer.
    pub pad_len: u32,
    /// Bytes of the whole container.
    pub file_len: u64,
}

impl Trailer {
    /// The bytes on disk.
    pub fn encode(&self) -> [u8; TRAILER_LEN] {
        let mut bytes = [0; TRAILER_LEN];
        bytes[0..8].copy_from_slice(&self.table_offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.table_len.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.segment_count.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.pad_len.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.file_len.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..52]);
        bytes[52..56].copy_from_slice(&crc.to_le_bytes());
        bytes[56..64].copy_from_slice(&TRAILER_MAGIC);
        bytes
    }

    /// Reads the trailer of a container of `file_len` bytes; every offset in it lies inside the container.
    pub fn decode(bytes: &[u8], file_len: u64) -> Result<Self, FormatError> {
        let bytes = bytes.get(..TRAILER_LEN).ok_or(FormatError::Short)?;
        if bytes[56..64] != TRAILER_MAGIC {
            return Err(FormatError::Magic);
        }
        if crc32fast::hash(&bytes[..52]).to_le_bytes() != bytes[52..56] {
            return Err(FormatError::Checksum("trailer"));
        }
        let mut fields = Reader::new(bytes);
        let trailer = Self {
            table_offset: fields.u64()?,
            table_len: fields.u64()?,
            segment_count: fields.u32()?,
            pad_len: fields.u32()?,
            file_len: fields.u64()?,
        };
        let inside = trailer.table_offset.checked_add(trailer.table_len).is_some_and(|end| end <= file_len);
        if trailer.file_len != file_len || !inside {
            return Err(FormatError::Invalid("length"));
        }
        Ok(trailer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: ContainerKind::Block,
            hash: HashAlgo::Blake3,
            repository: RepositoryUuid([7; 16]),
            salt: [9; 32],
        }
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let bytes = header().encode();
        assert_eq!(Header::decode(&bytes), Ok(header()));
        for bit in 0..HEADER_LEN * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn features_and_versions_of_the_future_are_refused_by_name() {
        let mut newer = header().encode();
        newer[8] = 2;
        assert_eq!(Header::decode(&newer), Err(FormatError::Newer(2)));
        let mut required = header().encode();
        required[20] = 4;
        let crc = crc32fast::hash(&required[..92]);
        required[92..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&required), Err(FormatError::Required(4)));
    }

    #[test]
    fn every_flipped_bit_of_a_trailer_or_segment_is_noticed() {
        let trailer = Trailer { table_offset: 96, table_len: 40, segment_count: 2, pad_len: 0, file_len: 200 };
        let bytes = trailer.encode();
        assert_eq!(Trailer::decode(&bytes, 200), Ok(trailer));
        assert!(Trailer::decode(&bytes, 201).is_err());
        for bit in 0..TRAILER_LEN * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Trailer::decode(&bad, 200).is_err(), "bit {bit}");
        }
        let segment = SegmentHeader { kind: 1, codec: 0, index: 3, stored_len: 4, raw_len: 4 };
        let bytes = segment.encode(b"data");
        assert_eq!(SegmentHeader::decode(&bytes), Ok(segment));
        for bit in 0..SEGMENT_HEADER_LEN * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::check(&bad, b"data").is_err(), "bit {bit}");
        }
        assert!(SegmentHeader::check(&bytes, b"dbta").is_err());
    }
}
