//! Which chunk of which file version lies where in a block: from the block's rows to contents, versions and runs.
//!
//! Chunks of a block mostly have consecutive numbers, so that the extents that use some hundreds of them are read at once.
//! A chunk's place in a file comes from its extent; inside one (at most 256 chunks) a cursor goes along, so that a
//! large file costs the same per chunk as a small one.

use crate::catalog::Catalog;
use crate::catalog::damage::{self, ContentUser, UsedExtent};
use crate::catalog::error::{CatalogError, Result};
use crate::catalog::{blocks, contents, places, runs};
use crate::codec::compress::Codec;
use crate::format::block::SegmentEntry;
use crate::format::container::SEGMENT_HEADER_LEN;
use crate::format::sidecar::{Mapping, base64};
use crate::model::ids::{BlockNo, ChunkId, ChunkNo, ContentId, FileHash, SourceId};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

/// Numbers of chunks whose uses are read at once.
const WINDOW: i64 = 1 << 9;
/// Such windows that are kept: threads that stored together took their numbers in turns.
const WINDOWS_MAX: usize = 16;
/// The most chunks of an extent.
const EXTENT_MAX: i64 = 256;
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

/// The stored extents of a content: offset in the file, and the ordinal of the first chunk.
type Layout = Vec<(u64, u64)>;

/// A chunk in one place of one content.
#[derive(Debug, Clone, Copy)]
struct Use {
    content: ContentId,
    hash: FileHash,
    seq: u64,
    file_offset: u64,
}

/// The extents that use any of [`WINDOW`] consecutive chunks, by their first chunk.
struct Window(Vec<UsedExtent>);

impl Window {
    /// The extents that have a chunk, by content and offset.
    fn extents_of(&self, no: ChunkNo) -> Vec<UsedExtent> {
        let from = self.0.partition_point(|extent| extent.first.0 <= no.0.saturating_sub(EXTENT_MAX));
        let near = self.0[from..].iter().take_while(|extent| extent.first <= no);
        let mut found: Vec<UsedExtent> =
            near.filter(|extent| extent.first.0.saturating_add(i64::from(extent.n)) > no.0).copied().collect();
        found.sort_unstable_by_key(|extent| (extent.content, extent.at));
        found
    }
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
        let _held = catalog.reading()?;
        let (table, numbers) = blocks::table_of(catalog.conn(), block)?;
        self.cursors.clear();
        let mut windows = HashMap::new();
        let mut numbers = numbers.into_iter();
        for segment in &table.segments {
            let mut offset_in_segment = 0;
            for ((id, len), no) in segment.chunks.iter().zip(numbers.by_ref()) {
                let uses = self.uses_of(catalog, (no, *len), window_of(catalog, &mut windows, no)?)?;
                if !uses.is_empty() {
                    let mut mapping = blank(segment, (*id, *len), offset_in_segment);
                    self.map_uses(catalog, &uses, (&mut mapping, each))?;
                }
                offset_in_segment += u64::from(*len);
            }
        }
        Ok(())
    }

    /// Where contents use a chunk of `len` bytes, ordered by content and offset.
    fn uses_of(&mut self, catalog: &Catalog, (no, len): (ChunkNo, u32), window: &Window) -> Result<Vec<Use>> {
        let mut uses = Vec::new();
        for extent in window.extents_of(no) {
            let first_seq = if extent.is_first { 0 } else { self.ordinal(catalog, &extent)? };
            uses.push(Use {
                content: extent.content,
                hash: extent.hash,
                seq: first_seq.saturating_add(no.0.abs_diff(extent.first.0)),
                file_offset: self.offset_in_file(catalog, (no, len), &extent)?,
            });
        }
        Ok(uses)
    }

    fn offset_in_file(&mut self, catalog: &Catalog, (no, len): (ChunkNo, u32), extent: &UsedExtent) -> Result<u64> {
        if extent.n <= 1 {
            return Ok(extent.at);
        }
        let key = (extent.content, extent.at);
        let start = (extent.first, extent.at);
        let (from, mut offset) = self.cursors.get(&key).copied().filter(|(at, _)| *at <= no).unwrap_or(start);
        if from < no {
            let between = u32::try_from(no.0.abs_diff(from.0))
                .map_err(|_| CatalogError::damaged("an extent that is too long"))?;
            for chunk in places::chunks_from(catalog.conn(), from, between)? {
                offset = offset.saturating_add(u64::from(chunk.len));
            }
        }
        self.cursors.insert(key, (ChunkNo(no.0.saturating_add(1)), offset.saturating_add(u64::from(len))));
        Ok(offset)
    }

    /// The ordinal of an extent's first chunk among the stored chunks of its content.
    fn ordinal(&mut self, catalog: &Catalog, extent: &UsedExtent) -> Result<u64> {
        let layout = self.layout(catalog, extent.content)?;
        let found = layout.binary_search_by_key(&extent.at, |(at, _)| *at).map(|index| layout[index].1);
        found.map_err(|_| CatalogError::damaged(format!("content {} has no such extent", extent.content)))
    }

    fn layout(&mut self, catalog: &Catalog, id: ContentId) -> Result<Rc<Layout>> {
        if let Some(known) = self.layouts.get(&id) {
            return Ok(Rc::clone(known));
        }
        let content = contents::get(catalog.conn(), id)?;
        let (mut seq, mut layout) = (0, Layout::new());
        for extent in content.extents.iter().filter(|extent| extent.chunk.0 != 0) {
            layout.push((extent.at, seq));
            seq += u64::from(extent.n);
        }
        if self.extents_kept + layout.len() + 1 > EXTENTS_KEPT_MAX {
            self.layouts.clear();
            self.extents_kept = 0;
        }
        self.extents_kept += layout.len() + 1;
        let layout = Rc::new(layout);
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
            mapping.file_hash = uses[0].hash.to_string();
            return self.for_each_user(catalog, uses[0].content, &mut |sources, user| {
                set_user(mapping, sources, user);
                for found in uses {
                    set_use(mapping, found);
                    each(mapping);
                }
            });
        }
        let mut group: Vec<(ContentUser, Use)> = Vec::new();
        for found in uses {
            self.for_each_user(catalog, found.content, &mut |sources, user| {
                group.push((user.clone(), *found));
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

/// The window that a chunk lies in: one of those that are open, which are few.
fn window_of<'w>(catalog: &Catalog, windows: &'w mut HashMap<i64, Window>, no: ChunkNo) -> Result<&'w Window> {
    let index = no.0.div_euclid(WINDOW);
    if windows.len() >= WINDOWS_MAX && !windows.contains_key(&index) {
        windows.clear();
    }
    Ok(match windows.entry(index) {
        Entry::Occupied(open) => open.into_mut(),
        Entry::Vacant(vacant) => {
            let first = index.saturating_mul(WINDOW);
            let last = ChunkNo(first.saturating_add(WINDOW - 1));
            vacant.insert(Window(damage::extents_with(catalog.conn(), ChunkNo(first), last)?))
        }
    })
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
    group: &mut Vec<(ContentUser, Use)>,
    sources: &HashMap<SourceId, String>,
    (mapping, each): (&mut Mapping, &mut dyn FnMut(&Mapping)),
) {
    let key = |(user, found): &(ContentUser, Use)| (user.source, user.first_run, found.file_offset);
    group.sort_by(|one, other| {
        let by_path = (one.0.source, &one.0.path).cmp(&(other.0.source, &other.0.path));
        by_path.then_with(|| key(one).cmp(&key(other)))
    });
    for (user, found) in group.drain(..) {
        set_user(mapping, sources, &user);
        set_use(mapping, &found);
        mapping.file_hash = found.hash.to_string();
        each(mapping);
    }
}
