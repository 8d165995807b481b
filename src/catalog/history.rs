//! All versions of one path, and every name that a directory ever had: both by the key of `live` and `past`, whatever
//! the run.

use super::error::{CatalogError, Result};
use super::interned::find_dir;
use super::row::{StoredVersion, VERSION_COLUMNS};
use crate::model::ids::{RunSeq, SourceId};
use crate::model::path;
use crate::model::version::EndReason;
use rusqlite::{Connection, params};

const VERSIONS_OF: &str = "SELECT first_run, last_run, why, VERSION FROM past WHERE dir = ?1 AND name = ?2
     UNION ALL SELECT first_run, NULL, 0, VERSION FROM live WHERE dir = ?1 AND name = ?2 ORDER BY 1";
const NAMES_OF: &str = "SELECT name FROM live WHERE dir = ?1 AND length(name) > 0
     UNION SELECT name FROM past WHERE dir = ?1 AND length(name) > 0";

/// What a path was for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathVersion {
    /// First run that saw it.
    pub first_run: RunSeq,
    /// Last run that saw it, and why it ended; `None` while it lives.
    pub ended: Option<(RunSeq, EndReason)>,
    /// What it was.
    pub version: StoredVersion,
}

/// Every version of a path of a source, the oldest first; none if the path was never there.
pub fn versions_of(conn: &Connection, source: SourceId, full_path: &[u8]) -> Result<Vec<PathVersion>> {
    let (dir, name) = path::split(full_path);
    let Some(dir) = find_dir(conn, source, dir)? else { return Ok(Vec::new()) };
    let mut select = conn.prepare_cached(&VERSIONS_OF.replace("VERSION", VERSION_COLUMNS))?;
    let mut rows = select.query(params![dir.id.0, name])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let last_run: Option<i64> = row.get(1)?;
        let why = EndReason::from_tag(row.get(2)?);
        let ended = match (last_run, why) {
            (None, _) => None,
            (Some(last), Some(why)) => Some((RunSeq(last), why)),
            (Some(_), None) => return Err(CatalogError::damaged("a version that ended for no known reason")),
        };
        found.push(PathVersion { first_run: RunSeq(row.get(0)?), ended, version: StoredVersion::from_row(row, 3)? });
    }
    Ok(found)
}

/// Names that were ever directly in the directory `dir`, by name.
pub fn names_of(conn: &Connection, source: SourceId, dir: &[u8]) -> Result<Vec<Vec<u8>>> {
    let Some(dir) = find_dir(conn, source, dir)? else { return Ok(Vec::new()) };
    let mut select = conn.prepare_cached(NAMES_OF)?;
    Ok(select.query_map([dir.id.0], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::test_plans::assert_by_index;

    #[test]
    fn a_path_and_a_directory_are_looked_up_by_their_keys() {
        assert_by_index(&[&VERSIONS_OF.replace("VERSION", VERSION_COLUMNS), NAMES_OF]);
    }
}
