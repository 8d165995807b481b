//! `backup --verify-after-write` on a disk that changes a byte on its way: the byte is changed in the image under the
//! mount, between write and check, while the mounted file system has the good bytes in memory.

use crate::util::bench::{Bench, Said};
use crate::util::disk::Disk;
use crate::util::five::{Known, complete_runs};
use crate::util::needs::has_tools;
use crate::util::oracle::snapshot;
use crate::util::tree::{Rng, append, write};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

/// Disks with a volume each, catalog and source elsewhere.
struct Site {
    disks: Vec<Disk>,
    volumes: Vec<&'static str>,
    known: Known,
    bench: Bench,
}

fn site(count: usize) -> Option<Site> {
    if !has_tools(&["strace", "blockdev"]) {
        return None;
    }
    let bench = Bench::in_memory().and_volumes(&[], &["--block-size", "8M"]);
    let (mut disks, mut volumes) = (Vec::new(), Vec::new());
    for (number, volume) in ["mnt0/disk", "mnt1/disk"].into_iter().enumerate().take(count) {
        let place = bench.path(format!("mnt{number}"));
        disks.push(Disk::ext4(&bench.path(format!("image{number}")), &place, (64, &[]))?);
        bench.run(&["add-volume", volume, "--name", &format!("disk{number}")]).with_code(0);
        volumes.push(volume);
    }
    let mut known = Known::default();
    write(&bench.src(), "a/first", &Rng(1).bytes(20_000));
    known.backup(&bench);
    write(&bench.src(), "a/second", &Rng(2).bytes(900_000));
    Some(Site { disks, volumes, known, bench })
}

/// A traced program, which is killed with the test.
struct Held {
    strace: Child,
    pid: Pid,
}

impl Held {
    /// Starts a backup and returns when it has just given the `which`th new object its name: when `is_there` says so and
    /// all is still. A process that starts under a tracer may be still for a while too.
    fn at_rename(bench: &Bench, (args, which): (&[&str], usize), is_there: &dyn Fn() -> bool) -> Self {
        let inject = format!("renameat2:signal=SIGSTOP:when={which}");
        let strace = bench.traced(args, &inject).spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", strace.id());
        let mut held = Self { pid: Pid::from_child(&strace), strace };
        for _ in 0..20_000 {
            let child = fs::read_to_string(&children).ok().and_then(|pids| pids.trim().parse().ok());
            held.pid = child.and_then(Pid::from_raw).unwrap_or(held.pid);
            if is_there() && is_stopped(held.pid) {
                return held;
            }
            assert!(held.strace.try_wait().unwrap().is_none(), "it ended before its rename number {which}");
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("it does not come to its rename number {which}");
    }

    fn go_on(mut self) -> Said {
        kill_process(self.pid, Signal::CONT).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        std::io::Read::read_to_end(self.strace.stdout.as_mut().unwrap(), &mut out).unwrap();
        std::io::Read::read_to_end(self.strace.stderr.as_mut().unwrap(), &mut err).unwrap();
        Said::from(std::process::Output { status: self.strace.wait().unwrap(), stdout: out, stderr: err })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.strace.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = self.strace.kill();
            let _ = self.strace.wait();
        }
    }
}

/// Whether every thread is stopped by the signal, not by strace for a moment.
fn is_stopped(pid: Pid) -> bool {
    let stopped =
        |status: String| status.contains("State:\tT (stopped)") || status.contains("State:\tt (tracing stop)");
    let look = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).ok()?;
        let mut all = tasks.flatten().map(|task| fs::read_to_string(task.path().join("status")).is_ok_and(stopped));
        Some(all.all(|is| is))
    };
    let is_still = |_| {
        std::thread::sleep(Duration::from_millis(3));
        look() == Some(true)
    };
    (0..5).all(is_still)
}

impl Site {
    /// Blocks and manifests that are there.
    fn objects(&self) -> BTreeSet<PathBuf> {
        let dirs =
            self.volumes.iter().flat_map(|volume| ["chunks", "runs"].map(|dir| self.bench.path(volume).join(dir)));
        let entries = dirs.flat_map(|dir| walkdir::WalkDir::new(dir).into_iter().flatten());
        entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
    }

    /// Backs up; when the `which`th new object has its name, a byte of it is changed in the image. Returns what the
    /// program said then, and the object.
    fn backup_with_flip(&self, options: &[&str], which: usize) -> (Said, PathBuf) {
        let before = self.objects();
        // On one thread, so that strace counts all renames together.
        let args = [&["--json", "--no-progress", "backup", "src", "--single-threaded"], options].concat();
        let is_there = || self.objects().difference(&before).count() >= which;
        let held = Held::at_rename(&self.bench, (&args, which), &is_there);
        let object = self
            .objects()
            .into_iter()
            .filter(|path| !before.contains(path))
            .max_by_key(|path| path.metadata().unwrap().modified().unwrap());
        let object = object.expect("a new object");
        // From here on the mounted file system has the good bytes in memory.
        let bytes = fs::read(&object).unwrap();
        let disk = self.disks.iter().find(|disk| flip_in_image(disk, &bytes));
        disk.expect("the object's bytes in an image").drop_device_cache();
        (held.go_on(), object)
    }
}

/// Changes a bit of these bytes, where they lie in the image; false when they do not.
fn flip_in_image(disk: &Disk, bytes: &[u8]) -> bool {
    let at = bytes.len() / 2 / 4096 * 4096;
    let piece = &bytes[at..bytes.len().min(at + 512)];
    let image = fs::read(disk.image()).unwrap();
    let found = (0..image.len()).step_by(1024).find(|from| image[*from..].starts_with(piece));
    let Some(found) = found else { return false };
    let file = fs::File::options().write(true).open(disk.image()).unwrap();
    let last = found + piece.len() - 1;
    file.write_all_at(&[image[last] ^ 0x10], last as u64).unwrap();
    true
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

const VERIFY: &[&str] = &["--verify-after-write"];

#[test]
fn a_block_that_does_not_arrive_is_noticed_at_once_and_stored_elsewhere() {
    let Some(mut site) = site(2) else { return };
    let (said, block) = site.backup_with_flip(VERIFY, 1);
    assert!(said.err.contains(&name_of(&block)) && said.err.contains("reads back otherwise"), "{said:#?}");
    site.known.assert_told(&site.bench, (&said, &[0]), "a flipped byte");
    site.disks.iter_mut().for_each(Disk::replug);
    assert!(block.exists(), "the bad block is evidence");
    let registered = site.bench.query("SELECT hex(name) FROM blocks").join(" ").to_lowercase();
    assert!(!registered.contains(name_of(&block).trim_end_matches(".blk")), "{registered} has {block:?}");
    site.known.assert_holds(&site.bench, &site.volumes.clone(), "a block that did not arrive");
}

#[test]
fn without_the_option_the_same_is_found_by_validate_alone() {
    let Some(mut site) = site(1) else { return };
    let (said, block) = site.backup_with_flip(&[], 1);
    site.known.assert_told(&site.bench, (&said, &[0]), "a flipped byte");
    site.disks.iter_mut().for_each(Disk::replug);
    let said = site.bench.run(&["validate"]).with_code(4);
    assert!(said.err.contains("second"), "{block:?}: {said:#?}");
}

#[test]
fn with_one_volume_the_run_fails_and_the_bad_block_is_never_adopted() {
    let Some(mut site) = site(1) else { return };
    let (said, block) = site.backup_with_flip(VERIFY, 1);
    site.known.assert_told(&site.bench, (&said, &[5]), "a flipped byte");
    // The next run looks through what the failed one left; memory still has the block as it was meant.
    let tree = snapshot(&site.bench.src());
    let said = site.bench.run(&["--json", "--no-progress", "backup", "src"]).with_code(0);
    assert!(said.err.contains("cannot be used"), "{said:#?}");
    site.known.0.insert(said.summary()["run"].as_i64().unwrap(), tree);
    site.disks.iter_mut().for_each(Disk::replug);
    assert!(block.exists());
    site.known.assert_holds(&site.bench, &site.volumes.clone(), "an orphan that is bad");
}

#[test]
fn a_manifest_that_does_not_arrive_is_written_again_and_without_any_there_is_no_run() {
    let Some(mut two) = site(2) else { return };
    let (said, manifest) = two.backup_with_flip(VERIFY, 2);
    assert!(said.err.contains("reads back otherwise") && said.err.contains("record"), "{said:#?}");
    two.known.assert_told(&two.bench, (&said, &[0]), "a manifest that did not arrive");
    assert!(!manifest.exists());
    append(&two.bench.src(), "a/first", b"third");
    two.known.backup(&two.bench);
    assert!(manifest.exists(), "the volume is brought up to date");
    two.disks.iter_mut().for_each(Disk::replug);
    two.known.assert_holds(&two.bench, &two.volumes.clone(), "a manifest that did not arrive");
    drop(two);

    let Some(mut one) = site(1) else { return };
    let (said, _) = one.backup_with_flip(VERIFY, 2);
    one.known.assert_told(&one.bench, (&said, &[5]), "the only manifest did not arrive");
    one.disks.iter_mut().for_each(Disk::replug);
    one.known.assert_holds(&one.bench, &one.volumes.clone(), "the only manifest did not arrive");
}

#[test]
fn a_sound_disk_takes_a_verified_run_like_any_other() {
    let Some(mut site) = site(2) else { return };
    let tree = snapshot(&site.bench.src());
    for threads in ["--max-workers=2", "--single-threaded"] {
        let said = site.bench.run(&["--json", "backup", "src", "--verify-after-write", threads]).with_code(0);
        site.known.0.insert(said.summary()["run"].as_i64().unwrap(), tree.clone());
        assert!(!said.err.contains("reads back"), "{said:#?}");
    }
    assert_eq!(complete_runs(&site.bench), [1, 2, 3]);
    site.known.assert_holds(&site.bench, &site.volumes.clone(), "verified runs");
}
