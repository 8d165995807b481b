//! The volumes that are here, with what each may still take.

use crate::engine::backup::is_full;
use crate::engine::repository::Repository;
use crate::model::ids::VolumeId;
use crate::volume::store::Store;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// A volume that is here.
#[derive(Clone)]
pub struct Place {
    /// Which.
    pub id: VolumeId,
    /// Its objects.
    pub store: Arc<dyn Store>,
    /// The device that it is on.
    pub device: Option<u64>,
    /// Bytes that it may still take; 0 where nothing is to be written.
    pub room: u64,
}

/// Volumes that do not say how much room they have, and why.
pub type Silent = Vec<(VolumeId, String)>;

/// All that are here, with the room that they have now; none where nothing is to be written, nor in `avoid`.
pub fn places(repository: &Repository, avoid: &BTreeSet<VolumeId>) -> (Vec<Place>, Silent) {
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
    (places, silent)
}
