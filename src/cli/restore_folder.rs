//! `restore-folder`.

use super::restore::{HowArgs, WhatArgs, options, tell};
use super::session::Session;
use clap::Args;
use raidtape::engine::Exit;
use raidtape::engine::repository::Access;
use raidtape::engine::restore::restore_folder;

/// Restore what a folder held, directly into DEST
#[derive(Debug, Args)]
#[command(after_help = "\
PATH is relative to the source's root, or absolute below it; `.` is all of it. DEST is
made if it is not there. One that is not empty needs --overwrite, unless the same
command was interrupted there: then it goes on.

Examples:
  raidtape restore-folder photos/2026 /tmp/photos-2026
  raidtape restore-folder photos/2026 ~/photos/2026 --overwrite if-changed --run 7")]
pub struct RestoreFolderArgs {
    #[command(flatten)]
    what: WhatArgs,
    #[command(flatten)]
    how: HowArgs,
}

/// Restores it.
pub fn run(session: &mut Session, args: &RestoreFolderArgs) -> anyhow::Result<Exit> {
    let mut repository = session.open(Access::Read)?;
    let progress = session.progress();
    let report = restore_folder(&mut repository, &options(&args.what, &args.how), &progress);
    progress.finish();
    tell(session, &report?)
}
