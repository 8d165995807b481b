//! A repository that means harm: records, blocks, labels and sidecars whose checksums are right and whose words are not.
//! Each is refused by name or does as it is told inside the target; nothing outside is touched, nothing panics, no
//! memory runs out, and what is sound beside it is still restored.

use crate::forge::{Forge, dir, file, good_again, named, row, symlink, table};
use crate::util::needs::{has_root, has_tools};
use crate::util::oracle::snapshot;
use raidtape::format::container::{ContainerKind, SegmentKind};
use raidtape::format::manifest::{BlockRecord, DictionaryRun};
use raidtape::format::manifest_rows::{ContentOp, Row};
use raidtape::model::entry::EntryKind;
use raidtape::model::ids::{BlockId, ChunkId, ChunkNo, RunUuid, VolumeUuid};
use raidtape::model::version::{EndReason, Object};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;

fn tools() -> bool {
    has_tools(&["timeout", "prlimit"])
}

/// Rows are refused, by every command that meets them.
#[track_caller]
fn rows_are_refused(what: &str, rows: Vec<Row>) {
    let forge = Forge::with_rows(rows);
    forge.record(&forge.head(), &[forge.rows_section()]);
    forge.assert_refused(what);
}

#[test]
fn names_that_lead_out_in_a_record_are_refused() {
    if !tools() {
        return;
    }
    let long = [b'x'; 256];
    for name in [&b".."[..], b".", b"a/b", b"/etc", b"nul\0", b"../../outside/precious", &long] {
        rows_are_refused("a name", vec![named(name, good_again())]);
    }
    for path in [&b".."[..], b"/etc", b"a//b", b"a/../..", b"a/", b"a\0b", b"../outside"] {
        rows_are_refused("a directory", vec![Row::Dir(path.to_vec()), named(b"x", good_again())]);
    }
    rows_are_refused("no name", vec![Row::Dir(b"d".to_vec()), named(b"", dir())]);
    rows_are_refused("an end", vec![Row::End { name: b"..".to_vec(), reason: EndReason::Deleted }]);
}

#[test]
fn a_path_that_one_record_says_twice_is_refused() {
    if !tools() {
        return;
    }
    let other = || file(0, *blake3::hash(b"").as_bytes(), Vec::new());
    rows_are_refused("put twice", vec![named(b"x", good_again()), named(b"x", other())]);
    rows_are_refused("three times", vec![named(b"good", other()), named(b"good", dir()), named(b"good", other())]);
    let end = || Row::End { name: b"x".to_vec(), reason: EndReason::Deleted };
    rows_are_refused("put and ended", vec![named(b"x", good_again()), end()]);
}

#[test]
fn fields_that_no_writer_gives_are_refused() {
    if !tools() {
        return;
    }
    let with = |change: fn(&mut raidtape::format::manifest_rows::PutRow)| {
        let mut row = good_again();
        change(&mut row);
        vec![named(b"x", row)]
    };
    rows_are_refused("a mode of another kind", with(|row| row.version.mode = 0o050_644));
    rows_are_refused("a mode", with(|row| row.version.mode = u32::MAX));
    rows_are_refused("a size", with(|row| row.version.size = u64::MAX));
    rows_are_refused("another size", with(|row| row.version.size = 13));
    let ops = |ops: Vec<ContentOp>, size: u64| vec![named(b"x", file(size, [1; 32], ops))];
    let chunks = |first, n| ContentOp::Chunks { first: ChunkNo(first), n };
    rows_are_refused("an unknown chunk", ops(vec![chunks(77, 1)], 12));
    rows_are_refused("chunks without end", ops(vec![chunks(1, u32::MAX)], 12));
    rows_are_refused("numbers that wrap", ops(vec![chunks(i64::MAX, 2)], 24));
    rows_are_refused("no chunk", ops(vec![chunks(0, 1), chunks(-1, 1)], 12));
    let zeros = |len| ContentOp::Zeros { len };
    rows_are_refused("zeros that wrap", ops(vec![zeros(u64::MAX), zeros(13)], 12));
    rows_are_refused("zeros and a chunk", ops(vec![zeros(u64::MAX - 3), chunks(1, 1)], 8));
    rows_are_refused("a copy of nothing", ops(vec![ContentOp::Copy { from: 0, n: 1 }], 12));
}

#[test]
fn a_few_bytes_that_name_pieces_without_end_are_refused_at_once() {
    if !tools() {
        return;
    }
    let bomb = |first: ContentOp, size| {
        let again = vec![first; 200_000];
        vec![named(b"good", file(size, [1; 32], again))]
    };
    rows_are_refused("copies", bomb(ContentOp::Copy { from: 0, n: 1 }, 100));
    rows_are_refused("copies beyond the base", bomb(ContentOp::Copy { from: u64::MAX, n: u64::MAX >> 2 }, 100));
    rows_are_refused("chunks", bomb(ContentOp::Chunks { first: ChunkNo(1), n: 1 }, 12));
}

/// A block record with a table that may be none.
fn record(id: [u8; 32], size: u64, table: raidtape::format::block::BlockTable, numbers: &[i64]) -> Vec<u8> {
    let numbers = numbers.iter().copied().map(ChunkNo).collect();
    let record = BlockRecord { id: BlockId(id), size, kind: 1, volumes: vec![VolumeUuid([9; 16])], table, numbers };
    let mut section = vec![3, 0];
    record.encode(&mut section);
    section
}

#[test]
fn tables_in_a_record_that_lie_are_refused() {
    if !tools() {
        return;
    }
    let refused = |what: &str, section: Vec<u8>| {
        let forge = Forge::new();
        forge.record(&forge.head(), &[section]);
        forge.assert_refused(what);
    };
    let id = [5; 32];
    refused("beyond the block", record(id, 1000, table(96, 2000, 10, id), &[2]));
    refused("at the end of numbers", record(id, u64::MAX, table(u64::MAX - 40, 1, 10, id), &[2]));
    refused("a huge segment", record(id, 1 << 39, table(96, u32::MAX, u32::MAX, id), &[2]));
    refused("nothing", record(id, 1000, table(96, 10, 0, id), &[2]));
    let mut twice = table(96, 10, 10, id);
    twice.segments.push(twice.segments[0].clone());
    refused("overlapping", record(id, 1000, twice, &[2, 3]));
    let mut unfilled = table(96, 10, 10, id);
    unfilled.segments[0].raw_len = 11;
    refused("unfilled", record(id, 1000, unfilled, &[2]));
    let mut counts = record(id, 1000, table(96, 10, 10, id), &[2]);
    let len = counts.len();
    counts.truncate(len - 36);
    raidtape::format::bytes::put_varint(&mut counts, u64::MAX);
    refused("a count", counts);
    for len in [0, u32::MAX] {
        let mut section = vec![4, 0];
        DictionaryRun { first: ChunkNo(9), chunks: vec![(ChunkId(id), len)] }.encode(&mut section);
        refused("a dictionary", section);
    }
    refused("an unknown section", vec![77, 0, 1, 2, 3]);
    refused("a second head", vec![1, 0, b'{', b'}']);
    refused("volumes", [&[2, 0][..], &b"[".repeat(1 << 20)].concat());
}

#[test]
fn numbers_at_the_end_of_their_range_leave_room_for_later_runs() {
    if !tools() {
        return;
    }
    let mut forge = Forge::new();
    let id = *blake3::hash(b"elsewhere").as_bytes();
    let mut row = file(9, id, vec![ContentOp::Chunks { first: ChunkNo(i64::MAX), n: 1 }]);
    row.version.link = i64::MAX;
    forge.put("far", row);
    let blocks = record([5; 32], 1000, table(96, 10, 9, id), &[i64::MAX]);
    forge.record(&forge.head(), &[blocks, forge.rows_section()]);
    assert_eq!(forge.rebuild(&[0, 5])["runs"], 2);
    forge.assert_sound("rebuilt.cat");
    // The catalog that was there takes the run over too; the runs after it go on.
    let report = forge.run(&["--json", "--no-progress", "backup", "src"]).with_code(0).summary();
    assert_eq!(report["run"], 3, "{report}");
    crate::util::tree::write(&forge.bench.src(), "later", b"later bytes");
    fs::hard_link(forge.bench.path("src/later"), forge.bench.path("src/linked")).unwrap();
    forge.run(&["backup", "src"]).with_code(0);
    forge.bench.assert_reverts(4, &snapshot(&forge.bench.src()));
    forge.assert_sound("backup.cat");
}

#[test]
fn heads_of_records_that_lie_are_refused() {
    if !tools() {
        return;
    }
    let refused = |what: &str, change: &dyn Fn(&Forge, &mut Value)| {
        let mut forge = Forge::new();
        forge.put("x", good_again());
        let mut head = forge.head();
        change(&forge, &mut head);
        forge.record(&head, &[forge.rows_section()]);
        forge.assert_refused(what);
    };
    refused("a result of its own", &|_, head| head["result"] = json!("11".repeat(32)));
    refused("a base of its own", &|_, head| head["base"] = json!("11".repeat(32)));
    refused("a base that is its result", &|forge, head| head["base"] = json!(forge.result.to_string()));
    refused("another number", &|_, head| head["seq"] = json!(3));
    refused("the highest number", &|_, head| head["seq"] = json!(i64::MAX));
    refused("beyond any number", &|_, head| head["seq"] = json!(u64::MAX));
    refused("itself before it", &|_, head| (head["prev"], head["base"]) = (json!(2), head["result"].clone()));
    refused("another run", &|_, head| head["run"] = json!(RunUuid([8; 16]).to_string()));
    refused("no number", &|_, head| head["counts"] = json!([[[]]]));
    refused("compression", &|_, head| head["compression"] = json!("zstd:99"));
    // What may be said and is only strange.
    let mut forge = Forge::new();
    forge.put("x", good_again());
    let mut head = forge.head();
    head["counts"].as_object_mut().unwrap().values_mut().for_each(|count| *count = json!(u64::MAX));
    (head["started_ns"], head["ended_ns"], head["prev"]) = (json!(i64::MIN), json!(i64::MAX), json!(i64::MIN));
    head["source"]["roots"] = json!(["\u{1b}[2J", "/".repeat(10_000)]);
    forge.record(&head, &[forge.rows_section()]);
    assert_eq!(forge.rebuild(&[0, 5])["runs"], 2);
    for command in [&["runs"][..], &["volumes"], &["ls"], &["list-changes", "2"], &["validate"]] {
        forge.run(&[&["--catalog", "rebuilt.cat"], command].concat()).with_code(0);
    }
    forge.assert_sound("rebuilt.cat");
}

#[test]
fn a_chain_that_goes_in_a_circle_or_says_a_run_twice_is_refused() {
    if !tools() {
        return;
    }
    // The identity of run 1 under another number.
    let mut forge = Forge::new();
    let conn = rusqlite::Connection::open(forge.bench.path("backup.cat")).unwrap();
    forge.uuid = RunUuid(conn.query_row("SELECT uuid FROM runs", [], |row| row.get(0)).unwrap());
    drop(conn);
    forge.put("x", good_again());
    forge.record(&forge.head(), &[forge.rows_section()]);
    let report = forge.rebuild(&[0, 5]);
    assert_eq!(report["runs"], 1, "{report}");
    forge.assert_sound("rebuilt.cat");
    forge.run(&["backup", "src"]).with_code(0);
    // Two runs, each of which goes on from the other.
    let forge = Forge::new();
    let (one, two) = (json!("11".repeat(32)), json!("22".repeat(32)));
    let mut head = forge.head();
    (head["base"], head["result"]) = (one.clone(), two.clone());
    forge.record(&head, &[]);
    let mut third = Forge::new();
    third.uuid = RunUuid([6; 16]);
    let mut head = third.head();
    (head["base"], head["result"], head["seq"]) = (two, one, json!(3));
    let name = third.record(&head, &[]);
    let to = name.file_name().unwrap().to_string_lossy().replace("0000000002", "0000000003");
    fs::copy(&name, forge.bench.path("disk1/runs").join(to)).unwrap();
    forge.assert_refused("a circle");
}

#[test]
fn a_record_that_passes_over_all_runs_before_it_and_leads_nowhere_costs_none_of_them() {
    if !tools() {
        return;
    }
    let empty = "00".repeat(32);
    for base in ["11".repeat(32), empty] {
        for prev in [Value::Null, json!(0), json!(i64::MIN)] {
            let mut forge = Forge::new();
            forge.put("x", good_again());
            let mut head = forge.head();
            (head["base"], head["prev"]) = (json!(base), prev);
            head["result"] = json!("22".repeat(32));
            forge.record(&head, &[forge.rows_section()]);
            forge.assert_refused("a branch of its own");
        }
    }
}

#[test]
fn a_symlink_with_a_child_below_it_stays_inside_the_target() {
    if !tools() {
        return;
    }
    let mut forge = Forge::new();
    let outside = forge.bench.path("outside").display().to_string();
    forge.put("l", symlink(&outside));
    forge.put("l/evil", good_again());
    forge.put("l/precious", good_again());
    forge.put("l/sub", dir());
    forge.put("up", symlink("../outside"));
    forge.put("up/evil", symlink("/etc/passwd"));
    forge.put("up/pipe", row(EntryKind::Fifo, Object::Nothing));
    forge.put("plain", good_again());
    forge.put("plain/below-a-file", good_again());
    // A hard link whose other name lies outside.
    let mut linked = good_again();
    linked.version.link = 5;
    forge.put("l/first", linked.clone());
    forge.put("second", linked);
    forge.record(&forge.head(), &[forge.rows_section()]);
    assert_eq!(forge.rebuild(&[0, 5])["runs"], 2);
    // Onto nothing, and onto a target where the link lies already.
    for round in 0..2 {
        let args = ["--catalog", "rebuilt.cat", "revert-to-run", "2", "dest", "--overwrite", "always"];
        let said = forge.run(&args).with_code(4);
        assert!(said.err.contains("l/evil") && said.err.contains("up/pipe"), "{said:#?}");
        forge.assert_outside();
        for name in ["plain", "second"] {
            assert_eq!(fs::read(forge.bench.path("dest").join(name)).unwrap(), b"a sound file", "{round}");
        }
        assert!(forge.bench.path("dest/l").symlink_metadata().unwrap().is_symlink());
    }
    for (path, code) in [("l/evil", 0), ("second", 0)] {
        let dest = forge.bench.fresh("one");
        let dest = dest.to_str().unwrap();
        forge.run(&["--catalog", "rebuilt.cat", "restore", path, dest]).with_code(code);
        assert_eq!(fs::read(dest).unwrap(), b"a sound file");
    }
    forge.run(&["--catalog", "rebuilt.cat", "validate", "--deep"]).with_code(0);
    forge.run(&["--catalog", "rebuilt.cat", "genmeta"]).with_code(0);
    forge.assert_outside();
    forge.assert_sound("rebuilt.cat");
}

#[test]
fn devices_and_fifos_of_a_record_are_made_and_never_opened() {
    if !tools() || !has_root() {
        return;
    }
    let mut forge = Forge::new();
    forge.put("null", row(EntryKind::CharDevice, Object::Device(0x103)));
    forge.put("disk", row(EntryKind::BlockDevice, Object::Device(u64::MAX)));
    forge.put("pipe", row(EntryKind::Fifo, Object::Nothing));
    forge.put("socket", row(EntryKind::Socket, Object::Nothing));
    forge.record(&forge.head(), &[forge.rows_section()]);
    forge.rebuild(&[0, 5]);
    let said = forge.run(&["--catalog", "rebuilt.cat", "revert-to-run", "2", "dest"]);
    assert!([0, 4].contains(&said.code), "{said:#?}");
    let kinds = snapshot(&forge.bench.path("dest"));
    for (path, kind) in [("null", 'c'), ("pipe", 'p'), ("socket", 's'), ("good", 'f')] {
        assert_eq!(kinds.0[path.as_bytes()].kind, kind, "{path}");
    }
    // All of that lies there already.
    let again = ["--catalog", "rebuilt.cat", "revert-to-run", "2", "dest", "--overwrite", "if-changed"];
    assert!([0, 4].contains(&forge.run(&again).code));
}

#[test]
fn a_file_that_says_more_bytes_than_there_are_is_refused_with_little_memory() {
    if !tools() {
        return;
    }
    let mut forge = Forge::new();
    let id = *blake3::hash(b"nowhere").as_bytes();
    forge.put("empty-exabytes", file(1 << 62, [1; 32], vec![ContentOp::Zeros { len: 1 << 62 }]));
    forge.put(
        "sparse",
        file(
            (1 << 60) + 12,
            [1; 32],
            vec![ContentOp::Zeros { len: 1 << 60 }, ContentOp::Chunks { first: ChunkNo(1), n: 1 }],
        ),
    );
    forge.put("elsewhere", file(9, id, vec![ContentOp::Chunks { first: ChunkNo(2), n: 1 }]));
    let blocks = record([5; 32], 1000, table(96, 10, 9, id), &[2]);
    forge.record(&forge.head(), &[blocks, forge.rows_section()]);
    forge.rebuild(&[0, 5]);
    // The bytes lie on a volume that nobody has seen.
    let said = forge.run(&["--catalog", "rebuilt.cat", "restore", "elsewhere", "alone"]).with_code(5);
    assert!(said.err.contains("elsewhere") && !forge.bench.path("alone").exists(), "{said:#?}");
    for command in [&["validate"][..], &["genmeta"], &["ls"], &["ls", "--long"], &["runs"]] {
        forge.run(&[&["--catalog", "rebuilt.cat"], command].concat());
    }
    forge.assert_sound("rebuilt.cat");
}

/// zstd frames that decode to 10 GiB of zeros.
fn ten_gibibytes() -> Vec<u8> {
    let mut frame = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    let zeros = vec![0; 4 << 20];
    for _ in 0..256 {
        frame.write_all(&zeros).unwrap();
    }
    let frame = frame.finish().unwrap();
    frame.repeat(10)
}

#[test]
fn ten_gibibytes_in_a_segment_are_refused_with_little_memory() {
    if !tools() {
        return;
    }
    let bomb = ten_gibibytes();
    let zero = *blake3::hash(&vec![0; 4 << 20]).as_bytes();
    println!("{} stored bytes say 10 GiB", bomb.len());
    for raw_len in [4 << 20, u32::MAX as usize] {
        let mut forge = Forge::new();
        let table = table(96, bomb.len() as u32, raw_len as u32, zero);
        let segments = [(1, raw_len, bomb.clone())];
        let bytes = forge.container(ContainerKind::Block, (SegmentKind::Data, &segments), Some(&table.encode()));
        let (id, _) = forge.block(&bytes);
        let is_listed = raw_len == 4 << 20;
        if is_listed {
            forge.put("bomb", file(4 << 20, zero, vec![ContentOp::Chunks { first: ChunkNo(2), n: 1 }]));
            let mut section = vec![3, 0];
            let label: Value =
                serde_json::from_slice(&fs::read(forge.bench.path("disk1/raidtape-volume.json")).unwrap()).unwrap();
            let volumes = vec![label["volume"].as_str().unwrap().parse().unwrap()];
            let numbers = vec![ChunkNo(2)];
            BlockRecord { id, size: bytes.len() as u64, kind: 1, volumes, table, numbers }.encode(&mut section);
            forge.record(&forge.head(), &[section, forge.rows_section()]);
        }
        let report = forge.rebuild(&[0, 5]);
        assert_eq!(report["runs"], if is_listed { 2 } else { 1 }, "{report}");
        if is_listed {
            let said = forge.run(&["--catalog", "rebuilt.cat", "revert-to-run", "2", "dest"]).with_code(4);
            assert!(said.err.contains("bomb") && !forge.bench.path("dest/bomb").exists(), "{said:#?}");
            assert_eq!(fs::read(forge.bench.path("dest/good")).unwrap(), b"a sound file");
            let said = forge.run(&["--catalog", "rebuilt.cat", "validate", "--deep"]).with_code(4);
            assert!(said.err.contains(&id.to_string()) && said.err.contains("bomb"), "{said:#?}");
        }
        forge.assert_sound("rebuilt.cat");
    }
    // And as a section of a record.
    let forge = Forge::new();
    let head = [&[1, 0][..], &serde_json::to_vec(&forge.head()).unwrap()].concat();
    for raw_len in [4 << 20, u32::MAX as usize] {
        let segments = [(0, head.len(), head.clone()), (1, raw_len, bomb.clone())];
        let bytes = forge.container(ContainerKind::Manifest, (SegmentKind::Section, &segments), None);
        fs::write(forge.record(&forge.head(), &[]), bytes).unwrap();
        let report = forge.rebuild(&[0, 5]);
        assert_eq!(report["runs"], 1, "{report}");
    }
    forge.assert_refused("a section of 10 GiB");
}

#[test]
fn a_block_whose_own_table_lies_is_told_and_used_by_nobody() {
    if !tools() {
        return;
    }
    let id = [5; 32];
    let mut twice = table(96, 5, 5, id);
    twice.segments.push(twice.segments[0].clone());
    let mut raw_counts = table(96, 5, 5, id).encode();
    raw_counts[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut many = table(96, 5, 5, id).encode();
    many[28..32].copy_from_slice(&u32::MAX.to_le_bytes());
    let tables = [
        table(96, 5000, 5, id).encode(),
        table(u64::MAX - 5, 5, 5, id).encode(),
        table(96, u32::MAX, u32::MAX, id).encode(),
        twice.encode(),
        raw_counts,
        many,
        vec![0xff; 44],
        Vec::new(),
    ];
    for raw in &tables {
        let forge = Forge::new();
        let segments = [(0, 5, b"bytes".to_vec())];
        let bytes = forge.container(ContainerKind::Block, (SegmentKind::Data, &segments), Some(raw));
        forge.block(&bytes);
        let args = ["--catalog", "rebuilt.cat", "--no-progress", "rebuild-catalog", "--volume", "disk1"];
        let said = forge.run(&args);
        assert!([0, 4, 5].contains(&said.code) && said.err.contains("cannot be used"), "{said:#?}");
        forge.assert_sound("rebuilt.cat");
        forge.run(&["validate", "--deep"]).with_code(0);
        forge.run(&["backup", "src"]).with_code(0);
    }
    println!("{} tables", tables.len());
}

#[test]
fn labels_of_any_size_and_depth_and_kind_are_refused_with_little_memory() {
    if !tools() {
        return;
    }
    type Harm = fn(&std::path::Path);
    let harms: [(&str, Harm); 7] = [
        ("1 GiB", |path| fs::File::create(path).unwrap().set_len(1 << 30).unwrap()),
        ("deep", |path| fs::write(path, b"{\"a\":".repeat(10_000)).unwrap()),
        ("a list", |path| fs::write(path, b"[".repeat(60_000)).unwrap()),
        ("empty", |path| fs::write(path, b"").unwrap()),
        ("a fifo", |path| crate::util::tree::make_fifo(path)),
        ("a directory", |path| fs::create_dir(path).unwrap()),
        ("a link", |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap()),
    ];
    for (what, harm) in harms {
        let forge = Forge::new();
        let label = forge.bench.path("disk1/raidtape-volume.json");
        let sound = fs::read(&label).unwrap();
        fs::remove_file(&label).unwrap();
        harm(&label);
        let args = ["--catalog", "rebuilt.cat", "rebuild-catalog", "--volume", "disk1"];
        let said = forge.run(&args);
        assert!(said.code != 0 && said.err.contains("disk1"), "{what}: {said:#?}");
        for command in [&["backup", "src"][..], &["validate"], &["revert-to-run", "1", "none"], &["volumes"]] {
            let said = forge.run(command);
            assert!(said.code != 0 || command == ["volumes"], "{what}: {command:?}: {said:#?}");
        }
        if what == "a directory" {
            fs::remove_dir(&label).unwrap()
        } else {
            fs::remove_file(&label).unwrap()
        }
        fs::write(&label, sound).unwrap();
        forge.assert_sound("backup.cat");
    }
}

#[test]
fn what_lies_in_the_place_of_blocks_records_and_sidecars_is_never_followed_or_waited_for() {
    if !tools() {
        return;
    }
    let forge = Forge::new();
    let bench = &forge.bench;
    let precious = bench.path("outside/precious");
    bench.run(&["genmeta"]).with_code(0);
    let sidecar = fs::read_dir(bench.path("disk1/meta")).unwrap().next().unwrap().unwrap().path();
    let block = bench.blocks("disk1").into_values().next().unwrap();
    let record = fs::read_dir(bench.path("disk1/runs")).unwrap().next().unwrap().unwrap().path();
    for place in [&sidecar, &block, &record, &bench.path("disk1/index.db")] {
        let sound = fs::read(place).unwrap();
        let mode = fs::metadata(place).unwrap().permissions();
        for kind in ["link", "fifo", "dir"] {
            fs::remove_file(place).unwrap();
            match kind {
                "link" => std::os::unix::fs::symlink(&precious, place).unwrap(),
                "fifo" => crate::util::tree::make_fifo(place),
                _ => fs::create_dir(place).unwrap(),
            }
            let rebuild = ["--catalog", "rebuilt.cat", "rebuild-catalog", "--volume", "disk1"];
            for command in [
                &["genmeta"][..],
                &["validate", "--deep"],
                &rebuild,
                &["revert-to-run", "1", "out"],
                &["backup", "src"],
            ] {
                forge.run(command);
                forge.assert_outside();
            }
            let _ = fs::remove_dir_all(bench.path("out"));
            let _ = fs::remove_dir(place);
            let _ = fs::remove_file(place);
            fs::write(place, &sound).unwrap();
            fs::set_permissions(place, mode.clone()).unwrap();
        }
        forge.run(&["validate", "--deep"]);
        forge.assert_sound("backup.cat");
    }
}

#[test]
fn sidecars_that_lie_are_written_anew() {
    if !tools() {
        return;
    }
    let forge = Forge::new();
    forge.run(&["genmeta"]).with_code(0);
    let sidecar = fs::read_dir(forge.bench.path("disk1/meta")).unwrap().next().unwrap().unwrap().path();
    let sound = fs::read(&sidecar).unwrap();
    let hostile =
        [b"{\"mappings\":[".repeat(100_000), b"\0".to_vec(), br#"{"file_path":"../../outside/precious"}"#.to_vec()];
    for bytes in hostile {
        fs::remove_file(&sidecar).unwrap();
        fs::write(&sidecar, &bytes).unwrap();
        forge.run(&["genmeta"]).with_code(0);
        assert!(fs::read(&sidecar).unwrap() == sound);
    }
    fs::File::options().write(true).open(&sidecar).unwrap().set_len(1 << 30).unwrap();
    forge.run(&["genmeta"]).with_code(0);
    assert!(fs::read(&sidecar).unwrap() == sound);
    forge.assert_sound("backup.cat");
}
