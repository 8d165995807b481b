//! What is left out of a backup: by pattern exactly what git leaves out, by tag, size and file system what the options
//! say; and what is left out later counts as that and not as deleted.

use crate::util::bench::Bench;
use crate::util::needs::{Tmpfs, has_tools};
use crate::util::tree::{make_fifo, write};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// Patterns that have their corners, each line a set of its own.
const PATTERNS: [&[&str]; 34] = [
    &["*.o"],
    &["a"],
    &["/a"],
    &["a/"],
    &["/a/"],
    &["a/b"],
    &["/a/b"],
    &["a/*"],
    &["a/*", "!a/keep.o"],
    &["*.o", "!keep.o"],
    &["!keep.o", "*.o"],
    &["a", "!a/keep.o"],
    &["**/b"],
    &["**/b/c"],
    &["a/**"],
    &["a/**/c"],
    &["a/**/keep.o"],
    &["**"],
    &["*", "!*/", "!*.o"],
    &["?.o"],
    &["[ab].o"],
    &["[!ab].o"],
    &["[a-c]"],
    &["\\#hash"],
    &["#hash"],
    &["\\!bang"],
    &["trailing\\ "],
    &["trailing "],
    &["sp ace"],
    &["", "  ", "b"],
    &["*.O"],
    &["b/*.o", "/*.o"],
    &["deep/*/*/x.o"],
    &["d*p/**/x.?"],
];

const FILES: [&str; 27] = [
    "a.o",
    "b.o",
    "c.o",
    "keep.o",
    "x.txt",
    "#hash",
    "!bang",
    "trailing ",
    "trailing",
    "sp ace",
    "a/keep.o",
    "a/b/c",
    "a/b/keep.o",
    "a/b/d/c",
    "a/x.txt",
    "b/a",
    "b/c",
    "b/x.o",
    "b/b/b",
    "deep/a/b/x.o",
    "deep/a/x.o",
    "deep/x.o",
    "deep/a/b/c/x.o",
    "deep/a/keep.o",
    "dp/x.c",
    "c/a.o",
    "c/q",
];

fn grow(bench: &Bench) {
    FILES.iter().for_each(|name| write(&bench.src(), name, name.as_bytes()));
}

/// The regular files of a run.
fn files(bench: &Bench, run: i64) -> BTreeSet<String> {
    let listed = bench.run(&["--json", "ls", "-R", "--run", &run.to_string()]).with_code(0);
    let is_file = |entry: &serde_json::Value| entry["kind"] == "file";
    let paths = listed.documents().into_iter().filter(is_file).map(|entry| entry["path"].as_str().unwrap().to_owned());
    paths.collect()
}

#[test]
fn patterns_leave_out_exactly_what_git_leaves_out() {
    if !has_tools(&["git"]) {
        return;
    }
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    grow(&bench);
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.args(["--git-dir", "../git", "--work-tree", "."]).args(args).current_dir(bench.src());
        let done = command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("HOME", bench.path("")).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    Command::new("git").args(["init", "-q", "--bare"]).arg(bench.path("git")).status().unwrap();
    let mut left_out = 0;
    for patterns in PATTERNS {
        fs::write(bench.path("patterns"), patterns.join("\n") + "\n").unwrap();
        let exclude = format!("--exclude-from={}", bench.path("patterns").display());
        let wanted: BTreeSet<String> =
            git(&["ls-files", "-o", "-z", &exclude]).split_terminator('\0').map(str::to_owned).collect();
        let by_file = bench.json(&["backup", "src", "--exclude-file", "patterns"], 0);
        assert_eq!(files(&bench, by_file["run"].as_i64().unwrap()), wanted, "{patterns:?} in a file");
        let mut args = vec!["backup", "src"];
        patterns.iter().for_each(|pattern| args.extend(["--exclude", pattern]));
        let by_option = bench.json(&args, 0);
        assert_eq!(files(&bench, by_option["run"].as_i64().unwrap()), wanted, "{patterns:?} as options");
        left_out += FILES.len() - wanted.len();
    }
    assert!(left_out > 100, "{left_out}");
    bench.assert_all_good();
}

#[test]
fn what_is_left_out_later_is_told_as_that_and_comes_back_when_it_is_wanted_again() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    grow(&bench);
    bench.backup();
    bench.json(&["backup", "src", "-e", "/a", "-e", "b.o"], 0);
    let reasons = bench.query("SELECT count(*) FROM past WHERE why = 3");
    let changes = bench.run(&["--json", "list-changes", "2"]).with_code(0);
    assert_eq!(reasons, ["Integer(9)"], "a, what is in it, and b.o: {changes:#?}");
    assert!(changes.out.contains("excluded"), "{changes:#?}");
    let before = files(&bench, 1);
    assert_eq!(files(&bench, 2).len(), before.len() - 6);
    bench.backup();
    assert_eq!(files(&bench, 3), before);
    bench.assert_all_good();
}

#[test]
fn tags_sizes_and_other_file_systems_leave_out_what_they_should() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    let src = bench.src();
    write(&src, "cache/CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55\n# more\n");
    write(&src, "cache/x", b"x");
    write(&src, "cache/deep/y", b"y");
    write(&src, "no cache/CACHEDIR.TAG", b"Signature: of something else");
    write(&src, "no cache/x", b"x");
    write(&src, "marked/.nobackup", b"");
    write(&src, "marked/z", b"z");
    write(&src, "large", &[1; 5000]);
    write(&src, "small", &[1; 4096]);
    write(&src, "Upper.TMP", b"u");
    let args =
        ["backup", "src", "--exclude-caches", "--exclude-if-present", ".nobackup", "--exclude-larger-than", "4K"];
    let report = bench.json(&[&args[..], &["--iexclude", "*.tmp"]].concat(), 0);
    let wanted = ["cache/CACHEDIR.TAG", "marked/.nobackup", "no cache/CACHEDIR.TAG", "no cache/x", "small"];
    assert_eq!(files(&bench, report["run"].as_i64().unwrap()), wanted.map(str::to_owned).into());
    bench.backup();
    let report = bench.json(&[&args[..], &["-e", ".nobackup"]].concat(), 0);
    let names = files(&bench, report["run"].as_i64().unwrap());
    assert!(names.contains("Upper.TMP") && !names.iter().any(|name| name.starts_with("marked/")), "{names:?}");
    // A file system inside the source.
    write(&src, "mnt/under it", b"hidden");
    bench.backup();
    let Some(_mounted) = Tmpfs::mount(&src.join("mnt"), 4) else { return };
    write(&src, "mnt/on it", b"other");
    let all = bench.json(&["backup", "src"], 0);
    assert!(files(&bench, all["run"].as_i64().unwrap()).contains("mnt/on it"));
    let own = bench.json(&["backup", "src", "-x"], 0);
    let names = files(&bench, own["run"].as_i64().unwrap());
    assert!(names.contains("small") && !names.iter().any(|name| name.starts_with("mnt/")), "{names:?}");
    let reasons = bench.query("SELECT name, why FROM past WHERE name = CAST('on it' AS BLOB)");
    assert!(reasons.len() == 1 && reasons[0].ends_with("Integer(3)"), "{reasons:?}");
    let listed = bench.run(&["ls", "--run", &own["run"].to_string()]).with_code(0);
    assert!(listed.out.contains("mnt"), "the mount point itself is there: {listed:#?}");
}

#[test]
fn patterns_that_are_none_are_named_before_anything_is_written() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    write(&bench.src(), "f", b"f");
    bench.run(&["backup", "src", "-e", "[z-a]"]).with_code(2).with_sentence(&["[z-a]", "not valid"]);
    bench
        .run(&["backup", "src", "--exclude-file", "nowhere"])
        .with_code(2)
        .with_sentence(&["nowhere", "cannot be read"]);
    bench.run(&["backup", "src", "--exclude-if-present", "a/b"]).with_code(2).with_sentence(&["a/b", "name of a file"]);
    assert_eq!(bench.json(&["runs"], 0)["runs"], serde_json::json!([]));
}

#[test]
fn patterns_may_come_from_a_pipe() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    grow(&bench);
    make_fifo(&bench.path("pipe"));
    let pipe = bench.path("pipe");
    let writer = std::thread::spawn(move || fs::write(pipe, "a\n*.o\n"));
    let report = bench.json(&["backup", "src", "--exclude-file", "pipe"], 0);
    writer.join().unwrap().unwrap();
    let names = files(&bench, report["run"].as_i64().unwrap());
    assert!(names.contains("c/q") && !names.iter().any(|name| name.ends_with(".o")), "{names:?}");
}
