//! From stored bytes to the files that need them: chunk → contents → versions → runs, each step by an index. Also the
//! checks that every row is backed by what it names.

use super::error::Result;
use super::row::{StoredVersion, VERSION_COLUMNS};
use crate::model::ids::{BlockNo, ChunkNo, ContentId, SourceId, VolumeId};
use crate::model::path;
use rusqlite::{Connection, Row, params};

/// A use of a chunk by a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkUse {
    /// The content.
    pub content: ContentId,
    /// Offset of the extent in the file.
    pub extent_at: u64,
    /// First chunk of the extent.
    pub extent_first: ChunkNo,
}

/// A file version that holds a given content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentUser {
    /// Its source.
    pub source: SourceId,
    /// Its path inside the source.
    pub path: Vec<u8>,
    /// The version.
    pub version: StoredVersion,
    /// First run that saw it.
    pub first_run: i64,
    /// Last run that saw it; `None` while it lives.
    pub last_run: Option<i64>,
}

/// The contents that use a chunk.
pub fn uses_of_chunk(conn: &Connection, no: ChunkNo) -> Result<Vec<ChunkUse>> {
    let mut select = conn.prepare_cached(
        "SELECT id, 0, chunk FROM contents WHERE chunk BETWEEN ?1 - 255 AND ?1 AND chunk + n > ?1 AND chunk > 0
         UNION ALL
         SELECT content, at, chunk FROM extents WHERE chunk BETWEEN ?1 - 255 AND ?1 AND chunk + n > ?1 AND chunk > 0
         ORDER BY 1, 2",
    )?;
    let rows = select.query_map([no.0], |row| {
        Ok(ChunkUse {
            content: ContentId(row.get(0)?),
            extent_at: row.get::<_, i64>(1)?.cast_unsigned(),
            extent_first: ChunkNo(row.get(2)?),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Hands every version that holds a content to `each`, by path and run.
pub fn for_each_user(
    conn: &Connection,
    content: ContentId,
    each: &mut dyn FnMut(ContentUser) -> Result<()>,
) -> Result<()> {
    let sql = format!(
        "SELECT d.source, d.path, v.name, v.first_run, v.last_run, {VERSION_COLUMNS} FROM (
           SELECT dir, name, first_run, NULL AS last_run, {VERSION_COLUMNS} FROM live WHERE obj = ?1 AND mode >> 12 = 8
           UNION ALL
           SELECT dir, name, first_run, last_run, {VERSION_COLUMNS} FROM past WHERE obj = ?1 AND mode >> 12 = 8) v
         JOIN dirs d ON d.id = v.dir ORDER BY d.source, d.path, v.name, v.first_run"
    );
    let mut select = conn.prepare_cached(&sql)?;
    let mut rows = select.query([content.0])?;
    while let Some(row) = rows.next()? {
        each(user_from_row(row)?)?;
    }
    Ok(())
}

/// The versions that hold a content, by path and run, if there are at most `limit` of them; else `None`, and
/// [`for_each_user`] goes through them.
pub fn users_up_to(conn: &Connection, content: ContentId, limit: usize) -> Result<Option<Vec<ContentUser>>> {
    let counted: i64 = conn
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM live WHERE obj = ?1 AND mode >> 12 = 8
             UNION ALL SELECT 1 FROM past WHERE obj = ?1 AND mode >> 12 = 8 LIMIT ?2)",
        )?
        .query_row(params![content.0, i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)], |row| row.get(0))?;
    if usize::try_from(counted).map_or(true, |counted| counted > limit) {
        return Ok(None);
    }
    let mut users = Vec::new();
    for_each_user(conn, content, &mut |user| {
        users.push(user);
        Ok(())
    })?;
    Ok(Some(users))
}

fn user_from_row(row: &Row<'_>) -> Result<ContentUser> {
    let (dir, name): (Vec<u8>, Vec<u8>) = (row.get(1)?, row.get(2)?);
    Ok(ContentUser {
        source: SourceId(row.get(0)?),
        path: path::join(&dir, &name),
        first_run: row.get(3)?,
        last_run: row.get(4)?,
        version: StoredVersion::from_row(row, 5)?,
    })
}

/// Contents that use any chunk whose first place is in `block`.
pub fn contents_in_block(conn: &Connection, block: BlockNo) -> Result<Vec<ContentId>> {
    let mut select = conn.prepare_cached(
        "WITH hit(no) AS (SELECT c.no FROM segments s JOIN chunks c ON c.seg = s.id WHERE s.block = ?1)
         SELECT t.id FROM hit JOIN contents t
           ON t.chunk BETWEEN hit.no - 255 AND hit.no AND t.chunk + t.n > hit.no AND t.chunk > 0
         UNION SELECT e.content FROM hit JOIN extents e
           ON e.chunk BETWEEN hit.no - 255 AND hit.no AND e.chunk + e.n > hit.no AND e.chunk > 0",
    )?;
    Ok(select.query_map([block.0], |row| row.get(0).map(ContentId))?.collect::<rusqlite::Result<_>>()?)
}

/// Versions whose rows name bytes that the catalog cannot place, and rows that name rows that are not there; a
/// sentence each, at most `limit`.
pub fn dangling(conn: &Connection, limit: u32) -> Result<Vec<String>> {
    let checks = [
        ("SELECT 'chunk ' || c.no || ' has no segment' FROM chunks c LEFT JOIN segments s ON s.id = c.seg
             WHERE s.id IS NULL",),
        ("SELECT 'segment ' || s.id || ' has no block' FROM segments s LEFT JOIN blocks b ON b.id = s.block
             WHERE b.id IS NULL OR b.state = 'gone'",),
        ("SELECT 'block ' || lower(hex(b.name)) || ' has no copy' FROM blocks b
             LEFT JOIN copies p ON p.block = b.id WHERE p.block IS NULL AND b.state IN ('ok', 'bad')",),
        ("SELECT 'a live row names content ' || l.obj || ', which is missing' FROM live l
             LEFT JOIN contents c ON c.id = l.obj WHERE l.mode >> 12 = 8 AND c.id IS NULL",),
        ("SELECT 'a past row names content ' || l.obj || ', which is missing' FROM past l
             LEFT JOIN contents c ON c.id = l.obj WHERE l.mode >> 12 = 8 AND c.id IS NULL",),
        ("SELECT 'content ' || t.id || ' names chunk ' || (t.chunk + t.n - 1) || ', which is missing' FROM contents t
             LEFT JOIN chunks c ON c.no = t.chunk + t.n - 1 WHERE t.chunk > 0 AND c.no IS NULL",),
        ("SELECT 'content ' || t.content || ' names chunk ' || (t.chunk + t.n - 1) || ', which is missing'
             FROM extents t LEFT JOIN chunks c ON c.no = t.chunk + t.n - 1 WHERE t.chunk > 0 AND c.no IS NULL",),
    ];
    let mut found = Vec::new();
    for (sql,) in checks {
        let mut select = conn.prepare(&format!("{sql} LIMIT {limit}"))?;
        for sentence in select.query_map([], |row| row.get::<_, String>(0))? {
            found.push(sentence?);
        }
    }
    Ok(found)
}

/// Contents that cannot be had without `volumes`: some chunk lies on none but these, or nowhere.
pub fn contents_only_on(conn: &Connection, volumes: &[VolumeId]) -> Result<Vec<ContentId>> {
    let list = volumes.iter().map(|volume| volume.0.to_string()).collect::<Vec<_>>().join(",");
    let here = format!(
        "EXISTS(SELECT 1 FROM copies p JOIN blocks b ON b.id = p.block
                WHERE p.block = s.block AND b.state IN ('ok', 'bad') AND p.volume NOT IN ({list}))"
    );
    let sql = format!(
        "WITH away(no) AS (
           SELECT c.no FROM chunks c LEFT JOIN segments s ON s.id = c.seg
           WHERE (s.id IS NULL OR NOT {here})
             AND NOT EXISTS(SELECT 1 FROM chunk_more m JOIN segments s ON s.id = m.seg WHERE m.no = c.no AND {here}))
         SELECT t.id FROM away JOIN contents t
           ON t.chunk BETWEEN away.no - 255 AND away.no AND t.chunk + t.n > away.no AND t.chunk > 0
         UNION SELECT e.content FROM away JOIN extents e
           ON e.chunk BETWEEN away.no - 255 AND away.no AND e.chunk + e.n > away.no AND e.chunk > 0"
    );
    let mut select = conn.prepare(&sql)?;
    Ok(select.query_map([], |row| row.get(0).map(ContentId))?.collect::<rusqlite::Result<_>>()?)
}
