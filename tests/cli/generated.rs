//! What `generate` makes is taken by those whom it is for: shells, man, systemd and cron.

use crate::program::{Bench, has_tools};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;

/// What a program says on both outputs, after a look at its exit code.
#[track_caller]
fn said(command: &mut Command, code: i32) -> String {
    let output = command.output().expect("the program runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {text}");
    text
}

#[test]
fn completions_complete_commands_and_options_in_every_shell() {
    if !has_tools(&["bash", "zsh", "fish"]) {
        return;
    }
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = bench.run(&format!("generate completions {shell}")).with_code(0);
        bench.write(shell, script.out.as_bytes());
    }
    let shell = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.current_dir(bench.path("")).env("HOME", bench.path("")).args(args);
        said(&mut command, 0)
    };
    let bash = ". ./bash; COMP_WORDS=(raidtape vali); COMP_CWORD=1; _raidtape raidtape vali raidtape; echo ${COMPREPLY[*]}; \
                COMP_WORDS=(raidtape validate --max-d); COMP_CWORD=2; _raidtape raidtape --max-d validate; echo ${COMPREPLY[*]}";
    assert_eq!(shell("bash", &["--norc", "-c", bash]), "validate\n--max-duration\n");
    let fish = "source ./fish; complete -C 'raidtape vali'; complete -C 'raidtape validate --max-d'";
    let found = shell("fish", &["--no-config", "-c", fish]);
    assert!(found.starts_with("validate\t") && found.contains("\n--max-duration\t"), "{found}");
    let zsh =
        "autoload -U compinit; compinit -D -u; source ./zsh; echo ${_comps[raidtape]}; whence -w _raidtape_commands";
    assert_eq!(shell("zsh", &["-f", "-c", zsh]), "_raidtape\n_raidtape_commands: function\n");
}

#[test]
fn every_command_has_a_man_page_without_a_warning() {
    if !has_tools(&["mandoc"]) {
        return;
    }
    let bench = Bench::new();
    bench.run("generate man man").with_code(0);
    let mut pages: Vec<_> = std::fs::read_dir(bench.path("man")).unwrap().map(|page| page.unwrap().path()).collect();
    pages.sort();
    let names: Vec<_> = pages.iter().filter_map(|page| page.file_name()?.to_str()).collect();
    for name in ["raidtape.1", "raidtape-backup.1", "raidtape-add-volume.1", "raidtape-profile-run.1"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(said(Command::new("mandoc").args(["-Tlint", "-Wwarning"]).args(&pages), 0), "");
    let text =
        said(Command::new("mandoc").args(["-Tascii", "-O", "width=200"]).arg(bench.path("man/raidtape-backup.1")), 0);
    assert!(text.contains("raidtape backup ~/photos -n -v\n"), "examples keep their lines: {text}");
}

/// The words of an `ExecStart=` line by the rules of systemd.service(5): quotes, C escapes, `%%` and `$$`.
fn exec_words(line: &str) -> Vec<OsString> {
    let (mut words, mut word, mut is_quoted, mut is_any) = (Vec::new(), Vec::new(), false, false);
    let mut bytes = line.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => (is_quoted, is_any) = (!is_quoted, true),
            b' ' if !is_quoted => {
                if is_any || !word.is_empty() {
                    words.push(OsString::from_vec(std::mem::take(&mut word)));
                }
                is_any = false;
            }
            b'%' | b'$' => assert_eq!(bytes.next(), Some(byte), "a single sign has a meaning: {line}"),
            b'\\' => match bytes.next() {
                Some(b'x') => {
                    let digits: String = bytes.by_ref().take(2).map(char::from).collect();
                    word.push(u8::from_str_radix(&digits, 16).expect("two digits"));
                }
                escaped => word.push(escaped.expect("something behind a backslash")),
            },
            plain => word.push(plain),
        }
        if byte == b'%' || byte == b'$' {
            word.push(byte);
        }
    }
    assert!(!is_quoted, "an open quote: {line}");
    if is_any || !word.is_empty() {
        words.push(OsString::from_vec(word));
    }
    words
}

#[test]
fn the_lines_of_a_service_do_what_they_say_whatever_is_in_the_names() {
    let bench = Bench::new();
    for name in [&b"50% $HOME \"it's\" \\x"[..], b"line\nbreak", b"\xff;", b"plain"] {
        std::fs::create_dir_all(bench.path("src").join(OsStr::from_bytes(name))).unwrap();
        std::fs::write(bench.path("src").join(OsStr::from_bytes(name)).join("file"), name).unwrap();
    }
    bench.on_catalog("init").with_code(0);
    bench.on_catalog("add-volume disk1").with_code(0);
    for dir in std::fs::read_dir(bench.path("src")).unwrap().map(|dir| dir.unwrap().path()) {
        let mut command = bench.command();
        command.args([
            "--catalog",
            "backup.cat",
            "generate",
            "systemd",
            "--dir",
            "units",
            "--",
            "-e",
            "*.o",
            "--force",
        ]);
        command.arg(&dir).assert().success();
        let unit = std::fs::read_to_string(bench.path("units/raidtape-backup.service")).unwrap();
        let lines: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("ExecStart=")).collect();
        assert_eq!(lines.len(), 3, "{unit}");
        for line in lines {
            let words = exec_words(line);
            let output = Command::new(&words[0]).args(&words[1..]).current_dir("/").env_clear().output().unwrap();
            assert!(output.status.success() && output.stdout.is_empty(), "{line}: {output:?}");
        }
        if has_tools(&["systemd-analyze"]) {
            let units = ["service", "timer"].map(|ending| bench.path(&format!("units/raidtape-backup.{ending}")));
            assert_eq!(said(Command::new("systemd-analyze").arg("verify").args(units), 0), "");
        }
        // A second time nothing is written over.
        let mut again = bench.command();
        again.args(["generate", "systemd", "--dir", "units", "--"]).arg(&dir).assert().code(2);
        std::fs::remove_dir_all(bench.path("units")).unwrap();
    }
    let runs = bench.on_catalog("runs --json").with_code(0).json();
    assert_eq!(runs[0]["runs"].as_array().map(Vec::len), Some(4));
}

#[test]
fn a_run_with_unread_files_fails_its_service_and_a_missed_night_is_made_up_for() {
    let bench = Bench::new();
    let units = bench.run("generate systemd --profile home --on-calendar weekly").with_code(0).out;
    assert!(!units.contains("SuccessExitStatus") && units.contains("Type=oneshot"), "{units}");
    assert!(
        units.contains("-q profile run home\n") && units.contains("OnCalendar=weekly\nPersistent=true\n"),
        "{units}"
    );
    for unread in ["PrivateTmp", "ProtectHome", "ProtectSystem", "CapabilityBoundingSet", "PrivateDevices"] {
        assert!(!units.contains(unread), "with {unread} not everything could be read: {units}");
    }
    let of_user = bench.run("generate systemd --user -- /home/me").with_code(0).out;
    assert!(!of_user.contains("NoNewPrivileges"), "{of_user}");
}

#[test]
fn a_unit_of_a_profile_finds_file_and_catalog_without_a_home() {
    let bench = Bench::new();
    bench.write("src/file", b"text");
    bench.on_catalog("init").with_code(0);
    bench.on_catalog("add-volume disk1").with_code(0);
    let text = format!("[profile.home]\n[[profile.home.source]]\nroots = ['{}']\n", bench.path("src").display());
    bench.write(".config/raidtape/profiles.toml", text.as_bytes());
    bench.on_catalog("generate systemd --profile hom").with_code(2);
    let said = bench.on_catalog("generate systemd --profile home").with_code(0);
    let line = said.out.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    let words = exec_words(line);
    let output = Command::new(&words[0]).args(&words[1..]).current_dir("/").env_clear().output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty() && said.err.is_empty(), "{line}: {output:?}");
    assert_eq!(bench.on_catalog("runs").with_code(0).out.lines().count(), 2);
}

#[test]
fn a_line_of_cron_has_its_percent_signs_escaped_and_runs_in_a_shell() {
    let bench = Bench::new();
    bench.write("src/50% it's/file", b"text");
    bench.on_catalog("init").with_code(0);
    bench.on_catalog("add-volume disk1").with_code(0);
    let mut command = bench.command();
    command.args(["--catalog", "backup.cat", "generate", "cron", "--at", "03:05", "--"]);
    let output = command.arg(bench.path("src/50% it's")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().last().unwrap().strip_prefix("5 3 * * *  root  ").expect("time and user").to_owned();
    assert!(line.contains("50\\%") && !line.replace("\\%", "").contains('%'), "{line}");
    let shell = said(Command::new("sh").args(["-c", &line.replace("\\%", "%")]).current_dir("/").env_clear(), 0);
    assert_eq!(shell, "");
    assert_eq!(bench.on_catalog("runs").with_code(0).out.lines().count(), 2);
    let of_user = bench.run("generate cron --user -- /home/me").with_code(0).out;
    assert!(of_user.contains("\n30 2 * * *  /"), "{of_user}");
}
