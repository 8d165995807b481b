//! Where further copies go: to volumes that lack the block, on another device than its other copies where there is one,
//! the one with the most room first. A member of a parity group goes where no other one of it is.

use super::copy::BlockFile;
use super::places::{Place, places};
use crate::catalog::CatalogError;
use crate::catalog::parity;
use crate::catalog::redundancy::{Want, WantingBlock};
use crate::engine::parity::source::GroupSource;
use crate::engine::repository::Repository;
use crate::model::ids::{BlockNo, VolumeId};
use crate::volume::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One copy to make.
pub struct CopyJob {
    /// The block.
    pub no: BlockNo,
    /// The block.
    pub block: BlockFile,
    /// It is a parity.
    pub is_parity: bool,
    /// Where it can be read, in the order in which that is tried.
    pub from: Vec<(VolumeId, Arc<dyn Store>)>,
    /// What gives it back where it cannot.
    pub group: Option<Arc<GroupSource>>,
}

/// Chooses targets.
pub struct Plan<'r> {
    repository: &'r Repository,
    places: Vec<Place>,
    /// The one that is filled before others.
    onto: Option<VolumeId>,
    /// Volumes that do not say how much room they have, and why.
    pub silent: Vec<(VolumeId, String)>,
    /// Volumes that got a copy although another one on their device has one.
    pub beside: BTreeSet<(VolumeId, VolumeId)>,
}

impl<'r> Plan<'r> {
    /// With the room that volumes have now; nothing goes to those in `avoid`.
    pub fn new(repository: &'r Repository, avoid: &BTreeSet<VolumeId>, onto: Option<VolumeId>) -> Self {
        let (places, silent) = places(repository, avoid);
        Self { repository, places, onto, silent, beside: BTreeSet::new() }
    }

    /// The copies that a block is to get, by volume; fewer than it wants where there are too few volumes. None where no
    /// copy of it is here, and no group that gives it back.
    pub fn put(
        &mut self,
        block: &WantingBlock,
        (want, file): (&Want, BlockFile),
        jobs: &mut BTreeMap<VolumeId, Vec<CopyJob>>,
    ) -> Result<(), CatalogError> {
        let counted: Vec<VolumeId> = block
            .copies
            .iter()
            .filter(|copy| copy.is_counted && !want.leaving.contains(&copy.volume))
            .map(|copy| copy.volume)
            .collect();
        let is_readable = |id: VolumeId| block.copies.iter().any(|copy| copy.volume == id && copy.is_sound);
        let readable = self.places.iter().filter(|place| is_readable(place.id));
        let from: Vec<_> = readable.map(|place| (place.id, Arc::clone(&place.store))).collect();
        let conn = self.repository.catalog.conn();
        let groups = parity::of_block(conn, block.no)?;
        let settings = self.repository.settings();
        let store_of = |id| self.repository.volume(id).map(|mounted| Arc::clone(mounted.store()));
        let known = (settings.repository, settings.hash);
        let source = GroupSource::find_with_identity(conn, (block.no, block.id), known, &store_of)?.map(Arc::new);
        if from.is_empty() && source.is_none() {
            return Ok(());
        }
        let of_group: BTreeSet<VolumeId> = groups
            .iter()
            .flat_map(|group| group.members.iter().filter(|member| member.no != block.no))
            .flat_map(|member| member.copies.iter().filter(|copy| copy.is_counted).map(|copy| copy.volume))
            .collect();
        let missing = (block.wanted as usize).saturating_sub(counted.len());
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
            // A parity beside a member of its group is of no use; a block is better there than nowhere.
            let free = free.filter(|(_, place)| !block.is_parity || !of_group.contains(&place.id));
            let chosen = free.max_by_key(|(at, place)| {
                let is_apart = !of_group.contains(&place.id);
                (is_apart, beside(place).is_none(), Some(place.id) == self.onto, place.room, std::cmp::Reverse(*at))
            });
            let Some((at, place)) = chosen else { break };
            if let Some((_, other)) = beside(place) {
                self.beside.insert((place.id.min(*other), place.id.max(*other)));
            }
            held.push(place.id);
            jobs.entry(place.id).or_default().push(CopyJob {
                no: block.no,
                block: file,
                is_parity: block.is_parity,
                from: from.clone(),
                group: source.clone(),
            });
            self.places[at].room -= block.size;
        }
        Ok(())
    }
}
