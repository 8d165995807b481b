//! Options of a backup that reads a stream in place of a tree.

use clap::Args;
use raidtape::engine::backup::StreamOptions;
use std::ffi::OsString;
use std::path::PathBuf;

/// Options that say what of a tree is taken: none of them means anything where no tree is read.
const SELECTING: [&str; 9] = [
    "exclude",
    "iexclude",
    "exclude_file",
    "exclude_caches",
    "exclude_if_present",
    "exclude_larger_than",
    "one_file_system",
    "files_from",
    "files_from_raw",
];

/// A stream in place of DIR
#[derive(Debug, Args)]
pub struct StreamArgs {
    /// Back up what comes from standard input, as one file. When who writes it fails, nobody is told: better is
    /// --stdin-from-command
    #[arg(long, conflicts_with_all = ["dirs", "stdin_from_command"], conflicts_with_all = SELECTING, help_heading = "A stream in place of DIR")]
    stdin: bool,
    /// Back up what CMD writes, as one file; if it fails, no run is saved
    #[arg(long, conflicts_with = "dirs", conflicts_with_all = SELECTING, requires = "command", help_heading = "A stream in place of DIR")]
    stdin_from_command: bool,
    /// The file's name, and `stdin:NAME` the source's unless --name is given
    #[arg(
        long,
        value_name = "NAME",
        default_value = "stdin",
        conflicts_with = "dirs",
        help_heading = "A stream in place of DIR"
    )]
    stdin_filename: String,
    /// The command and its arguments, with --stdin-from-command; else more of DIR, whatever their names begin with
    #[arg(last = true, value_name = "CMD", conflicts_with = "stdin")]
    command: Vec<OsString>,
}

impl StreamArgs {
    /// As the engine takes them.
    pub fn options(&self) -> Option<StreamOptions> {
        let is_stream = self.stdin || self.stdin_from_command;
        is_stream.then(|| StreamOptions { name: self.stdin_filename.clone(), command: self.command.clone() })
    }

    /// Whether standard input is read.
    pub fn is_stdin(&self) -> bool {
        self.stdin
    }

    /// Directories that stand behind `--`.
    pub fn dirs(&self) -> impl Iterator<Item = PathBuf> {
        let behind = if self.stdin_from_command { &[][..] } else { &self.command };
        behind.iter().map(PathBuf::from)
    }
}
