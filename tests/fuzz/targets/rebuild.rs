//! A manifest on a volume beside sound ones: whatever it says, the catalog is brought back with the sound runs in it.

use super::mend;
use raidtape::engine::observer::Silent;
use raidtape::engine::rebuild_catalog::{RebuildOptions, rebuild_catalog};
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

/// The run whose record is replaced by what the target is given.
pub const RECORD: &str = "runs/0000000003-8e140b7f-7c5d-43a0-bb8a-fc383e1b855b.manifest";

/// A copy of the oldest volume there is, in which run 3 has one record only.
struct Volume {
    home: tempfile::TempDir,
}

thread_local! {
    static VOLUME: RefCell<Option<Volume>> = const { RefCell::new(None) };
}

/// The volume that the copies are made of.
pub fn fixture() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let from_root = here.join("tests/format/fixtures/v1");
    if from_root.is_dir() { from_root } else { here.join("../format/fixtures/v1") }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

impl Volume {
    fn new() -> Self {
        let shared = Path::new("/dev/shm");
        let home = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
        let volume = Self { home: home.expect("a folder") };
        copy(&fixture(), &volume.path());
        for other in [".2.manifest", ".full.manifest"] {
            fs::remove_file(volume.path().join(RECORD.replace(".manifest", other))).expect("a record");
        }
        volume
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("volume")
    }
}

/// The record of run 3, with right checksums.
pub fn rebuild(data: &[u8]) {
    let mut record = data.to_vec();
    mend(&mut record);
    VOLUME.with_borrow_mut(|volume| {
        let volume = volume.get_or_insert_with(Volume::new);
        fs::write(volume.path().join(RECORD), record).expect("a record");
        let catalog = volume.home.path().join("catalog");
        let report = rebuild_catalog(&catalog, &RebuildOptions { volumes: vec![volume.path()] }, &Silent);
        let report = report.expect("the sound runs are brought back");
        assert!(report.runs >= 2 && report.blocks == 2, "{report:?}");
        assert_eq!(report.runs as usize + report.unreachable_runs.len(), 3, "{report:?}");
        for entry in fs::read_dir(volume.home.path()).expect("a folder").map(|entry| entry.expect("an entry")) {
            if entry.path().is_file() {
                fs::remove_file(entry.path()).expect("a catalog");
            }
        }
    });
}
