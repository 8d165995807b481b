//! Working a source's digests out anew from its rows. A run's digest is the sum of its rows' hashes; the manifest of
//! the run has it too. Rows that were changed by anything but a run no longer add up to it: so damage of the catalog
//! itself is noticed that SQLite, which keeps no checksums, does not see.

use super::error::Result;
use super::row::{StoredObject, StoredVersion, VERSION_COLUMNS};
use super::runs::{self, RunState};
use crate::model::ids::{FileHash, RunSeq, SourceId, StateDigest};
use crate::model::path;
use crate::model::version::{Object, Owner, Version};
use rusqlite::{Connection, Row};
use std::collections::{BTreeMap, HashMap};

/// The digest of the present state of `source`, from its rows.
pub fn of_live(conn: &Connection, source: SourceId) -> Result<StateDigest> {
    let mut digest = StateDigest::EMPTY;
    for_each_row(conn, source, Table::Live, &mut |hash, _, _| digest.add(hash))?;
    Ok(digest)
}

/// The complete runs of `source` whose rows do not add up to the digest that the run has, by number.
pub fn wrong_runs(conn: &Connection, source: SourceId) -> Result<Vec<RunSeq>> {
    // What changes at a run's number; a version that ended at a run was still part of that run.
    let mut events: BTreeMap<i64, StateDigest> = BTreeMap::new();
    for table in [Table::Live, Table::Past] {
        for_each_row(conn, source, table, &mut |hash, first, last| {
            events.entry(first).or_insert(StateDigest::EMPTY).add(hash);
            if let Some(last) = last {
                events.entry(last.saturating_add(1)).or_insert(StateDigest::EMPTY).remove(hash);
            }
        })?;
    }
    let mut events = events.into_iter().peekable();
    let mut digest = StateDigest::EMPTY;
    let mut wrong = Vec::new();
    for run in runs::all(conn)?.into_iter().filter(|run| run.source == source && run.state == RunState::Complete) {
        while let Some((_, change)) = events.next_if(|(at, _)| *at <= run.seq.0) {
            digest.add(change.0);
        }
        if run.digest != Some(digest) {
            wrong.push(run.seq);
        }
    }
    Ok(wrong)
}

#[derive(Debug, Clone, Copy)]
enum Table {
    Live,
    Past,
}

/// Hands the hash of every row to `each`, with the first run and, of past ones, the last run that saw the version.
fn for_each_row(
    conn: &Connection,
    source: SourceId,
    table: Table,
    each: &mut dyn FnMut([u8; 32], i64, Option<i64>),
) -> Result<()> {
    let (table, last_run) = match table {
        Table::Live => ("live", "NULL"),
        Table::Past => ("past", "v.last_run"),
    };
    let columns = VERSION_COLUMNS.split(", ").map(|column| format!("v.{column}")).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT d.path, v.name, v.first_run, {last_run}, c.hash, a.body, {columns}
         FROM dirs d JOIN {table} v ON v.dir = d.id
         LEFT JOIN contents c ON v.mode >> 12 = 8 AND c.id = v.obj LEFT JOIN attrs a ON a.id = v.attr
         WHERE d.source = ?1"
    );
    let owners = owners(conn)?;
    let mut select = conn.prepare(&sql)?;
    let mut rows = select.query([source.0])?;
    while let Some(row) = rows.next()? {
        let (dir, name): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
        each(version_of(row, &owners)?.row_hash(&path::join(&dir, &name)), row.get(2)?, row.get(3)?);
    }
    Ok(())
}

/// A version in full. What its row names and is not there counts as nothing, so that the sum tells.
fn version_of(row: &Row<'_>, owners: &HashMap<i64, Owner>) -> Result<Version> {
    let stored = StoredVersion::from_row(row, 6)?;
    let object = match stored.object {
        StoredObject::Nothing => Object::Nothing,
        StoredObject::Content(_) => Object::Content(FileHash(row.get::<_, Option<_>>(4)?.unwrap_or_default())),
        StoredObject::Target(target) => Object::Target(target),
        StoredObject::Device(number) => Object::Device(number),
    };
    Ok(Version {
        kind: stored.kind,
        mode: stored.mode,
        owner: owners.get(&stored.owner).cloned().unwrap_or_default(),
        size: stored.size,
        mtime_ns: stored.mtime_ns,
        btime_ns: None,
        link: stored.link,
        inconsistent: stored.inconsistent,
        object,
        attrs: row.get::<_, Option<Vec<u8>>>(5)?.unwrap_or_default(),
    })
}

fn owners(conn: &Connection) -> Result<HashMap<i64, Owner>> {
    let mut select = conn.prepare("SELECT id, uid, gid, uname, gname FROM owners")?;
    let rows = select.query_map([], |row| {
        let owner = Owner { uid: row.get(1)?, gid: row.get(2)?, user: row.get(3)?, group: row.get(4)? };
        Ok((row.get(0)?, owner))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
