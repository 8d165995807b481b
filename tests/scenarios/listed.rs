//! Backups of what a list names: that, what lies below it and the folders above it, and nothing else; what is no longer
//! named ends as not selected, and what is named and not there is told.

use crate::util::bench::{Bench, Said};
use crate::util::oracle::{Snapshot, snapshot};
use crate::util::tree::{grow, odd_names, set_mode, write};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Stdio;

/// What of a tree these paths stand for.
fn part(tree: &Snapshot, wanted: &[&[u8]]) -> Snapshot {
    let is_below = |path: &[u8], top: &[u8]| top.is_empty() || path == top || path.starts_with(&[top, b"/"].concat());
    let mut part = tree.clone();
    part.0.retain(|path, node| {
        let is_above = |top: &&[u8]| node.kind == 'd' && (path.is_empty() || is_below(top, path));
        wanted.iter().any(|top| is_below(path, top) || is_above(top))
    });
    let kept: Vec<Vec<u8>> = part.0.keys().cloned().collect();
    part.0.values_mut().for_each(|node| node.names.retain(|name| kept.contains(name)));
    part
}

fn with_input(bench: &Bench, args: &[&str], input: &[u8]) -> Said {
    let mut command = bench.command(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn only_what_is_listed_is_taken_and_the_rest_ends_as_not_selected() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    let src = bench.src();
    for name in ["a/b/one", "a/b/deep/er/two", "a/c/three", "a/b!", "z", "other/x/y", "#no comment", "a/b.c"] {
        write(&src, name, name.as_bytes());
    }
    set_mode(&src.join("a"), 0o2750);
    symlink("a", src.join("link")).unwrap();
    bench.backup();
    let tree = snapshot(&src);
    let absolute = src.join("link").display().to_string();
    let list = format!("# a comment\n\n  \n./a//b/\nz\na/b/one\n{absolute}\nother/x\n");
    fs::write(bench.path("list"), list).unwrap();
    let report = bench.json(&["backup", "src", "--files-from", "list"], 0);
    assert_eq!((&report["files_new"], &report["problems"]), (&0.into(), &serde_json::json!([])), "{report:#}");
    bench.assert_reverts(2, &part(&tree, &[b"a/b", b"z", b"link", b"other/x"]));
    let why = bench.query("SELECT DISTINCT why FROM past");
    assert_eq!(why, ["Integer(3)"], "left out, not deleted");
    // Named twice, in two lists, with patterns and what is really gone.
    fs::remove_file(src.join("a/b/deep/er/two")).unwrap();
    fs::write(bench.path("raw"), b"#no comment\0a/c\0other/x\0").unwrap();
    let report = bench.json(&["backup", "src", "--files-from", "list", "--files-from-raw", "raw", "-e", "/other"], 0);
    assert_eq!(report["files_new"], 3, "a/c, a/c/three and one whose name begins like a comment: {report:#}");
    bench.assert_reverts(3, &part(&snapshot(&src), &[b"a/b", b"z", b"link", b"a/c", b"#no comment"]));
    let changes = bench.run(&["list-changes", "3"]).with_code(0);
    assert!(changes.out.contains("- a/b/deep/er/two\n") && changes.out.contains("x other/x/y\n"), "{changes:#?}");
    bench.backup();
    bench.assert_reverts(4, &snapshot(&src));
    bench.assert_reverts(1, &tree);
    bench.assert_all_good();
}

#[test]
fn any_name_can_be_listed_raw_and_all_of_a_tree_is_all_of_it() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    let src = bench.src();
    grow(&src, 11);
    for name in odd_names() {
        fs::write(src.join(OsStr::from_bytes(&name)), &name).unwrap();
    }
    let tree = snapshot(&src);
    let odd = odd_names();
    let raw: Vec<u8> = odd.iter().flat_map(|name| [name.as_slice(), b"\0"].concat()).collect();
    with_input(&bench, &["backup", "src", "--files-from-raw", "-"], &raw).with_code(0);
    let names: Vec<&[u8]> = odd.iter().map(Vec::as_slice).collect();
    bench.assert_reverts(1, &part(&tree, &names));
    let all: Vec<u8> = tree.0.keys().flat_map(|path| [b"./", path.as_slice(), b"\0"].concat()).collect();
    with_input(&bench, &["backup", "src", "--files-from-raw", "-"], &all).with_code(0);
    bench.assert_reverts(2, &tree);
    with_input(&bench, &["backup", "src", "--files-from", "-"], b".\n").with_code(0);
    let runs = bench.query("SELECT added + modified + metadata + deleted FROM runs WHERE seq = 3");
    assert_eq!(runs, ["Integer(0)"]);
    bench.assert_all_good();
}

#[test]
fn what_is_listed_and_not_there_is_told_and_the_rest_is_saved() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    let src = bench.src();
    write(&src, "there/f", b"f");
    write(&src, "left/out", b"o");
    symlink("there", src.join("link")).unwrap();
    let list = b"there\nthere/gone\nno/such\nlink/f\nthere/f/below\nleft/out\n";
    let said = with_input(&bench, &["--json", "backup", "src", "-e", "left", "--files-from", "-"], list).with_code(3);
    let told: Vec<String> =
        said.summary()["problems"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap().into()).collect();
    assert_eq!(told, ["link/f", "no/such", "there/f/below", "there/gone"]);
    bench.assert_reverts(1, &part(&snapshot(&src), &[b"there"]));
    let said = with_input(&bench, &["backup", "src", "--files-from", "-"], b"no/such\n").with_code(3);
    said.with_sentence(&["no/such", "listed"]);
}

#[test]
fn what_is_listed_and_left_out_all_the_same_is_told_and_is_no_failure() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    let src = bench.src();
    for name in ["a.o", "b", "big", "below/left/f", "marked/x", "marked/no", "in/tagged", "in/no"] {
        write(&src, name, b"x");
    }
    write(&src, "big", &[7; 5000]);
    let mounted = crate::util::needs::Tmpfs::mount(&src.join("mnt"), 4);
    write(&src, "mnt/deep/f", b"x");
    write(&bench.path("."), "list", b"a.o\nb\nbig\nbelow/left/f\nmarked/x\nin\nmnt/deep/f\n");
    let args = ["backup", "src", "--files-from", "list", "-e", "*.o", "-e", "left", "--exclude-if-present", "no"];
    let args = [&args[..], &["--exclude-larger-than", "4K", "-x"]].concat();
    let mut wanted = vec!["a.o", "below/left/f", "big", "marked/x"];
    wanted.extend(mounted.as_ref().map(|_| "mnt/deep/f"));
    for more in [&["-n"][..], &[]] {
        let report = bench.json(&[&args, more].concat(), 0);
        let told: Vec<&str> =
            report["listed_left_out"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
        assert_eq!(told, wanted, "{report:#}");
    }
    let said = bench.run(&args).with_code(0);
    assert!(said.err.contains(&format!("{} listed paths left out by -e, -x", wanted.len())), "{said:#?}");
    assert!(!said.err.contains("a.o is listed"), "{said:#?}");
    let said = bench.run(&[&args[..], &["-v"]].concat()).with_code(0);
    wanted.iter().for_each(|name| assert!(said.err.contains(&format!("{name} is listed and left out")), "{said:#?}"));
    let report = bench.json(&["backup", "src", "--files-from", "list"], 0);
    assert_eq!(report["listed_left_out"], serde_json::json!([]));
}

#[test]
fn lists_that_cannot_be_are_refused_before_anything_is_written() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    write(&bench.src(), "f", b"f");
    for (list, words) in [
        ("/etc/passwd\n", ["/etc/passwd", "not below"]),
        ("a/../f\n", ["a/../f", "`..`"]),
        ("a\0b\n", ["names", "no path"]),
    ] {
        fs::write(bench.path("list"), list).unwrap();
        bench.run(&["backup", "src", "--files-from", "list"]).with_code(2).with_sentence(&words);
    }
    bench.run(&["backup", "src", "--files-from", "nowhere"]).with_code(2).with_sentence(&["nowhere", "cannot be read"]);
    for both in [["--files-from", "-", "--files-from-raw", "-"], ["--files-from", "-", "--files-from", "-"]] {
        let said = with_input(&bench, &[&["backup", "src"], &both[..]].concat(), b"f\n").with_code(2);
        said.with_sentence(&["standard input", "one list"]);
    }
    assert_eq!(bench.json(&["runs"], 0)["runs"], serde_json::json!([]));
}

#[test]
fn a_list_without_a_path_is_a_mistake_and_ends_nothing() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    write(&bench.src(), "f", b"x");
    bench.backup();
    for (option, text) in [("--files-from-raw", &b""[..]), ("--files-from", b"# only words\n\n")] {
        write(&bench.path("."), "list", text);
        let said = bench.run(&["--no-progress", "backup", "src", option, "list"]).with_code(2);
        said.with_sentence(&["names no path"]);
    }
    assert_eq!(bench.query("SELECT path FROM files WHERE kind = 'file'").len(), 1);
    // What a list names may lie beside what a volume keeps.
    write(&bench.path("disk1"), "photos/1.jpg", b"a picture");
    write(&bench.path("."), "list", b"disk1/photos/1.jpg\n");
    bench.run(&["--no-progress", "backup", ".", "--name", "here", "--files-from", "list"]).with_code(0);
    assert_eq!(bench.query("SELECT path FROM files WHERE kind = 'file' AND path LIKE '%jpg'").len(), 1);
}
