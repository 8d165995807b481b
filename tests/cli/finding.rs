//! `history`, `find` and `diff`: answers about all runs, from the catalog alone.

use crate::program::Bench;

/// A catalog with one volume that is away, and three runs of `src`.
fn three_runs() -> Bench {
    let bench = Bench::new();
    bench.on_catalog("init").with_code(0);
    bench.on_catalog("add-volume disk1").with_code(0);
    bench.write("src/docs/letter.txt", b"one");
    bench.write("src/docs/gone.txt", &[b'g'; 3000]);
    bench.write("src/photo.JPG", &[b'p'; 70_000]);
    bench.on_catalog("backup src --name src -q").with_code(0);
    bench.write("src/docs/letter.txt", b"two, and longer");
    std::fs::remove_file(bench.path("src/docs/gone.txt")).unwrap();
    bench.on_catalog("backup src --name src -q").with_code(0);
    bench.write("src/docs/gone.txt", b"back");
    bench.on_catalog("backup src --name src -q").with_code(0);
    std::fs::rename(bench.path("disk1"), bench.path("away")).unwrap();
    bench
}

#[test]
fn the_history_of_a_path_has_its_versions_and_the_time_when_it_was_gone() {
    let bench = three_runs();
    let said = bench.on_catalog("history docs/gone.txt").with_code(0);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 4, "{}", said.out);
    assert!(
        lines[0].starts_with("RUNS") && lines[1].starts_with("1 ") && lines[1].contains("file 0644"),
        "{}",
        said.out
    );
    assert!(lines[2].starts_with("2 ") && lines[2].ends_with("deleted"), "{}", said.out);
    assert!(lines[3].starts_with("3- ") && lines[3].contains(" 4 B "), "{}", said.out);
    let document = &bench.on_catalog("history src/docs/letter.txt --json --source src").with_code(2).json_error();
    assert!(document["error"].as_str().unwrap().contains("never had"), "{document}");
    let document = &bench.on_catalog("history docs/letter.txt --json").with_code(0).json()[0];
    let versions = document["versions"].as_array().unwrap();
    assert_eq!((&document["path"], versions.len()), (&"docs/letter.txt".into(), 2));
    assert_eq!((&versions[0]["last_run"], &versions[0]["ended"]), (&1.into(), &"modified".into()));
    assert_eq!((&versions[1]["first_run"], &versions[1]["last_run"]), (&2.into(), &serde_json::Value::Null));
    assert!(versions[1]["changed"].as_array().unwrap().contains(&"content".into()), "{document}");
    let said = bench.on_catalog("history docs/lettre.txt").with_code(2);
    assert!(said.err.contains("never had docs/lettre.txt; did you mean docs/letter.txt?"), "{}", said.err);
}
