//! A bench in a state that is brought back as often as wanted: for one fault after the other in the same situation.

use super::bench::Bench;
use super::five::{Known, complete_runs};
use super::oracle::snapshot;
use super::tracer::{Call, Fate, Traced, trace};
use nix::errno::Errno;
use std::path::Path;
use std::process::Command;

/// All but `src` is as it was, again and again.
pub struct Stage {
    pub bench: Bench,
    pub known: Known,
    saved: tempfile::TempDir,
}

/// A fault at the call with this number.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    Once(Errno),
    /// Every later call of that name on the same part of the bench (a volume, the catalog, the source) fails too.
    ForGood(Errno),
    DiesBefore,
    DiesAfter,
}

impl Stage {
    /// Remembers what is there now.
    pub fn new(bench: Bench, known: Known) -> Self {
        let above = bench.path("").parent().expect("a directory").to_owned();
        let saved = tempfile::tempdir_in(above).expect("a directory");
        for name in names(&bench.path("")) {
            copy(&bench.path(&name), saved.path());
        }
        Self { bench, known, saved }
    }

    /// Brings it back.
    pub fn reset(&self) {
        for name in names(&self.bench.path("")) {
            let path = self.bench.path(&name);
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.expect("it can go");
        }
        for name in names(self.saved.path()) {
            copy(&self.saved.path().join(name), &self.bench.path(""));
        }
    }

    /// Runs a command without a fault in the state that was remembered: all calls.
    pub fn calls(&self, args: &[&str]) -> Vec<Call> {
        self.reset();
        let traced = trace(&self.bench.command(args), &self.bench.path(""), &mut |_| Fate::Passes);
        assert_eq!(traced.said.code, 0, "{args:?}: {:#?}", traced.said);
        traced.calls
    }

    /// Runs a command in the state that was remembered, with a fault at the call of that number.
    pub fn with(&self, args: &[&str], number: usize, fault: Fault) -> Traced {
        self.reset();
        let mut hit: Option<Call> = None;
        trace(&self.bench.command(args), &self.bench.path(""), &mut |call| {
            let is_it = call.number == number;
            if is_it {
                hit = Some(call.clone());
            }
            let again = hit.as_ref().is_some_and(|hit| hit.name == call.name && part(hit) == part(call));
            match fault {
                Fault::Once(errno) if is_it => Fate::Fails(errno),
                Fault::ForGood(errno) if again => Fate::Fails(errno),
                Fault::DiesBefore if is_it => Fate::DiesBefore,
                Fault::DiesAfter if is_it => Fate::DiesAfter,
                _ => Fate::Passes,
            }
        })
    }

    /// What is known after a command whose end is unknown: runs that became complete have saved the source as it is.
    pub fn known_now(&self) -> Known {
        let mut known = self.known.clone();
        for run in complete_runs(&self.bench) {
            known.0.entry(run).or_insert_with(|| snapshot(&self.bench.src()));
        }
        known
    }
}

/// All faults that a call may meet: those that are tried always, and those for a test that goes on for long.
pub fn faults_of(call: &Call, is_long: bool) -> Vec<Fault> {
    let errnos: &[Errno] = match call.name {
        "pwrite64" | "write" | "writev" | "pwritev" | "fallocate" => &[Errno::EIO, Errno::ENOSPC, Errno::EDQUOT],
        "mkdir" | "mkdirat" => &[Errno::ENOSPC, Errno::EIO, Errno::EROFS],
        "open" | "openat" | "openat2" if call.creates => &[Errno::ENOSPC, Errno::EIO, Errno::EROFS],
        "rename" | "renameat" | "renameat2" | "unlink" | "unlinkat" | "linkat" => &[Errno::EIO, Errno::EROFS],
        "fsync" | "fdatasync" | "ftruncate" => &[Errno::EIO, Errno::ENOSPC, Errno::EDQUOT],
        _ => &[Errno::EIO],
    };
    if is_long {
        let kills = [Fault::DiesBefore, Fault::DiesAfter];
        return errnos.iter().flat_map(|errno| [Fault::Once(*errno), Fault::ForGood(*errno)]).chain(kills).collect();
    }
    let errno = errnos[call.number % errnos.len()];
    let fails = if call.number % 4 == 3 { Fault::ForGood(errno) } else { Fault::Once(errno) };
    // A process that dies before a call that changes nothing leaves what one leaves that dies before the next.
    if call.changes() { vec![fails, Fault::DiesBefore] } else { vec![fails] }
}

/// Of what a call is: the first directory or file below the bench; the catalog is one with its journal.
fn part(call: &Call) -> String {
    let first = call.path.components().next().map(|first| first.as_os_str().to_string_lossy().into_owned());
    first.unwrap_or_default().split('-').next().unwrap_or_default().to_owned()
}

fn names(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    names.map(|name| name.into_string().expect("a plain name")).filter(|name| name != "src").collect()
}

fn copy(from: &Path, into: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(into).status().expect("cp runs");
    assert!(copied.success());
}
