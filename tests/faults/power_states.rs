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

mod disk;
mod model;
mod record;
mod states;

use crate::util::bench::Bench;
use crate::util::five::Known;
use crate::util::needs::{has, has_tools, is_root};
use crate::util::oracle::{Snapshot, snapshot};
use crate::util::tree::{Rng, write};
use disk::Tree;
use states::States;
use std::ffi::OsStr;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

const DISKS: [&str; 2] = ["disk1", "disk2"];

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
    replay("the second backup", &states, (&bench, 300), |_, is_after_the_end, what| {
        let mut known = known.clone();
        if is_after_the_end {
            known.0.insert(2, tree.clone());
        }
        known.assert_holds(&bench, &DISKS, what);
        assert_others_are(&bench, &known, &tree, what);
    });
}
