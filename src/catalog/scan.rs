//! All versions there are, live and past, by directory number and name: for searches that no index answers. Page by page,
//! so that memory is bounded and nobody waits while the state of the catalog is held.

use super::error::Result;
use super::row::{StoredVersion, VERSION_COLUMNS};
use crate::model::ids::{DirId, RunSeq, SourceId};
use rusqlite::{Connection, OptionalExtension, params};

/// Rows of either table that a page goes through.
const PAGE_ROWS: usize = 16 << 10;

const LIVE: &str =
    "SELECT dir, name, first_run, NULL, VERSION FROM live WHERE (dir, name) > (?1, ?2) ORDER BY dir, name";
const PAST: &str = "SELECT dir, name, first_run, last_run, VERSION FROM past WHERE (dir, name) > (?1, ?2)
     ORDER BY dir, name, first_run";

/// A version that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedVersion {
    /// Its directory.
    pub dir: DirId,
    /// Its name there; empty for a source's root.
    pub name: Vec<u8>,
    /// First run that saw it.
    pub first_run: RunSeq,
    /// Last run that saw it; `None` while it lives.
    pub last_run: Option<RunSeq>,
    /// What it was.
    pub version: StoredVersion,
}

type Key = (i64, Vec<u8>);

/// How far a search has come.
#[derive(Debug)]
pub struct Scan {
    /// The last name that was gone through; `None` at the end.
    after: Option<Key>,
}

impl Default for Scan {
    fn default() -> Self {
        Self { after: Some((i64::MIN, Vec::new())) }
    }
}

impl Scan {
    /// The next versions whose directory and name fit, all versions of a name together, the oldest first; none may fit.
    /// `None` at the end.
    pub fn next_page(
        &mut self,
        conn: &Connection,
        fits: &mut dyn FnMut(DirId, &[u8]) -> Result<bool>,
    ) -> Result<Option<Vec<ScannedVersion>>> {
        let Some(after) = self.after.take() else { return Ok(None) };
        let (mut found, live_end) = pass((conn, LIVE), (&after, None), fits)?;
        let (past, past_end) = pass((conn, PAST), (&after, live_end.as_ref()), fits)?;
        found.extend(past);
        // The past may have been cut off before the live: what is behind comes again with the next page.
        if let Some((dir, name)) = &past_end {
            found.retain(|version| (version.dir.0, &version.name) <= (*dir, name));
        }
        found.sort_by(|one, other| {
            let key = |version: &ScannedVersion| (version.dir, version.first_run);
            one.dir.cmp(&other.dir).then_with(|| one.name.cmp(&other.name)).then_with(|| key(one).cmp(&key(other)))
        });
        self.after = past_end.or(live_end);
        Ok(Some(found))
    }
}

/// What fits among the rows behind `after`, up to and with `until`; and the last key if the page was full before that.
fn pass(
    (conn, sql): (&Connection, &str),
    (after, until): (&Key, Option<&Key>),
    fits: &mut dyn FnMut(DirId, &[u8]) -> Result<bool>,
) -> Result<(Vec<ScannedVersion>, Option<Key>)> {
    let mut select = conn.prepare_cached(&sql.replace("VERSION", VERSION_COLUMNS))?;
    let mut rows = select.query(params![after.0, after.1])?;
    let (mut found, mut count) = (Vec::new(), 0_usize);
    let (mut last_dir, mut last_name) = (after.0, after.1.clone());
    while let Some(row) = rows.next()? {
        let dir: i64 = row.get(0)?;
        let name = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        if until.is_some_and(|(until_dir, until_name)| (dir, name) > (*until_dir, until_name.as_slice())) {
            return Ok((found, None));
        }
        let is_other = dir != last_dir || name != last_name.as_slice();
        if is_other && count >= PAGE_ROWS {
            return Ok((found, Some((last_dir, last_name))));
        }
        count += 1;
        if is_other {
            last_dir = dir;
            last_name.clear();
            last_name.extend_from_slice(name);
        }
        if fits(DirId(dir), name)? {
            found.push(ScannedVersion {
                dir: DirId(dir),
                name: name.to_vec(),
                first_run: RunSeq(row.get(2)?),
                last_run: row.get::<_, Option<i64>>(3)?.map(RunSeq),
                version: StoredVersion::from_row(row, 4)?,
            });
        }
    }
    Ok((found, None))
}

/// A directory's source and path.
pub fn dir_by_id(conn: &Connection, id: DirId) -> Result<Option<(SourceId, Vec<u8>)>> {
    let mut select = conn.prepare_cached("SELECT source, path FROM dirs WHERE id = ?1")?;
    Ok(select.query_row([id.0], |row| Ok((SourceId(row.get(0)?), row.get(1)?))).optional()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::test_plans::{assert_by_index, catalog};

    #[test]
    fn a_page_begins_where_the_last_one_ended() {
        let whole = |sql: &str| sql.replace("VERSION", VERSION_COLUMNS);
        assert_by_index(&[&whole(LIVE), &whole(PAST)]);
    }

    #[test]
    fn every_version_comes_once_and_in_order_whichever_table_is_longer() {
        for (live, past) in [(40_000, 3), (3, 40_000), (40_000, 40_000), (0, 10), (10, 0), (0, 0)] {
            let (_dir, catalog) = catalog();
            let fill = format!(
                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
                 INSERT INTO live SELECT i / 9000, CAST('n' || i AS BLOB), 9, 4096, 1, 0, i, NULL, NULL, 0, NULL, 0, 0, 0, 0, 0
                 FROM n WHERE i < {live};
                 WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
                 INSERT INTO past SELECT i / 18000, CAST('n' || (i / 2) AS BLOB), i % 2 + 1, i % 2 + 1, 1, 4096, 1, 0, i, NULL,
                 NULL, 0, NULL, 0 FROM n WHERE i < {past};"
            );
            catalog.conn().execute_batch(&fill).unwrap();
            let (mut scan, mut seen) = (Scan::default(), Vec::new());
            while let Some(page) = scan.next_page(catalog.conn(), &mut |_, _| Ok(true)).unwrap() {
                assert!(page.len() <= 2 * PAGE_ROWS + 2);
                seen.extend(page.into_iter().map(|found| (found.dir, found.name, found.first_run)));
            }
            assert_eq!(seen.len(), live + past, "{live} {past}");
            assert!(seen.is_sorted(), "{live} {past}");
            seen.dedup();
            assert_eq!(seen.len(), live + past, "{live} {past}");
        }
    }
}
