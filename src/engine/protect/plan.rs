//! Where further copies go: to volumes that lack the block, on another device than its other copies where there is one,
//! the one with the most room first.

use super::copy::BlockFile;
use crate::catalog::redundancy::{Want, WantingBlock};
use crate::engine::backup::is_full;
use crate::engine::repository::Repository;
use crate::model::ids::{BlockNo, VolumeId};
use crate::volume::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// A volume that is here.
struct Place {
    id: VolumeId,
    store: Arc<dyn Store>,
    device: Option<u64>,
    /// Bytes that it may still take; 0 where nothing is to be written.
    room: u64,
}

/// One copy to make.
pub struct CopyJob {
    /// The block.
    pub no: BlockNo,
    /// The block.
    pub block: BlockFile,
    /// Where it can be read, in the order in which that is tried.
    pub from: Vec<(VolumeId, Arc<dyn Store>)>,
}

/// Chooses targets.
pub struct Plan {
    places: Vec<Place>,
    /// The one that is filled before others.
    onto: Option<VolumeId>,
    /// Volumes that do not say how much room they have, and why.
    pub silent: Vec<(VolumeId, String)>,
    /// Volumes that got a copy although another one on their device has one.
    pub beside: BTreeSet<(VolumeId, VolumeId)>,
}

impl Plan {
    /// With the room that volumes have now; nothing goes to those in `avoid`.
    pub fn new(repository: &Repository, avoid: &BTreeSet<VolumeId>, onto: Option<VolumeId>) -> Self {
        let block_size = repository.settings().block_size;
        let (mut places, mut silent) = (Vec::new(), Vec::new());
        for mounted in &repository.mounted {
            let row = &mounted.row;
            let takes = mounted.is_locked_for_writing() && !avoid.contains(&row.id);
            let room = if takes { mounted.volume.space_for_data(row.reserve) } else { Ok(0) };
            let room = room.unwrap_or_else(|error| {
                silent.push((row.id, error.to_string()));
                0
            });
            places.push(Place {
                id: row.id,
                store: Arc::clone(mounted.store()),
                device: std::fs::metadata(&mounted.volume.root).ok().map(|found| found.dev()),
                room: if takes && !is_full(row.state, room, block_size) { room } else { 0 },
            });
        }
        Self { places, onto, silent, beside: BTreeSet::new() }
    }

    /// The copies that a block is to get, by volume; fewer than it wants where there are too few volumes. None where no
    /// copy of it is here.
    pub fn put(
        &mut self,
        block: &WantingBlock,
        (want, file): (&Want, BlockFile),
        jobs: &mut BTreeMap<VolumeId, Vec<CopyJob>>,
    ) {
        let counted: Vec<VolumeId> = block
            .copies
            .iter()
            .filter(|copy| copy.is_counted && !want.leaving.contains(&copy.volume))
            .map(|copy| copy.volume)
            .collect();
        let is_readable = |id: VolumeId| block.copies.iter().any(|copy| copy.volume == id && copy.is_sound);
        let readable = self.places.iter().filter(|place| is_readable(place.id));
        let from: Vec<_> = readable.map(|place| (place.id, Arc::clone(&place.store))).collect();
        if from.is_empty() {
            return;
        }
        let missing = (want.copies as usize).saturating_sub(counted.len());
        let mut held = counted;
        for _ in 0..missing {
            let devices: Vec<(u64, VolumeId)> = self
                .places
                .iter()
                .filter(|place| held.contains(&place.id))
                .filter_map(|place| Some((place.device?, place.id)))
                .collect();
            let beside = |place: &Place| devices.iter().find(|(device, _)| Some(*device) == place.device);
            // What is damaged there is for a repair.
            let is_taken = |id: VolumeId| {
                held.contains(&id)
                    || block.copies.iter().any(|copy| copy.volume == id && (copy.is_bad || copy.is_sound))
            };
            let free = self.places.iter().enumerate();
            let free = free.filter(|(_, place)| place.room >= block.size && !is_taken(place.id));
            let chosen = free.max_by_key(|(at, place)| {
                (beside(place).is_none(), Some(place.id) == self.onto, place.room, std::cmp::Reverse(*at))
            });
            let Some((at, place)) = chosen else { return };
            if let Some((_, other)) = beside(place) {
                self.beside.insert((place.id.min(*other), place.id.max(*other)));
            }
            held.push(place.id);
            jobs.entry(place.id).or_default().push(CopyJob { no: block.no, block: file, from: from.clone() });
            self.places[at].room -= block.size;
        }
    }
}
