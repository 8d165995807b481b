//! A source as of one run: single paths and whole subtrees, in the order of directories and names.

use super::error::Result;
use super::interned::dirs_within;
use super::interned::find_dir;
use super::row::{StoredVersion, VERSION_COLUMNS};
use crate::model::ids::{DirId, RunSeq, SourceId};
use crate::model::path;
use rusqlite::{Connection, Rows, params};

/// A version as of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path inside the source.
    pub path: Vec<u8>,
    /// The version.
    pub version: StoredVersion,
    /// First run that saw it.
    pub first_run: RunSeq,
}

/// Which state is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOf {
    /// The source.
    pub source: SourceId,
    /// A complete run of it.
    pub run: RunSeq,
}

/// The version at `full_path`; the empty path is the root.
pub fn entry(conn: &Connection, as_of: AsOf, full_path: &[u8]) -> Result<Option<Entry>> {
    let (dir, name) = path::split(full_path);
    let Some(row) = find_dir(conn, as_of.source, dir)? else {
        return Ok(None);
    };
    let mut found = entries_of(conn, as_of, (row.id, dir), Some(name))?;
    Ok(found.pop())
}

/// What lies directly in the directory `dir`, by name; the root itself is left out.
pub fn children(conn: &Connection, as_of: AsOf, dir: &[u8]) -> Result<Vec<Entry>> {
    match find_dir(conn, as_of.source, dir)? {
        Some(row) => {
            let mut found = entries_of(conn, as_of, (row.id, dir), None)?;
            found.retain(|entry| !entry.path.is_empty() || !dir.is_empty());
            Ok(found)
        }
        None => Ok(Vec::new()),
    }
}

/// Hands the names directly in the directory `dir`, and whether each is a directory, to `each`; in no order.
pub fn for_each_name(conn: &Connection, as_of: AsOf, dir: &[u8], each: &mut dyn FnMut(Vec<u8>, bool)) -> Result<()> {
    let Some(row) = find_dir(conn, as_of.source, dir)? else { return Ok(()) };
    let mut select = conn.prepare_cached(
        "SELECT name, mode >> 12 = 4 FROM live WHERE dir = ?1 AND first_run <= ?2 AND length(name) > 0
         UNION ALL
         SELECT name, mode >> 12 = 4 FROM past
         WHERE dir = ?1 AND first_run <= ?2 AND last_run >= ?2 AND length(name) > 0",
    )?;
    let mut rows = select.query(params![row.id.0, as_of.run.0])?;
    while let Some(row) = rows.next()? {
        each(row.get(0)?, row.get(1)?);
    }
    Ok(())
}

/// Hands everything below the directory `top` to `each`, directory by directory in path order; not `top` itself.
pub fn for_each_below(
    conn: &Connection,
    as_of: AsOf,
    top: &[u8],
    each: &mut dyn FnMut(Entry) -> Result<()>,
) -> Result<()> {
    for (id, dir) in dirs_within(conn, as_of.source, top)? {
        for entry in entries_of(conn, as_of, (id, &dir), None)? {
            if !(entry.path.is_empty()) {
                each(entry)?;
            }
        }
    }
    Ok(())
}

/// Rows of one page of a [`Walk`] at most: a directory of a million names is never in memory at once.
const PAGE_ROWS_MAX: i64 = 4096;

/// Everything below a directory, page by page: for verbs that do other things between the pages.
#[derive(Debug)]
pub struct Walk {
    as_of: AsOf,
    dirs: std::vec::IntoIter<(DirId, Vec<u8>)>,
    /// The directory that is being read, and the last name that was handed out.
    now: Option<(DirId, Vec<u8>, Vec<u8>)>,
}

impl Walk {
    /// Starts at the directory `top`, which is not part of it.
    pub fn below(conn: &Connection, as_of: AsOf, top: &[u8]) -> Result<Self> {
        Ok(Self { as_of, dirs: dirs_within(conn, as_of.source, top)?.into_iter(), now: None })
    }

    /// The next entries, all of one directory, by directory and name; `None` at the end. A directory's own entry comes
    /// before those in it.
    pub fn next_page(&mut self, conn: &Connection) -> Result<Option<Vec<Entry>>> {
        loop {
            let (id, dir, after) = match self.now.take() {
                Some(now) => now,
                None => match self.dirs.next() {
                    Some((id, dir)) => (id, dir, Vec::new()),
                    None => return Ok(None),
                },
            };
            let (entries, last) = page_of(conn, self.as_of, (id, &dir, &after))?;
            self.now = last.map(|last| (id, dir, last));
            if !entries.is_empty() {
                return Ok(Some(entries));
            }
        }
    }
}

/// Entries of a directory behind the name `after`, and the last name if there may be more. The root's own row has an
/// empty name and so is never among them.
fn page_of(
    conn: &Connection,
    as_of: AsOf,
    (dir_id, dir, after): (DirId, &[u8], &[u8]),
) -> Result<(Vec<Entry>, Option<Vec<u8>>)> {
    let sql = format!(
        "SELECT name, first_run, {VERSION_COLUMNS} FROM live WHERE dir = ?1 AND first_run <= ?2 AND name > ?3
         UNION ALL
         SELECT name, first_run, {VERSION_COLUMNS} FROM past
         WHERE dir = ?1 AND first_run <= ?2 AND last_run >= ?2 AND name > ?3 ORDER BY 1 LIMIT {PAGE_ROWS_MAX}"
    );
    let mut select = conn.prepare_cached(&sql)?;
    let entries = entries_from(select.query(params![dir_id.0, as_of.run.0, after])?, dir)?;
    let is_full = i64::try_from(entries.len()).is_ok_and(|len| len >= PAGE_ROWS_MAX);
    let last = entries.last().filter(|_| is_full).map(|entry| path::split(&entry.path).1.to_vec());
    Ok((entries, last))
}

fn entries_of(
    conn: &Connection,
    as_of: AsOf,
    (dir_id, dir): (DirId, &[u8]),
    only: Option<&[u8]>,
) -> Result<Vec<Entry>> {
    let and_name = if only.is_some() { "AND name = ?3" } else { "AND ?3 IS NULL" };
    let sql = format!(
        "SELECT name, first_run, {VERSION_COLUMNS} FROM live WHERE dir = ?1 AND first_run <= ?2 {and_name}
         UNION ALL
         SELECT name, first_run, {VERSION_COLUMNS} FROM past
         WHERE dir = ?1 AND first_run <= ?2 AND last_run >= ?2 {and_name} ORDER BY 1"
    );
    let mut select = conn.prepare_cached(&sql)?;
    entries_from(select.query(params![dir_id.0, as_of.run.0, only])?, dir)
}

fn entries_from(mut rows: Rows<'_>, dir: &[u8]) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let name: Vec<u8> = row.get(0)?;
        entries.push(Entry {
            path: path::join(dir, &name),
            first_run: RunSeq(row.get(1)?),
            version: StoredVersion::from_row(row, 2)?,
        });
    }
    Ok(entries)
}

/// Counts of a state: (paths, regular files, bytes of regular files).
pub fn totals(conn: &Connection, as_of: AsOf) -> Result<(u64, u64, u64)> {
    let sql = "SELECT count(*), total(v.mode >> 12 = 8), total(CASE v.mode >> 12 WHEN 8 THEN v.size ELSE 0 END) FROM (
                 SELECT dir, mode, size FROM live WHERE first_run <= ?2
                 UNION ALL SELECT dir, mode, size FROM past WHERE first_run <= ?2 AND last_run >= ?2) v
               JOIN dirs d ON d.id = v.dir WHERE d.source = ?1";
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sums of counts and sizes, exact to 2^53"
    )]
    Ok(conn.query_row(sql, params![as_of.source.0, as_of.run.0], |row| {
        let (files, bytes): (f64, f64) = (row.get(1)?, row.get(2)?);
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), files as u64, bytes as u64))
    })?)
}
