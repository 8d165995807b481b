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

/// Hands every changed path between the states of `prev` (`None`: the empty one) and `run` to `each`, by directory
/// and name.
pub fn for_each(
    conn: &Connection,
    (source, prev, run): (SourceId, Option<RunSeq>, RunSeq),
    each: &mut dyn FnMut(ChangeKind, &[u8]) -> Result<()>,
) -> Result<()> {
    let sql = "SELECT d.path, v.name, v.is_new, v.mode, v.obj, v.why FROM (
           SELECT dir, name, 1 AS is_new, mode, obj, 0 AS why FROM live WHERE first_run > ?2 AND first_run <= ?3
           UNION ALL SELECT dir, name, 1, mode, obj, 0 FROM past
             WHERE first_run > ?2 AND first_run <= ?3 AND last_run >= ?3
           UNION ALL SELECT dir, name, 0, mode, obj, why FROM past
             WHERE first_run <= ?2 AND last_run >= ?2 AND last_run < ?3) v
         JOIN dirs d ON d.id = v.dir WHERE d.source = ?1 ORDER BY d.path, v.name, v.is_new";
    let mut select = conn.prepare_cached(sql)?;
    let mut rows = select.query(params![source.0, prev.map_or(0, |prev| prev.0), run.0])?;
    let mut before: Option<Side> = None;
    while let Some(row) = rows.next()? {
        let side = side_from_row(row)?;
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

fn side_from_row(row: &Row<'_>) -> Result<Side> {
    let (dir, name): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
    Ok(Side {
        path: path::join(&dir, &name),
        is_new: row.get(2)?,
        st_mode: row.get(3)?,
        object: row.get(4)?,
        why: row.get(5)?,
    })
}

fn ended(side: &Side) -> ChangeKind {
    if side.why == 3 { ChangeKind::Excluded } else { ChangeKind::Deleted }
}
