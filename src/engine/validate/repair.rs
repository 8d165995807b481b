//! `validate --repair`: a damaged copy is written anew from what `heal` finds, and what was damaged is set
//! aside under `quarantine/`. It stays there until a later check finds nothing wrong.
//!
//! Nothing is taken out of its place before the right bytes, hashed, were written to the same volume in full.

use super::block_check::Damage;
use super::heal::{HealedBy, Patient};
use super::record::Outcomes;
use super::report::ValidateReport;
use crate::catalog::places::BlockRow;
use crate::engine::error::Result;
use crate::engine::observer::Observer;
use crate::engine::protect::copy::{BlockFile, Present};
use crate::engine::repository::{Mounted, Repository};
use crate::format::layout;
use crate::model::ids::{BlockNo, VolumeId};
use crate::volume::store::StoreError;
use std::collections::{BTreeMap, HashMap};

/// Copies that a volume may refuse one after the other before it is left alone.
const FAILURES_MAX: u32 = 3;

/// Copies that were healed, each with what gave the bytes.
pub(super) type Healed = BTreeMap<(BlockNo, VolumeId), HealedBy>;

/// Heals what can be healed; a copy that was is no longer among the damaged ones. The volumes are locked.
pub(super) fn repair(
    repository: &Repository,
    (rows, outcomes): (&[BlockRow], &mut Outcomes),
    report: &mut ValidateReport,
    observer: &dyn Observer,
) -> Result<Healed> {
    let rows: HashMap<BlockNo, &BlockRow> = rows.iter().map(|row| (row.no, row)).collect();
    let damaged: Vec<((BlockNo, VolumeId), Damage)> =
        outcomes.damaged.iter().map(|(copy, damage)| (*copy, damage.clone())).collect();
    let (mut healed, mut failures) = (Healed::new(), HashMap::<VolumeId, u32>::new());
    for ((no, volume), damage) in damaged.into_iter().filter(|(_, damage)| *damage != Damage::GivenUp) {
        if observer.is_cancelled() {
            break;
        }
        let (Some(row), Some(to)) = (rows.get(&no), repository.volume(volume)) else { continue };
        let failed = failures.entry(volume).or_default();
        if *failed >= FAILURES_MAX {
            continue;
        }
        if !to.is_locked_for_writing() {
            note_once(report, format!("volume {} cannot be written, so nothing is healed there", to.row.name));
            continue;
        }
        let from = row.volumes.iter().filter(|from| **from != volume && !outcomes.is_damaged((no, **from)));
        let from: Vec<&Mounted> = from.filter_map(|from| repository.volume(*from)).collect();
        let block = BlockFile { id: row.id, size: row.size, algo: repository.settings().hash };
        let present = if damage == Damage::Missing { Present::Replaced } else { Present::SetAside };
        let patient = Patient { repository, row, block, to, present };
        match patient.heal(&from, report, observer)? {
            Ok(Some(from)) => {
                *failed = 0;
                outcomes.damaged.remove(&(no, volume));
                outcomes.verified.insert((no, volume), row.id);
                outcomes.sound_again.insert(no);
                healed.insert((no, volume), from);
            }
            Ok(None) => {}
            Err(error @ StoreError::NoSpace { .. }) => {
                // The disk is not to blame, and may have room for a shorter block.
                let (id, name) = (row.id, &to.row.name);
                report.notes.push(format!("block {id} on volume {name} cannot be healed: {error}"));
                let next = "free some space on that disk, then repeat `raidtape validate --repair`";
                note_once(report, format!("volume {name} has no room for what is to be healed there: {next}"));
            }
            Err(error) => {
                *failed += 1;
                let name = &to.row.name;
                report.notes.push(format!("block {} on volume {name} cannot be healed: {error}", row.id));
                if *failed == FAILURES_MAX {
                    report.notes.push(format!("volume {name} keeps failing and is left as it is; replace that disk"));
                }
            }
        }
    }
    Ok(healed)
}

fn note_once(report: &mut ValidateReport, note: String) {
    if !report.notes.contains(&note) {
        report.notes.push(note);
    }
}

/// Removes what earlier repairs set aside; for after a check that found everything sound.
pub(super) fn empty_quarantine(repository: &Repository, report: &mut ValidateReport) {
    for mounted in repository.writable() {
        let name = &mounted.row.name;
        let mut keys = Vec::new();
        let listed = mounted.store().list(layout::QUARANTINE, &mut |key, _| keys.push(key.to_owned()));
        let removed = listed.and_then(|()| keys.iter().try_for_each(|key| mounted.store().delete(key)));
        match removed {
            Ok(()) if keys.is_empty() => {}
            Ok(()) => report.notes.push(format!(
                "volume {name}: {} that an earlier repair set aside removed",
                if keys.len() == 1 { "1 block".to_owned() } else { format!("{} blocks", keys.len()) }
            )),
            Err(error) => report.notes.push(format!("volume {name}: quarantine/ cannot be emptied: {error}")),
        }
    }
}
