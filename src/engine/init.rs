//! `init`: creates a catalog.

use super::error::{EngineError, Result};
use super::repository::Repository;
use crate::catalog::settings::Settings;
use crate::codec::chunker::default_params;
use crate::model::ids::RepositoryUuid;
use crate::model::limits::{BLOCK_SIZE_MAX, BLOCK_SIZE_MIN};
use crate::model::params::{Compression, HashAlgo, Reserve};
use crate::model::redundancy::Redundancy;
use std::path::Path;

/// What can be chosen once.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// Hash of chunks, files and blocks.
    pub hash: HashAlgo,
    /// Space that volumes keep free unless they say otherwise.
    pub reserve: Reserve,
    /// Bytes of one block at most.
    pub block_size: u64,
    /// For segments.
    pub compression: Compression,
    /// On how many volumes every block is to lie.
    pub redundancy: Redundancy,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self {
            hash: HashAlgo::Blake3,
            reserve: Reserve::Percent(5.0),
            block_size: BLOCK_SIZE_MAX,
            compression: Compression::Zstd(3),
            redundancy: Redundancy::None,
        }
    }
}

/// What `init` made.
#[derive(Debug, Clone, serde::Serialize)]
pub struct InitReport {
    /// The catalog's path.
    pub catalog: String,
    /// The new repository.
    pub repository: RepositoryUuid,
    /// Its hash.
    pub hash_algo: HashAlgo,
    /// Bytes of one block at most.
    pub block_size: u64,
    /// On how many volumes every block is to lie.
    pub redundancy: Redundancy,
}

/// Creates the catalog at `path` with a fresh repository identity; refuses to overwrite a file.
pub fn init(path: &Path, options: &InitOptions) -> Result<(Repository, InitReport)> {
    if !(BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&options.block_size) {
        return Err(EngineError::Usage(format!(
            "a block size of {} bytes is not possible; choose one from {BLOCK_SIZE_MIN} to {BLOCK_SIZE_MAX}",
            options.block_size
        )));
    }
    let settings = Settings {
        repository: RepositoryUuid::random(),
        hash: options.hash,
        chunker: default_params(),
        block_size: options.block_size,
        compression: options.compression,
        reserve: options.reserve,
        redundancy: options.redundancy,
    };
    let repository = Repository::create(path, &settings)?;
    let report = InitReport {
        catalog: path.display().to_string(),
        repository: settings.repository,
        hash_algo: settings.hash,
        block_size: settings.block_size,
        redundancy: settings.redundancy,
    };
    Ok((repository, report))
}
