//! The record of one run: what its sections say. Framing is `container`'s, row encoding `manifest_rows`'.
//!
//! Chunks are named by their catalog numbers: the block section gives the numbers of new chunks, the dictionary
//! section the identities of the older ones that rows mention. A section's raw bytes start with its tag and flags.

use super::block::{BLOCK_CHUNKS_MAX, BlockTable, SegmentEntry, check_segment};
use super::bytes::{Reader, put_signed, put_varint};
use super::container::{FormatError, SEGMENT_HEADER_LEN};
use crate::model::ids::{BlockId, ChunkId, ChunkNo, RunSeq, RunUuid, StateDigest, VolumeUuid};
use crate::model::limits::{BLOCK_FILE_LEN_MAX, CHUNK_LEN_MAX};
use crate::model::params::Compression;
use crate::model::redundancy::Redundancy;
use crate::model::run_marks::RunMarks;
use serde::{Deserialize, Serialize};

/// Raw bytes at which a section is cut; one record more may follow.
pub const SECTION_RAW_TARGET: usize = 1 << 20;
/// Identities in one dictionary record at most.
const DICTIONARY_RUN_MAX: u32 = 4096;
/// Copies of one block that a manifest may name.
const COPIES_MAX: u64 = 64;

/// What a section holds. A reader skips unknown tags whose flags have [`SECTION_OPTIONAL`], and refuses others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SectionTag {
    /// One JSON object: [`ManifestMeta`].
    Meta = 1,
    /// One JSON array of [`ManifestVolume`].
    Volumes = 2,
    /// [`BlockRecord`]s: every block that no earlier manifest of the repository lists.
    Blocks = 3,
    /// [`DictionaryRun`]s: identities of older chunks that the rows mention.
    Dictionary = 4,
    /// Rows, see `manifest_rows`.
    Rows = 5,
}

/// Flag of a section that a reader may skip when it does not know its tag.
pub const SECTION_OPTIONAL: u8 = 1;

impl SectionTag {
    /// The first bytes of a section of this kind.
    pub fn start(self) -> Vec<u8> {
        vec![self as u8, 0]
    }

    /// Splits a section into its tag and body; `None` for an optional section of an unknown kind.
    pub fn split(raw: &[u8]) -> Result<Option<(Self, &[u8])>, FormatError> {
        let [tag, flags, body @ ..] = raw else {
            return Err(FormatError::Short);
        };
        let known = [Self::Meta, Self::Volumes, Self::Blocks, Self::Dictionary, Self::Rows];
        match known.into_iter().find(|known| *known as u8 == *tag) {
            Some(known) => Ok(Some((known, body))),
            None if flags & SECTION_OPTIONAL != 0 => Ok(None),
            None => Err(FormatError::Unsupported("a manifest section of an unknown kind")),
        }
    }
}

/// How rows relate to the state before the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Changes on the state whose digest is `base`.
    Delta,
    /// The whole state; `base` is the empty one.
    Full,
}

/// The source of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestSource {
    /// Host name.
    pub host: String,
    /// The source's name, by default its absolute path.
    pub name: String,
    /// Absolute paths of its roots; bytes that are not UTF-8 are escaped, so this is for people.
    pub roots: Vec<String>,
}

/// Counts of a run, as the run printed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunCounts {
    /// Paths that were not there before.
    pub added: u64,
    /// Paths whose content or kind is another.
    pub modified: u64,
    /// Paths of which only metadata is another.
    pub metadata: u64,
    /// Paths that are gone or no longer selected.
    pub deleted: u64,
    /// Paths that are as before.
    pub unchanged: u64,
    /// Source files that could not be read.
    pub problems: u64,
    /// Bytes of all regular files in the run.
    pub bytes_total: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Bytes of chunks that were new.
    pub bytes_new: u64,
    /// Bytes of the blocks that were written.
    pub bytes_stored: u64,
}

/// The head of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestMeta {
    /// The run's identity.
    pub run: RunUuid,
    /// The run's number.
    pub seq: i64,
    /// Number of the run before it of the same source.
    pub prev: Option<i64>,
    /// What was backed up.
    pub source: ManifestSource,
    /// Delta or full.
    pub encoding: Encoding,
    /// Digest of the state that the rows change.
    pub base: StateDigest,
    /// Digest of the state after the rows.
    pub result: StateDigest,
    /// When the run began, nanoseconds since 1970.
    pub started_ns: i64,
    /// When its source was read to the end.
    pub ended_ns: i64,
    /// Its counts.
    pub counts: RunCounts,
    /// The repository's choice of compression, for a rebuild.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// On how many volumes the repository's blocks are to lie, for a rebuild; not said by runs before there was a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundancy: Option<Redundancy>,
    /// Whether what its source has and the run has not may have been left out on purpose; not known of older runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<bool>,
    /// What its maker called it.
    #[serde(flatten)]
    pub marks: RunMarks,
}

impl ManifestMeta {
    /// The run's number as an identity.
    pub fn run_seq(&self) -> RunSeq {
        RunSeq(self.seq)
    }
}

/// A volume that was known when the manifest was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestVolume {
    /// Identity.
    pub uuid: VolumeUuid,
    /// Name for people.
    pub name: String,
    /// Newest run whose manifest it held before this one.
    pub last_seq: Option<i64>,
    /// `lost` or `removed`, where it is one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// A block with its table and the numbers of its chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRecord {
    /// Name.
    pub id: BlockId,
    /// Bytes of the block file.
    pub size: u64,
    /// Kind of container.
    pub kind: u8,
    /// Where it was written.
    pub volumes: Vec<VolumeUuid>,
    /// What lies where in it.
    pub table: BlockTable,
    /// Chunk numbers in the order of the table.
    pub numbers: Vec<ChunkNo>,
}

impl BlockRecord {
    /// Appends the record to a block section.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.id.0);
        put_varint(out, self.size);
        out.push(self.kind);
        put_varint(out, self.volumes.len() as u64);
        self.volumes.iter().for_each(|volume| out.extend(volume.0));
        put_varint(out, self.table.segments.len() as u64);
        let (mut place, mut number) = (0_u64, 0_i64);
        let mut numbers = self.numbers.iter();
        for segment in &self.table.segments {
            put_varint(out, segment.offset.wrapping_sub(place));
            place = segment.offset.wrapping_add(u64::from(segment.stored_len));
            put_varint(out, u64::from(segment.stored_len));
            put_varint(out, u64::from(segment.raw_len));
            out.push(segment.codec);
            put_varint(out, segment.chunks.len() as u64);
            for ((id, len), no) in segment.chunks.iter().zip(&mut numbers) {
                out.extend(id.0);
                put_varint(out, u64::from(*len));
                put_signed(out, no.0.wrapping_sub(number));
                number = no.0.wrapping_add(1);
            }
        }
    }

    /// Reads one record. Its table holds what [`BlockTable::decode`] demands of one.
    pub fn decode(fields: &mut Reader<'_>) -> Result<Self, FormatError> {
        let (id, size, kind) = (BlockId(fields.array()?), fields.varint()?, fields.u8()?);
        if size > BLOCK_FILE_LEN_MAX {
            return Err(FormatError::Invalid("block length"));
        }
        let copies = fields.varint()?;
        if copies > COPIES_MAX {
            return Err(FormatError::Invalid("copy count"));
        }
        let volumes = (0..copies).map(|_| fields.array().map(VolumeUuid)).collect::<Result<_, _>>()?;
        let segments = fields.varint()?;
        let mut record = Self { id, size, kind, volumes, table: BlockTable::default(), numbers: Vec::new() };
        let (mut place, mut floor, mut number) = (0_u64, 0_u64, 0_i64);
        for _ in 0..segments {
            let offset = place.checked_add(fields.varint()?).ok_or(FormatError::Invalid("segment place"))?;
            let (stored_len, raw_len, codec) = (fields.varint_u32()?, fields.varint_u32()?, fields.u8()?);
            let end = offset.checked_add(SEGMENT_HEADER_LEN as u64 + u64::from(stored_len));
            let end = end.filter(|end| offset >= floor && *end <= size).ok_or(FormatError::Invalid("segment place"))?;
            (place, floor) = (end - SEGMENT_HEADER_LEN as u64, end);
            let chunk_count = fields.varint()?;
            let mut chunks = Vec::new();
            for _ in 0..chunk_count {
                let (id, len) = (ChunkId(fields.array()?), fields.varint_u32()?);
                number = number.wrapping_add(fields.signed()?);
                chunks.push((id, len));
                record.numbers.push(ChunkNo(number));
                number = number.wrapping_add(1);
            }
            if record.numbers.len() > BLOCK_CHUNKS_MAX {
                return Err(FormatError::Invalid("chunk count"));
            }
            let segment = SegmentEntry { offset, stored_len, raw_len, codec, chunks };
            check_segment(&segment)?;
            record.table.segments.push(segment);
        }
        Ok(record)
    }
}

/// Consecutive chunk numbers with their identities and lengths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DictionaryRun {
    /// Number of the first.
    pub first: ChunkNo,
    /// Identity and length, one a number.
    pub chunks: Vec<(ChunkId, u32)>,
}

impl DictionaryRun {
    /// Longest run that a writer makes.
    pub const LEN_MAX: u32 = DICTIONARY_RUN_MAX;

    /// Appends the run to a dictionary section.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_signed(out, self.first.0);
        put_varint(out, self.chunks.len() as u64);
        for (id, len) in &self.chunks {
            out.extend(id.0);
            put_varint(out, u64::from(*len));
        }
    }

    /// Reads one run.
    pub fn decode(fields: &mut Reader<'_>) -> Result<Self, FormatError> {
        let first = ChunkNo(fields.signed()?);
        let count = fields.varint_u32()?;
        if count > DICTIONARY_RUN_MAX {
            return Err(FormatError::Invalid("dictionary"));
        }
        let mut chunks = Vec::new();
        for _ in 0..count {
            let (id, len) = (ChunkId(fields.array()?), fields.varint_u32()?);
            if len == 0 || len as usize > CHUNK_LEN_MAX {
                return Err(FormatError::Invalid("chunk length"));
            }
            chunks.push((id, len));
        }
        Ok(Self { first, chunks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_record_comes_back_and_a_cut_one_is_an_error() {
        let chunk = |byte, len| (ChunkId([byte; 32]), len);
        let record = BlockRecord {
            id: BlockId([1; 32]),
            size: 5000,
            kind: 1,
            volumes: vec![VolumeUuid([2; 16])],
            table: BlockTable {
                segments: vec![
                    SegmentEntry {
                        offset: 96,
                        stored_len: 10,
                        raw_len: 16,
                        codec: 1,
                        chunks: vec![chunk(1, 7), chunk(2, 9)],
                    },
                    SegmentEntry { offset: 138, stored_len: 5, raw_len: 5, codec: 0, chunks: vec![chunk(3, 5)] },
                ],
            },
            numbers: vec![ChunkNo(10), ChunkNo(11), ChunkNo(4)],
        };
        let mut out = Vec::new();
        record.encode(&mut out);
        assert_eq!(BlockRecord::decode(&mut Reader::new(&out)), Ok(record));
        for len in 0..out.len() {
            assert!(BlockRecord::decode(&mut Reader::new(&out[..len])).is_err());
        }
    }

    #[test]
    fn a_head_of_an_earlier_release_does_not_say_what_was_asked_for() {
        let meta = ManifestMeta {
            run: RunUuid([1; 16]),
            seq: 1,
            prev: None,
            source: ManifestSource { host: "h".to_owned(), name: "/s".to_owned(), roots: vec!["/s".to_owned()] },
            encoding: Encoding::Delta,
            base: StateDigest::EMPTY,
            result: StateDigest::EMPTY,
            started_ns: 1,
            ended_ns: 2,
            counts: RunCounts::default(),
            compression: None,
            redundancy: None,
            selected: None,
            marks: RunMarks::default(),
        };
        let old = serde_json::to_string(&meta).unwrap();
        assert!(!old.contains("selected"));
        assert_eq!(serde_json::from_str::<ManifestMeta>(&old).unwrap(), meta);
        for selected in [true, false] {
            let meta = ManifestMeta { selected: Some(selected), ..meta.clone() };
            let text = serde_json::to_string(&meta).unwrap();
            assert!(text.contains(&format!("\"selected\":{selected}")), "{text}");
            assert_eq!(serde_json::from_str::<ManifestMeta>(&text).unwrap(), meta);
        }
    }

    #[test]
    fn unknown_sections_are_skipped_only_when_they_say_so() {
        assert_eq!(SectionTag::split(&[5, 0, 7]), Ok(Some((SectionTag::Rows, &[7][..]))));
        assert_eq!(SectionTag::split(&[99, SECTION_OPTIONAL, 7]), Ok(None));
        assert!(SectionTag::split(&[99, 0, 7]).is_err());
        assert!(SectionTag::split(&[5]).is_err());
    }
}
