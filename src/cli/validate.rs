//! `validate`.

use super::output::{Colour, Output, one_line, painted, stderr_line};
use super::session::Session;
use super::{values, words};
use clap::Args;
use raidtape::engine::Exit;
use raidtape::engine::protect::shortfall_words;
use raidtape::engine::repository::Access;
use raidtape::engine::validate::{DamagedBlock, Level, ValidateOptions, ValidateReport, validate};
use std::num::NonZeroUsize;
use std::time::Duration;

/// Files that are named for one damaged block, unless asked for all.
const FILES_SHOWN_MAX: usize = 20;

/// Check that everything stored is there and sound
#[derive(Debug, Args)]
#[command(after_help = "\
Reads every block that is here, those verified longest ago first, and names the
files and runs that damage touches. What is found damaged is read again from the
source by the next backup. Ends with `All good`, or with `Uh oh` and exit code 4;
volumes that are not here could not be checked: exit code 5. With --max-duration it
says how much remains, and the next time begins there.

Examples:
  raidtape validate
  raidtape validate --deep --max-age 90d
  raidtape validate --max-duration 20m
  raidtape validate --sample 10% -q
  raidtape validate --repair")]
pub struct ValidateArgs {
    /// Only look whether blocks are there and as long as they should be
    #[arg(long, conflicts_with = "deep")]
    quick: bool,
    /// Also decode all blocks and hash every chunk
    #[arg(long)]
    deep: bool,
    /// Leave out blocks that were verified since, like 30d
    #[arg(long, value_name = "AGE", value_parser = values::age)]
    max_age: Option<Duration>,
    /// Only this part of the blocks, those verified longest ago
    #[arg(long, value_name = "PERCENT", value_parser = values::percentage)]
    sample: Option<f64>,
    /// Begin no further block after this time, like 20m; at least one of each volume is checked
    #[arg(long, value_name = "TIME", value_parser = values::duration, conflicts_with = "quick")]
    max_duration: Option<Duration>,
    /// Write damaged copies of blocks anew from sound ones on other volumes; the damaged ones are kept in quarantine/
    /// until a check with --repair finds everything sound
    #[arg(long)]
    repair: bool,
    /// Threads that decode [default: one per core]
    #[arg(long, value_name = "N", value_parser = values::threads)]
    max_workers: Option<NonZeroUsize>,
}

/// Checks, and tells what was found.
pub fn run(session: &mut Session, args: &ValidateArgs) -> anyhow::Result<Exit> {
    let mut repository = session.open(Access::Write)?;
    let level = match args {
        ValidateArgs { quick: true, .. } => Level::Quick,
        ValidateArgs { deep: true, .. } => Level::Deep,
        _ => Level::Blocks,
    };
    let options = ValidateOptions {
        level,
        max_age: args.max_age,
        sample_percent: args.sample,
        max_duration: args.max_duration,
        workers: args.max_workers.map(NonZeroUsize::get),
        repair: args.repair,
    };
    let progress = session.progress();
    let report = validate(&mut repository, &options, &progress);
    progress.finish();
    let report = report?;
    if session.out.is_json {
        session.out.document("summary", &report);
    } else {
        print(&mut session.out, &report, (session.global.verbose, &shortfall_words(&repository)));
    }
    Ok(report.exit())
}

/// Problems on stderr, the tally and at last the verdict on stdout.
fn print(out: &mut Output, report: &ValidateReport, (is_verbose, next): (bool, &str)) {
    for block in &report.damaged {
        print_block(block, is_verbose);
    }
    for sentence in other_problems(report).into_iter().flatten() {
        stderr_line(&format!("raidtape: {}", one_line(sentence)));
    }
    for sentence in report.index_problems.iter().chain(&report.notes) {
        stderr_line(&format!("raidtape: note: {}", one_line(sentence)));
    }
    for volume in &report.volumes_away {
        let volume = one_line(volume);
        stderr_line(&format!(
            "raidtape: volume {volume} is not here and was not checked; mount it, or pass --volume DIR"
        ));
    }
    if report.blocks_under_protected > 0 {
        let blocks = words::plural(report.blocks_under_protected, "block");
        stderr_line(&format!("raidtape: note: {blocks} less protected than the redundancy wants: {next}"));
    }
    out.say(&tally(report));
    match verdict(report) {
        (sentence, true) => out.say(&painted(&sentence, Colour::Green)),
        (sentence, false) => out.line(&painted(&sentence, Colour::Red)),
    }
}

fn print_block(block: &DamagedBlock, is_verbose: bool) {
    let (volume, what) = (one_line(&block.volume), one_line(&block.what));
    stderr_line(&format!("raidtape: block {} on {volume}: {what}", block.block));
    let shown = if is_verbose { block.files.len() } else { FILES_SHOWN_MAX.min(block.files.len()) };
    for file in &block.files[..shown] {
        let runs = match file.last_run {
            Some(last) if last == file.first_run => format!("run {last}"),
            Some(last) => format!("runs {} to {last}", file.first_run),
            None => format!("run {} and later", file.first_run),
        };
        stderr_line(&format!("  {}: {}, {runs}", one_line(&file.source), one_line(&file.path)));
    }
    let more = block.files_total.saturating_sub(shown as u64);
    if more > 0 {
        stderr_line(&format!("  … and {} more; --json names up to a thousand", words::plural(more, "file version")));
    }
    match &block.healed_from {
        Some(from) => stderr_line(&format!("  healed: written anew from {}", one_line(from))),
        None if block.files_total == 0 => stderr_line("  no file lacks a byte for it: nothing is lost"),
        None => {}
    }
}

fn tally(report: &ValidateReport) -> String {
    let took = words::duration(report.duration_s);
    let mut text = format!("checked {}", checked(report));
    if report.level != Level::Quick {
        text.push_str(&format!(" ({} read)", words::size(report.bytes_read)));
    }
    text.push_str(&format!(" and {} in {took}", words::plural(report.manifests_checked, "manifest")));
    for (number, what) in [(report.blocks_skipped, "left out as asked"), (report.blocks_away, "not here")] {
        if number > 0 {
            text.push_str(&format!(", {} {what}", words::plural(number, "block")));
        }
    }
    let others: usize = other_problems(report).iter().map(|found| found.len()).sum();
    if others > 0 {
        text.push_str(&format!(", {}", words::plural(others as u64, "other problem")));
    }
    text
}

/// `900 blocks`, or `120 of 900 blocks`.
fn checked(report: &ValidateReport) -> String {
    match report.blocks_left {
        0 => words::plural(report.blocks_checked, "block"),
        left => {
            let all = words::plural(report.blocks_checked.saturating_add(left), "block");
            format!("{} of {all}", words::count(report.blocks_checked))
        }
    }
}

/// Damage beside the blocks.
fn other_problems(report: &ValidateReport) -> [&Vec<String>; 4] {
    [&report.row_problems, &report.manifest_problems, &report.label_problems, &report.listing_problems]
}

/// The last line, and whether it is a good one.
fn verdict(report: &ValidateReport) -> (String, bool) {
    let mut blocks: Vec<_> = report.unhealed().map(|block| block.block).collect();
    blocks.sort_unstable();
    blocks.dedup();
    match report.exit() {
        Exit::Done if report.blocks_left > 0 => {
            let checked = checked(report);
            (format!("Sound so far: checked {checked} in the time given; the rest come first next time"), true)
        }
        Exit::Done => match report.damaged.len() as u64 {
            0 => ("All good".to_owned(), true),
            healed => (format!("All good again: {} healed", words::plural(healed, "damaged block")), true),
        },
        Exit::Damage => {
            let others = report.row_problems.len()
                + report.manifest_problems.len()
                + report.label_problems.len()
                + report.listing_problems.len();
            let beside = match (blocks.len(), others) {
                (0, _) => format!(", and {} wrong beside them", words::plural(others as u64, "thing")),
                _ => String::new(),
            };
            let rest = rest_words(report);
            (format!("Uh oh: {} blocks damaged{beside}{rest}", words::count(blocks.len() as u64)), false)
        }
        _ => {
            let volumes = words::plural(report.volumes_away.len() as u64, "volume");
            let blocks = words::plural(report.blocks_away, "block");
            let rest = rest_words(report);
            let here = if rest.is_empty() { "what is here" } else { "what was checked" };
            (format!("Not all was checked: {volumes} away, with {blocks}; {here} is sound{rest}"), false)
        }
    }
}

fn rest_words(report: &ValidateReport) -> String {
    match report.blocks_left {
        0 => String::new(),
        left => format!("; {} come first next time", words::plural(left, "block")),
    }
}
