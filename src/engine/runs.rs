//! `runs`: every run that the catalog knows. Reads the catalog alone.

use super::error::{EngineError, Result};
use super::local_time::range_ns;
use super::repository::Repository;
use super::select::source_words;
use crate::catalog::runs::{self, RunState};
use crate::format::manifest::RunCounts;
use crate::model::ids::{RunSeq, RunUuid};
use crate::model::moment::Moment;
use crate::model::run_marks::RunMarks;

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
    /// Label and tags.
    #[serde(flatten)]
    pub marks: RunMarks,
}

/// Which runs; all of them by default.
#[derive(Debug, Clone, Default)]
pub struct RunsOptions {
    /// Of this source: `name`, or `host:name`.
    pub source: Option<String>,
    /// Of this host.
    pub host: Option<String>,
    /// With all tags of one of these lists.
    pub tags: Vec<Vec<String>>,
    /// Begun in this day or minute, or later.
    pub since: Option<Moment>,
    /// Begun in this day or minute, or earlier.
    pub until: Option<Moment>,
    /// Only so many, the newest of those that fit.
    pub last: Option<usize>,
}

impl RunsOptions {
    fn takes(&self, run: &RunSummary) -> bool {
        let (host, name) = run.source.split_once(':').unwrap_or_default();
        let has_all = |list: &Vec<String>| list.iter().all(|tag| run.marks.tags.contains(tag));
        self.source.as_deref().is_none_or(|wanted| wanted == run.source || wanted == name)
            && self.host.as_deref().is_none_or(|wanted| wanted == host)
            && (self.tags.is_empty() || self.tags.iter().any(has_all))
            && self.since.is_none_or(|since| run.started_ns >= range_ns(&since).0)
            && self.until.is_none_or(|until| run.started_ns < range_ns(&until).1)
    }
}

/// The runs that fit, by number.
///
/// # Errors
/// `Usage` for a source that has no run, when there are others.
pub fn runs(repository: &Repository, options: &RunsOptions) -> Result<Vec<RunSummary>> {
    let mut found = all(repository)?;
    if let Some(wanted) = &options.source {
        let of_source = RunsOptions { source: options.source.clone(), ..RunsOptions::default() };
        if !found.is_empty() && !found.iter().any(|run| of_source.takes(run)) {
            return Err(EngineError::Usage(format!("there is no run of a source {wanted}; `raidtape runs` lists all")));
        }
    }
    found.retain(|run| options.takes(run));
    let surplus = options.last.map_or(0, |last| found.len().saturating_sub(last));
    Ok(found.split_off(surplus))
}

fn all(repository: &Repository) -> Result<Vec<RunSummary>> {
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
        marks: run.marks,
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
        let listed = runs(&repo.repository, &RunsOptions::default()).unwrap();
        let states: Vec<_> = listed.iter().map(|run| (run.run.0, run.state, run.source.as_str())).collect();
        assert_eq!(states, [(1, RunState::Complete, "host:/src"), (2, RunState::Open, "host:/src")]);
        assert_eq!(listed[0].counts.added, 2);
        assert_eq!(listed[1].ended, None);
        let last = RunsOptions { last: Some(1), ..RunsOptions::default() };
        assert_eq!(runs(&repo.repository, &last).unwrap()[0].run, listed[1].run);
        // Runs of the test begin in November 2023.
        let at = |text: &str| Moment::from_text(text);
        let since = |text| RunsOptions { since: at(text), ..RunsOptions::default() };
        let until = |text| RunsOptions { until: at(text), ..RunsOptions::default() };
        let count = |options| runs(&repo.repository, &options).unwrap().len();
        assert_eq!(
            [since("2023-11-12"), since("2023-11-17"), until("2023-11-12"), until("2023-11-17")].map(count),
            [2, 0, 0, 2]
        );
        assert_eq!(rfc3339(1_000_000_007), "1970-01-01T00:00:01.000000007Z");
    }
}
