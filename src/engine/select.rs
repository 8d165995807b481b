//! What a person means by PATH, `--run` and `--source`: one path in one run of one source. Used by every verb that
//! looks at a stored tree; reads the catalog alone.

use super::error::{EngineError, Result};
use super::repository::Repository;
use crate::catalog::runs::{self, Run, RunState, Source};
use crate::catalog::view::{self, AsOf};
use crate::model::ids::{RunSeq, SourceId};
use crate::model::nearest::hint;
use crate::model::path::{is_valid, show};

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
pub fn pick(repository: &Repository, path: &[u8], run: Option<RunSeq>, source: Option<&str>) -> Result<Picked> {
    let wanted = Wanted::from_bytes(path)?;
    let all = runs::sources(repository.catalog.conn())?;
    let given_run = match run {
        Some(seq) => Some(complete_run(repository, seq)?),
        None => None,
    };
    let candidates = candidates(all, given_run.as_ref(), source)?;
    let (mut found, mut missed) = (Vec::new(), Vec::new());
    for candidate in candidates {
        match look_in(repository, &wanted, (candidate, given_run.as_ref()))? {
            Ok(picked) => found.push(picked),
            Err(reason) => missed.push(reason),
        }
    }
    if found.len() > 1 {
        let names: Vec<String> = found.iter().map(|picked| source_words(&picked.source)).collect();
        return usage(format!(
            "{} is in several sources: {}; choose one with --source",
            wanted.words(),
            names.join(", ")
        ));
    }
    found.pop().ok_or_else(|| EngineError::Usage(missed.join("; ")))
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

fn candidates(all: Vec<Source>, run: Option<&Run>, name: Option<&str>) -> Result<Vec<Source>> {
    let fits = |source: &Source| name.is_none_or(|name| source.name == name || source_words(source) == name);
    if let Some(run) = run {
        let Some(source) = all.into_iter().find(|source| source.id == run.source) else {
            return Err(EngineError::Fault(format!("the source of run {} is not in the catalog", run.seq)));
        };
        if !fits(&source) {
            let of = source_words(&source);
            return usage(format!("run {} is of source {of}, not of {}", run.seq, name.unwrap_or_default()));
        }
        return Ok(vec![source]);
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
    Ok(fitting)
}

/// The path in one source, or why it is not there.
fn look_in(
    repository: &Repository,
    wanted: &Wanted,
    (source, run): (Source, Option<&Run>),
) -> Result<std::result::Result<Picked, String>> {
    let conn = repository.catalog.conn();
    let words = source_words(&source);
    let Some(path) = wanted.inside(&source) else {
        return Ok(Err(match source.roots.as_slice() {
            [] => format!(
                "source {words} was read from a stream and has no root; give a name in it, not {}",
                wanted.words()
            ),
            roots => format!("{} is not below {}, the root of source {words}", wanted.words(), roots.join(" or ")),
        }));
    };
    let run = match run {
        Some(run) => run.clone(),
        None => match runs::newest_complete(conn, source.id)? {
            Some(run) => run,
            None => return Ok(Err(format!("source {words} has no complete run yet; finish a backup of it first"))),
        },
    };
    let as_of = AsOf { source: source.id, run: run.seq };
    if !path.is_empty() && view::entry(conn, as_of, &path)?.is_none() {
        return Ok(Err(format!(
            "{} is not in run {} of {words}; `raidtape ls` shows what is there, --run N looks into another run",
            wanted.words(),
            run.seq
        )));
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
        let run = repo.run(&[("d", Node::Dir), ("d/f", Node::bytes(b"x"))]);
        let r = &repo.repository;
        for spelled in ["d/f", "./d//f/", "/src/d/f", "//src/./d/f"] {
            let picked = pick(r, spelled.as_bytes(), None, None).unwrap();
            assert_eq!((picked.path.as_slice(), picked.run.seq), (&b"d/f"[..], run), "{spelled}");
        }
        for root in ["", ".", "/src", "/src/"] {
            assert!(pick(r, root.as_bytes(), Some(run), Some("host:/src")).unwrap().path.is_empty());
        }
        assert!(said(pick(r, b"../x", None, None)).contains("`..`"));
        assert!(said(pick(r, b"/srcs/d", None, None)).contains("not below /src"));
        assert!(said(pick(r, b"no", None, None)).contains("is not in run 1 of host:/src"));
        assert!(said(pick(r, b"d", Some(RunSeq(9)), None)).contains("no run 9"));
        assert!(said(pick(r, b"d", None, Some("other"))).contains("other; the sources are: host:/src"));
        assert!(said(pick(r, b"d", None, Some("/scr"))).contains("did you mean /src?; the sources are: host:/src"));
        assert!(said(pick(r, b"d", Some(run), Some("other"))).contains("is of source host:/src"));
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
    fn an_unfinished_run_cannot_be_looked_at() {
        let mut repo = TestRepo::new();
        let open = repo.open_run();
        assert!(said(pick(&repo.repository, b"", Some(open), None)).contains("is open, not complete"));
    }
}
