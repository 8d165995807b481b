//! Looking chunks up in the catalog, all of one item at a time and in one state of it. Remembers which segments can be
//! relied on: the chunks of an unchanged file mostly lie in one that was asked for before.

use crate::catalog::{Catalog, CatalogError, Connection, blocks, chunks, parity};
use crate::model::ids::{BlockNo, ChunkId, SegmentNo, VolumeId};
use hashbrown::HashMap;
use std::collections::BTreeSet;

/// Segments remembered at most; then it starts afresh.
const REMEMBERED_MAX: usize = 1 << 16;

/// See the module.
pub struct Lookup {
    reader: Catalog,
    /// Volumes that failed in this process.
    avoid: Vec<VolumeId>,
    /// No segment of a run in progress loses its place, so what was found once stays true.
    is_usable: HashMap<SegmentNo, bool>,
    /// Blocks that parity gives back; looked up when the first one is met of which no copy will do.
    given_back: Option<BTreeSet<BlockNo>>,
}

impl Lookup {
    /// Reads beside the committer.
    pub fn new(reader: Catalog, avoid: Vec<VolumeId>) -> Self {
        Self { reader, avoid, is_usable: HashMap::new(), given_back: None }
    }

    /// The first chunk number that is free.
    pub fn next_chunk_no(&self) -> Result<i64, CatalogError> {
        Ok(chunks::next_no(self.reader.conn())?.0)
    }

    /// What the catalog has of each chunk, in their order.
    pub fn find_all<'i>(
        &mut self,
        ids: impl Iterator<Item = &'i ChunkId>,
    ) -> Result<Vec<Option<chunks::KnownChunk>>, CatalogError> {
        let _held = self.reader.reading()?;
        let conn = self.reader.conn();
        let mut found = Vec::with_capacity(ids.size_hint().0);
        for id in ids {
            let Some((no, segment)) = chunks::find_place(conn, id)? else {
                found.push(None);
                continue;
            };
            let is_usable = match self.is_usable.get(&segment) {
                Some(is_usable) => *is_usable,
                None => {
                    let is_usable = blocks::is_segment_usable(conn, segment, &self.avoid)?
                        || is_given_back(conn, (segment, &self.avoid), &mut self.given_back)?;
                    if self.is_usable.len() >= REMEMBERED_MAX {
                        self.is_usable.clear();
                    }
                    self.is_usable.insert(segment, is_usable);
                    is_usable
                }
            };
            found.push(Some(chunks::KnownChunk { no, is_usable }));
        }
        Ok(found)
    }
}

/// Whether parity gives back the block of a segment of which no copy will do.
fn is_given_back(
    conn: &Connection,
    (segment, avoid): (SegmentNo, &[VolumeId]),
    known: &mut Option<BTreeSet<BlockNo>>,
) -> Result<bool, CatalogError> {
    if known.is_none() {
        *known = Some(parity::recoverable(conn, avoid)?);
    }
    let given_back = known.as_ref().filter(|given_back| !given_back.is_empty());
    Ok(match given_back {
        Some(given_back) => given_back.contains(&blocks::block_of(conn, segment)?),
        None => false,
    })
}
