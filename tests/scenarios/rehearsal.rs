//! Backups that only look: what `--dry-run` says is what the backup then does, and nothing at all is written. And backups
//! that look at everything: `--force` finds what changed without a trace.

use crate::util::bench::Bench;
use crate::util::disk::Disk;
use crate::util::oracle::{Snapshot, snapshot};
use crate::util::tree::{Rng, grow, set_mode, write};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// All that the bench holds, but SQLite's shared memory.
fn everything(bench: &Bench) -> Snapshot {
    let mut all = snapshot(&bench.path(""));
    all.0.retain(|path, node| node.kind != 'd' && !String::from_utf8_lossy(path).contains("backup.cat-"));
    all
}

/// What both kinds of summaries must agree on.
fn counts(summary: &Value) -> Vec<&Value> {
    let names = ["files_new", "files_changed", "files_metadata", "files_deleted", "files_unmodified"];
    let more = ["bytes_read", "data_added", "total_files_processed", "total_bytes_processed"];
    names.iter().chain(&more).map(|name| &summary[*name]).collect()
}

/// A dry run that writes nothing, the backup that follows, and whether they say the same; returns the paths told.
#[track_caller]
fn rehearse(bench: &Bench, args: &[&str], code: i32) -> Vec<String> {
    let before = everything(bench);
    let dry = bench.run(&[&["--json", "-v", "backup", "src", "-n"], args].concat()).with_code(code);
    everything(bench).assert_is(&before, "a dry run");
    let told: Vec<String> = dry
        .documents()
        .iter()
        .filter(|one| one["message_type"] == "change")
        .map(|one| format!("{} {}", one["change"].as_str().unwrap(), one["path"].as_str().unwrap()))
        .collect();
    let summary = dry.summary();
    assert_eq!(summary["dry_run"], true);
    let done = bench.json(&[&["backup", "src"], args].concat(), code);
    assert_eq!(counts(&summary), counts(&done), "{args:?}: {summary:#}\n{done:#}");
    let mut listed: Vec<String> = bench
        .run(&["--json", "list-changes", "latest"])
        .with_code(0)
        .documents()
        .iter()
        .filter(|one| one["message_type"] == "change")
        .map(|one| format!("{} {}", one["change"].as_str().unwrap(), one["path"].as_str().unwrap()))
        .collect();
    let mut sorted = told.clone();
    sorted.sort();
    listed.sort();
    assert_eq!(sorted, listed, "{args:?}");
    told
}

#[test]
fn a_dry_run_says_what_the_backup_then_does_and_writes_nothing() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    let src = bench.src();
    grow(&src, 3);
    write(&src, "large", &Rng(5).bytes(21 << 20));
    fs::hard_link(src.join("large"), src.join("large too")).unwrap();
    assert!(rehearse(&bench, &[], 0).len() > 100);
    assert_eq!(rehearse(&bench, &[], 0), Vec::<String>::new());
    write(&src, "new/deep/file", &Rng(6).bytes(100_000));
    write(&src, "new/copy", &Rng(6).bytes(100_000));
    write(&src, "large", &[Rng(9).bytes(5000), Rng(5).bytes(21 << 20)].concat());
    write(&src, "turns", b"into a folder");
    rehearse(&bench, &[], 0);
    set_mode(&src.join("new/copy"), 0o600);
    fs::remove_file(src.join("turns")).unwrap();
    write(&src, "turns/into", b"a folder");
    fs::remove_dir_all(src.join("new/deep")).unwrap();
    let told = rehearse(&bench, &["-e", "/large"], 0);
    for line in ["added turns/into", "modified turns", "metadata new/copy", "deleted new/deep/file", "excluded large"] {
        assert!(told.iter().any(|one| one == line), "no {line}: {told:#?}");
    }
    rehearse(&bench, &["--force"], 0);
    fs::write(bench.path("list"), "new\nnowhere\n").unwrap();
    rehearse(&bench, &["--files-from", "list"], 3);
    let said = bench.run(&["-v", "backup", "src", "--dry-run"]).with_code(0);
    assert!(said.out.contains("+ turns/into\n") && said.out.contains("nothing was written"), "{said:#?}");
    bench.assert_all_good();
}

#[test]
fn a_dry_run_needs_no_volume_and_no_lock_and_makes_nothing() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    write(&bench.src(), "f", b"f");
    bench.backup();
    fs::rename(bench.path("disk1"), bench.path("away")).unwrap();
    write(&bench.src(), "g", b"gg");
    let before = everything(&bench);
    let lock = fs::File::open(bench.path("backup.cat.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let dry = bench.json(&["backup", "src", "--dry-run"], 0);
    assert_eq!((&dry["files_new"], &dry["data_added"], &dry["files_deleted"]), (&1.into(), &2.into(), &0.into()));
    everything(&bench).assert_is(&before, "a dry run without volumes");
    drop(lock);
    bench.run(&["backup", "src"]).with_code(5);
    bench.run(&["backup", "gone", "-n"]).with_code(1).with_sentence(&["gone", "does not exist"]);
    let none = Bench::new();
    write(&none.src(), "f", b"f");
    none.run(&["backup", "src", "-n", "--volume", "disk1"]).with_code(10);
    assert!(!none.path("disk1").exists() && !none.path("backup.cat").exists());
}

/// Changes one byte in the middle of what begins with `start`, on the disk itself.
fn flip(image: &Path, start: &[u8]) {
    let mut bytes = fs::read(image).unwrap();
    let found: Vec<usize> =
        bytes.windows(start.len()).enumerate().filter(|(_, at)| *at == start).map(|(at, _)| at).collect();
    assert_eq!(found.len(), 1, "the bytes are found once");
    let at = found[0];
    bytes[at + 3000] ^= 0x40;
    fs::File::options()
        .write(true)
        .open(image)
        .unwrap()
        .write_all_at(&bytes[at + 3000..=at + 3000], at as u64 + 3000)
        .unwrap();
}

#[test]
fn a_byte_that_rots_on_the_source_is_found_by_force_and_both_versions_are_kept() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    let image = bench.path("image");
    let Some(mut disk) = Disk::ext4(&image, &bench.src(), (24, &[])) else { return };
    let src = bench.src();
    let (rotting, sound) = (Rng(1).bytes(200_000), Rng(2).bytes(100_000));
    write(&src, "rotting", &rotting);
    fs::hard_link(src.join("rotting"), src.join("its other name")).unwrap();
    write(&src, "large", &Rng(3).bytes(17 << 18));
    write(&src, "sound", &sound);
    // What changed a moment ago is read again in any case.
    std::thread::sleep(Duration::from_millis(2100));
    bench.backup();
    disk.unmount();
    flip(&image, &rotting[..64]);
    flip(&image, &Rng(3).bytes(64));
    disk.drop_device_cache();
    disk.mount_again("").unwrap();
    assert!(fs::read(src.join("rotting")).unwrap() != rotting, "the disk has rotted");
    let blind = bench.backup();
    assert_eq!((&blind["files_changed"], &blind["bytes_read"]), (&0.into(), &0.into()), "nothing says that it changed");
    let dry = bench.json(&["backup", "src", "--force", "-n"], 3);
    assert_eq!(dry["files_changed"], 3, "{dry:#}");
    let said = bench.run(&["--json", "backup", "src", "--force"]).with_code(3);
    let found = said.summary();
    assert_eq!(
        (&found["suspected_rot"], &found["files_changed"], &found["files_metadata"]),
        (&2.into(), &3.into(), &0.into())
    );
    let problems = found["problems"].as_array().unwrap();
    assert!(
        problems.iter().all(|one| one["op"] == "rot" && one["error"].as_str().unwrap().contains("run 2")),
        "{found:#}"
    );
    let paths: Vec<&str> = problems.iter().map(|one| one["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["its other name", "large"]);
    bench.assert_reverts(3, &snapshot(&src));
    for (run, is_sound) in [("2", true), ("3", false)] {
        let dest = bench.fresh("restored");
        bench.run(&["restore", "rotting", dest.to_str().unwrap(), "--run", run]).with_code(0);
        assert_eq!(fs::read(dest).unwrap() == rotting, is_sound);
    }
    // It is told once; what somebody writes is no rot.
    write(&src, "sound", b"written");
    let after = bench.json(&["backup", "src", "--force"], 0);
    assert_eq!((&after["suspected_rot"], &after["files_changed"]), (&0.into(), &1.into()));
    assert!(after["bytes_read"].as_u64().unwrap() > 4 << 20);
    bench.assert_all_good();
}
