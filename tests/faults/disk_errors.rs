//! Disks that give errors: what is hit is named, all the rest is fine, and nothing is taken for gone.

use crate::util::bench::{Bench, Said};
use crate::util::five::{Known, complete_runs};
use crate::util::oracle::snapshot;
use crate::util::stage::Stage;
use crate::util::tracer::{Call, Fate, Traced, can_trace, trace};
use crate::util::tree::{Rng, write};
use nix::errno::Errno;
use std::fs;
use std::path::Path;

const DISKS: [&str; 2] = ["disk1", "disk2"];
const BACKUP: [&str; 4] = ["--json", "--no-progress", "backup", "src"];

/// Two runs, each with files of its own in blocks of its own, and something more to save.
fn stage() -> Stage {
    let bench = Bench::in_memory().and_volumes(&DISKS, &[]);
    let (mut known, mut rng) = (Known::default(), Rng(5));
    for name in ["a/one", "a/two", "b/three", "b/c/four"] {
        write(&bench.src(), name, &rng.bytes(40_000));
    }
    known.backup(&bench);
    write(&bench.src(), "d/second", &rng.bytes(50_000));
    known.backup(&bench);
    write(&bench.src(), "a/one", &rng.bytes(60_000));
    write(&bench.src(), "d/third", &rng.bytes(70_000));
    fs::remove_file(bench.path("src/b/three")).unwrap();
    Stage::new(bench, known)
}

/// A command in which the calls that `hit` chooses fail.
fn failing(stage: &Stage, args: &[&str], errno: Errno, hit: impl Fn(&Call) -> bool + Sync) -> Traced {
    stage.reset();
    let traced = trace(&stage.bench.command(args), &stage.bench.path(""), &mut |call| {
        if hit(call) { Fate::Fails(errno) } else { Fate::Passes }
    });
    assert!(!traced.met.is_empty(), "nothing was hit");
    assert!(!traced.said.err.contains("panicked"), "{:#?}", traced.said);
    traced
}

fn reads(call: &Call) -> bool {
    matches!(call.name, "read" | "pread64")
}

fn problems(said: &Said) -> Vec<String> {
    let summary = said.summary();
    let listed = summary["problems"].as_array().cloned().unwrap_or_default();
    listed.iter().map(|problem| problem["path"].as_str().unwrap().to_owned()).collect()
}

/// Restores the newest run and compares each file of the source: as it is now, as it was in run 2, or absent.
fn assert_newest(bench: &Bench, (old, absent): (&[&str], &[&str]), known: &Known) {
    let run = complete_runs(bench).pop().unwrap();
    assert_eq!(run, 3);
    let (dest, found) = bench.reverted(run);
    let (before, mut now) = (&known.0[&2], snapshot(&bench.src()));
    for path in old {
        now.0.insert(path.as_bytes().to_vec(), before.0[path.as_bytes()].clone());
    }
    now.0.retain(|path, _| !absent.iter().any(|absent| Path::new(absent).as_os_str().as_encoded_bytes() == path));
    let files = |mut tree: crate::util::oracle::Snapshot| {
        tree.0.retain(|_, node| node.kind == 'f');
        tree
    };
    files(found).assert_is(&files(now), "the newest run");
    fs::remove_dir_all(dest).unwrap();
}

#[test]
fn a_source_file_that_cannot_be_read_is_named_and_keeps_its_earlier_version() {
    if !can_trace() {
        return;
    }
    let stage = stage();
    let bench = &stage.bench;
    for (hit, old, absent) in [("a/one", &["a/one"][..], &[][..]), ("d/third", &[], &["d/third"])] {
        let path = Path::new("src").join(hit);
        let said = failing(&stage, &BACKUP, Errno::EIO, |call| reads(call) && call.path == path).said.with_code(3);
        assert_eq!(problems(&said), [hit], "{said:#?}");
        assert_newest(bench, (old, absent), &stage.known);
        stage.known.clone().assert_holds(bench, &DISKS, &format!("{hit} cannot be read"));
    }
}

#[test]
fn a_source_directory_that_cannot_be_listed_is_named_and_nothing_in_it_counts_as_deleted() {
    if !can_trace() {
        return;
    }
    let stage = stage();
    let bench = &stage.bench;
    for (hit, old) in [("b", &["b/three"][..]), ("b/c", &[]), ("a", &["a/one"])] {
        let path = Path::new("src").join(hit);
        let lists = |call: &Call| call.name == "getdents64" && call.path == path;
        let said = failing(&stage, &BACKUP, Errno::EIO, lists).said.with_code(3);
        assert_eq!(problems(&said), [hit], "{said:#?}");
        assert_eq!(said.summary()["files_deleted"], usize::from(hit != "b"), "{said:#?}");
        assert_newest(bench, (old, &[]), &stage.known);
        stage.known.clone().assert_holds(bench, &DISKS, &format!("{hit} cannot be listed"));
    }
    // The source itself: no run.
    let lists = |call: &Call| call.name == "getdents64" && call.path == Path::new("src");
    let said = failing(&stage, &BACKUP, Errno::EIO, lists).said;
    assert!([1, 3].contains(&said.code), "{said:#?}");
    if said.code == 3 {
        assert_eq!(said.summary()["files_deleted"], 0, "{said:#?}");
    }
    stage.known.clone().assert_holds(bench, &DISKS, "the source cannot be listed");
}

#[test]
fn a_block_that_cannot_be_read_costs_the_files_in_it_and_they_are_named() {
    if !can_trace() {
        return;
    }
    let stage = stage();
    let bench = &stage.bench;
    // The block with d/second alone: the youngest.
    let mut blocks: Vec<_> = DISKS.iter().flat_map(|disk| bench.blocks(disk).into_values()).collect();
    blocks.sort_by_key(|path| path.metadata().unwrap().modified().unwrap());
    let hit = blocks.pop().unwrap().strip_prefix(bench.path("")).unwrap().to_path_buf();
    let in_block = |call: &Call| reads(call) && call.path == hit;
    let said = failing(&stage, &["--json", "revert-to-run", "2", "dest"], Errno::EIO, in_block).said.with_code(4);
    assert_eq!(problems(&said), ["d/second"], "{said:#?}");
    let mut wanted = stage.known.0[&2].clone();
    wanted.0.retain(|path, node| path != b"d/second" && node.kind == 'f');
    let mut found = snapshot(&bench.path("dest"));
    found.0.retain(|_, node| node.kind == 'f');
    found.assert_is(&wanted, "all but what cannot be read");
    let said = failing(&stage, &["--no-progress", "validate"], Errno::EIO, in_block).said.with_code(4);
    assert!(said.err.contains("d/second") && said.err.contains("run 2"), "{said:#?}");
    assert!(!said.err.contains("a/two"), "{said:#?}");
    // The disk gives it again: no damage is left, whatever was noted.
    stage.known.clone().assert_holds(bench, &DISKS, "a block could not be read");
}

#[test]
fn a_volume_whose_blocks_cannot_be_listed_is_not_an_empty_one() {
    if !can_trace() {
        return;
    }
    let stage = stage();
    let bench = &stage.bench;
    let with_blocks = DISKS.iter().find(|disk| !bench.blocks(disk).is_empty()).unwrap();
    for dir in ["chunks", "runs", "tmp"] {
        let path = Path::new(with_blocks).join(dir);
        let lists = |call: &Call| call.name == "getdents64" && call.path.starts_with(&path);
        for args in [
            &BACKUP[..],
            &["--no-progress", "validate"],
            &["--no-progress", "validate", "--quick"],
            &["--no-progress", "rebuild-catalog", "--volume", "disk1", "--volume", "disk2"],
        ] {
            stage.reset();
            let traced = trace(&bench.command(args), &bench.path(""), &mut |call| {
                if lists(call) { Fate::Fails(Errno::EIO) } else { Fate::Passes }
            });
            let (said, what) = (traced.said, format!("{args:?}: {} cannot be listed", path.display()));
            println!("{what}: exit {}, {} calls failed", said.code, traced.met.len());
            assert!([0, 1, 4, 5].contains(&said.code) && !said.err.contains("panicked"), "{what}: {said:#?}");
            if args == BACKUP {
                // The other disk is sound: the run is saved there, and what fails is named.
                stage.known.clone().assert_told(bench, (&said, &[0]), &what);
                assert!(traced.met.is_empty() || said.err.contains(with_blocks), "{what}: {said:#?}");
            }
            if args.contains(&"validate") && !traced.met.is_empty() && dir != "tmp" {
                assert_eq!(said.code, 4, "{what}: {said:#?}");
            }
            if args.contains(&"rebuild-catalog") && !traced.met.is_empty() && dir != "tmp" {
                assert_ne!(said.code, 0, "{what}: {said:#?}");
            }
            stage.known_now().assert_holds(bench, &DISKS, &what);
        }
    }
}

#[test]
fn a_sync_that_failed_is_final_for_that_file_and_another_volume_takes_the_data() {
    if !can_trace() {
        return;
    }
    let stage = stage();
    let bench = &stage.bench;
    let syncs = |call: &Call| matches!(call.name, "fsync" | "fdatasync");
    for disk in DISKS {
        for name in ["tmp", "chunks", "runs"] {
            let dir = Path::new(disk).join(name);
            stage.reset();
            let mut hit: Option<Call> = None;
            let traced = trace(&bench.command(&BACKUP), &bench.path(""), &mut |call| {
                if hit.is_none() && syncs(call) && call.path.starts_with(&dir) {
                    hit = Some(call.clone());
                    return Fate::Fails(Errno::EIO);
                }
                Fate::Passes
            });
            let what = format!("a sync below {} fails", dir.display());
            let mut known = stage.known.clone();
            known.assert_told(bench, (&traced.said, &[0]), &what);
            if let Some(hit) = hit {
                let again = |call: &&Call| call.number > hit.number && syncs(call) && call.path == hit.path;
                let again: Vec<&Call> = traced.calls.iter().filter(again).collect();
                assert!(again.is_empty(), "{what}: {} is synced again", hit.told());
                assert!(traced.said.err.contains(disk), "{what}: nobody is told: {:#?}", traced.said);
                println!("{what}: {}", hit.told());
            }
            known.assert_holds(bench, &DISKS, &what);
        }
    }
}

#[test]
fn a_quota_on_one_volume_moves_the_data_to_the_other_and_on_both_ends_the_run() {
    if !can_trace() {
        return;
    }
    let stage = stage();
    let bench = &stage.bench;
    let on = |disk: &'static str| {
        move |call: &Call| {
            call.path.starts_with(disk)
                && (call.name == "pwrite64" || call.name == "fallocate" || call.name == "mkdirat")
        }
    };
    for disk in DISKS {
        let said = failing(&stage, &BACKUP, Errno::EDQUOT, on(disk)).said;
        let mut known = stage.known.clone();
        known.assert_told(bench, (&said, &[0]), disk);
        known.assert_holds(bench, &DISKS, &format!("a quota on {disk}"));
    }
    let both = |call: &Call| on("disk1")(call) || on("disk2")(call);
    let said = failing(&stage, &BACKUP, Errno::EDQUOT, both).said;
    let mut known = stage.known.clone();
    known.assert_told(bench, (&said, &[5]), "a quota on both");
    known.assert_holds(bench, &DISKS, "a quota on both");
}
