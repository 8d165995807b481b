//! `revert-to-run`.

use super::restore::HowArgs;
use super::restore_tree::{TreeArgs, tree_help};
use super::restored::tell;
use super::session::Session;
use clap::Args;
use raidtape::engine::Exit;
use raidtape::engine::repository::Access;
use raidtape::engine::restore::{RevertOptions, revert_to_run};
use raidtape::engine::select::run_named;
use raidtape::model::run_spec::RunSpec;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Restore the whole tree of a run, directly into DEST
#[derive(Debug, Args)]
#[command(after_help = concat!(
    "\
DEST is made if it is not there. One that is not empty needs --overwrite, unless the
same command was interrupted there: then it goes on. With `if-changed`, files of the
same size and time keep their bytes and get the owner, mode and attributes of the run.

",
    tree_help!(),
    "
Examples:
  raidtape revert-to-run 7 /tmp/as-of-run-7
  raidtape revert-to-run latest /home/me --overwrite if-changed
  raidtape revert-to-run 7 /home/me --overwrite if-changed --dry-run -v
  raidtape revert-to-run 7 /home/me --overwrite if-changed --delete --dry-run"
))]
pub struct RevertToRunArgs {
    /// A number, `latest`, `latest~N` or `@DATE`
    run: RunSpec,
    /// Where to
    dest: PathBuf,
    /// Whose run, where several sources have runs: its name, or host:name
    #[arg(long)]
    source: Option<String>,
    #[command(flatten)]
    how: HowArgs,
    #[command(flatten)]
    tree: TreeArgs,
}

/// Restores it.
pub fn run(session: &mut Session, args: &RevertToRunArgs) -> anyhow::Result<Exit> {
    let mut repository = session.open(Access::Read)?;
    let options = RevertOptions {
        run: run_named(&repository, &args.run, args.source.as_deref())?.seq,
        dest: args.dest.clone(),
        overwrite: args.how.overwrite,
        workers: args.how.max_workers.map(NonZeroUsize::get),
        how: args.tree.how(&args.how, session),
    };
    let progress = session.progress();
    let report = revert_to_run(&mut repository, &options, &progress);
    progress.finish();
    tell(session, &report?)
}
