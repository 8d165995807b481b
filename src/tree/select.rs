//! What of a source is taken: patterns by the rules of gitignore, cache directories, marked directories, large files, other
//! file systems.
//!
//! A pattern holds for whole path components; a leading or middle `/` ties it to the root of the source, a trailing one
//! to directories, `**` stands for any number of levels, `!` takes back what an earlier pattern left out, the last
//! pattern that fits decides. What lies below a directory that is left out is never looked at.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fd::BorrowedFd;
use rustix::fs::{Mode, OFlags};

use super::error::TreeError;
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
}

/// [`SelectOptions`], ready for use on many threads.
#[derive(Debug)]
pub struct Selection {
    patterns: Gitignore,
    any_case: Gitignore,
    tags: Vec<Vec<u8>>,
    exclude_caches: bool,
    larger_than: u64,
    /// Whether directories of other devices stay unlisted.
    pub one_file_system: bool,
}

impl Default for Selection {
    /// Everything is taken.
    fn default() -> Self {
        Self {
            patterns: Gitignore::empty(),
            any_case: Gitignore::empty(),
            tags: Vec::new(),
            exclude_caches: false,
            larger_than: u64::MAX,
            one_file_system: false,
        }
    }
}

impl Selection {
    /// Reads the files and compiles the patterns.
    ///
    /// # Errors
    /// `BadPattern`, `PatternsUnreadable`.
    pub fn new(options: &SelectOptions) -> Result<Self, TreeError> {
        let mut lines: Vec<String> = options.exclude.clone();
        for path in &options.exclude_files {
            let unreadable = |source| TreeError::PatternsUnreadable { path: path.clone(), source };
            let text = std::fs::read_to_string(path).map_err(unreadable)?;
            lines.extend(text.trim_start_matches('\u{feff}').lines().map(str::to_owned));
        }
        if let Some(name) = options.exclude_if_present.iter().find(|name| !is_valid_name(name.as_bytes())) {
            let text = "the mark of a directory is the name of a file in it".to_owned();
            return Err(TreeError::BadPattern { pattern: name.clone(), text });
        }
        Ok(Self {
            patterns: compile(&lines, false)?,
            any_case: compile(&options.iexclude, true)?,
            tags: options.exclude_if_present.iter().map(|name| name.as_bytes().to_vec()).collect(),
            exclude_caches: options.exclude_caches,
            larger_than: options.exclude_larger_than.unwrap_or(u64::MAX),
            one_file_system: options.one_file_system,
        })
    }

    /// Whether a path inside the source is taken.
    pub fn takes(&self, path: &[u8], stat: &Stat) -> bool {
        if stat.kind == EntryKind::File && stat.size > self.larger_than {
            return false;
        }
        if self.patterns.is_empty() && self.any_case.is_empty() {
            return true;
        }
        let (path, is_dir) = (Path::new(OsStr::from_bytes(path)), stat.kind == EntryKind::Dir);
        match self.any_case.matched(path, is_dir) {
            Match::Ignore(_) => false,
            Match::Whitelist(_) => true,
            Match::None => !self.patterns.matched(path, is_dir).is_ignore(),
        }
    }

    /// Whether a name in an open directory says that all else in there is left out.
    pub(super) fn is_tag(&self, dir: BorrowedFd<'_>, name: &[u8]) -> bool {
        self.tags.iter().any(|tag| tag == name) || (self.exclude_caches && name == CACHE_TAG && has_signature(dir))
    }
}

fn compile(lines: &[String], any_case: bool) -> Result<Gitignore, TreeError> {
    let bad = |pattern: &str, error: &ignore::Error| TreeError::BadPattern {
        pattern: pattern.to_owned(),
        text: error.to_string(),
    };
    let mut builder = GitignoreBuilder::new("");
    builder.case_insensitive(any_case).map_err(|error| bad("", &error))?;
    for line in lines {
        builder.add_line(None, line).map_err(|error| bad(line, &error))?;
    }
    builder.build().map_err(|error| bad("", &error))
}

fn has_signature(dir: BorrowedFd<'_>) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(fd) = rustix::fs::openat(dir, CACHE_TAG, flags, Mode::empty()) else { return false };
    let mut start = Vec::new();
    let read = std::fs::File::from(fd).take(CACHE_SIGNATURE.len() as u64).read_to_end(&mut start);
    read.is_ok() && start == CACHE_SIGNATURE
}

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
