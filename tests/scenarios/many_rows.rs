//! More rows in a run than memory takes: they wait for its end in a file beside the catalog.

use crate::util::bench::Bench;
use crate::util::needs::Tmpfs;
use crate::util::oracle::snapshot;
use std::os::unix::fs::symlink;
use std::path::Path;

const LINKS: u32 = 5000;

/// Links with targets of nearly 4 KiB, which lie in the rows: 20 MiB of them.
fn link_all(dir: &Path, round: char) {
    for number in 0..LINKS {
        let at = dir.join(format!("d{}/l{number}", number % 50));
        let _ = std::fs::remove_file(&at);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        symlink(format!("{number}-{}", String::from(round).repeat(4000)), at).unwrap();
    }
}

#[test]
fn a_run_of_more_rows_than_memory_takes_comes_back_whole() {
    let bench = Bench::with_volumes(&["disk1"], &[]);
    link_all(&bench.src(), 'a');
    let first = snapshot(&bench.src());
    assert_eq!(bench.backup()["files_new"], LINKS + 51);
    link_all(&bench.src(), 'b');
    let second = snapshot(&bench.src());
    assert_eq!(bench.backup()["files_changed"], LINKS);
    assert_eq!(bench.backup()["files_unmodified"], LINKS + 51);
    let all = "SELECT * FROM file_versions ORDER BY path, first_run";
    let versions = bench.query(all);
    std::fs::rename(bench.path("backup.cat"), bench.path("lost.cat")).unwrap();
    bench.run(&["rebuild-catalog", "--volume", "disk1"]).with_code(0);
    assert_eq!(bench.query(all), versions);
    bench.assert_reverts(1, &first);
    bench.assert_reverts(2, &second);
    let beside: Vec<_> = std::fs::read_dir(bench.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(beside.iter().all(|name| !name.to_string_lossy().starts_with(".tmp")), "{beside:?}");
}

#[test]
fn a_run_whose_rows_find_no_room_beside_the_catalog_is_not_saved_and_works_with_more_room() {
    let bench = Bench::new().with_catalog("small/backup.cat");
    let Some(small) = Tmpfs::mount(&bench.path("small"), 12) else { return };
    let bench = bench.and_volumes(&["disk1"], &[]);
    link_all(&bench.src(), 'a');
    let tree = snapshot(&bench.src());
    bench.run(&["--no-progress", "backup", "src"]).with_code(1).with_sentence(&[
        "rows of the run",
        "small",
        "No space",
    ]);
    assert!(bench.json(&["runs"], 0)["runs"].as_array().unwrap().iter().all(|run| run["state"] != "complete"));
    small.resize(200);
    let run = bench.backup()["run"].as_i64().unwrap();
    bench.assert_reverts(run, &tree);
    bench.assert_all_good();
}
