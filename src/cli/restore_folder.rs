//! `restore-folder`.

use super::restore::{HowArgs, WhatArgs, options};
use super::restore_tree::{TreeArgs, tree_help};
use super::restored::tell;
use super::session::Session;
use clap::Args;
use raidtape::engine::Exit;
use raidtape::engine::repository::Access;
use raidtape::engine::restore::{RestoreOptions, restore_folder};

/// Restore what a folder held, directly into DEST
#[derive(Debug, Args)]
#[command(after_help = concat!(
    "\
PATH is relative to the source's root, or absolute below it; `.` is all of it. DEST is
made if it is not there. One that is not empty needs --overwrite, unless the same
command was interrupted there: then it goes on. With `if-changed`, files of the same
size and time keep their bytes and get the owner, mode and attributes of the run.

",
    tree_help!(),
    "
Examples:
  raidtape restore-folder photos/2026 /tmp/photos-2026
  raidtape restore-folder photos/2026 ~/photos/2026 --overwrite if-changed --run 7
  raidtape restore-folder . /tmp/jpegs --include '*.jpg' --exclude /trash --dry-run
  raidtape restore-folder photos ~/photos --overwrite if-changed --delete"
))]
pub struct RestoreFolderArgs {
    #[command(flatten)]
    what: WhatArgs,
    #[command(flatten)]
    how: HowArgs,
    #[command(flatten)]
    tree: TreeArgs,
}

/// Restores it.
pub fn run(session: &mut Session, args: &RestoreFolderArgs) -> anyhow::Result<Exit> {
    let mut repository = session.open(Access::Read)?;
    let how = args.tree.how(&args.how, session);
    let options = RestoreOptions { how, ..options(&args.what, &args.how, session) };
    let progress = session.progress();
    let report = restore_folder(&mut repository, &options, &progress);
    progress.finish();
    tell(session, &report?)
}
