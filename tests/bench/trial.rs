//! A trial of the chunker's and compressor's parameters on real trees: what would be stored, and how long each phase
//! takes on one core. No metadata, no volumes: files in sorted order, chunks deduplicated in memory, new ones packed into
//! segments in stream order. Without a directory it times the room's loops alone. `cargo bench --bench trial -- avg=512K DIR [DIR2 ...]`; each further directory is the
//! next version of the same source. Keys: min, avg, max, norm, segment, level, probe (0 or 1).
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::collections::HashSet;
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use raidtape::codec::chunker::{Chunker, Cutter, default_params};
use raidtape::codec::compress::{SegmentEncoder, is_all_zero, looks_incompressible};
use raidtape::codec::hash::{FileHasher, hash_bytes, piece_hash_zeros};
use raidtape::model::limits::{CHUNK_LEN_MAX, SEGMENT_RAW_MAX};
use raidtape::model::params::{ChunkerParams, Compression, HashAlgo, size_from_text};

const READ_LEN: usize = 4 << 20;

struct Args {
    params: ChunkerParams,
    segment: usize,
    level: i32,
    probe: bool,
    dirs: Vec<String>,
}

#[derive(Default, Clone, Copy)]
struct Spent {
    read: Duration,
    cut: Duration,
    hash: Duration,
    probe: Duration,
    compress: Duration,
}

struct Trial {
    args: Args,
    seen: HashSet<[u8; 32]>,
    encoder: SegmentEncoder,
    solid: Vec<u8>,
    out: Vec<u8>,
    buffer: Vec<u8>,
    stored: usize,
    raw: usize,
    bytes: u64,
    spent: Spent,
}

fn clocked<R>(on: &mut Duration, work: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = work();
    *on += start.elapsed();
    result
}

impl Trial {
    fn new(args: Args) -> Self {
        Self {
            encoder: SegmentEncoder::new(Compression::Zstd(args.level)),
            args,
            seen: HashSet::new(),
            solid: Vec::new(),
            out: Vec::new(),
            buffer: Vec::new(),
            stored: 0,
            raw: 0,
            bytes: 0,
            spent: Spent::default(),
        }
    }

    fn flush_solid(&mut self) {
        let (encoder, raw, out) = (&mut self.encoder, &self.solid, &mut self.out);
        clocked(&mut self.spent.compress, || encoder.encode(raw, out));
        self.stored += self.out.len();
        self.solid.clear();
    }

    fn chunk(&mut self, chunk: &[u8]) {
        if clocked(&mut self.spent.probe, || is_all_zero(chunk)) {
            return;
        }
        let id = clocked(&mut self.spent.hash, || hash_bytes(HashAlgo::Blake3, chunk));
        if !self.seen.insert(id) {
            return;
        }
        self.raw += chunk.len();
        if self.args.probe && clocked(&mut self.spent.probe, || looks_incompressible(chunk)) {
            self.stored += chunk.len();
            return;
        }
        if self.solid.len() + chunk.len() > self.args.segment {
            self.flush_solid();
        }
        self.solid.extend_from_slice(chunk);
    }

    fn file(&mut self, path: &Path, cutter: &mut Cutter) -> Result<(), Box<dyn std::error::Error>> {
        let mut file = File::open(path)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(READ_LEN + CHUNK_LEN_MAX, 0);
        let mut kept = 0;
        let mut cuts = Vec::new();
        loop {
            let until = kept + READ_LEN;
            let len = clocked(&mut self.spent.read, || file.read(&mut buffer[kept..until]))?;
            self.bytes += len as u64;
            let base = cutter.chunk_start();
            cuts.clear();
            clocked(&mut self.spent.cut, || {
                cutter.feed(&buffer[kept..kept + len], &mut cuts);
                if len == 0 {
                    cutter.finish(&mut cuts);
                }
            });
            let mut at = 0;
            for cut in &cuts {
                let end = usize::try_from(cut - base)?;
                self.chunk(&buffer[at..end]);
                at = end;
            }
            if len == 0 {
                self.buffer = buffer;
                return Ok(());
            }
            buffer.copy_within(at..kept + len, 0);
            kept = kept + len - at;
        }
    }

    fn version(&mut self, dir: &str) -> Result<(), Box<dyn std::error::Error>> {
        let start = Instant::now();
        let mut cutter = Chunker::new(&self.args.params)?.cutter();
        for entry in walkdir::WalkDir::new(dir).sort_by_file_name() {
            let entry = entry?;
            if entry.file_type().is_file() {
                self.file(entry.path(), &mut cutter)?;
            }
        }
        self.flush_solid();
        let spent = self.spent;
        println!(
            "{dir}: stored {} MiB of {} new in {} chunks; {:.1} s: read {:.2} cut {:.2} ({:.2} GB/s) hash {:.2} probe {:.2} compress {:.2}",
            self.stored >> 20,
            self.raw >> 20,
            self.seen.len(),
            start.elapsed().as_secs_f64(),
            spent.read.as_secs_f64(),
            spent.cut.as_secs_f64(),
            self.bytes as f64 / 1e9 / spent.cut.as_secs_f64(),
            spent.hash.as_secs_f64(),
            spent.probe.as_secs_f64(),
            spent.compress.as_secs_f64(),
        );
        self.spent = Spent::default();
        self.bytes = 0;
        Ok(())
    }
}

fn args() -> Option<Args> {
    let mut args = Args { params: default_params(), segment: SEGMENT_RAW_MAX, level: 3, probe: true, dirs: Vec::new() };
    for arg in std::env::args().skip(1).filter(|arg| arg != "--bench") {
        let Some((key, value)) = arg.split_once('=') else {
            args.dirs.push(arg);
            continue;
        };
        let number = size_from_text(value).and_then(|size| u32::try_from(size).ok())?;
        match key {
            "min" => args.params.min = number,
            "avg" => args.params.avg = number,
            "max" => args.params.max = number,
            "norm" => args.params.normalization = number,
            "segment" => args.segment = number as usize,
            "level" => args.level = i32::try_from(number).ok()?,
            "probe" => args.probe = number != 0,
            _ => return None,
        }
    }
    Some(args)
}

/// Bytes per nanosecond, the best of many rounds, which is what an undisturbed core reaches.
fn best_gb_per_s(bytes: usize, mut work: impl FnMut()) -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..100 {
        let mut spent = Duration::ZERO;
        clocked(&mut spent, &mut work);
        best = best.min(spent);
    }
    bytes as f64 / 1e9 / best.as_secs_f64()
}

fn speeds(params: &ChunkerParams) -> Result<(), Box<dyn std::error::Error>> {
    let mut noise = vec![0; READ_LEN];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let zeros = vec![0; READ_LEN];
    let mut cutter = Chunker::new(params)?.cutter();
    let mut cuts = Vec::new();
    let cut = best_gb_per_s(READ_LEN, || cutter.feed(&noise, &mut cuts));
    println!("cut {cut:.2} GB/s, {} cuts", cuts.len());
    let zero = best_gb_per_s(READ_LEN, || assert!(is_all_zero(black_box(&zeros))));
    println!("is_all_zero {zero:.2} GB/s");
    for algo in [HashAlgo::Blake3, HashAlgo::Sha256] {
        let hash = best_gb_per_s(READ_LEN, || {
            hash_bytes(algo, &noise);
        });
        let zeros = best_gb_per_s(READ_LEN, || {
            let mut hasher = FileHasher::new(algo);
            hasher.push(piece_hash_zeros(algo, 0, READ_LEN), &[]);
            hasher.finish();
        });
        println!("{algo:?} {hash:.2} GB/s, zeros {zeros:.2} GB/s");
    }
    let chunk = &noise[..512 << 10];
    let probe = best_gb_per_s(chunk.len(), || assert!(looks_incompressible(chunk)));
    println!("looks_incompressible {probe:.1} GB/s on noise by 512 KiB");
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(args) = args() else {
        return Err("usage: trial [min=] [avg=] [max=] [norm=] [segment=] [level=] [probe=] DIR...".into());
    };
    println!("{:?} segment {} level {}", args.params, args.segment, args.level);
    if args.dirs.is_empty() {
        return speeds(&args.params);
    }
    let mut trial = Trial::new(args);
    for dir in trial.args.dirs.clone() {
        trial.version(&dir)?;
    }
    Ok(())
}
