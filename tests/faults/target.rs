//! A target that means harm: what lies there already, and what changes while a restore runs. Nothing is ever written
//! outside, nothing is waited for, and the exit code says what is missing.

use crate::forge::limited;
use crate::util::bench::{Bench, Said};
use crate::util::needs::{Tmpfs, has_root, has_tools, is_root, long_tests_factor};
use crate::util::oracle::{Snapshot, snapshot};
use crate::util::tree::{Rng, make_fifo, set_mode, write};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A saved tree, and one outside that nobody may touch.
struct Ready {
    bench: Bench,
    saved: Snapshot,
    outside: Snapshot,
}

const NAMES: [&str; 4] = ["file", "d/file", "d/e/file", "d/e/other"];

fn ready() -> Option<Ready> {
    if !has_tools(&["timeout", "prlimit"]) {
        return None;
    }
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    for (number, name) in NAMES.iter().enumerate() {
        write(&bench.src(), name, format!("saved {number}").as_bytes());
    }
    symlink("file", bench.path("src/link")).unwrap();
    make_fifo(&bench.path("src/pipe"));
    write(&bench.src(), "one", b"two names");
    fs::hard_link(bench.path("src/one"), bench.path("src/d/two")).unwrap();
    bench.backup();
    for name in ["precious", "file", "e/file", "two"] {
        write(&bench.path("outside"), name, b"precious");
    }
    let (saved, outside) = (snapshot(&bench.src()), snapshot(&bench.path("outside")));
    Some(Ready { bench, saved, outside })
}

impl Ready {
    fn revert(&self, overwrite: Option<&str>) -> Said {
        let mut args = vec!["--no-progress", "revert-to-run", "1", "dest"];
        args.extend(overwrite.iter().flat_map(|word| ["--overwrite", word]));
        let said = limited(&self.bench, &args);
        snapshot(&self.bench.path("outside")).assert_is(&self.outside, &format!("{said:#?}"));
        self.assert_no_leftovers();
        said
    }

    fn assert_no_leftovers(&self) {
        for entry in walkdir::WalkDir::new(self.bench.path("dest")).into_iter().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            assert!(!name.starts_with(".raidtape-tmp-"), "{name} was left");
        }
    }

    /// The saved tree is there, whatever else is.
    fn assert_restored(&self, but: &[&str]) {
        let found = snapshot(&self.bench.path("dest"));
        for (path, node) in &self.saved.0 {
            let shown = String::from_utf8_lossy(path);
            if path.is_empty() || but.iter().any(|but| shown == *but || shown.starts_with(&format!("{but}/"))) {
                continue;
            }
            let there = found.0.get(path).unwrap_or_else(|| panic!("{shown} is not there"));
            assert_eq!((there.kind, &there.content), (node.kind, &node.content), "{shown}");
        }
    }
}

/// What somebody put in the place of a file or of a directory.
const PLANTS: [&str; 12] = [
    "link to a file",
    "relative link to a file",
    "link to a directory",
    "relative link to a directory",
    "link to nothing",
    "link to itself",
    "fifo",
    "socket",
    "device",
    "hard link to a file outside",
    "empty directory",
    "file",
];

/// False where this cannot be planted.
fn plant(bench: &Bench, what: &str, at: &Path) -> bool {
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    let up = "../".repeat(at.strip_prefix(bench.path("")).unwrap().components().count() - 1);
    match what {
        "link to a file" => symlink(bench.path("outside/precious"), at).unwrap(),
        "relative link to a file" => symlink(format!("{up}outside/precious"), at).unwrap(),
        "link to a directory" => symlink(bench.path("outside"), at).unwrap(),
        "relative link to a directory" => symlink(format!("{up}outside"), at).unwrap(),
        "link to nothing" => symlink(bench.path("outside/not there yet"), at).unwrap(),
        "link to itself" => symlink(at.file_name().unwrap(), at).unwrap(),
        "fifo" => make_fifo(at),
        "socket" => drop(UnixListener::bind(at).unwrap()),
        "device" if !is_root() => return false,
        "device" => {
            let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::from_raw_mode(0o666));
            rustix::fs::mknodat(rustix::fs::CWD, at, kind, mode, rustix::fs::makedev(1, 3)).unwrap();
        }
        "hard link to a file outside" => fs::hard_link(bench.path("outside/precious"), at).unwrap(),
        "empty directory" => fs::create_dir(at).unwrap(),
        _ => fs::write(at, b"mine").unwrap(),
    }
    true
}

#[test]
fn what_is_planted_in_the_place_of_a_file_or_directory_is_never_followed_or_waited_for() {
    let mut count = 0;
    for what in PLANTS {
        for place in ["file", "d/e/file", "d", "d/e", "link", "pipe", "one", "d/two", ".raidtape-restore"] {
            let Some(ready) = ready() else { return };
            // A hard link shares its metadata with the file outside: names alone are planted.
            if !plant(&ready.bench, what, &ready.bench.path("dest").join(place)) {
                continue;
            }
            let planted = snapshot(&ready.bench.path("dest"));
            let ready = Ready { outside: snapshot(&ready.bench.path("outside")), ..ready };
            // Without leave nothing is touched.
            let said = ready.revert(None);
            assert_eq!(said.code, 2, "{what} at {place}: {said:#?}");
            snapshot(&ready.bench.path("dest")).assert_is(&planted, what);
            let never = ready.revert(Some("never"));
            let is_dir = ["d", "d/e"].contains(&place);
            if is_dir && what != "empty directory" {
                assert_eq!(never.code, 4, "{what} at {place}: {never:#?}");
            }
            ready.assert_restored(&[place]);
            for overwrite in ["if-newer", "if-changed", "always"] {
                ready.revert(Some(overwrite));
            }
            let said = ready.revert(Some("always"));
            assert_eq!(said.code, 0, "{what} at {place}: {said:#?}");
            ready.assert_restored(&[]);
            count += 1;
        }
    }
    println!("{count} things planted");
    assert!(count >= 90);
}

#[test]
fn a_destination_that_is_a_link_is_opened_and_one_that_is_a_fifo_or_a_file_refused() {
    let Some(ready) = ready() else { return };
    for what in ["fifo", "socket", "file", "link to nothing", "link to itself", "link to a file"] {
        let dest = ready.bench.path("dest");
        plant(&ready.bench, what, &dest);
        for command in [&["revert-to-run", "1", "dest"][..], &["restore-folder", "d", "dest"]] {
            let said = limited(&ready.bench, command);
            assert!([1, 2].contains(&said.code) && said.err.contains("dest"), "{what}: {said:#?}");
        }
        snapshot(&ready.bench.path("outside")).assert_is(&ready.outside, what);
        fs::remove_file(dest).unwrap();
    }
    fs::create_dir(ready.bench.path("real")).unwrap();
    symlink("real", ready.bench.path("dest")).unwrap();
    assert_eq!(ready.revert(None).code, 0);
    snapshot(&ready.bench.path("real")).assert_is(&ready.saved, "through a link that the user named");
}

#[test]
fn a_directory_that_is_not_empty_where_a_file_belongs_stays_and_is_told() {
    let Some(ready) = ready() else { return };
    write(&ready.bench.path("dest"), "d/e/file/mine", b"mine");
    write(&ready.bench.path("dest"), "link/mine", b"mine");
    let said = ready.revert(Some("always"));
    assert!(said.code == 4 && said.err.contains("d/e/file") && said.err.contains("link"), "{said:#?}");
    ready.assert_restored(&["d/e/file", "link"]);
    for mine in ["d/e/file/mine", "link/mine"] {
        assert_eq!(fs::read(ready.bench.path("dest").join(mine)).unwrap(), b"mine");
    }
}

#[test]
fn a_file_with_a_further_name_outside_is_replaced_and_not_written_into() {
    let Some(ready) = ready() else { return };
    fs::create_dir(ready.bench.path("dest")).unwrap();
    fs::hard_link(ready.bench.path("outside/precious"), ready.bench.path("dest/file")).unwrap();
    set_mode(&ready.bench.path("outside/precious"), 0o400);
    let ready = Ready { outside: snapshot(&ready.bench.path("outside")), ..ready };
    assert_eq!(ready.revert(Some("always")).code, 0);
    ready.assert_restored(&[]);
    assert_eq!(fs::metadata(ready.bench.path("outside/precious")).unwrap().nlink(), 1);
}

#[test]
fn read_only_files_and_directories_in_the_target_are_written_by_their_owner() {
    if !has_root() || !has_tools(&["setpriv"]) {
        return;
    }
    let Some(ready) = ready() else { return };
    let bench = &ready.bench;
    write(&bench.path("dest"), "d/e/file", b"mine");
    write(&bench.path("dest"), "file", b"mine");
    let nobody = |args: &[&str]| {
        let chown = std::process::Command::new("chown").args(["-R", "65534:65534"]).arg(bench.path("")).status();
        assert!(chown.unwrap().success());
        let output = std::process::Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(bench.path("program"))
            .args(args)
            .current_dir(bench.path(""))
            .env("RAIDTAPE_CATALOG", bench.path("backup.cat"))
            .output();
        Said::from(output.unwrap())
    };
    bench.copy_program();
    for (path, mode) in [("dest/d/e/file", 0o400), ("dest/file", 0), ("dest/d/e", 0o500), ("dest/d", 0o500)] {
        set_mode(&bench.path(path), mode);
    }
    let said = nobody(&["revert-to-run", "1", "dest", "--overwrite", "always"]);
    assert_eq!(said.code, 0, "{said:#?}");
    ready.assert_restored(&[]);
    // A directory that is not its own, and closed: told, and all else is done.
    fs::remove_dir_all(bench.path("dest")).unwrap();
    fs::create_dir_all(bench.path("dest/d")).unwrap();
    let chown = |path: &str, uid| std::os::unix::fs::chown(bench.path(path), Some(uid), Some(uid)).unwrap();
    nobody(&["runs"]);
    chown("dest/d", 0);
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(bench.path("program"))
        .args(["revert-to-run", "1", "dest", "--overwrite", "always"])
        .current_dir(bench.path(""))
        .env("RAIDTAPE_CATALOG", bench.path("backup.cat"))
        .output();
    let said = Said::from(output.unwrap());
    assert!(said.code == 4 && said.err.contains("d/file"), "{said:#?}");
    ready.assert_restored(&["d"]);
}

#[test]
fn a_target_on_a_read_only_file_system_is_told_and_not_touched() {
    let Some(ready) = ready() else { return };
    let Some(mount) = Tmpfs::mount(&ready.bench.path("dest"), 8) else { return };
    mount.set_read_only(true);
    let said = limited(&ready.bench, &["revert-to-run", "1", "dest"]);
    assert!([1, 2, 4].contains(&said.code) && !said.err.is_empty(), "{said:#?}");
    assert_eq!(fs::read_dir(ready.bench.path("dest")).unwrap().count(), 0);
    mount.set_read_only(false);
    assert_eq!(ready.revert(None).code, 0);
    snapshot(&ready.bench.path("dest")).assert_is(&ready.saved, "afterwards");
}

#[test]
fn a_directory_that_turns_into_a_link_and_back_while_files_are_restored_leads_nowhere() {
    let Some(ready) = ready() else { return };
    let bench = &ready.bench;
    let mut rng = Rng(3);
    for dir in ["d", "d/e", "d/e/f"] {
        for file in 0..40 {
            write(&bench.src(), &format!("{dir}/f{file}"), &rng.bytes(2000));
        }
    }
    bench.backup();
    let (swaps, mut codes) = (AtomicU64::new(0), std::collections::BTreeMap::new());
    let rounds = 25 * long_tests_factor();
    for round in 0..rounds {
        let dest = bench.fresh("swapped");
        let (at, away) = (dest.join(["d", "d/e"][round as usize % 2]), dest.join("away"));
        let is_done = AtomicBool::new(false);
        let said = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    if fs::rename(&at, &away).is_ok() {
                        let _ = symlink(bench.path("outside"), &at);
                        std::thread::yield_now();
                        let _ = fs::remove_file(&at);
                        swaps.fetch_add(u64::from(fs::rename(&away, &at).is_ok()), Ordering::Relaxed);
                    }
                }
            });
            let overwrite = ["always", "if-changed"][round as usize / 2 % 2];
            let args = ["revert-to-run", "2", dest.to_str().unwrap(), "--overwrite", overwrite];
            let said = limited(bench, &args);
            is_done.store(true, Ordering::Relaxed);
            said
        });
        assert!([0, 4].contains(&said.code), "{said:#?}");
        if said.code == 0 {
            let found = snapshot(&dest);
            assert!(found.0.values().filter(|node| node.kind == 'f').count() >= 120, "{said:#?}");
        }
        *codes.entry(said.code).or_insert(0) += 1;
        snapshot(&bench.path("outside")).assert_is(&ready.outside, "swapped");
        fs::remove_dir_all(dest).unwrap();
    }
    println!("{rounds} restores, {} swaps, exit codes {codes:?}", swaps.load(Ordering::Relaxed));
    assert!(swaps.load(Ordering::Relaxed) > rounds);
}
