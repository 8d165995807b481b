//! Distinct contents and their extents of chunk numbers. Facts: a content may be there before any version names it.

use super::error::{CatalogError, Result};
use super::keys::{self, Keyed};
use crate::model::content::{Content, Extent};
use crate::model::ids::{ChunkNo, ContentId, FileHash};
use crate::model::limits::{EXTENT_CHUNKS_MAX, ROW_MAX};
use rusqlite::{Connection, OptionalExtension, Row, params};

pub(super) const FIND: &str = "SELECT c.id FROM content_keys k CROSS JOIN contents c ON c.id = k.content
     WHERE k.key = ?1 AND c.hash = ?2 AND c.size = ?3";

/// The content with this hash and size, if there is one.
pub fn find(conn: &Connection, hash: FileHash, size: u64) -> Result<Option<ContentId>> {
    Ok(conn
        .prepare_cached(FIND)?
        .query_row(params![keys::key_of(&hash.0), hash.0, size.cast_signed()], |row| row.get(0).map(ContentId))
        .optional()?)
}

/// The number of `content`, added when it is new.
pub fn put(conn: &Connection, content: &Content) -> Result<ContentId> {
    if let Some(id) = find(conn, content.hash, content.size)? {
        return Ok(id);
    }
    let id = next_id(conn)?;
    insert(conn, id, content)?;
    keys::put(conn, Keyed::Contents, [(keys::key_of(&content.hash.0), id.0)])?;
    Ok(id)
}

/// Gives each content of `wanted` its number, adding those that are new, which `content` brings in full. They are stored in
/// the order of `wanted`; they are looked for, and their keys added, in the order of their hashes.
pub fn put_many(
    conn: &Connection,
    wanted: &[(FileHash, u64)],
    content: &mut dyn FnMut(usize) -> Result<Content>,
) -> Result<Vec<ContentId>> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_unstable_by_key(|at| (wanted[*at], *at));
    let base = next_id(conn)?;
    let mut numbers = vec![base; wanted.len()];
    let mut new = vec![false; wanted.len()];
    let mut before: Option<usize> = None;
    for at in order {
        let (hash, size) = wanted[at];
        if let Some(before) = before.filter(|before| wanted[*before] == wanted[at]) {
            numbers[at] = numbers[before];
        } else if let Some(known) = find(conn, hash, size)? {
            numbers[at] = known;
        } else {
            // Numbers of those that are known already stay unused.
            numbers[at] = ContentId(base.0 + i64::try_from(at).unwrap_or(i64::MAX));
            new[at] = true;
            keys::put(conn, Keyed::Contents, [(keys::key_of(&hash.0), numbers[at].0)])?;
        }
        before = Some(at);
    }
    for (at, id) in numbers.iter().enumerate().filter(|(at, _)| new[*at]) {
        insert(conn, *id, &content(at)?)?;
    }
    Ok(numbers)
}

fn next_id(conn: &Connection) -> Result<ContentId> {
    let mut select = conn.prepare_cached("SELECT coalesce(max(id), 0) FROM contents")?;
    match select.query_row([], |row| row.get::<_, i64>(0))? {
        last @ 0..=ROW_MAX => Ok(ContentId(last + 1)),
        last => Err(CatalogError::damaged(format!("its last content has number {last}"))),
    }
}

fn insert(conn: &Connection, id: ContentId, content: &Content) -> Result<()> {
    let (chunk, n) = content.extents.first().map_or((0, 0), |first| (first.chunk.0, first.n));
    conn.prepare_cached("INSERT INTO contents(id, size, hash, chunk, n) VALUES(?1, ?2, ?3, ?4, ?5)")?
        .execute(params![id.0, content.size.cast_signed(), content.hash.0, chunk, n])?;
    let mut put = conn.prepare_cached("INSERT INTO extents(content, at, chunk, n) VALUES(?1, ?2, ?3, ?4)")?;
    for extent in content.extents.iter().skip(1) {
        put.execute(params![id.0, extent.at.cast_signed(), extent.chunk.0, extent.n])?;
    }
    Ok(())
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
    use crate::catalog::test_plans::catalog;

    /// A content of one chunk; those of one `seed` and size are equal, those of 10 * n to 10 * n + 9 share their key.
    fn content(seed: u8, size: u64) -> Content {
        let mut hash = [seed / 10; 32];
        hash[31] = seed;
        let extents = vec![
            Extent { at: 0, chunk: ChunkNo(i64::from(seed) + 1), n: 1 },
            Extent { at: 1, chunk: ChunkNo(0), n: 1 },
        ];
        Content { size, hash: FileHash(hash), extents }
    }

    #[test]
    fn many_at_a_time_get_the_numbers_that_they_would_get_one_by_one_but_for_gaps() {
        let (_dir, catalog) = catalog();
        let conn = catalog.conn();
        let before: Vec<Content> = [250, 31, 7].map(|seed| content(seed, 5)).to_vec();
        let known: Vec<ContentId> = before.iter().map(|content| put(conn, content).unwrap()).collect();
        assert_eq!(known, [1, 2, 3].map(ContentId));
        // New, known, the same again, another size, one that shares its key with both; and the smallest hash last.
        let seeds = [(90, 5), (31, 5), (90, 5), (31, 6), (33, 5), (7, 5), (95, 5), (90, 5), (0, 5)];
        let wanted: Vec<Content> = seeds.iter().map(|(seed, size)| content(*seed, *size)).collect();
        let keys: Vec<_> = wanted.iter().map(|content| (content.hash, content.size)).collect();
        let mut brought = Vec::new();
        let numbers = put_many(conn, &keys, &mut |at| {
            brought.push(at);
            Ok(wanted[at].clone())
        })
        .unwrap();
        assert_eq!(numbers, [4, 2, 4, 7, 8, 3, 10, 4, 12].map(ContentId));
        assert_eq!(brought, [0, 3, 4, 6, 8], "each new one once, in its order");
        for (content, id) in wanted.iter().zip(&numbers).chain(before.iter().zip(&known)) {
            assert_eq!(get(conn, *id).unwrap(), *content);
            assert_eq!(find(conn, content.hash, content.size).unwrap(), Some(*id));
            assert_eq!(put(conn, content).unwrap(), *id);
        }
        assert_eq!(find(conn, content(34, 5).hash, 5).unwrap(), None);
        assert_eq!(put_many(conn, &[], &mut |_| panic!("none was asked for")).unwrap(), []);
        let count =
            |table: &str| conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
        assert_eq!([count("contents").unwrap(), count("content_keys").unwrap()], [8, 8]);
    }

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
