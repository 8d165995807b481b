//! Streams in place of trees: what comes from standard input or a command comes back byte for byte, and half of it is
//! never passed off as all.

use crate::util::bench::{Bench, Said};
use crate::util::oracle::snapshot;
use crate::util::tree::{Rng, write};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn ready() -> Bench {
    Bench::in_memory().and_volumes(&["disk1"], &[])
}

/// Backs up what the shell's script writes, as `db.sql`.
fn of_shell(bench: &Bench, script: &str) -> Said {
    let args =
        ["--json", "backup", "--stdin-filename", "db.sql", "--stdin-from-command", "--", "/bin/sh", "-c", script];
    bench.run(&args)
}

fn restored(bench: &Bench, args: &[&str]) -> Vec<u8> {
    let dest = bench.fresh("restored");
    bench.run(&[&["restore", "db.sql", dest.to_str().unwrap()], args].concat()).with_code(0);
    let mut bytes = Vec::new();
    File::open(&dest).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(dest.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    bytes
}

#[test]
fn a_long_stream_comes_back_byte_for_byte_and_what_did_not_change_is_stored_once() {
    let bench = ready();
    let seed = Rng(7).bytes(1 << 20);
    // Not a whole number of pieces, with zeros in it, and no MiB like another.
    let mut all = Vec::with_capacity(107 << 20);
    for number in 0..105_u8 {
        all.extend(seed.iter().map(|byte| byte.wrapping_mul(number | 1) ^ number));
    }
    all.extend([vec![0; 1 << 20], b"the end".to_vec()].concat());
    fs::write(bench.path("dump"), &all).unwrap();
    let dump = bench.path("dump").display().to_string();
    let first = of_shell(&bench, &format!("cat {dump}")).with_code(0).summary();
    let host = first["source"].as_str().unwrap().split_once(':').unwrap().1;
    assert_eq!((&first["files_new"], &first["total_bytes_processed"]), (&2.into(), &all.len().into()), "{first:#}");
    assert_eq!(host, "stdin:db.sql");
    assert!(restored(&bench, &[]) == all);
    let hash = blake3::hash(&all).to_hex();
    assert_eq!(bench.query(&format!("SELECT path = 'db.sql' FROM files WHERE file_hash = '{hash}'")), ["Integer(1)"]);
    // The same by another way, on one thread: nothing new.
    let mut command =
        bench.command(&["--json", "backup", "--stdin", "--stdin-filename", "db.sql", "--single-threaded"]);
    let second: Said = command.stdin(File::open(bench.path("dump")).unwrap()).output().unwrap().into();
    let second = second.with_code(0).summary();
    assert_eq!(
        (&second["data_added"], &second["blocks_written"], &second["files_new"]),
        (&0.into(), &0.into(), &0.into())
    );
    // A little in front moves all the rest.
    let third = of_shell(&bench, &format!("echo more; cat {dump}")).with_code(0).summary();
    assert!(third["data_added"].as_u64().unwrap() < 8 << 20, "{third:#}");
    assert!(restored(&bench, &["--run", "1"]) == all);
    assert!(restored(&bench, &["--run", "3"]) == [b"more\n", all.as_slice()].concat());
    bench.assert_all_good();
}

#[test]
fn a_command_that_fails_leaves_no_run() {
    let bench = ready();
    of_shell(&bench, "echo sound").with_code(0);
    let failing = [
        ("exit 1", "exit status 1"),
        ("echo x; exit 3", "exit status 3"),
        ("echo x; kill -9 $$", "signal 9"),
        ("head -c 30000000 /dev/urandom; exit 7", "exit status 7"),
        ("exec /nowhere", "exit status 127"),
    ];
    for (script, how) in failing {
        for threads in [&["--max-workers", "2"][..], &["--single-threaded"]] {
            let command = ["--stdin-filename", "db.sql", "--stdin-from-command", "--", "/bin/sh", "-c", script];
            let said = bench.run(&[&["backup"][..], threads, &command].concat()).with_code(1);
            said.with_sentence(&[how, script, "no run was saved"]);
        }
    }
    let missing = bench.run(&["backup", "--stdin-from-command", "--", "/nowhere/pg_dump"]).with_code(1);
    missing.with_sentence(&["/nowhere/pg_dump", "cannot be started"]);
    assert_eq!(bench.query("SELECT count(*) FROM runs WHERE state = 'complete'"), ["Integer(1)"]);
    assert_eq!(restored(&bench, &[]), b"sound\n");
    let next = of_shell(&bench, "echo sound again").with_code(0).summary();
    assert_eq!(next["files_changed"], 1);
    bench.assert_all_good();
}

#[test]
fn an_empty_stream_is_an_empty_file_and_names_that_are_no_longer_read_end_as_not_selected() {
    let bench = ready();
    of_shell(&bench, "true").with_code(0);
    assert_eq!(restored(&bench, &[]), b"");
    for name in ["a", "c", "b"] {
        let args = ["backup", "--name", "all", "--stdin-filename", name, "--stdin-from-command", "--", "/bin/echo"];
        bench.run(&[&args[..], &[name]].concat()).with_code(0);
    }
    let changes = bench.run(&["list-changes", "latest", "--source", "all"]).with_code(0);
    assert!(changes.out.contains("+ b\n") && changes.out.contains("x c\n"), "{changes:#?}");
    let dest = bench.path("whole");
    bench.run(&["revert-to-run", "4", dest.to_str().unwrap()]).with_code(0);
    assert_eq!(fs::read(dest.join("b")).unwrap(), b"b\n");
    assert_eq!(snapshot(&dest).0.len(), 2);
    // The disks alone bring it back.
    fs::remove_file(bench.path("backup.cat")).unwrap();
    bench.run(&["rebuild-catalog", "--volume", "disk1"]).with_code(0);
    let next = bench
        .json(&["backup", "--name", "all", "--stdin-filename", "b", "--stdin-from-command", "--", "/bin/echo", "b"], 0);
    assert_eq!((&next["data_added"], &next["files_deleted"]), (&0.into(), &0.into()));
    bench.assert_all_good();
}

#[test]
fn requests_that_make_no_sense_are_refused_before_anything_is_run() {
    let bench = ready();
    write(&bench.src(), "f", b"f");
    let touch = ["--stdin-from-command", "--", "/bin/touch", "was-run"];
    bench.run(&["backup", "src", "--name", "tree"]).with_code(0);
    bench.run(&["backup", "--name", "stream", "--stdin"]).with_code(0);
    let refused = |args: &[&str], words: &[&str]| {
        let said = bench.run(&[&["backup"], args].concat()).with_code(2);
        words.iter().for_each(|word| assert!(said.err.contains(word), "no {word}: {said:#?}"));
        assert!(!bench.path("was-run").exists());
    };
    refused(&[&["--name", "tree"], &touch[..]].concat(), &["tree", "a single directory", "--name"]);
    refused(&["src", "--name", "stream"], &["stream", "--name"]);
    refused(&[&["--stdin-filename", "a/b"], &touch[..]].concat(), &["a/b", "one name"]);
    refused(&[&["src"], &touch[..]].concat(), &["cannot be used with"]);
    refused(&["src", "--stdin"], &["cannot be used with"]);
    refused(&["--stdin", "-e", "*.o"], &["cannot be used with"]);
    refused(&["--stdin-from-command"], &["CMD"]);
    // Without the option these are directories.
    refused(&["src", "--", "/bin/touch", "was-run"], &["several directories"]);
    refused(&[], &["DIR"]);
    let none = Bench::new();
    let said = none.run(&["backup", "--volume", "disk1", "--stdin"]).with_code(0);
    assert!(said.out.contains("Created the catalog"), "{said:#?}");
}

#[test]
fn a_stream_in_which_nothing_comes_can_be_interrupted() {
    let bench = ready();
    for args in [&["--stdin"][..], &["--stdin-from-command", "--", "/bin/sleep", "1000"]] {
        let mut command = bench.command(&[&["--no-progress", "backup"], args].concat());
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let _ = stdin.write_all(b"the beginning of something");
        let began = Instant::now();
        while bench.query("SELECT count(*) FROM runs WHERE state = 'open'") == ["Integer(0)"] {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        let said: Said = child.wait_with_output().unwrap().into();
        drop(stdin);
        said.with_code(143).with_sentence(&["interrupted"]);
    }
    assert_eq!(bench.query("SELECT count(*) FROM runs WHERE state = 'complete'"), ["Integer(0)"]);
}

#[test]
fn without_stdin_or_stdout_nothing_is_read_from_or_written_to_nowhere() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    write(&bench.src(), "f", b"x");
    bench.backup();
    let shell = |redirect: &str, args: &[&str]| {
        let plain = bench.command(args);
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("exec \"$0\" \"$@\" {redirect}")]).arg(plain.get_program()).args(args);
        shell.current_dir(bench.path("")).envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Said::from(shell.output().unwrap())
    };
    for args in [&["dump", "f"][..], &["ls"], &["runs"], &["volumes"], &["list-changes", "1"]] {
        shell(">&-", args).with_code(1).with_sentence(&["stdout"]);
        for somewhere in [">/dev/null", "1<>/dev/null", "<&-"] {
            shell(somewhere, args).with_code(0);
        }
    }
    for args in [
        &["backup", "--stdin"][..],
        &["backup", "src", "--files-from", "-"],
        &["backup", "src", "--files-from-raw", "-"],
    ] {
        shell("<&-", args).with_code(2).with_sentence(&["no standard input"]);
    }
    assert_eq!(bench.json(&["runs"], 0)["runs"].as_array().unwrap().len(), 1);
    // What was opened on nothing is what somebody wanted, and what is stored needs no words.
    for nothing in ["</dev/null", "0<>/dev/null"] {
        shell(nothing, &["backup", "--stdin"]).with_code(0);
    }
    shell("<&- >&-", &["backup", "src"]).with_code(0);
}
