//! Damage: what was done to stored bytes, and what may be lost by it.

use super::life::Life;
use super::ops::{Harm, Level, Source};
use crate::util::oracle::Snapshot;
use crate::util::tree::{flip, set_mode};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Hash = Vec<u8>;

/// A block that is not what it was.
struct Harmed {
    /// Which one it was: names of blocks are not the same in every life.
    number: u64,
    path: PathBuf,
    /// What it was.
    bytes: Vec<u8>,
    /// A look at its length is enough to see it.
    is_obvious: bool,
    /// The catalog knows.
    is_marked: bool,
    /// Contents of which a part may lie here and nowhere else.
    suspects: BTreeSet<Hash>,
}

/// A file that `validate` named: its source, its path, the first and the last run that have it.
type Named = (Source, Vec<u8>, i64, Option<i64>);

#[derive(Default)]
pub struct Damage {
    /// By name; a volume is part of the path.
    blocks: BTreeMap<String, Harmed>,
    /// Records of runs: volume and run.
    records: BTreeSet<(String, i64)>,
    /// What the last thorough look at everything named.
    named: Vec<Named>,
    /// All contents that may lie in some block.
    stored: BTreeSet<Hash>,
}

/// The contents of a tree's files.
fn contents(tree: &Snapshot) -> impl Iterator<Item = &Hash> {
    tree.0.values().filter(|node| node.kind == 'f').map(|node| &node.content)
}

impl Damage {
    /// A backup began: what it stores may count on what is harmed and not marked.
    pub fn tried(&mut self, tree: &Snapshot) {
        self.stored.extend(contents(tree).cloned());
        for block in self.blocks.values_mut().filter(|block| !block.is_marked) {
            block.suspects.extend(contents(tree).cloned());
        }
    }

    /// A backup went well: what it saw is stored soundly, but for what it had no reason to doubt.
    pub fn saved(&mut self, tree: &Snapshot) {
        self.tried(tree);
        for block in self.blocks.values_mut().filter(|block| block.is_marked) {
            contents(tree).for_each(|hash| {
                block.suspects.remove(hash);
            });
        }
    }

    /// The catalog is another one.
    pub fn forget_marks(&mut self) {
        self.blocks.values_mut().for_each(|block| block.is_marked = false);
    }

    pub fn has_blocks(&self) -> bool {
        !self.blocks.is_empty()
    }

    pub fn may_be_lost(&self, content: &Hash) -> bool {
        self.blocks.values().any(|block| block.suspects.contains(content))
    }

    /// The files of a run that `validate` named last.
    pub fn named_of(&self, run: i64, source: Source) -> BTreeSet<Vec<u8>> {
        let of_run = self
            .named
            .iter()
            .filter(|(of, _, first, last)| *of == source && *first <= run && last.is_none_or(|last| run <= last));
        of_run.map(|(_, path, ..)| path.clone()).collect()
    }
}

fn do_harm(path: &Path, harm: Harm) {
    let len = path.metadata().unwrap().len();
    match harm {
        Harm::Delete => fs::remove_file(path).unwrap(),
        Harm::Flip(at) if len > 0 => flip(path, len * u64::from(at) / 100),
        Harm::Flip(_) => {}
        Harm::Truncate => {
            set_mode(path, 0o600);
            fs::File::options().write(true).open(path).unwrap().set_len(len / 2).unwrap();
        }
    }
}

fn nth<T>(mut all: Vec<T>, nth: u8) -> Option<T> {
    let at = usize::from(nth).checked_rem(all.len())?;
    Some(all.swap_remove(at))
}

impl Life {
    pub fn harm_block(&mut self, number: u8, harm: Harm) {
        let here = self.here();
        let all = here.iter().flat_map(|disk| self.bench.blocks(disk));
        let mut sound: Vec<_> = all.filter(|(name, _)| !self.damage.blocks.contains_key(name)).collect();
        // Names differ from life to life, but the order in which they came does not.
        sound.sort_by_key(|(_, path)| (path.metadata().unwrap().modified().unwrap(), path.clone()));
        let Some((name, path)) = nth(sound, number) else { return };
        let bytes = fs::read(&path).unwrap();
        do_harm(&path, harm);
        self.tally.harmed += 1;
        let number = self.tally.harmed;
        let is_obvious = !matches!(harm, Harm::Flip(_));
        let suspects = self.damage.stored.clone();
        self.damage.blocks.insert(name, Harmed { number, path, bytes, is_obvious, is_marked: false, suspects });
    }

    pub fn mend_block(&mut self, number: u8) {
        let here = self.here();
        let is_here = |block: &Harmed| here.iter().any(|disk| block.path.starts_with(self.bench.path(disk)));
        let mut all: Vec<_> = self.damage.blocks.iter().filter(|(_, block)| is_here(block)).collect();
        all.sort_by_key(|(_, block)| block.number);
        let Some(name) = nth(all, number).map(|(name, _)| name.clone()) else { return };
        if let Some(block) = self.damage.blocks.remove(&name) {
            let _ = fs::remove_file(&block.path);
            fs::write(&block.path, block.bytes).unwrap();
            set_mode(&block.path, 0o400);
        }
    }

    /// The names of the sound records of runs on a volume: not second files and not full ones.
    fn sound_records(&self, disk: &str) -> Vec<(i64, String)> {
        let Ok(entries) = fs::read_dir(self.bench.path(disk).join("runs")) else { return Vec::new() };
        let mut found = Vec::new();
        for name in entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
            let Some((stem, run)) = name.strip_suffix(".manifest").zip(name.split('-').next()) else { continue };
            let run = run.parse().unwrap();
            if !stem.contains('.') && !self.damage.records.contains(&(disk.to_owned(), run)) {
                found.push((run, name));
            }
        }
        found.sort();
        found
    }

    /// Whether a volume that is here holds the record of a run soundly.
    pub fn has_record(&self, run: i64) -> bool {
        self.here().iter().any(|disk| self.sound_records(disk).iter().any(|(of, _)| *of == run))
    }

    pub fn harm_record(&mut self, number: u8) {
        let here = self.here();
        let mut twice = Vec::new();
        for disk in &here {
            for (run, name) in self.sound_records(disk) {
                let is_elsewhere =
                    |other: &&String| *other != disk && self.sound_records(other).contains(&(run, name.clone()));
                if self.runs.contains_key(&run) && here.iter().any(|other| is_elsewhere(&other)) {
                    twice.push((disk.clone(), run, name));
                }
            }
        }
        let Some((disk, run, name)) = nth(twice, number) else { return };
        let path = self.bench.path(&disk).join("runs").join(name);
        flip(&path, path.metadata().unwrap().len() * u64::from(number % 100) / 100);
        self.tally.harmed += 1;
        self.damage.records.insert((disk, run));
    }

    pub fn harm_index(&mut self, number: u8, harm: Harm) {
        let path = nth(self.here(), number).map(|disk| self.bench.path(disk).join("index.db"));
        if let Some(path) = path.filter(|path| path.exists()) {
            do_harm(&path, harm);
        }
    }

    pub fn harm_sidecar(&mut self, number: u8, harm: Harm) {
        let folders = self.here().into_iter().map(|disk| self.bench.path(disk).join("meta"));
        let mut all: Vec<_> =
            folders.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path()).collect();
        all.sort_by_key(|path: &PathBuf| (path.metadata().unwrap().modified().unwrap(), path.clone()));
        // One of the same length is taken for the one that was written.
        let harm = if matches!(harm, Harm::Flip(_)) { Harm::Truncate } else { harm };
        if let Some(path) = nth(all, number) {
            do_harm(&path, harm);
        }
    }

    /// `validate` names exactly the damage that there is.
    pub fn validate(&mut self, level: Level) {
        let how: &[&str] = match level {
            Level::Blocks => &[],
            Level::Quick => &["--quick"],
            Level::Deep => &["--deep"],
        };
        let said = self.bench.run(&[&["--json", "--no-progress", "validate"], how].concat());
        assert!([0, 4, 5].contains(&said.code), "{said:#?}");
        let report = said.summary();
        self.settle(None);
        for nothing in ["row_problems", "label_problems", "listing_problems"] {
            assert_eq!(report[nothing], serde_json::json!([]), "{nothing}: {said:#?}");
        }
        let records = self.check_records(&report, level);
        let blocks = self.check_blocks(&report, level);
        self.tally.told += (records + blocks) as u64;
        let wanted = match (records + blocks, self.away.len()) {
            (0, 0) => 0,
            (0, _) => 5,
            _ => 4,
        };
        assert_eq!(said.code, wanted, "{said:#?}");
        self.damage.named = if level == Level::Quick { Vec::new() } else { named(&report) };
    }

    /// What `validate` named last of a run is what a restore of it refuses. A chunk that lies nowhere but in a block
    /// that was given up may be named and come back all the same.
    pub fn check_named(&self, run: i64, refused: &BTreeSet<Vec<u8>>) {
        let named = self.damage.named_of(run, self.runs[&run].source);
        let given_up = self.texts("SELECT lower(hex(name)) FROM blocks WHERE state = 'condemned'");
        if !given_up.iter().any(|name| self.damage.blocks.contains_key(name)) {
            assert_eq!(refused, &named, "what validate named of run {run}");
        }
        assert!(refused.is_subset(&named), "refused of run {run}: {refused:?}, named: {named:?}");
        for path in &named {
            let is_doubtful =
                self.runs[&run].tree.0.get(path).is_some_and(|node| self.damage.may_be_lost(&node.content));
            assert!(is_doubtful, "nothing of {} in run {run} is lost", String::from_utf8_lossy(path));
        }
    }

    fn check_records(&self, report: &Value, level: Level) -> usize {
        let told: Vec<&str> =
            report["manifest_problems"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        let here = self.here();
        let wanted: Vec<String> = self
            .damage
            .records
            .iter()
            .filter(|(disk, _)| here.contains(disk))
            .map(|(disk, run)| format!("volume {disk}: the record of run {run}: "))
            .collect();
        // A volume may lack what was sound only on one that was away, until a backup finds both here.
        let (absent, told): (Vec<&str>, Vec<&str>) = told.into_iter().partition(|text| text.contains("it is missing"));
        for text in &absent {
            let lacks = |disk: &String, run: i64| {
                text.starts_with(&format!("volume {disk}: the record of run {run}: ")) && !self.lies_on(disk, run)
            };
            assert!(here.iter().any(|disk| self.runs.keys().any(|run| lacks(disk, *run))), "{text}");
        }
        for text in &told {
            assert!(wanted.iter().any(|wanted| text.starts_with(wanted)), "{text}: only {wanted:?}");
        }
        // A quick look reads no more than the head of a record.
        if level != Level::Quick {
            assert_eq!(told.len(), wanted.len(), "told {told:?} of {wanted:?}");
        }
        told.len() + absent.len()
    }

    /// Whether a volume has a record of a run, damaged or not.
    pub fn lies_on(&self, disk: &str, run: i64) -> bool {
        let mut names =
            fs::read_dir(self.bench.path(disk).join("runs")).unwrap().map(|entry| entry.unwrap().file_name());
        names.any(|name| name.to_string_lossy().starts_with(&format!("{run:010}-")))
    }

    fn check_blocks(&mut self, report: &Value, level: Level) -> usize {
        let told: BTreeSet<String> = report["damaged"]
            .as_array()
            .unwrap()
            .iter()
            .map(|block| block["block"].as_str().unwrap().to_owned())
            .collect();
        // What no version needs any more is not looked at.
        let looked_at = self.texts("SELECT lower(hex(name)) FROM blocks WHERE state IN ('ok', 'bad')");
        let here = self.here();
        let mut wanted = BTreeSet::new();
        for (name, block) in &self.damage.blocks {
            let is_here = here.iter().any(|disk| block.path.starts_with(self.bench.path(disk)));
            let is_seen = level != Level::Quick || block.is_obvious || block.is_marked;
            if is_here && is_seen && looked_at.contains(name) {
                wanted.insert(name.clone());
            }
        }
        assert_eq!(told, wanted, "the damaged blocks: {report:#}");
        for name in &told {
            self.damage.blocks.entry(name.clone()).and_modify(|block| block.is_marked = true);
        }
        told.len()
    }
}

fn named(report: &Value) -> Vec<Named> {
    let blocks = report["damaged"].as_array().unwrap().iter();
    let files = blocks.flat_map(|block| block["files"].as_array().unwrap());
    files
        .map(|file| {
            let source = if file["source"].as_str().unwrap().ends_with("/src") { Source::Src } else { Source::Other };
            let path = file["path"].as_str().unwrap().as_bytes().to_vec();
            (source, path, file["first_run"].as_i64().unwrap(), file["last_run"].as_i64())
        })
        .collect()
}
