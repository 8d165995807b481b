//! For tests: a small file system of its own, mounted while the value lives. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A mounted tmpfs.
pub(super) struct TestMount {
    dir: TempDir,
}

impl TestMount {
    /// Mounts one of this size, or says that the test is skipped. Fails when `RAIDTAPE_TEST_STRICT=1`.
    pub(super) fn new(test: &str, options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(dir.path()).status();
        if status.is_ok_and(|status| status.success()) {
            return Some(Self { dir });
        }
        let strict = std::env::var_os("RAIDTAPE_TEST_STRICT").is_some_and(|value| value == "1");
        assert!(!strict, "{test} needs root to mount a tmpfs");
        #[expect(clippy::print_stderr, reason = "a skipped test must say so")]
        {
            eprintln!("skipped: {test} needs root to mount a tmpfs");
        }
        None
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Mounts it anew with other options.
    pub(super) fn remount(&self, options: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.path()).status();
        assert!(status.unwrap().success());
    }

    /// Leaves no free byte but `rest_bytes`; returns the file that takes the space.
    pub(super) fn fill(&self, rest_bytes: usize) -> PathBuf {
        let filler = self.path().join("filler");
        let mut len = 0_u64;
        let file = std::fs::File::create(&filler).unwrap();
        while std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4096], len).is_ok() {
            len += 4096;
        }
        file.set_len(len.saturating_sub(rest_bytes as u64)).unwrap();
        filler
    }
}

impl Drop for TestMount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
