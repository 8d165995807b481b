//! Which chunk of which file version lies where in a block: from the block's rows to contents, versions and runs.
//!
//! A chunk's place in a file comes from the extents of its content, which are read once and kept; inside an extent
//! (at most 256 chunks) a cursor goes along, so that a large file costs the same per chunk as a small one.

use crate::catalog::Catalog;
use crate::catalog::damage::{self, ChunkUse, ContentUser};
use crate::catalog::error::{CatalogError, Result};
use crate::catalog::{blocks, contents, places, runs};
use crate::codec::compress::Codec;
use crate::format::block::SegmentEntry;
use crate::format::container::SEGMENT_HEADER_LEN;
use crate::format::sidecar::{Mapping, base64};
use crate::model::ids::{BlockNo, ChunkId, ChunkNo, ContentId, SourceId};
use std::collections::HashMap;
use std::rc::Rc;

/// Extents of contents that are kept, at 16 bytes each.
const EXTENTS_KEPT_MAX: usize = 1 << 20;
/// Versions that are kept, at some 200 bytes each.
const USERS_KEPT_MAX: usize = 1 << 16;
/// A content with more versions than this is read anew for each of its chunks, as a stream.
const USERS_OF_ONE_MAX: usize = 1 << 10;
/// Mappings of one chunk that are sorted together: those of more than one content come in sorted groups of so many.
const SORTED_MAX: usize = 1 << 15;

/// Finds the mappings of block after block.
pub(super) struct Mapper {
    sources: HashMap<SourceId, String>,
    layouts: HashMap<ContentId, Rc<Layout>>,
    extents_kept: usize,
    users: HashMap<ContentId, Option<Rc<Vec<ContentUser>>>>,
    users_kept: usize,
    /// Per content and extent: a chunk and where it starts in the file.
    cursors: HashMap<(ContentId, u64), (ChunkNo, u64)>,
}

/// What a content says about its chunks.
struct Layout {
    file_hash: String,
    /// Offset of each extent of stored chunks, and the ordinal of its first chunk.
    extents: Vec<(u64, u64)>,
}

/// A chunk in one place of one content.
#[derive(Debug, Clone, Copy)]
struct Use {
    content: ContentId,
    seq: u64,
    file_offset: u64,
}

impl Mapper {
    /// With nothing kept yet.
    pub fn new(catalog: &Catalog) -> Result<Self> {
        let sources = runs::sources(catalog.conn())?;
        Ok(Self {
            sources: sources
                .into_iter()
                .map(|source| (source.id, format!("{}:{}", source.host, source.name)))
                .collect(),
            layouts: HashMap::new(),
            extents_kept: 0,
            users: HashMap::new(),
            users_kept: 0,
            cursors: HashMap::new(),
        })
    }

    /// Hands every mapping of a block to `each`: by segment and offset in it, then by source, path and first run.
    pub fn for_each_mapping(
        &mut self,
        catalog: &Catalog,
        block: BlockNo,
        each: &mut dyn FnMut(&Mapping),
    ) -> Result<()> {
        let (table, numbers) = blocks::table_of(catalog.conn(), block)?;
        self.cursors.clear();
        let mut numbers = numbers.into_iter();
        for segment in &table.segments {
            let mut offset_in_segment = 0;
            for ((id, len), no) in segment.chunks.iter().zip(numbers.by_ref()) {
                let uses = self.uses_of(catalog, no)?;
                if !uses.is_empty() {
                    let mut mapping = blank(segment, (*id, *len), offset_in_segment);
                    self.map_uses(catalog, &uses, (&mut mapping, each))?;
                }
                offset_in_segment += u64::from(*len);
            }
        }
        Ok(())
    }

    /// Where contents use a chunk, ordered by content and offset.
    fn uses_of(&mut self, catalog: &Catalog, no: ChunkNo) -> Result<Vec<Use>> {
        let mut uses = Vec::new();
        for found in damage::uses_of_chunk(catalog.conn(), no)? {
            let layout = self.layout(catalog, found.content)?;
            let first_seq = layout
                .extents
                .binary_search_by_key(&found.extent_at, |(at, _)| *at)
                .map(|index| layout.extents[index].1)
                .map_err(|_| CatalogError::damaged(format!("content {} has no such extent", found.content)))?;
            uses.push(Use {
                content: found.content,
                seq: first_seq + (no.0 - found.extent_first.0).unsigned_abs(),
                file_offset: self.offset_in_file(catalog, no, &found)?,
            });
        }
        Ok(uses)
    }

    fn offset_in_file(&mut self, catalog: &Catalog, no: ChunkNo, found: &ChunkUse) -> Result<u64> {
        let key = (found.content, found.extent_at);
        let start = (found.extent_first, found.extent_at);
        let (from, mut offset) = self.cursors.get(&key).copied().filter(|(at, _)| *at <= no).unwrap_or(start);
        let between = u32::try_from(no.0 - from.0).map_err(|_| CatalogError::damaged("an extent that is too long"))?;
        for chunk in places::chunks_from(catalog.conn(), from, between)? {
            offset = offset.saturating_add(u64::from(chunk.len));
        }
        self.cursors.insert(key, (no, offset));
        Ok(offset)
    }

    fn layout(&mut self, catalog: &Catalog, id: ContentId) -> Result<Rc<Layout>> {
        if let Some(known) = self.layouts.get(&id) {
            return Ok(Rc::clone(known));
        }
        let content = contents::get(catalog.conn(), id)?;
        let (mut seq, mut extents) = (0, Vec::new());
        for extent in content.extents.iter().filter(|extent| extent.chunk.0 != 0) {
            extents.push((extent.at, seq));
            seq += u64::from(extent.n);
        }
        if self.extents_kept + extents.len() + 1 > EXTENTS_KEPT_MAX {
            self.layouts.clear();
            self.extents_kept = 0;
        }
        self.extents_kept += extents.len() + 1;
        let layout = Rc::new(Layout { file_hash: content.hash.to_string(), extents });
        self.layouts.insert(id, Rc::clone(&layout));
        Ok(layout)
    }

    fn map_uses(
        &mut self,
        catalog: &Catalog,
        uses: &[Use],
        (mapping, each): (&mut Mapping, &mut dyn FnMut(&Mapping)),
    ) -> Result<()> {
        let is_one_content = uses.iter().all(|found| found.content == uses[0].content);
        if is_one_content {
            let file_hash = self.layout(catalog, uses[0].content)?.file_hash.clone();
            mapping.file_hash = file_hash;
            return self.for_each_user(catalog, uses[0].content, &mut |sources, user| {
                set_user(mapping, sources, user);
                for found in uses {
                    set_use(mapping, found);
                    each(mapping);
                }
            });
        }
        let mut group: Vec<(ContentUser, Use, String)> = Vec::new();
        for found in uses {
            let file_hash = self.layout(catalog, found.content)?.file_hash.clone();
            self.for_each_user(catalog, found.content, &mut |sources, user| {
                group.push((user.clone(), *found, file_hash.clone()));
                if group.len() == SORTED_MAX {
                    hand_sorted(&mut group, sources, (mapping, each));
                }
            })?;
        }
        hand_sorted(&mut group, &self.sources, (mapping, each));
        Ok(())
    }

    /// The versions that hold a content, in order: kept, or streamed where there are too many.
    fn for_each_user(
        &mut self,
        catalog: &Catalog,
        content: ContentId,
        each: &mut dyn FnMut(&HashMap<SourceId, String>, &ContentUser),
    ) -> Result<()> {
        if !self.users.contains_key(&content) {
            let found = damage::users_up_to(catalog.conn(), content, USERS_OF_ONE_MAX)?.map(Rc::new);
            let count = found.as_ref().map_or(1, |users| users.len() + 1);
            if self.users_kept + count > USERS_KEPT_MAX {
                self.users.clear();
                self.users_kept = 0;
            }
            self.users_kept += count;
            self.users.insert(content, found);
        }
        match self.users.get(&content) {
            Some(Some(users)) => users.iter().for_each(|user| each(&self.sources, user)),
            _ => {
                let sources = &self.sources;
                damage::for_each_user(catalog.conn(), content, &mut |user| {
                    each(sources, &user);
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}

/// A chunk's mapping without its file.
fn blank(segment: &SegmentEntry, (id, len): (ChunkId, u32), offset_in_segment: u64) -> Mapping {
    Mapping {
        file_path: String::new(),
        file_path_b64: None,
        seq: 0,
        file_size: 0,
        file_offset: 0,
        length: u64::from(len),
        chunk_hash: id.to_string(),
        file_hash: String::new(),
        mtime_ns: 0,
        source: String::new(),
        first_run: 0,
        last_run: None,
        segment_offset: segment.offset.saturating_add(SEGMENT_HEADER_LEN as u64),
        segment_length: u64::from(segment.stored_len),
        codec: Codec::from_tag(segment.codec).map_or("unknown", Codec::word),
        offset_in_segment,
    }
}

fn set_user(mapping: &mut Mapping, sources: &HashMap<SourceId, String>, user: &ContentUser) {
    mapping.file_path.clear();
    mapping.file_path.push_str(&String::from_utf8_lossy(&user.path));
    mapping.file_path_b64 = std::str::from_utf8(&user.path).is_err().then(|| base64(&user.path));
    mapping.file_size = user.version.size;
    mapping.mtime_ns = user.version.mtime_ns;
    mapping.source.clear();
    mapping.source.push_str(sources.get(&user.source).map_or("", String::as_str));
    mapping.first_run = user.first_run;
    mapping.last_run = user.last_run;
}

fn set_use(mapping: &mut Mapping, found: &Use) {
    mapping.seq = found.seq;
    mapping.file_offset = found.file_offset;
}

fn hand_sorted(
    group: &mut Vec<(ContentUser, Use, String)>,
    sources: &HashMap<SourceId, String>,
    (mapping, each): (&mut Mapping, &mut dyn FnMut(&Mapping)),
) {
    let key = |(user, found, _): &(ContentUser, Use, String)| (user.source, user.first_run, found.file_offset);
    group.sort_by(|one, other| {
        let by_path = (one.0.source, &one.0.path).cmp(&(other.0.source, &other.0.path));
        by_path.then_with(|| key(one).cmp(&key(other)))
    });
    for (user, found, file_hash) in group.drain(..) {
        set_user(mapping, sources, &user);
        set_use(mapping, &found);
        mapping.file_hash = file_hash;
        each(mapping);
    }
}
