//! Power cuts on real file systems, which hold volumes and catalog together: a file system that is shut down without
//! its log under a working program, and images of the disk as it was at an instant of the program's life. After each
//! one the disk is mounted as after any crash, and the five questions are asked.

use crate::util::bench::{Bench, Said};
use crate::util::disk::{Disk, copy_image, make_image};
use crate::util::five::{Known, complete_runs};
use crate::util::needs::{has, has_tools, is_installed, is_root, long_tests_factor};
use crate::util::oracle::snapshot;
use crate::util::tree::{Rng, append, write};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const VOLUMES: [&str; 2] = ["mnt/disk1", "mnt/disk2"];
/// What a program may return when its disk is gone.
const ALLOWED: [i32; 3] = [0, 1, 5];

/// A disk with two runs on it, as an image that every round begins with, and a source that has changed since.
struct Site {
    disk: Option<Disk>,
    base: PathBuf,
    options: &'static str,
    known: Known,
    bench: Bench,
}

/// A program that is killed with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Site {
    /// `None` where there is no such file system; only ext4 is expected to be there.
    fn new(kind: &str, (size_mib, options): (u64, &'static str)) -> Option<Self> {
        let bench = Bench::in_memory().with_catalog("mnt/backup.cat");
        let base = bench.path("base.img");
        let is_made = is_root() && make_image(kind, &base, (size_mib, &[]));
        let disk = is_made.then(|| Disk::mount(&base, &bench.path("mnt"), options)).flatten();
        let is_there = disk.is_some();
        if kind == "ext4" {
            has("root, mkfs.ext4 and a loop device", is_there);
        }
        let mut site = Self { disk: Some(disk?), base, options, known: Known::default(), bench };
        let bench = &site.bench;
        fs::create_dir(bench.src()).unwrap();
        bench.run(&["init", "--reserve", "1M", "--block-size", "8M"]).with_code(0);
        for volume in VOLUMES {
            bench.run(&["add-volume", volume]).with_code(0);
        }
        let mut rng = Rng(5);
        for file in 0..10 {
            write(&bench.src(), &format!("d{}/f{file}", file % 3), &rng.bytes(20_000));
        }
        site.known.backup(bench);
        append(&bench.src(), "d1/f1", b"second");
        site.known.backup(bench);
        site.disk = None;
        // What every round saves: more than fits one block, and changes in what is there.
        for file in 0..3 {
            write(&bench.src(), &format!("new{file}/big"), &rng.bytes(5 << 20));
            write(&bench.src(), &format!("new{file}/small"), &rng.text(20_000));
        }
        append(&bench.src(), "d2/f2", b"third");
        fs::remove_file(bench.path("src/d0/f0")).unwrap();
        Some(site)
    }

    /// The disk as it is before every round.
    fn begin(&mut self) {
        self.plug_in(&self.base.clone());
    }

    /// Puts a copy of this image in the disk's place.
    fn plug_in(&mut self, image: &std::path::Path) {
        self.disk = None;
        let now = self.bench.path("now.img");
        copy_image(image, &now);
        self.disk = Disk::mount(&now, &self.bench.path("mnt"), self.options);
        assert!(self.disk.is_some(), "the disk can be mounted");
    }

    fn disk(&mut self) -> &mut Disk {
        self.disk.as_mut().unwrap()
    }

    /// The command under strace, which makes every step towards the disk take longer, so that instants fall between.
    fn slowed(&self, args: &[&str]) -> Command {
        self.bench.traced(args, "fsync,fdatasync,rename,renameat2:delay_enter=1500:delay_exit=1500")
    }
}

/// How long the command takes when nothing disturbs it.
fn time(command: &mut Command) -> Duration {
    let begun = Instant::now();
    let said = Said::from(command.output().unwrap());
    assert!(said.code == 0, "{said:#?}");
    begun.elapsed()
}

/// Waits for the end, which must come by itself.
fn ended(mut child: Running) -> Said {
    let until = Instant::now() + Duration::from_secs(120);
    while child.0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "it hangs on a disk that is gone");
        std::thread::sleep(Duration::from_millis(1));
    }
    let (mut out, mut err) = (Vec::new(), Vec::new());
    std::io::Read::read_to_end(child.0.stdout.as_mut().unwrap(), &mut out).unwrap();
    std::io::Read::read_to_end(child.0.stderr.as_mut().unwrap(), &mut err).unwrap();
    Said::from(std::process::Output { status: child.0.wait().unwrap(), stdout: out, stderr: err })
}

/// Runs the command and cuts the power `after` so long; then the disk is back.
fn cut_during(site: &mut Site, args: &[&str], after: Duration) -> Said {
    let child = Running(site.slowed(args).spawn().unwrap());
    std::thread::sleep(after);
    site.disk().cut_power();
    let said = ended(child);
    assert!(ALLOWED.contains(&said.code), "{args:?}, power cut after {after:?}: {said:#?}");
    assert!(!said.err.contains("panicked"), "{args:?}, power cut after {after:?}: {said:#?}");
    site.disk().replug();
    said
}

/// What came of the cuts of one command.
#[derive(Debug, Default)]
struct Cuts {
    all: u64,
    failed: u64,
    /// The command failed, and the run is there in the end: its last word to the disk was heard, the answer was not.
    complete_all_the_same: u64,
}

/// Power cuts at `count` instants of a backup.
fn cut_backups(site: &mut Site, count: u64) -> Cuts {
    let args = ["--json", "--no-progress", "backup", "src"];
    site.begin();
    let whole = time(&mut site.slowed(&args));
    let tree = snapshot(&site.bench.src());
    let mut cuts = Cuts::default();
    for round in 0..count {
        site.begin();
        let said = cut_during(site, &args, whole.mul_f64(round as f64 / count as f64));
        let what = format!("a power cut in a backup, instant {round} of {count}");
        let mut known = site.known.clone();
        let new: Vec<i64> = complete_runs(&site.bench).into_iter().filter(|run| !known.0.contains_key(run)).collect();
        cuts.all += 1;
        cuts.failed += u64::from(said.code != 0);
        assert!(new.len() <= 1 && (said.code != 0 || new.len() == 1), "{what}: new runs {new:?}: {said:#?}");
        if let [run] = new[..] {
            cuts.complete_all_the_same += u64::from(said.code != 0);
            known.0.insert(run, tree.clone());
        }
        known.assert_holds(&site.bench, &VOLUMES, &what);
    }
    cuts
}

#[test]
fn a_power_cut_at_any_instant_of_a_backup_on_ext4_costs_no_complete_run() {
    let Some(mut site) = Site::new("ext4", (160, "")) else { return };
    if !has_tools(&["xfs_io", "strace"]) {
        return;
    }
    let cuts = cut_backups(&mut site, 16 * long_tests_factor());
    println!("{cuts:?}");
    assert!(cuts.failed > 1, "cuts come in time: {cuts:?}");
}

#[test]
fn a_run_is_on_the_disk_when_the_program_says_so_and_only_because_it_syncs() {
    let Some(mut site) = Site::new("ext4", (160, "")) else { return };
    if !has_tools(&["xfs_io", "strace"]) {
        return;
    }
    for (inject, is_kept) in [("fsync:delay_exit=1", true), ("fsync,fdatasync:retval=0", false)] {
        site.begin();
        let args = ["--json", "--no-progress", "backup", "src"];
        let said = Said::from(site.bench.traced(&args, inject).output().unwrap()).with_code(0);
        site.disk().cut_power();
        site.disk().replug();
        let run = said.summary()["run"].as_i64().unwrap();
        assert_eq!(complete_runs(&site.bench).contains(&run), is_kept, "{inject}");
        site.known.clone().assert_restores(&site.bench, inject);
    }
}

#[test]
fn a_power_cut_in_genmeta_or_a_rebuild_leaves_nothing_that_the_same_command_does_not_finish() {
    let Some(mut site) = Site::new("ext4", (160, "")) else { return };
    if !has_tools(&["xfs_io", "strace"]) {
        return;
    }
    let rebuild = ["--no-progress", "rebuild-catalog", "--volume", VOLUMES[0], "--volume", VOLUMES[1]];
    for args in [&["--no-progress", "genmeta"][..], &rebuild] {
        let prepare = |site: &mut Site| {
            site.begin();
            if args.contains(&"rebuild-catalog") {
                fs::remove_file(site.bench.path(site.bench.catalog())).unwrap();
            }
        };
        prepare(&mut site);
        let whole = time(&mut site.slowed(args));
        let (count, mut failed) = (4 * long_tests_factor(), 0);
        for round in 0..count {
            prepare(&mut site);
            let said = cut_during(&mut site, args, whole.mul_f64(round as f64 / count as f64));
            failed += u64::from(said.code != 0);
            let what = format!("a power cut in {args:?}, instant {round} of {count}");
            let said = site.bench.run(args);
            assert!(said.code == 0, "{what}: again: {said:#?}");
            site.known.clone().assert_holds(&site.bench, &VOLUMES, &what);
        }
        println!("{args:?}: {count} power cuts, {failed} in time");
        assert!(failed > 0, "no cut of {args:?} came in time");
    }
}

/// Stops the program at several instants of one backup and copies what the disk was given so far. Returns the copies.
fn copies_of(site: &mut Site, (whole, count): (Duration, u64)) -> Vec<PathBuf> {
    let mut child = Running(site.bench.start(&["--json", "--no-progress", "backup", "src"]));
    let pid = Pid::from_child(&child.0);
    let mut copies = Vec::new();
    for number in 0..count {
        std::thread::sleep(whole.div_f64(count as f64 + 1.0));
        if child.0.try_wait().unwrap().is_some() || kill_process(pid, Signal::STOP).is_err() {
            break;
        }
        wait_until_stopped(&child.0);
        let copy = site.bench.path(format!("copy{number}.img"));
        copy_image(site.disk().image(), &copy);
        copies.push(copy);
        kill_process(pid, Signal::CONT).unwrap();
    }
    let said = ended(child);
    assert!(said.code == 0, "a program that was stopped and went on: {said:#?}");
    copies
}

/// Until every thread is stopped, or the program has ended.
fn wait_until_stopped(child: &Child) {
    let tasks = format!("/proc/{}/task", child.id());
    let is_still = |stat: String| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['T', 't', 'Z', 'X']));
    for _ in 0..5000 {
        let Ok(listed) = fs::read_dir(&tasks) else { return };
        if listed.flatten().all(|task| fs::read_to_string(task.path().join("stat")).is_ok_and(is_still)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("a thread that does not stop");
}

/// Copies of the image taken in mid-run, `rounds` times as many as are taken of one run; each is a disk after a crash.
fn check_copies(site: &mut Site, rounds: u64) -> u64 {
    site.begin();
    let whole = time(&mut site.bench.command(&["backup", "src"]));
    let tree = snapshot(&site.bench.src());
    let mut checked = 0;
    for round in 0..rounds {
        site.begin();
        let copies = copies_of(site, (whole.mul_f64(1.0 + round as f64 / 10.0), 4));
        for copy in copies {
            checked += 1;
            site.plug_in(&copy);
            fs::remove_file(&copy).unwrap();
            let what = format!("copy {checked}, of run {round}");
            let mut known = site.known.clone();
            let new = complete_runs(&site.bench).into_iter().find(|run| !known.0.contains_key(run));
            new.map(|run| known.0.insert(run, tree.clone()));
            known.assert_holds(&site.bench, &VOLUMES, &what);
        }
    }
    checked
}

#[test]
fn the_image_of_an_ext4_at_any_instant_of_a_backup_is_a_disk_that_goes_on() {
    let Some(mut site) = Site::new("ext4", (160, "")) else { return };
    let checked = check_copies(&mut site, 4 * long_tests_factor());
    println!("{checked} images taken in mid-run");
    assert!(checked > 1);
}

#[test]
fn xfs_and_btrfs_keep_the_same_promise_where_they_are_there() {
    for (kind, options) in [("xfs", ""), ("btrfs", "")] {
        let Some(mut site) = Site::new(kind, (320, options)) else {
            println!("no {kind} here");
            continue;
        };
        let cuts = match kind == "xfs" && is_installed("xfs_io") && is_installed("strace") {
            true => cut_backups(&mut site, 3 * long_tests_factor()),
            false => Cuts::default(),
        };
        let checked = check_copies(&mut site, long_tests_factor());
        println!("{kind}: {cuts:?}, {checked} images taken in mid-run");
        assert!(checked > 0);
    }
}
