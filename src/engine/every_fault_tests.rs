//! Every operation that a verb asks of its volumes fails in turn, once or for good, with everything that a system may
//! say, done or not done all the same; after each of these the questions of `test_bench` are asked.

use super::error::Exit;
use super::every_crash_tests::{Crash, crash_states};
use super::genmeta::{GenmetaOptions, genmeta};
use super::test_bench::{
    Bench, Known, Listener, NAMES, State, Tree, assert_same, grow, long_tests_factor, one_behind, one_run, story, tree,
    two_runs, without_privileges,
};
use super::test_repository::noise;
use crate::volume::test_double::{Fault, Lasting, Op};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is done while a volume fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Backup,
    Genmeta,
    Rebuild,
    Restore,
    Validate,
}

/// A verb, the state that it starts from, and where faults may be.
struct Stage<'b> {
    bench: &'b Bench,
    name: &'static str,
    verb: Verb,
    base: &'b State,
    /// The source's tree, for a backup.
    tree: Arc<Tree>,
    /// The tree of a run that was cut off before.
    cut_off: Option<Arc<Tree>>,
    /// A file of the source that cannot be read meanwhile.
    dark: Option<PathBuf>,
}

/// What came of all faults of a stage.
#[derive(Default)]
struct Tally {
    cases: u64,
    /// What the verb asks of the volumes without a fault.
    ops: BTreeMap<Op, u64>,
    outcomes: BTreeMap<String, u64>,
    /// Where verbs ended with an error.
    errors: BTreeMap<String, u64>,
}

/// One way of failing, at every operation in turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub disk: Option<usize>,
    pub errno: Errno,
    pub lasting: Lasting,
}

/// Every way of failing. In a short test a full quota stands for a full disk, which is the same to all above the store,
/// and what fails is done all the same only where it fails with EIO.
pub(super) fn ways() -> Vec<Way> {
    ways_on(2)
}

/// The same for so many volumes.
pub(super) fn ways_on(disks: usize) -> Vec<Way> {
    let mut ways = Vec::new();
    let is_long = long_tests_factor() > 1;
    for disk in (0..disks).map(Some).chain([None]) {
        for errno in [Errno::IO, Errno::NOSPC, Errno::ROFS, Errno::DQUOT] {
            for lasting in [Lasting::Once, Lasting::ForGood, Lasting::UntilReserveIsFreed] {
                let is_full = [Errno::NOSPC, Errno::DQUOT].contains(&errno);
                let is_usual = match (lasting, disk) {
                    (Lasting::Once, _) => matches!(errno, Errno::IO | Errno::DQUOT),
                    (Lasting::ForGood, None) => errno == Errno::IO,
                    (Lasting::ForGood, _) => errno != Errno::DQUOT,
                    (Lasting::UntilReserveIsFreed, _) => errno == Errno::NOSPC && disk == Some(0),
                };
                // The n-th of all volumes together is the n-th of one of them.
                let is_possible = match lasting {
                    Lasting::Once => disk.is_some(),
                    Lasting::ForGood => true,
                    Lasting::UntilReserveIsFreed => is_full && disk.is_some(),
                };
                let is_wanted = is_possible && (is_usual || is_long);
                if is_wanted {
                    ways.push(Way { disk, errno, lasting });
                }
            }
        }
    }
    ways
}

impl Stage<'_> {
    /// Goes through all ways and operations; prints what came of them.
    fn enumerate(&self) -> Tally {
        let mut tally = Tally::default();
        self.once(&mut tally, None);
        for way in ways() {
            for at in 0.. {
                let fault = Fault { disk: way.disk, at, errno: way.errno, lasting: way.lasting, is_done: false };
                let Some(op) = self.once(&mut tally, Some(fault)) else { break };
                if op.may_be_done_and_fail() && (way.errno == Errno::IO || long_tests_factor() > 1) {
                    self.once(&mut tally, Some(Fault { is_done: true, ..fault }));
                }
            }
        }
        #[expect(clippy::print_stdout, reason = "how much was tried")]
        {
            println!("{}: {} faults in {:?}", self.name, tally.cases, tally.ops);
            println!("  outcomes {:?}", tally.outcomes);
            println!("  errors {:#?}", tally.errors);
        }
        tally
    }

    /// One fault; returns what failed first, if it came to that.
    fn once(&self, tally: &mut Tally, fault: Option<Fault>) -> Option<Op> {
        self.bench.put(self.base);
        let mut known = self.base.known.clone();
        if let Some(fault) = fault {
            self.bench.world.arm(fault);
        }
        self.bench.world.take_counts();
        let mut trial = Trial { stage: self, fault, fired: None, known: &mut known, ops: BTreeMap::new() };
        let (outcome, error) = trial.run();
        let fired = trial.fired.clone();
        if fault.is_none() {
            tally.ops = trial.ops;
        }
        tally.cases += u64::from(fired.is_some());
        *tally.outcomes.entry(outcome.to_owned()).or_default() += 1;
        if let Some(error) = error {
            let at = fired.as_ref().map(|(op, key)| format!("{op:?} {}", key.split('/').next().unwrap_or(key)));
            let what = format!("{:?} {:?} {:?} at {at:?}: {}", fault?.disk, fault?.errno, fault?.lasting, error);
            *tally.errors.entry(what).or_default() += 1;
        }
        let what = format!("{}: {fault:?} at {fired:?}: {outcome}", self.name);
        let mut cut_off: Vec<_> = self.cut_off.iter().cloned().collect();
        cut_off.extend((self.verb == Verb::Backup).then(|| Arc::clone(&self.tree)));
        self.bench.assert_holds((&known, &cut_off), &what);
        fired.map(|(op, _)| op)
    }
}

/// Whether it is a step of writing an object.
fn is_of_objects(op: Op) -> bool {
    matches!(op, Op::Begin | Op::Write | Op::Commit)
}

/// One run of a verb, with one fault.
struct Trial<'t> {
    stage: &'t Stage<'t>,
    fault: Option<Fault>,
    fired: Option<(Op, String)>,
    known: &'t mut Known,
    ops: BTreeMap<Op, u64>,
}

impl Trial<'_> {
    /// Runs the verb and asks the first question: is its answer right? Returns a word for it, and the error.
    fn run(&mut self) -> (&'static str, Option<String>) {
        let (exit, error) = match self.stage.verb {
            Verb::Backup => self.backup(),
            Verb::Genmeta => self.genmeta(),
            Verb::Rebuild => self.rebuild(),
            Verb::Restore => self.restore(),
            Verb::Validate => self.validate(),
        };
        if self.fired.is_none() {
            let wanted = if self.stage.dark.is_some() { Exit::SomeUnread } else { Exit::Done };
            assert_eq!(exit, wanted, "{}: without a fault: {error:?}", self.stage.name);
        }
        let word = match exit {
            Exit::Done => "done",
            Exit::SomeUnread => "some unread",
            Exit::Failed => "failed",
            Exit::Damage => "damage",
            Exit::NoVolume => "no volume",
            other => panic!("{}: {other:?} for {:?} at {:?}: {error:?}", self.stage.name, self.fault, self.fired),
        };
        (word, error)
    }

    fn what(&self) -> String {
        format!("{}: {:?} at {:?}", self.stage.name, self.fault, self.fired)
    }

    fn ended(&mut self) {
        self.fired = self.stage.bench.world.disarm();
        self.ops = self.stage.bench.world.take_counts();
    }

    /// The name of the volume that fails, if it is one.
    fn failing(&self) -> Option<&'static str> {
        Some(NAMES[self.fault?.disk?])
    }

    fn backup(&mut self) -> (Exit, Option<String>) {
        let Stage { bench, dark, .. } = self.stage;
        let listener = Listener::default();
        let set_mode = |mode| {
            dark.iter().for_each(|dark| std::fs::set_permissions(dark, std::fs::Permissions::from_mode(mode)).unwrap());
        };
        set_mode(0);
        let ended = without_privileges(|| bench.backup(&listener));
        set_mode(0o644);
        self.ended();
        if let Ok(report) = &ended {
            self.known.insert(report.run, Arc::clone(&self.stage.tree));
        }
        // Only a run that was cut off before may be there beside it, completed.
        let what = self.what();
        bench.learn_completed((self.known, self.stage.cut_off.as_slice()), &what);
        match ended {
            Ok(report) => {
                assert_eq!(report.problems.len(), usize::from(dark.is_some()), "{}: {report:#?}", self.what());
                // What cannot be read in one place is read in another, or at the next try.
                // A disk that is full while a block is written is no failure either.
                let is_full = self.fault.is_some_and(|fault| [Errno::NOSPC, Errno::DQUOT].contains(&fault.errno));
                let is_usual = |op| matches!(op, Op::Open | Op::Read) || is_full && matches!(op, Op::Begin | Op::Write);
                let is_quiet = self.fired.as_ref().is_none_or(|(op, _)| is_usual(*op));
                if let Some(name) = self.failing().filter(|_| !is_quiet) {
                    assert!(listener.heard(name), "{}: not a word of {name}: {:?}", self.what(), listener.0);
                }
                (if dark.is_some() { Exit::SomeUnread } else { Exit::Done }, None)
            }
            Err(error) => {
                let (exit, words) = (error.exit(), error.to_string());
                // Where the other volume can take the bytes, one that cannot be written is no reason to fail.
                let is_write = self.fired.as_ref().is_some_and(|(op, _)| is_of_objects(*op));
                assert!(!(is_write && self.failing().is_some()), "{}: {words}", self.what());
                if let Some(name) = self.failing() {
                    assert_eq!(exit, Exit::Failed, "{}: {words}", self.what());
                    assert!(words.contains(name), "{}: {words}", self.what());
                }
                (exit, Some(words))
            }
        }
    }

    fn genmeta(&mut self) -> (Exit, Option<String>) {
        let bench = self.stage.bench;
        let ended = genmeta(&mut bench.open(), &GenmetaOptions::default(), &Listener::default());
        self.ended();
        match ended {
            Ok(report) => {
                assert!(report.volumes_skipped.is_empty(), "{}: {report:?}", self.what());
                (Exit::Done, None)
            }
            Err(error) => (error.exit(), Some(error.to_string())),
        }
    }

    fn rebuild(&mut self) -> (Exit, Option<String>) {
        let bench = self.stage.bench;
        let before = story(&bench.catalog());
        let ended = bench.rebuild(&bench.catalog());
        self.ended();
        assert_eq!(story(&bench.catalog()), before, "{}: another story", self.what());
        match ended {
            Ok(report) => {
                assert!(report.unreachable_runs.is_empty(), "{}: {report:#?}", self.what());
                assert_eq!(report.blocks_missing, 0, "{}", self.what());
                (Exit::Done, None)
            }
            Err(error) => (error.exit(), Some(error.to_string())),
        }
    }

    fn restore(&mut self) -> (Exit, Option<String>) {
        let bench = self.stage.bench;
        let run = *self.known.keys().next_back().unwrap();
        let (ended, found) = bench.revert(run);
        self.ended();
        let wanted = &self.known[&run];
        match ended {
            Ok(Exit::Done) => {
                assert_same(wanted, &found, &self.what());
                (Exit::Done, None)
            }
            Ok(exit) => {
                assert!(self.fired.is_some(), "{}", self.what());
                // What is there is whole; something is not there.
                let hash = |words: &String| words.split(' ').next().map(str::to_owned);
                let is_whole = |(path, words): (&PathBuf, &String)| {
                    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
                        || wanted.get(path).is_some_and(|wanted| hash(wanted) == hash(words))
                };
                assert!(found.iter().all(is_whole), "{}: {found:#?}", self.what());
                assert!(wanted.keys().any(|path| !found.contains_key(path)), "{}", self.what());
                (exit, Some("files are missing".to_owned()))
            }
            Err(error) => (error.exit(), Some(error.to_string())),
        }
    }

    fn validate(&mut self) -> (Exit, Option<String>) {
        let listener = Listener::default();
        let ended = self.stage.bench.validate(&listener);
        self.ended();
        match ended {
            Ok(report) => {
                let problems = [&report.manifest_problems, &report.listing_problems, &report.volumes_away];
                // After the last block only the index is concerned, which is a cache.
                let told = format!("{:?}{problems:?}{:?}{:?}", report.damaged, report.notes, listener.0);
                if self.fired.is_some()
                    && let Some(name) = self.failing()
                {
                    assert!(
                        told.contains(&format!("volume {name}: ")) || told.contains(&format!("{name} (")),
                        "{}: {report:#?}",
                        self.what()
                    );
                }
                let is_read = self.fired.as_ref().is_some_and(|(op, _)| matches!(op, Op::Open | Op::Read | Op::List));
                assert_eq!(report.exit() == Exit::Done, !is_read, "{}: {report:#?}", self.what());
                (report.exit(), (report.exit() != Exit::Done).then(|| "damage is told".to_owned()))
            }
            Err(error) => (error.exit(), Some(error.to_string())),
        }
    }
}

fn stage<'b>(bench: &'b Bench, (name, verb): (&'static str, Verb), base: &'b State) -> Stage<'b> {
    Stage { bench, name, verb, base, tree: Arc::new(tree(&bench.src())), cut_off: None, dark: None }
}

#[test]
fn whatever_fails_in_the_first_backup_is_told_and_costs_nothing() {
    let (bench, empty) = Bench::new();
    grow(&bench.src());
    let tally = stage(&bench, ("the first backup", Verb::Backup), &empty).enumerate();
    assert!(tally.cases > 150 && tally.outcomes["done"] > 50);
}

#[test]
fn whatever_fails_in_a_later_backup_is_told_and_costs_nothing() {
    let (bench, one) = one_run();
    let tally = stage(&bench, ("the second backup", Verb::Backup), &one).enumerate();
    assert!(tally.cases > 150 && tally.outcomes["done"] > 50);
}

#[test]
fn whatever_fails_while_a_volume_catches_up_is_told_and_costs_nothing() {
    let (bench, behind) = one_behind();
    let tally = stage(&bench, ("a backup on a volume that is behind", Verb::Backup), &behind).enumerate();
    assert!(tally.cases > 150 && tally.outcomes["done"] > 50);
}

#[test]
fn a_record_that_a_volume_missed_is_copied_later_whatever_came_in_between() {
    for is_rebuilt in [false, true] {
        let (bench, mut behind) = one_behind();
        behind.disks[0].retain(|key, _| !key.ends_with(".2.manifest"));
        let records = |state: &State, disk: usize| {
            let of_run = |key: &&String| key.starts_with("runs/0000000002-") && !key.ends_with(".2.manifest");
            state.disks[disk].keys().filter(of_run).cloned().collect::<Vec<_>>()
        };
        assert!(records(&behind, 1).is_empty() && !records(&behind, 0).is_empty());
        bench.put(&behind);
        // The one place that has the record cannot be read when it is wanted.
        bench.world.arm_for(
            Op::Open,
            Fault { disk: Some(0), at: 0, errno: Errno::IO, lasting: Lasting::Once, is_done: false },
        );
        let listener = Listener::default();
        let wanted = Arc::new(tree(&bench.src()));
        let mut known = behind.known.clone();
        known.insert(bench.backup(&listener).unwrap().run, wanted);
        assert!(bench.world.disarm().is_some_and(|(_, key)| key.starts_with("runs/0000000002-")));
        assert!(listener.heard("cannot be copied") && listener.heard(NAMES[1]), "{:?}", listener.0);
        let state = bench.state(known.clone());
        assert!(records(&state, 1).is_empty());
        if is_rebuilt {
            bench.rebuild(&bench.catalog()).unwrap();
        }
        bench.assert_holds((&known, &[]), "a record that was missed");
        let state = bench.state(known);
        assert_eq!(records(&state, 1), records(&state, 0));
    }
}

#[test]
fn a_source_error_never_hides_a_volume_error() {
    let (bench, one) = one_run();
    let dark = bench.src().join("b/dark");
    std::fs::write(&dark, "not for everybody").unwrap();
    let mut stage = stage(&bench, ("a backup with an unreadable file", Verb::Backup), &one);
    let mut wanted = tree(&bench.src());
    wanted.remove(Path::new("b/dark")).unwrap();
    (stage.tree, stage.dark) = (Arc::new(wanted), Some(dark));
    let tally = stage.enumerate();
    assert!(tally.cases > 150 && tally.outcomes["some unread"] > 50 && tally.outcomes["no volume"] > 0);
}

/// Faults in the backup that follows a crash, which came right after something arrived in `dir`.
fn enumerate_after_crash(name: &'static str, dir: &str) -> Tally {
    let (bench, one) = one_run();
    let cut_off = Arc::new(tree(&bench.src()));
    let crashes = crash_states(&bench, &one, &|| drop(bench.backup(&Listener::default()).unwrap()));
    std::fs::write(bench.src().join("c/later"), "later").unwrap();
    let is_after = |crash: &&Crash| crash.after.as_ref().is_some_and(|key| key.starts_with(dir));
    let crash = crashes.iter().find(is_after).unwrap();
    let mut stage = stage(&bench, (name, Verb::Backup), &crash.state);
    stage.cut_off = Some(cut_off);
    stage.enumerate()
}

#[test]
fn whatever_fails_after_a_crash_with_a_block_is_told_and_costs_nothing() {
    let tally = enumerate_after_crash("a backup after a crash with a block", "chunks/");
    assert!(tally.cases > 150 && tally.outcomes["done"] > 50);
}

#[test]
fn whatever_fails_after_a_crash_with_a_record_is_told_and_costs_nothing() {
    let tally = enumerate_after_crash("a backup after a crash with a record", "runs/");
    assert!(tally.cases > 150 && tally.outcomes["done"] > 50);
}

#[test]
fn one_volume_fails_for_good_in_the_middle_of_a_run_and_another_takes_over() {
    let mut taken_over = 0;
    for workers in [None, Some(2)] {
        let (mut bench, empty) = Bench::new();
        bench.workers = workers;
        grow(&bench.src());
        // More than one block for each volume.
        for (name, seed) in [("d", 20), ("e", 21), ("f", 22)] {
            std::fs::create_dir(bench.src().join(name)).unwrap();
            std::fs::write(bench.src().join(name).join("large"), noise(seed, 7 << 20)).unwrap();
        }
        let wanted = Arc::new(tree(&bench.src()));
        for at in (0..).step_by(3) {
            bench.put(&empty);
            let fault = Fault { disk: Some(0), at, errno: Errno::IO, lasting: Lasting::ForGood, is_done: false };
            bench.world.arm(fault);
            let listener = Listener::default();
            let ended = bench.backup(&listener);
            let what = format!("workers {workers:?}: {fault:?}: {:?}", listener.0);
            if listener.heard("trying without it") {
                taken_over += 1;
                // The volume is still dead, and nothing of the run is asked of it.
                let run = ended.as_ref().unwrap_or_else(|error| panic!("{what}: {error}")).run;
                let (done, found) = bench.revert(run);
                assert_eq!(done.unwrap(), Exit::Done, "{what}");
                assert_same(&wanted, &found, &what);
            }
            let Some((op, _)) = bench.world.disarm() else { break };
            let mut known = Known::new();
            match ended {
                Ok(report) => {
                    assert!(listener.heard(NAMES[0]), "{what}");
                    known.insert(report.run, Arc::clone(&wanted));
                }
                Err(error) => {
                    assert!(!is_of_objects(op) && error.to_string().contains(NAMES[0]), "{what}: {op:?}: {error}")
                }
            }
            bench.assert_holds((&known, &[]), &what);
        }
    }
    #[expect(clippy::print_stdout, reason = "how much was tried")]
    {
        println!("{taken_over} runs that another volume took over");
    }
    assert!(taken_over >= 4);
}

#[test]
fn whatever_fails_in_genmeta_is_told_and_costs_nothing() {
    let (bench, two) = two_runs();
    let tally = stage(&bench, ("genmeta", Verb::Genmeta), &two).enumerate();
    assert!(tally.cases > 50);
}

#[test]
fn whatever_fails_in_a_rebuild_is_told_and_costs_nothing() {
    let (bench, two) = two_runs();
    let tally = stage(&bench, ("rebuild-catalog", Verb::Rebuild), &two).enumerate();
    assert!(tally.cases > 30);
}

#[test]
fn whatever_fails_in_a_restore_is_told_and_costs_nothing() {
    let (bench, two) = two_runs();
    let tally = stage(&bench, ("restore", Verb::Restore), &two).enumerate();
    assert!(tally.cases > 10);
}

#[test]
fn whatever_fails_in_validate_is_told_and_costs_nothing() {
    let (bench, two) = two_runs();
    let tally = stage(&bench, ("validate", Verb::Validate), &two).enumerate();
    assert!(tally.cases > 50);
}
