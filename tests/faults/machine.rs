//! Random lives, and the shortest that goes wrong: a proptest over what somebody does with files, asks of the program
//! and must put up with, against a model of what was saved. After each life the five questions, adapted to the damage
//! that there is. A failure is printed as a test that can be pasted below `regressions`.

mod files;
mod harm;
mod life;
mod ops;
mod regressions;
mod restores;

use crate::util::needs::long_tests_factor;
use life::{Life, Tally};
use ops::{Disks, Op};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Sequences of a usual round.
const SEQUENCES: u64 = 192;

/// Lives a life to its end.
fn replay(disks: Disks, ops: &[Op]) -> Tally {
    let mut life = Life::new(disks);
    ops.iter().for_each(|op| life.act(op));
    life.end();
    life.tally
}

/// The same, where a failure is something to shrink.
fn try_to_live(disks: Disks, ops: &[Op]) -> Result<Tally, TestCaseError> {
    catch_unwind(AssertUnwindSafe(|| replay(disks, ops))).map_err(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        TestCaseError::fail(text.unwrap_or_else(|| "it panicked".to_owned()))
    })
}

fn as_a_test((disks, ops): &(Disks, Vec<Op>)) -> String {
    let lines: String = ops.iter().map(|op| format!("        {op:?},\n")).collect();
    format!("#[test]\nfn regression_what_must_not_happen() {{\n    replay({disks:?}, &[\n{lines}    ]);\n}}")
}

/// So many sequences of one seed, until one fails or others have.
fn live(seed: u64, sequences: u64, has_failed: &AtomicBool) -> Result<Tally, String> {
    let sum = Mutex::new(Tally::default());
    let config = Config {
        cases: u32::try_from(sequences).unwrap(),
        failure_persistence: None,
        max_shrink_iters: 600,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let is_mine = AtomicBool::new(false);
    let ended = runner.run(&ops::sequence(), |(disks, ops)| {
        if has_failed.load(Ordering::Relaxed) && !is_mine.load(Ordering::Relaxed) {
            return Ok(());
        }
        let lived = try_to_live(disks, &ops).inspect_err(|_| {
            is_mine.store(true, Ordering::Relaxed);
            has_failed.store(true, Ordering::Relaxed);
        })?;
        sum.lock().unwrap().add(&lived);
        Ok(())
    });
    match ended {
        Ok(()) => Ok(*sum.lock().unwrap()),
        Err(TestError::Fail(reason, ops)) => Err(format!(
            "RAIDTAPE_TEST_SEED={seed}: {reason}\n\nThe shortest life that goes wrong:\n{}",
            as_a_test(&ops)
        )),
        Err(error) => Err(format!("RAIDTAPE_TEST_SEED={seed}: {error}")),
    }
}

#[test]
fn whatever_happens_in_a_life_every_run_stays_what_it_was() {
    let seed = std::env::var("RAIDTAPE_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1_u64);
    let sequences = SEQUENCES * long_tests_factor();
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8) as u64);
    let has_failed = AtomicBool::new(false);
    // Each thread has a seed of its own, so that a failure can be had again alone.
    let share = sequences.div_ceil(threads);
    let ended: Vec<Result<Tally, String>> = std::thread::scope(|scope| {
        let lives: Vec<_> = (0..threads)
            .map(|number| {
                let has_failed = &has_failed;
                scope.spawn(move || live(seed + number, share, has_failed))
            })
            .collect();
        lives.into_iter().map(|life| life.join().unwrap()).collect()
    });
    let mut sum = Tally::default();
    for end in ended {
        match end {
            Ok(tally) => sum.add(&tally),
            Err(text) => panic!("{text}"),
        }
    }
    println!("{} sequences from seed {seed} on: {sum:?}", share * threads);
    assert!(sum.operations > sequences && sum.runs > sequences && sum.told > 0 && sum.stopped > 0, "{sum:?}");
}
