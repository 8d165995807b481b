//! What a test needs beside the program. On a user's machine a test without it is skipped, with a line that says so;
//! with RAIDTAPE_TEST_STRICT=1 it fails.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether the test can go on; says why when it cannot.
pub fn has(what: &str, is_there: bool) -> bool {
    if !is_there {
        let is_strict = std::env::var_os("RAIDTAPE_TEST_STRICT").is_some_and(|value| value == "1");
        assert!(!is_strict, "this test needs {what}");
        // Past the test harness, which keeps what a test that passes prints to itself.
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        let _ = writeln!(std::io::stderr(), "SKIPPED {name}: it needs {what}");
    }
    is_there
}

/// Whether all of these programs can be started.
pub fn has_tools(names: &[&str]) -> bool {
    names.iter().all(|name| has(name, is_installed(name)))
}

/// Whether a program can be started.
pub fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

/// Whether this is root.
pub fn has_root() -> bool {
    has("root", is_root())
}

/// The same without a word.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A file system of its own in memory, gone with this value.
pub struct Tmpfs {
    dir: PathBuf,
}

impl Tmpfs {
    /// Mounts one of so many MiB at `dir`, which is made; `None` where that is not allowed.
    pub fn mount(dir: &Path, size_mib: u64) -> Option<Self> {
        std::fs::create_dir_all(dir).expect("a mount point");
        let options = format!("size={size_mib}m,mode=0755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "raidtape-test"]).arg(dir).output();
        let is_mounted = is_root() && mounted.is_ok_and(|output| output.status.success());
        has("root and the right to mount", is_mounted).then(|| Self { dir: dir.to_owned() })
    }

    /// Mounts it again read-only, or writable.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.remount(if is_read_only { "ro" } else { "rw" });
    }

    /// Makes it larger.
    pub fn resize(&self, size_mib: u64) {
        self.remount(&format!("size={size_mib}m"));
    }

    fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        let status = Command::new("mount").args(["-o", &option]).arg(&self.dir).status().expect("mount runs");
        assert!(status.success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}

/// A file system in memory whose times have the grain of the timer, gone with this value.
pub struct RamFs(PathBuf);

impl RamFs {
    /// Mounts one at `dir`; `None` where that is not allowed.
    pub fn mount(dir: &Path) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "ramfs", "raidtape-test"]).arg(dir).output();
        let is_mounted = is_root() && mounted.is_ok_and(|output| output.status.success());
        has("root and the right to mount", is_mounted).then(|| Self(dir.to_owned()))
    }
}

impl Drop for RamFs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// How many times the usual number of rounds a test that can go on for ever makes: `RAIDTAPE_TEST_MINUTES` says how
/// many minutes such tests may take together, 2 for the usual number.
pub fn long_tests_factor() -> u64 {
    let minutes = std::env::var("RAIDTAPE_TEST_MINUTES").ok().and_then(|minutes| minutes.parse::<u64>().ok());
    (minutes.unwrap_or(2) / 2).max(1)
}
