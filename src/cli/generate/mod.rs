//! `generate`: what goes with the program and is made from it, so that it always fits it. No repository is opened.

mod job;
mod man;
mod nightly;

use super::args::Cli;
use super::session::Session;
use clap::{Args, CommandFactory, Subcommand, ValueEnum};
use clap_complete::Shell;
use raidtape::engine::{EngineError, Exit};
use std::path::{Path, PathBuf};

/// Print completions for a shell, man pages, units for systemd, or lines for cron
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raidtape generate completions bash > /etc/bash_completion.d/raidtape
  raidtape generate man /usr/local/share/man/man1
  raidtape generate systemd --dir /etc/systemd/system --profile home
  raidtape generate cron -- /home -x")]
pub struct GenerateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Completions(CompletionsArgs),
    Man(ManArgs),
    Systemd(nightly::SystemdArgs),
    Cron(nightly::CronArgs),
}

/// Print what a shell needs to complete commands and options
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raidtape generate completions bash > /etc/bash_completion.d/raidtape
  raidtape generate completions zsh > /usr/local/share/zsh/site-functions/_raidtape
  raidtape generate completions fish > ~/.config/fish/completions/raidtape.fish")]
struct CompletionsArgs {
    /// bash, zsh or fish
    #[arg(value_enum, hide_possible_values = true)]
    shell: ShellName,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ShellName {
    Bash,
    Zsh,
    Fish,
}

/// Write a man page for each command
#[derive(Debug, Args)]
#[command(after_help = "\
Pages that are there are written anew.

Examples:
  raidtape generate man /usr/local/share/man/man1")]
struct ManArgs {
    /// Directory for the pages; is made if it is not there
    dir: PathBuf,
}

impl GenerateArgs {
    /// Whether the result goes to stdout, and not into files.
    pub fn is_for_stdout(&self) -> bool {
        match &self.what {
            What::Man(_) => false,
            What::Systemd(args) => args.is_for_stdout(),
            What::Completions(_) | What::Cron(_) => true,
        }
    }
}

/// Generates it.
pub fn run(session: &mut Session, args: &GenerateArgs) -> anyhow::Result<Exit> {
    match &args.what {
        What::Completions(args) => completions(session, args.shell),
        What::Man(args) => {
            let pages = man::write(&args.dir).map_err(|error| not_written(&args.dir, &error))?;
            if session.out.is_json {
                session.out.document("summary", &Written { files: pages });
            } else {
                let number = super::words::plural(pages.len() as u64, "page");
                session.out.say(&format!("{number} in {}", args.dir.display()));
            }
        }
        What::Systemd(args) => nightly::systemd(session, args)?,
        What::Cron(args) => nightly::cron(session, args)?,
    }
    Ok(Exit::Done)
}

/// Files that were made.
#[derive(serde::Serialize)]
struct Written {
    files: Vec<String>,
}

/// A text that was made.
#[derive(serde::Serialize)]
struct Text {
    /// As it would be called as a file.
    name: String,
    text: String,
}

impl Text {
    fn print(self, session: &mut Session) {
        if session.out.is_json {
            session.out.document("text", &self);
        } else {
            self.text.lines().for_each(|line| session.out.line(line));
        }
    }
}

fn not_written(path: &Path, error: &std::io::Error) -> EngineError {
    EngineError::Usage(format!("{} cannot be written: {error}", path.display()))
}

fn completions(session: &mut Session, shell: ShellName) {
    let shell = match shell {
        ShellName::Bash => Shell::Bash,
        ShellName::Zsh => Shell::Zsh,
        ShellName::Fish => Shell::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "raidtape", &mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    Text { name: format!("raidtape.{shell}"), text }.print(session);
}
