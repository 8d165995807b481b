//! Stored bytes go bad: it is found, named, kept from doing harm, and healed from the source.

use crate::util::bench::Bench;
use crate::util::oracle::snapshot;
use crate::util::tree::{Rng, flip, grow, set_mode, write};
use std::fs;
use std::path::PathBuf;

/// One file of its own in a block of its own, beside a tree in others.
fn with_victim() -> (Bench, String, PathBuf) {
    let bench = Bench::with_volumes(&["disk1", "disk2"], &["--block-size", "8M"]);
    grow(&bench.src(), 1);
    bench.backup();
    let before: Vec<String> = ["disk1", "disk2"].iter().flat_map(|disk| bench.blocks(disk).into_keys()).collect();
    write(&bench.src(), "victims/the victim", &Rng(77).bytes(3 << 20));
    bench.backup();
    let mut new =
        ["disk1", "disk2"].iter().flat_map(|disk| bench.blocks(disk)).filter(|(name, _)| !before.contains(name));
    let (name, path) = new.next().unwrap();
    assert!(new.next().is_none());
    drop(new);
    (bench, name, path)
}

/// Damage of the victim's block, whatever it is, is found, named, kept apart and healed.
fn is_found_and_healed(harm: impl FnOnce(&PathBuf)) {
    let (bench, name, path) = with_victim();
    let tree = snapshot(&bench.src());
    let len = path.metadata().unwrap().len();
    harm(&path);
    let said = bench.run(&["validate"]).with_code(4);
    assert!(said.out.ends_with("Uh oh: 1 blocks damaged\n"), "{said:#?}");
    let disk = path.strip_prefix(bench.path("")).unwrap().iter().next().unwrap().to_str().unwrap().to_owned();
    for word in [&name[..], &disk, "victims/the victim", "run 2"] {
        assert!(said.err.contains(word), "no {word:?} in {said:#?}");
    }
    assert!(!said.err.contains("big/random.bin"), "{said:#?}");
    // All others come back; the hit one is refused by name, and nothing lies under its name.
    let dest = bench.fresh("partly");
    let said = bench.run(&["revert-to-run", "2", dest.to_str().unwrap()]).with_code(4);
    assert!(said.err.contains("victims/the victim"), "{said:#?}");
    let mut wanted = tree.clone();
    wanted.0.remove(&b"victims/the victim"[..]);
    snapshot(&dest).assert_is(&wanted, "all but the victim");
    let said = bench.run(&["restore", "victims/the victim", "alone"]).with_code(4);
    assert!(said.err.contains("the victim") && !bench.path("alone").exists(), "{said:#?}");
    bench.assert_reverts(1, &{
        let mut first = tree.clone();
        first.0.retain(|path, _| !path.starts_with(b"victims"));
        first.0.insert(Vec::new(), snapshot_root(&bench, 1));
        first
    });
    // The source still has it.
    let report = bench.backup();
    assert!(report["data_added"].as_u64().unwrap() >= 3 << 20, "{report}");
    assert_eq!((&report["files_new"], &report["files_changed"]), (&0.into(), &0.into()), "{report}");
    for run in [2, 3] {
        bench.assert_reverts(run, &tree);
    }
    let said = bench.run(&["validate", "--deep"]);
    assert!(said.code == 0 && said.out.ends_with("All good\n"), "after healing: {said:#?}");
    bench.run(&["restore", "victims/the victim", "alone"]).with_code(0);
    // What was healed is healed for a rebuilt catalog too.
    fs::remove_file(bench.path("backup.cat")).unwrap();
    bench.json(&["rebuild-catalog", "--volume", "disk1", "--volume", "disk2"], 0);
    for run in [2, 3] {
        bench.assert_reverts(run, &tree);
    }
    // It meets damage that no listing shows again, needs nothing of it, and is done with it after one more run.
    let said = bench.run(&["validate"]);
    assert_eq!(said.code, if path.exists() && path.metadata().unwrap().len() == len { 4 } else { 0 }, "{said:#?}");
    assert!(!said.err.contains("the victim"), "{said:#?}");
    assert_eq!(bench.backup()["data_added"], 0);
    bench.assert_all_good();
}

/// Damage that leaves every chunk readable is found and named too, harms no file, and is gone after the next backup.
fn is_found_and_harms_no_file(harm: impl FnOnce(&PathBuf)) {
    let (bench, name, path) = with_victim();
    let tree = snapshot(&bench.src());
    harm(&path);
    let said = bench.run(&["validate"]).with_code(4);
    assert!(said.out.ends_with("Uh oh: 1 blocks damaged\n"), "{said:#?}");
    assert!(said.err.contains(&name) && said.err.contains("can still be read"), "{said:#?}");
    assert!(said.err.contains("nothing is lost") && !said.err.contains("no file needs it"), "{said:#?}");
    bench.assert_reverts(2, &tree);
    bench.backup();
    bench.assert_reverts(2, &tree);
    bench.assert_reverts(3, &tree);
    let said = bench.run(&["validate", "--deep"]);
    assert!(said.code == 0 && said.out.ends_with("All good\n"), "after healing: {said:#?}");
    fs::remove_file(bench.path("backup.cat")).unwrap();
    bench.json(&["rebuild-catalog", "--volume", "disk1", "--volume", "disk2"], 0);
    bench.assert_reverts(2, &tree);
    bench.assert_reverts(3, &tree);
}

/// The root of a run's tree: its time is that of the run's.
fn snapshot_root(bench: &Bench, run: i64) -> crate::util::oracle::Node {
    let (dest, tree) = bench.reverted(run);
    fs::remove_dir_all(dest).unwrap();
    tree.0[&b""[..]].clone()
}

#[test]
fn a_flipped_byte_in_the_data_is_found_named_and_healed() {
    is_found_and_healed(|path| flip(path, 1 << 20));
}

#[test]
fn a_flipped_byte_in_the_header_is_found_and_harms_no_file() {
    is_found_and_harms_no_file(|path| flip(path, 20));
}

#[test]
fn a_flipped_byte_in_the_table_is_found_and_harms_no_file() {
    is_found_and_harms_no_file(|path| flip(path, path.metadata().unwrap().len() - 100));
}

#[test]
fn a_flipped_byte_in_the_trailer_is_found_and_harms_no_file() {
    is_found_and_harms_no_file(|path| flip(path, path.metadata().unwrap().len() - 3));
}

#[test]
fn a_lost_block_is_found_named_and_healed() {
    is_found_and_healed(|path| fs::remove_file(path).unwrap());
}

#[test]
fn a_block_that_was_cut_short_is_found_named_and_healed() {
    is_found_and_healed(|path| {
        set_mode(path, 0o600);
        let len = path.metadata().unwrap().len();
        fs::File::options().write(true).open(path).unwrap().set_len(len / 2).unwrap();
    });
}

#[test]
fn a_block_with_bytes_behind_its_end_is_found_and_harms_no_file() {
    is_found_and_harms_no_file(|path| {
        set_mode(path, 0o600);
        let len = path.metadata().unwrap().len();
        crate::util::tree::overwrite(path, len, b"and more");
    });
}

#[test]
fn damage_that_nobody_validated_still_yields_no_wrong_byte() {
    let (bench, _, path) = with_victim();
    flip(&path, 2 << 20);
    let said = bench.run(&["restore", "victims/the victim", "alone"]).with_code(4);
    assert!(said.err.contains("the victim") && !bench.path("alone").exists(), "{said:#?}");
    let left: Vec<_> = fs::read_dir(bench.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("alone")), "{left:?}");
}

#[test]
fn damage_of_records_labels_and_indexes_is_told() {
    let (bench, _, _) = with_victim();
    let tree = snapshot(&bench.src());
    // The volume's own index is a cache: whatever becomes of it, nothing is lost.
    flip(&bench.path("disk1/index.db"), 30);
    fs::remove_file(bench.path("disk2/index.db")).unwrap();
    let said = bench.run(&["validate"]).with_code(0);
    assert!(said.out.ends_with("All good\n"), "{said:#?}");
    // A record of a run that went bad is named.
    let records = bench.path("disk1/runs");
    let record = fs::read_dir(records).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    flip(&record, 300);
    let said = bench.run(&["validate"]).with_code(4);
    assert!(said.err.contains("disk1") && said.err.contains("record of run 1"), "{said:#?}");
    // With the other volume's copy the catalog still comes back whole.
    fs::remove_file(bench.path("backup.cat")).unwrap();
    bench.json(&["rebuild-catalog", "--volume", "disk1", "--volume", "disk2"], 0);
    bench.assert_reverts(2, &tree);
}

#[test]
fn a_volume_that_is_away_is_never_called_good() {
    let (bench, _, path) = with_victim();
    let disk = path.strip_prefix(bench.path("")).unwrap().iter().next().unwrap().to_str().unwrap().to_owned();
    fs::rename(bench.path(&disk), bench.path("away")).unwrap();
    let said = bench.run(&["validate"]).with_code(5);
    assert!(!said.out.contains("All good") && said.err.contains(&disk), "{said:#?}");
    let said = bench.run(&["restore", "victims/the victim", "alone"]).with_code(5);
    assert!(said.err.contains(&disk) && !bench.path("alone").exists(), "{said:#?}");
    bench.run(&["restore", "victims/the victim", "alone", "--volume", "away"]).with_code(0);
    assert_eq!(fs::read(bench.path("alone")).unwrap(), fs::read(bench.path("src/victims/the victim")).unwrap());
}

#[test]
fn a_damaged_record_of_a_run_is_not_copied_to_a_volume_that_lacks_it() {
    let bench = Bench::with_volumes(&["disk1", "disk2"], &[]);
    write(&bench.src(), "file", b"bytes");
    bench.backup();
    let records = |volume: &str| -> Vec<_> {
        fs::read_dir(bench.path(volume).join("runs")).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    let [record] = &records("disk1")[..] else { unreachable!("one run has one record") };
    let at = |volume: &str| bench.path(volume).join("runs").join(record);
    flip(&at("disk1"), 150);
    bench.run(&["add-volume", "disk3"]).with_code(0);
    bench.backup();
    assert_eq!(fs::read(at("disk3")).unwrap(), fs::read(at("disk2")).unwrap());
}
