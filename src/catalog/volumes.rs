//! Volumes as the catalog knows them: identity, name, state, where they were last seen, what they hold.

use super::error::{CatalogError, Result};
use crate::model::ids::{RunSeq, VolumeId, VolumeUuid};
use crate::model::params::Reserve;
use rusqlite::{Connection, OptionalExtension, params};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// State of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeState {
    /// Takes blocks.
    Active,
    /// Reached its reserve; opens again by itself.
    Sealed,
    /// Rolled back or a clone: only read.
    Readonly,
    /// Given up by its owner: its copies do not count, unless it turns up again.
    Lost,
    /// Emptied and taken out of the repository.
    Removed,
}

impl VolumeState {
    const ALL: [Self; 5] = [Self::Active, Self::Sealed, Self::Readonly, Self::Lost, Self::Removed];

    /// The word in the table.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Sealed => "sealed",
            Self::Readonly => "readonly",
            Self::Lost => "lost",
            Self::Removed => "removed",
        }
    }
}

/// A volume's row.
#[derive(Debug, Clone, PartialEq)]
pub struct VolumeRow {
    /// Its number.
    pub id: VolumeId,
    /// Identity.
    pub uuid: VolumeUuid,
    /// Name for people.
    pub name: String,
    /// Where it stands.
    pub state: VolumeState,
    /// Space to keep free.
    pub reserve: Reserve,
    /// Where it was mounted last: a hint.
    pub path: Option<PathBuf>,
    /// Newest run whose manifest it is known to hold.
    pub last_seq: Option<RunSeq>,
}

/// All volumes of the repository by number.
pub fn all(conn: &Connection) -> Result<Vec<VolumeRow>> {
    let mut all = all_ever(conn)?;
    all.retain(|row| row.state != VolumeState::Removed);
    Ok(all)
}

/// The same with those that were removed.
pub fn all_ever(conn: &Connection) -> Result<Vec<VolumeRow>> {
    let mut select =
        conn.prepare_cached("SELECT id, uuid, name, state, reserve, path, last_seq FROM volumes ORDER BY id")?;
    let mut rows = select.query([])?;
    let mut volumes = Vec::new();
    while let Some(row) = rows.next()? {
        let (state, reserve): (String, String) = (row.get(3)?, row.get(4)?);
        let bad = |what: &str| CatalogError::damaged(format!("a volume with an unknown {what}"));
        volumes.push(VolumeRow {
            id: VolumeId(row.get(0)?),
            uuid: VolumeUuid(row.get(1)?),
            name: row.get(2)?,
            state: VolumeState::ALL.into_iter().find(|known| known.word() == state).ok_or_else(|| bad("state"))?,
            reserve: Reserve::from_text(&reserve).ok_or_else(|| bad("reserve"))?,
            path: row.get::<_, Option<Vec<u8>>>(5)?.map(|path| PathBuf::from(OsString::from_vec(path))),
            last_seq: row.get::<_, Option<i64>>(6)?.map(RunSeq),
        });
    }
    Ok(volumes)
}

/// The volume with this identity, also a removed one.
pub fn find(conn: &Connection, uuid: VolumeUuid) -> Result<Option<VolumeRow>> {
    Ok(all_ever(conn)?.into_iter().find(|row| row.uuid == uuid))
}

/// What a volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holdings {
    /// Blocks.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The blocks that the catalog knows on a volume.
pub fn holdings(conn: &Connection, id: VolumeId) -> Result<Holdings> {
    let mut select = conn.prepare_cached(
        "SELECT count(*), coalesce(sum(b.size), 0) FROM copies p JOIN blocks b ON b.id = p.block
         WHERE p.volume = ?1 AND b.state <> 'gone'",
    )?;
    Ok(select.query_row([id.0], |row| {
        Ok(Holdings { blocks: row.get::<_, i64>(0)?.cast_unsigned(), bytes: row.get::<_, i64>(1)?.cast_unsigned() })
    })?)
}

/// Adds a volume and returns its number; a known one keeps its row and gets the name.
pub fn put(conn: &Connection, (uuid, name): (VolumeUuid, &str), reserve: Reserve) -> Result<VolumeId> {
    conn.execute(
        "INSERT INTO volumes(uuid, name, state, reserve) VALUES(?1, ?2, 'active', ?3)
         ON CONFLICT(uuid) DO UPDATE SET name = excluded.name",
        params![uuid.0, name, reserve.to_text()],
    )?;
    let id = conn
        .query_row("SELECT id FROM volumes WHERE uuid = ?1", [uuid.0], |row| row.get(0).map(VolumeId))
        .optional()?;
    id.ok_or_else(|| CatalogError::damaged("a volume that was just added is missing"))
}

/// The number of a volume that a record names; one that is not known gets its identity for a name.
pub fn put_named(conn: &Connection, uuid: VolumeUuid, reserve: Reserve) -> Result<VolumeId> {
    match find(conn, uuid)? {
        Some(row) => Ok(row.id),
        None => put(conn, (uuid, &uuid.to_string()), reserve),
    }
}

/// Takes in what a record says of a volume: its identity and name where it is not known, and whether it was given up or
/// removed when the record was written; records of earlier releases do not tell that.
pub fn put_told(
    conn: &Connection,
    (uuid, name): (VolumeUuid, &str),
    (tells_states, told): (bool, Option<&str>),
    reserve: Reserve,
) -> Result<()> {
    let (id, state) = match find(conn, uuid)? {
        Some(row) => (row.id, row.state),
        None => (put(conn, (uuid, name), reserve)?, VolumeState::Active),
    };
    let gone = [VolumeState::Lost, VolumeState::Removed];
    match gone.into_iter().find(|state| Some(state.word()) == told) {
        Some(told) if told != state => set_state(conn, id, told),
        // It was taken back since.
        None if tells_states && gone.contains(&state) => set_state(conn, id, VolumeState::Active),
        _ => Ok(()),
    }
}

/// Remembers where a volume is mounted.
pub fn set_path(conn: &Connection, id: VolumeId, path: &Path) -> Result<()> {
    conn.execute("UPDATE volumes SET path = ?2 WHERE id = ?1", params![id.0, path.as_os_str().as_bytes()])?;
    Ok(())
}

/// Sets a volume's state.
pub fn set_state(conn: &Connection, id: VolumeId, state: VolumeState) -> Result<()> {
    conn.execute("UPDATE volumes SET state = ?2 WHERE id = ?1", params![id.0, state.word()])?;
    Ok(())
}

/// Forgets what lies on a volume, and that it is one of the repository's. Its identity stays known.
pub fn remove(conn: &Connection, id: VolumeId) -> Result<()> {
    for sql in [
        // A damaged block keeps its rows: what is lost is told by them.
        "DELETE FROM copies WHERE volume = ?1 AND block NOT IN (SELECT id FROM blocks WHERE state = 'bad')",
        "DELETE FROM sidecars WHERE volume = ?1",
        "UPDATE dirs SET volume = NULL WHERE volume = ?1",
        "UPDATE volumes SET path = NULL WHERE id = ?1",
    ] {
        conn.execute(sql, [id.0])?;
    }
    set_state(conn, id, VolumeState::Removed)
}

/// Remembers the newest manifest that a volume holds.
pub fn set_last_manifest(conn: &Connection, id: VolumeId, seq: RunSeq) -> Result<()> {
    conn.execute("UPDATE volumes SET last_seq = ?2 WHERE id = ?1", params![id.0, seq.0])?;
    Ok(())
}
