//! A file that a command writes for others to read: it is there whole, or as it was before. Whoever reads it meanwhile
//! never sees a part.

use raidtape::engine::EngineError;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Who may read it, before the umask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Its owner alone: it has names of files.
    Owner,
    /// Whoever the umask lets.
    All,
}

/// Writes `text` beside `path`, syncs it and gives it the name. An existing file is replaced; a directory, or a folder
/// that is not there, is refused.
pub fn write(path: &Path, text: &str, readers: Readers) -> anyhow::Result<()> {
    if path.is_dir() {
        let sentence = format!("{} is a directory; name the file that is to be written", path.display());
        return Err(EngineError::Usage(sentence).into());
    }
    let Some(beside) = temporary_name(path) else {
        return Err(EngineError::Usage(format!("{} names no file", path.display())).into());
    };
    let written = write_to(&beside, text, readers)
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|error| anyhow::anyhow!("{} cannot be written: {error}", path.display()));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn temporary_name(path: &Path) -> Option<PathBuf> {
    let mut name = OsString::from(".");
    name.push(path.file_name()?);
    // Not `.prom`: the textfile collector would read it.
    name.push(format!(".{}.tmp", std::process::id()));
    Some(path.with_file_name(name))
}

fn write_to(path: &Path, text: &str, readers: Readers) -> std::io::Result<()> {
    let mode = if readers == Readers::Owner { 0o600 } else { 0o666 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
