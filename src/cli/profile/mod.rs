//! `profile`: what is done every night, written down once.

mod child;
pub mod file;
mod run;
mod steps;

use super::output::one_line;
use super::quote;
use super::session::Session;
use super::table::{self, Align};
use clap::{Args, Subcommand};
use file::{File, Profile};
use raidtape::engine::{EngineError, Exit};
use raidtape::model::nearest::nearest;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Run what a file of profiles says: backups, sidecars, a check, and commands around them
#[derive(Debug, Args)]
#[command(after_help = "\
The file is $XDG_CONFIG_HOME/raidtape/profiles.toml (~/.config), for root
/etc/raidtape/profiles.toml where that is not there. All keys but roots may be left
out; a key that is not known is an error. Paths are absolute or begin with `~/`.

  [profile.home]
  catalog = \"/var/lib/raidtape/backup.cat\"
  volumes = [\"/mnt/disk1/raidtape\"]
  retry-lock = \"10m\"
  steps = [\"backup\", \"genmeta\", \"validate\"]     # left out: all there are

  [[profile.home.source]]                # one backup; there may be several
  roots = [\"/home\"]
  exclude = [\"*.o\", \"/ann/tmp\"]           # also iexclude, exclude-file,
  exclude-caches = true                  # exclude-if-present, exclude-larger-than
  one-file-system = true                 # files-from, files-from-raw, name, allow-empty,
                                         # verify-after-write, ignore-inode, ignore-ctime,
                                         # tags, label
  [profile.home.limits]
  nice = 10
  ionice = \"idle\"                        # or \"best-effort:7\"; needs ionice(1)
  max-workers = 2
  memory-limit = \"1G\"

  [profile.home.validate]
  max-duration = \"20m\"                   # also max-age, deep

  [profile.home.status]
  max-run-age = \"36h\"
  max-verify-age = \"30d\"

  [profile.home.hooks]                   # run-before, run-after, run-failed, run-finally
  run-before = \"mountpoint -q /mnt/disk1\"             # for the shell
  run-failed = [\"/usr/local/bin/tell\", \"backup failed\"]   # one command; or a list of such

A run-before that fails stops all. After a run that was saved, if without some files
(exit code 3), the other steps follow; else they do not. When something failed,
run-failed is run, and at the end always run-finally; RAIDTAPE_PROFILE, RAIDTAPE_STEP,
RAIDTAPE_EXIT_CODE and RAIDTAPE_ERROR tell them of the first failure. The exit code is
that of the first step that failed; 1 for a hook; 4 where `status` says WARNING or
CRITICAL, and 1 where it says UNKNOWN.

Examples:
  raidtape profile check
  raidtape profile run home --dry-run
  raidtape -q profile run home")]
pub struct ProfileArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Run(RunArgs),
    List(FileArgs),
    Check(CheckArgs),
}

/// Run the steps of a profile
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raidtape profile run home
  raidtape profile run home --dry-run --file ./profiles.toml")]
struct RunArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    place: Place,
    /// Print the commands that would be run, as they could be typed; run nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// List the profiles
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raidtape profile list
  raidtape profile list --json | jq -r '.profiles[].name'")]
struct FileArgs {
    #[command(flatten)]
    place: Place,
}

/// Check the file of profiles
#[derive(Debug, Args)]
#[command(after_help = "\
Every command of every profile is checked as if it were typed. What is not there at
this time, like a root, is only told.

Examples:
  raidtape profile check
  raidtape profile check --file ./profiles.toml")]
struct CheckArgs {
    #[command(flatten)]
    place: Place,
}

/// Where the profiles are
#[derive(Debug, Args)]
struct Place {
    /// The file of profiles
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Place {
    fn read(&self) -> Result<File, EngineError> {
        file::read(&file::place(self.file.as_deref())?)
    }
}

/// Does what is asked; returns the exit code.
pub fn run(session: &mut Session, args: &ProfileArgs) -> anyhow::Result<u8> {
    match &args.what {
        What::Run(args) => {
            let file = args.place.read()?;
            let profile = find(&file, &args.name)?;
            let steps = steps::of_profile(session, (&args.name, profile))?;
            if args.dry_run {
                print_commands(session, profile, &steps);
                return Ok(Exit::Done as u8);
            }
            run::run(session, (&args.name, profile), &steps)
        }
        What::List(args) => {
            list(session, &args.place.read()?);
            Ok(Exit::Done as u8)
        }
        What::Check(args) => check(session, &args.place.read()?),
    }
}

/// The catalog that a profile names, after a look at whether all of the profile makes sense.
pub fn catalog_of(session: &Session, file: &Path, name: &str) -> Result<Option<PathBuf>, EngineError> {
    let file = file::read(file)?;
    let profile = find(&file, name)?;
    steps::of_profile(session, (name, profile))?;
    Ok(profile.catalog.clone())
}

fn find<'f>(file: &'f File, name: &str) -> Result<&'f Profile, EngineError> {
    file.profile.get(name).ok_or_else(|| {
        let known: Vec<&str> = file.profile.keys().map(String::as_str).collect();
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "the file has none".to_owned(),
            None => format!("there are {}", known.join(", ")),
        };
        EngineError::Usage(format!("there is no profile `{}`; {hint}", name.escape_debug()))
    })
}

#[derive(Serialize)]
struct Commands {
    commands: Vec<Planned>,
}

#[derive(Serialize)]
struct Planned {
    step: String,
    command: Vec<String>,
}

fn print_commands(session: &mut Session, profile: &Profile, steps: &[steps::Step]) {
    let hooks = &profile.hooks;
    let of_hook = |name: &str, hook: &file::Hook| -> Vec<(String, Vec<std::ffi::OsString>)> {
        hook.commands().into_iter().map(|words| (name.to_owned(), words)).collect()
    };
    let mut all = of_hook("run-before", &hooks.run_before);
    all.extend(steps.iter().map(|step| (step.name.clone(), step.words.clone())));
    for (name, hook) in
        [("run-after", &hooks.run_after), ("run-failed", &hooks.run_failed), ("run-finally", &hooks.run_finally)]
    {
        all.extend(of_hook(name, hook));
    }
    if session.out.is_json {
        let text = |words: Vec<std::ffi::OsString>| {
            words.into_iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let commands = all.into_iter().map(|(step, words)| Planned { step, command: text(words) }).collect();
        session.out.document("commands", &Commands { commands });
        return;
    }
    for (name, words) in all {
        let comment = if name.starts_with("run-") { format!("  # {name}") } else { String::new() };
        session.out.line(&format!("{}{comment}", quote::shell_line(&words)));
    }
}

#[derive(Serialize)]
struct Profiles {
    profiles: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    name: String,
    catalog: Option<PathBuf>,
    sources: Vec<String>,
}

fn list(session: &mut Session, file: &File) {
    let listed = |(name, profile): (&String, &Profile)| Listed {
        name: name.clone(),
        catalog: profile.catalog.clone(),
        sources: profile.sources.iter().map(file::Source::shown).collect(),
    };
    let profiles: Vec<Listed> = file.profile.iter().map(listed).collect();
    if session.out.is_json {
        session.out.document("profiles", &Profiles { profiles });
        return;
    }
    if profiles.is_empty() {
        session.out.say("There is no profile in this file; `raidtape profile --help` shows one");
        return;
    }
    let rows = profiles.iter().map(|profile| {
        let catalog = profile.catalog.as_ref().map_or_else(|| "-".to_owned(), |path| path.display().to_string());
        vec![one_line(&profile.name), one_line(&profile.sources.join(", ")), one_line(&catalog)]
    });
    let header = [("PROFILE", Align::Left), ("SOURCES", Align::Flow), ("CATALOG", Align::Flow)];
    table::print(&mut session.out, &header, rows.collect());
}

#[derive(Serialize)]
struct Checked {
    profiles: Vec<String>,
    missing: Vec<PathBuf>,
}

fn check(session: &mut Session, file: &File) -> anyhow::Result<u8> {
    let mut missing = Vec::new();
    for (name, profile) in &file.profile {
        steps::of_profile(session, (name, profile))?;
        let roots = profile.sources.iter().flat_map(|source| &source.roots);
        missing.extend(roots.filter(|root| root.is_absolute() && !root.exists()).cloned());
    }
    if session.out.is_json {
        let profiles = file.profile.keys().cloned().collect();
        session.out.document("summary", &Checked { profiles, missing });
        return Ok(Exit::Done as u8);
    }
    for root in &missing {
        session.warn(&format!("{} is not there now", root.display()));
    }
    let number = super::words::plural(file.profile.len() as u64, "profile");
    session.out.say(&format!("{number}: every command makes sense"));
    Ok(Exit::Done as u8)
}
