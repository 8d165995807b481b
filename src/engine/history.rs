//! `history`: every version that one path had, by the path's key in the catalog. Reads the catalog alone.

use super::error::Result;
use super::repository::Repository;
use super::select::{pick_ever, source_words};
use crate::catalog::history::versions_of;
use crate::catalog::runs::{self, Run, RunState};
use crate::model::entry::EntryKind;
use crate::model::ids::{FileHash, RunSeq};
use crate::model::version::{EndReason, Object, Owner, Version};

/// Which path.
#[derive(Debug, Clone, Default)]
pub struct HistoryOptions {
    /// Path inside the source, or absolute below its root.
    pub path: Vec<u8>,
    /// `name` or `host:name`, where several sources had it.
    pub source: Option<String>,
}

/// In what a version is another than the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// There was none before, or it was gone meanwhile.
    Added,
    /// File, directory, link and so on.
    Kind,
    /// Bytes of a file.
    Content,
    /// Where a symlink leads.
    Target,
    /// A device's number.
    Device,
    /// Permissions.
    Mode,
    /// Owner or group.
    Owner,
    /// Time of the last change.
    Time,
    /// Extended attributes, ACL, flags, holes.
    Attributes,
    /// Names of one file.
    HardLinks,
}

/// One version.
#[derive(Debug, Clone)]
pub struct HistoryVersion {
    /// First run that saw it.
    pub first_run: RunSeq,
    /// When that run began; `None` if the catalog does not know it any more.
    pub first_seen_ns: Option<i64>,
    /// Last run that saw it; `None` while it lives.
    pub last_run: Option<RunSeq>,
    /// Why it ended.
    pub ended: Option<EndReason>,
    /// The run that found it gone or no longer selected; `None` unless that is why it ended.
    pub gone_in_run: Option<RunSeq>,
    /// What it was.
    pub version: Version,
    /// What is another than before.
    pub changed: Vec<Aspect>,
    /// Mode and owner before, where there was a version right before it.
    pub before: Option<(u32, Owner)>,
}

impl HistoryVersion {
    /// Hash of a regular file.
    pub fn file_hash(&self) -> Option<FileHash> {
        if let Object::Content(hash) = self.version.object { Some(hash) } else { None }
    }
}

/// The versions, the oldest first.
#[derive(Debug, Clone)]
pub struct HistoryReport {
    /// `host:name`.
    pub source: String,
    /// Path inside the source.
    pub path: Vec<u8>,
    /// One at least.
    pub versions: Vec<HistoryVersion>,
}

/// Finds them.
///
/// # Errors
/// `Usage` when no source, or more than one, ever had the path.
pub fn history(repository: &Repository, options: &HistoryOptions) -> Result<HistoryReport> {
    let conn = repository.catalog.conn();
    let (source, path) = pick_ever(repository, &options.path, options.source.as_deref())?;
    let runs: Vec<Run> = runs::all(conn)?.into_iter().filter(|run| run.source == source.id).collect();
    let next_complete =
        |seq| runs.iter().find(|run| run.seq > seq && run.state == RunState::Complete).map(|run| run.seq);
    let mut versions: Vec<HistoryVersion> = Vec::new();
    for found in versions_of(conn, source.id, &path)? {
        let version = found.version.resolve(conn)?;
        let before = versions.last().filter(|last| last.ended == Some(EndReason::Modified));
        let changed = before.map_or_else(|| vec![Aspect::Added], |before| aspects(&before.version, &version));
        let (last_run, ended) = found.ended.unzip();
        let is_gone = ended.is_some_and(|why| why != EndReason::Modified);
        versions.push(HistoryVersion {
            first_run: found.first_run,
            first_seen_ns: runs.iter().find(|run| run.seq == found.first_run).map(|run| run.started_ns),
            last_run,
            ended,
            gone_in_run: last_run.filter(|_| is_gone).and_then(next_complete),
            before: before.map(|before| (before.version.mode, before.version.owner.clone())),
            version,
            changed,
        });
    }
    Ok(HistoryReport { source: source_words(&source), path, versions })
}

fn aspects(before: &Version, now: &Version) -> Vec<Aspect> {
    if before.kind != now.kind {
        return vec![Aspect::Kind];
    }
    let object = match now.kind {
        EntryKind::Symlink => Aspect::Target,
        EntryKind::CharDevice | EntryKind::BlockDevice => Aspect::Device,
        _ => Aspect::Content,
    };
    let found = [
        (object, before.object != now.object),
        (Aspect::Mode, before.mode != now.mode),
        (Aspect::Owner, before.owner != now.owner),
        (Aspect::Time, before.mtime_ns != now.mtime_ns),
        (Aspect::Attributes, before.attrs != now.attrs),
        (Aspect::HardLinks, before.link != now.link),
    ];
    found.into_iter().filter(|(_, is_other)| *is_other).map(|(aspect, _)| aspect).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::test_repo::{FileNode, Node, TestRepo};

    #[test]
    fn versions_come_with_what_changed_and_with_the_time_when_there_was_none() {
        let mut repo = TestRepo::new();
        repo.run(&[("f", Node::bytes(b"1")), ("other", Node::bytes(b"1"))]);
        repo.run(&[("other", Node::bytes(b"2"))]);
        repo.run(&[("f", Node::File(FileNode { mode: 0o600, ..FileNode::of(b"22") }))]);
        repo.use_source("/else");
        repo.run(&[("x", Node::bytes(b"1"))]);
        repo.use_source("/src");
        repo.run(&[("f", Node::Gone)]);
        repo.run(&[("other", Node::bytes(b"3"))]);
        repo.run(&[("f", Node::link("other"))]);
        repo.run(&[("f", Node::Dir)]);
        let of = |path: &str| history(&repo.repository, &HistoryOptions { path: path.into(), source: None });
        let report = of("/src/f").unwrap();
        let runs = |version: &HistoryVersion| {
            (version.first_run.0, version.last_run.map(|run| run.0), version.gone_in_run.map(|run| run.0))
        };
        let shape: Vec<_> = report.versions.iter().map(runs).collect();
        assert_eq!(shape, [(1, Some(2), None), (3, Some(3), Some(5)), (7, Some(7), None), (8, None, None)]);
        let changed: Vec<_> = report.versions.iter().map(|version| version.changed.clone()).collect();
        assert_eq!(changed[..2], [vec![Aspect::Added], vec![Aspect::Content, Aspect::Mode]]);
        assert_eq!(changed[2..], [vec![Aspect::Added], vec![Aspect::Kind]]);
        assert_eq!(report.versions[1].file_hash().unwrap().0, *blake3::hash(b"22").as_bytes());
        assert_eq!(report.versions[1].before.as_ref().map(|(mode, _)| *mode), Some(0o640));
        assert_eq!(of("/src").unwrap().versions.len(), 1);
        assert!(of("g").unwrap_err().to_string().contains("no source ever had g (runs of: host:/src, "));
        assert!(of("othre").unwrap_err().to_string().contains("did you mean other?"));
    }
}
