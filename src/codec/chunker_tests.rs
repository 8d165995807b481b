//! The chunker against an implementation that is plainly right, against itself in other pieces, and against frozen cuts.

use proptest::prelude::*;

use super::super::gear::GEAR;
use super::*;

const SMALL: ChunkerParams = ChunkerParams { min: 64, avg: 256, max: 1024, normalization: 2 };

/// Bytes of a multiplicative congruential generator, with a run of zeros now and then.
fn stream(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = move || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 40) as usize
    };
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let run = next() % (len / 4 + 1) + 1;
        match next() % 4 {
            0 => bytes.resize(bytes.len() + run, 0),
            _ => (0..run).for_each(|_| bytes.push(next().to_le_bytes()[0])),
        }
    }
    bytes.truncate(len);
    bytes
}

/// The rule of the module's page, read aloud: every place is tried with a hash made afresh.
fn cuts_by_the_book(params: &ChunkerParams, file: &[u8]) -> Vec<u64> {
    let bits = params.avg.ilog2();
    let mut cuts = Vec::new();
    let mut start = 0;
    for end in 1..=file.len() {
        let len = end - start;
        let top_bits_zero = |bits: u32| {
            let window = &file[end - 64..end];
            let hash = window
                .iter()
                .enumerate()
                .fold(0_u64, |sum, (n, byte)| sum.wrapping_add(GEAR[usize::from(*byte)] << (63 - n)));
            hash.leading_zeros() >= bits
        };
        let is_cut = if len < params.min as usize {
            false
        } else if len < params.avg as usize {
            top_bits_zero(bits + params.normalization)
        } else {
            len == params.max as usize || top_bits_zero(bits - params.normalization)
        };
        if is_cut || end == file.len() {
            cuts.push(end as u64);
            start = end;
        }
    }
    cuts
}

fn whole(params: &ChunkerParams, file: &[u8]) -> Vec<u64> {
    let mut cuts = Vec::new();
    Chunker::new(params).expect("good").cut_whole(file, &mut cuts);
    cuts
}

fn any_params() -> impl Strategy<Value = ChunkerParams> {
    (7_u32..12, 0_u32..4, 0_u32..3000, 0_u32..3000).prop_map(|(bits, normalization, a, b)| {
        let avg = 1 << bits;
        ChunkerParams { min: 64 + a % (avg - 64), avg, max: avg + 1 + b, normalization }
    })
}

proptest! {
    #[test]
    fn cuts_are_those_of_the_rule(params in any_params(), seed: u64, len in 0_usize..30_000) {
        let file = stream(seed, len);
        prop_assert_eq!(whole(&params, &file), cuts_by_the_book(&params, &file));
    }

    #[test]
    fn cuts_do_not_depend_on_the_pieces_that_a_file_is_fed_in(
        params in any_params(),
        seed: u64,
        len in 0_usize..60_000,
        pieces in proptest::collection::vec(1_usize..3000, 1..20),
    ) {
        let file = stream(seed, len);
        let mut cutter = Chunker::new(&params).expect("good").cutter();
        let mut cuts = Vec::new();
        let mut rest = &file[..];
        for piece in pieces.iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*piece));
            cutter.feed(now, &mut cuts);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(cutter.position(), file.len() as u64);
        cutter.finish(&mut cuts);
        prop_assert_eq!(cutter.position(), 0);
        prop_assert_eq!(cuts, whole(&params, &file));
    }

    #[test]
    fn zeros_that_are_announced_are_cut_like_zeros_that_are_read(
        params in any_params(),
        seed: u64,
        runs in proptest::collection::vec((0_usize..4000, 0_usize..9000, 0_usize..200), 1..8),
    ) {
        let mut cutter = Chunker::new(&params).expect("good").cutter();
        let (mut file, mut cuts) = (Vec::new(), Vec::new());
        for (data, zeros, more_zeros) in runs {
            let data = stream(seed ^ file.len() as u64, data);
            cutter.feed(&data, &mut cuts);
            file.extend(data);
            for zeros in [zeros, more_zeros] {
                cutter.feed_zeros(zeros as u64, &mut |cut| cuts.push(cut));
                file.resize(file.len() + zeros, 0);
            }
        }
        cutter.finish(&mut cuts);
        prop_assert_eq!(cuts, whole(&params, &file));
    }
}

#[test]
fn a_hole_of_a_tebibyte_is_cut_at_every_maximum_and_at_once() {
    let mut cutter = Chunker::new(&default_params()).expect("good").cutter();
    let max = u64::from(default_params().max);
    let mut last = 0;
    cutter.feed_zeros(1 << 40, &mut |cut| {
        assert_eq!(cut, last + max);
        last = cut;
    });
    assert_eq!(last, 1 << 40);
    assert_eq!(cutter.position(), 1 << 40);
}

#[test]
fn a_file_no_longer_than_the_minimum_is_one_chunk_and_an_empty_one_is_none() {
    let file = stream(3, SMALL.min as usize);
    for len in 1..=file.len() {
        assert_eq!(whole(&SMALL, &file[..len]), [len as u64]);
    }
    assert_eq!(whole(&SMALL, &[]), [0_u64; 0]);
}

#[test]
fn cuts_after_an_insertion_are_the_same_again() {
    let file = stream(5, 1 << 20);
    let mut changed = file.clone();
    changed.splice(5000..5000, *b"inserted");
    let before = whole(&SMALL, &file);
    let after: Vec<_> = whole(&SMALL, &changed).iter().map(|cut| cut - 8).collect();
    let same = before.iter().filter(|cut| after.contains(cut)).count();
    assert!(same + 40 > before.len(), "{same} of {}", before.len());
}

#[test]
fn lengths_gather_around_the_average() {
    let cuts = whole(&SMALL, &noise(1 << 20));
    let mean = (1 << 20) / cuts.len();
    assert!((200..400).contains(&mean), "{mean}");
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn parameters_that_no_chunker_can_follow_are_refused() {
    let with = |change: fn(&mut ChunkerParams)| {
        let mut params = default_params();
        change(&mut params);
        Chunker::new(&params).err()
    };
    assert_eq!(with(|_| ()), None);
    assert!(matches!(with(|params| params.avg -= 1), Some(BadParams::AvgNotPowerOfTwo { .. })));
    for change in [
        |params: &mut ChunkerParams| params.min = 63,
        |params: &mut ChunkerParams| params.min = params.avg,
        |params: &mut ChunkerParams| params.max = params.avg,
        |params: &mut ChunkerParams| params.max = (4 << 20) + 1,
    ] {
        assert!(matches!(with(change), Some(BadParams::LengthsOutOfOrder { .. })));
    }
    assert!(matches!(with(|params| params.normalization = 16), Some(BadParams::NormalizationTooLarge { .. })));
    assert!(with(|params| params.avg = 0).is_some());
}

const fn params(min: u32, avg: u32, normalization: u32) -> ChunkerParams {
    ChunkerParams { min, avg, max: avg * 4, normalization }
}

/// What a repository was cut with on one release, every later one must cut alike. Never edit these numbers.
#[test]
fn cuts_are_where_every_release_has_them() {
    let file = stream(2026, 12 << 20);
    assert_eq!(blake3::hash(&file).to_string(), "3137b1811dd77333d92cc5a19888821b827f742ff7ae25058f62769c0929912f");
    assert_eq!(
        whole(&params(64 << 10, 256 << 10, 1), &file),
        [
            439840, 702146, 1377875, 1814658, 2192088, 3240664, 3656884, 4267436, 4542068, 4961414, 5363912, 5497898,
            5895151, 6196248, 6499521, 7548097, 8596673, 9645249, 10693825, 10820169, 11068023, 11334520, 11606105,
            11745663, 12101144, 12351912, 12582912
        ]
    );
    assert_eq!(
        whole(&params(128 << 10, 512 << 10, 1), &file),
        [
            439840, 2412763, 3806190, 4542068, 5363912, 5497898, 6051924, 6499521, 8596673, 10693825, 11068023,
            11334520, 12101144, 12351912, 12582912
        ]
    );
    assert_eq!(
        whole(&SMALL, &file[6_489_521..6_494_521]),
        [588, 899, 1194, 1471, 1733, 2031, 2461, 2723, 2989, 3127, 3425, 3692, 3957, 4410, 4486, 4766, 5000]
    );
    let cuts = whole(&params(16 << 10, 64 << 10, 2), &file);
    let bytes: Vec<u8> = cuts.iter().flat_map(|cut| cut.to_le_bytes()).collect();
    assert_eq!(
        (cuts.len(), blake3::hash(&bytes).to_string().as_str()),
        (126, "c0db430147ee10a057697f82634f4c40d0eb0e51db9c447e411430d7a522f6f9")
    );
}

#[test]
fn the_default_is_the_one_that_was_chosen() {
    assert_eq!(default_params(), params(64 << 10, 256 << 10, 1));
}
