//! `remove-volume`.

use super::protect::under_words;
use super::replace_volume::give_up;
use super::session::Session;
use super::words;
use clap::Args;
use raidtape::engine::Exit;
use raidtape::engine::protect::shortfall_words;
use raidtape::engine::remove_volume::remove_volume;
use raidtape::engine::replace_volume::ReplaceVolumeOptions;
use raidtape::engine::repository::Access;

/// Empty a volume into the others and take it out of the repository
#[derive(Debug, Args)]
#[command(after_help = "\
Every block on it that the others have too rarely is copied there first, and hashed on
the way; only then it is no volume of the repository any more. Its files stay where
they are: delete them when you want the disk for something else. Interrupted, the
same command goes on.

Examples:
  raidtape remove-volume disk1
  raidtape remove-volume disk1 --lost       (it will not come back)")]
pub struct RemoveVolumeArgs {
    /// The volume, by name or UUID
    volume: String,
    /// It is not here and will not come back: give it up, and copy what was on it from the others
    #[arg(long)]
    lost: bool,
}

/// Removes it.
pub fn run(session: &mut Session, args: &RemoveVolumeArgs) -> anyhow::Result<Exit> {
    if args.lost {
        return give_up(session, &ReplaceVolumeOptions { lost: args.volume.clone(), with: None });
    }
    let mut repository = session.open(Access::Write)?;
    let progress = session.progress();
    let report = remove_volume(&mut repository, &args.volume, &progress);
    progress.finish();
    let report = report?;
    if session.out.is_json {
        session.out.document("summary", &report);
        return Ok(report.exit());
    }
    session.out.say(&format!(
        "copied {} ({}) in {}",
        words::plural(report.blocks_copied, "block"),
        words::size(report.bytes_copied),
        words::duration(report.duration_s)
    ));
    session.out.say(&format!(
        "volume {} is removed; what lies in {} is not needed any more once a backup has told the others",
        report.volume, report.path
    ));
    if report.blocks_under_protected > 0 {
        let lacking = (report.blocks_under_protected, report.bytes_under_protected);
        let next = shortfall_words(&repository);
        session.warn(&under_words(lacking, repository.settings().redundancy, &next));
    }
    Ok(report.exit())
}
