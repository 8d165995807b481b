//! Looks at bytes before work is spent on them: all zero? not worth compressing? Cheap guesses, no decisions.

use std::cell::RefCell;

use zstd::bulk::Compressor;

/// Bytes looked at in one place.
const SAMPLE_LEN: usize = 16 << 10;

/// Shorter chunks are not probed: a probe would cost too much of what it may save.
const PROBED_LEN_MIN: usize = 2 * SAMPLE_LEN;

/// Whether all bytes are zero; so for none.
pub fn is_all_zero(bytes: &[u8]) -> bool {
    let (groups, rest) = bytes.as_chunks::<256>();
    groups.iter().all(|group| group.iter().fold(0, |all, byte| all | byte) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// Bytes looked at in each further 16 KiB of a chunk that does not shrink at its start.
const PEEK_LEN: usize = 4 << 10;

/// Whether a chunk is unlikely to shrink by 3 %: neither its first 16 KiB nor 16 KiB from its middle do with zstd at
/// level 1, and the bytes of the first quarter of every 16 KiB are spread evenly. Never so for a chunk under 32 KiB.
/// A guess: most chunks that would shrink are dismissed after their first 16 KiB, within microseconds. The many
/// places are for images of file systems, where one chunk holds parts of many files.
pub fn looks_incompressible(chunk: &[u8]) -> bool {
    if chunk.len() < PROBED_LEN_MIN {
        return false;
    }
    let middle = (chunk.len() - SAMPLE_LEN) / 2;
    let (parts, _) = chunk.as_chunks::<SAMPLE_LEN>();
    is_evenly_spread(&chunk[..SAMPLE_LEN])
        && parts.iter().all(|part| is_evenly_spread(&part[..PEEK_LEN]))
        && hardly_shrinks(&chunk[..SAMPLE_LEN])
        && hardly_shrinks(&chunk[middle..middle + SAMPLE_LEN])
}

/// Whether the collision entropy of the bytes is above 7.68 of 8 bits: the sum of the squared counts is then near its
/// least, `n * n / 256`. Shannon's entropy is never less. In 4 KiB random bytes have 7.91, those of gzip, zstd and xz
/// over source code 7.85 to 7.92, text 4 to 5.
fn is_evenly_spread(sample: &[u8]) -> bool {
    let mut counts = [[0_u32; 256]; 4];
    let (quads, _) = sample.as_chunks::<4>();
    for quad in quads {
        for (count, byte) in counts.iter_mut().zip(quad) {
            count[usize::from(*byte)] += 1;
        }
    }
    let [a, b, c, d] = &counts;
    let squares: u64 =
        (0..256).map(|byte| u64::from(a[byte] + b[byte] + c[byte] + d[byte])).map(|count| count * count).sum();
    let len = (quads.len() * 4) as u64;
    // 2^(8 - 7.68) = 5/4
    squares * 256 * 4 <= len * len * 5
}

fn hardly_shrinks(sample: &[u8]) -> bool {
    thread_local! {
        static PROBE: RefCell<Option<(Compressor<'static>, Vec<u8>)>> = const { RefCell::new(None) };
    }
    let probe = PROBE.take().or_else(|| {
        let zstd = Compressor::new(1).ok()?;
        Some((zstd, Vec::with_capacity(SAMPLE_LEN)))
    });
    let Some((mut zstd, mut out)) = probe else {
        return false;
    };
    let shrinks = match zstd.compress_to_buffer(sample, &mut out) {
        Ok(len) => len <= sample.len() - sample.len() / 32,
        Err(_) => false,
    };
    PROBE.set(Some((zstd, out)));
    !shrinks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn one_bit_anywhere_is_not_zero() {
        for len in [0, 1, 255, 256, 257, 5000] {
            let mut bytes = vec![0; len];
            assert!(is_all_zero(&bytes));
            for at in 0..len {
                bytes[at] = 0x80;
                assert!(!is_all_zero(&bytes), "{at} of {len}");
                bytes[at] = 0;
            }
        }
    }

    #[test]
    fn noise_looks_incompressible_and_so_does_what_was_compressed() {
        assert!(looks_incompressible(&noise(PROBED_LEN_MIN)));
        // 181 words in any order: matches and literals, as in a text.
        let word = |byte: u8| format!("{:x} ", u32::from(byte % 181).wrapping_mul(0x9e37_79b9));
        let text: Vec<u8> = noise(400_000).into_iter().flat_map(|byte| word(byte).into_bytes()).collect();
        let packed = zstd::bulk::compress(&text, 3).expect("compresses");
        let part = &packed[packed.len() / 2..][..2 * PROBED_LEN_MIN];
        assert!(looks_incompressible(part));
        assert!(!looks_incompressible(&text));
    }

    #[test]
    fn what_might_shrink_does_not_look_incompressible() {
        assert!(!looks_incompressible(&noise(PROBED_LEN_MIN - 1)));
        let mut half = noise(4 * SAMPLE_LEN);
        half[SAMPLE_LEN..].fill(b'x');
        assert!(!looks_incompressible(&half), "its middle is not noise");
        half.rotate_right(SAMPLE_LEN);
        assert!(!looks_incompressible(&half), "its start is not noise");
        let (once, repeated) = (noise(SAMPLE_LEN / 2), noise(SAMPLE_LEN / 2));
        let twice = [once, repeated].concat().repeat(2);
        assert!(!looks_incompressible(&twice), "even counts, but a repetition");
    }
}
