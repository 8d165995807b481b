//! Waiting for a lock that another process has.

use crate::program::Bench;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("src/file", b"text");
    bench.on_catalog("init").with_code(0);
    bench.on_catalog("add-volume disk1").with_code(0);
    bench
}

/// Holds a lock as another process of ours would.
fn held(path: &Path) -> File {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path).expect("a lock file");
    file.lock().expect("a lock that nobody has");
    file
}

/// The program, once it has said that it waits.
fn waiting(bench: &Bench, line: &str) -> (Child, BufReader<ChildStderr>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raidtape"));
    command.current_dir(bench.path("")).env_clear().env("HOME", bench.path(""));
    command.args(["--catalog", "backup.cat"]).args(line.split(' '));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
    let mut err = BufReader::new(child.stderr.take().expect("its stderr"));
    let mut first = String::new();
    err.read_line(&mut first).expect("a line");
    (child, err, first)
}

#[test]
fn a_command_waits_for_the_catalog_and_for_a_volume_and_then_goes_on() {
    let bench = bench();
    for lock in ["backup.cat.lock", "disk1/lock"] {
        let lock = held(&bench.path(lock));
        assert_eq!(bench.on_catalog("backup src").code, 11);
        let (child, _err, said) = waiting(&bench, "--retry-lock 5m backup src");
        assert!(said.contains("waiting up to 5 min 0 s"), "{said}");
        drop(lock);
        assert!(child.wait_with_output().unwrap().status.success());
    }
    assert_eq!(bench.on_catalog("runs").with_code(0).out.lines().count(), 3);
}

#[test]
fn when_the_time_is_over_the_answer_is_that_of_the_last_try() {
    let bench = bench();
    let _lock = held(&bench.path("backup.cat.lock"));
    let said = bench.on_catalog("backup src --retry-lock 0s").with_code(11);
    assert!(!said.err.contains("waiting"), "{said:?}");
    let said = bench.on_catalog("-q backup src --retry-lock 1s").with_code(11);
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
    let (child, _err, said) = waiting(&bench, "--json --retry-lock 1s validate");
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&said["message_type"], &said["seconds_left"]), (&"waiting".into(), &1.into()));
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(11));
}

#[test]
fn a_signal_ends_the_waiting() {
    let bench = bench();
    let _lock = held(&bench.path("backup.cat.lock"));
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let (child, _err, _) = waiting(&bench, "--retry-lock 5m genmeta");
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        assert_eq!(child.wait_with_output().unwrap().status.code(), Some(code));
    }
}

#[test]
fn nice_sets_the_priority_of_the_whole_process() {
    let bench = bench();
    let lock = held(&bench.path("backup.cat.lock"));
    let (child, _err, _) = waiting(&bench, "--nice 11 --retry-lock 5m genmeta");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let behind = stat.rsplit_once(')').unwrap().1;
    assert_eq!(behind.split_whitespace().nth(16), Some("11"), "{stat}");
    drop(lock);
    assert!(child.wait_with_output().unwrap().status.success());
}
