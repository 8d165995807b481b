//! `runs`.

use super::output::one_line;
use super::session::Session;
use super::table::{self, Align};
use super::words;
use clap::Args;
use raidtape::catalog::runs::RunState;
use raidtape::engine::repository::Access;
use raidtape::engine::runs::{RunSummary, runs};
use raidtape::engine::{EngineError, Exit};
use raidtape::model::nearest::hint;
use serde::Serialize;
use std::collections::BTreeSet;

/// List the runs
#[derive(Debug, Args)]
#[command(after_help = "\
FILES counts all paths of the run. CHANGES is against the run before it of the same
source: +added ~changed -deleted !unreadable. STORED is what it added to volumes.

Examples:
  raidtape runs
  raidtape runs --source /home/me --json | jq '.runs[-1].run'")]
pub struct RunsArgs {
    /// Only runs of this source: its name, or host:name
    #[arg(long)]
    source: Option<String>,
}

const HEADER: [(&str, Align); 6] = [
    ("RUN", Align::Right),
    ("STARTED", Align::Left),
    ("FILES", Align::Right),
    ("CHANGES", Align::Left),
    ("STORED", Align::Right),
    ("SOURCE", Align::Flow),
];

#[derive(Serialize)]
struct Runs {
    runs: Vec<RunSummary>,
}

/// Lists them.
pub fn run(session: &mut Session, args: &RunsArgs) -> anyhow::Result<Exit> {
    let repository = session.open(Access::Read)?;
    let mut runs = runs(&repository)?;
    let sources: BTreeSet<String> = runs.iter().map(|run| run.source.clone()).collect();
    runs.retain(|run| args.source.as_deref().is_none_or(|wanted| is_source(&run.source, wanted)));
    if let Some(source) = args.source.as_ref().filter(|_| !sources.is_empty() && runs.is_empty()) {
        let hint = hint(source, sources.iter().map(String::as_str));
        let sentence = format!("there is no run of a source {source}{hint}; `raidtape runs` lists all");
        return Err(EngineError::Usage(sentence).into());
    }
    if session.out.is_json {
        session.out.document("runs", &Runs { runs });
        return Ok(Exit::Done);
    }
    if runs.is_empty() {
        session.out.say("There is no run yet; make one with `raidtape backup DIR`");
        return Ok(Exit::Done);
    }
    let hosts: BTreeSet<&str> = runs.iter().map(|run| host_of(&run.source)).collect();
    let rows = runs.iter().map(|run| row(run, hosts.len() > 1)).collect();
    table::print(&mut session.out, &HEADER, rows);
    Ok(Exit::Done)
}

fn host_of(source: &str) -> &str {
    source.split_once(':').map_or("", |(host, _)| host)
}

/// Whether `host:name` is what `wanted` names, with or without the host.
fn is_source(source: &str, wanted: &str) -> bool {
    source == wanted || source.split_once(':').is_some_and(|(_, name)| name == wanted)
}

fn row(run: &RunSummary, has_hosts: bool) -> Vec<String> {
    let name = run.source.split_once(':').map_or(run.source.as_str(), |(_, name)| name);
    let source = one_line(if has_hosts { &run.source } else { name });
    let mut cells = vec![run.run.to_string(), words::minute(run.started_ns)];
    if run.state == RunState::Complete {
        let counts = &run.counts;
        let changed = counts.modified.saturating_add(counts.metadata);
        let numbers = [('+', counts.added), ('~', changed), ('-', counts.deleted), ('!', counts.problems)];
        let changes = numbers.into_iter().filter(|(_, number)| *number > 0);
        let changes: Vec<String> = changes.map(|(sign, number)| format!("{sign}{}", words::count(number))).collect();
        cells.extend([
            words::count(counts.added.saturating_add(changed).saturating_add(counts.unchanged)),
            if changes.is_empty() { "none".to_owned() } else { changes.join(" ") },
            words::size(counts.bytes_stored),
        ]);
    } else {
        cells.extend(["-", run.state.word(), "-"].map(str::to_owned));
    }
    cells.push(source);
    cells
}
