//! The same under parity: every operation of a backup that makes groups, of one that fills them, of `protect` and of a repair
//! fails in turn, or is the last. Afterwards nothing is lost, one more `protect`, or repair, finishes, and then any one of the
//! three volumes may go.

use super::error::Exit;
use super::every_crash_tests::crash_states;
use super::every_fault_copies_tests::{back_up, enumerate, protect_all, repair_all};
use super::protect::shortfall;
use super::set_redundancy::set_redundancy;
use super::test_bench::{Bench, Known, Listener, State, backed_up, grow, long_tests_factor, one_run_on};
use crate::catalog::{blocks, parity, retired};
use crate::format::container::ContainerKind;
use crate::format::layout;
use crate::model::ids::{BlockId, VolumeId};
use crate::model::redundancy::Redundancy;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

const DISKS: usize = 3;
/// Without a volume everything is restored after one case in so many.
const HIDE_EVERY: u32 = 6;

/// The same state under the policy of two blocks with a parity.
fn under_policy(bench: &Bench, base: &State) -> State {
    bench.put(base);
    let policy = Redundancy::Parity { positions: 2, parities: 1 };
    set_redundancy(&mut bench.open(), policy, &Listener::default()).unwrap();
    bench.state(base.known.clone())
}

/// One run under parity, and a source that has changed since.
fn one_run() -> (Bench, State) {
    let (bench, one) = one_run_on(DISKS);
    let base = under_policy(&bench, &one);
    bench.put(&base);
    assert_eq!(protect_all(&bench, &Listener::default()).unwrap(), Exit::Done);
    let base = bench.state(base.known);
    (bench, base)
}

/// Two runs, the second of which filled what the first left open.
fn two_runs() -> (Bench, State) {
    let (bench, one) = one_run();
    let two = backed_up(&bench, &one);
    bench.put(&two);
    let mut groups = 0;
    parity::for_each(bench.open().catalog.conn(), &mut |group| {
        assert!(group.is_sound());
        groups += 1;
        Ok(())
    })
    .unwrap();
    assert!(groups >= 1);
    (bench, two)
}

/// What the catalog wants is done, nothing is on the volumes that it does not know, and any volume may go.
#[track_caller]
fn assert_protected(bench: &Bench, (known, turn): (&Known, &Cell<u32>), what: &str) {
    {
        let repository = bench.open();
        let conn = repository.catalog.conn();
        assert_eq!(shortfall(&repository).unwrap().blocks, 0, "{what}");
        assert!(retired::all(conn).unwrap().is_empty(), "{what}");
        let rows = crate::catalog::places::all_blocks(conn).unwrap();
        let held: BTreeSet<(String, usize)> = rows
            .iter()
            .flat_map(|row| {
                row.volumes
                    .iter()
                    .map(move |volume| (layout::block_key(&row.id), usize::try_from(volume.0 - 1).unwrap()))
            })
            .collect();
        for (disk, objects) in bench.world.objects().iter().enumerate() {
            let is_parity = |bytes: &[u8]| bytes.get(12) == Some(&(ContainerKind::Parity as u8));
            let files = objects.iter().filter(|(key, _)| key.starts_with(layout::CHUNKS));
            for (key, _) in files.filter(|(_, bytes)| is_parity(bytes)) {
                assert!(held.contains(&(key.clone(), disk)), "{what}: {key} on {disk} is not known");
            }
        }
    }
    turn.set(turn.get() + 1);
    if !turn.get().is_multiple_of(HIDE_EVERY) {
        return;
    }
    let state = bench.state(known.clone());
    for disk in 0..DISKS {
        let mut without = state.clone();
        without.disks[disk].retain(|key, _| !key.starts_with(layout::CHUNKS));
        bench.put(&without);
        bench.assert_restores(known, &format!("{what}, without {disk}"));
    }
    bench.put(&state);
}

/// Faults of one kind are tried at one operation in so many, unless there is time.
fn stride(usual: usize) -> usize {
    (usual / long_tests_factor()).max(1)
}

#[test]
fn whatever_fails_in_the_first_backup_under_parity_costs_nothing() {
    let (bench, empty) = Bench::with_disks(DISKS);
    grow(&bench.src());
    let base = under_policy(&bench, &empty);
    let (act, turn) = (back_up(&bench), Cell::new(0));
    let finish = |what: &str| {
        assert_eq!(protect_all(&bench, &Listener::default()).unwrap(), Exit::Done, "{what}");
        assert_protected(&bench, (&Known::new(), &turn), what);
    };
    let (cases, unfinished) = enumerate(&bench, (&base, stride(4)), ("the first backup, parity", &act), &finish);
    assert!(cases > 40 && unfinished > 8 && unfinished < cases, "{cases} {unfinished}");
}

#[test]
fn whatever_fails_in_a_backup_that_fills_a_group_costs_nothing() {
    let (bench, one) = one_run();
    let (act, turn) = (back_up(&bench), Cell::new(0));
    let finish = |what: &str| {
        assert_eq!(protect_all(&bench, &Listener::default()).unwrap(), Exit::Done, "{what}");
        assert_protected(&bench, (&one.known, &turn), what);
    };
    let (cases, unfinished) = enumerate(&bench, (&one, stride(4)), ("a backup that fills, parity", &act), &finish);
    assert!(cases > 40 && unfinished > 8 && unfinished < cases, "{cases} {unfinished}");
}

#[test]
fn whatever_fails_in_protect_under_parity_costs_nothing() {
    let (bench, one) = one_run_on(DISKS);
    let two = under_policy(&bench, &backed_up(&bench, &one));
    let turn = Cell::new(0);
    let act = |listener: &Listener, _: &mut Known| protect_all(&bench, listener);
    let finish = |what: &str| {
        assert_eq!(protect_all(&bench, &Listener::default()).unwrap(), Exit::Done, "{what}");
        assert_protected(&bench, (&two.known, &turn), what);
    };
    let (cases, unfinished) = enumerate(&bench, (&two, stride(2)), ("protect, parity", &act), &finish);
    assert!(cases > 30 && unfinished > 10, "{cases} {unfinished}");
}

/// One file of a group has rot, or is gone.
fn damaged(base: &State, disk: usize, is_gone: bool) -> State {
    let mut disks = base.disks.clone();
    let key = disks[disk].keys().find(|key| key.starts_with("chunks/")).unwrap().clone();
    if is_gone {
        disks[disk].remove(&key);
    } else {
        let mut bytes = disks[disk][&key].as_ref().clone();
        bytes[1000] ^= 1;
        disks[disk].insert(key, Arc::new(bytes));
    }
    State { disks, ..base.clone() }
}

#[test]
fn whatever_fails_in_a_repair_by_parity_costs_nothing() {
    let (bench, two) = two_runs();
    let turn = Cell::new(0);
    let act = |listener: &Listener, _: &mut Known| repair_all(&bench, listener);
    let finish = |what: &str| {
        assert_eq!(repair_all(&bench, &Listener::default()).unwrap(), Exit::Done, "{what}");
        assert_protected(&bench, (&two.known, &turn), what);
    };
    for (disk, is_gone) in [(0, false), (1, true), (2, false)] {
        let base = damaged(&two, disk, is_gone);
        let name = format!("a repair of {disk} by parity");
        let (cases, unfinished) = enumerate(&bench, (&base, stride(4)), (&name, &act), &finish);
        assert!(cases > 20 && unfinished > 5, "{cases} {unfinished}");
    }
}

#[test]
fn whenever_a_command_dies_that_writes_parity_nothing_is_lost() {
    let (bench, one) = one_run_on(DISKS);
    let wanting = under_policy(&bench, &backed_up(&bench, &one));
    let (other, two) = two_runs();
    let hurt = damaged(&two, 1, false);
    let (mut count, turn) = (0, Cell::new(0));
    let protecting = || assert_eq!(protect_all(&bench, &Listener::default()).unwrap(), Exit::Done);
    let repairing = || assert_eq!(repair_all(&other, &Listener::default()).unwrap(), Exit::Done);
    let acts: [(&str, &Bench, &State, &dyn Fn()); 2] =
        [("protect", &bench, &wanting, &protecting), ("a repair", &other, &hurt, &repairing)];
    for (name, bench, base, act) in acts {
        for crash in crash_states(bench, base, act) {
            bench.put(&crash.state);
            let what = format!("{name}: {}", crash.what);
            bench.assert_restores(&base.known, &what);
            act();
            assert_eq!(protect_all(bench, &Listener::default()).unwrap(), Exit::Done, "{what}");
            assert_protected(bench, (&base.known, &turn), &what);
            bench.assert_holds((&base.known, &[]), &what);
            count += 1;
        }
    }
    assert!(count > 12, "{count}");
}

/// A second copy on this disk was found and is to go.
fn retire(bench: &Bench, id: BlockId, disk: usize) {
    let repository = bench.open();
    let conn = repository.catalog.conn();
    let no = blocks::number_of(conn, id).unwrap().unwrap();
    let volume = VolumeId(disk as i64 + 1);
    parity::put_found_copy(conn, no, volume).unwrap();
    retired::retire_copy(conn, no, volume).unwrap();
}

#[test]
fn what_is_to_be_deleted_stays_where_nothing_else_is_seen_to_stand_for_it() {
    let (bench, two) = two_runs();
    let (key, disk) = (0..DISKS)
        .find_map(|disk| {
            let objects = two.disks[disk].iter();
            let blocks = objects.filter(|(key, bytes)| key.starts_with(layout::CHUNKS) && bytes.get(12) == Some(&1));
            blocks.map(|(key, _)| (key.clone(), disk)).next()
        })
        .unwrap();
    let other = (disk + 1) % DISKS;
    let id = layout::parse_block_key(&key).unwrap();
    // A second copy that was retired, and the first is gone or has rot.
    for is_gone in [true, false] {
        let mut state = two.clone();
        let sound = Arc::clone(&state.disks[disk][&key]);
        state.disks[other].insert(key.clone(), Arc::clone(&sound));
        if is_gone {
            state.disks[disk].remove(&key);
        } else {
            let mut bytes = sound.as_ref().clone();
            bytes[500] ^= 1;
            state.disks[disk].insert(key.clone(), Arc::new(bytes));
        }
        bench.put(&state);
        retire(&bench, id, other);
        protect_all(&bench, &Listener::default()).unwrap();
        assert!(bench.world.objects()[other].contains_key(&key), "{is_gone}");
        bench.assert_restores(&two.known, "the last sound copy");
    }
    // Where the first is sound it goes.
    let mut state = two.clone();
    let sound = Arc::clone(&state.disks[disk][&key]);
    state.disks[other].insert(key.clone(), sound);
    bench.put(&state);
    retire(&bench, id, other);
    protect_all(&bench, &Listener::default()).unwrap();
    assert!(!bench.world.objects()[other].contains_key(&key));
    assert_protected(&bench, (&two.known, &Cell::new(HIDE_EVERY - 1)), "the first is sound");
}
