//! `--delete`: what the run does not have goes, and nothing else, whatever somebody planted there. What the run itself must
//! be for it is in `deleting_runs`.

use crate::util::bench::{Bench, Said};
use crate::util::disk::{Disk, make_image};
use crate::util::needs::{Tmpfs, has_root, has_tools};
use crate::util::oracle::{assert_rsync_silent, snapshot};
use crate::util::told::{run, thaw};
use crate::util::tree::{grow, make_fifo, odd_names, set_mode, write};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
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
    fs::remove_file(dest.join("hard/one")).unwrap();
    fs::create_dir(dest.join("hard/one")).unwrap();
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
fn what_an_ordinary_user_may_not_delete_is_named_and_no_mode_is_changed_for_it() {
    if !has_root() || !has_tools(&["setpriv", "chown"]) {
        return;
    }
    let bench = ready();
    for name in ["small/extra", "small/closed/x", "small/open/y"] {
        write(&bench.path("dest"), name, b"extra");
    }
    set_mode(&bench.path("dest/small/closed"), 0o500);
    bench.copy_program();
    let chown = Command::new("chown").args(["-hR", "65534:65534"]).arg(bench.path("")).status();
    assert!(chown.unwrap().success());
    let nobody = |more: &[&str]| {
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(bench.path("program"))
            .args(["revert-to-run", "1", "dest", "--overwrite", "if-changed", "--delete"])
            .args(more)
            .current_dir(bench.path(""))
            .env("RAIDTAPE_CATALOG", bench.path("backup.cat"))
            .output();
        Said::from(output.unwrap())
    };
    // Owners cannot be given: where that counts as incomplete, nothing goes.
    let said = nobody(&["--strict"]).with_code(4);
    assert!(said.err.contains("nothing is deleted") && bench.path("dest/small/extra").exists(), "{said:#?}");
    let said = nobody(&[]).with_code(4);
    assert!(said.err.contains("small/closed/x: it cannot be deleted"), "{said:#?}");
    assert!(said.out.contains("3 names deleted"), "{said:#?}");
    let is_there = |name: &str| bench.path("dest").join(name).exists();
    assert!(!is_there("small/extra") && !is_there("small/open") && is_there("small/closed/x"));
    assert_eq!(bench.path("dest/small/closed").metadata().unwrap().mode() & 0o7777, 0o500);
}

#[test]
fn an_immutable_file_is_named_and_the_rest_goes() {
    if !has_root() || !has_tools(&["chattr"]) {
        return;
    }
    let bench = Bench::with_volumes(&["disk1"], &[]);
    write(&bench.src(), "d/f", b"x");
    bench.backup();
    for name in ["d/frozen/a", "d/frozen/b", "e"] {
        write(&bench.path("dest"), name, b"extra");
    }
    run(&bench.path("dest/d/frozen"), &["chattr", "+i", "a"]);
    let report = bench.json(&["revert-to-run", "1", "dest", "--overwrite", "always", "--delete"], 4);
    thaw(&bench.path("dest"));
    assert_eq!((&report["deleted"], report["problems"].as_array().unwrap().len()), (&2.into(), 1), "{report:#}");
    assert_eq!(report["problems"][0]["path"], "d/frozen/a");
    assert!(bench.path("dest/d/frozen/a").exists() && !bench.path("dest/d/frozen/b").exists());
}

#[test]
fn a_directory_in_the_way_of_a_file_stays_and_nothing_else_is_deleted() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    write(&bench.src(), "f", b"x");
    bench.backup();
    for name in ["f/precious", "extra"] {
        write(&bench.path("dest"), name, b"mine");
    }
    let before = snapshot(&bench.path("dest"));
    for more in [&["-n"][..], &[]] {
        let said = delete(&bench, more).with_code(4);
        assert!(said.err.contains("nothing is deleted") && !said.out.contains("name"), "{said:#?}");
        assert_eq!(snapshot(&bench.path("dest")).0.keys().collect::<Vec<_>>(), before.0.keys().collect::<Vec<_>>());
    }
    fs::rename(bench.path("dest/f"), bench.path("dest/moved")).unwrap();
    delete(&bench, &[]).with_code(0);
    assert_eq!(fs::read_dir(bench.path("dest")).unwrap().count(), 1);
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
fn a_volume_or_a_catalog_is_never_deleted() {
    let bench = ready();
    write(&bench.path("dest"), "extra", b"extra");
    for dest in ["disk1", "disk1/chunks"] {
        let said = bench.run(&["revert-to-run", "1", dest, "--overwrite", "always", "--delete"]).with_code(2);
        said.with_sentence(&["lies in the RaidTape volume", "disk1"]);
    }
    // One that nobody has told of.
    let copied = Command::new("cp").arg("-a").args([bench.path("disk1"), bench.path("dest/small/copy")]).status();
    assert!(copied.unwrap().success());
    let before = snapshot(&bench.path("dest/small/copy"));
    // A catalog that somebody copied, with its log, and one in the middle of what goes.
    let known = rusqlite::Connection::open(bench.path("backup.cat")).unwrap();
    known.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(known);
    fs::create_dir_all(bench.path("dest/gone/deep")).unwrap();
    for place in ["dest/small/old.cat", "dest/gone/deep/cat"] {
        fs::copy(bench.path("backup.cat"), bench.path(place)).unwrap();
        write(&bench.path("."), &format!("{place}-wal"), b"log");
        write(&bench.path("."), &format!("{place}.lock"), b"");
    }
    write(&bench.path("dest"), "gone/deep/x-wal", b"of nothing");
    write(&bench.path("dest"), "gone/page", &[0; 4096]);
    let report = bench.json(&["revert-to-run", "1", "dest", "--overwrite", "always", "--delete"], 0);
    let left: Vec<&str> =
        report["left_paths"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
    let kept = ["gone/deep/cat", "gone/deep/cat-wal", "gone/deep/cat.lock", "small/copy", "small/old.cat"];
    for name in kept.iter().chain(&["small/old.cat-wal", "small/old.cat.lock"]) {
        assert!(left.contains(name) && bench.path("dest").join(name).exists(), "{name}: {report:#}");
    }
    assert_eq!((report["delete_left"].as_u64(), report["deleted"].as_u64()), (Some(7), Some(3)), "{report:#}");
    snapshot(&bench.path("dest/small/copy")).assert_is(&before, "the copy of a volume");
    assert!(!bench.path("dest/gone/page").exists() && !bench.path("dest/gone/deep/x-wal").exists());
    let said = delete(&bench, &[]).with_code(0);
    assert!(said.err.contains("small/copy is left: a RaidTape volume"), "{said:#?}");
}

#[test]
fn the_repository_in_use_is_not_deleted_where_it_lies_in_the_target_itself() {
    let bench = ready();
    let disk = snapshot(&bench.path("disk1"));
    write(&bench.path("."), "extra", b"extra");
    let said = bench.run(&["revert-to-run", "1", ".", "--overwrite", "always", "--delete"]).with_code(0);
    for name in ["disk1 is left", "backup.cat is left", "backup.cat.lock is left"] {
        assert!(said.err.contains(name), "{said:#?}");
    }
    assert!(!bench.path("extra").exists() && !bench.path("outside").exists());
    snapshot(&bench.path("disk1")).assert_is(&disk, "the volume");
}

#[test]
fn marks_of_unfinished_restores_stay() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    write(&bench.src(), ".raidtape-restore", b"a file of the user's");
    write(&bench.src(), "d/f", b"x");
    bench.backup();
    for name in ["d/.raidtape-restore", "d/e/.raidtape-restore__", "d/e/x", ".raidtape-restore-not"] {
        write(&bench.path("dest"), name, b"extra");
    }
    let said = delete(&bench, &[]).with_code(0);
    for name in ["d/.raidtape-restore", "d/e/.raidtape-restore__"] {
        assert!(bench.path("dest").join(name).exists() && said.err.contains(&format!("{name} is left")), "{said:#?}");
    }
    for name in ["d/e/x", ".raidtape-restore-not", ".raidtape-restore_"] {
        assert!(!bench.path("dest").join(name).exists(), "{name}");
    }
    assert_eq!(fs::read(bench.path("dest/.raidtape-restore")).unwrap(), b"a file of the user's");
}

#[test]
fn what_lies_on_another_file_system_stays() {
    let bench = ready();
    let dest = bench.path("dest");
    let Some(_other) = Tmpfs::mount(&dest.join("extra/mnt"), 4) else { return };
    let Some(_known) = Tmpfs::mount(&dest.join("empty/dir"), 4) else { return };
    for name in ["extra/mnt/x", "extra/y", "empty/dir/x", "extra/bound/here"] {
        write(&dest, name, b"on another disk");
    }
    fs::create_dir_all(dest.join("empty/dir/in/dir")).unwrap();
    let _bound = Bound::mount(&bench.path("outside"), &dest.join("extra/bound"));
    let _file = Bound::mount(&bench.path("outside/precious"), &dest.join("extra/y"));
    let said = delete(&bench, &[]).with_code(4);
    for name in ["extra/mnt is left", "extra/bound is left", "empty/dir is left", "extra/y: it cannot be deleted"] {
        assert!(said.err.contains(name), "{name}: {said:#?}");
    }
    assert!(dest.join("extra/mnt/x").exists() && dest.join("empty/dir/x").exists());
    assert!(bench.path("outside/precious").exists() && bench.path("outside/d/precious").exists());
}

#[test]
fn a_subvolume_in_the_target_stays() {
    if !has_root() || !has_tools(&["btrfs", "mkfs.btrfs"]) {
        return;
    }
    let bench = Bench::with_volumes(&["disk1"], &[]);
    write(&bench.src(), "d/f", b"x");
    bench.backup();
    let made = make_image("btrfs", &bench.path("image"), (120, &[]));
    let disk = made.then(|| Disk::mount(&bench.path("image"), &bench.path("dest"), "")).flatten();
    let Some(mut disk) = disk else { return };
    write(&bench.path("dest"), "d/gone", b"x");
    for name in ["d/snapshot", "empty"] {
        run(&bench.path("dest"), &["btrfs", "-q", "subvolume", "create", name]);
    }
    write(&bench.path("dest"), "d/snapshot/x", b"precious");
    let said = delete(&bench, &[]).with_code(0);
    for name in ["d/snapshot is left: another file system", "empty is left: another file system"] {
        assert!(said.err.contains(name), "{said:#?}");
    }
    assert!(bench.path("dest/d/snapshot/x").exists() && bench.path("dest/empty").exists());
    assert!(!bench.path("dest/d/gone").exists());
    disk.unmount();
}

/// A bind mount, gone with this value.
struct Bound(PathBuf);

impl Bound {
    fn mount(what: &Path, at: &Path) -> Self {
        let mounted = Command::new("mount").arg("--bind").args([what, at]).status();
        assert!(mounted.unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
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

#[test]
fn a_volume_of_this_repository_in_the_target_stays_also_when_its_label_is_gone() {
    let bench = Bench::in_memory();
    write(&bench.path("live"), "d/a", b"one");
    bench.run(&["backup", "live", "--volume", "live/v"]).with_code(0);
    fs::rename(bench.path("live/v/raidtape-volume.json"), bench.path("label")).unwrap();
    let stored = snapshot(&bench.path("live/v"));
    write(&bench.path("live"), "extra", b"x");
    let words = ["restore-folder", ".", "live", "--overwrite", "if-changed", "--delete", "-v"];
    let said = bench.run(&words).with_code(0);
    assert!(said.out.contains("deleted extra") && said.err.contains("v is left: a RaidTape volume"), "{said:#?}");
    snapshot(&bench.path("live/v")).assert_is(&stored, "the volume");
    fs::rename(bench.path("label"), bench.path("live/v/raidtape-volume.json")).unwrap();
    bench.assert_all_good();
}

#[test]
fn blocks_and_records_stay_wherever_they_lie() {
    let bench = ready();
    run(&bench.path(""), &["cp", "-a", "disk1", "dest/copy"]);
    fs::remove_file(bench.path("dest/copy/raidtape-volume.json")).unwrap();
    let said = delete(&bench, &["-v"]).with_code(0);
    assert!(said.err.contains("is left: a block of a RaidTape volume, or a record of a run"), "{said:#?}");
    let (kept, blocks) = (bench.blocks("dest/copy"), bench.blocks("disk1"));
    assert!(!kept.is_empty() && kept.keys().eq(blocks.keys()));
    assert!(said.out.contains("deleted copy/index.db"), "{said:#?}");
}

#[test]
fn the_inside_of_a_volume_is_no_target() {
    let bench = ready();
    fs::create_dir(bench.path("bound")).unwrap();
    for inside in ["chunks", "runs"] {
        let (from, to) = (bench.path("disk1").join(inside), bench.path("bound"));
        let bound = Command::new("mount").arg("--bind").args([&from, &to]).output().unwrap();
        if !crate::util::needs::has("root and the right to mount", bound.status.success()) {
            return;
        }
        let said = bench.run(&["revert-to-run", "1", "bound", "--overwrite", "always", "--delete"]);
        assert!(Command::new("umount").arg(&to).status().unwrap().success());
        said.with_code(2).with_sentence(&["bound", "RaidTape volume"]);
    }
    bench.assert_all_good();
}

#[test]
fn where_nothing_fits_what_was_to_be_included_nothing_is_deleted() {
    let bench = ready();
    write(&bench.path("dest"), "no-such-name/mine", b"mine");
    for more in [&["-n"][..], &[]] {
        let words = [&["--include", "no-such-name/"], more].concat();
        delete(&bench, &words).with_code(4).with_sentence(&["nothing"]);
        assert!(bench.path("dest/no-such-name/mine").exists());
    }
}

#[test]
fn a_catalog_in_the_making_stays_with_its_lock() {
    let bench = ready();
    let names = ["new.cat.rebuilding", "new.cat.rebuilding-wal", "new.cat.rebuilding-shm", "new.cat.lock"];
    for name in names {
        write(&bench.path("dest"), name, b"");
    }
    write(&bench.path("dest"), "other.lock", b"");
    delete(&bench, &[]).with_code(0);
    assert!(names.iter().all(|name| bench.path("dest").join(name).exists()));
    assert!(!bench.path("dest/other.lock").exists());
}
