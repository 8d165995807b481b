//! A life: a repository, and beside it the model of what it must be able to give back.

use super::files;
use super::harm::Damage;
use super::ops::{Catalog, Disks, How, Level, Op, Source, Stop, When, Writer};
use crate::util::bench::{Bench, Said};
use crate::util::changes::{assert_changes, listed_changes};
use crate::util::five::{assert_rebuilds, complete_runs};
use crate::util::oracle::{Snapshot, snapshot};
use crate::util::tree::write;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

/// What was counted in all lives.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub operations: u64,
    pub runs: u64,
    /// Backups that a signal ended, and those of them whose run was saved nevertheless.
    pub stopped: u64,
    pub saved_nevertheless: u64,
    /// Blocks and records that were damaged, and how often one was told.
    pub harmed: u64,
    pub told: u64,
    pub refused: u64,
    pub rebuilt: u64,
}

/// A content that changed behind its old time is seen by the inode's change time. Where a mode or a number of names
/// changed too, that explains the change time, and only `--strict-ctime` reads: this is how it is meant to be.
#[derive(Default, Clone, Copy)]
struct Doubt {
    is_overwritten_unseen: bool,
    is_explained: bool,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.runs += other.runs;
        self.stopped += other.stopped;
        self.saved_nevertheless += other.saved_nevertheless;
        self.harmed += other.harmed;
        self.told += other.told;
        self.refused += other.refused;
        self.rebuilt += other.rebuilt;
    }
}

/// A saved state of a source.
pub struct Saved {
    pub source: Source,
    pub tree: Snapshot,
}

pub struct Life {
    pub bench: Bench,
    /// Every volume's directory; all but those in `away` are here.
    pub disks: Vec<String>,
    pub away: BTreeSet<String>,
    /// The complete runs.
    pub runs: BTreeMap<i64, Saved>,
    /// What a stopped backup may have saved, until a command that writes has had the chance to complete it.
    pub maybe: Option<(Source, Snapshot)>,
    pub damage: Damage,
    /// What was done to each source since its last run.
    doubt: BTreeMap<&'static str, Doubt>,
    /// A volume is there that no run's record names.
    has_unrecorded: bool,
    /// An older catalog.
    copy: Option<Vec<u8>>,
    pub tally: Tally,
}

impl Source {
    pub fn name(self) -> &'static str {
        match self {
            Self::Src => "src",
            Self::Other => "other",
        }
    }
}

impl Life {
    pub fn new(disks: Disks) -> Self {
        let (names, init): (&[&str], &[&str]) = match disks {
            Disks::One => (&["disk1"], &["--block-size", "8M"]),
            Disks::Two => (&["disk1", "disk2"], &["--block-size", "8M"]),
            Disks::Sha256 => {
                (&["disk1", "disk2"], &["--block-size", "8M", "--hash-algo", "sha256", "--compression", "none"])
            }
        };
        let bench = Bench::in_memory().and_volumes(names, init);
        // An empty source is suspicious; that is a test of its own.
        write(&bench.src(), "always", b"here");
        write(&bench.path("other"), "always", b"there");
        Self {
            bench,
            disks: names.iter().map(|name| (*name).to_owned()).collect(),
            away: BTreeSet::new(),
            runs: BTreeMap::new(),
            maybe: None,
            damage: Damage::default(),
            doubt: BTreeMap::new(),
            has_unrecorded: true,
            copy: None,
            tally: Tally::default(),
        }
    }

    /// The volumes that are here.
    pub fn here(&self) -> Vec<String> {
        self.disks.iter().filter(|disk| !self.away.contains(*disk)).cloned().collect()
    }

    pub fn tree(&self, source: Source) -> Snapshot {
        snapshot(&self.bench.path(source.name()))
    }

    pub fn act(&mut self, op: &Op) {
        self.tally.operations += 1;
        if let Some(path) = files::act(&self.bench.path(""), op) {
            let doubt = self.doubt.entry(path.split('/').next().unwrap()).or_default();
            doubt.is_overwritten_unseen |= matches!(op, Op::OverwriteUnseen(..));
            doubt.is_explained |= !matches!(op, Op::OverwriteUnseen(..) | Op::Append(..) | Op::Insert(..));
            return;
        }
        match op {
            Op::TimePasses => self.time_passes(),
            Op::Backup(source, how) => self.backup(*source, *how),
            Op::StoppedBackup(source, stop, when) => self.stopped_backup(*source, *stop, *when),
            Op::RevertToRun(nth) => {
                if let Some(run) = self.nth_run(*nth) {
                    self.check_run(run);
                }
            }
            Op::RestoreFolder(nth, path) => self.restore_folder(*nth, path),
            Op::RestoreFile(nth, path) => self.restore_file(*nth, path),
            Op::Validate(level) => self.validate(*level),
            Op::Genmeta => self.genmeta(),
            Op::HarmBlock(nth, harm) => self.harm_block(*nth, *harm),
            Op::MendBlock(nth) => self.mend_block(*nth),
            Op::HarmRecord(nth) => self.harm_record(*nth),
            Op::HarmIndex(nth, harm) => self.harm_index(*nth, *harm),
            Op::HarmSidecar(nth, harm) => self.harm_sidecar(*nth, *harm),
            Op::AddVolume => self.add_volume(),
            Op::VolumeGoes => self.volume_goes(),
            Op::VolumeComesBack => self.volume_comes_back(),
            Op::CopyCatalog => self.copy_catalog(),
            Op::OlderCatalog(writer) => self.older_catalog(*writer),
            Op::RebuildCatalog(catalog) => self.rebuild(*catalog),
            _ => unreachable!("done with files"),
        }
    }

    pub fn nth_run(&self, nth: u8) -> Option<i64> {
        self.runs.keys().nth(usize::from(nth).checked_rem(self.runs.len())?).copied()
    }

    /// What is marked because an inode had changed just before it was looked at counts as looked at later: what
    /// changes from here on has another change time all the same.
    fn time_passes(&self) {
        let conn = rusqlite::Connection::open(self.bench.path("backup.cat")).unwrap();
        conn.execute("UPDATE live SET marks = marks & ~1", []).unwrap();
    }

    fn backup(&mut self, source: Source, how: How) {
        let how: &[&str] = match how {
            How::Plain => &[],
            How::SingleThreaded => &["--single-threaded"],
            How::Workers3 => &["--max-workers", "3"],
            How::StrictCtime => &["--strict-ctime"],
        };
        let mut how = how.to_vec();
        let care = self.care(source);
        if how != care {
            how.extend(care);
        }
        let tree = self.tree(source);
        let report = self.bench.json(&[&["backup", source.name()], &how[..]].concat(), 0);
        let run = report["run"].as_i64().unwrap();
        self.settle(Some((run, source, &tree)));
        self.tally.runs += 1;
        self.damage.saved(&tree);
        let prev = self.bench.json(&["list-changes", &run.to_string()], 0)["prev"].as_i64();
        let newest = self.runs.iter().rev().find(|(number, saved)| **number != run && saved.source == source);
        assert_eq!(prev, newest.map(|(number, _)| *number), "what run {run} is compared with");
        let before = newest.map(|(_, saved)| saved.tree.clone()).unwrap_or_default();
        assert_changes(&self.bench, &report, (&before, &tree));
    }

    /// The option without which a change may rightly be overlooked.
    fn care(&self, source: Source) -> &'static [&'static str] {
        match self.doubt.get(source.name()) {
            Some(Doubt { is_overwritten_unseen: true, is_explained: true }) => &["--strict-ctime"],
            _ => &[],
        }
    }

    /// Holds the complete runs against those that there must be: the known ones, what a stopped backup may have saved,
    /// and a new one. A command that writes came before, so nothing is open any more.
    pub fn settle(&mut self, new: Option<(i64, Source, &Snapshot)>) {
        let maybe = self.maybe.take();
        let found = complete_runs(&self.bench);
        let unknown: Vec<i64> = found
            .iter()
            .filter(|run| !self.runs.contains_key(run) && new.is_none_or(|(new, ..)| new != **run))
            .copied()
            .collect();
        assert!(unknown.len() <= usize::from(maybe.is_some()), "runs that nobody made: {unknown:?}");
        if let (Some(run), Some((source, tree))) = (unknown.first(), maybe) {
            self.tally.saved_nevertheless += 1;
            self.runs.insert(*run, Saved { source, tree });
        }
        if let Some((run, source, tree)) = new {
            let before = self.runs.insert(run, Saved { source, tree: tree.clone() });
            assert!(before.is_none(), "run {run} was there");
            self.has_unrecorded = false;
            self.doubt.remove(source.name());
        }
        let wanted: Vec<i64> = self.runs.keys().copied().collect();
        assert_eq!(found, wanted, "the complete runs");
    }

    fn stopped_backup(&mut self, source: Source, stop: Stop, when: When) {
        if self.maybe.is_some() {
            self.validate(Level::Quick);
        }
        let tree = self.tree(source);
        let before = self.files_on_volumes();
        let mut child = self.bench.start(&[&["--json", "backup", source.name()], self.care(source)].concat());
        let begun = Instant::now();
        let is_over = |life: &Self| match when {
            When::Ms(ms) => begun.elapsed() >= Duration::from_millis(ms.into()),
            When::NewFiles(most) => life.files_on_volumes().difference(&before).count() >= usize::from(most),
        };
        while !is_over(self) && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        let signal = if stop == Stop::Kill { Signal::KILL } else { Signal::INT };
        if child.try_wait().unwrap().is_none() {
            kill_process(Pid::from_child(&child), signal).unwrap();
        }
        let said = Said::from(child.wait_with_output().unwrap());
        assert!(!said.err.contains("panicked"), "{said:#?}");
        self.damage.tried(&tree);
        match (stop, said.code) {
            (_, 0) => {
                let run = said.summary()["run"].as_i64().unwrap();
                self.settle(Some((run, source, &tree)));
                self.damage.saved(&tree);
            }
            // Before it could listen for the signal, it is a kill as any other.
            (Stop::Kill, -9) | (Stop::Interrupt, -2) => {
                self.tally.stopped += 1;
                self.maybe = Some((source, tree));
            }
            // An interrupted one says that nothing was saved, and that must be so.
            (Stop::Interrupt, 130) => self.tally.stopped += 1,
            _ => panic!("a backup that was stopped: {said:#?}"),
        }
    }

    fn files_on_volumes(&self) -> BTreeSet<std::path::PathBuf> {
        let folders = self
            .here()
            .into_iter()
            .flat_map(|disk| ["chunks", "runs", "tmp"].map(|folder| self.bench.path(&disk).join(folder)));
        let files = folders.flat_map(|folder| walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok));
        files.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
    }

    /// What a query on the catalog finds, one text a row.
    pub fn texts(&self, sql: &str) -> Vec<String> {
        let conn = rusqlite::Connection::open(self.bench.path("backup.cat")).unwrap();
        let mut select = conn.prepare(sql).unwrap();
        select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    fn genmeta(&mut self) {
        let report = self.bench.json(&["genmeta"], 0);
        self.settle(None);
        assert_eq!(report["volumes_skipped"].as_array().unwrap().len(), self.away.len(), "{report}");
        let here = self.here();
        let described = "SELECT DISTINCT lower(hex(b.name)) FROM blocks b JOIN sidecars s ON s.block = b.id
             WHERE b.state IN ('ok', 'bad')";
        for block in self.texts(described) {
            let Some(disk) = here.iter().find(|disk| self.bench.blocks(disk).contains_key(&block)) else { continue };
            let text = fs::read(self.bench.path(disk).join(format!("meta/{block}.meta.json"))).unwrap();
            let text: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(text["block_id"].as_str(), Some(&block[..]), "{text}");
        }
    }

    fn add_volume(&mut self) {
        if self.disks.len() >= 3 {
            return;
        }
        let name = format!("disk{}", self.disks.len() + 1);
        self.bench.run(&["add-volume", &name]).with_code(0);
        self.disks.push(name);
        self.has_unrecorded = true;
        self.settle(None);
        // A copy from before knows nothing of it.
        self.copy = None;
    }

    fn volume_goes(&mut self) {
        let here = self.here();
        let Some(disk) = here.last().filter(|_| here.len() > 1) else { return };
        if self.maybe.is_some() {
            self.validate(Level::Quick);
        }
        fs::rename(self.bench.path(disk), self.bench.path(format!("away-{disk}"))).unwrap();
        self.away.insert(disk.clone());
    }

    fn volume_comes_back(&mut self) {
        let Some(disk) = self.away.pop_first() else { return };
        fs::rename(self.bench.path(format!("away-{disk}")), self.bench.path(&disk)).unwrap();
        // A catalog that was rebuilt meanwhile does not know where it is.
        let said = self.bench.run(&["--no-progress", "validate", "--quick", "--volume", &disk]);
        assert!([0, 4, 5].contains(&said.code), "{said:#?}");
        self.settle(None);
    }

    fn copy_catalog(&mut self) {
        if !self.bench.path("backup.cat-wal").exists() {
            self.copy = Some(fs::read(self.bench.path("backup.cat")).unwrap());
        }
    }

    /// Only where all volumes are here: what an older catalog cannot see it may well do differently.
    fn older_catalog(&mut self, writer: Writer) {
        let Some(copy) = self.copy.clone().filter(|_| self.away.is_empty()) else { return };
        self.lose_catalog();
        fs::write(self.bench.path("backup.cat"), copy).unwrap();
        self.damage.forget_marks();
        match writer {
            Writer::Validate => self.validate(Level::Blocks),
            Writer::Genmeta => self.genmeta(),
            Writer::Backup => self.backup(Source::Src, How::Plain),
        }
    }

    fn lose_catalog(&self) {
        for end in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(self.bench.path(format!("backup.cat{end}")));
        }
    }

    /// Only from volumes that hold the records of all runs, and where those that are away are named by one.
    fn rebuild(&mut self, catalog: Catalog) {
        let here = self.here();
        let may_lack_some = !self.away.is_empty() && (self.maybe.is_some() || self.has_unrecorded);
        if may_lack_some || !self.runs.keys().all(|run| self.has_record(*run)) {
            return;
        }
        if catalog == Catalog::Lost {
            self.lose_catalog();
        }
        let aside = self.catalogs_kept();
        let mut args = vec!["--json", "--no-progress", "rebuild-catalog"];
        args.extend(here.iter().flat_map(|disk| ["--volume", disk]));
        let said = self.bench.run(&args);
        let may_miss = !self.away.is_empty() || self.damage.has_blocks();
        assert!(said.code == 0 || may_miss && [4, 5].contains(&said.code), "{said:#?}");
        self.tally.rebuilt += 1;
        self.damage.forget_marks();
        // What was in place may hold the only evidence of something.
        let kept = aside + usize::from(catalog == Catalog::InPlace);
        assert_eq!(self.catalogs_kept(), kept, "catalogs that were kept");
        self.settle(None);
    }

    fn catalogs_kept(&self) -> usize {
        let names = fs::read_dir(self.bench.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("backup.cat.broken-")).count()
    }

    /// The five questions, as far as the damage that there is allows.
    pub fn end(&mut self) {
        while !self.away.is_empty() {
            self.volume_comes_back();
        }
        self.validate(Level::Deep);
        self.backup(Source::Src, How::Plain);
        for run in self.runs.keys().filter(|run| self.has_record(**run)) {
            for disk in &self.disks {
                assert!(self.lies_on(disk, *run), "{disk} still lacks the record of run {run}");
            }
        }
        self.validate(Level::Blocks);
        for run in self.runs.keys().copied().collect::<Vec<_>>() {
            let refused = self.check_run(run);
            self.check_named(run, &refused);
        }
        let volumes: Vec<&str> = self.disks.iter().map(String::as_str).collect();
        assert_rebuilds(&self.bench, &volumes, "at the end");
        // The last word of all that was there.
        let run = *self.runs.keys().next_back().unwrap();
        listed_changes(&self.bench, run);
    }
}
