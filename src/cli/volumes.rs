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
STORED is what the volume's blocks take, FREE what it can take above its reserve,
RUN the newest run whose record it holds. -v shows identities.

Examples:
  raidtape volumes
  raidtape volumes --json | jq -r '.volumes[] | select(.state == \"offline\").name'")]
pub struct VolumesArgs {}

const HEADER: [(&str, Align); 7] = [
    ("VOLUME", Align::Left),
    ("STATE", Align::Left),
    ("BLOCKS", Align::Right),
    ("STORED", Align::Right),
    ("FREE", Align::Right),
    ("RUN", Align::Right),
    ("PATH", Align::Flow),
];
const HEADER_VERBOSE: [(&str, Align); 4] =
    [("VOLUME", Align::Left), ("STATE", Align::Left), ("UUID", Align::Left), ("PATH", Align::Flow)];

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
    let header = if session.global.verbose { &HEADER_VERBOSE[..] } else { &HEADER[..] };
    let rows = volumes.iter().map(|volume| row(volume, session.global.verbose)).collect();
    table::print(&mut session.out, header, rows);
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
    let (name, path) = (one_line(&volume.name), volume.path.as_deref().map_or_else(dash, one_line));
    if is_verbose {
        return vec![name, state.to_owned(), volume.uuid.to_string(), path];
    }
    let free = volume.free.map(|free| free.saturating_sub(volume.reserve.unwrap_or(0)));
    vec![
        name,
        state.to_owned(),
        words::count(volume.blocks),
        words::size(volume.stored),
        free.map_or_else(dash, words::size),
        volume.last_run.map_or_else(dash, |run| run.to_string()),
        path,
    ]
}
