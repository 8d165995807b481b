//! Writing the record of a run: which sections, in which order. How rows are said is `manifest_write_rows`' business,
//! where it goes that of `manifest_file`; when, that of the verb.

use super::chunk_ranges::ChunkRanges;
use super::manifest_file::ManifestSink;
use super::manifest_write_rows::RowSections;
use crate::catalog::{CatalogError, Connection, blocks, places};
use crate::format::manifest::{
    BlockRecord, DictionaryRun, ManifestMeta, ManifestVolume, SECTION_RAW_TARGET, SectionTag,
};
use crate::model::ids::ChunkNo;

type Result<T> = std::result::Result<T, CatalogError>;

/// Writes a manifest's sections.
pub struct ManifestEncoder<'e> {
    /// The catalog before the run's last transaction.
    pub before: &'e Connection,
}

impl ManifestEncoder<'_> {
    /// Writes all sections: head, volumes, blocks that no manifest lists, dictionary, rows.
    pub fn write(
        &self,
        sink: &mut ManifestSink,
        (meta, volumes): (&ManifestMeta, &[ManifestVolume]),
        rows: &RowSections,
    ) -> Result<()> {
        put_json(sink, SectionTag::Meta, meta);
        put_json(sink, SectionTag::Volumes, &volumes);
        let new = self.write_blocks(sink)?;
        self.write_dictionary(sink, (rows.mentioned(), &new))?;
        rows.write(sink)
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
    fn write_dictionary(&self, sink: &mut ManifestSink, (mentioned, new): (&ChunkRanges, &ChunkRanges)) -> Result<()> {
        let mut section = SectionTag::Dictionary.start();
        for (from, to) in mentioned.without(new) {
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
}

fn put_json(sink: &mut ManifestSink, tag: SectionTag, value: &impl serde::Serialize) {
    let mut section = tag.start();
    section.extend(serde_json::to_vec(value).expect("plain data has a JSON form"));
    sink.put_section(&section);
}
