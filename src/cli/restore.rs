//! `restore`, and what the three commands that restore have in common.

use super::output::one_line;
use super::problems;
use super::session::Session;
use super::values::{self, RunName};
use super::words;
use clap::Args;
use raidtape::engine::Exit;
use raidtape::engine::repository::Access;
use raidtape::engine::restore::{Overwrite, RestoreOptions, RestoreReport, restore};
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Files that changed while they were stored and are named, unless asked for all.
const INCONSISTENT_SHOWN_MAX: usize = 20;

/// Restore one file
#[derive(Debug, Args)]
#[command(after_help = "\
PATH is relative to the source's root, or absolute below it. DEST is a file name or
an existing directory. The file is confirmed by its hash before it gets its name.

Examples:
  raidtape restore letters/to-anna.odt .
  raidtape restore /home/me/letters/to-anna.odt ~/anna-old.odt --run 7")]
pub struct RestoreArgs {
    #[command(flatten)]
    what: WhatArgs,
    #[command(flatten)]
    how: HowArgs,
}

/// What is restored.
#[derive(Debug, Args)]
pub struct WhatArgs {
    /// Path inside the source, or absolute below its root
    path: OsString,
    /// Where to
    dest: PathBuf,
    /// As of this run: a number, or `latest` [default: the newest of the source]
    #[arg(long, value_parser = values::run_name)]
    run: Option<RunName>,
    /// Which source, where several fit: its name, or host:name
    #[arg(long)]
    source: Option<String>,
}

/// How it is restored.
#[derive(Debug, Args)]
pub struct HowArgs {
    /// What becomes of files that are there: always, if-changed, if-newer or never
    #[arg(long, value_name = "MODE", value_parser = values::overwrite)]
    pub overwrite: Option<Overwrite>,
    /// Threads that read, decode and write [default: one per core]
    #[arg(long, value_name = "N", value_parser = values::threads)]
    pub max_workers: Option<NonZeroUsize>,
    /// Owners by number, not by the names that they had
    #[arg(long)]
    pub numeric_ids: bool,
}

/// Restores it.
pub fn run(session: &mut Session, args: &RestoreArgs) -> anyhow::Result<Exit> {
    let mut repository = session.open(Access::Read)?;
    let options = options(&args.what, &args.how);
    let progress = session.progress();
    let report = restore(&mut repository, &options, &progress);
    progress.finish();
    tell(session, &report?)
}

/// What engine is asked for.
pub fn options(what: &WhatArgs, how: &HowArgs) -> RestoreOptions {
    RestoreOptions {
        path: what.path.as_bytes().to_vec(),
        dest: what.dest.clone(),
        run: what.run.and_then(RunName::number),
        source: what.source.clone(),
        overwrite: how.overwrite,
        workers: how.max_workers.map(NonZeroUsize::get),
        numeric_ids: how.numeric_ids,
    }
}

/// Prints what came of a restore, and returns the exit code for it.
pub fn tell(session: &mut Session, report: &RestoreReport) -> anyhow::Result<Exit> {
    if session.out.is_json {
        let mut document = serde_json::to_value(report)?;
        document["problems"] = serde_json::to_value(problems::json(&report.problems))?;
        session.out.document("summary", &document);
        return Ok(report.exit());
    }
    session.out.say(&tally(report));
    warn(session, report);
    problems::print(&report.problems, session.global.verbose);
    if !report.volumes_wanted.is_empty() {
        let volumes = one_line(&report.volumes_wanted.join(", "));
        session.warn(&format!("mount {volumes}, or pass --volume DIR, and give the same command again for the rest"));
    }
    if !report.problems.is_empty() {
        let missing = words::plural(report.problems.len() as u64, "problem");
        session.out.line(&format!("Not complete: {missing}"));
    }
    Ok(report.exit())
}

fn warn(session: &Session, report: &RestoreReport) {
    if report.metadata_refused > 0 {
        session.warn(&format!(
            "owner, mode, times or attributes of {} could not all be set; root may do more, or another file system",
            words::plural(report.metadata_refused, "name")
        ));
    }
    let shown = if session.global.verbose { usize::MAX } else { INCONSISTENT_SHOWN_MAX };
    for path in report.inconsistent.iter().take(shown) {
        session.warn(&format!("{path} changed while it was backed up: its parts may not fit together"));
    }
    let more = report.inconsistent.len().saturating_sub(shown);
    if more > 0 {
        session.warn(&format!("… and {} more; -v lists them all", words::count(more as u64)));
    }
}

fn tally(report: &RestoreReport) -> String {
    let mut text = format!("Restored {} ({})", words::plural(report.files, "file"), words::size(report.bytes));
    for (number, noun) in [
        (report.dirs, "folder"),
        (report.symlinks, "symlink"),
        (report.hardlinks, "hard link"),
        (report.specials, "special file"),
    ] {
        if number > 0 {
            text.push_str(&format!(", {}", words::plural(number, noun)));
        }
    }
    text.push_str(&format!(
        " from run {} of {} to {} in {}",
        report.run,
        one_line(&report.source),
        one_line(&report.dest),
        words::duration(report.duration_s)
    ));
    if report.skipped_existing > 0 {
        text.push_str(&format!("; {} left as they were", words::plural(report.skipped_existing, "name")));
    }
    text
}
