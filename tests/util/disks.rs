//! Disks of a bench that go and come back, and what is lost without them.

use super::bench::Bench;
use super::oracle::{Snapshot, snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// A version that would be lost: its source-relative path, its first run, its last one.
pub type Version = (String, i64, Option<i64>);

/// The disk is not there.
pub fn hide(bench: &Bench, disk: &str) {
    fs::rename(bench.path(disk), bench.path(format!("{disk}.away"))).expect("a disk that is there");
}

/// It is there again.
pub fn show(bench: &Bench, disk: &str) {
    fs::rename(bench.path(format!("{disk}.away")), bench.path(disk)).expect("a disk that was hidden");
}

/// On how many of these disks each file under `chunks/` is.
pub fn spread(bench: &Bench, disks: &[&str]) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for disk in disks {
        bench.blocks(disk).into_keys().for_each(|name| *count.entry(name).or_default() += 1);
    }
    count
}

/// A rebuild from these disks.
pub fn rebuild_args<'d>(disks: impl Iterator<Item = &'d str>) -> Vec<&'d str> {
    ["rebuild-catalog"].into_iter().chain(disks.flat_map(|disk| ["--volume", disk])).collect()
}

/// Every version that `volumes --lost` names.
#[track_caller]
pub fn lost(bench: &Bench, disks: &str) -> Vec<Version> {
    let said = bench.run(&["--json", "volumes", "--lost", disks]).with_code(0);
    let lines = said.documents().into_iter().filter(|line| line["message_type"] == "lost");
    let path = |line: &serde_json::Value| line["path"].as_str().expect("a path").to_owned();
    lines.map(|line| (path(&line), line["first_run"].as_i64().expect("a run"), line["last_run"].as_i64())).collect()
}

/// Restores a run of which the versions in `named` are lost: exactly those are refused, and all else is as it was. How many
/// were refused.
#[track_caller]
pub fn assert_restores_all_but(bench: &Bench, named: &[Version], (run, tree): (i64, &Snapshot), what: &str) -> usize {
    let is_then = |version: &&Version| version.1 <= run && version.2.is_none_or(|last| last >= run);
    let expected: BTreeSet<&str> = named.iter().filter(is_then).map(|version| version.0.as_str()).collect();
    let dest = bench.fresh("partly");
    let code = if expected.is_empty() { 0 } else { 5 };
    let report = bench.json(&["revert-to-run", &run.to_string(), dest.to_str().expect("a plain path")], code);
    let problems = report["problems"].as_array().expect("problems");
    let refused: BTreeSet<&str> = problems.iter().map(|problem| problem["path"].as_str().expect("a path")).collect();
    assert_eq!(refused, expected, "{what}: run {run}: {report}");
    let mut wanted = tree.clone();
    wanted.0.retain(|path, _| !refused.contains(String::from_utf8_lossy(path).as_ref()));
    let mut found = snapshot(&dest);
    // The mark of a restore that is not complete.
    found.0.remove(&b".raidtape-restore"[..]);
    found.assert_is(&wanted, &format!("{what}: run {run}"));
    refused.len()
}
