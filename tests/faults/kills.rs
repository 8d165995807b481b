//! Kills at random instants, hundreds of them over one history that goes on: nothing is repaired by hand in between.

use crate::util::bench::{Bench, Said};
use crate::util::five::{Known, assert_rebuilds};
use crate::util::needs::long_tests_factor;
use crate::util::oracle::{Snapshot, snapshot};
use crate::util::tree::{Rng, write};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const DISKS: [&str; 2] = ["disk1", "disk2"];
const REBUILD: [&str; 5] = ["rebuild-catalog", "--volume", "disk1", "--volume", "disk2"];

/// A history that is being killed.
struct History {
    bench: Bench,
    rng: Rng,
    /// The tree that each run saw, complete or not, by the run's identity.
    trees: BTreeMap<String, Snapshot>,
    killed: BTreeMap<String, u64>,
    whole: BTreeMap<String, Duration>,
}

impl History {
    fn new() -> Self {
        let bench = Bench::in_memory().and_volumes(&DISKS, &[]);
        let mut rng = Rng(11);
        for file in 0..12 {
            write(&bench.src(), &format!("d{}/{file}", file % 4), &rng.bytes(30_000));
        }
        Self { bench, rng, trees: BTreeMap::new(), killed: BTreeMap::new(), whole: BTreeMap::new() }
    }

    /// A day's work: some files modified, one added, sometimes one deleted.
    fn work(&mut self, round: u64) {
        for _ in 0..3 {
            let (file, len) = (self.rng.below(12), 20_000 + self.rng.below(100_000));
            write(&self.bench.src(), &format!("d{}/{file}", file % 4), &self.rng.bytes(len as usize));
        }
        write(&self.bench.src(), &format!("new{}/{round}", round % 3), &self.rng.bytes(3000));
        let _ = std::fs::remove_file(self.bench.path(format!("src/new{}/{}", round % 3, round.saturating_sub(9))));
    }

    /// Runs a command and kills it at some instant of the time that it took before; whether it was killed.
    fn kill(&mut self, args: &[&str]) -> bool {
        let usual = self.whole.get(args[0]).copied().unwrap_or(Duration::from_millis(60));
        let after = usual.mul_f64(self.rng.below(1000) as f64 / 950.0);
        let begun = Instant::now();
        let mut child = self.bench.start(&[&["--json", "--no-progress"], args].concat());
        std::thread::sleep(after);
        child.kill().unwrap();
        let said = Said::from(child.wait_with_output().unwrap());
        assert!([0, -9].contains(&said.code), "{args:?}: {said:#?}");
        if said.code == 0 {
            // It was quicker than that.
            self.whole.insert(args[0].to_owned(), begun.elapsed().min(usual.mul_f64(0.9)));
            return false;
        }
        // Nobody asserts on this time: it only makes instants near the end as likely as others.
        self.whole.insert(args[0].to_owned(), usual.mul_f64(1.02));
        *self.killed.entry(args[0].to_owned()).or_insert(0) += 1;
        true
    }

    /// Runs that came into the catalog have seen the source as it is now.
    fn note_runs(&mut self) {
        let runs = self.bench.query("SELECT hex(uuid) FROM runs");
        if runs.iter().any(|run| !self.trees.contains_key(run)) {
            let tree = snapshot(&self.bench.src());
            for run in runs {
                self.trees.entry(run).or_insert_with(|| tree.clone());
            }
        }
    }

    /// The complete runs and what they must have saved.
    fn known(&self) -> Known {
        let complete = self.bench.query("SELECT seq || ' ' || hex(uuid) FROM runs WHERE state = 'complete'");
        let told = complete.iter().map(|cell| {
            let run = text(cell);
            let (seq, uuid) = run.split_once(' ').unwrap();
            let known = self.trees.iter().find(|(name, _)| text(name) == uuid);
            (seq.parse().unwrap(), known.expect("a run that somebody made").1.clone())
        });
        Known(told.collect())
    }

    /// After a kill: nothing is damaged, and runs come back.
    fn look(&mut self, what: &str) {
        let known = self.known();
        let mut some: Vec<i64> = known.0.keys().rev().take(1).copied().collect();
        let all: Vec<i64> = known.0.keys().copied().collect();
        if !all.is_empty() {
            some.push(all[self.rng.below(all.len() as u64) as usize]);
        }
        let some = Known(known.0.into_iter().filter(|(run, _)| some.contains(run)).collect());
        some.assert_restores(&self.bench, what);
        let said = self.bench.run(&["--no-progress", "validate"]);
        assert!(said.code == 0 && said.out.ends_with("All good\n"), "{what}: {said:#?}");
    }
}

/// A cell of a query, as text.
fn text(cell: &str) -> String {
    let bytes = cell.trim_start_matches("Text([").trim_end_matches("])").split(", ");
    bytes.map(|byte| byte.parse::<u8>().unwrap() as char).collect()
}

#[test]
fn two_hundred_kills_at_random_instants_cost_no_run_and_need_no_repair() {
    let mut history = History::new();
    let wanted = 200 * long_tests_factor();
    let (mut round, mut killed) = (0, 0);
    while killed < wanted {
        round += 1;
        assert!(round < 20 * wanted, "only {killed} were killed");
        let what = format!("round {round}");
        let is_killed = match round % 10 {
            3 if !history.trees.is_empty() => history.kill(&["genmeta"]),
            5 if !history.known().0.is_empty() => {
                let dest = format!("dest{round}");
                let known = history.known();
                let (run, tree) = known.0.iter().next_back().unwrap();
                let args = ["revert-to-run", &run.to_string(), &dest];
                let is_killed = history.kill(&args);
                if is_killed {
                    // It may have been over but for the last word.
                    let is_done = history.bench.path(&dest).exists()
                        && !history.bench.path(&dest).join(".raidtape-restore").exists()
                        && snapshot(&history.bench.path(&dest)).0.len() > 1;
                    let how: &[&str] = if is_done { &["--overwrite", "if-changed"] } else { &[] };
                    history.bench.run(&[&args[..], how].concat()).with_code(0);
                }
                snapshot(&history.bench.path(&dest)).assert_is(tree, &what);
                std::fs::remove_dir_all(history.bench.path(&dest)).unwrap();
                is_killed
            }
            7 if !history.known().0.is_empty() => {
                let is_killed = history.kill(&REBUILD);
                // As whoever began it would: a catalog that is whole is then in place.
                history.bench.run(&REBUILD).with_code(0);
                for entry in std::fs::read_dir(history.bench.path("")).unwrap().map(Result::unwrap) {
                    if entry.file_name().to_string_lossy().contains(".broken-") {
                        std::fs::remove_file(entry.path()).unwrap();
                    }
                }
                is_killed
            }
            9 => {
                history.work(round);
                history.bench.backup();
                false
            }
            _ => {
                history.work(round);
                history.kill(&["backup", "src"])
            }
        };
        history.note_runs();
        killed += u64::from(is_killed);
        if is_killed {
            history.look(&what);
        }
    }
    println!("killed {:?} in {round} rounds, {} runs were begun", history.killed, history.trees.len());
    assert!(history.killed["backup"] >= wanted / 2);
    let mut known = history.known();
    println!("{} runs are complete", known.0.len());
    known.assert_holds(&history.bench, &DISKS, "in the end");
    history.note_runs();
    history.known().assert_restores(&history.bench, "in the end");
    assert_rebuilds(&history.bench, &DISKS, "in the end");
}
