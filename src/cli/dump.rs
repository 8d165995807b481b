//! `dump`.

use super::session::Session;
use clap::Args;
use raidtape::engine::repository::Access;
use raidtape::engine::restore::dump::{DumpOptions, dump};
use raidtape::engine::{EngineError, Exit};
use raidtape::model::path::show;
use raidtape::model::run_spec::RunSpec;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;

/// Write one file's bytes to stdout
#[derive(Debug, Args)]
#[command(after_help = "\
PATH is relative to the source's root, or absolute below it. Every piece is confirmed by
its hash before it is written, and the end only when the hash of the whole is right:
what was written by a command that does not exit 0 is not the file.

Examples:
  raidtape dump letters/to-anna.odt > anna.odt
  raidtape dump dumps/db.sql.zst --run 7 | zstd -d | psql shop")]
pub struct DumpArgs {
    /// Path inside the source, or absolute below its root
    path: OsString,
    /// As of this run: a number, `latest`, `latest~N` or `@DATE` [default: the newest of the source]
    #[arg(long)]
    run: Option<RunSpec>,
    /// Which source, where several fit: its name, or host:name
    #[arg(long)]
    source: Option<String>,
}

/// Writes it.
pub fn run(session: &mut Session, args: &DumpArgs) -> anyhow::Result<Exit> {
    let mut repository = session.open(Access::Read)?;
    let options =
        DumpOptions { path: args.path.as_bytes().to_vec(), run: args.run.clone(), source: args.source.clone() };
    let progress = session.progress_beside_stdout();
    let dumped = dump(&mut repository, &options, (session.out.bytes(), &progress));
    progress.finish();
    match dumped {
        Ok(report) => {
            if report.is_inconsistent {
                let path = show(&options.path);
                session.warn(&format!("{path} changed while it was backed up: its parts may not fit together"));
            }
            Ok(Exit::Done)
        }
        // Whoever read it has enough; but it was not all.
        Err(EngineError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::Failed),
        Err(error) => Err(error.into()),
    }
}
