//! Runs over time: what they find changed, and what they bring back.

use crate::util::bench::Bench;
use crate::util::changes::assert_changes;
use crate::util::needs;
use crate::util::oracle::{Snapshot, assert_rsync_silent, snapshot};
use crate::util::tree::{Rng, change, grow, odd_names, write};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Command;

#[test]
fn every_run_lists_what_changed_and_reverts_to_its_tree() {
    let bench = Bench::with_volumes(&["disk1"], &["--block-size", "8M"]);
    grow(&bench.src(), 1);
    let mut trees = vec![Snapshot::default(), snapshot(&bench.src())];
    let first = bench.backup();
    assert_changes(&bench, &first, (&trees[0], &trees[1]));
    let again = bench.backup();
    assert_changes(&bench, &again, (&trees[1], &trees[1]));
    assert_eq!((&again["data_added"], &again["blocks_written"]), (&0.into(), &0.into()));
    trees.push(trees[1].clone());
    for seed in 2..5 {
        change(&bench.src(), seed);
        trees.push(snapshot(&bench.src()));
        let report = bench.backup();
        let both = (&trees[trees.len() - 2], &trees[trees.len() - 1]);
        assert_changes(&bench, &report, both);
    }
    for (run, tree) in trees.iter().enumerate().skip(1) {
        bench.assert_reverts(run as i64, tree);
    }
    let (dest, _) = bench.reverted(5);
    assert_rsync_silent(&bench.src(), &dest);
    if needs::has_tools(&["diff"]) {
        // Fifos and sockets are nothing that diff compares.
        for tree in [&bench.src(), &dest] {
            std::fs::remove_dir_all(tree.join("special")).unwrap();
        }
        let diff = Command::new("diff").args(["-r", "--no-dereference"]).args([bench.src(), dest]).output().unwrap();
        assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
    }
    bench.assert_all_good();
}

#[test]
fn a_run_that_changes_nothing_writes_one_row_itself() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    grow(&bench.src(), 1);
    bench.backup();
    let rows = |bench: &Bench| {
        let tables = ["live", "past", "contents", "extents", "chunks", "blocks", "segments", "dirs", "owners", "runs"];
        tables.map(|table| bench.query(&format!("SELECT count(*) FROM {table}")).concat())
    };
    let before = rows(&bench);
    bench.backup();
    let after = rows(&bench);
    assert_eq!(before[..9], after[..9]);
    assert_ne!(before[9], after[9]);
    assert!(bench.query("SELECT * FROM past").is_empty() && bench.query("SELECT * FROM pending").is_empty());
}

#[test]
fn any_file_and_any_folder_comes_back_from_the_latest_and_from_an_old_run() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    grow(&bench.src(), 7);
    let old = snapshot(&bench.src());
    bench.backup();
    change(&bench.src(), 8);
    let new = snapshot(&bench.src());
    bench.backup();
    for (tree, run) in [(&old, Some("1")), (&new, None), (&new, Some("2"))] {
        let in_run: Vec<&str> = run.map(|run| vec!["--run", run]).unwrap_or_default();
        for path in ["big/text.txt", "big/mixed.bin", "big/only hole", "big/holes", "small/d6/f01", "empty/file"] {
            let dest = bench.fresh("one");
            let args = [&["restore", path, dest.to_str().unwrap()], &in_run[..]].concat();
            bench.run(&args).with_code(0);
            let found = snapshot(&dest);
            assert_eq!(found.0[&b""[..]].content, tree.0[path.as_bytes()].content, "{path} of {run:?}");
            assert_eq!(found.0[&b""[..]].mtime, tree.0[path.as_bytes()].mtime, "{path} of {run:?}");
            assert_eq!(found.0[&b""[..]].mode, tree.0[path.as_bytes()].mode, "{path} of {run:?}");
        }
        for folder in ["big", "small", "deep/level0/level1", "odd", "links", "special", "empty"] {
            let dest = bench.fresh("folder");
            bench.run(&[&["restore-folder", folder, dest.to_str().unwrap()], &in_run[..]].concat()).with_code(0);
            snapshot(&dest).assert_is(&tree.below(folder), &format!("{folder} of {run:?}"));
        }
    }
    bench.run(&["restore", "small/d0/new8", "x", "--run", "1"]).with_code(2).with_sentence(&["small/d0/new8"]);
}

#[test]
fn files_with_odd_names_are_restored_by_their_names() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    grow(&bench.src(), 3);
    bench.backup();
    for name in odd_names() {
        let path = OsString::from_vec([b"odd/", &name[..]].concat());
        let dest = bench.fresh("odd");
        bench.run(&[OsStr::new("restore"), &path, dest.as_os_str()]).with_code(0);
        assert_eq!(std::fs::read(&dest).unwrap(), std::fs::read(bench.src().join(&path)).unwrap());
        let absolute = bench.src().join(&path);
        let dest = bench.fresh("odd");
        bench.run(&[OsStr::new("restore"), absolute.as_os_str(), dest.as_os_str()]).with_code(0);
        let words = bench.run(&[OsStr::new("ls"), &path]).with_code(0).out;
        assert_eq!(words.lines().count(), 1, "one path is one line: {words:?}");
        assert!(!words.contains('\x1b'));
    }
}

#[test]
fn one_thread_and_many_give_catalogs_that_list_the_same() {
    let bench = Bench::new();
    grow(&bench.src(), 11);
    let listing = |kind: &[&str], name: &str| {
        let catalog = bench.path(format!("{name}.cat"));
        let at = ["--catalog", catalog.to_str().unwrap()];
        bench.run(&[&at[..], &["init", "--reserve", "1M", "--block-size", "8M"]].concat()).with_code(0);
        for disk in ["a", "b"] {
            bench.run(&[&at[..], &["add-volume", &format!("{name}-{disk}")]].concat()).with_code(0);
        }
        bench.run(&[&at[..], &["backup", "src"], kind].concat()).with_code(0);
        bench.run(&[&at[..], &["validate", "--deep"]].concat()).with_code(0);
        let conn = rusqlite::Connection::open(&catalog).unwrap();
        let sql = "SELECT hex(path) || ' ' || size || ' ' || mtime_ns || ' ' || kind || ' ' || ifnull(file_hash, '') ||
            ' ' || mode || ' ' || uid || ' ' || gid FROM file_versions ORDER BY 1";
        let mut select = conn.prepare(sql).unwrap();
        let rows: Vec<String> = select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let mut chunks = conn.prepare("SELECT hex(id) || ' ' || len FROM chunks ORDER BY 1").unwrap();
        let chunks: Vec<String> = chunks.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        (rows, chunks)
    };
    let single = listing(&["--single-threaded"], "single");
    assert!(single.0.len() > 200);
    for (name, kind) in [
        ("default", &[][..]),
        ("many", &["--max-workers", "8", "--max-write-workers", "4"]),
        ("one", &["--max-workers", "1", "--max-write-workers", "1"]),
        ("tight", &["--memory-limit", "1M"]),
    ] {
        assert_eq!(listing(kind, name), single, "{name}");
    }
}

#[test]
fn a_renamed_folder_is_not_read_again() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    let mut rng = Rng(5);
    for file in 0..30 {
        write(&bench.src(), &format!("photos/in/{file}.raw"), &rng.bytes(200_000));
    }
    write(&bench.src(), "other", b"x");
    settle(&bench.src());
    bench.backup();
    std::fs::rename(bench.path("src/photos"), bench.path("src/pictures")).unwrap();
    let tree = snapshot(&bench.src());
    let report = bench.backup();
    assert_eq!((&report["data_added"], &report["files_changed"]), (&0.into(), &0.into()), "{report}");
    assert!(report["bytes_read"].as_u64().unwrap() < 100_000, "{report}");
    assert_eq!((&report["files_new"], &report["files_deleted"]), (&32.into(), &32.into()), "{report}");
    bench.assert_reverts(2, &tree);
}

/// Waits until changes of these files are too old to be mistaken for later ones.
fn settle(root: &Path) {
    let newest = walkdir::WalkDir::new(root).into_iter().map(|entry| {
        use std::os::unix::fs::MetadataExt;
        let meta = entry.unwrap().path().symlink_metadata().unwrap();
        meta.ctime() * 1_000_000_000 + meta.ctime_nsec()
    });
    let newest = newest.max().unwrap_or(0);
    let age = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_nanos() as i64 - newest
    };
    while age() < 2_100_000_000 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn a_settled_tree_is_not_read_at_all() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    grow(&bench.src(), 9);
    settle(&bench.src());
    bench.backup();
    let report = bench.backup();
    assert_eq!((&report["bytes_read"], &report["files_new"]), (&0.into(), &0.into()), "{report}");
    let tree = snapshot(&bench.src());
    assert_eq!(report["files_unmodified"].as_u64().unwrap(), tree.0.len() as u64);
    // Whoever writes the same size and puts the time back is found out by the inode's own.
    let path = bench.path("src/big/text.txt");
    let before = path.metadata().unwrap().modified().unwrap();
    crate::util::tree::overwrite(&path, 1_000_000, b"not the same");
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    let report = bench.backup();
    assert_eq!(report["files_changed"], 1, "{report}");
    bench.assert_reverts(3, &snapshot(&bench.src()));
}

#[test]
fn two_sources_in_one_catalog_keep_their_own_histories() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    grow(&bench.src(), 1);
    write(&bench.path("other"), "only/here", b"other");
    let mut trees = Vec::new();
    for round in 0..3 {
        for root in ["src", "other"] {
            write(&bench.path(root), "round", format!("{root} {round}").as_bytes());
            trees.push(snapshot(&bench.path(root)));
            bench.json(&["backup", root], 0);
        }
    }
    for (run, tree) in trees.iter().enumerate() {
        bench.assert_reverts(run as i64 + 1, tree);
    }
    let said = bench.run(&["restore", "round", "x"]).with_code(2).with_sentence(&["src", "other", "--source"]);
    assert!(!bench.path("x").exists(), "{said:?}");
    let name = bench.path("other").display().to_string();
    bench.run(&["restore", "round", "x", "--source", &name]).with_code(0);
    assert_eq!(std::fs::read(bench.path("x")).unwrap(), b"other 2");
}
