//! Stored bytes go bad, every kind of file in every one of its regions: `validate` names exactly what is damaged, no
//! command panics, and a restore gives the right bytes or refuses and names the file.

use crate::forge::limited;
use crate::util::bench::{Bench, Said};
use crate::util::needs::{has_tools, long_tests_factor};
use crate::util::oracle::{Snapshot, snapshot};
use crate::util::tree::{Rng, set_mode, write};
use raidtape::format::container::SegmentHeader;
use raidtape::format::label::Label;
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Two runs on one volume, with sidecars.
struct Ready {
    bench: Bench,
    runs: Vec<Snapshot>,
    catalog: Vec<u8>,
}

/// What may be done to a stored file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Flip(u64),
    /// All but so many bytes are left.
    Cut(u64),
    Empty,
    Append,
    Delete,
}

fn ready() -> Option<Ready> {
    if !has_tools(&["timeout", "prlimit"]) {
        return None;
    }
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    let mut rng = Rng(11);
    write(&bench.src(), "text", &rng.text(3000));
    write(&bench.src(), "d/noise", &rng.bytes(3000));
    let mut runs = Vec::new();
    bench.backup();
    runs.push(snapshot(&bench.src()));
    write(&bench.src(), "d/later", &rng.bytes(2000));
    write(&bench.src(), "text", &rng.text(4000));
    bench.backup();
    runs.push(snapshot(&bench.src()));
    bench.run(&["genmeta"]).with_code(0);
    bench.run(&["validate"]).with_code(0);
    let conn = rusqlite::Connection::open(bench.path("backup.cat")).unwrap();
    conn.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(())).unwrap();
    drop(conn);
    let catalog = fs::read(bench.path("backup.cat")).unwrap();
    Some(Ready { bench, runs, catalog })
}

impl Ready {
    /// Files below a folder of the volume, in order.
    fn files(&self, folder: &str) -> Vec<PathBuf> {
        let all = walkdir::WalkDir::new(self.bench.path("disk1").join(folder)).sort_by_file_name();
        let files = all.into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
        files.map(walkdir::DirEntry::into_path).collect()
    }

    fn put_catalog(&self, bytes: &[u8]) {
        for end in ["-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(self.bench.path(format!("backup.cat{end}")));
        }
        fs::write(self.bench.path("backup.cat"), bytes).unwrap();
    }

    fn validate(&self) -> Said {
        limited(&self.bench, &["--no-progress", "validate"])
    }

    /// Does harm to a file, looks, and puts everything back.
    fn harmed(&self, path: &Path, harm: Harm, look: impl FnOnce()) {
        let (sound, mode) = (fs::read(path).unwrap(), fs::metadata(path).unwrap().permissions());
        set_mode(path, 0o600);
        let mut bytes = sound.clone();
        match harm {
            Harm::Flip(at) => bytes[at as usize] ^= 0x10,
            Harm::Cut(by) => bytes.truncate(bytes.len() - by as usize),
            Harm::Empty => bytes.clear(),
            Harm::Append => bytes.extend(b"and more"),
            Harm::Delete => {}
        }
        fs::write(path, bytes).unwrap();
        if harm == Harm::Delete {
            fs::remove_file(path).unwrap();
        }
        look();
        let _ = fs::remove_file(path);
        fs::write(path, sound).unwrap();
        fs::set_permissions(path, mode).unwrap();
        self.put_catalog(&self.catalog);
    }

    /// Every run comes back right, or what is missing of it is named and nothing lies under its name.
    fn assert_right_or_refused(&self, what: &str, codes: &[i32]) {
        for (index, tree) in self.runs.iter().enumerate() {
            let dest = self.bench.fresh("reverted");
            let run = (index + 1).to_string();
            let said = limited(&self.bench, &["revert-to-run".as_ref(), run.as_ref(), dest.as_os_str()]);
            assert!(codes.contains(&said.code), "{what}: run {run}: {said:#?}");
            if dest.exists() {
                assert_tree((&snapshot(&dest), tree), &said, &format!("{what}: run {run}"));
                fs::remove_dir_all(dest).unwrap();
            } else {
                assert_ne!(said.code, 0);
            }
        }
    }

    fn rebuilt_runs(&self, code: i32) -> u64 {
        let args = ["--catalog", "rebuilt.cat", "--json", "--no-progress", "rebuild-catalog", "--volume", "disk1"];
        let report = limited(&self.bench, &args).with_code(code).summary();
        for end in ["", "-wal", "-shm", ".lock"] {
            let _ = fs::remove_file(self.bench.path(format!("rebuilt.cat{end}")));
        }
        report["runs"].as_u64().unwrap()
    }
}

fn assert_tree((found, wanted): (&Snapshot, &Snapshot), said: &Said, what: &str) {
    if said.code == 0 {
        return found.assert_is(wanted, what);
    }
    for (path, node) in wanted.0.iter().filter(|(_, node)| node.kind == 'f') {
        let shown = String::from_utf8_lossy(path);
        match found.0.get(path) {
            Some(there) => assert_eq!(there.content, node.content, "{what}: {shown}: {said:#?}"),
            None => assert!(said.err.contains(&*shown) || said.code != 4, "{what}: {shown}: {said:#?}"),
        }
    }
    for path in found.0.keys() {
        let name = String::from_utf8_lossy(path);
        assert!(wanted.0.contains_key(path) || name == ".raidtape-restore", "{what}: {name}: {said:#?}");
    }
}

/// Some offsets of a region; more of them when there is more time.
fn some(range: Range<u64>, count: u64) -> impl Iterator<Item = u64> {
    let len = range.end - range.start;
    let step = (len / (count * long_tests_factor())).max(1);
    (range.start..range.end).step_by(step as usize)
}

/// The regions of a container, by name.
fn regions(path: &Path) -> Vec<(String, Range<u64>)> {
    let bytes = fs::read(path).unwrap();
    let end = bytes.len() as u64 - 64;
    let mut found = vec![("header".to_owned(), 0..96)];
    let mut at = 96;
    while at < end {
        let header = SegmentHeader::decode(&bytes[at as usize..]).unwrap();
        let body = at + 32..at + 32 + u64::from(header.stored_len);
        found.push((format!("header of segment {}", header.index), at..body.start));
        found.push((format!("segment {} of kind {}", header.index, header.kind), body.clone()));
        at = body.end;
    }
    found.push(("trailer".to_owned(), end..end + 64));
    found
}

fn other_harms(path: &Path) -> [Harm; 5] {
    let len = path.metadata().unwrap().len();
    [Harm::Cut(1), Harm::Cut(len - 1), Harm::Empty, Harm::Append, Harm::Delete]
}

#[test]
fn a_byte_in_any_region_of_any_block_is_found_named_and_does_no_harm() {
    let Some(ready) = ready() else { return };
    let blocks = ready.files("chunks");
    assert!(blocks.len() >= 2);
    let mut counts = BTreeMap::new();
    for block in &blocks {
        let name = block.file_name().unwrap().to_string_lossy().into_owned();
        let mut look = |region: &str, harm: Harm| {
            let what = format!("{region} of block {name}: {harm:?}");
            ready.harmed(block, harm, || {
                ready.assert_right_or_refused(&what, &[0, 4]);
                let said = ready.validate();
                assert!(said.code == 4 && said.out.ends_with("1 blocks damaged\n"), "{what}: {said:#?}");
                for other in &blocks {
                    let other = other.file_name().unwrap().to_string_lossy();
                    assert_eq!(said.err.contains(&*other), other == name, "{what}: {said:#?}");
                }
                // With what validate wrote down it is the same.
                ready.assert_right_or_refused(&what, &[0, 4]);
            });
            *counts.entry(region.to_owned()).or_insert(0) += 1;
        };
        for (region, range) in regions(block) {
            some(range, 8).for_each(|at| look(&region, Harm::Flip(at)));
        }
        other_harms(block).into_iter().for_each(|harm| look("whole", harm));
    }
    ready.validate().with_code(0);
    println!("blocks: {counts:?}");
}

#[test]
fn a_byte_in_any_region_of_any_record_is_found_named_and_costs_no_run() {
    let Some(ready) = ready() else { return };
    let mut count = 0;
    for record in ready.files("runs") {
        let name = record.file_name().unwrap().to_string_lossy().into_owned();
        let run: i64 = name.split('-').next().unwrap().parse().unwrap();
        let mut look = |region: &str, harm: Harm| {
            let what = format!("{region} of record {name}: {harm:?}");
            ready.harmed(&record, harm, || {
                let said = ready.validate();
                // A second file and a full record are extra: without them nothing is missing.
                let is_extra = name.contains(".2.") || name.contains(".full.");
                if harm == Harm::Delete && is_extra {
                    assert_eq!(said.code, 0, "{what}: {said:#?}");
                } else {
                    assert!(said.code == 4 && said.err.contains(&format!("record of run {run}")), "{what}: {said:#?}");
                    assert!(!said.err.contains(&format!("record of run {}", 3 - run)), "{what}: {said:#?}");
                }
                ready.assert_right_or_refused(&what, &[0]);
                assert_eq!(ready.rebuilt_runs(0), 2, "{what}");
            });
            count += 1;
        };
        for (region, range) in regions(&record) {
            some(range, 2).for_each(|at| look(&region, Harm::Flip(at)));
        }
        other_harms(&record).into_iter().for_each(|harm| look("whole", harm));
    }
    ready.validate().with_code(0);
    println!("records: {count} harms");
}

#[test]
fn a_byte_of_the_label_is_found_and_its_volume_not_used() {
    let Some(ready) = ready() else { return };
    let path = ready.bench.path("disk1/raidtape-volume.json");
    let sound = fs::read(&path).unwrap();
    let len = sound.len() as u64;
    let (mut refused, mut same) = (0, 0);
    for harm in some(0..len, 60).map(Harm::Flip).chain(other_harms(&path)) {
        let what = format!("label: {harm:?}");
        ready.harmed(&path, harm, || {
            let now = fs::read(&path).ok();
            let means_the_same = now.is_some_and(|now| Label::decode(&now) == Label::decode(&sound));
            let said = ready.validate();
            if means_the_same {
                same += 1;
                assert_eq!(said.code, 0, "{what}: {said:#?}");
                return ready.assert_right_or_refused(&what, &[0]);
            }
            refused += 1;
            assert!([4, 5].contains(&said.code) && said.err.contains("disk1"), "{what}: {said:#?}");
            ready.assert_right_or_refused(&what, &[5]);
            let said = limited(&ready.bench, &["backup", "src"]);
            assert!([2, 5].contains(&said.code) && said.err.contains("disk1"), "{what}: {said:#?}");
        });
    }
    println!("label: {refused} harms refused, {same} that mean the same");
    assert!(refused > 40);
}

#[test]
fn a_byte_of_an_index_or_a_sidecar_costs_nothing() {
    let Some(ready) = ready() else { return };
    let index = ready.bench.path("disk1/index.db");
    let mut count = 0;
    for path in ready.files("meta").into_iter().chain([index]) {
        let len = path.metadata().unwrap().len();
        for harm in some(0..len, 15).map(Harm::Flip).chain(other_harms(&path)) {
            ready.harmed(&path, harm, || {
                let what = format!("{}: {harm:?}", path.display());
                let said = ready.validate();
                assert!(said.code == 0 && said.out.ends_with("All good\n"), "{what}: {said:#?}");
                ready.assert_right_or_refused(&what, &[0]);
                limited(&ready.bench, &["genmeta"]).with_code(0);
                assert_eq!(ready.rebuilt_runs(0), 2, "{what}");
            });
            count += 1;
        }
    }
    println!("index and sidecars: {count} harms");
}

#[test]
fn a_byte_of_the_catalog_is_never_a_panic_and_never_a_wrong_content() {
    let Some(ready) = ready() else { return };
    let contents: Vec<&Vec<u8>> = ready
        .runs
        .iter()
        .flat_map(|tree| tree.0.values())
        .filter(|node| node.kind == 'f')
        .map(|node| &node.content)
        .collect();
    let len = ready.catalog.len() as u64;
    // Pages that hold nothing cannot be told from the outside: every byte that is not zero counts.
    let used: Vec<u64> = (0..len).filter(|at| ready.catalog[*at as usize] != 0).collect();
    let (mut codes, mut silent) = (BTreeMap::new(), 0);
    for index in some(0..used.len() as u64, 120) {
        let mut bytes = ready.catalog.clone();
        bytes[used[index as usize] as usize] ^= 1 << (index % 8);
        ready.put_catalog(&bytes);
        let what = format!("catalog byte {}", used[index as usize]);
        let mut is_right = true;
        for (number, tree) in ready.runs.iter().enumerate() {
            let dest = ready.bench.fresh("reverted");
            let run = (number + 1).to_string();
            let said = limited(&ready.bench, &["revert-to-run".as_ref(), run.as_ref(), dest.as_os_str()]);
            *codes.entry(("revert-to-run", said.code)).or_insert(0) += 1;
            if dest.exists() {
                let found = snapshot(&dest);
                for (path, node) in
                    found.0.iter().filter(|(path, node)| node.kind == 'f' && !path.starts_with(b".raid"))
                {
                    let shown = String::from_utf8_lossy(path);
                    assert!(
                        contents.contains(&&node.content),
                        "{what}: {shown} has bytes that were never saved: {said:#?}"
                    );
                }
                is_right &= said.code != 0 || &found == tree;
                fs::remove_dir_all(dest).unwrap();
            }
        }
        let said = ready.validate();
        *codes.entry(("validate", said.code)).or_insert(0) += 1;
        silent += u64::from(!is_right && said.code == 0);
        for command in [&["ls"][..], &["runs"], &["volumes"], &["genmeta"]] {
            limited(&ready.bench, command);
        }
        // A rebuild makes up for it, whatever it was.
        if index % 7 == 0 {
            limited(&ready.bench, &["rebuild-catalog", "--volume", "disk1"]).with_code(0);
            ready.assert_right_or_refused(&what, &[0]);
        }
    }
    println!("catalog: {codes:?}; names, times or modes that differ with nobody saying so: {silent}");
}

#[test]
fn lost_folders_and_blocks_in_each_others_place_are_named_one_by_one() {
    let Some(ready) = ready() else { return };
    let blocks = ready.files("chunks");
    for block in &blocks {
        let folder = block.parent().unwrap().parent().unwrap().to_owned();
        let inside: Vec<_> = blocks.iter().filter(|other| other.starts_with(&folder)).collect();
        fs::rename(&folder, ready.bench.path("away")).unwrap();
        let said = ready.validate();
        assert!(said.code == 4 && said.out.ends_with(&format!("{} blocks damaged\n", inside.len())), "{said:#?}");
        assert!(inside.iter().all(|block| said.err.contains(&*block.file_name().unwrap().to_string_lossy())));
        ready.assert_right_or_refused("a lost folder", &[0, 4]);
        fs::rename(ready.bench.path("away"), &folder).unwrap();
        ready.put_catalog(&ready.catalog);
    }
    fs::rename(&blocks[0], ready.bench.path("away")).unwrap();
    fs::rename(&blocks[1], &blocks[0]).unwrap();
    fs::rename(ready.bench.path("away"), &blocks[1]).unwrap();
    ready.assert_right_or_refused("swapped", &[4]);
    let said = ready.validate();
    assert!(said.code == 4 && said.out.ends_with("2 blocks damaged\n"), "{said:#?}");
    ready.assert_right_or_refused("swapped and told", &[4]);
    fs::remove_dir_all(ready.bench.path("disk1/chunks")).unwrap();
    let said = ready.validate();
    assert!(said.code == 4 && said.out.ends_with(&format!("{} blocks damaged\n", blocks.len())), "{said:#?}");
    ready.assert_right_or_refused("no blocks at all", &[4]);
    // The source still has all of it.
    ready.bench.backup();
    ready.bench.assert_reverts(3, &snapshot(&ready.bench.src()));
}
