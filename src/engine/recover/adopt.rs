//! Whole blocks and parities that lie on the volumes and that no row names: a crash came between their rename and their
//! commit, or they were written while another catalog was in use.

use super::hash_object;
use crate::catalog::blocks::{self, NewBlock};
use crate::catalog::chunks;
use crate::catalog::{CatalogError, parity};
use crate::engine::block_file::{ReadError, read_header, read_parity_table, read_table};
use crate::engine::error::{EngineError, Result};
use crate::engine::observer::Observer;
use crate::engine::repository::{Mounted, Repository};
use crate::format::block::BlockTable;
use crate::format::container::{ContainerKind, FormatError};
use crate::format::layout;
use crate::format::parity::ParityTable;
use crate::model::ids::{BlockId, RepositoryUuid, VolumeId};
use crate::model::params::HashAlgo;
use crate::volume::store::Store;
use std::collections::{HashMap, HashSet};

/// What a container that nobody knows turned out to be.
pub enum Orphan {
    /// Chunks.
    Block(BlockTable),
    /// A parity.
    Parity(ParityTable),
}

/// Registers them, on the volumes that `is_asked` says; what rows tell of these is held against what lies there. Parities come
/// after all blocks: they name these.
pub(super) fn adopt_blocks(
    repository: &mut Repository,
    is_asked: &dyn Fn(&Mounted) -> bool,
    observer: &dyn Observer,
) -> Result<()> {
    let (ours, algo) = (repository.settings().repository, repository.settings().hash);
    let mut orphans: Vec<(VolumeId, BlockId, u64)> = Vec::new();
    for mounted in repository.mounted.iter().filter(|mounted| is_asked(mounted)) {
        let mut listed = Vec::new();
        let result = mounted.store().list(layout::CHUNKS, &mut |key, size| {
            listed.extend(layout::parse_block_key(key).map(|id| (id, size)));
        });
        result.map_err(EngineError::store(&mounted.row.name))?;
        let conn = repository.catalog.conn();
        let (here, mut told): (HashMap<BlockId, u64>, _) = (listed.iter().copied().collect(), HashSet::new());
        for (no, id, size) in blocks::copies_on(conn, mounted.row.id)? {
            told.insert(id);
            if here.get(&id) != Some(&size) {
                parity::note_absent(conn, (no, mounted.row.id))?;
            }
        }
        for (id, size) in listed {
            match parity::known(conn, id)? {
                None => orphans.push((mounted.row.id, id, size)),
                Some((no, known)) if known == size && !told.contains(&id) => {
                    settle(mounted, id)?;
                    parity::put_found_copy(conn, no, mounted.row.id)?;
                }
                Some(_) => {}
            }
        }
    }
    let mut parities = Vec::new();
    for (volume, id, size) in orphans {
        let Some(mounted) = repository.volume(volume) else { continue };
        match read_orphan(mounted.store().as_ref(), id, (ours, algo)) {
            Ok(orphan) => {
                settle(mounted, id)?;
                match orphan {
                    Orphan::Block(table) => adopt_block(repository, (id, size, volume), table)?,
                    Orphan::Parity(table) => parities.push((id, size, volume, table)),
                }
            }
            Err(error) => {
                let volume = repository.volume_words(volume);
                observer.warn(&format!("block {id} on volume {volume} is in no catalog and cannot be used: {error}"));
            }
        }
    }
    let tx = repository.catalog.begin()?;
    for (id, size, volume, table) in parities {
        parity::register(&tx, (id, size, volume), &table)?;
    }
    tx.commit().map_err(CatalogError::from)?;
    Ok(())
}

/// Who wrote a file may have died before its name was durable.
fn settle(mounted: &Mounted, id: BlockId) -> Result<()> {
    if !mounted.is_locked_for_writing() {
        return Ok(());
    }
    mounted.store().settle(&layout::block_key(&id)).map_err(EngineError::store(&mounted.row.name))
}

fn adopt_block(
    repository: &mut Repository,
    (id, size, volume): (BlockId, u64, VolumeId),
    table: BlockTable,
) -> Result<()> {
    let tx = repository.catalog.begin()?;
    let numbers = chunks::numbers_for(&tx, &table)?;
    let kind = ContainerKind::Block as u8;
    let block = NewBlock { id, size, kind, volumes: vec![volume], table, numbers, listed_by: None };
    blocks::register(&tx, &block)?;
    tx.commit().map_err(CatalogError::from)?;
    Ok(())
}

fn read_orphan(
    store: &dyn Store,
    id: BlockId,
    (ours, algo): (RepositoryUuid, HashAlgo),
) -> std::result::Result<Orphan, ReadError> {
    // A block that failed to be read back must not be adopted because memory still has it as it was meant.
    let object = store.open_uncached(&layout::block_key(&id))?;
    let header = read_header(object.as_ref())?;
    if hash_object(object.as_ref(), algo)? != id.0 {
        return Err(FormatError::Checksum("file").into());
    }
    match header.kind {
        ContainerKind::Block => Ok(Orphan::Block(read_table(object.as_ref())?)),
        ContainerKind::Parity if header.repository == ours => Ok(Orphan::Parity(read_parity_table(object.as_ref())?)),
        _ => Err(FormatError::Invalid("kind").into()),
    }
}
