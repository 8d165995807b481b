//! A run beside a directory as it is now. The directory is walked, and each of its directories is laid beside what the
//! run has there; what only the run has is gone through where its name would have come.

use super::{DiffKind, DiffReport, EachDiff, bytes_of};
use crate::catalog::interned::owner_by_id;
use crate::catalog::row::StoredObject;
use crate::catalog::runs;
use crate::catalog::view::{self, AsOf, Walk};
use crate::catalog::{contents, view::Entry as Stored};
use crate::codec::hash::{FileHasher, PIECE_LEN, piece_hash};
use crate::engine::error::{EngineError, Result};
use crate::engine::repository::Repository;
use crate::engine::select::{pick, source_words};
use crate::model::entry::{EntryKind, Stat};
use crate::model::ids::{ContentId, FileHash};
use crate::model::path::{join, show};
use crate::model::problem::{Problem, ProblemOp};
use crate::model::run_spec::RunSpec;
use crate::tree::dir::Dir;
use crate::tree::list::{Entry, Listing, Select};
use crate::tree::select::Selection;
use crate::tree::walk::{WalkOptions, Walker};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Entries that are listed ahead.
const LOOKAHEAD: usize = 4096;
const WALK_THREADS: usize = 2;

/// Which run, and which directory.
#[derive(Debug, Clone)]
pub struct DiffDirOptions {
    /// The run.
    pub run: RunSpec,
    /// The directory.
    pub dir: PathBuf,
    /// What of the run the directory is compared with; empty for the root.
    pub path: Vec<u8>,
    /// `name` or `host:name`, where several sources fit. Without it, and without a path, the source is meant whose root
    /// the directory is.
    pub source: Option<String>,
    /// Every file of equal size is read, not only those with another time.
    pub content: bool,
}

/// Hands every path that is another to `each`, as a walk meets it; paths are relative to the directory.
///
/// Kind, size, time, mode, owner, link target and device are compared; extended attributes are not. What cannot be read
/// is a problem in the report and counts as nothing else.
///
/// # Errors
/// `Usage` for a run or path that is not there, or is no directory; `Tree` when the directory cannot be opened.
pub fn diff_dir(repository: &Repository, options: &DiffDirOptions, each: &mut EachDiff<'_>) -> Result<DiffReport> {
    let source = match &options.source {
        None if options.path.is_empty() => source_of_dir(repository, options)?,
        given => given.clone(),
    };
    let picked = pick(repository, &options.path, Some(&options.run), source.as_deref())?;
    let conn = repository.catalog.conn();
    let top = view::entry(conn, picked.as_of(), &picked.path)?;
    if top.as_ref().is_some_and(|top| top.version.kind != EntryKind::Dir) {
        let path = show(&picked.path);
        return Err(EngineError::Usage(format!("{path} is no directory in run {}; give one", picked.run.seq)));
    }
    let own = repository.own_inodes();
    let options_of_walk = WalkOptions {
        threads: WALK_THREADS,
        lookahead_entries: LOOKAHEAD,
        // As a backup does: the repository itself is in no run.
        select: Arc::new(
            move |_: &[u8], stat: &Stat| {
                if own.contains(&(stat.dev, stat.ino)) { Select::Skip } else { Select::Take }
            },
        ),
        selection: Arc::new(Selection::default()),
    };
    let mut walker = Walker::open(&options.dir, options_of_walk)?;
    let report = DiffReport { from: Some(picked.run.seq), ..DiffReport::default() };
    let mut beside =
        Beside { repository, as_of: picked.as_of(), top: picked.path, content: options.content, each, report };
    while let Some(listing) = walker.next() {
        if let (true, Some(top)) = (listing.path.is_empty(), &top) {
            beside.itself(&listing.stat, top)?;
        }
        beside.directory(listing)?;
    }
    Ok(beside.report)
}

/// The one source whose root the directory is; a run's number says by itself whose it is.
fn source_of_dir(repository: &Repository, options: &DiffDirOptions) -> Result<Option<String>> {
    let (false, Ok(dir)) = (matches!(options.run, RunSpec::Number(_)), std::path::absolute(&options.dir)) else {
        return Ok(None);
    };
    let sources = runs::sources(repository.catalog.conn())?;
    let mut fitting =
        sources.iter().filter(|source| matches!(source.roots.as_slice(), [root] if Path::new(root) == dir));
    Ok(match (fitting.next(), fitting.next()) {
        (Some(source), None) => Some(source_words(source)),
        _ => None,
    })
}

struct Beside<'r, 'e> {
    repository: &'r Repository,
    as_of: AsOf,
    top: Vec<u8>,
    content: bool,
    each: &'r mut EachDiff<'e>,
    report: DiffReport,
}

impl Beside<'_, '_> {
    fn directory(&mut self, listing: Listing) -> Result<()> {
        let conn = self.repository.catalog.conn();
        let stored = view::children(conn, self.as_of, &join(&self.top, &listing.path))?;
        let mut stored: BTreeMap<Vec<u8>, Stored> =
            stored.into_iter().map(|entry| (crate::model::path::split(&entry.path).1.to_vec(), entry)).collect();
        for name in &listing.skipped {
            stored.remove(name);
        }
        for (name, problem) in &listing.unreadable {
            stored.remove(name);
            self.report.problems.push(problem.clone());
        }
        for entry in &listing.entries {
            // What the run alone has, up to here.
            let behind = stored.split_off(&entry.name);
            let gone = std::mem::replace(&mut stored, behind);
            self.gone(gone, &listing)?;
            let path = join(&listing.path, &entry.name);
            match stored.remove(&entry.name) {
                None => self.tell(DiffKind::Added, &path, (entry.stat.kind, 0, file_bytes(&entry.stat))),
                Some(old) => self.compare(&path, (&listing.dir, entry), &old)?,
            }
        }
        self.gone(stored, &listing)?;
        if let Err(problem) = listing.outcome {
            self.report.problems.push(problem);
        }
        Ok(())
    }

    /// Names that the run has and the directory has not; of one that could not be listed nothing is known.
    fn gone(&mut self, names: BTreeMap<Vec<u8>, Stored>, listing: &Listing) -> Result<()> {
        if listing.outcome.is_err() {
            return Ok(());
        }
        for (name, old) in names {
            let path = join(&listing.path, &name);
            self.tell(DiffKind::Removed, &path, (old.version.kind, bytes_of(&old.version), 0));
            if old.version.kind == EntryKind::Dir {
                self.gone_below(&path)?;
            }
        }
        Ok(())
    }

    fn gone_below(&mut self, dir: &[u8]) -> Result<()> {
        let conn = self.repository.catalog.conn();
        let mut walk = Walk::below(conn, self.as_of, &join(&self.top, dir))?;
        while let Some(page) = walk.next_page(conn)? {
            for old in page {
                let skip = if self.top.is_empty() { 0 } else { self.top.len() + 1 };
                let path = old.path.get(skip..).unwrap_or_default().to_vec();
                self.tell(DiffKind::Removed, &path, (old.version.kind, bytes_of(&old.version), 0));
            }
        }
        Ok(())
    }

    fn compare(&mut self, path: &[u8], (dir, entry): (&Dir, &Entry), old: &Stored) -> Result<()> {
        let (stat, version) = (&entry.stat, &old.version);
        let bytes = (bytes_of(version), file_bytes(stat));
        if stat.kind != version.kind {
            self.tell(DiffKind::Type, path, (stat.kind, bytes.0, bytes.1));
            if version.kind == EntryKind::Dir {
                self.gone_below(path)?;
            }
            return Ok(());
        }
        let is_same_content = match &version.object {
            StoredObject::Nothing => Ok(true),
            StoredObject::Target(target) => dir.read_link(&entry.name).map(|now| now == *target),
            StoredObject::Device(number) => Ok(*number == stat.rdev),
            StoredObject::Content(_) if version.size != stat.size => Ok(false),
            StoredObject::Content(_) if version.mtime_ns == stat.mtime_ns && !self.content => Ok(true),
            StoredObject::Content(id) => self.is_same_file((dir, &entry.name), *id)?,
        };
        let is_same_metadata = self.is_same_metadata(stat, old)?;
        match is_same_content {
            Err(error) => self.report.problems.push(Problem::from_io(path, ProblemOp::Read, &error)),
            Ok(false) => self.tell(DiffKind::Content, path, (stat.kind, bytes.0, bytes.1)),
            Ok(true) if !is_same_metadata => self.tell(DiffKind::Metadata, path, (stat.kind, bytes.0, bytes.1)),
            Ok(true) => {}
        }
        Ok(())
    }

    /// The directory itself beside what the run has in its place.
    fn itself(&mut self, stat: &Stat, old: &Stored) -> Result<()> {
        if !self.is_same_metadata(stat, old)? {
            self.tell(DiffKind::Metadata, b"", (stat.kind, 0, 0));
        }
        Ok(())
    }

    fn is_same_metadata(&self, stat: &Stat, old: &Stored) -> Result<bool> {
        let version = &old.version;
        let owner = owner_by_id(self.repository.catalog.conn(), version.owner)?;
        Ok((stat.mode, stat.uid, stat.gid) == (version.mode, owner.uid, owner.gid) && stat.mtime_ns == version.mtime_ns)
    }

    fn is_same_file(&self, (dir, name): (&Dir, &[u8]), content: ContentId) -> Result<io::Result<bool>> {
        let wanted = contents::hash_of(self.repository.catalog.conn(), content)?;
        Ok(self.hash_of(dir, name).map(|hash| hash == wanted))
    }

    fn hash_of(&self, dir: &Dir, name: &[u8]) -> io::Result<FileHash> {
        let algo = self.repository.settings().hash;
        let file = dir.open_file(name)?;
        let (mut hasher, mut piece, mut offset) = (FileHasher::new(algo), vec![0; PIECE_LEN], 0_u64);
        for index in 0.. {
            let mut len = 0;
            while len < PIECE_LEN {
                match file.read_at(offset, &mut piece[len..])? {
                    0 => break,
                    read => (len, offset) = (len + read, offset + read as u64),
                }
            }
            if len > 0 {
                hasher.push(piece_hash(algo, index, &piece[..len]), &piece[..len]);
            }
            if len < PIECE_LEN {
                break;
            }
        }
        Ok(FileHash(hasher.finish()))
    }

    fn tell(&mut self, how: DiffKind, path: &[u8], (kind, before, after): (EntryKind, u64, u64)) {
        self.report.count(how, (before, after));
        (self.each)(how, path, kind == EntryKind::Dir);
    }
}

fn file_bytes(stat: &Stat) -> u64 {
    if stat.kind == EntryKind::File { stat.size } else { 0 }
}
