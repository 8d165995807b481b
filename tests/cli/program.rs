//! One directory to try the program in, and what it said.

use assert_cmd::Command;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A directory of one test's own, with a catalog at `backup.cat`.
pub struct Bench {
    dir: tempfile::TempDir,
}

/// What a command said and returned.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Bench {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory for the test") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("a folder for the file");
        std::fs::write(path, bytes).expect("a file that can be written");
    }

    /// The program in this directory, with no catalog said and none of the caller's settings.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_raidtape"));
        command.current_dir(self.dir.path()).env_clear().env("HOME", self.dir.path()).env("TZ", "UTC");
        command
    }

    /// Runs it with the words of `line`.
    pub fn run(&self, line: &str) -> Said {
        let output = self.command().args(line.split_whitespace()).output().expect("the program runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("words are UTF-8");
        Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Runs it on the catalog `backup.cat`.
    pub fn on_catalog(&self, line: &str) -> Said {
        self.run(&format!("--catalog backup.cat {line}"))
    }
}

impl Said {
    /// The same, after a look at the exit code.
    #[track_caller]
    pub fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Its stdout as JSON lines.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("a JSON document a line")).collect()
    }

    /// Its stderr as one JSON document.
    #[track_caller]
    pub fn json_error(&self) -> Value {
        serde_json::from_str(&self.err).expect("one JSON document on stderr")
    }
}
