//! Profiles: what is run, in which order, and what comes of it when a step or a hook fails.

use crate::program::{Bench, Said};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Hooks that write down what they are told.
const HOOKS: &str = r#"
[profile.home.hooks]
run-before = "echo before $RAIDTAPE_PROFILE $RAIDTAPE_EXIT_CODE >> told"
run-after = [["sh", "-c", "echo after >> told"]]
run-failed = ["sh", "-c", "echo failed $RAIDTAPE_STEP: $RAIDTAPE_EXIT_CODE: $RAIDTAPE_ERROR >> told"]
run-finally = "echo finally $RAIDTAPE_EXIT_CODE >> told"
"#;

/// With a source, a volume and a file of profiles at its usual place.
fn bench(more: &str) -> Bench {
    let bench = Bench::new();
    bench.write("src/file", b"text");
    bench.on_catalog("init").with_code(0);
    bench.on_catalog("add-volume disk1").with_code(0);
    write(&bench, more);
    bench
}

fn write(bench: &Bench, more: &str) {
    let at = bench.path("").display().to_string();
    let text = format!(
        "[profile.home]\ncatalog = '{at}backup.cat'\n[[profile.home.source]]\nroots = ['{at}src']\nexclude = ['*.o', \"it's\"]\n{more}"
    );
    bench.write(".config/raidtape/profiles.toml", text.as_bytes());
}

fn told(bench: &Bench) -> String {
    let told = std::fs::read_to_string(bench.path("told")).unwrap_or_default();
    let _ = std::fs::remove_file(bench.path("told"));
    told.replace(&bench.path("").display().to_string(), "")
}

/// With the tools that hooks need, and no more of the caller's settings.
fn run(bench: &Bench, line: &str) -> Said {
    let mut command = bench.command();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).args(line.split_whitespace());
    command.output().expect("the program runs").into()
}

#[test]
fn a_profile_backs_up_writes_sidecars_and_validates_between_its_hooks() {
    let bench = bench(HOOKS);
    let said = run(&bench, "profile run home").with_code(0);
    let expected = ["backup", "Run 1 of", "genmeta", "Generated 1 JSON metas", "validate", "All good", "all done"];
    let mut rest = said.out.as_str();
    for words in expected {
        rest = rest.split_once(words).unwrap_or_else(|| panic!("{words} at its place: {said:?}")).1;
    }
    assert_eq!(told(&bench), "before home 0\nafter\nfinally 0\n");
    let said = run(&bench, "-q profile run home").with_code(0);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
}

#[test]
fn after_unread_files_the_other_steps_follow_and_after_a_failure_none() {
    let bench = bench("");
    let at = bench.path("").display().to_string();
    // A list that names what is not there: exit code 3.
    bench.write("list", b"file\ngone\n");
    write(&bench, &format!("files-from = ['{at}list']\n{HOOKS}"));
    let said = run(&bench, "profile run home").with_code(3);
    assert!(said.out.contains("whisper") && said.out.contains("All good"), "{said:?}");
    let code = "failed backup src: 3: exit code 3: run saved, but some source files could not be read\nfinally 3\n";
    assert_eq!(told(&bench), format!("before home 0\n{code}"));

    write(&bench, HOOKS);
    std::fs::rename(bench.path("src"), bench.path("gone")).unwrap();
    let said = run(&bench, "profile run home").with_code(1);
    assert!(!said.out.contains("genmeta") && said.err.contains("backup"), "{said:?}");
    let code = "failed backup src: 1: exit code 1: failed, no run saved\nfinally 1\n";
    assert_eq!(told(&bench), format!("before home 0\n{code}"));
}

#[test]
fn a_listed_disk_that_is_away_is_a_warning_and_the_run_is_saved() {
    let bench = bench("");
    bench.on_catalog("add-volume disk2").with_code(0);
    let at = bench.path("").display().to_string();
    let text = format!(
        "[profile.home]\ncatalog = '{at}backup.cat'\nvolumes = ['{at}disk1', '{at}disk2']\nsteps = ['backup']\n\
         [[profile.home.source]]\nroots = ['{at}src']\n"
    );
    bench.write(".config/raidtape/profiles.toml", text.as_bytes());
    run(&bench, "profile run home").with_code(0);
    std::fs::rename(bench.path("disk2"), bench.path("away")).unwrap();
    let said = run(&bench, "profile run home").with_code(0);
    assert!(said.out.contains("Run 2 of") && said.err.contains("volume disk2"), "{said:?}");
    // The mount point is there, and nothing is mounted on it.
    std::fs::create_dir(bench.path("disk2")).unwrap();
    for line in ["backup src --volume disk1 --volume disk2/.", "backup src --volume ./disk1 --volume disk2/"] {
        let said = bench.on_catalog(line).with_code(0);
        assert!(said.err.contains("volume disk2") && said.err.contains("is not here"), "{said:?}");
    }
    assert_eq!(bench.path("disk2").read_dir().unwrap().count(), 0);
    let said = bench.on_catalog("backup src --volume disk1 --volume disk3").with_code(2);
    assert!(said.err.contains("disk3 holds no RaidTape volume"), "{said:?}");
    let said = bench.on_catalog("volumes --volume src").with_code(2);
    assert!(said.err.contains("src holds no RaidTape volume"), "{said:?}");
    let said = bench.on_catalog("volumes --volume away --volume disk2").with_code(0);
    assert_eq!(said.out.matches("active").count(), 2, "{said:?}");
}

#[test]
fn damage_is_the_exit_code_and_a_hook_that_fails_stops_what_follows() {
    let bench = bench(HOOKS);
    run(&bench, "profile run home").with_code(0);
    told(&bench);
    let blocks = walkdir::WalkDir::new(bench.path("disk1/chunks")).into_iter().map(Result::unwrap);
    let block = blocks.into_iter().find(|entry| entry.file_type().is_file()).expect("a block");
    std::fs::remove_file(block.path()).unwrap();
    let said = run(&bench, "profile run home").with_code(4);
    assert!(said.out.contains("Uh oh"), "{said:?}");
    assert!(told(&bench).ends_with("failed validate: 4: exit code 4: damage found\nfinally 4\n"));

    write(&bench, &HOOKS.replace("run-before = \"", "run-before = \"exit 3; "));
    let said = run(&bench, "profile run home").with_code(1);
    assert!(!said.out.contains("backup") && said.err.contains("run-before: it ended with exit code 3"), "{said:?}");
    assert_eq!(told(&bench), "failed run-before: 1: it ended with exit code 3\nfinally 1\n");
    write(&bench, "[profile.home.hooks]\nrun-before = ['no-such-program']\n");
    let said = run(&bench, "profile run home").with_code(1);
    assert!(said.err.contains("no-such-program cannot be started"), "{said:?}");
}

#[test]
fn a_signal_reaches_the_step_once_and_the_last_hooks_are_run_all_the_same() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let bench = bench(&format!("[profile.home.validate]\nmax-duration = '1m'\n{HOOKS}"));
        let lock = File::options().write(true).open(bench.path("backup.cat.lock")).expect("a lock file");
        lock.lock().expect("a lock that nobody has");
        let mut command = Command::new(env!("CARGO_BIN_EXE_raidtape"));
        command.current_dir(bench.path("")).env_clear().env("HOME", bench.path(""));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.args(["profile", "run", "home", "--retry-lock", "5m"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let mut first = String::new();
        let mut err = BufReader::new(child.stderr.take().expect("its stderr"));
        err.read_line(&mut first).expect("a line");
        assert!(first.contains("waiting"), "{first}");
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(code));
        let expected = format!("failed backup src: {code}: exit code {code}: interrupted\nfinally {code}\n");
        assert_eq!(told(&bench), format!("before home 0\n{expected}"));
    }
}

#[test]
fn a_rehearsal_prints_commands_that_a_shell_runs() {
    let bench = bench(&format!("[profile.home.limits]\nnice = 7\nmax-workers = 2\n{HOOKS}"));
    let said = run(&bench, "profile run home --dry-run").with_code(0);
    assert!(said.out.contains("'--exclude=it'\\''s'") && said.out.contains("# run-failed"), "{said:?}");
    assert_eq!((told(&bench).as_str(), bench.on_catalog("runs").out.contains("no run yet")), ("", true));
    let steps: Vec<&str> = said.out.lines().filter(|line| !line.contains("# run-")).collect();
    let script = steps.join(" && ");
    let ran = Command::new("sh").args(["-c", &script]).current_dir("/").env_clear().output().unwrap();
    assert!(ran.status.success() && steps.len() >= 3, "{script}: {ran:?}");
    assert!(!bench.on_catalog("runs").out.contains("no run yet"));
}

#[test]
fn options_win_over_the_profile_and_the_profile_over_the_environment() {
    let bench = bench("");
    let dry = |line: &str| {
        let mut command = bench.command();
        command.env("RAIDTAPE_CATALOG", "/of/environment").args(line.split_whitespace());
        Said::from(command.output().unwrap()).with_code(0).out
    };
    assert!(dry("profile run home -n").contains("/backup.cat ") && !dry("profile run home -n").contains("/of/env"));
    assert!(dry("--catalog /of/option profile run home -n").contains("--catalog /of/option backup"));
}

#[test]
fn what_is_wrong_in_the_file_is_told_before_anything_is_run() {
    let bench = Bench::new();
    let said = bench.run("profile list").with_code(2);
    assert!(said.err.contains(".config/raidtape/profiles.toml") || said.err.contains("/etc/raidtape"), "{said:?}");
    for (text, words) in [
        ("[profile.a]\nvolums = []\n", "p.toml:2: unknown key `volums`; did you mean `volumes`?"),
        ("[profile.a]\n", "profile a: it has no source"),
        ("[[profile.a.source]]\nroots = ['home']\n", "home is relative"),
        ("[[profile.a.source]]\nroots = ['/home', '/etc']\nexclude-larger-than = 'x'\n", "backup /home /etc: "),
        ("[profile.a]\nsteps = ['validate']\n[profile.a.validate]\nmax-duration = 'soon'\n", "validate: invalid value"),
        ("[profile.a]\nsteps = ['genmeta']\n[profile.a.limits]\nionice = 'gently'\n", "limits.ionice is `idle`"),
        ("[profile.a]\nsteps = []\n", "profile a: `steps` is empty"),
        ("[[profile.a.source]]\nroots = ['/home']\nexclude = ['[a']\n", "profile a: backup /home: "),
        ("[profile.a]\nretry-lock = 5\n", "p.toml:2: `retry-lock` takes a text in quotes"),
        ("[profile.a]\nsteps = ['genmeta']\nretry-lock = 'x'\n", "genmeta: invalid value"),
    ] {
        bench.write("p.toml", text.as_bytes());
        for command in ["check", "run a"] {
            let said = bench.run(&format!("profile {command} --file p.toml")).with_code(2);
            assert!(said.err.contains(words) && said.err.lines().count() == 1, "{text}: {said:?}");
        }
    }
    bench.write("p.toml", b"[profile.home]\nsteps = ['genmeta']\n");
    let said = bench.run("profile run hom --file p.toml").with_code(2);
    assert!(said.err.contains("there is no profile `hom`; did you mean `home`?"), "{said:?}");
    let said = bench.run("profile list --file p.toml").with_code(0);
    assert!(said.out.lines().nth(1).is_some_and(|line| line.starts_with("home ")), "{said:?}");
}

#[test]
fn the_profiles_in_the_help_and_in_the_readme_are_understood() {
    let bench = Bench::new();
    let help = bench.run("profile --help").with_code(0).out;
    let lines = help.lines().filter_map(|line| line.strip_prefix("  ").filter(|line| !line.trim().is_empty()));
    let from = lines.skip_while(|line| !line.starts_with("[profile.home]"));
    let text: Vec<&str> = from.take_while(|line| !line.starts_with("raidtape ")).collect();
    assert!(text.len() > 20, "{help}");
    bench.write("p.toml", text.join("\n").as_bytes());
    let said = bench.run("profile check --file p.toml").with_code(0);
    assert!(said.out.contains("1 profile: every command makes sense"), "{said:?}");
    assert_eq!(bench.run("profile run home -n --file p.toml").with_code(0).out.matches("max-workers=2").count(), 2);
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let text = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a profile");
    bench.write("p.toml", text.as_bytes());
    bench.run("profile check --file p.toml").with_code(0);
}
