//! What a run reads, and the source that it is a run of: a directory tree, or a stream under a name of its own.

use super::BackupOptions;
use super::input::Input;
use super::prior::Prior;
use super::seen::DetectionOptions;
use super::source::Source as Tree;
use super::streamed::Streamed;
use crate::catalog::runs;
use crate::codec::chunker::Chunker;
use crate::engine::error::{EngineError, Result};
use crate::engine::observer::Observer;
use crate::engine::repository::Repository;
use crate::format::layout;
use crate::model::entry::Stat;
use crate::model::path::is_valid_name;
use crate::tree::error::TreeError;
use crate::tree::list::Select;
use crate::tree::select::{SelectOptions, Selection};
use crate::tree::stream::Stream;
use crate::tree::walk::{WalkOptions, Walker};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Entries that the walk may be ahead of the comparison.
const WALK_LOOKAHEAD: usize = 50_000;

/// A stream in place of a tree: the source is one file.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// The file's name.
    pub name: String,
    /// A command with its arguments, whose output it is; empty: standard input.
    pub command: Vec<OsString>,
}

/// See the module.
pub struct Origin {
    /// Host.
    pub host: String,
    /// The source's name.
    pub name: String,
    /// Its roots; none for a stream.
    pub roots: Vec<String>,
    leaves_out: bool,
    kind: Kind,
}

enum Kind {
    /// The walk begins at `top`: the only root, or `/` for several.
    Tree {
        top: PathBuf,
        roots: Vec<PathBuf>,
        selection: Arc<Selection>,
    },
    Stream(StreamOptions),
}

impl Origin {
    /// What the options ask for. Reads lists and files of patterns, once for all attempts: they may be pipes.
    pub fn new(options: &BackupOptions) -> Result<Self> {
        let own = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        let host = options.host.clone().unwrap_or_else(own);
        if let Some(stream) = &options.stream {
            if !is_valid_name(stream.name.as_bytes()) {
                return Err(EngineError::Usage(format!(
                    "`{}` cannot be the name of what is read; give one name without `/`",
                    stream.name.escape_debug()
                )));
            }
            let name = options.name.clone().unwrap_or_else(|| format!("stdin:{}", stream.name));
            let kind = Kind::Stream(stream.clone());
            return Ok(Self { host, name, roots: Vec::new(), leaves_out: true, kind });
        }
        if options.select.files_from.iter().filter(|list| list.path == Path::new("-")).count() > 1 {
            return Err(EngineError::Usage(
                "standard input can be one list of paths only; give the others as files".to_owned(),
            ));
        }
        let roots = roots_of(options)?;
        let shown: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
        let mut select = SelectOptions { root: roots[0].clone(), ..options.select.clone() };
        let mut top = roots[0].clone();
        if roots.len() > 1 {
            (select.roots, top) = (roots.clone(), PathBuf::from("/"));
        }
        let selection = Arc::new(Selection::new(&select)?);
        let name = options.name.clone().unwrap_or_else(|| shown[0].clone());
        let leaves_out = options.select.leaves_out();
        Ok(Self { host, name, roots: shown, leaves_out, kind: Kind::Tree { top, roots, selection } })
    }

    /// Whether something may be left out on purpose; of a stream always. Neighbours of several roots do not count.
    pub fn is_selected(&self) -> bool {
        self.leaves_out
    }

    /// Refuses, before anything is written, a root that is not there, and to go on with a source of another kind.
    pub fn check(&self, repository: &Repository) -> Result<()> {
        if let Kind::Tree { roots, selection, .. } = &self.kind {
            for root in roots {
                drop(open_walk(repository, root, (0, selection))?);
                if is_of_volume(repository, root) {
                    return Err(EngineError::Usage(format!(
                        "{} is a volume of this repository, and cannot be backed up to itself; name what of it is to be",
                        root.display()
                    )));
                }
                let above = root.ancestors().skip(1).filter(|_| roots.len() > 1);
                above.into_iter().try_for_each(can_be_listed)?;
            }
        }
        let conn = repository.catalog.conn();
        let Some(known) = self.find(repository)? else { return Ok(()) };
        let kind = |roots: &[String]| match roots {
            [] => "a stream",
            [_] => "a single directory",
            _ => "several directories",
        };
        let (was, is) = (kind(&known.roots), kind(&self.roots));
        if was == is || runs::newest_complete(conn, known.id)?.is_none() {
            return Ok(());
        }
        let name = &self.name;
        Err(EngineError::Usage(format!(
            "the source {name} is a backup of {was}, so one of {is} needs another name: give it with --name"
        )))
    }

    /// The source, if the catalog has it.
    pub fn find(&self, repository: &Repository) -> Result<Option<runs::Source>> {
        let all = runs::sources(repository.catalog.conn())?;
        Ok(all.into_iter().find(|source| (&source.host, &source.name) == (&self.host, &self.name)))
    }

    /// Whether a second attempt would read the same.
    pub fn can_be_read_again(&self) -> bool {
        matches!(self.kind, Kind::Tree { .. })
    }

    /// Begins to read.
    pub fn input<'s>(
        &self,
        repository: &Repository,
        (prior, detection): (Prior, DetectionOptions),
        (threads, chunker): (usize, Chunker),
        observer: &'s dyn Observer,
    ) -> Result<Input<'s>> {
        match &self.kind {
            Kind::Tree { top, selection, .. } => {
                let walker = open_walk(repository, top, (threads, selection))?;
                Ok(Input::Tree(Box::new(Tree::new(walker, (prior, detection), chunker, observer)?)))
            }
            Kind::Stream(options) => {
                let stream = match options.command.split_first() {
                    Some(command) => Stream::of_command(command)?,
                    None => Stream::of_stdin()?,
                };
                let name = options.name.as_bytes().to_vec();
                Ok(Input::Stream(Box::new(Streamed::new((stream, name), prior, chunker, observer))))
            }
        }
    }
}

/// The roots, cleaned, sorted, none below another; links in several are resolved, because the walk begins at `/` and
/// follows none.
fn roots_of(options: &BackupOptions) -> Result<Vec<PathBuf>> {
    let given = &options.roots;
    if given.len() > 1 {
        if options.name.is_none() {
            return Err(EngineError::Usage(
                "several directories make one source; give it a name with --name".to_owned(),
            ));
        }
        if !options.select.files_from.is_empty() {
            return Err(EngineError::Usage("a list of paths is relative to DIR; give a single one".to_owned()));
        }
    }
    let mut roots = given.iter().map(|root| clean_absolute(root)).collect::<Result<Vec<PathBuf>>>()?;
    if given.len() > 1 {
        for root in &mut roots {
            let resolved = root.canonicalize().map_err(|source| match source.kind() {
                std::io::ErrorKind::NotFound => TreeError::RootMissing { path: root.clone() },
                _ => TreeError::RootUnreadable { path: root.clone(), source },
            })?;
            *root = resolved;
        }
    }
    roots.sort();
    let mut kept: Vec<PathBuf> = Vec::new();
    for root in roots {
        if !kept.iter().any(|above| root.starts_with(above)) {
            kept.push(root);
        }
    }
    if kept.is_empty() { Err(EngineError::Usage("no directory to back up was given".to_owned())) } else { Ok(kept) }
}

/// Whether a directory is a volume of the repository, or one of those that it keeps its own files in. Another one of the
/// user's may lie beside them.
fn is_of_volume(repository: &Repository, root: &Path) -> bool {
    let (own, Ok(real)) = (repository.own_inodes(), root.canonicalize()) else { return false };
    let is_own = |dir: &Path| dir.metadata().is_ok_and(|dir| own.contains(&(dir.dev(), dir.ino())));
    let mut below = None;
    for dir in real.ancestors() {
        if is_own(dir) {
            return below.is_none_or(|name| layout::DIRS.iter().any(|own| Some(name) == Some(OsStr::new(own))));
        }
        below = dir.file_name();
    }
    false
}

/// The directories above several roots are listed on the way to them.
fn can_be_listed(dir: &Path) -> Result<()> {
    let listed = std::fs::read_dir(dir).map(drop);
    Ok(listed.map_err(|source| TreeError::RootUnreadable { path: dir.to_owned(), source })?)
}

/// A walk that passes over what belongs to the repository itself.
fn open_walk(repository: &Repository, root: &Path, (threads, selection): (usize, &Arc<Selection>)) -> Result<Walker> {
    let own = repository.own_inodes();
    let select = Arc::new(
        move |_: &[u8], stat: &Stat| {
            if own.contains(&(stat.dev, stat.ino)) { Select::Skip } else { Select::Take }
        },
    );
    Ok(Walker::open(
        root,
        WalkOptions { threads, lookahead_entries: WALK_LOOKAHEAD, select, selection: Arc::clone(selection) },
    )?)
}

/// The absolute path without `.` and `..`; links are left as they are.
fn clean_absolute(path: &Path) -> Result<PathBuf> {
    let absolute =
        std::path::absolute(path).map_err(|error| EngineError::Usage(format!("{}: {error}", path.display())))?;
    let mut clean = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    Ok(clean)
}
