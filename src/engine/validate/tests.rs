//! What `validate` finds, in repositories made by hand and then damaged.

use super::*;
use crate::catalog::blocks::number_of;
use crate::catalog::chunks;
use crate::engine::error::Exit;
use crate::engine::observer::Silent;
use crate::engine::test_repository::{Storing, TestRepository, noise, text};
use crate::format::block::BlockTable;
use crate::format::layout;
use crate::model::ids::{BlockId, SourceId};
use crate::volume::index::IndexDb;
use std::sync::atomic::{AtomicU64, Ordering};

const LEVELS: [Level; 3] = [Level::Quick, Level::Blocks, Level::Deep];

fn options(level: Level) -> ValidateOptions {
    ValidateOptions { level, ..ValidateOptions::default() }
}

fn check(repo: &TestRepository, level: Level) -> ValidateReport {
    validate(&mut repo.open(), &options(level), &Silent).unwrap()
}

/// Two runs on two volumes: `a/one` (three chunks of text, then zeros, then two of noise) and `b` in the first block,
/// `c` in the second.
fn sample() -> (TestRepository, [BlockId; 2]) {
    let repo = TestRepository::new(&["vol-a", "vol-b"]);
    let mut one = text(1, 30_000);
    one.extend(vec![0; 20_000]);
    one.extend(noise(1, 15_000));
    let first = repo.run("vol-a", &[("a/one", &one), ("b", &noise(2, 5_000))], Storing::New);
    let second = repo.run("vol-b", &[("c", &text(3, 12_000))], Storing::New);
    (repo, [first, second])
}

fn paths(damaged: &DamagedBlock) -> Vec<&str> {
    damaged.files.iter().map(|file| file.path.as_str()).collect()
}

fn table(repo: &TestRepository, id: BlockId) -> BlockTable {
    let repository = repo.open();
    let conn = repository.catalog.conn();
    blocks::table_of(conn, number_of(conn, id).unwrap().unwrap()).unwrap().0
}

fn block_state(repo: &TestRepository, id: BlockId) -> String {
    let repository = repo.open();
    let conn = repository.catalog.conn();
    places::block(conn, number_of(conn, id).unwrap().unwrap()).unwrap().state
}

fn rechecked(repo: &TestRepository) -> Vec<Vec<u8>> {
    use crate::catalog::{interned, state};
    let repository = repo.open();
    let conn = repository.catalog.conn();
    let mut found = Vec::new();
    for dir in [&b""[..], b"a"] {
        let row = interned::find_dir(conn, SourceId(1), dir).unwrap().unwrap();
        let entries = state::live_entries(conn, row.id).unwrap();
        found.extend(entries.into_iter().filter(|entry| entry.detection.marks.recheck).map(|entry| entry.name));
    }
    found
}

#[test]
fn a_sound_repository_is_all_good_at_every_level() {
    let (repo, _) = sample();
    for level in LEVELS {
        let report = check(&repo, level);
        assert_eq!(report.exit(), Exit::Done, "{report:?}");
        assert_eq!((report.blocks_checked, report.manifests_checked), (2, 4));
        assert_eq!(report.chunks_checked, if level == Level::Deep { 8 } else { 0 });
        assert_eq!(report.bytes_read > 0, level > Level::Quick);
        assert!(report.index_problems.is_empty() && report.notes.is_empty(), "{report:?}");
    }
    let report = validate(
        &mut repo.open(),
        &ValidateOptions { max_age: Some(Duration::from_secs(3600)), ..options(Level::Blocks) },
        &Silent,
    );
    let report = report.unwrap();
    assert_eq!((report.blocks_checked, report.blocks_skipped, report.exit()), (0, 2, Exit::Done));
    let indexed = IndexDb::load(&repo.volume("vol-a")).unwrap();
    assert!(indexed[0].verified_ns.is_some(), "index.db knows when, too");
}

#[test]
fn a_sample_goes_through_all_blocks_one_after_the_other() {
    let (repo, _) = sample();
    let some = ValidateOptions { sample_percent: Some(50.0), ..options(Level::Blocks) };
    for _ in 0..2 {
        let report = validate(&mut repo.open(), &some, &Silent).unwrap();
        assert_eq!((report.blocks_checked, report.blocks_skipped), (1, 1));
    }
    let repository = repo.open();
    let rows = places::all_blocks(repository.catalog.conn()).unwrap();
    assert!(rows.iter().all(|row| row.verified_ns.is_some()));
}

#[test]
fn without_time_one_block_of_each_volume_is_checked_and_the_next_check_goes_on_behind_it() {
    let repo = TestRepository::new(&["vol-a", "vol-b"]);
    let ids: Vec<BlockId> = [("vol-a", 1), ("vol-a", 2), ("vol-a", 3), ("vol-b", 4)]
        .into_iter()
        .map(|(volume, seed)| repo.run(volume, &[("file", &noise(seed, 9_000))], Storing::New))
        .collect();
    let none = ValidateOptions { max_duration: Some(Duration::ZERO), ..options(Level::Blocks) };
    let verified = || {
        let rows = places::all_blocks(repo.open().catalog.conn()).unwrap();
        rows.into_iter().filter(|row| row.verified_ns.is_some()).map(|row| row.id).collect::<Vec<_>>()
    };
    for round in 0..3 {
        let report = validate(&mut repo.open(), &none, &Silent).unwrap();
        assert_eq!((report.exit(), report.blocks_checked, report.blocks_left), (Exit::Done, 2, 2), "{report:?}");
        assert!(report.bytes_left > 18_000 && report.bytes_left < 40_000, "{report:?}");
        assert!(ids[..=round].iter().chain(&ids[3..]).all(|id| verified().contains(id)));
        assert_eq!(verified().len(), round + 2);
    }
    let enough = ValidateOptions { max_duration: Some(Duration::from_secs(3600)), ..none.clone() };
    let report = validate(&mut repo.open(), &enough, &Silent).unwrap();
    assert_eq!((report.blocks_checked, report.blocks_left, report.bytes_left), (4, 0, 0));

    std::fs::remove_file(repo.block_path("vol-a", &ids[1])).unwrap();
    assert_eq!(check(&repo, Level::Blocks).damaged.len(), 1);
    let report = validate(&mut repo.open(), &none, &Silent).unwrap();
    assert_eq!((report.exit(), report.damaged.len()), (Exit::Damage, 1), "known damage is told every time");
    assert_eq!((report.blocks_checked, report.blocks_left), (3, 1));
}

#[test]
fn a_flipped_byte_in_any_region_is_found_and_only_touched_files_are_named() {
    let (repo, [id, _]) = sample();
    let sound = std::fs::read(repo.block_path("vol-a", &id)).unwrap();
    let table = table(&repo, id);
    let [first, last] = [&table.segments[0], &table.segments[1]];
    let at = |offset: u64| usize::try_from(offset).unwrap();
    let table_at = at(last.offset) + 32 + last.stored_len as usize;
    let regions: [(&str, usize, &[&str]); 8] = [
        ("header", 50, &[]),
        ("segment header", at(first.offset) + 13, &[]),
        ("segment body", at(first.offset) + 40, &["a/one"]),
        ("last segment", at(last.offset) + 32, &["a/one"]),
        ("table header", table_at + 3, &[]),
        ("table", table_at + 40, &[]),
        ("trailer", sound.len() - 30, &[]),
        ("last byte", sound.len() - 1, &[]),
    ];
    for (region, place, files) in regions {
        for level in [Level::Blocks, Level::Deep] {
            repo.damage("vol-a", &id, &|bytes| bytes[place] ^= 0x10);
            assert_eq!(
                check(&repo, Level::Quick).exit(),
                if block_state(&repo, id) == "bad" { Exit::Damage } else { Exit::Done }
            );
            let report = check(&repo, level);
            assert_eq!(report.exit(), Exit::Damage, "{region}");
            let [damaged] = &report.damaged[..] else { panic!("{region}: {report:?}") };
            assert_eq!(damaged.block, id);
            assert!(damaged.volume.starts_with("vol-a ("));
            assert_eq!(paths(damaged), files, "{region}: {}", damaged.what);
            assert_eq!(damaged.files_total, files.len() as u64);
            assert_eq!(damaged.damaged_chunks == 0, files.is_empty());
            assert_eq!(damaged.what.contains("can still be read"), files.is_empty(), "{}", damaged.what);
            assert_eq!(block_state(&repo, id), "bad");
            repo.damage("vol-a", &id, &|bytes| *bytes = sound.clone());
            assert_eq!(check(&repo, level).exit(), Exit::Done);
            assert_eq!(block_state(&repo, id), "ok", "sound again");
        }
    }
}

#[test]
fn a_wrong_length_is_found_by_a_quick_look() {
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Vec<u8>), bool);
    let changes: [Change<'_>; 4] = [
        ("cut by one", &|bytes| bytes.truncate(bytes.len() - 1), false),
        ("one byte left", &|bytes| bytes.truncate(1), true),
        ("empty", &|bytes| bytes.clear(), true),
        ("appended", &|bytes| bytes.extend(b"garbage"), false),
    ];
    for (what, change, is_lost) in changes {
        for level in LEVELS {
            let (repo, [id, _]) = sample();
            repo.damage("vol-a", &id, change);
            let report = check(&repo, level);
            assert_eq!(report.exit(), Exit::Damage, "{what}");
            let files: &[&str] = if is_lost { &["a/one", "b"] } else { &[] };
            assert_eq!(paths(&report.damaged[0]), files, "{what}");
            assert_eq!(report.damaged[0].damaged_chunks, if is_lost { 6 } else { 0 });
        }
    }
}

#[test]
fn a_missing_block_names_every_file_and_every_run_of_it() {
    let (repo, [id, _]) = sample();
    repo.run("vol-b", &[("b", b"another b")], Storing::New);
    std::fs::remove_file(repo.block_path("vol-a", &id)).unwrap();
    let report = check(&repo, Level::Quick);
    let [damaged] = &report.damaged[..] else { panic!("{report:?}") };
    assert_eq!((damaged.what.as_str(), damaged.damaged_chunks), ("it is missing", 6));
    let found: Vec<_> = damaged.files.iter().map(|file| (&*file.path, file.first_run, file.last_run)).collect();
    assert_eq!(found, [("a/one", 1, None), ("b", 1, Some(2))]);
    assert_eq!(damaged.files[0].source, "host:/home");
    assert!(report.index_problems.is_empty(), "the index did not lose it");
    assert_eq!(rechecked(&repo), [b"one"], "the next backup reads it again; the old b is gone from the source");
}

#[test]
fn a_chunk_that_is_sound_elsewhere_keeps_its_files_whole() {
    let (repo, [id, _]) = sample();
    let b = noise(2, 5_000);
    repo.run("vol-b", &[("copy", &b)], Storing::All);
    std::fs::remove_file(repo.block_path("vol-a", &id)).unwrap();
    let report = check(&repo, Level::Blocks);
    assert_eq!(paths(&report.damaged[0]), ["a/one"]);
    assert_eq!(report.damaged[0].damaged_chunks, 6);
    std::fs::rename(repo.volume("vol-b"), repo.volume("unplugged")).unwrap();
    let report = check(&repo, Level::Blocks);
    assert_eq!(paths(&report.damaged[0]), ["a/one", "b", "copy"], "elsewhere is away");
}

#[test]
fn an_unreadable_block_is_damage() {
    let (repo, [id, _]) = sample();
    let path = repo.block_path("vol-a", &id);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let report = check(&repo, Level::Deep);
    assert!(report.damaged[0].what.starts_with("it cannot be read: "), "{report:?}");
    assert_eq!(paths(&report.damaged[0]), ["a/one", "b"]);
}

#[test]
fn two_blocks_in_each_others_place_are_both_damaged() {
    let repo = TestRepository::new(&["vol"]);
    let one = repo.run("vol", &[("one", &noise(1, 5_000))], Storing::New);
    let two = repo.run("vol", &[("two", &noise(2, 5_000))], Storing::New);
    let bytes = std::fs::read(repo.block_path("vol", &one)).unwrap();
    let other = std::fs::read(repo.block_path("vol", &two)).unwrap();
    repo.damage("vol", &one, &|place| *place = other.clone());
    repo.damage("vol", &two, &|place| *place = bytes.clone());
    for level in [Level::Blocks, Level::Deep] {
        let report = check(&repo, level);
        assert_eq!(report.damaged.iter().map(|damaged| paths(damaged)[0]).collect::<Vec<_>>(), ["one", "two"]);
    }
}

#[test]
fn what_was_written_wrong_is_found_only_by_a_deep_look() {
    // As a memory fault would leave it: the chunk's bytes are not what its name says, all hashes around it are right.
    let (repo, [id, _]) = sample();
    let at = table(&repo, id).segments[1].offset;
    let path = repo.block_path("vol-a", &id);
    let mut bytes = std::fs::read(&path).unwrap();
    let (at, len) = (usize::try_from(at).unwrap(), table(&repo, id).segments[1].stored_len as usize);
    bytes[at + 32] ^= 1;
    let mut header = crate::format::container::SegmentHeader::decode(&bytes[at..]).unwrap();
    header.codec = 0;
    let encoded = header.encode(&bytes[at + 32..at + 32 + len]);
    bytes[at..at + 32].copy_from_slice(&encoded);
    let wrong = BlockId(*blake3::hash(&bytes).as_bytes());
    std::fs::remove_file(&path).unwrap();
    let place = repo.block_path("vol-a", &wrong);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(place, bytes).unwrap();
    blocks::rename_for_test(repo.open().catalog.conn(), id, wrong);
    IndexDb::replace(&repo.volume("vol-a"), &[]).unwrap();
    assert_eq!(check(&repo, Level::Blocks).exit(), Exit::Done);
    for _ in 0..2 {
        let report = check(&repo, Level::Deep);
        assert_eq!(paths(&report.damaged[0]), ["a/one"], "{report:?}");
        assert_eq!(report.damaged[0].damaged_chunks, 1);
        let report = check(&repo, Level::Quick);
        assert_eq!(report.exit(), Exit::Damage, "what is known as bad is looked at in full");
    }
}

#[test]
fn a_volume_that_is_away_is_never_all_good() {
    let (repo, _) = sample();
    std::fs::rename(repo.volume("vol-b"), repo.volume("unplugged")).unwrap();
    for level in LEVELS {
        let report = check(&repo, level);
        assert_eq!(report.exit(), Exit::NoVolume);
        assert_eq!((report.blocks_checked, report.blocks_away), (1, 1));
        assert!(report.volumes_away[0].starts_with("vol-b ("));
        assert!(!report.has_damage());
    }
}

#[test]
fn a_disk_that_is_pulled_out_has_not_lost_its_blocks() {
    let (repo, [_, id]) = sample();
    let mut repository = repo.open();
    struct Pull<'a>(&'a TestRepository, AtomicU64);
    impl Observer for Pull<'_> {
        fn begin(&self, _: Phase, _: Expected) {
            for name in ["chunks", layout::LABEL] {
                let _ = std::fs::rename(self.0.volume("vol-b").join(name), self.0.dir.path().join(name));
            }
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
    let report = validate(&mut repository, &options(Level::Blocks), &Pull(&repo, AtomicU64::new(0))).unwrap();
    drop(repository);
    assert!(report.damaged.is_empty(), "{report:?}");
    assert_eq!((report.blocks_away, report.exit()), (1, Exit::NoVolume));
    assert_eq!(block_state(&repo, id), "ok");
}

#[test]
fn a_damaged_or_missing_manifest_is_damage_and_its_other_holders_are_named() {
    let (repo, _) = sample();
    let runs = repo.volume("vol-a").join("runs");
    let mut names: Vec<_> = std::fs::read_dir(&runs).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let mut bytes = std::fs::read(&names[0]).unwrap();
    let sound = bytes.clone();
    for place in (0..sound.len()).step_by(5) {
        bytes[place] ^= 1;
        std::fs::remove_file(&names[0]).unwrap();
        std::fs::write(&names[0], &bytes).unwrap();
        bytes[place] ^= 1;
        let report = check(&repo, Level::Blocks);
        assert_eq!(report.exit(), Exit::Damage, "byte {place}");
        let [problem] = &report.manifest_problems[..] else { panic!("{report:?}") };
        assert!(problem.starts_with("volume vol-a: the record of run 1: "), "{problem}");
        assert!(problem.ends_with("held soundly by volume vol-b"), "{problem}");
    }
    std::fs::remove_file(&names[0]).unwrap();
    for level in LEVELS {
        let report = check(&repo, level);
        assert!(report.manifest_problems[0].contains("it is missing"), "{report:?}");
        assert_eq!(report.exit(), Exit::Damage);
    }
    let other = repo.volume("vol-b").join("runs").join(names[0].file_name().unwrap());
    std::fs::remove_file(other).unwrap();
    let report = check(&repo, Level::Quick);
    assert!(report.manifest_problems.iter().all(|problem| problem.ends_with("no sound one is here")), "{report:?}");
}

#[test]
fn a_damaged_label_is_damage_although_its_volume_counts_as_away() {
    let (repo, _) = sample();
    let path = repo.volume("vol-a").join(layout::LABEL);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("vol-a", "vol-x")).unwrap();
    let report = check(&repo, Level::Quick);
    assert_eq!(report.exit(), Exit::Damage);
    assert!(report.label_problems[0].contains("digest"), "{report:?}");
    assert_eq!(report.volumes_away.len(), 1);
}

#[test]
fn a_wrong_index_is_made_anew_and_is_no_damage() {
    let (repo, [id, _]) = sample();
    let root = repo.volume("vol-a");
    let spoil: [&dyn Fn(); 3] = [
        &|| std::fs::remove_file(root.join(layout::INDEX)).unwrap(),
        &|| std::fs::write(root.join(layout::INDEX), b"garbage").unwrap(),
        &|| IndexDb::replace(&root, &[]).unwrap(),
    ];
    for spoil in spoil {
        spoil();
        let report = check(&repo, Level::Quick);
        assert_eq!((report.exit(), report.index_problems.len()), (Exit::Done, 1), "{report:?}");
        let indexed = IndexDb::load(&root).unwrap();
        assert_eq!(indexed.iter().map(|block| block.id).collect::<Vec<_>>(), [id]);
        let report = check(&repo, Level::Quick);
        assert!(report.index_problems.is_empty());
    }
}

#[test]
fn a_block_that_the_catalog_does_not_know_is_a_note() {
    let (repo, [id, _]) = sample();
    let stray = repo.block_path("vol-a", &BlockId([9; 32]));
    std::fs::create_dir_all(stray.parent().unwrap()).unwrap();
    std::fs::copy(repo.block_path("vol-a", &id), stray).unwrap();
    let report = check(&repo, Level::Blocks);
    assert_eq!((report.exit(), report.blocks_unknown, report.notes.len()), (Exit::Done, 1, 1), "{report:?}");
}

#[test]
fn a_check_that_is_cancelled_keeps_what_it_found() {
    struct AfterOne(AtomicU64);
    impl Observer for AfterOne {
        fn advance(&self, items: u64, _: u64) {
            self.0.fetch_add(items, Ordering::Relaxed);
        }
        fn is_cancelled(&self) -> bool {
            self.0.load(Ordering::Relaxed) >= 1
        }
    }
    let repo = TestRepository::new(&["vol"]);
    repo.run("vol", &[("one", &noise(1, 5_000))], Storing::New);
    repo.run("vol", &[("two", &noise(2, 5_000))], Storing::New);
    let ended = validate(&mut repo.open(), &options(Level::Blocks), &AfterOne(AtomicU64::new(0)));
    assert!(matches!(ended, Err(EngineError::Interrupted)));
    let rows = places::all_blocks(repo.open().catalog.conn()).unwrap();
    assert_eq!(rows.iter().filter(|row| row.verified_ns.is_some()).count(), 1);
}

#[test]
fn a_row_that_nothing_backs_is_damage() {
    let (repo, _) = sample();
    let repository = repo.open();
    let id = crate::model::ids::ChunkId([9; 32]);
    chunks::put_placeless(repository.catalog.conn(), crate::model::ids::ChunkNo(1000), (&id, 0)).unwrap();
    drop(repository);
    let report = check(&repo, Level::Quick);
    assert_eq!(report.row_problems, ["chunk 1000 has no segment"]);
    assert_eq!(report.exit(), Exit::Damage);
}
