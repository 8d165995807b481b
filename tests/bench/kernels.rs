//! The loops that a backup's time is made of, each by itself and beside a yardstick where there is one: cutting, hashing,
//! probing, compressing, parity, walking, and the catalog's writing and reading. `cargo bench --bench kernels`, or with the name
//! of a group behind it. `RAIDTAPE_BENCH_TREE=DIR` walks that tree instead of `/usr`.

use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raidtape::catalog::blocks::{self, NewBlock};
use raidtape::catalog::chunks;
use raidtape::catalog::interned::dirs_within;
use raidtape::catalog::runs::{self, Run, RunState};
use raidtape::catalog::settings::Settings;
use raidtape::catalog::state::live_entries;
use raidtape::catalog::versions::{Applier, ApplyRun, Change};
use raidtape::catalog::{Catalog, contents};
use raidtape::codec::chunker::{Chunker, default_params};
use raidtape::codec::compress::{Codec, SegmentDecoder, SegmentEncoder, Stored, is_all_zero, looks_incompressible};
use raidtape::codec::hash::{hash_bytes, piece_hash};
use raidtape::codec::parity::{Damaged, ParityCode, column_hash};
use raidtape::engine::block_file::{ContainerWriter, EncodedSegment};
use raidtape::format::block::{BlockTable, SegmentEntry};
use raidtape::format::container::{ContainerKind, Header};
use raidtape::format::layout;
use raidtape::format::manifest::RunCounts;
use raidtape::model::content::{Content, Extent};
use raidtape::model::entry::EntryKind;
use raidtape::model::ids::{
    BlockId, ChunkId, ChunkNo, FileHash, RepositoryUuid, RunSeq, RunUuid, SourceId, StateDigest, VolumeId,
};
use raidtape::model::params::{Compression, HashAlgo, Reserve};
use raidtape::model::run_marks::RunMarks;
use raidtape::model::version::{Detection, Object, Owner, Version};
use raidtape::tree::list::Select;
use raidtape::tree::walk::{WalkOptions, Walker};
use raidtape::volume::local::LocalStore;
use raidtape::volume::store::Store;
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

const MIB: usize = 1 << 20;
const SEGMENT: usize = 4 * MIB;
const SEGMENT_LEN: u32 = 4 << 20;
/// Rows of one catalog bench, in directories of [`DIR_ROWS`].
const ROWS: u64 = 20_000;
const DIR_ROWS: u64 = 20;

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// This repository's own source over and over, each time a little different: what compresses as source code does.
fn text(len: usize) -> Vec<u8> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut dirs = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("the sources are here").flatten() {
            let path = entry.path();
            if path.is_dir() { &mut dirs } else { &mut files }.push(path);
        }
    }
    files.sort();
    let one: Vec<u8> = files.iter().flat_map(|path| fs::read(path).unwrap_or_default()).collect();
    let mut all = Vec::with_capacity(len + one.len());
    while all.len() < len {
        let shift = (all.len() / one.len()) % 25;
        all.extend(one.iter().map(|byte| match byte {
            b'a'..=b'z' => b'a' + u8::try_from((usize::from(byte - b'a') + shift) % 26).unwrap_or(0),
            other => *other,
        }));
    }
    all.truncate(len);
    all
}

fn cutting(c: &mut Criterion) {
    let mut group = c.benchmark_group("cut");
    let data = noise(64 * MIB);
    group.throughput(Throughput::Bytes(data.len() as u64)).sample_size(20);
    let params = default_params();
    let chunker = Chunker::new(&params).expect("the defaults are valid");
    let mut cuts = Vec::new();
    group.bench_function("whole file", |b| {
        b.iter(|| {
            cuts.clear();
            chunker.cut_whole(&data, &mut cuts);
            cuts.len()
        });
    });
    group.bench_function("blocks of 4 MiB", |b| {
        b.iter(|| {
            cuts.clear();
            let mut cutter = chunker.cutter();
            data.chunks(SEGMENT).for_each(|piece| cutter.feed(piece, &mut cuts));
            cutter.finish(&mut cuts);
            cuts.len()
        });
    });
    group.bench_function("yardstick: fastcdc v2020", |b| {
        let [min, avg, max] = [params.min, params.avg, params.max].map(|len| len as usize);
        b.iter(|| fastcdc::v2020::FastCDC::new(&data, min, avg, max).count());
    });
    group.bench_function("yardstick: copying", |b| {
        let mut to = vec![0; data.len()];
        b.iter(|| to.copy_from_slice(black_box(&data)));
    });
    group.finish();
}

fn hashing(c: &mut Criterion) {
    let mut group = c.benchmark_group("hash");
    let data = noise(SEGMENT);
    for len in [4 << 10, 16 << 10, 256 << 10, SEGMENT] {
        group.throughput(Throughput::Bytes(len as u64));
        for algo in [HashAlgo::Blake3, HashAlgo::Sha256] {
            group.bench_with_input(BenchmarkId::new(algo.name(), len), &data[..len], |b, bytes| {
                b.iter(|| hash_bytes(algo, bytes));
            });
        }
    }
    group.bench_function("piece of a file", |b| b.iter(|| piece_hash(HashAlgo::Blake3, 7, &data)));
    group.finish();
}

fn probing(c: &mut Criterion) {
    let mut group = c.benchmark_group("probe");
    let (noise, text, zeros) = (noise(256 << 10), text(256 << 10), vec![0; 256 << 10]);
    group.throughput(Throughput::Bytes(noise.len() as u64));
    group.bench_function("incompressible, of noise", |b| b.iter(|| looks_incompressible(black_box(&noise))));
    group.bench_function("incompressible, of text", |b| b.iter(|| looks_incompressible(black_box(&text))));
    group.bench_function("all zero, of zeros", |b| b.iter(|| is_all_zero(black_box(&zeros))));
    group.finish();
}

fn compressing(c: &mut Criterion) {
    let mut group = c.benchmark_group("segment");
    group.throughput(Throughput::Bytes(SEGMENT as u64)).sample_size(20);
    let (text, noise) = (text(SEGMENT), noise(SEGMENT));
    let mut stored = Vec::new();
    for level in [1, 3, 6] {
        let mut encoder = SegmentEncoder::new(Compression::Zstd(level));
        group.bench_function(BenchmarkId::new("zstd of source code", level), |b| {
            b.iter(|| encoder.encode(&text, &mut stored));
        });
    }
    let mut encoder = SegmentEncoder::new(Compression::Zstd(3));
    group.bench_function("zstd of noise", |b| b.iter(|| encoder.encode(&noise, &mut stored)));
    let codec = encoder.encode(&text, &mut stored);
    assert_eq!(codec, Codec::Zstd);
    let (mut decoder, mut raw) = (SegmentDecoder::new(), Vec::new());
    group.bench_function("decoding", |b| {
        b.iter(|| decoder.decode(Stored { codec, bytes: &stored, raw_len: SEGMENT }, &mut raw).expect("its own"));
    });
    group.finish();
}

/// Bytes of data a second: K columns of 1 MiB are one time, whatever is lost of them.
fn protecting(c: &mut Criterion) {
    let mut group = c.benchmark_group("parity");
    group.sample_size(20);
    for (positions, parities) in [(2, 1), (4, 2), (10, 2), (32, 8)] {
        let name = |what: &str| BenchmarkId::new(what, format!("{positions}+{parities}"));
        let data: Vec<_> = noise(positions * MIB).chunks(MIB).map(<[u8]>::to_vec).collect();
        let parts: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let code = ParityCode::new(positions, parities).expect("a code");
        let mut parity = vec![Vec::new(); parities];
        code.encode(&parts, MIB, &mut parity).expect("a column");
        group.throughput(Throughput::Bytes((positions * MIB) as u64));
        group.bench_function(name("encoding"), |b| {
            b.iter(|| code.encode(&parts, MIB, &mut parity).expect("a column"));
        });
        let checks: Vec<_> = parity.iter().map(|part| Some(part.as_slice())).collect();
        let mut found = vec![Vec::new(); positions];
        for lost in 1..=parities.min(2) {
            let there: Vec<_> = (0..).zip(&parts).map(|(at, part)| (at >= lost).then_some(*part)).collect();
            let damaged = Damaged { len: MIB, data: &there, parity: &checks };
            group.bench_function(name(&format!("reconstructing {lost}")), |b| {
                b.iter(|| code.reconstruct(&damaged, &mut found, &mut []).expect("enough is there"));
            });
        }
        group.bench_function(name("yardstick: encoding by transforms"), |b| {
            let mut encoder = ReedSolomonEncoder::new(positions, parities, MIB).expect("a code");
            b.iter(|| {
                parts.iter().for_each(|part| encoder.add_original_shard(part).expect("a column"));
                encoder.encode().expect("a column").recovery_iter().map(|part| black_box(part).len()).sum::<usize>()
            });
        });
        group.bench_function(name("yardstick: reconstructing 1 by transforms"), |b| {
            let mut decoder = ReedSolomonDecoder::new(positions, parities, MIB).expect("a code");
            b.iter(|| {
                let there = parts.iter().enumerate().skip(1);
                there.for_each(|(at, part)| decoder.add_original_shard(at, part).expect("a column"));
                decoder.add_recovery_shard(0, &parity[0]).expect("a column");
                decoder.decode().expect("enough is there").restored_original(0).map(<[u8]>::len)
            });
        });
        group.throughput(Throughput::Bytes(MIB as u64));
        group.bench_function(name("one member in or out"), |b| {
            b.iter(|| code.toggle(1, &data[1], &mut parity).expect("a column"));
        });
    }
    group.throughput(Throughput::Bytes(MIB as u64));
    let column = noise(MIB);
    group.bench_function("checksum of a column", |b| b.iter(|| column_hash(black_box(&column))));
    group.finish();
}

fn writing(c: &mut Criterion) {
    let mut group = c.benchmark_group("block");
    let temp = tempfile::tempdir().expect("a temporary directory");
    let bytes = noise(SEGMENT);
    let segment = EncodedSegment { codec: Codec::Raw, raw_len: SEGMENT_LEN, bytes };
    let header = Header {
        kind: ContainerKind::Block,
        hash: HashAlgo::Blake3,
        repository: RepositoryUuid([1; 16]),
        salt: [0; 32],
    };
    group.throughput(Throughput::Bytes(15 * SEGMENT as u64)).sample_size(10);
    group.bench_function("60 MiB written and durable", |b| {
        let mut salt = 0_u32;
        b.iter(|| {
            salt += 1;
            let mut header = header.clone();
            header.salt[..4].copy_from_slice(&salt.to_le_bytes());
            let store = LocalStore::open(temp.path()).expect("a directory");
            let sink = store.begin(64 << 20).expect("room");
            let mut writer = ContainerWriter::new(sink, &header, 64 << 20).expect("room");
            for no in 0..15 {
                writer.put_data(&segment, &[(ChunkId([no; 32]), SEGMENT_LEN)]).expect("room");
            }
            let done = writer.finish(ContainerKind::Block, &|id| layout::block_key(&id)).expect("room");
            store.delete(&layout::block_key(&done.id)).expect("it is there");
        });
    });
    group.finish();
}

fn walking(c: &mut Criterion) {
    let mut group = c.benchmark_group("walk");
    let root = std::env::var_os("RAIDTAPE_BENCH_TREE").map_or_else(|| PathBuf::from("/usr"), PathBuf::from);
    let walk = |threads| {
        let select = Arc::new(|_: &[u8], _: &raidtape::model::entry::Stat| Select::Take);
        let options = WalkOptions { threads, lookahead_entries: 50_000, select, selection: Arc::default() };
        let mut walker = Walker::open(&root, options).expect("a directory");
        let mut entries = 0;
        while let Some(listing) = walker.next() {
            entries += listing.entries.len() as u64;
        }
        entries
    };
    group.throughput(Throughput::Elements(walk(0))).sample_size(10);
    for threads in [0, 1, 2, 4] {
        group.bench_function(BenchmarkId::new("threads ahead", threads), |b| b.iter(|| walk(threads)));
    }
    group.bench_function("yardstick: walkdir with metadata", |b| {
        b.iter(|| walkdir::WalkDir::new(&root).into_iter().flatten().filter(|entry| entry.metadata().is_ok()).count());
    });
    group.finish();
}

/// A catalog in a temporary directory.
struct Bench {
    _temp: tempfile::TempDir,
    catalog: Catalog,
    source: SourceId,
}

fn bench_catalog() -> Bench {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let settings = Settings {
        repository: RepositoryUuid([1; 16]),
        hash: HashAlgo::Blake3,
        chunker: default_params(),
        block_size: 128 << 20,
        compression: Compression::Zstd(3),
        reserve: Reserve::Percent(1.0),
        redundancy: raidtape::model::redundancy::Redundancy::None,
    };
    let mut catalog = Catalog::create(&temp.path().join("cat"), &settings).expect("a new catalog");
    let tx = catalog.begin().expect("nobody else writes");
    let source = runs::intern_source(&tx, "host", "source", &[]).expect("a new source");
    tx.commit().expect("room");
    Bench { _temp: temp, catalog, source }
}

fn run_of(source: SourceId, seq: i64) -> Run {
    Run {
        seq: RunSeq(seq),
        uuid: RunUuid::random(),
        source,
        state: RunState::Open,
        prev: (seq > 1).then(|| RunSeq(seq - 1)),
        started_ns: 0,
        ended_ns: None,
        digest: None,
        manifest: None,
        counts: RunCounts::default(),
        marks: RunMarks::default(),
    }
}

fn id_of(no: u64, salt: u64) -> [u8; 32] {
    *blake3::hash(&[no.to_le_bytes(), salt.to_le_bytes()].concat()).as_bytes()
}

/// One block with a chunk for each row.
fn block_of(seq: u64) -> NewBlock {
    let numbers: Vec<ChunkNo> = (0..ROWS).map(|no| ChunkNo((seq * ROWS + no + 1).cast_signed())).collect();
    let chunks = (0..ROWS).map(|no| (ChunkId(id_of(no, seq)), 16_384)).collect();
    let segment = SegmentEntry { offset: 96, stored_len: 1, raw_len: 1, codec: 1, chunks };
    NewBlock {
        id: BlockId(id_of(seq, u64::MAX)),
        size: 1,
        kind: ContainerKind::Block as u8,
        volumes: vec![VolumeId(1)],
        table: BlockTable { segments: vec![segment] },
        numbers,
        listed_by: None,
    }
}

/// One run in which every file is new, or has another time and other content than in the run before.
fn apply_run(bench: &mut Bench, seq: i64, base: StateDigest) -> StateDigest {
    let source = bench.source;
    let salt = seq.cast_unsigned();
    let tx = bench.catalog.begin().expect("nobody else writes");
    let mut run = run_of(source, seq);
    runs::insert_open(&tx, &run).expect("a new run");
    let mut applier = Applier::new(&tx, ApplyRun { source, run: run.seq, prev: run.prev }, base);
    for no in 0..ROWS {
        let hash = FileHash(id_of(no, salt));
        let extents = vec![Extent { at: 0, chunk: ChunkNo((salt * ROWS + no + 1).cast_signed()), n: 1 }];
        let content = contents::put(&tx, &Content { size: 16_384, hash, extents }).expect("a new content");
        let version = Version {
            kind: EntryKind::File,
            mode: 0o644,
            owner: Owner::default(),
            size: 16_384,
            mtime_ns: seq,
            btime_ns: None,
            link: 0,
            inconsistent: false,
            object: Object::Content(hash),
            attrs: Vec::new(),
        };
        let change = Change::Put { version, content: Some(content), detection: Detection::default() };
        let dir = format!("some/directory/{:06}", no / DIR_ROWS);
        applier.apply(dir.as_bytes(), format!("file-{no}").as_bytes(), &change).expect("it applies");
    }
    applier.finish().expect("it applies");
    (run.digest, run.ended_ns) = (Some(applier.digest()), Some(1));
    let digest = applier.digest();
    runs::complete(&tx, &run).expect("it completes");
    tx.commit().expect("room");
    digest
}

fn cataloguing(c: &mut Criterion) {
    let mut group = c.benchmark_group("catalog");
    group.throughput(Throughput::Elements(ROWS)).sample_size(10).measurement_time(Duration::from_secs(10));
    group.bench_function("chunks of a block registered", |b| {
        let mut bench = bench_catalog();
        let mut seq = 0;
        b.iter(|| {
            seq += 1;
            let tx = bench.catalog.begin().expect("nobody else writes");
            blocks::register(&tx, &block_of(seq)).expect("a new block");
            tx.commit().expect("room");
        });
    });
    group.bench_function("new files applied", |b| {
        b.iter_with_large_drop(|| {
            let mut bench = bench_catalog();
            apply_run(&mut bench, 1, StateDigest::EMPTY);
            bench
        });
    });
    let mut bench = bench_catalog();
    let tx = bench.catalog.begin().expect("nobody else writes");
    blocks::register(&tx, &block_of(1)).expect("a new block");
    tx.commit().expect("room");
    let (mut seq, mut digest) = (1, apply_run(&mut bench, 1, StateDigest::EMPTY));
    group.bench_function("changed files applied", |b| {
        b.iter(|| {
            seq += 1;
            digest = apply_run(&mut bench, seq, digest);
        });
    });
    group.bench_function("state read directory by directory", |b| {
        b.iter(|| {
            let reading = bench.catalog.reading().expect("a catalog");
            let conn = bench.catalog.conn();
            let dirs = dirs_within(conn, bench.source, b"").expect("a catalog");
            let rows: usize = dirs.iter().map(|(id, _)| live_entries(conn, *id).expect("a catalog").len()).sum();
            drop(reading);
            assert_eq!(rows as u64, ROWS);
        });
    });
    group.bench_function("chunks looked up", |b| {
        b.iter(|| {
            let reading = bench.catalog.reading().expect("a catalog");
            let conn = bench.catalog.conn();
            let found = (0..ROWS).filter(|no| {
                let place = chunks::find_place(conn, &ChunkId(id_of(*no, 1))).expect("a catalog");
                place.is_some()
            });
            assert_eq!(found.count() as u64, ROWS);
            drop(reading);
        });
    });
    group.finish();
}

criterion_group!(kernels, cutting, hashing, probing, compressing, protecting, writing, walking, cataloguing);
criterion_main!(kernels);
