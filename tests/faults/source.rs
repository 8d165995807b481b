//! Sources that do not hold still: whatever happens to a file while it is read, what is stored under its name either
//! existed at one instant, or says that it did not.

use crate::util::bench::{Bench, Said};
use crate::util::five::complete_runs;
use crate::util::needs::{RamFs, has_tools};
use crate::util::oracle::snapshot;
use crate::util::tree::{Rng, make_fifo, set_mtime, write};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Larger than what is read whole on one worker.
const LARGE: usize = 21 << 20;
/// Read by a single call.
const SMALL: usize = 200_000;

/// Two runs' worth of a bench: `src/victim` of so many bytes is in run 1, and differs now.
fn with_victim(len: usize) -> Bench {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    write(&bench.src(), "calm", b"calm");
    write(&bench.src(), "victim", &Rng(1).bytes(len));
    bench.backup();
    write(&bench.src(), "victim", &Rng(2).bytes(len + 10));
    bench
}

/// A backup whose reads of `src/victim` take a tenth of a second each; `meanwhile` runs once, in the midst of the
/// first reading.
fn backup_while(bench: &Bench, meanwhile: &mut dyn FnMut(&Path)) -> Said {
    let victim = bench.src().join("victim");
    let backup = bench.command(&["--json", "--no-progress", "backup", "src"]);
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qqq", "-o", "/dev/null", "-P"]).arg(&victim);
    traced.args(["-e", "trace=pread64", "-e", "inject=pread64:delay_enter=100000"]);
    traced.arg(backup.get_program()).args(backup.get_args()).current_dir(bench.path(""));
    traced.env("RAIDTAPE_CATALOG", bench.path("backup.cat")).stdin(Stdio::null());
    let child = traced.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until_open(&child, &victim);
    // The first piece of a large file is read by now, the second not yet; a small file is open and not read.
    let is_large = victim.metadata().unwrap().len() > SMALL as u64 * 2;
    std::thread::sleep(Duration::from_millis(if is_large { 150 } else { 30 }));
    meanwhile(&victim);
    child.wait_with_output().unwrap().into()
}

/// Waits until a child of `tracer` has the file open.
fn wait_until_open(tracer: &Child, file: &Path) {
    let begun = Instant::now();
    let children = PathBuf::from(format!("/proc/{0}/task/{0}/children", tracer.id()));
    while begun.elapsed() < Duration::from_secs(60) {
        let pids = fs::read_to_string(&children).unwrap_or_default();
        for pid in pids.split_whitespace() {
            let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            if fds.into_iter().any(|fd| fs::read_link(fd.path()).is_ok_and(|open| open == file)) {
                return;
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{} was never opened", file.display());
}

/// What happens once, in the midst of a reading, to a small and to a large file.
fn once(meanwhile: impl Fn(&Path)) -> Option<Vec<(Bench, Said)>> {
    has_tools(&["strace"]).then(|| {
        let each = [SMALL, LARGE].map(|len| {
            let bench = with_victim(len);
            let said = backup_while(&bench, &mut |victim| meanwhile(victim));
            (bench, said)
        });
        each.into()
    })
}

/// Expects that the run stored what is there now, soundly.
fn assert_is_stored_as_it_is_now(all: Option<Vec<(Bench, Said)>>) {
    for (bench, said) in all.into_iter().flatten() {
        let said = said.with_code(0);
        assert_eq!(said.summary()["run"], 2, "{said:#?}");
        bench.run(&["restore", "victim", "back"]).with_code(0);
        assert!(fs::read(bench.path("back")).unwrap() == fs::read(bench.src().join("victim")).unwrap());
        assert!(bench.query("SELECT path FROM files WHERE inconsistent = 1").is_empty());
    }
}

/// Expects that the run names the victim and keeps its version of the run before.
fn assert_is_named_and_keeps_its_last_version(all: Option<Vec<(Bench, Said)>>) {
    for (bench, said) in all.into_iter().flatten() {
        let said = said.with_code(3);
        assert_eq!(said.summary()["problems"][0]["path"], "victim", "{said:#?}");
        assert_eq!(complete_runs(&bench), [1, 2]);
        let len = bench.query("SELECT size FROM files WHERE path = 'victim'");
        assert!([SMALL, LARGE].iter().any(|size| len == [format!("Integer({size})")]), "{len:?}");
        bench.run(&["restore", "victim", "back"]).with_code(0);
        let back = fs::read(bench.path("back")).unwrap();
        assert!(back == Rng(1).bytes(back.len()));
    }
}

fn file(path: &Path) -> fs::File {
    OpenOptions::new().write(true).open(path).unwrap()
}

#[test]
fn a_file_that_grows_while_it_is_read_is_stored_whole() {
    // Made before: the reading does not wait for it.
    let more = Rng(3).bytes(5 << 20);
    assert_is_stored_as_it_is_now(once(|victim| {
        let mut file = OpenOptions::new().append(true).open(victim).unwrap();
        file.write_all(&more).unwrap();
    }));
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_stored_as_it_is_then() {
    assert_is_stored_as_it_is_now(once(|victim| file(victim).set_len(1000).unwrap()));
}

#[test]
fn a_file_that_is_overwritten_in_its_read_part_is_never_stored_as_a_mixture() {
    assert_is_stored_as_it_is_now(once(|victim| file(victim).write_all_at(b"changed", 5).unwrap()));
}

#[test]
fn content_that_changes_under_the_same_size_and_mtime_while_it_is_read_is_seen() {
    assert_is_stored_as_it_is_now(once(|victim| {
        let before = victim.metadata().unwrap();
        file(victim).write_all_at(b"changed", 5).unwrap();
        set_mtime(victim, (before.mtime(), before.mtime_nsec() as u32));
    }));
}

#[test]
fn a_file_that_is_replaced_by_another_while_it_is_read_is_stored_as_the_new_one() {
    assert_is_stored_as_it_is_now(once(|victim| {
        let beside = victim.parent().unwrap().parent().unwrap().join("beside");
        fs::write(&beside, Rng(4).bytes(300_000)).unwrap();
        fs::rename(beside, victim).unwrap();
    }));
}

#[test]
fn a_file_that_vanishes_while_it_is_read_is_named_and_not_deleted() {
    assert_is_named_and_keeps_its_last_version(once(|victim| fs::remove_file(victim).unwrap()));
}

#[test]
fn a_file_that_turns_into_a_symlink_while_it_is_read_is_not_followed() {
    assert_is_named_and_keeps_its_last_version(once(|victim| {
        fs::remove_file(victim).unwrap();
        symlink("calm", victim).unwrap();
    }));
}

#[test]
fn a_file_that_turns_into_a_folder_while_it_is_read_is_named() {
    assert_is_named_and_keeps_its_last_version(once(|victim| {
        fs::remove_file(victim).unwrap();
        fs::create_dir(victim).unwrap();
    }));
}

#[test]
fn a_file_that_turns_into_a_fifo_while_it_is_read_keeps_nobody_waiting() {
    assert_is_named_and_keeps_its_last_version(once(|victim| {
        fs::remove_file(victim).unwrap();
        make_fifo(victim);
    }));
}

#[test]
fn after_a_file_vanished_or_turned_into_something_else_the_next_run_has_what_is_there() {
    let Some(all) = once(|victim| {
        fs::remove_file(victim).unwrap();
        symlink("calm", victim).unwrap();
    }) else {
        return;
    };
    for (bench, _) in all {
        let tree = snapshot(&bench.src());
        let run = bench.backup()["run"].as_i64().unwrap();
        bench.assert_reverts(run, &tree);
        bench.assert_all_good();
    }
}

#[test]
fn content_that_changed_under_the_same_size_and_mtime_between_runs_is_stored() {
    let bench = with_victim(SMALL);
    bench.backup();
    // Settled: not read again for being fresh.
    std::thread::sleep(Duration::from_millis(2100));
    bench.backup();
    let victim = bench.src().join("victim");
    let before = victim.metadata().unwrap();
    file(&victim).write_all_at(b"changed", 5).unwrap();
    set_mtime(&victim, (before.mtime(), before.mtime_nsec() as u32));
    let report = bench.backup();
    assert_eq!(report["files_changed"], 1, "{report}");
    bench.assert_reverts(report["run"].as_i64().unwrap(), &snapshot(&bench.src()));
}

/// Counts up at both ends of the file, first at the start, as fast as it can: at every instant the two numbers are the
/// same, or the first is one ahead.
fn hammer(path: &Path, is_over: &AtomicBool) {
    let file = file(path);
    let end = file.metadata().unwrap().len() - 8;
    let mut number = 0_u64;
    while !is_over.load(Ordering::Relaxed) {
        number += 1;
        file.write_all_at(&number.to_le_bytes(), 0).unwrap();
        file.write_all_at(&number.to_le_bytes(), end).unwrap();
    }
}

/// Rounds of backing up a file that is hammered; how many versions passed as sound, and how many of those never were.
fn hammered(bench: &Bench, rounds: u32) -> (u32, u32) {
    let (mut sound, mut mixtures) = (0, 0);
    write(&bench.src(), "victim", &[0; 1 << 20]);
    let is_over = AtomicBool::new(false);
    let victim = bench.src().join("victim");
    std::thread::scope(|scope| {
        scope.spawn(|| hammer(&victim, &is_over));
        for _ in 0..rounds {
            let said = bench.run(&["backup", "src"]);
            let flags = bench.query("SELECT inconsistent FROM files WHERE path = 'victim'");
            assert_eq!(said.code == 3, flags == ["Integer(1)"], "{said:#?}");
            if said.code == 0 {
                sound += 1;
                bench.run(&["restore", "victim", "back", "--overwrite", "always"]).with_code(0);
                let bytes = fs::read(bench.path("back")).unwrap();
                let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
                let (first, last) = (number(0), number(bytes.len() - 8));
                mixtures += u32::from(first != last && first != last + 1);
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    (sound, mixtures)
}

#[test]
fn a_file_that_is_written_all_the_time_is_never_passed_off_as_sound() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    let (sound, mixtures) = hammered(&bench, 20);
    println!("20 runs under fire, {sound} passed as sound");
    assert_eq!(mixtures, 0);
}

#[test]
fn a_file_that_is_written_all_the_time_where_time_stands_still_between_ticks_is_never_passed_off_as_sound() {
    let bench = Bench::new().and_volumes(&["disk1"], &[]);
    // A file system whose times come from the timer's ticks: two changes within one look like one.
    let Some(_mount) = RamFs::mount(&bench.src()) else { return };
    let (sound, mixtures) = hammered(&bench, 40);
    println!("40 runs under fire, {sound} passed as sound");
    assert_eq!(mixtures, 0);
}
