//! `rebuild-catalog`.

use super::output::{one_line, stderr_line};
use super::session::Session;
use super::words;
use clap::Args;
use raidtape::engine::Exit;
use raidtape::engine::rebuild_catalog::{RebuildOptions, RebuildReport, rebuild_catalog};

/// Files that need a missing volume and are named, unless asked for all.
const FILES_SHOWN_MAX: usize = 20;

/// Bring the catalog back from volumes alone
#[derive(Debug, Args)]
#[command(after_help = "\
Brings back every run and all history. A damaged catalog in place is kept beside
the new one; the places of volumes that it knows are tried too. Volumes that are
missing are named, and the files that need them.

Examples:
  raidtape rebuild-catalog --volume /mnt/disk1/raidtape --volume /mnt/disk2/raidtape")]
pub struct RebuildCatalogArgs {}

/// Rebuilds, and tells what came back.
pub fn run(session: &mut Session, _args: &RebuildCatalogArgs) -> anyhow::Result<Exit> {
    let path = session.catalog_path()?;
    let options = RebuildOptions { volumes: session.global.volumes.clone() };
    let progress = session.progress();
    let report = rebuild_catalog(&path, &options, &progress);
    progress.finish();
    let report = report?;
    if session.out.is_json {
        session.out.document("summary", &report);
    } else {
        print(session, &report);
    }
    let is_whole = report.volumes_missing.is_empty() && report.unreachable_runs.is_empty();
    Ok(if is_whole { Exit::Done } else { Exit::NoVolume })
}

fn print(session: &mut Session, report: &RebuildReport) {
    for warning in &report.warnings {
        session.warn(warning);
    }
    for volume in &report.volumes_missing {
        session.warn(&format!("volume {volume} is missing; mount it and give it with --volume to have what it holds"));
    }
    let shown = if session.global.verbose { usize::MAX } else { FILES_SHOWN_MAX };
    for file in report.files_needing_missing.iter().take(shown) {
        stderr_line(&format!("  needs a missing volume: {}", one_line(file)));
    }
    let named = report.files_needing_missing.len().min(shown) as u64;
    let more = report.files_needing_missing_total.saturating_sub(named);
    if more > 0 {
        stderr_line(&format!("  … and {}", words::plural(more, "more file")));
    }
    if !report.unreachable_runs.is_empty() {
        let runs = words::plural(report.unreachable_runs.len() as u64, "run");
        session.warn(&format!("{runs} could not be brought back from these volumes"));
    }
    if let Some(kept) = &report.kept_as {
        session.out.say(&format!("The old catalog is kept as {}", one_line(kept)));
    }
    session.out.say(&format!(
        "Rebuilt {} from {} in {} ({} read)",
        one_line(&report.catalog.to_string()),
        words::plural(report.volumes_found.len() as u64, "volume"),
        words::duration(report.duration_s),
        words::size(report.bytes_read)
    ));
    session.out.say(&format!(
        "{} of {}, {}, {} in {}",
        words::plural(report.runs, "run"),
        words::plural(report.sources, "source"),
        words::plural(report.file_versions, "file version"),
        words::plural(report.chunks, "chunk"),
        words::plural(report.blocks, "block")
    ));
}
