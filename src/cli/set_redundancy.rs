//! `set-redundancy`.

use super::session::Session;
use super::{values, words};
use clap::Args;
use raidtape::engine::Exit;
use raidtape::engine::repository::Access;
use raidtape::engine::set_redundancy::set_redundancy;
use raidtape::model::redundancy::Redundancy;

/// Choose how many volumes may be lost, and how: by copies or by parity
#[derive(Debug, Args)]
#[command(after_help = "\
Backups go by it from now on; `raidtape protect` brings what is stored already to it.
copies=N puts every block on N volumes. parity=K+M puts up to K blocks on different
volumes into a group, with M parities on others: any M volumes may be lost, for M/K of
the space; it wants K+M volumes, and makes shorter groups with fewer. Between the two,
`protect` deletes what is not needed any more once the new is there; with none, or fewer
copies than before, what there is stays.

Examples:
  raidtape set-redundancy copies=2
  raidtape set-redundancy parity=4+2
  raidtape set-redundancy none")]
pub struct SetRedundancyArgs {
    /// none, copies=N with N from 2 to 16, or parity=K+M with K from 2 to 32, M from 1 to 8
    #[arg(value_name = "REDUNDANCY", value_parser = values::redundancy)]
    redundancy: Redundancy,
}

/// Sets it.
pub fn run(session: &mut Session, args: &SetRedundancyArgs) -> anyhow::Result<Exit> {
    let mut repository = session.open(Access::Write)?;
    let progress = session.progress();
    let report = set_redundancy(&mut repository, args.redundancy, &progress);
    progress.finish();
    let report = report?;
    if session.out.is_json {
        session.out.document("summary", &report);
        return Ok(Exit::Done);
    }
    session.out.say(&format!(
        "redundancy is {}; it was {}; the disks learn of it with the next backup",
        report.redundancy, report.before
    ));
    if report.blocks_under_protected > 0 {
        session.out.say(&format!(
            "{} to go to further volumes, {} in all: `raidtape protect` does it",
            words::plural(report.blocks_under_protected, "block"),
            words::size(report.bytes_missing)
        ));
    }
    Ok(Exit::Done)
}
