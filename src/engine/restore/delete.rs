//! `--delete`: names in the target that the run does not have, inside directories that it has.
//!
//! What stays all the same: what the patterns leave out, what the run may lack only because it could not be read then,
//! what lies on another file system, volumes and catalogs, marks of unfinished restores, directories in which names do
//! not stay as they were written. Decides what goes; `tree/target_delete` alone deletes. Whether anything may go at all
//! is `delete_check`'s.

use super::dest::MARKER;
use super::guarded::Guarded;
use super::tally::Tally;
use super::tour::Tour;
use super::wanted::Standing;
use crate::catalog::{runs, view};
use crate::engine::error::{EngineError, Result};
use crate::engine::observer::Observer;
use crate::format::layout;
use crate::model::entry::EntryKind;
use crate::model::path::{is_within, join, split};
use crate::model::problem::{Problem, ProblemOp};
use crate::tree::error::TreeError;
use crate::tree::target::Target;
use crate::tree::target_delete::{FoundName, Holds};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Whether anything goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// It is counted and stays.
    Rehearse,
    /// It goes.
    Delete,
}

/// What stays although the run does not have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Path in the target; empty: the target itself.
    pub path: Vec<u8>,
    /// Why.
    pub why: &'static str,
}

const OTHER_FS: &str = "another file system";
const VOLUME: &str = "a RaidTape volume";
const UNREAD: &str = "it could not be read when the run was made";
const UNFINISHED: &str = "the mark of an unfinished restore";
const FOLDED: &str = "a folder that does not keep names as the run has them";

/// What is deleted in one target.
pub(super) struct Deletion<'a> {
    tour: Tour<'a>,
    target: &'a Target,
    tally: &'a Tally,
    observer: &'a dyn Observer,
    deed: Deed,
    /// Where the source has several roots: their paths in it. Directories above them are not the run's alone.
    roots: Option<Vec<Vec<u8>>>,
    /// Paths in the target that the run may have lost.
    unread: BTreeSet<Vec<u8>>,
    /// The catalog and the volumes of this repository.
    own: HashSet<(u64, u64)>,
    /// Directories in and below which nothing goes.
    closed: HashSet<Vec<u8>>,
}

/// A directory that is being emptied.
struct Doomed {
    path: Vec<u8>,
    names: std::vec::IntoIter<FoundName>,
    keeps_some: bool,
}

impl<'a> Deletion<'a> {
    /// `roots`: of a source with several, without the leading slash.
    ///
    /// # Errors
    /// `Usage` when it is not known what the run lacks.
    pub fn new(
        tour: Tour<'a>,
        (target, tally): (&'a Target, &'a Tally),
        (observer, deed): (&'a dyn Observer, Deed),
        roots: Option<Vec<Vec<u8>>>,
    ) -> Result<Self> {
        let unread = unread_in(&tour)?;
        let own = tour.repository.guarded_inodes();
        Ok(Self { tour, target, tally, observer, deed, roots, unread, own, closed: HashSet::new() })
    }

    /// Goes through all directories of the run that are not left out.
    ///
    /// # Errors
    /// `Interrupted`; the catalog's, whose list of names is then not complete.
    pub fn run(&mut self) -> Result<()> {
        self.dir(b"")?;
        let mut walk = self.tour.begin()?;
        while let Some(page) = self.tour.next_wanted(&mut walk)? {
            for entry in page.iter().filter(|entry| entry.version.kind == EntryKind::Dir) {
                if let Some(path) = self.tour.target_path(entry) {
                    self.dir(&path)?;
                }
            }
        }
        Ok(())
    }

    fn dir(&mut self, dir: &[u8]) -> Result<()> {
        self.check()?;
        if self.is_closed(dir) || self.is_on_the_way(dir) {
            return Ok(());
        }
        let Some(names) = self.names_of(dir) else { return Ok(()) };
        let mut of_run: HashMap<Vec<u8>, bool> = HashMap::new();
        let (conn, as_of) = (self.tour.repository.catalog.conn(), self.tour.picked.as_of());
        view::for_each_name(conn, as_of, &self.tour.source_path(dir), &mut |name, is_dir| {
            of_run.insert(name, is_dir);
        })?;
        if self.is_folded(dir, (&names, &of_run)) {
            self.leave(dir, FOLDED);
            return Ok(());
        }
        for found in names.into_iter().filter(|found| !of_run.contains_key(&found.name)) {
            let path = join(dir, &found.name);
            if !self.may_go(&path, &found) {
                continue;
            }
            if found.is_dir {
                self.empty(path)?;
            } else {
                self.remove(&path, false);
            }
        }
        Ok(())
    }

    /// Whether names of the run are missing: a directory that folds their case has them under other names, which must
    /// not be taken for what the run lacks.
    fn is_folded(&self, dir: &[u8], (names, of_run): (&[FoundName], &HashMap<Vec<u8>, bool>)) -> bool {
        let listed: HashSet<&[u8]> = names.iter().map(|found| found.name.as_slice()).collect();
        of_run.iter().filter(|(name, _)| !listed.contains(name.as_slice())).any(|(name, is_dir)| {
            let path = join(dir, name);
            if self.tour.wanted.standing(&path, *is_dir) != Standing::Taken {
                return false;
            }
            // Before a restore it may just not be there yet.
            self.deed == Deed::Delete || self.target.stat(&path).map_or(true, |there| there.is_some())
        })
    }

    /// Whether a name that the run does not have may go, as far as its own path tells.
    fn may_go(&mut self, path: &[u8], found: &FoundName) -> bool {
        if is_marker(&found.name) {
            if !split(path).0.is_empty() {
                self.leave(path, UNFINISHED);
            }
            return false;
        }
        if self.tour.wanted.standing(path, found.is_dir) != Standing::Taken {
            return false;
        }
        if self.may_be_lost(path) {
            self.leave(path, UNREAD);
            return false;
        }
        if found.is_dir {
            return true;
        }
        let guarded = Guarded { target: self.target, own: &self.own }.what(path, &found.name);
        match guarded {
            Ok(None) => true,
            Ok(Some(why)) => {
                self.leave(path, why);
                false
            }
            Err(error) => {
                self.fail(path, &error);
                false
            }
        }
    }

    /// Whether the run may lack a path only because it, or a directory above it, could not be read.
    fn may_be_lost(&self, path: &[u8]) -> bool {
        !self.unread.is_empty() && at_or_above(path).any(|above| self.unread.contains(above))
    }

    fn is_closed(&self, dir: &[u8]) -> bool {
        !self.closed.is_empty() && at_or_above(dir).any(|above| self.closed.contains(above))
    }

    /// Whether a directory is above the roots of its source: what else lies there was never asked for.
    fn is_on_the_way(&self, dir: &[u8]) -> bool {
        let path = self.tour.source_path(dir);
        self.roots.as_ref().is_some_and(|roots| !roots.iter().any(|root| is_within(&path, root)))
    }

    /// Takes a directory away, with all in it that may go.
    fn empty(&mut self, path: Vec<u8>) -> Result<()> {
        let mut stack: Vec<Doomed> = self.doomed(path).into_iter().collect();
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
            let below = match self.may_go(&path, &found) {
                true if found.is_dir => self.doomed(path),
                true if self.remove(&path, false) => continue,
                _ => None,
            };
            match (below, stack.last_mut()) {
                (Some(below), _) => stack.push(below),
                (None, Some(now)) => now.keeps_some = true,
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn doomed(&mut self, path: Vec<u8>) -> Option<Doomed> {
        let names = self.names_of(&path)?;
        Some(Doomed { path, names: names.into_iter(), keeps_some: false })
    }

    /// All names in a directory in which something may go; `None` where nothing may.
    fn names_of(&mut self, dir: &[u8]) -> Option<Vec<FoundName>> {
        let (names, inode) = match self.target.holds(dir) {
            Ok(Holds::Names { names, inode }) => (names, inode),
            Ok(Holds::Nothing) => return None,
            Ok(Holds::OtherFileSystem) => return self.close(dir, OTHER_FS),
            Err(error) => {
                self.closed.insert(dir.to_vec());
                self.fail(dir, &error);
                return None;
            }
        };
        let has_label = names.iter().any(|found| found.name == layout::LABEL.as_bytes());
        if has_label || self.own.contains(&inode) { self.close(dir, VOLUME) } else { Some(names) }
    }

    /// Leaves a directory with all below it.
    fn close<T>(&mut self, dir: &[u8], why: &'static str) -> Option<T> {
        self.closed.insert(dir.to_vec());
        self.leave(dir, why);
        None
    }

    fn leave(&self, path: &[u8], why: &'static str) {
        self.tally.counts().left.push(Left { path: path.to_vec(), why });
    }

    /// Whether the name is gone, or would be.
    fn remove(&self, path: &[u8], is_dir: bool) -> bool {
        if self.deed == Deed::Delete
            && let Err(error) = self.target.delete(path, is_dir)
        {
            self.fail(path, &error);
            return false;
        }
        self.tally.note_deleted(path);
        true
    }

    fn fail(&self, path: &[u8], error: &TreeError) {
        let text = match error {
            TreeError::Write { source, .. } => format!("it cannot be deleted: {source}"),
            other => format!("it cannot be deleted: {other}"),
        };
        let problem = Problem { path: self.tour.source_path(path), op: ProblemOp::Write, errno: error.errno(), text };
        self.tally.counts().problems.push(problem);
    }

    fn check(&self) -> Result<()> {
        if self.observer.is_cancelled() { Err(EngineError::Interrupted) } else { Ok(()) }
    }
}

/// Paths in the target that the run may lack because they could not be read; the empty one stands for all.
///
/// # Errors
/// `Usage` when the catalog does not know them.
pub(super) fn unread_in(tour: &Tour<'_>) -> Result<BTreeSet<Vec<u8>>> {
    let run = &tour.picked.run;
    let Some(unread) = runs::unread_paths(tour.repository.catalog.conn(), run)? else {
        return Err(EngineError::Usage(format!(
            "run {} lacks files that could not be read then, and this catalog was rebuilt and does not know which; nothing \
             can be deleted by it: choose another run, or leave out --delete",
            run.seq
        )));
    };
    let top = &tour.picked.path;
    let of_part = unread.into_iter().filter(|path| is_within(path, top) || is_within(top, path));
    Ok(of_part.map(|path| if is_within(&path, top) { tour.below(&path).to_vec() } else { Vec::new() }).collect())
}

/// A path and all above it, the empty one last.
fn at_or_above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |path| (!path.is_empty()).then(|| split(path).0))
}

/// Whether a name is a restore's mark: those in a tree that has such a file itself end in underscores.
fn is_marker(name: &[u8]) -> bool {
    name.strip_prefix(MARKER.as_bytes()).is_some_and(|rest| rest.iter().all(|byte| *byte == b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::observer::Silent;
    use crate::engine::restore::WantedOptions;
    use crate::engine::restore::wanted::Wanted;
    use crate::engine::select::pick;
    use crate::engine::test_repo::{Node, TestRepo};
    use std::fs;

    struct Cancelled;

    impl Observer for Cancelled {
        fn is_cancelled(&self) -> bool {
            true
        }
    }

    /// What goes from `out` by a run with `d/Name` and `e/f`, in which `made` lie: with what stays, and why.
    fn deleted(made: &[&str], deed: Deed, observer: &dyn Observer) -> (Result<()>, Vec<&'static str>, Vec<String>) {
        let mut repo = TestRepo::new();
        repo.run(&[("d", Node::Dir), ("d/Name", Node::bytes(b"x")), ("e", Node::Dir), ("e/f", Node::bytes(b"x"))]);
        let out = repo.dir.path().join("out");
        for name in made {
            fs::create_dir_all(out.join(name).parent().unwrap()).unwrap();
            fs::write(out.join(name), b"x").unwrap();
        }
        let picked = pick(&repo.repository, b"", None, None).unwrap();
        let wanted = Wanted::new(&WantedOptions::default()).unwrap();
        let tour = Tour { repository: &repo.repository, picked: &picked, wanted: &wanted };
        let (target, tally) = (Target::open(&out, false).unwrap(), Tally::default());
        let mut deletion = Deletion::new(tour, (&target, &tally), (observer, deed), None).unwrap();
        let ran = deletion.run();
        let stays = made.iter().filter(|name| out.join(name).exists()).map(|name| (*name).to_owned()).collect();
        let left = tally.counts().left.iter().map(|left| left.why).collect();
        (ran, left, stays)
    }

    #[test]
    fn where_a_name_of_the_run_is_missing_after_the_restore_nothing_goes_in_its_directory() {
        let (ran, left, stays) = deleted(&["d/NAME", "d/x", "e/f", "e/gone", "gone/x"], Deed::Delete, &Silent);
        assert!(ran.is_ok());
        assert_eq!((left, stays), (vec![FOLDED], vec!["d/NAME".to_owned(), "d/x".to_owned(), "e/f".to_owned()]));
        // Before it, one that is not there yet says nothing.
        let (_, left, stays) = deleted(&["d/x", "e/f"], Deed::Rehearse, &Silent);
        assert!(left.is_empty() && stays.len() == 2);
    }

    #[test]
    fn an_interruption_ends_it_at_once() {
        let (ran, _, stays) = deleted(&["d/Name", "d/x", "gone"], Deed::Delete, &Cancelled);
        assert!(matches!(ran, Err(EngineError::Interrupted)));
        assert_eq!(stays.len(), 3);
    }

    #[test]
    fn marks_are_known_by_their_whole_name() {
        assert!(is_marker(b".raidtape-restore") && is_marker(b".raidtape-restore__"));
        assert!(!is_marker(b".raidtape-restore_x") && !is_marker(b".raidtape-restor"));
        assert_eq!(at_or_above(b"a/b").collect::<Vec<_>>(), [&b"a/b"[..], b"a", b""]);
    }
}
