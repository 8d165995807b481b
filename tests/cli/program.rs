//! One directory to try the program in, and what it said.

use assert_cmd::Command;
use serde_json::Value;
use std::io::Write;
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
        self.command().args(line.split_whitespace()).output().expect("the program runs").into()
    }

    /// Runs it on the catalog `backup.cat`.
    pub fn on_catalog(&self, line: &str) -> Said {
        self.run(&format!("--catalog backup.cat {line}"))
    }
}

impl From<std::process::Output> for Said {
    fn from(output: std::process::Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("words are UTF-8");
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Whether all of these programs can be started; without one a test is skipped, or fails where it must not be.
pub fn has_tools(names: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    names.iter().all(|name| {
        let found = is_there(name);
        if !found {
            let is_strict = std::env::var_os("RAIDTAPE_TEST_STRICT").is_some_and(|value| value == "1");
            assert!(!is_strict, "this test needs {name}");
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            let _ = writeln!(std::io::stderr(), "SKIPPED {test}: it needs {name}");
        }
        found
    })
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
