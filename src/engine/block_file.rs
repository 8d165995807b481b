//! Containers on a store: writing one segment by segment while it is hashed, and reading its table and segments.
//! Knows how segments lie in a file; not what is in them.

use crate::codec::compress::{Codec, SegmentDecoder, Stored};
use crate::codec::hash::{Hasher, hash_bytes};
use crate::format::block::{BlockTable, SegmentEntry};
use crate::format::container::{
    ContainerKind, FormatError, HEADER_LEN, Header, SEGMENT_HEADER_LEN, SegmentHeader, SegmentKind, TRAILER_LEN,
    Trailer,
};
use crate::format::parity::ParityTable;
use crate::model::ids::{BlockId, ChunkId};
use crate::model::limits::{SECTION_RAW_MAX, SEGMENT_RAW_MAX};
use crate::model::params::HashAlgo;
use crate::volume::store::{Existing, Object, Sink, StoreError};

/// A segment ready to be written.
#[derive(Debug, Clone)]
pub struct EncodedSegment {
    /// How `bytes` are encoded.
    pub codec: Codec,
    /// Bytes after decoding.
    pub raw_len: u32,
    /// What is stored.
    pub bytes: Vec<u8>,
}

/// A read that failed: the store's fault, or the bytes'.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store could not give the bytes.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bytes are not what they should be.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A segment does not decode, or its chunks are not what their names say.
    #[error("a segment's content is damaged")]
    Content,
}

/// Writes a container into a sink.
pub struct ContainerWriter {
    sink: Box<dyn Sink>,
    hasher: Hasher,
    limit: u64,
    segment_count: u32,
    table: BlockTable,
    chunk_count: usize,
}

/// What a finished container is.
#[derive(Debug)]
pub struct FinishedContainer {
    /// Hash of the whole file.
    pub id: BlockId,
    /// Bytes.
    pub size: u64,
    /// Its table; empty for a manifest.
    pub table: BlockTable,
}

impl ContainerWriter {
    /// Writes the header. `limit` bounds the whole file.
    pub fn new(mut sink: Box<dyn Sink>, header: &Header, limit: u64) -> Result<Self, StoreError> {
        let bytes = header.encode();
        sink.write(&bytes)?;
        let mut hasher = Hasher::new(header.hash);
        hasher.update(&bytes);
        Ok(Self { sink, hasher, limit, segment_count: 0, table: BlockTable::default(), chunk_count: 0 })
    }

    /// Whether a segment of so many stored bytes and chunks still fits, with the table that it needs.
    pub fn has_room(&self, stored_len: usize, chunks: usize) -> bool {
        let table = BlockTable::encoded_len(self.table.segments.len() + 1, self.chunk_count + chunks);
        let more = SEGMENT_HEADER_LEN + stored_len + SEGMENT_HEADER_LEN + table + TRAILER_LEN;
        self.sink.len() + more as u64 <= self.limit
            && self.chunk_count + chunks <= crate::format::block::BLOCK_CHUNKS_MAX
    }

    /// Whether it holds no segment yet.
    pub fn is_empty(&self) -> bool {
        self.segment_count == 0
    }

    /// Appends a data segment; on an error the container is as before.
    pub fn put_data(&mut self, segment: &EncodedSegment, chunks: &[(ChunkId, u32)]) -> Result<(), StoreError> {
        let offset = self.sink.len();
        self.put(SegmentKind::Data, segment)?;
        self.chunk_count += chunks.len();
        self.table.segments.push(SegmentEntry {
            offset,
            stored_len: len_u32(segment.bytes.len()),
            raw_len: segment.raw_len,
            codec: segment.codec.tag(),
            chunks: chunks.to_vec(),
        });
        Ok(())
    }

    /// Appends a segment of any kind.
    pub fn put(&mut self, kind: SegmentKind, segment: &EncodedSegment) -> Result<(), StoreError> {
        let header = SegmentHeader {
            kind: kind as u8,
            codec: segment.codec.tag(),
            index: self.segment_count,
            stored_len: len_u32(segment.bytes.len()),
            raw_len: segment.raw_len,
        };
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_LEN + segment.bytes.len());
        bytes.extend(header.encode(&segment.bytes));
        bytes.extend(&segment.bytes);
        self.sink.write(&bytes)?;
        self.hasher.update(&bytes);
        self.segment_count += 1;
        Ok(())
    }

    /// Writes the table (for a block) and the trailer, and makes the file durable under the key that `key_of` gives
    /// for its hash.
    pub fn finish(
        mut self,
        kind: ContainerKind,
        key_of: &dyn Fn(BlockId) -> String,
    ) -> Result<FinishedContainer, StoreError> {
        let table = std::mem::take(&mut self.table);
        let sealed = self.seal((kind == ContainerKind::Block).then(|| table.encode()))?;
        let (id, size) = (sealed.id, sealed.size);
        sealed.commit(&key_of(id), Existing::Fail)?;
        Ok(FinishedContainer { id, size, table })
    }

    /// Writes a table segment of these bytes, if there is to be one, and the trailer. Nothing has a key yet.
    pub fn seal(mut self, table: Option<Vec<u8>>) -> Result<SealedContainer, StoreError> {
        let (mut table_offset, mut table_len) = (0, 0);
        if let Some(raw) = table {
            table_offset = self.sink.len();
            let raw_len = len_u32(raw.len());
            self.put(SegmentKind::Table, &EncodedSegment { codec: Codec::Raw, raw_len, bytes: raw })?;
            table_len = self.sink.len() - table_offset;
        }
        let size = self.sink.len() + TRAILER_LEN as u64;
        let trailer =
            Trailer { table_offset, table_len, segment_count: self.segment_count, pad_len: 0, file_len: size }.encode();
        self.sink.write(&trailer)?;
        self.hasher.update(&trailer);
        Ok(SealedContainer { id: BlockId(self.hasher.finalize()), size, sink: self.sink })
    }
}

/// A container that is written in full and has no key yet.
pub struct SealedContainer {
    /// Hash of the whole file.
    pub id: BlockId,
    /// Bytes.
    pub size: u64,
    sink: Box<dyn Sink>,
}

impl SealedContainer {
    /// Makes it durable under `key`.
    pub fn commit(self, key: &str, existing: Existing) -> Result<(), StoreError> {
        self.sink.commit(key, existing)
    }
}

fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("segments and tables are bounded far below 4 GiB")
}

/// Reads and checks a container's header.
pub fn read_header(object: &dyn Object) -> Result<Header, ReadError> {
    let mut bytes = [0; HEADER_LEN];
    object.read_exact_at(0, &mut bytes)?;
    Ok(Header::decode(&bytes)?)
}

/// Reads a container's trailer.
pub fn read_trailer(object: &dyn Object) -> Result<Trailer, ReadError> {
    let size = object.len();
    if size < (HEADER_LEN + TRAILER_LEN) as u64 {
        return Err(FormatError::Short.into());
    }
    let mut bytes = [0; TRAILER_LEN];
    object.read_exact_at(size - TRAILER_LEN as u64, &mut bytes)?;
    Ok(Trailer::decode(&bytes, size)?)
}

/// Reads a block's table, by its trailer.
pub fn read_table(object: &dyn Object) -> Result<BlockTable, ReadError> {
    let (stored, offset) = table_bytes(object)?;
    Ok(BlockTable::decode(&stored, offset)?)
}

/// Reads a parity's table, by its trailer.
pub fn read_parity_table(object: &dyn Object) -> Result<ParityTable, ReadError> {
    Ok(ParityTable::decode(&table_bytes(object)?.0)?)
}

/// The raw bytes of the table segment, and where that begins.
fn table_bytes(object: &dyn Object) -> Result<(Vec<u8>, u64), ReadError> {
    let trailer = read_trailer(object)?;
    let len = usize::try_from(trailer.table_len).unwrap_or(usize::MAX);
    if !(SEGMENT_HEADER_LEN..=SECTION_RAW_MAX).contains(&len) {
        return Err(FormatError::Invalid("table length").into());
    }
    let mut bytes = vec![0; len];
    object.read_exact_at(trailer.table_offset, &mut bytes)?;
    let stored = bytes.split_off(SEGMENT_HEADER_LEN);
    SegmentHeader::check(&bytes, &stored)?;
    let header = SegmentHeader::decode(&bytes)?;
    if header.kind != SegmentKind::Table as u8 || header.codec != Codec::Raw.tag() {
        return Err(FormatError::Invalid("table").into());
    }
    Ok((stored, trailer.table_offset))
}

/// Where a segment lies and what it should be.
#[derive(Debug, Clone, Copy)]
pub struct SegmentRef {
    /// Where its header starts.
    pub offset: u64,
    /// Stored bytes behind the header.
    pub stored_len: u32,
    /// Bytes after decoding.
    pub raw_len: u32,
    /// Tag of the codec.
    pub codec: u8,
}

/// Reads segments with one decoder and reused buffers.
pub struct SegmentReader {
    decoder: SegmentDecoder,
    stored: Vec<u8>,
    raw: Vec<u8>,
}

impl Default for SegmentReader {
    fn default() -> Self {
        Self::new()
    }
}

impl SegmentReader {
    /// With empty buffers.
    pub fn new() -> Self {
        Self { decoder: SegmentDecoder::new(), stored: Vec::new(), raw: Vec::new() }
    }

    /// Reads and decodes one segment, as [`decode_segment`] does.
    pub fn read(&mut self, object: &dyn Object, segment: &SegmentRef) -> Result<&[u8], ReadError> {
        let len = SEGMENT_HEADER_LEN + segment.stored_len as usize;
        if segment.stored_len as usize > SECTION_RAW_MAX || segment.raw_len as usize > SEGMENT_RAW_MAX {
            return Err(FormatError::Invalid("segment length").into());
        }
        self.stored.resize(len, 0);
        object.read_exact_at(segment.offset, &mut self.stored)?;
        decode_segment(segment, &self.stored, (&mut self.decoder, &mut self.raw))?;
        Ok(&self.raw)
    }
}

/// Decodes one segment of which all bytes, its header first, are at hand; the raw bytes are in `raw` then. The one way
/// in which stored bytes become content, for restore, validate and repair alike.
///
/// What the caller knows of the segment counts, not what its header says, and a wrong checksum refuses nothing: the
/// chunks' hashes, which are the caller's to check, decide. So a flipped byte costs the chunks that it reaches and not
/// their neighbours.
pub fn decode_segment(
    segment: &SegmentRef,
    bytes: &[u8],
    (decoder, raw): (&mut SegmentDecoder, &mut Vec<u8>),
) -> Result<(), ReadError> {
    let (_, stored) = bytes.split_at_checked(SEGMENT_HEADER_LEN).ok_or(FormatError::Short)?;
    let codec = Codec::from_tag(segment.codec).ok_or(FormatError::Unsupported("an unknown codec"))?;
    let stored = Stored { codec, bytes: stored, raw_len: segment.raw_len as usize };
    decoder.decode(stored, raw).map_err(|_| ReadError::Content)
}

/// Whether `bytes` are the chunk `id`.
pub fn is_chunk(algo: HashAlgo, id: &ChunkId, bytes: &[u8]) -> bool {
    hash_bytes(algo, bytes) == id.0
}
