//! `restore`, `restore-folder`, `revert-to-run`: writes stored files back, each confirmed by its hash.
//!
//! `dest` is the place that is written to, `steps` (with `links`) the order, `plan` which segment gives what,
//! `fetch` the threads that read, decode and check, `file` one file until it is whole, `sites` where blocks can be
//! read, `tally` what came of it. One bad file is a `Problem`; nothing partial is left under its name, unless the process
//! is killed: then the marker says so.

mod attributes;
mod dest;
mod fetch;
mod file;
mod links;
mod plan;
mod resumed;
mod sites;
mod steps;
mod tally;

use self::dest::Dest;
use self::sites::Stores;
use self::steps::Restorer;
use self::tally::{Failure, Tally};
use super::error::{EngineError, Exit, Result};
use super::observer::Observer;
use super::repository::Repository;
use super::select::{Picked, pick, source_words};
use crate::catalog::view;
use crate::model::attrs::FLAGS_LAST;
use crate::model::entry::EntryKind;
use crate::model::ids::RunSeq;
use crate::model::path::{is_valid_name, show, split};
use crate::model::problem::Problem;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What becomes of a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// It is replaced.
    Always,
    /// It is replaced unless it is a regular file of the same size and time.
    IfChanged,
    /// It is replaced if the stored one is newer.
    IfNewer,
    /// It stays.
    Never,
}

impl Overwrite {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::Always, Self::IfChanged, Self::IfNewer, Self::Never];

    /// The word of the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::IfChanged => "if-changed",
            Self::IfNewer => "if-newer",
            Self::Never => "never",
        }
    }
}

/// What to restore, and where.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// Path inside the source, or absolute below its root.
    pub path: Vec<u8>,
    /// Where to.
    pub dest: PathBuf,
    /// As of this run; the newest complete one when not given.
    pub run: Option<RunSeq>,
    /// `name` or `host:name`, where several sources fit.
    pub source: Option<String>,
    /// What becomes of what lies there; without it nothing may lie there.
    pub overwrite: Option<Overwrite>,
    /// Threads that read, decode and write; one a core when not given.
    pub workers: Option<usize>,
    /// Owners are the numbers that were stored, whatever their names mean on this system.
    pub numeric_ids: bool,
}

/// Which run to go back to, and where.
#[derive(Debug, Clone)]
pub struct RevertOptions {
    /// The run.
    pub run: RunSeq,
    /// Directory that its tree is put in.
    pub dest: PathBuf,
    /// What becomes of what lies there; without it nothing may lie there.
    pub overwrite: Option<Overwrite>,
    /// Threads that read, decode and write; one a core when not given.
    pub workers: Option<usize>,
    /// Owners are the numbers that were stored, whatever their names mean on this system.
    pub numeric_ids: bool,
}

/// What a restore did.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RestoreReport {
    /// The run that was restored from.
    pub run: RunSeq,
    /// `host:name` of its source.
    pub source: String,
    /// Where to.
    pub dest: String,
    /// Regular files written.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Symlinks.
    pub symlinks: u64,
    /// Further names of files.
    pub hardlinks: u64,
    /// Fifos, sockets and devices.
    pub specials: u64,
    /// Bytes of the files written, zeros included.
    pub bytes: u64,
    /// Names that stayed as they were.
    pub skipped_existing: u64,
    /// Names of which the system would not set owner, mode or time.
    pub metadata_refused: u64,
    /// Files that were stored while they changed: their bytes may never have been together.
    pub inconsistent: Vec<String>,
    /// What could not be restored.
    pub problems: Vec<Problem>,
    /// How many of the problems are only because of volumes that are not here.
    pub problems_away: u64,
    /// `name (uuid)` of the volumes that are not here and hold what is missing.
    pub volumes_wanted: Vec<String>,
    /// Seconds.
    pub duration_s: f64,
}

impl RestoreReport {
    /// The exit code: 5 when all that is missing is on volumes that are not here, 4 when anything else is.
    pub fn exit(&self) -> Exit {
        match self.problems.len() as u64 {
            0 => Exit::Done,
            all if all == self.problems_away => Exit::NoVolume,
            _ => Exit::Damage,
        }
    }
}

/// Restores one file, symlink or special file. DEST is its new name, or an existing directory. A file that is there
/// is refused unless `overwrite` is given. On return the file is whole, confirmed and synced.
pub fn restore(
    repository: &mut Repository,
    options: &RestoreOptions,
    observer: &dyn Observer,
) -> Result<RestoreReport> {
    let begun = Instant::now();
    let picked = pick(repository, &options.path, options.run, options.source.as_deref())?;
    let entry = view::entry(repository.catalog.conn(), picked.as_of(), &picked.path)?;
    let Some(entry) = entry.filter(|entry| entry.version.kind != EntryKind::Dir) else {
        return Err(EngineError::Usage(format!(
            "{} is a directory in run {}; use `raidtape restore-folder` for it",
            show_or_root(&picked.path),
            picked.run.seq
        )));
    };
    let (dir, name) = single_place(&options.dest, &picked.path)?;
    let dest = Dest::open_single(&dir, &name, options.overwrite)?;
    let (stores, tally) = (Stores::of(repository), Tally::default());
    let parts = (&dest, &stores, &tally);
    Restorer::new((repository, &picked), parts, (observer, options.workers, options.numeric_ids))
        .single(entry, &name)?;
    dest.target.sync()?;
    Ok(report(&picked, &options.dest, (&tally, begun)))
}

/// Restores what lies below a directory, directly into DEST, which is made if its parent is there.
pub fn restore_folder(
    repository: &mut Repository,
    options: &RestoreOptions,
    observer: &dyn Observer,
) -> Result<RestoreReport> {
    let picked = pick(repository, &options.path, options.run, options.source.as_deref())?;
    restore_tree(repository, &picked, options, observer)
}

/// Restores the whole tree of a run directly into DEST.
pub fn revert_to_run(
    repository: &mut Repository,
    options: &RevertOptions,
    observer: &dyn Observer,
) -> Result<RestoreReport> {
    let picked = pick(repository, b"", Some(options.run), None)?;
    let options = RestoreOptions {
        dest: options.dest.clone(),
        overwrite: options.overwrite,
        workers: options.workers,
        numeric_ids: options.numeric_ids,
        ..RestoreOptions::default()
    };
    restore_tree(repository, &picked, &options, observer)
}

fn restore_tree(
    repository: &Repository,
    picked: &Picked,
    options: &RestoreOptions,
    observer: &dyn Observer,
) -> Result<RestoreReport> {
    let begun = Instant::now();
    let top = view::entry(repository.catalog.conn(), picked.as_of(), &picked.path)?;
    if top.as_ref().is_some_and(|top| top.version.kind != EntryKind::Dir) {
        return Err(EngineError::Usage(format!(
            "{} is not a directory in run {}; use `raidtape restore` for it",
            show_or_root(&picked.path),
            picked.run.seq
        )));
    }
    let mut dest = Dest::open_tree(repository, picked, (&options.dest, options.overwrite))?;
    let (stores, tally) = (Stores::of(repository), Tally::default());
    let parts = (&dest, &stores, &tally);
    let mut restorer = Restorer::new((repository, picked), parts, (observer, options.workers, options.numeric_ids));
    restorer.tree()?;
    let top_meta = match top.filter(|_| dest.sets_dir_meta()) {
        Some(top) => Some(restorer.meta_of(&top.version)?),
        None => None,
    };
    dest.target.sync()?;
    let is_to_go_on = !tally.counts().volumes_wanted.is_empty();
    if !is_to_go_on {
        restorer.last_flags();
    }
    if !is_to_go_on && let Err(error) = dest.unmark() {
        tally.fail(&picked.path, &Failure::Target(error));
    }
    // Last, because making and removing names inside changes its time.
    if let Some(meta) = top_meta {
        let flags = meta.attrs.as_ref().map_or(0, |attrs| attrs.flags);
        let set = dest.target.set_dir_meta(b"", &meta).and_then(|mut outcome| {
            outcome.attrs_refused |=
                !is_to_go_on && flags & FLAGS_LAST != 0 && dest.target.set_last_flags(b"", flags)?;
            Ok(outcome)
        });
        match set {
            Ok(outcome) => tally.note_meta(outcome),
            Err(error) => tally.fail(&picked.path, &Failure::Target(error)),
        }
    }
    dest.target.sync()?;
    tally.take_fatal().map_or(Ok(()), Err)?;
    Ok(report(picked, &options.dest, (&tally, begun)))
}

/// Directory and name that a single file goes to.
fn single_place(dest: &Path, path: &[u8]) -> Result<(PathBuf, Vec<u8>)> {
    let usage = |why: &str| Err(EngineError::Usage(format!("{} {why}", dest.display())));
    if dest.is_dir() {
        return Ok((dest.to_owned(), split(path).1.to_vec()));
    }
    if dest.as_os_str().as_bytes().ends_with(b"/") {
        return usage("is no directory; make it first, or name a file");
    }
    let Some(name) = dest.file_name().map(OsStrExt::as_bytes).filter(|name| is_valid_name(name)) else {
        return usage("is no name for a file");
    };
    let parent = dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((parent.to_owned(), name.to_vec()))
}

fn show_or_root(path: &[u8]) -> String {
    if path.is_empty() { "the root".to_owned() } else { show(path) }
}

fn report(picked: &Picked, dest: &Path, (tally, begun): (&Tally, Instant)) -> RestoreReport {
    let mut counts = std::mem::take(&mut *tally.counts());
    counts.inconsistent.sort_unstable();
    counts.problems.sort_by(|one, other| one.path.cmp(&other.path));
    RestoreReport {
        run: picked.run.seq,
        source: source_words(&picked.source),
        dest: dest.display().to_string(),
        files: counts.files,
        dirs: counts.dirs,
        symlinks: counts.symlinks,
        hardlinks: counts.hardlinks,
        specials: counts.specials,
        bytes: counts.bytes,
        skipped_existing: counts.skipped_existing,
        metadata_refused: counts.metadata_refused,
        inconsistent: counts.inconsistent,
        problems: counts.problems,
        problems_away: counts.away,
        volumes_wanted: counts.volumes_wanted.into_iter().collect(),
        duration_s: begun.elapsed().as_secs_f64(),
    }
}

#[cfg(test)]
mod tests;
