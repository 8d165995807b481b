//! Sums over the catalog: what is stored, how it grew, when it was verified. Each is one aggregate of SQL, so that
//! nothing is held in memory but the answer. Those named `whole_` go through all versions or chunks; the others through
//! blocks or segments alone, a few hundred rows for each terabyte.

use super::error::Result;
use crate::model::ids::{RunSeq, SourceId, VolumeId};
use rusqlite::{Connection, Row, params};

/// What lies on volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct StoredSums {
    /// Blocks, each counted once.
    pub blocks: u64,
    /// Bytes of their files, each counted once.
    pub block_bytes: u64,
    /// Bytes of all copies of them, and of parities.
    pub copy_bytes: u64,
    /// Bytes of the distinct chunks in them, before compression. What was stored again to heal damage counts again.
    pub unique_bytes: u64,
    /// The same after compression.
    pub compressed_bytes: u64,
    /// Bytes of the records of all runs, each counted once though every writable volume has it.
    pub record_bytes: u64,
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

/// Sums blocks, segments and records.
pub fn stored(conn: &Connection) -> Result<StoredSums> {
    let sql = "SELECT (SELECT count(*) FROM blocks WHERE state <> 'gone' AND kind <> 3),
         (SELECT coalesce(sum(size), 0) FROM blocks WHERE state <> 'gone' AND kind <> 3),
         (SELECT coalesce(sum(b.size), 0) FROM copies p JOIN blocks b ON b.id = p.block WHERE b.state <> 'gone'),
         coalesce(sum(s.raw), 0), coalesce(sum(s.stored), 0),
         (SELECT coalesce(sum(coalesce(manifest_bytes, 0) + coalesce(full_bytes, 0)), 0) FROM runs)
         FROM segments s JOIN blocks b ON b.id = s.block WHERE b.state <> 'gone'";
    Ok(conn.query_row(sql, [], |row| {
        Ok(StoredSums {
            blocks: unsigned(row, 0)?,
            block_bytes: unsigned(row, 1)?,
            copy_bytes: unsigned(row, 2)?,
            unique_bytes: unsigned(row, 3)?,
            compressed_bytes: unsigned(row, 4)?,
            record_bytes: unsigned(row, 5)?,
        })
    })?)
}

/// What all rows add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct WholeSums {
    /// Paths of the present, of every source.
    pub live_versions: u64,
    /// Versions that ended.
    pub past_versions: u64,
    /// Bytes of the present's regular files.
    pub live_bytes: u64,
    /// Bytes of all regular files' versions: what storing each of them by itself would have taken.
    pub version_bytes: u64,
    /// Distinct contents of files.
    pub contents: u64,
    /// Their bytes.
    pub content_bytes: u64,
    /// Distinct chunks.
    pub chunks: u64,
    /// Their bytes.
    pub chunk_bytes: u64,
}

/// Goes through all versions, contents and chunks: a few seconds for each million of them that is not in memory.
pub fn whole_sums(conn: &Connection) -> Result<WholeSums> {
    let pair = |sql: &str| conn.query_row(sql, [], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)));
    let versions = |table: &str| {
        pair(&format!("SELECT count(*), coalesce(sum(CASE mode >> 12 WHEN 8 THEN size ELSE 0 END), 0) FROM {table}"))
    };
    let (live, past) = (versions("live")?, versions("past")?);
    let contents = pair("SELECT count(*), coalesce(sum(size), 0) FROM contents")?;
    let chunks = pair("SELECT count(*), coalesce(sum(len), 0) FROM chunks")?;
    Ok(WholeSums {
        live_versions: live.0,
        past_versions: past.0,
        live_bytes: live.1,
        version_bytes: live.1.saturating_add(past.1),
        contents: contents.0,
        content_bytes: contents.1,
        chunks: chunks.0,
        chunk_bytes: chunks.1,
    })
}

/// What a run brought into one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirGrowth {
    /// Path inside the source.
    pub path: Vec<u8>,
    /// Files that are new there, or have another content.
    pub files: u64,
    /// Their sizes, before deduplication and compression.
    pub bytes: u64,
}

/// The directories into which a run brought most bytes, the largest first: sizes of the regular files directly in them
/// that entered with the run, or with another content. What only got other metadata does not count. Goes through all
/// versions of the present, and those that ended.
pub fn whole_growth_by_dir(
    conn: &Connection,
    (source, run): (SourceId, RunSeq),
    limit: usize,
) -> Result<Vec<DirGrowth>> {
    let mut select = conn.prepare(
        "WITH new(dir, name, first_run, size, obj) AS (
           SELECT dir, name, first_run, size, obj FROM live WHERE first_run = ?2 AND mode >> 12 = 8
           UNION ALL SELECT dir, name, first_run, size, obj FROM past WHERE first_run = ?2 AND mode >> 12 = 8)
         SELECT d.path, count(*), sum(n.size) AS bytes FROM new n JOIN dirs d ON d.id = n.dir
         WHERE d.source = ?1 AND NOT EXISTS(
           SELECT 1 FROM past p WHERE p.dir = n.dir AND p.name = n.name AND p.first_run = (
             SELECT max(q.first_run) FROM past q WHERE q.dir = n.dir AND q.name = n.name AND q.first_run < ?2)
           AND p.obj = n.obj AND p.mode >> 12 = 8 AND p.why = 1)
         GROUP BY n.dir ORDER BY bytes DESC, d.path LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = select.query_map(params![source.0, run.0, limit], |row| {
        Ok(DirGrowth { path: row.get(0)?, files: unsigned(row, 1)?, bytes: unsigned(row, 2)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// When the copies on one volume were verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Verification {
    /// Bytes of the copies that should be sound.
    pub bytes: u64,
    /// Bytes of those that were never verified.
    pub never_bytes: u64,
    /// Bytes of those neither verified nor written since the time that was asked for.
    pub due_bytes: u64,
    /// The verification longest ago, nanoseconds since 1970, of the copies that had one.
    pub oldest_ns: Option<i64>,
    /// The newest.
    pub newest_ns: Option<i64>,
    /// Blocks that are damaged or missing.
    pub bad_blocks: u64,
}

/// Sums the copies on a volume; `since_ns` is the time before which a verification is too long ago. A block was written
/// when the run that lists it began; one that none lists is new.
pub fn verification(conn: &Connection, volume: VolumeId, since_ns: i64) -> Result<Verification> {
    let mut select = conn.prepare_cached(
        "SELECT coalesce(sum(b.size), 0),
           coalesce(sum(CASE WHEN p.verified_ns IS NULL THEN b.size END), 0),
           coalesce(sum(CASE WHEN coalesce(p.verified_ns, r.started_ns, ?2) < ?2 THEN b.size END), 0),
           min(p.verified_ns), max(p.verified_ns),
           coalesce(sum(b.state = 'bad' OR p.state NOT IN ('ok', 'deleting')), 0)
         FROM copies p JOIN blocks b ON b.id = p.block LEFT JOIN runs r ON r.seq = b.run
         WHERE p.volume = ?1 AND b.state IN ('ok', 'bad')",
    )?;
    Ok(select.query_row(params![volume.0, since_ns], |row| {
        Ok(Verification {
            bytes: unsigned(row, 0)?,
            never_bytes: unsigned(row, 1)?,
            due_bytes: unsigned(row, 2)?,
            oldest_ns: row.get(3)?,
            newest_ns: row.get(4)?,
            bad_blocks: unsigned(row, 5)?,
        })
    })?)
}

/// Bytes of blocks that a run brought to a volume, by run.
pub fn growth_of_volume(conn: &Connection, volume: VolumeId) -> Result<Vec<(RunSeq, u64)>> {
    let mut select = conn.prepare_cached(
        "SELECT b.run, sum(b.size) FROM copies p JOIN blocks b ON b.id = p.block
         WHERE p.volume = ?1 AND b.run IS NOT NULL AND b.state <> 'gone' GROUP BY b.run ORDER BY b.run",
    )?;
    let rows = select.query_map([volume.0], |row| Ok((RunSeq(row.get(0)?), unsigned(row, 1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
