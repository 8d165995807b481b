//! What a person sees on stdout, and what comes of it when nobody can.

use crate::program::{Bench, Said, has_tools};
use std::fs::File;
use std::process::Command;

/// In a shell, with stdout turned elsewhere.
fn in_shell(bench: &Bench, line: &str, redirection: &str) -> Said {
    let mut command = Command::new("sh");
    let script = format!("{} --catalog backup.cat {line} {redirection}", env!("CARGO_BIN_EXE_raidtape"));
    command.current_dir(bench.path("")).env("HOME", bench.path("")).args(["-c", &script]);
    command.output().expect("a shell").into()
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure_and_for_status_unknown() {
    let bench = Bench::new();
    bench.write("src/file", b"text");
    bench.on_catalog("backup src --volume disk1").with_code(0);
    bench.on_catalog("status --max-run-age 1d").with_code(0);
    let mut lines =
        vec![("runs", 1), ("report --json", 1), ("generate completions bash", 1), ("generate cron -- /home", 1)];
    lines.extend([("generate systemd -- /home", 1), ("status", 3), ("status --json", 3)]);
    for (line, code) in lines {
        for redirection in [">/dev/full", ">&-"] {
            let said = in_shell(&bench, line, redirection).with_code(code);
            assert!(said.err.contains("stdout"), "{line} {redirection}: {said:?}");
        }
    }
    // These have another result.
    in_shell(&bench, "report page.html", ">&-").with_code(0);
    in_shell(&bench, "generate systemd --dir units -- /home", ">&-").with_code(0);
    in_shell(&bench, "generate man pages", ">/dev/full").with_code(0);
    in_shell(&bench, "status --prometheus page.prom", ">&-").with_code(0);
    assert!(File::open(bench.path("page.html")).is_ok() && File::open(bench.path("page.prom")).is_ok());
}

#[test]
fn names_that_turn_text_around_are_shown_and_not_obeyed() {
    let bench = Bench::new();
    bench.write("src/\u{202e}evil\u{202c}.txt", b"text");
    bench.write("src/\u{2067}dir/file", b"text too");
    bench.on_catalog("backup src --volume disk1").with_code(0);
    bench.on_catalog("report page.html").with_code(0);
    let page = std::fs::read_to_string(bench.path("page.html")).unwrap();
    let listed = bench.on_catalog("ls -R").with_code(0).out + &page;
    assert!(listed.contains("\\u{202e}evil\\u{202c}.txt") && listed.contains("\\u{2067}dir"), "{listed}");
    assert!(!listed.contains(['\u{202e}', '\u{202c}', '\u{2067}']), "{listed}");
    // Programs get the bytes.
    assert!(bench.on_catalog("ls --json").with_code(0).out.contains('\u{202e}'));
}

#[test]
fn what_is_no_longer_selected_is_told_apart_from_what_is_gone() {
    let bench = Bench::new();
    for name in ["a", "b", "skip/c", "skip/d"] {
        bench.write(&format!("src/{name}"), name.as_bytes());
    }
    bench.on_catalog("backup src --volume disk1").with_code(0);
    std::fs::remove_file(bench.path("src/a")).unwrap();
    let dry = bench.on_catalog("backup src -e /skip -n").with_code(0).out;
    assert!(dry.contains("delete 4, 3 of them no longer selected, leave"), "{dry}");
    let said = bench.on_catalog("backup src -e /skip").with_code(0).out;
    assert!(said.contains("deleted 4, 3 of them no longer selected, unchanged"), "{said}");
    bench.write("src/skip/e", b"e");
    let documents = bench.on_catalog("backup src --json").with_code(0).json();
    assert_eq!((&documents[0]["files_deleted"], &documents[0]["files_excluded"]), (&0.into(), &0.into()));
    std::fs::remove_file(bench.path("src/b")).unwrap();
    let said = bench.on_catalog("backup src").with_code(0).out;
    assert!(said.contains("deleted 1, unchanged"), "{said}");
}

#[test]
fn with_v_volumes_tells_more_and_history_a_hash_that_find_takes() {
    let bench = Bench::new();
    bench.write("src/file", b"text");
    bench.on_catalog("backup src --volume disk1").with_code(0);
    let plain = bench.on_catalog("volumes").with_code(0).out;
    let more = bench.on_catalog("volumes -v").with_code(0).out;
    let header = more.lines().next().unwrap();
    assert!(plain.lines().next().unwrap().split_whitespace().all(|name| header.contains(name)), "{more}");
    assert!(header.contains("RESERVE") && header.contains("UUID") && more.contains("active"), "{more}");
    let history = bench.on_catalog("history file -v").with_code(0).out;
    let is_hash = |word: &&str| word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hash = history.split_whitespace().find(is_hash).unwrap_or_else(|| panic!("a hash: {history}"));
    assert!(bench.on_catalog(&format!("find --hash {hash}")).with_code(0).out.contains("file"), "{hash}");
}

#[test]
fn on_a_terminal_of_80_columns_no_line_is_longer_and_no_word_is_torn() {
    if !has_tools(&["script", "stty"]) {
        return;
    }
    let bench = Bench::new();
    bench.write("src/a-file", &[7; 300_000]);
    bench.on_catalog("init").with_code(0);
    let name = "a-name-of-twenty-eight-lette";
    bench.on_catalog(&format!("add-volume disk1 --name {name}")).with_code(0);
    bench.on_catalog("backup src --name /home/ann/pictures --tag trip,raw --label before-the-clean-up").with_code(0);
    let program = env!("CARGO_BIN_EXE_raidtape");
    for (line, words) in [
        ("volumes", &[name, "active", "VERIFIED"][..]),
        ("volumes -v", &[name, "active", "RESERVE", "VERIFIED"]),
        ("runs -v", &["before-the-clean-up [trip,raw]", "/home/ann/pictures", "293 KiB", "STORED"]),
        ("runs", &["before-the-clean-up [trip,raw]", "/home/ann/pictures", "STORED"]),
        ("history a-file -v", &["LAST CHANGE", "HASH", "file 0644"]),
    ] {
        let mut command = Command::new("script");
        let script = format!("stty cols 80; {program} --catalog backup.cat {line}");
        command.args(["-qec", &script, "/dev/null"]).env("NO_COLOR", "1").env("TERM", "xterm");
        let out = command.current_dir(bench.path("")).output().expect("script").stdout;
        let shown = String::from_utf8(out).expect("words are UTF-8");
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{line}: {shown}");
        assert!(words.iter().all(|word| shown.contains(word)), "{line}: {shown}");
    }
}
