//! What a run changed: its state compared with that of the nearest earlier run of its source.

use super::error::Result;
use crate::model::ids::{RunSeq, SourceId};
use crate::model::path;
use rusqlite::{Connection, Row, params, types::Value};

/// How a path changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It was not there.
    Added,
    /// Its content or kind is another.
    Modified,
    /// Only metadata is another.
    Metadata,
    /// It is gone.
    Deleted,
    /// It is no longer selected.
    Excluded,
}

struct Side {
    path: Vec<u8>,
    is_new: bool,
    st_mode: i64,
    object: Value,
    why: i64,
}

/// Directories by path, so that the first change is told at once and memory does not grow with them.
const DIRS: &str = "SELECT id, path FROM dirs WHERE source = ?1 ORDER BY path";
const SIDES: &str = "SELECT name, 1 AS is_new, mode, obj, 0 AS why FROM live
       WHERE dir = ?1 AND first_run > ?2 AND first_run <= ?3
     UNION ALL SELECT name, 1, mode, obj, 0 FROM past
       WHERE dir = ?1 AND first_run > ?2 AND first_run <= ?3 AND last_run >= ?3
     UNION ALL SELECT name, 0, mode, obj, why FROM past
       WHERE dir = ?1 AND first_run <= ?2 AND last_run >= ?2 AND last_run < ?3
     ORDER BY 1, 2";

/// Hands every changed path between the states of `prev` (`None`: the empty one) and `run` to `each`, by directory
/// and name.
pub fn for_each(
    conn: &Connection,
    (source, prev, run): (SourceId, Option<RunSeq>, RunSeq),
    each: &mut dyn FnMut(ChangeKind, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut dirs = conn.prepare_cached(DIRS)?;
    let mut dirs = dirs.query([source.0])?;
    while let Some(dir) = dirs.next()? {
        let (id, path): (i64, Vec<u8>) = (dir.get(0)?, dir.get(1)?);
        in_dir(conn, (id, &path), (prev, run), each)?;
    }
    Ok(())
}

/// The same for what lies in one directory.
fn in_dir(
    conn: &Connection,
    (dir, dir_path): (i64, &[u8]),
    (prev, run): (Option<RunSeq>, RunSeq),
    each: &mut dyn FnMut(ChangeKind, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut select = conn.prepare_cached(SIDES)?;
    let mut rows = select.query(params![dir, prev.map_or(0, |prev| prev.0), run.0])?;
    let mut before: Option<Side> = None;
    while let Some(row) = rows.next()? {
        let side = side_from_row(row, dir_path)?;
        let old = before.take();
        match old {
            Some(old) if side.is_new && old.path == side.path => {
                let same = old.st_mode >> 12 == side.st_mode >> 12 && old.object == side.object;
                each(if same { ChangeKind::Metadata } else { ChangeKind::Modified }, &side.path)?;
                continue;
            }
            Some(old) => each(ended(&old), &old.path)?,
            None => {}
        }
        if side.is_new {
            each(ChangeKind::Added, &side.path)?;
        } else {
            before = Some(side);
        }
    }
    if let Some(old) = before {
        each(ended(&old), &old.path)?;
    }
    Ok(())
}

fn side_from_row(row: &Row<'_>, dir: &[u8]) -> Result<Side> {
    let name: Vec<u8> = row.get(0)?;
    Ok(Side {
        path: path::join(dir, &name),
        is_new: row.get(1)?,
        st_mode: row.get(2)?,
        object: row.get(3)?,
        why: row.get(4)?,
    })
}

fn ended(side: &Side) -> ChangeKind {
    if side.why == 3 { ChangeKind::Excluded } else { ChangeKind::Deleted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::test_plans::assert_by_index;

    #[test]
    fn a_directory_is_found_in_its_order_and_its_rows_by_its_number() {
        assert_by_index(&[DIRS, SIDES]);
    }
}
