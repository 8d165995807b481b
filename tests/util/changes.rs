//! What `list-changes` says of a run, held against what content hashes of both trees show.

use super::bench::Bench;
use super::oracle::{Changes, Snapshot};
use serde_json::Value;
use std::collections::BTreeSet;

/// What `list-changes` says of a run.
pub fn listed_changes(bench: &Bench, run: i64) -> Changes {
    let said = bench.run(&["--json", "list-changes", &run.to_string()]).with_code(0);
    let mut changes = Changes::default();
    for document in said.documents() {
        if document["message_type"] != "change" {
            let counts = ["added", "modified", "metadata", "deleted"].map(|name| document[name].as_u64().unwrap());
            let sets = [&changes.added, &changes.modified, &changes.metadata, &changes.deleted];
            assert_eq!(counts, sets.map(|set| set.len() as u64), "the summary counts what is listed");
            continue;
        }
        let path = exact_path(&document);
        let is_new = match document["change"].as_str().unwrap() {
            "added" => changes.added.insert(path),
            "modified" => changes.modified.insert(path),
            "metadata" => changes.metadata.insert(path),
            "deleted" => changes.deleted.insert(path),
            other => unreachable!("{other}"),
        };
        assert!(is_new, "listed twice: {document}");
    }
    changes
}

/// The bytes of a path in JSON.
pub fn exact_path(document: &Value) -> Vec<u8> {
    match document["path_b64"].as_str() {
        Some(text) => unbase64(text),
        None => document["path"].as_str().unwrap().as_bytes().to_vec(),
    }
}

fn unbase64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for digit in text.bytes().filter(|digit| *digit != b'=') {
        bits = bits << 6 | DIGITS.iter().position(|known| *known == digit).unwrap() as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}

/// Expects that a run's changes are those that content hashes of both trees show, and that its counts say the same.
#[track_caller]
pub fn assert_changes(bench: &Bench, report: &Value, (before, after): (&Snapshot, &Snapshot)) {
    let wanted = before.changes_to(after);
    let mut listed = listed_changes(bench, report["run"].as_i64().unwrap());
    // A file that lost or got a name may be listed for that; the oracle's and the program's groups need not agree.
    let may: BTreeSet<_> = before.linked().union(&after.linked()).cloned().collect();
    listed.metadata.retain(|path| wanted.metadata.contains(path) || !may.contains(path));
    assert_eq!(listed, wanted);
    assert_eq!(report["files_new"].as_u64().unwrap(), wanted.added.len() as u64);
    assert_eq!(report["files_changed"].as_u64().unwrap(), wanted.modified.len() as u64);
    assert_eq!(report["files_deleted"].as_u64().unwrap(), wanted.deleted.len() as u64);
    assert_eq!(report["total_files_processed"].as_u64().unwrap(), after.0.len() as u64);
}
