//! The command line: argv in, words and exit codes out. One file a command, with the same name as engine's verb.
//!
//! stdout carries results alone; warnings, problems and progress go to stderr.

mod add_volume;
mod args;
mod backup;
mod closed;
mod diff;
mod dry_run;
mod dump;
mod find;
mod first_backup;
mod generate;
mod genmeta;
mod heap;
mod history;
mod init;
mod list_changes;
mod lost;
mod ls;
mod output;
mod paths;
mod problems;
mod profile;
mod progress;
mod prometheus;
mod protect;
mod quote;
mod rate;
mod rebuild_catalog;
mod remove_volume;
mod replace_volume;
mod report;
mod restore;
mod restore_folder;
mod restore_tree;
mod restored;
mod retry;
mod revert_to_run;
mod runs;
mod screen;
mod select;
mod session;
mod set_redundancy;
mod signals;
mod stats;
mod status;
mod stream;
mod table;
mod validate;
mod values;
mod volumes;
mod whole_file;
mod words;

use args::{Cli, Command};
use output::stderr_line;
use raidtape::engine::{EngineError, Exit};
use session::Session;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    heap::keep_one_arena();
    let argv: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::from_argv(&argv) {
        Ok(cli) => cli,
        Err(error) => return answer_of_clap(&error, argv.iter().any(|arg| arg == "--json")),
    };
    let mut session = Session::new(cli.global);
    if let Err(error) = signals::survive_file_limit() {
        session.warn(&format!("signals cannot be caught: {error}"));
    }
    if cli.command.is_for_stdout() && closed::was_stdout() {
        let code = cli.command.code_unread();
        say_error("there is no stdout to write the result to; open it, or redirect it", code, false);
        return ExitCode::from(code);
    }
    if let Some(nice) = session.global.nice
        && let Err(error) = rustix::process::setpriority_process(None, nice)
    {
        session.warn(&format!("the priority stays as it is: --nice {nice}: {error}"));
    }
    let code = match retry::until_unlocked(&mut session, |session| dispatch(session, &cli.command)) {
        Ok(code) => code,
        Err(error) => fail(&error, session.out.is_json),
    };
    match session.out.finish() {
        // What was to be stored is stored; only a listing that nobody can read is a failure.
        Err(error) => {
            stderr_line(&format!("raidtape: cannot write to stdout: {error}"));
            let is_unread = cli.command.is_listing() && (code == 0 || matches!(cli.command, Command::Status(_)));
            ExitCode::from(if is_unread { cli.command.code_unread() } else { code })
        }
        Ok(()) => ExitCode::from(code),
    }
}

/// Runs the command; the answer is its exit code.
fn dispatch(session: &mut Session, command: &Command) -> anyhow::Result<u8> {
    let exit = match command {
        Command::Profile(args) => return profile::run(session, args),
        Command::Generate(args) => generate::run(session, args),
        Command::Init(args) => init::run(session, args),
        Command::AddVolume(args) => add_volume::run(session, args),
        Command::Backup(args) => backup::run(session, args),
        Command::ListChanges(args) => list_changes::run(session, args),
        Command::Validate(args) => validate::run(session, args),
        Command::Restore(args) => restore::run(session, args),
        Command::Dump(args) => dump::run(session, args),
        Command::RestoreFolder(args) => restore_folder::run(session, args),
        Command::RevertToRun(args) => revert_to_run::run(session, args),
        Command::RebuildCatalog(args) => rebuild_catalog::run(session, args),
        Command::Genmeta(args) => genmeta::run(session, args),
        Command::ReplaceVolume(args) => replace_volume::run(session, args),
        Command::RemoveVolume(args) => remove_volume::run(session, args),
        Command::Protect(args) => protect::run(session, args),
        Command::SetRedundancy(args) => set_redundancy::run(session, args),
        Command::Runs(args) => runs::run(session, args),
        Command::Volumes(args) => volumes::run(session, args),
        Command::Ls(args) => ls::run(session, args),
        Command::History(args) => history::run(session, args),
        Command::Find(args) => find::run(session, args),
        Command::Diff(args) => diff::run(session, args),
        Command::Stats(args) => stats::run(session, args),
        Command::Report(args) => report::run(session, args),
        // Its codes are its own.
        Command::Status(args) => return Ok(status::run(session, args)),
    };
    exit.map(|exit| exit as u8)
}

impl Command {
    fn is_listing(&self) -> bool {
        match self {
            Self::ListChanges(_)
            | Self::Runs(_)
            | Self::Volumes(_)
            | Self::Ls(_)
            | Self::Stats(_)
            | Self::Status(_)
            | Self::History(_)
            | Self::Find(_)
            | Self::Diff(_) => true,
            Self::Report(args) => args.is_for_stdout(),
            Self::Generate(args) => args.is_for_stdout(),
            _ => false,
        }
    }

    /// The exit code when nobody can read the result.
    fn code_unread(&self) -> u8 {
        if matches!(self, Self::Status(_)) { status::UNKNOWN } else { Exit::Failed as u8 }
    }

    /// Whether it does nothing but write a result.
    fn is_for_stdout(&self) -> bool {
        match self {
            Self::Dump(_) => true,
            // Its exit code and the page for Prometheus are results too.
            Self::Status(args) => args.is_for_stdout(),
            _ => self.is_listing(),
        }
    }
}

/// Says what went wrong and returns the exit code for it.
fn fail(error: &anyhow::Error, is_json: bool) -> u8 {
    let code = match error.downcast_ref::<EngineError>() {
        Some(EngineError::Interrupted) => signals::exit_code(),
        Some(error) => error.exit() as u8,
        None => Exit::Failed as u8,
    };
    say_error(&error.to_string(), code, is_json);
    code
}

fn say_error(text: &str, code: u8, is_json: bool) {
    #[derive(serde::Serialize)]
    struct Failure<'a> {
        code: u8,
        error: &'a str,
    }
    match output::json_line("error", &Failure { code, error: text }) {
        Ok(line) if is_json => stderr_line(&line),
        _ => stderr_line(&format!("raidtape: {}", output::one_line(text))),
    }
}

/// Help and version (0), or what is wrong with the arguments (2).
fn answer_of_clap(error: &clap::Error, is_json: bool) -> ExitCode {
    if is_json && error.use_stderr() {
        let text = error.to_string();
        let sentence = text.lines().next().unwrap_or_default();
        say_error(sentence.trim_start_matches("error: "), Exit::Usage as u8, true);
        return ExitCode::from(Exit::Usage as u8);
    }
    // Nobody reads it: then nobody misses it.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { Exit::Done as u8 })
}
