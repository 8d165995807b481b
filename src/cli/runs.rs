//! `runs`.

use super::session::Session;
use super::table::{self, Align};
use super::words;
use clap::Args;
use raidtape::catalog::runs::RunState;
use raidtape::engine::Exit;
use raidtape::engine::repository::Access;
use raidtape::engine::runs::{RunSummary, runs};
use serde::Serialize;

/// List the runs
#[derive(Debug, Args)]
#[command(after_help = "\
FILES counts all paths of the run, +ADDED, ~CHANGED and -GONE what is different
from the run before it of the same source, STORED the bytes that it added to the
volumes.

Examples:
  raidtape runs
  raidtape runs --source /home/me --json | jq '.runs[-1].run'")]
pub struct RunsArgs {
    /// Only runs of this source: its name, or host:name
    #[arg(long)]
    source: Option<String>,
}

#[derive(Serialize)]
struct Runs {
    runs: Vec<RunSummary>,
}

/// Lists them.
pub fn run(session: &mut Session, args: &RunsArgs) -> anyhow::Result<Exit> {
    let repository = session.open(Access::Read)?;
    let mut runs = runs(&repository)?;
    runs.retain(|run| args.source.as_deref().is_none_or(|wanted| is_source(&run.source, wanted)));
    if session.out.is_json {
        session.out.document("runs", &Runs { runs });
        return Ok(Exit::Done);
    }
    if runs.is_empty() {
        session.out.say("There is no run yet; make one with `raidtape backup DIR`");
        return Ok(Exit::Done);
    }
    let mut header = vec![
        ("RUN", Align::Right),
        ("STARTED", Align::Left),
        ("SOURCE", Align::Left),
        ("FILES", Align::Right),
        ("+ADDED", Align::Right),
        ("~CHANGED", Align::Right),
        ("-GONE", Align::Right),
        ("STORED", Align::Right),
    ];
    // Nearly always all runs are complete and sound; then the word is worth no column.
    let has_remarks = runs.iter().any(|run| !remark(run).is_empty());
    if has_remarks {
        header.push(("REMARK", Align::Left));
    }
    let rows = runs.iter().map(|run| row(run, has_remarks)).collect();
    table::print(&mut session.out, &header, rows);
    Ok(Exit::Done)
}

/// Whether `host:name` is what `wanted` names, with or without the host.
fn is_source(source: &str, wanted: &str) -> bool {
    source == wanted || source.split_once(':').is_some_and(|(_, name)| name == wanted)
}

fn remark(run: &RunSummary) -> String {
    match run.state {
        RunState::Complete if run.counts.problems == 0 => String::new(),
        RunState::Complete => format!("{} unread", words::count(run.counts.problems)),
        other => other.word().to_owned(),
    }
}

fn row(run: &RunSummary, has_remarks: bool) -> Vec<String> {
    let counts = &run.counts;
    let source = super::output::one_line(&run.source);
    let mut cells = vec![run.run.to_string(), words::minute(run.started_ns), source];
    if run.state == RunState::Complete {
        cells.extend([
            words::count(counts.added + counts.modified + counts.metadata + counts.unchanged),
            words::count(counts.added),
            words::count(counts.modified + counts.metadata),
            words::count(counts.deleted),
            words::size(counts.bytes_stored),
        ]);
    } else {
        cells.extend(std::iter::repeat_n("-".to_owned(), 5));
    }
    if has_remarks {
        cells.push(remark(run));
    }
    cells
}
