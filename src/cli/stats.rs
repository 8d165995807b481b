//! `stats`.

use super::output::one_line;
use super::paths::{self, JsonPath};
use super::session::Session;
use super::table::{self, Align};
use super::words;
use clap::Args;
use raidtape::catalog::sums::{DirGrowth, WholeSums};
use raidtape::engine::Exit;
use raidtape::engine::repository::Access;
use raidtape::engine::select::run_named;
use raidtape::engine::stats::{StatsOptions, StatsReport, dirs, stats};
use raidtape::model::run_spec::RunSpec;
use serde::Serialize;

/// Runs in the table unless a run is named; JSON has all.
const RUNS_SHOWN: usize = 20;

/// Tell how much is kept, what it takes, and what grew
#[derive(Debug, Args)]
#[command(after_help = "\
UNIQUE bytes are those of all chunks that are stored, each once; STORED what they take
compressed. Deduplication is what restoring every complete run would give, together,
against the unique bytes. A table of runs has TOTAL, the size of the files of that run,
READ, NEW (bytes of chunks that were new) and STORED (what it added to volumes).

Directories are told by what the newest run, or --run, brought into each: sizes of its
files that are new or have another content, before deduplication, without what lies in
folders below. That goes through all versions: by default only where these are few.

Examples:
  raidtape stats
  raidtape stats --run 7 --dirs 30
  raidtape stats --source /home --full --json")]
pub struct StatsArgs {
    /// This run alone: a number, `latest`, `latest~N` or `@DATE`
    #[arg(long)]
    run: Option<RunSpec>,
    /// Only this source: its name, or host:name
    #[arg(long)]
    source: Option<String>,
    /// Tell of so many directories, however many versions there are
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "10")]
    dirs: Option<usize>,
    /// Also count all versions, contents and chunks; takes seconds for each ten million of them
    #[arg(long)]
    full: bool,
}

#[derive(Serialize)]
struct Document {
    #[serde(flatten)]
    report: StatsReport,
    dedup_ratio: Option<f64>,
    compression_ratio: Option<f64>,
    dirs: Vec<DirLine>,
}

#[derive(Serialize)]
struct DirLine {
    #[serde(flatten)]
    path: JsonPath,
    files: u64,
    bytes: u64,
}

/// Tells it: first what is quick.
pub fn run(session: &mut Session, args: &StatsArgs) -> anyhow::Result<Exit> {
    let repository = session.open(Access::Read)?;
    let run = args
        .run
        .as_ref()
        .map(|run| run_named(&repository, run, args.source.as_deref()))
        .transpose()?
        .map(|run| run.seq);
    let options = StatsOptions { run, source: args.source.clone(), dirs: args.dirs, is_full: args.full };
    let report = stats(&repository, &options)?;
    if session.out.is_json {
        let found = report.dirs_run.map(|run| dirs(&repository, run, &options)).transpose()?.unwrap_or_default();
        let line = |dir: &DirGrowth| DirLine { path: dir.path.as_slice().into(), files: dir.files, bytes: dir.bytes };
        let (dedup_ratio, compression_ratio) = (report.dedup_ratio(), report.compression_ratio());
        let dirs = found.iter().map(line).collect();
        session.out.document("stats", &Document { report, dedup_ratio, compression_ratio, dirs });
        return Ok(Exit::Done);
    }
    if report.runs.is_empty() {
        session.out.say("There is no complete run yet; make one with `raidtape backup DIR`");
        return Ok(Exit::Done);
    }
    print_sums(session, &report);
    print_runs(session, &report);
    match report.dirs_run {
        Some(run) => {
            session.out.say("");
            let found = dirs(&repository, run, &options)?;
            print_dirs(session, &found, &run.to_string());
        }
        None => session.out.say("\n`raidtape stats --dirs` tells which directories grew; it goes through all versions"),
    }
    Ok(Exit::Done)
}

fn print_sums(session: &mut Session, report: &StatsReport) {
    let header = [
        ("NEWEST", Align::Right),
        ("RUNS", Align::Right),
        ("PATHS", Align::Right),
        ("RESTORES TO", Align::Right),
        ("SOURCE", Align::Flow),
    ];
    let rows = report.sources.iter().map(|source| {
        vec![
            source.newest_run.to_string(),
            words::count(source.runs),
            words::count(source.paths),
            words::size(source.restore_bytes),
            one_line(&source.source),
        ]
    });
    table::print(&mut session.out, &header, rows.collect());
    let stored = &report.stored;
    let times = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.1}"));
    let lines = [
        format!(
            "\nunique    {}, compressed {}",
            words::size(stored.unique_bytes),
            words::size(stored.compressed_bytes)
        ),
        format!(
            "volumes   {} in {}; records of runs {} on each volume",
            words::size(stored.copy_bytes),
            words::plural(stored.blocks, "block"),
            words::size(stored.record_bytes)
        ),
        format!(
            "ratio     {} by deduplication of {}, {} by compression",
            times(report.dedup_ratio()),
            words::plural(report.runs_total, "run"),
            times(report.compression_ratio())
        ),
    ];
    lines.iter().for_each(|line| session.out.line(line));
    if let Some(whole) = &report.whole {
        print_whole(session, whole);
    }
}

fn print_whole(session: &mut Session, whole: &WholeSums) {
    let lines = [
        format!(
            "versions  {} of the present ({}), {} of the past; all by themselves {}",
            words::count(whole.live_versions),
            words::size(whole.live_bytes),
            words::count(whole.past_versions),
            words::size(whole.version_bytes)
        ),
        format!("contents  {} ({})", words::count(whole.contents), words::size(whole.content_bytes)),
        format!("chunks    {} ({})", words::count(whole.chunks), words::size(whole.chunk_bytes)),
    ];
    lines.iter().for_each(|line| session.out.line(line));
}

fn print_runs(session: &mut Session, report: &StatsReport) {
    // One name on every line tells nothing.
    let columns = if report.sources.len() > 1 { 7 } else { 6 };
    let header = [
        ("RUN", Align::Right),
        ("STARTED", Align::Left),
        ("TOTAL", Align::Right),
        ("READ", Align::Right),
        ("NEW", Align::Right),
        ("STORED", Align::Right),
        ("SOURCE", Align::Flow),
    ];
    let left_out = report.runs.len().saturating_sub(RUNS_SHOWN);
    let rows = report.runs.iter().skip(left_out).map(|run| {
        let counts = &run.counts;
        let name = run.source.split_once(':').map_or(run.source.as_str(), |(_, name)| name);
        let mut cells = vec![
            run.run.to_string(),
            words::minute(run.started_ns).chars().take(10).collect(),
            words::size(counts.bytes_total),
            words::size(counts.bytes_read),
            words::size(counts.bytes_new),
            words::size(counts.bytes_stored),
            one_line(name),
        ];
        cells.truncate(columns);
        cells
    });
    session.out.line("");
    table::print(&mut session.out, &header[..columns], rows.collect());
    if left_out > 0 {
        session.out.line(&format!("and {} before; --json has all", words::plural(left_out as u64, "run")));
    }
}

fn print_dirs(session: &mut Session, found: &[DirGrowth], run: &str) {
    if found.is_empty() {
        session.out.line(&format!("Run {run} brought no new bytes into any directory"));
        return;
    }
    let bytes = format!("RUN {run} BROUGHT");
    let header = [(bytes.as_str(), Align::Right), ("FILES", Align::Right), ("INTO", Align::Flow)];
    let rows = found
        .iter()
        .map(|dir| vec![words::size(dir.bytes), words::count(dir.files), paths::words(&dir.path)])
        .collect();
    table::print(&mut session.out, &header, rows);
}
