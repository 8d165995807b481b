//! What surrounds the blocks on a volume: its label, its listing, its own index.

use super::report::ValidateReport;
use crate::catalog::places::BlockRow;
use crate::catalog::volumes::VolumeState;
use crate::engine::error::Result;
use crate::engine::repository::{Mounted, Repository};
use crate::format::layout;
use crate::model::ids::{BlockId, VolumeId};
use crate::volume::handle::{Volume, VolumeError};
use crate::volume::index::{IndexDb, IndexProblem};
use std::collections::{BTreeMap, HashMap};

/// What was found on one volume beside its blocks' bytes.
pub(super) struct VolumeFacts {
    pub volume: VolumeId,
    /// Block files and their lengths; none when they could not be listed.
    pub files: Option<BTreeMap<BlockId, u64>>,
    index: Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Index {
    Right,
    Wrong,
    /// A newer release's: left alone.
    Foreign,
}

impl VolumeFacts {
    /// Whether the index is to be made anew, and can be: never from a listing that failed.
    pub fn must_replace_index(&self) -> bool {
        self.index == Index::Wrong && self.files.is_some()
    }
}

/// Looks at labels, listings and indexes of all volumes that are here, and at the labels of those that are not.
pub(super) fn look_at(
    repository: &Repository,
    rows: &[BlockRow],
    report: &mut ValidateReport,
) -> Result<Vec<VolumeFacts>> {
    // What was given up is not waited for; blocks that nothing else holds are counted all the same.
    for row in repository.away.iter().filter(|row| row.state != VolumeState::Lost) {
        report.volumes_away.push(repository.volume_words(row.id));
        let opened = row.path.as_deref().map(Volume::open);
        if let Some(Err(error @ VolumeError::Label { .. })) = opened {
            report.label_problems.push(format!("volume {}: {error}", row.name));
        }
    }
    let known: HashMap<BlockId, &BlockRow> = rows.iter().map(|row| (row.id, row)).collect();
    let mut facts = Vec::new();
    for mounted in &repository.mounted {
        check_label(repository, mounted, report);
        let files = list_blocks(mounted, &known, report);
        let index = check_index(mounted, (rows, files.as_ref()), report);
        facts.push(VolumeFacts { volume: mounted.row.id, files, index });
    }
    Ok(facts)
}

/// Its name and parameters; that it decodes and has the right identity was seen when the volume was opened.
fn check_label(repository: &Repository, mounted: &Mounted, report: &mut ValidateReport) {
    let (label, settings) = (&mounted.volume.label, repository.settings());
    let name = &mounted.row.name;
    let checks = [
        ("volume", label.volume == mounted.row.uuid),
        ("repository", label.repository == settings.repository),
        ("name", label.name == *name),
        ("hash", label.hash == settings.hash),
        ("chunker", label.chunker == settings.chunker),
        ("block size", label.block_size == settings.block_size),
    ];
    for (what, is_right) in checks {
        if !is_right {
            report.label_problems.push(format!("volume {name}: the label's {what} is not what the catalog has"));
        }
    }
}

fn list_blocks(
    mounted: &Mounted,
    known: &HashMap<BlockId, &BlockRow>,
    report: &mut ValidateReport,
) -> Option<BTreeMap<BlockId, u64>> {
    let (mut files, mut others) = (BTreeMap::new(), 0_u64);
    let listed = mounted.store().list(layout::CHUNKS, &mut |key, len| match layout::parse_block_key(key) {
        Some(id) => {
            files.insert(id, len);
        }
        None => others += 1,
    });
    let name = &mounted.row.name;
    if let Err(error) = listed {
        report.listing_problems.push(format!("volume {name}: its blocks cannot be listed: {error}"));
        return None;
    }
    let is_held = |id: &BlockId| known.get(id).is_some_and(|row| row.volumes.contains(&mounted.row.id));
    let unknown = files.keys().filter(|id| !is_held(id)).count() as u64;
    if unknown > 0 {
        report.notes.push(format!("volume {name}: {unknown} block files that the catalog does not know there"));
    }
    if others > 0 {
        report.notes.push(format!("volume {name}: {others} files under chunks/ are no blocks"));
    }
    report.blocks_unknown += unknown;
    Some(files)
}

fn check_index(
    mounted: &Mounted,
    (rows, files): (&[BlockRow], Option<&BTreeMap<BlockId, u64>>),
    report: &mut ValidateReport,
) -> Index {
    let wrong = match IndexDb::load(&mounted.volume.root) {
        Ok(indexed) => {
            let indexed: BTreeMap<BlockId, u64> = indexed.into_iter().map(|block| (block.id, block.size)).collect();
            difference(mounted.row.id, &indexed, (rows, files))
        }
        Err(error @ IndexProblem::Newer { .. }) => {
            report.index_problems.push(format!("volume {}: {error}; it was left as it is", mounted.row.name));
            return Index::Foreign;
        }
        Err(error) => Some(error.to_string()),
    };
    match wrong {
        None => Index::Right,
        Some(what) => {
            report.index_problems.push(format!("volume {}: {what}", mounted.row.name));
            Index::Wrong
        }
    }
}

/// What an index gets wrong. It has to list the catalog's blocks of its volume. One whose file is gone may be listed
/// or not, and so may a file that the catalog does not know: neither is the index's fault.
fn difference(
    volume: VolumeId,
    indexed: &BTreeMap<BlockId, u64>,
    (rows, files): (&[BlockRow], Option<&BTreeMap<BlockId, u64>>),
) -> Option<String> {
    let here = |row: &&BlockRow| row.state != "gone" && row.volumes.contains(&volume);
    let expected: BTreeMap<BlockId, u64> = rows.iter().filter(here).map(|row| (row.id, row.size)).collect();
    let has_file = |id: &BlockId| files.is_none_or(|files| files.contains_key(id));
    let lacking = expected.keys().filter(|id| has_file(id) && !indexed.contains_key(id)).count();
    let wrong_size = expected.iter().filter(|(id, size)| indexed.get(id).is_some_and(|found| found != *size)).count();
    let is_stray = |id: &&BlockId| !expected.contains_key(id) && !files.is_some_and(|files| files.contains_key(id));
    let stray = indexed.keys().filter(is_stray).count();
    if lacking + wrong_size + stray == 0 {
        return None;
    }
    Some(format!(
        "the volume's index lacks {lacking} blocks, has {stray} that are not there, and {wrong_size} of another size"
    ))
}
