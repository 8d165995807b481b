//! Disks that were given up, removed, rolled back or emptied behind the program's back: nothing on them is relied on, and a
//! disk is let go only when what is on it is somewhere else for sure.

use crate::util::bench::Bench;
use crate::util::oracle::{Snapshot, snapshot};
use crate::util::tree::{Rng, change, flip, grow, write};
use std::fs;
use std::process::Command;

const SMALL: [&str; 2] = ["--block-size", "8M"];
const TWO: [&str; 4] = ["--block-size", "8M", "--redundancy", "copies=2"];

/// A source that fills several blocks, backed up once.
fn one_run(disks: &[&str], init: &[&str]) -> (Bench, Snapshot) {
    let bench = Bench::with_volumes(disks, init);
    grow(&bench.src(), 1);
    write(&bench.src(), "much", &Rng(4).bytes(30 << 20));
    bench.json(&["backup", "src"], 0);
    let tree = snapshot(&bench.src());
    (bench, tree)
}

fn copy(from: impl AsRef<std::path::Path>, to: impl AsRef<std::path::Path>) {
    assert!(Command::new("cp").arg("-a").arg(from.as_ref()).arg(to.as_ref()).status().unwrap().success());
}

/// Another source, so that a record of now is on the disks and the first source stays as it is.
fn back_up_something_else(bench: &Bench) {
    write(&bench.path("other"), "file", b"something else");
    let code = bench.run(&["backup", "other"]).code;
    assert!([0, 6].contains(&code));
}

/// The next backup stores again what its source still has, and the newest run comes back.
#[track_caller]
fn heals(bench: &Bench, tree: &Snapshot, code: i32) {
    let report = bench.json(&["backup", "src"], code);
    bench.assert_reverts(report["run"].as_i64().unwrap(), tree);
    bench.assert_reverts(1, tree);
}

#[test]
fn what_lay_on_a_disk_that_was_given_up_is_known_to_be_gone_after_a_rebuild_too() {
    let (bench, tree) = one_run(&["disk1", "disk2"], &SMALL);
    fs::rename(bench.path("disk2"), bench.path("dead")).unwrap();
    bench.run(&["remove-volume", "disk2", "--lost"]).with_code(4);
    back_up_something_else(&bench);
    fs::remove_file(bench.path(bench.catalog())).unwrap();
    bench.run(&["rebuild-catalog", "--volume", "disk1"]);
    let said = bench.run(&["validate"]).with_code(4);
    assert!(said.err.contains("given up") && said.err.contains("file versions more"), "{said:#?}");
    bench.run(&["status", "--max-run-age", "1d"]).with_code(2);
    heals(&bench, &tree, 0);
    bench.assert_all_good();
}

#[test]
fn what_moved_to_a_disk_that_a_rebuild_did_not_see_is_named_stored_again_and_found_later() {
    let (bench, tree) = one_run(&["disk1", "disk2"], &SMALL);
    bench.run(&["add-volume", "disk3"]).with_code(0);
    bench.run(&["remove-volume", "disk2"]).with_code(0);
    back_up_something_else(&bench);
    fs::remove_dir_all(bench.path("disk2")).unwrap();
    assert!(!bench.blocks("disk3").is_empty());
    fs::rename(bench.path("disk3"), bench.path("away")).unwrap();
    fs::remove_file(bench.path(bench.catalog())).unwrap();
    let report = bench.json(&["rebuild-catalog", "--volume", "disk1"], 5);
    assert!(report["files_needing_missing_total"].as_u64() > Some(0), "{report}");
    // It comes back: what is on it is found by its name.
    fs::rename(bench.path("away"), bench.path("disk3")).unwrap();
    let found = bench.json(&["backup", "src", "--volume", "disk3"], 0);
    bench.assert_reverts(1, &tree);
    bench.assert_reverts(found["run"].as_i64().unwrap(), &tree);
    bench.assert_all_good();
}

#[test]
fn an_older_catalog_finds_what_was_moved_since() {
    let (bench, tree) = one_run(&["disk1", "disk2", "disk3"], &SMALL);
    copy(bench.path(bench.catalog()), bench.path("old.cat"));
    bench.run(&["remove-volume", "disk2"]).with_code(0);
    back_up_something_else(&bench);
    fs::remove_dir_all(bench.path("disk2")).unwrap();
    fs::rename(bench.path("old.cat"), bench.path(bench.catalog())).unwrap();
    bench.run(&["set-redundancy", "none"]).with_code(0);
    let report = bench.json(&["backup", "src"], 0);
    assert_eq!(report["data_added"], 0, "{report}");
    bench.assert_reverts(1, &tree);
    bench.assert_reverts(report["run"].as_i64().unwrap(), &tree);
    bench.assert_all_good();
}

#[test]
fn a_disk_that_was_rolled_back_protects_nothing() {
    let (bench, tree) = one_run(&["disk1", "disk2"], &TWO);
    copy(bench.path("disk2"), bench.path("disk2.old"));
    write(&bench.src(), "later", &Rng(8).bytes(20 << 20));
    let later = snapshot(&bench.src());
    bench.backup();
    fs::remove_dir_all(bench.path("disk2")).unwrap();
    fs::rename(bench.path("disk2.old"), bench.path("disk2")).unwrap();
    bench.run(&["protect"]).with_code(6);
    bench.run(&["set-redundancy", "none"]).with_code(0);
    bench.run(&["remove-volume", "disk1"]).with_code(5).with_sentence(&["disk1 stays"]);
    bench.run(&["add-volume", "disk3"]).with_code(0);
    bench.run(&["remove-volume", "disk1"]).with_code(0);
    fs::remove_dir_all(bench.path("disk1")).unwrap();
    bench.assert_reverts(1, &tree);
    bench.assert_reverts(2, &later);
}

#[test]
fn a_disk_that_turns_up_empty_is_not_believed() {
    let (bench, tree) = one_run(&["disk1", "disk2"], &TWO);
    fs::rename(bench.path("disk2"), bench.path("away")).unwrap();
    bench.run(&["replace-volume", "disk2", "disk3"]).with_code(0);
    fs::remove_dir_all(bench.path("away/chunks")).unwrap();
    fs::rename(bench.path("away"), bench.path("disk2")).unwrap();
    bench.run(&["set-redundancy", "copies=2"]).with_code(0);
    bench.run(&["remove-volume", "disk3"]).with_code(0);
    bench.run(&["set-redundancy", "none"]).with_code(0);
    bench.run(&["remove-volume", "disk1"]).with_code(0);
    for gone in ["disk1", "disk3"] {
        fs::remove_dir_all(bench.path(gone)).unwrap();
    }
    bench.assert_reverts(1, &tree);
    bench.assert_all_good();
}

#[test]
fn a_disk_is_not_let_go_for_copies_that_are_not_there_or_away() {
    let (bench, tree) = one_run(&["disk1", "disk2"], &TWO);
    fs::remove_dir_all(bench.path("disk1/chunks")).unwrap();
    bench.run(&["remove-volume", "disk2"]).with_code(6);
    fs::remove_dir_all(bench.path("disk2")).unwrap();
    bench.assert_reverts(1, &tree);
    // Nor for those on a disk that is away.
    let (bench, tree) = one_run(&["disk1", "disk2", "disk3"], &TWO);
    fs::rename(bench.path("disk3"), bench.path("away")).unwrap();
    bench.run(&["set-redundancy", "none"]).with_code(0);
    bench.run(&["remove-volume", "disk1"]).with_code(0);
    bench.assert_reverts(1, &tree);
}

#[test]
fn remains_of_a_damaged_block_are_not_let_go() {
    for is_rotten in [false, true] {
        let (bench, tree) = one_run(&["disk1", "disk2"], &TWO);
        bench.run(&["add-volume", "disk3"]).with_code(0);
        let (name, path) =
            bench.blocks("disk1").into_iter().find(|(_, path)| path.metadata().unwrap().len() > 3 << 20).unwrap();
        // In so many places that the copies are not put together piece by piece.
        (0..12).for_each(|place| flip(&path, 2_000_000 + 9_000 * place));
        let other = bench.blocks("disk2").remove(&name).unwrap();
        if is_rotten {
            flip(&other, 100_000);
        } else {
            fs::remove_file(other).unwrap();
        }
        // Whether somebody looked before or not.
        if is_rotten {
            bench.assert_reverts(1, &tree);
            bench.run(&["validate", "--repair"]).with_code(4);
            bench.run(&["protect"]).with_code(4);
        }
        let said = bench.run(&["remove-volume", "disk1"]).with_code(4);
        assert!(said.err.contains("disk1 stays"), "{said:#?}");
        let status = bench.run(&["status"]).with_code(2);
        assert!(status.out.contains("damaged"), "{status:#?}");
        heals(&bench, &tree, 0);
    }
}

#[test]
fn rot_that_protect_meets_is_told_and_healed() {
    let (bench, tree) = one_run(&["disk1", "disk2"], &TWO);
    for (_, path) in bench.blocks("disk1") {
        flip(&path, 1000);
    }
    bench.run(&["add-volume", "disk3"]).with_code(0);
    bench.run(&["set-redundancy", "copies=3"]).with_code(0);
    let said = bench.run(&["protect"]).with_code(6);
    assert!(said.err.contains("validate --repair"), "{said:#?}");
    let status = bench.run(&["status"]);
    assert!(status.code > 0 && status.out.contains("redundancy") | status.out.contains("copies=3"), "{status:#?}");
    bench.run(&["validate", "--repair"]).with_code(0);
    bench.run(&["protect"]).with_code(0);
    change(&bench.src(), 5);
    bench.backup();
    bench.assert_reverts(1, &tree);
    bench.assert_all_good();
}

#[test]
fn a_copy_of_a_volume_is_no_replacement() {
    let (bench, tree) = one_run(&["disk1", "disk2"], &TWO);
    copy(bench.path("disk1"), bench.path("clone"));
    fs::rename(bench.path("disk2"), bench.path("away")).unwrap();
    bench.run(&["replace-volume", "disk2", "clone"]).with_code(2).with_sentence(&["disk1", "copy"]);
    bench.assert_reverts(1, &tree);
}

/// Changes bytes in every file below a directory.
fn damage_all(dir: &std::path::Path) {
    for entry in walkdir::WalkDir::new(dir).into_iter().flatten().filter(|entry| entry.file_type().is_file()) {
        flip(entry.path(), 300);
    }
}

#[test]
fn a_disk_is_not_let_go_for_records_that_are_rotten_elsewhere() {
    let (bench, tree) = one_run(&["disk1", "disk2"], &TWO);
    change(&bench.src(), 3);
    bench.backup();
    let later = snapshot(&bench.src());
    damage_all(&bench.path("disk1/runs"));
    let said = bench.run(&["remove-volume", "disk2"]).with_code(6);
    assert!(said.err.contains("record of run 1") && said.err.contains("written anew"), "{said:#?}");
    fs::remove_dir_all(bench.path("disk2")).unwrap();
    fs::remove_file(bench.path(bench.catalog())).unwrap();
    bench.run(&["rebuild-catalog", "--volume", "disk1"]);
    bench.assert_reverts(1, &tree);
    bench.assert_reverts(2, &later);
}

#[test]
fn after_the_only_disk_died_the_next_run_can_be_rebuilt_again() {
    let (bench, _) = one_run(&["disk1"], &SMALL);
    fs::rename(bench.path("disk1"), bench.path("dead")).unwrap();
    bench.run(&["replace-volume", "disk1", "disk2"]).with_code(4);
    bench.backup();
    write(&bench.src(), "later", b"later");
    let tree = snapshot(&bench.src());
    let run = bench.backup()["run"].as_i64().unwrap();
    let report = bench.json(&["validate", "--deep"], 0);
    assert!(report["manifests_checked"].as_u64() >= Some(2), "{report}");
    fs::remove_file(bench.path(bench.catalog())).unwrap();
    bench.run(&["rebuild-catalog", "--volume", "disk2"]);
    bench.assert_reverts(run, &tree);
    bench.backup();
    bench.assert_all_good();
    // And rot in what took the place of the old records is damage.
    damage_all(&bench.path("disk2/runs"));
    bench.run(&["validate"]).with_code(4);
}

#[test]
fn what_a_disk_holds_that_is_taken_back_is_not_stored_again() {
    let (bench, _) = one_run(&["disk1", "disk2"], &SMALL);
    fs::remove_file(bench.path("src/much")).unwrap();
    bench.backup();
    fs::rename(bench.path("disk2"), bench.path("away")).unwrap();
    bench.run(&["remove-volume", "disk2", "--lost"]).with_code(4);
    fs::rename(bench.path("away"), bench.path("disk2")).unwrap();
    let report = bench.backup();
    assert_eq!((&report["data_added"], &report["data_added_packed"]), (&0.into(), &0.into()), "{report}");
    bench.assert_all_good();
    bench.run(&["status"]).with_code(0);
}

#[test]
fn a_block_that_is_damaged_here_and_there_heals_from_both() {
    let (bench, tree) = one_run(&["disk1", "disk2"], &TWO);
    let (name, path) =
        bench.blocks("disk1").into_iter().max_by_key(|(_, path)| path.metadata().unwrap().len()).unwrap();
    flip(&path, 1_000_000);
    flip(&bench.blocks("disk2")[&name], 7_000_000);
    for entry in fs::read_dir(bench.src()).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    write(&bench.src(), "only", b"this");
    bench.run(&["validate"]).with_code(4);
    bench.json(&["backup", "src"], 0);
    bench.assert_reverts(1, &tree);
    bench.json(&["backup", "src"], 0);
    bench.assert_reverts(1, &tree);
    bench.assert_all_good();
    bench.run(&["protect"]).with_code(0);
}

#[test]
fn a_copy_that_is_known_to_be_damaged_is_never_left_out_of_a_check() {
    let (bench, _) = one_run(&["disk1", "disk2"], &TWO);
    bench.run(&["validate"]).with_code(0);
    flip(bench.blocks("disk1").values().next().unwrap(), 1000);
    bench.run(&["validate"]).with_code(4);
    for args in [&["validate", "--max-age", "30d"][..], &["validate", "--quick"], &["validate", "--sample", "1%"]] {
        bench.run(args).with_code(4);
    }
    let status = bench.run(&["status"]).with_code(1);
    assert!(status.out.contains("--repair"), "{status:#?}");
    bench.run(&["validate", "--max-age", "30d", "--repair"]).with_code(0);
    bench.run(&["status"]).with_code(0);
}
