//! What was chosen at `init`, kept in table `meta`.

use super::error::{CatalogError, Result};
use crate::model::ids::{RepositoryUuid, VolumeId};
use crate::model::params::{ChunkerParams, Compression, HashAlgo, Reserve};
use crate::model::redundancy::Redundancy;
use rusqlite::{Connection, OptionalExtension, params};

/// A repository's parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Identity that catalog and volumes share.
    pub repository: RepositoryUuid,
    /// Hash of chunks, files and blocks.
    pub hash: HashAlgo,
    /// Where chunks are cut.
    pub chunker: ChunkerParams,
    /// Bytes of one block at most.
    pub block_size: u64,
    /// For new segments.
    pub compression: Compression,
    /// Inherited by new volumes.
    pub reserve: Reserve,
    /// On how many volumes blocks are to lie.
    pub redundancy: Redundancy,
}

impl Settings {
    pub(super) fn store(&self, conn: &Connection) -> Result<()> {
        let mut put = conn.prepare("INSERT INTO meta(key, value) VALUES(?1, ?2)")?;
        put.execute(params!["repository", self.repository.to_string()])?;
        put.execute(params!["hash_algo", self.hash.name()])?;
        put.execute(params!["chunk_id_scheme", self.hash.name()])?;
        put.execute(params!["chunker", "gear64-nc"])?;
        put.execute(params!["chunk_min", self.chunker.min])?;
        put.execute(params!["chunk_avg", self.chunker.avg])?;
        put.execute(params!["chunk_max", self.chunker.max])?;
        put.execute(params!["chunk_normalization", self.chunker.normalization])?;
        put.execute(params!["block_size", self.block_size.cast_signed()])?;
        put.execute(params!["compression", self.compression.to_text()])?;
        put.execute(params!["reserve", self.reserve.to_text()])?;
        put.execute(params!["redundancy", self.redundancy.to_text()])?;
        Ok(())
    }

    pub(super) fn load(conn: &Connection) -> Result<Self> {
        let text = |key: &str| -> Result<String> {
            conn.query_row("SELECT CAST(value AS TEXT) FROM meta WHERE key = ?1", [key], |row| row.get(0))
                .optional()?
                .ok_or_else(|| CatalogError::damaged(format!("setting {key} is missing")))
        };
        let bad = |key: &str| CatalogError::damaged(format!("setting {key} is not valid"));
        let number = |key: &str| text(key)?.parse::<u32>().map_err(|_| bad(key));
        Ok(Self {
            repository: text("repository")?.parse().map_err(|_| bad("repository"))?,
            hash: HashAlgo::from_name(&text("hash_algo")?).ok_or_else(|| bad("hash_algo"))?,
            chunker: ChunkerParams {
                min: number("chunk_min")?,
                avg: number("chunk_avg")?,
                max: number("chunk_max")?,
                normalization: number("chunk_normalization")?,
            },
            block_size: text("block_size")?.parse().map_err(|_| bad("block_size"))?,
            compression: Compression::from_text(&text("compression")?).ok_or_else(|| bad("compression"))?,
            reserve: Reserve::from_text(&text("reserve")?).ok_or_else(|| bad("reserve"))?,
            redundancy: Redundancy::from_text(&text("redundancy")?).ok_or_else(|| bad("redundancy"))?,
        })
    }
}

/// On how many volumes blocks are to lie now: a record may have changed it since the catalog was opened.
pub fn redundancy(conn: &Connection) -> Result<Redundancy> {
    let word: String = conn.query_row("SELECT value FROM meta WHERE key = 'redundancy'", [], |row| row.get(0))?;
    Redundancy::from_text(&word).ok_or_else(|| CatalogError::damaged("setting redundancy is not valid"))
}

/// Changes on how many volumes blocks are to lie.
pub fn set_redundancy(conn: &Connection, redundancy: Redundancy) -> Result<()> {
    conn.execute("UPDATE meta SET value = ?1 WHERE key = 'redundancy'", [redundancy.to_text()])?;
    Ok(())
}

/// Why a volume may hold what the catalog does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Nobody looked at what lies there since this catalog was made, or since it was found to be behind.
    Unseen,
    /// Writing to it failed: a file may have got its name all the same.
    Failed,
}

impl Doubt {
    fn key(self, volume: VolumeId) -> String {
        let word = match self {
            Self::Unseen => "unseen",
            Self::Failed => "failed",
        };
        format!("{word} {}", volume.0)
    }
}

/// A volume is in doubt, or not any more.
pub fn set_doubt(conn: &Connection, (volume, doubt): (VolumeId, Doubt), is_so: bool) -> Result<()> {
    let sql = if is_so {
        "INSERT INTO meta(key, value) VALUES(?1, 1) ON CONFLICT(key) DO NOTHING"
    } else {
        "DELETE FROM meta WHERE key = ?1"
    };
    conn.execute(sql, [doubt.key(volume)])?;
    Ok(())
}

/// Whether that is so.
pub fn is_in_doubt(conn: &Connection, volume: VolumeId, doubt: Doubt) -> Result<bool> {
    let sql = "SELECT EXISTS(SELECT 1 FROM meta WHERE key = ?1)";
    Ok(conn.query_row(sql, [doubt.key(volume)], |row| row.get(0))?)
}

/// Whether parities were being written that the catalog may not know.
pub fn is_protecting(conn: &Connection) -> Result<bool> {
    Ok(conn.query_row("SELECT EXISTS(SELECT 1 FROM meta WHERE key = 'protecting')", [], |row| row.get(0))?)
}

/// Says so before the first of them, and no more after the last.
pub fn set_protecting(conn: &Connection, is_so: bool) -> Result<()> {
    let sql = if is_so {
        "INSERT INTO meta(key, value) VALUES('protecting', 1) ON CONFLICT(key) DO NOTHING"
    } else {
        "DELETE FROM meta WHERE key = 'protecting'"
    };
    conn.execute(sql, [])?;
    Ok(())
}

/// Changes how new segments are compressed, for every later opening of the catalog.
pub fn set_compression(conn: &Connection, compression: Compression) -> Result<()> {
    conn.execute("UPDATE meta SET value = ?1 WHERE key = 'compression'", [compression.to_text()])?;
    Ok(())
}
