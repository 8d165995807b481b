//! Chunks by identity and by number.

use super::blocks::is_segment_usable;
use super::error::{CatalogError, Result};
use super::keys::{self, Keyed};
use crate::format::block::BlockTable;
use crate::model::ids::{ChunkId, ChunkNo, SegmentNo, VolumeId};
use crate::model::limits::ROW_MAX;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;

pub(super) const FIND: &str = "SELECT c.no, c.seg FROM chunk_keys k CROSS JOIN chunks c ON c.no = k.chunk
     WHERE k.key = ?1 AND c.id = ?2";

/// A chunk that the catalog has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownChunk {
    /// Its number.
    pub no: ChunkNo,
    /// Its bytes can be relied on: a sound block on a volume that is not given up.
    pub is_usable: bool,
}

/// Looks a chunk up by identity. `avoid` are volumes that failed in this process.
pub fn find(conn: &Connection, id: &ChunkId, avoid: &[VolumeId]) -> Result<Option<KnownChunk>> {
    match find_place(conn, id)? {
        Some((no, segment)) => Ok(Some(KnownChunk { no, is_usable: is_segment_usable(conn, segment, avoid)? })),
        None => Ok(None),
    }
}

/// A chunk's number and the segment of its first place; segment 0 when only its name is known.
pub fn find_place(conn: &Connection, id: &ChunkId) -> Result<Option<(ChunkNo, SegmentNo)>> {
    Ok(conn
        .prepare_cached(FIND)?
        .query_row(params![keys::key_of(&id.0), id.0], |row| Ok((ChunkNo(row.get(0)?), SegmentNo(row.get(1)?))))
        .optional()?)
}

/// The first chunk number that is free.
///
/// # Errors
/// `Damaged` where there is none that is not far above what anybody can have stored.
pub fn next_no(conn: &Connection) -> Result<ChunkNo> {
    let last: i64 = conn.query_row("SELECT coalesce(max(no), 0) FROM chunks", [], |row| row.get(0))?;
    match last {
        0..=ROW_MAX => Ok(ChunkNo(last + 1)),
        _ => Err(CatalogError::damaged(format!("its last chunk has number {last}"))),
    }
}

/// Numbers for the chunks of a block that was found on a volume: known ones keep theirs.
pub fn numbers_for(conn: &Connection, table: &BlockTable) -> Result<Vec<ChunkNo>> {
    let mut next = next_no(conn)?;
    let mut fresh: HashMap<ChunkId, ChunkNo> = HashMap::new();
    let ids: Vec<&ChunkId> = table.segments.iter().flat_map(|segment| &segment.chunks).map(|(id, _)| id).collect();
    let known = numbers_of(conn, &ids)?;
    let numbers = ids.into_iter().zip(known).map(|(id, known)| {
        known.unwrap_or_else(|| {
            *fresh.entry(*id).or_insert_with(|| {
                let no = next;
                next = ChunkNo(no.0.saturating_add(1));
                no
            })
        })
    });
    Ok(numbers.collect())
}

/// Makes a chunk known by name, without bytes, so that contents can refer to it.
pub fn put_placeless(conn: &Connection, no: ChunkNo, (id, len): (&ChunkId, u32)) -> Result<()> {
    conn.prepare_cached("INSERT INTO chunks(no, id, seg, off, len) VALUES(?1, ?2, 0, 0, ?3)")?
        .execute(params![no.0, id.0, len])?;
    keys::put(conn, Keyed::Chunks, [(keys::key_of(&id.0), no.0)])
}

/// The identity and length of a chunk number.
pub fn get(conn: &Connection, no: ChunkNo) -> Result<Option<(ChunkId, u32)>> {
    Ok(conn
        .prepare_cached("SELECT id, len FROM chunks WHERE no = ?1")?
        .query_row([no.0], |row| Ok((ChunkId(row.get(0)?), row.get(1)?)))
        .optional()?)
}

/// The numbers of many chunks, in their order; `None` for those that are not there. Looked up in the order of their
/// identities, which lie beside each other.
pub fn numbers_of(conn: &Connection, ids: &[&ChunkId]) -> Result<Vec<Option<ChunkNo>>> {
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_unstable_by_key(|at| ids[*at]);
    let mut numbers = vec![None; ids.len()];
    for at in order {
        numbers[at] = find_place(conn, ids[at])?.map(|(no, _)| no);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::test_plans::catalog;
    use crate::model::limits::NUMBER_MAX;

    #[test]
    fn numbers_go_on_above_those_that_a_record_may_have_but_not_to_the_end() {
        let (_dir, catalog) = catalog();
        let conn = catalog.conn();
        assert_eq!(next_no(conn).unwrap(), ChunkNo(1));
        put_placeless(conn, ChunkNo(NUMBER_MAX), (&ChunkId([1; 32]), 1)).unwrap();
        for (step, byte) in [(1, 2), (2, 3)] {
            let no = next_no(conn).unwrap();
            assert_eq!(no, ChunkNo(NUMBER_MAX + step));
            put_placeless(conn, no, (&ChunkId([byte; 32]), 1)).unwrap();
        }
        put_placeless(conn, ChunkNo(i64::MAX - 1), (&ChunkId([4; 32]), 1)).unwrap();
        assert!(matches!(next_no(conn), Err(CatalogError::Damaged(_))));
        let ids = [3, 9, 1].map(|byte| ChunkId([byte; 32]));
        let numbers = numbers_of(conn, &ids.each_ref()).unwrap();
        assert_eq!(numbers, [Some(ChunkNo(NUMBER_MAX + 2)), None, Some(ChunkNo(NUMBER_MAX))]);
    }
}
