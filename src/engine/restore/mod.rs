//! `restore`, `restore-folder`, `revert-to-run`: writes stored files back, each confirmed by its hash.
//!
//! `dest` is the place that is written to, `steps` (with `links`) the order, `plan` which segment gives what,
//! `fetch` the threads that read, decode and check, `file` one file until it is whole, `flush` what writes back
//! meanwhile, `sites` where blocks can be read, `tally` what came of it. `wanted` says which names are restored, `tour`
//! goes through them, `delete` (if `delete_check` lets it) takes away what the run does not have, `rehearse` only tells, `dump` writes one file
//! elsewhere. One bad file is a `Problem`; nothing partial is left under its name, unless the process
//! is killed: then the marker says so.

mod attributes;
mod delete;
mod delete_check;
mod dest;
mod dirs;
pub mod dump;
mod fetch;
mod file;
mod flush;
mod guarded;
mod links;
mod options;
mod plan;
mod rehearse;
mod resumed;
mod sites;
mod small;
mod steps;
mod tally;
mod tour;
mod wanted;

pub use self::delete::Left;
pub use self::options::{Delete, Overwrite, RestoreHow, RestoreOptions, RevertOptions};
pub use self::tally::{Refused, RefusedName};
pub use self::wanted::WantedOptions;

use self::delete_check::check_delete;
use self::dest::Dest;
use self::rehearse::Rehearsal;
use self::sites::Stores;
use self::steps::Restorer;
use self::tally::{Failure, Tally};
use self::tour::Tour;
use self::wanted::Wanted;
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
use crate::tree::target_meta::TargetMeta;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a restore did.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RestoreReport {
    /// The run that was restored from.
    pub run: RunSeq,
    /// `host:name` of its source.
    pub source: String,
    /// Where to.
    pub dest: String,
    /// Nothing was written: the counts say what would be.
    pub dry_run: bool,
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
    /// Names whose content stayed as it was.
    pub skipped_existing: u64,
    /// Those among them that got the metadata that was stored.
    pub metadata_set: u64,
    /// Names with no more components than were to be taken off.
    pub too_short: u64,
    /// Segments that could not be had where they were looked for first, and were had from another copy.
    pub read_elsewhere: u64,
    /// Names that were deleted.
    pub deleted: u64,
    /// Nothing was deleted, because not everything could be restored.
    pub delete_skipped: bool,
    /// Nothing of the run fits what was to be included.
    pub nothing_fits: bool,
    /// Names of which the system would not set some metadata.
    pub metadata_refused: u64,
    /// The same by kind.
    pub refused: Refused,
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
    /// What was refused makes it incomplete.
    #[serde(skip)]
    pub strict: bool,
    /// Names of which something was refused, where they are wanted.
    #[serde(skip)]
    pub refused_names: Vec<RefusedName>,
    /// What was deleted, where it is wanted: paths in the target.
    #[serde(skip)]
    pub deleted_names: Vec<Vec<u8>>,
    /// What stayed although the run does not have it.
    #[serde(skip)]
    pub left: Vec<Left>,
    /// What would be restored, where it is wanted: paths in the target.
    #[serde(skip)]
    pub names: Vec<Vec<u8>>,
}

impl RestoreReport {
    /// The exit code: 5 when all that is missing is on volumes that are not here, 4 when anything else is, when nothing was
    /// asked for that is there, or when something was refused and must not be.
    pub fn exit(&self) -> Exit {
        if self.nothing_fits || self.strict && self.metadata_refused > 0 {
            return Exit::Damage;
        }
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
    let picked = pick(repository, &options.path, options.run.as_ref(), options.source.as_deref())?;
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
    let (stores, tally) = (Stores::of(repository), options.how.tally());
    let wanted = Wanted::new(&WantedOptions::default())?;
    let tour = Tour { repository, picked: &picked, wanted: &wanted };
    if options.how.dry_run {
        let (target, ground) = (Some(&dest.target), dest.ground);
        Rehearsal { target, ground, deletes: None, tally: &tally, observer }.name(&entry, (&name, false));
        return Ok(report(&picked, options, (&tally, begun)));
    }
    let parts = (&dest, &stores, &tally);
    Restorer::new(tour, parts, (observer, options.workers, &options.how)).single(entry, &name)?;
    dest.target.sync()?;
    Ok(report(&picked, options, (&tally, begun)))
}

/// Restores what lies below a directory, directly into DEST, which is made if its parent is there.
pub fn restore_folder(
    repository: &mut Repository,
    options: &RestoreOptions,
    observer: &dyn Observer,
) -> Result<RestoreReport> {
    let picked = pick(repository, &options.path, options.run.as_ref(), options.source.as_deref())?;
    restore_tree(repository, &picked, options, observer)
}

/// Restores the whole tree of a run directly into DEST.
pub fn revert_to_run(
    repository: &mut Repository,
    options: &RevertOptions,
    observer: &dyn Observer,
) -> Result<RestoreReport> {
    let picked = pick(repository, b"", Some(&options.run.into()), None)?;
    let options = RestoreOptions {
        dest: options.dest.clone(),
        overwrite: options.overwrite,
        workers: options.workers,
        how: options.how.clone(),
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
    let wanted = Wanted::new(&options.how.wanted)?;
    let tour = Tour { repository, picked, wanted: &wanted };
    let tally = options.how.tally();
    tour.check_collisions()?;
    let roots = check_delete(&tour, options)?;
    let deletes = (options.how.delete != Delete::Nothing).then_some(roots);
    let place = (options.dest.as_path(), (options.overwrite, &options.how.wanted));
    if options.how.dry_run {
        let (target, ground) = Dest::look_at_tree(&tour, place)?;
        let rehearsal = Rehearsal { target: target.as_ref(), ground, deletes, tally: &tally, observer };
        rehearsal.tree(tour)?;
        return Ok(report(picked, options, (&tally, begun)));
    }
    let mut dest = Dest::open_tree(&tour, place)?;
    let stores = Stores::of(repository);
    let mut restorer = Restorer::new(tour, (&dest, &stores, &tally), (observer, options.workers, &options.how));
    restorer.tree(deletes)?;
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
        set_top_meta(&dest, &meta, (&tally, picked, is_to_go_on));
    }
    dest.target.sync()?;
    tally.take_fatal().map_or(Ok(()), Err)?;
    Ok(report(picked, options, (&tally, begun)))
}

fn set_top_meta(dest: &Dest, meta: &TargetMeta, (tally, picked, is_to_go_on): (&Tally, &Picked, bool)) {
    let flags = meta.attrs.as_ref().map_or(0, |attrs| attrs.flags);
    let set = dest.set_dir_meta(b"", meta).and_then(|mut outcome| {
        outcome.flags_refused |= !is_to_go_on && flags & FLAGS_LAST != 0 && dest.target.set_last_flags(b"", flags)?;
        Ok(outcome)
    });
    match set {
        Ok(outcome) => tally.note_meta(&picked.path, outcome),
        Err(error) => tally.fail(&picked.path, &Failure::Target(error)),
    }
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

fn report(picked: &Picked, options: &RestoreOptions, (tally, begun): (&Tally, Instant)) -> RestoreReport {
    let mut counts = std::mem::take(&mut *tally.counts());
    counts.inconsistent.sort_unstable();
    counts.deleted_names.sort_unstable();
    counts.refused_names.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    counts.problems.sort_by(|one, other| one.path.cmp(&other.path));
    RestoreReport {
        run: picked.run.seq,
        source: source_words(&picked.source),
        dest: options.dest.display().to_string(),
        dry_run: options.how.dry_run,
        files: counts.files,
        dirs: counts.dirs,
        symlinks: counts.symlinks,
        hardlinks: counts.hardlinks,
        specials: counts.specials,
        bytes: counts.bytes,
        skipped_existing: counts.skipped_existing,
        metadata_set: counts.metadata_set,
        too_short: counts.too_short,
        read_elsewhere: counts.read_elsewhere,
        deleted: counts.deleted,
        delete_skipped: counts.delete_skipped,
        nothing_fits: options.how.wanted.has_include() && counts.is_nothing(),
        metadata_refused: counts.metadata_refused,
        refused: counts.refused,
        inconsistent: counts.inconsistent,
        problems: counts.problems,
        problems_away: counts.away,
        volumes_wanted: counts.volumes_wanted.into_iter().collect(),
        duration_s: begun.elapsed().as_secs_f64(),
        strict: options.how.strict,
        refused_names: counts.refused_names,
        deleted_names: counts.deleted_names,
        left: counts.left,
        names: counts.names,
    }
}

#[cfg(test)]
mod tests;
