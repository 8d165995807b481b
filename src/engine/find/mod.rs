//! `find`: versions of all runs by name, size, time, kind, or by what holds their bytes. Reads the catalog alone.
//!
//! Names are gone through as they lie in the catalog, and a name that does not fit costs a comparison; a block, a chunk,
//! a volume or a hash (`holders`) leads to its versions by indexes. Either way memory does not grow with what is found.

mod criteria;
mod holders;

pub use self::criteria::SizeTest;
pub use self::holders::Holder;

use self::criteria::Criteria;
use super::error::{EngineError, Result};
use super::observer::{Expected, Observer, Phase};
use super::repository::Repository;
use super::select::{scope, source_words};
use crate::catalog::row::{StoredObject, StoredVersion};
use crate::catalog::scan::{self, Scan, ScannedVersion};
use crate::catalog::{CatalogError, Connection, contents};
use crate::model::entry::EntryKind;
use crate::model::ids::{DirId, FileHash, RunSeq, SourceId};
use crate::model::moment::Moment;
use crate::model::path::join;
use crate::model::run_spec::RunSpec;
use std::collections::HashMap;

/// What is looked for; a version must pass all tests that are given.
#[derive(Debug, Clone, Default)]
pub struct FindOptions {
    /// A pattern for the name; one with a slash is for the whole path inside the source, one that ends in one for
    /// directories.
    pub pattern: Option<Vec<u8>>,
    /// Letters of either case are the same to the pattern.
    pub ignore_case: bool,
    /// Of regular files.
    pub size: Option<SizeTest>,
    /// Last changed then or later.
    pub newer: Option<Moment>,
    /// Last changed before.
    pub older: Option<Moment>,
    /// Of this kind.
    pub kind: Option<EntryKind>,
    /// Whose bytes lie there.
    pub holder: Option<Holder>,
    /// `name` or `host:name`.
    pub source: Option<String>,
    /// As of this run; of any run when not given.
    pub run: Option<RunSpec>,
    /// The hashes of files are wanted.
    pub with_hashes: bool,
}

/// A version that passed.
#[derive(Debug, Clone)]
pub struct Found {
    /// `host:name`.
    pub source: String,
    /// Path inside the source.
    pub path: Vec<u8>,
    /// First run that saw it.
    pub first_run: RunSeq,
    /// Last run that saw it; `None` while it lives.
    pub last_run: Option<RunSeq>,
    /// Kind, mode, size, time.
    pub version: StoredVersion,
    /// Of a regular file, where it was asked for.
    pub file_hash: Option<FileHash>,
}

/// How much was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct FindReport {
    /// Versions.
    pub versions: u64,
}

/// Hands every version that passes to `each`, until that returns false: all of one path one behind the other, the oldest
/// first; content by content where a holder is asked for.
///
/// # Errors
/// `Usage` for a pattern that has no meaning, a source or run that is not there, a holder that is none or several.
pub fn find(
    repository: &Repository,
    options: &FindOptions,
    observer: &dyn Observer,
    each: &mut dyn FnMut(Found) -> bool,
) -> Result<FindReport> {
    let criteria = Criteria::new(options)?;
    let scope = scope(repository, options.run.as_ref(), options.source.as_deref())?;
    let scope = scope.into_iter().map(|(source, run)| (source.id, (source_words(&source), run.map(|run| run.seq))));
    let mut search = Search {
        repository,
        options,
        criteria,
        scope: scope.collect(),
        each,
        report: FindReport::default(),
        is_over: false,
    };
    let searched = match &options.holder {
        Some(holder) => holders::for_each_version(repository, holder, &mut |user| search.take(user)),
        None => search.go_through(observer),
    };
    match searched {
        Err(error) if !search.is_over => Err(error),
        _ => Ok(search.report),
    }
}

/// A version with the path that it has in full.
struct Placed {
    source: SourceId,
    path: Vec<u8>,
    runs: (RunSeq, Option<RunSeq>),
    version: StoredVersion,
}

struct Search<'r> {
    repository: &'r Repository,
    options: &'r FindOptions,
    criteria: Criteria,
    /// Sources that are searched, each with its run where one was given.
    scope: HashMap<SourceId, (String, Option<RunSeq>)>,
    each: &'r mut dyn FnMut(Found) -> bool,
    report: FindReport,
    /// Nobody wants more.
    is_over: bool,
}

impl Search<'_> {
    fn go_through(&mut self, observer: &dyn Observer) -> Result<()> {
        let catalog = &self.repository.catalog;
        let (tests, name_test) = (self.criteria.row_tests(), self.criteria.name_test());
        let (mut scan, mut dirs) = (Scan::new(catalog.conn(), tests, name_test)?, Dirs::default());
        observer.begin(Phase::Search, Expected { items: Some(scan.position().1), bytes: None });
        let mut done = 0;
        loop {
            let held = catalog.reading()?;
            let criteria = &self.criteria;
            let page = scan.next_page(catalog.conn(), &mut |dir, name| match criteria.needs_path() {
                false => Ok(criteria.may_be_named(name)),
                true => Ok(criteria.fits_path(&join(&dirs.get(catalog.conn(), dir)?.1, name))),
            })?;
            let Some(page) = page else { return Ok(()) };
            let placed: Vec<Placed> = page
                .into_iter()
                .map(|found| dirs.place(catalog.conn(), found))
                .collect::<std::result::Result<_, _>>()?;
            drop(held);
            let position = scan.position().0;
            observer.advance(position - done, 0);
            done = position;
            placed.into_iter().try_for_each(|placed| self.take(placed))?;
        }
    }

    fn take(&mut self, found: Placed) -> Result<()> {
        let Some((source, run)) = self.scope.get(&found.source) else { return Ok(()) };
        let is_then = |run: RunSeq| found.runs.0 <= run && found.runs.1.is_none_or(|last| last >= run);
        if !run.is_none_or(is_then) || !self.criteria.pass(&found.path, &found.version) {
            return Ok(());
        }
        let file_hash = match found.version.object {
            StoredObject::Content(id) if self.options.with_hashes => {
                Some(contents::hash_of(self.repository.catalog.conn(), id)?)
            }
            _ => None,
        };
        self.report.versions += 1;
        let wants_more = (self.each)(Found {
            source: source.clone(),
            path: found.path,
            first_run: found.runs.0,
            last_run: found.runs.1,
            version: found.version,
            file_hash,
        });
        if wants_more {
            return Ok(());
        }
        self.is_over = true;
        Err(EngineError::Output(std::io::ErrorKind::BrokenPipe.into()))
    }
}

/// The directory that was met last: versions come by directory.
#[derive(Default)]
struct Dirs(Option<(DirId, (SourceId, Vec<u8>))>);

impl Dirs {
    fn get(&mut self, conn: &Connection, id: DirId) -> std::result::Result<&(SourceId, Vec<u8>), CatalogError> {
        if self.0.as_ref().is_none_or(|(known, _)| *known != id) {
            let row = scan::dir_by_id(conn, id)?;
            let row = row.ok_or_else(|| CatalogError::damaged(format!("directory {id} is missing")))?;
            self.0 = Some((id, row));
        }
        match &self.0 {
            Some((_, row)) => Ok(row),
            None => Err(CatalogError::damaged("a directory is missing")),
        }
    }

    fn place(&mut self, conn: &Connection, found: ScannedVersion) -> std::result::Result<Placed, CatalogError> {
        let (source, dir) = self.get(conn, found.dir)?;
        Ok(Placed {
            source: *source,
            path: join(dir, &found.name),
            runs: (found.first_run, found.last_run),
            version: found.version,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::observer::Silent;
    use crate::engine::test_repo::{FileNode, MTIME_NS, Node, TestRepo};
    use crate::model::ids::BlockId;

    fn found(repo: &TestRepo, options: FindOptions) -> Vec<String> {
        let mut lines = Vec::new();
        let report = find(&repo.repository, &options, &Silent, &mut |found| {
            let last = found.last_run.map(|run| run.to_string()).unwrap_or_default();
            let path = String::from_utf8_lossy(&found.path).into_owned();
            lines.push(format!("{}{path} {}-{last}", found.source.trim_start_matches("host:"), found.first_run));
            true
        });
        assert_eq!(report.unwrap().versions, lines.len() as u64);
        lines
    }

    fn named(pattern: &str) -> FindOptions {
        FindOptions { pattern: Some(pattern.into()), ..FindOptions::default() }
    }

    fn repo() -> TestRepo {
        let mut repo = TestRepo::new();
        let old = FileNode { mtime_ns: MTIME_NS - (400 * 86_400_000_000_000), ..FileNode::of(b"old") };
        repo.run(&[("d", Node::Dir), ("d/a.txt", Node::bytes(b"one")), ("d/Old.TXT", Node::File(old))]);
        repo.run(&[("d/a.txt", Node::bytes(b"twelve bytes")), ("d/l", Node::link("a.txt"))]);
        repo.run(&[("d/a.txt", Node::Gone)]);
        repo.use_source("/else");
        repo.run(&[("a.txt", Node::bytes(b"one")), ("empty.txt", Node::bytes(b""))]);
        repo
    }

    #[test]
    fn names_and_paths_are_found_in_every_run() {
        let repo = repo();
        assert_eq!(found(&repo, named("a.txt")), ["/srcd/a.txt 1-1", "/srcd/a.txt 2-2", "/elsea.txt 4-"]);
        assert_eq!(found(&repo, named("d/*.txt")), ["/srcd/a.txt 1-1", "/srcd/a.txt 2-2"]);
        assert_eq!(found(&repo, named("d/")), ["/srcd 1-"]);
        let any_case = FindOptions { ignore_case: true, ..named("old.*") };
        assert_eq!(
            (found(&repo, any_case), found(&repo, named("old.*")).len()),
            (vec!["/srcd/Old.TXT 1-".to_owned()], 0)
        );
        let of = |run: &str, source: &str| FindOptions {
            run: Some(run.parse().unwrap()),
            source: (!source.is_empty()).then(|| source.to_owned()),
            ..named("a.*")
        };
        assert_eq!(found(&repo, of("2", "")), ["/srcd/a.txt 2-2"]);
        assert_eq!(found(&repo, of("latest~2", "/src")), ["/srcd/a.txt 1-1"]);
        assert_eq!(found(&repo, of("latest", "")), ["/elsea.txt 4-"]);
        assert!(find(&repo.repository, &named("[a"), &Silent, &mut |_| true).unwrap_err().to_string().contains("[a"));
    }

    #[test]
    fn sizes_times_and_kinds_are_tested() {
        let repo = repo();
        let any = FindOptions::default;
        assert_eq!(found(&repo, FindOptions { size: Some(SizeTest::Above(3)), ..any() }), ["/srcd/a.txt 2-2"]);
        assert_eq!(found(&repo, FindOptions { size: Some(SizeTest::Exactly(0)), ..any() }), ["/elseempty.txt 4-"]);
        assert_eq!(found(&repo, FindOptions { size: Some(SizeTest::Below(3)), ..any() }).len(), 1);
        assert_eq!(found(&repo, FindOptions { kind: Some(EntryKind::Symlink), ..any() }), ["/srcd/l 2-"]);
        let day = Moment::from_text("2020-01-01");
        assert_eq!(
            found(&repo, FindOptions { older: day, kind: Some(EntryKind::File), ..any() }),
            ["/srcd/Old.TXT 1-"]
        );
        assert_eq!(found(&repo, FindOptions { newer: day, kind: Some(EntryKind::File), ..any() }).len(), 4);
    }

    #[test]
    fn a_hash_a_chunk_a_block_and_a_volume_lead_to_the_versions_that_need_them() {
        let repo = repo();
        let held = |holder| found(&repo, FindOptions { holder: Some(holder), ..FindOptions::default() });
        let hash = blake3::hash(b"one").to_hex();
        let both = ["/srcd/a.txt 1-1", "/elsea.txt 4-"];
        assert_eq!(held(Holder::Hash(hash[..9].parse().unwrap())), both);
        assert_eq!(held(Holder::Chunk(hash.parse().unwrap())), both);
        let (file, _) = repo.block_file_of(b"one");
        let name: BlockId = file.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let held_by_block = held(Holder::Block(name.to_string()[..8].parse().unwrap()));
        assert_eq!(held_by_block.len(), 3, "{held_by_block:?}");
        let on_volume = held(Holder::Volume("first".to_owned()));
        assert_eq!(on_volume.len(), 4, "{on_volume:?}");
        let of_block = FindOptions { holder: Some(Holder::Volume("first".to_owned())), ..named("Old*") };
        assert_eq!(found(&repo, of_block), ["/srcd/Old.TXT 1-"]);
        for holder in [Holder::Block("0".repeat(9).parse().unwrap()), Holder::Volume("none".to_owned())] {
            let options = FindOptions { holder: Some(holder), ..FindOptions::default() };
            let refused = find(&repo.repository, &options, &Silent, &mut |_| true).unwrap_err();
            assert!(refused.to_string().contains("there is no"));
        }
    }
}
