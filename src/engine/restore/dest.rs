//! The place that a restore writes to: whether it may, what becomes of what lies there, and the marker by which an
//! unfinished restore is known and taken up again.

use super::Overwrite;
use super::tour::Tour;
use super::wanted::WantedOptions;
use crate::catalog::view::{self, Entry};
use crate::engine::error::{EngineError, Result};
use crate::engine::repository::Repository;
use crate::engine::select::Picked;
use crate::model::entry::{EntryKind, Stat};
use crate::model::path::{join, show};
use crate::tree::error::TreeError;
use crate::tree::target::{Existing, Target};
use crate::tree::target_meta::{MetaOutcome, TargetMeta};
use crate::tree::target_same::Brought;
use std::path::Path;

/// The file that says whose unfinished restore a directory is; made first, removed last.
pub(super) const MARKER: &str = ".raidtape-restore";
/// Last line of a marker in a directory that was empty: small files are made under their own names there.
const OF_EMPTY: &str = "everything here was made by it\n";
/// Last line of a marker that took the place of one of these two: parts of files may still lie there.
const OVER_PARTS: &str = "parts of files of an earlier one may lie here\n";
/// Last line of a marker where files of the user's stay: they do when it goes on.
const KEPT_NEVER: &str = "what was there stays\n";
const KEPT_NEWER: &str = "what was there and is newer stays\n";
/// Bytes of a marker at most: a path and some words.
const MARKER_LEN_MAX: usize = 4 << 20;

/// What is known of a target before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// Nothing lies there.
    Empty,
    /// An earlier attempt at the same restore lies there, in a directory that was empty before it or not.
    Resumed { is_all_ours: bool },
    /// Something else lies there, and the user said what becomes of it.
    Occupied(Overwrite),
}

impl Ground {
    /// Whether names that stay get the metadata that was stored.
    pub fn brings_meta(self) -> bool {
        matches!(self, Self::Resumed { .. } | Self::Occupied(Overwrite::IfChanged))
    }
}

/// What to do with one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Write(Existing),
    Keep,
}

/// A restore's target directory.
pub(super) struct Dest {
    pub target: Target,
    pub ground: Ground,
    marker: Option<Vec<u8>>,
}

impl Dest {
    /// Opens or makes `dest` for the tree of a tour, and puts the marker there.
    ///
    /// # Errors
    /// `Usage` when it is not empty and neither `overwrite` nor the marker of the same restore allows to go on.
    pub fn open_tree(tour: &Tour<'_>, (dest, how): (&Path, (Option<Overwrite>, &WantedOptions))) -> Result<Self> {
        let target = Target::open(dest, true)?;
        let Look { ground, name, words, has_parts } = look(tour, &target, (dest, how))?;
        if !matches!(ground, Ground::Occupied(_)) {
            target.sweep(b"")?;
        }
        if !matches!(ground, Ground::Resumed { .. }) {
            let last = match ground {
                Ground::Empty => OF_EMPTY,
                _ if has_parts => OVER_PARTS,
                Ground::Occupied(mode) => kept_line(mode),
                Ground::Resumed { .. } => "",
            };
            let words = words + last;
            let file = target.begin_file(&name, words.len() as u64)?;
            file.write_at(0, words.as_bytes())?;
            let meta = TargetMeta { mode: 0o600, uid: u32::MAX, gid: u32::MAX, mtime_ns: 0, attrs: None };
            let existing = if ground == Ground::Empty { Existing::Refuse } else { Existing::Replace };
            file.finish(&meta, existing)?;
            // Whatever of the rest survives a power cut, it must be known for what it is.
            target.sync_name(&name)?;
        }
        Ok(Self { target, ground, marker: Some(name) })
    }

    /// What [`Self::open_tree`] would find, with the target if it is there; writes nothing.
    pub fn look_at_tree(
        tour: &Tour<'_>,
        (dest, how): (&Path, (Option<Overwrite>, &WantedOptions)),
    ) -> Result<(Option<Target>, Ground)> {
        match Target::open(dest, false) {
            Ok(target) => {
                let ground = look(tour, &target, (dest, how))?.ground;
                Ok((Some(target), ground))
            }
            Err(TreeError::TargetMissing { path }) => {
                let parent = dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                // A link to nothing is not made into a directory.
                let is_free = parent.is_dir() && dest.symlink_metadata().is_err();
                if is_free { Ok((None, Ground::Empty)) } else { Err(TreeError::TargetParentMissing { path }.into()) }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the directory for a single name, without a marker.
    pub fn open_single(dir: &Path, name: &[u8], overwrite: Option<Overwrite>) -> Result<Self> {
        let target = Target::open(dir, false)?;
        let keeps_some = matches!(overwrite, Some(Overwrite::Never | Overwrite::IfNewer));
        let beside = || target.read_small(MARKER.as_bytes(), MARKER_LEN_MAX);
        if keeps_some && (is_below_parts(dir) || beside()?.as_deref().is_some_and(may_have_parts)) {
            return Err(unchecked_parts(dir));
        }
        let ground = match (target.stat(name)?, overwrite) {
            (None, _) => Ground::Empty,
            (Some(_), Some(overwrite)) => Ground::Occupied(overwrite),
            (Some(_), None) => {
                return Err(EngineError::Usage(format!(
                    "{} already exists; give another name, or say with --overwrite what becomes of it",
                    dir.join(String::from_utf8_lossy(name).as_ref()).display()
                )));
            }
        };
        Ok(Self { target, ground, marker: None })
    }

    /// Whether everything in the target was made by this restore, and its marker says so: then a part of a file that a
    /// killed process leaves under its name is known for what it is.
    pub fn is_all_ours(&self) -> bool {
        self.marker.is_some() && matches!(self.ground, Ground::Empty | Ground::Resumed { is_all_ours: true })
    }

    /// Takes the marker away.
    pub fn unmark(&mut self) -> std::result::Result<(), TreeError> {
        match self.marker.take() {
            Some(name) => self.target.remove(&name),
            None => Ok(()),
        }
    }

    /// What to do with a name that is no directory.
    pub fn decide(&self, path: &[u8], entry: &Entry) -> std::result::Result<Decision, TreeError> {
        decide(&self.target, self.ground, (path, entry))
    }

    /// Whether names that stay get the metadata that was stored.
    pub fn brings_meta(&self) -> bool {
        self.ground.brings_meta()
    }

    /// Whether what lies at a path looks like this file, as far as length and time tell.
    pub fn holds(&self, path: &[u8], entry: &Entry) -> bool {
        self.target.stat(path).is_ok_and(|there| there.is_some_and(|there| is_same(&there, entry)))
    }

    /// Makes a directory, or makes one that was there writable for its owner.
    pub fn make_dir(&self, path: &[u8]) -> std::result::Result<(), TreeError> {
        let existing = match self.ground {
            // A file in the way may be newer than what the directory holds.
            Ground::Empty | Ground::Occupied(Overwrite::Never | Overwrite::IfNewer) => Existing::Refuse,
            Ground::Resumed { .. } | Ground::Occupied(_) => Existing::Replace,
        };
        if self.target.make_dir(path, existing)? || self.ground == Ground::Empty {
            return Ok(());
        }
        if let Some(there) = self.target.stat(path)?.filter(|there| there.mode & 0o700 != 0o700) {
            let (uid, gid) = (u32::MAX, u32::MAX);
            let open = TargetMeta { mode: there.mode | 0o700, uid, gid, mtime_ns: there.mtime_ns, attrs: None };
            self.target.set_dir_meta(path, &open)?;
        }
        if matches!(self.ground, Ground::Resumed { .. }) {
            self.target.sweep(path)?;
        }
        Ok(())
    }

    /// Refuses to go on where files would be kept that an unfinished restore below may have left in part.
    pub fn check_parts_in(&self, path: &[u8]) -> Result<()> {
        if !matches!(self.ground, Ground::Occupied(Overwrite::Never | Overwrite::IfNewer)) {
            return Ok(());
        }
        let marker = self.target.read_small(&join(path, MARKER.as_bytes()), MARKER_LEN_MAX)?;
        if marker.as_deref().is_some_and(may_have_parts) {
            return Err(unchecked_parts(Path::new(&show(path))));
        }
        Ok(())
    }

    /// Gives a directory its metadata. What was there and is right is not touched.
    pub fn set_dir_meta(&self, path: &[u8], meta: &TargetMeta) -> std::result::Result<MetaOutcome, TreeError> {
        if !self.brings_meta() {
            return self.target.set_dir_meta(path, meta);
        }
        match self.target.bring_dir(path, meta)? {
            Brought::Same(outcome) | Brought::Set(outcome) => Ok(outcome),
            Brought::WriteAnew => self.target.set_dir_meta(path, meta),
        }
    }

    /// Whether directories that were there get the metadata of the restored ones.
    pub fn sets_dir_meta(&self) -> bool {
        self.ground != Ground::Occupied(Overwrite::Never)
    }
}

/// What to do with a name that is no directory, by what lies there.
pub(super) fn decide(
    target: &Target,
    ground: Ground,
    (path, entry): (&[u8], &Entry),
) -> std::result::Result<Decision, TreeError> {
    if ground == Ground::Empty {
        return Ok(Decision::Write(Existing::Refuse));
    }
    let Some(there) = target.stat(path)? else {
        return Ok(Decision::Write(Existing::Refuse));
    };
    let keeps = match ground {
        Ground::Empty | Ground::Occupied(Overwrite::Always) => false,
        Ground::Occupied(Overwrite::Never) => true,
        Ground::Occupied(Overwrite::IfNewer) => there.mtime_ns >= entry.version.mtime_ns,
        Ground::Resumed { .. } | Ground::Occupied(Overwrite::IfChanged) => is_same(&there, entry),
    };
    if keeps && ground == Ground::Occupied(Overwrite::IfNewer) && there.kind != entry.version.kind {
        // Newer, but not the same thing: nobody is to take it for a newer version.
        return Err(TreeError::InTheWay { path: path.to_vec() });
    }
    Ok(if keeps { Decision::Keep } else { Decision::Write(Existing::Replace) })
}

/// What is known of a target that is there.
struct Look {
    ground: Ground,
    /// The marker's name, and its words but the last line.
    name: Vec<u8>,
    words: String,
    has_parts: bool,
}

fn look(
    tour: &Tour<'_>,
    target: &Target,
    (dest, (overwrite, what)): (&Path, (Option<Overwrite>, &WantedOptions)),
) -> Result<Look> {
    let (repository, picked) = (tour.repository, tour.picked);
    let name = marker_name(repository, picked)?;
    let words = format!(
        "An unfinished restore by RaidTape; the same command goes on with it.\nrepository {}\nrun {} {}\npath {}\n{}",
        repository.settings().repository,
        picked.run.seq,
        picked.run.uuid,
        show(&picked.path),
        what_words(what)
    );
    let found = target.read_small(&name, MARKER_LEN_MAX)?;
    let has_parts = found.as_deref().is_some_and(may_have_parts) || is_below_parts(dest);
    if has_parts && matches!(overwrite, Some(Overwrite::Never | Overwrite::IfNewer)) {
        return Err(unchecked_parts(dest));
    }
    let is_found = |last: &str| found.as_deref() == Some(format!("{words}{last}").as_bytes());
    let ground = match overwrite {
        None if is_found(OF_EMPTY) => Ground::Resumed { is_all_ours: true },
        None if is_found("") || is_found(OVER_PARTS) => Ground::Resumed { is_all_ours: false },
        // What was to stay stays, also when it goes on.
        None if is_found(KEPT_NEVER) => Ground::Occupied(Overwrite::Never),
        None if is_found(KEPT_NEWER) => Ground::Occupied(Overwrite::IfNewer),
        // A restore may have been killed before its marker had its name.
        _ if target.is_empty()? => Ground::Empty,
        Some(overwrite) => Ground::Occupied(overwrite),
        None if found.is_some() => return Err(occupied(dest, "holds another unfinished restore")),
        None => return Err(occupied(dest, "is not empty")),
    };
    Ok(Look { ground, name, words, has_parts })
}

/// Lines of a marker for a restore of a part: another part is another restore.
fn what_words(what: &WantedOptions) -> String {
    let lists = [
        ("include", &what.include),
        ("iinclude", &what.iinclude),
        ("exclude", &what.exclude),
        ("iexclude", &what.iexclude),
    ];
    let lines = lists.iter().flat_map(|(word, list)| list.iter().map(move |text| (*word, text)));
    let mut words: String = lines.map(|(word, text)| format!("{word} {}\n", show(text.as_bytes()))).collect();
    if what.strip_components > 0 {
        words.push_str(&format!("strip {}\n", what.strip_components));
    }
    words
}

fn is_same(there: &Stat, entry: &Entry) -> bool {
    let version = &entry.version;
    there.kind == EntryKind::File
        && version.kind == EntryKind::File
        && there.size == version.size
        && there.mtime_ns == version.mtime_ns
}

/// The marker's name: another one where the tree to be restored has a file of that name.
fn marker_name(repository: &Repository, picked: &Picked) -> Result<Vec<u8>> {
    let mut name = MARKER.as_bytes().to_vec();
    while view::entry(repository.catalog.conn(), picked.as_of(), &join(&picked.path, &name))?.is_some() {
        name.push(b'_');
    }
    Ok(name)
}

/// Last line of a marker for this mode.
fn kept_line(mode: Overwrite) -> &'static str {
    match mode {
        Overwrite::Never => KEPT_NEVER,
        Overwrite::IfNewer => KEPT_NEWER,
        Overwrite::Always | Overwrite::IfChanged => "",
    }
}

/// Whether a marker's words say that parts of files may lie beside it.
fn may_have_parts(marker: &[u8]) -> bool {
    [OF_EMPTY, OVER_PARTS].iter().any(|last| marker.ends_with(last.as_bytes()))
}

/// Whether a directory above `dest` holds an unfinished restore that may have left parts of files below it.
fn is_below_parts(dest: &Path) -> bool {
    let Ok(dest) = dest.canonicalize() else { return false };
    dest.ancestors().skip(1).any(|above| {
        let marker = above.join(MARKER);
        let is_small =
            marker.symlink_metadata().is_ok_and(|found| found.is_file() && found.len() <= MARKER_LEN_MAX as u64);
        // One that cannot be read may say so too.
        is_small && std::fs::read(marker).map_or(true, |words| may_have_parts(&words))
    })
}

fn unchecked_parts(dest: &Path) -> EngineError {
    EngineError::Usage(format!(
        "{} holds an unfinished restore, of which nothing may be kept unchecked; finish it with its own command without \
         --overwrite first, or say --overwrite always",
        dest.display()
    ))
}

fn occupied(dest: &Path, how: &str) -> EngineError {
    EngineError::Usage(format!(
        "{} {how}; give an empty or new directory, or say with --overwrite what becomes of the files in it",
        dest.display()
    ))
}
