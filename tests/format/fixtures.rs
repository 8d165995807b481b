//! Volumes that released versions wrote: each must rebuild and restore for good. They are added to, never edited.

use raidtape::engine::genmeta::{GenmetaOptions, genmeta};
use raidtape::engine::observer::Silent;
use raidtape::engine::rebuild_catalog::{RebuildOptions, RebuildReport, rebuild_catalog};
use raidtape::engine::repository::{Access, Repository};
use raidtape::engine::restore::{RestoreHow, RevertOptions, revert_to_run};
use raidtape::engine::validate::{Level, ValidateOptions, validate};
use raidtape::model::ids::RunSeq;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A copy of a fixture's volume, and the catalog that was rebuilt from it.
struct Rebuilt {
    home: TempDir,
    repository: Repository,
    report: RebuildReport,
}

/// What lies at a path: the word of its kind, permission bits, time, and what it holds.
type Tree = BTreeMap<Vec<u8>, (&'static str, u32, i128, Vec<u8>)>;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

impl Rebuilt {
    fn from(name: &str) -> Self {
        let rebuilt = Self::without(name, |_| false);
        let report = &rebuilt.report;
        assert!(report.unreachable_runs.is_empty() && report.warnings.is_empty(), "{report:?}");
        assert_eq!((report.runs, report.sources, report.blocks, report.blocks_missing), (3, 1, 2, 0));
        rebuilt
    }

    /// From a volume that lost the manifests of which `is_lost` is true.
    fn without(name: &str, is_lost: fn(&str) -> bool) -> Self {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format/fixtures");
        let home = tempfile::tempdir().unwrap();
        let volume = home.path().join("volume");
        copy(&fixtures.join(name), &volume);
        for entry in std::fs::read_dir(volume.join("runs")).unwrap() {
            let path = entry.unwrap().path();
            if is_lost(&path.file_name().unwrap().to_string_lossy()) {
                std::fs::remove_file(path).unwrap();
            }
        }
        let catalog = home.path().join("backup.cat");
        let report = rebuild_catalog(&catalog, &RebuildOptions { volumes: vec![volume] }, &Silent).unwrap();
        let repository = Repository::open(&catalog, &[], Access::Write).unwrap();
        Self { home, repository, report }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn restored(&mut self, run: i64) -> Tree {
        let dest = self.path(&format!("run{run}"));
        let options = RevertOptions {
            run: RunSeq(run),
            dest: dest.clone(),
            overwrite: None,
            workers: None,
            how: RestoreHow::default(),
        };
        let report = revert_to_run(&mut self.repository, &options, &Silent).unwrap();
        assert!(report.problems.is_empty() && report.inconsistent.is_empty(), "{report:?}");
        let mut tree = Tree::new();
        read(&dest, b"", &mut tree);
        tree
    }
}

fn read(dir: &Path, inside: &[u8], tree: &mut Tree) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().as_bytes();
        let inside = if inside.is_empty() { name.to_vec() } else { [inside, b"/", name].concat() };
        let meta = path.symlink_metadata().unwrap();
        let kind = meta.file_type();
        let (word, bytes) = if kind.is_dir() {
            ("dir", Vec::new())
        } else if kind.is_symlink() {
            ("symlink", std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec())
        } else if kind.is_fifo() {
            ("fifo", Vec::new())
        } else {
            ("file", std::fs::read(&path).unwrap())
        };
        let mtime_ns = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        tree.insert(inside.clone(), (word, meta.permissions().mode() & 0o7777, mtime_ns, bytes));
        if kind.is_dir() {
            read(&path, &inside, tree);
        }
    }
}

const OLD_NS: i128 = 981_173_106_123_456_789;
const NEW_NS: i128 = 1_015_218_367_500_000_000;

/// What was backed up in run 1 of fixture `v1`.
fn first_tree() -> Tree {
    let text: String = (1..=4000).map(|number| format!("line {number} of a longer text\n")).collect();
    let hole = [vec![0; 65_536], b"behind a hole\n".to_vec()].concat();
    let entries: [(&[u8], &'static str, u32, Vec<u8>); 14] = [
        (b"hello", "file", 0o640, b"hello, tape\n".to_vec()),
        (b"empty", "file", 0o600, Vec::new()),
        (b"zeros", "file", 0o644, vec![0; 1 << 20]),
        (b"name-\xff", "file", 0o644, b"x".to_vec()),
        (b"void", "dir", 0o1777, Vec::new()),
        (b"sub", "dir", 0o755, Vec::new()),
        (b"sub/hard", "file", 0o640, b"hello, tape\n".to_vec()),
        (b"sub/soft", "symlink", 0o777, b"../hello".to_vec()),
        (b"sub/pipe", "fifo", 0o644, Vec::new()),
        (b"sub/hole", "file", 0o644, hole),
        (b"sub/gone", "file", 0o644, b"soon gone\n".to_vec()),
        (b"sub/will-change", "file", 0o644, b"one line\n".to_vec()),
        (b"sub/deep", "dir", 0o755, Vec::new()),
        (b"sub/deep/text", "file", 0o4755, text.into_bytes()),
    ];
    entries.into_iter().map(|(path, kind, mode, bytes)| (path.to_vec(), (kind, mode, OLD_NS, bytes))).collect()
}

/// And in run 2.
fn second_tree() -> Tree {
    let mut tree = first_tree();
    tree.remove(&b"sub/gone"[..]);
    tree.insert(b"new".to_vec(), ("file", 0o644, NEW_NS, b"late\n".to_vec()));
    let changed = b"one line\nanother line\n".to_vec();
    tree.insert(b"sub/will-change".to_vec(), ("file", 0o644, NEW_NS, changed));
    tree.insert(b"sub".to_vec(), ("dir", 0o755, NEW_NS, Vec::new()));
    tree.insert(b"sub/deep".to_vec(), ("dir", 0o700, OLD_NS, Vec::new()));
    tree
}

/// And in run 3.
fn third_tree() -> Tree {
    let mut tree = second_tree();
    tree.insert(b"sub/soft".to_vec(), ("symlink", 0o777, NEW_NS, b"elsewhere".to_vec()));
    for (path, mode) in [(&b"zeros"[..], 0o400), (b"sub/hole", 0o600)] {
        tree.get_mut(path).unwrap().1 = mode;
    }
    tree
}

#[track_caller]
fn assert_tree(found: &Tree, expected: &Tree) {
    let names = |tree: &Tree| tree.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for (path, right) in expected {
        assert!(found.get(path) == Some(right), "{}", OsStr::from_bytes(path).display());
    }
}

#[test]
fn every_run_of_format_1_is_restored_from_its_volume_alone() {
    let mut rebuilt = Rebuilt::from("v1");
    assert_tree(&rebuilt.restored(1), &first_tree());
    assert_tree(&rebuilt.restored(2), &second_tree());
    assert_tree(&rebuilt.restored(3), &third_tree());
    // That release did not record what was asked for.
    assert_eq!(raidtape::catalog::runs::asked(rebuilt.repository.catalog.conn(), RunSeq(1)).unwrap(), None);
    let inode = |name: &str| rebuilt.path("run2").join(name).metadata().unwrap().ino();
    assert_eq!(inode("hello"), inode("sub/hard"));
}

#[test]
fn a_full_record_of_format_1_makes_up_for_lost_deltas() {
    let mut rebuilt = Rebuilt::without("v1", |name| !name.contains(".full.") && !name.starts_with("0000000001"));
    assert_eq!((rebuilt.report.runs, rebuilt.report.blocks_missing), (2, 0));
    assert_tree(&rebuilt.restored(1), &first_tree());
    assert_tree(&rebuilt.restored(3), &third_tree());
}

#[test]
fn a_volume_of_format_1_is_sound_to_its_last_chunk() {
    let mut rebuilt = Rebuilt::from("v1");
    let options = ValidateOptions { level: Level::Deep, ..ValidateOptions::default() };
    let report = validate(&mut rebuilt.repository, &options, &Silent).unwrap();
    assert!(!report.has_damage() && report.index_problems.len() <= 1, "{report:?}");
    assert_eq!((report.blocks_checked, report.manifests_checked), (2, 7));
}

#[test]
fn sidecars_of_format_1_are_written_again_to_the_same_bytes() {
    let mut rebuilt = Rebuilt::from("v1");
    let meta = rebuilt.path("volume/meta");
    let sidecars = || -> BTreeMap<_, _> {
        let entries = std::fs::read_dir(&meta).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    };
    let released = sidecars();
    released.keys().for_each(|path| std::fs::remove_file(path).unwrap());
    let report = genmeta(&mut rebuilt.repository, &GenmetaOptions::default(), &Silent).unwrap();
    assert_eq!((report.written, released.len()), (2, 2));
    assert_eq!(sidecars(), released);
}
