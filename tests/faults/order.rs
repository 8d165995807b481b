//! The order in which a backup makes things durable, read from its system calls. Other programs lost theirs in a
//! refactoring, and nobody saw it: nothing else fails when a sync is missing, until the power does.
//!
//! For each block and each record of a run, on each volume: its bytes → a sync of the file → a rename that replaces
//! nothing → a sync of its directory; a new directory's entry is synced before anything is put below it. All blocks
//! before the first record of the run, all records before the commit that makes the run complete, and that commit is
//! synced before anything builds on it.

use crate::util::bench::Bench;
use crate::util::tracer::{Call, Fate, can_trace, trace};
use crate::util::tree::{Rng, write};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Objects that a run made, with their lengths.
type Placed = BTreeMap<PathBuf, u64>;

/// Whether `one` was over when `other` began.
fn is_before(one: &Call, other: &Call) -> bool {
    one.ended.is_some_and(|ended| ended < other.begun)
}

fn is_write(call: &Call) -> bool {
    matches!(call.name, "write" | "writev" | "pwrite64" | "pwritev")
}

fn is_sync(call: &Call, path: &Path) -> bool {
    matches!(call.name, "fsync" | "fdatasync") && call.path == path && call.result == 0
}

fn is_journal(call: &Call) -> bool {
    call.path == Path::new("backup.cat-wal")
}

/// Expects the order. What is wrong is said in words.
fn check(calls: &[Call], placed: &Placed) -> Result<(), String> {
    let mut last_steps = BTreeMap::new();
    for (object, len) in placed {
        last_steps.insert(object, check_object(calls, object, *len)?);
    }
    let is_block = |object: &Path| object.components().nth(1).is_some_and(|dir| dir.as_os_str() == "chunks");
    let renames =
        calls.iter().filter(|call| call.to.as_ref().is_some_and(|to| placed.contains_key(to) && !is_block(to)));
    let first_record = renames.min_by_key(|call| call.begun).ok_or("no record of the run")?;
    for (object, synced) in &last_steps {
        if is_block(object) && !is_before(synced, first_record) {
            return Err(format!("{} is durable after the record of the run is", object.display()));
        }
    }
    let records_done = last_steps.values().max_by_key(|call| call.ended).ok_or("nothing is stored")?;
    check_commit(calls, records_done)
}

/// One object; returns the sync of its directory, which is its last step.
fn check_object<'c>(calls: &'c [Call], object: &Path, len: u64) -> Result<&'c Call, String> {
    let wrong = |what: &str| format!("{}: {what}", object.display());
    let renamed = calls.iter().find(|call| call.to.as_deref() == Some(object) && call.result == 0);
    let renamed = renamed.ok_or_else(|| wrong("no rename"))?;
    if !renamed.keeps {
        return Err(wrong("a rename that replaces"));
    }
    let part = &renamed.path;
    let written: i64 = calls.iter().filter(|call| is_write(call) && call.path == *part).map(|call| call.result).sum();
    if written != len as i64 {
        return Err(wrong("not all bytes are written"));
    }
    let touched = |call: &&Call| (is_write(call) || call.name == "ftruncate") && call.path == *part;
    let last_touch = calls.iter().filter(touched).max_by_key(|call| call.begun).ok_or_else(|| wrong("no bytes"))?;
    let is_safe = |call: &Call| is_sync(call, part) && is_before(last_touch, call) && is_before(call, renamed);
    if !calls.iter().any(is_safe) {
        return Err(wrong("no sync between the last byte and the rename"));
    }
    let dir = object.parent().ok_or("an object without a directory")?;
    for made in dir.ancestors().filter(|dir| dir.components().count() > 1) {
        check_directory(calls, made)?;
    }
    let synced = calls.iter().find(|call| is_sync(call, dir) && is_before(renamed, call));
    synced.ok_or_else(|| wrong("no sync of its directory after the rename"))
}

/// A directory's entry is durable before anything is put below it.
fn check_directory(calls: &[Call], dir: &Path) -> Result<(), String> {
    let wrong = |what: &str| format!("{}: {what}", dir.display());
    let above = dir.parent().ok_or("a directory without a parent")?;
    let made = calls.iter().find(|call| call.name == "mkdirat" && call.path == dir);
    let made = made.ok_or_else(|| wrong("is not made"))?;
    let puts = |call: &&Call| {
        let goal = call.to.as_ref().unwrap_or(&call.path);
        (call.creates || call.name == "mkdirat" || call.to.is_some()) && goal != dir && goal.starts_with(dir)
    };
    let below = calls.iter().filter(puts).min_by_key(|call| call.begun).ok_or_else(|| wrong("stays empty"))?;
    let is_safe = |call: &Call| is_sync(call, above) && is_before(made, call) && is_before(call, below);
    if calls.iter().any(is_safe) { Ok(()) } else { Err(wrong("something is put below it before its entry is synced")) }
}

/// The catalog's journal gets the commit after the last step on the volumes, and is synced before anything else is
/// changed.
fn check_commit(calls: &[Call], last_step: &Call) -> Result<(), String> {
    let after = |call: &&Call| is_before(last_step, call);
    let committed = calls.iter().filter(after).find(|call| is_journal(call) && is_write(call));
    let committed = committed.ok_or("nothing is committed after the last record of the run")?;
    let synced = calls.iter().find(|call| is_sync(call, Path::new("backup.cat-wal")) && is_before(committed, call));
    let synced = synced.ok_or("the commit is not synced")?;
    let changes = |call: &&Call| call.changes() && !is_journal(call) && is_before(committed, call);
    match calls.iter().find(changes) {
        Some(next) if !is_before(synced, next) => Err(format!("{} comes before the commit is synced", next.told())),
        _ => Ok(()),
    }
}

/// A run on two volumes and all its calls; with what it stored.
fn recorded() -> (Vec<Call>, Placed) {
    let bench = Bench::in_memory().and_volumes(&["disk1", "disk2"], &["--block-size", "8M"]);
    // More than a block: both volumes get some.
    for file in 0..3 {
        write(&bench.src(), &format!("d{file}/{file}"), &Rng(file).bytes(6 << 20));
    }
    let backup = bench.command(&["--no-progress", "backup", "src"]);
    let traced = trace(&backup, &bench.path(""), &mut |_| Fate::Passes);
    assert_eq!(traced.said.code, 0, "{:#?}", traced.said);
    let mut placed = Placed::new();
    for disk in ["disk1", "disk2"] {
        for dir in ["chunks", "runs"] {
            let before = placed.len();
            for entry in walkdir::WalkDir::new(bench.path(disk).join(dir)).into_iter().map(Result::unwrap) {
                if entry.file_type().is_file() {
                    let name = entry.path().strip_prefix(bench.path("")).unwrap().to_path_buf();
                    placed.insert(name, entry.metadata().unwrap().len());
                }
            }
            assert!(placed.len() > before, "nothing in {disk}/{dir}");
        }
    }
    (traced.calls, placed)
}

/// The numbers of all calls that the order is made of.
fn steps(calls: &[Call], placed: &Placed) -> Vec<usize> {
    let parts: Vec<&Path> = calls
        .iter()
        .filter(|call| call.to.as_ref().is_some_and(|to| placed.contains_key(to)))
        .map(|call| call.path.as_path())
        .collect();
    let ends: Vec<&Call> =
        calls.iter().filter(|call| parts.contains(&call.path.as_path()) && call.to.is_some()).collect();
    let last_rename = ends.iter().max_by_key(|call| call.begun).unwrap();
    let dirs: Vec<&Path> = placed.keys().flat_map(|object| object.ancestors().skip(1)).collect();
    let commit = calls.iter().filter(|call| is_journal(call) && is_before(last_rename, call));
    let commit = commit.filter(|call| call.name == "fsync" || call.name == "fdatasync").map(|call| call.number).next();
    let is_step = |call: &&Call| {
        let of_part = parts.contains(&call.path.as_path()) && (is_write(call) || is_sync(call, &call.path));
        let is_dir_sync = call.name == "fsync" && call.path.components().count() > 0 && dirs.contains(&&*call.path);
        let is_on_root = call.path.components().count() == 1;
        // After the commit a volume's index is written, which is no part of this.
        let of_dir = is_dir_sync && !(is_on_root && is_before(last_rename, call));
        let made = call.name == "mkdirat" && dirs.contains(&&*call.path);
        of_part || of_dir || made || call.to.is_some() || Some(call.number) == commit
    };
    calls.iter().filter(is_step).map(|call| call.number).collect()
}

#[test]
fn a_backup_makes_everything_durable_in_the_order_that_it_promises() {
    if !can_trace() {
        return;
    }
    let (calls, placed) = recorded();
    check(&calls, &placed).unwrap();
    // The checker misses none of the steps.
    let steps = steps(&calls, &placed);
    for step in &steps {
        let without: Vec<Call> = calls.iter().filter(|call| call.number != *step).cloned().collect();
        assert!(check(&without, &placed).is_err(), "nobody misses {}", calls[*step].told());
    }
    // Nor a failed sync, a rename that replaces, or one that comes a step too early.
    let mut also = 0;
    for step in &steps {
        let mut changed = calls.clone();
        match changed[*step].name {
            "fsync" | "fdatasync" => changed[*step].result = -5,
            name if name.starts_with("rename") => changed[*step].keeps = false,
            _ => continue,
        }
        assert!(check(&changed, &placed).is_err(), "nobody sees what is wrong with {}", calls[*step].told());
        also += 1;
    }
    println!(
        "{} calls, {} objects, {} steps missed when taken out, {also} when spoilt",
        calls.len(),
        placed.len(),
        steps.len()
    );
    assert!(steps.len() > 30 && also > 20);
}
