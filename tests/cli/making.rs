//! `init`, `add-volume`, and the first backup in one command.

use crate::program::Bench;

#[test]
fn init_makes_a_catalog_once() {
    let bench = Bench::new();
    let said = bench.on_catalog("init").with_code(0);
    assert!(said.out.starts_with("Created the catalog backup.cat\n"), "{}", said.out);
    let said = bench.on_catalog("init").with_code(2);
    assert_eq!(said.err, "raidtape: there is already a catalog at backup.cat; it was left as it is\n");
    assert!(said.out.is_empty());
    let error = bench.on_catalog("init --json").with_code(2).json_error();
    assert_eq!(error["code"], 2);
}

#[test]
fn init_as_json_is_one_document() {
    let bench = Bench::new();
    let said = bench.on_catalog("init --json --hash-algo sha256 --block-size 8M --compression none").with_code(0);
    let documents = said.json();
    assert_eq!(documents.len(), 1);
    assert_eq!((&documents[0]["hash_algo"], &documents[0]["block_size"]), (&"sha256".into(), &(8 << 20).into()));
    bench.run("--catalog other.cat init --block-size 1M").with_code(2);
    assert!(!bench.path("other.cat").exists());
}

#[test]
fn add_volume_needs_a_catalog_and_a_directory() {
    let bench = Bench::new();
    let said = bench.on_catalog("add-volume disk1").with_code(10);
    assert!(said.err.contains("no catalog at backup.cat") && said.err.contains("raidtape init"), "{}", said.err);
    bench.on_catalog("init").with_code(0);
    let said = bench.on_catalog("add-volume disk1 --name blue").with_code(0);
    assert!(said.out.starts_with("Added volume blue at "), "{}", said.out);
    bench.write("file", b"x");
    let said = bench.on_catalog("add-volume file").with_code(2);
    assert_eq!(said.err, format!("raidtape: {} is not a directory\n", bench.path("file").display()));
    bench.on_catalog("add-volume disk1").with_code(2);
    bench.on_catalog("add-volume disk2 --name blue").with_code(2);
    bench.write("full/file", b"x");
    bench.on_catalog("add-volume full").with_code(2);
    let documents = bench.on_catalog("add-volume full --force --json").with_code(0).json();
    assert_eq!((documents.len(), &documents[0]["name"]), (1, &"full".into()));
}

#[test]
fn a_volume_that_is_none_points_to_add_volume() {
    let bench = Bench::new();
    bench.on_catalog("init").with_code(0);
    bench.on_catalog("add-volume disk0").with_code(0);
    for line in ["backup src --volume disk1", "--volume disk1 volumes"] {
        let said = bench.on_catalog(line).with_code(2);
        assert!(said.err.contains("disk1 holds no RaidTape volume") && said.err.contains("add-volume disk1"), "{line}");
        assert_eq!(said.err.lines().count(), 1);
    }
    assert!(!bench.path("disk1").exists());
    let said = bench.on_catalog("volumes --volume elsewhere/disk0").with_code(2);
    assert!(said.err.contains("/disk0, which is volume disk0?"), "{}", said.err);
    assert!(!bench.on_catalog("volumes --volume disk1").err.contains("did you mean"), "disk1 is not nearly disk0");
}

#[test]
fn a_first_backup_that_cannot_start_makes_nothing() {
    let bench = Bench::new();
    let said = bench.on_catalog("backup src --volume disk1").with_code(1);
    assert!(said.err.contains("src does not exist"), "{}", said.err);
    bench.write("src/file", b"x");
    bench.on_catalog("backup src").with_code(10);
    let said = bench.on_catalog("backup src --volume src").with_code(2);
    assert!(said.err.contains("is not empty") && said.err.contains("add-volume src --force"), "{}", said.err);
    assert!(said.out.is_empty());
    assert!(!bench.path("backup.cat").exists() && !bench.path("disk1").exists());
}

#[test]
fn a_first_backup_goes_on_from_a_catalog_without_volumes_and_keeps_it() {
    let bench = Bench::new();
    bench.write("src/file", b"x");
    bench.on_catalog("init --hash-algo sha256").with_code(0);
    std::fs::create_dir(bench.path("empty")).expect("a directory");
    let said = bench.on_catalog("backup src --volume empty").with_code(2);
    assert!(said.err.contains("or use `raidtape add-volume empty --force`"), "{}", said.err);
    let said = bench.on_catalog("backup src --volume made/for/disk1").with_code(0);
    assert!(said.out.starts_with("Added volume disk1 at ") && said.out.contains("Run 1 of "), "{}", said.out);
    bench.on_catalog("backup src --volume other").with_code(2);
}

#[test]
fn a_first_backup_onto_a_volume_of_a_lost_catalog_points_to_rebuild() {
    let bench = Bench::new();
    bench.write("src/file", b"x");
    bench.on_catalog("init").with_code(0);
    bench.on_catalog("add-volume disk1").with_code(0);
    let said = bench.run("--catalog new.cat backup src --volume disk1").with_code(2);
    assert!(said.err.contains("rebuild-catalog --volume disk1"), "{}", said.err);
    assert!(!bench.path("new.cat").exists());
}
