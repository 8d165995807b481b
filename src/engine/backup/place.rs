//! Which volume a directory's chunks go to: the one it went to before; else the one being filled, and after a block's
//! worth the one with the most room. So a directory stays together, a small run uses one volume, a large one all.
//!
//! Under parity as many volumes as a group has positions are filled side by side, so that their blocks, about as long as
//! each other, make groups, and as many others have the room for the parities. A directory stays together for a segment.

use super::lanes::Lanes;
use super::writer::LaneVolume;
use crate::model::ids::VolumeId;
use crate::model::limits::SEGMENT_RAW_MAX;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Directories whose lane is remembered within a run at most.
const REMEMBERED_MAX: usize = 50_000;

/// Bytes that stay on one lane under parity: a segment, so that lanes hardly differ in the end.
const PARITY_STRETCH_LEN: u64 = SEGMENT_RAW_MAX as u64;

/// Places directories on lanes.
pub struct Placement {
    lanes: Arc<Lanes>,
    volumes: Vec<VolumeId>,
    /// Bytes that each lane could still take when the run began, less what was given to it.
    room: Vec<i128>,
    /// Lanes that new directories go to at most.
    active_max: usize,
    stretch_len: u64,
    filling: Option<(usize, u64)>,
    chosen: HashMap<Arc<[u8]>, usize>,
    /// Under parity: the lanes that are filled, with what was given to each.
    side_by_side: Option<Vec<(usize, u64)>>,
}

impl Placement {
    /// For these lanes with so much room each; new directories go to at most `active_max` of them, and stay on one for
    /// `stretch_len` bytes.
    pub fn new(lanes: Arc<Lanes>, volumes: &[(LaneVolume, u64)], (active_max, stretch_len): (usize, u64)) -> Self {
        Self {
            lanes,
            volumes: volumes.iter().map(|(volume, _)| volume.id).collect(),
            room: volumes.iter().map(|(_, room)| i128::from(*room)).collect(),
            active_max: active_max.max(1),
            stretch_len,
            filling: None,
            chosen: HashMap::new(),
            side_by_side: None,
        }
    }

    /// Fills `positions` lanes side by side, or as many as leave `parities` others; first those of volumes on which the group that
    /// is to be filled next has nothing.
    pub fn with_parity(mut self, (positions, parities): (u8, u8), held: &BTreeSet<VolumeId>) -> Self {
        let mut lanes: Vec<usize> = (0..self.volumes.len()).filter(|lane| self.lanes.is_open(*lane)).collect();
        let beside = lanes.len().saturating_sub(parities.into()).max(1);
        lanes.sort_by_key(|lane| (held.contains(&self.volumes[*lane]), std::cmp::Reverse(self.room[*lane]), *lane));
        lanes.truncate(beside.min(positions.into()));
        self.side_by_side = Some(lanes.into_iter().map(|lane| (lane, 0)).collect());
        self.stretch_len = PARITY_STRETCH_LEN;
        self
    }

    /// How many lanes there are.
    pub fn lane_count(&self) -> usize {
        self.volumes.len()
    }

    /// The volume of a lane.
    pub fn volume_of(&self, lane: usize) -> VolumeId {
        self.volumes[lane]
    }

    /// The lane for `len` bytes of a directory, and whether that is news.
    pub fn lane_for(&mut self, dir: &Arc<[u8]>, affinity: Option<VolumeId>, len: u64) -> (usize, bool) {
        if self.side_by_side.is_some() {
            return (self.lane_for_any(len), false);
        }
        if let Some(lane) = self.chosen.get(dir).copied().filter(|lane| self.lanes.is_open(*lane)) {
            self.charge(lane, len);
            return (lane, false);
        }
        let before = affinity.and_then(|volume| self.volumes.iter().position(|known| *known == volume));
        let lane = match before.filter(|lane| self.lanes.is_open(*lane)) {
            Some(lane) => lane,
            None => self.fill(),
        };
        if self.chosen.len() >= REMEMBERED_MAX {
            self.chosen.clear();
        }
        self.chosen.insert(Arc::clone(dir), lane);
        self.charge(lane, len);
        (lane, before != Some(lane))
    }

    /// The lane for `len` bytes of no directory.
    pub fn lane_for_any(&mut self, len: u64) -> usize {
        let lane = self.fill();
        self.charge(lane, len);
        lane
    }

    fn charge(&mut self, lane: usize, len: u64) {
        self.room[lane] -= i128::from(len);
        if let Some((filling, left)) = &mut self.filling
            && *filling == lane
        {
            *left = left.saturating_sub(len);
        }
        if let Some((_, given)) = self.side_by_side.iter_mut().flatten().find(|(beside, _)| *beside == lane) {
            *given += len;
        }
    }

    /// Under parity: of the lanes that are filled side by side the one that got least. For one that is sealed another one
    /// comes.
    fn least_filled(&mut self) -> Option<usize> {
        let beside = self.side_by_side.as_mut()?;
        for at in 0..beside.len() {
            if self.lanes.is_open(beside[at].0) {
                continue;
            }
            let others = (0..self.volumes.len()).filter(|lane| self.lanes.is_open(*lane));
            let free = others.filter(|lane| !beside.iter().any(|(known, _)| known == lane));
            if let Some(other) = free.max_by_key(|lane| (self.room[*lane], std::cmp::Reverse(*lane))) {
                beside[at].0 = other;
            }
        }
        let open = beside.iter().filter(|(lane, _)| self.lanes.is_open(*lane));
        // In their order, where several got as little.
        open.min_by_key(|(_, given)| *given).map(|(lane, _)| *lane)
    }

    fn fill(&mut self) -> usize {
        if let Some((lane, left)) = self.filling
            && left > 0
            && self.lanes.is_open(lane)
        {
            return lane;
        }
        if let Some(lane) = self.least_filled() {
            self.filling = Some((lane, self.stretch_len));
            return lane;
        }
        let mut order: Vec<usize> = (0..self.volumes.len()).filter(|lane| self.lanes.is_open(*lane)).collect();
        order.truncate(self.active_max);
        // All sealed: any lane will do, the queues say that there is no room.
        let lane = order.into_iter().max_by_key(|lane| (self.room[*lane], std::cmp::Reverse(*lane))).unwrap_or(0);
        self.filling = Some((lane, self.stretch_len));
        lane
    }
}
