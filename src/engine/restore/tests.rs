//! What a restore brings back, refuses and survives.

use super::*;
use crate::catalog::chunks;
use crate::engine::observer::Silent;
use crate::engine::test_repo::{Bit, FileNode, MTIME_NS, Node, TestRepo};
use crate::engine::test_repository::noise;
use crate::model::ids::{ChunkId, ChunkNo};
use crate::model::params::HashAlgo;
use crate::model::problem::ProblemOp;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::atomic::{AtomicU64, Ordering};

fn folder(repo: &mut TestRepo, path: &str, overwrite: Option<Overwrite>) -> Result<RestoreReport> {
    let dest = repo.dir.path().join("out");
    let options = RestoreOptions { path: path.into(), dest, overwrite, workers: Some(3), ..RestoreOptions::default() };
    restore_folder(&mut repo.repository, &options, &Silent)
}

fn one(repo: &mut TestRepo, path: &str, (dest, overwrite): (&str, Option<Overwrite>)) -> Result<RestoreReport> {
    let dest = repo.dir.path().join(dest);
    let options = RestoreOptions { path: path.into(), dest, overwrite, ..RestoreOptions::default() };
    restore(&mut repo.repository, &options, &Silent)
}

fn out(repo: &TestRepo, name: &str) -> PathBuf {
    repo.dir.path().join("out").join(name)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn problem_paths(report: &RestoreReport) -> Vec<String> {
    report.problems.iter().map(|problem| show(&problem.path)).collect()
}

/// All bytes of a file as its bits say.
fn bytes_of(bits: &[Bit]) -> Vec<u8> {
    let bytes = |bit: &Bit| match bit {
        Bit::Chunk(bytes) => bytes.clone(),
        Bit::Zeros(len) => vec![0; usize::try_from(*len).unwrap()],
    };
    bits.iter().flat_map(bytes).collect()
}

fn shapes() -> Vec<(&'static str, Vec<Bit>)> {
    let chunk = |seed, len| Bit::Chunk(noise(seed, len));
    let long: Vec<Bit> = (0..40).map(|n| chunk(100 + n, 251_003)).collect();
    let mut repeated = long[3..20].to_vec();
    repeated.extend(long[3..6].to_vec());
    repeated.insert(4, Bit::Zeros(9 << 20));
    vec![
        ("small", vec![chunk(1, 100)]),
        ("empty", vec![]),
        ("long", long),
        ("repeated", repeated),
        ("zeros", vec![Bit::Zeros(9_000_001)]),
        ("hole-first", vec![Bit::Zeros(5 << 20), chunk(2, 70_000)]),
        ("hole-last", vec![chunk(2, 70_000), Bit::Zeros(1)]),
        ("hole-inside", vec![chunk(3, 10), Bit::Zeros(300_000), chunk(4, 10)]),
        ("one-piece", vec![chunk(5, 2 << 20), chunk(6, 2 << 20)]),
    ]
}

#[test]
fn files_of_every_shape_come_back_byte_for_byte_under_both_hashes() {
    for (hash, workers) in [(HashAlgo::Blake3, 1), (HashAlgo::Blake3, 4), (HashAlgo::Sha256, 2)] {
        let mut repo = TestRepo::with_hash(hash);
        repo.segment_len = 1 << 20;
        let shapes = shapes();
        let nodes: Vec<_> =
            shapes.iter().map(|(name, bits)| (*name, Node::File(FileNode::of_bits(bits.clone())))).collect();
        let run = repo.run(&nodes);
        let dest = repo.dir.path().join("out");
        let options = RevertOptions { run, dest, overwrite: None, workers: Some(workers), how: RestoreHow::default() };
        let report = revert_to_run(&mut repo.repository, &options, &Silent).unwrap();
        assert_eq!((report.problems.as_slice(), report.exit()), (&[][..], Exit::Done));
        let total: u64 = shapes.iter().map(|(_, bits)| bytes_of(bits).len() as u64).sum();
        assert_eq!((report.files, report.bytes), (9, total));
        for (name, bits) in &shapes {
            assert!(fs::read(out(&repo, name)).unwrap() == bytes_of(bits), "{name}");
        }
        assert_eq!(names(&repo.dir.path().join("out")).len(), 9);
        assert!(fs::metadata(out(&repo, "zeros")).unwrap().blocks() < 100, "zeros stay a hole");
    }
}

#[test]
fn every_kind_comes_back_with_its_metadata_and_the_target_gets_that_of_the_folder() {
    let mut repo = TestRepo::new();
    repo.run(&[
        ("top", Node::DirMode(0o710)),
        ("top/d", Node::DirMode(0o550)),
        ("top/d/f", Node::bytes(b"one")),
        ("top/d/g", Node::File(FileNode::of(b"two").linked(7))),
        ("top/h", Node::File(FileNode::of(b"two").linked(7))),
        ("top/l", Node::link("/nowhere/\u{e4}")),
        ("top/p", Node::Fifo),
        ("beside", Node::bytes(b"no")),
    ]);
    let report = folder(&mut repo, "top", None).unwrap();
    assert_eq!((report.files, report.dirs, report.hardlinks), (2, 1, 1));
    assert_eq!((report.symlinks, report.specials, report.metadata_refused), (1, 1, 0));
    assert_eq!((report.source.as_str(), report.exit()), ("host:/src", Exit::Done));
    assert_eq!(names(&repo.dir.path().join("out")), ["d", "h", "l", "p"]);
    let stat = |name: &str| fs::symlink_metadata(out(&repo, name)).unwrap();
    assert_eq!(stat("h").ino(), stat("d/g").ino());
    assert_eq!(fs::read(out(&repo, "h")).unwrap(), b"two");
    assert_eq!(fs::read_link(out(&repo, "l")).unwrap(), Path::new("/nowhere/\u{e4}"));
    assert!(stat("p").file_type().is_fifo());
    for (name, mode) in [("", 0o710), ("d", 0o550), ("d/f", 0o640), ("h", 0o640), ("p", 0o750)] {
        assert_eq!(stat(name).mode() & 0o7777, mode, "{name}");
    }
    for name in ["", "d", "d/f", "h", "l", "p"] {
        assert_eq!(stat(name).mtime() * 1_000_000_000 + stat(name).mtime_nsec(), MTIME_NS, "{name}");
    }
}

#[test]
fn an_earlier_run_comes_back_as_it_was() {
    let mut repo = TestRepo::new();
    let first = repo.run(&[("a", Node::bytes(b"old")), ("gone", Node::bytes(b"gone"))]);
    repo.run(&[("a", Node::bytes(b"new")), ("gone", Node::Gone), ("later", Node::bytes(b"x"))]);
    let options = RevertOptions {
        run: first,
        dest: repo.dir.path().join("out"),
        overwrite: None,
        workers: None,
        how: RestoreHow::default(),
    };
    revert_to_run(&mut repo.repository, &options, &Silent).unwrap();
    assert_eq!(names(&repo.dir.path().join("out")), ["a", "gone"]);
    assert_eq!(fs::read(out(&repo, "a")).unwrap(), b"old");
}

#[test]
fn a_damaged_segment_costs_exactly_the_files_that_need_it() {
    let mut repo = TestRepo::new();
    let long = noise(1, 400_000);
    repo.run(&[
        ("a", Node::File(FileNode::of(&noise(2, 60_000)).linked(3))),
        ("b", Node::File(FileNode::of(&noise(2, 60_000)).linked(3))),
        ("long", Node::File(FileNode::cut(&long, 50_000))),
        ("other", Node::File(FileNode::of(&noise(4, 60_000)))),
    ]);
    repo.damage(&noise(2, 60_000));
    repo.damage(&long[50_000..100_000]);
    let report = folder(&mut repo, "", None).unwrap();
    assert_eq!(problem_paths(&report), ["a", "b", "long"]);
    assert!(report.problems.iter().all(|problem| problem.op == ProblemOp::Data));
    assert!(report.problems[0].text.contains("volume first ("), "{}", report.problems[0].text);
    assert_eq!((report.files, report.exit()), (1, Exit::Damage));
    assert_eq!(names(&repo.dir.path().join("out")), ["other"]);
}

#[test]
fn a_missing_block_is_damage_and_another_copy_or_place_heals_either() {
    let mut repo = TestRepo::new();
    let (one, two) = (noise(1, 50_000), noise(2, 50_000));
    repo.run(&[("one", Node::bytes(&one))]);
    repo.run(&[("two", Node::bytes(&two))]);
    repo.damage(&one);
    fs::remove_file(repo.block_file_of(&two).0).unwrap();
    let report = folder(&mut repo, "", None).unwrap();
    assert_eq!(problem_paths(&report), ["one", "two"]);
    assert!(report.problems[1].text.ends_with("it is missing"), "{}", report.problems[1].text);
    fs::remove_dir_all(repo.dir.path().join("out")).unwrap();
    repo.add_volume("second");
    let again = [(repo.chunk_no(&two), two.clone()), (repo.chunk_no(&one), one.clone())];
    repo.store_block(&again);
    let report = folder(&mut repo, "", None).unwrap();
    assert_eq!((problem_paths(&report), report.files), (vec![], 2));
    assert!(fs::read(out(&repo, "two")).unwrap() == two && fs::read(out(&repo, "one")).unwrap() == one);
}

#[test]
fn a_second_copy_of_a_block_is_read_when_the_first_is_damaged_or_away() {
    let mut repo = TestRepo::new();
    let bytes = noise(1, 50_000);
    repo.run(&[("f", Node::bytes(&bytes))]);
    repo.add_volume("second");
    repo.copy_block(&bytes, "second");
    repo.damage(&bytes);
    assert_eq!(one(&mut repo, "f", ("f", None)).unwrap().exit(), Exit::Done);
    repo.take_away("first");
    assert_eq!(one(&mut repo, "f", ("g", None)).unwrap().exit(), Exit::Done);
    assert!(fs::read(repo.dir.path().join("g")).unwrap() == bytes);
}

#[test]
fn what_is_on_a_volume_that_is_away_is_named_and_the_next_restore_goes_on() {
    let mut repo = TestRepo::new();
    repo.run(&[("a", Node::bytes(b"here")), ("link", Node::link("a"))]);
    repo.add_volume("second");
    repo.run(&[("b", Node::bytes(b"away")), ("d", Node::DirMode(0o500)), ("d/c", Node::bytes(b"away too"))]);
    repo.take_away("second");
    let report = folder(&mut repo, "", None).unwrap();
    assert_eq!((problem_paths(&report), report.exit()), (vec!["b".into(), "d/c".into()], Exit::NoVolume));
    assert!(report.problems[0].text.contains("second (") && report.problems[0].text.contains("--volume"));
    assert_eq!(report.volumes_wanted.len(), 1);
    assert!(report.volumes_wanted[0].starts_with("second ("));
    assert_eq!(names(&repo.dir.path().join("out")), [".raidtape-restore", "a", "d", "link"]);
    repo.reopen();
    let report = folder(&mut repo, "", None).unwrap();
    assert_eq!((report.files, report.skipped_existing, report.exit()), (2, 2, Exit::Done));
    assert_eq!(names(&repo.dir.path().join("out")), ["a", "b", "d", "link"]);
    assert_eq!(fs::read(out(&repo, "d/c")).unwrap(), b"away too");
    assert_eq!(fs::metadata(out(&repo, "d")).unwrap().mode() & 0o7777, 0o500);
}

#[test]
fn a_chunk_known_by_name_alone_is_asked_for() {
    let mut repo = TestRepo::new();
    repo.run(&[("f", Node::bytes(b"x"))]);
    let id = ChunkId(*blake3::hash(b"never seen").as_bytes());
    chunks::put_placeless(repo.repository.catalog.conn(), ChunkNo(99), (&id, 0)).unwrap();
    let node = FileNode::of_bits(vec![Bit::Chunk(b"x".to_vec()), Bit::Chunk(b"never seen".to_vec())]);
    repo.run(&[("h", Node::File(node))]);
    let report = folder(&mut repo, "", None).unwrap();
    assert_eq!((problem_paths(&report), report.exit()), (vec!["h".into()], Exit::NoVolume));
    assert!(report.problems[0].text.contains("never seen"));
    repo.store_block(&[(ChunkNo(99), b"never seen".to_vec())]);
    assert_eq!(one(&mut repo, "h", ("h", None)).unwrap().exit(), Exit::Done);
    assert_eq!(fs::read(repo.dir.path().join("h")).unwrap(), b"xnever seen");
}

#[test]
fn a_file_whose_parts_do_not_make_its_hash_is_not_restored() {
    for hash in [HashAlgo::Blake3, HashAlgo::Sha256] {
        let mut repo = TestRepo::with_hash(hash);
        let lying = |bits| Node::File(FileNode { claimed_hash: Some([7; 32]), ..FileNode::of_bits(bits) });
        repo.run(&[
            ("one", lying(vec![Bit::Chunk(b"x".to_vec())])),
            ("two", lying(vec![Bit::Chunk(b"xy".to_vec()), Bit::Chunk(b"z".to_vec())])),
            ("zeros", lying(vec![Bit::Zeros(5 << 20)])),
            ("empty", lying(vec![])),
            ("good", Node::bytes(b"x")),
        ]);
        let report = folder(&mut repo, "", None).unwrap();
        assert_eq!(problem_paths(&report).len(), 4, "{:?}", report.problems);
        assert_eq!(names(&repo.dir.path().join("out")), ["good"]);
    }
}

#[test]
fn inconsistent_files_are_restored_and_listed() {
    let mut repo = TestRepo::new();
    repo.run(&[("vm", Node::File(FileNode { inconsistent: true, ..FileNode::of(b"x") }))]);
    let report = folder(&mut repo, "", None).unwrap();
    assert_eq!((report.inconsistent, report.files), (vec!["vm".to_owned()], 1));
}

#[test]
fn what_is_there_stays_or_goes_as_told() {
    let later = MTIME_NS + 5_000_000_000;
    for (overwrite, expected, skipped) in [
        (Overwrite::Always, [&b"new"[..], b"new", b"new"], 0),
        (Overwrite::IfChanged, [b"new", b"old", b"new"], 1),
        (Overwrite::IfNewer, [b"new", b"old", b"xxx"], 2),
        (Overwrite::Never, [b"xxx", b"old", b"xxx"], 3),
    ] {
        let mut repo = TestRepo::new();
        let names_of = ["older", "same", "younger"];
        repo.run(&names_of.map(|name| (name, Node::bytes(b"new"))));
        fs::create_dir(out(&repo, "")).unwrap();
        for (name, bytes, at) in [("older", b"xxx", 1), ("same", b"old", MTIME_NS), ("younger", b"xxx", later)] {
            fs::write(out(&repo, name), bytes).unwrap();
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(at.cast_unsigned());
            fs::File::options().write(true).open(out(&repo, name)).unwrap().set_modified(at).unwrap();
        }
        fs::write(out(&repo, "mine"), b"mine").unwrap();
        let refused = folder(&mut repo, "", None).unwrap_err();
        assert!(matches!(refused, EngineError::Usage(_)) && refused.to_string().contains("--overwrite"));
        let report = folder(&mut repo, "", Some(overwrite)).unwrap();
        assert_eq!((report.skipped_existing, report.exit()), (skipped, Exit::Done), "{overwrite:?}");
        assert_eq!(names_of.map(|name| fs::read(out(&repo, name)).unwrap()), expected.map(<[u8]>::to_vec));
        assert_eq!(names(&out(&repo, "")), ["mine", "older", "same", "younger"]);
    }
}

#[test]
fn one_name_goes_to_a_new_name_or_into_a_directory() {
    let mut repo = TestRepo::new();
    repo.run(&[("d", Node::Dir), ("d/f", Node::bytes(b"x")), ("d/l", Node::link("f"))]);
    fs::create_dir(out(&repo, "")).unwrap();
    let report = one(&mut repo, "d/f", ("out", None)).unwrap();
    assert_eq!((report.files, report.bytes, report.exit()), (1, 1, Exit::Done));
    one(&mut repo, "/src/d/f", ("out/g", None)).unwrap();
    assert_eq!(one(&mut repo, "d/l", ("out/l", None)).unwrap().symlinks, 1);
    assert_eq!(names(&out(&repo, "")), ["f", "g", "l"]);
    fs::write(out(&repo, "g"), b"mine").unwrap();
    for (path, dest) in [("d/f", "out/g"), ("d", "out/x"), ("", "out/x"), ("no", "out/x"), ("d/f", "out/no/")] {
        let refused = one(&mut repo, path, (dest, None)).unwrap_err();
        assert_eq!(refused.exit(), Exit::Usage, "{path} {dest} {refused}");
    }
    assert!(one(&mut repo, "d/f", ("no/x", None)).is_err());
    assert!(folder(&mut repo, "d/f", None).unwrap_err().to_string().contains("raidtape restore`"));
    one(&mut repo, "d/f", ("out/g", Some(Overwrite::Always))).unwrap();
    assert_eq!(fs::read(out(&repo, "g")).unwrap(), b"x");
}

/// Stops after some bytes.
struct StopsAfter(AtomicU64, u64);

impl Observer for StopsAfter {
    fn advance(&self, _items: u64, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= self.1
    }
}

#[test]
fn an_interrupted_restore_leaves_whole_files_only_and_is_taken_up_again() {
    let mut repo = TestRepo::new();
    let files: Vec<_> = (0..20).map(|n| (format!("f{n}"), noise(n, 60_000))).collect();
    let mut nodes: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), Node::bytes(bytes))).collect();
    let long = noise(99, 1_000_000);
    nodes.push(("long", Node::File(FileNode::cut(&long, 60_000))));
    repo.run(&nodes);
    let dest = repo.dir.path().join("out");
    let options = RestoreOptions { dest: dest.clone(), workers: Some(1), ..RestoreOptions::default() };
    let stopped = restore_folder(&mut repo.repository, &options, &StopsAfter(AtomicU64::new(0), 600_000));
    assert_eq!(stopped.unwrap_err().exit(), Exit::Interrupted);
    let left = names(&dest);
    assert!(left.len() > 2 && left.len() < 20 && left.contains(&".raidtape-restore".to_owned()), "{left:?}");
    for name in left.iter().filter(|name| name.starts_with('f')) {
        assert_eq!(fs::metadata(dest.join(name)).unwrap().len(), 60_000);
    }
    fs::write(dest.join(".raidtape-tmp-0123456789abcdef-7"), b"x").unwrap();
    let other = RestoreOptions { run: Some(RunSeq(1).into()), path: b"f1".to_vec(), ..options.clone() };
    assert!(restore_folder(&mut repo.repository, &other, &Silent).is_err());
    let report = restore_folder(&mut repo.repository, &options, &Silent).unwrap();
    assert_eq!((report.skipped_existing + 2, report.files), (left.len() as u64 + 1, 22 - left.len() as u64));
    assert_eq!(names(&dest).len(), 21);
    assert!(fs::read(dest.join("long")).unwrap() == long);
}

#[test]
fn names_that_would_leave_the_target_are_problems_and_nothing_is_written_outside() {
    let mut repo = TestRepo::new();
    repo.run(&[
        ("..", Node::bytes(b"x")),
        ("a/../../evil", Node::bytes(b"x")),
        ("l", Node::link("..")),
        ("l/evil", Node::bytes(b"x")),
        ("no-dir/f", Node::bytes(b"x")),
        ("good", Node::bytes(b"x")),
    ]);
    let report = folder(&mut repo, "", None).unwrap();
    assert_eq!(problem_paths(&report), ["..", "a/../../evil", "l/evil", "no-dir/f"]);
    assert_eq!(report.exit(), Exit::Damage);
    assert!(report.problems.iter().all(|problem| problem.op == ProblemOp::Write));
    assert_eq!(names(&repo.dir.path().join("out")), ["good", "l"]);
    assert!(!repo.dir.path().join("evil").exists());
}

#[test]
fn a_link_whose_first_name_is_in_the_way_becomes_the_first_itself() {
    let mut repo = TestRepo::new();
    let node = || Node::File(FileNode::of(b"x").linked(5));
    repo.run(&[("a", node()), ("b", node()), ("c", node())]);
    fs::create_dir_all(out(&repo, "a/full")).unwrap();
    let report = folder(&mut repo, "", Some(Overwrite::Always)).unwrap();
    assert_eq!(problem_paths(&report), ["a"]);
    assert_eq!((report.files, report.hardlinks), (1, 1));
    let ino = |name| fs::metadata(out(&repo, name)).unwrap().ino();
    assert_eq!(ino("b"), ino("c"));
}

#[test]
fn a_stored_file_with_the_markers_name_is_restored_too() {
    let mut repo = TestRepo::new();
    repo.run(&[(".raidtape-restore", Node::bytes(b"mine"))]);
    assert_eq!(folder(&mut repo, "", None).unwrap().exit(), Exit::Done);
    assert_eq!(names(&out(&repo, "")), [".raidtape-restore"]);
    assert_eq!(fs::read(out(&repo, ".raidtape-restore")).unwrap(), b"mine");
}

#[test]
fn a_name_that_shares_its_groups_number_but_not_its_bytes_is_a_file_of_its_own() {
    let mut repo = TestRepo::new();
    let node = |bytes: &[u8]| Node::File(FileNode::of(bytes).linked(5));
    repo.run(&[
        ("a", node(b"of an earlier run")),
        ("b", node(b"now")),
        ("c", node(b"now")),
        ("d", node(b"of an earlier run")),
    ]);
    let report = folder(&mut repo, "", None).unwrap();
    assert_eq!((report.files, report.hardlinks, report.exit()), (2, 2, Exit::Done));
    for (name, bytes) in [("a", "of an earlier run"), ("b", "now"), ("c", "now"), ("d", "of an earlier run")] {
        assert_eq!(fs::read_to_string(out(&repo, name)).unwrap(), bytes, "{name}");
    }
    let ino = |name: &str| fs::metadata(out(&repo, name)).unwrap().ino();
    assert_eq!((ino("a"), ino("b")), (ino("d"), ino("c")));
}
