//! Chunk numbers as disjoint ranges: a run's numbers are mostly consecutive, so that millions of them take few entries.

use std::collections::BTreeMap;

/// A set of chunk numbers.
#[derive(Debug, Default)]
pub struct ChunkRanges(BTreeMap<i64, i64>);

impl ChunkRanges {
    /// Adds `n` numbers from `first` on.
    pub fn add(&mut self, first: i64, n: u32) {
        let (mut from, mut to) = (first, first.saturating_add(i64::from(n)));
        while let Some((start, end)) = self.0.range(..=to).next_back().map(|(start, end)| (*start, *end)) {
            if end < from {
                break;
            }
            self.0.remove(&start);
            from = from.min(start);
            to = to.max(end);
        }
        if from < to {
            self.0.insert(from, to);
        }
    }

    /// The ranges that are left without the numbers of `other`, ascending: the first number, and the one behind the last.
    pub fn without(&self, other: &Self) -> Vec<(i64, i64)> {
        let mut left = Vec::new();
        for (from, to) in &self.0 {
            let mut at = *from;
            let before = other.0.range(..=from).next_back();
            for (start, end) in before.into_iter().chain(other.0.range(from + 1..*to)) {
                if *start > at {
                    left.push((at, *start));
                }
                at = at.max(*end);
            }
            if at < *to {
                left.push((at, *to));
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(all: &[(i64, u32)]) -> ChunkRanges {
        let mut ranges = ChunkRanges::default();
        all.iter().for_each(|(first, n)| ranges.add(*first, *n));
        ranges
    }

    #[test]
    fn ranges_join_when_they_touch() {
        let mut found = ranges(&[(5, 1), (7, 1), (6, 1), (1, 1), (10, 1), (9, 1), (8, 1), (20, 0)]);
        assert_eq!(found.0, BTreeMap::from([(1, 2), (5, 11)]));
        found.add(2, 3);
        assert_eq!(found.0, BTreeMap::from([(1, 11)]));
    }

    #[test]
    fn what_is_left_without_others_is_what_a_set_would_have() {
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..500 {
            let mut some = || -> Vec<(i64, u32)> {
                (0..random(6)).map(|_| (random(40).cast_signed(), u32::try_from(random(9)).unwrap())).collect()
            };
            let (one, other) = (some(), some());
            let numbers = |all: &[(i64, u32)]| -> std::collections::BTreeSet<i64> {
                all.iter().flat_map(|(first, n)| *first..first + i64::from(*n)).collect()
            };
            let left = ranges(&one).without(&ranges(&other));
            let found: Vec<i64> = left.iter().flat_map(|(from, to)| *from..*to).collect();
            let expected: Vec<i64> = numbers(&one).difference(&numbers(&other)).copied().collect();
            assert_eq!(found, expected, "{one:?} without {other:?}");
            assert!(left.iter().all(|(from, to)| from < to));
        }
    }
}
