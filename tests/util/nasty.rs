//! A tree with everything that a file system can hold and a backup can lose. It needs root, and a file system of its own:
//! what lies in it is not all to be removed by path.

use super::told::run;
use super::tree::{Rng, make_fifo, odd_names, overwrite, set_mode, set_mtime, write};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{chown, lchown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

/// The directory with paths beyond what a system call takes, and deeper than programs keep directories open.
pub const FAR: &str = "far";

/// Capabilities of ping: cap_net_raw, permitted and effective.
const CAPABILITY: &str = "0x0100000200200000000000000000000000000000";

/// Blocks of all the file systems that this grows on.
const BLOCK: u64 = 4096;

/// Fills `root`, on a file system of this kind.
pub fn grow(root: &Path, kind: &str) {
    kinds(root);
    modes(root);
    sparse(root);
    hard_links(root);
    names(root);
    deep(root);
    attributes(root, kind);
    owners(root);
    write(root, "read-only/below/file", b"in a directory that nobody may write to");
    symlink("below", root.join("read-only/link")).expect("a link");
    for (name, mode) in [("read-only/below", 0o555), ("read-only", 0o500), ("kinds/closed", 0)] {
        set_mode(&root.join(name), mode);
    }
    times(root);
}

fn node(path: &Path, kind: FileType, number: u64) {
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o620), number).expect("a node");
}

fn kinds(root: &Path) {
    let dir = root.join("kinds");
    write(root, "kinds/plain", &Rng(1).bytes(70_000));
    write(root, "kinds/empty", b"");
    write(root, "kinds/closed/file", b"in a directory of mode 0");
    fs::create_dir(dir.join("empty directory")).expect("a directory");
    make_fifo(&dir.join("fifo"));
    node(&dir.join("socket"), FileType::Socket, 0);
    node(&dir.join("null"), FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    node(&dir.join("high"), FileType::CharacterDevice, rustix::fs::makedev(511, 0x3_ffff));
    node(&dir.join("disk"), FileType::BlockDevice, rustix::fs::makedev(7, 200));
    let long = [&b"/"[..], &vec![b't'; 1000]].concat();
    let targets: [&[u8]; 8] =
        [b"plain", b"..", b"../../..", b"nowhere/at all", b"/etc/passwd", b"\xff\n\x1b[31m", b" ", &long];
    for (number, target) in targets.iter().enumerate() {
        symlink(OsStr::from_bytes(target), dir.join(format!("link{number}"))).expect("a link");
    }
    symlink("loop", dir.join("loop")).expect("a link");
}

/// Every mode that a file can have, and every special one of directories.
fn modes(root: &Path) {
    let dir = root.join("modes");
    fs::create_dir(&dir).expect("a directory");
    for mode in 0..0o10000 {
        let path = dir.join(format!("{mode:04o}"));
        fs::write(&path, b"").expect("a file");
        set_mode(&path, mode);
    }
    for mode in (0..0o10000).step_by(0o111) {
        let path = dir.join(format!("dir-{mode:04o}"));
        fs::create_dir(&path).expect("a directory");
        set_mode(&path, mode);
    }
}

/// A file of `len` bytes in which only these ranges, in blocks, were written: with zeros, or with noise.
fn holey(root: &Path, name: &str, len: u64, written: &[(u64, u64, bool)]) {
    let path = root.join("sparse").join(name);
    fs::File::create(&path).and_then(|file| file.set_len(len)).expect("a file");
    for (at, blocks, is_zeros) in written {
        let bytes = (blocks * BLOCK) as usize;
        let end = ((at * BLOCK) as usize + bytes).min(len as usize) - (at * BLOCK) as usize;
        let bytes = if *is_zeros { vec![0; bytes] } else { Rng(at + blocks).bytes(bytes) };
        overwrite(&path, at * BLOCK, &bytes[..end]);
    }
}

fn sparse(root: &Path) {
    fs::create_dir(root.join("sparse")).expect("a directory");
    let (zeros, noise) = (true, false);
    holey(root, "hole first", 64 * BLOCK, &[(32, 32, noise)]);
    holey(root, "hole between", 64 * BLOCK, &[(0, 8, noise), (56, 8, noise)]);
    holey(root, "hole last", 64 * BLOCK, &[(0, 8, noise)]);
    holey(root, "hole at an odd end", 64 * BLOCK + 77, &[(0, 8, noise)]);
    holey(root, "hole of one block", 64 * BLOCK, &[(0, 20, noise), (21, 43, noise)]);
    holey(root, "all hole", 300 * BLOCK, &[]);
    holey(root, "small hole", 100, &[]);
    holey(root, "all zeros", 300 * BLOCK, &[(0, 300, zeros)]);
    holey(root, "few zeros", 100, &[(0, 1, zeros)]);
    holey(
        root,
        "zeros and holes",
        900 * BLOCK,
        &[(0, 10, noise), (100, 300, zeros), (600, 200, zeros), (899, 1, noise)],
    );
    holey(root, "zeros last", 20 * BLOCK + 5, &[(0, 10, noise), (15, 6, zeros)]);
    let comb: Vec<(u64, u64, bool)> = (0..200).map(|tooth| (tooth * 2, 1, tooth % 3 == 0)).collect();
    holey(root, "comb", 401 * BLOCK, &comb);
    // Those that are not read in one go.
    holey(root, "large", 6000 * BLOCK, &[(0, 3, noise), (1500, 1100, zeros), (4000, 5, noise), (5990, 10, zeros)]);
    holey(root, "large zeros", 4500 * BLOCK + 9, &[(0, 4501, zeros)]);
    holey(root, "large hole", 1 << 26, &[(1 << 13, 1, noise)]);
}

fn hard_links(root: &Path) {
    write(root, "links/file", &Rng(2).bytes(9000));
    write(root, "links/void", b"");
    for dir in 0..20 {
        fs::create_dir_all(root.join(format!("links/d{dir:02}"))).expect("a directory");
    }
    symlink("nowhere", root.join("links/symlink")).expect("a link");
    make_fifo(&root.join("links/fifo"));
    node(&root.join("links/socket"), FileType::Socket, 0);
    node(&root.join("links/char"), FileType::CharacterDevice, rustix::fs::makedev(1, 5));
    node(&root.join("links/block"), FileType::BlockDevice, rustix::fs::makedev(7, 201));
    for name in ["file", "void", "symlink", "fifo", "socket", "char", "block"] {
        for dir in ["d03", "d11"] {
            fs::hard_link(root.join("links").join(name), root.join(format!("links/{dir}/{name} too"))).expect("a link");
        }
    }
    write(root, "links/farm", b"one file with thousands of names");
    for number in 0..3000 {
        let name = root.join(format!("links/d{:02}/farm{number}", number % 20));
        fs::hard_link(root.join("links/farm"), name).expect("a link");
    }
}

fn names(root: &Path) {
    for (number, name) in odd_names().into_iter().chain([b"~".to_vec(), b"\x01\x7f\x80".to_vec()]).enumerate() {
        for dir in [root.join("names"), root.join("names").join(OsStr::from_bytes(b"\xff\n"))] {
            fs::create_dir_all(&dir).expect("a directory");
            fs::write(dir.join(OsStr::from_bytes(&name)), format!("odd {number}")).expect("a file");
        }
    }
    fs::create_dir(root.join("names").join("d".repeat(255))).expect("a directory");
}

/// Twelve hundred levels, and a path twice as long as a system call takes.
fn deep(root: &Path) {
    fs::create_dir(root.join(FAR)).expect("a directory");
    let steps = [("deep", "d", 1200), ("long", &*"f".repeat(250), 32)];
    for (top, name, levels) in steps {
        let make = |dir: &rustix::fd::OwnedFd, name: &str| {
            rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o751)).expect("a directory");
            rustix::fs::openat(dir, name, OFlags::DIRECTORY, Mode::empty()).expect("a directory")
        };
        let root = rustix::fs::openat(CWD, root.join(FAR), OFlags::DIRECTORY, Mode::empty()).expect("a directory");
        let mut dir = make(&root, top);
        for _ in 0..levels {
            dir = make(&dir, name);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let file = rustix::fs::openat(&dir, "bottom", flags, Mode::from_raw_mode(0o604)).expect("a file");
        rustix::io::write(&file, b"far down").expect("bytes");
        rustix::fs::symlinkat("bottom", &dir, "link").expect("a link");
    }
}

/// Runs a tool where the file system may not know what it is asked for.
fn attempt(dir: &Path, words: &[&str]) {
    let mut tool = Command::new(words[0]);
    let _ = tool.args(&words[1..]).current_dir(dir).stderr(Stdio::null()).status().expect("a tool that starts");
}

fn attributes(root: &Path, kind: &str) {
    let dir = root.join("attributes");
    for name in ["plain", "many", "caps", "acl", "frozen", "grows", "quiet", "d/inside", "shut/in it"] {
        write(&dir, name, &Rng(5).bytes(3000));
    }
    make_fifo(&dir.join("pipe"));
    symlink("nowhere", dir.join("link")).expect("a link");
    // In memory, only some of it can be had.
    let act = |words: &[&str]| if kind == "tmpfs" { attempt(&dir, words) } else { _ = run(&dir, words) };
    let set = |name: &str, key: &str, value: &str| act(&["setfattr", "-h", "-n", key, "-v", value, name]);
    for number in 0..20 {
        set("many", &format!("user.key-{number:02}"), &format!("0x{}", "ab".repeat(number * 3)));
    }
    set("plain", "user.empty", "");
    set("plain", "user.binary", "0x00ff00");
    set("plain", "trusted.of-root", "yes");
    set("plain", "security.note", "0x00");
    set("d", "user.of-a-directory", "yes");
    set("link", "trusted.of-a-link", "yes");
    set("pipe", "trusted.of-a-pipe", "yes");
    set("caps", "security.capability", CAPABILITY);
    // A block of attributes beside a hole of the same size.
    fs::write(dir.join("hole"), Rng(6).bytes(4096))
        .and_then(|()| fs::File::options().write(true).open(dir.join("hole")))
        .and_then(|file| file.set_len(8192))
        .expect("a hole");
    set("hole", "user.long", &format!("0x{}", "5a".repeat(1500)));
    act(&["setfacl", "-m", "u:12345:rw,g:54321:r,m::rw", "acl"]);
    act(&["setfacl", "-m", "u:12345:rw", "pipe"]);
    act(&["setfacl", "-d", "-m", "u:12345:rwx,g:7:-", "d"]);
    if kind == "btrfs" {
        fs::write(dir.join("no cow"), b"").expect("a file");
        act(&["chattr", "+C", "no cow"]);
        fs::write(dir.join("no cow"), Rng(7).bytes(9000)).expect("bytes");
    }
    act(&["chattr", "+Ad", "quiet"]);
    if kind != "tmpfs" {
        act(&["chattr", "+S", "d"]);
    }
    act(&["chattr", "+i", "frozen", "shut"]);
    act(&["chattr", "+a", "grows"]);
}

fn owners(root: &Path) {
    for (number, (uid, gid)) in
        [(1, 0), (0, 1), (65_534, 65_534), (70_000, 70_001), (u32::MAX - 1, u32::MAX - 1)].into_iter().enumerate()
    {
        write(root, &format!("owners/file{number}"), b"somebody's");
        let link = root.join(format!("owners/link{number}"));
        symlink("file0", &link).expect("a link");
        let dir = root.join(format!("owners/dir{number}"));
        fs::create_dir(&dir).expect("a directory");
        lchown(&link, Some(uid), Some(gid)).expect("an owner");
        chown(&dir, Some(uid), Some(gid)).expect("an owner");
        let file = root.join(format!("owners/file{number}"));
        chown(&file, Some(uid), Some(gid)).expect("an owner");
        set_mode(&file, 0o6755);
    }
}

/// Last of all, because everything else changes times.
fn times(root: &Path) {
    let times = [
        (i64::from(i32::MIN), 0),
        (-2, 500_000_000),
        (-1, 999_999_999),
        (0, 0),
        (0, 1),
        (1_000_000_000, 123_456_789),
        (i64::from(i32::MAX) + 1, 5),
        (i64::from(u32::MAX) + 7, 999_999_999),
        (7_258_118_400, 1),
    ];
    for (number, time) in times.into_iter().enumerate() {
        let (file, link, dir) =
            (format!("times/file{number}"), format!("times/link{number}"), format!("times/dir{number}"));
        write(root, &file, b"then");
        symlink("file0", root.join(&link)).expect("a link");
        fs::create_dir(root.join(&dir)).expect("a directory");
        make_fifo(&root.join(format!("times/dir{number}/fifo")));
        for name in [&file, &link, &format!("{dir}/fifo"), &dir] {
            set_mtime(&root.join(name), time);
        }
    }
    for name in ["times", "read-only", "sparse", ""] {
        set_mtime(&root.join(name), (1_234_567_890, 987_654_321));
    }
}
