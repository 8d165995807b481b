//! What becomes of hard links, and of names that turn into something else.

use crate::util::bench::Bench;
use crate::util::changes::assert_changes;
use crate::util::oracle::{assert_rsync_silent, snapshot};
use crate::util::tree::{Rng, make_fifo, write};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

/// What somebody does, in words and in deeds.
type Step<'s> = (&'s str, &'s dyn Fn(&Bench));

/// Makes a tree, then goes through changes; after each there is a run that must list and bring back what it should.
fn through(make: impl FnOnce(&Bench), steps: &[Step<'_>]) -> Bench {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    make(&bench);
    let mut trees = vec![snapshot(&bench.src())];
    bench.backup();
    for (what, step) in steps {
        step(&bench);
        let now = snapshot(&bench.src());
        let report = bench.backup();
        assert_changes(&bench, &report, (&trees[trees.len() - 1], &now));
        trees.push(now);
        let again = bench.backup();
        assert_changes(&bench, &again, (&trees[trees.len() - 1], &trees[trees.len() - 1]));
        let (dest, found) = bench.reverted(report["run"].as_i64().unwrap());
        found.assert_is(&trees[trees.len() - 1], what);
        assert_rsync_silent(&bench.src(), &dest);
    }
    bench.assert_reverts(1, &trees[0]);
    for (number, tree) in trees.iter().enumerate().skip(1) {
        bench.assert_reverts(2 * number as i64, tree);
    }
    bench.assert_all_good();
    bench
}

fn linked(bench: &Bench) {
    let src = bench.src();
    write(&src, "m/one", &Rng(1).bytes(400_000));
    fs::create_dir_all(src.join("z")).unwrap();
    fs::hard_link(src.join("m/one"), src.join("z/two")).unwrap();
    write(&src, "m/apart", b"apart");
}

#[test]
fn names_of_a_hard_linked_file_come_and_go() {
    through(
        linked,
        &[
            ("a name behind the others", &|bench| {
                fs::hard_link(bench.path("src/m/one"), bench.path("src/z/zz")).unwrap()
            }),
            ("a name before the others", &|bench| fs::hard_link(bench.path("src/m/one"), bench.path("src/a")).unwrap()),
            ("the first name removed", &|bench| fs::remove_file(bench.path("src/a")).unwrap()),
            ("the last name removed", &|bench| fs::remove_file(bench.path("src/z/zz")).unwrap()),
            ("one name left", &|bench| fs::remove_file(bench.path("src/m/one")).unwrap()),
            ("two again", &|bench| fs::hard_link(bench.path("src/z/two"), bench.path("src/m/one")).unwrap()),
        ],
    );
}

#[test]
fn a_hard_linked_file_rewritten_through_one_name_is_new_under_all() {
    let bench = through(
        linked,
        &[
            ("rewritten through the second name", &|bench| fs::write(bench.path("src/z/two"), b"through two").unwrap()),
            ("appended through the first", &|bench| {
                let mut both = fs::read(bench.path("src/m/one")).unwrap();
                both.extend(b" and one");
                fs::write(bench.path("src/m/one"), both).unwrap();
            }),
            ("one name replaced by a file of its own", &|bench| {
                fs::remove_file(bench.path("src/m/one")).unwrap();
                fs::write(bench.path("src/m/one"), b"its own").unwrap();
            }),
            ("linked crosswise", &|bench| {
                fs::remove_file(bench.path("src/m/apart")).unwrap();
                fs::hard_link(bench.path("src/m/one"), bench.path("src/m/apart")).unwrap();
            }),
            ("groups swapped", &|bench| {
                fs::rename(bench.path("src/m/one"), bench.path("src/keep")).unwrap();
                fs::rename(bench.path("src/z/two"), bench.path("src/m/one")).unwrap();
                fs::rename(bench.path("src/keep"), bench.path("src/z/two")).unwrap();
            }),
        ],
    );
    let (dest, _) = bench.reverted(2);
    let inode = |name: &str| dest.join(name).metadata().unwrap().ino();
    assert_eq!(inode("m/one"), inode("z/two"));
}

#[test]
fn hard_links_with_a_name_outside_the_source_are_whole_files() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    write(&bench.src(), "inside", b"inside and outside");
    fs::hard_link(bench.path("src/inside"), bench.path("outside")).unwrap();
    bench.backup();
    fs::write(bench.path("outside"), b"changed from outside").unwrap();
    bench.backup();
    fs::remove_file(bench.path("outside")).unwrap();
    let report = bench.backup();
    assert_eq!(report["files_changed"], 0, "{report}");
    for (run, text) in [("1", "inside and outside"), ("2", "changed from outside"), ("3", "changed from outside")] {
        bench.run(&["restore", "inside", run, "--run", run]).with_code(0);
        assert_eq!(fs::read_to_string(bench.path(run)).unwrap(), text);
    }
}

fn plain(bench: &Bench) {
    let src = bench.src();
    for name in ["thing", "dir/below/file", "dir/other", "stays"] {
        write(&src, name, name.as_bytes());
    }
    symlink("stays", src.join("link")).unwrap();
}

#[test]
fn a_file_becomes_a_folder_and_a_folder_a_file_and_back() {
    through(
        plain,
        &[
            ("file to folder", &|bench| {
                fs::remove_file(bench.path("src/thing")).unwrap();
                write(&bench.src(), "thing/now/deep", b"a folder now");
            }),
            ("folder to file", &|bench| {
                fs::remove_dir_all(bench.path("src/dir")).unwrap();
                write(&bench.src(), "dir", b"a file now");
            }),
            ("both back", &|bench| {
                fs::remove_dir_all(bench.path("src/thing")).unwrap();
                write(&bench.src(), "thing", b"thing");
                fs::remove_file(bench.path("src/dir")).unwrap();
                write(&bench.src(), "dir/below/file", b"dir/below/file");
            }),
            ("and away", &|bench| fs::remove_dir_all(bench.path("src/dir")).unwrap()),
            ("and there again", &|bench| write(&bench.src(), "dir/below/file", b"again")),
        ],
    );
}

#[test]
fn links_files_fifos_and_folders_take_each_others_names() {
    through(
        plain,
        &[
            ("link to file", &|bench| {
                fs::remove_file(bench.path("src/link")).unwrap();
                write(&bench.src(), "link", b"stays");
            }),
            ("file to link", &|bench| {
                fs::remove_file(bench.path("src/thing")).unwrap();
                symlink("dir", bench.path("src/thing")).unwrap();
            }),
            ("folder to link to where it went", &|bench| {
                fs::rename(bench.path("src/dir"), bench.path("src/moved")).unwrap();
                symlink("moved", bench.path("src/dir")).unwrap();
            }),
            ("link to folder", &|bench| {
                fs::remove_file(bench.path("src/dir")).unwrap();
                write(&bench.src(), "dir/below/file", b"a folder again");
            }),
            ("file to fifo", &|bench| {
                fs::remove_file(bench.path("src/stays")).unwrap();
                make_fifo(&bench.path("src/stays"));
            }),
            ("fifo to folder", &|bench| {
                fs::remove_file(bench.path("src/stays")).unwrap();
                write(&bench.src(), "stays/in", b"x");
            }),
            ("link to another target", &|bench| {
                fs::remove_file(bench.path("src/thing")).unwrap();
                symlink("elsewhere", bench.path("src/thing")).unwrap();
            }),
        ],
    );
}
