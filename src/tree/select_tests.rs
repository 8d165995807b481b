//! Patterns against git itself: random tables of patterns over random trees, and git's word for each path.

use super::{SelectOptions, Selection};
use crate::model::path::join;
use crate::tree::list::Select;
use crate::tree::walk::{WalkOptions, Walker};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Numbers that are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 20) % bound as u64).unwrap()
    }

    fn pick<'w>(&mut self, words: &[&'w str]) -> &'w str {
        words[self.below(words.len())]
    }
}

/// Names of few letters, so that patterns fit often; with all that means something in a pattern.
const NAMES: [&str; 25] = [
    "a", "b", "c", "d", "ab", "ba", "abc", "a.o", "b.o", "a b", "#a", "!a", "a ", " a", "*", "a*", "[a]", "{a,b}",
    "\\a", "?", "a\\", "ä", "-", "A", "]",
];
const ATOMS: [&str; 46] = [
    "a",
    "b",
    "c",
    "d",
    "ab",
    "*",
    "?",
    "**",
    "[a-c]",
    "[!a]",
    "[^b-d]",
    "[]a]",
    "[a",
    "[a\\-c]",
    "[\\]a]",
    "[[:alpha:]]",
    "[!]a]",
    "a]",
    "\\a",
    "\\*",
    "\\?",
    "\\[",
    "\\ ",
    "\\#",
    "\\!",
    "\\\\",
    " ",
    "#",
    "!",
    "{a,b}",
    "{",
    "}",
    ".o",
    "*.o",
    "a*",
    "a**",
    "**b",
    "***",
    "ä",
    "[ä]",
    "-",
    "[a-]",
    "[*-a]",
    "[/]",
    "A",
    "[[:upper:]ab]",
];

/// One line of a table: a few components, with slashes where slashes have meanings.
fn pattern(dice: &mut Dice) -> String {
    let mut line = String::new();
    if dice.below(5) == 0 {
        line.push('!');
    }
    if dice.below(4) == 0 {
        line.push('/');
    }
    for component in 0..=dice.below(3) {
        if component > 0 {
            line.push('/');
        }
        match dice.below(4) {
            0 => line.push_str(dice.pick(&["**", "*", "?", "a", "b"])),
            1 => line.push_str(dice.pick(&NAMES)),
            _ => (0..=dice.below(3)).for_each(|_| line.push_str(dice.pick(&ATOMS))),
        }
    }
    line.push_str(dice.pick(&["", "", "", "", "/", " ", "\\ ", "/**", "/*", "  "]));
    line
}

fn grow(dice: &mut Dice, root: &Path) {
    std::fs::create_dir(root).unwrap();
    let mut dirs = vec![root.to_owned()];
    for _ in 0..60 {
        let parent = dirs[dice.below(dirs.len())].clone();
        let path = parent.join(dice.pick(&NAMES));
        if path.symlink_metadata().is_ok() || path.components().count() > root.components().count() + 4 {
            continue;
        }
        if dice.below(3) == 0 {
            std::fs::create_dir(&path).unwrap();
            dirs.push(path);
        } else {
            std::fs::write(&path, b"").unwrap();
        }
    }
}

fn walk(root: &Path, options: &SelectOptions) -> BTreeSet<Vec<u8>> {
    let selection = Arc::new(Selection::new(options).unwrap());
    let options = WalkOptions { threads: 0, lookahead_entries: 0, select: Arc::new(|_, _| Select::Take), selection };
    let mut walker = Walker::open(root, options).unwrap();
    let listings = std::iter::from_fn(move || walker.next());
    listings
        .flat_map(|listing| {
            let path = listing.path;
            listing.entries.into_iter().map(move |entry| join(&path, &entry.name)).collect::<Vec<_>>()
        })
        .collect()
}

/// The paths of `all` that git would not leave out by this file of patterns.
fn taken_by_git(work: &Path, patterns: &Path, all: &BTreeSet<Vec<u8>>) -> BTreeSet<Vec<u8>> {
    let mut git = Command::new("git");
    git.current_dir(work).env("HOME", "/nowhere").env("GIT_CONFIG_NOSYSTEM", "1");
    git.arg("--git-dir=../git").arg("--work-tree=.");
    git.arg("-c").arg(format!("core.excludesFile={}", patterns.display()));
    git.args(["check-ignore", "--no-index", "--stdin", "-z"]);
    let mut child = git.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // All of them fit into the pipe.
    let given: Vec<u8> = all.iter().flat_map(|path| [b"./", path.as_slice(), b"\0"].concat()).collect();
    child.stdin.take().unwrap().write_all(&given).unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(matches!(said.status.code(), Some(0 | 1)));
    let ignored: BTreeSet<&[u8]> = said.stdout.split(|byte| *byte == 0).collect();
    all.iter().filter(|path| !ignored.contains([b"./", path.as_slice()].concat().as_slice())).cloned().collect()
}

#[test]
fn random_tables_of_patterns_take_of_random_trees_exactly_what_git_takes() {
    let temp = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }).unwrap();
    let made = Command::new("git").args(["init", "-q", "--bare"]).arg(temp.path().join("git")).status();
    if !made.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("RAIDTAPE_TEST_STRICT").is_none_or(|value| value != "1"), "this test needs git");
        return;
    }
    let tables: usize = std::env::var("RAIDTAPE_TEST_TABLES").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let mut dice = Dice(0x2026_0101_1234_5678);
    let (mut left_out, mut differing) = (0, Vec::new());
    for number in 0..tables {
        let work = temp.path().join("tree");
        if number % 20 == 0 {
            let _ = std::fs::remove_dir_all(&work);
            grow(&mut dice, &work);
        }
        let all = walk(&work, &SelectOptions::default());
        let mut lines: Vec<String> = (0..=dice.below(4)).map(|_| pattern(&mut dice)).collect();
        // What git passes over in silence is refused here.
        lines.retain(|line| {
            Selection::new(&SelectOptions { exclude: vec![line.clone()], ..SelectOptions::default() }).is_ok()
        });
        let file = temp.path().join("patterns");
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        let theirs = taken_by_git(&work, &file, &all);
        let ours = walk(&work, &SelectOptions { exclude: lines.clone(), ..SelectOptions::default() });
        left_out += all.len() - theirs.len();
        if ours != theirs {
            let show = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
            let differ: Vec<String> = ours.symmetric_difference(&theirs).map(show).take(4).collect();
            differing.push(format!("{lines:?}: {differ:?}"));
        }
    }
    assert!(differing.is_empty(), "{} of {tables}:\n{}", differing.len(), differing.join("\n"));
    assert!(left_out > tables * 3, "{left_out}");
}
