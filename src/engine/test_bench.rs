//! A repository on two or three volumes in memory, with a source of its own, for tests that let volumes fail and processes die:
//! any state of volumes and catalog is put in place in a moment, and after every fault the same five questions are
//! asked. What is run is the verbs themselves.

use super::add_volume::{AddVolumeOptions, add_volume};
use super::backup::{BackupOptions, BackupReport, backup};
use super::error::{EngineError, Exit, Result};
use super::init::{InitOptions, init};
use super::observer::{Observer, Silent};
use super::rebuild_catalog::{RebuildReport, rebuild_from};
use super::repository::{Access, Repository};
use super::restore::{RestoreHow, RevertOptions, revert_to_run};
use super::validate::{Level, ValidateOptions, ValidateReport, validate};
use crate::catalog::CatalogError;
use crate::catalog::runs::{self, RunState};
use crate::format::layout;
use crate::model::ids::RunSeq;
use crate::model::limits::BLOCK_SIZE_MIN;
use crate::model::params::Reserve;
use crate::volume::handle::Volume;
use crate::volume::store::Store;
use crate::volume::test_double::{Fault, Lasting, Objects, Op, World};
use rusqlite::{Connection, types::Value};
use rustix::io::Errno;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The volumes.
pub const NAMES: [&str; 3] = ["first", "second", "third"];
/// The first one has a little more room, so that it is filled first; what it took in a run makes it the smaller one.
const CAPACITIES: [u64; 3] = [48 << 20, (48 << 20) - (60 << 10), (48 << 20) - (90 << 10)];

/// What a tree is: every path with its kind, mode, time, number of names and bytes.
pub type Tree = BTreeMap<PathBuf, String>;
/// The complete runs, with the trees that they saved.
pub type Known = BTreeMap<RunSeq, Arc<Tree>>;

/// Volumes, catalog, and what can be had from them.
#[derive(Clone, Default)]
pub struct State {
    pub disks: Vec<Objects>,
    pub catalog: Arc<Vec<u8>>,
    pub known: Known,
}

/// Keeps warnings.
#[derive(Default)]
pub struct Listener(pub Mutex<Vec<String>>);

impl Observer for Listener {
    fn warn(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

impl Listener {
    /// Whether a warning has this word.
    pub fn heard(&self, word: &str) -> bool {
        self.0.lock().unwrap().iter().any(|text| text.contains(word))
    }
}

pub struct Bench {
    dir: tempfile::TempDir,
    pub world: World,
    /// How many states were put in place; the catalog has another path for each.
    states: Cell<u64>,
    /// Threads that read and hash; none for everything in turn.
    pub workers: Option<usize>,
    /// Volumes.
    pub disks: usize,
}

impl Bench {
    /// Two empty volumes and an empty source.
    pub fn new() -> (Self, State) {
        Self::with_disks(2)
    }

    /// The same with so many volumes.
    pub fn with_disks(disks: usize) -> (Self, State) {
        let shared = Path::new("/dev/shm");
        let dir = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
        let bench = Self { dir, world: World::default(), states: Cell::new(0), workers: None, disks };
        std::fs::create_dir(bench.src()).unwrap();
        bench.next_place();
        let options = InitOptions { reserve: Reserve::Bytes(0), block_size: BLOCK_SIZE_MIN, ..InitOptions::default() };
        let (mut repository, _) = init(&bench.catalog(), &options).unwrap();
        for (name, capacity) in NAMES.into_iter().zip(CAPACITIES).take(disks) {
            let dir = bench.path(name);
            add_volume(&mut repository, &AddVolumeOptions { dir: dir.clone(), ..AddVolumeOptions::default() }, &Silent)
                .unwrap();
            let store = bench.world.add_disk(capacity);
            store.put_new(layout::LABEL, &std::fs::read(dir.join(layout::LABEL)).unwrap()).unwrap();
            store.restore_reserve().unwrap();
        }
        drop(repository);
        let state = bench.state(Known::new());
        (bench, state)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn src(&self) -> PathBuf {
        self.path("src")
    }

    /// Where the catalog is now.
    pub fn catalog(&self) -> PathBuf {
        self.path(&format!("state{}/backup.cat", self.states.get()))
    }

    /// A place for the catalog that no connection has ever been to.
    fn next_place(&self) {
        let _ = std::fs::remove_dir_all(self.path(&format!("state{}", self.states.get())));
        self.states.set(self.states.get() + 1);
        std::fs::create_dir(self.path(&format!("state{}", self.states.get()))).unwrap();
    }

    /// Puts a state in place. No repository is open.
    pub fn put(&self, state: &State) {
        self.next_place();
        std::fs::write(self.catalog(), state.catalog.as_slice()).unwrap();
        self.world.set_objects(&state.disks);
    }

    /// The state that is in place.
    pub fn state(&self, known: Known) -> State {
        let connection = Connection::open(self.catalog()).unwrap();
        State { disks: self.world.objects(), catalog: committed(&connection, &self.path("copy.cat")), known }
    }

    /// Remembers changes from now on, with the catalog's committed state before each; the states are put into `states`.
    pub fn record(&self, states: &Arc<Mutex<Vec<Arc<Vec<u8>>>>>) {
        let connection = Connection::open(self.catalog()).unwrap();
        let (copy, states) = (self.path("copy.cat"), Arc::clone(states));
        let mut version = -1_i64;
        self.world.record(Box::new(move || {
            let now = connection.query_row("PRAGMA data_version", [], |row| row.get(0)).unwrap();
            let mut states = states.lock().unwrap();
            if version != now {
                version = now;
                states.push(committed(&connection, &copy));
            }
            states.len() - 1
        }));
    }

    /// A process that another test is just starting has this one's lock for a moment, until it becomes a program.
    fn open_when_free(&self) -> Repository {
        for _ in 0..500 {
            match Repository::open(&self.catalog(), &[], Access::Write) {
                Err(EngineError::Catalog(CatalogError::Locked(_))) => std::thread::sleep(Duration::from_millis(10)),
                opened => return opened.unwrap(),
            }
        }
        panic!("the catalog stays locked");
    }

    /// The repository, with the volumes in memory in the place of the directories.
    pub fn open(&self) -> Repository {
        let mut repository = self.open_when_free();
        assert_eq!(repository.mounted.len(), self.disks);
        for mounted in &mut repository.mounted {
            mounted.volume = self.double(&mounted.row.name);
        }
        repository
    }

    fn double(&self, name: &str) -> Volume {
        let disk = NAMES.iter().position(|known| *known == name).unwrap();
        let volume = Volume::open(&self.path(name)).unwrap();
        Volume::with_store(volume.label.clone(), volume.root, Arc::new(self.world.store(disk)))
    }

    pub fn backup(&self, listener: &Listener) -> Result<BackupReport> {
        let options = BackupOptions {
            roots: vec![self.src()],
            single_threaded: self.workers.is_none(),
            workers: self.workers,
            ..BackupOptions::default()
        };
        backup(&mut self.open(), &options, listener)
    }

    pub fn validate(&self, listener: &Listener) -> Result<ValidateReport> {
        let options = ValidateOptions { level: Level::Deep, workers: Some(1), ..ValidateOptions::default() };
        validate(&mut self.open(), &options, listener)
    }

    /// Rebuilds a catalog at `path` from the volumes in memory.
    pub fn rebuild(&self, path: &Path) -> Result<RebuildReport> {
        let found: Vec<Volume> = NAMES.iter().take(self.disks).map(|name| self.double(name)).collect();
        rebuild_from(path, &found, &Listener::default())
    }

    /// Puts the tree of a run to an empty place; what arrived there, and how the restore ended.
    pub fn revert(&self, run: RunSeq) -> (Result<Exit>, Tree) {
        let dest = self.path("reverted");
        let options =
            RevertOptions { run, dest: dest.clone(), overwrite: None, workers: Some(1), how: RestoreHow::default() };
        let done = revert_to_run(&mut self.open(), &options, &Listener::default()).map(|report| report.exit());
        let found = if dest.exists() { tree(&dest) } else { Tree::new() };
        let _ = std::fs::remove_dir_all(dest);
        (done, found)
    }

    /// The numbers of the complete runs.
    pub fn complete_runs(&self) -> Vec<RunSeq> {
        let all = runs::all(self.open().catalog.conn()).unwrap();
        all.into_iter().filter(|run| run.state == RunState::Complete).map(|run| run.seq).collect()
    }

    /// Every run comes back.
    #[track_caller]
    pub fn assert_restores(&self, known: &Known, what: &str) {
        for (run, wanted) in known {
            let (done, found) = self.revert(*run);
            assert_eq!(done.unwrap(), Exit::Done, "{what}: run {run}");
            assert_same(wanted, &found, &format!("{what}: run {run}"));
        }
    }

    /// Takes in a run that was cut off and that recovery completed: it is one of these trees.
    #[track_caller]
    pub fn learn_completed(&self, (known, cut_off): (&mut Known, &[Arc<Tree>]), what: &str) {
        for run in self.complete_runs() {
            if let Entry::Vacant(unknown) = known.entry(run) {
                let (_, found) = self.revert(run);
                let saved = cut_off.iter().find(|tree| ***tree == found);
                let saved = saved.unwrap_or_else(|| panic!("{what}: run {run} comes from nowhere: {found:#?}"));
                unknown.insert(Arc::clone(saved));
            }
        }
    }

    #[track_caller]
    pub fn assert_sound(&self, what: &str) {
        let report = self.validate(&Listener::default()).unwrap_or_else(|error| panic!("{what}: validate: {error}"));
        assert_eq!(report.exit(), Exit::Done, "{what}: {report:#?}");
    }

    /// The questions, where nothing that is stored was damaged: every run comes back, `validate` finds no fault, the
    /// next backup goes well, and a rebuilt catalog tells the same. `cut_off` are trees of runs that did not come to
    /// their end: whoever comes next may complete one, if its record is durable. The state is another one afterwards.
    #[track_caller]
    pub fn assert_holds(&self, (known, cut_off): (&Known, &[Arc<Tree>]), what: &str) {
        let mut known = known.clone();
        assert_eq!(self.complete_runs(), known.keys().copied().collect::<Vec<_>>(), "{what}: complete runs");
        self.assert_restores(&known, what);
        // Damage that a failing read seemed to be is in the catalog: both orders must do.
        let is_early = self.states.get().is_multiple_of(2);
        if is_early {
            self.assert_sound(what);
        }
        let time = self.src().metadata().unwrap().modified().unwrap();
        std::fs::write(self.src().join("next"), self.states.get().to_string()).unwrap();
        let wanted = Arc::new(tree(&self.src()));
        let report = self.backup(&Listener::default());
        std::fs::remove_file(self.src().join("next")).unwrap();
        std::fs::File::open(self.src()).unwrap().set_modified(time).unwrap();
        let report = report.unwrap_or_else(|error| panic!("{what}: the next backup: {error}"));
        assert!(report.problems.is_empty(), "{what}: {report:#?}");
        known.insert(report.run, wanted);
        self.learn_completed((&mut known, cut_off), what);
        self.assert_restores(&known, what);
        self.assert_sound(what);
        assert_eq!(self.complete_runs(), known.keys().copied().collect::<Vec<_>>(), "{what}: complete runs at the end");
        self.assert_rebuilds(what);
    }

    /// A catalog rebuilt beside the one that is there tells the same of every version and of every run.
    #[track_caller]
    pub fn assert_rebuilds(&self, what: &str) {
        let rebuilt = self.catalog().with_file_name("rebuilt.cat");
        let report = self.rebuild(&rebuilt).unwrap_or_else(|error| panic!("{what}: rebuild: {error}"));
        assert!(report.unreachable_runs.is_empty() && report.blocks_missing == 0, "{what}: {report:#?}");
        assert_eq!(story(&self.catalog()), story(&rebuilt), "{what}: the rebuilt catalog tells another story");
    }
}

/// The catalog as it was committed last.
fn committed(connection: &Connection, copy: &Path) -> Arc<Vec<u8>> {
    connection.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    let bytes = std::fs::read(copy).unwrap();
    std::fs::remove_file(copy).unwrap();
    Arc::new(bytes)
}

/// All that a catalog says of versions and runs.
pub fn story(catalog: &Path) -> Vec<String> {
    let connection = Connection::open(catalog).unwrap();
    let mut told = Vec::new();
    for sql in [
        "SELECT hex(path), source, first_run, last_run, hex(file_hash), size, mode, mtime_ns, kind, inconsistent
         FROM file_versions ORDER BY 1, 2, 3",
        "SELECT seq, hex(uuid), added, modified, metadata, deleted, hex(digest) FROM runs
         WHERE state = 'complete' ORDER BY seq",
    ] {
        let mut statement = connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            let values: rusqlite::Result<Vec<Value>> = (0..columns).map(|column| row.get(column)).collect();
            values.map(|values| format!("{values:?}"))
        });
        told.extend(rows.unwrap().map(|row| row.unwrap()));
    }
    told
}

/// Reads a tree.
pub fn tree(root: &Path) -> Tree {
    let mut found = Tree::new();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.unwrap();
        let meta = entry.path().symlink_metadata().unwrap();
        let (what, names) = match entry.file_type() {
            kind if kind.is_dir() => ("a directory".to_owned(), 1),
            kind if kind.is_symlink() => (format!("{:?}", std::fs::read_link(entry.path()).unwrap()), 1),
            _ => (blake3::hash(&std::fs::read(entry.path()).unwrap()).to_string(), meta.nlink()),
        };
        let words = format!("{what} {:o} {}.{} {names}", meta.mode(), meta.mtime(), meta.mtime_nsec());
        found.insert(entry.path().strip_prefix(root).unwrap().to_owned(), words);
    }
    found
}

#[track_caller]
pub fn assert_same(wanted: &Tree, found: &Tree, what: &str) {
    for path in wanted.keys().chain(found.keys()) {
        assert_eq!(found.get(path), wanted.get(path), "{what}: {}", path.display());
    }
}

/// Does something without the right to read files that are not for everybody; for those who have it not, as it is.
pub fn without_privileges<T>(act: impl FnOnce() -> T) -> T {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let all = capabilities(None).unwrap();
    let mut less = all;
    less.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    set_capabilities(None, less).unwrap();
    let done = act();
    set_capabilities(None, all).unwrap();
    done
}

/// The state after a backup of the source as it is, which must go well.
pub fn backed_up(bench: &Bench, base: &State) -> State {
    bench.put(base);
    let wanted = Arc::new(tree(&bench.src()));
    let report = bench.backup(&Listener::default()).unwrap();
    let mut known = base.known.clone();
    known.insert(report.run, wanted);
    bench.state(known)
}

/// One run, and a source that has changed since.
pub fn one_run() -> (Bench, State) {
    one_run_on(2)
}

/// The same on so many volumes.
pub fn one_run_on(disks: usize) -> (Bench, State) {
    let (bench, empty) = Bench::with_disks(disks);
    grow(&bench.src());
    let one = backed_up(&bench, &empty);
    change(&bench.src());
    (bench, one)
}

/// Two runs, the second on both volumes.
pub fn two_runs() -> (Bench, State) {
    let (bench, one) = one_run();
    let two = backed_up(&bench, &one);
    let blocks = |state: &State, disk: usize| state.disks[disk].keys().filter(|key| key.starts_with("chunks/")).count();
    assert!((0..2).all(|disk| blocks(&two, disk) > blocks(&one, disk)), "the second run is to write on both volumes");
    assert_eq!(two.known.keys().copied().collect::<Vec<_>>(), [RunSeq(1), RunSeq(2)]);
    (bench, two)
}

/// Two runs of which one volume missed the second's record, and a source that has changed since.
pub fn one_behind() -> (Bench, State) {
    let (bench, one) = one_run();
    bench.put(&one);
    let wanted = Arc::new(tree(&bench.src()));
    // The record is what is committed last on that volume.
    let mut found = None;
    for at in 0.. {
        bench.put(&one);
        bench.world.arm(Fault { disk: Some(1), at, errno: Errno::IO, lasting: Lasting::ForGood, is_done: false });
        let report = bench.backup(&Listener::default());
        match bench.world.disarm() {
            Some((Op::Commit, key)) if key.starts_with(layout::RUNS) => {
                let mut known = one.known.clone();
                known.insert(report.unwrap().run, Arc::clone(&wanted));
                found = Some(bench.state(known));
                break;
            }
            fired => assert!(fired.is_some(), "no record is committed"),
        }
    }
    std::fs::write(bench.src().join("c/later"), "later").unwrap();
    (bench, found.unwrap())
}

/// Writes a source that has a little of everything.
pub fn grow(src: &Path) {
    let noise = |seed, len| super::test_repository::noise(seed, len);
    for (name, bytes) in [
        ("a/one", noise(1, 90_000)),
        ("a/two", super::test_repository::text(2, 70_000)),
        ("a/gone", noise(3, 20_000)),
        ("a/same", noise(4, 40_000)),
        ("c/empty", Vec::new()),
        ("c/small", b"small".to_vec()),
    ] {
        std::fs::create_dir_all(src.join(name).parent().unwrap()).unwrap();
        std::fs::write(src.join(name), bytes).unwrap();
    }
    std::fs::hard_link(src.join("a/one"), src.join("c/one too")).unwrap();
    symlink("../a/two", src.join("c/link")).unwrap();
    std::fs::create_dir(src.join("void")).unwrap();
}

/// Changes it: one file modified, one gone, some added in a new directory, which goes to the other volume.
pub fn change(src: &Path) {
    let mut one = std::fs::read(src.join("a/one")).unwrap();
    one.splice(10_000..10_000, *b"in between");
    std::fs::write(src.join("a/one"), one).unwrap();
    std::fs::remove_file(src.join("a/gone")).unwrap();
    std::fs::create_dir(src.join("b")).unwrap();
    std::fs::write(src.join("b/new"), super::test_repository::noise(5, 50_000)).unwrap();
    std::fs::write(src.join("b/words"), super::test_repository::text(6, 30_000)).unwrap();
}

/// How many times the usual number of rounds a test that can go on for ever makes.
pub fn long_tests_factor() -> usize {
    let minutes = std::env::var("RAIDTAPE_TEST_MINUTES").ok().and_then(|minutes| minutes.parse::<usize>().ok());
    (minutes.unwrap_or(2) / 2).max(1)
}
