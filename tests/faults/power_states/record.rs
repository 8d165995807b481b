//! What a command does to the files below a bench, call by call, with all bytes: taken down by `strace`.
//!
//! A call that could change a file in a way that is not understood here fails the test: nothing may go round the
//! record. Only SQLite's `-shm` is left out: it is shared memory, never synced, and made anew when nobody has it open.

use crate::util::bench::{Bench, Said};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One call that succeeded. Paths are relative to the bench.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Opened so that it is made if it is not there; and cut to nothing if `empties`.
    Create {
        path: PathBuf,
        empties: bool,
    },
    Write {
        path: PathBuf,
        at: u64,
        bytes: Vec<u8>,
    },
    SetLen {
        path: PathBuf,
        len: u64,
    },
    MakeDir {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    /// A sync of a file or directory that began when so many calls had ended.
    Sync {
        path: PathBuf,
        began: usize,
    },
}

const TRACED: &str = "open,openat,openat2,creat,write,pwrite64,writev,pwritev,pwritev2,truncate,ftruncate,fallocate,\
    rename,renameat,renameat2,link,linkat,symlink,symlinkat,mknod,mknodat,unlink,unlinkat,mkdir,mkdirat,rmdir,fsync,\
    fdatasync,sync,syncfs,chdir,fchdir,copy_file_range,sendfile,splice,ioctl,mmap";

/// Runs the program with these arguments and takes down what it does.
pub fn record<A: AsRef<OsStr>>(bench: &Bench, args: &[A]) -> (Said, Vec<Op>) {
    let log = tempfile::NamedTempFile::new().expect("a file for the record");
    let plain = bench.command(args);
    let mut traced = Command::new("/usr/bin/env");
    traced.args(["strace", "-f", "-y", "-xx", "-s", "67108864", "-e"]).arg(format!("trace={TRACED}"));
    traced.args(["-e", "signal=none", "-o"]).arg(log.path()).arg(plain.get_program()).args(plain.get_args());
    traced.current_dir(bench.path("")).env_clear().stdin(Stdio::null());
    traced.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    traced.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let said = Said::from(traced.output().expect("strace runs"));
    let root = bench.path("").canonicalize().expect("the bench");
    let text = std::fs::read_to_string(log.path()).expect("a record");
    (said, parse(&text, &root))
}

/// Reads a record of `strace -f -y -xx`.
pub fn parse(text: &str, root: &Path) -> Vec<Op> {
    let mut ops = Vec::new();
    // Calls that have not ended, by thread: their text so far, and how many others had ended when they began.
    let mut open: BTreeMap<&str, (String, usize)> = BTreeMap::new();
    for line in text.lines() {
        let (thread, rest) = line.split_once(' ').expect("a thread");
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            open.insert(thread, (begun.to_owned(), ops.len()));
            continue;
        }
        let (whole, began) = match rest.strip_prefix("<... ") {
            Some(resumed) => {
                let (_, end) = resumed.split_once(" resumed>").expect("the end of a call");
                let (begun, began) = open.remove(thread).expect("the beginning of a call");
                (begun + end, began)
            }
            None => (rest.to_owned(), ops.len()),
        };
        ops.extend(Call::read(&whole, root).and_then(|call| call.op(began)));
    }
    // A process that exits leaves calls of its other threads open; those that change something would matter.
    for (begun, _) in open.values() {
        let call = Call::read(&format!("{begun}) = 0"), root).and_then(|call| call.op(0));
        assert_eq!(call, None, "a call that never ended");
    }
    ops
}

/// A call that did not fail.
struct Call<'t> {
    name: &'t str,
    args: Vec<&'t str>,
    root: &'t Path,
}

impl<'t> Call<'t> {
    fn read(text: &'t str, root: &'t Path) -> Option<Self> {
        let (name, rest) = text.split_once('(')?;
        let (args, result) = rest.rsplit_once(" = ")?;
        if result.starts_with('-') || result.starts_with('?') {
            return None;
        }
        // With -xx, no string has a comma, a quote or a bracket in it.
        let args = args.trim_end().strip_suffix(')')?;
        Some(Self { name, args: args.split(", ").collect(), root })
    }

    /// The change it makes below the root, if any.
    fn op(&self, began: usize) -> Option<Op> {
        let op = match self.name {
            "openat" if self.flags(2).contains(&"O_CREAT") || self.flags(2).contains(&"O_TRUNC") => {
                assert!(!self.flags(2).contains(&"O_TMPFILE") && !self.flags(2).contains(&"O_APPEND"), "{self}");
                Op::Create { path: self.at(0, 1)?, empties: self.flags(2).contains(&"O_TRUNC") }
            }
            "openat" => return None,
            "open" if !self.flags(1).contains(&"O_CREAT") && !self.flags(1).contains(&"O_TRUNC") => return None,
            "pwrite64" => Op::Write { path: self.fd(0)?, at: self.number(3), bytes: self.bytes(1) },
            "ftruncate" => Op::SetLen { path: self.fd(0)?, len: self.number(1) },
            "mkdir" => Op::MakeDir { path: self.path(0)? },
            "mkdirat" => Op::MakeDir { path: self.at(0, 1)? },
            "rename" => Op::Rename { from: self.path(0)?, to: self.path(1)? },
            "renameat" | "renameat2" => Op::Rename { from: self.at(0, 1)?, to: self.at(2, 3)? },
            "link" => Op::Link { from: self.path(0)?, to: self.path(1)? },
            "linkat" => Op::Link { from: self.at(0, 1)?, to: self.at(2, 3)? },
            "unlink" => Op::Unlink { path: self.path(0)? },
            "unlinkat" => Op::Unlink { path: self.at(0, 1)? },
            "fsync" | "fdatasync" => Op::Sync { path: self.fd(0)?, began },
            // Space set aside behind the end is no content.
            "fallocate" if self.args[1] == "FALLOC_FL_KEEP_SIZE" => return None,
            "mmap" if !self.args[3].contains("MAP_SHARED") || !self.args[2].contains("PROT_WRITE") => return None,
            "ioctl" if !self.args[1].contains("CLONE") => return None,
            "chdir" | "fchdir" => panic!("where do paths begin? {self}"),
            _ => {
                let inside = self.args.iter().any(|arg| self.below(&decoded(arg)).is_some());
                assert!(!inside, "this call is not understood: {self}");
                return None;
            }
        };
        Some(op)
    }

    fn flags(&self, arg: usize) -> Vec<&str> {
        self.args[arg].split('|').collect()
    }

    fn number(&self, arg: usize) -> u64 {
        self.args[arg].parse().expect("a number")
    }

    fn bytes(&self, arg: usize) -> Vec<u8> {
        assert!(self.args[arg].ends_with('"'), "the record is cut short");
        decoded(self.args[arg])
    }

    /// The file of a descriptor, if it is below the root.
    fn fd(&self, arg: usize) -> Option<PathBuf> {
        let path = self.below(&decoded(self.args[arg]))?;
        assert!(self.args[arg].ends_with('>'), "a file that is removed is changed: {self}");
        Some(path)
    }

    /// A path, from the root, where the program runs.
    fn path(&self, arg: usize) -> Option<PathBuf> {
        let path = self.root.join(OsStr::from_bytes(&decoded(self.args[arg])));
        self.below(path.as_os_str().as_bytes())
    }

    /// A name in the directory of a descriptor.
    fn at(&self, dir: usize, name: usize) -> Option<PathBuf> {
        let mut path = PathBuf::from(OsStr::from_bytes(&decoded(self.args[dir])));
        path.push(OsStr::from_bytes(&decoded(self.args[name])));
        self.below(path.as_os_str().as_bytes())
    }

    /// Relative to the root, if it is below it and no shared memory.
    fn below(&self, path: &[u8]) -> Option<PathBuf> {
        let path = Path::new(OsStr::from_bytes(path)).strip_prefix(self.root).ok()?;
        assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))), "{}", path.display());
        (!path.as_os_str().as_bytes().ends_with(b"-shm")).then(|| path.to_owned())
    }
}

impl std::fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let args: Vec<_> = self.args.iter().map(|arg| String::from_utf8_lossy(&decoded(arg)).into_owned()).collect();
        write!(f, "{}({}), which was {:?}", self.name, args.join(", "), self.args)
    }
}

/// What stands behind `\x` in an argument; nothing for one without.
fn decoded(arg: &str) -> Vec<u8> {
    let digits = arg.split("\\x").skip(1).map(|part| part.get(..2).unwrap_or_default());
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("two digits")).collect()
}

#[test]
fn a_record_is_read_with_calls_that_overlap() {
    let hex = |text: &str| text.bytes().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let (dir, file, path) = (hex("/r/d"), hex("/r/d/f"), hex("/r/d/g"));
    let text = format!(
        "7  openat(AT_FDCWD<{dir}>, \"{path}\", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 3<{path}>
7  openat(AT_FDCWD<{dir}>, \"{path}\", O_RDONLY) = 3<{path}>
8  fsync(4<{file}> <unfinished ...>
7  pwrite64(4<{file}>, \"\\x41\\x42\", 2, 512) = 2
7  unlink(\"{path}\") = -1 ENOENT (\\x4e)
8  <... fsync resumed>)        = 0
9  mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000
9  pwrite64(5<{}>, \"\\x41\", 1, 0) = 1
7  +++ exited with 0 +++
",
        hex("/r/x-shm")
    );
    let path = |name: &str| PathBuf::from(name);
    let expected = [
        Op::Create { path: path("d/g"), empties: false },
        Op::Write { path: path("d/f"), at: 512, bytes: b"AB".to_vec() },
        Op::Sync { path: path("d/f"), began: 1 },
    ];
    assert_eq!(parse(&text, Path::new("/r")), expected);
}

#[test]
#[should_panic(expected = "this call is not understood")]
fn a_call_that_would_go_round_the_record_is_seen() {
    let text = "7 writev(3<\\x2f\\x72\\x2f\\x66>, [{iov_base=\"\\x41\", iov_len=1}], 1) = 1\n";
    parse(text, Path::new("/r"));
}
