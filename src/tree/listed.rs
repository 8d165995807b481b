//! Paths of a source that a list names: they, what lies below them and the directories above them are wanted, nothing
//! else. Knows which of them were met.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use super::error::TreeError;
use crate::model::path::{is_valid, is_within};

/// What became of a path that is named.
const UNMET: u8 = 0;
const MET: u8 = 1;
const LEFT_OUT: u8 = 2;

/// A list of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesFrom {
    /// The file; `-` is standard input.
    pub path: PathBuf,
    /// A zero byte ends each path, and nothing is passed over; otherwise a line break does, and blank lines and those
    /// that begin with `#` are no paths.
    pub is_raw: bool,
}

/// What a path is to a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Neither of the others.
    Not,
    /// A directory above one that is named.
    OnTheWay,
    /// Named, or below one that is.
    Whole,
}

/// What the lists of a run name.
#[derive(Debug, Default)]
pub struct Listed {
    /// Without those that lie below others, `/` as zero bytes, sorted: a path then follows those above it.
    tops: Vec<(Vec<u8>, AtomicU8)>,
    /// All of them, as paths.
    all: Vec<Vec<u8>>,
    /// Of the longest.
    len_max: usize,
}

impl Listed {
    /// Reads the lists. Paths are relative to `root`, or absolute below it.
    ///
    /// # Errors
    /// `ListUnreadable`, `BadListed`, `EmptyLists`.
    pub fn read(lists: &[FilesFrom], root: &Path) -> Result<Self, TreeError> {
        let mut all = Vec::new();
        for list in lists {
            let text =
                text_of(&list.path).map_err(|source| TreeError::ListUnreadable { path: list.path.clone(), source })?;
            let is_path = |line: &&[u8]| !line.is_empty() && (list.is_raw || is_no_comment(line));
            for line in text.split(|byte| *byte == if list.is_raw { 0 } else { b'\n' }).filter(is_path) {
                let bad = |why| TreeError::BadListed { list: list.path.clone(), path: line.to_vec(), why };
                all.push(path_of(line, root).map_err(bad)?);
            }
        }
        if all.is_empty() {
            // Whoever made the list has failed, more often than not; it would end all that was stored before.
            return Err(TreeError::EmptyLists);
        }
        Ok(Self::new(all))
    }

    /// A list of paths inside the source.
    pub fn new(mut all: Vec<Vec<u8>>) -> Self {
        all.sort_unstable();
        all.dedup();
        let len_max = all.iter().map(Vec::len).max().unwrap_or(0);
        let mut keys: Vec<Vec<u8>> = all.iter().map(|path| key_of(path)).collect();
        keys.sort_unstable();
        let mut tops: Vec<(Vec<u8>, AtomicU8)> = Vec::new();
        for key in keys {
            if !tops.last().is_some_and(|(top, _)| is_key_within(&key, top)) {
                tops.push((key, AtomicU8::new(UNMET)));
            }
        }
        Self { tops, all, len_max }
    }

    /// What a path is to the list.
    pub fn wants(&self, path: &[u8]) -> Wanted {
        let key = key_of(path);
        let at = self.tops.partition_point(|(top, _)| *top < key);
        match self.tops.get(at) {
            Some((top, _)) if *top == key => Wanted::Whole,
            Some((top, _)) if is_key_within(top, &key) => Wanted::OnTheWay,
            _ if at > 0 && is_key_within(&key, &self.tops[at - 1].0) => Wanted::Whole,
            _ => Wanted::Not,
        }
    }

    /// Whether a path is above one that is named.
    pub fn is_above(&self, path: &[u8]) -> bool {
        path.len() <= self.len_max && self.wants(path) == Wanted::OnTheWay
    }

    /// A path is there: if it is named, it is met.
    pub fn meet(&self, path: &[u8]) {
        if path.len() > self.len_max {
            return;
        }
        if let Ok(at) = self.tops.binary_search_by(|(top, _)| top.as_slice().cmp(&key_of(path))) {
            self.tops[at].1.store(MET, Ordering::Relaxed);
        }
    }

    /// A path is there and is left out all the same: if it is named, that is kept in mind.
    pub fn leave_out(&self, path: &[u8]) {
        if path.len() <= self.len_max
            && let Ok(at) = self.tops.binary_search_by(|(top, _)| top.as_slice().cmp(&key_of(path)))
        {
            self.tops[at].1.store(LEFT_OUT, Ordering::Relaxed);
        }
    }

    /// Paths that are named, not below others that are, and were left out.
    pub fn left_out(&self) -> impl Iterator<Item = Vec<u8>> {
        let left_out = self.tops.iter().filter(|(_, state)| state.load(Ordering::Relaxed) == LEFT_OUT);
        left_out.map(|(top, _)| path_of_key(top))
    }

    /// Whether a path is named, and not below another that is.
    pub fn is_top(&self, path: &[u8]) -> bool {
        path.len() <= self.len_max && self.tops.binary_search_by(|(top, _)| top.as_slice().cmp(&key_of(path))).is_ok()
    }

    /// Paths that were named and of which it is not known that they are there.
    pub fn not_met(&self) -> impl Iterator<Item = &[u8]> {
        let was_met = |path: &[u8]| {
            let found = self.tops.binary_search_by(|(top, _)| top.cmp(&key_of(path)));
            found.is_ok_and(|at| self.tops[at].1.load(Ordering::Relaxed) != UNMET)
        };
        self.all.iter().map(Vec::as_slice).filter(move |path| !path.is_empty() && !was_met(path))
    }
}

fn text_of(path: &Path) -> std::io::Result<Vec<u8>> {
    if path != Path::new("-") {
        return std::fs::read(path);
    }
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text)?;
    Ok(text)
}

fn is_no_comment(line: &[u8]) -> bool {
    line[0] != b'#' && !line.trim_ascii().is_empty()
}

/// The path inside the source, or why there can be none.
fn path_of(line: &[u8], root: &Path) -> Result<Vec<u8>, String> {
    let cleaned = |path: &[u8]| {
        let names: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
        names.join(&b'/')
    };
    let mut path = cleaned(line);
    if path.split(|byte| *byte == b'/').any(|name| name == b"..") {
        return Err("has `..` in it; give it without".to_owned());
    }
    if line[0] == b'/' {
        let top = cleaned(root.as_os_str().as_encoded_bytes());
        if !is_within(&path, &top) {
            return Err(format!("is not below {}", root.display()));
        }
        path = cleaned(&path[top.len()..]);
    }
    if is_valid(&path) { Ok(path) } else { Err("is no path: a name is too long or holds a zero byte".to_owned()) }
}

fn key_of(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect()
}

fn path_of_key(key: &[u8]) -> Vec<u8> {
    key.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect()
}

fn is_key_within(key: &[u8], top: &[u8]) -> bool {
    top.is_empty() || key.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest[0] == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(paths: &[&str]) -> Listed {
        Listed::new(paths.iter().map(|path| path.as_bytes().to_vec()).collect())
    }

    #[test]
    fn what_is_named_above_and_below_is_wanted_and_neighbours_are_not() {
        let listed = listed(&["a/b", "a/b/c", "a!", "x/y/z", "x/y"]);
        for path in ["a/b", "a/b/c", "a/b/q", "a/b/c/d", "a!", "a!/b", "x/y", "x/y/z"] {
            assert_eq!(listed.wants(path.as_bytes()), Wanted::Whole, "{path}");
        }
        for path in ["b", "a/c", "a/b!", "a/b0", "x/z", "x/yy", "a0", "A"] {
            assert_eq!(listed.wants(path.as_bytes()), Wanted::Not, "{path}");
        }
        for path in ["a", "x", ""] {
            assert_eq!(listed.wants(path.as_bytes()), Wanted::OnTheWay, "{path}");
        }
        ["a/b", "a/b/c", "a!", "x/y"].iter().for_each(|path| listed.meet(path.as_bytes()));
        assert!(listed.is_top(b"a/b") && !listed.is_top(b"a/b/c") && !listed.is_top(b"a"));
        let not_met: Vec<&[u8]> = listed.not_met().collect();
        assert_eq!(not_met, [&b"a/b/c"[..], b"x/y/z"]);
    }

    #[test]
    fn lines_become_paths_inside_the_source() {
        let root = Path::new("/home/me");
        for (line, path) in [("./a//b/", "a/b"), ("/home/me/a", "a"), ("/home//me", ""), (" a ", " a "), (".", "")] {
            assert_eq!(path_of(line.as_bytes(), root).unwrap(), path.as_bytes());
        }
        for line in ["/home/men", "/etc", "a/../b", "/home/me/../you"] {
            assert!(path_of(line.as_bytes(), root).is_err(), "{line}");
        }
        assert!(path_of(b"/etc/x", Path::new("/")).is_ok());
    }
}
