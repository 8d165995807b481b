//! `runs`.

use super::output::one_line;
use super::session::Session;
use super::table::{self, Align};
use super::{values, words};
use clap::Args;
use raidtape::catalog::runs::RunState;
use raidtape::engine::Exit;
use raidtape::engine::repository::Access;
use raidtape::engine::runs::{RunSummary, RunsOptions, runs};
use raidtape::model::moment::Moment;
use raidtape::model::run_marks::RunMarks;
use serde::Serialize;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;

/// List the runs
#[derive(Debug, Args)]
#[command(after_help = "\
FILES counts all paths of the run. CHANGES is against the run before it of the same
source: +added ~changed -deleted !unreadable, where -deleted has also what is no longer
selected; `list-changes` tells them apart. STORED is what it added to volumes. With -v
also SIZE, what a restore writes, READ from the source, and NEW before compression.
LABEL has the label and, in brackets, the tags, where any run has some.

Examples:
  raidtape runs
  raidtape runs --tag trip --since 2026-01-01 --last 5 -v
  raidtape runs --source /home/me --json | jq '.runs[-1].run'")]
pub struct RunsArgs {
    /// Only runs of this source: its name, or host:name
    #[arg(long)]
    source: Option<String>,
    /// Only runs of sources of this host
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Only runs with this tag; with all of `a,b`; repeated, with any
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Only the newest N of those that fit
    #[arg(long, value_name = "N")]
    last: Option<NonZeroUsize>,
    /// Only runs that began on this day or later: `2026-09-01`, `2026-09-01 12:30`
    #[arg(long, value_name = "DATE", value_parser = values::moment)]
    since: Option<Moment>,
    /// Only runs that began on this day or earlier
    #[arg(long, value_name = "DATE", value_parser = values::moment)]
    until: Option<Moment>,
}

#[derive(Serialize)]
struct Runs {
    runs: Vec<RunSummary>,
}

/// Lists them.
pub fn run(session: &mut Session, args: &RunsArgs) -> anyhow::Result<Exit> {
    let repository = session.open(Access::Read)?;
    let options = options(args);
    let is_filtered = args.host.is_some() || !args.tags.is_empty() || args.since.is_some() || args.until.is_some();
    let runs = runs(&repository, &options)?;
    if session.out.is_json {
        session.out.document("runs", &Runs { runs });
        return Ok(Exit::Done);
    }
    if runs.is_empty() {
        session.out.say(if is_filtered {
            "No run fits; `raidtape runs` lists all"
        } else {
            "There is no run yet; make one with `raidtape backup DIR`"
        });
        return Ok(Exit::Done);
    }
    let hosts: BTreeSet<&str> = runs.iter().map(|run| host_of(&run.source)).collect();
    let columns = Columns {
        sizes: session.global.verbose,
        hosts: hosts.len() > 1,
        labels: runs.iter().any(|run| run.marks != RunMarks::default()),
    };
    let rows = runs.iter().map(|run| row(run, &columns)).collect();
    table::print(&mut session.out, &columns.header(), rows);
    Ok(Exit::Done)
}

fn host_of(source: &str) -> &str {
    source.split_once(':').map_or("", |(host, _)| host)
}

fn options(args: &RunsArgs) -> RunsOptions {
    RunsOptions {
        source: args.source.clone(),
        host: args.host.clone(),
        tags: args.tags.iter().map(|list| list.split(',').map(|tag| tag.trim().to_owned()).collect()).collect(),
        since: args.since,
        until: args.until,
        last: args.last.map(NonZeroUsize::get),
    }
}

/// Which columns there are beside those that always are.
struct Columns {
    sizes: bool,
    hosts: bool,
    labels: bool,
}

impl Columns {
    fn header(&self) -> Vec<(&'static str, Align)> {
        let mut header = vec![("RUN", Align::Right), ("STARTED", Align::Left), ("FILES", Align::Right)];
        header.push(("CHANGES", Align::Left));
        if self.sizes {
            header.extend(["SIZE", "READ", "NEW"].map(|name| (name, Align::Right)));
        }
        header.push(("STORED", Align::Right));
        if self.labels {
            header.push(("LABEL", Align::Flow));
        }
        header.push(("SOURCE", Align::Flow));
        header
    }
}

fn row(run: &RunSummary, columns: &Columns) -> Vec<String> {
    let name = run.source.split_once(':').map_or(run.source.as_str(), |(_, name)| name);
    let source = one_line(if columns.hosts { &run.source } else { name });
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
        ]);
        if columns.sizes {
            cells.extend([counts.bytes_total, counts.bytes_read, counts.bytes_new].map(words::size));
        }
        cells.push(words::size(counts.bytes_stored));
    } else {
        cells.extend(["-", run.state.word()].map(str::to_owned));
        cells.extend(vec!["-".to_owned(); if columns.sizes { 4 } else { 1 }]);
    }
    if columns.labels {
        let tags = run.marks.tags.join(",");
        let tags = if tags.is_empty() { tags } else { format!("[{tags}]") };
        let words = [run.marks.label.clone().unwrap_or_default(), tags];
        cells.push(one_line(words.join(" ").trim()));
    }
    cells.push(source);
    cells
}
