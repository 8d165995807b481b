//! `runs`: every run that the catalog knows. Reads the catalog alone.

use super::error::Result;
use super::repository::Repository;
use super::select::source_words;
use crate::catalog::runs::{self, RunState};
use crate::format::manifest::RunCounts;
use crate::model::ids::{RunSeq, RunUuid};

/// One run.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct RunSummary {
    /// Number.
    pub run: RunSeq,
    /// Identity.
    pub uuid: RunUuid,
    /// `host:name`.
    pub source: String,
    /// Where it stands.
    pub state: RunState,
    /// When it began, as RFC 3339.
    pub started: String,
    /// The same in nanoseconds since 1970.
    pub started_ns: i64,
    /// When its source was read to the end, as RFC 3339.
    pub ended: Option<String>,
    /// The same in nanoseconds since 1970.
    pub ended_ns: Option<i64>,
    /// What it found and stored.
    pub counts: RunCounts,
}

/// All runs by number.
pub fn runs(repository: &Repository) -> Result<Vec<RunSummary>> {
    let conn = repository.catalog.conn();
    let sources = runs::sources(conn)?;
    let summary = |run: runs::Run| RunSummary {
        run: run.seq,
        uuid: run.uuid,
        source: sources.iter().find(|source| source.id == run.source).map(source_words).unwrap_or_default(),
        state: run.state,
        started: rfc3339(run.started_ns),
        started_ns: run.started_ns,
        ended: run.ended_ns.map(rfc3339),
        ended_ns: run.ended_ns,
        counts: run.counts,
    };
    Ok(runs::all(conn)?.into_iter().map(summary).collect())
}

/// A point in time in UTC; every `i64` of nanoseconds is one.
fn rfc3339(at_ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at_ns)).map(|at| at.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::test_repo::{Node, TestRepo};

    #[test]
    fn runs_of_any_state_are_listed_with_their_source() {
        let mut repo = TestRepo::new();
        repo.run(&[("a", Node::bytes(b"1"))]);
        repo.open_run();
        let listed = runs(&repo.repository).unwrap();
        let states: Vec<_> = listed.iter().map(|run| (run.run.0, run.state, run.source.as_str())).collect();
        assert_eq!(states, [(1, RunState::Complete, "host:/src"), (2, RunState::Open, "host:/src")]);
        assert_eq!(listed[0].counts.added, 2);
        assert_eq!(listed[1].ended, None);
        assert_eq!(rfc3339(1_000_000_007), "1970-01-01T00:00:01.000000007Z");
    }
}
