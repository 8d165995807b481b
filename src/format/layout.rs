//! The names of things inside a volume: builds each key and parses it back. Keys are relative, with `/` between
//! names. Knows nothing of directories, files or what the things hold.

use crate::model::ids::{BlockId, RunSeq, RunUuid};

/// The label; a directory without it is no volume.
pub const LABEL: &str = "raidtape-volume.json";
/// The volume's own index, a cache.
pub const INDEX: &str = "index.db";
/// What SQLite leaves beside the index when a transaction was cut off.
pub const INDEX_JOURNAL: &str = "index.db-journal";
/// All that SQLite, or somebody's SQLite shell, may have left beside the index and would play into a new one.
pub const INDEX_LEFTOVERS: [&str; 3] = [INDEX_JOURNAL, "index.db-wal", "index.db-shm"];
/// The file whose kernel lock means that somebody writes this volume.
pub const LOCK: &str = "lock";
/// Space that is given up so that a full disk can finish a block.
pub const RESERVE: &str = "reserve";
/// Directory of the blocks.
pub const CHUNKS: &str = "chunks";
/// Directory of the sidecars.
pub const META: &str = "meta";
/// Directory of the manifests.
pub const RUNS: &str = "runs";
/// Directory of damaged blocks in whose place sound ones were written; made when there is one.
pub const QUARANTINE: &str = "quarantine";
/// Directory of what is being written; emptied at the next start.
pub const TMP: &str = "tmp";

/// The directories that a volume keeps its own files in.
pub const DIRS: [&str; 4] = [CHUNKS, META, RUNS, TMP];

const SIDECAR_SUFFIX: &str = ".meta.json";
const MANIFEST_SUFFIX: &str = ".manifest";
const SECOND_MANIFEST_SUFFIX: &str = ".2.manifest";
const FULL_MANIFEST_SUFFIX: &str = ".full.manifest";
const SEQ_DIGITS: usize = 10;

/// Which of the manifests that one volume may hold of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ManifestCopy {
    /// The one that every volume has.
    First,
    /// A second file of the same run, kept where only one volume exists.
    Second,
    /// The whole state after the run, so that a rebuild need not start at the first one.
    Full,
}

/// `chunks/xx/yy/<block id>`; `xx` and `yy` are the id's first and second byte.
pub fn block_key(id: &BlockId) -> String {
    format!("{CHUNKS}/{:02x}/{:02x}/{id}", id.0[0], id.0[1])
}

/// The inverse of [`block_key`]; nothing else is a block's key, also not its name in another block's directory.
pub fn parse_block_key(key: &str) -> Option<BlockId> {
    let name = key.rsplit('/').next()?;
    let id = name.parse::<BlockId>().ok()?;
    (block_key(&id) == key).then_some(id)
}

/// `quarantine/<block id>`, and `….2` and so on for further ones of the same name.
pub fn quarantine_key(id: &BlockId, number: u32) -> String {
    if number < 2 { format!("{QUARANTINE}/{id}") } else { format!("{QUARANTINE}/{id}.{number}") }
}

/// `meta/<block id>.meta.json`.
pub fn sidecar_key(id: &BlockId) -> String {
    format!("{META}/{id}{SIDECAR_SUFFIX}")
}

/// The inverse of [`sidecar_key`].
pub fn parse_sidecar_key(key: &str) -> Option<BlockId> {
    let name = key.strip_prefix(META)?.strip_prefix('/')?;
    name.strip_suffix(SIDECAR_SUFFIX)?.parse().ok()
}

/// `runs/<seq>-<uuid>.manifest`, `….2.manifest` or `….full.manifest`. The number has at least ten digits, so that names sort by run.
pub fn manifest_key(seq: RunSeq, uuid: &RunUuid, copy: ManifestCopy) -> String {
    let suffix = match copy {
        ManifestCopy::First => MANIFEST_SUFFIX,
        ManifestCopy::Second => SECOND_MANIFEST_SUFFIX,
        ManifestCopy::Full => FULL_MANIFEST_SUFFIX,
    };
    format!("{RUNS}/{:0SEQ_DIGITS$}-{uuid}{suffix}", seq.0)
}

/// The inverse of [`manifest_key`]. Run numbers are never negative.
pub fn parse_manifest_key(key: &str) -> Option<(RunSeq, RunUuid, ManifestCopy)> {
    let name = key.strip_prefix(RUNS)?.strip_prefix('/')?;
    let copies = [
        (SECOND_MANIFEST_SUFFIX, ManifestCopy::Second),
        (FULL_MANIFEST_SUFFIX, ManifestCopy::Full),
        (MANIFEST_SUFFIX, ManifestCopy::First),
    ];
    let (stem, copy) = copies.into_iter().find_map(|(suffix, copy)| Some((name.strip_suffix(suffix)?, copy)))?;
    let (seq, uuid) = stem.split_once('-')?;
    let seq = RunSeq(seq.parse().ok()?);
    let uuid = uuid.parse::<RunUuid>().ok()?;
    (seq.0 >= 0 && manifest_key(seq, &uuid, copy) == key).then_some((seq, uuid, copy))
}

/// `tmp/<name>`.
pub fn tmp_key(name: &str) -> String {
    format!("{TMP}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_key_names_its_directories_and_goes_back() {
        let mut id = BlockId([0x5c; 32]);
        id.0[0] = 0x0a;
        let key = block_key(&id);
        assert_eq!(key, format!("chunks/0a/5c/0a{}", "5c".repeat(31)));
        assert_eq!(parse_block_key(&key), Some(id));
    }

    #[test]
    fn a_block_in_another_directory_is_no_block() {
        let id = BlockId([0x5c; 32]);
        for key in [
            format!("chunks/5c/5d/{id}"),
            format!("chunks/{id}"),
            format!("chunks/5c/5c/{id}.part"),
            format!("runs/5c/5c/{id}"),
            format!("/chunks/5c/5c/{id}"),
            format!("chunks/5C/5c/{id}"),
            String::new(),
        ] {
            assert_eq!(parse_block_key(&key), None, "{key}");
        }
    }

    #[test]
    fn a_sidecar_key_goes_there_and_back() {
        let id = BlockId([7; 32]);
        assert_eq!(parse_sidecar_key(&sidecar_key(&id)), Some(id));
        assert_eq!(parse_sidecar_key(&format!("meta/{id}.json")), None);
        assert_eq!(parse_sidecar_key(&format!("meta/a/{id}.meta.json")), None);
    }

    #[test]
    fn manifest_keys_sort_by_run_and_go_back() {
        let uuid = RunUuid([9; 16]);
        let first = manifest_key(RunSeq(9), &uuid, ManifestCopy::First);
        assert_eq!(first, format!("runs/0000000009-{uuid}.manifest"));
        assert!(first < manifest_key(RunSeq(10), &uuid, ManifestCopy::First));
        for seq in [0, 9, 10_000_000_000, i64::MAX] {
            for copy in [ManifestCopy::First, ManifestCopy::Second] {
                let key = manifest_key(RunSeq(seq), &uuid, copy);
                assert_eq!(parse_manifest_key(&key), Some((RunSeq(seq), uuid, copy)));
            }
        }
    }

    #[test]
    fn a_manifest_name_spelled_otherwise_is_no_manifest() {
        let uuid = RunUuid([9; 16]);
        for key in [
            format!("runs/9-{uuid}.manifest"),
            format!("runs/+000000009-{uuid}.manifest"),
            format!("runs/-000000009-{uuid}.manifest"),
            format!("runs/0000000009-{uuid}.3.manifest"),
            format!("runs/0000000009-{uuid}"),
            format!("runs/0000000009-{}.manifest", "9".repeat(32)),
            "runs/.manifest".to_owned(),
        ] {
            assert_eq!(parse_manifest_key(&key), None, "{key}");
        }
    }
}
