//! Every call of the commands that copy blocks from disk to disk fails, or is the last of its process. The same command
//! once more finishes, and all five questions are answered well.

use crate::util::bench::Bench;
use crate::util::disks::spread;
use crate::util::five::Known;
use crate::util::needs::long_tests_factor;
use crate::util::stage::{Fault, Stage, faults_of};
use crate::util::tracer::{Call, Fate, Traced, can_trace, trace};
use crate::util::tree::{Rng, flip, write};
use nix::errno::Errno;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// One call in so many, unless there is more time: the operations of volumes are all tried by `every_fault_copies_tests`.
const STRIDE: usize = 12;
const SMALL_BLOCKS: [&str; 4] = ["--block-size", "8M", "--redundancy", "copies=2"];
const TWO: [&str; 2] = ["--redundancy", "copies=2"];

/// The same where each case takes longer.
const STRIDE_OF_PARITY: usize = 32;
const STRIDE_OF_BACKUP: usize = 48;
const THREE: [&str; 3] = ["disk1", "disk2", "disk3"];

/// Two runs on two disks.
fn two_runs(init: &[&str]) -> (Bench, Known) {
    two_runs_on(&["disk1", "disk2"], init)
}

fn two_runs_on(disks: &[&str], init: &[&str]) -> (Bench, Known) {
    let bench = Bench::in_memory().and_volumes(disks, init);
    let (mut known, mut rng) = (Known::default(), Rng(5));
    for (name, len) in [("a/one", 60_000), ("b/two", 40_000)] {
        write(&bench.src(), name, &rng.bytes(len));
    }
    known.backup(&bench);
    write(&bench.src(), "c/three", &rng.bytes(50_000));
    known.backup(&bench);
    (bench, known)
}

/// The same; then every block of the catalog lies on so many of `disks`.
fn enumerate(stage: &Stage, args: &[&str], (disks, copies): (&[&str], usize)) {
    try_all(stage, args, (disks, STRIDE), &|what| assert_spread(&stage.bench, (disks, copies), what));
}

#[track_caller]
fn assert_spread(bench: &Bench, (disks, copies): (&[&str], usize), what: &str) {
    let wanted = bench.query("SELECT lower(hex(name)) FROM blocks WHERE state = 'ok'").len();
    assert!(wanted >= 2, "{what}");
    let spread = spread(bench, disks);
    assert!(spread.len() == wanted && spread.values().all(|count| *count == copies), "{what}: {spread:?}");
}

/// The same; then any one of `disks` may go, and `protect` finds nothing to do.
fn enumerate_parity(stage: &Stage, args: &[&str], disks: &[&str]) {
    try_all(stage, args, (disks, STRIDE_OF_PARITY), &|what| {
        let bench = &stage.bench;
        bench.run(&["protect"]).with_code(0);
        let report = bench.json(&["protect"], 0);
        let done = [&report["blocks_copied"], &report["parity_groups"], &report["files_removed"]];
        assert!(done.iter().all(|count| **count == 0), "{what}: {report}");
        for disk in disks {
            std::fs::rename(bench.path(disk), bench.path("hidden")).unwrap();
            stage.known.assert_restores(bench, &format!("{what}: without {disk}"));
            std::fs::rename(bench.path("hidden"), bench.path(disk)).unwrap();
        }
    });
}

/// Goes through all calls, or one in `stride`, and faults. A command that failed is given once more, which must do; then
/// `check` holds, and everything else.
fn try_all(stage: &Stage, args: &[&str], (disks, stride): (&[&str], usize), check: &dyn Fn(&str)) {
    let mut cases = 0;
    let calls = stage.calls(args);
    let stride = (stride / long_tests_factor() as usize).max(1);
    for call in calls.iter().skip(calls.len() % stride).step_by(stride) {
        for fault in faults_of(call, long_tests_factor() > 1) {
            let traced = stage.with(args, call.number, fault);
            let Some(met) = traced.met.first() else { continue };
            let (said, bench) = (&traced.said, &stage.bench);
            let what = format!("{fault:?} at call {} of {}: {}: {said:#?}", call.number, args.join(" "), met.told());
            assert!(!said.err.contains("panicked"), "{what}");
            let is_killed = matches!(fault, Fault::DiesBefore | Fault::DiesAfter);
            assert!(if is_killed { said.code == -9 } else { [0, 1, 2, 3, 4, 5, 6, 10].contains(&said.code) }, "{what}");
            assert!(said.code == 0 || is_killed || !said.err.is_empty(), "{what}");
            stage.known.assert_restores(bench, &what);
            let mut again = bench.run(args);
            if again.err.contains("use --force") {
                // An empty directory may be a mount point: it is for the user to say.
                again = bench.run(&[args, &["--force"]].concat());
            }
            if again.code == 6 && args.contains(&"backup") {
                // What an earlier run could not copy is for that.
                again = bench.run(&["protect"]);
            }
            let is_over = again.code == 0 || again.code == 2 && again.err.contains("there is no volume");
            assert!(is_over, "{what}: once more: {again:#?}");
            check(&what);
            stage.known.clone().assert_holds(bench, disks, &what);
            cases += 1;
        }
    }
    println!("{}: {} calls, {cases} faults", args.join(" "), calls.len());
    let tried = calls.len() / stride;
    assert!(cases >= tried * 9 / 10, "{cases} of {tried} calls were met");
}

#[test]
fn whichever_call_of_protect_fails_or_is_its_last_the_next_one_finishes() {
    if !can_trace() {
        return;
    }
    let (bench, known) = two_runs(&[]);
    bench.run(&["set-redundancy", "copies=2"]).with_code(0);
    enumerate(&Stage::new(bench, known), &["--no-progress", "protect"], (&["disk1", "disk2"], 2));
}

/// Backs `src` up, 96 MiB of it; `fate` is asked when a block that is on one disk gets its name on the other.
fn back_up_and_copy(bench: &Bench, mut fate: impl FnMut(&Call) -> Fate + Send) -> Traced {
    for file in 0..16 {
        write(&bench.src(), &format!("{file:02}/much"), &Rng(file).bytes(6 << 20));
    }
    let mut names = BTreeSet::new();
    let command = bench.command(&["--json", "--no-progress", "backup", "src", "--max-workers", "1"]);
    trace(&command, &bench.path(""), &mut |call| {
        let is_block = |path: &PathBuf| path.iter().any(|part| part == "chunks");
        let name = call.to.as_ref().filter(|to| call.name.starts_with("rename") && is_block(to));
        let is_second = name.is_some_and(|to| !names.insert(to.file_name().unwrap().to_owned()));
        if is_second { fate(call) } else { Fate::Passes }
    })
}

#[test]
fn blocks_have_copies_while_the_source_is_still_being_read() {
    if !can_trace() {
        return;
    }
    // Threads may be late for that.
    for _ in 0..8 {
        let (bench, mut copies) = (Bench::new().and_volumes(&["disk1", "disk2"], &SMALL_BLOCKS), Vec::new());
        let traced = back_up_and_copy(&bench, |call| {
            copies.push(call.number);
            Fate::Passes
        });
        let report = traced.said.with_code(0).summary();
        assert_eq!(report["blocks_copied"], report["blocks_written"], "{report}");
        assert_eq!(report["blocks_copied"].as_u64(), Some(copies.len() as u64), "{report}");
        bench.assert_all_good();
        let is_source = |call: &&Call| call.name == "openat" && call.path.ends_with("much");
        let last = traced.calls.iter().rfind(is_source).expect("files of the source").number;
        if copies[0] < last {
            return;
        }
    }
    panic!("no copy was made before the last file was opened");
}

#[test]
fn a_run_that_dies_amid_its_copies_leaves_what_the_next_one_takes_in() {
    if !can_trace() {
        return;
    }
    for dies in [Fate::DiesBefore, Fate::DiesAfter] {
        let bench = Bench::new().and_volumes(&["disk1", "disk2"], &SMALL_BLOCKS);
        assert_eq!(back_up_and_copy(&bench, |_| dies).said.code, -9);
        let report = bench.backup();
        assert_eq!(report["blocks_under_protected"], 0, "{report}");
        assert!(spread(&bench, &["disk1", "disk2"]).values().all(|count| *count == 2));
        let report = bench.json(&["validate", "--deep"], 0);
        let nothing = Value::Array(Vec::new());
        assert_eq!((&report["blocks_unknown"], &report["index_problems"]), (&0.into(), &nothing), "{report}");
    }
}

/// A block is under its name, and then the name cannot be made durable: it goes to the other disk, in another block.
#[test]
fn a_block_that_got_its_name_before_its_disk_failed_is_taken_in_by_the_next_backup() {
    if !can_trace() {
        return;
    }
    for init in [&SMALL_BLOCKS[..], &SMALL_BLOCKS[..2]] {
        let bench = Bench::in_memory().and_volumes(&["disk1", "disk2"], init);
        write(&bench.src(), "a/one", &Rng(7).bytes(60_000));
        let mut failed = None;
        let command = bench.command(&["--json", "--no-progress", "backup", "src", "--max-workers", "1"]);
        let traced = trace(&command, &bench.path(""), &mut |call| {
            let is_folder = call.name == "fsync"
                && call.path.iter().count() == 4
                && call.path.iter().nth(1) == Some("chunks".as_ref());
            let disk = call.path.iter().next().map(ToOwned::to_owned);
            if is_folder && failed.is_none() {
                failed = disk;
                return Fate::Fails(Errno::EIO);
            }
            Fate::Passes
        });
        assert!([0, 6].contains(&traced.said.code), "{:#?}", traced.said);
        let failed = failed.expect("a block");
        assert!(traced.said.err.contains(&format!("volume {}", failed.to_str().unwrap())), "{:#?}", traced.said);
        let unknown = |bench: &Bench| bench.json(&["validate"], 0)["blocks_unknown"].as_u64();
        let before = bench.run(&["--json", "validate"]).summary();
        assert_eq!(before["blocks_unknown"], 1, "{before}");
        bench.backup();
        assert_eq!(unknown(&bench), Some(0));
        if init.contains(&"copies=2") {
            assert_spread(&bench, (&["disk1", "disk2"], 2), "after the next backup");
        }
        bench.assert_all_good();
    }
}

#[test]
fn whichever_call_of_a_backup_that_copies_fails_or_is_its_last_the_next_one_finishes() {
    if !can_trace() {
        return;
    }
    let bench = Bench::new().and_volumes(&["disk1", "disk2"], &SMALL_BLOCKS);
    let (mut known, mut rng) = (Known::default(), Rng(6));
    write(&bench.src(), "a/one", &rng.bytes(60_000));
    known.backup(&bench);
    // Several blocks: some are copied while others are being written.
    write(&bench.src(), "b/much", &rng.bytes(20 << 20));
    let args = ["--no-progress", "backup", "src", "--max-workers", "1"];
    let (stage, disks) = (Stage::new(bench, known), ["disk1", "disk2"]);
    try_all(&stage, &args, (&disks, STRIDE_OF_BACKUP), &|what| assert_spread(&stage.bench, (&disks, 2), what));
}

#[test]
fn whichever_call_of_a_repair_fails_or_is_its_last_the_next_one_finishes() {
    if !can_trace() {
        return;
    }
    let (bench, known) = two_runs(&TWO);
    let blocks: Vec<_> = bench.blocks("disk1").into_values().collect();
    flip(&blocks[0], 200);
    std::fs::remove_file(bench.blocks("disk2").into_values().last().unwrap()).unwrap();
    enumerate(&Stage::new(bench, known), &["--no-progress", "validate", "--repair"], (&["disk1", "disk2"], 2));
}

#[test]
fn whichever_call_of_a_replacement_fails_or_is_its_last_the_next_one_finishes() {
    if !can_trace() {
        return;
    }
    let (bench, known) = two_runs(&TWO);
    std::fs::rename(bench.path("disk2"), bench.path("away")).unwrap();
    let args = ["--no-progress", "replace-volume", "disk2", "disk3", "--reserve", "1M"];
    enumerate(&Stage::new(bench, known), &args, (&["disk1", "disk3"], 2));
}

#[test]
fn whichever_call_of_a_removal_fails_or_is_its_last_the_next_one_finishes() {
    if !can_trace() {
        return;
    }
    let (bench, known) = two_runs(&[]);
    enumerate(&Stage::new(bench, known), &["--no-progress", "remove-volume", "disk1"], (&["disk2"], 1));
}

const PARITY: [&str; 2] = ["--redundancy", "parity=2+1"];

#[test]
fn whichever_call_of_protect_under_parity_fails_or_is_its_last_the_next_one_finishes() {
    if !can_trace() {
        return;
    }
    let (bench, known) = two_runs_on(&THREE, &[]);
    bench.run(&["set-redundancy", "parity=2+1"]).with_code(0);
    enumerate_parity(&Stage::new(bench, known), &["--no-progress", "protect"], &THREE);
}

#[test]
fn whichever_call_of_a_repair_by_parity_fails_or_is_its_last_the_next_one_finishes() {
    if !can_trace() {
        return;
    }
    let (bench, known) = two_runs_on(&THREE, &PARITY);
    flip(&bench.blocks("disk1").into_values().next().unwrap(), 200);
    enumerate_parity(&Stage::new(bench, known), &["--no-progress", "validate", "--repair"], &THREE);
}

#[test]
fn whichever_call_of_a_replacement_under_parity_fails_or_is_its_last_the_next_one_finishes() {
    if !can_trace() {
        return;
    }
    let (bench, known) = two_runs_on(&THREE, &PARITY);
    std::fs::rename(bench.path("disk2"), bench.path("away")).unwrap();
    let args = ["--no-progress", "replace-volume", "disk2", "disk4", "--reserve", "1M"];
    enumerate_parity(&Stage::new(bench, known), &args, &["disk1", "disk3", "disk4"]);
}

#[test]
fn whichever_call_of_a_removal_under_parity_fails_or_is_its_last_the_next_one_finishes() {
    if !can_trace() {
        return;
    }
    let (bench, known) = two_runs_on(&["disk1", "disk2", "disk3", "disk4"], &PARITY);
    enumerate_parity(
        &Stage::new(bench, known),
        &["--no-progress", "remove-volume", "disk1"],
        &["disk2", "disk3", "disk4"],
    );
}
