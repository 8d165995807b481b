//! Trees to back up, the same for the same seed, with all that real ones have; and ways to change them.

use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, UTIME_OMIT};
use std::ffi::OsStr;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

/// Numbers that look random (SplitMix64).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }

    /// Lines that compress well.
    pub fn text(&mut self, len: usize) -> Vec<u8> {
        const WORDS: [&str; 8] = ["disk", "tape", "run", "chunk", "block", "of", "the", "night"];
        let mut text = Vec::with_capacity(len + 32);
        while text.len() < len {
            for _ in 0..6 {
                text.extend(WORDS[(self.next() % 8) as usize & 7].as_bytes());
                text.push(b' ');
            }
            text.extend(format!("{}\n", self.below(1000)).as_bytes());
        }
        text.truncate(len);
        text
    }
}

/// Names that have broken programs before.
pub fn odd_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        &b" leading and trailing "[..],
        b"-rf",
        b"new\nline",
        b"tab\tand\x1b[31mescape",
        b"\xff\xfe not utf-8 \x80",
        b"back\\slash",
        b"quote'\"`$(x)",
        b"...",
        b"*?[a]",
        "gr\u{fc}n".as_bytes(),
        "gru\u{308}n".as_bytes(),
        "\u{1f4be}".as_bytes(),
        b"%2F%00",
        b"CON",
        b"x.meta.json",
    ]
    .iter()
    .map(|name| name.to_vec())
    .collect();
    names.push(vec![b'n'; 255]);
    names
}

pub fn write(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("a folder");
    }
    fs::write(path, bytes).expect("a file");
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

/// Sets the time of the last change, of a link itself.
pub fn set_mtime(path: &Path, (s, ns): (i64, u32)) {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: s, tv_nsec: ns.into() },
    };
    rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).expect("a time");
}

pub fn make_fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o640), 0).expect("a fifo");
}

/// Puts `bytes` into a file at an offset, without changing its length before it.
pub fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("a file");
    file.write_all_at(bytes, at).expect("bytes");
}

/// Puts `bytes` in between.
/// Adds bytes at a file's end.
pub fn append(root: &Path, name: &str, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().append(true).open(root.join(name)).expect("a file");
    file.write_all(bytes).expect("room");
}

pub fn insert(path: &Path, at: usize, bytes: &[u8]) {
    let mut all = fs::read(path).expect("a file");
    all.splice(at..at, bytes.iter().copied());
    fs::write(path, all).expect("a file");
}

/// Changes one bit in the middle of a stored file, whatever its mode.
pub fn flip(path: &Path, at: u64) {
    let mode = path.metadata().expect("a file").permissions();
    set_mode(path, 0o600);
    let mut byte = [0];
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("a file");
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("a byte");
    fs::set_permissions(path, mode).expect("a mode");
}

/// Fills `root` with a tree that has some of everything.
pub fn grow(root: &Path, seed: u64) {
    let mut rng = Rng(seed);
    for dir in 0..8 {
        for file in 0..20 {
            let len = rng.below(if file % 5 == 0 { 40_000 } else { 3_000 });
            let bytes = if rng.below(2) == 0 { rng.text(len as usize) } else { rng.bytes(len as usize) };
            write(root, &format!("small/d{dir}/f{file:02}"), &bytes);
        }
    }
    let deep: Vec<String> = (0..40).map(|level| format!("level{level}")).collect();
    write(root, &format!("deep/{}/bottom", deep.join("/")), b"far down");
    write(root, "big/random.bin", &rng.bytes(5 << 20));
    write(root, "big/text.txt", &rng.text(4 << 20));
    write(root, "big/zeros.bin", &vec![0; 3 << 20]);
    let mixed = [rng.bytes(1 << 20), vec![0; 2 << 20], rng.text(1 << 20), rng.bytes(700_001)].concat();
    write(root, "big/mixed.bin", &mixed);
    // The same bytes under other names and at another offset.
    fs::copy(root.join("big/random.bin"), root.join("big/copy.bin")).expect("a copy");
    write(root, "big/shifted.bin", &[&b"in front"[..], &mixed].concat());
    grow_shapes(root, &mut rng);
}

fn grow_shapes(root: &Path, rng: &mut Rng) {
    write(root, "empty/file", b"");
    fs::create_dir_all(root.join("empty/dir/in/dir")).expect("folders");
    write(root, "links/target", &rng.text(200_000));
    for (name, target) in [("relative", "target"), ("up", "../big"), ("dangling", "nowhere/at all"), ("abs", "/etc")] {
        symlink(target, root.join("links").join(name)).expect("a link");
    }
    symlink(OsStr::from_bytes(b"\xff\xfe"), root.join("links/odd")).expect("a link");
    write(root, "hard/one", &rng.bytes(300_000));
    fs::create_dir_all(root.join("hard/below")).expect("a folder");
    fs::hard_link(root.join("hard/one"), root.join("hard/below/two")).expect("a link");
    fs::hard_link(root.join("hard/one"), root.join("small/d3/three")).expect("a link");
    write(root, "hard/small", b"small and twice");
    fs::hard_link(root.join("hard/small"), root.join("empty/small too")).expect("a link");
    write(root, "hard/void", b"");
    fs::hard_link(root.join("hard/void"), root.join("hard/void too")).expect("a link");
    fs::create_dir_all(root.join("special")).expect("a folder");
    make_fifo(&root.join("special/fifo"));
    drop(std::os::unix::net::UnixListener::bind(root.join("special/socket")).expect("a socket"));
    for (number, name) in odd_names().into_iter().enumerate() {
        let path = root.join("odd").join(OsStr::from_bytes(&name));
        fs::create_dir_all(root.join("odd")).expect("a folder");
        fs::write(path, format!("odd {number}")).expect("a file");
    }
    fs::create_dir_all(root.join(OsStr::from_bytes(b"odd/\xfe dir"))).expect("a folder");
    fs::write(root.join(OsStr::from_bytes(b"odd/\xfe dir/\xfd")), b"deep and odd").expect("a file");
    let mut holes = fs::File::create(root.join("big/holes")).expect("a file");
    holes.write_all(b"start").expect("bytes");
    holes.seek(SeekFrom::Start(6 << 20)).expect("a place");
    holes.write_all(&rng.bytes(100_000)).expect("bytes");
    holes.set_len(9 << 20).expect("a length");
    fs::File::create(root.join("big/only hole")).and_then(|file| file.set_len(5 << 20)).expect("a hole");
    for (name, mode) in [("small/d0/f00", 0o600), ("small/d0/f01", 0o4755), ("empty", 0o1777)] {
        set_mode(&root.join(name), mode);
    }
    if super::needs::is_root() {
        set_mode(&root.join("small/d0/f02"), 0);
        std::os::unix::fs::chown(root.join("small/d1/f01"), Some(1234), Some(4321)).expect("an owner");
        std::os::unix::fs::lchown(root.join("links/up"), Some(77), Some(78)).expect("an owner");
    }
    set_mtime(&root.join("small/d2/f01"), (-5, 999_999_999));
    set_mtime(&root.join("small/d2/f02"), (4_102_444_800, 1));
    set_mtime(&root.join("links/dangling"), (1_000_000_000, 5));
    set_mtime(&root.join("small/d4"), (1_234_567_890, 123_456_789));
}

/// Changes the tree as a day's work would.
pub fn change(root: &Path, seed: u64) {
    let mut rng = Rng(seed);
    for dir in 0..4 {
        write(root, &format!("small/d{dir}/new{seed}"), &rng.text(5000));
        write(root, &format!("small/d{dir}/f05"), &rng.bytes(1234));
        let _ = fs::remove_file(root.join(format!("small/d{dir}/f{:02}", 6 + seed % 10)));
    }
    // The same length, other bytes.
    let same_len = fs::read(root.join("small/d5/f05")).expect("a file").len();
    write(root, "small/d5/f05", &rng.bytes(same_len));
    insert(&root.join("big/text.txt"), 100_000, &rng.bytes(777));
    overwrite(&root.join("big/mixed.bin"), 1_500_000, &rng.bytes(10));
    overwrite(&root.join("big/holes"), 3 << 20, &rng.bytes(5000));
    set_mode(&root.join("small/d6/f01"), 0o640 + (seed % 8) as u32);
    set_mtime(&root.join("small/d6/f02"), (1_500_000_000 + seed as i64, 7));
    fs::write(root.join("small/d6/f03"), fs::read(root.join("small/d6/f03")).expect("a file")).expect("a file");
    let mut there = fs::read_dir(root.join("small/d7")).expect("a folder").map(|entry| entry.expect("an entry").path());
    fs::rename(there.next().expect("a file"), root.join(format!("small/d7/renamed{seed}"))).expect("a new name");
    fs::remove_file(root.join("links/relative")).expect("a link");
    symlink(format!("target{seed}"), root.join("links/relative")).expect("a link");
    fs::create_dir_all(root.join(format!("added{seed}/below"))).expect("a folder");
    write(root, &format!("added{seed}/below/file"), &rng.text(70_000));
    let before = root.join(format!("added{}", seed.wrapping_sub(1)));
    if before.exists() {
        fs::remove_dir_all(before).expect("a folder");
    }
}
