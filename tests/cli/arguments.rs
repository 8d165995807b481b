//! Help, versions, and arguments that make no sense.

use crate::program::{Bench, has_tools};

const COMMANDS: [&str; 22] = [
    "init",
    "add-volume",
    "backup",
    "list-changes",
    "validate",
    "restore",
    "restore-folder",
    "revert-to-run",
    "dump",
    "rebuild-catalog",
    "genmeta",
    "runs",
    "volumes",
    "ls",
    "find",
    "diff",
    "history",
    "stats",
    "status",
    "report",
    "generate",
    "profile",
];

#[test]
fn help_names_every_command_and_exit_code_and_fits_a_terminal() {
    let said = Bench::new().run("--help").with_code(0);
    for command in COMMANDS {
        assert!(said.out.contains(&format!("\n  {command} ")), "{command}: {}", said.out);
    }
    for code in ["0 ", "1 ", "2 ", "3 ", "4 ", "5 ", "10 ", "11 ", "130, 143"] {
        assert!(said.out.contains(&format!("\n  {code}")), "{code}");
    }
    assert!(said.err.is_empty());
}

#[test]
fn every_command_has_help_with_examples() {
    let bench = Bench::new();
    for command in COMMANDS {
        for flag in ["--help", "-h"] {
            let said = bench.run(&format!("{command} {flag}")).with_code(0);
            assert!(said.out.contains("\nExamples:\n  raidtape "), "{command}");
            assert!(said.out.contains("--catalog <PATH>"), "{command}");
            let widest = said.out.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(90), "{command}: {widest:?}");
        }
    }
}

/// Subcommands as a help text lists them.
fn subcommands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    names.filter_map(|line| line.split(' ').next().map(str::to_owned)).filter(|name| name != "help").collect()
}

#[test]
fn every_command_down_to_the_last_has_an_example_of_itself() {
    let bench = Bench::new();
    let mut wanted: Vec<String> = subcommands(&bench.run("--help").with_code(0).out);
    let mut seen = 0;
    while let Some(command) = wanted.pop() {
        seen += 1;
        let help = bench.run(&format!("{command} --help")).with_code(0).out;
        let examples = help.split("\nExamples:\n").nth(1).unwrap_or_else(|| panic!("{command}: no examples: {help}"));
        // The last word is enough where options stand between: `raidtape --catalog c profile run`.
        let name = command.split(' ').next_back().unwrap_or_default();
        assert!(examples.contains("raidtape ") && examples.contains(name), "{command}: {examples}");
        wanted.extend(subcommands(&help).into_iter().map(|below| format!("{command} {below}")));
    }
    assert!(seen > COMMANDS.len(), "{seen}");
}

#[test]
fn colours_are_for_terminals_alone_and_only_where_they_are_wanted() {
    if !has_tools(&["script"]) {
        return;
    }
    let bench = Bench::new();
    bench.on_catalog("init").with_code(0);
    bench.on_catalog("add-volume disk1").with_code(0);
    bench.write("p.toml", b"[[profile.a.source]]\nroots = ['/gone']\n");
    let shown = |line: &str, colour: &[(&str, &str)]| {
        let program = env!("CARGO_BIN_EXE_raidtape");
        let mut command = std::process::Command::new("script");
        command.args(["-qec", &format!("{program} --catalog backup.cat {line}"), "/dev/null"]);
        command.current_dir(bench.path("")).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("TERM", "xterm").envs(colour.iter().copied()).stdin(std::process::Stdio::null());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    for (line, coloured) in [
        ("ls", "\x1b[31mraidtape:\x1b[0m nothing was backed up yet"),
        ("validate", "\x1b[32mAll good\x1b[0m"),
        ("volumes", "active"),
        ("profile check --file p.toml", "raidtape: \x1b[33mwarning:\x1b[0m /gone is not there now"),
    ] {
        let said = shown(line, &[]);
        assert!(said.contains(coloured) && said.contains("\x1b["), "{line}: {said:?}");
        for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let said = shown(line, &[(name, value)]);
            assert!(!said.contains("\x1b[3") && !said.is_empty(), "{line}: {said:?}");
        }
    }
}

#[test]
fn version_goes_to_stdout() {
    let said = Bench::new().run("--version").with_code(0);
    assert_eq!(said.out, format!("raidtape {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn arguments_that_make_no_sense_are_usage_errors() {
    let bench = Bench::new();
    let lines = [
        "",
        "unknown",
        "backup",
        "runs --unknown",
        "-q -v runs",
        "init --reserve 100",
        "init --reserve much",
        "init --hash-algo md5",
        "init --block-size x",
        "init --block-size 0",
        "init --compression lz4",
        "backup src --max-workers 0",
        "backup src --memory-limit lots",
        "backup src --single-threaded --max-workers 2",
        "backup src --ignore-ctime --strict-ctime",
        "validate --quick --deep",
        "validate --max-age soon",
        "validate --max-duration 20",
        "validate --quick --max-duration 20m",
        "runs --retry-lock soon",
        "runs --nice 20",
        "generate",
        "generate completions cmd",
        "generate systemd",
        "generate systemd --profile home /home",
        "generate systemd -- home",
        "generate systemd -- /home --unknown",
        "generate systemd -- --stdin",
        "generate cron --at 24:00 -- /home",
        "profile",
        "profile run",
        "validate --sample 0%",
        "list-changes newest",
        "list-changes 0",
        "restore file",
        "restore file dest --overwrite maybe",
    ];
    for line in lines {
        let said = bench.run(line).with_code(2);
        assert!(said.out.is_empty() && !said.err.is_empty(), "{line}: {said:?}");
    }
}

#[test]
fn usage_errors_are_json_when_asked_for() {
    let said = Bench::new().run("init --json --reserve much").with_code(2);
    let error = said.json_error();
    assert_eq!((&error["message_type"], &error["code"]), (&"error".into(), &2.into()));
    assert!(error["error"].as_str().is_some_and(|text| text.contains("20G")), "{error}");
}

#[test]
fn the_catalog_is_given_by_option_then_environment_then_home() {
    let bench = Bench::new();
    bench.run("init").with_code(0);
    assert!(bench.path(".local/share/raidtape/backup.cat").is_file());
    let mut command = bench.command();
    command.env("XDG_DATA_HOME", bench.path("xdg")).args(["init", "-q"]).assert().code(0).stdout("");
    assert!(bench.path("xdg/raidtape/backup.cat").is_file());
    bench.command().env("RAIDTAPE_CATALOG", bench.path("env.cat")).arg("init").assert().code(0);
    assert!(bench.path("env.cat").is_file());
    let mut command = bench.command();
    command.env("RAIDTAPE_CATALOG", "env.cat").args(["init", "--catalog", "option.cat"]).assert().code(0);
    assert!(bench.path("option.cat").is_file());
}

#[test]
fn a_closed_stdout_fails_nothing() {
    let bench = Bench::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_raidtape"));
    command.current_dir(bench.path(".")).args(["--catalog", "backup.cat", "init"]).stdout(writer);
    assert_eq!(command.status().unwrap().code(), Some(0));
    bench.on_catalog("init").with_code(2);
}
