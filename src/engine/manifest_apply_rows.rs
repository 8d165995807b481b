//! The rows of a manifest that is applied, and what they say of a file's bytes.

use super::manifest_apply::{ApplyError, ManifestApply, Result};
use crate::catalog::ahead::live_version;
use crate::catalog::chunks;
use crate::catalog::contents::{self, ExtentBuilder};
use crate::catalog::row::StoredObject;
use crate::catalog::versions::{Applier, Change};
use crate::format::container::FormatError;
use crate::format::manifest::Encoding;
use crate::format::manifest_rows::{ContentOp, PutRow, Row, RowDecoder};
use crate::model::content::{Content, Extent};
use crate::model::entry::EntryKind;
use crate::model::ids::{ChunkNo, ContentId, FileHash};
use crate::model::limits::PIECES_MAX;
use crate::model::path;
use crate::model::version::Object;
use std::sync::Arc;

/// Rows that are applied together, and extents of them after which there are enough: a row may have any number.
const BATCH_ROWS: usize = 1 << 14;
const BATCH_EXTENTS: usize = 1 << 16;

/// A row of a manifest that was read and is to be applied.
struct ReadRow {
    dir: Arc<[u8]>,
    name: Vec<u8>,
    change: Change,
    /// Of a file, unless it is that of the state before.
    content: Option<Content>,
}

enum BasePiece {
    Chunk(ChunkNo),
    Zeros(u64),
}

impl ManifestApply<'_> {
    /// Rows are applied some at a time, since it takes half as long to look for many contents as for each.
    pub(super) fn rows(&mut self, body: &[u8], applier: &mut Applier<'_>) -> Result<()> {
        let mut decoder = RowDecoder::new(body);
        let (mut dir, mut batch, mut extents) = (Arc::from([]), Vec::new(), 0);
        while let Some(row) = decoder.next_row()? {
            let (name, change, content) = match row {
                Row::Dir(path) => {
                    dir = Arc::from(path);
                    continue;
                }
                Row::Put(row) => {
                    if self.meta.encoding == Encoding::Full {
                        self.present.insert(path::join(&dir, &row.name));
                    }
                    self.put_change(&dir, *row)?
                }
                Row::Touch { name, detection, btime_ns } => (name, Change::Touch { detection, btime_ns }, None),
                Row::End { name, reason } => (name, Change::End(reason), None),
            };
            extents += content.as_ref().map_or(0, |content| content.extents.len());
            batch.push(ReadRow { dir: Arc::clone(&dir), name, change, content });
            if batch.len() >= BATCH_ROWS || extents >= BATCH_EXTENTS {
                self.apply_batch(&mut batch, applier)?;
                extents = 0;
            }
        }
        self.apply_batch(&mut batch, applier)
    }

    fn apply_batch(&self, batch: &mut Vec<ReadRow>, applier: &mut Applier<'_>) -> Result<()> {
        let read: Vec<&Content> = batch.iter().filter_map(|row| row.content.as_ref()).collect();
        let keys: Vec<_> = read.iter().map(|content| (content.hash, content.size)).collect();
        let numbers = contents::put_many(self.conn, &keys, &mut |at| Ok(read[at].clone()))?;
        let mut numbers = numbers.into_iter();
        for ReadRow { dir, name, mut change, content } in batch.drain(..) {
            if let Change::Put { content: number, .. } = &mut change
                && content.is_some()
            {
                *number = numbers.next();
            }
            applier.apply(&dir, &name, &change)?;
        }
        Ok(())
    }

    /// The change that a row makes, and the content that is to be put into the catalog first.
    fn put_change(&self, dir: &[u8], row: PutRow) -> Result<(Vec<u8>, Change, Option<Content>)> {
        let PutRow { name, mut version, hash_is_chunk_id, same_content, detection, ops } = row;
        if same_content {
            let base = self.base_content(dir, &name)?;
            let known = contents::get(self.conn, base)?;
            (version.size, version.object) = (known.size, Object::Content(known.hash));
            return Ok((name, Change::Put { version, content: Some(base), detection }, None));
        }
        let mut content = None;
        if let Object::Content(hash) = version.object {
            let (extents, first) = self.extents((dir, &name), &ops, version.size)?;
            let hash = match first.filter(|_| hash_is_chunk_id) {
                Some(first) => {
                    let (id, _) = chunks::get(self.conn, first)?.ok_or(ApplyError::UnknownChunk(first.0))?;
                    FileHash(id.0)
                }
                None => hash,
            };
            version.object = Object::Content(hash);
            content = Some(Content { size: version.size, hash, extents });
        }
        Ok((name, Change::Put { version, content: None, detection }, content))
    }

    /// The extents that `ops` make, which must cover exactly `size` bytes. A few bytes of a record may name any number of
    /// pieces again and again: what passes the size or the bound ends it at once.
    fn extents(
        &self,
        (dir, name): (&[u8], &[u8]),
        ops: &[ContentOp],
        size: u64,
    ) -> Result<(Vec<Extent>, Option<ChunkNo>)> {
        let mut builder = ExtentBuilder::default();
        let mut first_chunk = None;
        let mut count = 0;
        let mut check = |builder: &ExtentBuilder| {
            count += 1;
            if builder.covered() > size || count > PIECES_MAX { Err(FormatError::Invalid("file size")) } else { Ok(()) }
        };
        let base = if ops.iter().any(|op| matches!(op, ContentOp::Copy { .. })) {
            self.base_pieces(dir, name)?
        } else {
            Vec::new()
        };
        for op in ops {
            match op {
                ContentOp::Zeros { len } => {
                    builder.push_zeros(*len);
                    check(&builder)?;
                }
                ContentOp::Chunks { first, n } => {
                    for step in 0..i64::from(*n) {
                        let no = first.0.wrapping_add(step);
                        let local = ChunkNo(self.remap.get(&no).copied().unwrap_or(no));
                        first_chunk.get_or_insert(local);
                        self.push(&mut builder, local)?;
                        check(&builder)?;
                    }
                }
                ContentOp::Copy { from, n } => {
                    let range = usize::try_from(*from).ok().zip(usize::try_from(from.saturating_add(*n)).ok());
                    let pieces = range.and_then(|(from, to)| base.get(from..to));
                    for piece in pieces.ok_or(FormatError::Invalid("copy"))? {
                        match piece {
                            BasePiece::Chunk(no) => self.push(&mut builder, *no)?,
                            BasePiece::Zeros(len) => builder.push_zeros(*len),
                        }
                        check(&builder)?;
                    }
                }
            }
        }
        let (extents, found) = builder.finish();
        if found != size {
            return Err(FormatError::Invalid("file size").into());
        }
        Ok((extents, first_chunk))
    }

    fn push(&self, builder: &mut ExtentBuilder, no: ChunkNo) -> Result<()> {
        let (_, len) = chunks::get(self.conn, no)?.ok_or(ApplyError::UnknownChunk(no.0))?;
        builder.push_chunk(no, len);
        Ok(())
    }

    /// The content that the path has in the base state.
    fn base_content(&self, dir: &[u8], name: &[u8]) -> Result<ContentId> {
        let old = live_version(self.conn, self.source, (dir, name))?;
        match old.filter(|old| old.kind == EntryKind::File).map(|old| old.object) {
            Some(StoredObject::Content(id)) => Ok(id),
            _ => Err(FormatError::Invalid("copy").into()),
        }
    }

    fn base_pieces(&self, dir: &[u8], name: &[u8]) -> Result<Vec<BasePiece>> {
        let content = contents::get(self.conn, self.base_content(dir, name)?)?;
        let mut pieces = Vec::new();
        for (index, extent) in content.extents.iter().enumerate() {
            if extent.chunk.0 == 0 {
                let end = content.extents.get(index + 1).map_or(content.size, |next| next.at);
                pieces.push(BasePiece::Zeros(end.saturating_sub(extent.at)));
            } else {
                pieces.extend((0..i64::from(extent.n)).map(|step| BasePiece::Chunk(ChunkNo(extent.chunk.0 + step))));
            }
        }
        Ok(pieces)
    }
}
