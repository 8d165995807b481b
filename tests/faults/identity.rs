//! Volumes that are not what or where they were: away, swapped, copied, rolled back, somebody else's. They are known by
//! what their label says, and none is written or blamed for what another one did.

use crate::util::bench::Bench;
use crate::util::five::{Known, complete_runs};
use crate::util::oracle::{Snapshot, snapshot};
use crate::util::tree::{Rng, write};
use std::fs;
use std::process::Command;

const DISKS: [&str; 2] = ["disk1", "disk2"];

fn lived_in() -> (Bench, Known) {
    let bench = Bench::in_memory().and_volumes(&DISKS, &[]);
    let mut known = Known::default();
    for round in 0..2 {
        change(&bench, round);
        known.backup(&bench);
    }
    (bench, known)
}

fn change(bench: &Bench, round: u64) {
    for dir in 0..4 {
        write(&bench.src(), &format!("d{dir}/f{round}"), &Rng(round * 10 + dir).bytes(30_000));
    }
}

fn rename(bench: &Bench, from: &str, to: &str) {
    fs::rename(bench.path(from), bench.path(to)).unwrap();
}

fn copy(bench: &Bench, from: &str, to: &str) {
    let copied = Command::new("cp").arg("-a").args([bench.path(from), bench.path(to)]).status();
    assert!(copied.unwrap().success());
}

/// All that lies on a volume but its index, which is a cache.
fn objects(bench: &Bench, volume: &str) -> Snapshot {
    let mut found = snapshot(&bench.path(volume));
    found.0.retain(|path, node| node.kind == 'f' && !path.starts_with(b"index.db"));
    found
}

#[test]
fn volumes_whose_mount_points_were_swapped_are_known_by_their_labels() {
    let (bench, mut known) = lived_in();
    rename(&bench, "disk1", "x");
    rename(&bench, "disk2", "disk1");
    rename(&bench, "x", "disk2");
    known.assert_restores(&bench, "swapped");
    change(&bench, 5);
    known.backup(&bench);
    known.assert_holds(&bench, &DISKS, "swapped");
    let report = bench.json(&["volumes"], 0);
    for volume in report["volumes"].as_array().unwrap() {
        let (name, path) = (volume["name"].as_str().unwrap(), volume["path"].as_str().unwrap());
        assert!(!path.ends_with(name), "each is where the other one was: {volume}");
    }
}

#[test]
fn a_volume_that_is_away_is_named_and_gets_the_records_that_it_missed() {
    let (bench, mut known) = lived_in();
    rename(&bench, "disk2", "away");
    for round in 5..8 {
        change(&bench, round);
        let tree = snapshot(&bench.src());
        let report = bench.json(&["backup", "src"], 0);
        assert!(report["volumes_away"][0].as_str().unwrap().starts_with("disk2 "), "{report}");
        known.0.insert(report["run"].as_i64().unwrap(), tree);
    }
    bench.run(&["validate"]).with_code(5);
    assert!(!bench.path("disk2").exists());
    rename(&bench, "away", "disk2");
    known.assert_holds(&bench, &DISKS, "it is back");
    // It alone knows all runs now.
    let records = fs::read_dir(bench.path("disk2/runs")).unwrap().count();
    assert!(records >= known.0.len(), "{records}");
}

#[test]
fn an_empty_mount_point_gets_nothing_and_costs_nothing() {
    let (bench, mut known) = lived_in();
    rename(&bench, "disk2", "away");
    fs::create_dir(bench.path("disk2")).unwrap();
    change(&bench, 5);
    known.backup(&bench);
    bench.run(&["genmeta"]).with_code(0);
    bench.run(&["validate"]).with_code(5);
    assert_eq!(fs::read_dir(bench.path("disk2")).unwrap().count(), 0);
    fs::remove_dir(bench.path("disk2")).unwrap();
    rename(&bench, "away", "disk2");
    known.assert_holds(&bench, &DISKS, "mounted again");
}

#[test]
fn of_a_cloned_volume_neither_copy_is_written_while_both_are_here() {
    let (bench, mut known) = lived_in();
    copy(&bench, "disk1", "clone");
    let before = (objects(&bench, "disk1"), objects(&bench, "clone"));
    change(&bench, 5);
    for command in [&["backup", "src"][..], &["genmeta"], &["validate"], &["revert-to-run", "1", "dest"]] {
        let args = [&["--volume", "disk1", "--volume", "clone"], command].concat();
        bench.run(&args).with_code(2).with_sentence(&["disk1", "clone", "copy"]);
    }
    objects(&bench, "disk1").assert_is(&before.0, "the first");
    objects(&bench, "clone").assert_is(&before.1, "the copy");
    fs::remove_dir_all(bench.path("clone")).unwrap();
    known.assert_holds(&bench, &DISKS, "the copy is gone");
}

#[test]
fn a_rolled_back_volume_is_read_but_not_written() {
    let (bench, mut known) = lived_in();
    copy(&bench, "disk1", "older");
    change(&bench, 5);
    known.backup(&bench);
    rename(&bench, "disk1", "newer");
    rename(&bench, "older", "disk1");
    let before = objects(&bench, "disk1");
    change(&bench, 6);
    let tree = snapshot(&bench.src());
    let said = bench.run(&["backup", "src"]).with_code(0);
    assert!(said.err.contains("disk1") && said.err.contains("rolled back"), "{said:#?}");
    bench.run(&["genmeta"]).with_code(0);
    objects(&bench, "disk1").assert_is(&before, "the rolled-back volume");
    known.0.insert(complete_runs(&bench).pop().unwrap(), tree);
    fs::remove_dir_all(bench.path("disk1")).unwrap();
    rename(&bench, "newer", "disk1");
    known.assert_holds(&bench, &DISKS, "the right one is back");
}

#[test]
fn a_volume_of_another_repository_in_our_place_is_neither_read_nor_written() {
    let (bench, mut known) = lived_in();
    let (other, _) = lived_in();
    rename(&bench, "disk2", "ours");
    copy(&other, "disk2", "given");
    fs::rename(other.path("given"), bench.path("disk2")).unwrap();
    let before = objects(&bench, "disk2");
    change(&bench, 5);
    let report = bench.json(&["backup", "src"], 0);
    assert!(report["volumes_away"][0].as_str().unwrap().starts_with("disk2 "), "{report}");
    known.0.insert(report["run"].as_i64().unwrap(), snapshot(&bench.src()));
    bench.run(&["genmeta"]).with_code(0);
    bench.run(&["validate"]).with_code(5);
    bench.run(&["backup", "src", "--volume", "disk2"]).with_code(2).with_sentence(&["repository"]);
    objects(&bench, "disk2").assert_is(&before, "the other's volume");
    fs::remove_dir_all(bench.path("disk2")).unwrap();
    rename(&bench, "ours", "disk2");
    known.assert_holds(&bench, &DISKS, "ours again");
}
