//! Blocks on several disks: which disks may go, what is told when there are too few, and how it is made good again.

use crate::util::bench::Bench;
use crate::util::disks::{assert_restores_all_but, hide, lost, rebuild_args, show, spread};
use crate::util::needs::Tmpfs;
use crate::util::oracle::{Snapshot, snapshot};
use crate::util::tree::{Rng, change, flip, grow, set_mode, write};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

const DISKS: [&str; 3] = ["disk1", "disk2", "disk3"];
const TWO: [&str; 4] = ["--block-size", "8M", "--redundancy", "copies=2"];

/// Three disks, two copies, three runs.
fn three_runs() -> (Bench, BTreeMap<i64, Snapshot>) {
    let bench = Bench::with_volumes(&DISKS, &TWO);
    grow(&bench.src(), 1);
    // Enough for several blocks on each disk.
    write(&bench.src(), "much", &Rng(44).bytes(40 << 20));
    let mut runs = BTreeMap::new();
    for seed in 0..3 {
        if seed > 0 {
            change(&bench.src(), seed);
            write(&bench.src(), &format!("more/{seed}"), &Rng(seed).bytes(5 << 20));
        }
        let report = bench.backup();
        assert!(report["blocks_copied"].as_u64() >= Some(1), "{report}");
        assert_eq!(report["blocks_copied"], report["blocks_written"], "{report}");
        runs.insert(report["run"].as_i64().unwrap(), snapshot(&bench.src()));
    }
    (bench, runs)
}

#[test]
fn any_one_disk_of_three_may_go_and_the_catalog_with_it() {
    let (bench, runs) = three_runs();
    assert!(spread(&bench, &DISKS).values().all(|count| *count == 2));
    bench.assert_all_good();
    for gone in DISKS {
        hide(&bench, gone);
        let catalog = bench.path(bench.catalog());
        fs::rename(&catalog, bench.path("kept.cat")).unwrap();
        let report = bench.json(&rebuild_args(DISKS.into_iter().filter(|disk| *disk != gone)), 5);
        assert_eq!(report["files_needing_missing_total"], 0, "{gone}: {report}");
        assert!(report["volumes_missing"][0].as_str().unwrap().starts_with(gone), "{report}");
        let said = bench.run(&["validate", "--deep"]).with_code(5);
        assert!(said.err.contains(gone), "{said:#?}");
        for (run, tree) in &runs {
            bench.assert_reverts(*run, tree);
        }
        // The policy came back from the records.
        assert_eq!(
            bench.query("SELECT value FROM meta WHERE key = 'redundancy'"),
            [r#"Text([99, 111, 112, 105, 101, 115, 61, 50])"#]
        );
        fs::rename(bench.path("kept.cat"), &catalog).unwrap();
        show(&bench, gone);
    }
    bench.assert_all_good();
}

/// Of every version that is named, source-relative path and runs.
#[test]
fn without_two_disks_exactly_the_files_that_were_named_are_refused() {
    let (bench, runs) = three_runs();
    let mut refused_ever = 0;
    for kept in DISKS {
        let gone: Vec<&str> = DISKS.into_iter().filter(|disk| *disk != kept).collect();
        assert!(lost(&bench, gone[0]).is_empty() && lost(&bench, gone[1]).is_empty());
        let named = lost(&bench, &gone.join(","));
        gone.iter().for_each(|disk| hide(&bench, disk));
        for (run, tree) in &runs {
            refused_ever += assert_restores_all_but(&bench, &named, (*run, tree), &format!("on {kept} alone"));
        }
        gone.iter().for_each(|disk| show(&bench, disk));
    }
    assert!(refused_ever > 0, "no block was on two of three disks alone");
}

#[test]
fn a_run_on_too_few_disks_is_saved_and_told_and_made_good_by_protect() {
    let bench = Bench::with_volumes(&["disk1"], &TWO);
    grow(&bench.src(), 1);
    let said = bench.run(&["backup", "src"]).with_code(6);
    assert!(said.err.contains("copies=2") && said.err.contains("there are 1 of 2 volumes"), "{said:#?}");
    assert!(said.out.contains("Run 1"), "{said:#?}");
    bench.assert_reverts(1, &snapshot(&bench.src()));
    bench.run(&["protect"]).with_code(6);
    bench.run(&["add-volume", "disk2"]).with_code(0);
    // A backup copies its own blocks; what was stored before is for `protect`.
    write(&bench.src(), "more", &Rng(3).bytes(1 << 20));
    let report = bench.json(&["backup", "src"], 6);
    assert_eq!(report["blocks_copied"], 1);
    let left = report["blocks_under_protected"].as_u64().unwrap();
    assert!(left > 0 && report["bytes_under_protected"].as_u64().unwrap() > 0, "{report}");
    let report = bench.json(&["protect"], 0);
    assert_eq!((report["blocks_copied"].as_u64(), &report["blocks_under_protected"]), (Some(left), &0.into()));
    assert!(spread(&bench, &["disk1", "disk2"]).values().all(|count| *count == 2));
    assert_eq!(bench.json(&["protect"], 0)["blocks_copied"], 0);
    bench.backup();
    bench.assert_all_good();
    // A disk that is away says so again, and nothing is lost.
    hide(&bench, "disk2");
    write(&bench.src(), "again", &Rng(4).bytes(1 << 20));
    let said = bench.run(&["backup", "src"]).with_code(6);
    assert!(said.err.contains("too few volumes are here"), "{said:#?}");
    show(&bench, "disk2");
    bench.run(&["protect"]).with_code(0);
    bench.backup();
    assert!(spread(&bench, &["disk1", "disk2"]).values().all(|count| *count == 2));
    bench.assert_all_good();
}

#[test]
fn the_policy_can_be_changed_while_backups_go_on() {
    let bench = Bench::with_volumes(&DISKS, &["--block-size", "8M"]);
    grow(&bench.src(), 1);
    write(&bench.src(), "much", &Rng(9).bytes(60 << 20));
    let mut runs = vec![snapshot(&bench.src())];
    assert_eq!(bench.backup()["blocks_copied"], 0);
    let said = bench.run(&["set-redundancy", "copies=2"]).with_code(0);
    assert!(said.out.contains("it was none;") && said.out.contains("raidtape protect"), "{said:#?}");
    change(&bench.src(), 1);
    runs.push(snapshot(&bench.src()));
    bench.json(&["backup", "src"], 6);
    // In steps: each call comes further.
    let mut calls = 0;
    loop {
        let said = bench.run(&["--json", "protect", "--max-duration", "0s"]);
        calls += 1;
        assert!(calls < 40 && [0, 6].contains(&said.code), "{said:#?}");
        let report = said.summary();
        assert!(report["blocks_copied"].as_u64() >= Some(1) && report["blocks_copied"].as_u64() <= Some(3), "{report}");
        if said.code == 0 {
            break;
        }
    }
    assert!(calls > 1);
    assert!(spread(&bench, &DISKS).values().all(|count| *count == 2));
    change(&bench.src(), 2);
    runs.push(snapshot(&bench.src()));
    bench.backup();
    bench.run(&["set-redundancy", "copies=3"]).with_code(0);
    bench.run(&["protect"]).with_code(0);
    assert!(spread(&bench, &DISKS).values().all(|count| *count == 3));
    bench.run(&["set-redundancy", "none"]).with_code(0);
    change(&bench.src(), 3);
    runs.push(snapshot(&bench.src()));
    assert_eq!(bench.backup()["blocks_copied"], 0);
    bench.assert_all_good();
    for (at, tree) in runs.iter().enumerate() {
        bench.assert_reverts(at as i64 + 1, tree);
    }
    for bad in ["copies=1", "copies", "mirror", "parity=0+1", "parity=2"] {
        let said = bench.run(&["set-redundancy", bad]).with_code(2);
        assert!(said.err.contains("`copies=2` to `copies=16`"), "{said:#?}");
    }
}

#[test]
fn rot_in_either_copy_is_read_around_and_healed() {
    let (bench, runs) = three_runs();
    // One block of each disk, no two the same.
    let mut hurt: Vec<(String, PathBuf)> = Vec::new();
    for disk in DISKS {
        let is_new = |(name, _): &(String, PathBuf)| hurt.iter().all(|(other, _)| other != name);
        let next = bench.blocks(disk).into_iter().find(is_new).unwrap();
        hurt.push(next);
    }
    flip(&hurt[0].1, 5000);
    fs::remove_file(&hurt[1].1).unwrap();
    let third = &hurt[2];
    set_mode(&third.1, 0o600);
    fs::File::options().write(true).open(&third.1).unwrap().set_len(100).unwrap();
    for (run, tree) in &runs {
        bench.assert_reverts(*run, tree);
    }
    let told = runs.keys().map(|run| {
        let dest = format!("told{run}");
        bench.json(&["revert-to-run", &run.to_string(), &dest], 0)["read_elsewhere"].as_u64().unwrap()
    });
    assert!(told.sum::<u64>() >= 1);
    let said = bench.run(&["validate"]).with_code(4);
    assert!(said.out.ends_with("Uh oh: 3 blocks damaged\n"), "{said:#?}");
    let said = bench.run(&["validate", "--repair"]).with_code(0);
    assert!(said.out.ends_with("All good again: 3 damaged blocks healed\n"), "{said:#?}");
    assert_eq!(said.err.matches("healed: written anew from").count(), 3, "{said:#?}");
    // The two that were there are kept, as they were.
    assert!(bench.path("disk1/quarantine").join(&hurt[0].0).is_file());
    assert_eq!(bench.path("disk3/quarantine").join(&third.0).metadata().unwrap().len(), 100);
    assert!(!bench.path("disk2/quarantine").exists());
    bench.assert_all_good();
    assert!(bench.path("disk1/quarantine").join(&hurt[0].0).is_file());
    let said = bench.run(&["validate", "--repair"]).with_code(0);
    assert!(said.err.contains("set aside removed") && said.out.ends_with("All good\n"), "{said:#?}");
    assert!(!bench.path("disk1/quarantine").join(&hurt[0].0).exists());
    assert!(spread(&bench, &DISKS).values().all(|count| *count == 2));
    assert_eq!(bench.json(&["revert-to-run", "3", "quiet"], 0)["read_elsewhere"], 0);
}

#[test]
fn a_disk_without_room_for_what_heals_it_is_told_so_and_heals_with_more() {
    let bench = Bench::with_volumes(&["disk1"], &TWO);
    let Some(small) = Tmpfs::mount(&bench.path("small"), 48) else { return };
    bench.run(&["add-volume", "small"]).with_code(0);
    write(&bench.src(), "much", &Rng(5).bytes(30 << 20));
    bench.backup();
    let blocks = bench.blocks("small");
    assert!(blocks.len() >= 4, "{blocks:?}");
    blocks.values().for_each(|path| flip(path, 5000));
    write(&bench.path("small"), "somebody elses", &vec![1; 15 << 20]);
    let said = bench.run(&["validate", "--repair"]).with_code(4);
    assert_eq!(said.err.matches("free some space on that disk").count(), 1, "{said:#?}");
    assert!(said.err.matches("no space left").count() >= 4 && !said.err.contains("replace that disk"), "{said:#?}");
    small.resize(200);
    bench.run(&["validate", "--repair"]).with_code(0);
    bench.assert_all_good();
}

#[test]
fn rot_in_both_copies_at_different_places_is_put_together_again() {
    let (bench, runs) = three_runs();
    let of_disk1 = bench.blocks("disk1");
    // The longest: it has several segments.
    let others = ["disk2", "disk3"].iter().flat_map(|disk| bench.blocks(disk));
    let shared = others.filter(|(name, _)| of_disk1.contains_key(name));
    let (name, second) = shared.max_by_key(|(_, path)| fs::metadata(path).unwrap().len()).unwrap();
    flip(&of_disk1[&name], 5000);
    flip(&second, fs::metadata(&second).unwrap().len() - 3000);
    for (run, tree) in &runs {
        bench.assert_reverts(*run, tree);
    }
    let report = bench.json(&["validate"], 4);
    assert!(report["damaged"].as_array().unwrap().iter().all(|block| block["files_total"] == 0), "{report}");
    let said = bench.run(&["validate", "--repair"]).with_code(0);
    assert!(said.err.contains("healed: written anew from what is sound in its copies"), "{said:#?}");
    bench.assert_all_good();
    for (run, tree) in &runs {
        bench.assert_reverts(*run, tree);
    }
}

#[test]
fn rot_in_both_copies_of_one_segment_is_put_together_from_pieces() {
    let (bench, runs) = three_runs();
    let of_disk1 = bench.blocks("disk1");
    let others = ["disk2", "disk3"].iter().flat_map(|disk| bench.blocks(disk));
    let shared = others.filter(|(name, _)| of_disk1.contains_key(name));
    let (name, second) = shared.max_by_key(|(_, path)| fs::metadata(path).unwrap().len()).unwrap();
    // All in the first segment: 100,000 bytes of noise are one.
    [5_000, 5_100, 70_000].iter().for_each(|at| flip(&of_disk1[&name], *at));
    [30_000, 95_000].iter().for_each(|at| flip(&second, *at));
    let report = bench.json(&["validate"], 4);
    assert!(report["damaged"].as_array().unwrap().iter().any(|block| block["files_total"] != 0), "{report}");
    let said = bench.run(&["validate", "--repair"]).with_code(0);
    assert!(said.err.contains("healed: written anew from what is sound in its copies"), "{said:#?}");
    bench.assert_all_good();
    for (run, tree) in &runs {
        bench.assert_reverts(*run, tree);
    }
}

#[test]
fn a_lost_disk_is_replaced_and_taken_back_when_it_turns_up() {
    let (bench, runs) = three_runs();
    bench.run(&["replace-volume", "disk2", "disk4"]).with_code(2).with_sentence(&["disk2", "is here", "remove-volume"]);
    bench.run(&["replace-volume", "disk9", "disk4"]).with_code(2).with_sentence(&["disk9"]);
    hide(&bench, "disk2");
    let said = bench.run(&["replace-volume", "disk2", "disk4"]).with_code(0);
    assert!(said.out.contains("disk2") && said.out.contains("disk4"), "{said:#?}");
    let now = ["disk1", "disk3", "disk4"];
    assert!(spread(&bench, &now).values().all(|count| *count == 2));
    // The same command again finds nothing to do.
    assert_eq!(bench.json(&["replace-volume", "disk2", "disk4"], 0)["blocks_copied"], 0);
    bench.backup();
    bench.assert_all_good();
    for gone in now {
        hide(&bench, gone);
        for (run, tree) in &runs {
            bench.assert_reverts(*run, tree);
        }
        show(&bench, gone);
    }
    // Also a catalog from the disks alone knows that it is given up.
    fs::rename(bench.path(bench.catalog()), bench.path("kept.cat")).unwrap();
    let report = bench.json(&rebuild_args(now.into_iter()), 0);
    assert_eq!(report["volumes_missing"], Value::Array(Vec::new()), "{report}");
    bench.assert_all_good();
    fs::remove_file(bench.path(bench.catalog())).unwrap();
    fs::rename(bench.path("kept.cat"), bench.path(bench.catalog())).unwrap();
    show(&bench, "disk2");
    write(&bench.src(), "later", b"later");
    let said = bench.run(&["backup", "src"]).with_code(0);
    assert!(said.err.contains("disk2 was given up and is here again"), "{said:#?}");
    bench.assert_all_good();
    for (run, tree) in &runs {
        bench.assert_reverts(*run, tree);
    }
}

#[test]
fn without_copies_a_lost_disk_is_told_and_healed_from_the_source() {
    let bench = Bench::with_volumes(&["disk1", "disk2"], &["--block-size", "8M"]);
    grow(&bench.src(), 1);
    bench.backup();
    let tree = snapshot(&bench.src());
    let (first, second) = (bench.blocks("disk1").len() as u64, bench.blocks("disk2").len() as u64);
    assert!(first > 0 && second > 0);
    hide(&bench, "disk2");
    let report = bench.json(&["remove-volume", "disk2", "--lost"], 4);
    assert_eq!((report["blocks_gone"].as_u64(), &report["blocks_copied"]), (Some(second), &0.into()), "{report}");
    let report = bench.backup();
    assert!(report["data_added"].as_u64().unwrap() > 0 && report["files_changed"] == 0, "{report}");
    bench.assert_reverts(1, &tree);
    bench.assert_reverts(2, &tree);
    bench.assert_all_good();
}

#[test]
fn a_disk_is_emptied_into_the_others_before_it_is_removed() {
    let bench = Bench::with_volumes(&DISKS, &["--block-size", "8M"]);
    grow(&bench.src(), 1);
    bench.backup();
    change(&bench.src(), 1);
    bench.backup();
    let (_, first) = bench.reverted(1);
    let second = snapshot(&bench.src());
    let moved = bench.blocks("disk1").len() as u64;
    assert!(moved > 0);
    let report = bench.json(&["remove-volume", "disk1"], 0);
    assert_eq!(report["blocks_copied"].as_u64(), Some(moved), "{report}");
    assert_eq!(bench.blocks("disk1").len() as u64, moved, "its files are its owner's to delete");
    bench.run(&["runs", "--volume", "disk1"]).with_code(2).with_sentence(&["disk1", "was removed"]);
    bench.run(&["add-volume", "disk1"]).with_code(2);
    bench.run(&["remove-volume", "disk1"]).with_code(2).with_sentence(&["disk1"]);
    bench.backup();
    assert_eq!(bench.blocks("disk1").len() as u64, moved);
    fs::remove_dir_all(bench.path("disk1")).unwrap();
    bench.assert_all_good();
    fs::remove_file(bench.path(bench.catalog())).unwrap();
    let report = bench.json(&["rebuild-catalog", "--volume", "disk2", "--volume", "disk3"], 0);
    assert_eq!(report["volumes_missing"], Value::Array(Vec::new()), "{report}");
    bench.assert_reverts(1, &first);
    bench.assert_reverts(2, &second);
    bench.assert_all_good();
    // The last one stays.
    bench.run(&["remove-volume", "disk2"]).with_code(0);
    bench.run(&["remove-volume", "disk3"]).with_code(5).with_sentence(&["disk3", "stays"]);
    bench.assert_reverts(1, &first);
    bench.assert_reverts(2, &second);
}
