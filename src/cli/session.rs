//! One command's surroundings: the options that every command takes, where words go, and the way to the repository.

use super::args::Global;
use super::output::Output;
use super::progress::{self, Progress, ProgressOptions};
use raidtape::engine::repository::Access;
use raidtape::engine::{EngineError, Repository};
use raidtape::volume::handle::VolumeError;
use std::io::IsTerminal;
use std::path::PathBuf;

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
            EngineError::Volume(VolumeError::NoLabel { dir } | VolumeError::NotMounted { dir }) => {
                let dir = dir.display();
                EngineError::Usage(format!(
                    "{dir} holds no RaidTape volume; mount it, or make it a new one with `raidtape add-volume {dir}`"
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

    /// A warning on stderr.
    pub fn warn(&self, text: &str) {
        progress::warn(self.global.json, text);
    }
}
