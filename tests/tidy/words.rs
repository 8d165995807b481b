//! Words that only some files may say.

use crate::assert_none;
use crate::code::{Source, sources};

/// A word and who may say it.
struct Rule {
    what: &'static str,
    words: &'static [&'static str],
    /// Files, or rooms with a `/` behind, that may.
    allowed: &'static [&'static str],
}

const RULES: [Rule; 10] = [
    Rule {
        what: "SQLite",
        words: &["rusqlite"],
        // `volume` for index.db alone.
        allowed: &["catalog/", "volume/index.rs", "volume/index_file.rs"],
    },
    Rule { what: "zstd", words: &["zstd::"], allowed: &["codec/compress.rs", "codec/probe.rs"] },
    Rule { what: "the parity code", words: &["reed_solomon_simd"], allowed: &["codec/parity.rs"] },
    Rule { what: "worker threads", words: &["rayon::"], allowed: &["engine/"] },
    Rule {
        what: "renaming",
        words: &["rename(", "renameat(", "renameat_with(", "linkat("],
        allowed: &[
            "volume/durable.rs",
            "tree/target_names.rs",
            // A hard link of the user's: made under a temporary name, then put in place by `target_names`.
            "tree/target.rs",
            // A rebuilt catalog takes the place of the one before.
            "catalog/replace.rs",
            // What a command writes for others to read: whole, or as it was.
            "cli/whole_file.rs",
        ],
    },
    Rule {
        what: "syncing",
        words: &["sync_all(", "sync_data(", "fsync(", "fdatasync(", "syncfs("],
        allowed: &[
            "volume/durable.rs",
            // One syncfs at the end of a restore.
            "tree/target.rs",
            // The directory entries of a new catalog; its contents are SQLite's.
            "catalog/handle.rs",
            "cli/whole_file.rs",
        ],
    },
    Rule {
        what: "changing files by path",
        words: &[
            "fs::write(",
            "fs::remove_",
            "fs::create_dir",
            "fs::copy(",
            "fs::hard_link(",
            "fs::set_permissions(",
            "File::create",
            "OpenOptions",
            "DirBuilder",
        ],
        allowed: &[
            "catalog/handle.rs",
            "catalog/replace.rs",
            // Makes the volume's root; all below it goes by descriptor.
            "volume/create.rs",
            // Folders on the way to a first volume, and a catalog made a moment ago that knows nothing.
            "cli/first_backup.rs",
            // Man pages and units, where the user wants them.
            "cli/generate/man.rs",
            "cli/generate/nightly.rs",
            "cli/whole_file.rs",
        ],
    },
    Rule { what: "printing", words: &["println!", "print!(", "eprintln!", "eprint!(", "dbg!"], allowed: &[] },
    Rule {
        what: "stdout and stderr",
        words: &["stdout()", "stderr()"],
        // A progress bar draws through `screen`.
        allowed: &["cli/output.rs", "cli/screen.rs"],
    },
    Rule {
        what: "panicking",
        words: &[".unwrap()", "panic!", "todo!", "unimplemented!", "unreachable!"],
        allowed: &[],
    },
];

/// Not uses: asking whether somebody watches, and clap's method of the same name.
const HARMLESS: [&str; 3] = ["stdout().is_terminal()", "stderr().is_terminal()", ".use_stderr()"];

fn said(rule: &Rule, sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let may = rule.allowed.iter().any(|allowed| match allowed.strip_suffix('/') {
            Some(room) => source.room() == room,
            None => source.path == *allowed,
        });
        if may {
            continue;
        }
        let code = HARMLESS.iter().fold(source.code.clone(), |code, harmless| code.replace(harmless, ""));
        for (number, line) in code.lines().enumerate() {
            if rule.words.iter().any(|word| is_in(line, word)) {
                found.push(format!("{}:{}: {}: {}", source.path, number + 1, rule.what, line.trim()));
            }
        }
    }
    found
}

/// Whether a line has the word, not as the end of a longer one.
fn is_in(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !word.starts_with(char::is_alphabetic) || !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

fn globs(sources: &[Source]) -> Vec<String> {
    let has_glob = |source: &&Source| source.code.contains("::*") || source.code.contains("{*");
    sources.iter().filter(has_glob).map(|source| format!("{}: an import of everything", source.path)).collect()
}

#[test]
fn words_are_said_only_where_they_may_be() {
    let sources = sources();
    let found: Vec<String> = RULES.iter().flat_map(|rule| said(rule, &sources)).collect();
    assert_none(&found);
}

#[test]
fn nothing_is_imported_as_a_whole() {
    assert_none(&globs(&sources()));
}

#[test]
fn every_exception_is_still_needed() {
    let sources = sources();
    for rule in &RULES {
        for allowed in rule.allowed {
            let only = Rule { allowed: &[], ..*rule };
            let here = |source: &&Source| source.path == *allowed || format!("{}/", source.room()) == **allowed;
            let used = sources.iter().filter(here).any(|source| {
                let alone = [Source::new(&source.path, &source.text)];
                !said(&only, &alone).is_empty()
            });
            assert!(used, "{allowed} does not need its exception for {}", rule.what);
        }
    }
}

#[test]
fn every_rule_can_be_broken() {
    for rule in &RULES {
        for word in rule.words {
            let text = format!("fn f() {{\n    x = {word}y;\n}}\n");
            let found = said(rule, &[Source::new("model/a.rs", &text)]);
            assert_eq!(found.len(), 1, "{word}");
            assert_eq!(said(rule, &[Source::new("model/a.rs", &format!("// {text}").replace('\n', " "))]).len(), 0);
            for allowed in rule.allowed {
                let path = if allowed.ends_with('/') { format!("{allowed}a.rs") } else { (*allowed).to_owned() };
                assert_none(&said(rule, &[Source::new(&path, &text)]));
            }
        }
    }
    assert_eq!(globs(&[Source::new("model/a.rs", "use super::ids::*;")]).len(), 1);
    assert_eq!(globs(&[Source::new("model/a.rs", "use super::{*};")]).len(), 1);
    assert_none(&globs(&[Source::new("model/a.rs", "let a = b * c;")]));
}

#[test]
fn what_is_harmless_passes() {
    let text = "fn f() { std::io::stdout().is_terminal(); error.use_stderr(); my_rename(1); }";
    for rule in &RULES {
        assert_none(&said(rule, &[Source::new("cli/a.rs", text)]));
    }
}
