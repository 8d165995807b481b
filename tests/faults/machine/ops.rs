//! What may happen in a life, with small numbers, so that the shortest failure can be read and pasted.

use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::sample::select;

/// One thing that happens. Paths begin with the source that they are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A file with this content; what was there is gone.
    Write(&'static str, Content),
    Append(&'static str, u32),
    /// So many bytes in between, at so many hundredths of the length.
    Insert(&'static str, u8, u32),
    /// Other bytes in a file of the same length, with its time put back, as a virtual machine's disk may have.
    OverwriteUnseen(&'static str, u8),
    /// To so many hundredths of its length.
    Truncate(&'static str, u8),
    Rename(&'static str, &'static str),
    Remove(&'static str),
    Chmod(&'static str, u32),
    Touch(&'static str, i64),
    HardLink(&'static str, &'static str),
    Symlink(&'static str, &'static str),
    MakeDir(&'static str),
    Fifo(&'static str),
    /// As if seconds had passed since the last run: no inode changed just before it was looked at.
    TimePasses,
    Backup(Source, How),
    /// A backup that gets this signal.
    StoppedBackup(Source, Stop, When),
    /// The run is the n-th of those that there are, round and round.
    RevertToRun(u8),
    RestoreFolder(u8, &'static str),
    RestoreFile(u8, &'static str),
    Validate(Level),
    Genmeta,
    /// The n-th block of those that are sound, round and round.
    HarmBlock(u8, Harm),
    /// What was done to the n-th harmed block is undone.
    MendBlock(u8),
    /// A byte of a run's record, where another volume has it too.
    HarmRecord(u8),
    HarmIndex(u8, Harm),
    HarmSidecar(u8, Harm),
    AddVolume,
    VolumeGoes,
    VolumeComesBack,
    /// A copy for later.
    CopyCatalog,
    /// The copy takes the catalog's place.
    OlderCatalog(Writer),
    /// A rebuild, with the catalog lost or in place.
    RebuildCatalog(Catalog),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disks {
    Two,
    One,
    /// Two, in a repository with the other hash and nothing compressed.
    Sha256,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Src,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Plain,
    SingleThreaded,
    Workers3,
    StrictCtime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Kill,
    Interrupt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// After so many milliseconds.
    Ms(u8),
    /// When so many files are new on the volumes: blocks begun and done, records.
    NewFiles(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Blocks,
    Quick,
    Deep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// A byte at so many hundredths of the length.
    Flip(u8),
    Delete,
    Truncate,
}

/// What is done first with an older catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    Validate,
    Genmeta,
    Backup,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Catalog {
    Lost,
    InPlace,
}

/// Bytes: of an even seed such that do not compress, of an odd one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    pub seed: u64,
    pub len: usize,
}

/// Names of files are names of folders at other times.
pub const PATHS: [&str; 10] =
    ["src/a", "src/b", "src/d/a", "src/d/b", "src/d/e/a", "src/d", "src/d/e", "other/a", "other/d/a", "other/d"];
const FOLDERS: [&str; 4] = ["src/d", "src/d/e", "other/d", "src/a"];

fn path() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => select(&PATHS[..5]), 3 => select(&PATHS[..])]
}

fn content() -> impl Strategy<Value = Content> {
    // Around what a chunk may be: 64 KiB at least, 1 MiB at most; rarely more than one block.
    let len = prop_oneof![
        8 => select(vec![1_usize, 0, 100, 5000]),
        6 => select(vec![65_535, 65_537, 140_000, 300_000]),
        2 => select(vec![1_048_575, 1_048_577]),
        1 => prop_oneof![4 => Just(300_001_usize), 1 => Just(9_000_000)],
    ];
    (0_u64..5, len).prop_map(|(seed, len)| Content { seed, len })
}

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![5 => Just(Source::Src), 1 => Just(Source::Other)]
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![2 => (0_u8..100).prop_map(Harm::Flip), 1 => Just(Harm::Delete), 1 => Just(Harm::Truncate)]
}

/// What somebody does with files.
fn change() -> impl Strategy<Value = Op> {
    let few = select(vec![1_u32, 17, 70_000]);
    prop_oneof![
        6 => (path(), content()).prop_map(|(path, content)| Op::Write(path, content)),
        2 => (path(), few.clone()).prop_map(|(path, len)| Op::Append(path, len)),
        2 => (path(), 0_u8..100, few).prop_map(|(path, at, len)| Op::Insert(path, at, len)),
        3 => (path(), 0_u8..100).prop_map(|(path, at)| Op::OverwriteUnseen(path, at)),
        1 => (path(), 0_u8..100).prop_map(|(path, at)| Op::Truncate(path, at)),
        4 => (select(&PATHS[..]), select(&PATHS[..])).prop_map(|(from, to)| Op::Rename(from, to)),
        2 => select(&PATHS[..]).prop_map(Op::Remove),
        1 => (select(&PATHS[..]), select(vec![0o600_u32, 0o755, 0o4711, 0])).prop_map(|(path, mode)| Op::Chmod(path, mode)),
        1 => (select(&PATHS[..]), select(vec![1_600_000_000_i64, 0, -5])).prop_map(|(path, s)| Op::Touch(path, s)),
        3 => (path(), path()).prop_map(|(from, to)| Op::HardLink(from, to)),
        1 => (path(), select(vec!["a", "../b", "nowhere"])).prop_map(|(path, to)| Op::Symlink(path, to)),
        1 => path().prop_map(Op::MakeDir),
        1 => path().prop_map(Op::Fifo),
        4 => Just(Op::TimePasses),
    ]
}

fn run() -> std::ops::Range<u8> {
    0..6
}

fn backup() -> impl Strategy<Value = Op> {
    let how = select(vec![How::Plain, How::SingleThreaded, How::Workers3, How::StrictCtime]);
    (source(), how).prop_map(|(source, how)| Op::Backup(source, how))
}

/// What the program is asked for.
fn ask() -> impl Strategy<Value = Op> {
    let level = select(vec![Level::Blocks, Level::Quick, Level::Deep]);
    prop_oneof![
        9 => backup(),
        2 => run().prop_map(Op::RevertToRun),
        1 => (run(), select(&FOLDERS[..])).prop_map(|(run, path)| Op::RestoreFolder(run, path)),
        2 => (run(), path()).prop_map(|(run, path)| Op::RestoreFile(run, path)),
        4 => level.prop_map(Op::Validate),
        1 => Just(Op::Genmeta),
    ]
}

/// What must not happen, and does.
fn mishap() -> impl Strategy<Value = Op> {
    let stop = prop_oneof![2 => Just(Stop::Kill), 1 => Just(Stop::Interrupt)];
    let when = prop_oneof![(0_u8..25).prop_map(When::Ms), (1_u8..5).prop_map(When::NewFiles)];
    let writer = select(vec![Writer::Validate, Writer::Genmeta, Writer::Backup]);
    prop_oneof![
        5 => (source(), stop, when).prop_map(|(source, stop, when)| Op::StoppedBackup(source, stop, when)),
        4 => ((0_u8..8), harm()).prop_map(|(block, harm)| Op::HarmBlock(block, harm)),
        1 => (0_u8..8).prop_map(Op::MendBlock),
        1 => (0_u8..8).prop_map(Op::HarmRecord),
        1 => ((0_u8..8), harm()).prop_map(|(disk, harm)| Op::HarmIndex(disk, harm)),
        1 => ((0_u8..8), harm()).prop_map(|(block, harm)| Op::HarmSidecar(block, harm)),
        1 => Just(Op::AddVolume),
        2 => Just(Op::VolumeGoes),
        2 => Just(Op::VolumeComesBack),
        1 => Just(Op::CopyCatalog),
        2 => writer.prop_map(Op::OlderCatalog),
        3 => select(vec![Catalog::Lost, Catalog::InPlace]).prop_map(Op::RebuildCatalog),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![5 => change(), 5 => ask(), 3 => mishap()]
}

/// A life, in short: what it is lived on, and what happens.
pub fn sequence() -> impl Strategy<Value = (Disks, Vec<Op>)> {
    let disks = prop_oneof![4 => Just(Disks::Two), 1 => Just(Disks::One), 1 => Just(Disks::Sha256)];
    (disks, proptest::collection::vec(op(), 1..36))
}
