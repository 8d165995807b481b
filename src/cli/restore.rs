//! `restore`, and what the three commands that restore have in common.

use super::restored::tell;
use super::session::Session;
use super::values;
use clap::Args;
use raidtape::engine::Exit;
use raidtape::engine::repository::Access;
use raidtape::engine::restore::{Overwrite, RestoreHow, RestoreOptions, restore};
use raidtape::model::run_spec::RunSpec;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Restore one file
#[derive(Debug, Args)]
#[command(after_help = "\
PATH is relative to the source's root, or absolute below it. DEST is a file name or
an existing directory. The file is confirmed by its hash before it gets its name.

Examples:
  raidtape restore letters/to-anna.odt .
  raidtape restore /home/me/letters/to-anna.odt ~/anna-old.odt --run 7
  raidtape restore letters/to-anna.odt ~ --overwrite if-changed --dry-run")]
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
    /// As of this run: a number, `latest`, `latest~N` or `@DATE` [default: the newest of the source]
    #[arg(long)]
    run: Option<RunSpec>,
    /// Which source, where several fit: its name, or host:name
    #[arg(long)]
    source: Option<String>,
}

/// How it is restored.
#[derive(Debug, Args)]
pub struct HowArgs {
    /// Write nothing; say what would be restored, with -v each path
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Exit 4 and name the files where owner, mode, times or attributes cannot be set
    #[arg(long)]
    pub strict: bool,
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
    let options = options(&args.what, &args.how, session);
    let progress = session.progress();
    let report = restore(&mut repository, &options, &progress);
    progress.finish();
    tell(session, &report?)
}

/// What engine is asked for.
pub fn options(what: &WhatArgs, args: &HowArgs, session: &Session) -> RestoreOptions {
    RestoreOptions {
        path: what.path.as_bytes().to_vec(),
        dest: what.dest.clone(),
        run: what.run.clone(),
        source: what.source.clone(),
        overwrite: args.overwrite,
        workers: args.max_workers.map(NonZeroUsize::get),
        how: how(args, session),
    }
}

/// The same for what does not depend on the place.
pub fn how(args: &HowArgs, session: &Session) -> RestoreHow {
    RestoreHow {
        dry_run: args.dry_run,
        strict: args.strict,
        names_all: session.global.verbose,
        numeric_ids: args.numeric_ids,
        ..RestoreHow::default()
    }
}
