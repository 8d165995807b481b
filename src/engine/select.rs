//! What a person means by PATH, `--run` and `--source`: one path in one run of one source. Used by every verb that
//! looks at a stored tree; reads the catalog alone.

use super::error::{EngineError, Result};
use super::local_time;
use super::missed::{Miss, meant, meant_ever, never_anywhere, no_run, nowhere};
use super::repository::Repository;
use crate::catalog::history;
use crate::catalog::runs::{self, Run, RunState, Source};
use crate::catalog::view::{self, AsOf};
use crate::model::ids::{RunSeq, SourceId};
use crate::model::nearest::hint;
use crate::model::path::{is_valid, show};
use crate::model::run_spec::RunSpec;

/// A path that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked {
    /// The source.
    pub source: Source,
    /// A complete run of it.
    pub run: Run,
    /// The path inside the source; empty for its root.
    pub path: Vec<u8>,
}

impl Picked {
    /// The state that it is looked up in.
    pub fn as_of(&self) -> AsOf {
        AsOf { source: self.source.id, run: self.run.seq }
    }
}

/// `host:name`: what `--source` takes and reports say.
pub fn source_words(source: &Source) -> String {
    format!("{}:{}", source.host, source.name)
}

/// Finds `path` (relative to the source's root, or absolute below it) in `run`, or else in the newest complete run of
/// its source. `source` is a source's name, or `host:name`.
///
/// # Errors
/// `Usage` when nothing or more than one source fits; the sentence says what would.
pub fn pick(repository: &Repository, path: &[u8], run: Option<&RunSpec>, source: Option<&str>) -> Result<Picked> {
    let wanted = Wanted::from_bytes(path)?;
    let newest = RunSpec::Latest(0);
    let spec = run.unwrap_or(&newest);
    let (mut found, mut missed) = (Vec::new(), Vec::new());
    for (candidate, given) in candidates(repository, run, source)? {
        match look(repository, &wanted, (candidate, given), spec)? {
            Ok(picked) => found.push(picked),
            Err(miss) => missed.push(miss),
        }
    }
    several(&wanted, found.iter().map(|picked| &picked.source))?;
    found.pop().ok_or_else(|| nowhere(&wanted.words(), spec, &missed))
}

/// The one source that has `path` in any of the runs that are named, none of them by number.
///
/// # Errors
/// As [`pick`].
pub fn source_with(repository: &Repository, path: &[u8], specs: &[&RunSpec]) -> Result<Source> {
    let wanted = Wanted::from_bytes(path)?;
    let mut found = Vec::new();
    let all = candidates(repository, None, None)?;
    if let [(only, _)] = all.as_slice() {
        return Ok(only.clone());
    }
    let mut missed = Vec::new();
    for (candidate, _) in all {
        let mut misses = Vec::new();
        for spec in specs {
            match look(repository, &wanted, (candidate.clone(), None), spec)? {
                Ok(_) => break,
                Err(miss) => misses.push(miss),
            }
        }
        if misses.len() < specs.len() { found.push(candidate) } else { missed.extend(misses.into_iter().next()) }
    }
    several(&wanted, found.iter())?;
    let newest = RunSpec::Latest(0);
    found.pop().ok_or_else(|| nowhere(&wanted.words(), specs.first().copied().unwrap_or(&newest), &missed))
}

/// The path in one source, in the run that is given or else named; or why it is not there.
fn look(
    repository: &Repository,
    wanted: &Wanted,
    (source, given): (Source, Option<Run>),
    spec: &RunSpec,
) -> Result<std::result::Result<Picked, Miss>> {
    let run = match given {
        Some(run) => Ok(run),
        None => run_of(repository, &source, spec)?,
    };
    match run {
        Ok(run) => look_in(repository, wanted, (source, run)),
        Err(why) => Ok(Err(Miss { source: source_words(&source), why, hint: None, has_run: false })),
    }
}

/// `path` inside a source, whether or not anything is there.
///
/// # Errors
/// `Usage` for what is no path, or is absolute and not below the source's root.
pub fn path_inside(path: &[u8], source: &Source) -> Result<Vec<u8>> {
    let wanted = Wanted::from_bytes(path)?;
    wanted.inside(source).ok_or_else(|| EngineError::Usage(wanted.outside(source)))
}

/// Finds the one source that ever had `path`, in any run, and the path inside it.
///
/// # Errors
/// `Usage` when nothing or more than one source fits; the sentence says what would.
pub fn pick_ever(repository: &Repository, path: &[u8], source: Option<&str>) -> Result<(Source, Vec<u8>)> {
    let conn = repository.catalog.conn();
    let wanted = Wanted::from_bytes(path)?;
    let (mut found, mut missed) = (Vec::new(), Vec::new());
    for (candidate, _) in candidates(repository, None, source)? {
        let words = source_words(&candidate);
        match wanted.inside(&candidate) {
            None => missed.push(Miss { source: words, why: wanted.outside(&candidate), hint: None, has_run: true }),
            Some(path) if history::versions_of(conn, candidate.id, &path)?.is_empty() => {
                let hint = meant_ever(repository, candidate.id, &path)?;
                let hint = hint.map(|meant| format!("did you mean {}?", show(&meant)));
                let said = hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
                let why = format!("source {words} never had {}{said}", wanted.words());
                missed.push(Miss { source: words, why, hint, has_run: true });
            }
            Some(path) => found.push((candidate, path)),
        }
    }
    several(&wanted, found.iter().map(|(source, _)| source))?;
    found.pop().ok_or_else(|| never_anywhere(&wanted.words(), &missed))
}

/// Refuses a path that more than one source has.
fn several<'s>(wanted: &Wanted, sources: impl Iterator<Item = &'s Source>) -> Result<()> {
    let names: Vec<String> = sources.map(source_words).collect();
    if names.len() <= 1 {
        return Ok(());
    }
    let (path, names) = (wanted.words(), names.join(", "));
    usage(format!("{path} is in several sources: {names}; choose one with --source"))
}

/// The run that `spec` names, for who takes no path: a number needs no source, everything else one, unless there is only
/// one that has runs.
///
/// # Errors
/// `Usage` when there is no such run, or when it would be one of several sources.
pub fn run_named(repository: &Repository, spec: &RunSpec, source: Option<&str>) -> Result<Run> {
    let mut fitting = candidates(repository, Some(spec), source)?;
    if fitting.len() > 1 {
        let mut with_runs = Vec::new();
        for (source, _) in fitting {
            if runs::newest_complete(repository.catalog.conn(), source.id)?.is_some() {
                with_runs.push((source, None));
            }
        }
        fitting = with_runs;
    }
    if fitting.len() > 1 {
        let names: Vec<String> = fitting.iter().map(|(source, _)| source_words(source)).collect();
        return usage(format!("every source has its own run {spec}; choose one with --source: {}", names.join(", ")));
    }
    match fitting.pop() {
        Some((_, Some(run))) => Ok(run),
        Some((source, None)) => run_of(repository, &source, spec)?.map_err(EngineError::Usage),
        None => usage("there is no complete run yet; make one with `raidtape backup DIR`".to_owned()),
    }
}

/// The sources that a search of many paths is about, each with its run where one is given; a source without such a run is
/// left out, unless it is the only one.
///
/// # Errors
/// `Usage` when nothing fits.
pub fn scope(
    repository: &Repository,
    spec: Option<&RunSpec>,
    source: Option<&str>,
) -> Result<Vec<(Source, Option<Run>)>> {
    let candidates = candidates(repository, spec, source)?;
    let Some(spec) = spec else { return Ok(candidates) };
    let (mut found, mut missed) = (Vec::new(), Vec::new());
    for (source, run) in candidates {
        match run.map_or_else(|| run_of(repository, &source, spec), |run| Ok(Ok(run)))? {
            Ok(run) => found.push((source, Some(run))),
            Err(reason) => missed.push((source_words(&source), reason)),
        }
    }
    match missed.as_slice() {
        _ if !found.is_empty() => Ok(found),
        [(_, reason)] => usage(reason.clone()),
        _ => usage(no_run(spec, missed.iter().map(|(source, _)| source.as_str()))),
    }
}

/// The complete run of one source that `spec`, which is no number, names; or why there is none.
fn run_of(repository: &Repository, source: &Source, spec: &RunSpec) -> Result<std::result::Result<Run, String>> {
    let conn = repository.catalog.conn();
    let words = source_words(source);
    if let RunSpec::Number(seq) = spec {
        return complete_run(repository, *seq).map(Ok);
    }
    let Some(newest) = runs::newest_complete(conn, source.id)? else {
        return Ok(Err(format!("source {words} has no complete run yet; finish a backup of it first")));
    };
    match spec {
        RunSpec::Number(_) | RunSpec::Latest(0) => Ok(Ok(newest)),
        RunSpec::Latest(back) => match runs::nth_newest_complete(conn, source.id, *back)? {
            Some(run) => Ok(Ok(run)),
            None => {
                let count = runs::count_complete(conn, source.id)?;
                let runs = if count == 1 { "run" } else { "runs" };
                Ok(Err(format!("there is no run {spec}: source {words} has {count} complete {runs}")))
            }
        },
        RunSpec::At(moment, date) => {
            match runs::newest_complete_before(conn, source.id, local_time::range_ns(moment).1)? {
                Some(run) => Ok(Ok(run)),
                None => {
                    let first = runs::oldest_complete(conn, source.id)?.unwrap_or(newest);
                    let since = local_time::minute(first.started_ns);
                    Ok(Err(format!(
                        "source {words} has no complete run up to {date}; its first is run {} of {since}",
                        first.seq
                    )))
                }
            }
        }
    }
}

/// The run with this number, if it can be looked at.
pub fn complete_run(repository: &Repository, seq: RunSeq) -> Result<Run> {
    let Some(run) = runs::get(repository.catalog.conn(), seq)? else {
        return usage(format!("there is no run {seq}; `raidtape runs` lists those that there are"));
    };
    if run.state != RunState::Complete {
        return usage(format!(
            "run {seq} is {}, not complete, so there is nothing to look at; `raidtape runs` lists the complete ones",
            run.state.word()
        ));
    }
    Ok(run)
}

/// The source with this number.
pub fn source_by_id(repository: &Repository, id: SourceId) -> Result<Source> {
    let found = runs::sources(repository.catalog.conn())?.into_iter().find(|source| source.id == id);
    found.ok_or_else(|| EngineError::Fault(format!("source {id} of a run is not in the catalog")))
}

/// A path as it was given, cleaned: no empty or `.` components, no slash at the end.
struct Wanted {
    is_absolute: bool,
    /// Without the leading slash.
    path: Vec<u8>,
}

impl Wanted {
    fn from_bytes(given: &[u8]) -> Result<Self> {
        let names: Vec<&[u8]> =
            given.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
        if names.contains(&&b".."[..]) {
            return usage(format!("the path {} has `..` in it; give it without", show(given)));
        }
        let path = names.join(&b'/');
        if !is_valid(&path) {
            return usage(format!("{} is no path: a name is too long or holds a zero byte", show(given)));
        }
        Ok(Self { is_absolute: given.first() == Some(&b'/'), path })
    }

    fn words(&self) -> String {
        match (self.is_absolute, self.path.is_empty()) {
            (true, _) => format!("/{}", show(&self.path)),
            (false, true) => "the root".to_owned(),
            (false, false) => show(&self.path),
        }
    }

    /// Why it cannot be in a source.
    fn outside(&self, source: &Source) -> String {
        let (path, words) = (self.words(), source_words(source));
        match source.roots.as_slice() {
            [] => format!("source {words} was read from a stream and has no root; give a name in it, not {path}"),
            roots => format!("{path} is not below {}, the root of source {words}", roots.join(" or ")),
        }
    }

    /// The path inside a source, if it can be there.
    fn inside(&self, source: &Source) -> Option<Vec<u8>> {
        if !self.is_absolute {
            return Some(self.path.clone());
        }
        // Several roots lie in their source as they lie below `/`.
        if source.roots.len() > 1 {
            return Some(self.path.clone());
        }
        source.roots.iter().find_map(|root| {
            let root = root.trim_matches('/').as_bytes();
            match self.path.strip_prefix(root)? {
                rest if root.is_empty() || rest.is_empty() => Some(rest.to_vec()),
                [b'/', rest @ ..] => Some(rest.to_vec()),
                _ => None,
            }
        })
    }
}

/// The sources that are meant, with the run where it was given by number.
fn candidates(
    repository: &Repository,
    spec: Option<&RunSpec>,
    name: Option<&str>,
) -> Result<Vec<(Source, Option<Run>)>> {
    let all = runs::sources(repository.catalog.conn())?;
    let fits = |source: &Source| name.is_none_or(|name| source.name == name || source_words(source) == name);
    if let Some(RunSpec::Number(seq)) = spec {
        let run = complete_run(repository, *seq)?;
        let Some(source) = all.into_iter().find(|source| source.id == run.source) else {
            return Err(EngineError::Fault(format!("the source of run {} is not in the catalog", run.seq)));
        };
        if !fits(&source) {
            let of = source_words(&source);
            return usage(format!("run {} is of source {of}, not of {}", run.seq, name.unwrap_or_default()));
        }
        return Ok(vec![(source, Some(run))]);
    }
    if all.is_empty() {
        return usage("nothing was backed up yet; `raidtape backup DIR` does it".to_owned());
    }
    let known: Vec<String> = all.iter().map(source_words).collect();
    let fitting: Vec<Source> = all.into_iter().filter(fits).collect();
    if fitting.is_empty() {
        let name = name.unwrap_or_default();
        let hint = hint(name, known.iter().map(String::as_str));
        return usage(format!("there is no source {name}{hint}; the sources are: {}", known.join(", ")));
    }
    Ok(fitting.into_iter().map(|source| (source, None)).collect())
}

/// The path in one run of one source, or why it is not there.
fn look_in(
    repository: &Repository,
    wanted: &Wanted,
    (source, run): (Source, Run),
) -> Result<std::result::Result<Picked, Miss>> {
    let conn = repository.catalog.conn();
    let words = source_words(&source);
    let Some(path) = wanted.inside(&source) else {
        return Ok(Err(Miss { source: words, why: wanted.outside(&source), hint: None, has_run: true }));
    };
    let as_of = AsOf { source: source.id, run: run.seq };
    if !path.is_empty() && view::entry(conn, as_of, &path)?.is_none() {
        let is_elsewhere = !history::versions_of(conn, as_of.source, &path)?.is_empty();
        let hint = match meant(repository, as_of, &path)? {
            _ if is_elsewhere => Some(format!("other runs have it: `raidtape history {}` lists them", show(&path))),
            meant => meant.map(|meant| format!("did you mean {}?", show(&meant))),
        };
        let next = "`raidtape ls` shows what is there, --run N looks into another run";
        let said = hint.as_deref().unwrap_or(next);
        let why = format!("{} is not in run {} of {words}; {said}", wanted.words(), run.seq);
        return Ok(Err(Miss { source: words, why, hint, has_run: true }));
    }
    Ok(Ok(Picked { source, run, path }))
}

fn usage<T>(sentence: String) -> Result<T> {
    Err(EngineError::Usage(sentence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::test_repo::{Node, TestRepo};

    fn said(answer: Result<Picked>) -> String {
        let error = answer.unwrap_err();
        assert!(matches!(error, EngineError::Usage(_)), "{error:?}");
        error.to_string()
    }

    #[test]
    fn a_path_is_found_however_it_is_spelled() {
        let mut repo = TestRepo::new();
        let run = repo.run(&[("docs", Node::Dir), ("docs/file", Node::bytes(b"x"))]);
        let r = &repo.repository;
        for spelled in ["docs/file", "./docs//file/", "/src/docs/file", "//src/./docs/file"] {
            let picked = pick(r, spelled.as_bytes(), None, None).unwrap();
            assert_eq!((picked.path.as_slice(), picked.run.seq), (&b"docs/file"[..], run), "{spelled}");
        }
        for root in ["", ".", "/src", "/src/"] {
            assert!(pick(r, root.as_bytes(), Some(&run.into()), Some("host:/src")).unwrap().path.is_empty());
        }
        assert!(said(pick(r, b"../x", None, None)).contains("`..`"));
        assert!(said(pick(r, b"/srcs/d", None, None)).contains("not below /src"));
        assert!(said(pick(r, b"no", None, None)).contains("is not in run 1 of host:/src; `raidtape ls`"));
        assert!(said(pick(r, b"dosc/file", None, None)).contains("did you mean docs/file?"));
        assert!(said(pick(r, b"dosc/music", None, None)).contains("did you mean docs?"));
        assert!(said(pick(r, b"docs/file/x", None, None)).contains("`raidtape ls`"));
        assert!(said(pick(r, b"docs", Some(&RunSeq(9).into()), None)).contains("no run 9"));
        assert!(said(pick(r, b"docs", None, Some("other"))).contains("other; the sources are: host:/src"));
        assert!(said(pick(r, b"docs", None, Some("/scr"))).contains("did you mean /src?; the sources are: host:/src"));
        assert!(said(pick(r, b"docs", Some(&run.into()), Some("other"))).contains("is of source host:/src"));
    }

    #[test]
    fn a_path_of_several_sources_needs_a_choice() {
        let mut repo = TestRepo::new();
        repo.run(&[("f", Node::bytes(b"x"))]);
        repo.use_source("/home");
        assert!(said(pick(&repo.repository, b"f", None, Some("/home"))).contains("no complete run yet"));
        repo.run(&[("f", Node::bytes(b"y"))]);
        let sentence = said(pick(&repo.repository, b"f", None, None));
        assert!(sentence.contains("host:/src, host:/home") && sentence.contains("--source"), "{sentence}");
        let picked = pick(&repo.repository, b"f", None, Some("/home")).unwrap();
        assert_eq!(source_words(&picked.source), "host:/home");
        assert_eq!(pick(&repo.repository, b"/home/f", None, None).unwrap(), picked);
    }

    #[test]
    fn a_run_is_found_by_its_place_before_the_newest_and_by_its_time() {
        let mut repo = TestRepo::new();
        assert!(run_named(&repo.repository, &"latest".parse().unwrap(), None).is_err());
        let all: Vec<RunSeq> = (0..3).map(|no| repo.run(&[("f", Node::bytes(&[no]))])).collect();
        repo.open_run();
        let named = |repo: &TestRepo, text: &str, source: Option<&str>| {
            run_named(&repo.repository, &text.parse().unwrap(), source)
                .map(|run| run.seq)
                .map_err(|error| error.to_string())
        };
        // Runs of the test begin in the night from the 14th to the 15th of November 2023.
        for (text, seq) in [("2", 1), ("latest", 2), ("latest~0", 2), ("latest~2", 0), ("@2023-11-16", 2)] {
            assert_eq!(named(&repo, text, None), Ok(all[seq]), "{text}");
        }
        let said = named(&repo, "latest~3", None).unwrap_err();
        assert_eq!(said, "there is no run latest~3: source host:/src has 3 complete runs");
        let said = named(&repo, "@2023-11-12", None).unwrap_err();
        assert!(said.contains("no complete run up to 2023-11-12; its first is run 1 of 2023-11-1"), "{said}");
        assert_eq!(pick(&repo.repository, b"f", Some(&"latest~1".parse().unwrap()), None).unwrap().run.seq, all[1]);
        // A source without a run is in nobody's way; one with runs is.
        repo.use_source("/home");
        assert_eq!(named(&repo, "latest", None), Ok(all[2]));
        let other = repo.run(&[("g", Node::bytes(b"x"))]);
        let said = named(&repo, "latest", None).unwrap_err();
        assert!(said.contains("host:/src, host:/home") && said.contains("--source"), "{said}");
        assert_eq!((named(&repo, "latest", Some("/home")), named(&repo, "2", None)), (Ok(other), Ok(all[1])));
        assert!(named(&repo, "2", Some("/home")).unwrap_err().contains("is of source host:/src"));
        // Where a path is given, every source that fits is looked into.
        assert_eq!(pick(&repo.repository, b"f", Some(&"latest~1".parse().unwrap()), None).unwrap().run.seq, all[1]);
        assert_eq!(pick(&repo.repository, b"g", Some(&"latest".parse().unwrap()), None).unwrap().run.seq, other);
    }

    #[test]
    fn an_unfinished_run_cannot_be_looked_at() {
        let mut repo = TestRepo::new();
        let open = repo.open_run();
        assert!(said(pick(&repo.repository, b"", Some(&open.into()), None)).contains("is open, not complete"));
    }
}
