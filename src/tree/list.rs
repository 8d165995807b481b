//! Listing one directory: open, getdents, one `statx` per name, sort.
//!
//! Decides nothing about order or threads; [`super::walk`] does. Every failure ends up in the listing, none is lost.

use std::io;
use std::sync::Arc;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::RawDir;
use rustix::io::Errno;

use super::dir::Dir;
use super::listed::Wanted;
use super::mount::is_mount_point;
use super::select::Selection;
use super::stat::{fs_trust, stat_at, stat_fd};
use crate::model::entry::{EntryKind, FsTrust, Stat};
use crate::model::limits::PATH_LEN_MAX;
use crate::model::path::{is_valid_name, join, split};
use crate::model::problem::{Problem, ProblemOp};

/// Bytes of one `getdents` answer: about a thousand names.
const GETDENTS_LEN: usize = 64 << 10;

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    /// It is listed; a directory is walked.
    Take,
    /// It is named in [`Listing::skipped`] only; a directory is not walked.
    Skip,
    /// The user does not want it: it is named in [`Listing::left_out`] only; a directory is not walked.
    LeaveOut,
}

/// Decides by path (inside the source) and metadata; called on every thread of the walker, once per entry.
pub type SelectFn = Arc<dyn Fn(&[u8], &Stat) -> Select + Send + Sync>;

/// One name and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name in its directory.
    pub name: Vec<u8>,
    /// What it is.
    pub stat: Stat,
}

/// One directory as it was found.
#[derive(Debug)]
pub struct Listing {
    /// Path inside the source; the root is empty.
    pub path: Vec<u8>,
    /// The opened directory itself; when it could not be opened, what its parent's listing said of it.
    pub stat: Stat,
    /// To open the files of this directory.
    pub dir: Dir,
    /// Why the directory is unreadable. Its entries are then incomplete: what is not named must count as unknown,
    /// never as deleted.
    pub outcome: Result<(), Problem>,
    /// Sorted by the bytes of their names.
    pub entries: Vec<Entry>,
    /// Names that exist and whose metadata could not be read, sorted.
    pub unreadable: Vec<(Vec<u8>, Problem)>,
    /// Names that the caller's function skipped, sorted.
    pub skipped: Vec<Vec<u8>>,
    /// Names that the user does not want, sorted.
    pub left_out: Vec<Vec<u8>>,
    /// What the file system can be trusted with.
    pub trust: FsTrust,
    /// Whether it lies on another device than the directory above it.
    pub is_mount_point: bool,
    /// What it holds is left out as a whole, whatever that is, and was not listed.
    pub is_left_out: bool,
}

/// A directory that is known by name and not listed yet.
#[derive(Debug)]
pub(super) struct Task {
    /// The directory above; `None` for the root, whose own handle is `root`.
    parent: Option<Dir>,
    /// What the parent's listing said.
    stat: Stat,
    /// Device and trust of the directory above.
    above: (u64, FsTrust),
}

impl Task {
    pub(super) fn root(stat: Stat) -> Self {
        Self { parent: None, above: (stat.dev, FsTrust::Local), stat }
    }
}

/// Lists directories, one after the other, with buffers that are used again. One per thread.
pub(super) struct Lister {
    root: Dir,
    select: SelectFn,
    selection: Arc<Selection>,
    buffer: Vec<u8>,
    path: Vec<u8>,
}

impl Lister {
    pub(super) fn new(root: Dir, (select, selection): (SelectFn, Arc<Selection>)) -> Self {
        Self { root, select, selection, buffer: Vec::with_capacity(GETDENTS_LEN), path: Vec::new() }
    }

    /// Lists the directory; the tasks are its subdirectories, in order, each with its path.
    pub(super) fn list(&mut self, path: &[u8], task: &Task) -> (Listing, Vec<(Vec<u8>, Task)>) {
        let mut listing = Listing {
            path: path.to_vec(),
            stat: task.stat,
            dir: self.root.at(path.to_vec()),
            outcome: Ok(()),
            entries: Vec::new(),
            unreadable: Vec::new(),
            skipped: Vec::new(),
            left_out: Vec::new(),
            trust: task.above.1,
            is_mount_point: false,
            is_left_out: false,
        };
        let listed = match &task.parent {
            None => self.root.clone().with_fd(|fd| {
                listing.is_mount_point = is_mount_point(fd)?;
                listing.trust = fs_trust(fd);
                Ok(self.fill(fd, task, &mut listing))
            }),
            Some(parent) => self.list_subdir(parent, task, &mut listing),
        };
        listing.outcome = listed
            .map_err(|error| Problem::from_io(path, ProblemOp::Open, &error))
            .and_then(|listed| listed.map_err(|error| Problem::from_io(path, ProblemOp::List, &error)));
        sort(&mut listing);
        let tasks = subdirs(&listing);
        (listing, tasks)
    }

    fn list_subdir(&mut self, parent: &Dir, task: &Task, listing: &mut Listing) -> io::Result<io::Result<()>> {
        let fd: OwnedFd = parent.open_subdir(split(&listing.path).1)?;
        let filled = self.fill(fd.as_fd(), task, listing);
        listing.dir.keep(fd);
        Ok(filled)
    }

    fn fill(&mut self, fd: BorrowedFd<'_>, task: &Task, listing: &mut Listing) -> io::Result<()> {
        listing.stat = stat_fd(fd)?;
        if listing.stat.dev != task.above.0 {
            listing.is_mount_point = true;
            listing.trust = fs_trust(fd);
            if self.selection.one_file_system && !self.selection.leads(&listing.path) {
                listing.is_left_out = true;
                return Ok(());
            }
        }
        self.path.clear();
        self.path.extend_from_slice(&listing.path);
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        let dir_len = self.path.len();
        let taken_ns = listing.stat.taken_ns;
        let mut names = RawDir::new(fd, self.buffer.spare_capacity_mut());
        while let Some(name) = names.next() {
            let name = match name {
                Err(Errno::INTR) => continue,
                name => name?,
            };
            let name = name.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.path.truncate(dir_len);
            self.path.extend_from_slice(name.to_bytes());
            let wanted = self.selection.wants(&self.path);
            if wanted == Wanted::Not {
                listing.left_out.push(name.to_bytes().to_vec());
                continue;
            }
            self.selection.meet(&self.path);
            let stat = if is_valid_name(name.to_bytes()) && self.path.len() <= PATH_LEN_MAX {
                stat_at(fd, name, taken_ns)
            } else {
                Err(Errno::NAMETOOLONG.into())
            };
            let chosen = stat.map(|stat| {
                let is_no_way = wanted == Wanted::OnTheWay && stat.kind != EntryKind::Dir;
                let of_others = || choose((&self.select, &self.selection), &self.path, &stat);
                (stat, if is_no_way { Select::LeaveOut } else { of_others() })
            });
            if let Ok((_, Select::LeaveOut)) = chosen {
                self.selection.leave_out(&self.path);
            }
            place(listing, dir_len, &self.path, chosen);
        }
        self.leave_to_tag(fd, listing);
        Ok(())
    }

    /// What the user wants.
    pub(super) fn selection(&self) -> &Selection {
        &self.selection
    }

    /// A problem for every path that a list names and that is not there.
    pub(super) fn not_met(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for path in self.selection.not_met() {
            let (dir, name) = split(path);
            if let Err(error) = self.root.at(dir.to_vec()).stat(name) {
                let mut problem = Problem::from_io(path, ProblemOp::Stat, &error);
                problem.text = format!("it is listed and cannot be found: {error}");
                problems.push(problem);
            }
        }
        problems
    }

    /// Paths that a list names, that are there, and that something else leaves out: them, or a directory above them.
    pub(super) fn left_out(&self) -> Vec<Vec<u8>> {
        let Some(listed) = self.selection.listed() else { return Vec::new() };
        let is_there = |path: &[u8]| self.root.at(split(path).0.to_vec()).stat(split(path).1).is_ok();
        let never_seen = listed.not_met().filter(|path| listed.is_top(path) && is_there(path)).map(<[u8]>::to_vec);
        listed.left_out().chain(never_seen).collect()
    }

    /// Where a tag says so, all but the tag is left out; it speaks also where it is left out itself.
    fn leave_to_tag(&self, fd: BorrowedFd<'_>, listing: &mut Listing) {
        if self.selection.is_above(&listing.path) {
            return;
        }
        let tag = listing.entries.iter().position(|entry| self.selection.is_tag(fd, &entry.name));
        if tag.is_some() || listing.left_out.iter().any(|name| self.selection.is_tag(fd, name)) {
            let tag = tag.map(|at| listing.entries.swap_remove(at));
            for entry in listing.entries.drain(..) {
                self.selection.leave_out(&join(&listing.path, &entry.name));
                listing.left_out.push(entry.name);
            }
            listing.entries.extend(tag);
        }
    }
}

/// What becomes of an entry.
fn choose((select, selection): (&SelectFn, &Selection), path: &[u8], stat: &Stat) -> Select {
    if !selection.leads(path) && !selection.takes(path, stat) {
        return Select::LeaveOut;
    }
    // What is wanted may lie in a volume's own directory, beside what the volume keeps there.
    if selection.is_on_the_way(path) { Select::Take } else { select(path, stat) }
}

/// Puts the entry `path`, whose name starts at `name_at`, where it belongs.
fn place(listing: &mut Listing, name_at: usize, path: &[u8], chosen: io::Result<(Stat, Select)>) {
    let name = &path[name_at..];
    match chosen {
        Ok((stat, Select::Take)) => listing.entries.push(Entry { name: name.to_vec(), stat }),
        Ok((_, Select::Skip)) => listing.skipped.push(name.to_vec()),
        Ok((_, Select::LeaveOut)) => listing.left_out.push(name.to_vec()),
        // Gone since getdents: as if it had been gone before.
        Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
        Err(error) => {
            let problem = Problem::from_io(path, ProblemOp::Stat, &error);
            listing.unreadable.push((name.to_vec(), problem));
        }
    }
}

fn sort(listing: &mut Listing) {
    listing.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    listing.unreadable.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    listing.skipped.sort_unstable();
    listing.left_out.sort_unstable();
    // A directory that changes while it is listed may name an entry twice.
    listing.entries.dedup_by(|later, first| later.name == first.name);
    listing.unreadable.dedup_by(|later, first| later.0 == first.0);
    listing.skipped.dedup();
    listing.left_out.dedup();
}

fn subdirs(listing: &Listing) -> Vec<(Vec<u8>, Task)> {
    let above = (listing.stat.dev, listing.trust);
    listing
        .entries
        .iter()
        .filter(|entry| entry.stat.kind == EntryKind::Dir)
        .map(|entry| {
            let task = Task { parent: Some(listing.dir.clone()), stat: entry.stat, above };
            (join(&listing.path, &entry.name), task)
        })
        .collect()
}
