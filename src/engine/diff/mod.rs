//! `diff`: what is another in one run than in another, or in a directory than in a run. Two runs are compared from the
//! catalog alone: both are gone through in one order, a page each in memory. `live` compares with a directory.

mod live;

pub use self::live::{DiffDirOptions, diff_dir};

use super::error::{EngineError, Result};
use super::repository::Repository;
use super::select::{path_inside, pick, run_named, source_by_id, source_with, source_words};
use crate::catalog::interned::owner_by_id;
use crate::catalog::row::{StoredObject, StoredVersion};
use crate::catalog::runs::Run;
use crate::catalog::view::{self, AsOf, Entry, Walk};
use crate::catalog::{CatalogError, Connection};
use crate::model::entry::EntryKind;
use crate::model::ids::RunSeq;
use crate::model::path::split;
use crate::model::problem::Problem;
use crate::model::run_spec::RunSpec;
use std::cmp::Ordering;
use std::collections::VecDeque;

/// Which runs.
#[derive(Debug, Clone)]
pub struct DiffOptions {
    /// The run before.
    pub from: RunSpec,
    /// The run after.
    pub to: RunSpec,
    /// Only what lies at or below this path; empty for all.
    pub path: Vec<u8>,
    /// `name` or `host:name`, where neither the runs nor the path tell.
    pub source: Option<String>,
    /// The runs may be of two sources: then paths inside them are compared.
    pub across: bool,
}

/// How a path is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiffKind {
    /// It is there.
    Added,
    /// It is not there any more.
    Removed,
    /// Another kind of file.
    Type,
    /// Another content, target or device.
    Content,
    /// Other metadata.
    Metadata,
}

impl DiffKind {
    /// restic's letter.
    pub fn letter(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Type => 'T',
            Self::Content => 'M',
            Self::Metadata => 'U',
        }
    }
}

/// How much is another.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct DiffReport {
    /// The run before.
    pub from: Option<RunSeq>,
    /// The run after; `None` for a directory.
    pub to: Option<RunSeq>,
    /// Paths that are there.
    pub added: u64,
    /// Paths that are not there any more.
    pub removed: u64,
    /// Another kind.
    pub kind: u64,
    /// Another content.
    pub content: u64,
    /// Other metadata.
    pub metadata: u64,
    /// Bytes of files that are there, or have another content.
    pub bytes_added: u64,
    /// Bytes of files that are not there any more, or had another content.
    pub bytes_removed: u64,
    /// What could not be read, and so not be compared.
    #[serde(skip)]
    pub problems: Vec<Problem>,
}

/// A path that is another, and whether it is, or was, a directory.
pub type EachDiff<'e> = dyn FnMut(DiffKind, &[u8], bool) + 'e;

impl DiffReport {
    /// Counts one path, given the bytes of the file before and after.
    fn count(&mut self, kind: DiffKind, (before, after): (u64, u64)) {
        let count = match kind {
            DiffKind::Added => &mut self.added,
            DiffKind::Removed => &mut self.removed,
            DiffKind::Type => &mut self.kind,
            DiffKind::Content => &mut self.content,
            DiffKind::Metadata => &mut self.metadata,
        };
        *count += 1;
        if kind != DiffKind::Metadata {
            self.bytes_added = self.bytes_added.saturating_add(after);
            self.bytes_removed = self.bytes_removed.saturating_add(before);
        }
    }
}

/// Hands every path that is another to `each`, by directory and name.
///
/// # Errors
/// `Usage` for runs and paths that are not there, and for runs of two sources unless that is meant.
pub fn diff(repository: &Repository, options: &DiffOptions, each: &mut EachDiff<'_>) -> Result<DiffReport> {
    let conn = repository.catalog.conn();
    let (from, to) = runs_of(repository, options)?;
    let one_source = from.source == to.source;
    let sides = [&from, &to].map(|run| -> Result<Side> {
        let source = source_by_id(repository, run.source)?;
        Side::new(conn, AsOf { source: run.source, run: run.seq }, path_inside(&options.path, &source)?)
    });
    let [before, after] = sides;
    let (mut before, mut after) = (before?, after?);
    if before.is_empty(conn)? && after.is_empty(conn)? && !before.top.is_empty() {
        // Says why it is not there.
        pick(repository, &options.path, Some(&from.seq.into()), None)?;
    }
    if before.top.is_empty() && (before.page.is_empty() || after.page.is_empty()) {
        // A run always has its root: one without an entry for it says nothing of it.
        before.page.clear();
        after.page.clear();
    }
    let mut report = DiffReport { from: Some(from.seq), to: Some(to.seq), ..DiffReport::default() };
    loop {
        before.fill(conn)?;
        after.fill(conn)?;
        let (kind, old, new) = match before.order(&after) {
            None => return Ok(report),
            Some(Ordering::Less) => (DiffKind::Removed, before.page.pop_front(), None),
            Some(Ordering::Greater) => (DiffKind::Added, None, after.page.pop_front()),
            Some(Ordering::Equal) => {
                let (Some(old), Some(new)) = (before.page.pop_front(), after.page.pop_front()) else { continue };
                if one_source && old.first_run == new.first_run {
                    continue;
                }
                let Some(kind) = other_in(conn, (&old.version, &new.version), one_source)? else { continue };
                (kind, Some(old), Some(new))
            }
        };
        let size = |entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| bytes_of(&entry.version));
        report.count(kind, (size(&old), size(&new)));
        if let Some(entry) = new.or(old) {
            each(kind, &entry.path, entry.version.kind == EntryKind::Dir);
        }
    }
}

fn runs_of(repository: &Repository, options: &DiffOptions) -> Result<(Run, Run)> {
    let named = |spec: &RunSpec, source: Option<&str>| {
        // A number says whose run it is.
        let source = source.filter(|_| !(options.across && matches!(spec, RunSpec::Number(_))));
        run_named(repository, spec, source)
    };
    let of = |run: &Run| source_by_id(repository, run.source).map(|source| source_words(&source));
    let given = options.source.as_deref();
    let (from, to) = match (&options.from, &options.to, given) {
        (from @ RunSpec::Number(_), to, None) if !matches!(to, RunSpec::Number(_)) => {
            let from = named(from, None)?;
            let to = named(to, Some(&of(&from)?))?;
            (from, to)
        }
        (from, to @ RunSpec::Number(_), None) if !matches!(from, RunSpec::Number(_)) => {
            let to = named(to, None)?;
            (named(from, Some(&of(&to)?))?, to)
        }
        (from, to, None) if !options.path.is_empty() && !matches!(from, RunSpec::Number(_)) => {
            let source = source_with(repository, &options.path, &[to, from])?;
            let words = source_words(&source);
            (named(from, Some(&words))?, named(to, Some(&words))?)
        }
        (from, to, given) => (named(from, given)?, named(to, given)?),
    };
    if from.source != to.source && !options.across {
        let (one, other) = (of(&from)?, of(&to)?);
        return Err(EngineError::Usage(format!(
            "run {} is of source {one}, run {} of {other}; --across compares the paths inside them",
            from.seq, to.seq
        )));
    }
    Ok((from, to))
}

/// In what two versions differ most. Hard-link groups mean something within one source only.
fn other_in(
    conn: &Connection,
    (old, new): (&StoredVersion, &StoredVersion),
    one_source: bool,
) -> std::result::Result<Option<DiffKind>, CatalogError> {
    if old.kind != new.kind {
        return Ok(Some(DiffKind::Type));
    }
    if old.object != new.object {
        return Ok(Some(DiffKind::Content));
    }
    let is_same = old.mode == new.mode
        && old.mtime_ns == new.mtime_ns
        && old.attr == new.attr
        && (!one_source || old.link == new.link)
        && is_same_owner(conn, old.owner, new.owner)?;
    Ok((!is_same).then_some(DiffKind::Metadata))
}

/// Whether two owners have the same numbers: another name of a user changes no file.
fn is_same_owner(conn: &Connection, one: i64, other: i64) -> std::result::Result<bool, CatalogError> {
    if one == other {
        return Ok(true);
    }
    let (one, other) = (owner_by_id(conn, one)?, owner_by_id(conn, other)?);
    Ok((one.uid, one.gid) == (other.uid, other.gid))
}

/// Bytes of a regular file.
fn bytes_of(version: &StoredVersion) -> u64 {
    if matches!(version.object, StoredObject::Content(_)) { version.size } else { 0 }
}

/// One of the runs, from a path on.
struct Side {
    as_of: AsOf,
    top: Vec<u8>,
    walk: Walk,
    page: VecDeque<Entry>,
}

impl Side {
    fn new(conn: &Connection, as_of: AsOf, top: Vec<u8>) -> Result<Self> {
        let itself = view::entry(conn, as_of, &top)?;
        Ok(Self { as_of, walk: Walk::below(conn, as_of, &top)?, top, page: itself.into_iter().collect() })
    }

    fn is_empty(&self, conn: &Connection) -> Result<bool> {
        Ok(view::entry(conn, self.as_of, &self.top)?.is_none())
    }

    fn fill(&mut self, conn: &Connection) -> Result<()> {
        while self.page.is_empty() {
            let Some(page) = self.walk.next_page(conn)? else { return Ok(()) };
            self.page = page.into();
        }
        Ok(())
    }

    /// Which side has the path that comes first; `None` when both are at their end.
    fn order(&self, other: &Self) -> Option<Ordering> {
        match (self.page.front(), other.page.front()) {
            (None, None) => None,
            (Some(_), None) => Some(Ordering::Less),
            (None, Some(_)) => Some(Ordering::Greater),
            (Some(one), Some(two)) => Some(self.key(one).cmp(&other.key(two))),
        }
    }

    /// Below the top: the top itself comes first, then directories and names in the order of a walk.
    fn key<'e>(&self, entry: &'e Entry) -> (bool, &'e [u8], &'e [u8]) {
        match entry.path.get(self.top.len()..) {
            None | Some([]) => (false, b"", b""),
            Some(below) => {
                let (dir, name) = split(below.strip_prefix(b"/").unwrap_or(below));
                (true, dir, name)
            }
        }
    }
}

#[cfg(test)]
mod tests;
