//! Every parser against bytes that nobody wrote: a bounded loop that changes real inputs, on every `cargo test`, and
//! the same targets for `cargo fuzz` (`tests/fuzz/Cargo.toml`). Prints its seed, which `RAIDTAPE_TEST_SEED` sets;
//! `RAIDTAPE_TEST_MINUTES` makes it longer.
#![allow(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "numbers of a test's own making, and a test that panics says so"
)]

mod change;
mod corpus;
mod properties;
mod targets;

#[path = "../util/needs.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod needs;

use change::Changer;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Time of all targets together.
const ALL_TIME: Duration = Duration::from_secs(36);
/// Memory that the whole process may take at any time, the corpus and zstd's contexts included.
const MEMORY_KIB_MAX: u64 = 256 << 10;

fn seed() -> u64 {
    let told = std::env::var("RAIDTAPE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = told.unwrap_or(20_260_101);
    println!("RAIDTAPE_TEST_SEED={seed}");
    seed
}

/// Runs a target on changed inputs until its time is over; at least on every input as it is.
fn run((name, target): targets::Target, time: Duration, seed: u64) {
    let inputs = corpus::of(name);
    assert!(!inputs.is_empty());
    inputs.iter().for_each(|input| target(input));
    let mut changer = Changer::new(seed, &inputs);
    let (began, mut count, mut bytes) = (Instant::now(), 0_u64, 0_u64);
    while began.elapsed() < time {
        let input = changer.next();
        let ended = catch_unwind(AssertUnwindSafe(|| target(&input)));
        if ended.is_err() {
            let path = std::env::temp_dir().join(format!("raidtape-fuzz-{name}-{seed}-{count}"));
            std::fs::write(&path, &input).expect("a place for the input");
            panic!("target {name}, seed {seed}, input {count} of {} bytes, kept as {}", input.len(), path.display());
        }
        count += 1;
        bytes += input.len() as u64;
    }
    println!("{name}: {count} executions, {bytes} bytes, {:.1} s", began.elapsed().as_secs_f64());
    assert!(count > 0);
}

/// The most memory that this process ever had, in KiB.
fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn no_parser_panics_or_fills_the_memory_whatever_the_bytes() {
    let seed = seed();
    let time = ALL_TIME * u32::try_from(needs::long_tests_factor()).unwrap() / 13;
    for target in targets::ALL {
        run(target, time, seed);
    }
    run(("rebuild", targets::rebuild::rebuild), time * 3, seed);
    println!("peak of memory: {} KiB", memory_kib());
    assert!(memory_kib() < MEMORY_KIB_MAX, "{} KiB", memory_kib());
}

#[test]
fn a_target_that_panics_is_told_and_its_input_kept() {
    let broken: targets::Target = ("keys", |data| assert!(data.len() < 4, "too much for this one"));
    let told = catch_unwind(|| run(broken, Duration::from_secs(5), 1));
    assert!(told.is_err());
}

#[test]
fn the_same_seed_gives_the_same_inputs() {
    let inputs = corpus::of("rows");
    let made = |seed| {
        let mut changer = Changer::new(seed, &inputs);
        (0..50).map(|_| changer.next()).collect::<Vec<_>>()
    };
    assert_eq!(made(7), made(7));
    assert_ne!(made(7), made(8));
}

/// Writes the corpus that `cargo fuzz` starts from into the directory that `RAIDTAPE_FUZZ_CORPUS` names; without it only
/// shows that it can be written, and that no target is without one.
#[test]
fn the_corpus_of_cargo_fuzz_is_written() {
    let temp = tempfile::tempdir().unwrap();
    let place = std::env::var_os("RAIDTAPE_FUZZ_CORPUS").map_or_else(|| temp.path().to_owned(), Into::into);
    for name in targets::ALL.iter().map(|(name, _)| *name).chain(["rebuild"]) {
        std::fs::create_dir_all(place.join(name)).unwrap();
        let inputs = corpus::of(name);
        assert!(!inputs.is_empty(), "{name} has nothing to start from");
        for (number, input) in inputs.iter().enumerate() {
            std::fs::write(place.join(name).join(format!("real-{number}")), input).unwrap();
        }
    }
}
