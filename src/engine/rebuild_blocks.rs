//! The part of `rebuild-catalog` that holds what records say of blocks against what lies on the volumes, and takes in what no
//! record tells of: blocks of a run that was cut off, and parities.

use super::block_file::{ReadError, read_header, read_parity_table, read_table};
use super::error::{EngineError, Result};
use super::observer::Observer;
use super::rebuild_catalog::RebuildReport;
use super::recover::{Orphan, hash_object};
use crate::catalog::blocks::{self, NewBlock};
use crate::catalog::chunks;
use crate::catalog::volumes::{self, VolumeState};
use crate::catalog::{Catalog, CatalogError, parity, places, redundancy};
use crate::format::block::BlockTable;
use crate::format::container::{ContainerKind, FormatError, HEADER_LEN, TRAILER_LEN};
use crate::format::layout;
use crate::format::parity::ParityTable;
use crate::model::ids::{BlockId, BlockNo, VolumeId};
use crate::model::params::HashAlgo;
use crate::volume::handle::Volume;
use crate::volume::index::IndexDb;
use crate::volume::store::Store;
use std::collections::{BTreeMap, BTreeSet};

/// Holds what the manifests say of blocks against what lies on the volumes.
pub(super) fn compare_blocks(
    catalog: &mut Catalog,
    (found, ids): (&[Volume], &[VolumeId]),
    report: &mut RebuildReport,
    observer: &dyn Observer,
) -> Result<()> {
    let (mut missing, mut parities, mut indexes) = (Vec::new(), Vec::new(), Vec::new());
    for (volume, id) in found.iter().zip(ids) {
        let mut here: BTreeMap<BlockId, u64> = BTreeMap::new();
        let listed = volume.store().list(layout::CHUNKS, &mut |key, size| {
            here.extend(layout::parse_block_key(key).map(|id| (id, size)));
        });
        listed.map_err(EngineError::store(&volume.label.name))?;
        let index = IndexDb::load(&volume.root).unwrap_or_default();
        report.bytes_read += index.len() as u64 * 64;
        let tx = catalog.begin()?;
        // What was given up, or even removed, and was given here is one of its volumes again.
        volumes::set_state(&tx, *id, VolumeState::Active)?;
        for row in places::all_blocks(&tx)? {
            let size_here = here.remove(&row.id);
            if size_here == Some(row.size) {
                blocks::put_copy(&tx, row.no, *id)?;
            } else if row.volumes.contains(id) {
                missing.push((row.no, *id));
            }
        }
        for (block, size) in &here {
            match orphan_table(volume.store().as_ref(), *block, report) {
                Ok(Orphan::Parity(table)) => parities.push(((*block, *size, *id), table)),
                Ok(Orphan::Block(table)) => {
                    let numbers = chunks::numbers_for(&tx, &table)?;
                    let kind = ContainerKind::Block as u8;
                    let new =
                        NewBlock { id: *block, size: *size, kind, volumes: vec![*id], table, numbers, listed_by: None };
                    blocks::register(&tx, &new)?;
                }
                Err(error) => observer.warn(&format!("block {block} on {} cannot be used: {error}", volume.label.name)),
            }
        }
        tx.commit().map_err(CatalogError::from)?;
        indexes.push((*id, index));
    }
    // After all blocks: they name these.
    let algo = catalog.settings().hash;
    let tx = catalog.begin()?;
    for (at, (file, table)) in parities.iter().enumerate() {
        let is_same = |(other, (_, told)): (usize, &(_, ParityTable))| {
            other != at && (told.group, told.index) == (table.group, table.index)
        };
        // One of two files that both say they are it: the one whose name says so too.
        if parities.iter().enumerate().any(is_same) && !is_named(*file, (found, ids), algo) {
            continue;
        }
        parity::register(&tx, *file, table)?;
    }
    for (id, index) in indexes {
        for entry in index {
            if let (Some(no), Some(at_ns)) = (blocks::number_of(&tx, entry.id)?, entry.verified_ns) {
                blocks::set_verified(&tx, no, (id, at_ns))?;
            }
        }
    }
    tx.commit().map_err(CatalogError::from)?;
    note_missing(catalog, &missing, report)
}

/// Whether a file hashes to its name.
fn is_named((id, _, volume): (BlockId, u64, VolumeId), (found, ids): (&[Volume], &[VolumeId]), algo: HashAlgo) -> bool {
    let Some(at) = ids.iter().position(|known| *known == volume) else { return false };
    let object = found[at].store().open(&layout::block_key(&id));
    object.is_ok_and(|object| hash_object(object.as_ref(), algo).is_ok_and(|hash| hash == id.0))
}

/// A copy is missing; a block that has no other one is damaged.
fn note_missing(catalog: &mut Catalog, missing: &[(BlockNo, VolumeId)], report: &mut RebuildReport) -> Result<()> {
    let tx = catalog.begin()?;
    for (block, volume) in missing {
        parity::note_absent(&tx, (*block, *volume))?;
    }
    let recoverable = parity::recoverable(&tx, &[])?;
    for block in missing.iter().map(|(block, _)| *block).collect::<BTreeSet<_>>() {
        if !recoverable.contains(&block) && !redundancy::copies(&tx, block)?.iter().any(|copy| copy.is_counted) {
            report.blocks_missing += 1;
            blocks::mark_bad(&tx, block)?;
        }
    }
    // Also what lay only on volumes that were given up or removed.
    redundancy::mark_lonely(&tx, &BTreeSet::new(), usize::MAX)?;
    blocks::condemn_superseded(&tx)?;
    tx.commit().map_err(CatalogError::from)?;
    Ok(())
}

/// The table of a block that no manifest lists, or of a parity.
fn orphan_table(store: &dyn Store, id: BlockId, report: &mut RebuildReport) -> std::result::Result<Orphan, ReadError> {
    let object = store.open(&layout::block_key(&id))?;
    let (orphan, table_len) = match read_header(object.as_ref())?.kind {
        ContainerKind::Block => {
            let table = read_table(object.as_ref())?;
            let len = BlockTable::encoded_len(table.segments.len(), table.chunk_count());
            (Orphan::Block(table), len)
        }
        ContainerKind::Parity => {
            let table = read_parity_table(object.as_ref())?;
            let len = table.encode().len();
            (Orphan::Parity(table), len)
        }
        ContainerKind::Manifest => return Err(FormatError::Invalid("kind").into()),
    };
    report.bytes_read += (HEADER_LEN + TRAILER_LEN + table_len) as u64;
    Ok(orphan)
}
