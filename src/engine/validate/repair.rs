//! `validate --repair`: a damaged copy is written anew from a sound one on another volume, or from its parity group, and what was damaged is set
//! aside under `quarantine/`. It stays there until a later check finds nothing wrong.
//!
//! Nothing is taken out of its place before the right bytes, hashed, were written to the same volume in full.

use super::block_check::Damage;
use super::record::Outcomes;
use super::report::ValidateReport;
use crate::catalog::places::BlockRow;
use crate::engine::error::Result;
use crate::engine::observer::Observer;
use crate::engine::parity::encode::{Out, Trouble};
use crate::engine::parity::source::GroupSource;
use crate::engine::protect::copy::{BlockFile, CopyFailure, Present, Unread, copy_block, copy_object};
use crate::engine::repository::{Mounted, Repository};
use crate::format::layout;
use crate::model::ids::{BlockNo, VolumeId};
use crate::volume::store::StoreError;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Copies that a volume may refuse one after the other before it is left alone.
const FAILURES_MAX: u32 = 3;

/// Copies that were healed, each with the volume that gave the bytes; none where the parity group did.
pub(super) type Healed = BTreeMap<(BlockNo, VolumeId), Option<VolumeId>>;

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
        let is_missing = damage == Damage::Missing;
        let healed_by = match heal((&from, to), (&block, is_missing), report, observer) {
            Ok(None) => heal_by_group(repository, (row, to), (&block, is_missing), observer)?,
            done => done.map(|from| from.map(Some)),
        };
        match healed_by {
            Ok(Some(from)) => {
                *failed = 0;
                outcomes.damaged.remove(&(no, volume));
                outcomes.verified.insert((no, volume), row.id);
                healed.insert((no, volume), from);
            }
            Ok(None) => {}
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

/// Tries one copy after the other; the volume that gave the bytes, if one could.
fn heal(
    (from, to): (&[&Mounted], &Mounted),
    (block, is_missing): (&BlockFile, bool),
    report: &mut ValidateReport,
    observer: &dyn Observer,
) -> std::result::Result<Option<VolumeId>, StoreError> {
    let present = if is_missing { Present::Replaced } else { Present::SetAside };
    for source in from {
        let stores = (source.store().as_ref(), to.store().as_ref());
        match copy_block(stores, block, present, observer) {
            Ok(()) => return Ok(Some(source.row.id)),
            Err(CopyFailure::To(error)) => return Err(error),
            Err(CopyFailure::Stopped) => return Ok(None),
            Err(CopyFailure::From(what)) => {
                let name = &source.row.name;
                report.notes.push(format!("block {} on volume {name} cannot heal another copy: {what}", block.id));
            }
        }
    }
    Ok(None)
}

/// Writes the copy anew from the other files of its parity group; `Some(None)` when that could be done.
#[expect(clippy::type_complexity, reason = "the store's failure is counted, the catalog's ends the check")]
fn heal_by_group(
    repository: &Repository,
    (row, to): (&BlockRow, &Mounted),
    (block, is_missing): (&BlockFile, bool),
    observer: &dyn Observer,
) -> Result<std::result::Result<Option<Option<VolumeId>>, StoreError>> {
    let settings = repository.settings();
    let store_of = |id| repository.volume(id).map(|mounted| Arc::clone(mounted.store()));
    let known = (settings.repository, settings.hash);
    let conn = repository.catalog.conn();
    let Some(group) = GroupSource::find_with_identity(conn, (row.no, row.id), known, &store_of)? else {
        return Ok(Ok(None));
    };
    let present = if is_missing { Present::Replaced } else { Present::SetAside };
    if row.is_parity {
        let (volume, store) = (to.row.id, Arc::clone(to.store()));
        return Ok(
            match group.make_parity(Out { index: 0, volume, store, again: Some((row.id, present)) }, observer) {
                Ok(()) => Ok(Some(None)),
                Err(Trouble::Out(_, error)) => Err(error),
                Err(_) => Ok(None),
            },
        );
    }
    let Some(recovered) = group.open() else { return Ok(Ok(None)) };
    let unread = |error: StoreError| CopyFailure::From(Unread::Unreadable(error.to_string()));
    Ok(match copy_object((&recovered, &unread), to.store().as_ref(), (block, present), observer) {
        Ok(()) => Ok(Some(None)),
        Err(CopyFailure::To(error)) => Err(error),
        Err(CopyFailure::Stopped | CopyFailure::From(_)) => Ok(None),
    })
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
