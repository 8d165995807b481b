//! Runs that end too early: what they stored is not stored again. At any instant and at any call: `tests/faults/`.

use crate::util::bench::{Bench, Said};
use crate::util::oracle::{Snapshot, snapshot};
use crate::util::tree::{Rng, change, grow, write};
use std::time::Duration;

/// A bench with one complete run.
fn ready() -> (Bench, Snapshot) {
    let bench = Bench::with_volumes(&["disk1", "disk2"], &["--block-size", "8M"]);
    grow(&bench.src(), 1);
    let first = snapshot(&bench.src());
    bench.backup();
    (bench, first)
}

/// Gives the next run something to do, large and small.
fn work(bench: &Bench, round: u64) -> Snapshot {
    change(&bench.src(), round + 2);
    let mut rng = Rng(round + 50);
    for dir in 0..6 {
        write(&bench.src(), &format!("much/{dir}/file"), &rng.bytes(4 << 20));
        for file in 0..20 {
            write(&bench.src(), &format!("much/{dir}/small{file}"), &rng.text(5000));
        }
    }
    snapshot(&bench.src())
}

fn complete_runs(bench: &Bench) -> Vec<i64> {
    let runs = bench.json(&["runs"], 0);
    let complete = runs["runs"].as_array().unwrap().iter().filter(|run| run["state"] == "complete");
    complete.map(|run| run["run"].as_i64().unwrap()).collect()
}

/// All that must hold in the end: no repair was needed, nothing is lost, nothing made up, and the volumes alone tell
/// the same story.
fn assert_sound(bench: &Bench, (first, now): (&Snapshot, &Snapshot)) {
    let report = bench.backup();
    let run = report["run"].as_i64().unwrap();
    bench.assert_reverts(run, now);
    bench.assert_reverts(1, first);
    bench.assert_all_good();
    for disk in ["disk1", "disk2"] {
        assert_eq!(std::fs::read_dir(bench.path(disk).join("tmp")).unwrap().count(), 0, "{disk}/tmp is swept");
    }
    let versions = |bench: &Bench| {
        bench.query("SELECT hex(path), first_run, last_run, file_hash, size FROM file_versions ORDER BY 1, 2")
    };
    let (before, runs) = (versions(bench), complete_runs(bench));
    for name in ["backup.cat", "backup.cat-wal", "backup.cat-shm"] {
        let _ = std::fs::remove_file(bench.path(name));
    }
    bench.json(&["rebuild-catalog", "--volume", "disk1", "--volume", "disk2"], 0);
    assert_eq!((before, runs), (versions(bench), complete_runs(bench)));
    bench.assert_reverts(run, now);
    bench.assert_reverts(1, first);
}

#[test]
fn an_interrupted_run_says_so_and_the_next_one_goes_on_from_it() {
    let (bench, first) = ready();
    let now = work(&bench, 1);
    let mut child = bench.start(&["backup", "src", "--max-workers", "1"]);
    // As soon as it has a block open.
    let has_begun =
        || ["disk1", "disk2"].iter().any(|disk| std::fs::read_dir(bench.path(disk).join("tmp")).unwrap().count() > 0);
    while !has_begun() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, 130, "{said:#?}");
    assert!(said.err.contains("interrupted") && !said.out.contains("complete"), "{said:#?}");
    assert_eq!(complete_runs(&bench), [1]);
    bench.assert_reverts(1, &first);
    bench.assert_all_good();
    assert_sound(&bench, (&first, &now));
}

#[test]
fn what_an_interrupted_run_stored_is_not_stored_again() {
    let bench = Bench::with_volumes(&["disk1"], &["--block-size", "8M"]);
    let mut rng = Rng(3);
    for file in 0..24 {
        write(&bench.src(), &format!("d{}/{file}", file / 4), &rng.bytes(4 << 20));
    }
    let mut child = bench.start(&["backup", "src", "--max-workers", "1"]);
    while bench.blocks("disk1").len() < 3 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, 143, "{said:#?}");
    let kept: u64 = bench.blocks("disk1").values().map(|path| path.metadata().unwrap().len()).sum();
    assert!(kept >= 24 << 20, "{kept}");
    let report = bench.backup();
    let stored = report["data_added_packed"].as_u64().unwrap();
    assert!(stored + kept < (96 << 20) + (9 << 20), "stored {stored}, kept {kept}");
    assert!(report["bytes_read"].as_u64().unwrap() <= (96 << 20), "{report}");
    bench.assert_reverts(report["run"].as_i64().unwrap(), &snapshot(&bench.src()));
    bench.assert_all_good();
}

#[test]
fn what_an_interrupted_run_stored_and_validate_found_damaged_is_read_again() {
    let bench = Bench::with_volumes(&["disk1"], &["--block-size", "8M"]);
    let mut rng = Rng(4);
    for file in 0..24 {
        write(&bench.src(), &format!("d{}/{file}", file / 4), &rng.bytes(4 << 20));
    }
    // Files that changed just now are read again whatever is known of them.
    std::thread::sleep(Duration::from_millis(2100));
    let mut child = bench.start(&["backup", "src", "--max-workers", "1"]);
    while bench.blocks("disk1").len() < 3 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(Said::from(child.wait_with_output().unwrap()).code, 143);
    bench.blocks("disk1").values().for_each(|path| std::fs::remove_file(path).unwrap());
    bench.run(&["validate"]).with_code(4);
    let report = bench.backup();
    bench.assert_reverts(report["run"].as_i64().unwrap(), &snapshot(&bench.src()));
}

#[test]
fn what_a_killed_run_stored_is_not_stored_again() {
    let bench = Bench::with_volumes(&["disk1"], &["--block-size", "8M"]);
    let mut rng = Rng(3);
    for file in 0..24 {
        write(&bench.src(), &format!("d{}/{file}", file / 4), &rng.bytes(4 << 20));
    }
    let mut child = bench.start(&["backup", "src", "--max-workers", "1"]);
    while bench.blocks("disk1").len() < 5 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    assert_eq!(Said::from(child.wait_with_output().unwrap()).code, -9);
    let kept: u64 = bench.blocks("disk1").values().map(|path| path.metadata().unwrap().len()).sum();
    let report = bench.backup();
    let stored = report["data_added_packed"].as_u64().unwrap();
    assert!(stored + kept < (96 << 20) + (9 << 20), "stored {stored}, kept {kept}");
    bench.assert_reverts(report["run"].as_i64().unwrap(), &snapshot(&bench.src()));
    bench.assert_all_good();
}
