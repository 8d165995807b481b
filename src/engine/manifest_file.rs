//! Manifests on stores: written section by section to several volumes at once, read back section by section.

use super::block_file::{ContainerWriter, EncodedSegment, ReadError, read_header, read_trailer};
use crate::codec::compress::{Codec, SegmentDecoder, SegmentEncoder, Stored};
use crate::codec::hash::Hasher;
use crate::format::container::{
    ContainerKind, FormatError, HEADER_LEN, Header, SEGMENT_HEADER_LEN, SegmentHeader, SegmentKind, TRAILER_LEN,
};
use crate::format::manifest::SectionTag;
use crate::model::ids::{BlockId, RepositoryUuid};
use crate::model::limits::SEGMENT_RAW_MAX;
use crate::model::params::Compression;
use crate::volume::store::{Existing, Object, Store, StoreError};

/// Raw bytes of one section segment at most: a section's last record may pass the target at which it is cut.
const RAW_MAX: usize = SEGMENT_RAW_MAX;

/// Compresses sections.
pub struct SectionEncoder(SegmentEncoder);

impl Default for SectionEncoder {
    fn default() -> Self {
        Self(SegmentEncoder::new(Compression::Zstd(3)))
    }
}

impl SectionEncoder {
    /// One section: its raw bytes, tag and flags first.
    pub fn encode(&mut self, raw: &[u8]) -> EncodedSegment {
        debug_assert!(raw.len() <= RAW_MAX);
        let mut bytes = Vec::new();
        let codec = self.0.encode(raw, &mut bytes);
        let raw_len = u32::try_from(raw.len()).expect("sections are bounded far below 4 GiB");
        EncodedSegment { codec, raw_len, bytes }
    }
}

/// One manifest on its way to several places.
pub struct ManifestSink {
    writers: Vec<(usize, ContainerWriter)>,
    failed: Vec<(usize, StoreError)>,
    encoder: SectionEncoder,
}

/// Where a manifest was to go, and how that ended.
pub struct ManifestOutcome {
    /// Hash of the file, the same in every place.
    pub digest: Option<[u8; 32]>,
    /// Bytes of the file.
    pub size: u64,
    /// Places in which it is durable, as given to [`ManifestSink::open`].
    pub durable: Vec<usize>,
    /// Places that failed.
    pub failed: Vec<(usize, StoreError)>,
}

impl ManifestSink {
    /// Begins the same manifest in every one of `stores`; one that fails is left out and reported at the end.
    pub fn open(stores: &[(usize, &dyn Store)], header: &Header) -> Self {
        let (mut writers, mut failed) = (Vec::new(), Vec::new());
        for (place, store) in stores {
            match store.begin(0).and_then(|sink| ContainerWriter::new(sink, header, u64::MAX)) {
                Ok(writer) => writers.push((*place, writer)),
                Err(error) => failed.push((*place, error)),
            }
        }
        Self { writers, failed, encoder: SectionEncoder::default() }
    }

    /// Appends a section: its raw bytes, tag and flags first.
    pub fn put_section(&mut self, raw: &[u8]) {
        let segment = self.encoder.encode(raw);
        self.put_encoded(&segment);
    }

    /// The same of one that a [`SectionEncoder`] encoded.
    pub fn put_encoded(&mut self, segment: &EncodedSegment) {
        let mut kept = Vec::with_capacity(self.writers.len());
        for (place, mut writer) in self.writers.drain(..) {
            match writer.put(SegmentKind::Section, segment) {
                Ok(()) => kept.push((place, writer)),
                Err(error) => self.failed.push((place, error)),
            }
        }
        self.writers = kept;
    }

    /// Makes it durable everywhere under `key`.
    pub fn finish(self, key: &str) -> ManifestOutcome {
        let mut outcome = ManifestOutcome { digest: None, size: 0, durable: Vec::new(), failed: self.failed };
        for (place, writer) in self.writers {
            match writer.finish(ContainerKind::Manifest, &|_: BlockId| key.to_owned()) {
                Ok(done) => {
                    outcome.digest = Some(done.id.0);
                    outcome.size = done.size;
                    outcome.durable.push(place);
                }
                Err(error) => outcome.failed.push((place, error)),
            }
        }
        outcome
    }
}

/// Bytes that are copied at once.
const COPY_LEN: usize = 1 << 20;

/// A copy that failed, on one side or the other.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Where it comes from.
    #[error(transparent)]
    From(StoreError),
    /// Where it goes to.
    #[error(transparent)]
    To(StoreError),
}

/// Copies a whole manifest to `key` of a store, where it is durable on return; `Exists` when the key is taken.
pub fn copy_manifest_file(from: &dyn Object, to: &dyn Store, key: &str) -> Result<(), CopyError> {
    let mut sink = to.begin(0).map_err(CopyError::To)?;
    let mut buffer = vec![0; COPY_LEN];
    while sink.len() < from.len() {
        let at = sink.len();
        let len = usize::try_from(from.len() - at).unwrap_or(COPY_LEN).min(COPY_LEN);
        from.read_exact_at(at, &mut buffer[..len]).map_err(CopyError::From)?;
        sink.write(&buffer[..len]).map_err(CopyError::To)?;
    }
    sink.commit(key, Existing::Fail).map_err(CopyError::To)
}

/// Reads a manifest's sections in order.
pub struct ManifestReader<'o> {
    object: &'o dyn Object,
    at: u64,
    end: u64,
    left: u32,
    index: u32,
    decoder: SegmentDecoder,
    hasher: Hasher,
}

impl<'o> ManifestReader<'o> {
    /// Checks header and trailer; a manifest of another repository is refused.
    pub fn open(object: &'o dyn Object, repository: Option<RepositoryUuid>) -> Result<(Self, Header), ReadError> {
        let header = read_header(object)?;
        if header.kind != ContainerKind::Manifest || repository.is_some_and(|ours| ours != header.repository) {
            return Err(FormatError::Invalid("repository").into());
        }
        let trailer = read_trailer(object)?;
        let mut hasher = Hasher::new(header.hash);
        let mut head = [0; HEADER_LEN];
        object.read_exact_at(0, &mut head)?;
        hasher.update(&head);
        let reader = Self {
            object,
            at: HEADER_LEN as u64,
            end: object.len() - TRAILER_LEN as u64,
            left: trailer.segment_count,
            index: 0,
            decoder: SegmentDecoder::new(),
            hasher,
        };
        Ok((reader, header))
    }

    /// The next section's tag and body; `None` at the end. Optional sections of unknown kinds are passed over.
    pub fn next_section(&mut self) -> Result<Option<(SectionTag, Vec<u8>)>, ReadError> {
        loop {
            if self.left == 0 {
                if self.at != self.end {
                    return Err(FormatError::Invalid("length").into());
                }
                return Ok(None);
            }
            let Some(raw) = self.next_segment()? else { continue };
            if let Some((tag, body)) = SectionTag::split(&raw)? {
                return Ok(Some((tag, body.to_vec())));
            }
        }
    }

    /// Bytes of the whole file.
    pub fn file_len(&self) -> u64 {
        self.object.len()
    }

    /// The hash of the whole file, once every section was read.
    pub fn digest(&self) -> Result<[u8; 32], ReadError> {
        let mut trailer = [0; TRAILER_LEN];
        self.object.read_exact_at(self.end, &mut trailer)?;
        let mut hasher = self.hasher.clone();
        hasher.update(&trailer);
        Ok(hasher.finalize())
    }

    fn next_segment(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        let mut head = [0; SEGMENT_HEADER_LEN];
        self.object.read_exact_at(self.at, &mut head)?;
        let header = SegmentHeader::decode(&head)?;
        let body_at = self.at + SEGMENT_HEADER_LEN as u64;
        let body_end = body_at + u64::from(header.stored_len);
        if body_end > self.end || header.stored_len as usize > RAW_MAX + 1024 || header.raw_len as usize > RAW_MAX {
            return Err(FormatError::Invalid("section length").into());
        }
        if header.index != self.index {
            return Err(FormatError::Invalid("section order").into());
        }
        let mut stored = vec![0; header.stored_len as usize];
        self.object.read_exact_at(body_at, &mut stored)?;
        SegmentHeader::check(&head, &stored)?;
        self.hasher.update(&head);
        self.hasher.update(&stored);
        self.at = body_end;
        self.left -= 1;
        self.index += 1;
        if header.kind != SegmentKind::Section as u8 {
            return Ok(None);
        }
        let codec = Codec::from_tag(header.codec).ok_or(FormatError::Unsupported("an unknown codec"))?;
        let mut raw = Vec::new();
        let stored = Stored { codec, bytes: &stored, raw_len: header.raw_len as usize };
        self.decoder.decode(stored, &mut raw).map_err(|_| ReadError::Content)?;
        Ok(Some(raw))
    }
}
