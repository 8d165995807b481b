//! What is run every night: a profile, or the steps that go with a backup by arguments. Everything in it is absolute,
//! because who runs it starts elsewhere.

use crate::cli::args::{Cli, Command};
use crate::cli::profile;
use crate::cli::session::Session;
use clap::Args;
use raidtape::engine::EngineError;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Time for the check behind a backup.
const VALIDATE_FOR: &str = "20m";

/// What is to be run
#[derive(Debug, Args)]
pub struct JobArgs {
    /// Run this profile; see `raidtape profile --help`
    #[arg(long, value_name = "NAME", conflicts_with = "backup")]
    profile: Option<String>,
    /// The file with the profile, if it is not in its usual place
    #[arg(long, value_name = "FILE", requires = "profile")]
    file: Option<PathBuf>,
    /// Name in the files' names [default: the profile's, or `backup`]
    #[arg(long)]
    name: Option<String>,
    /// What `raidtape backup` is given; then sidecars are written, and 20 minutes are spent on `validate`
    #[arg(value_name = "BACKUP ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
    #[arg(required_unless_present = "profile")]
    backup: Vec<OsString>,
}

/// A job whose words can be run from anywhere.
pub struct Job {
    /// `home`.
    pub name: String,
    /// One line about it.
    pub description: String,
    /// Program and arguments of each step, in order; each is run when the one before succeeded.
    pub steps: Vec<Vec<OsString>>,
}

impl Job {
    /// From options that may be relative; `Usage` where they make no sense in another directory.
    pub fn new(session: &Session, args: &JobArgs) -> Result<Self, EngineError> {
        let program = std::env::current_exe()
            .map_err(|error| EngineError::Fault(format!("the place of this program is unknown: {error}")))?;
        match &args.profile {
            Some(profile) => Self::of_profile(session, (&program, profile), args),
            None => Self::of_backup(session, &program, args),
        }
    }

    /// The file is named where it is there: a service of the system has no HOME to find it by, and for the same reason
    /// the catalog where the profile says none.
    fn of_profile(session: &Session, (program, profile): (&Path, &str), args: &JobArgs) -> Result<Self, EngineError> {
        let file = profile::file::place(args.file.as_deref())?;
        let mut words: Vec<OsString> = vec![program.into()];
        let mut catalog = session.global.catalog_by_option().cloned();
        if file.exists() {
            if profile::catalog_of(session, &file, profile)?.is_none() {
                catalog = Some(session.catalog_path()?);
            }
        } else {
            session.warn(&format!("there is no file of profiles at {} yet", file.display()));
        }
        if let Some(catalog) = catalog {
            words.extend(["--catalog".into(), absolute(&catalog)?.into()]);
        }
        for volume in &session.global.volumes {
            words.extend(["--volume".into(), absolute(volume)?.into()]);
        }
        words.extend(["-q", "profile", "run"].map(OsString::from));
        if args.file.is_some() || file.exists() {
            words.extend(["--file".into(), absolute(&file)?.into()]);
        }
        words.push(profile.into());
        let name = args.name.clone().unwrap_or_else(|| profile.to_owned());
        let description = format!("RaidTape, profile {profile}");
        Ok(Self { name: checked_name(name)?, description, steps: vec![words] })
    }

    fn of_backup(session: &Session, program: &Path, args: &JobArgs) -> Result<Self, EngineError> {
        let given = args.backup.strip_prefix(&["--".into()]).unwrap_or(&args.backup);
        check_backup(given)?;
        let mut common: Vec<OsString> = vec![program.into()];
        common.extend(["--catalog".into(), absolute(&session.catalog_path()?)?.into()]);
        for volume in &session.global.volumes {
            common.extend(["--volume".into(), absolute(volume)?.into()]);
        }
        common.push("-q".into());
        let step = |words: &[&str]| [&common[..], &words.iter().map(OsString::from).collect::<Vec<_>>()].concat();
        let backup = [&step(&["backup"])[..], given].concat();
        let steps = vec![backup, step(&["genmeta"]), step(&["validate", "--max-duration", VALIDATE_FOR])];
        let name = args.name.clone().unwrap_or_else(|| "backup".to_owned());
        Ok(Self { name: checked_name(name)?, description: "RaidTape backup".to_owned(), steps })
    }
}

/// Whether these are the arguments of a backup that can be started anywhere, by nobody.
fn check_backup(given: &[OsString]) -> Result<(), EngineError> {
    let argv: Vec<OsString> = ["raidtape", "backup"].map(OsString::from).into_iter().chain(given.to_vec()).collect();
    let parsed = Cli::from_argv(&argv).map_err(|error| {
        let text = error.to_string();
        let sentence = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        EngineError::Usage(format!("a backup cannot be given these arguments: {sentence}"))
    })?;
    let is_global = |arg: &OsString| {
        let text = arg.to_string_lossy();
        ["--catalog", "--volume"].iter().any(|option| text.split('=').next() == Some(option))
    };
    if given.iter().any(is_global) {
        return Err(EngineError::Usage("give --catalog and --volume before the word `generate`".to_owned()));
    }
    let Command::Backup(backup) = &parsed.command else {
        return Err(EngineError::Usage("these are not the arguments of a backup".to_owned()));
    };
    if backup.reads_stdin() {
        return Err(EngineError::Usage(
            "nobody gives standard input to what runs by itself; use --stdin-from-command, or a file".to_owned(),
        ));
    }
    match backup.paths().find(|path| !path.is_absolute()) {
        Some(path) => Err(EngineError::Usage(format!(
            "{} is relative, and what runs by itself starts elsewhere; give it absolute",
            path.display()
        ))),
        None => Ok(()),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, EngineError> {
    std::path::absolute(path).map_err(|error| EngineError::Usage(format!("{}: {error}", path.display())))
}

/// A name that can stand in a file's name and a unit's.
fn checked_name(name: String) -> Result<String, EngineError> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if !name.is_empty() && name.bytes().all(is_fine) && !name.starts_with('.') {
        return Ok(name);
    }
    Err(EngineError::Usage(format!(
        "`{}` cannot be the name of a unit; give one of letters, digits, `-`, `_` and `.` with --name",
        name.escape_debug()
    )))
}
