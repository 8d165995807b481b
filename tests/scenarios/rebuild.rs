//! The catalog is lost; the volumes alone bring everything back.

use crate::util::bench::Bench;
use crate::util::changes::{exact_path, listed_changes};
use crate::util::oracle::{Snapshot, snapshot};
use crate::util::tree::{Rng, change, grow, set_mtime, write};
use serde_json::Value;
use std::collections::BTreeSet;

/// Five runs over two sources on two volumes, and the trees that they saw.
fn lived_in() -> (Bench, Vec<Snapshot>) {
    let bench = Bench::with_volumes(&["disk1", "disk2"], &["--block-size", "8M"]);
    grow(&bench.src(), 1);
    let mut rng = Rng(99);
    for dir in 0..6 {
        write(&bench.path("other"), &format!("o{dir}/file"), &rng.bytes(3 << 20));
        write(&bench.path("other"), &format!("o{dir}/small"), &rng.bytes(700));
    }
    let mut trees = Vec::new();
    for round in 0..5 {
        let root = if round % 2 == 0 { "src" } else { "other" };
        match round {
            0 => {}
            1 | 3 => write(&bench.path("other"), &format!("o1/round{round}"), &rng.bytes(50_000)),
            _ => change(&bench.src(), round),
        }
        trees.push(snapshot(&bench.path(root)));
        bench.json(&["backup", root], 0);
    }
    (bench, trees)
}

/// All that the catalog answers, in words.
fn answers(bench: &Bench) -> Vec<String> {
    let mut all = Vec::new();
    for run in bench.json(&["runs"], 0)["runs"].as_array().unwrap() {
        let number = run["run"].as_i64().unwrap();
        all.push(format!("{run}"));
        all.push(format!("{:?}", listed_changes(bench, number)));
        all.push(bench.run(&["--json", "ls", "-R", "--run", &number.to_string()]).with_code(0).out);
    }
    let sql = "SELECT host, source, hex(path), size, mtime_ns, kind, file_hash, first_run, last_run, mode, uid, gid,
        inconsistent FROM";
    all.extend(bench.query(&format!("{sql} file_versions ORDER BY 1, 2, 3, 8")));
    all.extend(bench.query(&format!("{sql} files ORDER BY 1, 2, 3")));
    all.extend(bench.query("SELECT hex(name), size, state FROM blocks ORDER BY 1"));
    all.extend(bench.query("SELECT hex(id), len FROM chunks ORDER BY 1"));
    all
}

fn lose_catalog(bench: &Bench) {
    for name in ["backup.cat", "backup.cat-wal", "backup.cat-shm", "backup.cat.lock"] {
        let _ = std::fs::remove_file(bench.path(name));
    }
}

#[test]
fn a_rebuilt_catalog_answers_everything_as_the_lost_one_did() {
    let (bench, trees) = lived_in();
    let before = answers(&bench);
    lose_catalog(&bench);
    bench.run(&["runs"]).with_code(10);
    let report = bench.json(&["rebuild-catalog", "--volume", "disk1", "--volume", "disk2"], 0);
    let after = answers(&bench);
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
    for (run, tree) in trees.iter().enumerate() {
        bench.assert_reverts(run as i64 + 1, tree);
    }
    bench.assert_all_good();
    let number = |name: &str| report[name].as_u64().unwrap();
    let most = number("chunks") * 100 + number("file_versions") * 150;
    assert!(number("bytes_read") <= most, "read {} of {most} at most: {report}", number("bytes_read"));
    // And life goes on: nothing is new, nothing is stored again.
    let next = bench.backup();
    for name in ["files_new", "files_changed", "files_metadata", "files_deleted", "data_added"] {
        assert_eq!(next[name], 0, "{name} of {next}");
    }
    assert_eq!(next["run"], 6);
}

#[test]
fn a_rebuild_reads_little_of_many_chunks_and_versions() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    let mut rng = Rng(8);
    for file in 0..4000 {
        write(&bench.src(), &format!("d{}/file{file}", file % 40), &rng.bytes(60));
    }
    write(&bench.src(), "big", &rng.bytes(40 << 20));
    bench.backup();
    for file in 0..300 {
        write(&bench.src(), &format!("d{}/file{file}", file % 40), &rng.bytes(61));
    }
    bench.backup();
    lose_catalog(&bench);
    let report = bench.json(&["rebuild-catalog", "--volume", "disk1"], 0);
    let number = |name: &str| report[name].as_u64().unwrap();
    assert!(number("chunks") > 4300 && number("file_versions") > 4300, "{report}");
    let most = number("chunks") * 100 + number("file_versions") * 150;
    assert!(number("bytes_read") <= most, "read {} of {most} at most: {report}", number("bytes_read"));
    bench.assert_reverts(2, &snapshot(&bench.src()));
}

#[test]
fn with_one_of_two_volumes_the_other_is_named_and_all_that_does_not_need_it_comes_back() {
    let (bench, trees) = lived_in();
    let versions = bench.query("SELECT hex(path), first_run, last_run, file_hash FROM file_versions ORDER BY 1, 2");
    assert!(!bench.blocks("disk1").is_empty() && !bench.blocks("disk2").is_empty());
    let uuid = bench.json(&["volumes"], 0)["volumes"][1]["uuid"].as_str().unwrap().to_owned();
    lose_catalog(&bench);
    std::fs::rename(bench.path("disk2"), bench.path("away")).unwrap();
    let report = bench.json(&["rebuild-catalog", "--volume", "disk1"], 5);
    let missing = report["volumes_missing"].to_string();
    assert!(missing.contains("disk2") && missing.contains(&uuid), "{missing}");
    // All history is back.
    let back = bench.query("SELECT hex(path), first_run, last_run, file_hash FROM file_versions ORDER BY 1, 2");
    assert_eq!(versions, back);
    let needing: BTreeSet<String> = report["files_needing_missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(report["files_needing_missing_total"].as_u64().unwrap() as usize, needing.len());
    assert!(!needing.is_empty());
    for (number, tree) in trees.iter().enumerate().skip(3) {
        let (root, run) = (if number % 2 == 0 { "src" } else { "other" }, number as i64 + 1);
        let lost = lost_files(&bench, run);
        let root = bench.path(root).display().to_string();
        let named: BTreeSet<String> = needing.iter().filter_map(|line| named_file(line, &root, run)).collect();
        let shown: BTreeSet<String> = lost.0.iter().map(|path| raidtape::model::path::show(path)).collect();
        assert_eq!(named, shown, "what needs the missing volume in run {run}");
        // Every other file of the tree is there and the same.
        let mut wanted = tree.clone();
        wanted.0.retain(|path, _| !lost.0.contains(path));
        let mut found = lost.1;
        for tree in [&mut wanted, &mut found] {
            for node in tree.0.values_mut() {
                node.names.clear();
            }
        }
        found.assert_is(&wanted, &format!("run {run} without disk2"));
    }
    // The volume comes back, and so does the rest.
    std::fs::rename(bench.path("away"), bench.path("disk2")).unwrap();
    bench.json(&["rebuild-catalog", "--volume", "disk1", "--volume", "disk2"], 0);
    for (run, tree) in trees.iter().enumerate() {
        bench.assert_reverts(run as i64 + 1, tree);
    }
    bench.assert_all_good();
}

/// The path in a line like `host:/root: path (runs 1 to now)`, if that is of this source and run.
fn named_file(line: &str, root: &str, run: i64) -> Option<String> {
    let (path, runs) = line.split_once(&format!("{root}: "))?.1.rsplit_once(" (runs ")?;
    let (first, last) = runs.strip_suffix(')')?.split_once(" to ")?;
    let is_in = first.parse::<i64>().ok()? <= run && last.parse::<i64>().unwrap_or(i64::MAX) >= run;
    is_in.then(|| path.to_owned())
}

/// The files that a revert says it has no data for, and what it wrote.
fn lost_files(bench: &Bench, run: i64) -> (BTreeSet<Vec<u8>>, Snapshot) {
    let dest = bench.fresh("partly");
    let said = bench.run(&["--json", "--no-progress", "revert-to-run", &run.to_string(), dest.to_str().unwrap()]);
    let report: Value = said.summary();
    let problems = report["problems"].as_array().unwrap();
    assert_eq!(said.code, if problems.is_empty() { 0 } else { 5 }, "{report}");
    for problem in problems {
        let text = problem["error"].as_str().unwrap();
        assert!(text.contains("disk2"), "the volume to mount is named: {text}");
    }
    let paths = problems.iter().map(exact_path).collect();
    let mut found = snapshot(&dest);
    // What is not complete says so, for the next try.
    assert_eq!(found.0.remove(&b".raidtape-restore"[..]).is_some(), !problems.is_empty());
    (paths, found)
}

#[test]
fn a_run_made_after_a_rebuild_without_a_volume_does_not_clash_with_what_returns() {
    let (bench, trees) = lived_in();
    lose_catalog(&bench);
    std::fs::rename(bench.path("disk2"), bench.path("away")).unwrap();
    bench.json(&["rebuild-catalog", "--volume", "disk1"], 5);
    let tree = snapshot(&bench.src());
    let report = bench.json(&["backup", "src"], 0);
    let run = report["run"].as_i64().unwrap();
    assert!(run > 1000, "{report}");
    std::fs::rename(bench.path("away"), bench.path("disk2")).unwrap();
    bench.json(&["backup", "src", "--volume", "disk2"], 0);
    bench.assert_reverts(run, &tree);
    for (number, tree) in trees.iter().enumerate() {
        bench.assert_reverts(number as i64 + 1, tree);
    }
    bench.assert_all_good();
}

#[test]
fn a_volume_that_returns_with_a_run_of_its_own_neither_stops_backups_nor_hides_later_runs_from_a_rebuild() {
    let bench = Bench::with_volumes(&["disk1", "disk2"], &[]);
    let put = |bytes: &[u8]| {
        write(&bench.src(), "file", bytes);
        set_mtime(&bench.src().join("file"), (1_000_000_000, 0));
    };
    put(b"one");
    bench.backup();
    // Only the first disk knows of the second run.
    std::fs::rename(bench.path("disk2"), bench.path("away")).unwrap();
    put(b"two");
    bench.backup();
    lose_catalog(&bench);
    std::fs::rename(bench.path("disk1"), bench.path("far")).unwrap();
    std::fs::rename(bench.path("away"), bench.path("disk2")).unwrap();
    bench.json(&["rebuild-catalog", "--volume", "disk2"], 5);
    // The state is the one that the second run went on from.
    put(b"one");
    let run = bench.backup()["run"].as_i64().unwrap();
    std::fs::rename(bench.path("far"), bench.path("disk1")).unwrap();
    put(b"three");
    let tree = snapshot(&bench.src());
    let later = bench.json(&["backup", "src", "--volume", "disk1"], 0)["run"].as_i64().unwrap();
    bench.assert_reverts(later, &tree);
    bench.assert_all_good();
    lose_catalog(&bench);
    let report = bench.run(&["--json", "rebuild-catalog", "--volume", "disk1", "--volume", "disk2"]).summary();
    let unreachable = report["unreachable_runs"].to_string();
    assert!(unreachable.contains("run 2: ") && report["runs"] == 3, "{report}");
    bench.assert_reverts(later, &tree);
    let (dest, _) = bench.reverted(run);
    assert_eq!(std::fs::read(dest.join("file")).unwrap(), b"one");
    bench.assert_all_good();
}

#[test]
fn a_damaged_catalog_is_kept_beside_the_rebuilt_one() {
    let (bench, trees) = lived_in();
    let path = bench.path("backup.cat");
    let len = path.metadata().unwrap().len();
    crate::util::tree::overwrite(&path, 0, &[0x55; 4096]);
    let said = bench.run(&["runs"]);
    assert!(said.code != 0 && !said.err.contains("panicked"), "{said:?}");
    let report = bench.json(&["rebuild-catalog", "--volume", "disk1", "--volume", "disk2"], 0);
    let kept = report["kept_as"].as_str().unwrap();
    assert!(kept.contains(".broken-"), "{kept}");
    assert_eq!(std::path::Path::new(kept).metadata().unwrap().len(), len);
    bench.assert_reverts(5, &trees[4]);
}

#[test]
fn an_older_copy_of_the_catalog_learns_the_runs_that_it_missed() {
    let bench = Bench::with_volumes(&["disk1", "disk2"], &[]);
    grow(&bench.src(), 1);
    bench.backup();
    std::fs::copy(bench.path("backup.cat"), bench.path("old.cat")).unwrap();
    let mut trees = Vec::new();
    for seed in 2..4 {
        change(&bench.src(), seed);
        trees.push(snapshot(&bench.src()));
        bench.backup();
    }
    let before = answers(&bench);
    lose_catalog(&bench);
    std::fs::rename(bench.path("old.cat"), bench.path("backup.cat")).unwrap();
    let report = bench.backup();
    assert_eq!((&report["run"], &report["data_added"]), (&4.into(), &0.into()), "{report}");
    for (index, tree) in trees.iter().enumerate() {
        bench.assert_reverts(index as i64 + 2, tree);
    }
    let after = answers(&bench);
    let versions = |all: &[String]| all.iter().filter(|line| line.contains("Text(b\"f")).cloned().collect::<Vec<_>>();
    assert_eq!(versions(&before), versions(&after));
    bench.assert_all_good();
}

#[test]
fn the_choices_made_at_init_outlive_the_catalog() {
    let bench =
        Bench::with_volumes(&["disk1"], &["--compression", "none", "--hash-algo", "sha256", "--block-size", "9M"]);
    grow(&bench.src(), 1);
    bench.backup();
    let chosen = "SELECT key, CAST(value AS TEXT) FROM meta WHERE key IN
                  ('compression', 'hash_algo', 'block_size', 'chunk_avg', 'repository') ORDER BY key";
    let before = bench.query(chosen);
    std::fs::remove_file(bench.path("backup.cat")).unwrap();
    bench.json(&["rebuild-catalog", "--volume", "disk1"], 0);
    assert_eq!(bench.query(chosen), before);
    let kept = "SELECT count(*) FROM meta WHERE (key, CAST(value AS TEXT)) IN
                (VALUES ('compression', 'none'), ('hash_algo', 'sha256'))";
    assert_eq!(bench.query(kept), ["Integer(2)"]);
}
