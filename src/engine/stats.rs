//! `stats`: how much is kept, and what it takes. Reads the catalog alone. What needs all versions is asked for by name.

use super::error::{EngineError, Result};
use super::repository::Repository;
use super::select::{complete_run, source_words};
use crate::catalog::runs::{self, Run, RunState, Source};
use crate::catalog::sums::{self, DirGrowth, StoredSums, WholeSums};
use crate::format::manifest::RunCounts;
use crate::model::ids::{RunSeq, SourceId};

/// Paths of one source up to which directories are looked at without being asked for.
const PATHS_QUICK: u64 = 200_000;
/// Directories that are told unless more are asked for.
const DIRS_DEFAULT: usize = 10;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct StatsOptions {
    /// Only this run: of which directories are told.
    pub run: Option<RunSeq>,
    /// Only runs of this source: its name, or `host:name`.
    pub source: Option<String>,
    /// Directories at most; `None` for ten where that is quick.
    pub dirs: Option<usize>,
    /// Also what needs all versions and chunks.
    pub is_full: bool,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SourceStats {
    /// `host:name`.
    pub source: String,
    /// Complete runs.
    pub runs: u64,
    /// The newest of them.
    pub newest_run: RunSeq,
    /// When that began, nanoseconds since 1970.
    pub newest_started_ns: i64,
    /// Paths in it.
    pub paths: u64,
    /// Bytes that restoring it gives.
    pub restore_bytes: u64,
}

/// What one complete run added.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RunGrowth {
    /// Number.
    pub run: RunSeq,
    /// `host:name`.
    pub source: String,
    /// When it began, nanoseconds since 1970.
    pub started_ns: i64,
    /// The complete run before it.
    pub prev: Option<RunSeq>,
    /// What it found and stored.
    pub counts: RunCounts,
}

/// All of it but directories.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StatsReport {
    /// Sources with a complete run, the whole repository's or the one asked for.
    pub sources: Vec<SourceStats>,
    /// The whole repository's bytes.
    pub stored: StoredSums,
    /// Complete runs of the whole repository.
    pub runs_total: u64,
    /// Bytes that restoring each of those by itself gives together.
    pub restored_bytes: u64,
    /// Complete runs by number, or the one asked for.
    pub runs: Vec<RunGrowth>,
    /// Sums over all rows, if asked for.
    pub whole: Option<WholeSums>,
    /// The run whose directories [`dirs`] tells; `None` where that was not asked for and would take long.
    pub dirs_run: Option<RunSeq>,
}

impl StatsReport {
    /// Bytes that restoring every complete run by itself gives together, per byte of distinct chunks.
    pub fn dedup_ratio(&self) -> Option<f64> {
        ratio(self.restored_bytes, self.stored.unique_bytes)
    }

    /// Bytes of distinct chunks per stored byte of them.
    pub fn compression_ratio(&self) -> Option<f64> {
        ratio(self.stored.unique_bytes, self.stored.compressed_bytes)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio is read to two digits")]
fn ratio(many: u64, few: u64) -> Option<f64> {
    (few > 0).then(|| many as f64 / few as f64)
}

/// Sources, sums and runs.
pub fn stats(repository: &Repository, options: &StatsOptions) -> Result<StatsReport> {
    let conn = repository.catalog.conn();
    let sources = wanted_sources(runs::sources(conn)?, options.source.as_deref())?;
    let name_of = |id: SourceId| sources.iter().find(|source| source.id == id).map(source_words);
    let mut complete = runs::all(conn)?;
    complete.retain(|run| run.state == RunState::Complete);
    let runs_total = complete.len() as u64;
    let restored_bytes = complete.iter().fold(0_u64, |sum, run| sum.saturating_add(run.counts.bytes_total));
    complete.retain(|run| name_of(run.source).is_some());
    let chosen = match options.run {
        Some(seq) => Some(complete_run(repository, seq)?),
        None => complete.last().cloned(),
    };
    if let Some(run) = chosen.as_ref().filter(|run| name_of(run.source).is_none()) {
        return Err(EngineError::Usage(format!("run {} is of another source; leave out --source", run.seq)));
    }
    let source_stats = sources.iter().filter_map(|source| of_source(source, &complete)).collect();
    let is_quick = |run: &Run| paths(&run.counts) <= PATHS_QUICK && complete.len() <= 1000;
    let dirs_run = chosen.filter(|run| options.dirs.is_some() || options.run.is_some() || is_quick(run));
    complete.retain(|run| options.run.is_none_or(|seq| run.seq == seq));
    let growth = |run: Run| RunGrowth {
        run: run.seq,
        source: name_of(run.source).unwrap_or_default(),
        started_ns: run.started_ns,
        prev: run.prev,
        counts: run.counts,
    };
    Ok(StatsReport {
        sources: source_stats,
        stored: sums::stored(conn)?,
        runs_total,
        restored_bytes,
        runs: complete.into_iter().map(growth).collect(),
        whole: if options.is_full { Some(sums::whole_sums(conn)?) } else { None },
        dirs_run: dirs_run.map(|run| run.seq),
    })
}

/// The directories that [`StatsReport::dirs_run`] brought most bytes into.
pub fn dirs(repository: &Repository, run: RunSeq, options: &StatsOptions) -> Result<Vec<DirGrowth>> {
    let run = complete_run(repository, run)?;
    let limit = options.dirs.unwrap_or(DIRS_DEFAULT);
    Ok(sums::whole_growth_by_dir(repository.catalog.conn(), (run.source, run.seq), limit)?)
}

/// Paths of a run.
pub fn paths(counts: &RunCounts) -> u64 {
    [counts.added, counts.modified, counts.metadata, counts.unchanged].iter().fold(0, |sum, n| sum.saturating_add(*n))
}

fn of_source(source: &Source, complete: &[Run]) -> Option<SourceStats> {
    let newest = complete.iter().rev().find(|run| run.source == source.id)?;
    Some(SourceStats {
        source: source_words(source),
        runs: complete.iter().filter(|run| run.source == source.id).count() as u64,
        newest_run: newest.seq,
        newest_started_ns: newest.started_ns,
        paths: paths(&newest.counts),
        restore_bytes: newest.counts.bytes_total,
    })
}

fn wanted_sources(mut all: Vec<Source>, wanted: Option<&str>) -> Result<Vec<Source>> {
    let Some(wanted) = wanted else { return Ok(all) };
    all.retain(|source| source.name == wanted || source_words(source) == wanted);
    if all.is_empty() {
        return Err(EngineError::Usage(format!("there is no source {wanted}; `raidtape runs` lists all")));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::test_repo::{FileNode, Node, TestRepo};

    #[test]
    fn growth_counts_new_and_changed_files_and_not_those_with_other_metadata() {
        let mut repo = TestRepo::new();
        repo.run(&[("d", Node::Dir), ("d/a", Node::bytes(b"1234")), ("b", Node::bytes(b"12"))]);
        let mode = Node::File(FileNode { mode: 0o600, ..FileNode::of(b"1234") });
        let second = repo.run(&[("d/a", mode), ("b", Node::bytes(b"123456")), ("d/c", Node::bytes(b"7"))]);
        let options = StatsOptions::default();
        let found = dirs(&repo.repository, second, &options).unwrap();
        let found: Vec<_> = found.iter().map(|dir| (dir.path.as_slice(), dir.files, dir.bytes)).collect();
        assert_eq!(found, [(&b""[..], 1, 6), (&b"d"[..], 1, 1)]);
        // A third run ends what the second brought; it is still the second's.
        repo.run(&[("d/c", Node::Gone)]);
        assert_eq!(dirs(&repo.repository, second, &options).unwrap().len(), 2);
        let report = stats(&repo.repository, &StatsOptions { is_full: true, ..options }).unwrap();
        assert_eq!((report.sources.len(), report.sources[0].runs, report.runs.len()), (1, 3, 3));
        let whole = report.whole.unwrap();
        assert_eq!((whole.live_versions, whole.live_bytes, whole.version_bytes), (4, 10, 4 + 4 + 2 + 6 + 1));
        assert_eq!((whole.contents, whole.content_bytes), (4, 4 + 2 + 6 + 1));
        assert!(
            stats(&repo.repository, &StatsOptions { source: Some("no".into()), ..StatsOptions::default() }).is_err()
        );
    }
}
