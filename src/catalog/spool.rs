//! The rows of a run until its end, in the order in which they came: in memory while they are few, then in a file
//! without a name beside the catalog, which goes away with the process. What is read back is checked.

use super::error::{CatalogError, Result};
use super::pending::PendingChange;
use super::spool_row::decode;
use crate::format::bytes::{Reader, put_bytes, put_varint};
use crate::model::content::Content;
use crate::model::ids::ContentId;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes after which a frame is full; a row is never split.
const FRAME: usize = 256 << 10;
/// Bytes of full frames that stay in memory.
const MEMORY_MAX: usize = 16 << 20;

/// Takes a change, and the content of a file that was read.
pub type ChangeVisitor<'v> = &'v mut dyn FnMut(PendingChange, Option<Content>) -> Result<()>;

/// Keeps rows.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    memory_max: usize,
    /// Frames in the file, from its start.
    file: Option<File>,
    filed: Vec<Frame>,
    /// Full frames that are not in the file.
    held: Vec<Vec<u8>>,
    held_len: usize,
    /// The frame that is being filled, and the directory of its last row.
    open: Vec<u8>,
    dir: Vec<u8>,
    rows: u64,
}

/// Of a frame in the file.
#[derive(Debug, Clone, Copy)]
struct Frame {
    len: usize,
    crc: u32,
}

/// A place between rows: all before it were there when it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpoolMark(usize);

impl Spool {
    /// Empty; a file would lie in the folder of `catalog`.
    pub fn beside(catalog: &Path) -> Self {
        let folder = catalog.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self {
            folder: folder.to_owned(),
            memory_max: MEMORY_MAX,
            file: None,
            filed: Vec::new(),
            held: Vec::new(),
            held_len: 0,
            open: Vec::new(),
            dir: Vec::new(),
            rows: 0,
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds a row of [`super::spool_row::encode`], with its directory and the number of its content.
    ///
    /// # Errors
    /// `Spool` when the file cannot be made or written.
    pub fn push(&mut self, dir: &[u8], content: Option<ContentId>, row: &[u8]) -> Result<()> {
        // The first row of a frame says its directory, so that a frame can be read by itself.
        if self.open.is_empty() || self.dir != dir {
            self.open.push(1);
            put_bytes(&mut self.open, dir);
            self.dir.clear();
            self.dir.extend(dir);
        } else {
            self.open.push(0);
        }
        put_varint(&mut self.open, content.map_or(0, |id| id.0.cast_unsigned()));
        put_bytes(&mut self.open, row);
        self.rows += 1;
        if self.open.len() >= FRAME { self.close_frame() } else { Ok(()) }
    }

    /// All rows that are there, for [`Self::for_each_since`].
    pub fn mark(&mut self) -> Result<SpoolMark> {
        self.close_frame()?;
        Ok(SpoolMark(self.filed.len() + self.held.len()))
    }

    fn close_frame(&mut self) -> Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        self.held_len += self.open.len();
        let room = Vec::with_capacity(if self.file.is_some() { self.open.capacity() } else { 0 });
        self.held.push(std::mem::replace(&mut self.open, room));
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

    /// Hands all rows to `each`, in the order in which they came.
    pub fn for_each(&self, each: ChangeVisitor<'_>) -> Result<()> {
        self.for_each_since(SpoolMark::default(), each)
    }

    /// The same for the rows that came after `mark`.
    pub fn for_each_since(&self, SpoolMark(mark): SpoolMark, each: ChangeVisitor<'_>) -> Result<()> {
        let (mut offset, mut buffer) = (0_u64, Vec::new());
        for (at, frame) in self.filed.iter().enumerate() {
            if at >= mark {
                buffer.resize(frame.len, 0);
                self.read_frame(offset, (&mut buffer, *frame))?;
                rows_of(&buffer, each)?;
            }
            offset += frame.len as u64;
        }
        let further = self.held.iter().skip(mark.saturating_sub(self.filed.len()));
        further.chain([&self.open]).try_for_each(|frame| rows_of(frame, each))
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

fn rows_of(frame: &[u8], each: ChangeVisitor<'_>) -> Result<()> {
    let broken = |_| CatalogError::damaged("a row that was kept for the end of the run does not read back");
    let mut from = Reader::new(frame);
    let mut dir: &[u8] = &[];
    while !from.is_at_end() {
        if from.u8().map_err(broken)? == 1 {
            dir = from.bytes(usize::MAX).map_err(broken)?;
        }
        let id = match from.varint().map_err(broken)? {
            0 => None,
            id => Some(ContentId(id.cast_signed())),
        };
        let (name, change, content) = decode(from.bytes(usize::MAX).map_err(broken)?, id)?;
        each(PendingChange { dir: dir.to_vec(), name, change }, content)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::spool_row::encode;
    use crate::catalog::versions::Change;
    use crate::model::version::{Detection, EndReason};

    fn spool(folder: &Path, memory_max: usize) -> Spool {
        Spool { memory_max, ..Spool::beside(&folder.join("backup.cat")) }
    }

    fn fill(spool: &mut Spool, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let detection = Detection { ino: u64::from(number), ..Detection::default() };
            let change = if number % 3 == 0 {
                Change::End(EndReason::Deleted)
            } else {
                Change::Touch { detection, btime_ns: None }
            };
            let row = encode(&number.to_le_bytes(), &change, None);
            spool.push(&(number / 1000).to_le_bytes(), None, &row).unwrap();
        }
    }

    fn numbers(spool: &Spool, mark: SpoolMark) -> Vec<u32> {
        let mut seen = Vec::new();
        spool
            .for_each_since(mark, &mut |row, content| {
                assert!(content.is_none());
                let number = u32::from_le_bytes(row.name.as_slice().try_into().unwrap());
                assert_eq!(row.dir, (number / 1000).to_le_bytes());
                assert_eq!(matches!(row.change, Change::End(_)), number % 3 == 0);
                seen.push(number);
                Ok(())
            })
            .unwrap();
        seen
    }

    #[test]
    fn rows_come_back_in_their_order_from_memory_and_file() {
        let dir = tempfile::tempdir().unwrap();
        for memory_max in [0, 1 << 20, usize::MAX] {
            let mut spool = spool(dir.path(), memory_max);
            assert!(spool.is_empty() && numbers(&spool, SpoolMark::default()).is_empty());
            fill(&mut spool, 0..70_000);
            let mark = spool.mark().unwrap();
            assert_eq!(mark, spool.mark().unwrap(), "nothing came between");
            fill(&mut spool, 70_000..90_000);
            assert_eq!(spool.file.is_some(), memory_max < 2 << 20);
            let all: Vec<u32> = (0..90_000).collect();
            assert_eq!(numbers(&spool, SpoolMark::default()), all);
            assert_eq!(numbers(&spool, mark), all[70_000..]);
            assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "its file has no name");
        }
    }

    #[test]
    fn rows_that_read_back_as_others_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = spool(dir.path(), 0);
        fill(&mut spool, 0..20_000);
        spool.mark().unwrap();
        spool.file.as_ref().unwrap().write_all_at(b"x", 1000).unwrap();
        let error = spool.for_each(&mut |_, _| Ok(())).unwrap_err();
        assert!(error.to_string().contains("other bytes"), "{error}");
    }

    #[test]
    fn a_folder_that_takes_no_file_is_named() {
        let mut spool = spool(Path::new("/proc/self"), 0);
        let row = encode(b"n", &Change::End(EndReason::Deleted), None);
        spool.push(b"", None, &row).unwrap();
        let error = spool.mark().unwrap_err();
        assert!(error.to_string().contains("/proc/self"), "{error}");
    }
}
