//! Weeks of work by somebody who does everything: random changes, runs, mishaps, and after each the question whether
//! every earlier run is still what it was.

use crate::history::assert_changes;
use crate::util::bench::Bench;
use crate::util::oracle::{Snapshot, snapshot};
use crate::util::tree::{Rng, make_fifo, set_mode, set_mtime};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// All directories, or all other names, below `root`.
fn names(root: &Path, wants_dirs: bool) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(root).sort_by_file_name().into_iter().map(|entry| entry.unwrap());
    entries.filter(|entry| entry.file_type().is_dir() == wants_dirs).map(walkdir::DirEntry::into_path).collect()
}

fn pick(rng: &mut Rng, from: &[PathBuf]) -> Option<PathBuf> {
    (!from.is_empty()).then(|| from[rng.below(from.len() as u64) as usize].clone())
}

/// A name in some directory; often one that is or was there already.
fn place(rng: &mut Rng, root: &Path) -> PathBuf {
    let dir = pick(rng, &names(root, true)).unwrap_or_else(|| root.to_owned());
    dir.join(format!("n{}", rng.below(6)))
}

fn remove(path: &Path) {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

fn content(rng: &mut Rng) -> Vec<u8> {
    let len = [0, 1, 100, 5_000, 140_000, 700_000, 3_000_000][rng.below(7) as usize];
    // A few contents come again and again.
    let mut of = Rng(rng.below(12));
    if rng.below(2) == 0 { of.bytes(len) } else { of.text(len) }
}

fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_file())
}

/// One thing that somebody does.
fn act(rng: &mut Rng, root: &Path) {
    let old = pick(rng, &names(root, false));
    match rng.below(14) {
        0..4 => {
            let path = place(rng, root);
            if !path.is_dir() || rng.below(3) == 0 {
                remove(&path);
                fs::write(&path, content(rng)).unwrap();
            }
        }
        4 => {
            let path = place(rng, root);
            if path.components().count() < root.components().count() + 6 {
                remove(&path);
                fs::create_dir(&path).unwrap();
            }
        }
        5 => remove(&place(rng, root)),
        6 | 7 => {
            let (from, to) = (place(rng, root), place(rng, root));
            if from.symlink_metadata().is_ok() && !to.starts_with(&from) && !from.starts_with(&to) {
                remove(&to);
                fs::rename(from, to).unwrap();
            }
        }
        8 => {
            let to = place(rng, root);
            if let Some(from) = old.filter(|from| is_file(from) && *from != to && !from.starts_with(&to)) {
                remove(&to);
                fs::hard_link(from, to).unwrap();
            }
        }
        9 => {
            // Through whatever names it has.
            if let Some(path) = old.filter(|path| is_file(path)) {
                let mut bytes = fs::read(&path).unwrap();
                let at = rng.below(bytes.len() as u64 + 1) as usize;
                bytes.splice(at..at, rng.bytes(17));
                fs::write(path, bytes).unwrap();
            }
        }
        10 => {
            if let Some(path) = old.filter(|path| is_file(path)) {
                set_mode(&path, 0o600 | rng.below(0o100) as u32);
            }
        }
        11 => {
            if let Some(path) = old {
                set_mtime(&path, (rng.below(2_000_000_000) as i64, rng.below(1_000_000_000) as u32));
            }
        }
        12 => {
            let path = place(rng, root);
            remove(&path);
            symlink(format!("to{}", rng.below(4)), path).unwrap();
        }
        _ => {
            let path = place(rng, root);
            remove(&path);
            make_fifo(&path);
        }
    }
}

/// A backup that is stopped somewhere, unless it was quicker.
fn stopped_backup(rng: &mut Rng, bench: &Bench) {
    let signals = [rustix::process::Signal::KILL, rustix::process::Signal::INT, rustix::process::Signal::TERM];
    let signal = signals[rng.below(3) as usize];
    let mut child = bench.start(&["backup", "src"]);
    std::thread::sleep(std::time::Duration::from_millis(rng.below(120)));
    if child.try_wait().unwrap().is_none() {
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
    }
    child.wait_with_output().unwrap();
}

fn lose_catalog(bench: &Bench) {
    for name in ["backup.cat", "backup.cat-wal", "backup.cat-shm"] {
        let _ = fs::remove_file(bench.path(name));
    }
    bench.json(&["rebuild-catalog", "--volume", "disk1", "--volume", "disk2"], 0);
}

fn live(seed: u64) {
    let mut rng = Rng(seed);
    let bench = Bench::with_volumes(&["disk1", "disk2"], &["--block-size", "8M"]);
    let mut trees: Vec<(i64, Snapshot)> = Vec::new();
    for _ in 0..rounds() {
        for _ in 0..5 + rng.below(40) {
            act(&mut rng, &bench.src());
        }
        match rng.below(6) {
            0 => stopped_backup(&mut rng, &bench),
            1 if !trees.is_empty() => lose_catalog(&bench),
            2 => {
                fs::rename(bench.path("disk2"), bench.path("away")).unwrap();
                bench.run(&["backup", "src"]);
                fs::rename(bench.path("away"), bench.path("disk2")).unwrap();
                if rng.below(2) == 0 {
                    act(&mut rng, &bench.src());
                }
            }
            _ => {}
        }
        if fs::read_dir(bench.src()).unwrap().next().is_none() {
            fs::write(bench.path("src/one"), b"one").unwrap();
        }
        let now = snapshot(&bench.src());
        let kind: &[&str] = [&[][..], &["--single-threaded"], &["--max-workers", "3"]][rng.below(3) as usize];
        let report = bench.json(&[&["backup", "src"], kind].concat(), 0);
        // A mishap may have left a run of its own, of a state that nobody took down.
        let run = report["run"].as_i64().unwrap();
        let against = bench.json(&["list-changes", &run.to_string()], 0)["prev"].as_i64();
        if against == trees.last().map(|(run, _)| *run) {
            let before = trees.last().map(|(_, tree)| tree.clone()).unwrap_or_default();
            assert_changes(&bench, &report, (&before, &now));
        }
        trees.push((run, now));
        let (run, tree) = &trees[rng.below(trees.len() as u64) as usize];
        bench.assert_reverts(*run, tree);
    }
    bench.assert_all_good();
    lose_catalog(&bench);
    for (run, tree) in &trees {
        bench.assert_reverts(*run, tree);
    }
    bench.assert_all_good();
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Rounds of a life; more may be asked for.
fn rounds() -> u64 {
    number("RAIDTAPE_TEST_ROUNDS", 8)
}

#[test]
fn whatever_somebody_does_over_weeks_every_run_stays_what_it_was() {
    let begun = std::time::Instant::now();
    let at_least = std::time::Duration::from_secs(60 * number("RAIDTAPE_TEST_MINUTES", 0));
    let first = number("RAIDTAPE_TEST_SEED", 1);
    for seed in first.. {
        if seed >= first + number("RAIDTAPE_TEST_LIVES", 3) && begun.elapsed() >= at_least {
            break;
        }
        // The last one that is named is the one that failed.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("life {seed}\n").as_bytes());
        live(seed);
    }
}
