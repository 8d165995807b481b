//! Blocks of which no copy could be had: their volumes were given up or removed, or what lay there is gone. Another volume may
//! hold one that this catalog does not know of, because it is an older copy or was made anew. What is found nowhere counts
//! as damaged, so that the next backup reads the files in it again; but for what a parity group gives back.

use super::hash_object;
use crate::catalog::parity::Group;
use crate::catalog::volumes::VolumeState;
use crate::catalog::{CatalogError, blocks, parity, redundancy};
use crate::engine::error::{EngineError, Result};
use crate::engine::observer::{Expected, Observer, Phase};
use crate::engine::parity::source::GroupSource;
use crate::engine::protect::copy::{BlockFile, Found, look};
use crate::engine::repository::{Mounted, Repository};
use crate::model::ids::{BlockId, BlockNo, VolumeId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Blocks that are marked in one transaction.
const MARKED_AT_ONCE: usize = 100;

/// Looks for them where no row says that they are, by name, and hashes what is there.
pub(super) fn find_lonely(repository: &mut Repository, observer: &dyn Observer) -> Result<()> {
    let conn = repository.catalog.conn();
    let (algo, mut found) = (repository.settings().hash, 0_u64);
    // What the group of a damaged block gives back again counts as sound: `protect` writes it anew.
    for block in parity::recoverable(conn, &[])? {
        blocks::mark_sound(conn, block)?;
    }
    let mut spared = BTreeSet::new();
    let lonely = redundancy::lonely(conn)?;
    if lonely.is_empty() {
        return Ok(());
    }
    let bytes = lonely.iter().fold(0, |bytes: u64, block| bytes.saturating_add(block.size));
    observer.begin(Phase::Validate, Expected { items: Some(lonely.len() as u64), bytes: Some(bytes) });
    for block in lonely {
        if observer.is_cancelled() {
            return Err(EngineError::Interrupted);
        }
        let copies = redundancy::copies(conn, block.no)?;
        let file = BlockFile { id: block.id, size: block.size, algo };
        let found_before = found;
        // Where one is known to be damaged, `validate` looks again.
        let is_known = |mounted: &&Mounted| copies.iter().any(|copy| copy.volume == mounted.row.id && copy.is_bad);
        for mounted in repository.mounted.iter().filter(|mounted| !is_known(mounted)) {
            match look(mounted.store().as_ref(), &file) {
                Ok(Found::Sound) => {
                    blocks::put_copy(conn, block.no, mounted.row.id)?;
                    blocks::mark_sound(conn, block.no)?;
                    found += 1;
                }
                // Nobody needs to look again.
                Ok(other) => {
                    let state = if other == Found::Nothing { "missing" } else { "bad" };
                    blocks::set_copy_state(conn, block.no, (mounted.row.id, state))?;
                }
                Err(error) => observer.warn(&format!("block {} on volume {}: {error}", block.id, mounted.row.name)),
            }
        }
        let may_be = found == found_before
            && (is_given_back(repository, (block.no, block.id))? || is_awaited(repository, block.no)?);
        if may_be {
            spared.insert(block.no);
            blocks::mark_sound(conn, block.no)?;
        }
        observer.advance(1, block.size);
    }
    if found > 0 {
        observer.warn(&format!("blocks were found again, {found} copies of them, on the volumes, and count again"));
    }
    let gone = mark_in_steps(repository, &spared, observer)?;
    if gone > 0 {
        observer.warn(&format!(
            "blocks that are on no volume any more, and count as damaged: {gone}; `raidtape validate` names their files, and the next \
             backup stores again what its source still has"
        ));
    }
    Ok(())
}

/// Whether a file of the block's parity group is on a volume that is away and may come back.
pub fn is_awaited(repository: &Repository, block: BlockNo) -> Result<bool> {
    let away = repository.away.iter().filter(|row| !matches!(row.state, VolumeState::Lost | VolumeState::Removed));
    let away: BTreeSet<VolumeId> = away.map(|row| row.id).collect();
    let groups = parity::of_block(repository.catalog.conn(), block)?;
    Ok(groups.iter().flat_map(Group::volumes).any(|volume| away.contains(&volume)))
}

/// Whether the block's parity group gives it back, column by column, although too many of its files are damaged.
pub fn is_given_back(repository: &Repository, block: (BlockNo, BlockId)) -> Result<bool> {
    let settings = repository.settings();
    let store_of = |id| repository.volume(id).map(|mounted| Arc::clone(mounted.store()));
    let known = (settings.repository, settings.hash);
    let source = GroupSource::find(repository.catalog.conn(), block, known, &store_of)?;
    let recovered = source.and_then(|source| source.open());
    Ok(recovered.is_some_and(|object| hash_object(&object, settings.hash).is_ok_and(|hash| hash == block.1.0)))
}

/// In several transactions, between which it can be stopped: a disk has thousands of blocks.
fn mark_in_steps(repository: &mut Repository, spared: &BTreeSet<BlockNo>, observer: &dyn Observer) -> Result<usize> {
    let mut gone = 0;
    loop {
        let tx = repository.catalog.begin()?;
        let marked = redundancy::mark_lonely(&tx, spared, MARKED_AT_ONCE)?;
        tx.commit().map_err(CatalogError::from)?;
        gone += marked;
        if marked < MARKED_AT_ONCE {
            return Ok(gone);
        }
        if observer.is_cancelled() {
            return Err(EngineError::Interrupted);
        }
    }
}
