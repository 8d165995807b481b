//! A catalog whose every column holds what no writer puts there: errors, never a panic, never without end or with all
//! memory, and never a byte outside the target.

use crate::forge::{Forge, limited};
use crate::util::needs::{has_tools, long_tests_factor};
use crate::util::oracle::snapshot;
use crate::util::tree::{Rng, write};
use rusqlite::types::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;

/// What goes into a column of this type.
fn values(kind: &str) -> Vec<Value> {
    let integers = [0, -1, 1, 2, 255, 1 << 31, 1 << 32, 1 << 53, i64::MAX - 1, i64::MAX, i64::MIN].map(Value::Integer);
    let long = "x".repeat(5000);
    let texts = ["", "..", "/etc", "\u{1b}[2J", "99999999999999999999", "[[[[", "none", &long]
        .map(|text| Value::Text(text.to_owned()));
    let blobs = [
        &b""[..],
        b"..",
        b".",
        b"/etc/passwd",
        b"a/b",
        b"nul\0",
        b"../outside/evil",
        b"l/evil",
        &[b'x'; 300],
        &[0; 32],
    ];
    let blobs = blobs.map(|blob| Value::Blob(blob.to_vec()));
    match kind {
        "INTEGER" => integers.to_vec(),
        "TEXT" => texts.to_vec(),
        "BLOB" => blobs.to_vec(),
        _ => [&integers[..], &texts[..], &blobs[..], &[Value::Null]].concat(),
    }
}

/// One change of one column.
struct Case {
    table: String,
    column: String,
    value: Value,
    /// In every row, or in the last one only.
    is_everywhere: bool,
}

impl Case {
    fn words(&self) -> String {
        let value = format!("{:?}", self.value).chars().take(60).collect::<String>();
        format!("{}.{} = {value}{}", self.table, self.column, if self.is_everywhere { " everywhere" } else { "" })
    }

    /// Changes the catalog; false where its own rules forbid it, or where there is no row.
    fn put(&self, conn: &rusqlite::Connection) -> bool {
        let Self { table, column, is_everywhere, .. } = self;
        let rows = format!("(SELECT max({column}) FROM {table})");
        let only = if *is_everywhere { String::new() } else { format!(" WHERE {column} = {rows}") };
        conn.execute(&format!("UPDATE OR IGNORE {table} SET {column} = ?1{only}"), [&self.value]).unwrap_or(0) > 0
    }
}

fn cases(conn: &rusqlite::Connection) -> Vec<Case> {
    let mut select =
        conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'").unwrap();
    let tables: Vec<String> = select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut cases = Vec::new();
    for table in tables {
        let mut select = conn.prepare(&format!("SELECT name, type FROM pragma_table_info('{table}')")).unwrap();
        let columns = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
        for (column, kind) in columns.map(Result::unwrap) {
            for value in values(&kind) {
                for is_everywhere in [false, true] {
                    let (table, column, value) = (table.clone(), column.clone(), value.clone());
                    cases.push(Case { table, column, value, is_everywhere });
                }
            }
        }
    }
    cases
}

const OTHERS: [&[&str]; 9] = [
    &["find", "*"],
    &["diff", "2", "3"],
    &["history", "."],
    &["ls"],
    &["list-changes", "3"],
    &["runs"],
    &["genmeta"],
    &["validate", "--deep"],
    &["backup", "src"],
];

#[test]
fn a_catalog_with_any_value_in_any_column_gives_errors_and_no_harm() {
    if !has_tools(&["timeout", "prlimit"]) {
        return;
    }
    let forge = Forge::new();
    let bench = &forge.bench;
    let mut rng = Rng(5);
    write(&bench.src(), "d/big", &[rng.bytes(700_000), vec![0; 2 << 20], rng.bytes(10)].concat());
    write(&bench.src(), "linked", b"two names");
    fs::hard_link(bench.path("src/linked"), bench.path("src/d/linked")).unwrap();
    std::os::unix::fs::symlink(bench.path("outside"), bench.path("src/l")).unwrap();
    bench.backup();
    fs::remove_file(bench.path("src/good")).unwrap();
    write(&bench.src(), "d/big", &rng.bytes(300_000));
    bench.backup();
    bench.run(&["genmeta"]).with_code(0);
    let open = || rusqlite::Connection::open(bench.path("backup.cat")).unwrap();
    let conn = open();
    conn.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(())).unwrap();
    let cases = cases(&conn);
    drop(conn);
    let sound = fs::read(bench.path("backup.cat")).unwrap();
    let copy = |from: &str, to: &str| {
        let _ = fs::remove_dir_all(bench.path(to));
        let status = std::process::Command::new("cp").arg("-a").args([bench.path(from), bench.path(to)]).status();
        assert!(status.unwrap().success());
    };
    copy("disk1", "sound disk1");
    let wanted = 90 * long_tests_factor();
    let step = (cases.len() as u64 / wanted).max(1) | 1;
    let (mut count, mut codes) = (0_u64, BTreeMap::new());
    for case in cases.iter().step_by(step as usize) {
        for end in ["-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(bench.path(format!("backup.cat{end}")));
        }
        fs::write(bench.path("backup.cat"), &sound).unwrap();
        copy("sound disk1", "disk1");
        if !case.put(&open()) {
            continue;
        }
        count += 1;
        let dest = bench.fresh("dest");
        let reverted: [&OsStr; 3] = ["revert-to-run".as_ref(), "2".as_ref(), dest.as_os_str()];
        let said = limited(bench, &reverted);
        *codes.entry(said.code).or_insert(0) += 1;
        for command in OTHERS {
            let said = limited(bench, command);
            assert!(said.code == 0 || said.err.contains("raidtape: "), "{}: {command:?}: {said:#?}", case.words());
            *codes.entry(said.code).or_insert(0) += 1;
        }
        forge.assert_outside();
        assert!(!bench.path("evil").exists(), "{}", case.words());
        if dest.exists() {
            let found = snapshot(&dest);
            assert!(found.0.values().all(|node| "fdlpsbc".contains(node.kind)));
            fs::remove_dir_all(dest).unwrap();
        }
        assert!(!count.is_multiple_of(20) || rebuilds(&forge), "{}", case.words());
    }
    println!("{count} of {} values in columns; exit codes {codes:?}", cases.len());
    assert!(count > 40);
}

/// Whatever the catalog said, the volumes alone bring the sound runs back. A run that this catalog wrote on the empty
/// state, because it showed no other, is a branch of its own: then those before it are named.
fn rebuilds(forge: &Forge) -> bool {
    let report = forge.rebuild(&[0, 5]);
    let named = report["unreachable_runs"].as_array().unwrap().len() as u64;
    if named == 0 {
        forge.assert_sound("rebuilt.cat");
    }
    report["runs"].as_u64().unwrap() >= 1 && report["runs"].as_u64().unwrap() + named >= 3
}
