//! Distinct contents and their extents of chunk numbers. Facts: a content may be there before any version names it.

use super::error::{CatalogError, Result};
use crate::model::content::{Content, Extent};
use crate::model::ids::{ChunkNo, ContentId, FileHash};
use crate::model::limits::EXTENT_CHUNKS_MAX;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// The content with this hash and size, if there is one.
pub fn find(conn: &Connection, hash: FileHash, size: u64) -> Result<Option<ContentId>> {
    Ok(conn
        .prepare_cached(
            "SELECT id FROM contents WHERE substr(hash, 1, 8) = substr(?1, 1, 8) AND hash = ?1 AND size = ?2",
        )?
        .query_row(params![hash.0, size.cast_signed()], |row| row.get(0).map(ContentId))
        .optional()?)
}

/// The number of `content`, added when it is new.
pub fn put(conn: &Connection, content: &Content) -> Result<ContentId> {
    if let Some(id) = find(conn, content.hash, content.size)? {
        return Ok(id);
    }
    let (chunk, n) = content.extents.first().map_or((0, 0), |first| (first.chunk.0, first.n));
    conn.prepare_cached("INSERT INTO contents(size, hash, chunk, n) VALUES(?1, ?2, ?3, ?4)")?.execute(params![
        content.size.cast_signed(),
        content.hash.0,
        chunk,
        n
    ])?;
    let id = conn.last_insert_rowid();
    let mut put = conn.prepare_cached("INSERT INTO extents(content, at, chunk, n) VALUES(?1, ?2, ?3, ?4)")?;
    for extent in content.extents.iter().skip(1) {
        put.execute(params![id, extent.at.cast_signed(), extent.chunk.0, extent.n])?;
    }
    Ok(ContentId(id))
}

/// The hash of a content.
pub fn hash_of(conn: &Connection, id: ContentId) -> Result<FileHash> {
    conn.prepare_cached("SELECT hash FROM contents WHERE id = ?1")?
        .query_row([id.0], |row| row.get(0).map(FileHash))
        .optional()?
        .ok_or_else(|| CatalogError::damaged(format!("content {id} is missing")))
}

/// A content with all its extents.
pub fn get(conn: &Connection, id: ContentId) -> Result<Content> {
    let (head, has_more) = conn
        .prepare_cached(
            "SELECT size, hash, chunk, n, EXISTS(SELECT 1 FROM extents WHERE content = ?1) FROM contents WHERE id = ?1",
        )?
        .query_row([id.0], |row| head_from_row(row, 0))
        .optional()?
        .ok_or_else(|| CatalogError::damaged(format!("content {id} is missing")))?;
    whole(conn, id, (head, has_more))
}

/// Reads size, hash, chunk, n, and whether there are further extents, from column `at` on.
fn head_from_row(row: &Row<'_>, at: usize) -> rusqlite::Result<(Content, bool)> {
    let first = Extent { at: 0, chunk: ChunkNo(row.get(at + 2)?), n: row.get(at + 3)? };
    let extents = if first.n > 0 { vec![first] } else { Vec::new() };
    let size = row.get::<_, i64>(at)?.cast_unsigned();
    Ok((Content { size, hash: FileHash(row.get(at + 1)?), extents }, row.get(at + 4)?))
}

/// A content of which the first extent is known; `has_more`: there are further ones.
fn whole(conn: &Connection, id: ContentId, (mut content, has_more): (Content, bool)) -> Result<Content> {
    if has_more && !content.extents.is_empty() {
        let mut more = conn.prepare_cached("SELECT at, chunk, n FROM extents WHERE content = ?1 ORDER BY at")?;
        let rows = more.query_map([id.0], |row| {
            Ok(Extent { at: row.get::<_, i64>(0)?.cast_unsigned(), chunk: ChunkNo(row.get(1)?), n: row.get(2)? })
        })?;
        for extent in rows {
            content.extents.push(extent?);
        }
    }
    Ok(content)
}

/// Gathers a file's chunks, in order, into extents of consecutive numbers.
#[derive(Debug, Default)]
pub struct ExtentBuilder {
    extents: Vec<Extent>,
    at: u64,
}

impl ExtentBuilder {
    /// Appends a chunk.
    pub fn push_chunk(&mut self, no: ChunkNo, len: u32) {
        match self.extents.last_mut() {
            Some(last)
                if last.chunk.0 != 0 && last.n < EXTENT_CHUNKS_MAX && last.chunk.0 + i64::from(last.n) == no.0 =>
            {
                last.n += 1;
            }
            _ => self.extents.push(Extent { at: self.at, chunk: no, n: 1 }),
        }
        self.at = self.at.saturating_add(u64::from(len));
    }

    /// Appends zeros.
    pub fn push_zeros(&mut self, len: u64) {
        if len > 0 && self.extents.last().is_none_or(|last| last.chunk.0 != 0) {
            self.extents.push(Extent { at: self.at, chunk: ChunkNo(0), n: 1 });
        }
        self.at = self.at.saturating_add(len);
    }

    /// Bytes so far; at the highest number there is, it has stopped counting.
    pub fn covered(&self) -> u64 {
        self.at
    }

    /// The extents, and how many bytes they cover.
    pub fn finish(self) -> (Vec<Extent>, u64) {
        (self.extents, self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_chunks_share_an_extent_up_to_its_bound_and_zeros_join() {
        let mut builder = ExtentBuilder::default();
        (1..=300).for_each(|no| builder.push_chunk(ChunkNo(no), 10));
        builder.push_zeros(5);
        builder.push_zeros(7);
        builder.push_chunk(ChunkNo(301), 1);
        builder.push_chunk(ChunkNo(303), 1);
        let (extents, size) = builder.finish();
        let shape: Vec<_> = extents.iter().map(|extent| (extent.at, extent.chunk.0, extent.n)).collect();
        assert_eq!(shape, [(0, 1, 256), (2560, 257, 44), (3000, 0, 1), (3012, 301, 1), (3013, 303, 1)]);
        assert_eq!(size, 3014);
    }
}
