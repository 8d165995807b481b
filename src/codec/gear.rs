//! The gear table: one 64-bit word per byte value, and the loop that rolls a hash over bytes with it.
//!
//! `hash = (hash << 1) + GEAR[byte]`, so after 64 bytes the word depends on exactly those 64, and its top bits on all
//! of them. Where a hash leads to a cut is [`super::chunker`]'s to say. The table is part of every repository: changing
//! a word of it moves all cuts, so a test freezes it.

/// Bytes that a hash depends on.
pub(super) const WINDOW: usize = 64;

/// The words of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014),
/// starting from the big-endian number that the letters `RaidTape` spell.
pub(super) static GEAR: [u64; 256] = splitmix64(u64::from_be_bytes(*b"RaidTape"));

/// The hash of a window of zeros: `-GEAR[0]`, the sum of `GEAR[0] << n` for all n.
pub(super) const ZERO_HASH: u64 = splitmix64(u64::from_be_bytes(*b"RaidTape"))[0].wrapping_neg();

const fn splitmix64(seed: u64) -> [u64; 256] {
    let mut table = [0; 256];
    let mut state = seed;
    let mut at = 0;
    while at < table.len() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[at] = word ^ (word >> 31);
        at += 1;
    }
    table
}

/// The hash after one more byte.
#[inline(always)]
fn step(hash: u64, byte: u8) -> u64 {
    (hash << 1).wrapping_add(GEAR[usize::from(byte)])
}

/// Rolls `hash` over `data` up to and including the first byte after which it is less than `below`, and returns how
/// many bytes that took; `None` when all of `data` was rolled over and no hash was that small.
pub(super) fn roll(hash: &mut u64, data: &[u8], below: u64) -> Option<usize> {
    let mut now = *hash;
    let (groups, rest) = data.as_chunks::<8>();
    for (n, group) in groups.iter().enumerate() {
        for (i, byte) in group.iter().enumerate() {
            now = step(now, *byte);
            if now < below {
                *hash = now;
                return Some(n * 8 + i + 1);
            }
        }
    }
    for (i, byte) in rest.iter().enumerate() {
        now = step(now, *byte);
        if now < below {
            *hash = now;
            return Some(groups.len() * 8 + i + 1);
        }
    }
    *hash = now;
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_one_that_every_repository_was_cut_with() {
        let bytes: Vec<u8> = GEAR.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(
            blake3::hash(&bytes).to_string(),
            "6621d5e4952e61c60b59bda81d3f3f4202d679a59e97275e537a0468c1a7c115"
        );
    }

    #[test]
    fn zeros_are_never_a_place_to_cut() {
        let mut hash = 0x1234_5678_9abc_def0;
        assert_eq!(roll(&mut hash, &[0; WINDOW], 0), None);
        assert_eq!(hash, ZERO_HASH);
        assert_ne!(ZERO_HASH >> 60, 0, "a mask of four bits or more refuses it");
    }

    #[test]
    fn the_hash_depends_on_the_last_64_bytes_and_on_all_of_them() {
        let mut data: Vec<u8> = (0..=255).collect();
        let hash_of = |data: &[u8]| {
            let mut hash = 0;
            roll(&mut hash, data, 0);
            hash
        };
        let whole = hash_of(&data);
        data[255 - WINDOW] ^= 1;
        assert_eq!(hash_of(&data), whole);
        let odd = |byte: u8| GEAR[usize::from(byte)] & 1;
        let oldest = data[256 - WINDOW];
        data[256 - WINDOW] = (0..=255)
            .find(|byte| odd(*byte) != odd(oldest))
            .expect("one");
        assert_ne!(hash_of(&data) >> 63, whole >> 63);
    }
}
