//! Which names of a run are restored, and under which paths: include and exclude patterns, leading components that are
//! taken off. Decides by path alone; reads nothing.
//!
//! Patterns are tied to what is restored, that is to DEST, and hold before components are taken off. What is included
//! brings all below it along; what is excluded takes all below it along, inside what is included too.

use crate::engine::error::{EngineError, Result};
use crate::model::path::{is_within, join, show, split};
use crate::tree::patterns::Patterns;
use std::cell::RefCell;
use std::collections::HashMap;

/// Collisions that are named.
const COLLISIONS_SHOWN_MAX: usize = 5;

/// What of a tree is restored.
#[derive(Debug, Clone, Default)]
pub struct WantedOptions {
    /// Only what fits one of these, or the next; all where neither is given.
    pub include: Vec<String>,
    /// The same, with upper and lower case alike.
    pub iinclude: Vec<String>,
    /// Not what fits one of these, or the next.
    pub exclude: Vec<String>,
    /// The same, with upper and lower case alike.
    pub iexclude: Vec<String>,
    /// Leading components that are taken off the path of everything.
    pub strip_components: usize,
}

impl WantedOptions {
    /// Whether only what fits some pattern is restored.
    pub fn has_include(&self) -> bool {
        !self.include.is_empty() || !self.iinclude.is_empty()
    }
}

/// Where a path stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It and all below it stay out.
    LeftOut,
    /// A directory that is restored only if something below it is; anything else stays out.
    OnTheWay,
    /// It is restored.
    Taken,
}

/// [`WantedOptions`], ready for use.
pub(super) struct Wanted {
    include: Option<Patterns>,
    exclude: Patterns,
    strip: usize,
    /// The directory that was asked for last: names come directory by directory.
    last: RefCell<(Vec<u8>, Standing)>,
}

impl Wanted {
    /// # Errors
    /// A pattern that has no meaning.
    pub fn new(options: &WantedOptions) -> Result<Self> {
        let include = Patterns::new(options.include.iter().map(String::as_bytes), &options.iinclude)?;
        let wanted = Self {
            include: options.has_include().then_some(include),
            exclude: Patterns::new(options.exclude.iter().map(String::as_bytes), &options.iexclude)?,
            strip: options.strip_components,
            last: RefCell::new((Vec::new(), Standing::Taken)),
        };
        wanted.last.replace((Vec::new(), wanted.of_top()));
        Ok(wanted)
    }

    /// Where a path stands, relative to what is restored.
    pub fn standing(&self, path: &[u8], is_dir: bool) -> Standing {
        if self.include.is_none() && self.exclude.is_empty() {
            return Standing::Taken;
        }
        match self.step(self.of_dir(split(path).0), (path, is_dir)) {
            Standing::OnTheWay if !is_dir => Standing::LeftOut,
            standing => standing,
        }
    }

    /// The path in the target; `None` when it has no more components than are taken off.
    pub fn in_target(&self, path: &[u8]) -> Option<Vec<u8>> {
        if self.strip == 0 {
            return Some(path.to_vec());
        }
        let rest = path.splitn(self.strip + 1, |byte| *byte == b'/').nth(self.strip)?;
        Some(rest.to_vec())
    }

    /// Whether only what fits some pattern is restored.
    pub fn has_include(&self) -> bool {
        self.include.is_some()
    }

    /// Whether paths in the target are not those of the run.
    pub fn strips(&self) -> bool {
        self.strip > 0
    }

    fn of_top(&self) -> Standing {
        if self.include.is_some() { Standing::OnTheWay } else { Standing::Taken }
    }

    fn of_dir(&self, dir: &[u8]) -> Standing {
        let mut last = self.last.borrow_mut();
        if !is_within(dir, &last.0) {
            *last = (Vec::new(), self.of_top());
        }
        while last.0.len() < dir.len() {
            let from = if last.0.is_empty() { 0 } else { last.0.len() + 1 };
            let len = dir[from..].iter().position(|byte| *byte == b'/').unwrap_or(dir.len() - from);
            let next = &dir[..from + len];
            *last = (next.to_vec(), self.step(last.1, (next, true)));
        }
        last.1
    }

    fn step(&self, above: Standing, (path, is_dir): (&[u8], bool)) -> Standing {
        if above == Standing::LeftOut || self.exclude.fits(path, is_dir) == Some(true) {
            return Standing::LeftOut;
        }
        match self.include.as_ref().map(|include| include.fits(path, is_dir)) {
            None | Some(Some(true)) => Standing::Taken,
            Some(Some(false)) => Standing::OnTheWay,
            Some(None) => above,
        }
    }
}

/// Names in a directory, and whether each is a directory.
type Names = Vec<(Vec<u8>, bool)>;

/// Two names that would get one path once components are taken off. Directories of one path become one and are none.
#[derive(Default)]
pub(super) struct Collisions {
    /// Directories of the run by what they become.
    merged: HashMap<Vec<u8>, Vec<Vec<u8>>>,
}

impl Collisions {
    /// Notes a directory of the run that holds something wanted, by its path below what is restored.
    pub fn note_dir(&mut self, wanted: &Wanted, dir: &[u8]) {
        // What lies in one of fewer components is not restored.
        if components(dir) >= wanted.strip {
            let dirs = self.merged.entry(wanted.in_target(dir).unwrap_or_default()).or_default();
            if dirs.last().is_none_or(|last| last != dir) {
                dirs.push(dir.to_vec());
            }
        }
    }

    /// Looks at the directories that become one.
    ///
    /// # Errors
    /// `Usage`, naming names that would become one; whatever `names_in` returns, which gives the wanted names of a
    /// directory and whether each is a directory.
    pub fn check(self, names_in: &mut dyn FnMut(&[u8]) -> Result<Names>) -> Result<()> {
        let mut found: Vec<String> = Vec::new();
        let mut count = 0_u64;
        for dirs in self.merged.values().filter(|dirs| dirs.len() > 1) {
            let mut seen: HashMap<Vec<u8>, (usize, bool)> = HashMap::new();
            for (index, dir) in dirs.iter().enumerate() {
                for (name, is_dir) in names_in(dir)? {
                    match seen.get(&name) {
                        Some((_, true)) if is_dir => {}
                        Some((first, _)) => {
                            count += 1;
                            if found.len() < COLLISIONS_SHOWN_MAX {
                                let path = |dir: &[u8]| show(&join(dir, &name));
                                found.push(format!("{} and {}", path(&dirs[*first]), path(dir)));
                            }
                        }
                        None => {
                            seen.insert(name, (index, is_dir));
                        }
                    }
                }
            }
        }
        if count == 0 {
            return Ok(());
        }
        let more = count.saturating_sub(found.len() as u64);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Err(EngineError::Usage(format!(
            "with so many components taken off, names become the same: {}{more}; take off fewer, or leave some out with \
             --exclude",
            found.join(", ")
        )))
    }
}

/// Names in a path; the empty path has none.
fn components(path: &[u8]) -> usize {
    if path.is_empty() { 0 } else { path.iter().filter(|byte| **byte == b'/').count() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(include: &[&str], exclude: &[&str], strip_components: usize) -> Wanted {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let (include, exclude) = (own(include), own(exclude));
        Wanted::new(&WantedOptions { include, exclude, strip_components, ..WantedOptions::default() }).unwrap()
    }

    #[test]
    fn exclude_wins_inside_include_and_both_hold_for_all_below() {
        let wanted = wanted(&["*.o", "/d/", "!/d/not"], &["tmp", "*.bak"], 0);
        let standing = |path: &str, is_dir| wanted.standing(path.as_bytes(), is_dir);
        for (path, expected) in [
            ("a.o", Standing::Taken),
            ("x/y/b.o", Standing::Taken),
            ("x/y/b.c", Standing::LeftOut),
            ("d/e/f", Standing::Taken),
            ("x/d/f", Standing::LeftOut),
            ("d/e/f.bak", Standing::LeftOut),
            ("d/tmp/f", Standing::LeftOut),
            ("d/tmp/a.o", Standing::LeftOut),
            ("d/not", Standing::LeftOut),
        ] {
            assert_eq!(standing(path, false), expected, "{path}");
        }
        assert_eq!(standing("x", true), Standing::OnTheWay);
        assert_eq!(standing("x/tmp", true), Standing::LeftOut);
        assert_eq!(standing("d", true), Standing::Taken);
        assert_eq!(standing("d/not", true), Standing::OnTheWay);
    }

    #[test]
    fn components_are_taken_off_from_the_front() {
        let wanted = wanted(&[], &[], 2);
        for (path, expected) in [("a", None), ("a/b", None), ("a/b/c", Some("c")), ("a/b/c/d", Some("c/d"))] {
            assert_eq!(wanted.in_target(path.as_bytes()), expected.map(|path| path.as_bytes().to_vec()), "{path}");
        }
    }

    #[test]
    fn names_that_become_one_are_found_and_directories_become_one() {
        let wanted = wanted(&[], &[], 1);
        let all = |dir: &[u8]| -> Vec<(Vec<u8>, bool)> {
            match dir {
                b"a" => vec![(b"same".to_vec(), false), (b"sub".to_vec(), true), (b"only".to_vec(), false)],
                b"b" => vec![(b"same".to_vec(), false), (b"sub".to_vec(), true)],
                b"c" => vec![(b"sub".to_vec(), true)],
                b"a/sub" => vec![(b"f".to_vec(), false)],
                b"c/sub" => vec![(b"f".to_vec(), true)],
                _ => vec![],
            }
        };
        let check = |dirs: &[&str]| {
            let mut collisions = Collisions::default();
            dirs.iter().for_each(|dir| collisions.note_dir(&wanted, dir.as_bytes()));
            collisions.check(&mut |dir| Ok(all(dir)))
        };
        assert!(check(&["", "a", "c", "a/sub", "b/sub"]).is_ok());
        let both = check(&["", "a", "b"]).unwrap_err().to_string();
        assert!(both.contains("a/same and b/same") && !both.contains("sub"), "{both}");
        let deeper = check(&["a", "c", "a/sub", "c/sub"]).unwrap_err().to_string();
        assert!(deeper.contains("a/sub/f and c/sub/f"), "{deeper}");
    }
}
