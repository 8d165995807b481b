//! `--delete`: what the run does not have goes, and nothing else, whatever somebody planted there.

use crate::util::bench::{Bench, Said};
use crate::util::needs::{Tmpfs, has_root, has_tools};
use crate::util::oracle::{assert_rsync_silent, snapshot};
use crate::util::tree::{flip, grow, make_fifo, odd_names, set_mode, write};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A bench with a run, and its tree in `dest`.
fn ready() -> Bench {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    grow(&bench.src(), 1);
    bench.backup();
    bench.run(&["revert-to-run", "1", "dest"]).with_code(0);
    for name in ["precious", "d/precious"] {
        write(&bench.path("outside"), name, b"precious");
    }
    bench
}

fn delete(bench: &Bench, more: &[&str]) -> Said {
    bench.run(&[&["revert-to-run", "1", "dest", "--overwrite", "if-changed", "--delete"], more].concat())
}

/// All that may lie in a target and does not belong there.
fn plant(bench: &Bench) {
    let dest = bench.path("dest");
    let outside = bench.path("outside");
    for name in ["extra", "small/extra", "empty/extra/deep/er/x", "big/closed/in it/x", "odd/.hidden/.x"] {
        write(&dest, name, b"extra");
    }
    for (number, name) in odd_names().into_iter().enumerate() {
        let dir = dest.join("small/d0").join(OsStr::from_bytes(&name));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(OsStr::from_bytes(b"\xff\n")), number.to_string()).unwrap();
    }
    symlink(&outside, dest.join("to a directory")).unwrap();
    symlink("../../outside", dest.join("small/up")).unwrap();
    symlink(outside.join("precious"), dest.join("empty/to a file")).unwrap();
    symlink(&outside, dest.join("big/closed/link")).unwrap();
    make_fifo(&dest.join("deep/pipe"));
    fs::hard_link(outside.join("precious"), dest.join("hard/from outside")).unwrap();
    // Where the run has something else.
    fs::remove_file(dest.join("small/d1/f01")).unwrap();
    write(&dest, "small/d1/f01/a directory/x", b"in the way");
    fs::remove_file(dest.join("links/up")).unwrap();
    write(&dest, "links/up/x", b"in the way");
    fs::remove_file(dest.join("hard/one")).unwrap();
    fs::create_dir_all(dest.join("hard/one/empty")).unwrap();
    fs::remove_dir_all(dest.join("small/d2")).unwrap();
    symlink(&outside, dest.join("small/d2")).unwrap();
    // Deeper than one path can say.
    let mut at = rustix::fd::OwnedFd::from(fs::File::open(dest.join("small/d3")).unwrap());
    for level in 0..600 {
        let (name, mode) = (format!("level {level}"), rustix::fs::Mode::RWXU);
        rustix::fs::mkdirat(&at, &name, mode).unwrap();
        at = rustix::fs::openat(&at, &name, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
    }
    for (name, mode) in [("big/closed/in it", 0), ("big/closed", 0o500), ("empty/extra/deep", 0o500)] {
        set_mode(&dest.join(name), mode);
    }
}

#[test]
fn a_tree_with_everything_planted_in_it_becomes_the_runs_again() {
    let bench = ready();
    plant(&bench);
    let outside = snapshot(&bench.path("outside"));
    let said = delete(&bench, &["-v"]).with_code(0);
    assert!(said.err.is_empty(), "{said:#?}");
    for line in ["deleted extra", "deleted empty/extra/deep/er/x", "deleted to a directory", "deleted big/closed/link"]
    {
        assert!(said.out.lines().any(|told| told == line), "{line}: {said:#?}");
    }
    snapshot(&bench.path("dest")).assert_is(&snapshot(&bench.src()), "as the run");
    assert_rsync_silent(&bench.src(), &bench.path("dest"));
    let now = snapshot(&bench.path("outside"));
    now.assert_is(&outside, "outside");
    let report = bench.json(&["revert-to-run", "1", "dest", "--overwrite", "always", "--delete"], 0);
    assert_eq!(report["deleted"], 0, "{report:#}");
}

#[test]
fn an_ordinary_user_deletes_closed_directories_of_his_own() {
    if !has_root() || !has_tools(&["setpriv", "chown"]) {
        return;
    }
    let bench = ready();
    plant(&bench);
    fs::copy(env!("CARGO_BIN_EXE_raidtape"), bench.path("program")).unwrap();
    let chown = Command::new("chown").args(["-hR", "65534:65534"]).arg(bench.path("")).status();
    assert!(chown.unwrap().success());
    let outside = snapshot(&bench.path("outside"));
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(bench.path("program"))
        .args(["revert-to-run", "1", "dest", "--overwrite", "if-changed", "--delete"])
        .current_dir(bench.path(""))
        .env("RAIDTAPE_CATALOG", bench.path("backup.cat"))
        .output();
    Said::from(output.unwrap()).with_code(0);
    let names = |dir: &Path| snapshot(dir).0.into_keys().collect::<Vec<_>>();
    assert_eq!(names(&bench.path("dest")), names(&bench.src()));
    snapshot(&bench.path("outside")).assert_is(&outside, "outside");
}

#[test]
fn what_patterns_leave_out_is_not_deleted_nor_are_the_folders_that_hold_it() {
    let bench = ready();
    let dest = bench.path("dest");
    for name in ["extra/a.keep", "extra/b", "extra/c/d.keep", "extra/c/e", "small/x", "big/x.keep", "keep/x", "other"] {
        write(&dest, name, b"extra");
    }
    let is_there = |name: &str| dest.join(name).symlink_metadata().is_ok();
    delete(&bench, &["--include", "/small", "--dry-run"]).with_code(0);
    delete(&bench, &["--include", "/small"]).with_code(0);
    assert!(!is_there("small/x") && is_there("other") && is_there("extra/b") && is_there("big/x.keep"));
    delete(&bench, &["-e", "*.keep", "-e", "/keep/"]).with_code(0);
    for name in ["extra/a.keep", "extra/c/d.keep", "big/x.keep", "keep/x"] {
        assert!(is_there(name), "{name}");
    }
    for name in ["extra/b", "extra/c/e", "other"] {
        assert!(!is_there(name), "{name}");
    }
    // A directory of the run that is left out is not looked into.
    write(&dest, "small/d0/mine", b"mine");
    delete(&bench, &["-e", "/small/d0"]).with_code(0);
    assert!(is_there("small/d0/mine") && !is_there("keep/x"));
    delete(&bench, &[]).with_code(0);
    snapshot(&dest).assert_is(&snapshot(&bench.src()), "in the end");
}

#[test]
fn a_volume_or_the_catalog_is_never_deleted() {
    let bench = ready();
    let before = snapshot(&bench.path("disk1"));
    write(&bench.path("dest"), "extra", b"extra");
    let refused = |args: &[&str], words: &[&str]| {
        bench.run(args).with_code(2).with_sentence(words);
        assert!(bench.path("dest/extra").exists());
        snapshot(&bench.path("disk1")).assert_is(&before, "the volume");
    };
    let args = |dest| ["revert-to-run", "1", dest, "--overwrite", "always", "--delete"];
    refused(&args("."), &["volume disk1", "--exclude '/disk1'"]);
    refused(&[&args(".")[..], &["--dry-run"]].concat(), &["volume disk1"]);
    refused(&args("disk1"), &["volume disk1"]);
    refused(&args("disk1/chunks"), &["volume disk1"]);
    refused(&[&args(".")[..], &["-e", "/disk1"]].concat(), &["holds the catalog"]);
    // One that nobody has told of.
    let copied = Command::new("cp").arg("-a").args([bench.path("disk1"), bench.path("dest/small/copy")]).status();
    assert!(copied.unwrap().success());
    refused(&args("dest"), &["small/copy", "RaidTape volume"]);
    refused(&[&args("dest")[..], &["-n"]].concat(), &["small/copy", "RaidTape volume"]);
    delete(&bench, &["-e", "copy"]).with_code(0);
    assert!(!bench.path("dest/extra").exists() && bench.path("dest/small/copy/raidtape-volume.json").exists());
    // The catalog in a folder that is left out.
    fs::remove_dir_all(bench.path("dest/small/copy")).unwrap();
    fs::create_dir(bench.path("dest/cat")).unwrap();
    for name in ["backup.cat", "backup.cat-wal", "backup.cat-shm"] {
        let _ = fs::rename(bench.path(name), bench.path("dest/cat").join(name));
    }
    let moved = |more: &[&str]| {
        let catalog = bench.path("dest/cat/backup.cat");
        let args = [&["--catalog", catalog.to_str().unwrap()], &args("dest")[..], more].concat();
        bench.run(&args)
    };
    moved(&[]).with_code(2).with_sentence(&["holds the catalog", "--exclude '/cat'"]);
    moved(&["-e", "/cat"]).with_code(0);
    assert!(bench.path("dest/cat/backup.cat").exists());
}

#[test]
fn nothing_is_deleted_when_not_all_could_be_restored_or_is_known() {
    let bench = ready();
    write(&bench.path("dest"), "extra", b"extra");
    fs::remove_file(bench.path("dest/big/random.bin")).unwrap();
    let blocks = bench.blocks("disk1");
    let spoil = || {
        for block in blocks.values() {
            let len = block.metadata().unwrap().len();
            (500..len).step_by(50_000).for_each(|at| flip(block, at));
        }
    };
    spoil();
    let said = delete(&bench, &[]).with_code(4);
    assert!(said.err.contains("nothing was deleted"), "{said:#?}");
    assert!(bench.path("dest/extra").exists());
    spoil();
    // The run knows that it lacks something, and what.
    let conn = rusqlite::Connection::open(bench.path("backup.cat")).unwrap();
    conn.execute("UPDATE runs SET problems = 1", []).unwrap();
    delete(&bench, &[]).with_code(2).with_sentence(&["could not be read", "--delete"]);
    assert!(bench.path("dest/extra").exists());
    let problem = "INSERT INTO problems(run, path, op, text) VALUES(1, CAST('small/lost' AS BLOB), 'list', 'denied')";
    conn.execute(problem, []).unwrap();
    drop(conn);
    write(&bench.path("dest"), "small/lost/x", b"not in the run, but was in the source");
    write(&bench.path("dest"), "small/gone/x", b"not in the run");
    delete(&bench, &[]).with_code(0);
    assert!(bench.path("dest/small/lost/x").exists() && !bench.path("dest/small/gone").exists());
    assert!(!bench.path("dest/extra").exists());
    for args in [&["--delete"][..], &["--delete", "--overwrite", "never"]] {
        let said = bench.run(&[&["revert-to-run", "1", "dest"], args].concat());
        said.with_code(2).with_sentence(&["--delete needs --overwrite"]);
    }
    let args = ["revert-to-run", "1", "dest", "--overwrite", "always", "--delete", "--strip-components", "1"];
    bench.run(&args).with_code(2).with_sentence(&["--strip-components"]);
    // Into nothing there is nothing to delete.
    let report = bench.json(&["revert-to-run", "1", "new", "--overwrite", "always", "--delete"], 0);
    assert_eq!(report["deleted"], 0);
}

#[test]
fn what_is_mounted_in_the_target_stays() {
    let bench = ready();
    let dest = bench.path("dest");
    let Some(_other) = Tmpfs::mount(&dest.join("extra/mnt"), 4) else { return };
    let Some(_known) = Tmpfs::mount(&dest.join("empty/dir"), 4) else { return };
    for name in ["extra/mnt/x", "extra/y", "empty/dir/x"] {
        write(&dest, name, b"on another disk");
    }
    fs::create_dir_all(dest.join("empty/dir/in/dir")).unwrap();
    let said = delete(&bench, &[]).with_code(4);
    assert!(said.err.contains("extra/mnt") && said.err.contains("mounted"), "{said:#?}");
    assert!(said.err.contains("empty/dir is on another file system"), "{said:#?}");
    assert!(dest.join("extra/mnt/x").exists() && dest.join("empty/dir/x").exists() && !dest.join("extra/y").exists());
}

#[test]
fn a_directory_that_turns_into_a_link_and_back_meanwhile_leads_nowhere() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    write(&bench.src(), "d/kept", b"kept");
    bench.backup();
    for name in ["kept", "extra/x", "e/f/g"] {
        write(&bench.path("outside"), name, b"precious");
    }
    let outside = snapshot(&bench.path("outside"));
    let swaps = AtomicU64::new(0);
    for round in 0..20 {
        let dest = bench.fresh("swapped");
        for file in 0..60 {
            write(&dest, &format!("d/extra/{file}"), b"extra");
            write(&dest, &format!("e/f/{file}"), b"extra");
        }
        let (at, away) = (dest.join(["d", "d/extra", "e", "e/f"][round % 4]), bench.path("swapped away"));
        let is_done = AtomicBool::new(false);
        let said = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    if fs::rename(&at, &away).is_ok() {
                        let _ = symlink(bench.path("outside"), &at);
                        std::thread::yield_now();
                        let _ = fs::remove_file(&at);
                        swaps.fetch_add(u64::from(fs::rename(&away, &at).is_ok()), Ordering::Relaxed);
                    }
                }
            });
            let dest = dest.to_str().unwrap();
            let said = bench.run(&["revert-to-run", "1", dest, "--overwrite", "always", "--delete"]);
            is_done.store(true, Ordering::Relaxed);
            said
        });
        assert!([0, 4].contains(&said.code), "{said:#?}");
        snapshot(&bench.path("outside")).assert_is(&outside, "swapped");
        let _ = fs::remove_dir_all(&away);
        fs::remove_dir_all(dest).unwrap();
    }
    assert!(swaps.load(Ordering::Relaxed) > 20);
}
