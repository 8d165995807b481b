//! A repository made by hand for unit tests: a catalog and volumes in a temporary directory, runs whose every chunk and
//! extent the test chooses. Real blocks, real rows, no backup.
#![allow(dead_code, reason = "helpers for the tests of several verbs")]

use super::add_volume::{AddVolumeOptions, add_volume};
use super::block_file::{ContainerWriter, EncodedSegment};
use super::init::{InitOptions, init};
use super::observer::Silent;
use super::repository::{Access, Repository};
use crate::catalog::ahead::live_version;
use crate::catalog::blocks::{self, NewBlock};
use crate::catalog::chunks;
use crate::catalog::contents::{self, ExtentBuilder};
use crate::catalog::runs::{self, Run, RunState};
use crate::catalog::versions::{Applier, ApplyRun, Change};
use crate::catalog::{places, view, volumes};
use crate::codec::compress::with_encoder;
use crate::codec::hash::{Hasher, hash_bytes};
use crate::format::container::{ContainerKind, Header, SEGMENT_HEADER_LEN};
use crate::format::layout;
use crate::format::manifest::RunCounts;
use crate::model::content::Content;
use crate::model::entry::EntryKind;
use crate::model::ids::{BlockNo, ChunkId, ChunkNo, FileHash, RunSeq, RunUuid, SourceId, StateDigest, VolumeId};
use crate::model::params::{HashAlgo, Reserve};
use crate::model::path::split;
use crate::model::version::{Detection, EndReason, Object, Owner, Version};
use std::collections::HashMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

/// Time of every file unless it says otherwise.
pub const MTIME_NS: i64 = 1_600_000_000_000_000_007;

/// A part of a file.
#[derive(Debug, Clone)]
pub enum Bit {
    /// One chunk.
    Chunk(Vec<u8>),
    /// Zeros that are stored nowhere.
    Zeros(u64),
}

/// A regular file.
#[derive(Debug, Clone)]
pub struct FileNode {
    pub bits: Vec<Bit>,
    pub mode: u32,
    pub mtime_ns: i64,
    pub link: i64,
    pub inconsistent: bool,
    /// Another hash than that of its bytes.
    pub claimed_hash: Option<[u8; 32]>,
}

impl FileNode {
    /// A file of one chunk; of none when there are no bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let bits = if bytes.is_empty() { Vec::new() } else { vec![Bit::Chunk(bytes.to_vec())] };
        Self::of_bits(bits)
    }

    pub fn of_bits(bits: Vec<Bit>) -> Self {
        Self { bits, mode: 0o640, mtime_ns: MTIME_NS, link: 0, inconsistent: false, claimed_hash: None }
    }

    /// A file whose bytes are cut every `chunk_len`.
    pub fn cut(bytes: &[u8], chunk_len: usize) -> Self {
        Self::of_bits(bytes.chunks(chunk_len).map(|chunk| Bit::Chunk(chunk.to_vec())).collect())
    }

    pub fn linked(self, link: i64) -> Self {
        Self { link, ..self }
    }
}

/// What a run puts at a path.
#[derive(Debug, Clone)]
pub enum Node {
    File(FileNode),
    Dir,
    DirMode(u32),
    Symlink(Vec<u8>),
    Fifo,
    Device(u64),
    Gone,
}

impl Node {
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::File(FileNode::of(bytes))
    }

    pub fn link(target: &str) -> Self {
        Self::Symlink(target.into())
    }
}

pub struct TestRepo {
    pub dir: tempfile::TempDir,
    pub repository: Repository,
    /// Raw bytes of a segment at most.
    pub segment_len: usize,
    source: SourceId,
    /// Name of the volume that takes new blocks.
    volume: String,
}

impl TestRepo {
    /// With volume `first` and source `host:/src`.
    pub fn new() -> Self {
        Self::with_hash(HashAlgo::Blake3)
    }

    pub fn with_hash(hash: HashAlgo) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = InitOptions { hash, reserve: Reserve::Bytes(0), ..InitOptions::default() };
        let (repository, _) = init(&dir.path().join("catalog"), &options).unwrap();
        let volume = "first".to_owned();
        let mut repo = Self { dir, repository, segment_len: 1 << 16, source: SourceId(0), volume };
        repo.use_source("/src");
        repo.add_volume("first");
        repo
    }

    /// Runs from now on are of `host:name`, whose root is `name`.
    pub fn use_source(&mut self, name: &str) {
        let conn = self.repository.catalog.conn();
        self.source = runs::intern_source(conn, "host", name, &[name.to_owned()]).unwrap();
    }

    /// Adds a volume and writes blocks there from now on.
    pub fn add_volume(&mut self, name: &str) {
        let dir = self.dir.path().join(name);
        add_volume(&mut self.repository, &AddVolumeOptions { dir, ..AddVolumeOptions::default() }, &Silent).unwrap();
        self.use_volume(name);
    }

    pub fn use_volume(&mut self, name: &str) {
        self.volume = name.to_owned();
    }

    /// As if the volume were not mounted.
    pub fn take_away(&mut self, name: &str) {
        let at = self.repository.mounted.iter().position(|mounted| mounted.row.name == name).unwrap();
        let mounted = self.repository.mounted.remove(at);
        self.repository.away.push(mounted.row);
    }

    /// Opens the repository again, with all volumes.
    pub fn reopen(&mut self) {
        let path = self.dir.path().join("catalog");
        self.repository = Repository::open(&path, &[], Access::Read).unwrap();
    }

    fn volume_id(&self) -> VolumeId {
        self.repository.mounted.iter().find(|mounted| mounted.row.name == self.volume).unwrap().row.id
    }

    /// Adds a run in state `open`.
    pub fn open_run(&mut self) -> RunSeq {
        let conn = self.repository.catalog.conn();
        let prev = runs::newest_complete(conn, self.source).unwrap();
        let seq = runs::next_seq(conn).unwrap();
        let run = Run {
            seq,
            uuid: RunUuid::random(),
            source: self.source,
            state: RunState::Open,
            prev: prev.map(|prev| prev.seq),
            started_ns: 1_700_000_000_000_000_000 + seq.0,
            ended_ns: None,
            digest: None,
            manifest: None,
            counts: RunCounts::default(),
            marks: crate::model::run_marks::RunMarks::default(),
        };
        runs::insert_open(conn, &run).unwrap();
        seq
    }

    /// Makes a complete run. The first one of a source also puts its root.
    pub fn run(&mut self, nodes: &[(&str, Node)]) -> RunSeq {
        let seq = self.open_run();
        let numbers = self.store_chunks(nodes);
        let contents: Vec<_> = nodes.iter().map(|(_, node)| self.content_of(node, &numbers)).collect();
        let source = self.source;
        let tx = self.repository.catalog.begin().unwrap();
        let mut run = runs::get(&tx, seq).unwrap().unwrap();
        let base = run.prev.and_then(|prev| runs::get(&tx, prev).unwrap().unwrap().digest);
        let mut applier =
            Applier::new(&tx, ApplyRun { source, run: seq, prev: run.prev }, base.unwrap_or(StateDigest::EMPTY));
        if live_version(&tx, source, (b"", b"")).unwrap().is_none() {
            applier.apply(b"", b"", &put(&Node::Dir, None)).unwrap();
        }
        for ((path, node), content) in nodes.iter().zip(contents) {
            let (dir, name) = split(path.as_bytes());
            let change = match (node, &content) {
                (Node::Gone, _) => Change::End(EndReason::Deleted),
                (node, None) => put(node, None),
                (node, Some(content)) => {
                    let id = contents::put(&tx, content).unwrap();
                    let Change::Put { version, detection, .. } = put(node, Some(content)) else { unreachable!() };
                    Change::Put { version, content: Some(id), detection }
                }
            };
            applier.apply(dir, name, &change).unwrap();
        }
        applier.finish().unwrap();
        run.ended_ns = Some(run.started_ns + 1);
        run.digest = Some(applier.digest());
        run.counts = applier.counts();
        runs::complete(&tx, &run).unwrap();
        drop(applier);
        tx.commit().unwrap();
        seq
    }

    fn content_of(&self, node: &Node, numbers: &HashMap<ChunkId, ChunkNo>) -> Option<Content> {
        let Node::File(file) = node else { return None };
        let algo = self.repository.settings().hash;
        let (mut extents, mut hasher) = (ExtentBuilder::default(), Hasher::new(algo));
        for bit in &file.bits {
            match bit {
                Bit::Chunk(bytes) => {
                    hasher.update(bytes);
                    let no = numbers[&ChunkId(hash_bytes(algo, bytes))];
                    extents.push_chunk(no, u32::try_from(bytes.len()).unwrap());
                }
                Bit::Zeros(len) => {
                    hasher.update(&vec![0; usize::try_from(*len).unwrap()]);
                    extents.push_zeros(*len);
                }
            }
        }
        let (extents, size) = extents.finish();
        Some(Content { size, hash: FileHash(file.claimed_hash.unwrap_or_else(|| hasher.finalize())), extents })
    }

    /// Stores the chunks that are new in one block on the chosen volume; the numbers of all.
    fn store_chunks(&mut self, nodes: &[(&str, Node)]) -> HashMap<ChunkId, ChunkNo> {
        let algo = self.repository.settings().hash;
        let conn = self.repository.catalog.conn();
        let mut next = chunks::next_no(conn).unwrap();
        let (mut numbers, mut fresh) = (HashMap::new(), Vec::new());
        let files = nodes.iter().filter_map(|(_, node)| if let Node::File(file) = node { Some(file) } else { None });
        for bit in files.flat_map(|file| &file.bits) {
            let Bit::Chunk(bytes) = bit else { continue };
            let id = ChunkId(hash_bytes(algo, bytes));
            if numbers.contains_key(&id) {
                continue;
            }
            let no = match chunks::find(conn, &id, &[]).unwrap() {
                Some(known) => known.no,
                None => {
                    fresh.push((next, bytes.clone()));
                    next = ChunkNo(next.0 + 1);
                    ChunkNo(next.0 - 1)
                }
            };
            numbers.insert(id, no);
        }
        if !fresh.is_empty() {
            self.store_block(&fresh);
        }
        numbers
    }

    /// Writes one block with these chunks on the chosen volume, and registers it.
    pub fn store_block(&mut self, chunks: &[(ChunkNo, Vec<u8>)]) -> BlockNo {
        let settings = self.repository.settings().clone();
        let volume = self.volume_id();
        let store = self.repository.volume(volume).unwrap().store();
        let salt = *blake3::hash(volume.0.to_string().as_bytes()).as_bytes();
        let header = Header { kind: ContainerKind::Block, hash: settings.hash, repository: settings.repository, salt };
        let sink = store.begin(1 << 20).unwrap();
        let mut writer = ContainerWriter::new(sink, &header, settings.block_size).unwrap();
        let mut rest = chunks;
        while !rest.is_empty() {
            let (mut raw, mut table) = (Vec::new(), Vec::new());
            while let Some((_, bytes)) =
                rest.first().filter(|(_, b)| raw.is_empty() || raw.len() + b.len() <= self.segment_len)
            {
                table.push((ChunkId(hash_bytes(settings.hash, bytes)), u32::try_from(bytes.len()).unwrap()));
                raw.extend_from_slice(bytes);
                rest = &rest[1..];
            }
            let mut bytes = Vec::new();
            let codec = with_encoder(settings.compression, |encoder| encoder.encode(&raw, &mut bytes));
            let raw_len = u32::try_from(raw.len()).unwrap();
            writer.put_data(&EncodedSegment { codec, raw_len, bytes }, &table).unwrap();
        }
        let done = writer.finish(ContainerKind::Block, &|id| layout::block_key(&id)).unwrap();
        let block = NewBlock {
            id: done.id,
            size: done.size,
            kind: ContainerKind::Block as u8,
            volumes: vec![volume],
            table: done.table,
            numbers: chunks.iter().map(|(no, _)| *no).collect(),
            listed_by: None,
        };
        blocks::register(self.repository.catalog.conn(), &block).unwrap()
    }

    /// Number of a stored chunk.
    pub fn chunk_no(&self, bytes: &[u8]) -> ChunkNo {
        let id = ChunkId(hash_bytes(self.repository.settings().hash, bytes));
        chunks::find(self.repository.catalog.conn(), &id, &[]).unwrap().unwrap().no
    }

    /// The file of the block where a chunk has its first place, on the first volume that holds it, and the offset of
    /// the middle of its segment's stored bytes.
    pub fn block_file_of(&self, chunk: &[u8]) -> (PathBuf, u64) {
        let conn = self.repository.catalog.conn();
        let place = places::chunks_from(conn, self.chunk_no(chunk), 1).unwrap()[0].place.unwrap();
        let block = places::block(conn, place.block).unwrap();
        let all = volumes::all(conn).unwrap();
        let row = all.iter().find(|row| row.id == block.volumes[0]).unwrap();
        let file = row.path.as_ref().unwrap().join(layout::block_key(&block.id));
        (file, place.offset + SEGMENT_HEADER_LEN as u64 + u64::from(place.stored_len) / 2)
    }

    /// Flips a bit in the stored bytes of the segment where a chunk has its first place.
    pub fn damage(&self, chunk: &[u8]) {
        let (file, at) = self.block_file_of(chunk);
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[usize::try_from(at).unwrap()] ^= 0x10;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&file, bytes).unwrap();
    }

    /// Puts a copy of the block where a chunk has its first place on another volume.
    pub fn copy_block(&self, chunk: &[u8], volume: &str) {
        let (file, _) = self.block_file_of(chunk);
        let conn = self.repository.catalog.conn();
        let place = places::chunks_from(conn, self.chunk_no(chunk), 1).unwrap()[0].place.unwrap();
        let block = places::block(conn, place.block).unwrap();
        let to = self.repository.mounted.iter().find(|mounted| mounted.row.name == volume).unwrap();
        to.store().put_new(&layout::block_key(&block.id), &std::fs::read(file).unwrap()).unwrap();
        let (table, numbers) = blocks::table_of(conn, block.no).unwrap();
        let again = NewBlock {
            id: block.id,
            size: block.size,
            kind: ContainerKind::Block as u8,
            volumes: vec![to.row.id],
            table,
            numbers,
            listed_by: None,
        };
        blocks::register(conn, &again).unwrap();
    }

    /// Whether a path is there as of a run.
    pub fn has(&self, run: RunSeq, path: &str) -> bool {
        let as_of = view::AsOf { source: self.source, run };
        view::entry(self.repository.catalog.conn(), as_of, path.as_bytes()).unwrap().is_some()
    }
}

fn put(node: &Node, content: Option<&Content>) -> Change {
    // Those of whoever runs the test, so that restoring needs no privileges.
    let process = std::fs::metadata("/proc/self").unwrap();
    let owner = Owner { uid: process.uid(), gid: process.gid(), ..Owner::default() };
    let mut version = Version {
        kind: EntryKind::Dir,
        mode: 0o750,
        owner,
        size: 0,
        mtime_ns: MTIME_NS,
        btime_ns: None,
        link: 0,
        inconsistent: false,
        object: Object::Nothing,
        attrs: Vec::new(),
    };
    match node {
        Node::File(file) => {
            let content = content.expect("a file has a content");
            version.kind = EntryKind::File;
            version.mode = file.mode;
            version.size = content.size;
            version.mtime_ns = file.mtime_ns;
            version.link = file.link;
            version.inconsistent = file.inconsistent;
            version.object = Object::Content(content.hash);
        }
        Node::Dir | Node::Gone => {}
        Node::DirMode(mode) => version.mode = *mode,
        Node::Symlink(target) => {
            version.kind = EntryKind::Symlink;
            version.mode = 0o777;
            version.object = Object::Target(target.clone());
        }
        Node::Fifo => version.kind = EntryKind::Fifo,
        Node::Device(number) => {
            version.kind = EntryKind::CharDevice;
            version.object = Object::Device(*number);
        }
    }
    Change::Put { version, content: None, detection: Detection::default() }
}
