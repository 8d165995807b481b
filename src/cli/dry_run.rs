//! `backup --dry-run`: what a backup would do.

use super::backup::warn_listed;
use super::paths::{self, JsonPath};
use super::problems::{self, JsonProblem};
use super::session::Session;
use super::words;
use raidtape::catalog::changes::ChangeKind;
use raidtape::engine::Exit;
use raidtape::engine::backup::{BackupOptions, DryRunReport, dry_run};
use raidtape::engine::repository::Access;
use raidtape::model::ids::RunSeq;
use serde::Serialize;

/// Looks, and tells.
pub fn run(session: &mut Session, options: &BackupOptions) -> anyhow::Result<Exit> {
    let repository = session.open(Access::Read)?;
    let progress = session.progress();
    let (out, is_verbose) = (&mut session.out, session.global.verbose);
    let mut each = |change: ChangeKind, path: &[u8]| {
        if !is_verbose {
            return;
        }
        if out.is_json {
            return out.document("change", &Change { change, path: path.into() });
        }
        let sign = match change {
            ChangeKind::Added => '+',
            ChangeKind::Modified => 'M',
            ChangeKind::Metadata => 'U',
            ChangeKind::Deleted => 'D',
            ChangeKind::Excluded => 'x',
        };
        out.line(&format!("{sign} {}", paths::words(path)));
    };
    let report = dry_run(&repository, options, &progress, &mut each);
    progress.finish();
    let report = report?;
    if session.out.is_json {
        session.out.document("summary", &Summary::from(&report));
    } else {
        say(session, &report);
        warn_listed(session, &report.listed_left_out);
        problems::print(&report.problems, is_verbose);
    }
    Ok(if report.problems.is_empty() { Exit::Done } else { Exit::SomeUnread })
}

fn say(session: &mut Session, report: &DryRunReport) {
    let counts = &report.counts;
    let against = report.against.map_or_else(|| "the first of its source".to_owned(), |run| format!("after run {run}"));
    let out = &mut session.out;
    out.say(&format!("Dry run of {}, {against}: nothing was written", report.source));
    out.say(&format!(
        "would add {}, modify {}, change metadata of {}, delete {}, leave {} unchanged",
        words::count(counts.added),
        words::count(counts.modified),
        words::count(counts.metadata),
        words::deleted(counts.deleted, report.excluded),
        words::count(counts.unchanged)
    ));
    out.say(&format!("would read {}, new {}", words::size(counts.bytes_read), words::size(counts.bytes_new)));
}

#[derive(Serialize)]
struct Change {
    change: ChangeKind,
    #[serde(flatten)]
    path: JsonPath,
}

/// The names of a backup's summary, as far as they have a meaning.
#[derive(Serialize)]
struct Summary<'a> {
    dry_run: bool,
    source: &'a str,
    against: Option<RunSeq>,
    files_new: u64,
    files_changed: u64,
    files_metadata: u64,
    files_deleted: u64,
    files_excluded: u64,
    files_unmodified: u64,
    bytes_read: u64,
    data_added: u64,
    total_files_processed: u64,
    total_bytes_processed: u64,
    total_duration: f64,
    listed_left_out: Vec<JsonPath>,
    problems: Vec<JsonProblem<'a>>,
}

impl<'a> From<&'a DryRunReport> for Summary<'a> {
    fn from(report: &'a DryRunReport) -> Self {
        let counts = &report.counts;
        Self {
            dry_run: true,
            source: &report.source,
            against: report.against,
            files_new: counts.added,
            files_changed: counts.modified,
            files_metadata: counts.metadata,
            files_deleted: counts.deleted,
            files_excluded: report.excluded,
            files_unmodified: counts.unchanged,
            bytes_read: counts.bytes_read,
            data_added: counts.bytes_new,
            total_files_processed: counts.added + counts.modified + counts.metadata + counts.unchanged,
            total_bytes_processed: counts.bytes_total,
            total_duration: report.duration_s,
            listed_left_out: report.listed_left_out.iter().map(|path| JsonPath::from(path.as_slice())).collect(),
            problems: problems::json(&report.problems),
        }
    }
}
