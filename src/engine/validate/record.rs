//! Keeping what was found: verify times, blocks that turned bad or sound, and each volume's own index.

use super::block_check::Damage;
use super::volumes::VolumeFacts;
use crate::catalog::blocks;
use crate::catalog::places::BlockRow;
use crate::engine::Observer;
use crate::engine::error::Result;
use crate::engine::repository::Repository;
use crate::model::ids::{BlockId, BlockNo, VolumeId};
use crate::volume::index::{IndexDb, IndexedBlock};
use std::collections::{BTreeMap, BTreeSet};

/// What came of the copies that were looked at.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// Copies whose bytes were read and found sound, with their block's name.
    pub verified: BTreeMap<(BlockNo, VolumeId), BlockId>,
    /// Blocks that were bad and of which a copy was found sound in full.
    pub sound_again: BTreeSet<BlockNo>,
    /// Blocks of which every copy is damaged and that their parity groups give back.
    pub given_back: BTreeSet<BlockNo>,
    /// The same of which only part of the group is here.
    pub awaited: BTreeSet<BlockNo>,
    /// Damaged copies.
    pub damaged: BTreeMap<(BlockNo, VolumeId), Damage>,
}

impl Outcomes {
    pub fn is_damaged(&self, copy: (BlockNo, VolumeId)) -> bool {
        self.damaged.contains_key(&copy)
    }
}

/// Writes the outcomes into the catalog, in one transaction. A block is bad when every copy of it is known to be
/// damaged, and no parity gives it back; then the files that use it are read again by their next backup.
pub(super) fn record(repository: &mut Repository, rows: &[BlockRow], outcomes: &Outcomes, now_ns: i64) -> Result<()> {
    let tx = repository.catalog.begin()?;
    for (block, volume) in outcomes.verified.keys() {
        blocks::set_verified(&tx, *block, (*volume, now_ns))?;
        blocks::set_copy_state(&tx, *block, (*volume, "ok"))?;
    }
    for block in &outcomes.sound_again {
        blocks::mark_sound(&tx, *block)?;
    }
    for block in &outcomes.given_back {
        blocks::mark_sound(&tx, *block)?;
    }
    let hit: BTreeSet<BlockNo> = outcomes.damaged.keys().map(|(block, _)| *block).collect();
    for row in rows.iter().filter(|row| hit.contains(&row.no)) {
        // A parity can be made anew, a block that a group gives back too.
        let is_spared = row.is_parity || outcomes.given_back.contains(&row.no) || outcomes.awaited.contains(&row.no);
        if !is_spared && row.volumes.iter().all(|volume| outcomes.is_damaged((row.no, *volume))) {
            blocks::mark_bad(&tx, row.no)?;
        }
        for volume in &row.volumes {
            let state = match outcomes.damaged.get(&(row.no, *volume)) {
                None | Some(Damage::GivenUp) => continue,
                Some(Damage::Missing) => "missing",
                Some(_) => "bad",
            };
            blocks::set_copy_state(&tx, row.no, (*volume, state))?;
        }
    }
    tx.commit().map_err(crate::catalog::CatalogError::from)?;
    Ok(())
}

/// Brings the volumes' own indexes up to date, where this process may write. They are caches: what goes wrong is a
/// note.
pub(super) fn update_indexes(
    repository: &mut Repository,
    (facts, rows): (&[VolumeFacts], &[BlockRow]),
    (outcomes, now_ns): (&Outcomes, i64),
    observer: &dyn Observer,
) -> Vec<String> {
    let is_wanted = |facts: &VolumeFacts| {
        facts.must_replace_index() || outcomes.verified.keys().any(|(_, volume)| *volume == facts.volume)
    };
    let mut notes = Vec::new();
    if !facts.iter().any(is_wanted) {
        return notes;
    }
    if let Err(error) = repository.lock_volumes(observer) {
        notes.push(format!("the indexes of the volumes were not brought up to date: {error}"));
    }
    for mounted in repository.writable() {
        let Some(facts) = facts.iter().find(|facts| facts.volume == mounted.row.id && is_wanted(facts)) else {
            continue;
        };
        let verified = outcomes.verified.iter().filter(|((_, volume), _)| *volume == facts.volume);
        let verified: Vec<(BlockId, i64)> = verified.map(|(_, id)| (*id, now_ns)).collect();
        let root = &mounted.volume.root;
        let (written, done) = if facts.must_replace_index() {
            (IndexDb::replace(root, &index_rows(facts, rows, &verified)), "it was made anew from the blocks")
        } else {
            (IndexDb::update(root, &[], &[], &verified), "")
        };
        match written {
            Ok(()) if done.is_empty() => {}
            Ok(()) => notes.push(format!("volume {}: index.db: {done}", mounted.row.name)),
            Err(error) => notes.push(format!("volume {}: index.db was not written: {error}", mounted.row.name)),
        }
    }
    notes
}

/// What a right index holds: the block files that are there, each with the time that the catalog has for it.
fn index_rows(facts: &VolumeFacts, rows: &[BlockRow], verified: &[(BlockId, i64)]) -> Vec<IndexedBlock> {
    let mut times: BTreeMap<BlockId, i64> =
        rows.iter().filter_map(|row| row.verified_ns.map(|at_ns| (row.id, at_ns))).collect();
    times.extend(verified.iter().copied());
    let files = facts.files.iter().flatten();
    files.map(|(id, size)| IndexedBlock { id: *id, size: *size, verified_ns: times.get(id).copied() }).collect()
}
