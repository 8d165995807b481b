//! Hard links: the first name of a group is restored as a file, the others are made names of it. Where the file system
//! will not do that, they become files of their own.

use super::Overwrite;
use super::dest::{Decision, Ground};
use super::steps::{PlannedFile, Restorer};
use super::tally::Failure;
use crate::catalog::row::{StoredObject, StoredVersion};
use crate::catalog::view::Entry;
use crate::engine::error::Result;
use crate::model::ids::ContentId;
use crate::tree::error::TreeError;
use crate::tree::target::Existing;
use std::collections::HashSet;
use std::io::ErrorKind;

/// A hard-link group and the content of its names. A name that could not be looked at in a run keeps its earlier
/// version, and so may have other bytes than the rest of its group: it is no name of the same file.
pub(super) type LinkKey = (i64, ContentId);

/// The group that a version belongs to, if it does.
pub(super) fn link_key(version: &StoredVersion) -> Option<LinkKey> {
    match version.object {
        StoredObject::Content(content) if version.link != 0 => Some((version.link, content)),
        _ => None,
    }
}

/// What became of one further name.
enum Linked {
    /// It is there, or it was counted as kept or failed.
    Done,
    /// The first name takes no more links, or could not be written: this one becomes a file and the next first one.
    NeedsNewFirst,
    /// This file system has no hard links.
    NeedsOwnFile,
}

impl Restorer<'_> {
    /// Makes all further names that the files' step met.
    pub fn hard_links(&mut self) -> Result<()> {
        let mut names = std::mem::take(&mut self.further_names);
        while !names.is_empty() {
            let (mut own_files, mut again) = (Vec::new(), Vec::new());
            let mut with_new_first = HashSet::new();
            for name in names {
                self.check()?;
                let Some(link) = link_key(&name.entry.version) else { continue };
                if with_new_first.contains(&link) {
                    again.push(name);
                    continue;
                }
                match self.hard_link(&name) {
                    Linked::Done => {}
                    Linked::NeedsOwnFile => own_files.push(name),
                    Linked::NeedsNewFirst => {
                        with_new_first.insert(link);
                        self.firsts.insert(link, name.path.clone());
                        own_files.push(name);
                    }
                }
            }
            if !own_files.is_empty() {
                self.tally.counts().failed_links.retain(|link, _| !with_new_first.contains(link));
                self.files(Some(own_files))?;
            }
            names = again;
        }
        Ok(())
    }

    fn hard_link(&self, name: &PlannedFile) -> Linked {
        let Some(link) = link_key(&name.entry.version) else { return Linked::NeedsOwnFile };
        let Some(first) = self.firsts.get(&link) else { return Linked::NeedsOwnFile };
        let failed = self.tally.counts().failed_links.get(&link).cloned();
        match failed {
            None => {}
            Some(None) => return Linked::NeedsNewFirst,
            // The same bytes are missing.
            Some(Some(data)) => {
                self.tally.fail(&name.entry.path, &data.into());
                return Linked::Done;
            }
        }
        let linked = self.decide_link(first, (&name.path, &name.entry)).and_then(|decision| match decision {
            Decision::Keep => Ok(false),
            Decision::Write(existing) => self.dest.target.hard_link(first, &name.path, existing).map(|()| true),
        });
        let kind = |error: &TreeError| match error {
            TreeError::Write { source, .. } => Some(source.kind()),
            _ => None,
        };
        match linked {
            Ok(true) => self.tally.counts().hardlinks += 1,
            Ok(false) => self.tally.counts().skipped_existing += 1,
            Err(error) if kind(&error) == Some(ErrorKind::TooManyLinks) => return Linked::NeedsNewFirst,
            Err(error) if matches!(kind(&error), Some(ErrorKind::PermissionDenied | ErrorKind::Unsupported)) => {
                return Linked::NeedsOwnFile;
            }
            Err(error) => self.tally.fail(&name.entry.path, &Failure::Target(error)),
        }
        Linked::Done
    }

    /// Makes a symlink, fifo, socket or device a further name of one of its group that this restore has made. False when
    /// it is to be made by itself: it is the first, or the file system has no such links.
    pub fn link_special(&self, entry: &Entry, path: &[u8]) -> bool {
        let version = &entry.version;
        let Some((first, same)) = self.special_firsts.get(&version.link).filter(|_| version.link != 0) else {
            return false;
        };
        if (same.kind, &same.object) != (version.kind, &version.object) {
            return false;
        }
        let linked = self.decide_link(first, (path, entry)).and_then(|decision| match decision {
            Decision::Keep => Ok(false),
            Decision::Write(existing) => self.dest.target.hard_link(first, path, existing).map(|()| true),
        });
        match linked {
            Ok(true) => self.tally.counts().hardlinks += 1,
            Ok(false) => self.tally.counts().skipped_existing += 1,
            Err(_) => return false,
        }
        true
    }

    /// Keeps in mind that `path` is the first name of its group.
    pub fn note_special(&mut self, version: StoredVersion, path: Vec<u8>) {
        if version.link != 0 {
            self.special_firsts.insert(version.link, (path, version));
        }
    }

    /// What is there may be the link already. A file of another inode with the same bytes is none: what an unfinished
    /// restore wrote, and what differs from the run, becomes one.
    fn decide_link(&self, first: &[u8], (path, entry): (&[u8], &Entry)) -> std::result::Result<Decision, TreeError> {
        let decision = self.dest.decide(path, entry)?;
        if decision == Decision::Write(Existing::Refuse) {
            return Ok(decision);
        }
        let (one, other) = (self.dest.target.stat(first)?, self.dest.target.stat(path)?);
        let is_linked = one.zip(other).is_some_and(|(one, other)| (one.dev, one.ino) == (other.dev, other.ino));
        Ok(match decision {
            _ if is_linked => Decision::Keep,
            _ if matches!(self.dest.ground, Ground::Resumed { .. } | Ground::Occupied(Overwrite::IfChanged)) => {
                Decision::Write(Existing::Replace)
            }
            decision => decision,
        })
    }
}
