//! A small repository made by hand, for tests of the verbs that read one: chunks of fixed length, four to a segment,
//! one block a run.

use super::add_volume::{AddVolumeOptions, add_volume};
use super::block_file::{ContainerWriter, EncodedSegment};
use super::error::EngineError;
use super::init::{InitOptions, init};
use super::manifest_file::ManifestSink;
use super::observer::Silent;
use super::repository::{Access, Repository};
use crate::catalog::CatalogError;
use crate::catalog::blocks::{self, NewBlock};
use crate::catalog::chunks;
use crate::catalog::contents::{self, ExtentBuilder};
use crate::catalog::runs::{self, Run, RunState};
use crate::catalog::versions::{Applier, ApplyRun, Change};
use crate::catalog::volumes;
use crate::codec::compress::with_encoder;
use crate::codec::hash::hash_bytes;
use crate::format::container::{ContainerKind, Header};
use crate::format::layout::{self, ManifestCopy};
use crate::format::manifest::{Encoding, ManifestMeta, ManifestSource, RunCounts, SectionTag};
use crate::model::content::Content;
use crate::model::entry::EntryKind;
use crate::model::ids::{BlockId, ChunkId, ChunkNo, FileHash, RunSeq, RunUuid, StateDigest};
use crate::model::params::{Compression, HashAlgo};
use crate::model::path;
use crate::model::version::{Detection, Object, Owner, Version};
use crate::volume::index::{IndexDb, IndexedBlock};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// Bytes of every chunk but a file's last.
pub const CHUNK_LEN: usize = 10_000;
const CHUNKS_PER_SEGMENT: usize = 4;

/// A repository in a temporary directory.
pub struct TestRepository {
    pub dir: TempDir,
}

/// How the chunks of a run are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storing {
    /// Known chunks are referred to.
    New,
    /// Every chunk is stored, known or not.
    All,
}

impl TestRepository {
    /// With volumes of these names.
    pub fn new(volumes: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (mut repository, _) = init(&dir.path().join("cat"), &InitOptions::default()).unwrap();
        for name in volumes {
            let options = AddVolumeOptions { dir: dir.path().join(name), ..AddVolumeOptions::default() };
            add_volume(&mut repository, &options, &Silent).unwrap();
        }
        Self { dir }
    }

    /// Opened for writing.
    pub fn open(&self) -> Repository {
        // A process that another test is just starting has this one's lock for a moment, until it becomes a program.
        for _ in 0..500 {
            match Repository::open(&self.dir.path().join("cat"), &[], Access::Write) {
                Err(EngineError::Catalog(CatalogError::Locked(_))) => std::thread::sleep(Duration::from_millis(10)),
                opened => return opened.unwrap(),
            }
        }
        panic!("the catalog stays locked");
    }

    /// Where a volume is.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where a block's file is.
    pub fn block_path(&self, volume: &str, id: &BlockId) -> PathBuf {
        self.volume(volume).join(layout::block_key(id))
    }

    /// Changes a block's file behind the repository's back.
    pub fn damage(&self, volume: &str, id: &BlockId, change: &dyn Fn(&mut Vec<u8>)) {
        let path = self.block_path(volume, id);
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }

    /// A complete run of the one source, in which `files` enter; new chunks go to one block on `volume`.
    pub fn run(&self, volume: &str, files: &[(&str, &[u8])], storing: Storing) -> BlockId {
        let mut repository = self.open();
        let volume = repository.mounted.iter().find(|mounted| mounted.row.name == volume).unwrap().row.id;
        let tx = repository.catalog.begin().unwrap();
        let source = runs::intern_source(&tx, "host", "/home", &["/home".to_owned()]).unwrap();
        let prev = runs::newest_complete(&tx, source).unwrap();
        let mut run = Run {
            seq: runs::next_seq(&tx).unwrap(),
            uuid: RunUuid::random(),
            source,
            state: RunState::Open,
            prev: prev.as_ref().map(|prev| prev.seq),
            started_ns: 1,
            ended_ns: Some(2),
            digest: None,
            manifest: None,
            counts: RunCounts::default(),
            marks: crate::model::run_marks::RunMarks::default(),
        };
        runs::insert_open(&tx, &run).unwrap();
        tx.commit().unwrap();

        let mut packer = Packer::new(&repository, storing);
        let contents: Vec<Content> = files.iter().map(|(_, bytes)| packer.content(bytes)).collect();
        let block = packer.finish(volume);
        let tx = repository.catalog.begin().unwrap();
        blocks::register(&tx, &block).unwrap();
        let base = prev.and_then(|prev| prev.digest).unwrap_or(StateDigest::EMPTY);
        let mut applier = Applier::new(&tx, ApplyRun { source, run: run.seq, prev: run.prev }, base);
        if run.prev.is_none() {
            let root = version(EntryKind::Dir, 0, Object::Nothing);
            let change = Change::Put { version: root, content: None, detection: Detection::default() };
            applier.apply(b"", b"", &change).unwrap();
        }
        for ((full_path, bytes), content) in files.iter().zip(contents) {
            let (dir, name) = path::split(full_path.as_bytes());
            let id = contents::put(&tx, &content).unwrap();
            let version = version(EntryKind::File, bytes.len() as u64, Object::Content(content.hash));
            let change = Change::Put { version, content: Some(id), detection: Detection::default() };
            applier.apply(dir, name, &change).unwrap();
        }
        applier.finish().unwrap();
        run.digest = Some(applier.digest());
        tx.commit().unwrap();
        complete(&mut repository, &mut run, base);
        let mounted = repository.volume(volume).unwrap();
        let added = IndexedBlock { id: block.id, size: block.size, verified_ns: None };
        IndexDb::update(&mounted.volume.root, &[added], &[], &[]).unwrap();
        block.id
    }
}

fn version(kind: EntryKind, size: u64, object: Object) -> Version {
    Version {
        kind,
        mode: 0o644,
        owner: Owner::default(),
        size,
        mtime_ns: 7,
        btime_ns: None,
        link: 0,
        inconsistent: false,
        object,
        attrs: Vec::new(),
    }
}

fn header(repository: &Repository, kind: ContainerKind) -> Header {
    let mut salt = [0; 32];
    salt[..16].copy_from_slice(&RunUuid::random().0);
    Header { kind, hash: repository.settings().hash, repository: repository.settings().repository, salt }
}

/// Puts a manifest on every volume and makes the run complete.
fn complete(repository: &mut Repository, run: &mut Run, base: StateDigest) {
    let header = header(repository, ContainerKind::Manifest);
    let stores: Vec<_> = repository.mounted.iter().map(|mounted| &**mounted.store()).enumerate().collect();
    let mut sink = ManifestSink::open(&stores, &header);
    let meta = ManifestMeta {
        run: run.uuid,
        seq: run.seq.0,
        prev: run.prev.map(|prev| prev.0),
        source: ManifestSource { host: "host".to_owned(), name: "/home".to_owned(), roots: Vec::new() },
        encoding: Encoding::Delta,
        base,
        result: run.digest.unwrap(),
        started_ns: 1,
        ended_ns: 2,
        counts: run.counts,
        compression: None,
        redundancy: None,
        selected: None,
        marks: run.marks.clone(),
    };
    let mut section = SectionTag::Meta.start();
    section.extend(serde_json::to_vec(&meta).unwrap());
    sink.put_section(&section);
    let outcome = sink.finish(&layout::manifest_key(run.seq, &run.uuid, ManifestCopy::First));
    assert!(outcome.failed.is_empty());
    run.manifest = outcome.digest;
    let ids: Vec<_> = repository.mounted.iter().map(|mounted| mounted.row.id).collect();
    let tx = repository.catalog.begin().unwrap();
    runs::complete(&tx, run).unwrap();
    blocks::mark_listed(&tx, run.seq).unwrap();
    ids.into_iter().for_each(|id| volumes::set_last_manifest(&tx, id, run.seq).unwrap());
    tx.commit().unwrap();
}

/// Cuts files and gathers what is to be stored.
struct Packer<'r> {
    repository: &'r Repository,
    storing: Storing,
    next: ChunkNo,
    chunks: Vec<(ChunkNo, ChunkId, Vec<u8>)>,
}

impl<'r> Packer<'r> {
    fn new(repository: &'r Repository, storing: Storing) -> Self {
        let next = chunks::next_no(repository.catalog.conn()).unwrap();
        Self { repository, storing, next, chunks: Vec::new() }
    }

    fn content(&mut self, bytes: &[u8]) -> Content {
        let mut builder = ExtentBuilder::default();
        for piece in bytes.chunks(CHUNK_LEN) {
            if piece.iter().all(|byte| *byte == 0) {
                builder.push_zeros(piece.len() as u64);
            } else {
                builder.push_chunk(self.chunk(piece), u32::try_from(piece.len()).unwrap());
            }
        }
        let (extents, size) = builder.finish();
        Content { size, hash: FileHash(hash_bytes(HashAlgo::Blake3, bytes)), extents }
    }

    fn chunk(&mut self, piece: &[u8]) -> ChunkNo {
        let id = ChunkId(hash_bytes(HashAlgo::Blake3, piece));
        if let Some((no, ..)) = self.chunks.iter().find(|(_, known, _)| *known == id) {
            return *no;
        }
        let known = chunks::find(self.repository.catalog.conn(), &id, &[]).unwrap();
        if let Some(known) = known.filter(|_| self.storing == Storing::New) {
            return known.no;
        }
        let no = known.map_or(self.next, |known| known.no);
        if no == self.next {
            self.next = ChunkNo(no.0 + 1);
        }
        self.chunks.push((no, id, piece.to_vec()));
        no
    }

    fn finish(self, volume: crate::model::ids::VolumeId) -> NewBlock {
        let header = header(self.repository, ContainerKind::Block);
        let store = self.repository.volume(volume).unwrap().store();
        let mut writer = ContainerWriter::new(store.begin(1 << 20).unwrap(), &header, 8 << 20).unwrap();
        for group in self.chunks.chunks(CHUNKS_PER_SEGMENT) {
            let raw: Vec<u8> = group.iter().flat_map(|(_, _, bytes)| bytes.clone()).collect();
            let mut bytes = Vec::new();
            let codec = with_encoder(Compression::Zstd(3), |encoder| encoder.encode(&raw, &mut bytes));
            let segment = EncodedSegment { codec, raw_len: u32::try_from(raw.len()).unwrap(), bytes };
            let ids: Vec<_> = group.iter().map(|(_, id, bytes)| (*id, u32::try_from(bytes.len()).unwrap())).collect();
            writer.put_data(&segment, &ids).unwrap();
        }
        let done = writer.finish(ContainerKind::Block, &|id| layout::block_key(&id)).unwrap();
        NewBlock {
            id: done.id,
            size: done.size,
            kind: ContainerKind::Block as u8,
            volumes: vec![volume],
            table: done.table,
            numbers: self.chunks.iter().map(|(no, ..)| *no).collect(),
            listed_by: None::<RunSeq>,
        }
    }
}

/// Bytes that do not repeat and do not shrink.
pub fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Bytes that do not repeat and shrink.
pub fn text(seed: usize, len: usize) -> Vec<u8> {
    (0_usize..).flat_map(|n| format!("line {n} of {seed}\n").into_bytes()).take(len).collect()
}
