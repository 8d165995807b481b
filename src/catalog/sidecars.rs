//! What was last written as the sidecar of a block's copy, so that an unchanged one is not written again.

use super::error::Result;
use crate::model::ids::{BlockNo, VolumeId};
use rusqlite::{Connection, OptionalExtension, params};

/// BLAKE3 of the sidecar's text as it was last written for this copy.
pub fn digest(conn: &Connection, block: BlockNo, volume: VolumeId) -> Result<Option<[u8; 32]>> {
    Ok(conn
        .prepare_cached("SELECT digest FROM sidecars WHERE block = ?1 AND volume = ?2")?
        .query_row(params![block.0, volume.0], |row| row.get(0))
        .optional()?)
}

/// Remembers what was written.
pub fn put(conn: &Connection, (block, volume): (BlockNo, VolumeId), digest: [u8; 32]) -> Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO sidecars(block, volume, digest) VALUES(?1, ?2, ?3)")?
        .execute(params![block.0, volume.0, digest])?;
    Ok(())
}
