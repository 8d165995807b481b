//! A disk that loses what was not synced: the state before a command, the changes that it made, and for each change
//! from when on it is durable. Any subset of those that are not may be there after a power cut.
//!
//! The rules. A sync of a file makes its bytes and its length durable, not its name. A sync of a directory makes the
//! names in it durable that were made, taken away or moved into it, not what lies behind them. A rename is atomic, and
//! durable with a sync of the directory it leads to. Everything else is independent of everything else, also later
//! changes of earlier ones: no journal, no order, as if every file system were `data=writeback` at its worst. A write
//! may be torn where a sector begins; bytes around a write are never touched (SQLite's "powersafe overwrite"). Modes
//! and times are left out: nothing is read from them.

use super::record::Op;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file or directory, whatever its names.
type Ino = usize;
type Names = BTreeMap<OsString, Ino>;
/// A directory and a name in it.
type Place = (Ino, OsString);

/// What lies on the disk before the first change, and every file that came later, empty.
#[derive(Debug, Clone)]
enum Before {
    Dir(Names),
    File(Arc<Vec<u8>>),
}

#[derive(Debug, Clone)]
enum Change {
    Enter { at: Place, ino: Ino },
    Remove { at: Place },
    Move { from: Place, to: Place, ino: Ino },
    Bytes { ino: Ino, at: u64, bytes: Arc<Vec<u8>> },
    Len { ino: Ino, len: u64 },
}

struct Item {
    change: Change,
    /// The call that made it.
    made: usize,
    /// The call that made it durable.
    durable: Option<usize>,
}

/// How much of a torn write arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tear {
    /// The first bytes.
    First(usize),
    /// All but the first bytes.
    Last(usize),
    /// The new length alone: zeros.
    Length,
}

/// What is there of the changes that are not durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pick {
    pub present: BTreeSet<usize>,
    pub torn: Option<(usize, Tear)>,
}

/// Files with their bytes, directories without.
pub type Tree = BTreeMap<PathBuf, Option<Arc<Vec<u8>>>>;

/// The changes of a file's content that are there.
type Applied = (Ino, Vec<(usize, Option<Tear>)>);

pub struct Disk {
    before: Vec<Before>,
    /// Names as the process sees them.
    live: BTreeMap<Ino, Names>,
    items: Vec<Item>,
    calls: usize,
    hashes: HashMap<Applied, blake3::Hash>,
}

const SECTOR: u64 = 512;
const PAGE: u64 = 4096;

impl Disk {
    /// A disk on which all of this is durable.
    pub fn new(tree: &Tree) -> Self {
        let mut disk = Self {
            before: vec![Before::Dir(Names::new())],
            live: BTreeMap::from([(0, Names::new())]),
            items: Vec::new(),
            calls: 0,
            hashes: HashMap::new(),
        };
        for (path, content) in tree {
            let (dir, name) = disk.place(path);
            let ino = disk.make(content.clone().map_or(Before::Dir(Names::new()), Before::File));
            disk.live.get_mut(&dir).expect("a directory").insert(name.clone(), ino);
            let Before::Dir(names) = &mut disk.before[dir] else { panic!("{} is no directory", path.display()) };
            names.insert(name, ino);
        }
        disk
    }

    /// How many instants there are: before the first call, and after each.
    pub fn instants(&self) -> usize {
        self.calls + 1
    }

    /// Does one call.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Create { path, empties } => match self.find(path) {
                Some(ino) if *empties => self.change(Change::Len { ino, len: 0 }),
                Some(_) => {}
                None => self.enter(path, Before::File(Arc::default())),
            },
            Op::MakeDir { path } => self.enter(path, Before::Dir(Names::new())),
            Op::Write { path, at, bytes } => {
                let ino = self.known(path);
                self.change(Change::Bytes { ino, at: *at, bytes: Arc::new(bytes.clone()) });
            }
            Op::SetLen { path, len } => {
                let ino = self.known(path);
                self.change(Change::Len { ino, len: *len });
            }
            Op::Unlink { path } => {
                let at = self.place(path);
                self.change(Change::Remove { at });
            }
            Op::Link { from, to } => {
                let (ino, at) = (self.known(from), self.place(to));
                self.change(Change::Enter { at, ino });
            }
            Op::Rename { from, to } => {
                let ino = self.known(from);
                let (from, to) = (self.place(from), self.place(to));
                self.change(Change::Move { from, to, ino });
            }
            Op::Sync { path, began } => self.sync(self.known(path), *began),
        }
        self.calls += 1;
    }

    fn sync(&mut self, synced: Ino, began: usize) {
        for item in self.items.iter_mut().filter(|item| item.durable.is_none() && item.made < began) {
            let owner = match &item.change {
                Change::Enter { at, .. } | Change::Remove { at } => at.0,
                Change::Move { to, .. } => to.0,
                Change::Bytes { ino, .. } | Change::Len { ino, .. } => *ino,
            };
            if owner == synced {
                item.durable = Some(self.calls);
            }
        }
    }

    fn make(&mut self, content: Before) -> Ino {
        let ino = self.before.len();
        if matches!(content, Before::Dir(_)) {
            self.live.insert(ino, Names::new());
        }
        self.before.push(content);
        ino
    }

    fn enter(&mut self, path: &Path, content: Before) {
        let at = self.place(path);
        let ino = self.make(content);
        self.change(Change::Enter { at, ino });
    }

    fn change(&mut self, change: Change) {
        apply_names(&change, &mut self.live);
        self.items.push(Item { change, made: self.calls, durable: None });
    }

    fn place(&self, path: &Path) -> Place {
        let dir = path.parent().map_or(0, |dir| self.known(dir));
        (dir, path.file_name().expect("a name").to_owned())
    }

    fn find(&self, path: &Path) -> Option<Ino> {
        path.iter().try_fold(0, |dir, name| self.live.get(&dir)?.get(name).copied())
    }

    fn known(&self, path: &Path) -> Ino {
        self.find(path).unwrap_or_else(|| panic!("the record changes {}, which is not there", path.display()))
    }

    /// The changes that were made by then and are not durable.
    pub fn pending(&self, instant: usize) -> Vec<usize> {
        let by_then = self.items.iter().enumerate().filter(|(_, item)| item.made < instant);
        by_then.filter(|(_, item)| item.durable.is_none_or(|call| call >= instant)).map(|(at, _)| at).collect()
    }

    /// Whether this change is one of names; else it is one of bytes.
    pub fn is_of_names(&self, item: usize) -> bool {
        !matches!(self.items[item].change, Change::Bytes { .. } | Change::Len { .. })
    }

    /// The ways in which a write may be torn.
    pub fn tears(&self, item: usize) -> Vec<Tear> {
        let Change::Bytes { at, bytes, .. } = &self.items[item].change else { return Vec::new() };
        let (start, end) = (*at, *at + bytes.len() as u64);
        let middle = (start + (end - start) / 2) / PAGE * PAGE;
        let cuts = BTreeSet::from([(start / SECTOR + 1) * SECTOR, middle, (end - 1) / SECTOR * SECTOR]);
        let cuts = cuts.into_iter().filter(|cut| (start + 1..end).contains(cut));
        let torn = cuts.map(|cut| (cut - start) as usize).flat_map(|len| [Tear::First(len), Tear::Last(len)]);
        torn.chain([Tear::Length]).collect()
    }

    /// A line on a change, for people.
    pub fn words(&self, item: usize) -> String {
        let name = |ino: Ino| self.name_of(ino);
        let place = |(dir, entry): &Place| format!("{}/{}", name(*dir), entry.display());
        match &self.items[item].change {
            Change::Enter { at, .. } => format!("create {}", place(at)),
            Change::Remove { at } => format!("unlink {}", place(at)),
            Change::Move { from, to, .. } => format!("rename {} to {}", place(from), place(to)),
            Change::Bytes { ino, at, bytes } => format!("{} bytes at {at} of {}", bytes.len(), name(*ino)),
            Change::Len { ino, len } => format!("length {len} of {}", name(*ino)),
        }
    }

    /// The last name that a file had.
    fn name_of(&self, wanted: Ino) -> String {
        let entries = self.items.iter().rev().filter_map(|item| match &item.change {
            Change::Enter { at, ino } | Change::Move { to: at, ino, .. } if *ino == wanted => Some(at.clone()),
            _ => None,
        });
        let mut before = self.before.iter().enumerate().filter_map(|(dir, content)| match content {
            Before::Dir(names) => names.iter().find(|(_, ino)| **ino == wanted).map(|(name, _)| (dir, name.clone())),
            Before::File(_) => None,
        });
        match entries.chain(std::iter::from_fn(|| before.next())).next() {
            Some((0, name)) => name.display().to_string(),
            Some((dir, name)) => format!("{}/{}", self.name_of(dir), name.display()),
            None => ".".to_owned(),
        }
    }

    /// The changes that are there after a power cut at this instant.
    fn there(&self, instant: usize, pick: &Pick) -> Vec<usize> {
        let is_there = |at: usize, item: &Item| {
            item.made < instant && (item.durable.is_some_and(|call| call < instant) || pick.present.contains(&at))
        };
        self.items.iter().enumerate().filter(|(at, item)| is_there(*at, item)).map(|(at, _)| at).collect()
    }

    /// What is left after a power cut at this instant.
    pub fn tree(&self, instant: usize, pick: &Pick) -> Tree {
        let files = self.files(&self.there(instant, pick), pick);
        files.into_iter().map(|(path, file)| (path, file.map(|file| self.content(&file)))).collect()
    }

    /// A hash of that; equal for equal trees.
    pub fn hash(&mut self, instant: usize, pick: &Pick) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for (path, file) in self.files(&self.there(instant, pick), pick) {
            hasher.update(path.as_os_str().as_encoded_bytes()).update(&[0, u8::from(file.is_some())]);
            let Some(file) = file else { continue };
            let hash = match self.hashes.get(&file) {
                Some(hash) => *hash,
                None => {
                    let hash = blake3::hash(&self.content(&file));
                    self.hashes.insert(file, hash);
                    hash
                }
            };
            hasher.update(hash.as_bytes());
        }
        hasher.finalize()
    }

    /// All paths, and which changes each file has had.
    fn files(&self, there: &[usize], pick: &Pick) -> BTreeMap<PathBuf, Option<Applied>> {
        let dirs = self.before.iter().enumerate().filter_map(|(ino, content)| match content {
            Before::Dir(names) => Some((ino, names.clone())),
            Before::File(_) => None,
        });
        let mut dirs: BTreeMap<Ino, Names> = dirs.collect();
        let mut contents: BTreeMap<Ino, Vec<(usize, Option<Tear>)>> = BTreeMap::new();
        for &at in there {
            let change = &self.items[at].change;
            apply_names(change, &mut dirs);
            if let Change::Bytes { ino, .. } | Change::Len { ino, .. } = change {
                let tear = pick.torn.filter(|(torn, _)| *torn == at).map(|(_, tear)| tear);
                contents.entry(*ino).or_default().push((at, tear));
            }
        }
        let mut found = BTreeMap::new();
        let mut todo = vec![(PathBuf::new(), 0)];
        while let Some((path, dir)) = todo.pop() {
            for (name, &ino) in &dirs[&dir] {
                let path = path.join(name);
                let is_dir = dirs.contains_key(&ino);
                let file = (!is_dir).then(|| (ino, contents.get(&ino).cloned().unwrap_or_default()));
                if is_dir {
                    todo.push((path.clone(), ino));
                }
                found.insert(path, file);
            }
        }
        found
    }

    fn content(&self, (ino, changes): &Applied) -> Arc<Vec<u8>> {
        let Before::File(before) = &self.before[*ino] else { panic!("a directory has no content") };
        if changes.is_empty() {
            return Arc::clone(before);
        }
        let mut content = before.as_ref().clone();
        for (item, tear) in changes {
            match &self.items[*item].change {
                Change::Len { len, .. } => content.resize(*len as usize, 0),
                Change::Bytes { at, bytes, .. } => put(&mut content, *at as usize, bytes, *tear),
                _ => {}
            }
        }
        Arc::new(content)
    }
}

fn apply_names(change: &Change, dirs: &mut BTreeMap<Ino, Names>) {
    fn names(dirs: &mut BTreeMap<Ino, Names>, dir: Ino) -> &mut Names {
        dirs.get_mut(&dir).expect("a directory")
    }
    match change {
        Change::Enter { at, ino } => {
            names(dirs, at.0).insert(at.1.clone(), *ino);
        }
        Change::Remove { at } => {
            names(dirs, at.0).remove(&at.1);
        }
        Change::Move { from, to, ino } => {
            if names(dirs, from.0).get(&from.1) == Some(ino) {
                names(dirs, from.0).remove(&from.1);
            }
            names(dirs, to.0).insert(to.1.clone(), *ino);
        }
        Change::Bytes { .. } | Change::Len { .. } => {}
    }
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8], tear: Option<Tear>) {
    let (from, to) = match tear {
        None => (0, bytes.len()),
        Some(Tear::First(len)) => (0, len),
        Some(Tear::Last(len)) => (len, bytes.len()),
        Some(Tear::Length) => (bytes.len(), bytes.len()),
    };
    if content.len() < at + to {
        content.resize(at + to, 0);
    }
    content[at + from..at + to].copy_from_slice(&bytes[from..to]);
}
