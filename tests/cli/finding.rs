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
    std::fs::remove_file(bench.path("src/docs/gone.txt")).expect("a file that can be removed");
    bench.on_catalog("backup src --name src -q").with_code(0);
    bench.write("src/docs/gone.txt", b"back");
    bench.on_catalog("backup src --name src -q").with_code(0);
    std::fs::rename(bench.path("disk1"), bench.path("away")).expect("a volume that can be moved");
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

#[test]
fn files_are_found_in_all_runs_without_a_volume() {
    let bench = three_runs();
    let find = |line: &str| {
        let said = bench.on_catalog(&format!("find --json {line}")).with_code(0).json();
        let (summary, versions) = said.split_last().unwrap();
        assert_eq!(summary["versions"], versions.len());
        let words = |version: &serde_json::Value| {
            format!("{} {}-{}", version["path"], version["first_run"], version["last_run"])
        };
        versions.iter().map(words).collect::<Vec<_>>().join(" ").replace('"', "")
    };
    assert_eq!(find("gone.*"), "docs/gone.txt 1-1 docs/gone.txt 3-null");
    assert_eq!(find("gone.* --run 2"), "");
    assert_eq!(find("docs/*.txt --run latest~1"), "docs/letter.txt 2-null");
    assert_eq!(find("-i *.jpg --size +68k"), "photo.JPG 1-null");
    assert_eq!(find("--size -10 --type f"), "docs/gone.txt 3-null docs/letter.txt 1-1");
    assert_eq!(find("--type d --newer 2000-01-01").matches("docs").count(), find("docs/").matches("docs").count());
    assert_eq!(find("--older 2000-01-01"), "");
    let all = bench.on_catalog("find --json letter.txt").with_code(0).json();
    let hash = all[0]["file_hash"].as_str().unwrap();
    assert_eq!(find(&format!("--hash {}", &hash[..8])), "docs/letter.txt 1-1");
    assert_eq!(find(&format!("--chunk {hash}")), "docs/letter.txt 1-1");
    assert_eq!(find("--on-volume disk1 --type f").split(' ').count(), 10);
    let said = bench.on_catalog("find letter.txt").with_code(0);
    assert!(said.out.lines().count() == 2 && said.out.starts_with("1  ") && said.out.contains(" 3 B "), "{}", said.out);
    let block = walkdir::WalkDir::new(bench.path("away/chunks")).into_iter().flatten();
    let block =
        block.filter(|entry| entry.file_type().is_file()).map(|entry| entry.file_name().to_owned()).next().unwrap();
    let found = find(&format!("--block {}", &block.to_str().unwrap()[..12]));
    assert!(found.contains("docs/"), "{found}");
    for (line, words) in [
        ("find", "required"),
        ("find x --block 00000000", "there is no block whose name begins with 00000000"),
        ("find --hash 123", "8 hex digits"),
        ("find [a", "the pattern [a"),
        ("find x --run 9", "no run 9"),
        ("find x --on-volume disk7", "the volumes are: disk1"),
        ("find --size 5parsecs", "a size is like"),
    ] {
        let said = bench.on_catalog(line).with_code(2);
        assert!(said.err.contains(words), "{line}: {}", said.err);
    }
}

#[test]
fn runs_are_compared_with_each_other_and_with_a_directory() {
    let bench = three_runs();
    let said = bench.on_catalog("diff 1 2").with_code(0);
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines.contains(&"- docs/gone.txt") && lines.contains(&"M docs/letter.txt"), "{}", said.out);
    assert!(lines.last().unwrap().ends_with("15 B new, 2.9 KiB gone"), "{}", said.out);
    assert_eq!(bench.on_catalog("diff latest~2 2 photo.JPG -q").with_code(0).out, "");
    let documents = bench.on_catalog("diff latest~1 latest docs/gone.txt --json").with_code(0).json();
    assert_eq!((&documents[0]["modifier"], &documents[0]["path"]), (&"+".into(), &"docs/gone.txt".into()));
    assert_eq!((&documents[1]["added"], &documents[1]["bytes_added"]), (&1.into(), &4.into()));
    let live = |line: &str| bench.on_catalog(&format!("diff latest src -q {line}")).with_code(0).out;
    assert_eq!(live(""), "");
    assert_eq!(live("--content"), "");
    let path = bench.path("src/photo.JPG");
    let time = path.metadata().unwrap().modified().unwrap();
    bench.write("src/photo.JPG", &[b'q'; 70_000]);
    std::fs::File::open(&path).unwrap().set_modified(time).unwrap();
    assert_eq!((live(""), live("--content")), (String::new(), "M photo.JPG\n".to_owned()));
    std::fs::remove_dir_all(bench.path("src/docs")).unwrap();
    bench.write("src/new", b"n");
    let said = live("");
    for line in ["- docs/", "- docs/gone.txt", "- docs/letter.txt", "+ new"] {
        assert!(said.lines().any(|told| told == line), "{line}: {said}");
    }
    for what in ["nowhere", "src/photo.JPG", "src/photo.JPG/x"] {
        let said = bench.on_catalog(&format!("diff latest {what}")).with_code(2);
        assert!(said.err.contains(&format!("{what} is neither a run nor a directory")), "{said:?}");
    }
    let said = bench.on_catalog("diff 1 2 docs/gone").with_code(2);
    assert!(said.err.contains("docs/gone is not in run 1"), "{}", said.err);
}

#[test]
fn a_change_of_the_top_itself_is_a_difference() {
    let bench = Bench::new();
    bench.on_catalog("init").with_code(0);
    bench.on_catalog("add-volume disk1").with_code(0);
    bench.write("src/docs/f", b"x");
    let chmod = |name: &str, mode: u32| {
        std::fs::set_permissions(bench.path(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    chmod("src", 0o755);
    chmod("src/docs", 0o755);
    bench.on_catalog("backup src -q").with_code(0);
    let diff = |line: &str| bench.on_catalog(&format!("diff {line}")).with_code(0).out;
    assert_eq!(diff("1 src -q") + &diff("1 src/docs docs -q"), "");
    chmod("src", 0o700);
    chmod("src/docs", 0o700);
    assert_eq!(diff("1 src -q"), "U ./\nU docs/\n");
    assert_eq!(diff("1 src/docs docs -q"), "U ./\n");
    bench.on_catalog("backup src -q").with_code(0);
    assert!(diff("1 2").starts_with("U ./\nU docs/\nadded 0, removed 0, content 0, metadata 2,"), "{}", diff("1 2"));
    assert_eq!((diff("1 2 docs -q"), diff("2 1 docs/f -q")), ("U docs/\n".to_owned(), String::new()));
}

#[test]
fn a_directory_or_a_path_says_which_source_is_meant() {
    let bench = Bench::new();
    bench.on_catalog("init").with_code(0);
    bench.on_catalog("add-volume disk1").with_code(0);
    for (dir, file) in [("home", "ann"), ("etc", "fstab"), ("var", "log")] {
        bench.write(&format!("{dir}/{file}"), b"1");
        bench.write(&format!("{dir}/both"), b"1");
        bench.on_catalog(&format!("backup {dir} -q --name {dir} --host h")).with_code(0);
        bench.write(&format!("{dir}/{file}"), b"more");
        bench.on_catalog(&format!("backup {dir} -q --name {dir} --host h")).with_code(0);
    }
    let ok = |line: &str| bench.on_catalog(line).with_code(0).out;
    let home = bench.path("home").display().to_string();
    assert_eq!(ok(&format!("diff latest {home}/ -q")) + &ok("diff latest ./etc -q"), "");
    assert_eq!(ok("diff latest~1 var -q"), "M log\n");
    assert_eq!(ok("diff latest~1 latest ann -q"), "M ann\n");
    assert_eq!(ok(&format!("diff latest latest~1 {home}/ann -q")), "M ann\n");
    let refused = |line: &str| bench.on_catalog(line).with_code(2).err;
    assert!(refused("diff latest disk1").contains("the root is in several sources"));
    assert!(refused("diff latest~1 latest both").contains("both is in several sources: h:home, h:etc, h:var"));
    // What is in no source is told once, with the one name that is near.
    for (line, words) in [
        ("ls fstba", "no source has fstba (newest runs of: h:home, h:etc, h:var); did you mean fstab?"),
        (
            "diff latest~1 latest fstba",
            "no source has fstba (newest runs of: h:home, h:etc, h:var); did you mean fstab?",
        ),
        ("ls latest~1:fstba", "no source has fstba (run latest~1 of: h:home, h:etc, h:var); did you mean fstab?"),
        ("ls nothing-at-all", "no source has nothing-at-all (newest runs of: h:home, h:etc, h:var)"),
        ("history fstba", "no source ever had fstba (runs of: h:home, h:etc, h:var); did you mean fstab?"),
        ("ls @1999-12-31:ann", "no source has a complete run up to 1999-12-31 (sources: h:home, h:etc, h:var)"),
        ("find ann --run @1999-12-31", "no source has a complete run up to 1999-12-31 (sources: h:home, h:etc, h:var)"),
        ("ls latest~9:ann", "no source has a run latest~9 (sources: h:home, h:etc, h:var)"),
    ] {
        let said = refused(line);
        assert!(said.contains(words) && said.len() < 170, "{line}: {said}");
    }
}

#[test]
fn a_volume_inside_the_directory_is_no_difference() {
    let bench = Bench::new();
    bench.on_catalog("init").with_code(0);
    bench.write("src/f", b"x");
    bench.on_catalog("add-volume src/disk1").with_code(0);
    bench.on_catalog("backup src -q").with_code(0);
    assert_eq!(bench.on_catalog("diff latest src -q").with_code(0).out, "");
}
