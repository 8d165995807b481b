//! How things stand, told to people and to machines: what is kept, what a lost disk would take with it, what is wrong.

use crate::util::bench::Bench;
use crate::util::needs::is_installed;
use crate::util::oracle::snapshot;
use crate::util::tree::{Rng, flip, write};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

/// Two volumes with blocks of several runs on both.
fn over_two_disks() -> Bench {
    let bench = Bench::with_volumes(&["disk1", "disk2"], &["--block-size", "8M"]);
    for folder in 0..6_u64 {
        for file in 0..3_u64 {
            let bytes = Rng(folder * 10 + file + 1).bytes(600 << 10);
            write(&bench.src(), &format!("folder{folder}/file{file}"), &bytes);
        }
    }
    write(&bench.src(), "folder0/empty", b"");
    bench.backup();
    write(&bench.src(), "folder1/file1", &Rng(77).bytes(700 << 10));
    fs::copy(bench.path("src/folder2/file2"), bench.path("src/a copy")).unwrap();
    bench.backup();
    bench
}

fn codes(bench: &Bench, args: &[&str]) -> (i32, String) {
    let said = bench.run(&[&["status"], args].concat());
    assert!(!said.err.contains("panicked"), "{said:#?}");
    (said.code, said.out)
}

#[test]
fn what_a_lost_disk_would_take_is_what_cannot_be_restored_without_it() {
    let bench = over_two_disks();
    let tree = snapshot(&bench.src());
    let mut named_on_any = BTreeSet::new();
    for disk in ["disk1", "disk2"] {
        let documents = bench.run(&["--json", "volumes", "--lost", disk]).with_code(0).documents();
        let (summary, lost) = documents.split_last().unwrap();
        assert_eq!(summary["file_versions"], lost.len());
        let newest = lost.iter().filter(|line| line["last_run"].is_null());
        let named: BTreeSet<&[u8]> = newest.map(|line| line["path"].as_str().unwrap().as_bytes()).collect();
        assert_eq!(summary["in_newest_runs"], named.len());
        fs::rename(bench.path(disk), bench.path("away")).unwrap();
        let dest = bench.fresh("without");
        let said = bench.run(&["revert-to-run", "2", dest.to_str().unwrap()]);
        assert_eq!(said.code == 0, named.is_empty(), "{said:#?}");
        let got = snapshot(&dest);
        let missing: BTreeSet<&[u8]> =
            tree.0.keys().filter(|path| !got.0.contains_key(*path)).map(|path| &path[..]).collect();
        assert_eq!(missing, named, "without {disk}");
        fs::rename(bench.path("away"), bench.path(disk)).unwrap();
        named_on_any.extend(named.into_iter().map(<[u8]>::to_vec));
    }
    let said = bench.run(&["volumes", "--lost", "disk1,disk2"]).with_code(0);
    let last = said.out.lines().last().unwrap();
    // Run 1 had another file1; nothing is lost of an empty file.
    assert!(last.starts_with("Without disk1, disk2: 20 file versions gone, 19 of them"), "{last}");
    assert!(said.out.contains("  1  folder1/file1\n") && said.out.contains("  2-  folder1/file1\n"), "{}", said.out);
    assert_eq!(named_on_any.len(), 19);
}

#[test]
fn figures_of_what_is_kept_agree_with_the_runs() {
    let bench = over_two_disks();
    let stats = bench.json(&["stats", "--full"], 0);
    let number = |value: &Value| value.as_u64().unwrap();
    let (first, second) = (&stats["runs"][0]["counts"], &stats["runs"][1]["counts"]);
    let new = number(&first["bytes_new"]) + number(&second["bytes_new"]);
    assert_eq!(number(&stats["stored"]["unique_bytes"]), new);
    assert_eq!(number(&stats["whole"]["chunk_bytes"]), new);
    assert_eq!(number(&stats["stored"]["copy_bytes"]), number(&stats["stored"]["block_bytes"]));
    assert_eq!(stats["sources"][0]["restore_bytes"], second["bytes_total"]);
    assert_eq!(stats["whole"]["live_bytes"], second["bytes_total"]);
    let dirs: Vec<_> = stats["dirs"].as_array().unwrap().iter().map(|dir| (&dir["path"], &dir["bytes"])).collect();
    assert_eq!(dirs, [(&"folder1".into(), &(700 << 10).into()), (&"".into(), &(600 << 10).into())]);
    let said = bench.run(&["stats", "--run", "1"]).with_code(0);
    assert!(said.out.contains("RUN 1 BROUGHT") && said.out.contains("folder5"), "{}", said.out);
    assert!(said.out.lines().all(|line| line.chars().count() <= 100), "{}", said.out);
    bench.run(&["stats", "--source", "nowhere"]).with_code(2);
}

#[test]
fn status_goes_from_ok_to_warning_to_critical_and_back() {
    let bench = over_two_disks();
    let (code, out) = codes(&bench, &[]);
    assert_eq!((code, out.starts_with("OK - 1 source on 2 volumes")), (0, true), "{out}");
    assert!(out.lines().next().unwrap().contains(" | 'age ") && out.contains("'damaged blocks'=0;;0"), "{out}");
    assert_eq!(bench.run(&["status", "-q"]).with_code(0).out, "");
    // Away is a warning, and back it is none.
    fs::rename(bench.path("disk2"), bench.path("away")).unwrap();
    let (code, out) = codes(&bench, &[]);
    assert_eq!((code, out.starts_with("WARNING - volume disk2 is not mounted")), (1, true), "{out}");
    fs::rename(bench.path("away"), bench.path("disk2")).unwrap();
    // Damage that validate found, until it is healed.
    let block = bench.blocks("disk1").into_values().next().unwrap();
    flip(&block, 1 << 18);
    bench.run(&["validate"]).with_code(4);
    let (code, out) = codes(&bench, &[]);
    assert_eq!((code, out.starts_with("CRITICAL - 1 block damaged or missing")), (2, true), "{out}");
    bench.backup();
    bench.backup();
    let (code, out) = codes(&bench, &[]);
    assert_eq!(code, 0, "{out}");
}

#[test]
fn old_runs_and_growth_are_told_in_time() {
    let bench = Bench::with_volumes(&["disk"], &[]);
    for round in 1..=6_u64 {
        write(&bench.src(), &format!("file{round}"), &Rng(round).bytes(1 << 20));
        bench.backup();
    }
    // One a day, and then none for a day and a half.
    let conn = rusqlite::Connection::open(bench.path("backup.cat")).unwrap();
    let moved = "UPDATE runs SET started_ns = started_ns - (6 - seq) * 86400000000000 - 129000000000000";
    assert_eq!(conn.execute(moved, []).unwrap(), 6);
    drop(conn);
    let (code, out) = codes(&bench, &[]);
    assert_eq!((code, out.contains("run 6 began 35 h ago; it may be 36 h old")), (1, true), "{out}");
    let (code, out) = codes(&bench, &["--max-run-age", "35h"]);
    assert_eq!((code, out.contains("run 6 began 35 h ago, more than 35 h")), (2, true), "{out}");
    let (code, out) = codes(&bench, &["--max-run-age", "3d"]);
    assert_eq!(code, 0, "{out}");
    let forecast = &bench.json(&["status", "--max-run-age", "3d"], 0)["forecast"];
    let per_day = forecast["bytes_per_day"].as_f64().unwrap();
    assert!((per_day / f64::from(1 << 20) - 1.0).abs() < 0.1, "{forecast}");
    assert_eq!(forecast["runs"], 5);
    let (code, out) = codes(&bench, &["--max-run-age", "3d", "--space-warning", "900y"]);
    assert_eq!((code, out.contains("space for")), (1, true), "{out}");
    let (code, out) = codes(&bench, &["--max-run-age", "3d", "--space-critical", "900y"]);
    assert_eq!((code, out.starts_with("CRITICAL - space for")), (2, true), "{out}");
    // Nothing was ever verified; then all is.
    let (code, out) = codes(&bench, &["--max-run-age", "3d", "--max-verify-age", "1d"]);
    assert_eq!((code, out.starts_with("WARNING - 100 % of the bytes")), (1, true), "{out}");
    bench.run(&["validate"]).with_code(0);
    let (code, out) = codes(&bench, &["--max-run-age", "3d", "--max-verify-age", "1d"]);
    assert_eq!(code, 0, "{out}");
}

#[test]
fn the_page_for_prometheus_has_every_name_once_and_takes_any_volume_name() {
    let bench = Bench::with_volumes(&[], &[]);
    bench.run(&["add-volume", "disk", "--name", "a \"quoted\" \\ {name}"]).with_code(0);
    write(&bench.src(), "file", b"bytes");
    bench.backup();
    fs::write(bench.path("facts.prom"), "what was there before").unwrap();
    bench.run(&["status", "-q", "--prometheus", "facts.prom"]).with_code(0);
    let page = fs::read_to_string(bench.path("facts.prom")).unwrap();
    assert!(page.contains("volume=\"a \\\"quoted\\\" \\\\ {name}\",state=\"active\"} 1\n"), "{page}");
    let mut names = BTreeSet::new();
    for line in page.lines() {
        if let Some(name) = line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" gauge")) {
            assert!(names.insert(name), "{name} twice");
        } else if !line.starts_with("# HELP ") {
            let (name, value) = (line.split(['{', ' ']).next().unwrap(), line.rsplit(' ').next().unwrap());
            assert!(names.contains(name) && value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(names.contains("raidtape_last_good_run_timestamp_seconds"));
    // One run is no trend.
    assert!(!page.contains("space_left"), "{page}");
    let left: Vec<_> = fs::read_dir(bench.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains(".tmp")), "{left:?}");
    if is_installed("promtool") {
        let mut checked = Command::new("promtool");
        let input = fs::File::open(bench.path("facts.prom")).unwrap();
        let output = checked.args(["check", "metrics"]).stdin(input).stdout(Stdio::piped()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
