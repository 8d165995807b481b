//! What of a run is restored and what becomes of the rest: patterns, components that are taken off, rehearsals, metadata of
//! what stays. The other tools that do the same are the oracle.

use crate::util::bench::{Bench, Said};
use crate::util::needs::{has_root, has_tools, is_root};
use crate::util::oracle::{assert_rsync_silent, snapshot};
use crate::util::tree::{grow, make_fifo, odd_names, set_mode, set_mtime, write};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

/// The program as nobody, who owns all that lies on the bench.
fn as_nobody(bench: &Bench, args: &[&str]) -> Said {
    if !bench.path("program").exists() {
        bench.copy_program();
    }
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(bench.path("program"))
        .args(args)
        .current_dir(bench.path(""))
        .env("RAIDTAPE_CATALOG", bench.path("backup.cat"))
        .output();
    output.unwrap().into()
}

fn give_to_nobody(bench: &Bench) {
    assert!(Command::new("chown").args(["-hR", "65534:65534"]).arg(bench.path("")).status().unwrap().success());
}

/// Paths of the files, links and the like below a directory.
fn leaves(dir: &Path) -> BTreeSet<Vec<u8>> {
    let taken = snapshot(dir).0.into_iter().filter(|(_, node)| node.kind != 'd');
    taken.map(|(path, _)| path).collect()
}

const FILES: [&str; 16] = [
    "a.o",
    "keep.o",
    "x.txt",
    "sp ace",
    "a/keep.o",
    "a/b/c",
    "a/b/keep.o",
    "a/b/d/c",
    "a/x.txt",
    "b/a",
    "b/x.o",
    "b/b/b",
    "deep/a/b/x.o",
    "deep/x.o",
    "deep/a/b/c/x.o",
    "c/q",
];

#[test]
fn patterns_restore_exactly_what_git_would_take_or_leave() {
    if !has_tools(&["git"]) {
        return;
    }
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    FILES.iter().for_each(|name| write(&bench.src(), &format!("top/{name}"), name.as_bytes()));
    bench.backup();
    let top = bench.path("src/top");
    Command::new("git").args(["init", "-q", "--bare"]).arg(bench.path("git")).status().unwrap();
    let git = |args: &[&str]| -> BTreeSet<Vec<u8>> {
        let mut command = Command::new("git");
        command.args(["--git-dir", "../../git", "--work-tree", "."]).args(args).current_dir(&top);
        let done = command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("HOME", bench.path("")).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        done.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
    };
    let sets: [&[&str]; 13] = [
        &["*.o"],
        &["/a"],
        &["a/"],
        &["/a/b"],
        &["a/*"],
        &["**/b/c"],
        &["a/**/c"],
        &["sp ace", "?.o"],
        &["b", "q"],
        &["deep/*/*/x.o"],
        &["*.o", "!keep.o"],
        &["a/*", "!a/keep.o"],
        &["*", "!*/", "!*.o"],
    ];
    for patterns in sets {
        fs::write(bench.path("patterns"), patterns.join("\n") + "\n").unwrap();
        let from = format!("--exclude-from={}", bench.path("patterns").display());
        let restored = |option: &str| {
            let dest = bench.fresh("dest");
            let mut args = vec!["restore-folder", "top", dest.to_str().unwrap()];
            patterns.iter().for_each(|pattern| args.extend([option, pattern]));
            bench.run(&args).with_code(0);
            let dirs = snapshot(&dest).0.into_iter().filter(|(_, node)| node.kind == 'd').count();
            (leaves(&dest), dirs)
        };
        assert_eq!(restored("--exclude").0, git(&["ls-files", "-o", "-z", &from]), "without {patterns:?}");
        if !patterns.iter().any(|pattern| pattern.starts_with('!')) {
            let (found, dirs) = restored("--include");
            assert_eq!(found, git(&["ls-files", "-o", "-i", "-z", &from]), "only {patterns:?}");
            let parents: BTreeSet<&Path> =
                found.iter().flat_map(|path| Path::new(OsStr::from_bytes(path)).ancestors().skip(1)).collect();
            assert_eq!(dirs, parents.len(), "no directory but those on the way: {patterns:?}");
        }
    }
}

#[test]
fn exclude_wins_inside_include_whatever_the_case_and_bad_patterns_write_nothing() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    for name in ["d/a.JPG", "d/b.jpg", "d/c.txt", "d/Thumbs/t.jpg", "e/x.jpg", "e/tmp/y.jpg"] {
        write(&bench.src(), name, name.as_bytes());
    }
    write(&bench.src().join(OsStr::from_bytes(b"\xff dir")), "x.jpg", b"odd");
    bench.backup();
    let args = ["revert-to-run", "1", "dest", "--iinclude", "*.jpg", "--iexclude", "thumbs", "-e", "/e/tmp"];
    bench.run(&args).with_code(0);
    let wanted = [&b"d/a.JPG"[..], b"d/b.jpg", b"e/x.jpg", b"\xff dir/x.jpg"].map(<[u8]>::to_vec);
    assert_eq!(leaves(&bench.path("dest")), wanted.into());
    let d = |name: &str| fs::metadata(bench.path(name)).unwrap().modified().unwrap();
    assert_eq!(d("dest/d"), d("src/d"), "a directory on the way has its metadata");
    bench.run(&["revert-to-run", "1", "no", "--include", "[z-a]"]).with_code(2).with_sentence(&["[z-a]", "not valid"]);
    assert!(!bench.path("no").exists());
    // Another part into the same place is another restore.
    bench.run(&["revert-to-run", "1", "dest"]).with_code(2).with_sentence(&["not empty"]);
}

#[test]
fn components_come_off_as_tar_takes_them_off() {
    if !has_tools(&["tar"]) {
        return;
    }
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    let src = bench.src();
    for name in ["short", "a/one", "a/sub/deep/two", "b/three", "b/sub/four", "b/sub/empty/five"] {
        write(&src, name, name.as_bytes());
    }
    symlink("one", src.join("a/link")).unwrap();
    make_fifo(&src.join("b/pipe"));
    fs::hard_link(src.join("a/one"), src.join("b/sub/hard")).unwrap();
    ["a/sub", "b/sub"].iter().for_each(|dir| set_mtime(&src.join(dir), (1_000_000, 0)));
    bench.backup();
    for (strip, short) in [("1", 1), ("2", 5), ("9", 9)] {
        let (dest, tar) = (bench.fresh("dest"), bench.fresh("tar"));
        fs::create_dir(&tar).unwrap();
        let line = format!("tar -C src -cf - a b short | tar -C {} --strip-components={strip} -xpf -", tar.display());
        Command::new("sh").args(["-c", &line]).current_dir(bench.path("")).status().unwrap();
        let report = bench.json(&["revert-to-run", "1", dest.to_str().unwrap(), "--strip-components", strip], 0);
        assert_eq!(report["too_short"], short, "{strip}: {report:#}");
        let (mut found, mut wanted) = (snapshot(&dest), snapshot(&tar));
        for tree in [&mut found, &mut wanted] {
            tree.0.remove(&b""[..]);
            tree.0.values_mut().for_each(|node| node.names.clear());
        }
        if strip == "2" {
            // Its first name has nothing left: tar cannot link to it, and leaves both out.
            let left = found.0.remove(&b"hard"[..]).map(|node| node.content);
            assert_eq!(left, Some(blake3::hash(b"a/one").as_bytes().to_vec()));
        }
        assert_eq!(found.0.keys().collect::<Vec<_>>(), wanted.0.keys().collect::<Vec<_>>(), "names with {strip} off");
        for (path, node) in found.0 {
            assert_eq!((node.kind, &node.content), (wanted.0[&path].kind, &wanted.0[&path].content));
        }
    }
}

#[test]
fn names_that_would_become_one_are_named_before_anything_is_written() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    for name in ["a/same", "b/same", "a/d/x", "b/d/y", "c/d"] {
        write(&bench.src(), name, name.as_bytes());
    }
    bench.backup();
    let strip = |more: &[&str]| bench.run(&[&["revert-to-run", "1", "dest", "--strip-components", "1"], more].concat());
    strip(&[]).with_code(2).with_sentence(&["a/same and b/same", "a/d and c/d", "--exclude"]);
    strip(&["--overwrite", "always"]).with_code(2);
    assert!(!bench.path("dest").exists());
    strip(&["-e", "/b/same", "--dry-run", "-e", "/c"]).with_code(0);
    assert!(!bench.path("dest").exists());
    strip(&["-e", "/b/same", "-e", "/c"]).with_code(0);
    assert_eq!(leaves(&bench.path("dest")), ["d/x", "d/y", "same"].map(|name| name.as_bytes().to_vec()).into());
    assert_eq!(fs::read(bench.path("dest/same")).unwrap(), b"a/same");
}

/// Everything on the bench but the catalog's own files, which even readers touch.
fn all_but_catalog(bench: &Bench) -> Vec<(Vec<u8>, String)> {
    let taken = snapshot(&bench.path("")).0.into_iter();
    taken
        .filter(|(path, _)| !path.is_empty() && !path.starts_with(b"backup.cat"))
        .map(|(path, node)| (path, format!("{node:?}")))
        .collect()
}

#[test]
fn a_rehearsal_writes_nothing_and_tells_what_the_restore_then_does() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    grow(&bench.src(), 1);
    bench.backup();
    fs::create_dir(bench.path("there")).unwrap();
    for name in ["mine", "small/d0/f03", "links/target", "odd/extra/x"] {
        write(&bench.path("there"), name, b"mine");
    }
    write(&bench.path("."), "one", b"mine");
    let commands: [&[&str]; 7] = [
        &["revert-to-run", "1", "new"],
        &["restore-folder", "small", "newer", "--include", "f0*", "-e", "f03"],
        &["restore-folder", "big", "stripped", "--strip-components", "0"],
        &["revert-to-run", "1", "there", "--overwrite", "if-newer"],
        &["revert-to-run", "1", "there", "--overwrite", "if-changed", "-e", "links"],
        &["restore", "big/text.txt", "one", "--overwrite", "always"],
        &["restore", "links/up", "two"],
    ];
    for command in commands {
        let before = all_but_catalog(&bench);
        let rehearsed = bench.json(&[command, &["--dry-run", "-v"]].concat(), 0);
        assert_eq!(all_but_catalog(&bench), before, "{command:?}");
        let said = bench.run(&[command, &["-n"]].concat()).with_code(0);
        assert!(said.out.starts_with("Would restore "), "{said:#?}");
        assert_eq!(all_but_catalog(&bench), before, "{command:?}");
        let done = bench.json(&[command, &["-v"]].concat(), 0);
        assert_eq!((&rehearsed["dry_run"], &done["dry_run"]), (&true.into(), &false.into()));
        for field in ["files", "dirs", "symlinks", "hardlinks", "bytes", "skipped_existing"] {
            assert_eq!(rehearsed[field], done[field], "{field} of {command:?}: {rehearsed:#} {done:#}");
        }
        let count = |field: &str| rehearsed[field].as_u64().unwrap();
        let all = count("files") + count("dirs") + count("symlinks") + count("hardlinks") + count("specials");
        assert_eq!(rehearsed["paths"].as_array().unwrap().len() as u64, all, "{rehearsed:#}");
    }
    // What makes no sense makes none in a rehearsal either.
    bench.run(&["revert-to-run", "1", "there", "-n"]).with_code(2).with_sentence(&["not empty"]);
    bench.run(&["revert-to-run", "1", "no/where", "-n"]).with_code(2).with_sentence(&["parent"]);
    bench.run(&["revert-to-run", "1", "one", "-n"]).with_code(2).with_sentence(&["not a directory"]);
}

#[test]
fn what_stays_gets_its_metadata_and_is_not_written_or_touched_otherwise() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    grow(&bench.src(), 1);
    let src = snapshot(&bench.src());
    bench.backup();
    bench.run(&["revert-to-run", "1", "dest"]).with_code(0);
    let dest = bench.path("dest");
    let state = |name: &str| {
        let found = fs::symlink_metadata(dest.join(name)).unwrap();
        (found.ino(), found.ctime(), found.ctime_nsec())
    };
    let names = ["small/d0/f04", "small/d1/f02", "big/mixed.bin", "small", "links/up", "special/fifo", "hard/one"];
    let before = names.map(state);
    let again = |counts: (u64, u64)| {
        let report = bench.json(&["revert-to-run", "1", "dest", "--overwrite", "if-changed"], 0);
        assert_eq!((report["files"].as_u64(), report["metadata_set"].as_u64()), (Some(counts.0), Some(counts.1)));
        assert_eq!((report["symlinks"].as_u64(), report["specials"].as_u64()), (Some(0), Some(0)), "{report:#}");
        snapshot(&dest).assert_is(&src, "brought back");
        assert_rsync_silent(&bench.src(), &dest);
    };
    again((0, 0));
    assert_eq!(names.map(state), before, "nothing was touched");
    set_mode(&dest.join("small/d0/f04"), 0o777);
    set_mode(&dest.join("small/d0"), 0o711);
    set_mode(&dest.join("small"), 0o500);
    if is_root() {
        std::os::unix::fs::chown(dest.join("big/mixed.bin"), Some(5), Some(6)).unwrap();
        std::os::unix::fs::chown(dest.join("small/d0/f01"), Some(5), Some(6)).unwrap();
    } else {
        set_mode(&dest.join("big/mixed.bin"), 0);
        set_mode(&dest.join("small/d0/f01"), 0);
    }
    again((0, 3));
    assert_eq!(names.map(|name| state(name).0), before.map(|(ino, _, _)| ino), "the same files");
    // Names of one inode, of which some may lie elsewhere, are made anew.
    fs::hard_link(dest.join("small/d1/f02"), bench.path("outside")).unwrap();
    set_mode(&bench.path("outside"), 0o601);
    again((1, 0));
    assert_eq!(fs::metadata(bench.path("outside")).unwrap().mode() & 0o7777, 0o601);
}

#[test]
fn a_restore_that_was_cut_off_brings_metadata_too_when_it_goes_on() {
    let bench = Bench::with_volumes(&["disk1"], &["--block-size", "8M"]);
    grow(&bench.src(), 1);
    let src = snapshot(&bench.src());
    bench.backup();
    // A block that is away leaves a restore that is to go on.
    let (name, block) = bench.blocks("disk1").pop_first().unwrap();
    fs::rename(&block, bench.path(&name)).unwrap();
    fs::rename(bench.path("disk1"), bench.path("away")).unwrap();
    bench.run(&["revert-to-run", "1", "dest"]).with_code(5);
    fs::rename(bench.path("away"), bench.path("disk1")).unwrap();
    fs::rename(bench.path(&name), &block).unwrap();
    let mut child = bench.start(&["--no-progress", "revert-to-run", "1", "dest", "--max-workers", "1"]);
    let finished = || {
        let found = walkdir::WalkDir::new(bench.path("dest/small")).into_iter().flatten();
        found.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).next()
    };
    while finished().is_none() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    child.wait().unwrap();
    if let Some(path) = finished() {
        set_mode(&path, 0o777);
    }
    bench.run(&["revert-to-run", "1", "dest", "--overwrite", "if-changed"]).with_code(0);
    snapshot(&bench.path("dest")).assert_is(&src, "gone on");
}

#[test]
fn what_cannot_be_set_is_counted_by_kind_and_strict_names_it() {
    if !has_root() || !has_tools(&["setpriv", "chown"]) {
        return;
    }
    let bench = Bench::with_volumes(&["disk1"], &[]);
    for name in ["d/one", "d/two", "mine"] {
        write(&bench.src(), name, name.as_bytes());
    }
    give_to_nobody(&bench);
    for name in ["src/d/one", "src/d"] {
        std::os::unix::fs::chown(bench.path(name), Some(0), Some(0)).unwrap();
    }
    bench.backup();
    give_to_nobody(&bench);
    let said = as_nobody(&bench, &["revert-to-run", "1", "dest"]).with_code(0);
    assert_eq!(said.err.lines().count(), 1, "{said:#?}");
    assert!(said.err.contains("owner or group of 2 names"), "{said:#?}");
    let report = as_nobody(&bench, &["--json", "revert-to-run", "1", "json"]).with_code(0).summary();
    assert_eq!((&report["metadata_refused"], &report["refused"]["owner"]), (&2.into(), &2.into()), "{report:#}");
    assert_eq!((&report["refused"]["mode"], &report["refused"]["attributes"]), (&0.into(), &0.into()));
    let strict = as_nobody(&bench, &["revert-to-run", "1", "strict", "--strict"]).with_code(4);
    assert!(strict.err.contains("d/one: not set: owner") && strict.err.contains("d: not set"), "{strict:#?}");
    assert!(!strict.err.contains("mine"), "{strict:#?}");
    snapshot(&bench.path("strict/mine")).assert_is(&snapshot(&bench.path("src/mine")), "all is restored");
    // What stays cannot be given away either, and is not touched for it.
    let before = fs::metadata(bench.path("dest/d/one")).unwrap();
    let again = ["--json", "revert-to-run", "1", "dest", "--overwrite", "if-changed"];
    let report = as_nobody(&bench, &again).with_code(0).summary();
    assert_eq!((&report["refused"]["owner"], &report["metadata_set"]), (&2.into(), &0.into()), "{report:#}");
    let after = fs::metadata(bench.path("dest/d/one")).unwrap();
    assert_eq!((after.ctime(), after.ctime_nsec()), (before.ctime(), before.ctime_nsec()));
}

#[test]
fn dump_gives_every_file_byte_for_byte_and_nothing_else() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    grow(&bench.src(), 1);
    bench.backup();
    let big =
        ["big/mixed.bin", "big/holes", "big/only hole", "big/text.txt", "big/shifted.bin", "hard/one", "hard/void"];
    for name in big {
        let output = bench.command(&["dump", name]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{name}: {output:?}");
        assert!(output.stdout == fs::read(bench.src().join(name)).unwrap(), "{name}");
    }
    for (number, name) in odd_names().into_iter().enumerate() {
        let path = [&b"odd/"[..], &name].concat();
        let args = [OsStr::new("--json"), OsStr::new("dump"), OsStr::from_bytes(&path), OsStr::new("--run=1")];
        let said = bench.run(&args).with_code(0);
        assert_eq!(said.out, format!("odd {number}"), "{}", path.escape_ascii());
    }
    for (name, words) in [
        ("big", ["directory", "restore-folder"]),
        (".", ["directory", "restore-folder"]),
        ("links/up", ["symlink to ../big", "raidtape restore"]),
        ("special/fifo", ["fifo", "raidtape restore"]),
        ("no", ["is not in run 1", "raidtape ls"]),
    ] {
        let said = bench.run(&["dump", name]).with_code(2).with_sentence(&words);
        assert!(said.out.is_empty());
    }
}

#[test]
fn dump_ends_quietly_when_nobody_reads_on_and_loudly_when_bytes_are_wrong() {
    if !has_tools(&["bash"]) {
        return;
    }
    let bench = Bench::with_volumes(&["disk1"], &[]);
    grow(&bench.src(), 1);
    fs::File::create(bench.path("src/huge")).and_then(|file| file.set_len(400 << 20)).unwrap();
    bench.backup();
    let shell = |line: &str| -> Said {
        let mut command = Command::new("bash");
        command.args(["-c", line, env!("CARGO_BIN_EXE_raidtape")]).current_dir(bench.path(""));
        command.env("RAIDTAPE_CATALOG", bench.path("backup.cat")).output().unwrap().into()
    };
    let said = shell("$0 dump huge | head -c 5 > first; exit ${PIPESTATUS[0]}").with_code(1);
    assert!(said.err.is_empty(), "{said:#?}");
    assert_eq!(fs::read(bench.path("first")).unwrap(), [0; 5]);
    let said = shell("$0 dump huge > /dev/full").with_code(1);
    assert!(said.err.contains("stdout cannot be written"), "{said:#?}");
    // Little memory is enough, however long the file.
    let said = shell("ulimit -v 260000; $0 dump huge | wc -c; exit ${PIPESTATUS[0]}").with_code(0);
    assert_eq!(said.out.trim(), (400 << 20).to_string());
    for block in bench.blocks("disk1").values() {
        let len = block.metadata().unwrap().len();
        (0..len).step_by(100_000).for_each(|at| crate::util::tree::flip(block, at));
    }
    let output = bench.command(&["dump", "big/random.bin"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(output.stdout.len() < 5 << 20, "the end is held back");
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("big/random.bin") && words.contains("damaged") && words.contains("disk1"), "{words}");
    fs::rename(bench.path("disk1"), bench.path("away")).unwrap();
    bench.run(&["dump", "big/random.bin"]).with_code(5).with_sentence(&["disk1", "not mounted"]);
}
