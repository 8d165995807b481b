//! Options that say what of a source is taken and what is left out.

use super::values;
use clap::Args;
use raidtape::tree::listed::FilesFrom;
use raidtape::tree::select::SelectOptions;
use std::path::{Path, PathBuf};

/// What is left out
#[derive(Debug, Args)]
pub struct SelectArgs {
    /// Leave out what fits, by the rules of gitignore: `*.o`, `/top`, `cache/`, `**/tmp`, `!keep`
    #[arg(short = 'e', long, value_name = "PATTERN", help_heading = "What is left out")]
    exclude: Vec<String>,
    /// The same, with upper and lower case alike
    #[arg(long, value_name = "PATTERN", help_heading = "What is left out")]
    iexclude: Vec<String>,
    /// Leave out what fits a line of this file
    #[arg(long, value_name = "FILE", help_heading = "What is left out")]
    exclude_file: Vec<PathBuf>,
    /// Leave out what lies beside a valid CACHEDIR.TAG
    #[arg(long, help_heading = "What is left out")]
    exclude_caches: bool,
    /// Leave out what lies beside a file of this name
    #[arg(long, value_name = "NAME", help_heading = "What is left out")]
    exclude_if_present: Vec<String>,
    /// Leave out larger files, like 4G
    #[arg(long, value_name = "SIZE", value_parser = values::size, help_heading = "What is left out")]
    exclude_larger_than: Option<u64>,
    /// Stay on the file system of DIR; mount points are taken, what lies in them is not
    #[arg(short = 'x', long, help_heading = "What is left out")]
    one_file_system: bool,
    /// Take only what this file lists, a path on each line, relative to DIR or absolute: these, all below them, and the
    /// directories above them; blank lines and those with `#` in front are passed over; `-` is standard input
    #[arg(long, value_name = "FILE", help_heading = "What is taken")]
    files_from: Vec<PathBuf>,
    /// The same, each path ended by a zero byte, as `find -print0` does it; nothing is passed over
    #[arg(long, value_name = "FILE", help_heading = "What is taken")]
    files_from_raw: Vec<PathBuf>,
}

impl SelectArgs {
    /// Whether a list comes from standard input.
    pub fn reads_stdin(&self) -> bool {
        self.files_from.iter().chain(&self.files_from_raw).any(|path| path.as_os_str() == "-")
    }

    /// The files with patterns or paths.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.exclude_file.iter().chain(&self.files_from).chain(&self.files_from_raw).map(PathBuf::as_path)
    }

    /// As the engine takes them.
    pub fn options(&self) -> SelectOptions {
        SelectOptions {
            exclude: self.exclude.clone(),
            iexclude: self.iexclude.clone(),
            exclude_files: self.exclude_file.clone(),
            exclude_caches: self.exclude_caches,
            exclude_if_present: self.exclude_if_present.clone(),
            exclude_larger_than: self.exclude_larger_than,
            one_file_system: self.one_file_system,
            files_from: [(&self.files_from, false), (&self.files_from_raw, true)]
                .into_iter()
                .flat_map(|(paths, is_raw)| paths.iter().map(move |path| FilesFrom { path: path.clone(), is_raw }))
                .collect(),
            root: PathBuf::new(),
            roots: Vec::new(),
        }
    }
}
