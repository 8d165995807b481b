//! What lies beside the bytes: extended attributes, ACLs, capabilities and inode flags come back as they were, on every
//! file system, and a change of them alone is found without reading a byte of content.

use crate::util::bench::{Bench, Said};
use crate::util::disk::{Disk, make_image};
use crate::util::needs::{has, has_root, has_tools, is_installed};
use crate::util::oracle::{assert_rsync_silent, snapshot};
use crate::util::told::{assert_told, run, thaw, told};
use crate::util::tree::{Rng, make_fifo, write};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

const TOOLS: [&str; 6] = ["setfattr", "getfattr", "setfacl", "getfacl", "chattr", "lsattr"];

/// Capabilities of ping: cap_net_raw, permitted and effective.
const CAPABILITY: &str = "0x0100000200200000000000000000000000000000";

/// Every kind of name with every kind of attribute that its file system takes.
fn grow(dir: &Path, kind: &str) {
    let set = |name: &str, key: &str, value: &str| run(dir, &["setfattr", "-h", "-n", key, "-v", value, name]);
    let mut rng = Rng(5);
    for name in ["plain", "many", "caps", "acl", "frozen", "grows", "d/inside", "d/deep/quiet", "shut/in it"] {
        write(dir, name, &rng.bytes(3000));
    }
    write(dir, "large", &rng.bytes(20 << 20));
    symlink("nowhere", dir.join("link")).unwrap();
    make_fifo(&dir.join("pipe"));
    fs::hard_link(dir.join("frozen"), dir.join("d/frozen too")).unwrap();
    for number in 0..20 {
        set("many", &format!("user.key-{number:02}"), &format!("0x{}", "ab".repeat(number * 3)));
    }
    set("large", "user.note", &format!("0x{}", "00ff".repeat(900)));
    set("d", "user.of-a-directory", "yes");
    set(".", "user.of-the-root", "yes");
    set("link", "trusted.of-a-link", "yes");
    set("pipe", "trusted.of-a-pipe", "yes");
    set("caps", "security.capability", CAPABILITY);
    run(dir, &["setfacl", "-m", "u:12345:rw,g:54321:r,m::rw", "acl"]);
    run(dir, &["setfacl", "-d", "-m", "u:12345:rwx", "d"]);
    run(dir, &["setfacl", "-m", "u:12345:rx", "d/deep"]);
    run(dir, &["chattr", "+Ad", "d/deep/quiet"]);
    run(dir, &["chattr", "+S", "d/deep"]);
    if kind == "btrfs" {
        fs::write(dir.join("no cow"), b"").unwrap();
        run(dir, &["chattr", "+C", "no cow"]);
        fs::write(dir.join("no cow"), rng.bytes(9000)).unwrap();
    }
    run(dir, &["chattr", "+i", "frozen", "shut"]);
    run(dir, &["chattr", "+a", "grows"]);
}

/// A bench whose source and restored trees lie on a file system of this kind.
fn on(kind: &str) -> Option<(Disk, Bench)> {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    let image = bench.path("image");
    let size = if kind == "ext4" { 128 } else { 512 };
    if !has(&format!("mkfs.{kind}"), is_installed(&format!("mkfs.{kind}"))) {
        return None;
    }
    let made = make_image(kind, &image, (size, if kind == "ext4" { &["-b", "4096"] } else { &[] }));
    let disk = made.then(|| Disk::mount(&image, &bench.path("fs"), "")).flatten();
    let is_there = disk.is_some() || kind != "ext4";
    if !has(&format!("a loop device and {kind}"), is_there) {
        return None;
    }
    let disk = disk?;
    fs::create_dir(bench.path("fs/src")).unwrap();
    Some((disk, bench))
}

/// Reverts run 1 to `fs/back` with fewer rights, as setpriv takes them; the report.
#[track_caller]
fn reverted_by(bench: &Bench, rights: &[&str]) -> serde_json::Value {
    let plain = bench.command(&["--json", "--no-progress", "revert-to-run", "1", "fs/back"]);
    let mut lesser = Command::new("setpriv");
    lesser.args(rights).arg(plain.get_program()).args(plain.get_args());
    lesser.current_dir(bench.path("")).env("RAIDTAPE_CATALOG", bench.path("backup.cat"));
    Said::from(lesser.output().unwrap()).with_code(0).summary()
}

#[test]
fn every_attribute_comes_back_on_every_file_system() {
    if !has_root() || !has_tools(&TOOLS) {
        return;
    }
    for kind in ["ext4", "xfs", "btrfs"] {
        let Some((mut disk, bench)) = on(kind) else { continue };
        let src = bench.path("fs/src");
        grow(&src, kind);
        let wanted = told(&src);
        assert!(wanted.iter().any(|block| block.contains("trusted.of-a-link")), "{wanted:#?}");
        assert!(wanted.iter().any(|block| block.contains("security.capability")), "{wanted:#?}");
        assert!(wanted.iter().any(|block| block.contains("default:user:12345")), "{wanted:#?}");
        assert!(wanted.iter().any(|block| block == "./frozen i"), "{wanted:#?}");
        let first = bench.json(&["backup", "fs/src"], 0);
        assert_eq!(first["files_new"], snapshot(&src).0.len(), "{first:#}");
        let again = bench.json(&["backup", "fs/src"], 0);
        assert_eq!((&again["files_metadata"], &again["files_changed"]), (&0.into(), &0.into()), "{again:#}");
        let tree = snapshot(&src);
        for round in 0..2 {
            let said = bench.run(&["revert-to-run", "1", "fs/back"]).with_code(0);
            assert!(said.err.is_empty(), "{kind}: {said:#?}");
            assert_told(&told(&bench.path("fs/back")), &wanted, kind);
            snapshot(&bench.path("fs/back")).assert_is(&tree, kind);
            assert_rsync_silent(&src, &bench.path("fs/back"));
            thaw(&bench.path("fs/back"));
            fs::remove_dir_all(bench.path("fs/back")).unwrap();
            if round == 0 {
                fs::remove_file(bench.path("backup.cat")).unwrap();
                bench.run(&["rebuild-catalog", "--volume", "disk1"]).with_code(0);
            }
        }
        thaw(&src);
        disk.unmount();
    }
}

#[test]
fn a_change_of_attributes_alone_is_a_version_and_reads_nothing() {
    if !has_root() || !has_tools(&TOOLS) {
        return;
    }
    let Some((mut disk, bench)) = on("ext4") else { return };
    let src = bench.path("fs/src");
    grow(&src, "ext4");
    // Files that changed just now are read again in any case.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let back_up = || bench.json(&["backup", "fs/src"], 0);
    back_up();
    let steps: [&[&str]; 10] = [
        &["setfattr", "-n", "user.new", "-v", "1", "plain"],
        &["setfattr", "-n", "user.key-07", "-v", "other", "many"],
        &["setfattr", "-x", "user.note", "large"],
        &["setfattr", "-x", "security.capability", "caps"],
        &["setfattr", "-h", "-n", "trusted.more", "-v", "1", "link"],
        &["setfacl", "-m", "u:7:r", "d/inside"],
        &["setfacl", "-d", "-m", "u:7:r", "d/deep"],
        &["chattr", "+A", "acl"],
        &["chattr", "+d", "d"],
        &["chattr", "-i", "frozen"],
    ];
    steps.iter().for_each(|words| _ = run(&src, words));
    let report = back_up();
    // The immutable one has two names.
    assert_eq!(report["files_metadata"], steps.len() as u64 + 1, "{report:#}");
    assert_eq!((&report["files_changed"], &report["bytes_read"]), (&0.into(), &0.into()), "{report:#}");
    let wanted = told(&src);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let again = back_up();
    assert_eq!(again["files_metadata"], 0, "{again:#}");
    let unchanged = back_up();
    assert_eq!((&unchanged["files_metadata"], &unchanged["bytes_read"]), (&0.into(), &0.into()), "{unchanged:#}");
    bench.run(&["revert-to-run", "2", "fs/back"]).with_code(0);
    assert_told(&told(&bench.path("fs/back")), &wanted, "after the changes");
    thaw(&bench.path("fs/back"));
    thaw(&src);
    disk.unmount();
}

#[test]
fn nothing_that_is_restored_keeps_an_acl_that_it_inherited() {
    if !has_root() || !has_tools(&TOOLS) {
        return;
    }
    let Some((mut disk, bench)) = on("ext4") else { return };
    let src = bench.path("fs/src");
    grow(&src, "ext4");
    let wanted = told(&src);
    bench.json(&["backup", "fs/src"], 0);
    let back = bench.path("fs/back");
    fs::create_dir(&back).unwrap();
    run(&back, &["setfacl", "-d", "-m", "u:666:rwx,g:666:rwx", "."]);
    run(&back, &["setfattr", "-n", "user.of-before", "-v", "1", "."]);
    bench.run(&["revert-to-run", "1", "fs/back"]).with_code(0);
    assert_told(&told(&back), &wanted, "below a default ACL");
    thaw(&back);
    thaw(&src);
    disk.unmount();
}

#[test]
fn what_the_system_refuses_is_counted_and_the_rest_restored() {
    if !has_root() || !has_tools(&TOOLS) || !has_tools(&["setpriv"]) {
        return;
    }
    let Some((mut disk, bench)) = on("ext4") else { return };
    let src = bench.path("fs/src");
    grow(&src, "ext4");
    bench.json(&["backup", "fs/src"], 0);
    let tree = snapshot(&src);
    let wanted = told(&src);
    // Root without the rights to give capabilities, trusted attributes and the flags i and a.
    let report = reverted_by(&bench, &["--bounding-set", "-sys_admin,-setfcap,-linux_immutable"]);
    assert_eq!((&report["metadata_refused"], &report["problems"]), (&6.into(), &serde_json::json!([])), "{report:#}");
    snapshot(&bench.path("fs/back")).assert_is(&tree, "all but some attributes");
    let found = told(&bench.path("fs/back"));
    let is_refused = |block: &str| {
        ["trusted.", "security.capability"].iter().any(|word| block.contains(word))
            || ["./frozen i", "./d/frozen too i", "./shut i", "./shut/. i", "./grows a"].contains(&block)
    };
    let kept: Vec<&String> = wanted.iter().filter(|block| !is_refused(block)).collect();
    assert!(kept.len() + 8 == wanted.len() && kept.iter().all(|block| found.contains(block)), "{found:#?}");
    thaw(&bench.path("fs/back"));
    thaw(&src);
    disk.unmount();
}

#[test]
fn attributes_that_an_older_release_did_not_look_at_are_found_though_nothing_changed() {
    if !has_root() || !has_tools(&TOOLS) {
        return;
    }
    let Some((mut disk, bench)) = on("ext4") else { return };
    let src = bench.path("fs/src");
    write(&src, "d/f", b"content");
    write(&src, "d/plain", b"content too");
    std::thread::sleep(std::time::Duration::from_millis(2100));
    bench.json(&["backup", "fs/src"], 0);
    run(&src, &["setfattr", "-n", "user.old", "-v", "1", "d/f"]);
    run(&src, &["setfacl", "-d", "-m", "u:7:r", "d"]);
    let ctime = |name: &str| {
        let meta = fs::metadata(src.join(name)).unwrap();
        meta.ctime() * 1_000_000_000 + meta.ctime_nsec()
    };
    // As if these had been there all the time, unseen.
    let conn = rusqlite::Connection::open(bench.path("backup.cat")).unwrap();
    conn.execute("UPDATE live SET marks = 0", []).unwrap();
    for (name, path) in [("f", "d/f"), ("d", "d")] {
        let changed = conn.execute("UPDATE live SET ctime_ns = ?1 WHERE name = CAST(?2 AS BLOB)", (ctime(path), name));
        assert_eq!(changed.unwrap(), 1);
    }
    drop(conn);
    let report = bench.json(&["backup", "fs/src"], 0);
    assert_eq!((&report["files_metadata"], &report["bytes_read"]), (&2.into(), &0.into()), "{report:#}");
    let again = bench.json(&["backup", "fs/src"], 0);
    assert_eq!(again["files_metadata"], 0, "{again:#}");
    bench.run(&["revert-to-run", "2", "fs/back"]).with_code(0);
    assert_told(&told(&bench.path("fs/back")), &told(&src), "found late");
    disk.unmount();
}

#[test]
fn a_restore_that_goes_on_later_can_do_so_and_ends_with_every_flag() {
    if !has_root() || !has_tools(&TOOLS) {
        return;
    }
    let Some((mut disk, bench)) = on("ext4") else { return };
    let src = bench.path("fs/src");
    grow(&src, "ext4");
    run(&src, &["chattr", "+i", "."]);
    let wanted = told(&src);
    bench.json(&["backup", "fs/src"], 0);
    fs::rename(bench.path("disk1"), bench.path("away")).unwrap();
    bench.run(&["revert-to-run", "1", "fs/back"]).with_code(5);
    fs::rename(bench.path("away"), bench.path("disk1")).unwrap();
    bench.run(&["revert-to-run", "1", "fs/back"]).with_code(0);
    assert_told(&told(&bench.path("fs/back")), &wanted, "after the volume came back");
    thaw(&bench.path("fs/back"));
    run(&bench.path("fs/back"), &["setfattr", "-n", "user.of-somebody", "-v", "1", "d"]);
    run(&bench.path("fs/back"), &["chattr", "+A", "d"]);
    bench.run(&["revert-to-run", "1", "fs/back", "--overwrite", "if-changed"]).with_code(0);
    assert_told(&told(&bench.path("fs/back")), &wanted, "over what was thawed");
    thaw(&bench.path("fs/back"));
    thaw(&src);
    disk.unmount();
}

#[test]
fn an_ordinary_user_gets_the_attributes_of_what_is_read_only() {
    if !has_root() || !has_tools(&TOOLS) || !has_tools(&["setpriv", "chown"]) {
        return;
    }
    let Some((mut disk, bench)) = on("ext4") else { return };
    let src = bench.path("fs/src");
    write(&src, "d/read-only", b"content");
    run(&src, &["setfattr", "-n", "user.x", "-v", "1", "d/read-only"]);
    run(&src, &["setfattr", "-n", "user.y", "-v", "2", "d"]);
    run(&src, &["setfacl", "-m", "u:7:r", "d/read-only"]);
    run(&src, &["chmod", "0444", "d/read-only"]);
    run(&src, &["chmod", "0555", "d"]);
    bench.json(&["backup", "fs/src"], 0);
    run(&bench.path(""), &["chown", "-R", "65534:65534", "."]);
    let wanted = told(&src);
    let report = reverted_by(&bench, &["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    // What root owned is nobody's now.
    let is_owner = |line: &&str| !line.starts_with("# owner") && !line.starts_with("# group");
    let without = |blocks: Vec<String>| -> Vec<String> {
        blocks.iter().map(|block| block.lines().filter(is_owner).collect::<Vec<_>>().join("\n")).collect()
    };
    assert_told(&without(told(&bench.path("fs/back"))), &without(wanted), "by an ordinary user");
    assert_eq!(report["problems"], serde_json::json!([]), "{report:#}");
    disk.unmount();
}

#[test]
fn attributes_that_cannot_be_read_are_told_and_looked_at_again() {
    if !has_root() || !has_tools(&TOOLS) || !has_tools(&["strace"]) {
        return;
    }
    let Some((mut disk, bench)) = on("ext4") else { return };
    let src = bench.path("fs/src");
    write(&src, "d/f", b"content");
    run(&src, &["setfattr", "-n", "user.a", "-v", "1", "d/f"]);
    run(&src, &["chattr", "+A", "d/f"]);
    fs::hard_link(src.join("d/f"), src.join("further")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let args = ["--json", "--no-progress", "backup", "fs/src"];
    let said = Said::from(bench.traced(&args, "fgetxattr:error=EIO").output().unwrap()).with_code(3);
    let problems = said.summary()["problems"].clone();
    assert!(problems.as_array().unwrap().iter().any(|problem| problem["op"] == "attrs"), "{problems:#}");
    // What could be read is there, and the bytes.
    bench.run(&["revert-to-run", "1", "fs/first"]).with_code(0);
    assert_eq!(fs::read(bench.path("fs/first/further")).unwrap(), b"content");
    let blocks = told(&bench.path("fs/first"));
    assert!(
        blocks.contains(&"./d/f A".to_owned()) && !blocks.iter().any(|block| block.contains("user.a")),
        "{blocks:#?}"
    );
    let report = bench.json(&["backup", "fs/src"], 0);
    assert_eq!((&report["files_metadata"], &report["bytes_read"]), (&2.into(), &0.into()), "both names: {report:#}");
    bench.run(&["revert-to-run", "2", "fs/back"]).with_code(0);
    assert_told(&told(&bench.path("fs/back")), &told(&src), "looked at again");
    disk.unmount();
}
