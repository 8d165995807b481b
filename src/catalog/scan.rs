//! All versions there are, live and past, by directory number and name: for searches that no index answers. Page by page,
//! so that memory is bounded and nobody waits while the state of the catalog is held.

use super::error::Result;
use super::row::{StoredVersion, VERSION_COLUMNS, st_mode_of};
use crate::model::entry::EntryKind;
use crate::model::ids::{DirId, RunSeq, SourceId};
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, OptionalExtension, params};

/// Rows of either table that a page takes out.
const PAGE_ROWS: usize = 16 << 10;
/// Directories whose rows a page goes through: few at first, so that the first page comes at once.
const PAGE_DIRS: std::ops::RangeInclusive<i64> = 64..=8 << 10;
/// No name is longer, so that this one is behind all.
const LAST_NAME: [u8; 256] = [0xff; 256];

/// The rows of a page that pass [`RowTests`]: SQLite makes these tests before it takes a row apart.
const LIVE: &str = "SELECT dir, name, first_run, NULL, VERSION FROM live
     WHERE (dir, name) > (?1, ?2) AND (dir, name) <= (?3, ?4) AND TESTS ORDER BY dir, name";
const PAST: &str = "SELECT dir, name, first_run, last_run, VERSION FROM past
     WHERE (dir, name) > (?1, ?2) AND (dir, name) <= (?3, ?4) AND TESTS ORDER BY dir, name, first_run";
const TESTS: &str = "(?5 IS NULL OR instr(name, ?5)) AND (?6 IS NULL OR mode >> 12 = ?6)
     AND (?7 IS NULL OR size BETWEEN ?7 AND ?8) AND (?9 IS NULL OR mtime_ns >= ?9) AND (?10 IS NULL OR mtime_ns < ?10)";

/// What a row must be; all of it where nothing is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowTests {
    /// Bytes that its name has somewhere.
    pub name_part: Option<Vec<u8>>,
    /// Its kind.
    pub kind: Option<EntryKind>,
    /// The least and the largest size.
    pub size: Option<(u64, u64)>,
    /// Last changed then or later, nanoseconds since 1970.
    pub from_ns: Option<i64>,
    /// Last changed before.
    pub before_ns: Option<i64>,
}

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

/// Whether a name may fit.
pub type NameTest = Box<dyn Fn(&[u8]) -> bool + Send>;

/// What SQLite calls a [`NameTest`].
const NAME_TEST: &str = "name_may_fit";

/// How far a search has come.
#[derive(Debug)]
pub struct Scan {
    tests: RowTests,
    /// The statements for the live and the past.
    sql: [String; 2],
    /// The last name that was gone through; `None` at the end.
    after: Option<Key>,
    /// Directories of the next page, and the last of all.
    dirs: i64,
    last_dir: i64,
}

impl Scan {
    /// At the start, for versions that pass `tests`; a name that does not pass `name_test` is not even taken out of its row.
    pub fn new(conn: &Connection, tests: RowTests, name_test: Option<NameTest>) -> Result<Self> {
        let has_name_test = name_test.is_some();
        if let Some(test) = name_test {
            let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
            conn.create_scalar_function(NAME_TEST, 1, flags, move |call| {
                Ok(test(call.get_raw(0).as_blob().map_err(|error| rusqlite::Error::UserFunctionError(error.into()))?))
            })?;
        }
        let sql = [LIVE, PAST].map(|sql| whole(sql, has_name_test));
        let last_dir = conn.query_row("SELECT coalesce(max(id), 0) FROM dirs", [], |row| row.get(0))?;
        Ok(Self { tests, sql, after: Some((-1, Vec::new())), dirs: *PAGE_DIRS.start(), last_dir })
    }

    /// Directories that were gone through, and all of them, about.
    pub fn position(&self) -> (u64, u64) {
        let all = u64::try_from(self.last_dir).unwrap_or_default();
        let done = self.after.as_ref().map_or(all, |(dir, _)| u64::try_from(*dir).unwrap_or_default());
        (done.min(all), all)
    }

    /// The next versions whose directory and name fit, all versions of a name together, the oldest first; none may fit.
    /// `None` at the end.
    pub fn next_page(
        &mut self,
        conn: &Connection,
        fits: &mut dyn FnMut(DirId, &[u8]) -> Result<bool>,
    ) -> Result<Option<Vec<ScannedVersion>>> {
        let Some(after) = self.after.take() else { return Ok(None) };
        let until = (after.0.saturating_add(self.dirs).min(self.last_dir), LAST_NAME.to_vec());
        self.dirs = (self.dirs * 2).min(*PAGE_DIRS.end());
        let live = Pass { conn, sql: &self.sql[0], tests: &self.tests };
        let (mut found, live_end) = live.rows((&after, &until), fits)?;
        let past = Pass { sql: &self.sql[1], ..live };
        let (past, past_end) = past.rows((&after, live_end.as_ref().unwrap_or(&until)), fits)?;
        found.extend(past);
        // The past may have been cut off before the live: what is behind comes again with the next page.
        if let Some((dir, name)) = &past_end {
            found.retain(|version| (version.dir.0, &version.name) <= (*dir, name));
        }
        found.sort_by(|one, other| {
            let key = |version: &ScannedVersion| (version.dir, version.first_run);
            one.dir.cmp(&other.dir).then_with(|| one.name.cmp(&other.name)).then_with(|| key(one).cmp(&key(other)))
        });
        self.after = past_end.or(live_end).or_else(|| (until.0 < self.last_dir).then_some(until));
        Ok(Some(found))
    }
}

/// One table of a page.
#[derive(Clone, Copy)]
struct Pass<'p> {
    conn: &'p Connection,
    sql: &'p str,
    tests: &'p RowTests,
}

/// Rows, and the key of the last one where there were more than a page takes.
type Rows = (Vec<ScannedVersion>, Option<Key>);

impl Pass<'_> {
    /// What fits among the rows behind `after`, up to and with `until`.
    fn rows(&self, (after, until): (&Key, &Key), fits: &mut dyn FnMut(DirId, &[u8]) -> Result<bool>) -> Result<Rows> {
        let mut select = self.conn.prepare_cached(self.sql)?;
        let tests = self.tests;
        let mut rows = select.query(params![
            after.0,
            after.1,
            until.0,
            until.1,
            tests.name_part,
            tests.kind.map(|kind| st_mode_of(kind) >> 12),
            tests.size.map(|(least, _)| clamped(least)),
            tests.size.map(|(_, most)| clamped(most)),
            tests.from_ns,
            tests.before_ns,
        ])?;
        let (mut found, mut count) = (Vec::new(), 0_usize);
        let mut last: Key = after.clone();
        while let Some(row) = rows.next()? {
            let dir: i64 = row.get(0)?;
            let name = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            let is_other = dir != last.0 || name != last.1.as_slice();
            if is_other && count >= PAGE_ROWS {
                return Ok((found, Some(last)));
            }
            count += 1;
            if is_other {
                last.0 = dir;
                last.1.clear();
                last.1.extend_from_slice(name);
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
}

fn whole(sql: &str, has_name_test: bool) -> String {
    let tests = if has_name_test { format!("{TESTS} AND {NAME_TEST}(name)") } else { TESTS.to_owned() };
    sql.replace("VERSION", VERSION_COLUMNS).replace("TESTS", &tests)
}

/// Column `size` is signed.
fn clamped(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
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
        assert_by_index(&[&whole(LIVE, false), &whole(PAST, false)]);
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
            let dirs = "INSERT INTO dirs(id, source, path) VALUES(5, 1, x'31')";
            catalog.conn().execute_batch(dirs).unwrap();
            let (mut scan, mut seen) = (Scan::new(catalog.conn(), RowTests::default(), None).unwrap(), Vec::new());
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

    #[test]
    fn rows_are_tested_before_they_are_taken_out_however_far_apart_their_directories_lie() {
        let (_dir, catalog) = catalog();
        for fill in [
            "INSERT INTO dirs(id, source, path) VALUES(1, 1, x''), (99999, 1, x'31')",
            "INSERT INTO live SELECT id, x'6162', 9, 33188, 1, 100, 1000, NULL, 1, 0, NULL, 0, 0, 0, 0, 0 FROM dirs",
            "INSERT INTO past SELECT id, x'6162', 3, 8, 1, 16877, 1, 0, 2000, NULL, NULL, 0, NULL, 0 FROM dirs",
            "INSERT INTO past SELECT id, x'63', 3, 8, 1, 33188, 1, 300, 3000, NULL, 1, 0, NULL, 0 FROM dirs",
        ] {
            catalog.conn().execute_batch(fill).unwrap();
        }
        let found_by = |tests: RowTests, name_test: Option<NameTest>| {
            let (mut scan, mut seen) = (Scan::new(catalog.conn(), tests, name_test).unwrap(), Vec::new());
            while let Some(page) = scan.next_page(catalog.conn(), &mut |_, _| Ok(true)).unwrap() {
                seen.extend(page.into_iter().map(|found| (found.dir.0, found.version.mtime_ns)));
            }
            seen
        };
        let found = |tests| found_by(tests, None);
        let in_both = |times: &[i64]| -> Vec<(i64, i64)> {
            [1, 99999].iter().flat_map(|dir| times.iter().map(move |time| (*dir, *time))).collect()
        };
        let any = RowTests::default;
        assert_eq!(found(any()), in_both(&[2000, 1000, 3000]));
        assert_eq!(found(RowTests { name_part: Some(b"b".to_vec()), ..any() }), in_both(&[2000, 1000]));
        assert_eq!(found_by(any(), Some(Box::new(|name| name.len() == 1))), in_both(&[3000]));
        assert_eq!(found_by(any(), Some(Box::new(|name| name.len() == 2))), in_both(&[2000, 1000]));
        assert_eq!(found(RowTests { kind: Some(EntryKind::Dir), ..any() }), in_both(&[2000]));
        assert_eq!(found(RowTests { size: Some((100, 299)), ..any() }), in_both(&[1000]));
        assert_eq!(found(RowTests { size: Some((101, u64::MAX)), ..any() }), in_both(&[3000]));
        assert_eq!(found(RowTests { from_ns: Some(2000), before_ns: Some(3000), ..any() }), in_both(&[2000]));
    }
}
