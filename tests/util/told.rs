//! What the system's own tools tell of a tree, and whether two trees are the same to all of them.

use rustix::fs::SeekFrom;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tools that are asked.
pub const TOOLS: [&str; 7] = ["rsync", "find", "setfattr", "getfattr", "setfacl", "getfacl", "lsattr"];

/// Runs one in a directory; what it says.
#[track_caller]
pub fn run(dir: &Path, words: &[&str]) -> String {
    let done = Command::new(words[0]).args(&words[1..]).current_dir(dir).output().expect("a tool that starts");
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// All attributes of a tree as the system's tools tell them. Flags only of files and directories, and only those that
/// a user may set.
pub fn told(dir: &Path) -> Vec<String> {
    let xattrs = run(dir, &["getfattr", "-R", "-P", "-h", "-d", "-m", "-", "-e", "hex", "."]);
    // What is there of security modules is the same on both sides and not ours to compare in order.
    let mut blocks: Vec<String> = xattrs
        .split("\n\n")
        .map(|block| {
            let mut lines: Vec<&str> = block.lines().filter(|line| !line.starts_with("system.posix_acl")).collect();
            lines.sort_unstable();
            lines.join("\n")
        })
        .filter(|block| block.contains('='))
        .collect();
    let acls = run(dir, &["getfacl", "-R", "-P", "-n", "."]);
    blocks.extend(acls.split("\n\n").filter(|block| !block.trim().is_empty()).map(str::to_owned));
    let flags = run(dir, &["lsattr", "-R", "-a", "."]);
    for line in flags.lines().filter(|line| line.contains(" ./") && !line.ends_with("/..")) {
        let (flags, path) = line.trim().split_once(' ').expect("flags and a path");
        let flags: String = flags.chars().filter(|flag| !"-eIENhV".contains(*flag)).collect();
        blocks.push(format!("{path} {flags}"));
    }
    blocks.sort();
    blocks
}

/// Expects the same attributes; says which are not.
#[track_caller]
pub fn assert_told(found: &[String], wanted: &[String], what: &str) {
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|block| !those.contains(block)).cloned().collect()
    };
    let (more, missing) = (only(found, wanted), only(wanted, found));
    assert!(more.is_empty() && missing.is_empty(), "{what}: found {more:#?}, wanted {missing:#?}");
}

/// Takes away the flags that forbid everything.
pub fn thaw(dir: &Path) {
    // It complains of links and pipes.
    let thawed = Command::new("chattr").args(["-R", "-f", "-ia", "."]).current_dir(dir).status();
    thawed.expect("chattr starts");
}

/// Expects that two trees are the same to rsync, find, getfattr, getfacl, lsattr, and in their holes. `far` is a directory
/// directly in both of which only those tools are asked that get below paths of any length.
#[track_caller]
pub fn assert_same(wanted: &Path, found: &Path, (far, what): (&str, &str)) {
    assert_lines(&stats(found), &stats(wanted), what);
    assert_lines(&hashes_below(&found.join(far)), &hashes_below(&wanted.join(far)), what);
    let near = |root: &Path| -> Vec<PathBuf> {
        let names = std::fs::read_dir(root).expect("a directory").map(|entry| entry.expect("an entry").path());
        let mut near: Vec<PathBuf> = names.filter(|path| path.is_dir() && !path.ends_with(far)).collect();
        near.sort();
        near
    };
    for (wanted, found) in near(wanted).into_iter().zip(near(found)) {
        assert_told(&told(&found), &told(&wanted), what);
        assert_lines(&maps(&found), &maps(&wanted), what);
    }
    for (from, to) in [(wanted, found), (found, wanted)] {
        let with_slash = |path: &Path| format!("{}/", path.display());
        let args = ["-naHAXSc", "--numeric-ids", "--delete", "--itemize-changes"];
        let mut rsync = Command::new("rsync");
        rsync.args(args).arg(format!("--exclude=/{far}")).args([with_slash(from), with_slash(to)]);
        let output = rsync.output().expect("rsync runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.is_empty(), "{what}: rsync sees a difference: {text}");
    }
}

#[track_caller]
fn assert_lines(found: &[String], wanted: &[String], what: &str) {
    assert!(wanted.len() > 1, "{what}: nothing was looked at");
    assert_told(found, wanted, what);
}

/// Kind, mode, owner, links, time to the nanosecond, target, size and device number of every name.
fn stats(root: &Path) -> Vec<String> {
    let fields = r"%P\t%y %m %U %G %n %T@ %l";
    let (dir, other) = (format!(r"{fields}\0"), format!(r"{fields} %s\0"));
    let mut lines = records(&run(root, &["find", ".", "-type", "d", "-printf", &dir, "-o", "-printf", &other]));
    let numbers =
        ["find", ".", "(", "-type", "b", "-o", "-type", "c", ")", "-exec", "stat", "-c", "%n %t %T", "{}", "+"];
    lines.push(run(root, &numbers).lines().collect::<std::collections::BTreeSet<_>>().into_iter().collect());
    lines
}

/// Hashes of what lies too deep for a path.
fn hashes_below(root: &Path) -> Vec<String> {
    let told = run(root, &["find", ".", "-type", "f", "-printf", r"%P ", "-execdir", "cksum", "{}", ";"]);
    told.lines().map(str::to_owned).chain(["all".to_owned()]).collect()
}

fn records(text: &str) -> Vec<String> {
    let mut records: Vec<String> = text.split('\0').filter(|record| !record.is_empty()).map(str::to_owned).collect();
    records.sort();
    records
}

/// Where each file has data, as the file system says.
fn maps(root: &Path) -> Vec<String> {
    let mut maps = vec!["all".to_owned()];
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = entry.expect("a tree that can be read");
        if entry.file_type().is_file() {
            let name = entry.path().strip_prefix(root).expect("below the root").as_os_str().as_bytes().escape_ascii();
            maps.push(format!("{name}: {:?}", data_of(entry.path())));
        }
    }
    maps
}

/// Ranges of a file that are no holes.
pub fn data_of(path: &Path) -> Vec<(u64, u64)> {
    let file = std::fs::File::open(path).expect("a file that can be opened");
    let (mut ranges, mut at) = (Vec::new(), 0);
    while let Ok(start) = rustix::fs::seek(&file, SeekFrom::Data(at)) {
        at = rustix::fs::seek(&file, SeekFrom::Hole(start)).expect("an end");
        ranges.push((start, at));
    }
    ranges
}
