//! The catalog itself in trouble: rows that somebody changed, an older copy, a lost WAL, a file that is something else.
//! What is wrong is noticed before it is built upon, and the volumes bring everything back.

use crate::util::bench::{Bench, Said};
use crate::util::five::{Known, assert_rebuilds, complete_runs};
use crate::util::needs::has_tools;
use crate::util::oracle::snapshot;
use crate::util::tree::{Rng, append, write};
use rusqlite::Connection;
use std::fs;
use std::process::{Command, Stdio};

const DISKS: [&str; 2] = ["disk1", "disk2"];

/// Three runs of a small tree.
fn lived_in() -> (Bench, Known) {
    let bench = Bench::in_memory().and_volumes(&DISKS, &[]);
    let mut known = Known::default();
    for file in 0..6 {
        write(&bench.src(), &format!("d{}/f{file}", file % 2), &Rng(file).bytes(20_000));
    }
    known.backup(&bench);
    next_change(&bench);
    known.backup(&bench);
    fs::remove_file(bench.path("src/d0/f2")).unwrap();
    next_change(&bench);
    known.backup(&bench);
    (bench, known)
}

fn next_change(bench: &Bench) {
    append(&bench.src(), "d1/f1", b"some more");
}

/// Changes the catalog behind the program's back.
fn tamper(bench: &Bench, sql: &str) {
    let conn = Connection::open(bench.path("backup.cat")).unwrap();
    assert!(conn.execute(sql, []).unwrap() > 0, "{sql}");
}

fn lose_catalog(bench: &Bench) {
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(bench.path(format!("backup.cat{end}")));
    }
}

/// The catalog as it is at rest, in one file.
fn copy_of_catalog(bench: &Bench) -> Vec<u8> {
    assert!(!bench.path("backup.cat-wal").exists(), "nobody has the catalog open");
    fs::read(bench.path("backup.cat")).unwrap()
}

#[test]
fn a_row_that_was_changed_is_noticed_by_validate_and_a_rebuild_puts_it_right() {
    let (bench, mut known) = lived_in();
    let sound = copy_of_catalog(&bench);
    let tampered = [
        "UPDATE live SET mtime_ns = mtime_ns + 1 WHERE name = CAST('f3' AS BLOB)",
        "UPDATE live SET mode = mode & ~4 WHERE name = CAST('f4' AS BLOB)",
        "UPDATE live SET name = CAST('f9' AS BLOB) WHERE name = CAST('f3' AS BLOB)",
        "UPDATE live SET flags = 1 WHERE name = CAST('f0' AS BLOB)",
        "DELETE FROM live WHERE name = CAST('f5' AS BLOB)",
        "UPDATE past SET size = size + 1 WHERE name = CAST('f1' AS BLOB)",
        "UPDATE past SET last_run = 1 WHERE name = CAST('f2' AS BLOB)",
        "DELETE FROM past WHERE name = CAST('f2' AS BLOB)",
        "UPDATE contents SET hash = zeroblob(32) WHERE id = 3",
        "UPDATE owners SET uid = uid + 1",
        "UPDATE dirs SET path = CAST('d7' AS BLOB) WHERE path = CAST('d0' AS BLOB)",
        "UPDATE runs SET digest = zeroblob(32) WHERE seq = 2",
    ];
    for sql in tampered {
        tamper(&bench, sql);
        let said = bench.run(&["validate"]);
        assert!(said.code == 4 && said.err.contains("rebuild-catalog"), "{sql}: {said:#?}");
        lose_catalog(&bench);
        fs::write(bench.path("backup.cat"), &sound).unwrap();
    }
    println!("{} kinds of changed rows", tampered.len());
    tamper(&bench, tampered[0]);
    bench.run(&["rebuild-catalog", "--volume", "disk1", "--volume", "disk2"]).with_code(0);
    known.assert_holds(&bench, &DISKS, "after the rebuild");
}

#[test]
fn no_run_is_built_on_rows_that_no_run_wrote() {
    let (bench, known) = lived_in();
    tamper(&bench, "UPDATE live SET mtime_ns = mtime_ns + 1 WHERE name = CAST('f3' AS BLOB)");
    next_change(&bench);
    let said = bench.run(&["backup", "src"]).with_code(1);
    assert!(said.err.contains("damaged") && said.err.contains("rebuild-catalog"), "{said:#?}");
    assert_eq!(complete_runs(&bench), [1, 2, 3]);
    bench.run(&["rebuild-catalog", "--volume", "disk1", "--volume", "disk2"]).with_code(0);
    let mut known = known;
    known.assert_holds(&bench, &DISKS, "after the rebuild");
}

#[test]
fn an_older_copy_catches_up_at_whatever_command_writes_next() {
    for command in [&["validate"][..], &["genmeta"], &["add-volume", "disk3"], &["backup", "src"]] {
        let (bench, mut known) = lived_in();
        let older = copy_of_catalog(&bench);
        bench.run(&["add-volume", "late"]).with_code(0);
        for _ in 0..2 {
            next_change(&bench);
            known.backup(&bench);
        }
        lose_catalog(&bench);
        fs::write(bench.path("backup.cat"), older).unwrap();
        bench.run(command).with_code(0);
        assert_eq!(complete_runs(&bench)[..5], [1, 2, 3, 4, 5], "{command:?}");
        known.assert_restores(&bench, &format!("{command:?}"));
        let named = bench.query("SELECT name FROM volumes WHERE name = 'late'");
        assert_eq!(named.len(), 1, "{command:?}: the volume that was added since");
    }
}

#[test]
fn a_lost_wal_costs_nothing() {
    let (bench, mut known) = lived_in();
    // Somebody reads all the time, so the last run stays in the WAL.
    let reader = Connection::open(bench.path("backup.cat")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM runs;").unwrap();
    next_change(&bench);
    known.backup(&bench);
    assert!(bench.path("backup.cat-wal").metadata().unwrap().len() > 0);
    let file_alone = fs::read(bench.path("backup.cat")).unwrap();
    drop(reader);
    lose_catalog(&bench);
    fs::write(bench.path("backup.cat"), file_alone).unwrap();
    assert_eq!(complete_runs(&bench), [1, 2, 3]);
    bench.run(&["validate"]).with_code(0);
    known.assert_holds(&bench, &DISKS, "without the WAL");
    assert_eq!(complete_runs(&bench), [1, 2, 3, 4, 5]);
}

#[test]
fn a_deleted_catalog_is_rebuilt_from_the_volumes() {
    let (bench, mut known) = lived_in();
    lose_catalog(&bench);
    bench.run(&["backup", "src"]).with_code(10).with_sentence(&["rebuild-catalog"]);
    bench.run(&["rebuild-catalog", "--volume", "disk1", "--volume", "disk2"]).with_code(0);
    known.assert_holds(&bench, &DISKS, "after the rebuild");
}

#[test]
fn a_catalog_of_a_newer_release_is_left_as_it_is() {
    let (bench, known) = lived_in();
    let conn = Connection::open(bench.path("backup.cat")).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    drop(conn);
    let before = copy_of_catalog(&bench);
    for command in [&["backup", "src"][..], &["runs"], &["validate"], &["genmeta"], &["revert-to-run", "1", "dest"]] {
        let said = bench.run(command).with_code(1).with_sentence(&["schema 99", "update RaidTape"]);
        assert!(said.out.is_empty(), "{said:#?}");
    }
    assert!(copy_of_catalog(&bench) == before, "it was written to");
    drop(known);
}

#[test]
fn a_file_that_is_no_catalog_is_left_as_it_is() {
    let (bench, _) = lived_in();
    let other = bench.path("other.db");
    Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE letters(text); INSERT INTO letters VALUES('dear')")
        .unwrap();
    write(&bench.path(""), "letter.txt", &Rng(3).text(9000));
    write(&bench.path(""), "empty", b"");
    for name in ["other.db", "letter.txt", "empty"] {
        let before = fs::read(bench.path(name)).unwrap();
        for command in [&["backup", "src"][..], &["runs"], &["validate"], &["init"]] {
            let args = [&["--catalog", name], command].concat();
            let said = bench.run(&args);
            assert!([1, 2].contains(&said.code), "{args:?}: {said:#?}");
            said.with_sentence(&[name]);
        }
        assert!(fs::read(bench.path(name)).unwrap() == before, "{name} was written to");
        for end in ["-wal", "-shm", "-journal"] {
            assert!(!bench.path(format!("{name}{end}")).exists(), "{name}{end}");
        }
    }
}

#[test]
fn a_catalog_of_random_bytes_from_some_page_on_is_never_believed() {
    let (bench, mut known) = lived_in();
    let sound = copy_of_catalog(&bench);
    let tree = snapshot(&bench.src());
    for page in 0..sound.len() / 4096 {
        let mut bytes = sound.clone();
        bytes[page * 4096..(page + 1) * 4096].copy_from_slice(&Rng(page as u64).bytes(4096));
        lose_catalog(&bench);
        fs::write(bench.path("backup.cat"), &bytes).unwrap();
        let what = format!("page {page}");
        let said = bench.run(&["validate"]);
        assert!([1, 4].contains(&said.code) && !said.err.contains("panicked"), "{what}: {said:#?}");
        let said = bench.run(&["revert-to-run", "3", "dest"]);
        assert!(!said.err.contains("panicked"), "{what}: {said:#?}");
        if said.code == 0 {
            snapshot(&bench.path("dest")).assert_is(&tree, &what);
        }
        let _ = fs::remove_dir_all(bench.path("dest"));
    }
    println!("{} pages of the catalog overwritten", sound.len() / 4096);
    bench.run(&["rebuild-catalog", "--volume", "disk1", "--volume", "disk2"]).with_code(0);
    known.assert_restores(&bench, "after the rebuild");
    assert_rebuilds(&bench, &DISKS, "after the rebuild");
    known.assert_holds(&bench, &DISKS, "after the rebuild");
}

#[test]
fn a_catalog_that_is_a_link_is_rebuilt_where_it_is() {
    let (bench, mut known) = lived_in();
    fs::create_dir(bench.path("elsewhere")).unwrap();
    fs::rename(bench.path("backup.cat"), bench.path("elsewhere/real.cat")).unwrap();
    std::os::unix::fs::symlink("elsewhere/real.cat", bench.path("backup.cat")).unwrap();
    bench.run(&["rebuild-catalog", "--volume", "disk1", "--volume", "disk2"]).with_code(0);
    assert!(bench.path("backup.cat").is_symlink() && !bench.path("elsewhere/real.cat").is_symlink());
    known.assert_holds(&bench, &DISKS, "behind a link");
}

/// A backup, or another command, while reads of records of runs fail.
fn with_unreadable_records(bench: &Bench, args: &[&str]) -> Said {
    let command = bench.command(args);
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qqq", "-o", "/dev/null", "-e", "trace=pread64", "-e", "inject=pread64:error=EIO"]);
    for entry in DISKS.iter().flat_map(|disk| fs::read_dir(bench.path(disk).join("runs")).unwrap()) {
        traced.arg("-P").arg(entry.unwrap().path());
    }
    traced.arg(command.get_program()).args(command.get_args()).current_dir(bench.path(""));
    traced.env("RAIDTAPE_CATALOG", bench.path("backup.cat")).stdin(Stdio::null());
    traced.output().unwrap().into()
}

#[test]
fn a_run_whose_record_cannot_be_read_just_now_is_not_forgotten_by_an_older_copy() {
    if !has_tools(&["strace"]) {
        return;
    }
    let (bench, mut known) = lived_in();
    let older = copy_of_catalog(&bench);
    write(&bench.src(), "precious", b"precious");
    known.backup(&bench);
    fs::remove_file(bench.path("src/precious")).unwrap();
    lose_catalog(&bench);
    fs::write(bench.path("backup.cat"), older).unwrap();
    let said = with_unreadable_records(&bench, &["backup", "src"]);
    assert!(said.code == 1 && said.err.contains("Input/output error"), "{said:#?}");
    assert_eq!(complete_runs(&bench), [1, 2, 3]);
    let said = with_unreadable_records(&bench, &["validate"]);
    assert!(said.code == 4, "{said:#?}");
    // The disk answers again: nothing is lost.
    bench.run(&["validate"]).with_code(0);
    known.assert_holds(&bench, &DISKS, "the disk answers again");
    assert_eq!(complete_runs(&bench), [1, 2, 3, 4, 5]);
}

#[test]
fn an_older_copy_that_cannot_use_a_record_takes_no_number_twice_and_says_so() {
    let (bench, known) = lived_in();
    let older = copy_of_catalog(&bench);
    write(&bench.src(), "precious", b"precious");
    bench.backup();
    lose_catalog(&bench);
    fs::write(bench.path("backup.cat"), older).unwrap();
    for disk in DISKS {
        for entry in fs::read_dir(bench.path(disk).join("runs")).unwrap().map(Result::unwrap) {
            if entry.file_name().to_string_lossy().starts_with("0000000004") {
                crate::util::tree::flip(&entry.path(), 200);
            }
        }
    }
    let said = bench.run(&["validate"]).with_code(4);
    assert!(said.err.contains("0000000004") && said.err.contains("cannot be used"), "{said:#?}");
    let tree = snapshot(&bench.src());
    let run = bench.backup()["run"].as_i64().unwrap();
    assert_eq!(run, 5, "number 4 is taken");
    bench.assert_reverts(run, &tree);
    known.assert_restores(&bench, "beside a damaged record");
}

#[test]
fn a_missing_first_record_is_made_again_from_the_second_one() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    let mut known = Known::default();
    for round in 0..3 {
        write(&bench.src(), "file", &Rng(round).bytes(20_000));
        known.backup(&bench);
    }
    for lost in ["0000000001", "0000000003"] {
        for end in [".manifest", ".2.manifest"] {
            let mut found = fs::read_dir(bench.path("disk1/runs")).unwrap().map(|entry| entry.unwrap().path());
            let name = found.find(|path| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                name.starts_with(lost) && name.ends_with(end) && name.matches('.').count() == end.matches('.').count()
            });
            fs::remove_file(name.unwrap()).unwrap();
            known.backup(&bench);
            let now = fs::read_dir(bench.path("disk1/runs")).unwrap().map(|entry| entry.unwrap().file_name());
            let there = now.map(|name| name.to_string_lossy().into_owned());
            let there = there.filter(|name| name.starts_with(lost) && !name.contains(".full.")).count();
            assert_eq!(there, 2, "run {lost} without {end}");
        }
    }
    known.assert_holds(&bench, &["disk1"], "records that were lost and made again");
}
