//! Repositories that nobody sound has written: containers put together by hand, with every checksum right.

use crate::util::bench::{Bench, Said};
use crate::util::oracle::{Snapshot, snapshot};
use raidtape::format::block::BlockTable;
use raidtape::format::container::{ContainerKind, Header, SegmentHeader, SegmentKind, Trailer};
use raidtape::format::layout::{ManifestCopy, block_key, manifest_key};
use raidtape::format::manifest_rows::{ContentOp, PutRow, Row, RowEncoder};
use raidtape::model::entry::EntryKind;
use raidtape::model::ids::{BlockId, ChunkId, ChunkNo, FileHash, RepositoryUuid, RunSeq, RunUuid, StateDigest};
use raidtape::model::params::HashAlgo;
use raidtape::model::version::{Detection, Object, Owner, Version};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Private memory that any command may take, in bytes.
const MEMORY_MAX: u64 = 256 << 20;

/// A segment: codec, raw length as it is told, stored bytes.
pub type Stored = (u8, usize, Vec<u8>);

/// A bench with one sound run of one file on one volume, a tree outside that nobody may touch, and a run to forge.
pub struct Forge {
    pub bench: Bench,
    pub repository: RepositoryUuid,
    /// State after run 1.
    pub base: StateDigest,
    /// State after the forged run, as far as it was put together.
    pub result: StateDigest,
    pub rows: Vec<Row>,
    pub uuid: RunUuid,
    sound: Snapshot,
    outside: Snapshot,
}

impl Forge {
    pub fn new() -> Self {
        let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
        crate::util::tree::write(&bench.src(), "good", b"a sound file");
        bench.backup();
        crate::util::tree::write(&bench.path("outside"), "precious", b"precious");
        let label: Value =
            serde_json::from_slice(&fs::read(bench.path("disk1/raidtape-volume.json")).unwrap()).unwrap();
        let conn = rusqlite::Connection::open(bench.path("backup.cat")).unwrap();
        let base: [u8; 32] = conn.query_row("SELECT digest FROM runs", [], |row| row.get(0)).unwrap();
        drop(conn);
        Self {
            repository: label["repository"].as_str().unwrap().parse().unwrap(),
            base: StateDigest(base),
            result: StateDigest(base),
            rows: vec![Row::Dir(Vec::new())],
            uuid: RunUuid([7; 16]),
            sound: snapshot(&bench.src()),
            outside: snapshot(&bench.path("outside")),
            bench,
        }
    }

    /// A run after the sound one, with these rows.
    pub fn with_rows(rows: impl IntoIterator<Item = Row>) -> Self {
        let mut forge = Self::new();
        forge.rows.extend(rows);
        forge
    }

    /// Adds a version to rows and digest, as an encoder would.
    pub fn put(&mut self, path: &str, row: PutRow) {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let row = PutRow { name: name.into(), ..row };
        self.result.add(row.version.row_hash(path.as_bytes()));
        self.rows.extend([Row::Dir(dir.into()), Row::Put(Box::new(row))]);
    }

    /// The head of the run's record.
    pub fn head(&self) -> Value {
        let conn = rusqlite::Connection::open(self.bench.path("backup.cat")).unwrap();
        let source: (String, String, String) = conn
            .query_row("SELECT host, name, roots FROM sources", [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap();
        json!({
            "run": self.uuid.to_string(), "seq": 2, "prev": 1,
            "source": {"host": source.0, "name": source.1, "roots": serde_json::from_str::<Value>(&source.2).unwrap()},
            "encoding": "delta", "base": self.base.to_string(), "result": self.result.to_string(),
            "started_ns": 1, "ended_ns": 2,
            "counts": {"added": 0, "modified": 0, "metadata": 0, "deleted": 0, "unchanged": 0, "problems": 0,
                       "bytes_total": 0, "bytes_read": 0, "bytes_new": 0, "bytes_stored": 0},
        })
    }

    pub fn rows_section(&self) -> Vec<u8> {
        let (mut section, mut encoder) = (vec![5, 0], RowEncoder::default());
        self.rows.iter().for_each(|row| encoder.put(&mut section, row));
        section
    }

    /// Puts a record of these sections behind the head on the volume.
    pub fn record(&self, head: &Value, sections: &[Vec<u8>]) -> PathBuf {
        let head = [&[1, 0][..], &serde_json::to_vec(head).unwrap()].concat();
        let all: Vec<_> = std::iter::once(&head).chain(sections).map(|raw| (0, raw.len(), raw.clone())).collect();
        let bytes = self.container(ContainerKind::Manifest, (SegmentKind::Section, &all), None);
        let key = manifest_key(RunSeq(2), &self.uuid, ManifestCopy::First);
        let path = self.bench.path("disk1").join(key);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A container of segments, and of a table where there is one.
    pub fn container(
        &self,
        kind: ContainerKind,
        (segment_kind, segments): (SegmentKind, &[Stored]),
        table: Option<&[u8]>,
    ) -> Vec<u8> {
        let header = Header { kind, hash: HashAlgo::Blake3, repository: self.repository, salt: [3; 32] };
        let mut out = header.encode().to_vec();
        let put = |out: &mut Vec<u8>, index: usize, kind, (codec, raw_len, stored): (u8, usize, &[u8])| {
            let (stored_len, raw_len) = (stored.len() as u32, raw_len as u32);
            let header = SegmentHeader { kind: kind as u8, codec, index: index as u32, stored_len, raw_len };
            out.extend(header.encode(stored));
            out.extend(stored);
        };
        for (index, (codec, raw_len, stored)) in segments.iter().enumerate() {
            put(&mut out, index, segment_kind, (*codec, *raw_len, stored));
        }
        let (mut segment_count, table_offset) = (segments.len() as u32, out.len() as u64);
        if let Some(table) = table {
            put(&mut out, segments.len(), SegmentKind::Table, (0, table.len(), table));
            segment_count += 1;
        }
        let (table_offset, table_len) =
            if table.is_some() { (table_offset, out.len() as u64 - table_offset) } else { (0, 0) };
        let file_len = out.len() as u64 + 64;
        out.extend(Trailer { table_offset, table_len, segment_count, pad_len: 0, file_len }.encode());
        out
    }

    /// Puts a block on the volume, under the name that its bytes have.
    pub fn block(&self, bytes: &[u8]) -> (BlockId, PathBuf) {
        let id = BlockId(*blake3::hash(bytes).as_bytes());
        let path = self.bench.path("disk1").join(block_key(&id));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        (id, path)
    }

    /// Runs a command with little memory and not for ever; it must end by itself, with a code of the documented ones.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Said {
        limited(&self.bench, args)
    }

    /// A catalog rebuilt beside the one that is there; the summary of the rebuild.
    #[track_caller]
    pub fn rebuild(&self, codes: &[i32]) -> Value {
        let args = ["--catalog", "rebuilt.cat", "--json", "--no-progress", "rebuild-catalog", "--volume", "disk1"];
        let said = self.run(&args);
        assert!(codes.contains(&said.code), "{said:#?}");
        said.summary()
    }

    /// Run 1 comes back from a catalog, and what is outside is as it was.
    #[track_caller]
    pub fn assert_sound(&self, catalog: &str) {
        let dest = self.bench.fresh("sound");
        let args = ["--catalog", catalog, "revert-to-run", "1"].map(OsStr::new);
        self.run(&[&args[..], &[dest.as_os_str()]].concat()).with_code(0);
        snapshot(&dest).assert_is(&self.sound, catalog);
        fs::remove_dir_all(dest).unwrap();
        self.assert_outside();
    }

    #[track_caller]
    pub fn assert_outside(&self) {
        snapshot(&self.bench.path("outside")).assert_is(&self.outside, "what lies outside");
    }

    /// The record is told to lead nowhere, by a rebuild and by a backup; everything else is as if it was not there.
    #[track_caller]
    pub fn assert_refused(&self, what: &str) {
        let report = self.rebuild(&[0, 5]);
        assert_eq!(report["runs"], 1, "{what}: {report}");
        let unreachable = report["unreachable_runs"].to_string();
        assert!(unreachable.contains("run ") && !unreachable.contains("SQL"), "{what}: {report}");
        self.assert_sound("rebuilt.cat");
        let said = self.run(&["--no-progress", "backup", "src"]).with_code(0);
        assert!(said.err.contains("cannot be used") || said.err.contains("passed over"), "{what}: {said:#?}");
        // The backup passed it over; whether its bytes still count as damage depends on what is wrong with it.
        let said = self.run(&["validate", "--deep"]);
        assert!([0, 4].contains(&said.code), "{what}: {said:#?}");
        assert!(said.err.contains("cannot be used") || said.err.contains("passed over"), "{what}: {said:#?}");
        self.assert_sound("backup.cat");
    }
}

/// Runs the program on a bench under a bound of memory and of time.
#[track_caller]
pub fn limited<A: AsRef<OsStr>>(bench: &Bench, args: &[A]) -> Said {
    let plain = bench.command(args);
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "60", "prlimit", &format!("--data={MEMORY_MAX}")]).arg(plain.get_program());
    command.args(plain.get_args()).current_dir(bench.path("")).env_clear();
    command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let said = Said::from(command.stdin(Stdio::null()).output().expect("the program runs"));
    let words: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy().into_owned()).collect();
    assert!([0, 1, 2, 3, 4, 5, 10, 11].contains(&said.code), "{words:?}: {said:#?}");
    assert!(!said.err.contains("panicked") && !said.err.contains("memory allocation"), "{words:?}: {said:#?}");
    said
}

/// A version of this kind, of whoever runs the test.
pub fn row(kind: EntryKind, object: Object) -> PutRow {
    let process = fs::metadata("/proc/self").unwrap();
    let owner = Owner { uid: process.uid(), gid: process.gid(), ..Owner::default() };
    let version = Version {
        kind,
        mode: if kind == EntryKind::Dir { 0o755 } else { 0o644 },
        owner,
        size: 0,
        mtime_ns: 1_600_000_000_000_000_000,
        btime_ns: None,
        link: 0,
        inconsistent: false,
        object,
        attrs: Vec::new(),
    };
    let detection = Detection::default();
    PutRow { name: Vec::new(), version, hash_is_chunk_id: false, same_content: false, detection, ops: Vec::new() }
}

pub fn dir() -> PutRow {
    row(EntryKind::Dir, Object::Nothing)
}

pub fn symlink(target: &str) -> PutRow {
    row(EntryKind::Symlink, Object::Target(target.into()))
}

/// A file of these operations.
pub fn file(size: u64, hash: [u8; 32], ops: Vec<ContentOp>) -> PutRow {
    let mut row = row(EntryKind::File, Object::Content(FileHash(hash)));
    row.version.size = size;
    row.ops = ops;
    row
}

/// A file that is the sound one's only chunk again.
pub fn good_again() -> PutRow {
    let hash = *blake3::hash(b"a sound file").as_bytes();
    file(12, hash, vec![ContentOp::Chunks { first: ChunkNo(1), n: 1 }])
}

/// A put row under a name that may be none.
pub fn named(name: &[u8], row: PutRow) -> Row {
    Row::Put(Box::new(PutRow { name: name.to_vec(), ..row }))
}

/// A table of one segment with one chunk.
pub fn table(offset: u64, stored_len: u32, raw_len: u32, id: [u8; 32]) -> BlockTable {
    let chunks = vec![(ChunkId(id), raw_len)];
    let segment = raidtape::format::block::SegmentEntry { offset, stored_len, raw_len, codec: 1, chunks };
    BlockTable { segments: vec![segment] }
}
