//! What sidecars say, when they are written, and that files can be rebuilt from them.

use super::*;
use crate::engine::observer::Silent;
use crate::engine::test_repository::{CHUNK_LEN, Storing, TestRepository, noise, text};
use crate::model::ids::BlockId;
use serde_json::Value;

fn generate(repo: &TestRepository) -> GenmetaReport {
    genmeta(&mut repo.open(), &GenmetaOptions::default(), &Silent).unwrap()
}

fn sidecar(repo: &TestRepository, volume: &str, id: &BlockId) -> Value {
    let bytes = std::fs::read(repo.volume(volume).join(layout::sidecar_key(id))).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn number(mapping: &Value, field: &str) -> usize {
    usize::try_from(mapping[field].as_u64().unwrap()).unwrap()
}

/// What a shell would do with `jq`, `dd` and `zstd`: a file from the sidecars' numbers and the blocks' bytes alone.
fn rebuild(repo: &TestRepository, blocks: &[(&str, BlockId)], (path, first_run): (&str, i64)) -> Vec<u8> {
    let mut file = Vec::new();
    let mut seqs = Vec::new();
    for (volume, id) in blocks {
        let block = std::fs::read(repo.block_path(volume, id)).unwrap();
        let json = sidecar(repo, volume, id);
        for mapping in json["mappings"].as_array().unwrap() {
            if mapping["file_path"] != path || mapping["first_run"] != first_run {
                continue;
            }
            let (at, len) = (number(mapping, "segment_offset"), number(mapping, "segment_length"));
            let stored = &block[at..at + len];
            let raw = match mapping["codec"].as_str().unwrap() {
                "zstd" => zstd::decode_all(stored).unwrap(),
                "raw" => stored.to_vec(),
                other => panic!("{other}"),
            };
            let (from, len) = (number(mapping, "offset_in_segment"), number(mapping, "length"));
            let chunk = &raw[from..from + len];
            assert_eq!(mapping["chunk_hash"], blake3::hash(chunk).to_hex().as_str());
            file.resize(number(mapping, "file_size"), 0);
            let to = number(mapping, "file_offset");
            file[to..to + len].copy_from_slice(chunk);
            seqs.push(number(mapping, "seq"));
            assert_eq!(mapping["source"], "host:/home");
        }
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (0..seqs.len()).collect::<Vec<_>>(), "ordinals without gaps");
    file
}

#[test]
fn a_file_comes_back_from_sidecars_and_blocks_alone() {
    let repo = TestRepository::new(&["vol-a", "vol-b"]);
    let mut one = text(1, 3 * CHUNK_LEN);
    one.extend(vec![0; 2 * CHUNK_LEN]);
    one.extend(noise(1, 5 * CHUNK_LEN + 17));
    one.extend(text(1, CHUNK_LEN));
    let first = repo.run("vol-a", &[("d/one", &one), ("two", &noise(2, 99))], Storing::New);
    let mut changed = one.clone();
    changed.extend(noise(4, 2 * CHUNK_LEN));
    changed.extend(vec![0; 5]);
    let second = repo.run("vol-b", &[("d/one", &changed), ("copy", &noise(2, 99))], Storing::New);
    let report = generate(&repo);
    assert_eq!((report.written, report.unchanged, report.blocks_skipped), (2, 0, 0));
    let blocks = [("vol-a", first), ("vol-b", second)];
    assert!(rebuild(&repo, &blocks, ("d/one", 1)) == one);
    assert!(rebuild(&repo, &blocks, ("d/one", 2)) == changed);
    assert!(rebuild(&repo, &blocks, ("copy", 2)) == noise(2, 99));
    let json = sidecar(&repo, "vol-a", &first);
    let id = first.to_string();
    assert_eq!((json["chunk_id"].as_str(), json["block_id"].as_str()), (Some(&*id), Some(&*id)));
    let len = std::fs::metadata(repo.block_path("vol-a", &first)).unwrap().len();
    assert_eq!(json["size"], len);
}

#[test]
fn mappings_come_in_the_order_of_bytes_then_paths_then_runs() {
    let repo = TestRepository::new(&["vol"]);
    let shared = noise(1, CHUNK_LEN);
    let longer = [shared.clone(), noise(2, 10)].concat();
    let id = repo.run("vol", &[("z", &shared), ("a", &longer), ("m", &shared)], Storing::New);
    repo.run("vol", &[("z", &longer), ("x/y", &shared)], Storing::New);
    generate(&repo);
    let json = sidecar(&repo, "vol", &id);
    let found: Vec<_> = json["mappings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mapping| {
            let run = |field: &str| mapping[field].as_i64();
            (
                number(mapping, "offset_in_segment"),
                mapping["file_path"].as_str().unwrap(),
                run("first_run"),
                run("last_run"),
            )
        })
        .collect();
    let expected = [
        (0, "a", Some(1), None),
        (0, "m", Some(1), None),
        (0, "x/y", Some(2), None),
        (0, "z", Some(1), Some(1)),
        (0, "z", Some(2), None),
        (CHUNK_LEN, "a", Some(1), None),
        (CHUNK_LEN, "z", Some(2), None),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_large_file_of_many_extents_has_every_chunk_in_its_place() {
    let repo = TestRepository::new(&["vol"]);
    // The same ten chunks again and again, new ones between: many extents that share numbers.
    let mut file = Vec::new();
    for round in 0..12 {
        file.extend(noise(1, 10 * CHUNK_LEN));
        file.extend(noise(100 + round, 3 * CHUNK_LEN));
    }
    let id = repo.run("vol", &[("big", &file)], Storing::New);
    generate(&repo);
    assert!(rebuild(&repo, &[("vol", id)], ("big", 1)) == file);
}

#[test]
fn what_did_not_change_is_not_written_again() {
    let repo = TestRepository::new(&["vol"]);
    let id = repo.run("vol", &[("one", &noise(1, 500))], Storing::New);
    assert_eq!(generate(&repo).written, 1);
    let path = repo.volume("vol").join(layout::sidecar_key(&id));
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    let report = generate(&repo);
    assert_eq!((report.written, report.unchanged, report.bytes_written), (0, 1, 0));
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), before);
    let second = repo.run("vol", &[("two", &noise(2, 500))], Storing::New);
    let report = generate(&repo);
    assert_eq!((report.written, report.unchanged), (1, 1), "another block is no change of this one");
    repo.run("vol", &[("one", &noise(3, 500))], Storing::New);
    let report = generate(&repo);
    assert_eq!((report.written, report.unchanged), (2, 1), "the version in the first block ended");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(repo.volume("vol").join(layout::sidecar_key(&second)), b"cut").unwrap();
    assert_eq!(generate(&repo).written, 2, "what is missing or of another length is written again");
}

#[test]
fn missing_volumes_and_blocks_are_counted_and_left_out() {
    let repo = TestRepository::new(&["vol-a", "vol-b"]);
    let gone = repo.run("vol-a", &[("one", &noise(1, 500))], Storing::New);
    repo.run("vol-a", &[("two", &noise(2, 500))], Storing::New);
    repo.run("vol-b", &[("three", &noise(3, 500))], Storing::New);
    std::fs::remove_file(repo.block_path("vol-a", &gone)).unwrap();
    std::fs::rename(repo.volume("vol-b"), repo.volume("unplugged")).unwrap();
    let report = generate(&repo);
    assert_eq!((report.written, report.blocks_skipped), (1, 1));
    assert!(report.volumes_skipped.len() == 1 && report.volumes_skipped[0].starts_with("vol-b ("));
}

#[test]
fn a_run_chooses_the_blocks_of_its_files() {
    let repo = TestRepository::new(&["vol"]);
    repo.run("vol", &[("one", &noise(1, 500))], Storing::New);
    repo.run("vol", &[("one", &noise(2, 500)), ("two", &noise(3, 500))], Storing::New);
    repo.run("vol", &[("two", &noise(4, 500))], Storing::New);
    let of_run = |seq| genmeta(&mut repo.open(), &GenmetaOptions { run: Some(RunSeq(seq)) }, &Silent);
    assert_eq!(of_run(1).unwrap().written, 1);
    let report = of_run(3).unwrap();
    assert_eq!((report.written, report.unchanged), (2, 0));
    let report = of_run(2).unwrap();
    assert_eq!((report.written, report.unchanged), (0, 1));
    assert!(matches!(of_run(9), Err(EngineError::Usage(_))));
}

#[test]
fn a_further_place_of_a_chunk_is_mapped_too() {
    let repo = TestRepository::new(&["vol-a", "vol-b"]);
    let bytes = noise(1, 500);
    let first = repo.run("vol-a", &[("one", &bytes)], Storing::New);
    let second = repo.run("vol-b", &[("two", &bytes)], Storing::All);
    generate(&repo);
    for (volume, id) in [("vol-a", first), ("vol-b", second)] {
        assert!(rebuild(&repo, &[(volume, id)], ("one", 1)) == bytes);
        assert!(rebuild(&repo, &[(volume, id)], ("two", 2)) == bytes);
    }
}
