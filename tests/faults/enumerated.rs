//! Every call of every command that writes, one after the other: it fails, or the process dies there.

use crate::util::bench::{Bench, Said};
use crate::util::five::{Known, complete_runs};
use crate::util::needs::long_tests_factor;
use crate::util::oracle::{Snapshot, snapshot};
use crate::util::stage::{Fault, Stage, faults_of};
use crate::util::tracer::{Call, Fate, can_trace, trace};
use crate::util::tree::{Rng, write};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const DISKS: [&str; 2] = ["disk1", "disk2"];

/// A small tree.
fn grow(bench: &Bench) {
    let mut rng = Rng(7);
    for (name, len) in [("a/stays", 40_000), ("a/modified", 30_000), ("b/deleted", 20_000), ("b/c/deep", 5_000)] {
        write(&bench.src(), name, &rng.bytes(len));
    }
    write(&bench.src(), "b/void", b"");
    std::os::unix::fs::symlink("a/stays", bench.path("src/link")).unwrap();
    std::fs::hard_link(bench.path("src/a/stays"), bench.path("src/b/stays too")).unwrap();
}

/// One file modified, one deleted, one added.
fn change(bench: &Bench) {
    let mut rng = Rng(8);
    write(&bench.src(), "a/modified", &rng.bytes(31_000));
    std::fs::remove_file(bench.path("src/b/deleted")).unwrap();
    write(&bench.src(), "d/added", &rng.bytes(50_000));
}

fn with_one_run() -> (Bench, Known) {
    let bench = Bench::in_memory().and_volumes(&DISKS, &[]);
    let mut known = Known::default();
    grow(&bench);
    known.backup(&bench);
    (bench, known)
}

/// The run that is to come has something of everything to do.
const BACKUP: [&str; 6] = ["--json", "--no-progress", "backup", "src", "--max-workers", "1"];

/// A run, and changes since.
fn before_a_backup() -> Stage {
    let (bench, known) = with_one_run();
    change(&bench);
    Stage::new(bench, known)
}

/// Whether the command died of the fault, rather than said something.
fn is_killed(fault: Fault) -> bool {
    matches!(fault, Fault::DiesBefore | Fault::DiesAfter)
}

/// One call in so many, unless there is more time: the operations of volumes are all tried by `every_fault_tests`.
const STRIDE: usize = 3;

/// Asks for all faults at all calls of a command, or one in [`STRIDE`]; `after` looks at each outcome.
fn enumerate(stage: &Stage, args: &[&str], mut after: impl FnMut(&[Call], Fault, &Said, &str)) {
    let calls = stage.calls(args);
    let (mut cases, mut codes, mut kinds) = (0, BTreeMap::new(), BTreeMap::new());
    let stride = (STRIDE / long_tests_factor() as usize).max(1);
    let tried = calls.len() / stride;
    for call in calls.iter().skip(calls.len() % stride).step_by(stride) {
        *kinds.entry(call.name).or_insert(0) += 1;
        for fault in faults_of(call, long_tests_factor() > 1) {
            let traced = stage.with(args, call.number, fault);
            // Threads may come to their calls in another order; what was hit is what counts.
            let Some(met) = traced.met.first() else { continue };
            let what = format!("{fault:?} at call {} of {}: {}", call.number, args.join(" "), met.told());
            assert!(!traced.said.err.contains("panicked"), "{what}: {:#?}", traced.said);
            assert_eq!(traced.said.code == -9, is_killed(fault), "{what}: {:#?}", traced.said);
            after(&traced.met, fault, &traced.said, &what);
            *codes.entry(traced.said.code).or_insert(0) += 1;
            cases += 1;
        }
    }
    println!("{}: {} calls {kinds:?}, {cases} faults, exit codes {codes:?}", args.join(" "), calls.len());
    assert!(cases >= tried * 9 / 10, "{cases} of {tried} calls were met");
}

/// A run that left something out has all the rest, and takes nothing that it could not see for deleted.
fn assert_all_but(bench: &Bench, missing: &[Call], what: &str) {
    assert!(missing.iter().all(|call| call.path.starts_with("src")), "{what}: exit 3, and the source was read well");
    let run = complete_runs(bench).pop().unwrap();
    let dest = bench.fresh("reverted");
    bench.run(&["revert-to-run".as_ref(), run.to_string().as_ref(), dest.as_os_str()]);
    let is_missing = |path: &[u8]| {
        let path = PathBuf::from("src").join(String::from_utf8_lossy(path).as_ref());
        missing.iter().any(|call| path.starts_with(&call.path))
    };
    let all_but = |mut tree: Snapshot| {
        tree.0.retain(|path, node| !is_missing(path) && node.kind != 'd');
        // A name that is missing here may be one of several.
        tree.0.values_mut().for_each(|node| node.names.clear());
        tree
    };
    all_but(snapshot(&dest)).assert_is(&all_but(snapshot(&bench.src())), what);
    for kept in ["a/stays", "b/c/deep", "b/void"] {
        assert!(dest.join(kept).exists(), "{what}: {kept} was not seen, and is not gone");
    }
    std::fs::remove_dir_all(dest).unwrap();
}

#[test]
fn whichever_call_of_a_backup_fails_or_is_its_last_all_five_questions_are_answered_well() {
    if !can_trace() {
        return;
    }
    let stage = before_a_backup();
    let (bench, now) = (&stage.bench, snapshot(&stage.bench.src()));
    enumerate(&stage, &BACKUP, |met, fault, said, what| {
        let mut known = stage.known.clone();
        if is_killed(fault) {
            known = stage.known_now();
        } else {
            known.assert_told(bench, (said, &[0, 1, 3, 5]), what);
        }
        if said.code == 3 {
            assert_all_but(bench, met, what);
        }
        if met[0].path.starts_with("src") {
            assert!([0, 1, 3, -9].contains(&said.code), "{what}: a source is not a volume: {said:#?}");
        }
        known.assert_holds(bench, &DISKS, what);
        // A run that was recorded when the process died is complete now.
        for run in complete_runs(bench).into_iter().filter(|run| !known.0.contains_key(run) && said.code != 3) {
            bench.assert_reverts(run, &now);
        }
    });
}

#[test]
fn a_catalog_that_fails_once_the_record_is_durable_is_told_and_the_run_is_there_now_or_after_the_next_backup() {
    if !can_trace() {
        return;
    }
    let stage = before_a_backup();
    let calls = stage.calls(&BACKUP);
    let is_record = |call: &Call| call.name.starts_with("rename") && call.told().ends_with(".manifest");
    let record = calls.iter().rposition(is_record).expect("a record that gets its name");
    let records = calls.iter().filter(|call| is_record(call)).count();
    let is_catalog = |call: &Call| call.path.to_string_lossy().starts_with("backup.cat");
    let later = calls[record..].iter().filter(|call| is_catalog(call) && call.changes());
    let (mut told, mut there) = (0, 0);
    for call in later {
        for fault in [Fault::Once(Errno::EIO), Fault::ForGood(Errno::EIO), Fault::ForGood(Errno::ENOSPC)] {
            let traced = stage.with(&BACKUP, call.number, fault);
            let Some(met) = traced.met.first() else { continue };
            // Threads may come to their calls in another order: then another call has this number, perhaps one before
            // the records, which is the matter of the test above.
            let before = traced.calls.iter().filter(|call| call.number < met.number);
            if before.filter(|call| is_record(call)).count() < records || !is_catalog(met) {
                continue;
            }
            let what = format!("{fault:?} at call {}: {}", call.number, met.told());
            let mut known = stage.known.clone();
            known.assert_told(&stage.bench, (&traced.said, &[0, 1]), &what);
            told += usize::from(traced.said.err.contains("is stored on its volumes"));
            there += usize::from(traced.said.code == 1 && known.0.len() > stage.known.0.len());
            known.assert_holds(&stage.bench, &DISKS, &what);
            let runs = complete_runs(&stage.bench);
            assert_eq!(
                runs.len(),
                3,
                "{what}: the run before, the one whose record is durable, and the next: {runs:?}"
            );
        }
    }
    println!("the catalog failed {told} times, in {there} of them the run was in it all the same");
    assert!(told > 1, "a commit that failed was seen");
}

/// All sidecars, by volume and name.
fn sidecars(bench: &Bench) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for disk in DISKS {
        for entry in std::fs::read_dir(bench.path(disk).join("meta")).unwrap() {
            let path = entry.unwrap().path();
            found.insert(path.clone(), std::fs::read_to_string(path).unwrap());
        }
    }
    found
}

#[test]
fn whichever_call_of_genmeta_fails_or_is_its_last_the_next_one_writes_the_same_sidecars() {
    if !can_trace() {
        return;
    }
    let (bench, mut known) = with_one_run();
    bench.run(&["genmeta"]).with_code(0);
    change(&bench);
    known.backup(&bench);
    let stage = Stage::new(bench, known);
    let bench = &stage.bench;
    let before = sidecars(bench);
    bench.run(&["genmeta"]).with_code(0);
    let wanted = sidecars(bench);
    assert!(before.len() < wanted.len() && before.iter().any(|(path, text)| wanted[path] != *text));
    enumerate(&stage, &["--json", "--no-progress", "genmeta"], |_, _, said, what| {
        assert!([0, 1, 4, 5, -9].contains(&said.code), "{what}: {said:#?}");
        // What is there is whole: the old one or the new one.
        for (path, text) in sidecars(bench) {
            assert!(wanted[&path] == text || before.get(&path) == Some(&text), "{what}: {}", path.display());
        }
        if said.code == 0 && said.err.is_empty() {
            assert_eq!(sidecars(bench), wanted, "{what}");
        }
        bench.run(&["genmeta"]).with_code(0);
        assert_eq!(sidecars(bench), wanted, "{what}");
        stage.known.clone().assert_holds(bench, &DISKS, what);
    });
}

/// A bench whose second run is complete in the catalog's journal alone.
fn with_a_journal() -> Stage {
    let (bench, mut known) = with_one_run();
    change(&bench);
    let backup = bench.command(&["backup", "src"]);
    let is_copied = |call: &Call| call.name == "pwrite64" && call.path.ends_with("backup.cat");
    trace(&backup, &bench.path(""), &mut |call| if is_copied(call) { Fate::DiesBefore } else { Fate::Passes });
    let mut stage = Stage::new(bench, known.clone());
    known.0.insert(2, snapshot(&stage.bench.src()));
    stage.reset();
    assert_eq!(complete_runs(&stage.bench), [1, 2]);
    stage.known = known;
    stage
}

#[test]
fn whichever_call_of_a_rebuild_fails_or_is_its_last_the_old_catalog_is_kept_and_the_next_one_succeeds() {
    if !can_trace() {
        return;
    }
    let stage = with_a_journal();
    let bench = &stage.bench;
    let args = ["--json", "--no-progress", "rebuild-catalog", "--volume", "disk1", "--volume", "disk2"];
    enumerate(&stage, &args, |_, _, said, what| {
        assert!([0, 1, 4, 5, -9].contains(&said.code), "{what}: {said:#?}");
        // Somewhere is a catalog that knows all that the old one knew.
        let names = std::fs::read_dir(bench.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap());
        let catalogs: Vec<String> = names
            .filter(|name| name == "backup.cat" || (name.contains(".broken-") && !name.contains("-wal")))
            .filter(|name| !name.ends_with("-shm"))
            .collect();
        let knows_all = |name: &String| {
            let said = bench.run(&["--catalog", name, "--json", "runs"]);
            let runs = said.summary()["runs"].as_array().map_or(0, Vec::len);
            said.code == 0 && runs == 2
        };
        assert!(catalogs.iter().any(knows_all), "{what}: {catalogs:?}");
        bench.run(&args).with_code(0);
        assert_eq!(complete_runs(bench), [1, 2], "{what}");
        stage.known.clone().assert_holds(bench, &DISKS, what);
    });
}

/// Whether all files are there with their bytes.
fn is_all_there(dest: &Path, tree: &Snapshot) -> bool {
    let contents = |tree: &Snapshot| -> BTreeMap<_, _> {
        tree.0.iter().map(|(path, node)| (path.clone(), node.content.clone())).collect()
    };
    contents(&snapshot(dest)) == contents(tree)
}

#[test]
fn whichever_call_of_a_restore_fails_or_is_its_last_no_wrong_file_counts_as_restored() {
    if !can_trace() {
        return;
    }
    let (bench, mut known) = with_one_run();
    change(&bench);
    let run = known.backup(&bench);
    let tree = known.0[&run].clone();
    let stage = Stage::new(bench, known);
    let bench = &stage.bench;
    let args = ["--json", "--no-progress", "revert-to-run", "2", "dest", "--max-workers", "1"];
    enumerate(&stage, &args, |_, _, said, what| {
        assert!([0, 1, 4, 5, -9].contains(&said.code), "{what}: {said:#?}");
        if said.code == 0 {
            snapshot(&bench.path("dest")).assert_is(&tree, what);
        } else {
            // One that came to its end, and named what it could not write, has to be told that it may go on over the
            // rest; so has one that died when all was written and its marker was gone.
            let is_marked = bench.path("dest/.raidtape-restore").exists();
            let is_temporary =
                |name: &std::fs::DirEntry| name.file_name().as_encoded_bytes().starts_with(b".raidtape-tmp-");
            let names = std::fs::read_dir(bench.path("dest")).into_iter().flatten().map(Result::unwrap);
            let is_bare = names.filter(|name| !is_temporary(name)).count() == 0;
            let how: &[&str] = if is_bare || is_marked { &[] } else { &["--overwrite", "if-changed"] };
            assert!(how.is_empty() || said.code == 4 || is_all_there(&bench.path("dest"), &tree), "{what}: {said:#?}");
            let again = bench.run(&[&args[..], how].concat());
            assert!(again.code == 0, "{what}: {said:#?}: the second try: {again:#?}");
            snapshot(&bench.path("dest")).assert_is(&tree, &format!("{what}, the second try"));
        }
        bench.run(&["validate"]).with_code(0);
    });
    let args = ["--json", "--no-progress", "restore", "d/added", "one"];
    let wanted = std::fs::read(bench.path("src/d/added")).unwrap();
    enumerate(&stage, &args, |_, _, said, what| {
        assert!([0, 1, 4, 5, -9].contains(&said.code), "{what}: {said:#?}");
        let found = std::fs::read(bench.path("one"));
        // A file under its name is right or not said to be.
        assert!(said.code != 0 || found.as_ref().is_ok_and(|found| *found == wanted), "{what}");
        assert!(found.is_err() || found.is_ok_and(|found| found == wanted), "{what}: a wrong file under its name");
        let again = bench.run(&[&args[..], &["--overwrite", "if-changed"]].concat());
        assert!(again.code == 0 && std::fs::read(bench.path("one")).unwrap() == wanted, "{what}: {again:#?}");
    });
}
