//! Restores that were cut off, taken up again: what counts as restored has been read, whatever happened in between.

use crate::util::bench::{Bench, Said};
use crate::util::needs::has_tools;
use crate::util::oracle::snapshot;
use crate::util::tree::{Rng, overwrite, set_mtime, write};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

fn ready() -> Bench {
    let bench = Bench::new().and_volumes(&["disk1"], &["--block-size", "8M"]);
    for file in 0..40 {
        write(&bench.src(), &format!("d{}/{file}", file % 4), &Rng(file).bytes(300_000 + file as usize));
    }
    bench.backup();
    bench
}

/// A restore that was killed after some files, with those that it had finished: never fewer than three.
fn killed_restore(bench: &Bench) -> Vec<std::path::PathBuf> {
    let mut child = bench.start(&["--no-progress", "revert-to-run", "1", "dest"]);
    let finished = || {
        let found = walkdir::WalkDir::new(bench.path("dest")).into_iter().flatten();
        let files =
            found.filter(|entry| entry.file_type().is_file() && !entry.file_name().to_string_lossy().starts_with('.'));
        files.map(walkdir::DirEntry::into_path).collect::<Vec<_>>()
    };
    while finished().len() < 5 && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    assert_eq!(Said::from(child.wait_with_output().unwrap()).code, -9, "it was quicker than the test");
    // Of a file that was being made when the process ended, a part may have its name; it counts for nothing.
    let is_whole = |path: &std::path::PathBuf| {
        let source = bench.src().join(path.strip_prefix(bench.path("dest")).unwrap());
        let times = [path, &source].map(|path| path.metadata().unwrap().modified().unwrap());
        times[0] == times[1] && fs::read(path).unwrap() == fs::read(source).unwrap()
    };
    let mut whole = finished();
    whole.retain(is_whole);
    whole
}

#[test]
fn a_restore_that_goes_on_after_a_power_cut_does_not_trust_sizes_and_times() {
    let bench = ready();
    let finished = killed_restore(&bench);
    // What a file system may make of a file whose bytes were not written out: as long as it was, and nothing but zeros.
    for path in &finished[..3] {
        let before = path.metadata().unwrap();
        overwrite(path, 0, &vec![0; before.len() as usize]);
        set_mtime(path, (before.mtime(), before.mtime_nsec() as u32));
    }
    let report = bench.json(&["revert-to-run", "1", "dest"], 0);
    assert_eq!(report["skipped_existing"].as_u64().unwrap() as usize, finished.len() - 3, "{report}");
    snapshot(&bench.path("dest")).assert_is(&snapshot(&bench.src()), "resumed");
}

#[test]
fn what_a_killed_restore_left_is_never_kept_unchecked_at_the_user_s_word() {
    let bench = ready();
    let finished = killed_restore(&bench);
    // Bytes that are not the file's under its name, younger than what it is to be.
    overwrite(&finished[0], 100_000, &[0; 1000]);
    for overwrite in ["never", "if-newer"] {
        let refused = bench.run(&["revert-to-run", "1", "dest", "--overwrite", overwrite]).with_code(2);
        refused.with_sentence(&["unfinished restore", "--overwrite"]);
    }
    let one = finished[0].strip_prefix(bench.path("dest")).unwrap().to_str().unwrap().to_owned();
    let top = one.split('/').next().unwrap().to_owned();
    let into = |name: &str| format!("dest/{name}");
    bench.run(&["restore-folder", &top, &into(&top), "--overwrite", "never"]).with_code(2);
    bench.run(&["restore", &one, &into(&one), "--overwrite", "if-newer"]).with_code(2);
    // Another restore over it that is cut off as well does not make it forgotten.
    let mut over = bench.start(&["--no-progress", "revert-to-run", "1", "dest", "--overwrite", "always"]);
    let marker = bench.path("dest/.raidtape-restore");
    while !fs::read_to_string(&marker).is_ok_and(|words| words.contains("of an earlier one")) {
        assert!(over.try_wait().unwrap().is_none(), "it was quicker than the test");
    }
    over.kill().unwrap();
    over.wait().unwrap();
    bench.run(&["revert-to-run", "1", "dest", "--overwrite", "never"]).with_code(2);
    bench.run(&["revert-to-run", "1", "dest"]).with_code(0);
    snapshot(&bench.path("dest")).assert_is(&snapshot(&bench.src()), "gone on with");
}

#[test]
fn a_restore_whose_marker_cannot_be_taken_away_does_not_count_as_done() {
    if !has_tools(&["strace"]) {
        return;
    }
    let bench = ready();
    let restore = bench.command(&["--no-progress", "revert-to-run", "1", "dest"]);
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qqq", "-o", "/dev/null", "-e", "trace=unlinkat", "-e", "inject=unlinkat:error=EROFS"]);
    traced.arg(restore.get_program()).args(restore.get_args()).current_dir(bench.path(""));
    traced.env("RAIDTAPE_CATALOG", bench.path("backup.cat")).stdin(Stdio::null());
    let said = Said::from(traced.output().unwrap()).with_code(1);
    assert!(said.err.contains("read-only") && bench.path("dest/.raidtape-restore").exists(), "{said:#?}");
    bench.run(&["revert-to-run", "1", "dest"]).with_code(0);
    snapshot(&bench.path("dest")).assert_is(&snapshot(&bench.src()), "the second try");
}

#[test]
fn a_restore_that_was_killed_before_its_marker_had_a_name_begins_again() {
    let bench = ready();
    write(&bench.path("dest"), ".raidtape-tmp-0123456789abcdef-1", b"An unfin");
    bench.run(&["revert-to-run", "1", "dest"]).with_code(0);
    snapshot(&bench.path("dest")).assert_is(&snapshot(&bench.src()), "begun again");
    // Anything else in there is the user's.
    write(&bench.path("other"), ".raidtape-tmp-0123456789abcdef-1", b"An unfin");
    write(&bench.path("other"), "letter", b"dear");
    bench.run(&["revert-to-run", "1", "other"]).with_code(2).with_sentence(&["not empty"]);
    assert_eq!(fs::read_dir(bench.path("other")).unwrap().count(), 2);
}
