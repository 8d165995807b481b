//! Which states are tried: at every instant all lost, all there, each change alone lost, each alone there, names
//! without bytes, bytes without names, torn writes, and some subsets by chance. Each distinct one once.

use super::disk::{Disk, Pick, Tree};
use super::record::Op;
use crate::util::needs::long_tests_factor;
use crate::util::tree::Rng;
use std::collections::HashMap;
use std::path::Path;

/// A disk after a power cut.
#[derive(Debug, Clone)]
pub struct State {
    instant: usize,
    pick: Pick,
    /// It is tried in any case.
    is_plain: bool,
    /// It can also be what is left when the command had ended.
    pub is_after_the_end: bool,
}

/// All states that a power cut during a command may leave.
pub struct States {
    disk: Disk,
    ops: Vec<Op>,
    pub all: Vec<State>,
}

/// The first picks of an instant: all there, all lost, names alone, bytes alone.
const PLAIN: usize = 4;
/// Subsets by chance at each instant.
const SUBSETS: u64 = 3;

impl States {
    /// All of the command that made these calls on this disk.
    pub fn of(before: &Tree, ops: Vec<Op>) -> Self {
        let mut disk = Disk::new(before);
        ops.iter().for_each(|op| disk.apply(op));
        let mut seen: HashMap<blake3::Hash, usize> = HashMap::new();
        let mut all: Vec<State> = Vec::new();
        let last = disk.instants() - 1;
        for instant in 0..=last {
            // A write alone changes little; what follows a change of names, a sync or a new length is the likeliest.
            let is_turn = instant.checked_sub(1).is_none_or(|call| !matches!(ops[call], Op::Write { .. }));
            for (number, pick) in picks(&disk, instant).into_iter().enumerate() {
                let at = *seen.entry(disk.hash(instant, &pick)).or_insert(all.len());
                if at == all.len() {
                    all.push(State { instant, pick, is_plain: is_turn && number < PLAIN, is_after_the_end: false });
                }
                all[at].is_after_the_end |= instant == last;
            }
        }
        Self { disk, ops, all }
    }

    pub fn instants(&self) -> usize {
        self.disk.instants()
    }

    /// Those that fit into the time for tests: all that can be left after the end and all plain ones, and of the others
    /// the same ones each time.
    pub fn sample(&self, usual: u64) -> Vec<&State> {
        let mut rng = Rng(0x5eed);
        let is_sure = |state: &&State| state.is_after_the_end || state.is_plain;
        let (mut taken, others): (Vec<&State>, Vec<&State>) = self.all.iter().partition(is_sure);
        let mut others: Vec<(u64, &State)> = others.into_iter().map(|state| (rng.next(), state)).collect();
        others.sort_by_key(|(order, _)| *order);
        let room = (usual * long_tests_factor()) as usize;
        let room = room.saturating_sub(taken.len());
        taken.extend(others.into_iter().take(room).map(|(_, state)| state));
        taken.sort_by_key(|state| state.instant);
        taken
    }

    pub fn tree(&self, state: &State) -> Tree {
        self.disk.tree(state.instant, &state.pick)
    }

    /// What lies there when the command has ended and no power was cut.
    pub fn with_nothing_lost(&self) -> Tree {
        let last = self.instants() - 1;
        self.disk.tree(last, &Pick { present: self.disk.pending(last).into_iter().collect(), torn: None })
    }

    /// What lies there, with nothing lost, after the last sync of this directory below that one.
    pub fn after_the_last(&self, dir: &str, volume: &str) -> Tree {
        let wanted = Path::new(volume).join(dir);
        let is_it = |op: &Op| matches!(op, Op::Sync { path, .. } if *path == wanted);
        let instant = self.ops.iter().rposition(is_it).expect("a sync of the directory") + 1;
        self.disk.tree(instant, &Pick { present: self.disk.pending(instant).into_iter().collect(), torn: None })
    }

    /// What happened, for people.
    pub fn words(&self, state: &State) -> String {
        let short = |op: &Op| match op {
            Op::Write { path, at, bytes } => format!("write of {} at {at} of {}", bytes.len(), path.display()),
            op => format!("{op:?}"),
        };
        let after = state.instant.checked_sub(1).map_or("nothing".to_owned(), |call| short(&self.ops[call]));
        let pending = self.disk.pending(state.instant);
        let words = |is_there: bool| {
            let items = pending.iter().filter(|item| state.pick.present.contains(item) == is_there);
            items.map(|item| self.disk.words(*item)).collect::<Vec<_>>()
        };
        let mut text = format!("a power cut after call {}, {after}; lost {:?}", state.instant, words(false));
        text += &format!("; there {:?}", words(true));
        if let Some((item, tear)) = &state.pick.torn {
            text += &format!("; torn {tear:?}: {}", self.disk.words(*item));
        }
        text
    }
}

fn picks(disk: &Disk, instant: usize) -> Vec<Pick> {
    let pending = disk.pending(instant);
    let of = |is_there: &dyn Fn(usize) -> bool| Pick {
        present: pending.iter().copied().filter(|item| is_there(*item)).collect(),
        torn: None,
    };
    let mut picks = vec![of(&|_| true), of(&|_| false), of(&|item| disk.is_of_names(item))];
    picks.push(of(&|item| !disk.is_of_names(item)));
    for &one in &pending {
        picks.push(of(&|item| item != one));
        picks.push(of(&|item| item == one));
    }
    let torn = pending.iter().rev().filter(|item| !disk.is_of_names(**item)).take(2);
    for &one in torn {
        let tears = disk.tears(one).into_iter();
        picks.extend(tears.map(|tear| Pick { torn: Some((one, tear)), ..of(&|_| true) }));
    }
    let mut rng = Rng(instant as u64);
    for _ in 0..SUBSETS {
        let bits: Vec<bool> = (0..=pending.last().copied().unwrap_or(0)).map(|_| rng.below(2) == 0).collect();
        picks.push(of(&|item| bits[item]));
    }
    picks
}
