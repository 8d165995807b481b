//! What lies in a restore's target stays as the user said: also where the restore was interrupted, where an unfinished one
//! lies below, and where a call fails at the wrong moment.

use crate::util::bench::{Bench, Said};
use crate::util::needs::{has_root, has_tools};
use crate::util::oracle::snapshot;
use crate::util::told::{run, thaw};
use crate::util::tree::{set_mtime, write};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};

/// A source, and a restore of `what` that has to wait for its volume.
fn waiting(what: &[&str]) -> Bench {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    write(&bench.src(), "f", b"as it was stored");
    write(&bench.src(), "sub/g", &[7; 5000]);
    for name in ["f", "sub/g"] {
        set_mtime(&bench.src().join(name), (1_600_000_000, 0));
    }
    bench.backup();
    write(&bench.path("dest"), "f", b"newer work of the user's");
    fs::rename(bench.path("disk1"), bench.path("away")).unwrap();
    bench.run(&[&["--no-progress"], what].concat()).with_code(5);
    fs::rename(bench.path("away"), bench.path("disk1")).unwrap();
    bench
}

#[test]
fn what_was_to_stay_stays_also_when_the_restore_goes_on_without_being_told_again() {
    for mode in ["never", "if-newer"] {
        let bench = waiting(&["revert-to-run", "1", "dest", "--overwrite", mode]);
        assert!(bench.path("dest/.raidtape-restore").exists());
        bench.run(&["--no-progress", "revert-to-run", "1", "dest"]).with_code(0);
        assert_eq!(fs::read(bench.path("dest/f")).unwrap(), b"newer work of the user's", "{mode}");
        assert_eq!(fs::read(bench.path("dest/sub/g")).unwrap(), [7; 5000], "{mode}");
        assert!(!bench.path("dest/.raidtape-restore").exists(), "{mode}");
    }
}

#[test]
fn parts_of_an_unfinished_restore_further_down_are_not_kept_for_good() {
    let bench = waiting(&["restore-folder", "sub", "dest/sub"]);
    assert!(bench.path("dest/sub/.raidtape-restore").exists());
    for mode in ["never", "if-newer"] {
        let said = bench.run(&["--no-progress", "revert-to-run", "1", "dest", "--overwrite", mode]).with_code(2);
        said.with_sentence(&["sub", "unfinished restore"]);
    }
    bench.run(&["--no-progress", "restore-folder", "sub", "dest/sub"]).with_code(0);
    bench.run(&["--no-progress", "revert-to-run", "1", "dest", "--overwrite", "never"]).with_code(0);
    assert_eq!(fs::read(bench.path("dest/sub/g")).unwrap(), [7; 5000]);
}

#[test]
fn a_file_in_the_place_of_a_directory_is_not_replaced_where_newer_files_stay() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    write(&bench.src(), "d/f", b"x");
    bench.backup();
    write(&bench.path("dest"), "d", b"newer work of the user's");
    let said = bench.run(&["--no-progress", "revert-to-run", "1", "dest", "--overwrite", "if-newer"]).with_code(4);
    assert!(said.err.contains('d'), "{said:#?}");
    assert_eq!(fs::read(bench.path("dest/d")).unwrap(), b"newer work of the user's");
}

#[test]
fn what_is_newer_but_not_the_same_kind_of_thing_is_told_and_stays() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    for name in ["f", "g", "h"] {
        write(&bench.src(), name, b"x");
        set_mtime(&bench.src().join(name), (1_600_000_000, 0));
    }
    bench.backup();
    fs::create_dir_all(bench.path("dest/f")).unwrap();
    symlink("nowhere", bench.path("dest/g")).unwrap();
    write(&bench.path("dest"), "h", b"newer");
    for more in [&["-n"][..], &[]] {
        let report = bench.json(&[&["revert-to-run", "1", "dest", "--overwrite", "if-newer"], more].concat(), 4);
        let told: Vec<&str> =
            report["problems"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
        assert_eq!((told, &report["skipped_existing"]), (vec!["f", "g"], &1.into()), "{report:#}");
    }
    assert!(bench.path("dest/f").is_dir() && bench.path("dest/g").is_symlink());
    assert_eq!(fs::read(bench.path("dest/h")).unwrap(), b"newer");
}

#[test]
fn an_include_that_fits_nothing_is_told_and_is_no_success() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    write(&bench.src(), "d/f", b"x");
    bench.backup();
    for more in [&["-n"][..], &[]] {
        let args = ["--no-progress", "revert-to-run", "1", "dest", "--include", "*.jpg"];
        let said = bench.run(&[&args, more].concat()).with_code(4);
        assert!(said.err.contains("nothing was restored") && said.err.contains("--include"), "{said:#?}");
    }
    for pattern in ["f", "d", "/d/f"] {
        let dest = bench.fresh("dest");
        let report = bench.json(&["revert-to-run", "1", dest.to_str().unwrap(), "--include", pattern], 0);
        assert_eq!((&report["nothing_fits"], &report["files"]), (&false.into(), &1.into()));
    }
    // What is there already was not missed.
    let args = ["revert-to-run", "1", "dest-0", "--overwrite", "never", "--iinclude", "F"];
    assert_eq!(bench.json(&args, 0)["skipped_existing"], 1);
}

#[test]
fn a_length_that_cannot_be_given_back_after_a_hole_was_dug_is_never_a_restored_file() {
    if !has_tools(&["strace"]) {
        return;
    }
    let bench = Bench::with_volumes(&["disk1"], &[]);
    write(&bench.src(), "f", &[7; 100_000]);
    let sparse = fs::File::options().write(true).open(bench.src().join("f")).unwrap();
    sparse.set_len(1_000_000).unwrap();
    drop(sparse);
    bench.backup();
    let wanted = fs::read(bench.src().join("f")).unwrap();
    let mut failed = 0;
    for errno in ["EDQUOT", "EACCES"] {
        for when in 1..=4 {
            let inject = format!("inject=ftruncate:error={errno}:when={when}");
            let dest = format!("dest-{errno}-{when}");
            let said =
                Said::from(bench.traced(&["--no-progress", "revert-to-run", "1", &dest], &inject).output().unwrap());
            if said.code == 0 {
                assert!(fs::read(bench.path(&dest).join("f")).unwrap() == wanted, "{errno}, call {when}: {said:#?}");
            } else {
                failed += 1;
            }
        }
    }
    assert!(failed > 0, "no failing call was met");
    bench.assert_reverts(1, &snapshot(&bench.src()));
}

#[test]
fn an_immutable_file_that_stays_gets_its_owner() {
    if !has_root() || !has_tools(&["chattr"]) {
        return;
    }
    let bench = Bench::with_volumes(&["disk1"], &[]);
    write(&bench.src(), "f", b"x");
    chown(bench.src().join("f"), Some(1000), Some(1000)).unwrap();
    run(&bench.src(), &["chattr", "+i", "f"]);
    bench.backup();
    bench.run(&["--no-progress", "revert-to-run", "1", "dest"]).with_code(0);
    run(&bench.path("dest"), &["chattr", "-i", "f"]);
    chown(bench.path("dest/f"), Some(0), Some(0)).unwrap();
    run(&bench.path("dest"), &["chattr", "+i", "f"]);
    let said = bench.run(&["--no-progress", "revert-to-run", "1", "dest", "--overwrite", "if-changed", "--strict"]);
    let found = bench.path("dest/f").metadata().unwrap();
    let flags = run(&bench.path("dest"), &["lsattr", "f"]);
    thaw(&bench.path("dest"));
    thaw(&bench.src());
    assert_eq!((said.code, found.uid(), found.gid()), (0, 1000, 1000), "{said:#?}");
    assert!(flags.split(' ').next().unwrap().contains('i'), "{flags}");
}
