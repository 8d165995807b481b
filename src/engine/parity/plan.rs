//! Which blocks make a group, and where its parities go. Members lie on different volumes and are about as long as each
//! other; parities go to further volumes, the ones with the most room. What does not make a full group fills one that is
//! open, or makes a short one; a block alone is left to plain copies.

use super::encode::file_len_max;
use crate::catalog::parity::{Group, Ungrouped};
use crate::engine::protect::places::Place;
use crate::model::ids::VolumeId;
use std::collections::{BTreeMap, BTreeSet};

/// Members are at most so many times as long as each other.
const SIZE_RATIO_MAX: u64 = 2;

/// A group to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPlan {
    /// Position, block by its place among the candidates, and the volume on which it is to stay.
    pub members: Vec<(u8, usize, VolumeId)>,
    /// The group that they come to, by its place among the open ones.
    pub base: Option<usize>,
    /// Volumes of the parities, by index.
    pub outs: Vec<VolumeId>,
}

/// Chooses groups.
pub struct Planner<'a> {
    candidates: &'a [Ungrouped],
    open: &'a [Group],
    places: Vec<Place>,
    positions: usize,
    parities: usize,
    /// Candidates by volume, the longest first.
    queues: BTreeMap<VolumeId, Vec<usize>>,
    taken: Vec<bool>,
    filled: BTreeSet<usize>,
    /// Volumes of one group that are on one device.
    beside: BTreeSet<(VolumeId, VolumeId)>,
}

impl<'a> Planner<'a> {
    /// For blocks that are in no group, and groups that have free positions.
    pub fn new(
        (candidates, open): (&'a [Ungrouped], &'a [Group]),
        places: Vec<Place>,
        (positions, parities): (u8, u8),
    ) -> Self {
        let mut queues: BTreeMap<VolumeId, Vec<usize>> = places.iter().map(|place| (place.id, Vec::new())).collect();
        for (at, block) in candidates.iter().enumerate() {
            for volume in &block.volumes {
                if let Some(queue) = queues.get_mut(volume) {
                    queue.push(at);
                }
            }
        }
        for queue in queues.values_mut() {
            queue.sort_by_key(|at| (candidates[*at].size, std::cmp::Reverse(*at)));
        }
        Self {
            candidates,
            open,
            places,
            positions: positions.into(),
            parities: parities.into(),
            queues,
            taken: vec![false; candidates.len()],
            filled: BTreeSet::new(),
            beside: BTreeSet::new(),
        }
    }

    /// Groups for the blocks that `leads` says need one; others come in where they fit. Beside them, volumes that are in
    /// one group although they are on one device.
    pub fn plan(mut self, leads: &dyn Fn(&Ungrouped) -> bool) -> (Vec<GroupPlan>, BTreeSet<(VolumeId, VolumeId)>) {
        let mut leaders: Vec<usize> = (0..self.candidates.len()).filter(|at| leads(&self.candidates[*at])).collect();
        leaders.sort_by_key(|at| (std::cmp::Reverse(self.candidates[*at].size), *at));
        let mut plans = Vec::new();
        for leader in leaders {
            if self.taken[leader] {
                continue;
            }
            let Some(members) = self.gather(leader) else { continue };
            let plan = if members.len() < self.positions {
                self.fill(&members).or_else(|| self.found(&members))
            } else {
                self.found(&members)
            };
            if let Some(plan) = plan {
                plan.members.iter().for_each(|(_, at, _)| self.taken[*at] = true);
                self.note_beside(&plan);
                plans.push(plan);
            }
        }
        (plans, self.beside)
    }

    fn note_beside(&mut self, plan: &GroupPlan) {
        let volumes: Vec<VolumeId> =
            plan.members.iter().map(|(_, _, volume)| *volume).chain(plan.outs.iter().copied()).collect();
        for (at, one) in volumes.iter().enumerate() {
            let rest: BTreeSet<VolumeId> = volumes[at + 1..].iter().copied().collect();
            for other in rest {
                if !self.is_apart(*one, &[other].into()) {
                    self.beside.insert((*one.min(&other), *one.max(&other)));
                }
            }
        }
    }

    /// The leader with others, as many as there are positions and room for parities beside them.
    fn gather(&mut self, leader: usize) -> Option<Vec<(usize, VolumeId)>> {
        let size = self.candidates[leader].size;
        let first = self.candidates[leader].volumes.iter().copied().find(|volume| self.place(*volume).is_some())?;
        let mut members = vec![(leader, first)];
        while members.len() < self.positions {
            let used: BTreeSet<VolumeId> = members.iter().map(|(_, volume)| *volume).collect();
            let volumes: Vec<VolumeId> = self.queues.keys().copied().filter(|volume| !used.contains(volume)).collect();
            let mut best: Option<((bool, usize), usize, VolumeId)> = None;
            for volume in volumes {
                let taken: Vec<usize> = members.iter().map(|(at, _)| *at).collect();
                let Some((pending, at)) = self.next_on(volume, (size, &taken)) else { continue };
                let with: BTreeSet<VolumeId> = used.iter().copied().chain([volume]).collect();
                let longest = size.max(self.candidates[at].size);
                if self.outs(&with, (longest, self.positions as u64), &[]).is_none() {
                    continue;
                }
                let rank = (self.is_apart(volume, &used), pending);
                if best.as_ref().is_none_or(|(known, _, _)| rank > *known) {
                    best = Some((rank, at, volume));
                }
            }
            let Some((_, at, volume)) = best else { break };
            members.push((at, volume));
        }
        Some(members)
    }

    /// How many blocks wait on a volume, and the longest that goes with one of this size.
    fn next_on(&mut self, volume: VolumeId, (size, members): (u64, &[usize])) -> Option<(usize, usize)> {
        let queue = self.queues.get_mut(&volume)?;
        while queue.pop_if(|at| self.taken[*at]).is_some() {}
        let fits = |at: &usize| {
            let other = self.candidates[*at].size;
            !self.taken[*at]
                && !members.contains(at)
                && other.saturating_mul(SIZE_RATIO_MAX) >= size
                && size.saturating_mul(SIZE_RATIO_MAX) >= other
        };
        // From the longest on; what is too short is so from there on.
        let near =
            queue.iter().rev().take_while(|at| self.candidates[**at].size.saturating_mul(SIZE_RATIO_MAX) >= size);
        let found = near.copied().find(fits)?;
        Some((queue.len(), found))
    }

    /// A new group of these.
    fn found(&mut self, members: &[(usize, VolumeId)]) -> Option<GroupPlan> {
        if members.len() < 2 {
            return None;
        }
        let used: BTreeSet<VolumeId> = members.iter().map(|(_, volume)| *volume).collect();
        let longest = members.iter().map(|(at, _)| self.candidates[*at].size).max()?;
        let outs = self.outs(&used, (longest, members.len() as u64), &[])?;
        self.charge(&outs, file_len_max(longest, members.len() as u64));
        let members = members.iter().zip(0_u8..).map(|((at, volume), position)| (position, *at, *volume)).collect();
        Some(GroupPlan { members, base: None, outs })
    }

    /// As many of these as come to an open group that is about as long as the first of them.
    fn fill(&mut self, members: &[(usize, VolumeId)]) -> Option<GroupPlan> {
        let size = self.candidates[members.first()?.0].size;
        for (index, group) in self.open.iter().enumerate() {
            let longest = group.blocks().map(|member| member.size).max().unwrap_or(0);
            let fits = longest.saturating_mul(SIZE_RATIO_MAX) >= size && size.saturating_mul(SIZE_RATIO_MAX) >= longest;
            if self.filled.contains(&index) || !fits {
                continue;
            }
            let held: BTreeSet<u8> = group.blocks().map(|member| member.position).collect();
            let mut free = (0..group.positions).filter(|position| !held.contains(position));
            let before: Vec<VolumeId> =
                group.parity().flat_map(|member| member.copies.iter().map(|copy| copy.volume)).collect();
            let mut used: BTreeSet<VolumeId> =
                group.blocks().flat_map(|member| &member.copies).map(|copy| copy.volume).collect();
            let (mut chosen, mut outs, mut length) = (Vec::new(), None, longest);
            for (at, _) in members {
                let block = &self.candidates[*at];
                for volume in block.volumes.iter().filter(|volume| self.place(**volume).is_some()) {
                    let with: BTreeSet<VolumeId> = used.iter().copied().chain([*volume]).collect();
                    let long = length.max(block.size);
                    let found = self.outs(&with, (long, self.positions as u64), &before);
                    if used.contains(volume) || found.is_none() {
                        continue;
                    }
                    let Some(position) = free.next() else { break };
                    chosen.push((position, *at, *volume));
                    (used, outs, length) = (with, found, long);
                    break;
                }
            }
            if let Some(outs) = outs.filter(|_| chosen.iter().any(|(_, at, _)| *at == members[0].0)) {
                self.charge(&outs, file_len_max(length, self.positions as u64));
                self.filled.insert(index);
                return Some(GroupPlan { members: chosen, base: Some(index), outs });
            }
        }
        None
    }

    /// Volumes for the parities of members on `used`: where `before` ones were, else apart from all others, with the most
    /// room.
    fn outs(
        &self,
        used: &BTreeSet<VolumeId>,
        (longest, members): (u64, u64),
        before: &[VolumeId],
    ) -> Option<Vec<VolumeId>> {
        let len = file_len_max(longest, members);
        let mut used = used.clone();
        let mut outs = Vec::new();
        while outs.len() < self.parities {
            let free = self.places.iter().filter(|place| place.room >= len && !used.contains(&place.id));
            let best = free.max_by_key(|place| {
                let is_apart = self.is_apart(place.id, &used);
                (is_apart, before.contains(&place.id), place.room, std::cmp::Reverse(place.id))
            })?;
            used.insert(best.id);
            outs.push(best.id);
        }
        Some(outs)
    }

    /// Whether a volume is on another device than all of these.
    fn is_apart(&self, volume: VolumeId, used: &BTreeSet<VolumeId>) -> bool {
        let device = self.place(volume).and_then(|place| place.device);
        !used.iter().any(|other| self.place(*other).is_some_and(|place| place.device == device))
    }

    fn place(&self, volume: VolumeId) -> Option<&Place> {
        self.places.iter().find(|place| place.id == volume)
    }

    fn charge(&mut self, outs: &[VolumeId], len: u64) {
        for place in self.places.iter_mut().filter(|place| outs.contains(&place.id)) {
            place.room = place.room.saturating_sub(len);
        }
    }
}
