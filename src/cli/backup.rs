//! `backup`.

use super::output::Output;
use super::paths::{self, JsonPath};
use super::problems::{self, JsonProblem};
use super::protect::under_words;
use super::select::SelectArgs;
use super::session::Session;
use super::stream::StreamArgs;
use super::{closed, first_backup, values, words};
use clap::Args;
use raidtape::engine::backup::{BackupOptions, BackupReport, backup};
use raidtape::engine::protect::shortfall_words;
use raidtape::engine::repository::Access;
use raidtape::engine::{EngineError, Exit, Repository};
use raidtape::model::ids::{RunSeq, RunUuid};
use raidtape::model::redundancy::Redundancy;
use raidtape::model::run_marks::RunMarks;
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Back up a directory, or several, as a new run
#[derive(Debug, Args)]
#[command(after_help = "\
Only what changed since the last run of this source is read. With --volume and
no catalog yet, or one without volumes, these are made first.

Examples:
  raidtape backup ~/photos
  raidtape --catalog backup.cat backup ~/photos --volume /mnt/disk1/raidtape
  raidtape backup /mnt/snapshot --name /home --max-workers 4 -q
  raidtape backup ~/photos -n -v
  raidtape backup ~/photos --tag trip,raw --label 'before the clean-up'
  raidtape backup /etc /home /srv/www --name all
  raidtape backup / -x --exclude-caches -e '*.o' -e '/var/tmp/*'
  find . -type f -newer mark -print0 | raidtape backup . --name new --files-from-raw -
  raidtape backup --stdin-filename db.sql --stdin-from-command -- pg_dump db")]
pub struct BackupArgs {
    /// The directory to back up; several are one source, which then needs a --name, and keep their paths below `/` in it
    #[arg(value_name = "DIR", required_unless_present_any = ["stdin", "stdin_from_command", "command"])]
    dirs: Vec<PathBuf>,
    /// Name of the source; runs of one name follow each other [default: the absolute path]
    #[arg(long)]
    name: Option<String>,
    /// Tags of the run, to find it by: one, or several like `a,b`; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// A few words for people, like "before the move"; `runs` shows them
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// The host that the source counts as of [default: this one]
    #[arg(long, value_name = "NAME", value_parser = values::host)]
    host: Option<String>,
    /// Threads that read, hash and compress [default: one per core]
    #[arg(long, value_name = "N", value_parser = values::threads)]
    max_workers: Option<NonZeroUsize>,
    /// Threads that write blocks [default: one per volume, 2 at least and 4 at most]
    #[arg(long, value_name = "N", value_parser = values::threads)]
    max_write_workers: Option<NonZeroUsize>,
    /// Do everything on one thread
    #[arg(long, conflicts_with_all = ["max_workers", "max_write_workers"])]
    single_threaded: bool,
    /// Memory at which reading pauses, like 512M
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    memory_limit: Option<u64>,
    /// Do not read a file again because its inode number changed
    #[arg(long)]
    ignore_inode: bool,
    /// Do not look at the inodes' change times
    #[arg(long, conflicts_with = "strict_ctime")]
    ignore_ctime: bool,
    /// Read a file again whenever its inode's change time changed
    #[arg(long)]
    strict_ctime: bool,
    /// Believe that an empty root or mount point is meant to be empty
    #[arg(long)]
    allow_empty: bool,
    /// Read every file, also those that look unchanged. One whose bytes changed although size, times and inode say that
    /// nobody wrote it is stored anew beside the version before and told as suspected rot, exit 3
    #[arg(short, long)]
    force: bool,
    /// Write nothing, anywhere: walk, compare, read what changed, and tell what a backup would do; with -v each path.
    /// No volume need be here
    #[arg(short = 'n', long, conflicts_with_all = ["stdin", "stdin_from_command", "verify_after_write"])]
    dry_run: bool,
    /// Read every block back from the disk and compare it before it counts: notices a disk, cable or memory that
    /// changes bytes, while the source still has them; each byte stored is read once more
    #[arg(long)]
    verify_after_write: bool,
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    stream: StreamArgs,
}

/// Backs up, and tells what was done.
pub fn run(session: &mut Session, args: &BackupArgs) -> anyhow::Result<Exit> {
    if closed::was_stdin() && args.reads_stdin() {
        let text = "there is no standard input to read from; open it, or name a file or command";
        return Err(EngineError::Usage(text.to_owned()).into());
    }
    let options = options(args)?;
    if args.dry_run {
        return super::dry_run::run(session, &options);
    }
    let mut repository = open(session, args)?;
    let progress = session.progress();
    let report = backup(&mut repository, &options, &progress);
    progress.finish();
    let report = report?;
    if session.out.is_json {
        session.out.document("summary", &Summary::from(&report));
    } else {
        say(&mut session.out, &report);
        for volume in &report.volumes_away {
            session.warn(&format!("volume {volume} was not here; it gets the record of this run when it is back"));
        }
        if report.blocks_damaged > 0 {
            let blocks = words::plural(report.blocks_damaged, "block");
            session.warn(&format!(
                "{blocks} of this run damaged on the disk already; back up again, and look at that disk"
            ));
        }
        if report.copying_interrupted {
            session.warn(
                "interrupted while blocks were copied to further volumes; the run is saved, `raidtape protect` goes on",
            );
        } else if report.blocks_under_protected > 0 {
            let lacking = (report.blocks_under_protected, report.bytes_under_protected);
            session.warn(&under_words(lacking, report.redundancy, &shortfall_words(&repository)));
        }
        warn_listed(session, &report.listed_left_out);
        if report.rotten > 0 {
            let files = words::plural(report.rotten, "file");
            session.warn(&format!("{files} changed without a trace: suspected rot on the source's disk"));
        }
        problems::print(&report.problems, session.global.verbose);
    }
    Ok(match report.blocks_under_protected {
        _ if report.blocks_damaged > 0 => Exit::Damage,
        _ if !report.problems.is_empty() => Exit::SomeUnread,
        0 => Exit::Done,
        _ => Exit::UnderProtected,
    })
}

/// What a list names and other options leave out.
pub fn warn_listed(session: &Session, left_out: &[Vec<u8>]) {
    if left_out.is_empty() {
        return;
    }
    let names = words::plural(left_out.len() as u64, "listed path");
    let more = if session.global.verbose { "" } else { "; -v names them" };
    session.warn(&format!("{names} left out by -e, -x, a mark or a size{more}"));
    if session.global.verbose {
        left_out.iter().for_each(|path| session.warn(&format!("{} is listed and left out", paths::words(path))));
    }
}

impl BackupArgs {
    /// Whether it needs somebody who writes to its standard input.
    pub fn reads_stdin(&self) -> bool {
        self.stream.reads_stdin() || self.select.reads_stdin()
    }

    /// All paths that are looked up from where the program starts.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        roots(self).into_iter().chain(self.select.files().map(Path::to_owned))
    }
}

fn roots(args: &BackupArgs) -> Vec<PathBuf> {
    args.dirs.iter().cloned().chain(args.stream.dirs()).collect()
}

fn options(args: &BackupArgs) -> Result<BackupOptions, EngineError> {
    let marks =
        RunMarks::new(args.label.as_deref(), args.tags.iter().map(String::as_str)).map_err(EngineError::Usage)?;
    Ok(BackupOptions {
        roots: roots(args),
        stream: args.stream.options(),
        name: args.name.clone(),
        host: args.host.clone(),
        marks,
        workers: args.max_workers.map(NonZeroUsize::get),
        write_workers: args.max_write_workers.map(NonZeroUsize::get),
        single_threaded: args.single_threaded,
        memory_limit: args.memory_limit,
        ignore_inode: args.ignore_inode,
        ignore_ctime: args.ignore_ctime,
        strict_ctime: args.strict_ctime,
        allow_empty: args.allow_empty,
        verify_after_write: args.verify_after_write,
        force: args.force,
        select: args.select.options(),
    })
}

fn open(session: &mut Session, args: &BackupArgs) -> Result<Repository, EngineError> {
    let path = session.catalog_path()?;
    let is_missing = path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    let with_volumes = !session.global.volumes.is_empty();
    if with_volumes && (is_missing || first_backup::is_without_volumes(&path)) {
        return first_backup::set_up(session, &roots(args));
    }
    session.open(Access::Write)
}

fn say(out: &mut Output, report: &BackupReport) {
    let counts = &report.counts;
    let took = words::duration(report.duration_s);
    out.say(&format!("Run {} of {} complete in {took}", report.run, report.source));
    out.say(&format!(
        "added {}, modified {}, metadata {}, deleted {}, unchanged {}",
        words::count(counts.added),
        words::count(counts.modified),
        words::count(counts.metadata),
        words::deleted(counts.deleted, report.excluded),
        words::count(counts.unchanged)
    ));
    let mut line = format!("read {}, new {}", words::size(counts.bytes_read), words::size(counts.bytes_new));
    if report.blocks_written > 0 {
        line.push_str(&format!(
            ", stored {} in {} on {}{}",
            words::size(counts.bytes_stored),
            words::plural(report.blocks_written, "block"),
            report.volumes_used.join(", "),
            ratio(counts.bytes_new, counts.bytes_stored)
        ));
    }
    out.say(&line);
    if report.blocks_copied > 0 {
        let blocks = words::plural(report.blocks_copied, "block");
        out.say(&format!(
            "copied {blocks} ({}) to further volumes: {}",
            words::size(report.bytes_copied),
            report.redundancy
        ));
    }
    if report.parity_groups > 0 {
        let groups = words::plural(report.parity_groups, "group");
        out.say(&format!("parity of {groups} ({}): {}", words::size(report.parity_bytes), report.redundancy));
    }
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn ratio(new: u64, stored: u64) -> String {
    if stored == 0 { String::new() } else { format!(" (ratio {:.1})", new as f64 / stored as f64) }
}

/// The field names of restic's backup summary, and ours.
#[derive(Serialize)]
struct Summary<'a> {
    files_new: u64,
    files_changed: u64,
    files_unmodified: u64,
    data_added: u64,
    data_added_packed: u64,
    total_files_processed: u64,
    total_bytes_processed: u64,
    total_duration: f64,
    snapshot_id: RunUuid,
    run: RunSeq,
    source: &'a str,
    files_metadata: u64,
    files_deleted: u64,
    files_excluded: u64,
    bytes_read: u64,
    blocks_written: u64,
    volumes_used: &'a [String],
    volumes_away: &'a [String],
    redundancy: Redundancy,
    blocks_copied: u64,
    bytes_copied: u64,
    parity_groups: u64,
    parity_bytes: u64,
    blocks_damaged: u64,
    copying_interrupted: bool,
    blocks_under_protected: u64,
    bytes_under_protected: u64,
    suspected_rot: u64,
    listed_left_out: Vec<JsonPath>,
    problems: Vec<JsonProblem<'a>>,
}

impl<'a> From<&'a BackupReport> for Summary<'a> {
    fn from(report: &'a BackupReport) -> Self {
        let counts = &report.counts;
        Self {
            files_new: counts.added,
            files_changed: counts.modified,
            files_unmodified: counts.unchanged,
            data_added: counts.bytes_new,
            data_added_packed: counts.bytes_stored,
            total_files_processed: counts.added + counts.modified + counts.metadata + counts.unchanged,
            total_bytes_processed: counts.bytes_total,
            total_duration: report.duration_s,
            snapshot_id: report.run_uuid,
            run: report.run,
            source: &report.source,
            files_metadata: counts.metadata,
            files_deleted: counts.deleted,
            files_excluded: report.excluded,
            bytes_read: counts.bytes_read,
            blocks_written: report.blocks_written,
            volumes_used: &report.volumes_used,
            volumes_away: &report.volumes_away,
            redundancy: report.redundancy,
            blocks_copied: report.blocks_copied,
            bytes_copied: report.bytes_copied,
            parity_groups: report.parity_groups,
            parity_bytes: report.parity_bytes,
            blocks_damaged: report.blocks_damaged,
            copying_interrupted: report.copying_interrupted,
            blocks_under_protected: report.blocks_under_protected,
            bytes_under_protected: report.bytes_under_protected,
            suspected_rot: report.rotten,
            listed_left_out: report.listed_left_out.iter().map(|path| JsonPath::from(path.as_slice())).collect(),
            problems: problems::json(&report.problems),
        }
    }
}
