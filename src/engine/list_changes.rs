//! `list-changes`: what a run changed against the nearest complete run before it. Reads the catalog alone.

use super::error::Result;
use super::repository::Repository;
use super::select::complete_run;
use crate::catalog::changes::{self, ChangeKind};
use crate::catalog::runs::{self, RunState};
use crate::model::ids::RunSeq;

/// Counts of paths, by how they changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct ChangesReport {
    /// The run.
    pub run: RunSeq,
    /// What it was compared with; `None` for the first run of a source.
    pub prev: Option<RunSeq>,
    /// Were not there.
    pub added: u64,
    /// Another content or kind.
    pub modified: u64,
    /// Only other metadata.
    pub metadata: u64,
    /// Are gone.
    pub deleted: u64,
    /// Are no longer selected.
    pub excluded: u64,
}

/// Hands every changed path to `each`, by directory and name.
pub fn list_changes(
    repository: &Repository,
    run: RunSeq,
    each: &mut dyn FnMut(ChangeKind, &[u8]),
) -> Result<ChangesReport> {
    let conn = repository.catalog.conn();
    let run = complete_run(repository, run)?;
    let earlier = runs::all(conn)?
        .into_iter()
        .filter(|other| other.source == run.source && other.state == RunState::Complete && other.seq < run.seq);
    let prev = earlier.map(|other| other.seq).max();
    let mut report = ChangesReport { run: run.seq, prev, added: 0, modified: 0, metadata: 0, deleted: 0, excluded: 0 };
    changes::for_each(conn, (run.source, prev, run.seq), &mut |kind, path| {
        let count = match kind {
            ChangeKind::Added => &mut report.added,
            ChangeKind::Modified => &mut report.modified,
            ChangeKind::Metadata => &mut report.metadata,
            ChangeKind::Deleted => &mut report.deleted,
            ChangeKind::Excluded => &mut report.excluded,
        };
        *count += 1;
        each(kind, path);
        Ok(())
    })?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::test_repo::{FileNode, Node, TestRepo};

    #[test]
    fn changes_are_those_against_the_run_before_of_the_same_source() {
        let mut repo = TestRepo::new();
        let first = repo.run(&[("a", Node::bytes(b"1")), ("b", Node::bytes(b"2")), ("c", Node::bytes(b"3"))]);
        repo.use_source("/other");
        repo.run(&[("x", Node::bytes(b"1"))]);
        repo.use_source("/src");
        let mode = Node::File(FileNode { mode: 0o600, ..FileNode::of(b"3") });
        let third = repo.run(&[("a", Node::bytes(b"4")), ("b", Node::Gone), ("c", mode), ("d", Node::Dir)]);
        let mut seen = Vec::new();
        let report = list_changes(&repo.repository, third, &mut |kind, path| seen.push((kind, path.to_vec()))).unwrap();
        let expected = [
            (ChangeKind::Modified, b"a".to_vec()),
            (ChangeKind::Deleted, b"b".to_vec()),
            (ChangeKind::Metadata, b"c".to_vec()),
            (ChangeKind::Added, b"d".to_vec()),
        ];
        assert_eq!(seen, expected);
        assert_eq!((report.prev, report.added, report.modified), (Some(first), 1, 1));
        assert_eq!((report.metadata, report.deleted, report.excluded), (1, 1, 0));
        let report = list_changes(&repo.repository, first, &mut |_, _| {}).unwrap();
        assert_eq!((report.prev, report.added), (None, 4));
        assert!(list_changes(&repo.repository, RunSeq(99), &mut |_, _| {}).is_err());
    }
}
