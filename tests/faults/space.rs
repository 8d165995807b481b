//! No room: in the middle of a block, only when it is synced, on the catalog's disk, on a disk that others fill to the
//! last byte; and disks that turn read-only under a working program. Whatever there is room for is saved, what is not is said, and when there is room again the next run goes on.

use crate::util::bench::{Bench, Said};
use crate::util::disk::Disk;
use crate::util::five::{Known, assert_rebuilds, complete_runs};
use crate::util::needs::{Tmpfs, has_tools};
use crate::util::oracle::snapshot;
use crate::util::tree::{Rng, append, write};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

const BACKUP: [&str; 4] = ["--json", "--no-progress", "backup", "src"];
/// Each thread's second write takes its time: that of a block's first segment, so that something can happen behind it.
const SLOWLY: &str = "pwrite64:delay_exit=2000000:when=2";
/// Less room than on a disk of 64 MiB, which is therefore chosen first.
const OTHER_MIB: u64 = 40;

/// Takes all the room that is left.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for piece in [1 << 20, 4096, 1] {
        while file.write_all(&vec![7; piece]).is_ok() {}
    }
    let _ = file.sync_all();
}

fn run_to_end(child: Child) -> Said {
    child.wait_with_output().unwrap().into()
}

/// Waits until the block that is being written has so many bytes.
fn wait_for_block(volume: &Path, len: u64) {
    for _ in 0..60_000 {
        let parts = fs::read_dir(volume.join("tmp")).into_iter().flatten().flatten();
        if parts.filter_map(|part| part.metadata().ok()).any(|part| part.len() >= len) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("no block grows in {}", volume.display());
}

/// One complete run on these volumes, and more to save than was there.
fn ready(bench: &Bench, volumes: &[&str]) -> Known {
    fs::create_dir_all(bench.src()).unwrap();
    bench.run(&["init", "--reserve", "1M", "--block-size", "8M"]).with_code(0);
    for volume in volumes {
        bench.run(&["add-volume", volume]).with_code(0);
    }
    let mut known = Known::default();
    write(&bench.src(), "a/first", &Rng(1).bytes(50_000));
    known.backup(bench);
    write(&bench.src(), "a/big", &Rng(2).bytes(7 << 20));
    write(&bench.src(), "a/small", &Rng(3).text(50_000));
    append(&bench.src(), "a/first", b"more");
    known
}

/// A disk whose file system cannot set space aside, so that it can be full in the middle of a block.
fn disk_without_leases(bench: &Bench) -> Option<Disk> {
    Disk::ext4(&bench.path("image"), &bench.path("mnt"), (64, &["-O", "^extents,^64bit", "-m", "0"]))
}

#[test]
fn a_disk_full_in_the_middle_of_a_block_finishes_it_and_the_rest_is_said_or_goes_elsewhere() {
    if !has_tools(&["strace"]) {
        return;
    }
    for others in [&[][..], &["other"]] {
        let bench = Bench::in_memory();
        let Some(mut disk) = disk_without_leases(&bench) else { return };
        let volumes = [&["mnt/disk"], others].concat();
        let mut known = ready(&bench, &["mnt/disk"]);
        let child = bench.traced(&BACKUP, SLOWLY).spawn().unwrap();
        wait_for_block(&bench.path("mnt/disk"), 1 << 20);
        fill(&bench.path("mnt/filler"));
        let said = run_to_end(child);
        known.assert_told(&bench, (&said, &[5]), "full in mid-block");
        assert!(said.err.contains("full"), "{said:#?}");
        let kept: u64 = bench.blocks("mnt/disk").values().map(|block| block.metadata().unwrap().len()).sum();
        assert!(kept > 1 << 20, "the short block is kept: {kept}");
        assert!(!bench.path("mnt/disk/reserve").exists(), "its reserve made room for the block's end");
        known.assert_restores(&bench, "full in mid-block");
        let said = bench.run(&["validate", "--deep"]).with_code(0);
        assert!(said.out.ends_with("All good\n"), "{said:#?}");
        if others.is_empty() {
            fs::remove_file(bench.path("mnt/filler")).unwrap();
        } else {
            bench.run(&["add-volume", "other"]).with_code(0);
        }
        let tree = snapshot(&bench.src());
        let report = bench.backup();
        known.0.insert(report["run"].as_i64().unwrap(), tree);
        let stored = report["data_added_packed"].as_u64().unwrap();
        assert!(stored + kept < (8 << 20) + 200_000, "what was kept is not stored again: {stored} and {kept}");
        let _ = fs::remove_file(bench.path("mnt/filler"));
        known.assert_holds(&bench, &volumes, "room again");
        assert_eq!(bench.path("mnt/disk/reserve").metadata().unwrap().len(), 1 << 20);
        disk.replug();
        known.assert_restores(&bench, "after a restart");
    }
}

#[test]
fn a_disk_full_in_the_middle_of_a_block_hands_the_rest_to_the_other_volume_in_the_same_run() {
    if !has_tools(&["strace"]) {
        return;
    }
    let bench = Bench::in_memory();
    let Some(_disk) = disk_without_leases(&bench) else { return };
    let Some(_other) = Tmpfs::mount(&bench.path("other"), OTHER_MIB) else { return };
    let mut known = ready(&bench, &["mnt/disk", "other"]);
    // Both volumes have something to write.
    for dir in 0..6 {
        write(&bench.src(), &format!("d{dir}/big"), &Rng(10 + dir).bytes(3 << 20));
    }
    let child = bench.traced(&BACKUP, SLOWLY).spawn().unwrap();
    wait_for_block(&bench.path("mnt/disk"), 1 << 20);
    fill(&bench.path("mnt/filler"));
    let said = run_to_end(child);
    known.assert_told(&bench, (&said, &[0]), "full in mid-block, with another volume");
    fs::remove_file(bench.path("mnt/filler")).unwrap();
    known.assert_holds(&bench, &["mnt/disk", "other"], "full in mid-block, with another volume");
}

#[test]
fn a_disk_that_takes_all_writes_and_fails_the_sync_fails_alone() {
    for others in [&[][..], &["other"]] {
        let bench = Bench::in_memory();
        let Some(below) = Tmpfs::mount(&bench.path("below"), 8) else { return };
        let Some(_other) = Tmpfs::mount(&bench.path("other"), OTHER_MIB) else { return };
        let image = bench.path("below/image");
        let Some(mut disk) = Disk::ext4(&image, &bench.path("mnt"), (64, &["-m", "0"])) else { return };
        let volumes = [&["mnt/disk"], others].concat();
        let mut known = ready(&bench, &volumes);
        for dir in 0..6 {
            write(&bench.src(), &format!("d{dir}/big"), &Rng(10 + dir).bytes(3 << 20));
        }
        let said = bench.run(&BACKUP);
        let allowed: &[i32] = if others.is_empty() { &[1, 5] } else { &[0] };
        known.assert_told(&bench, (&said, allowed), "a sync that fails");
        assert!(said.err.contains("mnt") || said.err.contains("disk"), "it names the volume: {said:#?}");
        println!("{} other volumes: exit {}, {}", others.len(), said.code, said.err.lines().last().unwrap_or_default());
        below.resize(200);
        disk.replug();
        known.assert_holds(&bench, &volumes, "a sync that fails");
        drop(disk);
    }
}

#[test]
fn a_full_disk_of_the_catalog_fails_the_run_and_nothing_else() {
    if !has_tools(&["strace"]) {
        return;
    }
    let bench = Bench::in_memory().with_catalog("cat/backup.cat");
    let Some(_disk) = Tmpfs::mount(&bench.path("cat"), 4) else { return };
    let mut known = ready(&bench, &["disk1", "disk2"]);
    let (mut failed, rounds) = (0, 8);
    for round in 0..rounds {
        append(&bench.src(), "a/first", format!("round {round}").as_bytes());
        write(&bench.src(), &format!("more/{round}"), &Rng(40 + round).bytes(300_000));
        for file in 0..200 {
            write(&bench.src(), &format!("many{round}/{file}"), &Rng(1000 * round + file).bytes(100));
        }
        let child = (round > 0).then(|| bench.traced(&BACKUP, "pwrite64:delay_exit=2000").spawn().unwrap());
        std::thread::sleep(Duration::from_millis(10 + 25 * round));
        fill(&bench.path("cat/filler"));
        let said = child.map_or_else(|| bench.run(&BACKUP), run_to_end);
        assert!([0, 1].contains(&said.code) && !said.err.contains("panicked"), "round {round}: {said:#?}");
        failed += u32::from(said.code != 0);
        // Whoever only reads can still do so, or says why not.
        let read = bench.run(&["runs"]);
        assert!([0, 1].contains(&read.code) && !read.err.contains("panicked"), "round {round}: {read:#?}");
        println!("round {round}: exit {}, `runs` {}", said.code, read.code);
        fs::remove_file(bench.path("cat/filler")).unwrap();
        known.assert_told(&bench, (&said, &[0, 1]), &format!("the catalog's disk is full, round {round}"));
        known.assert_restores(&bench, &format!("the catalog's disk was full, round {round}"));
    }
    println!("{failed} of {rounds} runs failed for want of room for the catalog");
    assert!(failed > 1, "{failed}");
    known.assert_holds(&bench, &["disk1", "disk2"], "the catalog's disk was full");
}

#[test]
fn on_a_disk_filled_to_the_last_byte_everything_that_reads_still_works() {
    let bench = Bench::in_memory();
    let Some(_disk) = Disk::ext4(&bench.path("image"), &bench.path("mnt"), (64, &["-m", "0"])) else { return };
    let mut known = ready(&bench, &["mnt/disk"]);
    known.backup(&bench);
    bench.run(&["genmeta"]).with_code(0);
    fill(&bench.path("mnt/filler"));
    assert!(fs::write(bench.path("mnt/more"), b"x").is_err(), "not a byte is left");
    for args in [&["runs"][..], &["volumes"], &["ls"], &["ls", "a"], &["list-changes", "2"]] {
        bench.run(args).with_code(0);
    }
    for args in [&["validate"][..], &["validate", "--deep"], &["validate", "--quick"]] {
        let said = bench.run(args).with_code(0);
        assert!(said.out.ends_with("All good\n"), "{said:#?}");
    }
    bench.run(&["restore", "a/first", "one"]).with_code(0);
    bench.run(&["restore-folder", "a", "folder"]).with_code(0);
    known.assert_restores(&bench, "a full disk");
    assert_rebuilds(&bench, &["mnt/disk"], "a full disk");
    append(&bench.src(), "a/first", b"third");
    for args in [&BACKUP[..], &["--json", "genmeta"]] {
        let said = bench.run(args);
        assert!([0, 5].contains(&said.code) && !said.err.contains("panicked"), "{args:?}: {said:#?}");
        println!("{args:?} on a full disk: exit {}", said.code);
    }
    assert_eq!(complete_runs(&bench), [1, 2]);
    fs::remove_file(bench.path("mnt/filler")).unwrap();
    known.assert_holds(&bench, &["mnt/disk"], "room again");
}

#[test]
fn a_disk_that_turns_read_only_in_mid_run_costs_no_run() {
    if !has_tools(&["strace"]) {
        return;
    }
    let (mut failed, mut saved) = (0, 0);
    for round in 0..6 {
        let others: &[&str] = if round % 2 == 0 { &[] } else { &["other"] };
        let bench = Bench::in_memory();
        let place = (bench.path("image"), bench.path("mnt"));
        let Some(mut disk) = Disk::ext4(&place.0, &place.1, (64, &["-m", "0"])) else { return };
        let volumes = [&["mnt/disk"], others].concat();
        let mut known = ready(&bench, &volumes);
        let child = bench.traced(&BACKUP, "pwrite64,fdatasync,renameat2:delay_exit=10000").spawn().unwrap();
        std::thread::sleep(Duration::from_millis(30 + 30 * round));
        // While a file is open for writing nobody may ask for it; then the file system does so by itself, as after an
        // error of its disk.
        if disk.remount("ro").is_err() {
            disk.remount("abort").expect("a file system that can abort");
        }
        let said = run_to_end(child);
        let allowed: &[i32] = if others.is_empty() { &[0, 1, 5] } else { &[0] };
        let what = format!("read-only in round {round}");
        known.assert_told(&bench, (&said, allowed), &what);
        *(if said.code == 0 { &mut saved } else { &mut failed }) += 1;
        known.assert_restores(&bench, &what);
        disk.replug();
        known.assert_holds(&bench, &volumes, &what);
        drop(disk);
    }
    println!("read-only in mid-run: {saved} runs saved, {failed} failed");
    assert!(failed > 0 && saved > 0);
}

/// Backs up what fits once, and with the copies that are made meanwhile does not. Whether any were made so soon that they had
/// to give way.
fn copies_give_way() -> Option<bool> {
    let bench = Bench::new();
    let disks: Vec<_> = ["one", "two"].iter().map_while(|name| Tmpfs::mount(&bench.path(name), 80)).collect();
    if disks.len() < 2 {
        return None;
    }
    bench.run(&["init", "--redundancy", "copies=2", "--reserve", "1M", "--block-size", "8M"]).with_code(0);
    for volume in ["one", "two"] {
        bench.run(&["add-volume", volume]).with_code(0);
    }
    let mut known = Known::default();
    for file in 0..13 {
        write(&bench.src(), &format!("{file}/big"), &Rng(file).bytes(10 << 20));
    }
    let tree = snapshot(&bench.src());
    let said = bench.run(&["--json", "--no-progress", "backup", "src"]).with_code(6);
    let report = said.summary();
    known.0.insert(report["run"].as_i64().unwrap(), tree);
    assert!(report["blocks_under_protected"].as_u64() >= Some(1), "{report}");
    known.assert_restores(&bench, "once");
    bench.run(&["add-volume", "three", "--reserve", "1M", "--force"]).with_code(0);
    bench.run(&["protect"]).with_code(0);
    known.assert_holds(&bench, &["one", "two", "three"], "twice");
    let report = bench.json(&["validate", "--deep"], 0);
    assert_eq!(
        (&report["blocks_unknown"], &report["index_problems"].as_array().unwrap().len()),
        (&0.into(), &0),
        "{report}"
    );
    Some(said.err.contains("copies that were made meanwhile give way"))
}

#[test]
fn copies_give_way_to_blocks_that_have_none() {
    // Threads may be late for that.
    for _ in 0..8 {
        match copies_give_way() {
            Some(false) => {}
            Some(true) | None => return,
        }
    }
    panic!("no copy was made before the disks were full");
}
