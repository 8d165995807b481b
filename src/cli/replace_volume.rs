//! `replace-volume`.

use super::add_volume::NewVolume;
use super::protect::under_words;
use super::session::Session;
use super::words;
use clap::Args;
use raidtape::engine::protect::shortfall_words;
use raidtape::engine::replace_volume::{ReplaceVolumeOptions, ReplaceVolumeReport, replace_volume};
use raidtape::engine::repository::Access;
use raidtape::engine::{Exit, Repository};

/// Give up a volume that will not come back, and put a new one in its place
#[derive(Debug, Args)]
#[command(after_help = "\
DIR becomes a volume, as with `add-volume`, and gets every block that was on LOST and
that other volumes have or, by parity, give back. What was on LOST alone is counted as
damaged; the next backup stores what its source still has. `raidtape volumes --lost LOST` lists
the files beforehand. Interrupted, the same command goes on. If LOST turns up again, the
next command that writes takes it back.

Examples:
  raidtape replace-volume disk2 /mnt/new/raidtape
  raidtape replace-volume disk2 /mnt/new/raidtape --name disk2b --reserve 50G")]
pub struct ReplaceVolumeArgs {
    /// The volume that is lost, by name or UUID
    lost: String,
    #[command(flatten)]
    volume: NewVolume,
}

/// Replaces it.
pub fn run(session: &mut Session, args: &ReplaceVolumeArgs) -> anyhow::Result<Exit> {
    give_up(session, &ReplaceVolumeOptions { lost: args.lost.clone(), with: Some(args.volume.options()) })
}

/// Gives a volume up, with or without another in its place.
pub fn give_up(session: &mut Session, options: &ReplaceVolumeOptions) -> anyhow::Result<Exit> {
    let mut repository = session.open(Access::Write)?;
    let progress = session.progress();
    let report = replace_volume(&mut repository, options, &progress);
    progress.finish();
    let report = report?;
    if session.out.is_json {
        session.out.document("summary", &report);
    } else {
        say(session, &repository, &report);
    }
    Ok(report.exit())
}

fn say(session: &mut Session, repository: &Repository, report: &ReplaceVolumeReport) {
    report.problems.iter().for_each(|problem| session.warn(problem));
    let place = report.volume.as_ref().map(|volume| format!("; {volume} is in its place")).unwrap_or_default();
    session.out.say(&format!("volume {} is given up{place}", report.lost));
    if report.blocks_copied > 0 {
        session.out.say(&format!(
            "copied {} ({}) in {}",
            words::plural(report.blocks_copied, "block"),
            words::size(report.bytes_copied),
            words::duration(report.duration_s)
        ));
    }
    if report.blocks_gone > 0 {
        let (blocks, name) =
            (words::plural(report.blocks_gone, "block"), report.lost.split(' ').next().unwrap_or_default());
        session.warn(&format!(
            "{blocks} ({}) cannot be had without it: `raidtape volumes --lost {name}` lists the files; back up now, to store again what \
             their source still has",
            words::size(report.bytes_gone)
        ));
    }
    if report.blocks_under_protected > 0 {
        let lacking = (report.blocks_under_protected, report.bytes_under_protected);
        session.warn(&under_words(lacking, repository.settings().redundancy, &shortfall_words(repository)));
    }
}
