//! The rows of a run until its end, in the order in which they came, in [`Frames`].

use super::error::{CatalogError, Result};
use super::frames::Frames;
use super::pending::PendingChange;
use super::spool_row::decode;
use crate::format::bytes::{Reader, put_bytes, put_varint};
use crate::model::content::Content;
use crate::model::ids::ContentId;
use std::path::Path;

/// Bytes after which a frame is full; a row is never split.
const FRAME: usize = 256 << 10;

/// Bytes that stay in memory.
const MEMORY_MAX: usize = 16 << 20;

/// Takes a change, and the content of a file that was read.
pub type ChangeVisitor<'v> = &'v mut dyn FnMut(PendingChange, Option<Content>) -> Result<()>;

/// Keeps rows.
#[derive(Debug)]
pub struct Spool {
    frames: Frames,
    /// The frame that is being filled, and the directory of its last row.
    open: Vec<u8>,
    dir: Vec<u8>,
    rows: u64,
}

/// A place between rows: all before it were there when it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpoolMark(usize);

impl Spool {
    /// Empty; a file would lie in the folder of `catalog`.
    pub fn beside(catalog: &Path) -> Self {
        Self { frames: Frames::beside(catalog, MEMORY_MAX), open: Vec::new(), dir: Vec::new(), rows: 0 }
    }

    /// How many rows there are.
    pub fn len(&self) -> u64 {
        self.rows
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
        Ok(SpoolMark(self.frames.count()))
    }

    fn close_frame(&mut self) -> Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        let room = if self.frames.is_in_file() { self.open.capacity() } else { 0 };
        self.frames.push(std::mem::replace(&mut self.open, Vec::with_capacity(room)))
    }

    /// Hands all rows to `each`, in the order in which they came.
    pub fn for_each(&self, each: ChangeVisitor<'_>) -> Result<()> {
        self.for_each_since(SpoolMark::default(), each)
    }

    /// The same for the rows that came after `mark`.
    pub fn for_each_since(&self, SpoolMark(mark): SpoolMark, each: ChangeVisitor<'_>) -> Result<()> {
        self.frames.for_each_from(mark, &mut |frame| rows_of(frame, each))?;
        rows_of(&self.open, each)
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
        let catalog = folder.join("backup.cat");
        Spool { frames: Frames::beside(&catalog, memory_max), ..Spool::beside(&catalog) }
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
            assert_eq!(spool.frames.is_in_file(), memory_max < 2 << 20);
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
        spool.frames.damage(1000);
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
