//! Files that are not needed any more: parities of groups that others took the place of, and copies of blocks that a group
//! stands for. They are taken out of use by a commit and deleted after it; what a crash leaves is deleted by the next
//! writer.

use crate::catalog::parity::{self, Group};
use crate::catalog::retired::{self, Retired};
use crate::catalog::{CatalogError, Connection, redundancy};
use crate::engine::error::{EngineError, Result};
use crate::engine::observer::Observer;
use crate::engine::protect::Copied;
use crate::engine::repository::Repository;
use crate::format::layout;
use crate::model::ids::{BlockNo, VolumeId};
use crate::model::redundancy::Redundancy;
use crate::volume::store::StoreError;
use std::collections::{BTreeMap, BTreeSet};

/// Retires the groups that the policy does not need: every block in them is in another group that will do, or has
/// copies enough. Under no redundancy nothing is.
pub fn drop_superseded(repository: &mut Repository, policy: Redundancy) -> Result<u64> {
    let copies = policy.copies() as usize;
    if policy == Redundancy::None {
        return Ok(0);
    }
    let tx = repository.catalog.begin()?;
    let mut groups = Vec::new();
    parity::for_each(&tx, &mut |group| {
        groups.push(group);
        Ok(())
    })?;
    let stands = |group: &Group| match policy {
        Redundancy::Parity { parities, .. } => group.parities >= parities && group.is_sound(),
        Redundancy::None | Redundancy::Copies(_) => false,
    };
    // In how many groups that will do a block is.
    let mut standing: BTreeMap<BlockNo, usize> = BTreeMap::new();
    for member in groups.iter().filter(|group| stands(group)).flat_map(Group::blocks) {
        *standing.entry(member.no).or_default() += 1;
    }
    let mut dropped = 0;
    for group in &groups {
        let own = usize::from(stands(group));
        let is_covered = group.blocks().filter(|member| member.is_needed).all(|member| {
            let others = standing.get(&member.no).copied().unwrap_or(0) - own;
            others > 0 || (!member.is_bad && own == 0 && member.counted() >= copies)
        });
        if !is_covered {
            continue;
        }
        if own > 0 {
            group.blocks().for_each(|member| *standing.entry(member.no).or_default() -= 1);
        }
        retired::retire(&tx, group)?;
        dropped += 1;
    }
    tx.commit().map_err(CatalogError::from)?;
    Ok(dropped)
}

/// Deletes what was retired, on the volumes that are written. A copy of a block that proved to be the last one is kept.
/// A volume that fails is tried again another time.
pub fn delete_retired(repository: &Repository, observer: &dyn Observer) -> Result<Copied> {
    let conn = repository.catalog.conn();
    let (mut copied, mut failed) = (Copied::default(), BTreeSet::<VolumeId>::new());
    for file in retired::all(conn)? {
        let Some(mounted) = repository.volume(file.volume).filter(|mounted| mounted.is_locked_for_writing()) else {
            continue;
        };
        if failed.contains(&file.volume) {
            continue;
        }
        if !file.is_parity && !is_spare(conn, &file)? {
            retired::keep(conn, &file)?;
            continue;
        }
        match mounted.store().delete(&layout::block_key(&file.id)) {
            Ok(()) | Err(StoreError::NotFound { .. }) => {
                // Its sidecar says nothing of any file any more.
                let _ = mounted.store().delete(&layout::sidecar_key(&file.id));
                forget(repository, &file)?;
                copied.removed.entry(file.volume).or_default().push(file.id);
                copied.removed_bytes += file.size;
            }
            Err(error) => {
                failed.insert(file.volume);
                observer.warn(&format!(
                    "volume {}: what is not needed any more cannot be deleted: {error}",
                    mounted.row.name
                ));
            }
        }
    }
    Ok(copied)
}

/// Whether another copy of the block counts.
fn is_spare(conn: &Connection, file: &Retired) -> Result<bool> {
    Ok(redundancy::copies(conn, file.no)?.iter().any(|copy| copy.is_counted && copy.volume != file.volume))
}

fn forget(repository: &Repository, file: &Retired) -> Result<()> {
    Ok(retired::forget(repository.catalog.conn(), file).map_err(EngineError::from)?)
}
