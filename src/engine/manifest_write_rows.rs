//! The rows of a record: how a file's bytes are said, and which chunks they name. They are encoded as they come, and kept
//! until what stands before them in the record is known.

use super::block_file::EncodedSegment;
use super::chunk_ranges::ChunkRanges;
use super::manifest_file::{ManifestSink, SectionEncoder};
use crate::catalog::frames::Frames;
use crate::catalog::pending::content_of;
use crate::catalog::versions::{Applied, Change};
use crate::catalog::{Catalog, CatalogError, Connection, chunks, contents};
use crate::codec::compress::Codec;
use crate::format::manifest::{SECTION_RAW_TARGET, SectionTag};
use crate::format::manifest_rows::{ContentOp, PutRow, Row, RowEncoder};
use crate::model::content::Content;
use crate::model::ids::{ChunkNo, ContentId};
use crate::model::version::{Object, Version};
use std::collections::HashMap;

type Result<T> = std::result::Result<T, CatalogError>;

/// Bytes of encoded sections that stay in memory; those of a few hundred thousand rows.
const MEMORY_MAX: usize = 4 << 20;

/// All sections of a record's rows, and the chunks that they name by number.
pub struct RowSections {
    frames: Frames,
    heads: Vec<(Codec, u32)>,
    mentioned: ChunkRanges,
}

impl RowSections {
    /// Chunks that rows name by their numbers.
    pub fn mentioned(&self) -> &ChunkRanges {
        &self.mentioned
    }

    /// Puts all sections into a record.
    pub fn write(&self, sink: &mut ManifestSink) -> Result<()> {
        let mut heads = self.heads.iter();
        self.frames.for_each_from(0, &mut |bytes| {
            let (codec, raw_len) = *heads.next().ok_or_else(|| CatalogError::damaged("a section without its head"))?;
            sink.put_encoded(&EncodedSegment { codec, raw_len, bytes: bytes.to_vec() });
            Ok(())
        })
    }
}

/// Encodes rows.
pub struct RowsWriter<'c> {
    /// The catalog before the run's last transaction.
    before: &'c Connection,
    section: Vec<u8>,
    rows: RowEncoder,
    open_dir: Option<Vec<u8>>,
    encoder: SectionEncoder,
    sections: RowSections,
}

impl<'c> RowsWriter<'c> {
    /// For a record on what `before` sees: the catalog before the run's last transaction.
    pub fn new(before: &'c Catalog) -> Self {
        let frames = Frames::beside(before.path(), MEMORY_MAX);
        Self {
            before: before.conn(),
            section: SectionTag::Rows.start(),
            rows: RowEncoder::default(),
            open_dir: None,
            encoder: SectionEncoder::default(),
            sections: RowSections { frames, heads: Vec::new(), mentioned: ChunkRanges::default() },
        }
    }

    /// Adds a row: directory, name, change, what it turned out to be, and a file's content where it is at hand.
    pub fn push(
        &mut self,
        (dir, name): (&[u8], &[u8]),
        (change, applied, content): (&Change, Applied, Option<&Content>),
    ) -> Result<()> {
        if applied == Applied::Nothing {
            return Ok(());
        }
        let row = self.row(name, (change, applied, content))?;
        if self.section.len() > SECTION_RAW_TARGET {
            self.close_section()?;
        }
        if self.open_dir.as_deref() != Some(dir) {
            self.rows.put(&mut self.section, &Row::Dir(dir.to_vec()));
            self.open_dir = Some(dir.to_vec());
        }
        self.rows.put(&mut self.section, &row);
        Ok(())
    }

    /// All rows are there.
    pub fn finish(mut self) -> Result<RowSections> {
        if self.section.len() > 2 {
            self.close_section()?;
        }
        Ok(self.sections)
    }

    fn close_section(&mut self) -> Result<()> {
        let raw = std::mem::replace(&mut self.section, SectionTag::Rows.start());
        (self.rows, self.open_dir) = (RowEncoder::default(), None);
        let mut segment = self.encoder.encode(&raw);
        self.sections.heads.push((segment.codec, segment.raw_len));
        // It was given room for the worst case.
        segment.bytes.shrink_to_fit();
        self.sections.frames.push(segment.bytes)
    }

    fn row(&mut self, name: &[u8], (change, applied, content): (&Change, Applied, Option<&Content>)) -> Result<Row> {
        let name_bytes = name.to_vec();
        Ok(match change {
            Change::Put { version, detection, .. } if applied == Applied::Touched => {
                Row::Touch { name: name_bytes, detection: *detection, btime_ns: version.btime_ns }
            }
            Change::Put { version, detection, .. } => {
                let before = match applied {
                    Applied::Changed { before } => before,
                    Applied::Touched | Applied::Nothing => None,
                };
                let same_content = is_same_content(change, before);
                let ops = match (content, content_of(change)) {
                    (_, None) => Vec::new(),
                    _ if same_content => Vec::new(),
                    (Some(content), _) => ops(self.before, content, before)?,
                    (None, Some(id)) => ops(self.before, &contents::get(self.before, id)?, before)?,
                };
                for op in &ops {
                    if let ContentOp::Chunks { first, n } = op {
                        self.sections.mentioned.add(first.0, *n);
                    }
                }
                let hash_is_chunk_id = self.hash_is_chunk_id(version, &ops)?;
                Row::Put(Box::new(PutRow {
                    name: name_bytes,
                    version: version.clone(),
                    hash_is_chunk_id,
                    same_content,
                    detection: *detection,
                    ops,
                }))
            }
            Change::Touch { detection, btime_ns } => {
                Row::Touch { name: name_bytes, detection: *detection, btime_ns: *btime_ns }
            }
            Change::End(reason) => Row::End { name: name_bytes, reason: *reason },
        })
    }

    fn hash_is_chunk_id(&self, version: &Version, ops: &[ContentOp]) -> Result<bool> {
        let (Object::Content(hash), [ContentOp::Chunks { first, n: 1 }]) = (&version.object, ops) else {
            return Ok(false);
        };
        Ok(chunks::get(self.before, *first)?.is_some_and(|(id, _)| id.0 == hash.0))
    }
}

/// How a content is said: what the same path held before is copied, the rest named by chunk numbers.
fn ops(conn: &Connection, content: &Content, before: Option<ContentId>) -> Result<Vec<ContentOp>> {
    let base = match before {
        Some(id) => base_pieces(conn, id)?,
        None => HashMap::new(),
    };
    let mut ops = Vec::new();
    for (index, extent) in content.extents.iter().enumerate() {
        if extent.chunk.0 == 0 {
            let end = content.extents.get(index + 1).map_or(content.size, |next| next.at);
            ops.push(ContentOp::Zeros { len: end - extent.at });
            continue;
        }
        for no in (0..i64::from(extent.n)).map(|step| extent.chunk.0 + step) {
            push_chunk(&mut ops, no, base.get(&no).copied());
        }
    }
    Ok(ops)
}

/// Ordinals of the chunks of the content that the path had before.
fn base_pieces(conn: &Connection, id: ContentId) -> Result<HashMap<i64, u64>> {
    let mut pieces = HashMap::new();
    let mut ordinal = 0_u64;
    for extent in contents::get(conn, id)?.extents {
        for step in 0..i64::from(extent.n) {
            if extent.chunk.0 != 0 {
                pieces.entry(extent.chunk.0 + step).or_insert(ordinal);
            }
            ordinal += 1;
        }
    }
    Ok(pieces)
}

/// Whether a file has the content that its path had before.
fn is_same_content(change: &Change, before: Option<ContentId>) -> bool {
    matches!(change, Change::Put { content: Some(content), .. } if before == Some(*content))
}

/// Appends a chunk, joining it to the op before where it goes on from that.
fn push_chunk(ops: &mut Vec<ContentOp>, no: i64, in_base: Option<u64>) {
    match (ops.last_mut(), in_base) {
        (Some(ContentOp::Copy { from, n }), Some(ordinal)) if *from + *n == ordinal => *n += 1,
        (_, Some(ordinal)) => ops.push(ContentOp::Copy { from: ordinal, n: 1 }),
        (Some(ContentOp::Chunks { first, n }), None) if first.0 + i64::from(*n) == no && *n < u32::MAX => *n += 1,
        (_, None) => ops.push(ContentOp::Chunks { first: ChunkNo(no), n: 1 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_the_base_are_copied_in_runs() {
        let mut ops = Vec::new();
        for (no, in_base) in [(1, Some(0)), (2, Some(1)), (50, None), (51, None), (3, Some(2)), (1, Some(0))] {
            push_chunk(&mut ops, no, in_base);
        }
        let expected = [
            ContentOp::Copy { from: 0, n: 2 },
            ContentOp::Chunks { first: ChunkNo(50), n: 2 },
            ContentOp::Copy { from: 2, n: 1 },
            ContentOp::Copy { from: 0, n: 1 },
        ];
        assert_eq!(ops, expected);
    }
}
