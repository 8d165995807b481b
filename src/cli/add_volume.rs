//! `add-volume`.

use super::session::Session;
use super::{values, words};
use clap::Args;
use raidtape::engine::Exit;
use raidtape::engine::add_volume::{self, AddVolumeOptions, AddVolumeReport};
use raidtape::engine::repository::Access;
use raidtape::model::params::Reserve;
use std::path::PathBuf;

/// Make a directory a volume: a place that takes blocks
#[derive(Debug, Args)]
#[command(after_help = "\
DIR is created if it does not exist. An existing empty DIR on its parent's file
system may be the mount point of a disk that is not mounted: it needs --force.

Examples:
  raidtape add-volume /mnt/disk1/raidtape
  raidtape add-volume /mnt/disk2/raidtape --reserve 50G --name blue")]
pub struct AddVolumeArgs {
    #[command(flatten)]
    volume: NewVolume,
}

/// How a directory becomes a volume.
#[derive(Debug, Args)]
pub struct NewVolume {
    /// The directory of the new volume
    dir: PathBuf,
    /// Space to keep free: a percentage of the volume's size, or a size (20G) [default: as given to `init`]
    #[arg(long, value_name = "RESERVE", value_parser = values::reserve)]
    reserve: Option<Reserve>,
    /// Name of the volume for people [default: the directory's]
    #[arg(long)]
    name: Option<String>,
    /// Take a directory that is not empty, or that may be an unmounted mount point
    #[arg(long)]
    force: bool,
}

impl NewVolume {
    /// The same for the engine.
    pub fn options(&self) -> AddVolumeOptions {
        AddVolumeOptions { dir: self.dir.clone(), reserve: self.reserve, name: self.name.clone(), force: self.force }
    }
}

/// Adds the volume.
pub fn run(session: &mut Session, args: &AddVolumeArgs) -> anyhow::Result<Exit> {
    let mut repository = session.open(Access::Write)?;
    let progress = session.progress();
    let report = add_volume::add_volume(&mut repository, &args.volume.options(), &progress);
    progress.finish();
    let report = report?;
    if session.out.is_json {
        session.out.document("summary", &report);
    }
    say(session, &report);
    Ok(Exit::Done)
}

/// What was made, in words.
pub fn say(session: &mut Session, report: &AddVolumeReport) {
    session.out.say(&format!(
        "Added volume {} at {}: {} free for data, {} kept free",
        report.name,
        report.path,
        words::size(report.free_for_data),
        words::size(report.reserve_bytes)
    ));
    if session.global.verbose {
        session.out.say(&format!("volume {}", report.volume));
    }
}
