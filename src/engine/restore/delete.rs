//! `--delete`: names in the target that the run does not have, inside directories that it has.
//!
//! What the patterns leave out stays, and so does what the run may lack because it could not be read then, what lies on
//! another file system than the target, and every RaidTape volume and catalog. Decides what goes; `tree/target_delete`
//! alone deletes.

use super::dest::{Dest, Ground, MARKER};
use super::tally::{Failure, Tally};
use super::tour::Tour;
use super::wanted::Standing;
use super::{Overwrite, RestoreOptions};
use crate::catalog::{runs, view};
use crate::engine::error::{EngineError, Result};
use crate::engine::observer::Observer;
use crate::format::layout;
use crate::model::entry::EntryKind;
use crate::model::path::{is_within, join, show, split};
use crate::model::problem::{Problem, ProblemOp};
use crate::tree::error::TreeError;
use crate::tree::target::Target;
use crate::tree::target_delete::{FoundName, Holds};
use std::collections::{BTreeSet, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Whether anything goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// Only a look for what must never go; nothing is counted.
    Look,
    /// It is counted and stays.
    Rehearse,
    /// It goes.
    Delete,
}

/// What is deleted in one target.
pub(super) struct Deletion<'a> {
    tour: Tour<'a>,
    target: &'a Target,
    tally: &'a Tally,
    observer: &'a dyn Observer,
    deed: Deed,
    /// Paths, relative to what is restored, that the run may have lost.
    unread: BTreeSet<Vec<u8>>,
}

/// A directory that is being emptied.
struct Doomed {
    path: Vec<u8>,
    names: std::vec::IntoIter<FoundName>,
    keeps_some: bool,
}

impl<'a> Deletion<'a> {
    /// # Errors
    /// `Usage` when it is not known what the run lacks.
    pub fn new(
        tour: Tour<'a>,
        (target, tally): (&'a Target, &'a Tally),
        (observer, deed): (&'a dyn Observer, Deed),
    ) -> Result<Self> {
        let run = &tour.picked.run;
        let Some(unread) = runs::unread_paths(tour.repository.catalog.conn(), run)? else {
            return Err(EngineError::Usage(format!(
                "run {} lacks files that could not be read then, and this catalog does not know which; nothing can be \
                 deleted by it: choose another run, or leave out --delete",
                run.seq
            )));
        };
        let top = &tour.picked.path;
        let unread = unread.into_iter().filter(|path| is_within(path, top) || is_within(top, path));
        let unread = unread.map(|path| if is_within(&path, top) { tour.below(&path).to_vec() } else { Vec::new() });
        Ok(Self { unread: unread.collect(), tour, target, tally, observer, deed })
    }

    /// Goes through all directories of the run that are not left out.
    ///
    /// # Errors
    /// `Usage` when a volume lies there and nothing has gone yet; those of the catalog, whose list of names is then not
    /// complete.
    pub fn run(&self) -> Result<()> {
        let mut dirs = vec![Vec::new()];
        let mut walk = self.tour.begin()?;
        while let Some(page) = self.tour.next_wanted(&mut walk)? {
            let in_page = page.iter().filter(|entry| entry.version.kind == EntryKind::Dir);
            dirs.extend(in_page.filter_map(|entry| self.tour.target_path(entry)));
        }
        dirs.iter().try_for_each(|dir| self.dir(dir))
    }

    fn dir(&self, dir: &[u8]) -> Result<()> {
        self.check()?;
        let Some(names) = self.names_of(dir, false)? else { return Ok(()) };
        let mut of_run: HashMap<Vec<u8>, bool> = HashMap::new();
        let (conn, as_of) = (self.tour.repository.catalog.conn(), self.tour.picked.as_of());
        view::for_each_name(conn, as_of, &join(&self.tour.picked.path, dir), &mut |name, is_dir| {
            of_run.insert(name, is_dir);
        })?;
        for found in names {
            let path = join(dir, &found.name);
            let goes = match of_run.get(&found.name) {
                // A directory where the run has something else is in its way.
                Some(is_dir_in_run) => found.is_dir && !is_dir_in_run && self.may_go(&path, false),
                None => !(dir.is_empty() && found.name == MARKER.as_bytes()) && self.may_go(&path, found.is_dir),
            };
            if goes {
                self.take(path, found.is_dir)?;
            }
        }
        Ok(())
    }

    /// Whether no pattern protects a path, nor what could not be read.
    fn may_go(&self, path: &[u8], is_dir: bool) -> bool {
        self.tour.wanted.standing(path, is_dir) == Standing::Taken && !self.may_be_lost(path)
    }

    /// Whether the run may lack a path only because it, or a directory above it, could not be read.
    fn may_be_lost(&self, path: &[u8]) -> bool {
        if self.unread.is_empty() {
            return false;
        }
        let mut above = path;
        while !above.is_empty() && !self.unread.contains(above) {
            above = split(above).0;
        }
        self.unread.contains(above)
    }

    /// Takes a name away, with all below it that may go.
    fn take(&self, path: Vec<u8>, is_dir: bool) -> Result<()> {
        if !is_dir {
            self.remove(&path, false);
            return Ok(());
        }
        let mut stack: Vec<Doomed> = self.doomed(path)?.into_iter().collect();
        while let Some(now) = stack.last_mut() {
            self.check()?;
            let Some(found) = now.names.next() else {
                let Some(done) = stack.pop() else { break };
                let is_gone = !done.keeps_some && self.remove(&done.path, true);
                if let Some(above) = stack.last_mut() {
                    above.keeps_some |= !is_gone;
                }
                continue;
            };
            let path = join(&now.path, &found.name);
            if !self.may_go(&path, found.is_dir) {
                now.keeps_some = true;
            } else if !found.is_dir {
                now.keeps_some |= !self.remove(&path, false);
            } else {
                match self.doomed(path)? {
                    Some(below) => stack.push(below),
                    None => now.keeps_some = true,
                }
            }
        }
        Ok(())
    }

    fn doomed(&self, path: Vec<u8>) -> Result<Option<Doomed>> {
        let names = self.names_of(&path, true)?;
        Ok(names.map(|names| Doomed { path, names: names.into_iter(), keeps_some: false }))
    }

    /// All names in a directory in which something may go; `None` where nothing may.
    fn names_of(&self, dir: &[u8], is_doomed: bool) -> Result<Option<Vec<FoundName>>> {
        let names = match self.target.holds(dir, is_doomed && self.deed == Deed::Delete) {
            Ok(Holds::Names(names)) => names,
            Ok(Holds::Nothing) => return Ok(None),
            Ok(Holds::OtherMount) if is_doomed => {
                self.fail(dir, "another file system is mounted there, so it is not deleted".to_owned());
                return Ok(None);
            }
            Ok(Holds::OtherMount) => {
                if self.deed != Deed::Look {
                    let words = format!("{} is on another file system: nothing in it is deleted", show(dir));
                    self.observer.warn(&words);
                }
                return Ok(None);
            }
            Err(error) => {
                if self.deed != Deed::Look {
                    self.tally.fail(&self.tour.source_path(dir), &Failure::Target(error));
                }
                return Ok(None);
            }
        };
        if !names.iter().any(|found| found.name == layout::LABEL.as_bytes()) {
            return Ok(Some(names));
        }
        let place = if dir.is_empty() { "the target itself".to_owned() } else { show(dir) };
        let words = format!(
            "{place} is a RaidTape volume; nothing of it is ever deleted: choose another target, or leave it out with \
             --exclude"
        );
        if self.deed == Deed::Delete {
            self.fail(dir, words);
            return Ok(None);
        }
        Err(EngineError::Usage(words))
    }

    /// Whether the name is gone, or would be.
    fn remove(&self, path: &[u8], is_dir: bool) -> bool {
        if self.deed == Deed::Delete
            && let Err(error) = self.target.delete(path, is_dir)
        {
            let why = match &error {
                TreeError::Write { source, .. } => format!("it cannot be deleted: {source}"),
                other => other.to_string(),
            };
            self.fail(path, why);
            return false;
        }
        if self.deed != Deed::Look {
            self.tally.note_deleted(path);
        }
        true
    }

    fn fail(&self, path: &[u8], text: String) {
        if self.deed != Deed::Look {
            let path = self.tour.source_path(path);
            self.tally.counts().problems.push(Problem { path, op: ProblemOp::Write, errno: None, text });
        }
    }

    fn check(&self) -> Result<()> {
        if self.observer.is_cancelled() { Err(EngineError::Interrupted) } else { Ok(()) }
    }
}

/// Whether what lies in the target may be deleted, and nothing there must never be. Writes nothing.
pub(super) fn check_delete(tour: &Tour<'_>, options: &RestoreOptions, observer: &dyn Observer) -> Result<()> {
    if !options.how.delete {
        return Ok(());
    }
    if matches!(options.overwrite, None | Some(Overwrite::Never)) {
        return Err(EngineError::Usage(
            "--delete needs --overwrite always, if-changed or if-newer: it makes what is there like the run".to_owned(),
        ));
    }
    if tour.wanted.strips() {
        return Err(EngineError::Usage(
            "--delete cannot go with --strip-components: what lies there has no place in the run".to_owned(),
        ));
    }
    check_places(tour, &options.dest)?;
    match Dest::look_at_tree(tour, (&options.dest, (options.overwrite, &options.how.wanted)))? {
        (Some(target), Ground::Occupied(_)) => {
            Deletion::new(*tour, (&target, &Tally::default()), (observer, Deed::Look))?.run()
        }
        _ => Ok(()),
    }
}

/// Refuses a target that holds, or lies in, a volume or the catalog as this repository knows them.
fn check_places(tour: &Tour<'_>, dest: &Path) -> Result<()> {
    let Ok(dest) = dest.canonicalize() else { return Ok(()) };
    let repository = tour.repository;
    let mounted = repository.mounted.iter().map(|one| (one.volume.root.as_path(), one.row.name.as_str()));
    let away = repository.away.iter().filter_map(|row| Some((row.path.as_deref()?, row.name.as_str())));
    let labelled = away.filter(|(path, _)| path.join(layout::LABEL).symlink_metadata().is_ok());
    for (root, name) in mounted.chain(labelled) {
        let Ok(root) = root.canonicalize() else { continue };
        if dest.starts_with(&root) {
            return Err(EngineError::Usage(format!(
                "{} lies in volume {name}, of which nothing is ever deleted; choose another target",
                dest.display()
            )));
        }
        refuse_inside(tour, (&dest, &root), &format!("volume {name}"))?;
    }
    let Ok(catalog) = repository.catalog.path().canonicalize() else { return Ok(()) };
    // With what SQLite keeps beside it.
    let beside = catalog.parent().unwrap_or(&catalog);
    if catalog.starts_with(&dest) { refuse_inside(tour, (&dest, beside), "the catalog") } else { Ok(()) }
}

fn refuse_inside(tour: &Tour<'_>, (dest, place): (&Path, &Path), what: &str) -> Result<()> {
    let inside = match place.strip_prefix(dest) {
        Ok(inside) => inside.as_os_str().as_bytes(),
        Err(_) if dest.starts_with(place) => b"",
        Err(_) => return Ok(()),
    };
    if !inside.is_empty() && tour.wanted.standing(inside, true) == Standing::LeftOut {
        return Ok(());
    }
    let way_out = if inside.is_empty() {
        "choose another target, or leave out --delete".to_owned()
    } else {
        format!("leave it out with --exclude '/{}', or choose another target", show(inside))
    };
    Err(EngineError::Usage(format!("{} holds {what}, of which nothing is ever deleted; {way_out}", dest.display())))
}

/// Whether a directory of the target lies where the run has something else that is to be restored.
pub(super) fn is_in_the_way(target: &Target, path: &[u8]) -> std::result::Result<bool, TreeError> {
    Ok(target.stat(path)?.is_some_and(|there| there.kind == EntryKind::Dir))
}
