//! A profile as command lines of this very program, each checked by the parser that will read it.

use super::file::{Profile, Source, StepName};
use crate::cli::args::Cli;
use crate::cli::session::Session;
use clap::CommandFactory;
use raidtape::engine::EngineError;
use raidtape::tree::select::{SelectOptions, Selection};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Time for the check, where the profile says nothing.
const VALIDATE_FOR: &str = "20m";
/// The steps, in their order.
const ALL: [StepName; 4] = [StepName::Backup, StepName::Genmeta, StepName::Validate, StepName::Status];

/// One command.
#[derive(Debug)]
pub struct Step {
    /// Which.
    pub kind: StepName,
    /// For people: `backup /home`.
    pub name: String,
    /// Program and arguments.
    pub words: Vec<OsString>,
}

/// The steps of a profile; `Usage` where one would not be understood.
pub fn of_profile(session: &Session, (name, profile): (&str, &Profile)) -> Result<Vec<Step>, EngineError> {
    let wrong = |what: String| EngineError::Usage(format!("profile {name}: {what}"));
    let wanted = profile.steps.as_deref().unwrap_or(&ALL);
    if wanted.contains(&StepName::Backup) && profile.sources.is_empty() {
        return Err(wrong("it has no source; add `[[profile.NAME.source]]` with `roots = [\"/home\"]`".to_owned()));
    }
    if wanted.is_empty() {
        let sentence = "`steps` is empty, so nothing would be done; name some, or leave the key out for all";
        return Err(wrong(sentence.to_owned()));
    }
    let common = common(session, profile).map_err(wrong)?;
    let mut steps = Vec::new();
    for kind in ALL.into_iter().filter(|kind| wanted.contains(kind)) {
        match kind {
            StepName::Backup => {
                for source in &profile.sources {
                    steps.push((kind, format!("backup {}", source.shown()), backup(profile, source).map_err(wrong)?));
                }
            }
            StepName::Genmeta => steps.push((kind, "genmeta".to_owned(), vec!["genmeta".into()])),
            StepName::Validate => steps.push((kind, "validate".to_owned(), validate(profile))),
            // Only where this build can tell.
            StepName::Status => steps.extend(status(profile).map(|words| (kind, "status".to_owned(), words))),
        }
    }
    let program = program(profile).map_err(wrong)?;
    let finished = steps.into_iter().map(|(kind, name, words)| {
        let argv: Vec<OsString> = std::iter::once("raidtape".into()).chain(common.clone()).chain(words).collect();
        check(&argv).map_err(|sentence| wrong(format!("{name}: {sentence}")))?;
        Ok(Step { kind, name, words: program.iter().cloned().chain(argv.into_iter().skip(1)).collect() })
    });
    finished.collect()
}

/// This program, by way of ionice(1) where that is wanted: there is no system call for it that is safe to make here.
fn program(profile: &Profile) -> Result<Vec<OsString>, String> {
    let own = std::env::current_exe().map_err(|error| format!("the place of this program is unknown: {error}"))?;
    let mut words: Vec<OsString> = match profile.limits.ionice.as_deref() {
        None => Vec::new(),
        Some("idle") => ["ionice", "-c", "3"].map(OsString::from).to_vec(),
        Some(given) => {
            let level = given.strip_prefix("best-effort:").and_then(|level| level.parse::<u8>().ok());
            let level = level.filter(|level| *level < 8);
            let level = level.ok_or("limits.ionice is `idle`, or `best-effort:0` to `best-effort:7`")?;
            let level = level.to_string();
            ["ionice", "-c", "2", "-n", &level].map(OsString::from).to_vec()
        }
    };
    words.push(own.into());
    Ok(words)
}

/// Options of every step: what the user asked for now, else what the profile says.
fn common(session: &Session, profile: &Profile) -> Result<Vec<OsString>, String> {
    let global = &session.global;
    let mut words = Vec::new();
    let of_profile = profile.catalog.as_deref().map(expanded).transpose()?;
    if let Some(catalog) = global.catalog_by_option().cloned().or(of_profile).or_else(|| global.catalog.clone()) {
        words.extend(["--catalog".into(), catalog.into()]);
    }
    let of_profile = profile.volumes.iter().map(|volume| expanded(volume)).collect::<Result<Vec<_>, _>>()?;
    for volume in of_profile.into_iter().chain(global.volumes.clone()) {
        words.extend(["--volume".into(), volume.into()]);
    }
    let retry = global.retry_lock.map(|time| format!("{}s", time.as_secs())).or_else(|| profile.retry_lock.clone());
    words.extend(retry.map(|time| format!("--retry-lock={time}").into()));
    words.extend(global.nice.or(profile.limits.nice).map(|nice| format!("--nice={nice}").into()));
    let flags = [
        (global.quiet, "--quiet"),
        (global.verbose, "--verbose"),
        (global.json, "--json"),
        (global.no_progress, "--no-progress"),
    ];
    words.extend(flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag.into()));
    Ok(words)
}

fn backup(profile: &Profile, source: &Source) -> Result<Vec<OsString>, String> {
    if source.roots.is_empty() {
        return Err("a source has no roots; add `roots = [\"/home\"]`".to_owned());
    }
    // Files of patterns and lists need not be there yet.
    let patterns = SelectOptions {
        exclude: source.exclude.clone(),
        iexclude: source.iexclude.clone(),
        exclude_if_present: source.exclude_if_present.clone(),
        ..SelectOptions::default()
    };
    Selection::new(&patterns).map_err(|error| format!("backup {}: {error}", source.shown()))?;
    let mut words: Vec<OsString> = vec!["backup".into()];
    let mut give = |option: &str, value: &str| words.push(format!("--{option}={value}").into());
    source.name.iter().for_each(|name| give("name", name));
    source.exclude.iter().for_each(|pattern| give("exclude", pattern));
    source.iexclude.iter().for_each(|pattern| give("iexclude", pattern));
    source.exclude_if_present.iter().for_each(|name| give("exclude-if-present", name));
    source.exclude_larger_than.iter().for_each(|size| give("exclude-larger-than", size));
    source.tags.iter().for_each(|tag| give("tag", tag));
    source.label.iter().for_each(|label| give("label", label));
    profile.limits.max_workers.iter().for_each(|number| give("max-workers", &number.to_string()));
    profile.limits.memory_limit.iter().for_each(|size| give("memory-limit", size));
    let flags = [
        (source.exclude_caches, "--exclude-caches"),
        (source.one_file_system, "--one-file-system"),
        (source.verify_after_write, "--verify-after-write"),
        (source.ignore_inode, "--ignore-inode"),
        (source.ignore_ctime, "--ignore-ctime"),
        (source.allow_empty, "--allow-empty"),
    ];
    words.extend(flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag.into()));
    for (option, files) in [
        ("--exclude-file", &source.exclude_file),
        ("--files-from", &source.files_from),
        ("--files-from-raw", &source.files_from_raw),
    ] {
        for file in files {
            words.extend([option.into(), expanded(file)?.into()]);
        }
    }
    for root in &source.roots {
        words.push(expanded(root)?.into());
    }
    Ok(words)
}

fn validate(profile: &Profile) -> Vec<OsString> {
    let wanted = &profile.validate;
    let time = wanted.max_duration.as_deref().unwrap_or(VALIDATE_FOR);
    let mut words: Vec<OsString> = vec!["validate".into(), format!("--max-duration={time}").into()];
    words.extend(wanted.max_age.as_ref().map(|age| format!("--max-age={age}").into()));
    words.extend(wanted.deep.then(|| "--deep".into()));
    words.extend(profile.limits.max_workers.map(|number| format!("--max-workers={number}").into()));
    words
}

/// None where this build has no such command.
fn status(profile: &Profile) -> Option<Vec<OsString>> {
    let command = Cli::command();
    command.find_subcommand("status")?;
    let mut words: Vec<OsString> = vec!["status".into()];
    words.extend(profile.status.max_run_age.as_ref().map(|age| format!("--max-run-age={age}").into()));
    words.extend(profile.status.max_verify_age.as_ref().map(|age| format!("--max-verify-age={age}").into()));
    Some(words)
}

/// Whether the program would understand itself.
fn check(argv: &[OsString]) -> Result<(), String> {
    Cli::from_argv(argv).map(drop).map_err(|error| {
        let text = error.to_string();
        text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}

/// An absolute path; `~/` is the user's home.
fn expanded(path: &Path) -> Result<PathBuf, String> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    match (path.strip_prefix("~"), home) {
        (Ok(below), Some(home)) => Ok(home.join(below)),
        _ => Err(format!("{} is relative; paths in a profile are absolute, or begin with `~/`", path.display())),
    }
}
