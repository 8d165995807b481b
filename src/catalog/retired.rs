//! Files that are not needed any more: taken out of use by one transaction, deleted after it, and forgotten then.

use super::error::Result;
use super::parity::{Group, PARITY_KIND};
use crate::model::ids::{BlockId, BlockNo, VolumeId};
use rusqlite::{Connection, OptionalExtension};

/// The parities of a group are not needed any more: their files are to be deleted.
pub fn retire(conn: &Connection, group: &Group) -> Result<()> {
    for member in group.parity() {
        conn.prepare_cached("UPDATE blocks SET state = 'deleting' WHERE id = ?1")?.execute([member.no.0])?;
        conn.prepare_cached("UPDATE copies SET state = 'deleting' WHERE block = ?1")?.execute([member.no.0])?;
    }
    Ok(())
}

/// A copy of a block is not needed any more.
pub fn retire_copy(conn: &Connection, block: BlockNo, volume: VolumeId) -> Result<()> {
    super::blocks::set_copy_state(conn, block, (volume, "deleting"))
}

/// A file that is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retired {
    /// Number.
    pub no: BlockNo,
    /// Name.
    pub id: BlockId,
    /// Bytes.
    pub size: u64,
    /// It is a parity.
    pub is_parity: bool,
    /// Where.
    pub volume: VolumeId,
}

/// All files that are to be deleted, wherever they are.
pub fn all(conn: &Connection) -> Result<Vec<Retired>> {
    let mut select = conn.prepare_cached(
        "SELECT b.id, b.name, b.size, p.volume, b.kind FROM copies p JOIN blocks b ON b.id = p.block
         WHERE p.state = 'deleting' ORDER BY b.id, p.volume",
    )?;
    let rows = select.query_map([], |row| {
        Ok(Retired {
            no: BlockNo(row.get(0)?),
            id: BlockId(row.get(1)?),
            size: row.get::<_, i64>(2)?.cast_unsigned(),
            volume: VolumeId(row.get(3)?),
            is_parity: row.get::<_, u8>(4)? == PARITY_KIND,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A file that was to be deleted is needed after all.
pub fn keep(conn: &Connection, file: &Retired) -> Result<()> {
    conn.execute(
        "UPDATE copies SET state = 'ok' WHERE block = ?1 AND volume = ?2 AND state = 'deleting'",
        [file.no.0, file.volume.0],
    )?;
    Ok(())
}

/// A file was deleted. A parity that is nowhere any more is forgotten, and a group without one.
pub fn forget(conn: &Connection, file: &Retired) -> Result<()> {
    conn.prepare_cached("DELETE FROM copies WHERE block = ?1 AND volume = ?2 AND state = 'deleting'")?
        .execute([file.no.0, file.volume.0])?;
    conn.prepare_cached("DELETE FROM sidecars WHERE block = ?1 AND volume = ?2")?
        .execute([file.no.0, file.volume.0])?;
    let is_gone: bool = conn
        .prepare_cached(
            "SELECT EXISTS(SELECT 1 FROM blocks b WHERE b.id = ?1 AND b.state = 'deleting'
               AND NOT EXISTS(SELECT 1 FROM copies p WHERE p.block = b.id))",
        )?
        .query_row([file.no.0], |row| row.get(0))?;
    if !is_gone {
        return Ok(());
    }
    let group: Option<i64> = conn
        .prepare_cached("SELECT grp FROM parity_members WHERE block = ?1")?
        .query_row([file.no.0], |row| row.get(0))
        .optional()?;
    conn.execute("DELETE FROM parity_members WHERE block = ?1", [file.no.0])?;
    conn.execute("DELETE FROM blocks WHERE id = ?1", [file.no.0])?;
    let Some(group) = group else { return Ok(()) };
    let has_parity: bool = conn.query_row(
        "SELECT EXISTS(SELECT 1 FROM parity_members t JOIN parity_groups g ON g.id = t.grp WHERE g.id = ?1 AND t.pos >= g.k)",
        [group],
        |row| row.get(0),
    )?;
    if !has_parity {
        conn.execute("DELETE FROM parity_members WHERE grp = ?1", [group])?;
        conn.execute("DELETE FROM parity_groups WHERE id = ?1", [group])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::parity::of_block;
    use super::super::parity::tests::{filled, id, only_group};
    use super::*;

    #[test]
    fn what_is_retired_is_forgotten_file_by_file() {
        let (_dir, catalog) = filled();
        let conn = catalog.conn();
        retire(conn, &only_group(conn)).unwrap();
        assert!(of_block(conn, BlockNo(1)).unwrap().is_empty(), "it is of no use any more");
        retire_copy(conn, BlockNo(3), VolumeId(3)).unwrap();
        let files = all(conn).unwrap();
        assert_eq!(files.iter().map(|file| (file.id, file.volume.0)).collect::<Vec<_>>(), [(id(3), 3), (id(9), 3)]);
        files.iter().try_for_each(|file| forget(conn, file)).unwrap();
        assert!(all(conn).unwrap().is_empty());
        let left = |table: &str| -> i64 {
            conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
        };
        assert_eq!((left("parity_groups"), left("parity_members"), left("blocks")), (0, 0, 3));
    }

    #[test]
    fn a_copy_that_was_to_be_deleted_can_be_kept() {
        let (_dir, catalog) = filled();
        let conn = catalog.conn();
        retire_copy(conn, BlockNo(3), VolumeId(3)).unwrap();
        keep(conn, &all(conn).unwrap()[0]).unwrap();
        assert!(all(conn).unwrap().is_empty());
        assert!(super::super::redundancy::copies(conn, BlockNo(3)).unwrap()[0].is_counted);
    }
}
