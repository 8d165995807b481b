//! Power cuts: every state that a disk may be in after one, at every instant between two system calls of a command,
//! for the volumes and for the catalog with SQLite's own files.
//!
//! A command is run once under `strace` (`record`), which gives each call that changes a file, with its bytes. A model
//! of a disk (`disk`) says of each change from when on it is durable, and what may be left of those that are not;
//! `states` enumerates. Each state is then laid out in the very directory in which the command ran, for the catalog
//! knows volumes and sources by their paths, and the real program is asked the five questions.
//!
//! The model is stricter than the file systems that are common: nothing is ordered that is not synced. Where SQLite
//! documents what it assumes, that is assumed: a write does not change bytes beside it, a sector is written from one
//! end to the other, a file that is removed or renamed is so in one step.
#![expect(clippy::print_stdout, reason = "how much was tried")]

mod disk;
mod model;
mod record;
mod states;

use crate::util::bench::{Bench, Said};
use crate::util::five::Known;
use crate::util::needs::{has, has_tools, is_root};
use crate::util::oracle::{Snapshot, snapshot};
use crate::util::tree::{Rng, write};
use disk::Tree;
use states::States;
use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

const DISKS: [&str; 2] = ["disk1", "disk2"];

/// What is said of a directory of which nothing but its name arrived: nothing tells it from the mount point of a disk
/// that is away.
const MAYBE_UNMOUNTED: &str = "an unmounted mount point? Mount the disk, or use --force";

/// Whether calls can be taken down and states be laid out.
fn can_cut_power() -> bool {
    has_tools(&["strace"]) && has("root", is_root())
}

/// What lies in the bench beside the source.
fn laid_out(bench: &Bench) -> Tree {
    let mut tree = Tree::new();
    let root = bench.path("");
    let entries = walkdir::WalkDir::new(&root).min_depth(1).sort_by_file_name().into_iter();
    for entry in entries.filter_entry(|entry| entry.depth() != 1 || entry.file_name() != "src") {
        let entry = entry.expect("an entry");
        let path = entry.path().strip_prefix(&root).expect("a path below the bench").to_owned();
        let content = entry.file_type().is_file().then(|| Arc::new(fs::read(entry.path()).expect("a file")));
        tree.insert(path, content);
    }
    tree
}

/// Makes the bench be this, with the source as it is.
fn lay_out(bench: &Bench, tree: &Tree) {
    for entry in fs::read_dir(bench.path("")).expect("the bench") {
        let entry = entry.expect("an entry");
        if entry.file_name() == "src" {
            continue;
        }
        let path = entry.path();
        if entry.file_type().expect("a type").is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
            .expect("a bench that can be emptied");
    }
    for (path, content) in tree {
        let path = bench.path(path);
        match content {
            Some(bytes) => fs::write(path, bytes.as_ref()),
            None => fs::create_dir(path),
        }
        .expect("a state that can be laid out");
    }
}

/// Runs the command, which must succeed, and gives every state that a power cut may have left.
#[track_caller]
fn states_of<A: AsRef<OsStr>>(bench: &Bench, args: &[A]) -> States {
    let before = laid_out(bench);
    let (said, ops) = record::record(bench, args);
    assert_eq!(said.code, 0, "{said:#?}");
    let states = States::of(&before, ops);
    // The record is whole: with nothing lost the model is what lies there.
    let (found, told) = (laid_out(bench), states.with_nothing_lost());
    assert!(told.keys().eq(found.keys()), "{:#?}", (told.keys(), found.keys()));
    for (path, content) in &found {
        assert!(told[path] == *content, "the record misses a change of {}", path.display());
    }
    states
}

/// Asks of each state; tells of all that fail.
fn replay(what: &str, states: &States, (bench, usual): (&Bench, u64), ask: impl Fn(&Tree, bool, &str)) {
    let taken = states.sample(usual);
    let counts = (states.instants(), states.all.len(), taken.len());
    println!("{what}: {} instants, {} distinct states, {} replayed", counts.0, counts.1, counts.2);
    let mut failed = 0;
    for state in taken {
        let tree = states.tree(state);
        lay_out(bench, &tree);
        let words = states.words(state);
        let asked = catch_unwind(AssertUnwindSafe(|| ask(&tree, state.is_after_the_end, &words)));
        failed += usize::from(asked.is_err());
        assert!(failed < 5, "{what}: five states failed, the others were not tried");
    }
    assert_eq!(failed, 0, "{what}");
}

/// A small tree.
fn grow(bench: &Bench) {
    let mut rng = Rng(11);
    write(&bench.src(), "a/one", &rng.bytes(20_000));
    write(&bench.src(), "a/two", &rng.text(9_000));
    write(&bench.src(), "b/gone", &rng.bytes(3_000));
    write(&bench.src(), "b/kept", b"kept");
}

/// One file modified, one deleted, one added.
fn change(bench: &Bench) {
    let mut rng = Rng(12);
    write(&bench.src(), "a/one", &rng.bytes(21_000));
    fs::remove_file(bench.src().join("b/gone")).expect("a file");
    write(&bench.src(), "b/new", &rng.bytes(7_000));
}

/// All complete runs beside those that are known are of this tree.
#[track_caller]
fn assert_others_are(bench: &Bench, known: &Known, tree: &Snapshot, what: &str) {
    for run in bench.query("SELECT seq FROM runs WHERE state = 'complete' ORDER BY seq") {
        let run: i64 = run.trim_start_matches("Integer(").trim_end_matches(')').parse().expect("a number");
        if !known.0.contains_key(&run) {
            Known([(run, tree.clone())].into()).assert_restores(bench, what);
        }
    }
}

#[test]
fn a_power_cut_at_any_instant_of_a_backup_loses_no_run_and_after_exit_0_not_the_new_one() {
    if !can_cut_power() {
        return;
    }
    let bench = Bench::in_memory().and_volumes(&DISKS, &[]);
    let mut known = Known::default();
    grow(&bench);
    known.backup(&bench);
    change(&bench);
    let tree = snapshot(&bench.src());
    let states = states_of(&bench, &["--no-progress", "backup", "src"]);
    replay("the second backup", &states, (&bench, 600), |_, is_after_the_end, what| {
        let mut known = known.clone();
        if is_after_the_end {
            known.0.insert(2, tree.clone());
        }
        known.assert_holds(&bench, &DISKS, what);
        assert_others_are(&bench, &known, &tree, what);
    });
}

#[test]
fn a_power_cut_while_the_next_backup_brings_in_what_the_first_power_cut_left_loses_no_run() {
    if !can_cut_power() {
        return;
    }
    let bench = Bench::in_memory().and_volumes(&DISKS, &[]);
    let mut known = Known::default();
    grow(&bench);
    known.backup(&bench);
    change(&bench);
    let first = states_of(&bench, &["--no-progress", "backup", "src"]);
    // The manifest is on one volume of two, the catalog does not know of it.
    lay_out(&bench, &first.after_the_last("runs", "disk1"));
    write(&bench.src(), "c/later", &Rng(13).bytes(5_000));
    let tree = snapshot(&bench.src());
    let states = states_of(&bench, &["--no-progress", "backup", "src"]);
    let run = bench.json(&["runs"], 0)["runs"].as_array().expect("runs").len() as i64;
    assert_eq!(run, 3, "the run of the first power cut was brought in");
    replay("a backup after a power cut", &states, (&bench, 350), |_, is_after_the_end, what| {
        let mut known = known.clone();
        if is_after_the_end {
            known.0.insert(3, tree.clone());
        }
        known.assert_holds(&bench, &DISKS, what);
    });
}

/// Does what a command that failed says is to be done first.
#[track_caller]
fn follow_the_advice(bench: &Bench, said: &Said, what: &str) {
    let commands: Vec<&str> = said.err.split('`').filter_map(|part| part.strip_prefix("raidtape ")).collect();
    assert!(!commands.is_empty(), "{what}: no advice: {said:#?}");
    for command in commands {
        let then = bench.run(&command.split(' ').collect::<Vec<_>>());
        assert_eq!(then.code, 0, "{what}: {said:#?}, then {then:#?}");
    }
}

#[test]
fn a_power_cut_during_the_very_first_backup_leaves_all_or_what_the_same_command_goes_on_from() {
    if !can_cut_power() {
        return;
    }
    // Folders that are not there yet, as in a new home, and below a mount point.
    let bench = Bench::in_memory().with_catalog("home/state/raidtape/backup.cat");
    grow(&bench);
    let tree = snapshot(&bench.src());
    // Folders that are not there yet, as in a new home, and below a mount point.
    let args =
        ["--catalog", "home/state/raidtape/backup.cat", "--no-progress", "backup", "src", "--volume", "made/for/disk1"];
    let states = states_of(&bench, &args);
    let advised = Cell::new(0);
    replay("the first backup", &states, (&bench, 400), |_, is_after_the_end, what| {
        let mut known = Known::default();
        if is_after_the_end {
            known.0.insert(1, tree.clone());
            known.assert_restores(&bench, what);
        }
        let mut said = bench.run(&args);
        if said.code != 0 {
            advised.set(advised.get() + 1);
            follow_the_advice(&bench, &said, what);
            said = bench.run(&args);
        }
        assert_eq!(said.code, 0, "{what}: {said:#?}");
        known.assert_holds(&bench, &["made/for/disk1"], what);
        assert_others_are(&bench, &known, &tree, what);
    });
    println!("the first backup: after {} of them a command was advised first", advised.get());
}

#[test]
fn a_power_cut_while_a_volume_is_added_leaves_it_out_or_in() {
    if !can_cut_power() {
        return;
    }
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    let mut known = Known::default();
    grow(&bench);
    known.backup(&bench);
    change(&bench);
    let states = states_of(&bench, &["add-volume", "disk2"]);
    replay("add-volume", &states, (&bench, 150), |_, is_after_the_end, what| {
        let known_volumes = bench.json(&["volumes"], 0)["volumes"].as_array().expect("volumes").len();
        assert!(known_volumes == 2 || !is_after_the_end, "{what}: the volume is forgotten");
        if known_volumes == 1 {
            let mut said = bench.run(&["add-volume", "disk2"]);
            if said.err.contains(MAYBE_UNMOUNTED) {
                said = bench.run(&["add-volume", "disk2", "--force"]);
            }
            assert_eq!(said.code, 0, "{what}: {said:#?}");
        }
        known.clone().assert_holds(&bench, &DISKS, what);
    });
}

/// The sidecars of all volumes.
fn sidecars(tree: &Tree) -> Tree {
    let is_one = |path: &Path| DISKS.iter().any(|disk| path.starts_with(format!("{disk}/meta")));
    tree.iter()
        .filter(|(path, content)| is_one(path) && content.is_some())
        .map(|(path, content)| (path.clone(), content.clone()))
        .collect()
}

#[test]
fn a_power_cut_during_genmeta_leaves_each_sidecar_old_or_new_or_absent_and_it_can_be_run_again() {
    if !can_cut_power() {
        return;
    }
    let bench = Bench::in_memory().and_volumes(&DISKS, &[]);
    let mut known = Known::default();
    grow(&bench);
    known.backup(&bench);
    bench.json(&["genmeta"], 0);
    let old = sidecars(&laid_out(&bench));
    change(&bench);
    known.backup(&bench);
    let states = states_of(&bench, &["--no-progress", "genmeta"]);
    let new = sidecars(&laid_out(&bench));
    assert!(!old.is_empty() && old.keys().all(|path| new[path] != old[path]) && new.len() > old.len(), "{new:?}");
    replay("genmeta", &states, (&bench, 150), |tree, is_after_the_end, what| {
        let found = sidecars(tree);
        for (path, content) in &found {
            let is_whole = *content == new[path] || old.get(path) == Some(content);
            assert!(is_whole, "{what}: {} is neither the old one nor the new one", path.display());
        }
        assert!(!is_after_the_end || found == new, "{what}: a sidecar is not the new one");
        let said = bench.run(&["--no-progress", "genmeta"]);
        assert_eq!(said.code, 0, "{what}: {said:#?}");
        assert!(sidecars(&laid_out(&bench)) == new, "{what}: running it again does not make them right");
        known.clone().assert_holds(&bench, &DISKS, what);
    });
}

#[test]
fn a_power_cut_during_rebuild_catalog_leaves_a_catalog_in_place() {
    if !can_cut_power() {
        return;
    }
    let bench = Bench::in_memory().and_volumes(&DISKS, &[]);
    let mut known = Known::default();
    grow(&bench);
    known.backup(&bench);
    change(&bench);
    known.backup(&bench);
    let states = states_of(&bench, &["--no-progress", "rebuild-catalog", "--volume", "disk1", "--volume", "disk2"]);
    replay("rebuild-catalog", &states, (&bench, 200), |_, _, what| {
        // The old one or the new one, without a word about volumes.
        known.assert_restores(&bench, what);
        let said = bench.run(&["--no-progress", "rebuild-catalog"]);
        assert_eq!(said.code, 0, "{what}: {said:#?}");
        known.clone().assert_holds(&bench, &DISKS, what);
    });
}

#[test]
fn a_power_cut_during_rebuild_catalog_where_there_is_none_leaves_a_whole_one_or_none() {
    if !can_cut_power() {
        return;
    }
    let bench = Bench::in_memory().and_volumes(&DISKS, &[]);
    let mut known = Known::default();
    grow(&bench);
    known.backup(&bench);
    change(&bench);
    known.backup(&bench);
    for file in ["backup.cat", "backup.cat.lock"] {
        fs::remove_file(bench.path(file)).expect("a file");
    }
    let args = ["--no-progress", "rebuild-catalog", "--volume", "disk1", "--volume", "disk2"];
    let states = states_of(&bench, &args);
    replay("rebuild-catalog from nothing", &states, (&bench, 200), |_, is_after_the_end, what| {
        let said = bench.run(&["runs"]);
        assert!(said.code == 0 || !is_after_the_end && said.err.contains("there is no catalog"), "{what}: {said:#?}");
        if said.code == 0 {
            known.assert_restores(&bench, what);
        } else {
            let said = bench.run(&args);
            assert_eq!(said.code, 0, "{what}: {said:#?}");
        }
        known.clone().assert_holds(&bench, &DISKS, what);
    });
}
