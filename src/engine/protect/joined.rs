//! A block put together from damaged copies of it: each segment from the first copy in which its checksum is right. Whether
//! that is the block its hash tells, as everywhere.

use crate::format::block::BlockTable;
use crate::format::container::{HEADER_LEN, Header, SEGMENT_HEADER_LEN, SegmentHeader, TRAILER_LEN, Trailer};
use crate::volume::store::{Object, StoreError};

/// What has a block's name on several volumes, as one object.
pub struct Joined {
    objects: Vec<Box<dyn Object>>,
    /// Where a stretch ends, and which object has it; ascending, without gaps.
    stretches: Vec<(u64, usize)>,
    size: u64,
}

impl Joined {
    /// Reads all stretches of a block of `size` bytes whose segments lie as `table` says; `None` where some stretch is sound
    /// in no object.
    pub fn new(objects: Vec<Box<dyn Object>>, table: &BlockTable, size: u64) -> Option<Self> {
        let mut ends = vec![HEADER_LEN as u64];
        for segment in &table.segments {
            ends.push(segment.offset + SEGMENT_HEADER_LEN as u64 + u64::from(segment.stored_len));
        }
        ends.push(size.checked_sub(TRAILER_LEN as u64)?);
        ends.push(size);
        let last = ends.len() - 1;
        let (mut start, mut stretches) = (0, Vec::with_capacity(ends.len()));
        for (index, end) in ends.into_iter().enumerate() {
            let mut bytes = vec![0; usize::try_from(end.checked_sub(start)?).ok()?];
            let is_sound = |bytes: &[u8]| match index {
                0 => Header::decode(bytes).is_ok(),
                index if index == last => Trailer::decode(bytes, size).is_ok(),
                _ => bytes
                    .split_at_checked(SEGMENT_HEADER_LEN)
                    .is_some_and(|(header, stored)| SegmentHeader::check(header, stored).is_ok()),
            };
            let found = objects
                .iter()
                .position(|object| object.read_exact_at(start, &mut bytes).is_ok() && is_sound(&bytes))?;
            stretches.push((end, found));
            start = end;
        }
        Some(Self { objects, stretches, size })
    }
}

impl Object for Joined {
    fn len(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let (mut at, mut left) = (offset, buf);
        while !left.is_empty() {
            let found = self.stretches.iter().find(|(end, _)| *end > at);
            let Some((end, object)) = found else {
                let end = at.saturating_add(left.len() as u64);
                return Err(StoreError::Truncated { key: String::new(), offset: at, end, len_bytes: self.size });
            };
            let len = usize::try_from(end - at).map_or(left.len(), |len| len.min(left.len()));
            let (now, later) = left.split_at_mut(len);
            self.objects[*object].read_exact_at(at, now)?;
            (at, left) = (at + len as u64, later);
        }
        Ok(())
    }

    fn forget(&self, offset: u64, len: u64) {
        self.objects.iter().for_each(|object| object.forget(offset, len));
    }

    fn will_read(&self, _offset: u64, _len: u64) {}
}
