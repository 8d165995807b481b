//! What lies at the top of the repository, and whether `ARCHITECTURE.md` tells the truth about the commands and
//! `tests/faults/MATRIX.md` about the tests.

use crate::assert_none;
use crate::code::root;
use std::collections::BTreeSet;
use std::process::Command;

const TOP: [&str; 6] = ["Cargo.toml", "Cargo.lock", "LICENSE", "README.md", "src", "tests"];

fn strangers<'p>(paths: impl Iterator<Item = &'p str>) -> Vec<String> {
    let tops: BTreeSet<&str> = paths.filter_map(|path| path.split('/').next()).collect();
    let strange = tops.into_iter().filter(|top| !top.starts_with('.') && !TOP.contains(top));
    strange.map(|top| format!("{top} does not belong at the top of the repository")).collect()
}

/// Rows of the table under `## Commands`: command, and the files that are named.
fn commands_in(text: &str) -> Vec<(String, Vec<String>)> {
    let table = text.split("## Commands").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
    let ticked = |cell: &str| cell.trim().trim_matches('`').to_owned();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(ticked);
        (cells.next().unwrap_or_default(), cells.collect())
    })
    .collect()
}

/// The commands of `enum Command`, as they are typed.
fn commands_of(args: &str) -> BTreeSet<String> {
    let body = args.split("pub enum Command {").nth(1).and_then(|rest| rest.split("\n}").next()).unwrap_or_default();
    let names = body.lines().filter_map(|line| line.trim().split_once('(').map(|(name, _)| name));
    names.filter(|name| name.starts_with(char::is_uppercase)).map(kebab).collect()
}

fn kebab(name: &str) -> String {
    let mut word = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.extend(letter.to_lowercase());
    }
    word
}

fn text_of(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect(path)
}

#[test]
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn only_what_belongs_there_lies_at_the_top() {
    let listed = Command::new("git").arg("-C").arg(root()).args(["ls-files", "-z"]).output();
    match listed {
        Ok(listed) if listed.status.success() && root().join(".git").exists() => {
            let names = String::from_utf8_lossy(&listed.stdout).into_owned();
            assert_none(&strangers(names.split('\0').filter(|name| !name.is_empty())));
        }
        _ => {
            let is_strict = std::env::var_os("RAIDTAPE_TEST_STRICT").is_some_and(|value| value == "1");
            assert!(!is_strict, "the files of the repository cannot be listed: no git, or no .git");
            println!("skipped: the files of the repository cannot be listed: no git, or no .git");
        }
    }
}

#[test]
fn the_table_of_commands_is_complete_and_names_files_that_are_there() {
    let rows = commands_in(&text_of("src/ARCHITECTURE.md"));
    let told: BTreeSet<String> = rows.iter().map(|(command, _)| command.clone()).collect();
    assert_eq!(told, commands_of(&text_of("src/cli/args.rs")));
    for (command, files) in rows {
        assert_eq!(files.len(), 3, "{command}");
        for file in files {
            let place =
                if file.starts_with("tests/") || file.starts_with("src/") { file } else { format!("src/{file}") };
            assert!(root().join(&place).is_file(), "{command}: there is no {place}");
        }
    }
}

#[test]
fn every_command_stands_in_the_readme() {
    let readme = text_of("README.md");
    for command in commands_of(&text_of("src/cli/args.rs")) {
        assert!(readme.contains(&format!("raidtape {command}")), "README.md shows no `raidtape {command}`");
    }
}

#[test]
fn a_stranger_at_the_top_is_seen() {
    assert_eq!(strangers(["docs/a.md", "src/lib.rs", ".ci/run", "notes.txt"].into_iter()).len(), 2);
    assert_none(&strangers(["README.md", "src/a/b.rs", ".gitignore"].into_iter()));
}

#[test]
fn commands_are_found_in_both_places() {
    let table = "## Commands\n\n| command | cli |\n|---|---|\n| `add-volume` | `cli/a.rs` | `engine/a.rs` |\n\n## Then\n| `no` |\n";
    let files = ["cli/a.rs", "engine/a.rs"].map(str::to_owned).to_vec();
    assert_eq!(commands_in(table), [("add-volume".to_owned(), files)]);
    let args = "pub enum Command {\n    /// Text (more).\n    AddVolume(a::Args),\n    Ls(b::Args),\n}\n";
    assert_eq!(commands_of(args).into_iter().collect::<Vec<_>>(), ["add-volume", "ls"]);
}

/// Tests as a paper names them: `file::name` in back ticks.
fn tests_in(text: &str) -> Vec<(String, String)> {
    let ticked = text.lines().filter(|line| line.starts_with('|')).flat_map(|line| line.split('`').skip(1).step_by(2));
    ticked.filter_map(|name| name.split_once("::")).map(|(file, test)| (file.to_owned(), test.to_owned())).collect()
}

/// Those that no file of that name has.
fn tests_that_are_nowhere(text: &str, files: &[(String, String)]) -> Vec<String> {
    let is_there = |file: &str, test: &str| {
        let mut of_that_name = files.iter().filter(|(stem, _)| stem == file);
        of_that_name.any(|(_, code)| code.contains("#[test]") && code.contains(&format!("fn {test}(")))
    };
    let named = tests_in(text).into_iter();
    named
        .filter(|(file, test)| !is_there(file, test))
        .map(|(file, test)| format!("{file}::{test} is no test"))
        .collect()
}

#[test]
fn the_matrix_of_faults_names_tests_that_are_there() {
    let matrix = text_of("tests/faults/MATRIX.md");
    assert!(tests_in(&matrix).len() > 80);
    let found = ["src", "tests"].into_iter().flat_map(|top| walkdir::WalkDir::new(root().join(top)));
    let code = found.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "rs"));
    let files: Vec<(String, String)> = code
        .map(|entry| {
            let stem = entry.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (stem, std::fs::read_to_string(entry.path()).expect("code"))
        })
        .collect();
    assert_none(&tests_that_are_nowhere(&matrix, &files));
    let wrong = "| case | `kills::there_is_no_such_test` |";
    assert_eq!(tests_that_are_nowhere(wrong, &files).len(), 1);
}
