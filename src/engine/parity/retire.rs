//! Files that are not needed any more: parities of groups that others took the place of, and copies of blocks that a group
//! stands for. They are taken out of use by a commit and deleted after it; what a crash leaves is deleted by the next
//! writer.

use crate::catalog::parity::{self, Group, Member, MemberCopy};
use crate::catalog::retired::{self, Retired};
use crate::catalog::{CatalogError, redundancy};
use crate::engine::error::Result;
use crate::engine::observer::Observer;
use crate::engine::protect::Copied;
use crate::engine::protect::copy::{BlockFile, Found, look};
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

/// Retires the copies of blocks that a sound group stands for, but for the one that keeps it sound; where that one is here.
pub fn drop_extra_copies(repository: &mut Repository, policy: Redundancy) -> Result<()> {
    let Redundancy::Parity { parities, .. } = policy else { return Ok(()) };
    let here: BTreeSet<VolumeId> = repository.mounted.iter().map(|mounted| mounted.row.id).collect();
    let tx = repository.catalog.begin()?;
    let (mut extra, mut groups_of) = (Vec::new(), BTreeMap::<BlockNo, usize>::new());
    parity::for_each(&tx, &mut |group| {
        group.blocks().for_each(|member| *groups_of.entry(member.no).or_default() += 1);
        let Some(places) = group.places().filter(|_| group.parities >= parities) else { return Ok(()) };
        for member in group.blocks() {
            let Some(kept) = places.get(&member.position).filter(|volume| here.contains(volume)) else { continue };
            let others = member.copies.iter().filter(|copy| copy.is_counted && copy.volume != *kept);
            extra.extend(others.map(|copy| (member.no, copy.volume)));
        }
        Ok(())
    })?;
    // What is in several groups may be on another volume for each.
    for (block, volume) in extra.into_iter().filter(|(block, _)| groups_of.get(block) == Some(&1)) {
        retired::retire_copy(&tx, block, volume)?;
    }
    tx.commit().map_err(CatalogError::from)?;
    Ok(())
}

/// Deletes what was retired, on the volumes that are written, where what stands for it is seen to be here: of a block another
/// copy, read and hashed unless it is among `read`, of a parity the files that took its place. What cannot be seen waits; a
/// copy that proves to be the last one is kept. A volume that fails is tried again another time.
pub fn delete_retired(repository: &Repository, read: &BTreeSet<BlockNo>, observer: &dyn Observer) -> Result<Copied> {
    let conn = repository.catalog.conn();
    let (mut copied, mut failed) = (Copied::default(), BTreeSet::<VolumeId>::new());
    for file in retired::all(conn)? {
        let Some(mounted) = repository.volume(file.volume).filter(|mounted| mounted.is_locked_for_writing()) else {
            continue;
        };
        if failed.contains(&file.volume) || observer.is_cancelled() {
            continue;
        }
        let is_replaced =
            if file.is_parity { stands_without(repository, file.no)? } else { is_elsewhere(repository, &file, read)? };
        if !is_replaced {
            continue;
        }
        let deleted = mounted.store().delete(&layout::block_key(&file.id));
        match deleted {
            Ok(()) | Err(StoreError::NotFound { .. }) => {
                // Its sidecar says nothing of any file any more.
                let _ = mounted.store().delete(&layout::sidecar_key(&file.id));
                retired::forget(conn, &file)?;
                copied.removed.entry(file.volume).or_default().push(file.id);
                if deleted.is_ok() {
                    copied.files_removed += 1;
                    copied.removed_bytes += file.size;
                }
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

/// Whether another copy of the block is here. Where the catalog knows of none any more, this one is to be kept.
fn is_elsewhere(repository: &Repository, file: &Retired, read: &BTreeSet<BlockNo>) -> Result<bool> {
    let conn = repository.catalog.conn();
    let copies = redundancy::copies(conn, file.no)?;
    let mut others = copies.iter().filter(|copy| copy.is_counted && copy.volume != file.volume).peekable();
    if others.peek().is_none() {
        retired::keep(conn, file)?;
        return Ok(false);
    }
    let block = BlockFile { id: file.id, size: file.size, algo: repository.settings().hash };
    for copy in others {
        let Some(mounted) = repository.volume(copy.volume) else { continue };
        if read.contains(&file.no) || matches!(look(mounted.store().as_ref(), &block), Ok(Found::Sound)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether everything that a parity is of would do without it: each block has copies enough that are here, or is in another
/// group all of which is.
fn stands_without(repository: &Repository, parity: BlockNo) -> Result<bool> {
    let conn = repository.catalog.conn();
    let policy = repository.settings().redundancy;
    let is_here = |member: &Member, copy: &MemberCopy| {
        let store = repository.volume(copy.volume).map(|mounted| mounted.store());
        let found = store.map(|store| store.head(&layout::block_key(&member.id)));
        copy.is_counted && matches!(found, Some(Ok(Some(size))) if size == member.size)
    };
    for group in parity::of_block_to_read(conn, parity)? {
        for block in group.blocks().filter(|member| member.is_needed) {
            let copies = block.copies.iter().filter(|copy| is_here(block, copy)).count();
            let others = parity::of_block(conn, block.no)?;
            let will_do = |other: &&Group| other.is_sound() && u32::from(other.parities) >= policy.tolerance();
            let mut whole = others.iter().filter(|other| other.no != group.no).filter(will_do);
            let stands = copies >= policy.copies() as usize
                || whole.any(|other| {
                    let mut members = other.members.iter();
                    members.all(|member| member.copies.iter().any(|copy| is_here(member, copy)))
                });
            if !stands {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
