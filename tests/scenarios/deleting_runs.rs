//! By which runs `--delete` deletes: by those that have all of their source, if all of it could be restored.

use crate::util::bench::Bench;
use crate::util::five::assert_rebuilds;
use crate::util::oracle::snapshot;
use crate::util::tree::{flip, set_mode, write};
use std::fs;

const DELETE: [&str; 5] = ["revert-to-run", "latest", "dest", "--overwrite", "always"];

/// A bench whose `dest` holds a file that no run has.
fn ready() -> Bench {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    for name in ["a/f", "b/g.o", "b/cache/x"] {
        write(&bench.src(), name, &[7; 5000]);
    }
    write(&bench.path("dest"), "a/extra", b"extra");
    write(&bench.path("."), "list", b"a\n");
    bench
}

fn has_extra(bench: &Bench) -> bool {
    bench.path("dest/a/extra").exists()
}

/// `DELETE` with more.
fn args<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&DELETE[..], more].concat()
}

#[test]
fn a_run_that_left_something_out_on_purpose_deletes_only_when_that_is_accepted() {
    let selections: [&[&str]; 9] = [
        &["-e", "*.o"],
        &["--iexclude", "*.O"],
        &["--exclude-file", "list"],
        &["--exclude-caches"],
        &["--exclude-if-present", "no"],
        &["--exclude-larger-than", "1G"],
        &["--files-from", "list"],
        &["--files-from-raw", "list"],
        &["-x"],
    ];
    let bench = ready();
    for selection in selections {
        bench.run(&[&["backup", "src"], selection].concat());
        let said = bench.run(&args(&["--delete"])).with_code(2);
        said.with_sentence(&["left out some of its source on purpose", "--delete-excluded"]);
        bench.run(&args(&["--delete", "-n"])).with_code(2);
        assert!(has_extra(&bench) && !bench.path("dest/a/f").exists(), "{selection:?}");
    }
    assert_eq!(bench.query("SELECT DISTINCT selected FROM runs"), ["Integer(1)"]);
    let rehearsed = bench.json(&args(&["--delete-excluded", "-n"]), 0);
    assert_eq!((&rehearsed["deleted"], &rehearsed["deleted_paths"][0]["path"]), (&1.into(), &"a/extra".into()));
    assert!(has_extra(&bench));
    bench.run(&args(&["--delete-excluded"])).with_code(0);
    assert!(!has_extra(&bench) && bench.path("dest/a/f").exists());
    // A whole one of the same source needs no word more; what the run says is its own.
    write(&bench.path("dest"), "a/extra", b"extra");
    bench.backup();
    bench.run(&["revert-to-run", "9", "dest", "--overwrite", "always", "--delete"]).with_code(2);
    bench.run(&args(&["--delete"])).with_code(0);
    assert!(!has_extra(&bench) && bench.path("dest/b/g.o").exists());
    assert_rebuilds(&bench, &["disk1"], "with what was asked for");
}

#[test]
fn of_several_roots_nothing_above_them_is_deleted() {
    let bench = ready();
    bench.run(&["backup", "src/a", "src/b", "--name", "two"]).with_code(0);
    let top = bench.path("").to_str().unwrap().trim_matches('/').to_owned();
    let dest = bench.path("dest");
    for name in ["beside", &format!("{top}/neighbour"), &format!("{top}/src/c/x"), &format!("{top}/src/a/extra")] {
        write(&dest, name, b"extra");
    }
    let said = bench.run(&args(&["--delete"])).with_code(2);
    said.with_sentence(&["several directories", "--delete-excluded"]);
    // A later run of other roots says nothing about this one.
    write(&bench.src(), "c/x", b"c");
    bench.run(&["backup", "src", "list", "--name", "two"]);
    bench.run(&["revert-to-run", "1", "dest", "--overwrite", "always", "--delete-excluded"]).with_code(0);
    let is_there = |name: &str| dest.join(name).exists();
    assert!(is_there("beside") && is_there("a/extra") && is_there(&format!("{top}/neighbour")));
    assert!(is_there(&format!("{top}/src/c/x")) && !is_there(&format!("{top}/src/a/extra")));
    // A folder below a root is no longer above it.
    write(&dest, "beside", b"extra");
    let folder = format!("/{top}/src/b");
    let part = ["restore-folder", &folder, "dest", "--run", "1", "--overwrite", "always", "--delete-excluded"];
    bench.run(&part).with_code(0);
    assert!(!is_there("beside") && is_there("g.o") && is_there("cache/x") && !is_there("a/extra"));
}

#[test]
fn a_stream_deletes_nothing() {
    let bench = ready();
    bench.run(&["backup", "--stdin-filename", "db", "--stdin-from-command", "--", "echo", "x"]).with_code(0);
    for word in ["--delete", "--delete-excluded"] {
        bench.run(&args(&[word])).with_code(2).with_sentence(&["stream"]);
    }
    assert!(has_extra(&bench));
}

#[test]
fn a_run_of_an_earlier_release_deletes_only_when_that_is_accepted_and_its_catalog_is_brought_up_by_a_writer() {
    let bench = ready();
    bench.backup();
    let conn = rusqlite::Connection::open(bench.path("backup.cat")).unwrap();
    conn.execute_batch(
        "ALTER TABLE runs DROP COLUMN selected; ALTER TABLE runs DROP COLUMN roots;
         DROP INDEX parity_groups_by_uuid; DROP INDEX parity_members_by_block; ALTER TABLE parity_groups DROP COLUMN uuid;
         DROP TABLE chunk_keys; CREATE INDEX chunks_by_id ON chunks(substr(id, 1, 8));
         DROP TABLE content_keys; CREATE INDEX contents_by_hash ON contents(substr(hash, 1, 8));
         PRAGMA user_version = 1;",
    )
    .unwrap();
    let one = |sql| conn.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    let hash = one("SELECT lower(hex(hash)) FROM contents");
    let chunk = one("SELECT lower(hex(id)) FROM chunks");
    drop(conn);
    let said = bench.run(&args(&["--delete"])).with_code(2);
    said.with_sentence(&["earlier release", "--delete-excluded"]);
    for reader in [&["runs"][..], &["ls"], &["backup", "src", "-n"], &["list-changes", "1"]] {
        bench.run(reader).with_code(0);
    }
    for by in [["find", "--hash", &hash], ["find", "--chunk", &chunk]] {
        assert_eq!(bench.run(&by).with_code(0).out.lines().count(), 3, "{by:?}");
    }
    assert_eq!(bench.query("PRAGMA user_version"), ["Integer(1)"]);
    bench.run(&args(&["--delete-excluded", "-n"])).with_code(0);
    assert!(has_extra(&bench));
    // What is stored already is found by the keys that the writer makes first.
    write(&bench.src(), "b/copy", &[7; 5000]);
    assert_eq!(bench.backup()["data_added"], 0);
    assert_eq!(bench.query("PRAGMA user_version"), ["Integer(5)"]);
    let keyed = [
        "SELECT hex(key) = substr(hex(id), 1, 16) FROM chunk_keys JOIN chunks ON no = chunk",
        "SELECT hex(key) = substr(hex(hash), 1, 16) FROM content_keys JOIN contents ON id = content",
    ];
    keyed.iter().for_each(|sql| assert_eq!(bench.query(sql), ["Integer(1)"]));
    assert_eq!(
        bench.query("SELECT selected, json_array_length(roots) FROM runs"),
        ["Null|Null", "Integer(0)|Integer(1)"]
    );
    bench.run(&["revert-to-run", "1", "dest", "--overwrite", "always", "--delete"]).with_code(2);
    bench.run(&args(&["--delete"])).with_code(0);
    assert!(!has_extra(&bench));
    bench.assert_all_good();
}

#[test]
fn nothing_is_deleted_when_not_all_could_be_restored() {
    let bench = ready();
    bench.backup();
    fs::rename(bench.path("disk1"), bench.path("away")).unwrap();
    let said = bench.run(&args(&["--delete"])).with_code(5);
    assert!(said.err.contains("nothing is deleted") && has_extra(&bench), "{said:#?}");
    fs::rename(bench.path("away"), bench.path("disk1")).unwrap();
    for block in bench.blocks("disk1").values() {
        flip(block, 135);
    }
    let report = bench.json(&args(&["--delete"]), 4);
    assert_eq!((&report["delete_skipped"], &report["deleted"]), (&true.into(), &0.into()), "{report:#}");
    assert!(has_extra(&bench));
}

#[test]
fn what_the_run_could_not_read_stays_and_without_knowing_it_nothing_goes() {
    if !crate::util::needs::has_root() || !crate::util::needs::has_tools(&["setpriv"]) {
        return;
    }
    let bench = ready();
    set_mode(&bench.path("src/b/cache"), 0);
    set_mode(&bench.path("src/a/f"), 0);
    bench.copy_program();
    let chown = std::process::Command::new("chown").args(["-hR", "65534:65534"]).arg(bench.path("")).status();
    assert!(chown.unwrap().success());
    let done = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(bench.path("program"))
        .args(["backup", "src"])
        .current_dir(bench.path(""))
        .env("RAIDTAPE_CATALOG", bench.path("backup.cat"))
        .output();
    assert_eq!(done.unwrap().status.code(), Some(3));
    for name in ["a/f", "b/cache/x", "b/cache/deep/y", "b/gone"] {
        write(&bench.path("dest"), name, b"was in the source");
    }
    let said = bench.run(&args(&["--delete"])).with_code(0);
    assert!(said.err.contains("a/f is left: it could not be read"), "{said:#?}");
    let is_there = |name: &str| bench.path("dest").join(name).exists();
    assert!(is_there("a/f") && is_there("b/cache/x") && is_there("b/cache/deep/y"), "{said:#?}");
    assert!(!is_there("b/gone") && !has_extra(&bench));
    // A rebuild does not know which files those were.
    let before = snapshot(&bench.path("dest"));
    bench.run(&["--catalog", "rebuilt.cat", "rebuild-catalog", "--volume", "disk1"]).with_code(0);
    let rebuilt = [&["--catalog", "rebuilt.cat"], &args(&["--delete"])[..]].concat();
    bench.run(&rebuilt).with_code(2).with_sentence(&["could not be read", "--delete"]);
    snapshot(&bench.path("dest")).assert_is(&before, "nothing went");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_written() {
    let bench = ready();
    bench.backup();
    let revert = ["revert-to-run", "1", "dest"];
    for more in [&["--delete"][..], &["--delete", "--overwrite", "never"], &["--delete-excluded"]] {
        bench.run(&[&revert, more].concat()).with_code(2).with_sentence(&["--delete needs --overwrite"]);
    }
    bench.run(&args(&["--delete", "--strip-components", "1"])).with_code(2).with_sentence(&["--strip-components"]);
    assert!(has_extra(&bench) && !bench.path("dest/b").exists());
    // Into nothing there is nothing to delete.
    let report = bench.json(&["revert-to-run", "1", "new", "--overwrite", "always", "--delete"], 0);
    assert_eq!(report["deleted"], 0);
}
