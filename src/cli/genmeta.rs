//! `genmeta`.

use super::session::Session;
use super::words;
use clap::Args;
use raidtape::engine::Exit;
use raidtape::engine::genmeta::{GenmetaOptions, genmeta};
use raidtape::engine::repository::Access;
use raidtape::engine::select::run_named;
use raidtape::model::run_spec::RunSpec;

/// Write beside each block, as JSON, which files it holds
#[derive(Debug, Args)]
#[command(after_help = "\
A volume is then readable without RaidTape and without the catalog: with `jq`, `dd`
and `zstd`. Only what changed since is written. Volumes that are not here are left
out.

Examples:
  raidtape genmeta
  raidtape genmeta --run latest")]
pub struct GenmetaArgs {
    /// Only for blocks that this run needs: a number, `latest`, `latest~N` or `@DATE`
    #[arg(long)]
    run: Option<RunSpec>,
    /// Whose run, where several sources have runs: its name, or host:name
    #[arg(long, requires = "run")]
    source: Option<String>,
}

/// Writes them.
pub fn run(session: &mut Session, args: &GenmetaArgs) -> anyhow::Result<Exit> {
    let mut repository = session.open(Access::Write)?;
    let run = args.run.as_ref().map(|run| run_named(&repository, run, args.source.as_deref())).transpose()?;
    let run = run.map(|run| run.seq);
    let options = GenmetaOptions { run };
    let progress = session.progress();
    let report = genmeta(&mut repository, &options, &progress);
    progress.finish();
    let report = report?;
    for volume in &report.volumes_skipped {
        session.warn(&format!("volume {volume} is not here or cannot be written; its sidecars stay as they are"));
    }
    if report.blocks_skipped > 0 {
        let blocks = words::plural(report.blocks_skipped, "block");
        session.warn(&format!("{blocks} not found; `raidtape validate` says more"));
    }
    let out = &mut session.out;
    if out.is_json {
        out.document("summary", &report);
    }
    out.say(&format!(
        "{} up to date, {} written in {}",
        words::plural(report.unchanged, "sidecar"),
        words::size(report.bytes_written),
        words::duration(report.duration_s)
    ));
    out.say(&format!("Generated {} JSON metas: chunks now whisper their file secrets", report.written));
    Ok(Exit::Done)
}
