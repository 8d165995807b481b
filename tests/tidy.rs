//! The walls of the house: who imports whom, who may call what, how long a file is, what lies at the top. Each rule
//! is a function from source texts to complaints, and is shown to be able to complain.

#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/papers.rs"]
mod papers;
#[path = "tidy/words.rs"]
mod words;

use code::{Source, rooms_named, sources};

/// Lines of a file at most, tests not counted.
const LINES_MAX: usize = 400;

/// Which rooms a room may name beside itself.
const MATRIX: [(&str, &[&str]); 8] = [
    ("cli", &["engine", "volume", "catalog", "tree", "codec", "format", "model"]),
    ("engine", &["volume", "catalog", "tree", "codec", "format", "model"]),
    ("volume", &["codec", "format", "model"]),
    ("catalog", &["codec", "format", "model"]),
    ("tree", &["codec", "format", "model"]),
    ("codec", &["format", "model"]),
    ("format", &["model"]),
    ("model", &[]),
];

fn wrong_imports(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| source.room() != "") {
        let Some((room, may)) = MATRIX.into_iter().find(|(room, _)| *room == source.room()) else {
            found.push(format!("{}: the room is not in the matrix", source.path));
            continue;
        };
        for named in rooms_named(source) {
            if named != room && !may.contains(&named.as_str()) {
                found.push(format!("{}: {room} must not see {named}", source.path));
            }
        }
    }
    found
}

fn too_long(sources: &[Source]) -> Vec<String> {
    let long = sources.iter().filter(|source| source.code_lines() > LINES_MAX);
    long.map(|source| format!("{}: {} lines", source.path, source.code_lines())).collect()
}

fn without_purpose(sources: &[Source]) -> Vec<String> {
    let bare = sources.iter().filter(|source| !source.text.starts_with("//!"));
    bare.map(|source| format!("{}: it does not begin with `//!` and what it is for", source.path)).collect()
}

#[track_caller]
fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn imports_point_right_only() {
    assert_none(&wrong_imports(&sources()));
}

#[test]
fn no_file_is_long() {
    assert_none(&too_long(&sources()));
}

#[test]
fn every_file_says_first_what_it_is_for() {
    assert_none(&without_purpose(&sources()));
}

#[test]
fn an_import_that_points_left_or_aside_is_seen() {
    let wrong = [
        ("format/a.rs", "use crate::codec::hash::Hasher;"),
        ("format/a.rs", "fn f() -> crate::engine::Exit { crate::engine::Exit::Done }"),
        ("volume/a.rs", "use crate::{model::ids::RunSeq, catalog::runs};"),
        ("tree/deep/a.rs", "use super::super::super::volume::store;"),
        ("model/mod.rs", "use super::format::bytes;"),
        ("cellar/a.rs", "fn f() {}"),
    ];
    for (path, text) in wrong {
        let found = wrong_imports(&[Source::new(path, text)]);
        assert_eq!(found.len().min(1), 1, "{path}: {text}");
    }
    let right = [
        ("engine/a.rs", "use crate::catalog::runs; use crate::engine::error::Result;"),
        ("engine/restore/a.rs", "use super::super::error; // use crate::cli::args;"),
        ("format/a.rs", "use crate::model::ids; const TEXT: &str = \"use crate::engine\";"),
        ("tree/a.rs", "use crate::model::path;\n#[cfg(test)]\nmod tests {\n use crate::engine::Exit;\n}\n"),
        ("cli/a.rs", "use raidtape::engine::Exit;"),
        ("lib.rs", "pub mod engine;"),
    ];
    for (path, text) in right {
        assert_none(&wrong_imports(&[Source::new(path, text)]));
    }
}

#[test]
fn a_long_file_is_seen_and_its_tests_do_not_count() {
    let lines = "fn f() {}\n".repeat(LINES_MAX + 1);
    assert_eq!(too_long(&[Source::new("model/a.rs", &lines)]).len(), 1);
    assert_none(&too_long(&[Source::new("model/a_tests.rs", &lines)]));
    assert_none(&too_long(&[Source::new("model/a.rs", &format!("#[cfg(test)]\nmod tests {{\n{lines}}}\n"))]));
}

#[test]
fn a_file_that_begins_with_code_is_seen() {
    assert_eq!(without_purpose(&[Source::new("model/a.rs", "use std::fmt;")]).len(), 1);
    assert_none(&without_purpose(&[Source::new("model/a.rs", "//! Nouns.\n")]));
}
