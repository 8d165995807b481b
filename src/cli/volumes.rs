//! `volumes`.

use super::output::one_line;
use super::session::Session;
use super::table::{self, Align};
use super::words;
use clap::Args;
use raidtape::engine::Exit;
use raidtape::engine::repository::Access;
use raidtape::engine::volumes::{VolumeStanding, VolumeSummary, volumes};
use serde::Serialize;

/// List the volumes: which are here, what they hold, how much they can take
#[derive(Debug, Args)]
#[command(after_help = "\
STORED is what the volume's blocks take, FREE what it can take above its reserve.

Examples:
  raidtape volumes
  raidtape volumes --json | jq -r '.volumes[] | select(.state == \"offline\").name'")]
pub struct VolumesArgs {}

#[derive(Serialize)]
struct Volumes {
    volumes: Vec<VolumeSummary>,
}

/// Lists them.
pub fn run(session: &mut Session, _args: &VolumesArgs) -> anyhow::Result<Exit> {
    let repository = session.open(Access::Read)?;
    let volumes = volumes(&repository)?;
    if session.out.is_json {
        session.out.document("volumes", &Volumes { volumes });
        return Ok(Exit::Done);
    }
    if volumes.is_empty() {
        session.out.say("There is no volume yet; make one with `raidtape add-volume DIR`");
        return Ok(Exit::Done);
    }
    let mut header = vec![
        ("VOLUME", Align::Left),
        ("STATE", Align::Left),
        ("BLOCKS", Align::Right),
        ("STORED", Align::Right),
        ("FREE", Align::Right),
        ("RUN", Align::Right),
        ("PATH", Align::Left),
    ];
    if session.global.verbose {
        header.push(("UUID", Align::Left));
    }
    let rows = volumes.iter().map(|volume| row(volume, session.global.verbose)).collect();
    table::print(&mut session.out, &header, rows);
    Ok(Exit::Done)
}

fn row(volume: &VolumeSummary, is_verbose: bool) -> Vec<String> {
    let state = match volume.state {
        VolumeStanding::Active => "active",
        VolumeStanding::Sealed => "sealed",
        VolumeStanding::Readonly => "readonly",
        VolumeStanding::Lost => "lost",
        VolumeStanding::Offline => "offline",
    };
    let dash = || "-".to_owned();
    let free = volume.free.map(|free| free.saturating_sub(volume.reserve.unwrap_or(0)));
    let mut cells = vec![
        one_line(&volume.name),
        state.to_owned(),
        words::count(volume.blocks),
        words::size(volume.stored),
        free.map_or_else(dash, words::size),
        volume.last_run.map_or_else(dash, |run| run.to_string()),
        volume.path.as_deref().map_or_else(dash, one_line),
    ];
    if is_verbose {
        cells.push(volume.uuid.to_string());
    }
    cells
}
