//! What lies on a volume can be checked and read with ordinary tools.

use crate::util::bench::Bench;
use crate::util::needs::has_tools;
use crate::util::oracle::snapshot;
use crate::util::tree::{change, grow, write};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::process::Command;

fn first_word_of(program: &str, file: &Path) -> String {
    let output = Command::new(program).arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap_or_default().to_owned()
}

#[test]
fn every_block_is_named_by_the_hash_of_its_bytes() {
    for algo in ["blake3", "sha256"] {
        let bench = Bench::with_volumes(&["disk1", "disk2"], &["--hash-algo", algo, "--block-size", "8M"]);
        grow(&bench.src(), 1);
        bench.backup();
        change(&bench.src(), 2);
        bench.backup();
        let blocks: Vec<_> = ["disk1", "disk2"].iter().flat_map(|disk| bench.blocks(disk)).collect();
        assert!(blocks.len() >= 3);
        let tool = if algo == "blake3" { "b3sum" } else { "sha256sum" };
        for (name, path) in &blocks {
            let bytes = std::fs::read(path).unwrap();
            let hash = match algo {
                "blake3" => blake3::hash(&bytes).to_hex().to_string(),
                _ => Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
            };
            assert_eq!(*name, hash);
            assert!(bytes.len() <= 8 << 20);
            let folders = path.strip_prefix(bench.path("")).unwrap().display().to_string();
            assert!(folders.contains(&format!("chunks/{}/{}/{name}", &name[..2], &name[2..4])), "{folders}");
        }
        if has_tools(&[tool]) {
            for (name, path) in &blocks {
                assert_eq!(*name, first_word_of(tool, path));
            }
        }
        bench.assert_reverts(2, &snapshot(&bench.src()));
    }
}

/// Rebuilds the newest version of the file `$1` into `$2` from the sidecars below `meta/` of the volume `$3`.
const BY_HAND: &str = r#"
set -eu
path=$1 out=$2 volume=$3
: > "$out"
jq -r --arg path "$path" '.block_id as $block | .mappings[] | select(.file_path == $path and .last_run == null)
  | [.seq, $block, .file_offset, .length, .segment_offset, .segment_length, .codec, .offset_in_segment, .file_size]
  | @tsv' "$volume"/meta/*.meta.json | sort -n | while read -r seq block at length off stored codec inside size; do
  file=$volume/chunks/$(printf %.2s "$block")/$(printf %s "$block" | cut -c3-4)/$block
  dd if="$file" bs=64K iflag=skip_bytes,count_bytes skip="$off" count="$stored" status=none > "$out.segment"
  if [ "$codec" = zstd ]; then zstd -qdf "$out.segment" -o "$out.plain"; else cp "$out.segment" "$out.plain"; fi
  dd if="$out.plain" of="$out" bs=64K iflag=skip_bytes,count_bytes oflag=seek_bytes conv=notrunc \
    skip="$inside" count="$length" seek="$at" status=none
  truncate -s "$size" "$out"
done
"#;

#[test]
fn a_file_is_rebuilt_from_a_volume_with_sidecars_and_ordinary_tools_alone() {
    if !has_tools(&["jq", "dd", "zstd", "truncate", "sh"]) {
        return;
    }
    let bench = Bench::with_volumes(&["disk1"], &["--block-size", "8M"]);
    grow(&bench.src(), 5);
    bench.backup();
    change(&bench.src(), 6);
    bench.backup();
    let said = bench.run(&["genmeta"]).with_code(0);
    assert!(said.out.ends_with("JSON metas: chunks now whisper their file secrets\n"), "{}", said.out);
    // Nothing but the volume is left.
    std::fs::remove_file(bench.path("backup.cat")).unwrap();
    let paths = [
        "big/random.bin",
        "big/mixed.bin",
        "big/text.txt",
        "big/holes",
        "big/shifted.bin",
        "small/d0/new6",
        "small/d3/three",
        "odd/quote'\"`$(x)",
        "odd/back\\slash",
    ];
    for path in paths {
        let out = bench.fresh("by-hand");
        let by_hand = Command::new("sh").args(["-c", BY_HAND, "sh", path]).arg(&out).arg(bench.path("disk1")).output();
        let by_hand = by_hand.unwrap();
        assert!(by_hand.status.success(), "{path}: {}", String::from_utf8_lossy(&by_hand.stderr));
        assert!(std::fs::read(&out).unwrap() == std::fs::read(bench.src().join(path)).unwrap(), "{path} differs");
    }
}

#[test]
fn sidecars_are_written_again_only_where_something_changed() {
    let bench = Bench::with_volumes(&["disk1", "disk2"], &["--block-size", "8M"]);
    grow(&bench.src(), 5);
    bench.backup();
    let first = bench.json(&["genmeta"], 0);
    let blocks = bench.blocks("disk1").len() + bench.blocks("disk2").len();
    assert_eq!(first["written"].as_u64().unwrap() as usize, blocks);
    let again = bench.json(&["genmeta"], 0);
    assert_eq!((&again["written"], &again["unchanged"]), (&0.into(), &blocks.into()));
    write(&bench.src(), "one/more", b"one more");
    bench.backup();
    let third = bench.json(&["genmeta"], 0);
    assert_eq!(third["written"], 1, "{third}");
    // One volume is away: the others are done, and nothing fails.
    std::fs::rename(bench.path("disk2"), bench.path("away")).unwrap();
    bench.run(&["genmeta"]).with_code(0);
}

#[test]
fn the_views_can_be_read_with_the_sqlite_shell() {
    if !has_tools(&["sqlite3"]) {
        return;
    }
    let bench = Bench::with_volumes(&["disk1"], &[]);
    grow(&bench.src(), 5);
    bench.backup();
    let sql = "SELECT path, size, mtime, kind FROM files WHERE kind = 'file' AND path = 'links/target'";
    let sql = sql.replace("mtime,", "mtime_ns,");
    let output = Command::new("sqlite3").arg(bench.path("backup.cat")).arg(sql).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("links/target|200000|"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let count = "SELECT count(*) FROM runs WHERE state = 'complete'";
    let output = Command::new("sqlite3").arg(bench.path("backup.cat")).arg(count).output().unwrap();
    assert_eq!(output.stdout, b"1\n");
}
