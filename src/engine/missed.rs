//! What is told of a path or run that is in none of the sources that were asked, and what may have been meant instead.

use super::error::{EngineError, Result};
use super::repository::Repository;
use crate::catalog::history;
use crate::catalog::view::{self, AsOf};
use crate::model::entry::EntryKind;
use crate::model::ids::SourceId;
use crate::model::nearest::nearest_name;
use crate::model::path::join;
use crate::model::run_spec::RunSpec;

/// Names whose length differs by more are not near.
const NEAR_LEN_MAX: usize = 8;

/// Why a source has not what is wanted.
pub(super) struct Miss {
    /// `host:name`.
    pub source: String,
    /// The whole sentence, for when it is the only source.
    pub why: String,
    /// What to do instead, where something can be said.
    pub hint: Option<String>,
    /// Whether the source has such a run at all.
    pub has_run: bool,
}

/// No source has it: the sentence of the only one that was asked, or one sentence about all.
pub(super) fn nowhere(wanted: &str, spec: &RunSpec, missed: &[Miss]) -> EngineError {
    if let [only] = missed {
        return EngineError::Usage(only.why.clone());
    }
    let hint = first_hint(missed);
    let with_runs: Vec<&str> = missed.iter().filter(|miss| miss.has_run).map(|miss| miss.source.as_str()).collect();
    if with_runs.is_empty() {
        return EngineError::Usage(no_run(spec, missed.iter().map(|miss| miss.source.as_str())));
    }
    let looked = match spec {
        RunSpec::Latest(0) => "newest runs of".to_owned(),
        other => format!("run {other} of"),
    };
    EngineError::Usage(format!("no source has {} ({looked}: {}){hint}", wanted, with_runs.join(", ")))
}

/// The same of a path that no run ever had.
pub(super) fn never_anywhere(wanted: &str, missed: &[Miss]) -> EngineError {
    if let [only] = missed {
        return EngineError::Usage(only.why.clone());
    }
    let names: Vec<&str> = missed.iter().map(|miss| miss.source.as_str()).collect();
    let names = names.join(", ");
    EngineError::Usage(format!("no source ever had {wanted} (runs of: {names}){}", first_hint(missed)))
}

fn first_hint(missed: &[Miss]) -> String {
    let hint = missed.iter().find_map(|miss| miss.hint.as_ref());
    hint.map(|hint| format!("; {hint}")).unwrap_or_default()
}

/// None of several sources has such a run.
pub(super) fn no_run<'m>(spec: &RunSpec, sources: impl Iterator<Item = &'m str>) -> String {
    let names = sources.collect::<Vec<_>>().join(", ");
    let what = match spec {
        RunSpec::At(_, date) => format!("a complete run up to {date}"),
        RunSpec::Latest(0) | RunSpec::Number(_) => "a complete run yet".to_owned(),
        RunSpec::Latest(_) => format!("a run {spec}"),
    };
    format!("no source has {what} (sources: {names}); `raidtape runs` lists the runs that there are")
}

/// As [`meant`], where it may have been in any run.
pub(super) fn meant_ever(repository: &Repository, source: SourceId, path: &[u8]) -> Result<Option<Vec<u8>>> {
    let conn = repository.catalog.conn();
    let (mut dir, mut names) = (Vec::new(), path.split(|byte| *byte == b'/'));
    let missing = loop {
        let Some(name) = names.next() else { return Ok(None) };
        let next = join(&dir, name);
        if history::versions_of(conn, source, &next)?.is_empty() {
            break name;
        }
        dir = next;
    };
    let known = history::names_of(conn, source, &dir)?;
    let Some(name) = nearest_name(missing, known.into_iter()) else { return Ok(None) };
    let near = join(&dir, &name);
    let whole = names.fold(near.clone(), |above, name| join(&above, name));
    Ok(Some(if history::versions_of(conn, source, &whole)?.is_empty() { near } else { whole }))
}

/// What a path that is not there may have been meant to be: the name nearest to its first one that is missing, with
/// what follows where that is there.
pub(super) fn meant(repository: &Repository, as_of: AsOf, path: &[u8]) -> Result<Option<Vec<u8>>> {
    let conn = repository.catalog.conn();
    let mut dir = Vec::new();
    let mut names = path.split(|byte| *byte == b'/');
    let missing = loop {
        let Some(name) = names.next() else { return Ok(None) };
        let next = join(&dir, name);
        match view::entry(conn, as_of, &next)? {
            Some(entry) if entry.version.kind == EntryKind::Dir => dir = next,
            Some(_) => return Ok(None),
            None => break name,
        }
    };
    let mut known = Vec::new();
    view::for_each_name(conn, as_of, &dir, &mut |name, _| {
        if name.len().abs_diff(missing.len()) <= NEAR_LEN_MAX {
            known.push(name);
        }
    })?;
    known.sort_unstable();
    let Some(name) = nearest_name(missing, known.into_iter()) else { return Ok(None) };
    let near = join(&dir, &name);
    let whole = names.fold(near.clone(), |above, name| join(&above, name));
    Ok(Some(if view::entry(conn, as_of, &whole)?.is_some() { whole } else { near }))
}
