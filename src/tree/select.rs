//! What of a source is taken: lists of paths, patterns by the rules of gitignore, cache directories, marked directories, large
//! files, other
//! file systems.
//!
//! A pattern holds for whole path components; a leading or middle `/` ties it to the root of the source, a trailing one
//! to directories, `**` stands for any number of levels, `!` takes back what an earlier pattern left out, the last
//! pattern that fits decides. What lies below a directory that is left out is never looked at.

use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fd::BorrowedFd;
use rustix::fs::{Mode, OFlags};

use super::error::TreeError;
use super::listed::{FilesFrom, Listed, Wanted};
use super::patterns::Patterns;
use crate::model::entry::{EntryKind, Stat};
use crate::model::path::is_valid_name;

/// The file that marks a directory as a cache, and how it begins: <https://bford.info/cachedir/>.
const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What is to be left out.
#[derive(Debug, Clone, Default)]
pub struct SelectOptions {
    /// Patterns, in their order.
    pub exclude: Vec<String>,
    /// Patterns that take upper and lower case for the same.
    pub iexclude: Vec<String>,
    /// Files with a pattern on each line, after those above.
    pub exclude_files: Vec<PathBuf>,
    /// What lies in a directory beside a valid `CACHEDIR.TAG`.
    pub exclude_caches: bool,
    /// What lies in a directory beside a file of such a name.
    pub exclude_if_present: Vec<String>,
    /// Regular files of more bytes.
    pub exclude_larger_than: Option<u64>,
    /// What lies on another file system than the root; the mount point itself is taken.
    pub one_file_system: bool,
    /// Lists of all that is taken at most.
    pub files_from: Vec<FilesFrom>,
    /// The root of the source, for absolute paths in lists.
    pub root: PathBuf,
    /// Where the source has several roots, these, none below another: the walk begins at `/`, and nothing of their
    /// neighbours is taken.
    pub roots: Vec<PathBuf>,
}

impl SelectOptions {
    /// Whether anything below the roots may be left out.
    pub fn leaves_out(&self) -> bool {
        let Self { exclude, iexclude, exclude_files, exclude_caches, exclude_if_present, .. } = self;
        let has_patterns = !(exclude.is_empty() && iexclude.is_empty() && exclude_files.is_empty());
        let has_tags = *exclude_caches || !exclude_if_present.is_empty();
        let is_bounded = self.exclude_larger_than.is_some() || self.one_file_system || !self.files_from.is_empty();
        has_patterns || has_tags || is_bounded
    }
}

/// [`SelectOptions`], ready for use on many threads.
#[derive(Debug)]
pub struct Selection {
    patterns: Patterns,
    tags: Vec<Vec<u8>>,
    exclude_caches: bool,
    larger_than: u64,
    listed: Option<Listed>,
    roots: Option<Listed>,
    /// Whether directories of other devices stay unlisted.
    pub one_file_system: bool,
}

impl Default for Selection {
    /// Everything is taken.
    fn default() -> Self {
        Self {
            patterns: Patterns::default(),
            tags: Vec::new(),
            exclude_caches: false,
            larger_than: u64::MAX,
            listed: None,
            roots: None,
            one_file_system: false,
        }
    }
}

impl Selection {
    /// Reads the files and compiles the patterns.
    ///
    /// # Errors
    /// `BadPattern`, `PatternsUnreadable`, `ListUnreadable`, `BadListed`.
    pub fn new(options: &SelectOptions) -> Result<Self, TreeError> {
        let mut lines: Vec<Vec<u8>> = options.exclude.iter().map(|line| line.as_bytes().to_vec()).collect();
        for path in &options.exclude_files {
            let unreadable = |source| TreeError::PatternsUnreadable { path: path.clone(), source };
            let text = std::fs::read(path).map_err(unreadable)?;
            let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&text);
            let lines_in = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
            lines.extend(lines_in.map(<[u8]>::to_vec));
        }
        if let Some(name) = options.exclude_if_present.iter().find(|name| !is_valid_name(name.as_bytes())) {
            let text = "the mark of a directory is the name of a file in it".to_owned();
            return Err(TreeError::BadPattern { pattern: name.clone(), text });
        }
        Ok(Self {
            patterns: Patterns::new(lines.iter().map(Vec::as_slice), &options.iexclude)?,
            tags: options.exclude_if_present.iter().map(|name| name.as_bytes().to_vec()).collect(),
            exclude_caches: options.exclude_caches,
            larger_than: options.exclude_larger_than.unwrap_or(u64::MAX),
            listed: match options.files_from.as_slice() {
                [] => None,
                lists => Some(Listed::read(lists, &options.root)?),
            },
            roots: (!options.roots.is_empty())
                .then(|| Listed::new(options.roots.iter().map(|r| below_top(r)).collect())),
            one_file_system: options.one_file_system,
        })
    }

    /// What a path is to the roots and to the lists of what is wanted; everything is, where there are none.
    pub(super) fn wants(&self, path: &[u8]) -> Wanted {
        match (&self.roots, &self.listed) {
            (Some(roots), _) => roots.wants(path),
            (None, Some(listed)) => listed.wants(path),
            (None, None) => Wanted::Whole,
        }
    }

    /// A path is there.
    pub(super) fn meet(&self, path: &[u8]) {
        if let Some(listed) = &self.listed {
            listed.meet(path);
        }
    }

    /// A path is there, and is left out.
    pub(super) fn leave_out(&self, path: &[u8]) {
        if let Some(listed) = &self.listed {
            listed.leave_out(path);
        }
    }

    /// The lists of what is wanted.
    pub(super) fn listed(&self) -> Option<&Listed> {
        self.listed.as_ref()
    }

    /// Whether a path is a root of the source.
    pub(super) fn is_root(&self, path: &[u8]) -> bool {
        self.roots.as_ref().map_or(path.is_empty(), |roots| roots.is_top(path))
    }

    /// Whether a path is one of several roots or above one: taken whatever the user leaves out.
    pub(super) fn leads(&self, path: &[u8]) -> bool {
        self.roots.as_ref().is_some_and(|roots| roots.is_top(path) || roots.is_above(path))
    }

    /// Whether a path is above one of several roots.
    pub(super) fn is_above(&self, path: &[u8]) -> bool {
        self.roots.as_ref().is_some_and(|roots| roots.is_above(path))
    }

    /// Whether a path is above a root or above what a list names, and not wanted itself.
    pub(super) fn is_on_the_way(&self, path: &[u8]) -> bool {
        self.wants(path) == Wanted::OnTheWay
    }

    /// Paths that a list names and that were not met.
    pub(super) fn not_met(&self) -> impl Iterator<Item = &[u8]> {
        self.listed.iter().flat_map(Listed::not_met)
    }

    /// Whether a path inside the source is taken, as far as patterns and sizes go.
    pub fn takes(&self, path: &[u8], stat: &Stat) -> bool {
        if stat.kind == EntryKind::File && stat.size > self.larger_than {
            return false;
        }
        self.patterns.fits(path, stat.kind == EntryKind::Dir) != Some(true)
    }

    /// Whether a name in an open directory says that all else in there is left out.
    pub(super) fn is_tag(&self, dir: BorrowedFd<'_>, name: &[u8]) -> bool {
        self.tags.iter().any(|tag| tag == name) || (self.exclude_caches && name == CACHE_TAG && has_signature(dir))
    }
}

/// An absolute path as one inside a source whose root is `/`.
fn below_top(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.strip_prefix(b"/").unwrap_or(bytes).to_vec()
}

fn has_signature(dir: BorrowedFd<'_>) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(fd) = rustix::fs::openat(dir, CACHE_TAG, flags, Mode::empty()) else { return false };
    let mut start = Vec::new();
    let read = std::fs::File::from(fd).take(CACHE_SIGNATURE.len() as u64).read_to_end(&mut start);
    read.is_ok() && start == CACHE_SIGNATURE
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod against_git;

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(kind: EntryKind, size: u64) -> Stat {
        Stat {
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size,
            mtime_ns: 0,
            ctime_ns: 0,
            btime_ns: None,
            dev: 0,
            ino: 1,
            nlink: 1,
            allocated: 0,
            rdev: 0,
            taken_ns: 0,
        }
    }

    fn excluding(exclude: &[&str], iexclude: &[&str]) -> Selection {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Selection::new(&SelectOptions { exclude: own(exclude), iexclude: own(iexclude), ..SelectOptions::default() })
            .unwrap()
    }

    #[test]
    fn the_last_pattern_that_fits_decides() {
        let selection = excluding(&["*.o", "!keep.o", "/top", "cache/"], &["*.TMP"]);
        let taken = |path: &str, kind| selection.takes(path.as_bytes(), &stat(kind, 0));
        for path in ["a.o", "deep/er/b.o", "top", "x.tmp", "deep/x.Tmp"] {
            assert!(!taken(path, EntryKind::File), "{path}");
        }
        for path in ["keep.o", "deep/keep.o", "deep/top", "cache", "a.oo"] {
            assert!(taken(path, EntryKind::File), "{path}");
        }
        assert!(!taken("deep/cache", EntryKind::Dir));
    }

    #[test]
    fn names_that_are_no_text_are_matched_by_their_bytes() {
        let selection = excluding(&["*.bak"], &[]);
        assert!(!selection.takes(b"\xff\xfe.bak", &stat(EntryKind::File, 0)));
        assert!(selection.takes(b"\xff\xfe.bal", &stat(EntryKind::File, 0)));
    }

    #[test]
    fn files_that_are_too_large_are_left_out_and_directories_never() {
        let options = SelectOptions { exclude_larger_than: Some(10), ..SelectOptions::default() };
        let selection = Selection::new(&options).unwrap();
        assert!(selection.takes(b"f", &stat(EntryKind::File, 10)));
        assert!(!selection.takes(b"f", &stat(EntryKind::File, 11)));
        assert!(selection.takes(b"d", &stat(EntryKind::Dir, 4096)));
    }

    #[test]
    fn a_pattern_that_is_none_is_named() {
        let options = SelectOptions { exclude: vec!["[z-a]".to_owned()], ..SelectOptions::default() };
        let error = Selection::new(&options).unwrap_err();
        assert!(error.to_string().contains("[z-a]"), "{error}");
    }
}
