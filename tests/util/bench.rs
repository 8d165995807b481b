//! One directory to try the program in, and what it said.

use super::oracle::{Snapshot, snapshot};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A directory of one test's own, with the catalog at `backup.cat` unless it is told otherwise, and the source at `src`.
pub struct Bench {
    dir: tempfile::TempDir,
    catalog: String,
}

/// What a command said and returned.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("words are UTF-8");
        let code = output.status.code().or(output.status.signal().map(|signal| -signal)).unwrap_or(i32::MIN);
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Said {
    /// The same, after a look at the exit code.
    #[track_caller]
    pub fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// The same, after a look at what was said of failure: one line, with all of these words.
    #[track_caller]
    pub fn with_sentence(self, words: &[&str]) -> Self {
        let errors: Vec<&str> = self.err.lines().filter(|line| line.starts_with("raidtape: ")).collect();
        assert!(!errors.is_empty() && errors.len() <= 3, "one clear sentence: {self:#?}");
        assert!(!self.err.contains("panicked") && !self.err.contains("SQL"), "{self:#?}");
        for word in words {
            assert!(self.err.contains(word), "no word of {word:?}: {self:#?}");
        }
        self
    }

    /// All JSON documents.
    pub fn documents(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }

    /// The last JSON document: the summary.
    pub fn summary(&self) -> Value {
        self.documents().pop().expect("a summary")
    }
}

impl Bench {
    /// Empty.
    pub fn new() -> Self {
        Self::at(tempfile::tempdir())
    }

    /// Empty, in memory where that can be: for what is done hundreds of times and where no disk is in question.
    pub fn in_memory() -> Self {
        let shared = Path::new("/dev/shm");
        let dir = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
        Self::at(dir)
    }

    fn at(dir: std::io::Result<tempfile::TempDir>) -> Self {
        Self { dir: dir.expect("a directory for the test"), catalog: "backup.cat".to_owned() }
    }

    /// The same with its catalog at another place below.
    pub fn with_catalog(self, catalog: &str) -> Self {
        Self { catalog: catalog.to_owned(), ..self }
    }

    /// The catalog's place below the bench's directory.
    pub fn catalog(&self) -> &str {
        &self.catalog
    }

    /// With a catalog and these volumes, which keep nothing in reserve.
    pub fn with_volumes(volumes: &[&str], init: &[&str]) -> Self {
        Self::new().and_volumes(volumes, init)
    }

    /// The same where this one is.
    pub fn and_volumes(self, volumes: &[&str], init: &[&str]) -> Self {
        let bench = self;
        std::fs::create_dir(bench.path("src")).expect("a source");
        bench.run(&[&["init", "--reserve", "1M"], init].concat()).with_code(0);
        for volume in volumes {
            bench.run(&["add-volume", volume]).with_code(0);
        }
        bench
    }

    /// A path below the bench's directory.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The source.
    pub fn src(&self) -> PathBuf {
        self.path("src")
    }

    /// The program in this directory, on its catalog, with none of the caller's settings.
    pub fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_raidtape"));
        command.current_dir(self.dir.path()).env_clear().env("HOME", self.dir.path()).env("TZ", "UTC");
        command.env("RAIDTAPE_CATALOG", self.path(&self.catalog)).args(args);
        command
    }

    /// The program under strace, which does something else with some of its calls: `fsync,write:delay_exit=1000`.
    pub fn traced(&self, args: &[&str], inject: &str) -> Command {
        let plain = self.command(args);
        let mut traced = Command::new("strace");
        let calls = inject.split(':').next().unwrap_or_default();
        // Faster, but a signal that is to be sent is lost with it.
        traced.args((!inject.contains("signal=")).then_some("--seccomp-bpf"));
        traced.args(["-f", "-qqq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
        traced.args(["-e", &format!("inject={inject}")]).arg(plain.get_program()).args(plain.get_args());
        traced.current_dir(self.dir.path()).env_clear();
        traced.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        traced.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        traced.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        traced
    }

    /// Copies it to `program`, where every user may start it. Another process does that: what this one writes may be held
    /// open by a child that a test beside is just starting, and then cannot be executed.
    pub fn copy_program(&self) {
        let mut copy = Command::new("install");
        copy.args(["-m", "755", env!("CARGO_BIN_EXE_raidtape")]).arg(self.path("program"));
        assert!(copy.status().expect("install runs").success());
    }

    /// Runs it.
    pub fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Said {
        self.command(args).stdin(Stdio::null()).output().expect("the program runs").into()
    }

    /// Starts it and lets it run.
    pub fn start<A: AsRef<OsStr>>(&self, args: &[A]) -> Child {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs")
    }

    /// Runs it with `--json`, expects the code, returns the last document.
    #[track_caller]
    pub fn json<A: AsRef<OsStr>>(&self, args: &[A], code: i32) -> Value {
        let mut all: Vec<&OsStr> = vec![OsStr::new("--json"), OsStr::new("--no-progress")];
        all.extend(args.iter().map(AsRef::as_ref));
        self.run(&all).with_code(code).summary()
    }

    /// Backs `src` up and expects that all went well.
    #[track_caller]
    pub fn backup(&self) -> Value {
        self.json(&["backup", "src"], 0)
    }

    /// The tree of `run` as `revert-to-run` writes it.
    #[track_caller]
    pub fn reverted(&self, run: i64) -> (PathBuf, Snapshot) {
        let dest = self.fresh("reverted");
        self.run(&[OsStr::new("revert-to-run"), OsStr::new(&run.to_string()), dest.as_os_str()]).with_code(0);
        let taken = snapshot(&dest);
        (dest, taken)
    }

    /// Expects that `run` reverts to exactly this tree; cleans up after itself.
    #[track_caller]
    pub fn assert_reverts(&self, run: i64, tree: &Snapshot) {
        let (dest, found) = self.reverted(run);
        found.assert_is(tree, &format!("run {run}"));
        std::fs::remove_dir_all(dest).expect("a folder that can be removed");
    }

    /// Expects that `validate --deep` finds all good.
    #[track_caller]
    pub fn assert_all_good(&self) {
        let said = self.run(&["validate", "--deep"]).with_code(0);
        assert_eq!(said.out.lines().last(), Some("All good"), "{said:#?}");
    }

    /// A path that does not exist.
    pub fn fresh(&self, name: &str) -> PathBuf {
        (0..).map(|number| self.path(format!("{name}-{number}"))).find(|path| !path.exists()).unwrap_or_default()
    }

    /// All blocks of a volume, by name.
    pub fn blocks(&self, volume: &str) -> BTreeMap<String, PathBuf> {
        let mut found = BTreeMap::new();
        for entry in walkdir::WalkDir::new(self.path(volume).join("chunks")) {
            let entry = entry.expect("a volume that can be listed");
            if entry.file_type().is_file() {
                found.insert(entry.file_name().to_string_lossy().into_owned(), entry.into_path());
            }
        }
        found
    }

    /// The rows of a query on the catalog, as text.
    pub fn query(&self, sql: &str) -> Vec<String> {
        self.query_in(&self.catalog, sql)
    }

    /// The same on another catalog.
    pub fn query_in(&self, catalog: &str, sql: &str) -> Vec<String> {
        let open =
            rusqlite::Connection::open_with_flags(self.path(catalog), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY);
        let conn = open.expect("a catalog");
        let mut statement = conn.prepare(sql).expect("SQL");
        let width = statement.column_count();
        let rows = statement.query_map([], |row| {
            let cells: rusqlite::Result<Vec<String>> =
                (0..width).map(|at| row.get_ref(at).map(|cell| format!("{cell:?}"))).collect();
            Ok(cells?.join("|"))
        });
        rows.expect("rows").map(|row| row.expect("a row")).collect()
    }
}
