//! Source texts without what does not count: comments, the insides of strings, tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One file under `src/`.
pub struct Source {
    /// Relative to `src/`.
    pub path: String,
    pub text: String,
    /// The text with comments and the insides of strings blanked, and without its tests; empty for a file of tests.
    pub code: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = if is_of_tests(path) { String::new() } else { without_tests(&blanked(text)) };
        Self { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// The room that it lies in; empty for `lib.rs` and `main.rs`.
    pub fn room(&self) -> &str {
        self.path.split_once('/').map_or("", |(room, _)| room)
    }

    pub fn code_lines(&self) -> usize {
        self.code.lines().count()
    }

    /// Names of the module that it is: `engine/restore/plan.rs` is engine, restore, plan.
    fn module(&self) -> Vec<&str> {
        let stem = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        stem.split('/').collect()
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All of `src/`.
pub fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut dirs: Vec<PathBuf> = vec![root().join("src")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a text");
                let inside = path.strip_prefix(root().join("src")).expect("a path below src");
                found.push(Source::new(&inside.to_string_lossy(), &text));
            }
        }
    }
    assert!(found.len() > 100, "src/ was not found");
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn is_of_tests(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.contains("test"))
}

/// Leaves out the items behind `#[cfg(test)]`, as rustfmt lays them out: to a line that ends the statement, or to the
/// brace at its start.
fn without_tests(code: &str) -> String {
    let mut kept = Vec::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        if line != "#[cfg(test)]" {
            kept.push(line);
            continue;
        }
        let _ = lines.find(|line| line.ends_with(';') && !line.starts_with(' ') || *line == "}");
    }
    kept.join("\n")
}

/// Blanks line comments and the insides of string literals. Line breaks stay.
fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '"' => string_len(rest),
            'r' if is_raw_string(rest, &out) => raw_string_len(rest),
            '\'' => char_len(rest),
            _ => 0,
        };
        if len == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (literal, after) = rest.split_at(len);
        out.push_str(if first == '/' { "" } else { "\"" });
        out.extend(literal.chars().filter(|character| *character == '\n'));
        out.push_str(if first == '/' { "" } else { "\"" });
        rest = after;
    }
    out
}

fn string_len(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn is_raw_string(text: &str, before: &str) -> bool {
    let in_word = before.chars().next_back().is_some_and(|last| last.is_alphanumeric() || last == '_');
    (!in_word || before.ends_with('b')) && text[1..].trim_start_matches('#').starts_with('"')
}

fn raw_string_len(text: &str) -> usize {
    let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    let end = format!("\"{}", "#".repeat(hashes));
    let start = hashes + 2;
    text[start..].find(&end).map_or(text.len(), |at| start + at + end.len())
}

/// Bytes of a character literal; 0 for a lifetime.
fn char_len(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => text[2..].char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 3),
        Some(_) => characters.next().filter(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

/// The rooms whose names a file reaches through `crate::`, `raidtape::` or `super::`.
pub fn rooms_named(source: &Source) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for root in ["crate::", "raidtape::"] {
        for (at, _) in source.code.match_indices(root) {
            heads(&source.code[at + root.len()..], &mut rooms);
        }
    }
    let depth = source.module().len();
    let up = "super::".repeat(depth);
    for (at, _) in source.code.match_indices(&up) {
        let is_whole = !source.code[..at].ends_with("super::");
        if is_whole {
            heads(&source.code[at + up.len()..], &mut rooms);
        }
    }
    rooms
}

/// The first name behind a path's root, or those of a group in braces.
fn heads(path: &str, rooms: &mut BTreeSet<String>) {
    let Some(group) = path.strip_prefix('{') else {
        rooms.extend(word(path));
        return;
    };
    let mut depth = 1;
    let mut is_head = true;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => is_head = true,
            character if is_head && !character.is_whitespace() => {
                rooms.extend(word(&group[at..]));
                is_head = false;
            }
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

/// A module's name; types and macros, which are not rooms, are passed over.
fn word(text: &str) -> Option<String> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let word = &text[..end];
    (word.starts_with(char::is_lowercase) && text[end..].starts_with("::")).then(|| word.to_owned())
}

#[test]
fn comments_strings_and_tests_are_no_code() {
    let code = |text: &str| Source::new("model/a.rs", text).code;
    assert_eq!(code("a // b\nc"), "a \nc");
    assert_eq!(code("f(\"a // \\\" b\", 'x', '\"', b'\\'') // c"), "f(\"\", \"\", \"\", b\"\") ");
    assert_eq!(code("r#\"a \" b\"# br\"c\" for<'a>"), "\"\" b\"\" for<'a>");
    assert_eq!(code("a\n#[cfg(test)]\nmod tests {\n b\n}"), "a");
    assert_eq!(code("a\n#[cfg(test)]\nmod tests;\nb"), "a\nb");
    assert_eq!(code("a\n#[cfg(test)]\nfn f() {\n b;\n}\nc"), "a\nc");
    assert_eq!(Source::new("engine/validate/tests.rs", "a").code, "");
}

#[test]
fn groups_and_steps_upward_are_followed() {
    let named = |path: &str, text: &str| {
        let rooms = rooms_named(&Source::new(path, text));
        rooms.into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(named("a/b.rs", "use crate::{model::{x, y}, format::z}; crate::tree::t()"), "format model tree");
    assert_eq!(named("a/b/c.rs", "super::super::super::tree::x; super::super::volume::y"), "tree");
    assert_eq!(named("a/b/mod.rs", "use super::super::tree::x;"), "tree");
    assert_eq!(named("a/b.rs", "crate::Thing; use super::tree::x;"), "");
}
