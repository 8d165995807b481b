//! Commands that look at a repository in which nothing was backed up yet.

use crate::program::Bench;

#[test]
fn without_a_catalog_every_command_says_so_and_makes_none() {
    let bench = Bench::new();
    let lines = [
        "runs",
        "volumes",
        "ls",
        "list-changes 1",
        "validate",
        "genmeta",
        "backup .",
        "restore a b",
        "restore-folder a b",
        "revert-to-run 1 b",
    ];
    for line in lines {
        let said = bench.on_catalog(line).with_code(10);
        assert!(said.out.is_empty() && said.err.contains("there is no catalog at backup.cat"), "{line}: {said:?}");
        let error = bench.on_catalog(&format!("{line} --json")).with_code(10).json_error();
        assert_eq!((&error["message_type"], &error["code"]), (&"error".into(), &10.into()), "{line}");
    }
    assert!(!bench.path("backup.cat").exists() && !bench.path("backup.cat.lock").exists());
}

#[test]
fn a_file_that_is_no_catalog_is_left_alone() {
    let bench = Bench::new();
    bench.write("backup.cat", b"a letter to a friend, long enough to be looked at as a whole page of something");
    let said = bench.on_catalog("runs");
    assert_ne!(said.code, 0);
    assert!(said.err.contains("backup.cat is not a RaidTape catalog"), "{}", said.err);
}

#[test]
fn a_check_without_time_says_what_remains_and_never_that_all_is_good() {
    let bench = Bench::new();
    bench.on_catalog("init").with_code(0);
    bench.on_catalog("add-volume disk1").with_code(0);
    for number in 0..3 {
        bench.write(&format!("src/{number}"), format!("text {number}").as_bytes());
        bench.on_catalog("backup src").with_code(0);
    }
    for _ in 0..2 {
        let said = bench.on_catalog("validate --max-duration 0s").with_code(0);
        let sentence = "Sound so far: checked 1 of 3 blocks in the time given; the rest come first next time";
        assert_eq!(said.out.lines().last(), Some(sentence));
    }
    let documents = bench.on_catalog("validate --max-duration 0s --json").with_code(0).json();
    assert_eq!((&documents[0]["blocks_checked"], &documents[0]["blocks_left"]), (&1.into(), &2.into()));
    let said = bench.on_catalog("validate --max-duration 20m").with_code(0);
    assert_eq!(said.out.lines().last(), Some("All good"));
}

#[test]
fn tables_are_plain_where_nobody_watches() {
    let bench = Bench::new();
    bench.on_catalog("init").with_code(0);
    assert_eq!(bench.on_catalog("runs").with_code(0).out, "There is no run yet; make one with `raidtape backup DIR`\n");
    bench.on_catalog("add-volume disk1").with_code(0);
    bench.on_catalog("add-volume disk2 --reserve 1G").with_code(0);
    let said = bench.on_catalog("volumes").with_code(0);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("VOLUME  STATE") && lines[1].starts_with("disk1   active"), "{}", said.out);
    assert!(!said.out.contains('\u{1b}'));
}

#[test]
fn listings_as_json_are_one_document_even_when_empty() {
    let bench = Bench::new();
    bench.on_catalog("init").with_code(0);
    let documents = bench.on_catalog("runs --json").with_code(0).json();
    assert_eq!((documents.len(), &documents[0]["runs"]), (1, &serde_json::json!([])));
    bench.on_catalog("add-volume disk1").with_code(0);
    let documents = bench.on_catalog("--json volumes").with_code(0).json();
    assert_eq!(documents.len(), 1);
    assert_eq!(
        (&documents[0]["message_type"], &documents[0]["volumes"][0]["name"]),
        (&"volumes".into(), &"disk1".into())
    );
}

#[test]
fn a_run_that_is_not_there_is_named() {
    let bench = Bench::new();
    bench.on_catalog("init").with_code(0);
    for line in ["list-changes 7", "ls --run 7", "genmeta --run 7"] {
        let said = bench.on_catalog(line).with_code(2);
        assert!(said.err.contains("no run 7"), "{line}: {}", said.err);
    }
    let said = bench.on_catalog("list-changes latest").with_code(2);
    assert!(said.err.contains("no complete run yet"), "{}", said.err);
}

#[test]
fn an_empty_repository_is_all_good() {
    let bench = Bench::new();
    bench.on_catalog("init").with_code(0);
    bench.on_catalog("add-volume disk1").with_code(0);
    let said = bench.on_catalog("validate --deep").with_code(0);
    assert_eq!(said.out.lines().last(), Some("All good"));
    assert_eq!(bench.on_catalog("validate -q").with_code(0).out, "");
    std::fs::rename(bench.path("disk1"), bench.path("elsewhere")).unwrap();
    let said = bench.on_catalog("validate").with_code(5);
    assert!(!said.out.contains("All good") && said.err.contains("disk1"), "{said:?}");
    let said = bench.on_catalog("validate --volume elsewhere").with_code(0);
    assert_eq!(said.out.lines().last(), Some("All good"));
}
