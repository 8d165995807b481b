//! One command's surroundings: the options that every command takes, where words go, and the way to the repository.

use super::args::Global;
use super::output::Output;
use super::progress::{self, Progress, ProgressOptions};
use raidtape::catalog::volumes::VolumeRow;
use raidtape::engine::repository::Access;
use raidtape::engine::{EngineError, Repository};
use raidtape::model::nearest::nearest;
use raidtape::volume::handle::VolumeError;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// What every command works with.
pub struct Session {
    /// Options.
    pub global: Global,
    /// Results.
    pub out: Output,
}

impl Session {
    /// For one command.
    pub fn new(global: Global) -> Self {
        let out = Output::new(global.json, global.quiet);
        Self { global, out }
    }

    /// Where the catalog is, or is to be.
    pub fn catalog_path(&self) -> Result<PathBuf, EngineError> {
        let given = self.global.catalog_path().ok_or_else(|| {
            EngineError::Usage("neither --catalog nor RAIDTAPE_CATALOG nor HOME say where the catalog is".into())
        })?;
        // One catalog under two names has one lock, and a rebuild replaces it and not the link to it.
        Ok(if given.is_symlink() { given.canonicalize().unwrap_or(given) } else { given })
    }

    /// Opens the catalog and finds its volumes.
    pub fn open(&self, access: Access) -> Result<Repository, EngineError> {
        let path = self.catalog_path()?;
        Repository::open(&path, &self.global.volumes, access).map_err(|error| match error {
            EngineError::Volume(VolumeError::NoLabel { ref dir } | VolumeError::NotMounted { ref dir }) => {
                let known = known_place(&path, dir);
                let dir = dir.display();
                EngineError::Usage(format!(
                    "{dir} holds no RaidTape volume{known}; mount it, or make it a new one with `raidtape add-volume {dir}`"
                ))
            }
            other => other,
        })
    }

    /// Watches a long command, and lets SIGINT and SIGTERM stop it.
    pub fn progress(&self) -> Progress {
        let is_off = self.global.quiet || self.global.no_progress;
        Progress::start(ProgressOptions { is_off, is_json: self.global.json })
    }

    /// The same for a command whose bytes go to stdout: nothing is drawn between them on a terminal.
    pub fn progress_beside_stdout(&self) -> Progress {
        let is_off = self.global.quiet || self.global.no_progress || std::io::stdout().is_terminal();
        Progress::start(ProgressOptions { is_off, is_json: self.global.json })
    }

    /// Watches a command that looks around, until it has something to say.
    pub fn progress_while_looking(&self) -> Progress {
        let is_off = self.global.quiet || self.global.no_progress;
        Progress::start_looking(ProgressOptions { is_off, is_json: self.global.json })
    }

    /// A warning on stderr.
    pub fn warn(&self, text: &str) {
        progress::warn(self.global.json, text);
    }
}

/// `; did you mean …?`, where the last name of `dir` is that of a volume, or nearly. `disk1` is not nearly `disk2`.
fn known_place(catalog: &Path, dir: &Path) -> String {
    let Ok(repository) = Repository::open(catalog, &[], Access::Read) else { return String::new() };
    let rows: Vec<_> = repository.mounted.iter().map(|mounted| &mounted.row).chain(&repository.away).collect();
    let given = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let is_near = |name: &str| nearest(&given, [name]).is_some() && digits(name) == digits(&given);
    let known = |row: &&VolumeRow| row.name == given || is_near(&row.name);
    let near = rows.into_iter().find(known).and_then(|row| Some((&row.name, row.path.as_ref()?)));
    near.filter(|(_, path)| *path != dir)
        .map(|(name, path)| format!("; did you mean {}, which is volume {name}?", path.display()))
        .unwrap_or_default()
}
