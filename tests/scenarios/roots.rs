//! Several roots in one source: each keeps its place below `/`, their neighbours are nobody's business, and one that is
//! missing or empty is never taken for deleted.

use crate::util::bench::Bench;
use crate::util::needs::Tmpfs;
use crate::util::oracle::{Snapshot, folder, snapshot};
use crate::util::tree::{grow, set_mode, write};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

/// What of the whole system these directories are: they, what is below and the directories above.
fn from_the_top(roots: &[&Path]) -> Snapshot {
    let mut all = Snapshot::default();
    for root in roots {
        let root = root.canonicalize().unwrap();
        let place = root.as_os_str().as_bytes()[1..].to_vec();
        for (path, mut node) in snapshot(&root).0 {
            let join = |path: &[u8]| if path.is_empty() { place.clone() } else { [&place, &b"/"[..], path].concat() };
            node.names = node.names.iter().map(|name| join(name)).collect();
            all.0.insert(join(&path), node);
        }
        for above in root.ancestors().skip(1) {
            all.0.insert(above.as_os_str().as_bytes()[1..].to_vec(), folder(above));
        }
    }
    all
}

fn ready() -> Bench {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    grow(&bench.path("one/deep"), 1);
    write(&bench.path("two"), "f", b"f");
    write(&bench.path("two"), "sub/g", b"g");
    write(&bench.path("one"), "neighbour", b"nobody's");
    write(&bench.path("three"), "h", b"h");
    set_mode(&bench.path("one"), 0o2711);
    bench
}

/// What changed in a run at or below a place of the bench; above it other tests come and go.
fn changes(bench: &Bench, run: &str) -> Vec<String> {
    let listed = bench.run(&["--json", "list-changes", run]).with_code(0);
    let inside = bench.path("").canonicalize().unwrap().display().to_string().split_off(1) + "/";
    let of_bench = listed.documents().into_iter().filter(|one| one["message_type"] == "change").filter_map(|one| {
        let path = one["path"].as_str().unwrap().strip_prefix(&inside)?.to_owned();
        Some(format!("{} {path}", one["change"].as_str().unwrap()))
    });
    of_bench.collect()
}

#[test]
fn several_roots_come_back_each_in_its_place_and_nothing_else_does() {
    let bench = ready();
    let (deep, two) = (bench.path("one/deep"), bench.path("two"));
    bench.json(&["backup", "one/deep", "two", "--name", "all"], 0);
    let wanted = from_the_top(&[&deep, &two]);
    let (dest, found) = bench.reverted(1);
    // Only the places above the bench may be touched by others meanwhile.
    let of_bench = |tree: &Snapshot| {
        let mut tree = tree.clone();
        let inside = bench.path("").canonicalize().unwrap();
        tree.0.retain(|path, _| Path::new("/").join(std::ffi::OsStr::from_bytes(path)).starts_with(&inside));
        tree.0.remove(&inside.as_os_str().as_bytes()[1..]);
        tree
    };
    of_bench(&found).assert_is(&of_bench(&wanted), "the roots and what is above them");
    assert_eq!(found.0.keys().collect::<Vec<_>>(), wanted.0.keys().collect::<Vec<_>>());
    fs::remove_dir_all(dest).unwrap();
    let absolute = two.join("sub").canonicalize().unwrap();
    let dest = bench.path("sub");
    bench.run(&["restore-folder", absolute.to_str().unwrap(), dest.to_str().unwrap()]).with_code(0);
    assert_eq!(fs::read(dest.join("g")).unwrap(), b"g");
    bench.run(&["restore", &absolute.join("g").display().to_string()[1..], "g"]).with_code(0);
    assert_eq!(bench.query("SELECT count(*) FROM files WHERE CAST(path AS TEXT) LIKE '%neighbour%'"), ["Integer(0)"]);
    // One more, one less, one inside another, one by a link: what is no longer given is not deleted.
    symlink("three", bench.path("link")).unwrap();
    bench.json(&["backup", "link", "two", "two/sub", "--name", "all"], 0);
    let told = changes(&bench, "2");
    assert!(told.contains(&"added three/h".to_owned()) && told.contains(&"excluded one/deep".to_owned()), "{told:#?}");
    assert!(
        !told.iter().any(|line| line.starts_with("deleted") || line.ends_with("/link") || line.ends_with(" link")),
        "{told:#?}"
    );
    fs::remove_file(two.join("f")).unwrap();
    bench.json(&["backup", "three", "two", "--name", "all"], 0);
    assert_eq!(changes(&bench, "3"), ["metadata two", "deleted two/f"]);
    fs::remove_file(bench.path("backup.cat")).unwrap();
    bench.run(&["rebuild-catalog", "--volume", "disk1"]).with_code(0);
    let again = bench.json(&["backup", "three", "two", "--name", "all", "-n"], 0);
    assert_eq!((&again["files_new"], &again["files_deleted"]), (&0.into(), &0.into()), "{again:#}");
    bench.assert_all_good();
}

#[test]
fn a_root_that_is_missing_or_empty_deletes_nothing() {
    let bench = ready();
    let args = ["backup", "one/deep", "two", "--name", "all"];
    bench.json(&args, 0);
    fs::rename(bench.path("two"), bench.path("elsewhere")).unwrap();
    bench.run(&args).with_code(1).with_sentence(&["two", "does not exist"]);
    fs::create_dir(bench.path("two")).unwrap();
    let said = bench.json(&args, 3);
    assert!(said["problems"][0]["path"].as_str().unwrap().ends_with("/two"), "{said:#}");
    assert_eq!(said["files_deleted"], 0, "{said:#}");
    bench.json(&[&args[..], &["--allow-empty"]].concat(), 0);
    assert_eq!(changes(&bench, "3"), ["deleted two/f", "deleted two/sub", "deleted two/sub/g"]);
    bench.assert_all_good();
}

#[test]
fn patterns_are_about_the_paths_below_the_top_and_spare_the_roots_themselves() {
    let bench = ready();
    write(&bench.path("two"), ".nobackup", b"");
    write(&bench.path("one"), ".nobackup", b"");
    let two = bench.path("two").canonicalize().unwrap();
    let pattern = format!("{}/sub", two.display());
    let args = ["backup", "one/deep", "two", "--name", "all", "-e", "deep", "-e", "one", "-e", &pattern];
    let mounted = Tmpfs::mount(&bench.path("two/mnt"), 4);
    write(&bench.path("two"), "mnt/inside", b"another file system");
    let more = ["-x", "--exclude-if-present", ".nowhere"];
    bench.json(&[&args[..], &more].concat(), 0);
    let told = changes(&bench, "1");
    assert!(told.contains(&"added two/f".to_owned()) && !told.iter().any(|line| line.contains("two/sub")), "{told:#?}");
    assert!(told.iter().filter(|line| line.contains("one/deep/")).count() > 20, "{told:#?}");
    assert_eq!(told.contains(&"added two/mnt/inside".to_owned()), mounted.is_none(), "{told:#?}");
    bench.json(&[&args[..], &["--exclude-if-present", ".nobackup"]].concat(), 0);
    let told = changes(&bench, "2");
    assert!(told.contains(&"excluded two/f".to_owned()) && !told.iter().any(|line| line.contains("one/")), "{told:#?}");
}

#[test]
fn roots_that_make_no_source_are_refused() {
    let bench = ready();
    let refused = |args: &[&str], words: &[&str]| {
        bench.run(&[&["backup"], args].concat()).with_code(2).with_sentence(words);
    };
    refused(&["one", "two"], &["--name"]);
    fs::write(bench.path("list"), "f\n").unwrap();
    refused(&["one", "two", "--name", "all", "--files-from", "list"], &["a single one"]);
    bench.run(&["backup", "one", "two/f", "--name", "all"]).with_code(1).with_sentence(&["two/f", "not a directory"]);
    assert_eq!(bench.json(&["runs"], 0)["runs"], serde_json::json!([]));
    bench.json(&["backup", "two", "two/sub", "--name", "merged"], 0);
    bench.json(&["backup", "two", "--name", "merged"], 0);
    refused(&["two", "three", "--name", "merged"], &["merged", "a single directory", "several directories"]);
    bench.json(&["backup", "two", "three", "--name", "all"], 0);
    refused(&["two", "--name", "all"], &["all", "several directories", "--name"]);
    refused(&["--stdin", "--name", "all"], &["all", "several directories", "--name"]);
}

#[test]
fn a_root_inside_a_volume_s_directory_is_taken_and_the_volume_itself_is_none() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    write(&bench.path("disk1"), "photos/1.jpg", b"a picture");
    write(&bench.path("other"), "f", b"x");
    let said = bench.run(&["--no-progress", "backup", "disk1/photos", "other", "--name", "all"]).with_code(0);
    for name in ["disk1/photos/1.jpg", "other/f"] {
        let found = bench.query(&format!("SELECT count(*) FROM files WHERE CAST(path AS TEXT) LIKE '%/{name}'"));
        assert_eq!(found, ["Integer(1)"], "{name}: {said:#?}");
    }
    for roots in [&["disk1", "other", "--name", "volume"][..], &["disk1"], &["disk1/chunks"], &["disk1/runs/"]] {
        let said = bench.run(&[&["--no-progress", "backup"], roots].concat()).with_code(2);
        said.with_sentence(&["disk1", "volume of this repository"]);
    }
    symlink(bench.path("disk1"), bench.path("link")).unwrap();
    bench.run(&["backup", "link"]).with_code(2).with_sentence(&["volume of this repository"]);
    bench.run(&["backup", "disk1/photos"]).with_code(0);
}
