//! `list-changes`.

use super::output::Output;
use super::paths::{self, JsonPath};
use super::session::Session;
use super::words;
use clap::Args;
use raidtape::catalog::changes::ChangeKind;
use raidtape::engine::Exit;
use raidtape::engine::list_changes::{ChangesReport, list_changes};
use raidtape::engine::repository::Access;
use raidtape::engine::select::run_named;
use raidtape::model::run_spec::RunSpec;
use serde::Serialize;

/// List what a run changed against the run before it
#[derive(Debug, Args)]
#[command(after_help = "\
Each line is a sign and a path: + added, ~ modified, = only metadata, - deleted,
x no longer selected.

Examples:
  raidtape list-changes latest
  raidtape list-changes 7 --json | jq -r 'select(.change == \"deleted\").path'")]
pub struct ListChangesArgs {
    /// A number, `latest`, `latest~N` or `@DATE`
    run: RunSpec,
    /// Whose run, where several sources have runs: its name, or host:name
    #[arg(long)]
    source: Option<String>,
}

/// Lists them.
pub fn run(session: &mut Session, args: &ListChangesArgs) -> anyhow::Result<Exit> {
    let repository = session.open(Access::Read)?;
    let run = run_named(&repository, &args.run, args.source.as_deref())?.seq;
    let out = &mut session.out;
    let report = list_changes(&repository, run, &mut |kind, path| print(out, kind, path))?;
    if out.is_json {
        out.document("summary", &report);
    } else {
        say(out, &report);
    }
    Ok(Exit::Done)
}

fn print(out: &mut Output, change: ChangeKind, path: &[u8]) {
    #[derive(Serialize)]
    struct Change {
        change: ChangeKind,
        #[serde(flatten)]
        path: JsonPath,
    }
    if out.is_json {
        return out.document("change", &Change { change, path: path.into() });
    }
    let sign = match change {
        ChangeKind::Added => '+',
        ChangeKind::Modified => '~',
        ChangeKind::Metadata => '=',
        ChangeKind::Deleted => '-',
        ChangeKind::Excluded => 'x',
    };
    out.line_now(&format!("{sign} {}", paths::words(path)));
}

fn say(out: &mut Output, report: &ChangesReport) {
    let mut text = format!(
        "added {}, modified {}, metadata {}, deleted {}",
        words::count(report.added),
        words::count(report.modified),
        words::count(report.metadata),
        words::count(report.deleted)
    );
    if report.excluded > 0 {
        text.push_str(&format!(", no longer selected {}", words::count(report.excluded)));
    }
    let against =
        report.prev.map_or_else(|| "the first of its source".to_owned(), |prev| format!("against run {prev}"));
    out.say(&format!("run {}, {against}: {text}", report.run));
}
