//! Writing the record of a run: which sections, in which order, and how a file's bytes are said. Where it goes is
//! `manifest_file`'s business; when, that of the verb.

use super::chunk_ranges::ChunkRanges;
use super::manifest_file::ManifestSink;
use crate::catalog::versions::{Applied, Change};
use crate::catalog::{CatalogError, Connection, blocks, chunks, contents, places};
use crate::format::manifest::{
    BlockRecord, DictionaryRun, ManifestMeta, ManifestVolume, SECTION_RAW_TARGET, SectionTag,
};
use crate::format::manifest_rows::{ContentOp, PutRow, Row, RowEncoder};
use crate::model::content::Content;
use crate::model::ids::{ChunkNo, ContentId};
use crate::model::version::{Object, Version};
use std::collections::HashMap;

type Result<T> = std::result::Result<T, CatalogError>;

/// Hands every row of a run to a closure: directory, name, change, what it turned out to be, and a file's content.
pub type RowVisitor<'v> = &'v mut dyn FnMut(&[u8], &[u8], (&Change, Applied, Option<&Content>)) -> Result<()>;

/// The rows of a run, which can be gone through more than once in the same order.
pub trait RowSource {
    /// Hands every row to `visit`.
    fn for_each(&self, visit: RowVisitor<'_>) -> Result<()>;
}

/// Writes a manifest's sections.
pub struct ManifestEncoder<'e> {
    /// The catalog before the run's last transaction.
    pub before: &'e Connection,
}

/// The chunks that rows name by their numbers, gathered while rows are gone through anyway.
#[derive(Debug, Default)]
pub struct Mentioned(ChunkRanges);

impl Mentioned {
    /// Notes one row, as [`RowVisitor`] gets it. `before` is the catalog before the run's last transaction.
    pub fn note(
        &mut self,
        before: &Connection,
        (change, applied, content): (&Change, Applied, Option<&Content>),
    ) -> Result<()> {
        let (Applied::Changed { before: held }, Some(content)) = (applied, content) else { return Ok(()) };
        if is_same_content(change, held) {
            return Ok(());
        }
        let Some(held) = held else {
            content
                .extents
                .iter()
                .filter(|extent| extent.chunk.0 != 0)
                .for_each(|extent| self.add(extent.chunk, extent.n));
            return Ok(());
        };
        for op in ops(before, content, Some(held))? {
            if let ContentOp::Chunks { first, n } = op {
                self.add(first, n);
            }
        }
        Ok(())
    }

    fn add(&mut self, first: ChunkNo, n: u32) {
        self.0.add(first.0, n);
    }
}

impl ManifestEncoder<'_> {
    /// Writes all sections: head, volumes, blocks that no manifest lists, dictionary, rows. `mentioned` has noted all rows.
    pub fn write(
        &self,
        sink: &mut ManifestSink,
        (meta, volumes): (&ManifestMeta, &[ManifestVolume]),
        (rows, mentioned): (&dyn RowSource, &Mentioned),
    ) -> Result<()> {
        put_json(sink, SectionTag::Meta, meta);
        put_json(sink, SectionTag::Volumes, &volumes);
        let new = self.write_blocks(sink)?;
        self.write_dictionary(sink, (mentioned, &new))?;
        self.write_rows(sink, rows)
    }

    fn write_blocks(&self, sink: &mut ManifestSink) -> Result<ChunkRanges> {
        let mut new = ChunkRanges::default();
        let mut section = SectionTag::Blocks.start();
        blocks::for_each_unlisted(self.before, &mut |record: &BlockRecord| {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            if section.len() > 2 && section.len() + bytes.len() > SECTION_RAW_TARGET {
                sink.put_section(&std::mem::replace(&mut section, SectionTag::Blocks.start()));
            }
            section.extend(bytes);
            record.numbers.iter().for_each(|no| new.add(no.0, 1));
            Ok(())
        })?;
        if section.len() > 2 {
            sink.put_section(&section);
        }
        Ok(new)
    }

    /// The chunks that rows name and no block of this manifest holds.
    fn write_dictionary(&self, sink: &mut ManifestSink, (mentioned, new): (&Mentioned, &ChunkRanges)) -> Result<()> {
        let mut section = SectionTag::Dictionary.start();
        for (from, to) in mentioned.0.without(new) {
            let mut first = from;
            while first < to {
                let n = u32::try_from(to - first).unwrap_or(u32::MAX).min(DictionaryRun::LEN_MAX);
                let chunks = places::chunks_from(self.before, ChunkNo(first), n)?;
                let chunks = chunks.into_iter().map(|chunk| (chunk.id, chunk.len)).collect();
                DictionaryRun { first: ChunkNo(first), chunks }.encode(&mut section);
                first += i64::from(n);
                if section.len() > SECTION_RAW_TARGET {
                    sink.put_section(&std::mem::replace(&mut section, SectionTag::Dictionary.start()));
                }
            }
        }
        if section.len() > 2 {
            sink.put_section(&section);
        }
        Ok(())
    }

    fn write_rows(&self, sink: &mut ManifestSink, rows: &dyn RowSource) -> Result<()> {
        let mut section = SectionTag::Rows.start();
        let mut encoder = RowEncoder::default();
        let mut open_dir: Option<Vec<u8>> = None;
        rows.for_each(&mut |dir, name, (change, applied, content)| {
            if applied == Applied::Nothing {
                return Ok(());
            }
            let row = self.row(name, (change, applied, content))?;
            if section.len() > SECTION_RAW_TARGET {
                sink.put_section(&std::mem::replace(&mut section, SectionTag::Rows.start()));
                encoder = RowEncoder::default();
                open_dir = None;
            }
            if open_dir.as_deref() != Some(dir) {
                encoder.put(&mut section, &Row::Dir(dir.to_vec()));
                open_dir = Some(dir.to_vec());
            }
            encoder.put(&mut section, &row);
            Ok(())
        })?;
        if section.len() > 2 {
            sink.put_section(&section);
        }
        Ok(())
    }

    fn row(&self, name: &[u8], (change, applied, content): (&Change, Applied, Option<&Content>)) -> Result<Row> {
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
                let ops = match content {
                    Some(content) if !same_content => ops(self.before, content, before)?,
                    _ => Vec::new(),
                };
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

fn put_json(sink: &mut ManifestSink, tag: SectionTag, value: &impl serde::Serialize) {
    let mut section = tag.start();
    section.extend(serde_json::to_vec(value).expect("plain data has a JSON form"));
    sink.put_section(&section);
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
