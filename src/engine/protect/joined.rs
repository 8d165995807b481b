//! A block put together from damaged copies of it: each segment from the first copy in which its checksum is right, and one
//! that is right in none from pieces of two copies, where some choice of them fits the checksum. Whether that is the block
//! its hash tells, as everywhere.

use crate::engine::observer::Observer;
use crate::format::block::BlockTable;
use crate::format::container::{HEADER_LEN, Header, SEGMENT_HEADER_LEN, SegmentHeader, TRAILER_LEN, Trailer};
use crate::volume::store::{Object, StoreError};
use std::ops::Range;

/// Copies are compared, and left out where they cannot be read, by pieces of the file of so many bytes: a disk loses whole
/// sectors.
const PIECE: u64 = 4096;
/// After so many pieces of a segment that cannot be read it is given up: each may take a disk half a minute.
const UNREAD_MAX: usize = 64;
/// At so many places of a segment two copies may differ: each doubles the choices, of which each costs a checksum.
const PLACES_MAX: usize = 10;

/// What has a block's name on several volumes, as one object.
pub struct Joined {
    objects: Vec<Box<dyn Object>>,
    /// Where a stretch ends, and which object has it; ascending, without gaps.
    stretches: Vec<(u64, usize)>,
    size: u64,
}

impl Joined {
    /// Reads all stretches of a block of `size` bytes whose segments lie as `table` says; `None` where some stretch is sound
    /// neither in an object nor in pieces of two.
    pub fn new(
        objects: Vec<Box<dyn Object>>,
        (table, size): (&BlockTable, u64),
        observer: &dyn Observer,
    ) -> Option<Self> {
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
            let found =
                objects.iter().position(|object| object.read_exact_at(start, &mut bytes).is_ok() && is_sound(&bytes));
            match found {
                Some(object) => stretches.push((end, object)),
                None => stretches.append(&mut mixed(&objects, start..end, (&is_sound, observer))?),
            }
            start = end;
        }
        Some(Self { objects, stretches, size })
    }
}

type IsSound<'s> = &'s dyn Fn(&[u8]) -> bool;

/// A stretch from pieces of two objects.
fn mixed(
    objects: &[Box<dyn Object>],
    range: Range<u64>,
    (is_sound, observer): (IsSound<'_>, &dyn Observer),
) -> Option<Vec<(u64, usize)>> {
    let read = objects.iter().map(|object| pieces(object.as_ref(), range.clone(), observer));
    let read: Vec<Vec<Piece>> = read.collect::<Option<_>>()?;
    let pairs = (0..read.len()).flat_map(|one| (one + 1..read.len()).map(move |other| (one, other)));
    for (one, other) in pairs {
        if observer.is_cancelled() {
            return None;
        }
        let Some(choice) = choose(&read[one], &read[other], is_sound) else { continue };
        let ends = read[one].iter().map(|piece| piece.end);
        return Some(ends.zip(choice.into_iter().map(|is_other| if is_other { other } else { one })).collect());
    }
    None
}

/// Of an object; without bytes where they cannot be read.
struct Piece {
    bytes: Option<Vec<u8>>,
    end: u64,
}

fn pieces(object: &dyn Object, range: Range<u64>, observer: &dyn Observer) -> Option<Vec<Piece>> {
    let (mut start, mut pieces, mut unread) = (range.start, Vec::new(), 0);
    while start < range.end {
        if unread > UNREAD_MAX || observer.is_cancelled() {
            return None;
        }
        let end = ((start / PIECE + 1) * PIECE).min(range.end);
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
        let is_read = object.read_exact_at(start, &mut bytes).is_ok();
        unread += usize::from(!is_read);
        pieces.push(Piece { bytes: is_read.then_some(bytes), end });
        start = end;
    }
    Some(pieces)
}

/// For each piece whether it is taken from the other, so that the whole is sound.
fn choose(one: &[Piece], other: &[Piece], is_sound: IsSound<'_>) -> Option<Vec<bool>> {
    let (mut choice, mut differing) = (Vec::with_capacity(one.len()), Vec::new());
    for (index, (one, other)) in one.iter().zip(other).enumerate() {
        match (&one.bytes, &other.bytes) {
            (None, None) => return None,
            (Some(one), Some(other)) if one != other => differing.push(index..index + 1),
            _ => {}
        }
        choice.push(one.bytes.is_none());
    }
    let places = places(differing)?;
    let mut whole: Vec<u8> = Vec::new();
    let (mut starts, mut start) = (Vec::with_capacity(one.len()), 0);
    for (is_other, (one, other)) in choice.iter().zip(one.iter().zip(other)) {
        whole.extend(if *is_other { &other.bytes } else { &one.bytes }.as_deref()?);
        starts.push(start);
        start = whole.len();
    }
    // Each step changes one place, as in a Gray code: all choices are passed.
    for step in 1_usize..=1 << places.len() {
        if is_sound(&whole) {
            return Some(choice);
        }
        let place = places.get(usize::try_from(step.trailing_zeros()).ok()?)?;
        for index in place.clone() {
            choice[index] = !choice[index];
            let bytes = if choice[index] { &other[index].bytes } else { &one[index].bytes }.as_deref()?;
            whole[starts[index]..][..bytes.len()].copy_from_slice(bytes);
        }
    }
    None
}

/// Pieces that differ, as places: each alone, or where those are too many, neighbours together.
fn places(differing: Vec<Range<usize>>) -> Option<Vec<Range<usize>>> {
    if differing.len() <= PLACES_MAX {
        return Some(differing);
    }
    let mut together: Vec<Range<usize>> = Vec::new();
    for piece in differing {
        match together.last_mut() {
            Some(last) if last.end == piece.start => last.end = piece.end,
            _ => together.push(piece),
        }
    }
    (together.len() <= PLACES_MAX).then_some(together)
}

impl Object for Joined {
    fn len(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let (mut at, mut left) = (offset, buf);
        while !left.is_empty() {
            let found = self.stretches.get(self.stretches.partition_point(|(end, _)| *end <= at));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(bytes: &[u8], unread: &[usize]) -> Vec<Piece> {
        let pieces = bytes.chunks(4).enumerate();
        pieces
            .map(|(index, piece)| Piece {
                bytes: (!unread.contains(&index)).then(|| piece.to_vec()),
                end: index as u64 * 4 + piece.len() as u64,
            })
            .collect()
    }

    fn with_rot(sound: &[u8], at: &[usize]) -> Vec<u8> {
        let mut bytes = sound.to_vec();
        at.iter().for_each(|at| bytes[*at] ^= 0x55);
        bytes
    }

    #[test]
    fn pieces_of_two_copies_make_what_neither_has() {
        let sound: Vec<u8> = (0..62).collect();
        let is_sound = |bytes: &[u8]| bytes == sound;
        for (one, other, one_unread, other_unread) in [
            (&[3_usize][..], &[40_usize][..], &[][..], &[][..]),
            (&[3, 4, 5, 8], &[17, 61], &[], &[]),
            (&[0, 61], &[], &[7_usize], &[8_usize]),
            (&[], &[], &[0, 1, 2], &[3, 15]),
            // Twelve pieces differ, at two places.
            (&[0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40], &[61], &[], &[]),
        ] {
            let (one, other) = (cut(&with_rot(&sound, one), one_unread), cut(&with_rot(&sound, other), other_unread));
            let choice = choose(&one, &other, &is_sound).unwrap();
            let pairs = one.iter().zip(&other).zip(choice);
            let whole: Vec<u8> = pairs
                .flat_map(|((one, other), is_other)| if is_other { &other.bytes } else { &one.bytes }.clone().unwrap())
                .collect();
            assert_eq!(whole, sound);
        }
    }

    #[test]
    fn where_both_have_rot_or_cannot_be_read_or_differ_everywhere_nothing_is_made() {
        let sound: Vec<u8> = (0..62).collect();
        let tried = std::cell::Cell::new(0);
        let is_sound = |bytes: &[u8]| {
            tried.set(tried.get() + 1);
            bytes == sound
        };
        let mut other = with_rot(&sound, &[1]);
        other[1] ^= 0x11;
        assert!(choose(&cut(&with_rot(&sound, &[1, 30]), &[]), &cut(&other, &[]), &is_sound).is_none());
        assert_eq!(tried.get(), 4);
        assert!(choose(&cut(&sound, &[5]), &cut(&sound, &[5]), &is_sound).is_none());
        // Every second piece, so that no neighbours go together.
        let one = with_rot(&sound, &[0, 8, 16, 24, 32, 40, 48, 56]);
        assert!(choose(&cut(&one, &[]), &cut(&sound, &[]), &is_sound).is_some());
        tried.set(0);
        let (sound, far): (Vec<u8>, Vec<usize>) = ((0..=255).collect(), (0..11).map(|place| place * 8).collect());
        assert!(choose(&cut(&with_rot(&sound, &far), &[]), &cut(&sound, &[]), &|_| false).is_none());
    }
}
