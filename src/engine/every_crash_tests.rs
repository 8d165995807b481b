//! Every state that a crash may leave, at the grain of the store: what was finished is there, what was under way is there
//! or not, what was removed may be back, parts lie under `tmp/`, and the catalog is as it was committed last. From each
//! of these the questions of `test_bench` are asked.

use super::genmeta::{GenmetaOptions, genmeta};
use super::test_bench::{Bench, Listener, State, Tree, grow, long_tests_factor, one_behind, one_run, tree, two_runs};
use crate::volume::test_double::{Fault, Lasting, Objects};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Crash states of crash states that are looked at: one in so many, unless there is more time.
const NESTED_STRIDE: usize = 10;

/// A state that a crash may leave.
pub struct Crash {
    pub state: State,
    /// The object that had come last, when it just had.
    pub after: Option<String>,
    pub what: String,
}

/// All states that a crash may leave of what `act` does, each once.
pub fn crash_states(bench: &Bench, base: &State, act: &dyn Fn()) -> Vec<Crash> {
    bench.put(base);
    let catalogs = Arc::new(Mutex::new(Vec::new()));
    bench.record(&catalogs);
    act();
    let events = bench.world.take_record();
    let end = bench.state(base.known.clone());
    let catalogs = std::mem::take(&mut *catalogs.lock().unwrap());
    let (mut seen, mut crashes) = (BTreeSet::new(), Vec::new());
    let mut add = |disks: &[Objects], seen_catalog: usize, (after, what): (Option<String>, String)| {
        if seen.insert((seen_catalog, names(disks))) {
            let catalog = catalogs.get(seen_catalog).unwrap_or(&end.catalog);
            let state = State { disks: disks.to_vec(), catalog: Arc::clone(catalog), known: base.known.clone() };
            crashes.push(Crash { state, after, what });
        }
    };
    for (number, event) in events.iter().enumerate() {
        let came = event.after.iter().zip(&event.before).find_map(|(after, before)| {
            after.keys().find(|key| !key.starts_with("tmp/") && !before.contains_key(*key)).cloned()
        });
        let before = (&event.before, None, format!("before {number} {:?}", event.op));
        let after = (&event.after, came, format!("after {number} {:?}", event.op));
        for (disks, came, what) in [before, after] {
            add(disks, event.seen, (came, what.clone()));
            let back = |chosen: &dyn Fn(&str) -> bool| {
                let mut disks = disks.clone();
                for ((disk, key), bytes) in event.removed.iter().filter(|((_, key), _)| chosen(key)) {
                    disks[*disk].entry(key.clone()).or_insert_with(|| Arc::clone(bytes));
                }
                disks
            };
            for (_, key) in event.removed.keys() {
                add(&back(&|other| other == key), event.seen, (None, format!("{what}, and {key} is back")));
            }
            add(&back(&|_| true), event.seen, (None, format!("{what}, and all that was removed is back")));
        }
    }
    add(&end.disks, usize::MAX, (None, "at the end".to_owned()));
    crashes
}

/// What tells two states apart: every object by its name; of parts under `tmp/` only how many there are.
fn names(disks: &[Objects]) -> Vec<(usize, Vec<String>)> {
    let names = |disk: &Objects| {
        let (parts, objects): (Vec<&String>, Vec<&String>) = disk.keys().partition(|key| key.starts_with("tmp/"));
        (parts.len(), objects.into_iter().cloned().collect())
    };
    disks.iter().map(names).collect()
}

/// Asks the questions from a crash's state. The run that was cut off has one of these trees.
fn assert_survives(bench: &Bench, crash: &Crash, trees: &[Arc<Tree>], stage: &str) {
    bench.put(&crash.state);
    let mut known = crash.state.known.clone();
    let what = format!("{stage}: {}", crash.what);
    bench.learn_completed((&mut known, trees), &what);
    bench.assert_holds((&known, trees), &what);
}

/// Goes through all crash states of `act`; returns how many there are.
fn enumerate(bench: &Bench, base: &State, (stage, act): (&str, &dyn Fn())) -> usize {
    let trees = [Arc::new(tree(&bench.src()))];
    let crashes = crash_states(bench, base, act);
    for crash in &crashes {
        assert_survives(bench, crash, &trees, stage);
    }
    tell(&format!("{stage}: {} crash states", crashes.len()));
    crashes.len()
}

#[expect(clippy::print_stdout, reason = "how much was tried")]
fn tell(text: &str) {
    println!("{text}");
}

fn back_up(bench: &Bench) {
    bench.backup(&Listener::default()).unwrap();
}

#[test]
fn whenever_the_first_backup_dies_nothing_is_lost() {
    let (bench, empty) = Bench::new();
    grow(&bench.src());
    let count = enumerate(&bench, &empty, ("the first backup", &|| back_up(&bench)));
    assert!(count >= 10, "{count}");
}

#[test]
fn whenever_a_later_backup_dies_nothing_is_lost() {
    let (bench, one) = one_run();
    let count = enumerate(&bench, &one, ("the second backup", &|| back_up(&bench)));
    assert!(count >= 12, "{count}");
}

#[test]
fn whenever_a_backup_dies_while_a_volume_catches_up_nothing_is_lost() {
    let (bench, behind) = one_behind();
    let count = enumerate(&bench, &behind, ("a backup on a volume that is behind", &|| back_up(&bench)));
    assert!(count >= 12, "{count}");
}

#[test]
fn whenever_genmeta_dies_nothing_is_lost() {
    let (bench, two) = two_runs();
    let act = || drop(genmeta(&mut bench.open(), &GenmetaOptions::default(), &Listener::default()).unwrap());
    let count = enumerate(&bench, &two, ("genmeta", &act));
    assert!(count > 6, "{count}");
}

#[test]
fn whenever_a_backup_dies_that_goes_on_without_a_failed_volume_nothing_is_lost() {
    let (bench, one) = one_run();
    let mut count = 0;
    for (disk, at) in [(0, 9), (0, 11), (1, 9), (1, 11)] {
        let act = || {
            let fault = Fault { disk: Some(disk), at, errno: Errno::IO, lasting: Lasting::Once, is_done: true };
            bench.world.arm(fault);
            back_up(&bench);
            assert!(bench.world.disarm().is_some());
        };
        count += enumerate(&bench, &one, (&format!("a backup that volume {disk} fails at {at}"), &act));
    }
    assert!(count > 40, "{count}");
}

#[test]
fn whenever_the_backup_after_a_crash_dies_too_nothing_is_lost() {
    let (bench, one) = one_run();
    let first = Arc::new(tree(&bench.src()));
    let crashes = crash_states(&bench, &one, &|| back_up(&bench));
    std::fs::write(bench.src().join("c/later"), "later").unwrap();
    let trees = [first, Arc::new(tree(&bench.src()))];
    let stride = (NESTED_STRIDE / long_tests_factor()).max(1);
    let (mut found, mut tried) = (0, 0);
    for crash in &crashes {
        for nested in crash_states(&bench, &crash.state, &|| back_up(&bench)) {
            found += 1;
            if found % stride == 0 {
                assert_survives(&bench, &nested, &trees, &format!("{}, then", crash.what));
                tried += 1;
            }
        }
    }
    tell(&format!("crashes after a crash: {tried} of {found} states"));
    assert!(tried > 20, "{tried}");
}
