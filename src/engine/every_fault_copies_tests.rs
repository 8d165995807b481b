//! The same for blocks that are to lie on two volumes: every operation of a backup, of `protect` and of a repair fails in
//! turn. Afterwards nothing is lost, and one more `protect`, or repair, brings everything to two sound copies.

use super::error::{Exit, Result};
use super::every_crash_tests::crash_states;
use super::every_fault_tests::ways_on;
use super::protect::{ProtectOptions, protect, shortfall};
use super::set_redundancy::set_redundancy;
use super::test_bench::{Bench, Known, Listener, NAMES, State, grow, long_tests_factor, one_run, tree, two_runs};
use super::validate::{Level, ValidateOptions, validate};
use crate::catalog::places;
use crate::format::layout;
use crate::model::redundancy::Redundancy;
use crate::volume::test_double::{Fault, Op};
use std::sync::Arc;

/// The same state under the policy of two copies.
fn under_policy(bench: &Bench, base: &State) -> State {
    bench.put(base);
    set_redundancy(&mut bench.open(), Redundancy::Copies(2), &Listener::default()).unwrap();
    bench.state(base.known.clone())
}

/// And with these copies made.
fn protected(bench: &Bench, base: &State) -> State {
    let state = under_policy(bench, base);
    bench.put(&state);
    assert_eq!(protect_all(bench, &Listener::default()).unwrap(), Exit::Done);
    bench.state(state.known)
}

pub(super) fn protect_all(bench: &Bench, listener: &Listener) -> Result<Exit> {
    Ok(protect(&mut bench.open(), &ProtectOptions::default(), listener)?.exit())
}

pub(super) fn repair_all(bench: &Bench, listener: &Listener) -> Result<Exit> {
    let options = ValidateOptions { level: Level::Deep, workers: Some(1), repair: true, ..ValidateOptions::default() };
    Ok(validate(&mut bench.open(), &options, listener)?.exit())
}

/// Every block of the catalog is on both volumes.
#[track_caller]
fn assert_on_both(bench: &Bench, what: &str) {
    let repository = bench.open();
    assert_eq!(shortfall(&repository).unwrap().blocks, 0, "{what}");
    for row in places::all_blocks(repository.catalog.conn()).unwrap() {
        let key = layout::block_key(&row.id);
        assert!(bench.world.objects().iter().all(|disk| disk.contains_key(&key)), "{what}: {key}");
    }
}

/// What is done while a volume fails; it may add a run to those that are known.
pub(super) type Act<'a> = &'a dyn Fn(&Listener, &mut Known) -> Result<Exit>;
/// Brings everything to two sound copies.
pub(super) type Finish<'a> = &'a dyn Fn(&str);

/// One operation in so many of each way, unless there is time.
fn stride() -> usize {
    (2 / long_tests_factor()).max(1)
}

/// Goes through all ways and operations, or one operation in `stride`; returns how many faults there were, and how many left something to be done.
pub(super) fn enumerate(
    bench: &Bench,
    (base, stride): (&State, usize),
    (name, act): (&str, Act<'_>),
    finish: Finish<'_>,
) -> (u64, u64) {
    let (mut cases, mut unfinished) = (0, 0);
    for (turn, way) in ways_on(bench.disks).into_iter().enumerate() {
        for at in (turn as u64 % stride as u64..).step_by(stride) {
            let mut fault = Fault { disk: way.disk, at, errno: way.errno, lasting: way.lasting, is_done: false };
            let Some(op) = once(bench, base, (name, act), (fault, finish, &mut unfinished)) else { break };
            cases += 1;
            if op.may_be_done_and_fail() && (way.errno == rustix::io::Errno::IO || long_tests_factor() > 1) {
                fault.is_done = true;
                once(bench, base, (name, act), (fault, finish, &mut unfinished));
                cases += 1;
            }
        }
    }
    #[expect(clippy::print_stdout, reason = "how much was tried")]
    {
        println!("{name}: {cases} faults, {unfinished} of them with something left to do");
    }
    (cases, unfinished)
}

fn once(
    bench: &Bench,
    base: &State,
    (name, act): (&str, Act<'_>),
    (fault, finish, unfinished): (Fault, Finish<'_>, &mut u64),
) -> Option<Op> {
    bench.put(base);
    let (listener, mut known) = (Listener::default(), base.known.clone());
    bench.world.arm(fault);
    let ended = act(&listener, &mut known);
    let (op, key) = bench.world.disarm()?;
    let what = format!("{name}: {fault:?} at {op:?} {key}: {ended:?}: {:?}", listener.0.lock().unwrap());
    match &ended {
        Ok(Exit::Done) => {}
        Ok(Exit::UnderProtected | Exit::Damage | Exit::NoVolume) => *unfinished += 1,
        Ok(other) => panic!("{what}: {other:?}"),
        Err(error) => {
            *unfinished += 1;
            assert!(matches!(error.exit(), Exit::Failed | Exit::NoVolume), "{what}");
            if let (Some(disk), Exit::Failed) = (fault.disk, error.exit()) {
                assert!(error.to_string().contains(NAMES[disk]), "{what}");
            }
        }
    }
    let trees = [Arc::new(tree(&bench.src()))];
    bench.learn_completed((&mut known, &trees), &what);
    bench.assert_restores(&known, &what);
    finish(&what);
    // It brings in a run whose record is durable, as every writer does.
    bench.learn_completed((&mut known, &trees), &what);
    bench.assert_holds((&known, &trees), &what);
    Some(op)
}

pub(super) fn back_up<'b>(bench: &'b Bench) -> impl Fn(&Listener, &mut Known) -> Result<Exit> + 'b {
    let wanted = Arc::new(tree(&bench.src()));
    move |listener, known| {
        let report = bench.backup(listener)?;
        known.insert(report.run, Arc::clone(&wanted));
        assert!(report.problems.is_empty());
        Ok(if report.blocks_under_protected > 0 { Exit::UnderProtected } else { Exit::Done })
    }
}

/// One `protect` more does it, and does so once.
fn protect_finishes(bench: &Bench) -> impl Fn(&str) + '_ {
    |what| {
        assert_eq!(protect_all(bench, &Listener::default()).unwrap(), Exit::Done, "{what}");
        assert_on_both(bench, what);
    }
}

#[test]
fn whatever_fails_in_the_first_backup_of_two_copies_costs_nothing() {
    let (bench, empty) = Bench::new();
    grow(&bench.src());
    let base = under_policy(&bench, &empty);
    let act = back_up(&bench);
    let (cases, unfinished) =
        enumerate(&bench, (&base, stride()), ("the first backup, two copies", &act), &protect_finishes(&bench));
    assert!(cases > 75 && unfinished > 10 && unfinished < cases, "{cases} {unfinished}");
}

#[test]
fn whatever_fails_in_a_later_backup_of_two_copies_costs_nothing() {
    let (bench, one) = one_run();
    let base = protected(&bench, &one);
    let act = back_up(&bench);
    let (cases, unfinished) =
        enumerate(&bench, (&base, stride()), ("the second backup, two copies", &act), &protect_finishes(&bench));
    assert!(cases > 75 && unfinished > 10 && unfinished < cases, "{cases} {unfinished}");
}

#[test]
fn whatever_fails_in_protect_costs_nothing() {
    let (bench, two) = two_runs();
    let base = under_policy(&bench, &two);
    let act = |listener: &Listener, _: &mut Known| protect_all(&bench, listener);
    let (cases, unfinished) = enumerate(&bench, (&base, stride()), ("protect", &act), &protect_finishes(&bench));
    assert!(cases > 25 && unfinished > 10, "{cases} {unfinished}");
}

/// One block of each volume is damaged: one byte is another, one block is gone.
fn damaged(bench: &Bench, base: &State) -> State {
    let mut disks = base.disks.clone();
    let keys: Vec<String> = disks[0].keys().filter(|key| key.starts_with("chunks/")).cloned().collect();
    assert!(keys.len() >= 2);
    let mut bytes = disks[0][&keys[0]].as_ref().clone();
    bytes[1000] ^= 1;
    disks[0].insert(keys[0].clone(), Arc::new(bytes));
    disks[1].remove(&keys[1]);
    let _ = bench;
    State { disks, ..base.clone() }
}

#[test]
fn whatever_fails_in_a_repair_costs_nothing() {
    let (bench, two) = two_runs();
    let base = damaged(&bench, &protected(&bench, &two));
    let act = |listener: &Listener, _: &mut Known| repair_all(&bench, listener);
    let finish = |what: &str| {
        assert_eq!(repair_all(&bench, &Listener::default()).unwrap(), Exit::Done, "{what}");
        assert_on_both(&bench, what);
    };
    let (cases, unfinished) = enumerate(&bench, (&base, stride()), ("a repair", &act), &finish);
    assert!(cases > 25 && unfinished > 10, "{cases} {unfinished}");
}

#[test]
fn whenever_protect_or_a_repair_dies_nothing_is_lost() {
    let (bench, two) = two_runs();
    let wanting = under_policy(&bench, &two);
    let hurt = damaged(&bench, &protected(&bench, &two));
    let mut count = 0;
    let protecting = || assert_eq!(protect_all(&bench, &Listener::default()).unwrap(), Exit::Done);
    let repairing = || assert_eq!(repair_all(&bench, &Listener::default()).unwrap(), Exit::Done);
    let acts: [(&str, &State, &dyn Fn()); 2] = [("protect", &wanting, &protecting), ("a repair", &hurt, &repairing)];
    for (name, base, act) in acts {
        for crash in crash_states(&bench, base, act) {
            bench.put(&crash.state);
            let what = format!("{name}: {}", crash.what);
            bench.assert_restores(&base.known, &what);
            act();
            assert_on_both(&bench, &what);
            bench.assert_holds((&base.known, &[]), &what);
            count += 1;
        }
    }
    assert!(count > 12, "{count}");
}
