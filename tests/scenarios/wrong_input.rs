//! Requests that make no sense, and places that are not what they seem: a clear sentence, the right code, and nothing
//! is changed.

use crate::util::bench::Bench;
use crate::util::needs::{Tmpfs, has_root, is_root};
use crate::util::oracle::{Snapshot, snapshot};
use crate::util::tree::{Rng, grow, set_mode, write};
use std::fs;
use std::os::unix::fs::symlink;

fn ready() -> Bench {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    write(&bench.src(), "file", b"some text");
    write(&bench.src(), "dir/other", b"other text");
    bench.backup();
    bench
}

/// Runs a wrong request and expects the code, a sentence with these words, and that nothing at all has changed.
#[track_caller]
fn refused(bench: &Bench, args: &[&str], code: i32, words: &[&str]) {
    let state = |bench: &Bench| {
        let mut tree = snapshot(&bench.path(""));
        // Locks and SQLite's own files may come, go and be stamped; no content is in them.
        tree.0.retain(|path, node| {
            let path = String::from_utf8_lossy(path);
            node.kind == 'f' && !path.ends_with(".lock") && !path.contains("backup.cat-") && !path.contains("/.")
        });
        for node in tree.0.values_mut() {
            node.mtime = (0, 0);
        }
        tree
    };
    let before: Snapshot = state(bench);
    let rows =
        || ["runs", "live", "past", "volumes", "blocks"].map(|table| bench.query(&format!("SELECT * FROM {table}")));
    let has_catalog = bench.path("backup.cat").exists();
    let rows_before = has_catalog.then(rows);
    bench.run(args).with_code(code).with_sentence(words);
    let mut after = state(bench);
    let mut before = before;
    if has_catalog {
        assert_eq!(rows_before, Some(rows()), "{args:?} changed the catalog");
        before.0.remove(&b"backup.cat"[..]);
        after.0.remove(&b"backup.cat"[..]);
    }
    after.assert_is(&before, &format!("{args:?}"));
}

#[test]
fn without_a_catalog_every_command_says_so() {
    let bench = Bench::new();
    write(&bench.src(), "file", b"x");
    let commands: [&[&str]; 14] = [
        &["backup", "src"],
        &["add-volume", "disk1"],
        &["list-changes", "1"],
        &["validate"],
        &["restore", "a", "b"],
        &["restore-folder", "a", "b"],
        &["revert-to-run", "1", "b"],
        &["genmeta"],
        &["runs"],
        &["volumes"],
        &["ls"],
        &["history", "a"],
        &["find", "a"],
        &["diff", "1", "2"],
    ];
    for command in commands {
        refused(&bench, command, 10, &["no catalog", "backup.cat"]);
        assert!(!bench.path("backup.cat").exists() && !bench.path("backup.cat.lock").exists(), "{command:?}");
    }
    refused(&bench, &["rebuild-catalog"], 2, &["--volume"]);
    refused(&bench, &["rebuild-catalog", "--volume", "nowhere"], 2, &["nowhere"]);
    assert!(!bench.path("backup.cat").exists());
}

#[test]
fn a_catalog_that_is_there_is_never_made_again() {
    let bench = ready();
    refused(&bench, &["init"], 2, &["already", "backup.cat"]);
    write(&bench.path(""), "not.cat", b"this is no catalog at all, but somebody's letter");
    refused(&bench, &["--catalog", "not.cat", "init"], 2, &["not.cat"]);
    refused(&bench, &["--catalog", "not.cat", "runs"], 1, &["not.cat"]);
    refused(&bench, &["--catalog", "src", "runs"], 1, &["src"]);
}

#[test]
fn runs_and_paths_that_are_not_there_are_named() {
    let bench = ready();
    refused(&bench, &["list-changes", "7"], 2, &["7", "raidtape runs"]);
    refused(&bench, &["revert-to-run", "7", "dest"], 2, &["7", "raidtape runs"]);
    refused(&bench, &["restore", "file", "dest", "--run", "7"], 2, &["7", "raidtape runs"]);
    refused(&bench, &["restore-folder", "dir", "dest", "--run", "7"], 2, &["7"]);
    refused(&bench, &["ls", "--run", "7"], 2, &["7"]);
    refused(&bench, &["genmeta", "--run", "7"], 2, &["7"]);
    refused(&bench, &["find", "a", "--run", "7"], 2, &["7"]);
    refused(&bench, &["diff", "7", "src"], 2, &["7"]);
    refused(&bench, &["history", "nothing/here"], 2, &["nothing/here"]);
    for command in ["restore", "restore-folder"] {
        refused(&bench, &[command, "nothing/here", "dest"], 2, &["nothing/here"]);
        refused(&bench, &[command, "/etc/passwd", "dest"], 2, &["/etc/passwd"]);
        refused(&bench, &[command, "../file", "dest"], 2, &[".."]);
        refused(&bench, &[command, "file", "dest", "--source", "/nobody"], 2, &["/nobody"]);
    }
    refused(&bench, &["restore", "dir", "dest"], 2, &["directory", "restore-folder"]);
    refused(&bench, &["restore-folder", "file", "dest"], 2, &["file", "raidtape restore"]);
    assert!(!bench.path("dest").exists());
}

#[test]
fn a_source_that_is_not_there_is_an_error_and_no_deletion() {
    let bench = ready();
    let tree = snapshot(&bench.src());
    fs::rename(bench.src(), bench.path("gone")).unwrap();
    refused(&bench, &["backup", "src"], 1, &["src", "does not exist"]);
    // Not mounted: an empty folder where there were files.
    fs::create_dir(bench.src()).unwrap();
    let said = bench.run(&["backup", "src"]).with_code(3);
    assert!(said.err.contains("mounted") && said.err.contains("--allow-empty"), "{said:#?}");
    bench.assert_reverts(1, &tree);
    let listed = crate::util::changes::listed_changes(&bench, 2);
    assert!(listed.deleted.is_empty(), "{listed:?}");
    fs::remove_dir(bench.src()).unwrap();
    write(&bench.path(""), "src", b"a file now");
    refused(&bench, &["backup", "src"], 1, &["src", "directory"]);
    fs::remove_file(bench.src()).unwrap();
    fs::create_dir(bench.src()).unwrap();
    bench.run(&["backup", "src", "--allow-empty"]).with_code(0);
    assert!(crate::util::changes::listed_changes(&bench, 3).deleted.len() >= 3);
    bench.assert_reverts(1, &tree);
}

#[test]
fn what_is_no_volume_is_not_taken_for_one() {
    let bench = ready();
    write(&bench.path(""), "a-file", b"x");
    refused(&bench, &["add-volume", "a-file"], 2, &["a-file", "directory"]);
    refused(&bench, &["backup", "src", "--volume", "a-file"], 2, &["a-file"]);
    refused(&bench, &["backup", "src", "--volume", "nowhere"], 2, &["nowhere", "add-volume"]);
    fs::create_dir(bench.path("mnt")).unwrap();
    refused(&bench, &["add-volume", "mnt"], 2, &["mnt", "mount", "--force"]);
    refused(&bench, &["backup", "src", "--volume", "mnt"], 2, &["mnt"]);
    write(&bench.path("full"), "of/things", b"x");
    refused(&bench, &["add-volume", "full"], 2, &["full", "--force"]);
    refused(&bench, &["add-volume", "disk1"], 2, &["disk1", "already"]);
    refused(&bench, &["add-volume", "src/file/below"], 2, &["src/file/below"]);
    assert_eq!(fs::read_dir(bench.path("mnt")).unwrap().count(), 0);
}

#[test]
fn a_volume_of_another_repository_is_refused() {
    let (bench, other) = (ready(), ready());
    let theirs = other.path("disk1").display().to_string();
    let before = snapshot(&other.path("disk1"));
    for command in [&["add-volume", &theirs][..], &["add-volume", "--force", &theirs]] {
        refused(&bench, command, 2, &["disk1"]);
    }
    refused(&bench, &["backup", "src", "--volume", &theirs], 2, &["repository"]);
    refused(&bench, &["--volume", "disk1", "--volume", &theirs, "rebuild-catalog"], 2, &["repository"]);
    // Mounted at our volume's place: it is away, and nothing is written on what is there instead.
    fs::rename(bench.path("disk1"), bench.path("ours")).unwrap();
    symlink(other.path("disk1"), bench.path("disk1")).unwrap();
    write(&bench.src(), "new", b"new");
    bench.run(&["backup", "src"]).with_code(5).with_sentence(&["disk1", "--volume"]);
    snapshot(&other.path("disk1")).assert_is(&before, "the other's volume");
}

#[test]
fn an_unmounted_volume_gets_nothing_written_under_its_mount_point() {
    let bench = ready();
    fs::rename(bench.path("disk1"), bench.path("really")).unwrap();
    fs::create_dir(bench.path("disk1")).unwrap();
    write(&bench.src(), "new", b"new");
    bench.run(&["backup", "src"]).with_code(5).with_sentence(&["disk1", "mount"]);
    bench.run(&["restore", "file", "x"]).with_code(5).with_sentence(&["disk1"]);
    bench.run(&["genmeta"]).with_code(0);
    bench.run(&["validate"]).with_code(5);
    assert_eq!(fs::read_dir(bench.path("disk1")).unwrap().count(), 0);
    // It moved: said once, it is known from then on.
    bench.run(&["backup", "src", "--volume", "really"]).with_code(0);
    bench.backup();
}

#[test]
fn a_cloned_volume_is_refused_and_a_rolled_back_one_is_not_written() {
    let bench = ready();
    let copy = |from: &str, to: &str| {
        let status = std::process::Command::new("cp").arg("-a").args([bench.path(from), bench.path(to)]).status();
        assert!(status.unwrap().success());
    };
    copy("disk1", "clone");
    write(&bench.src(), "new", b"new");
    bench
        .run(&["backup", "src", "--volume", "clone", "--volume", "disk1"])
        .with_code(2)
        .with_sentence(&["clone", "copy"]);
    bench.backup();
    fs::rename(bench.path("disk1"), bench.path("newer")).unwrap();
    fs::rename(bench.path("clone"), bench.path("disk1")).unwrap();
    let before = snapshot(&bench.path("disk1/chunks"));
    write(&bench.src(), "newest", b"newest");
    let said = bench.run(&["backup", "src"]).with_code(5);
    assert!(said.err.contains("rolled back") && said.err.contains("disk1"), "{said:#?}");
    snapshot(&bench.path("disk1/chunks")).assert_is(&before, "the rolled-back volume");
    fs::rename(bench.path("disk1"), bench.path("clone")).unwrap();
    fs::rename(bench.path("newer"), bench.path("disk1")).unwrap();
    let report = bench.backup();
    bench.assert_reverts(report["run"].as_i64().unwrap(), &snapshot(&bench.src()));
}

#[test]
fn a_read_only_volume_is_read_and_the_backup_goes_to_another() {
    let bench = Bench::with_volumes(&[], &[]);
    let Some(mount) = Tmpfs::mount(&bench.path("frozen"), 64) else { return };
    bench.run(&["add-volume", "frozen"]).with_code(0);
    write(&bench.src(), "file", b"text");
    bench.backup();
    let tree = snapshot(&bench.src());
    mount.set_read_only(true);
    write(&bench.src(), "new", &Rng(1).bytes(100_000));
    bench.run(&["backup", "src"]).with_code(5).with_sentence(&["frozen", "add-volume"]);
    bench.assert_reverts(1, &tree);
    let said = bench.run(&["validate"]).with_code(0);
    assert!(said.out.ends_with("All good\n"), "{said:#?}");
    bench.run(&["genmeta"]).with_code(0);
    bench.run(&["add-volume", "warm"]).with_code(0);
    let report = bench.backup();
    assert_eq!(report["volumes_used"], serde_json::json!(["warm"]));
    bench.assert_reverts(report["run"].as_i64().unwrap(), &snapshot(&bench.src()));
    mount.set_read_only(false);
    bench.backup();
    // The volume has caught up: the other one may be lost with its records.
    fs::remove_file(bench.path("backup.cat")).unwrap();
    let report = bench.json(&["rebuild-catalog", "--volume", "frozen"], 5);
    assert!(report["runs"].as_u64().unwrap() >= 3, "{report}");
}

#[test]
fn volume_and_catalog_inside_the_source_are_skipped_with_a_warning() {
    let bench = Bench::new();
    grow(&bench.src(), 4);
    let tree = snapshot(&bench.src());
    let first = ["--catalog", "src/my.cat", "backup", "src", "--volume", "src/disk/raidtape"];
    let said = bench.run(&first).with_code(0);
    assert!(said.err.contains("my.cat") && said.err.contains("raidtape"), "{said:#?}");
    for _ in 0..2 {
        let said = bench.run(&["--json", "--no-progress", "--catalog", "src/my.cat", "backup", "src"]).with_code(0);
        let report = said.summary();
        assert_eq!((&report["data_added"], &report["files_new"]), (&0.into(), &0.into()), "{report}");
    }
    let dest = bench.path("dest");
    bench.run(&["--catalog", "src/my.cat", "revert-to-run", "1", "dest"]).with_code(0);
    let mut found = snapshot(&dest);
    found.0.remove(&b"disk"[..]);
    let root = found.0[&b""[..]].clone();
    let mut wanted = tree;
    wanted.0.insert(Vec::new(), root);
    found.assert_is(&wanted, "the source without the repository");
}

#[test]
fn a_target_that_is_not_empty_is_left_alone_unless_asked() {
    let bench = ready();
    write(&bench.path("dest"), "mine", b"mine");
    write(&bench.path("dest"), "file", b"mine too");
    refused(&bench, &["revert-to-run", "1", "dest"], 2, &["dest", "--overwrite"]);
    refused(&bench, &["restore-folder", ".", "dest"], 2, &["dest", "--overwrite"]);
    refused(&bench, &["restore", "file", "dest"], 2, &["file", "--overwrite"]);
    refused(&bench, &["restore", "file", "dest/file"], 2, &["file", "--overwrite"]);
    refused(&bench, &["restore", "file", "nowhere/file"], 2, &["nowhere"]);
    refused(&bench, &["revert-to-run", "1", "dest/mine"], 2, &["dest/mine"]);
    refused(&bench, &["revert-to-run", "1", "nowhere/dest"], 2, &["nowhere"]);
    bench.run(&["revert-to-run", "1", "dest", "--overwrite", "never"]).with_code(0);
    assert_eq!(fs::read(bench.path("dest/file")).unwrap(), b"mine too");
    bench.run(&["revert-to-run", "1", "dest", "--overwrite", "always"]).with_code(0);
    assert_eq!(fs::read(bench.path("dest/file")).unwrap(), b"some text");
    assert_eq!(fs::read(bench.path("dest/mine")).unwrap(), b"mine");
}

#[test]
fn a_second_writer_at_once_is_sent_away() {
    let bench = ready();
    let hold = |name: &str| {
        let file = fs::File::options().create(true).truncate(false).write(true).open(bench.path(name)).unwrap();
        file.lock().unwrap();
        file
    };
    let catalog = hold("backup.cat.lock");
    for command in [&["backup", "src"][..], &["validate"], &["add-volume", "disk2"], &["genmeta"]] {
        refused(&bench, command, 11, &["backup.cat", "process"]);
    }
    refused(&bench, &["rebuild-catalog", "--volume", "disk1"], 11, &["backup.cat", "process"]);
    // Who only reads needs no lock.
    bench.run(&["restore", "file", "x"]).with_code(0);
    bench.run(&["runs"]).with_code(0);
    drop(catalog);
    // Another catalog's copy, or another machine's process, has the volume.
    let lock = fs::read_dir(bench.path("disk1")).unwrap().map(|entry| entry.unwrap().file_name());
    let lock = lock.map(|name| name.to_string_lossy().into_owned()).find(|name| name.contains("lock")).unwrap();
    let volume = hold(&format!("disk1/{lock}"));
    refused(&bench, &["backup", "src"], 11, &["disk1", "process"]);
    drop(volume);
    bench.backup();
}

#[test]
fn two_backups_at_the_same_time_do_not_meet() {
    let bench = ready();
    let mut rng = Rng(6);
    for file in 0..6 {
        write(&bench.src(), &format!("much/{file}"), &rng.bytes(8 << 20));
    }
    let mut first = bench.start(&["backup", "src"]);
    let is_busy = || fs::read_dir(bench.path("disk1/tmp")).unwrap().count() > 0;
    while !is_busy() && first.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    bench.run(&["backup", "src"]).with_code(11).with_sentence(&["process"]);
    let said = crate::util::bench::Said::from(first.wait_with_output().unwrap());
    assert_eq!(said.code, 0, "{said:#?}");
    bench.assert_reverts(2, &snapshot(&bench.src()));
    bench.assert_all_good();
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_keeps_its_last_version() {
    if is_root() {
        // Root reads everything: somebody else has to ask.
        return as_nobody();
    }
    let bench = ready();
    set_mode(&bench.path("src/file"), 0);
    unreadable(&bench);
}

fn unreadable(bench: &Bench) {
    let said = bench.run(&["backup", "src"]).with_code(3);
    assert!(said.err.contains("file"), "{said:#?}");
    set_mode(&bench.path("src/file"), 0o644);
    bench.run(&["restore", "file", "kept"]).with_code(0);
    assert_eq!(fs::read(bench.path("kept")).unwrap(), b"some text");
}

fn as_nobody() {
    if !has_root() || !crate::util::needs::has_tools(&["setpriv"]) {
        return;
    }
    let bench = ready();
    let chown = std::process::Command::new("chown").args(["-R", "65534:65534"]).arg(bench.path("")).status();
    assert!(chown.unwrap().success());
    write(&bench.src(), "file", b"changed and closed");
    std::os::unix::fs::chown(bench.path("src/file"), Some(0), Some(0)).unwrap();
    set_mode(&bench.path("src/file"), 0);
    // The program where nobody may start it.
    bench.copy_program();
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(bench.path("program"))
        .args(["--no-progress", "--json", "backup", "src"])
        .current_dir(bench.path(""))
        .env("RAIDTAPE_CATALOG", bench.path("backup.cat"))
        .output();
    let said = crate::util::bench::Said::from(output.unwrap()).with_code(3);
    let report = said.summary();
    assert_eq!(report["problems"][0]["path"], "file", "{report}");
    assert_eq!(report["files_deleted"], 0, "{report}");
    bench.run(&["restore", "file", "kept"]).with_code(0);
    assert_eq!(fs::read(bench.path("kept")).unwrap(), b"some text");
}
