//! `report`: all that a page about a repository shows, gathered from the verbs that tell it piece by piece.

use super::error::Result;
use super::observer::{Expected, Observer, Phase};
use super::repository::Repository;
use super::stats::{self, StatsOptions, StatsReport};
use super::status::{StatusOptions, StatusReport, status};
use crate::catalog::sums::{self, DirGrowth};
use crate::catalog::{runs, volumes};
use crate::format::sidecar::base64;
use crate::model::ids::{RunSeq, VolumeUuid};
use std::collections::BTreeMap;

/// Sources whose newest run's directories are shown, the newest runs first: each takes one pass over all versions.
const DIR_SOURCES_MAX: usize = 4;
/// Directories of each.
const DIRS_MAX: usize = 8;

/// All of it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct RepositoryReport {
    /// The repository's identity.
    pub repository: String,
    /// How things stand.
    pub status: StatusReport,
    /// What is kept and every complete run.
    pub stats: StatsReport,
    /// How each volume filled, in the order of [`StatusReport::volumes`].
    pub fillings: Vec<Filling>,
    /// What the newest runs brought into directories.
    pub grown: Vec<Grown>,
}

/// How one volume filled.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Filling {
    /// Which one.
    pub volume: VolumeUuid,
    /// Bytes of its blocks after each run that brought some, by the time at which that began.
    pub points: Vec<(i64, u64)>,
}

/// What a run brought into directories, the largest first.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Grown {
    /// `host:name`.
    pub source: String,
    /// The run.
    pub run: RunSeq,
    /// Its directories.
    #[serde(serialize_with = "dirs_as_json")]
    pub dirs: Vec<DirGrowth>,
}

/// Gathers it, at the time `now_ns`.
pub fn report(
    repository: &Repository,
    options: &StatusOptions,
    now_ns: i64,
    observer: &dyn Observer,
) -> Result<RepositoryReport> {
    let passes = runs::sources(repository.catalog.conn())?.len().min(DIR_SOURCES_MAX) as u64;
    observer.begin(Phase::Report, Expected { items: Some(passes + 3), bytes: None });
    let stats = stats::stats(repository, &StatsOptions::default())?;
    observer.advance(1, 0);
    let status = status(repository, options, now_ns)?;
    observer.advance(1, 0);
    let mut newest: Vec<_> = stats.sources.iter().collect();
    newest.sort_by_key(|source| std::cmp::Reverse(source.newest_run));
    let mut grown = Vec::new();
    for source in newest.into_iter().take(DIR_SOURCES_MAX) {
        let wanted = StatsOptions { dirs: Some(DIRS_MAX), ..StatsOptions::default() };
        let dirs = stats::dirs(repository, source.newest_run, &wanted)?;
        grown.push(Grown { source: source.source.clone(), run: source.newest_run, dirs });
        observer.advance(1, 0);
    }
    let fillings = fillings(repository)?;
    observer.advance(1, 0);
    Ok(RepositoryReport { repository: repository.settings().repository.to_string(), fillings, status, stats, grown })
}

fn fillings(repository: &Repository) -> Result<Vec<Filling>> {
    let conn = repository.catalog.conn();
    let began: BTreeMap<RunSeq, i64> = runs::all(conn)?.iter().map(|run| (run.seq, run.started_ns)).collect();
    let mut all = Vec::new();
    for row in volumes::all(conn)? {
        let mut sum = 0_u64;
        let points = sums::growth_of_volume(conn, row.id)?.into_iter().filter_map(|(run, bytes)| {
            sum = sum.saturating_add(bytes);
            Some((*began.get(&run)?, sum))
        });
        all.push(Filling { volume: row.uuid, points: points.collect() });
    }
    Ok(all)
}

/// Paths as everywhere in JSON: readable, and exact in base64 where they are not UTF-8.
fn dirs_as_json<S: serde::Serializer>(dirs: &[DirGrowth], to: S) -> std::result::Result<S::Ok, S::Error> {
    #[derive(serde::Serialize)]
    struct Dir<'a> {
        path: std::borrow::Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_b64: Option<String>,
        files: u64,
        bytes: u64,
    }
    to.collect_seq(dirs.iter().map(|dir| Dir {
        path: String::from_utf8_lossy(&dir.path),
        path_b64: std::str::from_utf8(&dir.path).is_err().then(|| base64(&dir.path)),
        files: dir.files,
        bytes: dir.bytes,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::blocks;
    use crate::engine::observer::Silent;
    use crate::engine::test_repo::{Node, TestRepo};

    #[test]
    fn each_volume_fills_by_what_runs_brought_to_it() {
        let mut repo = TestRepo::new();
        for (bytes, volume) in [(&b"1"[..], None), (b"22", None), (b"333", Some("second"))] {
            volume.into_iter().for_each(|name| repo.add_volume(name));
            let run = repo.run(&[("a", Node::bytes(bytes))]);
            blocks::mark_listed(repo.repository.catalog.conn(), run).unwrap();
        }
        let options = StatusOptions::default();
        let found = report(&repo.repository, &options, 1_700_000_000_000_000_000, &Silent).unwrap();
        let shape: Vec<_> = found.fillings.iter().map(|filling| filling.points.len()).collect();
        assert_eq!(shape, [2, 1]);
        assert_eq!(found.fillings[0].points[1].1, found.status.volumes[0].stored);
        assert_eq!((found.grown.len(), found.grown[0].run, found.grown[0].dirs[0].bytes), (1, RunSeq(3), 3));
    }
}
