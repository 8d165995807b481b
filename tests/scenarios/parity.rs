//! Parity across disks: which disks may go, what rot costs nothing, what is told beyond that, and how groups fill, are made
//! again and give way to others.

use crate::util::bench::Bench;
use crate::util::disks::{assert_restores_all_but, hide, lost, rebuild_args, show};
use crate::util::oracle::{Snapshot, snapshot};
use crate::util::tree::{Rng, change, flip, grow, set_mode, write};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const DISKS: [&str; 6] = ["disk1", "disk2", "disk3", "disk4", "disk5", "disk6"];
const MIB: usize = 1 << 20;

type Runs = BTreeMap<i64, Snapshot>;

/// Four runs, the last ones small, under this policy on so many disks.
fn some_runs(policy: &str, disks: &[&str]) -> (Bench, Runs) {
    let bench = Bench::with_volumes(disks, &["--block-size", "8M", "--redundancy", policy]);
    grow(&bench.src(), 1);
    // A large block for each position.
    let positions: usize = policy["parity=".len()..].split('+').next().unwrap().parse().unwrap();
    write(&bench.src(), "much", &Rng(44).bytes(positions * 6 * MIB));
    let mut runs = Runs::new();
    for seed in 0..4 {
        if seed > 0 {
            change(&bench.src(), seed);
            write(&bench.src(), &format!("more/{seed}"), &Rng(seed).bytes(2 * MIB * seed as usize));
        }
        let report = bench.backup();
        assert_eq!(report["blocks_under_protected"], 0, "{report}");
        runs.insert(report["run"].as_i64().unwrap(), snapshot(&bench.src()));
    }
    assert_no_strangers(&bench);
    (bench, runs)
}

fn assert_all_runs(bench: &Bench, runs: &Runs) {
    runs.iter().for_each(|(run, tree)| bench.assert_reverts(*run, tree));
}

/// Everything is sound, and nothing lies on the disks that the catalog does not know.
#[track_caller]
fn assert_no_strangers(bench: &Bench) {
    let report = bench.json(&["validate", "--deep"], 0);
    assert_eq!((&report["blocks_unknown"], &report["notes"]), (&0.into(), &Value::Array(Vec::new())), "{report}");
    assert_eq!(report["index_problems"], Value::Array(Vec::new()), "{report}");
}

/// All choices of `count` of the disks.
fn choices<'d>(disks: &[&'d str], count: usize) -> Vec<Vec<&'d str>> {
    match (count, disks) {
        (0, _) => vec![Vec::new()],
        (_, []) => Vec::new(),
        (_, [first, rest @ ..]) => {
            let mut all = choices(rest, count - 1);
            all.iter_mut().for_each(|choice| choice.insert(0, first));
            all.append(&mut choices(rest, count));
            all
        }
    }
}

/// Without any `count` disks: with the catalog that there is, and with one made of the disks that are left.
fn any_may_go((bench, runs): &(Bench, Runs), disks: &[&str], count: usize) {
    for gone in choices(disks, count) {
        gone.iter().for_each(|disk| hide(bench, disk));
        let newest = *runs.keys().last().unwrap();
        bench.assert_reverts(newest, &runs[&newest]);
        let catalog = bench.path(bench.catalog());
        fs::rename(&catalog, bench.path("kept.cat")).unwrap();
        let report = bench.json(&rebuild_args(disks.iter().copied().filter(|disk| !gone.contains(disk))), 5);
        assert_eq!(report["files_needing_missing_total"], 0, "{gone:?}: {report}");
        assert_eq!(report["volumes_missing"].as_array().unwrap().len(), count, "{report}");
        let report = bench.json(&["validate", "--deep"], 5);
        assert_eq!(report["damaged"], Value::Array(Vec::new()), "{gone:?}: {report}");
        // All of them take too long with many choices.
        let is_tried = |run: i64| count == 1 || run % 3 == 1;
        runs.iter().filter(|(run, _)| is_tried(**run)).for_each(|(run, tree)| bench.assert_reverts(*run, tree));
        fs::rename(bench.path("kept.cat"), &catalog).unwrap();
        gone.iter().for_each(|disk| show(bench, disk));
    }
    bench.assert_all_good();
}

#[test]
fn any_one_of_three_disks_may_go_and_the_catalog_with_it() {
    any_may_go(&some_runs("parity=2+1", &DISKS[..3]), &DISKS[..3], 1);
}

#[test]
fn any_two_of_six_disks_may_go_and_the_catalog_with_them() {
    any_may_go(&some_runs("parity=4+2", &DISKS), &DISKS, 2);
}

#[test]
fn with_one_disk_more_gone_exactly_the_files_that_were_named_are_refused() {
    let (bench, runs) = some_runs("parity=2+1", &DISKS[..4]);
    let mut refused_ever = 0;
    for gone in choices(&DISKS[..4], 2) {
        assert!(lost(&bench, gone[0]).is_empty() && lost(&bench, gone[1]).is_empty());
        let named = lost(&bench, &gone.join(","));
        gone.iter().for_each(|disk| hide(&bench, disk));
        for (run, tree) in &runs {
            refused_ever += assert_restores_all_but(&bench, &named, (*run, tree), &format!("without {gone:?}"));
        }
        gone.iter().for_each(|disk| show(&bench, disk));
    }
    assert!(refused_ever > 0, "any two of four disks may go?");
}

/// The files of a full group of two: its blocks with their paths, and its parity's path.
fn a_full_group(bench: &Bench) -> (Vec<PathBuf>, PathBuf) {
    let names = bench.query(
        "SELECT group_concat(lower(hex(b.name)), ' ') FROM (SELECT t.grp AS grp, b.name AS name FROM parity_members t
           JOIN blocks b ON b.id = t.block WHERE b.size > 3000000 ORDER BY t.grp, t.pos) b GROUP BY b.grp HAVING count(*) = 3",
    );
    let files: BTreeMap<String, PathBuf> = DISKS[..3].iter().flat_map(|disk| bench.blocks(disk)).collect();
    let text = names.first().unwrap().trim_start_matches("Text([").trim_end_matches("])");
    let bytes: Vec<u8> = text.split(", ").map(|byte| byte.parse().unwrap()).collect();
    let names = String::from_utf8(bytes).unwrap();
    let mut paths: Vec<PathBuf> = names.split(' ').map(|name| files[name].clone()).collect();
    let parity = paths.pop().unwrap();
    (paths, parity)
}

fn shorten(path: &Path, len: u64) {
    set_mode(path, 0o600);
    fs::File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// All is read around; a check tells so many damaged files, a repair heals them, and then all is as it was.
fn assert_heals((bench, runs): &(Bench, Runs), damaged: usize) {
    assert_all_runs(bench, runs);
    let report = bench.json(&["validate"], 4);
    let found = report["damaged"].as_array().unwrap();
    assert_eq!(found.len(), damaged, "{report}");
    assert!(found.iter().all(|block| block["files_total"] == 0), "{report}");
    let backup = bench.json(&["backup", "src"], 6);
    assert_eq!(backup["files_changed"], 0, "{backup}");
    let said = bench.run(&["validate", "--repair"]).with_code(0);
    let healed =
        if damaged == 1 { "1 damaged block healed".to_owned() } else { format!("{damaged} damaged blocks healed") };
    assert!(said.out.contains(&healed), "{said:#?}");
    bench.assert_all_good();
    bench.backup();
    bench.run(&["validate", "--repair"]).with_code(0);
    assert_no_strangers(bench);
}

#[test]
fn rot_in_two_files_of_a_group_at_different_places_costs_nothing_with_one_parity() {
    let mut stage = some_runs("parity=2+1", &DISKS[..3]);
    stage.1.retain(|run, _| *run <= 2);
    let (blocks, parity) = a_full_group(&stage.0);
    flip(&blocks[0], 5000);
    flip(&blocks[1], 2 * MIB as u64 + 7000);
    assert_heals(&stage, 2);
    flip(&blocks[0], 5000);
    flip(&parity, 2 * MIB as u64 + 7000);
    assert_heals(&stage, 2);
    // The table of a parity is its end; a block that is cut off has its first columns.
    flip(&parity, fs::metadata(&parity).unwrap().len() - 100);
    assert_heals(&stage, 1);
    fs::remove_file(&blocks[0]).unwrap();
    assert_heals(&stage, 1);
    shorten(&blocks[1], 3 * MIB as u64);
    flip(&blocks[0], 1000);
    assert_heals(&stage, 2);
    fs::remove_file(&parity).unwrap();
    assert_heals(&stage, 1);
}

#[test]
fn rot_at_one_place_in_more_files_than_there_are_parities_is_told_and_healed_from_the_source() {
    let (bench, runs) = some_runs("parity=2+1", &DISKS[..3]);
    let (blocks, _) = a_full_group(&bench);
    flip(&blocks[0], 5000);
    flip(&blocks[1], 5000);
    let report = bench.json(&["validate"], 4);
    let files: u64 =
        report["damaged"].as_array().unwrap().iter().map(|block| block["files_total"].as_u64().unwrap()).sum();
    assert!(files >= 1, "{report}");
    let report = bench.json(&["validate", "--repair"], 4);
    assert_eq!(report["damaged"].as_array().unwrap().len(), 2, "{report}");
    // The source still has it.
    let report = bench.json(&["backup", "src"], 0);
    assert!(report["data_added"].as_u64() > Some(0), "{report}");
    assert_all_runs(&bench, &runs);
    bench.assert_all_good();
    for gone in &DISKS[..3] {
        hide(&bench, gone);
        assert_all_runs(&bench, &runs);
        show(&bench, gone);
    }
}

#[test]
fn a_lost_disk_and_rot_elsewhere_are_read_around_and_healed_together() {
    let (bench, runs) = some_runs("parity=4+2", &DISKS);
    hide(&bench, "disk3");
    // Beside what is lost one file has rot in any column of a group, wherever the two are.
    for (disk, at) in [("disk1", 3000), ("disk5", 2 * MIB as u64 + 3000)] {
        let files = bench.blocks(disk).into_values();
        let longest = files.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
        flip(&longest, at);
    }
    assert_all_runs(&bench, &runs);
    bench.run(&["replace-volume", "disk3", "disk7"]).with_code(0);
    let report = bench.json(&["validate", "--repair"], 0);
    assert!(report["damaged"].as_array().unwrap().len() <= 2, "{report}");
    assert_no_strangers_but_quarantine(&bench);
    let now = ["disk1", "disk2", "disk4", "disk5", "disk6", "disk7"];
    for gone in choices(&now, 2) {
        gone.iter().for_each(|disk| hide(&bench, disk));
        let newest = *runs.keys().last().unwrap();
        bench.assert_reverts(newest, &runs[&newest]);
        gone.iter().for_each(|disk| show(&bench, disk));
    }
}

/// The second check after a repair removes what was set aside.
fn assert_no_strangers_but_quarantine(bench: &Bench) {
    bench.run(&["validate", "--repair"]).with_code(0);
    assert_no_strangers(bench);
}

fn count(bench: &Bench, what: &str) -> i64 {
    let found = bench.query(&format!("SELECT count(*) FROM {what}"));
    found[0].trim_start_matches("Integer(").trim_end_matches(')').parse().unwrap()
}

#[test]
fn small_runs_fill_the_groups_of_those_before() {
    let bench = Bench::with_volumes(&DISKS[..5], &["--block-size", "8M", "--redundancy", "parity=4+1"]);
    let mut runs = Runs::new();
    for night in 0..8_u64 {
        write(&bench.src(), &format!("night{night}"), &Rng(night).bytes(MIB));
        let report = bench.backup();
        assert_eq!(report["blocks_written"], 1, "{report}");
        runs.insert(report["run"].as_i64().unwrap(), snapshot(&bench.src()));
    }
    // Eight blocks alone would be sixteen files; in two groups they are ten.
    assert_eq!((count(&bench, "blocks WHERE kind = 1"), count(&bench, "blocks WHERE kind = 3")), (8, 2));
    let files: usize = DISKS[..5].iter().map(|disk| bench.blocks(disk).len()).sum();
    assert_eq!(files, 10);
    assert_no_strangers(&bench);
    any_may_go(&(bench, runs), &DISKS[..5], 1);
}

#[test]
fn the_policy_changes_while_backups_go_on_and_nothing_superfluous_stays() {
    let bench = Bench::with_volumes(&DISKS[..3], &["--block-size", "8M"]);
    grow(&bench.src(), 1);
    write(&bench.src(), "much", &Rng(9).bytes(30 * MIB));
    let mut runs = Runs::new();
    let mut next = |bench: &Bench, code| {
        change(&bench.src(), runs.len() as u64 + 1);
        let report = bench.json(&["backup", "src"], code);
        runs.insert(report["run"].as_i64().unwrap(), snapshot(&bench.src()));
        runs.clone()
    };
    next(&bench, 0);
    bench.run(&["set-redundancy", "parity=2+1"]).with_code(0);
    // What was stored before is for `protect`, which can be told to stop and goes on.
    next(&bench, 6);
    let mut calls = 0;
    while bench.run(&["protect", "--max-duration", "0s"]).code == 6 {
        calls += 1;
        assert!(calls < 40);
    }
    let runs = next(&bench, 0);
    assert!(count(&bench, "blocks WHERE kind = 3") > 0);
    assert_no_strangers(&bench);
    any_may_go(&(bench, runs), &DISKS[..3], 1);
}

#[test]
fn parity_gives_way_to_copies_and_copies_to_parity() {
    let (bench, runs) = some_runs("parity=2+1", &DISKS[..3]);
    let (blocks, bytes) = (count(&bench, "blocks WHERE kind = 1"), stored(&bench));
    bench.run(&["set-redundancy", "copies=2"]).with_code(0);
    let report = bench.json(&["protect"], 0);
    assert!(report["files_removed"].as_u64() > Some(0), "{report}");
    assert_eq!((count(&bench, "blocks WHERE kind = 3"), count(&bench, "copies")), (0, 2 * blocks));
    assert_no_strangers(&bench);
    let (bench, runs) = (bench, runs);
    bench.run(&["set-redundancy", "parity=2+1"]).with_code(0);
    bench.run(&["protect"]).with_code(0);
    assert!(stored(&bench) <= bytes + 3 * MIB as u64, "{} {bytes}", stored(&bench));
    let report = bench.json(&["protect"], 0);
    assert_eq!(
        (&report["blocks_copied"], &report["parity_groups"], &report["files_removed"]),
        (&0.into(), &0.into(), &0.into())
    );
    assert_no_strangers(&bench);
    any_may_go(&(bench, runs), &DISKS[..3], 1);
}

/// Bytes of all block files.
fn stored(bench: &Bench) -> u64 {
    let here = DISKS.iter().filter(|disk| bench.path(disk).exists());
    here.flat_map(|disk| bench.blocks(disk)).map(|(_, path)| fs::metadata(path).unwrap().len()).sum()
}

#[test]
fn a_lost_disk_is_made_again_on_another_and_one_is_emptied_into_the_others() {
    let (bench, runs) = some_runs("parity=2+1", &DISKS[..4]);
    hide(&bench, "disk2");
    let report = bench.json(&["replace-volume", "disk2", "disk5"], 0);
    assert_eq!((&report["blocks_gone"], &report["blocks_under_protected"]), (&0.into(), &0.into()), "{report}");
    assert!(report["blocks_copied"].as_u64() > Some(0), "{report}");
    bench.run(&["protect"]).with_code(0);
    assert_no_strangers(&bench);
    bench.json(&["remove-volume", "disk4"], 0);
    fs::remove_dir_all(bench.path("disk4")).unwrap();
    let now = ["disk1", "disk3", "disk5"];
    bench.run(&["protect"]).with_code(0);
    bench.backup();
    any_may_go(&(bench, runs), &now, 1);
}

#[test]
fn without_another_disk_what_was_lost_goes_to_the_others_as_copies() {
    let (bench, runs) = some_runs("parity=2+1", &DISKS[..3]);
    hide(&bench, "disk1");
    let report = bench.json(&["remove-volume", "disk1", "--lost"], 0);
    assert_eq!((&report["blocks_gone"], &report["blocks_under_protected"]), (&0.into(), &0.into()), "{report}");
    for gone in ["disk2", "disk3"] {
        hide(&bench, gone);
        assert_all_runs(&bench, &runs);
        show(&bench, gone);
    }
    // With a third disk they make groups again, and the copies go.
    let before = stored(&bench);
    bench.run(&["add-volume", "disk4"]).with_code(0);
    bench.run(&["protect"]).with_code(0);
    assert!(stored(&bench) < before * 9 / 10, "{} of {before}", stored(&bench));
    // The disks learn of what was given up.
    bench.backup();
    assert_no_strangers(&bench);
    any_may_go(&(bench, runs), &["disk2", "disk3", "disk4"], 1);
}

#[test]
fn too_few_disks_for_any_parity_are_told() {
    let bench = Bench::with_volumes(&["disk1"], &["--redundancy", "parity=2+1"]);
    grow(&bench.src(), 1);
    let said = bench.run(&["backup", "src"]).with_code(6);
    assert!(said.err.contains("parity=2+1") && said.err.contains("add-volume"), "{said:#?}");
    bench.run(&["add-volume", "disk2"]).with_code(0);
    let report = bench.json(&["protect"], 0);
    assert!(report["blocks_copied"].as_u64() > Some(0), "{report}");
    let said = bench.run(&["set-redundancy", "parity=1+1"]).with_code(2);
    assert!(said.err.contains("copies=2"), "{said:#?}");
}

/// The files of the first full group of four with two parities, by position: of its blocks, then of its parities.
fn group_files(bench: &Bench, disks: &[&str]) -> Vec<PathBuf> {
    let files: BTreeMap<String, PathBuf> = disks.iter().flat_map(|disk| bench.blocks(disk)).collect();
    let sql = "SELECT lower(hex(b.name)) FROM parity_members t JOIN blocks b ON b.id = t.block WHERE t.grp =
         (SELECT grp FROM parity_members GROUP BY grp HAVING count(*) = 6 ORDER BY grp LIMIT 1) ORDER BY t.pos";
    let text = |shown: String| {
        let bytes = shown.trim_start_matches("Text([").trim_end_matches("])").split(", ");
        String::from_utf8(bytes.map(|byte| byte.parse().unwrap()).collect()).unwrap()
    };
    bench.query(sql).into_iter().map(|shown| files[&text(shown)].clone()).collect()
}

#[test]
fn a_parity_that_is_of_something_else_is_not_believed() {
    let (bench, runs) = some_runs("parity=4+2", &DISKS);
    let files = group_files(&bench, &DISKS);
    assert_eq!(files.len(), 6);
    // The first parity is another one's bytes, and a block is gone: two files, and two may be.
    let mut other = bench.blocks("disk5").into_values().chain(bench.blocks("disk6").into_values());
    let other = other.rfind(|path| !files.contains(path)).unwrap();
    let bytes = fs::read(&other).unwrap();
    fs::remove_file(&files[4]).unwrap();
    fs::write(&files[4], bytes).unwrap();
    fs::remove_file(&files[0]).unwrap();
    assert_all_runs(&bench, &runs);
    bench.run(&["validate", "--repair"]).with_code(0);
    bench.run(&["validate", "--repair"]).with_code(0);
    assert_no_strangers(&bench);
}

#[test]
fn disks_that_a_rebuild_did_not_see_are_taken_in_when_they_return_whatever_comes_first() {
    let (bench, runs) = some_runs("parity=4+2", &DISKS);
    ["disk5", "disk6"].iter().for_each(|disk| hide(&bench, disk));
    fs::remove_file(bench.path(bench.catalog())).unwrap();
    bench.run(&rebuild_args(DISKS[..4].iter().copied())).with_code(5);
    ["disk5", "disk6"].iter().for_each(|disk| show(&bench, disk));
    let report = bench.json(&["validate", "--volume", "disk5", "--volume", "disk6"], 0);
    assert_eq!((&report["blocks_unknown"], &report["blocks_under_protected"]), (&0.into(), &0.into()), "{report}");
    for gone in [["disk1", "disk2"], ["disk5", "disk1"]] {
        gone.iter().for_each(|disk| hide(&bench, disk));
        assert_all_runs(&bench, &runs);
        gone.iter().for_each(|disk| show(&bench, disk));
    }
    bench.backup();
    assert_no_strangers(&bench);
}

#[test]
fn an_older_catalog_learns_what_parity_there_is_before_anything_is_given_up() {
    let (bench, mut runs) = some_runs("parity=2+1", &DISKS[..4]);
    fs::copy(bench.path(bench.catalog()), bench.path("older.cat")).unwrap();
    write(&bench.src(), "later", &Rng(77).bytes(9 * MIB));
    let report = bench.backup();
    runs.insert(report["run"].as_i64().unwrap(), snapshot(&bench.src()));
    for gone in &DISKS[..4] {
        fs::copy(bench.path("older.cat"), bench.path(bench.catalog())).unwrap();
        let all = fs::read_dir(bench.path(".")).unwrap().flatten().map(|entry| entry.path());
        for beside in all.filter(|path| path.to_str().unwrap().contains(".cat-")) {
            fs::remove_file(beside).unwrap();
        }
        hide(&bench, gone);
        // It finds the run, and what belongs to it.
        let report = bench.json(&["validate"], 5);
        assert_eq!(report["damaged"], Value::Array(Vec::new()), "{gone}: {report}");
        assert_all_runs(&bench, &runs);
        show(&bench, gone);
    }
    bench.run(&["protect"]).with_code(0);
    bench.backup();
    assert_no_strangers(&bench);
}

#[test]
fn what_would_be_lost_counts_what_parity_alone_still_has() {
    let (bench, runs) = some_runs("parity=4+2", &DISKS);
    let files = group_files(&bench, &DISKS);
    fs::remove_file(&files[3]).unwrap();
    bench.run(&["validate"]).with_code(4);
    // Its two parities are all that gives it back.
    let disk_of =
        |path: &Path| path.strip_prefix(bench.path(".")).unwrap().iter().next().unwrap().to_str().unwrap().to_owned();
    let both = [disk_of(&files[4]), disk_of(&files[5])];
    let named = lost(&bench, &both.join(","));
    assert!(!named.is_empty());
    both.iter().for_each(|disk| hide(&bench, disk));
    let newest = *runs.keys().last().unwrap();
    assert!(assert_restores_all_but(&bench, &named, (newest, &runs[&newest]), "without both parities") > 0);
}
