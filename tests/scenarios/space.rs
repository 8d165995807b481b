//! How much is stored, and where, and what happens when there is no more room.

use crate::util::bench::Bench;
use crate::util::needs::Tmpfs;
use crate::util::oracle::snapshot;
use crate::util::tree::{Rng, grow, insert, write};

/// The size of the huge file in MiB; a bigger one may be asked for.
fn huge_mib() -> usize {
    std::env::var("RAIDTAPE_TEST_HUGE_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(64)
}

#[test]
fn bytes_put_in_near_the_start_of_a_huge_file_store_little_more_than_themselves() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    let mut rng = Rng(17);
    write(&bench.src(), "huge.img", &rng.bytes(huge_mib() << 20));
    bench.backup();
    insert(&bench.path("src/huge.img"), 1_000, &rng.bytes(1_000_003));
    let tree = snapshot(&bench.src());
    let report = bench.backup();
    assert_eq!(report["files_changed"], 1);
    let stored = report["data_added_packed"].as_u64().unwrap();
    assert!((1_000_003..8 << 20).contains(&stored), "{report}");
    bench.assert_reverts(2, &tree);
}

#[test]
fn a_tree_in_one_volume_and_in_three_comes_back_the_same() {
    let mut stored = Vec::new();
    for volumes in [&["disk1"][..], &["disk1", "disk2", "disk3"]] {
        let bench = Bench::with_volumes(volumes, &["--block-size", "8M"]);
        grow(&bench.src(), 21);
        let tree = snapshot(&bench.src());
        let report = bench.backup();
        bench.assert_reverts(1, &tree);
        bench.assert_all_good();
        let used: usize = volumes.iter().filter(|volume| !bench.blocks(volume).is_empty()).count();
        assert_eq!(report["volumes_used"].as_array().unwrap().len(), used);
        let (new, blocks) = (report["data_added"].as_u64().unwrap(), report["blocks_written"].as_u64().unwrap());
        assert!(blocks <= new.div_ceil(8 << 20) + used as u64, "{report}");
        for volume in volumes {
            assert_eq!(std::fs::read_dir(bench.path(volume).join("tmp")).unwrap().count(), 0);
        }
        stored.push(new);
    }
    assert_eq!(stored[0], stored[1]);
}

#[test]
fn seven_small_runs_add_at_most_one_short_block_per_run_and_volume_used() {
    let bench = Bench::with_volumes(&["disk1", "disk2", "disk3"], &[]);
    grow(&bench.src(), 2);
    bench.backup();
    let count =
        |bench: &Bench| -> usize { ["disk1", "disk2", "disk3"].map(|disk| bench.blocks(disk).len()).iter().sum() };
    let mut rng = Rng(3);
    for night in 0..7 {
        for dir in 0..10 {
            write(&bench.src(), &format!("nightly/{dir}/{night}"), &rng.bytes(300_000));
        }
        let before = count(&bench);
        let report = bench.backup();
        let used = report["volumes_used"].as_array().unwrap().len();
        assert_eq!(report["blocks_written"].as_u64().unwrap() as usize, count(&bench) - before);
        assert!(count(&bench) - before <= used && used >= 1, "{report}");
    }
    bench.assert_reverts(8, &snapshot(&bench.src()));
}

#[test]
fn volumes_that_fill_up_in_mid_run_are_sealed_and_the_run_goes_on_with_the_others() {
    let bench = Bench::with_volumes(&[], &["--block-size", "8M"]);
    let disks = ["tiny1", "tiny2", "tiny3"];
    let mut mounts = Vec::new();
    for disk in disks {
        let Some(mount) = Tmpfs::mount(&bench.path(disk), 40) else { return };
        mounts.push(mount);
        bench.run(&["add-volume", disk]).with_code(0);
    }
    let mut rng = Rng(31);
    for dir in 0..8 {
        write(&bench.src(), &format!("d{dir}/a"), &rng.bytes(9 << 20));
        write(&bench.src(), &format!("d{dir}/b"), &rng.bytes(100_000));
    }
    let tree = snapshot(&bench.src());
    bench.backup();
    bench.assert_reverts(1, &tree);
    bench.assert_all_good();
    let used = disks.iter().filter(|disk| !bench.blocks(disk).is_empty()).count();
    assert_eq!(used, 3);
    // Now more than is left.
    for dir in 0..8 {
        write(&bench.src(), &format!("e{dir}/more"), &rng.bytes(9 << 20));
    }
    let bigger = snapshot(&bench.src());
    let said = bench.run(&["backup", "src"]).with_code(5).with_sentence(&["full", "add-volume", "tiny1"]);
    assert!(!said.out.contains("complete"), "{said:?}");
    let volumes = bench.json(&["volumes"], 0);
    for volume in volumes["volumes"].as_array().unwrap() {
        assert_eq!(volume["state"], "sealed", "{volume}");
    }
    let runs = bench.json(&["runs"], 0);
    let complete = runs["runs"].as_array().unwrap().iter().filter(|run| run["state"] == "complete").count();
    assert_eq!(complete, 1);
    bench.assert_reverts(1, &tree);
    bench.assert_all_good();
    // With room again it goes on from what is stored: at most an unfinished block per writer is stored again.
    let kept: u64 =
        disks.iter().flat_map(|disk| bench.blocks(disk)).map(|(_, path)| path.metadata().unwrap().len()).sum();
    bench.run(&["add-volume", "roomy"]).with_code(0);
    let report = bench.backup();
    let stored = report["data_added_packed"].as_u64().unwrap();
    let all = 16 * (9 << 20) + 8 * 100_000;
    assert!(stored + kept <= all + 4 * (8 << 20), "stored {stored}, kept {kept}, of {all}");
    assert_eq!(report["volumes_used"], serde_json::json!(["roomy"]));
    bench.assert_reverts(report["run"].as_i64().unwrap(), &bigger);
    bench.assert_reverts(1, &tree);
    bench.assert_all_good();
}

#[test]
fn a_sealed_volume_opens_again_by_itself_when_there_is_room() {
    let bench = Bench::with_volumes(&[], &["--block-size", "8M"]);
    let Some(_mount) = Tmpfs::mount(&bench.path("tiny"), 48) else { return };
    bench.run(&["add-volume", "tiny"]).with_code(0);
    write(&bench.path("tiny"), "somebody elses", &vec![1; 25 << 20]);
    let mut rng = Rng(1);
    write(&bench.src(), "a", &rng.bytes(4 << 20));
    bench.backup();
    write(&bench.src(), "b", &rng.bytes(16 << 20));
    bench.run(&["backup", "src"]).with_code(5);
    assert_eq!(bench.json(&["volumes"], 0)["volumes"][0]["state"], "sealed");
    bench.assert_all_good();
    std::fs::remove_file(bench.path("tiny/somebody elses")).unwrap();
    // Nobody need write to see it.
    assert_eq!(bench.json(&["volumes"], 0)["volumes"][0]["state"], "active");
    let report = bench.backup();
    bench.assert_reverts(report["run"].as_i64().unwrap(), &snapshot(&bench.src()));
    assert_eq!(bench.json(&["volumes"], 0)["volumes"][0]["state"], "active");
}

#[test]
fn a_volume_filled_to_the_last_byte_by_others_fails_no_run_that_was_there() {
    let bench = Bench::with_volumes(&[], &["--block-size", "8M"]);
    let Some(_mount) = Tmpfs::mount(&bench.path("tiny"), 32) else { return };
    bench.run(&["add-volume", "tiny"]).with_code(0);
    let mut rng = Rng(4);
    write(&bench.src(), "a", &rng.bytes(3 << 20));
    let tree = snapshot(&bench.src());
    bench.backup();
    let mut filler = std::fs::File::create(bench.path("tiny/filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[7; 4096]).is_ok() {}
    drop(filler);
    write(&bench.src(), "b", &rng.bytes(3 << 20));
    bench.run(&["backup", "src"]).with_code(5).with_sentence(&["add-volume"]);
    bench.assert_reverts(1, &tree);
    let said = bench.run(&["validate"]);
    assert!(said.code == 0 && said.out.ends_with("All good\n"), "{said:#?}");
    bench.run(&["volumes"]).with_code(0);
    std::fs::remove_file(bench.path("tiny/filler")).unwrap();
    let report = bench.backup();
    bench.assert_reverts(report["run"].as_i64().unwrap(), &snapshot(&bench.src()));
}
