//! Mishaps of a kind that is met in life: a file that never holds still, a target that fills up, data that is lost for
//! good. Faults one by one, each call and each instant, are in `tests/faults/`.

use crate::util::bench::{Bench, Said};
use crate::util::needs::Tmpfs;
use crate::util::oracle::snapshot;
use crate::util::tree::{Rng, flip, grow, overwrite, write};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

/// A backup while somebody writes into a file all the time.
fn backup_under_change(bench: &Bench) -> Said {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Several: one alone may have to wait for a processor as long as the file is read.
        for seed in 2..6 {
            let is_over = &is_over;
            scope.spawn(move || {
                let mut rng = Rng(seed);
                while !is_over.load(Ordering::Relaxed) {
                    overwrite(&bench.path("src/database"), rng.below(24 << 20), &rng.bytes(64));
                }
            });
        }
        let said = bench.run(&["backup", "src"]);
        is_over.store(true, Ordering::Relaxed);
        said
    })
    .with_code(3)
}

#[test]
fn a_file_that_never_holds_still_is_kept_and_never_passed_off_as_sound() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    write(&bench.src(), "calm", b"calm");
    write(&bench.src(), "database", &Rng(1).bytes(24 << 20));
    let said = backup_under_change(&bench);
    assert!(said.err.contains("database") && !said.err.contains("calm"), "{said:#?}");
    let said = bench.run(&["revert-to-run", "1", "dest"]);
    assert!(said.err.contains("database") && said.err.contains("changed while"), "{said:#?}");
    assert_eq!(bench.path("dest/database").metadata().unwrap().len(), 24 << 20);
    assert_eq!(bench.query("SELECT path FROM files WHERE inconsistent = 1").len(), 1);
    let said = backup_under_change(&bench);
    assert!(said.out.contains("added 0, modified 1, metadata 0, deleted 0, unchanged 2\n"), "{said:#?}");
    // It holds still now: the next run has it soundly.
    let now = snapshot(&bench.src());
    bench.backup();
    bench.assert_reverts(3, &now);
    assert!(bench.query("SELECT path FROM files WHERE inconsistent = 1").is_empty());
    bench.assert_all_good();
}

#[test]
fn a_restore_onto_a_disk_that_fills_up_says_so_and_goes_on_when_there_is_room() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    grow(&bench.src(), 3);
    bench.backup();
    let Some(mount) = Tmpfs::mount(&bench.path("target"), 8) else { return };
    let said = bench.run(&["revert-to-run", "1", "target/dest"]);
    assert!([1, 4].contains(&said.code), "{said:#?}");
    assert!(said.err.contains("full"), "{said:#?}");
    mount.resize(200);
    bench.run(&["revert-to-run", "1", "target/dest"]).with_code(0);
    snapshot(&bench.path("target/dest")).assert_is(&snapshot(&bench.src()), "after the second try");
}

#[test]
fn damage_of_what_the_source_no_longer_has_stays_named_and_harms_nothing_else() {
    let bench = Bench::with_volumes(&["disk1"], &["--block-size", "8M"]);
    write(&bench.src(), "stays/a", &Rng(1).bytes(400_000));
    bench.backup();
    let before = bench.blocks("disk1");
    write(&bench.src(), "goes/b", &Rng(2).bytes(3_000_000));
    bench.backup();
    let hit = bench.blocks("disk1").into_iter().find(|(name, _)| !before.contains_key(name)).unwrap().1;
    fs::remove_dir_all(bench.path("src/goes")).unwrap();
    let now = snapshot(&bench.src());
    bench.backup();
    flip(&hit, 1_000_000);
    for _ in 0..2 {
        let said = bench.run(&["validate"]).with_code(4);
        assert!(said.err.contains("goes/b") && said.err.contains("run 2"), "{said:#?}");
        bench.run(&["restore", "goes/b", "b", "--run", "2"]).with_code(4).with_sentence(&["goes/b"]);
        assert!(!bench.path("b").exists());
        let run = bench.backup()["run"].as_i64().unwrap();
        bench.assert_reverts(run, &now);
        bench.assert_reverts(3, &now);
    }
    // The same bytes come back: then the old run has them again too.
    write(&bench.src(), "found/elsewhere", &Rng(2).bytes(3_000_000));
    let report = bench.backup();
    assert!(report["data_added"].as_u64().unwrap() > 0, "{report}");
    bench.run(&["restore", "goes/b", "b", "--run", "2"]).with_code(0);
    assert!(fs::read(bench.path("b")).unwrap() == Rng(2).bytes(3_000_000));
    bench.assert_all_good();
}

#[test]
fn a_whole_volume_that_is_lost_costs_only_what_it_held_and_the_next_run_stores_that_again() {
    let bench = Bench::with_volumes(&["disk1", "disk2"], &["--block-size", "8M"]);
    grow(&bench.src(), 1);
    let tree = snapshot(&bench.src());
    bench.backup();
    assert!(!bench.blocks("disk1").is_empty() && !bench.blocks("disk2").is_empty());
    // The disk is there, but all its blocks are gone.
    fs::remove_dir_all(bench.path("disk2/chunks")).unwrap();
    fs::create_dir(bench.path("disk2/chunks")).unwrap();
    bench.run(&["validate"]).with_code(4);
    let report = bench.backup();
    assert!(report["data_added"].as_u64().unwrap() > 0, "{report}");
    bench.assert_reverts(2, &tree);
    bench.assert_reverts(1, &tree);
    bench.assert_all_good();
}
