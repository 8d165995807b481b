//! Where a file has holes, beside the runs of zeros in its content: recorded only where the two are not the same.
//!
//! Ordinary files have neither, and cost nothing: the file system is asked only about a file that has fewer bytes on its
//! disk than its length.

use crate::codec::compress::is_all_zero;
use crate::format::attrs::put_holes;
use crate::model::attrs::Holes;
use crate::model::content::Extent;
use crate::tree::source_file::SourceFile;

/// No file system has smaller blocks, and so no smaller holes.
const BLOCK_LEN_MIN: usize = 512;
/// What a file system may count among a file's bytes though it is none of them: a block of its extended attributes.
const BESIDE_MAX: u64 = 4096;

/// The holes of a file of `size` bytes; `None` when that is not known. Asked before the file's last `stat`: whoever finds
/// it changed does not keep this either. `bytes` are all of its content, where they are at hand.
pub fn holes_of(source: &SourceFile, size: u64, (has_xattrs, bytes): (bool, Option<&[u8]>)) -> Option<Holes> {
    let beside = if has_xattrs { BESIDE_MAX } else { 0 };
    let may_have = size > 0 && source.opened().allocated < size.saturating_add(beside);
    if !may_have || bytes.is_some_and(|bytes| !bytes.chunks(BLOCK_LEN_MIN).any(is_all_zero)) {
        return Some(Holes::new());
    }
    source.holes(size)
}

/// Adds the holes to a file's encoded attributes, unless they are its runs of zeros.
pub fn note_holes(body: &mut Vec<u8>, holes: Option<&Holes>, zeros: &Holes) {
    if let Some(holes) = holes.filter(|holes| *holes != zeros) {
        put_holes(body, holes);
    }
}

/// The runs of zeros in a content.
pub fn zeros_of(extents: &[Extent], size: u64) -> Holes {
    let ends = extents.iter().skip(1).map(|next| next.at).chain([size]);
    let zeros = extents.iter().zip(ends).filter(|(extent, _)| extent.chunk.0 == 0);
    zeros.map(|(extent, end)| (extent.at, end - extent.at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::ChunkNo;

    #[test]
    fn runs_of_zeros_end_where_the_next_extent_begins() {
        let extent = |at, chunk| Extent { at, chunk: ChunkNo(chunk), n: 1 };
        assert_eq!(zeros_of(&[extent(0, 0), extent(10, 7), extent(15, 0)], 40), [(0, 10), (15, 25)]);
        assert_eq!(zeros_of(&[extent(0, 7)], 40), []);
        assert_eq!(zeros_of(&[], 0), []);
    }

    #[test]
    fn holes_are_recorded_where_they_are_not_the_zeros() {
        let body = |holes: Option<Holes>, zeros: Holes| {
            let mut body = Vec::new();
            note_holes(&mut body, holes.as_ref(), &zeros);
            body
        };
        assert_eq!(body(Some(vec![]), vec![]), b"");
        assert_eq!(body(Some(vec![(0, 5)]), vec![(0, 5)]), b"");
        assert_eq!(body(Some(vec![]), vec![(0, 5)]), b"\x04\x00");
        assert_eq!(body(Some(vec![(0, 4)]), vec![]), b"\x04\x02\x00\x04");
        assert_eq!(body(None, vec![(0, 5)]), b"");
    }
}
