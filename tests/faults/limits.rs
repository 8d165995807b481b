//! Little memory, few descriptors, and sources of extreme shapes: more hard links to one file, deeper folders, longer
//! paths and larger directories than anybody should have.

use crate::util::bench::{Bench, Said};
use crate::util::disk::{Disk, make_image};
use crate::util::needs::{has_tools, is_root, long_tests_factor};
use crate::util::oracle::snapshot;
use crate::util::tree::{Rng, write};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A group of processes that may not use more memory than it says; gone with this value.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// Below the group that the test itself is in; `None` where such a group cannot be made.
    fn new(limit_bytes: u64) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path_of = |line: &str| Some(line.rsplit_once(':')?.1.trim_start_matches('/').to_owned());
        let first = own.lines().find(|line| line.contains(":memory:")).and_then(path_of);
        let places = [
            first.map(|path| (Path::new("/sys/fs/cgroup/memory").join(path), "memory.limit_in_bytes")),
            own.lines()
                .find(|line| line.starts_with("0::"))
                .and_then(path_of)
                .map(|path| (Path::new("/sys/fs/cgroup").join(path), "memory.max")),
        ];
        places.into_iter().flatten().find_map(|(parent, limit)| {
            let group = Self(parent.join(format!("raidtape-test-{}", std::process::id())));
            fs::create_dir(&group.0).ok()?;
            fs::write(group.0.join(limit), limit_bytes.to_string()).ok()?;
            Some(group)
        })
    }

    /// How often the limit was met; the highest use where the system tells.
    fn peak(&self) -> String {
        let read = |name| fs::read_to_string(self.0.join(name)).map(|text| text.trim().to_owned());
        read("memory.max_usage_in_bytes").or_else(|_| read("memory.peak")).unwrap_or_default()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Runs the program after a line of shell that limits it.
fn limited(bench: &Bench, limit: &str, args: &[&str]) -> Said {
    let plain = bench.command(args);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limit}; exec \"$0\" \"$@\"")]).arg(plain.get_program()).args(plain.get_args());
    shell.current_dir(bench.path("")).env_clear();
    shell.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    shell.stdin(Stdio::null()).output().unwrap().into()
}

/// Through every command that works on much data, with this limit; the tree comes back.
fn through_all_commands(bench: &Bench, limit: &str) {
    let all = |args: &[&str]| {
        let said = limited(bench, limit, args);
        assert!(said.code == 0, "{limit}: {args:?}: {said:#?}");
    };
    all(&["backup", "src"]);
    all(&["backup", "src"]);
    all(&["validate", "--deep"]);
    all(&["genmeta"]);
    all(&["runs"]);
    all(&["volumes"]);
    all(&["ls"]);
    all(&["list-changes", "1"]);
    all(&["revert-to-run", "1", "reverted"]);
    all(&["restore-folder", "d0", "folder"]);
    all(&["--catalog", "rebuilt.cat", "rebuild-catalog", "--volume", "disk1"]);
    snapshot(&bench.path("reverted")).assert_is(&snapshot(&bench.src()), limit);
}

#[test]
fn all_commands_do_with_256_mib_of_memory() {
    // On a disk: in memory the files themselves would count.
    let bench = Bench::with_volumes(&["disk1"], &[]);
    let mut rng = Rng(1);
    write(&bench.src(), "big", &rng.bytes(280 << 20));
    for file in 0..10_000 {
        let path = bench.src().join(format!("d{}", file % 60));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(format!("f{file}")), rng.next().to_le_bytes()).unwrap();
    }
    match is_root().then(|| MemoryGroup::new(256 << 20)).flatten() {
        Some(group) => {
            through_all_commands(&bench, &format!("echo $$ > '{}'", group.0.join("cgroup.procs").display()));
            println!("a group of processes with 256 MiB; highest use {}", group.peak());
        }
        None => {
            // Address space also counts what is only set aside: stacks of threads, and maps of the catalog.
            through_all_commands(&bench, "ulimit -v 1500000");
            println!("no group of processes can be made; 1,500 MB of address space");
        }
    }
}

#[test]
fn all_commands_do_with_64_descriptors() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &["--block-size", "8M"]);
    let mut rng = Rng(2);
    for dir in 0..30 {
        for file in 0..30 {
            write(&bench.src(), &format!("d{dir}/f{file}"), &rng.bytes(500));
        }
    }
    for branch in 0..3 {
        let deep: Vec<String> = (0..150).map(|level| format!("l{level}")).collect();
        write(&bench.src(), &format!("b{branch}/{}/end", deep.join("/")), &rng.bytes(500));
    }
    write(&bench.src(), "several blocks", &rng.bytes(20 << 20));
    through_all_commands(&bench, "ulimit -n 64");
}

/// Names for one file, as many as asked for.
fn link(dir: &Path, count: u64) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("0"), b"one file").unwrap();
    for number in 1..count {
        let sub = dir.join(format!("s{}", number % 50));
        if number < 51 {
            fs::create_dir_all(&sub).unwrap();
        }
        fs::hard_link(dir.join("0"), sub.join(number.to_string())).unwrap();
    }
}

/// Backs up, reverts, and expects one file with so many names.
fn links_come_back(bench: &Bench, count: u64) {
    bench.backup();
    let again = bench.backup();
    assert_eq!(again["files_unmodified"].as_u64().unwrap(), count + 51, "{again}");
    bench.run(&["revert-to-run", "1", "src/../reverted"]).with_code(0);
    let found = bench.path("reverted/0").metadata().unwrap();
    assert_eq!(found.nlink(), count);
    let names = walkdir::WalkDir::new(bench.path("reverted")).into_iter().flatten();
    let same = names.filter(|entry| entry.metadata().is_ok_and(|found_too| found_too.ino() == found.ino())).count();
    assert_eq!(same as u64, count);
}

#[test]
fn sixty_thousand_hard_links_to_one_file_come_back() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    link(&bench.src(), 60_000);
    links_come_back(&bench, 60_000);
    bench.assert_all_good();
}

#[test]
fn a_hundred_thousand_hard_links_on_xfs_where_it_is_there() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    let image = bench.path("image");
    let is_made = long_tests_factor() > 1 && is_root() && make_image("xfs", &image, (320, &[]));
    let Some(_disk) = is_made.then(|| Disk::mount(&image, &bench.path("xfs"), "")).flatten() else {
        println!("no xfs here, or no time: RAIDTAPE_TEST_MINUTES=4 or more asks for it");
        return;
    };
    link(&bench.path("xfs/src"), 100_000);
    let report = bench.json(&["backup", "xfs/src"], 0);
    assert_eq!(report["total_files_processed"].as_u64().unwrap(), 100_051);
    bench.run(&["revert-to-run", "1", "xfs/reverted"]).with_code(0);
    assert_eq!(bench.path("xfs/reverted/0").metadata().unwrap().nlink(), 100_000);
}

#[test]
fn a_huge_sparse_file_comes_back_with_its_holes() {
    let bench = Bench::new().and_volumes(&["disk1"], &[]);
    let len: u64 = if long_tests_factor() > 1 { 1 << 40 } else { 16 << 30 };
    let place = |root: &Path| root.join("sparse");
    let file = fs::File::create(place(&bench.src())).unwrap();
    let (head, tail) = (Rng(1).bytes(100_000), Rng(2).bytes(100_000));
    file.write_all_at(&head, 0).unwrap();
    file.write_all_at(&tail, len - tail.len() as u64).unwrap();
    let report = bench.backup();
    assert!(report["data_added_packed"].as_u64().unwrap() < 1 << 20, "{report}");
    assert_eq!(bench.backup()["files_unmodified"], 2);
    bench.run(&["revert-to-run", "1", "reverted"]).with_code(0);
    let found = fs::File::open(place(&bench.path("reverted"))).unwrap();
    let meta = found.metadata().unwrap();
    assert_eq!(meta.len(), len);
    assert!(meta.blocks() * 512 < 8 << 20, "the hole is one: {} blocks", meta.blocks());
    let mut read = vec![0; tail.len()];
    found.read_exact_at(&mut read, len - tail.len() as u64).unwrap();
    assert!(read == tail);
    found.read_exact_at(&mut read, 0).unwrap();
    assert!(read == head);
}

/// Makes a chain of directories that is longer than any path may be, step by step, with a file at its end.
fn dig(root: &Path, (levels, name): (usize, &str)) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut dir: OwnedFd = rustix::fs::openat(CWD, root, flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)).unwrap();
        dir = rustix::fs::openat(dir.as_fd(), name, flags, Mode::empty()).unwrap();
    }
    let made = rustix::fs::openat(&dir, "end", OFlags::WRONLY | OFlags::CREATE, Mode::from_raw_mode(0o644)).unwrap();
    fs::File::from(made).write_all_at(b"at the end", 0).unwrap();
}

/// Walks down the same chain and expects the file.
fn assert_dug(root: &Path, (levels, name): (usize, &str)) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut dir: OwnedFd = rustix::fs::openat(CWD, root, flags, Mode::empty()).unwrap();
    for level in 0..levels {
        let next = rustix::fs::openat(dir.as_fd(), name, flags, Mode::empty());
        dir = next.unwrap_or_else(|errno| panic!("level {level} of {levels}: {errno}"));
    }
    let found = rustix::fs::statat(&dir, "end", AtFlags::SYMLINK_NOFOLLOW).unwrap();
    assert_eq!(found.st_size, 10);
}

#[test]
fn folders_a_thousand_levels_deep_and_paths_beyond_4096_bytes_come_back() {
    if !has_tools(&["rm", "sh"]) {
        return;
    }
    let long = "n".repeat(255);
    for chain in [(1500, "d"), (60, long.as_str())] {
        let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
        dig(&bench.src(), chain);
        for limit in ["true", "ulimit -n 64"] {
            let said = limited(&bench, limit, &["--json", "backup", "src"]);
            assert!(said.code == 0, "{limit}: {said:#?}");
        }
        let dest = bench.path("reverted");
        let said = limited(&bench, "ulimit -n 64", &["revert-to-run", "1", "reverted"]);
        assert!(said.code == 0, "{said:#?}");
        assert_dug(&dest, chain);
        bench.assert_all_good();
        bench.run(&["genmeta"]).with_code(0);
        // Paths that no call takes whole cannot be removed by their names either.
        for made in [&bench.src(), &dest] {
            Command::new("rm").args([OsStr::new("-rf"), made.as_os_str()]).status().unwrap();
        }
    }
}

#[test]
fn very_many_files_in_one_directory_come_back() {
    let is_million = std::env::var_os("RAIDTAPE_TEST_MILLION").is_some_and(|value| value == "1");
    let count = if is_million { 1_000_000 } else { 50_000 };
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    for file in 0..count {
        fs::write(bench.src().join(format!("file number {file}")), format!("{}", file % 1000)).unwrap();
    }
    assert_eq!(bench.backup()["files_new"].as_u64().unwrap(), count + 1);
    fs::remove_file(bench.src().join("file number 7")).unwrap();
    let report = bench.backup();
    assert_eq!((report["files_deleted"].as_u64(), report["files_unmodified"].as_u64()), (Some(1), Some(count - 1)));
    bench.run(&["revert-to-run", "2", "reverted"]).with_code(0);
    let mut names = 0;
    for entry in fs::read_dir(bench.path("reverted")).unwrap() {
        let path = entry.unwrap().path();
        let number: u64 = path.to_string_lossy().rsplit(' ').next().unwrap().parse().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), (number % 1000).to_string());
        names += 1;
    }
    assert_eq!(names, count - 1);
}
