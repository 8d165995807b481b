//! `ls`: what a directory held as of a run. Reads the catalog alone.

use super::error::Result;
use super::repository::Repository;
use super::select::{Picked, pick, source_words};
use crate::catalog::row::StoredObject;
use crate::catalog::view::{self, Entry, Walk};
use crate::catalog::{contents, interned};
use crate::model::entry::EntryKind;
use crate::model::ids::{FileHash, RunSeq};
use crate::model::path::show;
use crate::model::run_spec::RunSpec;
use serde::{Serialize, Serializer};

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct LsOptions {
    /// A directory, or anything else, which lists itself; empty for the root.
    pub path: Vec<u8>,
    /// As of this run; the newest complete one when not given.
    pub run: Option<RunSpec>,
    /// `name` or `host:name`, where several sources fit.
    pub source: Option<String>,
    /// All below it, not only what lies directly in it.
    pub recursive: bool,
    /// In this order, in place of that of directories and names, over all that is listed.
    pub sort: Option<LsSort>,
    /// The other way round.
    pub reverse: bool,
}

/// An order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LsSort {
    /// By path.
    Name,
    /// The largest first.
    Size,
    /// The newest first.
    Time,
}

impl LsSort {
    /// Every order.
    pub const ALL: [Self; 3] = [Self::Name, Self::Size, Self::Time];

    /// The word of the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Size => "size",
            Self::Time => "time",
        }
    }

    /// What is smaller comes first.
    fn key(self, entry: &Entry) -> i128 {
        match self {
            Self::Name => 0,
            Self::Size => -i128::from(entry.version.size),
            Self::Time => -i128::from(entry.version.mtime_ns),
        }
    }
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LsEntry {
    /// Path inside the source.
    #[serde(serialize_with = "shown")]
    pub path: Vec<u8>,
    /// Kind of the file.
    pub kind: EntryKind,
    /// Permission bits (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Owner's name, where it was recorded.
    #[serde(serialize_with = "shown")]
    pub user: Vec<u8>,
    /// Group's name, where it was recorded.
    #[serde(serialize_with = "shown")]
    pub group: Vec<u8>,
    /// Bytes of a regular file.
    pub size: u64,
    /// Last change of the content.
    pub mtime_ns: i64,
    /// Birth, where known.
    pub btime_ns: Option<i64>,
    /// Hash of a regular file.
    pub file_hash: Option<FileHash>,
    /// Where a symlink leads.
    #[serde(serialize_with = "shown_if_any")]
    pub link_target: Option<Vec<u8>>,
    /// Its bytes changed while they were read.
    pub inconsistent: bool,
    /// First run that saw this version.
    pub first_run: RunSeq,
}

/// Where the listing comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LsReport {
    /// The run.
    pub run: RunSeq,
    /// `host:name`.
    pub source: String,
}

/// Hands the entries to `each`, by directory and name unless the options say otherwise. What is sorted stays in memory
/// by path and key alone.
pub fn ls(repository: &Repository, options: &LsOptions, each: &mut dyn FnMut(LsEntry)) -> Result<LsReport> {
    let picked = pick(repository, &options.path, options.run.as_ref(), options.source.as_deref())?;
    let conn = repository.catalog.conn();
    let itself = view::entry(conn, picked.as_of(), &picked.path)?;
    match itself {
        Some(entry) if entry.version.kind != EntryKind::Dir => each(listed(repository, entry)?),
        _ if options.sort.is_none() && !options.reverse => {
            for_each_page(repository, (&picked, options), &mut |page| list_page(repository, page, each))?;
        }
        _ => {
            let sort = options.sort.unwrap_or(LsSort::Name);
            let mut keys: Vec<(i128, Vec<u8>)> = Vec::new();
            for_each_page(repository, (&picked, options), &mut |page| {
                keys.extend(page.into_iter().map(|entry| (sort.key(&entry), entry.path)));
                Ok(())
            })?;
            keys.sort_unstable();
            if options.reverse {
                keys.reverse();
            }
            for (_, path) in keys {
                let entry = view::entry(conn, picked.as_of(), &path)?;
                entry.map_or(Ok(()), |entry| listed(repository, entry).map(&mut *each))?;
            }
        }
    }
    Ok(LsReport { run: picked.run.seq, source: source_words(&picked.source) })
}

fn for_each_page(
    repository: &Repository,
    (picked, options): (&Picked, &LsOptions),
    each: &mut dyn FnMut(Vec<Entry>) -> Result<()>,
) -> Result<()> {
    let conn = repository.catalog.conn();
    if !options.recursive {
        return each(view::children(conn, picked.as_of(), &picked.path)?);
    }
    let mut walk = Walk::below(conn, picked.as_of(), &picked.path)?;
    while let Some(page) = walk.next_page(conn)? {
        each(page)?;
    }
    Ok(())
}

fn list_page(repository: &Repository, page: Vec<Entry>, each: &mut dyn FnMut(LsEntry)) -> Result<()> {
    // Nobody who takes the entries is waited for while the state of the catalog is held.
    let held = repository.catalog.reading()?;
    let listed: Vec<LsEntry> = page.into_iter().map(|entry| listed(repository, entry)).collect::<Result<_>>()?;
    drop(held);
    listed.into_iter().for_each(each);
    Ok(())
}

fn listed(repository: &Repository, entry: Entry) -> Result<LsEntry> {
    let conn = repository.catalog.conn();
    let version = entry.version;
    let owner = interned::owner_by_id(conn, version.owner)?;
    let (mut file_hash, mut link_target) = (None, None);
    match version.object {
        StoredObject::Content(id) => file_hash = Some(contents::hash_of(conn, id)?),
        StoredObject::Target(target) => link_target = Some(target),
        StoredObject::Nothing | StoredObject::Device(_) => {}
    }
    Ok(LsEntry {
        path: entry.path,
        kind: version.kind,
        mode: version.mode,
        uid: owner.uid,
        gid: owner.gid,
        user: owner.user,
        group: owner.group,
        size: version.size,
        mtime_ns: version.mtime_ns,
        btime_ns: version.btime_ns,
        file_hash,
        link_target,
        inconsistent: version.inconsistent,
        first_run: entry.first_run,
    })
}

fn shown<S: Serializer>(path: &[u8], to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(&show(path))
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
fn shown_if_any<S: Serializer>(path: &Option<Vec<u8>>, to: S) -> std::result::Result<S::Ok, S::Error> {
    path.as_deref().map(show).serialize(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::test_repo::{Node, TestRepo};

    fn names(repo: &TestRepo, path: &str, recursive: bool) -> Vec<String> {
        let mut names = Vec::new();
        let options = LsOptions { path: path.into(), recursive, ..LsOptions::default() };
        ls(&repo.repository, &options, &mut |entry| names.push(show(&entry.path))).unwrap();
        names
    }

    #[test]
    fn a_directory_lists_what_is_in_it_and_a_file_itself() {
        let mut repo = TestRepo::new();
        let first = repo.run(&[("d", Node::Dir), ("d/a", Node::bytes(b"x")), ("d/l", Node::link("a"))]);
        repo.run(&[("d/b", Node::bytes(b"y")), ("d/a", Node::Gone)]);
        assert_eq!(names(&repo, "", false), ["d"]);
        assert_eq!(names(&repo, "", true), ["d", "d/b", "d/l"]);
        assert_eq!(names(&repo, "d", false), ["d/b", "d/l"]);
        assert_eq!(names(&repo, "d/b", true), ["d/b"]);
        let sorted = |sort, reverse| {
            let mut names = Vec::new();
            let options = LsOptions { recursive: true, sort, reverse, ..LsOptions::default() };
            ls(&repo.repository, &options, &mut |entry| names.push(show(&entry.path))).unwrap();
            names
        };
        assert_eq!(sorted(Some(LsSort::Size), false), ["d/b", "d", "d/l"]);
        assert_eq!(sorted(Some(LsSort::Size), true), ["d/l", "d", "d/b"]);
        assert_eq!(sorted(None, true), ["d/l", "d/b", "d"]);
        let options = LsOptions { path: b"d".to_vec(), run: Some(first.into()), ..LsOptions::default() };
        let mut seen = Vec::new();
        let report = ls(&repo.repository, &options, &mut |entry| seen.push(entry)).unwrap();
        assert_eq!((report.run, report.source.as_str()), (first, "host:/src"));
        assert_eq!((seen[0].path.as_slice(), seen[0].size), (&b"d/a"[..], 1));
        assert_eq!(seen[0].file_hash.unwrap().0, *blake3::hash(b"x").as_bytes());
        assert_eq!(seen[1].link_target.as_deref(), Some(&b"a"[..]));
    }
}
