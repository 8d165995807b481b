//! Several processes at once, one that is stopped in the midst of its work, and clocks that lie.

use crate::util::bench::{Bench, Said};
use crate::util::five::{Known, complete_runs};
use crate::util::oracle::snapshot;
use crate::util::tree::{Rng, write};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::Child;
use std::time::Duration;

const DISKS: [&str; 2] = ["disk1", "disk2"];

/// One run, and enough new files that the next one takes a while.
fn ready() -> (Bench, Known) {
    let bench = Bench::new().and_volumes(&DISKS, &["--block-size", "8M"]);
    let mut known = Known::default();
    for file in 0..4 {
        write(&bench.src(), &format!("old/{file}"), &Rng(file).bytes(3 << 20));
    }
    known.backup(&bench);
    for file in 0..12 {
        write(&bench.src(), &format!("new/{file}"), &Rng(100 + file).bytes(3 << 20));
    }
    (bench, known)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// A backup that stands still in the midst of writing.
fn stopped_backup(bench: &Bench) -> Child {
    let child = bench.start(&["--json", "--no-progress", "backup", "src"]);
    let is_writing = || {
        DISKS
            .iter()
            .any(|disk| fs::read_dir(bench.path(disk).join("tmp")).is_ok_and(|mut found| found.next().is_some()))
    };
    while !is_writing() {
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(&child, Signal::STOP);
    child
}

fn end_of(child: Child) -> Said {
    child.wait_with_output().unwrap().into()
}

#[test]
fn while_a_backup_runs_others_read_and_nobody_else_writes() {
    let (bench, mut known) = ready();
    let tree = snapshot(&bench.src());
    let holder = stopped_backup(&bench);
    for command in [&["runs"][..], &["volumes"], &["ls"], &["list-changes", "1"], &["restore", "old/1", "one"]] {
        bench.run(command).with_code(0);
    }
    known.assert_restores(&bench, "beside a backup");
    for command in [
        &["backup", "src"][..],
        &["validate"],
        &["genmeta"],
        &["add-volume", "disk3"],
        &["rebuild-catalog", "--volume", "disk1", "--volume", "disk2"],
    ] {
        bench.run(command).with_code(11).with_sentence(&["in use"]);
    }
    // Another copy of the catalog is no way around the volumes' locks.
    let copy = Connection::open(bench.path("backup.cat")).unwrap();
    copy.execute("VACUUM INTO ?1", [bench.path("copy.cat").to_str().unwrap()]).unwrap();
    drop(copy);
    bench.run(&["--catalog", "copy.cat", "backup", "src"]).with_code(11).with_sentence(&["disk"]);
    assert!(!bench.path("disk3").exists());
    signal(&holder, Signal::CONT);
    let said = end_of(holder).with_code(0);
    let run = said.summary()["run"].as_i64().unwrap();
    known.0.insert(run, tree);
    known.assert_holds(&bench, &DISKS, "after a backup that others watched");
}

#[test]
fn a_backup_beside_a_restore_disturbs_neither() {
    let (bench, mut known) = ready();
    let restore = bench.start(&["--no-progress", "revert-to-run", "1", "dest"]);
    while fs::read_dir(bench.path("dest")).map_or(0, |found| found.count()) < 1 {
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(&restore, Signal::STOP);
    known.backup(&bench);
    bench.run(&["validate"]).with_code(0);
    bench.run(&["genmeta"]).with_code(0);
    signal(&restore, Signal::CONT);
    end_of(restore).with_code(0);
    snapshot(&bench.path("dest")).assert_is(&known.0[&1], "the restore");
    known.assert_holds(&bench, &DISKS, "after both");
}

#[test]
fn a_backup_that_is_stopped_for_a_while_goes_on() {
    let (bench, mut known) = ready();
    let tree = snapshot(&bench.src());
    let child = stopped_backup(&bench);
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, Signal::CONT);
    let run = end_of(child).with_code(0).summary()["run"].as_i64().unwrap();
    known.0.insert(run, tree);
    known.assert_holds(&bench, &DISKS, "after a pause");
}

#[test]
fn the_locks_of_a_killed_holder_are_gone_with_it() {
    let (bench, mut known) = ready();
    let mut holder = stopped_backup(&bench);
    bench.run(&["backup", "src"]).with_code(11);
    signal(&holder, Signal::KILL);
    holder.wait().unwrap();
    known.backup(&bench);
    known.assert_holds(&bench, &DISKS, "after the holder was killed");
}

#[test]
fn runs_are_ordered_by_number_whatever_the_clock_said() {
    let bench = Bench::in_memory().and_volumes(&DISKS, &[]);
    let mut known = Known::default();
    for round in 0..3_u64 {
        write(&bench.src(), "file", &Rng(round).bytes(50_000));
        known.backup(&bench);
    }
    bench.run(&["validate"]).with_code(0);
    // The first run was made ten years ahead, the last one before 1970: nothing may hang on it.
    let conn = Connection::open(bench.path("backup.cat")).unwrap();
    let ten_years = 10 * 365 * 86_400 * 1_000_000_000_i64;
    for (run, shift) in [(1, ten_years), (3, -60 * 365 * 86_400 * 1_000_000_000)] {
        let sql = "UPDATE runs SET started_ns = started_ns + ?2, ended_ns = ended_ns + ?2 WHERE seq = ?1";
        assert_eq!(conn.execute(sql, [run, shift]).unwrap(), 1);
    }
    conn.execute("UPDATE copies SET verified_ns = verified_ns + ?1", [ten_years]).unwrap();
    drop(conn);
    bench.run(&["restore", "file", "newest"]).with_code(0);
    assert!(fs::read(bench.path("newest")).unwrap() == Rng(2).bytes(50_000));
    bench.run(&["runs"]).with_code(0);
    // A block that was verified in the future was not verified at all.
    let report = bench.json(&["validate", "--max-age", "1d"], 0);
    assert!(report["blocks_checked"].as_u64().unwrap() >= 3 && report["blocks_skipped"] == 0, "{report}");
    write(&bench.src(), "file", &Rng(9).bytes(50_000));
    assert_eq!(known.backup(&bench), 4);
    assert_eq!(complete_runs(&bench), [1, 2, 3, 4]);
    known.assert_restores(&bench, "with odd dates");
}

#[test]
fn files_dated_in_the_future_or_long_ago_are_stored_once_and_come_back() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    let mut known = Known::default();
    for (name, seconds) in [("future", 4_000_000_000_i64), ("epoch", 0), ("before", -1_000_000)] {
        write(&bench.src(), name, name.as_bytes());
        crate::util::tree::set_mtime(&bench.src().join(name), (seconds, 7));
    }
    known.backup(&bench);
    std::thread::sleep(Duration::from_millis(2100));
    known.backup(&bench);
    let report = bench.backup();
    assert_eq!((&report["files_unmodified"], &report["bytes_read"]), (&4.into(), &0.into()), "{report}");
    known.assert_holds(&bench, &["disk1"], "with odd times");
}
