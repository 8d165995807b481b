//! `protect`.

use super::session::Session;
use super::{values, words};
use clap::Args;
use raidtape::engine::Exit;
use raidtape::engine::protect::{ProtectOptions, ProtectReport, protect, shortfall_words};
use raidtape::engine::repository::Access;
use raidtape::model::redundancy::Redundancy;
use std::time::Duration;

/// Bring what is stored to what the redundancy wants: copies, or parity
#[derive(Debug, Args)]
#[command(after_help = "\
A backup does the same with the blocks that it writes. This is for those that were
written before `set-redundancy`, while too few volumes were here, or that lost a
copy. It can be stopped at any time and goes on where it was. Every block is hashed
while it is read. Under parity it also makes lost members of groups again, fills groups
that are short, and deletes copies and parities that others took the place of. Exit
code 6 while blocks are less protected than wanted.

Examples:
  raidtape protect
  raidtape protect --max-duration 2h")]
pub struct ProtectArgs {
    /// Begin no further block after this time, like 2h; at least one for each volume is copied
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    max_duration: Option<Duration>,
}

/// Copies, and tells what is left.
pub fn run(session: &mut Session, args: &ProtectArgs) -> anyhow::Result<Exit> {
    let mut repository = session.open(Access::Write)?;
    let progress = session.progress();
    let report = protect(&mut repository, &ProtectOptions { max_duration: args.max_duration }, &progress);
    progress.finish();
    let report = report?;
    if session.out.is_json {
        session.out.document("summary", &report);
        return Ok(report.exit());
    }
    report.problems.iter().for_each(|problem| session.warn(problem));
    if report.blocks_copied > 0 {
        session.out.say(&format!(
            "copied {} ({}) to {} in {}",
            words::plural(report.blocks_copied, "block"),
            words::size(report.bytes_copied),
            report.volumes_written.join(", "),
            words::duration(report.duration_s)
        ));
    }
    if report.parity_groups > 0 {
        let groups = words::plural(report.parity_groups, "group");
        let time = words::duration(report.duration_s);
        session.out.say(&format!("wrote parity of {groups} ({}) in {time}", words::size(report.parity_bytes)));
    }
    if report.files_removed > 0 {
        let files = words::plural(report.files_removed, "file");
        let freed = words::size(report.bytes_removed);
        session.out.say(&format!("deleted {files} ({freed}) that something else stands for now"));
    }
    if report.blocks_damaged > 0 {
        let blocks = words::plural(report.blocks_damaged, "block");
        session.warn(&format!(
            "{blocks} damaged in every copy; `raidtape validate` names the files, a backup heals what its source still has"
        ));
    }
    match report.blocks_under_protected {
        0 => {
            session.out.say(&all_words(&report));
            if report.volumes_known < report.volumes_wanted {
                let (known, wanted, policy) = (report.volumes_known, report.volumes_wanted, report.redundancy);
                session.out.say(&format!(
                    "with {known} volumes instead of {wanted} {policy} takes more room than it could: add some with `raidtape add-volume DIR`"
                ));
            }
        }
        left => {
            let next = if report.is_out_of_time {
                "the time given was over; run `raidtape protect` again".to_owned()
            } else {
                shortfall_words(&repository)
            };
            session.warn(&under_words((left, report.bytes_under_protected), report.redundancy, &next));
        }
    }
    Ok(report.exit())
}

fn all_words(report: &ProtectReport) -> String {
    match report.redundancy {
        Redundancy::None => {
            "redundancy is none: every block lies on one volume; `raidtape set-redundancy` changes that".to_owned()
        }
        Redundancy::Copies(copies) => format!("every block lies on {copies} volumes"),
        Redundancy::Parity { parities, .. } => {
            format!("any {} may be lost", words::plural(u64::from(parities), "volume"))
        }
    }
}

/// What lies on too few volumes, and what helps.
pub fn under_words((blocks, bytes): (u64, u64), redundancy: Redundancy, next: &str) -> String {
    let (are, blocks) = (if blocks == 1 { "is" } else { "are" }, words::plural(blocks, "block"));
    format!("{blocks} ({}) {are} less protected than {redundancy} wants: {next}", words::size(bytes))
}
