//! Signals, closed outputs and limits of the process: a run goes on, or ends with the right exit code, and never
//! without a word.

use crate::util::bench::{Bench, Said};
use crate::util::five::{Known, complete_runs};
use crate::util::oracle::snapshot;
use crate::util::stage::Stage;
use crate::util::tracer::{Call, Fate, can_trace, trace};
use crate::util::tree::{Rng, write};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::process::{Command, Stdio};

const DISKS: [&str; 2] = ["disk1", "disk2"];
const REBUILD: [&str; 7] = ["--json", "--no-progress", "rebuild-catalog", "--volume", "disk1", "--volume", "disk2"];

/// Two complete runs, sidecars for the first, and something more to save.
fn stage() -> Stage {
    let bench = Bench::in_memory().and_volumes(&DISKS, &[]);
    let (mut known, mut rng) = (Known::default(), Rng(5));
    for file in 0..6 {
        write(&bench.src(), &format!("d{}/{file}", file % 3), &rng.bytes(40_000));
    }
    known.backup(&bench);
    bench.run(&["genmeta"]).with_code(0);
    write(&bench.src(), "d1/1", &rng.bytes(50_000));
    known.backup(&bench);
    write(&bench.src(), "d0/0", &rng.bytes(60_000));
    write(&bench.src(), "d4/new", &rng.bytes(70_000));
    Stage::new(bench, known)
}

/// The program as a shell starts it, after `before` and with `redirections`.
fn in_shell<A: AsRef<OsStr>>(bench: &Bench, (before, redirections): (&str, &str), args: &[A]) -> Command {
    let plain = bench.command(args);
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(format!("{before}; exec \"$0\" \"$@\" {redirections}"));
    command.arg(plain.get_program()).args(plain.get_args()).current_dir(bench.path("")).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    command
}

#[test]
fn a_signal_at_any_call_of_any_command_ends_it_with_its_exit_code_and_harms_nothing() {
    if !can_trace() {
        return;
    }
    let stage = stage();
    let bench = &stage.bench;
    let commands: [&[&str]; 5] = [
        &["--json", "--no-progress", "backup", "src"],
        &["--json", "--no-progress", "revert-to-run", "2", "dest"],
        &["--json", "--no-progress", "validate", "--deep"],
        &["--json", "--no-progress", "genmeta"],
        &REBUILD,
    ];
    for args in commands {
        let calls = stage.calls(args).len();
        let (mut stopped, mut done, mut early) = (0, 0, 0);
        for (round, number) in (0..calls).step_by(calls / 12).enumerate() {
            let (signal, code) = [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)][round % 2];
            stage.reset();
            let traced = trace(&bench.command(args), &bench.path(""), &mut |call| {
                if call.number == number { Fate::Meets(signal) } else { Fate::Passes }
            });
            let (said, what) = (traced.said, format!("{signal} at call {number} of {args:?}"));
            // Before it is asked to watch for signals it just ends.
            match said.code {
                0 => done += 1,
                ended if ended == code => {
                    stopped += 1;
                    assert!(said.err.contains("interrupted") && !said.err.contains("panicked"), "{what}: {said:#?}");
                }
                ended => {
                    assert_eq!(ended, -(signal as i32), "{what}: {said:#?}");
                    early += 1;
                }
            }
            if said.code == 0 && args.contains(&"revert-to-run") {
                continue;
            }
            if said.code != 0 {
                bench.run(args).with_code(0);
            }
            let mut known = stage.known_now();
            known.assert_holds(bench, &DISKS, &what);
        }
        println!("{args:?}: {stopped} stopped, {done} were done anyway, {early} had not begun");
        assert!(stopped > 0, "{args:?} cannot be stopped");
    }
}

#[test]
fn a_second_signal_ends_a_run_at_once_even_while_a_source_does_not_answer() {
    if !can_trace() {
        return;
    }
    let stage = stage();
    let bench = &stage.bench;
    let (int, term) = (Signal::SIGINT, Signal::SIGTERM);
    for (signals, code) in [([int, int], 130), ([term, term], 143), ([int, term], 143), ([term, int], 130)] {
        stage.reset();
        let reads = |call: &Call| matches!(call.name, "read" | "pread64") && call.path.ends_with("d4/new");
        let traced = trace(&bench.command(&["backup", "src"]), &bench.path(""), &mut |call| {
            if reads(call) { Fate::Hangs(signals) } else { Fate::Passes }
        });
        assert_eq!((traced.said.code, traced.met.len()), (code, 1), "{signals:?}: {:#?}", traced.said);
        stage.known_now().assert_holds(bench, &DISKS, &format!("{signals:?}"));
        // A volume that does not answer.
        stage.reset();
        let syncs = |call: &Call| call.name == "fdatasync" && call.path.starts_with("disk1");
        let traced = trace(&bench.command(&["backup", "src"]), &bench.path(""), &mut |call| {
            if syncs(call) { Fate::Hangs(signals) } else { Fate::Passes }
        });
        assert_eq!((traced.said.code, traced.met.len()), (code, 1), "{signals:?}: {:#?}", traced.said);
        stage.known_now().assert_holds(bench, &DISKS, &format!("{signals:?}"));
    }
}

#[test]
fn a_run_that_is_suspended_goes_on_when_it_is_continued() {
    let bench = Bench::in_memory().and_volumes(&DISKS, &["--block-size", "8M"]);
    let mut suspended = 0;
    for round in 0..20 {
        write(&bench.src(), "large", &Rng(round).bytes(12 << 20));
        let tree = snapshot(&bench.src());
        let child = bench.start(&["--json", "backup", "src", "--max-workers", "1"]);
        let pid = Pid::from_raw(child.id() as i32);
        let writes = || DISKS.iter().any(|disk| std::fs::read_dir(bench.path(disk).join("tmp")).unwrap().count() > 0);
        let state = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('Z')
        };
        while !writes() && state() != 'Z' {
            std::thread::yield_now();
        }
        kill(pid, Signal::SIGSTOP).unwrap();
        while !matches!(state(), 'T' | 'Z') {
            std::thread::yield_now();
        }
        if state() == 'T' {
            suspended += 1;
            assert!(writes(), "in the middle of a block");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        kill(pid, Signal::SIGCONT).unwrap();
        let said = Said::from(child.wait_with_output().unwrap()).with_code(0);
        bench.assert_reverts(said.summary()["run"].as_i64().unwrap(), &tree);
        if suspended == 3 {
            break;
        }
    }
    assert_eq!(suspended, 3);
    bench.assert_all_good();
}

#[test]
fn outputs_that_are_closed_or_full_never_stop_a_backup() {
    let bench = Bench::in_memory().and_volumes(&DISKS, &[]);
    let mut known = Known::default();
    let mut rng = Rng(6);
    let mut cases = 0;
    for redirections in
        [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>&1", "gone", "both gone"]
    {
        for how in [&["backup", "src"][..], &["--json", "backup", "src"], &["--verbose", "backup", "src"]] {
            write(&bench.src(), "changes", &rng.bytes(20_000));
            let tree = snapshot(&bench.src());
            let what = format!("{how:?} {redirections}");
            let code = if redirections.contains("gone") {
                with_readers_gone(&bench, how, redirections == "both gone")
            } else {
                in_shell(&bench, (":", redirections), how).output().unwrap().status.code().unwrap()
            };
            assert_eq!(code, 0, "{what}");
            let run = complete_runs(&bench).pop().unwrap();
            assert!(known.0.insert(run, tree.clone()).is_none(), "{what}: no new run");
            bench.assert_reverts(run, &tree);
            // What fails, fails as it does otherwise.
            let status = in_shell(&bench, (":", redirections.trim_start_matches("both ")), &["backup", "nowhere"]);
            if !redirections.contains("gone") {
                assert_eq!({ status }.output().unwrap().status.code(), Some(1), "{what}");
            }
            cases += 1;
        }
    }
    println!("{cases} runs with outputs that are closed or full");
    known.assert_holds(&bench, &DISKS, "outputs that are closed or full");
    // Nothing that was said went into a file of ours.
    assert_eq!(bench.query("PRAGMA integrity_check"), [r#"Text([111, 107])"#.to_owned()]);
}

/// The exit code of a command whose readers went away before it said anything.
fn with_readers_gone(bench: &Bench, args: &[&str], both: bool) -> i32 {
    let mut command = bench.command(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(if both { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    child.wait().unwrap().code().unwrap()
}

#[test]
fn a_limit_on_the_length_of_files_is_told_and_harms_nothing() {
    let stage = stage();
    let bench = &stage.bench;
    let mut told = 0;
    // In units of 512 bytes: of nothing, of the first pages of the catalog's journal, of the data.
    for limit in [0, 1, 8, 20, 40, 70, 100, 150, 200, 300] {
        let what = format!("ulimit -f {limit}");
        for args in [&["--no-progress", "backup", "src"][..], &["genmeta"], &["revert-to-run", "2", "dest"], &REBUILD] {
            stage.reset();
            let output = in_shell(bench, (&what, ""), args).output().unwrap();
            let said = Said::from(output);
            assert!([0, 1, 3, 4, 5].contains(&said.code), "{what}: {args:?}: {said:#?}");
            assert!(said.code == 0 || !said.err.is_empty() || !said.out.is_empty(), "{what}: {args:?}: {said:#?}");
            assert!(!said.err.contains("panicked"), "{what}: {args:?}: {said:#?}");
            told += usize::from(said.code != 0);
            let mut known = stage.known.clone();
            if args.contains(&"backup") {
                assert!([0, 1, 5].contains(&said.code), "{what}: {args:?}: {said:#?}");
                let is_new = complete_runs(bench).len() > known.0.len();
                assert_eq!(is_new, said.code == 0, "{what}: {args:?}: {said:#?}");
                known = stage.known_now();
            }
            known.assert_holds(bench, &DISKS, &format!("{what}: {args:?}"));
        }
    }
    println!("{told} commands met the limit");
    assert!(told > 10);
}

#[test]
fn sixty_four_descriptors_are_enough_for_every_command() {
    let bench = Bench::in_memory().and_volumes(&DISKS, &[]);
    for file in 0..400 {
        write(&bench.src(), &format!("d{}/e{}/{file}", file % 7, file % 90), format!("file {file}").as_bytes());
    }
    let deep: Vec<String> = (0..300).map(|level| format!("level{level}")).collect();
    write(&bench.src(), &format!("{}/bottom", deep.join("/")), b"far down");
    for side in 0..30 {
        write(&bench.src(), &format!("{}/side{side}", deep[..side * 10].join("/")), b"on the way");
    }
    let tree = snapshot(&bench.src());
    let few = |args: &[&str]| {
        let said = Said::from(in_shell(&bench, ("ulimit -n 64", ""), args).output().unwrap()).with_code(0);
        assert!(said.err.is_empty(), "{args:?}: {said:#?}");
    };
    few(&["--no-progress", "backup", "src"]);
    write(&bench.src(), "d1/changed", b"changed");
    few(&["--no-progress", "backup", "src", "--max-workers", "8"]);
    few(&["--no-progress", "genmeta"]);
    few(&["--no-progress", "validate", "--deep"]);
    few(&["--no-progress", "revert-to-run", "1", "dest", "--max-workers", "8"]);
    snapshot(&bench.path("dest")).assert_is(&tree, "with 64 descriptors");
    few(&["--no-progress", "restore-folder", "level0", "folder"]);
    few(&["--no-progress", "ls", "-R"]);
    few(&["--no-progress", "rebuild-catalog", "--volume", "disk1", "--volume", "disk2"]);
    let mut known = Known([(1, tree), (2, snapshot(&bench.src()))].into());
    known.assert_holds(&bench, &DISKS, "with 64 descriptors");
}
