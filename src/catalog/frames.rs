//! Pieces of bytes that a run keeps until its end: in memory while they are few, then in a file without a name beside the
//! catalog, which goes away with the process. What is read back is checked.

use super::error::{CatalogError, Result};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Keeps frames in the order in which they came.
#[derive(Debug)]
pub struct Frames {
    folder: PathBuf,
    memory_max: usize,
    /// Frames in the file, from its start.
    file: Option<File>,
    filed: Vec<Frame>,
    /// Frames that are not in the file.
    held: Vec<Vec<u8>>,
    held_len: usize,
}

/// Of a frame in the file.
#[derive(Debug, Clone, Copy)]
struct Frame {
    len: usize,
    crc: u32,
}

impl Frames {
    /// Empty; what is more than `memory_max` bytes goes into a file in the folder of `catalog`.
    pub fn beside(catalog: &Path, memory_max: usize) -> Self {
        let folder = catalog.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (folder, filed, held) = (folder.to_owned(), Vec::new(), Vec::new());
        Self { folder, memory_max, file: None, filed, held, held_len: 0 }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.filed.len() + self.held.len()
    }

    /// Whether they became too much for memory.
    pub fn is_in_file(&self) -> bool {
        self.file.is_some()
    }

    /// Adds one.
    ///
    /// # Errors
    /// `Spool` when the file cannot be made or written.
    pub fn push(&mut self, frame: Vec<u8>) -> Result<()> {
        self.held_len += frame.len();
        self.held.push(frame);
        if self.file.is_some() || self.held_len > self.memory_max {
            self.write_held().map_err(|source| CatalogError::Spool { folder: self.folder.clone(), source })?;
        }
        Ok(())
    }

    fn write_held(&mut self) -> std::io::Result<()> {
        if self.file.is_none() {
            self.file = Some(tempfile::tempfile_in(&self.folder)?);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        for frame in self.held.drain(..) {
            file.write_all(&frame)?;
            self.filed.push(Frame { len: frame.len(), crc: crc32fast::hash(&frame) });
        }
        self.held_len = 0;
        Ok(())
    }

    /// Hands all but the first `skip` to `each`.
    pub fn for_each_from(&self, skip: usize, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let (mut offset, mut buffer) = (0_u64, Vec::new());
        for (at, frame) in self.filed.iter().enumerate() {
            if at >= skip {
                buffer.resize(frame.len, 0);
                self.read_frame(offset, (&mut buffer, *frame))?;
                each(&buffer)?;
            }
            offset += frame.len as u64;
        }
        self.held.iter().skip(skip.saturating_sub(self.filed.len())).try_for_each(|frame| each(frame))
    }

    fn read_frame(&self, offset: u64, (buffer, frame): (&mut [u8], Frame)) -> Result<()> {
        let failed = |source| CatalogError::Spool { folder: self.folder.clone(), source };
        let Some(file) = &self.file else { return Err(CatalogError::damaged("rows without their file")) };
        file.read_exact_at(buffer, offset).map_err(failed)?;
        if crc32fast::hash(buffer) == frame.crc {
            return Ok(());
        }
        Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidData, "they read back as other bytes")))
    }
}

#[cfg(test)]
impl Frames {
    /// Changes a byte in the file.
    pub(super) fn damage(&self, at: u64) {
        self.file.as_ref().unwrap().write_all_at(b"x", at).unwrap();
    }
}
