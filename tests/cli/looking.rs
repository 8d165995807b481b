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
        "stats",
        "volumes --lost disk1",
        "report page.html",
        "validate",
        "genmeta",
        "backup .",
        "restore a b",
        "restore-folder a b",
        "revert-to-run 1 b",
        "history a",
        "find a",
        "diff 1 2",
    ];
    for line in lines {
        let said = bench.on_catalog(line).with_code(10);
        assert!(said.out.is_empty() && said.err.contains("there is no catalog at backup.cat"), "{line}: {said:?}");
        let error = bench.on_catalog(&format!("{line} --json")).with_code(10).json_error();
        assert_eq!((&error["message_type"], &error["code"]), (&"error".into(), &10.into()), "{line}");
    }
    assert!(!bench.path("backup.cat").exists() && !bench.path("backup.cat.lock").exists());
    assert!(!bench.path("page.html").exists());
}

#[test]
fn status_without_a_catalog_is_unknown_and_says_so_to_prometheus_too() {
    let bench = Bench::new();
    let said = bench.on_catalog("status --prometheus page.prom").with_code(3);
    assert!(said.out.starts_with("UNKNOWN - there is no catalog at backup.cat"), "{said:?}");
    let page = std::fs::read_to_string(bench.path("page.prom")).unwrap();
    assert!(page.contains("\nraidtape_status 3\n"), "{page}");
    let documents = bench.on_catalog("status --json").with_code(3).json();
    assert_eq!((&documents[0]["message_type"], &documents[0]["state"]), (&"status".into(), &"UNKNOWN".into()));
    bench.write("backup.cat", b"a letter to a friend, long enough to be looked at as a whole page of something");
    assert!(bench.on_catalog("status").with_code(3).out.starts_with("UNKNOWN - "));
    // An answer that cannot be written down is still the answer.
    std::fs::create_dir(bench.path("folder")).unwrap();
    let said = bench.on_catalog("status --prometheus folder").with_code(3);
    assert!(said.err.contains("folder is a directory"), "{said:?}");
}

#[test]
fn of_an_empty_repository_little_is_to_be_told() {
    let bench = Bench::new();
    bench.on_catalog("init").with_code(0);
    assert!(bench.on_catalog("status").with_code(2).out.starts_with("CRITICAL - "));
    assert!(bench.on_catalog("stats").with_code(0).out.contains("no complete run yet"));
    assert_eq!(bench.on_catalog("stats --full --json").with_code(0).json()[0]["whole"]["chunks"], 0);
    bench.on_catalog("volumes --lost disk1").with_code(2);
    bench.on_catalog("report page.html").with_code(0);
    let page = std::fs::read_to_string(bench.path("page.html")).unwrap();
    assert!(page.contains("nothing was ever backed up") && page.ends_with("</html>\n"), "{page}");
    assert!(bench.on_catalog("report").with_code(2).err.contains("which FILE"));
    let said = bench.on_catalog("report .").with_code(2);
    assert!(said.err.contains("is a directory"), "{said:?}");
    let said = bench.on_catalog("report nowhere/page.html").with_code(1);
    assert!(said.out.is_empty() && said.err.contains("cannot be written: No such file"), "{said:?}");
    let said = bench.on_catalog("volumes --lost ,").with_code(2);
    assert!(said.err.contains("there is no volume ``;"), "{said:?}");
}

#[test]
fn a_repository_that_can_take_no_byte_is_critical_before_a_backup_finds_out() {
    let bench = Bench::new();
    bench.on_catalog("init").with_code(0);
    bench.on_catalog("add-volume disk1").with_code(0);
    bench.write("src/f", b"x");
    bench.on_catalog("backup src -q").with_code(0);
    bench.on_catalog("status").with_code(0);
    bench.run("--catalog other.cat init").with_code(0);
    bench.run("--catalog other.cat add-volume full --reserve 900000G").with_code(0);
    let said = bench.run("--catalog other.cat volumes").with_code(0);
    assert!(said.out.contains("full    sealed"), "{said:?}");
    bench.on_catalog("add-volume full2 --reserve 900000G").with_code(0);
    let said = bench.on_catalog("status").with_code(1);
    assert!(said.out.contains("volume full2 is full and takes no more blocks"), "{said:?}");
    // The one with room is away.
    std::fs::rename(bench.path("disk1"), bench.path("away")).unwrap();
    let said = bench.on_catalog("status").with_code(2);
    assert!(said.out.starts_with("CRITICAL - no volume is here that can take a block"), "{said:?}");
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
fn a_catalog_that_may_only_be_read_says_what_is_needed() {
    let bench = Bench::new();
    bench.on_catalog("init").with_code(0);
    let chmod = |name: &str, mode: u32| {
        std::fs::set_permissions(bench.path(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    chmod("backup.cat", 0o644);
    chmod("", 0o755);
    std::fs::copy(env!("CARGO_BIN_EXE_raidtape"), bench.path("raidtape")).expect("room for the program");
    // Nobody, where this is root.
    let as_reader = |line: &str| -> crate::program::Said {
        let mut command = std::process::Command::new(bench.path("raidtape"));
        if rustix::process::geteuid().is_root() {
            std::os::unix::process::CommandExt::gid(&mut command, 65534);
            std::os::unix::process::CommandExt::uid(&mut command, 65534);
        }
        command.current_dir(bench.path("")).env_clear().env("TZ", "UTC").args(["--catalog", "backup.cat"]);
        command.args(line.split_whitespace()).output().expect("the program runs").into()
    };
    if !rustix::process::geteuid().is_root() {
        chmod("backup.cat", 0o444);
        chmod("", 0o555);
    }
    let words = "backup.cat cannot be opened: even reading it needs write permission to it and to its directory";
    assert!(as_reader("runs").with_code(1).err.contains(words), "{:?}", as_reader("runs"));
    let said = as_reader("status").with_code(3);
    assert!(said.out.starts_with("UNKNOWN - ") && said.out.contains(words), "{said:?}");
    chmod("", 0o755);
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
    assert!(said.err.contains("nothing was backed up yet"), "{}", said.err);
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

#[test]
fn a_run_goes_by_several_names_and_each_source_has_its_own_latest() {
    let bench = Bench::new();
    bench.on_catalog("init").with_code(0);
    bench.on_catalog("add-volume disk1").with_code(0);
    for text in ["one", "two", "three"] {
        bench.write("src/f", text.as_bytes());
        bench.on_catalog("backup src --name src -q").with_code(0);
    }
    let dump = |run: &str| bench.on_catalog(&format!("dump f --run {run}")).with_code(0).out;
    assert_eq!([dump("latest"), dump("latest~1"), dump("1"), dump("@2990-01-01")], ["three", "two", "one", "three"]);
    let said = bench.on_catalog("list-changes latest~2").with_code(0);
    assert!(said.out.contains("run 1, the first of its source"), "{}", said.out);
    let said = bench.on_catalog("ls --run latest~9").with_code(2);
    assert!(
        said.err.contains("there is no run latest~9: source ") && said.err.contains("3 complete runs"),
        "{}",
        said.err
    );
    let said = bench.on_catalog("revert-to-run @1999-12-31 back").with_code(2);
    assert!(said.err.contains("no complete run up to 1999-12-31"), "{}", said.err);
    let said = bench.on_catalog("ls --run 2026-09-01").with_code(2);
    assert!(said.err.contains("did you mean `@2026-09-01`?"), "{}", said.err);
    bench.write("other/g", b"x");
    bench.on_catalog("backup other --name other -q").with_code(0);
    for line in ["list-changes latest", "revert-to-run latest back", "genmeta --run latest~1"] {
        let said = bench.on_catalog(line).with_code(2);
        assert!(
            said.err.contains(":src, ") && said.err.contains(":other") && said.err.contains("--source"),
            "{line}: {said:?}"
        );
    }
    bench.on_catalog("revert-to-run latest~1 back --source src -q").with_code(0);
    assert_eq!(std::fs::read(bench.path("back/f")).unwrap(), b"two");
    assert_eq!(bench.on_catalog("ls --run latest --source other").with_code(0).out, "g\n");
}

#[test]
fn tags_labels_and_hosts_tell_runs_apart_and_outlive_the_catalog() {
    let bench = Bench::new();
    bench.on_catalog("init").with_code(0);
    bench.on_catalog("add-volume disk1").with_code(0);
    bench.write("src/f", b"x");
    let count = |filter: &str| {
        let document = bench.on_catalog(&format!("runs --json {filter}")).with_code(0).json();
        let runs = document[0]["runs"].as_array().unwrap().iter();
        runs.map(|run| run["run"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    bench.on_catalog("backup src -q").with_code(0);
    assert!(!bench.on_catalog("runs").with_code(0).out.contains("LABEL"));
    std::fs::copy(bench.path("backup.cat"), bench.path("old.cat")).unwrap();
    bench.on_catalog("backup src -q --tag trip,raw --tag best --label moving").with_code(0);
    bench.on_catalog("backup src -q --host attic --tag trip").with_code(0);
    for bad in ["--tag a,,b", "--host a:b"] {
        bench.on_catalog(&format!("backup src -n -q {bad}")).with_code(2);
    }
    let check = || {
        assert_eq!(
            (count("--tag trip"), count("--tag trip,best"), count("--tag raw --tag trip")),
            (vec![2, 3], vec![2], vec![2, 3])
        );
        assert_eq!(
            (count("--host attic"), count("--last 2"), count("--last 1 --tag raw")),
            (vec![3], vec![2, 3], vec![2])
        );
        assert_eq!((count("--since 2990-01-01"), count("--until 2990-01-01").len()), (vec![], 3));
        let document = bench.on_catalog("runs --json").with_code(0).json();
        let run = &document[0]["runs"][1];
        assert_eq!((&run["label"], &run["tags"]), (&"moving".into(), &serde_json::json!(["trip", "raw", "best"])));
        assert!(document[0]["runs"][0].get("label").is_none());
    };
    check();
    let said = bench.on_catalog("runs -v").with_code(0);
    assert!(said.out.contains("SIZE") && said.out.contains("  moving [trip,raw,best]"), "{}", said.out);
    std::fs::remove_file(bench.path("backup.cat")).unwrap();
    bench.on_catalog("rebuild-catalog --volume disk1 -q").with_code(0);
    check();
    // A catalog of the day before catches up by the records on the volume.
    std::fs::rename(bench.path("old.cat"), bench.path("backup.cat")).unwrap();
    bench.on_catalog("genmeta -q").with_code(0);
    check();
    let said = bench.on_catalog("runs --tag none").with_code(0);
    assert_eq!(said.out, "No run fits; `raidtape runs` lists all\n");
}

#[test]
fn a_listing_is_of_any_run_in_any_order_and_a_slip_is_answered() {
    let bench = Bench::new();
    bench.on_catalog("init").with_code(0);
    bench.on_catalog("add-volume disk1").with_code(0);
    bench.write("src/docs/large", &[b'x'; 5000]);
    bench.write("src/docs/small", b"x");
    bench.write("src/3:x", b"three");
    bench.on_catalog("backup src -q").with_code(0);
    std::fs::remove_file(bench.path("src/docs/large")).unwrap();
    bench.write("src/zoo", &[b'y'; 70]);
    bench.on_catalog("backup src -q").with_code(0);
    let ls = |line: &str| bench.on_catalog(&format!("ls {line}")).with_code(0).out;
    assert_eq!(ls("1:docs"), "docs/large\ndocs/small\n");
    assert_eq!((ls("docs"), ls("latest~1:docs/large")), ("docs/small\n".to_owned(), "docs/large\n".to_owned()));
    assert_eq!((ls("./3:x"), ls("2:3:x")), ("3:x\n".to_owned(), "3:x\n".to_owned()));
    assert_eq!(ls("-R 1: --sort size"), "docs/large\n3:x\ndocs/small\ndocs/\n");
    assert_eq!(ls("--sort size -r"), "docs/\n3:x\nzoo\n");
    assert_eq!(ls("-r"), "zoo\ndocs/\n3:x\n");
    assert!(ls("-l zoo").lines().all(|line| line.len() < 70), "{}", ls("-l zoo"));
    assert!(ls("-lv zoo").len() > ls("-l zoo").len());
    for (line, words) in [
        ("ls dosc/small", "did you mean docs/small?"),
        ("ls Zoo", "did you mean zoo?"),
        ("ls 1: --run 2", "named twice"),
        ("ls docs/large", "other runs have it: `raidtape history docs/large`"),
        ("ls 7:docs", "no run 7"),
        ("ls 3:x", "no run 3"),
    ] {
        let said = bench.on_catalog(line).with_code(2);
        assert!(said.err.contains(words), "{line}: {}", said.err);
    }
}
