//! `src/cli/JSON.md` says what `--json` prints, and `--json` prints what it says: each field of each document has its
//! row with its type, and each row is seen.

use crate::program::Bench;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A field: its place, its types.
#[derive(Debug, Clone)]
struct Row {
    types: Vec<String>,
    /// May be left out.
    is_optional: bool,
    /// Need not be seen.
    is_rare: bool,
}

/// Rows by field, of each message of each command.
type Tables = BTreeMap<(String, String), BTreeMap<String, Row>>;

/// The tables of the paper: headings are `### command, command: message`.
fn tables() -> Tables {
    let paper = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/JSON.md")).expect("the paper");
    let mut tables = Tables::new();
    for section in paper.split("\n### ").skip(1) {
        let (heading, body) = section.split_once('\n').expect("a body");
        let (commands, message) = heading.split_once(": ").expect("command: message");
        let rows: BTreeMap<String, Row> = body.lines().filter_map(row).collect();
        for command in commands.split(", ") {
            let before = tables.insert((command.to_owned(), message.to_owned()), rows.clone());
            assert!(before.is_none(), "two sections {heading}");
        }
    }
    tables
}

fn row(line: &str) -> Option<(String, Row)> {
    let field = line.strip_prefix("| `")?.split('`').next()?.to_owned();
    let mut cells = line.split('|').map(str::trim).skip(2);
    let (cell, what) = (cells.next()?, cells.next()?);
    let (types, mark) = cell.split_once(", ").map_or((cell, ""), |(types, mark)| (types, mark));
    assert!(["", "if any", "rarely"].contains(&mark) && !what.is_empty(), "{line}");
    let types = types.split(" or ").map(str::to_owned).collect();
    Some((field, Row { types, is_optional: !mark.is_empty(), is_rare: mark == "rarely" }))
}

fn type_of(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if number.is_f64() => "number".to_owned(),
        Value::Number(_) => "int".to_owned(),
        Value::String(_) => "text".to_owned(),
        Value::Array(all) => format!("[{}]", all.first().map(type_of).unwrap_or_default()),
        Value::Object(_) => "object".to_owned(),
    }
}

/// What was compared, and what did not fit.
#[derive(Default)]
struct Comparison {
    tables: Tables,
    seen: BTreeSet<(String, String, String)>,
    wrong: BTreeSet<String>,
}

impl Comparison {
    fn document(&mut self, command: &str, document: &Value) {
        let object = document.as_object().expect("an object");
        let message = object["message_type"].as_str().expect("a message type").to_owned();
        assert_eq!(object["schema_version"], 1, "{document}");
        let is_any = self.tables.contains_key(&("any".to_owned(), message.clone()));
        let command =
            if is_any || ["error", "warning", "waiting"].contains(&message.as_str()) { "any" } else { command };
        let key = (command.to_owned(), message);
        self.seen.insert((key.0.clone(), key.1.clone(), String::new()));
        let rows = self.tables.get(&key).cloned().unwrap_or_else(|| {
            self.wrong.insert(format!("### {}: {} has no section", key.0, key.1));
            BTreeMap::new()
        });
        let mut body = object.clone();
        body.retain(|name, _| name != "message_type" && name != "schema_version");
        self.object((&key, &rows), "", &body);
    }

    fn object(
        &mut self,
        (key, rows): (&(String, String), &BTreeMap<String, Row>),
        at: &str,
        object: &Map<String, Value>,
    ) {
        let place = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
        for (name, value) in object {
            let (field, found) = (place(name), type_of(value));
            let is_list = |wanted: &String| found == "[]" && wanted.starts_with('[');
            if !rows.get(&field).is_some_and(|row| row.types.iter().any(|wanted| *wanted == found || is_list(wanted))) {
                self.wrong.insert(format!("### {}: {} lacks  | `{field}` | {found} | |", key.0, key.1));
            }
            self.seen.insert((key.0.clone(), key.1.clone(), field.clone()));
            match value {
                Value::Object(below) => self.object((key, rows), &field, below),
                Value::Array(all) => {
                    let objects = all.iter().filter_map(Value::as_object);
                    objects.for_each(|below| self.object((key, rows), &format!("{field}[]"), below));
                }
                _ => {}
            }
        }
        for (field, _) in rows.iter().filter(|(_, row)| !row.is_optional) {
            let name = field.strip_prefix(at).map(|name| name.trim_start_matches('.')).unwrap_or(".");
            let is_here = !name.is_empty() && !name.contains(['.', '[']) && place(name) == *field;
            if is_here && !object.contains_key(name) {
                self.wrong.insert(format!("### {}: {} is printed without `{field}`", key.0, key.1));
            }
        }
    }

    /// Rows that nothing printed.
    fn finish(mut self) {
        for ((command, message), rows) in &self.tables {
            // A section of several commands: each row is seen of one of them.
            let is_seen = |field: &str| {
                let same = |(other, name, seen): &(String, String, String)| {
                    name == message && seen == field && (other == command || shares(other, command))
                };
                self.seen.iter().any(same)
            };
            if !self.seen.contains(&(command.clone(), message.clone(), String::new())) {
                self.wrong.insert(format!("### {command}: {message} is never printed"));
            }
            for (field, _) in rows.iter().filter(|(field, row)| !row.is_rare && !is_seen(field)) {
                self.wrong.insert(format!("### {command}: {message} has `{field}`, which is never printed"));
            }
        }
        assert!(self.wrong.is_empty(), "\n{}", self.wrong.into_iter().collect::<Vec<_>>().join("\n"));
    }
}

/// Whether two commands print the same, so that what one of them is seen to print counts for both.
fn shares(one: &str, other: &str) -> bool {
    let restores = ["restore", "restore-folder", "revert-to-run"];
    restores.contains(&one) && restores.contains(&other)
}

/// What is run: the command as the paper's headings have it, and its arguments.
const CASES: [(&str, &str); 52] = [
    ("init", "init"),
    ("add-volume", "add-volume disk1"),
    ("add-volume", "add-volume disk2"),
    ("backup", "backup src --tag a,b --label words"),
    ("backup", "backup src --name listed --files-from list"),
    ("backup --dry-run", "backup src --name listed --files-from list -n -v"),
    ("backup --dry-run", "backup src --name new -n -v"),
    ("list-changes", "list-changes 1"),
    ("list-changes", "list-changes 2"),
    ("runs", "runs"),
    ("volumes", "volumes"),
    ("ls", "ls -R --source listed"),
    ("ls", "ls -R --run 1"),
    ("genmeta", "genmeta"),
    ("set-redundancy", "set-redundancy copies=2"),
    ("protect", "protect"),
    ("add-volume", "add-volume disk3"),
    ("remove-volume", "remove-volume disk3"),
    ("validate", "validate --max-duration 0s"),
    ("restore", "restore folder/file out --run 1"),
    ("restore-folder", "restore-folder folder out-folder --run 1 -n -v"),
    ("revert-to-run", "revert-to-run 1 out-tree"),
    ("rebuild-catalog", "rebuild-catalog --volume disk1 --volume disk2 --catalog rebuilt.cat"),
    ("generate completions", "generate completions bash"),
    ("generate man", "generate man man"),
    ("generate systemd", "generate systemd --profile home"),
    ("generate systemd --dir", "generate systemd --profile home --dir units"),
    ("generate cron", "generate cron --profile home"),
    ("profile list", "profile list --file profiles.toml"),
    ("profile check", "profile check --file profiles.toml"),
    ("profile run --dry-run", "profile run home -n --file profiles.toml"),
    ("profile run", "profile run home --file profiles.toml"),
    ("history", "history folder/file --source listed"),
    ("find", "find file"),
    ("find", "find --type f --run 1"),
    ("diff", "diff 1 2 --across"),
    ("diff", "diff 1 src"),
    ("stats", "stats"),
    ("stats", "stats --full --dirs"),
    ("status", "status"),
    ("volumes --lost", "volumes --lost disk1,disk2"),
    ("report", "report"),
    ("report", "report page.html"),
    ("restore-folder", "restore-folder folder out-tree --run 1 --overwrite always --delete -v"),
    ("revert-to-run", "revert-to-run 1 out-tree --overwrite always --delete -n"),
    ("any", "ls nowhere"),
    ("any", "--unknown"),
    // From here on disk1 is damaged and disk2 away.
    ("validate", "validate"),
    ("revert-to-run", "revert-to-run 1 out-damaged"),
    ("volumes", "volumes"),
    ("genmeta", "genmeta"),
    ("replace-volume", "replace-volume disk2 disk4"),
];

/// The first case on damaged volumes.
const DAMAGED_FROM: usize = 47;

fn source(bench: &Bench) {
    bench.write("src/folder/file", b"text");
    bench.write("src/empty", b"");
    let odd = bench.path("src/folder").join(OsStr::from_bytes(b"odd \xff"));
    std::fs::write(&odd, b"odd").expect("a file");
    for (target, name) in [(&b"folder/file"[..], "link"), (b"\xfe", "odd-link")] {
        std::os::unix::fs::symlink(OsStr::from_bytes(target), bench.path("src").join(name)).expect("a symlink");
    }
    bench.write("list", b"folder\nlink\nnot there \xff\n");
    let at = bench.path("").display().to_string();
    let text = format!(
        "[profile.home]\ncatalog = '{at}backup.cat'\n[[profile.home.source]]\nroots = ['{at}src']\n\
         [[profile.home.source]]\nroots = ['{at}gone']\n"
    );
    bench.write("profiles.toml", text.as_bytes());
}

fn damage(bench: &Bench) {
    for entry in walkdir::WalkDir::new(bench.path("disk1/chunks")).into_iter().flatten() {
        if entry.file_type().is_file() {
            std::fs::remove_file(entry.path()).expect("a block that can be removed");
        }
    }
    std::fs::rename(bench.path("disk2"), bench.path("elsewhere")).expect("a volume that can be moved");
}

/// All documents of one command, from both outputs.
fn documents(bench: &Bench, line: &str) -> Vec<Value> {
    let said = bench.on_catalog(&format!("--json --no-progress {line}"));
    let lines = said.out.lines().chain(said.err.lines());
    lines.map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn every_document_has_the_fields_that_the_paper_says_and_no_others() {
    let bench = Bench::new();
    source(&bench);
    let mut comparison = Comparison { tables: tables(), ..Comparison::default() };
    for (index, (command, line)) in CASES.into_iter().enumerate() {
        if index == DAMAGED_FROM {
            damage(&bench);
        }
        let documents = documents(&bench, line);
        assert!(!documents.is_empty(), "{line}");
        // The documents of its steps are those of other commands.
        let of_profile = ["step", "profile_summary", "error", "warning"].map(Value::from);
        let own = documents
            .iter()
            .filter(|document| command != "profile run" || of_profile.contains(&document["message_type"]));
        own.for_each(|document| comparison.document(command, document));
    }
    let lock = std::fs::File::options().write(true).open(bench.path("backup.cat.lock")).expect("a lock file");
    lock.lock().expect("a lock that nobody has");
    documents(&bench, "--retry-lock 1s genmeta").iter().for_each(|document| comparison.document("any", document));
    comparison.finish();
}

#[test]
fn every_command_has_a_section() {
    let known: BTreeSet<String> =
        tables().into_keys().filter_map(|(command, _)| command.split(' ').next().map(str::to_owned)).collect();
    let help = Bench::new().run("--help").with_code(0).out;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).filter(|name| !name.is_empty());
    // `dump` prints the file itself.
    let lacking: Vec<&str> = names.filter(|name| !["help", "dump"].contains(name) && !known.contains(*name)).collect();
    assert!(lacking.is_empty(), "JSON.md says nothing of {lacking:?}");
}
