//! `report`: one page about the repository, to look at in a browser or to send.

mod chart;
mod html;
mod page;
mod sections;

use super::session::Session;
use super::values;
use super::whole_file::{self, Readers};
use clap::Args;
use raidtape::engine::report::report;
use raidtape::engine::repository::Access;
use raidtape::engine::status::{StatusOptions, now_ns};
use raidtape::engine::{EngineError, Exit};
use std::path::PathBuf;
use std::time::Duration;

/// Write a page about the repository, to look at in a browser
#[derive(Debug, Args)]
#[command(after_help = "\
One HTML file with everything in it: no script, nothing from the network. It names
folders and sources, so only its owner may read it. --json prints the same facts and
writes no file when FILE is left out.

Examples:
  raidtape report /tmp/backup.html
  raidtape report --json | jq .status.state")]
pub struct ReportArgs {
    /// The page; an existing file is replaced
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// How old the newest complete run of each source may be
    #[arg(long, value_name = "AGE", value_parser = values::age, default_value = "36h")]
    max_run_age: Duration,
    /// Within which time every block is to be verified
    #[arg(long, value_name = "AGE", value_parser = values::age, default_value = "30d")]
    max_verify_age: Duration,
}

impl ReportArgs {
    /// Whether the result goes to stdout alone.
    pub fn is_for_stdout(&self) -> bool {
        self.file.is_none()
    }
}

/// Writes it.
pub fn run(session: &mut Session, args: &ReportArgs) -> anyhow::Result<Exit> {
    if args.file.is_none() && !session.out.is_json {
        return Err(
            EngineError::Usage("say which FILE is to be written, like `raidtape report backup.html`".into()).into()
        );
    }
    let repository = session.open(Access::Read)?;
    let (max_run_age, max_verify_age) = (args.max_run_age, args.max_verify_age);
    let options = StatusOptions { max_run_age, max_verify_age, ..StatusOptions::default() };
    let progress = session.progress_while_looking();
    let report = report(&repository, &options, now_ns(), &progress)?;
    progress.finish();
    if let Some(path) = &args.file {
        whole_file::write(path, &page::page(&report), Readers::Owner)?;
        session.out.say(&format!("{} written", path.display()));
    }
    if session.out.is_json {
        session.out.document("report", &report);
    }
    Ok(Exit::Done)
}
