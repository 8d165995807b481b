//! `volumes`.

use super::lost;
use super::output::one_line;
use super::session::Session;
use super::table::{self, Align};
use super::words;
use clap::Args;
use raidtape::catalog::sums::Verification;
use raidtape::engine::Exit;
use raidtape::engine::repository::Access;
use raidtape::engine::volumes::{VolumeSummary, volumes};
use serde::Serialize;

/// List the volumes: which are here, what they hold, how much they can take
#[derive(Debug, Args)]
#[command(after_help = "\
STORED is what the volume's blocks take, FREE what it can take above its reserve,
VERIFIED since when all of its blocks were verified, or how much of it never was.
-v also shows the newest RUN whose record it holds, its reserve and its identity.

--lost lists the file versions that need bytes which lie on none but these volumes,
with their runs, as they are found; the last line counts them.

Examples:
  raidtape volumes
  raidtape volumes --lost blue,green
  raidtape volumes --json | jq -r '.volumes[] | select(.state == \"offline\").name'")]
pub struct VolumesArgs {
    /// List what would be gone without these volumes; names or identities
    #[arg(long, value_name = "VOLUME,...", value_delimiter = ',')]
    lost: Vec<String>,
}

const HEADER: [(&str, Align); 6] = [
    ("VOLUME", Align::Left),
    ("STATE", Align::Left),
    ("BLOCKS", Align::Right),
    ("STORED", Align::Right),
    ("FREE", Align::Right),
    ("VERIFIED", Align::Left),
];
const HEADER_MORE: [(&str, Align); 3] = [("RUN", Align::Right), ("RESERVE", Align::Right), ("UUID", Align::Left)];

#[derive(Serialize)]
struct Volumes {
    volumes: Vec<VolumeSummary>,
}

/// Lists them.
pub fn run(session: &mut Session, args: &VolumesArgs) -> anyhow::Result<Exit> {
    let repository = session.open(Access::Read)?;
    if !args.lost.is_empty() {
        return lost::run(session, &repository, &args.lost);
    }
    let volumes = volumes(&repository)?;
    if session.out.is_json {
        session.out.document("volumes", &Volumes { volumes });
        return Ok(Exit::Done);
    }
    if volumes.is_empty() {
        session.out.say("There is no volume yet; make one with `raidtape add-volume DIR`");
        return Ok(Exit::Done);
    }
    let more = if session.global.verbose { &HEADER_MORE[..] } else { &[] };
    let header = [&HEADER, more, &[("PATH", Align::Flow)]].concat();
    let rows = volumes.iter().map(|volume| row(volume, session.global.verbose)).collect();
    table::print(&mut session.out, &header, rows);
    Ok(Exit::Done)
}

fn row(volume: &VolumeSummary, is_verbose: bool) -> Vec<String> {
    let dash = || "-".to_owned();
    let mut cells = vec![
        one_line(&volume.name),
        volume.state.word().to_owned(),
        words::count(volume.blocks),
        words::size(volume.stored),
        volume.room().map_or_else(dash, words::size),
        verified(&volume.verification),
    ];
    if is_verbose {
        cells.push(volume.last_run.map_or_else(dash, |run| run.to_string()));
        cells.extend([volume.reserve.map_or_else(dash, words::size), volume.uuid.to_string()]);
    }
    cells.push(volume.path.as_deref().map_or_else(dash, one_line));
    cells
}

/// A day, `never`, or how much never was, rounded up.
fn verified(found: &Verification) -> String {
    match (found.never_bytes, found.oldest_ns) {
        (0, Some(oldest_ns)) => words::minute(oldest_ns).chars().take(10).collect(),
        (0, None) => "-".to_owned(),
        (_, None) => "never".to_owned(),
        (never, Some(_)) => {
            let share = (u128::from(never) * 100).div_ceil(u128::from(found.bytes.max(1)));
            format!("{share}% never")
        }
    }
}
