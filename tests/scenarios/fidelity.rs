//! What comes back is what was there, as programs say that are not this one: rsync, find, getfattr, getfacl, lsattr, and the
//! file system's own map of holes.

use crate::util::bench::Bench;
use crate::util::bench::Said;
use crate::util::disk::{Disk, make_image};
use crate::util::nasty::{FAR, grow};
use crate::util::needs::{Tmpfs, has, has_root, has_tools, is_installed};
use crate::util::oracle::snapshot;
use crate::util::told::{TOOLS, assert_same, data_of, run, thaw};
use crate::util::tree::{flip, make_fifo, odd_names, overwrite, set_mode, write};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;

/// Backs up and restores a tree with everything on the file system at `fs`, on which the volume lies too.
fn there_and_back(bench: &Bench, kind: &str) {
    let src = bench.path("fs/src");
    fs::create_dir(&src).unwrap();
    bench.run(&["init", "--reserve", "1M"]).with_code(0);
    bench.run(&["add-volume", "fs/disk"]).with_code(0);
    grow(&src, kind);
    let first = bench.json(&["backup", "fs/src"], 0);
    assert_eq!(first["problems"], serde_json::json!([]), "{first:#}");
    let again = bench.json(&["backup", "fs/src"], 0);
    let counts = ["files_new", "files_changed", "files_metadata"].map(|field| again[field].clone());
    assert_eq!(counts, [0, 0, 0].map(serde_json::Value::from), "{kind}: {again:#}");
    fs::remove_file(bench.path("backup.cat")).unwrap();
    bench.run(&["rebuild-catalog", "--volume", "fs/disk"]).with_code(0);
    let said = bench.run(&["--no-progress", "revert-to-run", "1", "fs/back"]).with_code(0);
    assert!(said.err.is_empty(), "{kind}: {said:#?}");
    assert_same(&src, &bench.path("fs/back"), (FAR, kind));
    thaw(&src.join("attributes"));
    thaw(&bench.path("fs/back/attributes"));
}

#[test]
fn a_tree_with_everything_comes_back_the_same_to_every_tool() {
    if !has_root() || !has_tools(&TOOLS) || !has_tools(&["chattr"]) {
        return;
    }
    for (kind, size, options) in
        [("ext4", 512, &["-b", "4096", "-N", "60000"][..]), ("xfs", 600, &[]), ("btrfs", 600, &[])]
    {
        let mkfs = format!("mkfs.{kind}");
        if !has(&mkfs, is_installed(&mkfs)) {
            continue;
        }
        let bench = Bench::new();
        let image = bench.path("image");
        let disk = make_image(kind, &image, (size, options)).then(|| Disk::mount(&image, &bench.path("fs"), ""));
        let Some(mut disk) = disk.flatten() else {
            has(&format!("a loop device and {kind}"), kind != "ext4");
            continue;
        };
        there_and_back(&bench, kind);
        disk.unmount();
    }
}

#[test]
fn a_tree_with_everything_comes_back_from_and_to_memory() {
    if !has_root() || !has_tools(&TOOLS) || !has_tools(&["chattr"]) {
        return;
    }
    let bench = Bench::new();
    let Some(_memory) = Tmpfs::mount(&bench.path("fs"), 600) else { return };
    there_and_back(&bench, "tmpfs");
}

/// The program where these users and groups are all that the system knows.
fn among(bench: &Bench, (users, groups): (&str, &str), args: &[&str]) -> Said {
    const SCRIPT: &str = "mount --bind users /etc/passwd && mount --bind groups /etc/group && exec \"$@\"";
    fs::write(bench.path("users"), users).unwrap();
    fs::write(bench.path("groups"), groups).unwrap();
    let plain = bench.command(args);
    let mut inside = Command::new("unshare");
    inside.args(["-m", "sh", "-c", SCRIPT, "sh"]).arg(plain.get_program()).args(plain.get_args());
    inside.current_dir(bench.path("")).env("RAIDTAPE_CATALOG", bench.path("backup.cat"));
    inside.output().unwrap().into()
}

fn owner_of(path: &Path) -> (u32, u32) {
    let found = path.symlink_metadata().unwrap();
    (found.uid(), found.gid())
}

#[test]
fn owners_come_back_by_name_and_a_new_name_rewrites_nothing() {
    if !has_root() || !has_tools(&["unshare"]) {
        return;
    }
    let bench = Bench::with_volumes(&["disk1"], &[]);
    write(&bench.src(), "d/f", b"ann's");
    write(&bench.src(), "d/later", b"ann's too");
    symlink("f", bench.src().join("d/link")).unwrap();
    for name in ["d", "d/f", "d/later", "d/link"] {
        lchown(bench.src().join(name), Some(4242), Some(4343)).unwrap();
    }
    let back_up = |known: (&str, &str)| {
        let said = among(&bench, known, &["--json", "--no-progress", "backup", "src"]).with_code(0).summary();
        ["files_new", "files_changed", "files_metadata"].map(|field| said[field].as_u64().unwrap())
    };
    let nobody = ("root:x:0:0::/:/bin/sh\n", "root:x:0:\n");
    let ann = ("root:x:0:0::/:/bin/sh\nann:x:4242:4343::/:/bin/sh\n", "root:x:0:\ncrew:x:4343:\n");
    let anna = ("root:x:0:0::/:/bin/sh\nanna:x:4242:4343::/:/bin/sh\n", "root:x:0:\ncrew:x:4343:\n");
    // As a release that knew no names: it is not to be made up for without need.
    assert_eq!(back_up(nobody), [5, 0, 0]);
    assert_eq!(back_up(ann), [0, 0, 0]);
    set_mode(&bench.src().join("d/f"), 0o600);
    assert_eq!(back_up(ann), [0, 0, 1]);
    assert_eq!(back_up(anna), [0, 0, 0], "a user was renamed");
    let listed = bench.run(&["ls", "-l", "d"]).with_code(0).out;
    let line = |name: &str| listed.lines().find(|line| line.ends_with(name)).unwrap().to_owned();
    assert!(line("d/f").contains(" ann ") && line("d/f").contains(" crew "), "{listed}");
    assert!(line("d/later").contains(" 4242 ") && line("d/later").contains(" 4343 "), "{listed}");
    let there = ("root:x:0:0::/:/bin/sh\nann:x:5151:5252::/:/bin/sh\n", "root:x:0:\ncrew:x:5252:\n");
    among(&bench, there, &["revert-to-run", "4", "by-name"]).with_code(0);
    assert_eq!(owner_of(&bench.path("by-name/d/f")), (5151, 5252));
    assert_eq!(owner_of(&bench.path("by-name/d/later")), (4242, 4343));
    among(&bench, there, &["revert-to-run", "4", "by-number", "--numeric-ids"]).with_code(0);
    assert_eq!(owner_of(&bench.path("by-number/d/f")), (4242, 4343));
    among(&bench, nobody, &["restore", "d/f", "alone"]).with_code(0);
    assert_eq!(owner_of(&bench.path("alone")), (4242, 4343));
}

/// A bench with a file system of this kind at `fs`.
fn on(kind: &str, size_mib: u64) -> Option<(Disk, Bench)> {
    let (bench, mkfs) = (Bench::with_volumes(&["disk1"], &[]), format!("mkfs.{kind}"));
    let image = bench.path("image");
    if !has_root() || !has(&mkfs, is_installed(&mkfs)) {
        return None;
    }
    let disk = make_image(kind, &image, (size_mib, &[])).then(|| Disk::mount(&image, &bench.path("fs"), ""));
    Some((disk.flatten()?, bench))
}

#[test]
fn project_ids_come_back() {
    if !has_tools(&["chattr", "lsattr", "mkfs.xfs"]) {
        return;
    }
    let Some((mut disk, bench)) = on("xfs", 320) else { return };
    let src = bench.path("fs/src");
    write(&src, "d/f", b"counted");
    write(&src, "plain", b"not counted");
    run(&src, &["chattr", "-p", "4000000000", "plain"]);
    run(&src, &["chattr", "-p", "77", "d"]);
    run(&src, &["chattr", "+P", "d"]);
    write(&src, "d/handed down", b"by its directory");
    run(&src, &["chattr", "+Ad", "plain"]);
    let projects = |tree: &str| run(&bench.path(tree), &["lsattr", "-pR", "."]);
    assert!(projects("fs/src").contains("4000000000") && projects("fs/src").contains(" 77 "), "{}", projects("fs/src"));
    bench.json(&["backup", "fs/src"], 0);
    bench.run(&["revert-to-run", "1", "fs/back"]).with_code(0);
    assert_eq!(projects("fs/back"), projects("fs/src"));
    std::thread::sleep(std::time::Duration::from_millis(2100));
    bench.json(&["backup", "fs/src"], 0);
    run(&src, &["chattr", "-p", "78", "d/f"]);
    let report = bench.json(&["backup", "fs/src"], 0);
    assert_eq!((&report["files_metadata"], &report["bytes_read"]), (&1.into(), &0.into()), "{report:#}");
    disk.unmount();
}

#[test]
fn a_hole_more_or_less_is_a_change_of_metadata() {
    let Some((mut disk, bench)) = on("ext4", 64) else { return };
    let src = bench.path("fs/src");
    write(&src, "f", &[&[1; 4096][..], &[0; 8 * 4096]].concat());
    write(&src, "whole", &[0; 300 << 10]);
    bench.json(&["backup", "fs/src"], 0);
    fs::File::create(src.join("f")).and_then(|file| file.set_len(9 * 4096)).unwrap();
    overwrite(&src.join("f"), 0, &[1; 4096]);
    let report = bench.json(&["backup", "fs/src"], 0);
    assert_eq!((&report["files_metadata"], &report["files_changed"]), (&1.into(), &0.into()), "{report:#}");
    for (run, data) in [("1", (0, 9 * 4096)), ("2", (0, 4096))] {
        let back = format!("fs/back{run}");
        bench.run(&["revert-to-run", run, &back]).with_code(0);
        assert_eq!(data_of(&bench.path(&back).join("f")), [data], "run {run}");
        assert_eq!(data_of(&bench.path(&back).join("whole")), [(0, 300 << 10)], "run {run}");
    }
    disk.unmount();
}

#[test]
fn a_lesser_file_system_takes_what_it_can_and_the_rest_is_told() {
    let Some((mut disk, bench)) = on("vfat", 64) else { return };
    let src = bench.src();
    write(&src, "d/f", &[7; 100_000]);
    write(&src, "d/owned", b"somebody's");
    fs::hard_link(src.join("d/f"), src.join("twice")).unwrap();
    symlink("f", src.join("d/link")).unwrap();
    make_fifo(&src.join("d/fifo"));
    chown(src.join("d/owned"), Some(1234), Some(4321)).unwrap();
    bench.backup();
    let said = bench.run(&["--json", "--no-progress", "revert-to-run", "1", "fs/back"]);
    assert_ne!(said.code, 0, "links and pipes are missing: {said:#?}");
    let report = said.summary();
    let missing: Vec<&str> =
        report["problems"].as_array().unwrap().iter().map(|problem| problem["path"].as_str().unwrap()).collect();
    assert_eq!(missing, ["d/fifo", "d/link"], "{report:#}");
    for name in ["d/f", "d/owned", "twice"] {
        assert!(fs::read(bench.path("fs/back").join(name)).unwrap() == fs::read(src.join(name)).unwrap(), "{name}");
    }
    disk.unmount();
}

#[test]
fn a_fuse_file_system_that_refuses_owners_and_attributes_gets_the_rest_and_the_user_is_told_once_per_kind() {
    if !has_root() || !has_tools(&["bindfs", "setfattr"]) || !has("/dev/fuse", Path::new("/dev/fuse").exists()) {
        return;
    }
    let bench = Bench::with_volumes(&["disk1"], &[]);
    let src = bench.src();
    for name in ["d/f", "d/g"] {
        write(&src, name, &[7; 100_000]);
        chown(src.join(name), Some(1234), Some(4321)).unwrap();
        run(&src, &["setfattr", "-n", "user.note", "-v", "kept", name]);
    }
    set_mode(&src.join("d/g"), 0o640);
    symlink("f", src.join("d/link")).unwrap();
    bench.backup();
    for dir in ["below", "fuse"] {
        fs::create_dir(bench.path(dir)).unwrap();
    }
    run(&bench.path(""), &["bindfs", "--chown-deny", "--chgrp-deny", "--xattr-none", "below", "fuse"]);
    let said = [&["fuse/back"][..], &["fuse/strict", "--strict"]]
        .map(|dest| bench.run(&[&["--json", "--no-progress", "revert-to-run", "1"][..], dest].concat()));
    let words = bench.run(&["--no-progress", "revert-to-run", "1", "fuse/words"]);
    let found = snapshot(&bench.path("fuse/back"));
    let mode = bench.path("fuse/back/d/g").symlink_metadata().unwrap().mode() & 0o7777;
    run(&bench.path(""), &["umount", "fuse"]);
    assert_eq!(said.each_ref().map(|said| said.code), [0, 4], "{said:#?}");
    for said in &said {
        let report = said.summary();
        assert_eq!(
            (&report["refused"]["owner"], &report["refused"]["attributes"]),
            // The two files, their link, and the two directories.
            (&5.into(), &2.into()),
            "{report:#}"
        );
        assert!(report["problems"].as_array().unwrap().is_empty(), "{report:#}");
    }
    assert_eq!(mode, 0o640);
    assert_eq!(words.code, 0);
    let told = words.err.lines().filter(|line| line.contains("owner") || line.contains("attributes"));
    assert_eq!(told.count(), 2, "{words:#?}");
    assert_eq!(found.0.keys().collect::<Vec<_>>(), snapshot(&src).0.keys().collect::<Vec<_>>());
    for name in ["d/f", "d/g"] {
        assert!(fs::read(bench.path("below/back").join(name)).unwrap() == fs::read(src.join(name)).unwrap(), "{name}");
    }
}

#[test]
fn an_ordinary_user_gets_all_that_needs_no_privilege() {
    if !has_root() || !has_tools(&["setpriv"]) {
        return;
    }
    let bench = Bench::with_volumes(&["disk1"], &[]);
    let src = bench.src();
    write(&src, "d/f", b"content");
    write(&src, "d/suid", b"not to be nobody's");
    symlink("f", src.join("d/link")).unwrap();
    make_fifo(&src.join("d/fifo"));
    chown(src.join("d/suid"), Some(1234), Some(4321)).unwrap();
    set_mode(&src.join("d/suid"), 0o6755);
    bench.backup();
    run(&bench.path(""), &["chown", "-R", "65534:65534", "."]);
    let plain = bench.command(&["revert-to-run", "1", "back"]);
    let mut lesser = Command::new("setpriv");
    lesser
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(plain.get_program())
        .args(plain.get_args());
    lesser.current_dir(bench.path("")).env("RAIDTAPE_CATALOG", bench.path("backup.cat"));
    let said = Said::from(lesser.output().unwrap());
    assert!(!said.err.is_empty(), "what was left out is told: {said:#?}");
    let suid = bench.path("back/d/suid").metadata().unwrap();
    assert_eq!((suid.uid(), suid.mode() & 0o7777), (65_534, 0o755));
    let (found, wanted) = (snapshot(&bench.path("back")), snapshot(&src));
    assert_eq!(found.0.keys().collect::<Vec<_>>(), wanted.0.keys().collect::<Vec<_>>());
}

/// Whether words could do something to a terminal.
fn is_harmless(text: &str) -> bool {
    text.chars().all(|character| character == '\n' || !character.is_control())
}

#[test]
fn names_do_nothing_to_a_terminal_and_lose_no_byte_in_json() {
    if !has_root() || !has_tools(&["setpriv"]) {
        return;
    }
    let bench = Bench::with_volumes(&["disk1"], &[]);
    for name in odd_names() {
        let path = bench.src().join(OsStr::from_bytes(&name));
        fs::write(&path, "the same bytes, so that damage is every name's").unwrap();
        set_mode(&path, 0o600);
    }
    bench.backup();
    for (_, block) in bench.blocks("disk1") {
        flip(&block, 135);
    }
    let commands: [(&[&str], i32); 4] = [
        (&["ls", "-lR"], 0),
        (&["list-changes", "latest"], 0),
        (&["-v", "validate"], 4),
        (&["-v", "restore-folder", ".", "back"], 4),
    ];
    let odd = "\\xff\\xfe not utf-8 \\x80";
    for (args, code) in commands {
        let said = bench.run(args).with_code(code);
        let words = format!("{}{}", said.out, said.err);
        assert!(is_harmless(&words) && words.contains(odd), "{args:?}: {words}");
        let documents = bench.run(&[&["--json", "--no-progress"], args].concat());
        assert!(documents.out.contains("\"path_b64\":\"//4gbm90IHV0Zi04IIA=\""), "{args:?}: {}", documents.out);
    }
    // What cannot be opened is a problem of the next backup.
    run(&bench.path(""), &["chown", "65534:65534", ".", "backup.cat", "backup.cat.lock"]);
    run(&bench.path(""), &["chown", "-R", "65534:65534", "disk1"]);
    write(&bench.src(), "readable", b"by all");
    set_mode(&bench.src().join("readable"), 0o644);
    let as_nobody = |args: &[&str]| -> Said {
        let plain = bench.command(args);
        let mut lesser = Command::new("setpriv");
        lesser.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        lesser.arg(plain.get_program()).args(plain.get_args());
        lesser.current_dir(bench.path("")).env("RAIDTAPE_CATALOG", bench.path("backup.cat"));
        lesser.output().unwrap().into()
    };
    let said = as_nobody(&["-v", "backup", "src", "--name", "another"]).with_code(3);
    assert!(is_harmless(&said.err) && said.err.contains(odd), "{said:#?}");
    let said = as_nobody(&["--json", "--no-progress", "backup", "src", "--name", "another"]).with_code(3);
    assert!(said.out.contains("\"path_b64\":\"//4gbm90IHV0Zi04IIA=\""), "{said:#?}");
}
