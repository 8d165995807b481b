//! The code against its definition worked out by hand, against the transforms of Leopard-RS, and against frozen parities.

use std::sync::LazyLock;

use reed_solomon_simd::engine::NoSimd;
use reed_solomon_simd::rate::{HighRateDecoder, HighRateEncoder, RateDecoder, RateEncoder};

use super::*;
use crate::model::limits::PARITY_COLUMN_LEN;

/// Numbers as elements and back, by the definition and nothing else: no logarithms, no transform, nothing of the crate.
mod by_the_book {
    use super::LazyLock;

    const BASIS: [u16; 16] = [
        0x0001, 0xacca, 0x3c0e, 0x163e, 0xc582, 0xed2e, 0x914c, 0x4012, 0x6c98, 0x10d8, 0x6a72, 0xb900, 0xfdb8, 0xfb34,
        0xff38, 0x991e,
    ];

    fn element(number: u16) -> u16 {
        (0..16).filter(|bit| number >> bit & 1 == 1).fold(0, |sum, bit| sum ^ BASIS[bit])
    }

    /// The number of every element.
    static NUMBERS: LazyLock<Vec<u16>> = LazyLock::new(|| {
        let mut numbers = vec![0; 1 << 16];
        (0..=u16::MAX).for_each(|number| numbers[usize::from(element(number))] = number);
        numbers
    });

    pub fn multiply(one: u16, other: u16) -> u16 {
        let (mut one, other) = (u32::from(element(one)), element(other));
        let mut product = 0;
        for bit in 0..16 {
            if other >> bit & 1 == 1 {
                product ^= one;
            }
            one <<= 1;
            if one >> 16 == 1 {
                one ^= 0x1_002d;
            }
        }
        NUMBERS[product as usize]
    }

    fn invert(number: u16) -> u16 {
        // The power 2^16 - 2.
        (0..15)
            .fold((1, number), |(product, power), _| {
                let power = multiply(power, power);
                (multiply(product, power), power)
            })
            .0
    }

    pub fn factor(parities: usize, index: usize, position: usize) -> u16 {
        let first = parities.next_power_of_two();
        let others = (0..first).filter(|point| *point != index);
        others.fold(1, |product, point| multiply(product, u16::try_from((first + position) ^ point).unwrap()))
    }

    /// What Leopard-RS computes with transforms: the polynomial of degree less than C that has the value 1 at the point
    /// of this position, and 0 at the others of its coset of C points, evaluated at the point of the parity.
    pub fn interpolated(parities: usize, index: usize, position: usize) -> u16 {
        let first = parities.next_power_of_two();
        let point = first + position;
        let coset = (0..first).map(|low| (point & !(first - 1)) | low).filter(|other| *other != point);
        coset.fold(1, |value, other| {
            let [above, below] = [index ^ other, point ^ other].map(|sum| u16::try_from(sum).unwrap());
            multiply(value, multiply(above, invert(below)))
        })
    }

    pub fn encode(data: &[&[u8]], parities: usize, len: usize) -> Vec<Vec<u8>> {
        let mut out = vec![vec![0; len.next_multiple_of(64)]; parities];
        for (index, out) in out.iter_mut().enumerate() {
            for (position, part) in data.iter().enumerate() {
                let factor = factor(parities, index, position);
                let byte = |at: usize| part.get(at).copied().unwrap_or(0);
                for low in (0..out.len()).filter(|at| at % 64 < 32) {
                    let product = multiply(factor, u16::from_le_bytes([byte(low), byte(low + 32)])).to_le_bytes();
                    out[low] ^= product[0];
                    out[low + 32] ^= product[1];
                }
            }
        }
        out
    }
}

/// Whole blocks, as the crate's shards are.
fn shard(part: &[u8], len: usize) -> Vec<u8> {
    let mut shard = part.to_vec();
    shard.resize(parity_len(len), 0);
    shard
}

/// The parities by the crate's transforms, on any processor.
fn encoded_by_transforms(data: &[Vec<u8>], parities: usize, len: usize) -> Vec<Vec<u8>> {
    let mut encoder = HighRateEncoder::new(data.len(), parities, parity_len(len), NoSimd::new(), None).unwrap();
    data.iter().for_each(|part| encoder.add_original_shard(shard(part, len)).unwrap());
    encoder.encode().unwrap().recovery_iter().map(<[u8]>::to_vec).collect()
}

/// What is lost, by position, by the crate's transforms.
fn decoded_by_transforms(damaged: &Damaged<'_>) -> Vec<(usize, Vec<u8>)> {
    let (positions, parities, len) = (damaged.data.len(), damaged.parity.len(), parity_len(damaged.len));
    let mut decoder = HighRateDecoder::new(positions, parities, len, NoSimd::new(), None).unwrap();
    for (position, part) in damaged.data.iter().enumerate().filter_map(|(at, part)| Some((at, (*part)?))) {
        decoder.add_original_shard(position, shard(part, len)).unwrap();
    }
    for (index, part) in damaged.parity.iter().enumerate().filter_map(|(at, part)| Some((at, (*part)?))) {
        decoder.add_recovery_shard(index, part).unwrap();
    }
    let found = decoder.decode().unwrap();
    found.restored_original_iter().map(|(position, bytes)| (position, bytes[..damaged.len].to_vec())).collect()
}

fn noise(seed: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Members of which the longest has `len` bytes, some are shorter and some have none.
fn members(positions: usize, len: usize) -> Vec<Vec<u8>> {
    let len_of = |position: usize| match position % 4 {
        _ if position == positions / 2 => len,
        0 => len - len / 3,
        1 => len,
        2 => 0,
        _ => len / 2 + 1,
    };
    (0..positions).map(|position| noise(&format!("{position} of {positions}"), len_of(position).min(len))).collect()
}

fn slices(data: &[Vec<u8>]) -> Vec<&[u8]> {
    data.iter().map(Vec::as_slice).collect()
}

fn encoded(code: &ParityCode, data: &[Vec<u8>], len: usize) -> Vec<Vec<u8>> {
    let mut parity = vec![Vec::new(); code.parities()];
    code.encode(&slices(data), len, &mut parity).unwrap();
    parity
}

/// Loses the parts whose bits are set, positions first, and wants them back, or to be told that it is too much.
fn lose(code: &ParityCode, (data, parity): (&[Vec<u8>], &[Vec<u8>]), len: usize, lost: u64) {
    let kept = |from: usize, part: usize| lost >> (from + part) & 1 == 0;
    let (k, m) = (code.positions(), code.parities());
    let there: Vec<_> = data.iter().enumerate().map(|(at, part)| kept(0, at).then_some(&part[..])).collect();
    let checks: Vec<_> = parity.iter().enumerate().map(|(at, part)| kept(k, at).then_some(&part[..])).collect();
    let damaged = Damaged { len, data: &there, parity: &checks };
    let (mut found, mut found_parity) = (vec![vec![7]; k], vec![vec![7]; m]);
    let result = code.reconstruct(&damaged, &mut found, &mut found_parity);
    if lost.count_ones() as usize > m {
        let lost_data = there.iter().filter(|part| part.is_none()).count();
        let parities = checks.iter().flatten().count();
        assert_eq!(result, Err(ParityError::TooFew { lost: lost_data, parities }));
        return;
    }
    assert_eq!(result, Ok(()));
    if len < PARITY_COLUMN_LEN {
        let by_transforms = decoded_by_transforms(&damaged);
        assert!(by_transforms.iter().all(|(at, bytes)| found[*at] == *bytes), "{k}+{m}, {len} bytes, lost {lost:b}");
    }
    for (at, part) in data.iter().enumerate() {
        let mut expected = if kept(0, at) { Vec::new() } else { part.clone() };
        expected.resize(if kept(0, at) { 0 } else { len }, 0);
        assert!(found[at] == expected, "{k}+{m}, {len} bytes, lost {lost:b}: position {at}");
    }
    for (at, part) in parity.iter().enumerate() {
        let expected = if kept(k, at) { &[][..] } else { part };
        assert!(found_parity[at] == expected, "{k}+{m}, {len} bytes, lost {lost:b}: parity {at}");
    }
}

#[test]
fn the_definition_is_the_interpolation_that_leopard_computes() {
    for parities in 1..=PARITY_COUNT_MAX {
        for (index, position) in (0..parities).flat_map(|index| (0..PARITY_POSITIONS_MAX).map(move |at| (index, at))) {
            let expected = by_the_book::interpolated(parities, index, position);
            assert_eq!(by_the_book::factor(parities, index, position), expected, "{parities} {index} {position}");
        }
    }
}

#[test]
fn every_code_is_what_its_definition_says() {
    for positions in 1..=PARITY_POSITIONS_MAX {
        for parities in 1..=PARITY_COUNT_MAX {
            let code = ParityCode::new(positions, parities).unwrap();
            let data = members(positions, 64);
            let expected = by_the_book::encode(&slices(&data), parities, 64);
            assert!(encoded(&code, &data, 64) == expected, "{positions}+{parities}");
            assert!(encoded_by_transforms(&data, parities, 64) == expected, "{positions}+{parities}");
        }
    }
}

#[test]
fn columns_of_every_length_are_what_the_definition_says() {
    let code = ParityCode::new(5, 3).unwrap();
    for len in [130, 1, 2, 3, 31, 32, 33, 63, 65, 127, 128, 129, 1000] {
        let data = members(5, len);
        let parity = encoded(&code, &data, len);
        assert!(parity == by_the_book::encode(&slices(&data), 3, len), "{len}");
        assert!(parity.iter().all(|part| part.len() == parity_len(len)));
    }
}

#[test]
fn every_loss_of_as_many_parts_as_there_are_parities_is_made_good_and_no_other() {
    for (positions, parities) in [(1, 1), (2, 1), (1, 2), (3, 2), (4, 2), (2, 3), (6, 3)] {
        let code = ParityCode::new(positions, parities).unwrap();
        for len in [1, 2, 63, 64, 65, 201] {
            let data = members(positions, len);
            let parity = encoded(&code, &data, len);
            for lost in 0..1 << (positions + parities) {
                lose(&code, (&data, &parity), len, lost);
            }
        }
    }
}

#[test]
fn a_column_as_long_as_columns_are_comes_back_and_a_member_goes_in_and_out() {
    let code = ParityCode::new(4, 2).unwrap();
    let data = members(4, PARITY_COLUMN_LEN);
    let parity = encoded(&code, &data, PARITY_COLUMN_LEN);
    for lost in [0b00_0001, 0b00_1010, 0b01_0100, 0b11_0000] {
        lose(&code, (&data, &parity), PARITY_COLUMN_LEN, lost);
    }
    let mut changed = parity.clone();
    code.toggle(1, &data[1], &mut changed).unwrap();
    let mut without = data.clone();
    without[1].clear();
    assert!(changed == encoded(&code, &without, PARITY_COLUMN_LEN));
    code.toggle(1, &data[1], &mut changed).unwrap();
    assert!(changed == parity);
}

#[test]
fn members_one_by_one_give_the_parities_of_all_in_every_code() {
    for positions in 1..=PARITY_POSITIONS_MAX {
        for parities in 1..=PARITY_COUNT_MAX {
            let code = ParityCode::new(positions, parities).unwrap();
            let data = members(positions, 90);
            let mut parity = vec![Vec::new(); parities];
            for (position, part) in data.iter().enumerate() {
                code.toggle(position, part, &mut parity).unwrap();
            }
            assert!(parity == encoded(&code, &data, 90), "{positions}+{parities}");
        }
    }
}

#[test]
fn one_parity_is_the_xor_and_of_one_member_a_copy() {
    let data = members(3, 100);
    let parity = encoded(&ParityCode::new(3, 1).unwrap(), &data, 100);
    let byte = |at: usize| data.iter().filter_map(|part| part.get(at)).fold(0, |sum, byte| sum ^ byte);
    assert_eq!(parity[0], (0..128).map(byte).collect::<Vec<_>>());
    let one = [noise("one", 64), Vec::new(), Vec::new()];
    assert_eq!(encoded(&ParityCode::new(3, 1).unwrap(), &one, 64), [noise("one", 64)]);
}

/// Frozen: a change of any of these is another code, which needs another number.
#[test]
fn parities_are_those_that_were_ever_written() {
    let data = [noise("a", 64), noise("b", 40), noise("c", 1)];
    let parity = encoded(&ParityCode::new(3, 2).unwrap(), &data, 64);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let expected = [
        "d64f98715505e305aae2ae858a49a071a0666eb2bfa3611b730c66973a94608d\
         db8d414a58e5d69742d4d1af53555c70887be12160a76eb3439454132982bac7",
        "3bdc7891b0e608c90cd70338a864e69b21e4f7033056e277420ef2fbd1749481\
         29fd0a2b02e522a7f2a7ab75cdc3c6d661d28e1aea73e240f154c03e1c664599",
    ];
    assert_eq!([hex(&parity[0]), hex(&parity[1])], expected);
    let hashes =
        [(1, 1), (1, 8), (2, 1), (3, 2), (4, 2), (5, 5), (6, 3), (10, 4), (32, 8)].map(|(positions, parities)| {
            let data: Vec<_> = (0..positions).map(|position| noise(&position.to_string(), 5000 - position)).collect();
            let parity = encoded(&ParityCode::new(positions, parities).unwrap(), &data, 5000);
            format!("{positions}+{parities} {}", hex(&column_hash(&parity.concat())))
        });
    let expected = [
        "1+1 97aa37b5a1e49b087b6a7fce538cd467",
        "1+8 650393ccc924881dbb982b05ddca4cc5",
        "2+1 6ecba143d47196d3537d0e0ee5207298",
        "3+2 4f10097d08f1f74b9072b4e6f3a85c49",
        "4+2 40aa3a3891745db2055cdbd8daf2ecb1",
        "5+5 27e53531494f976a5950323b09de716d",
        "6+3 b566e0d6c2e6d785d3485ff5b2f9dee8",
        "10+4 835cb6e4619d428eb8f3488698c237ed",
        "32+8 85808f757e4e9fc1f15097894bce71f9",
    ];
    assert_eq!(hashes, expected);
    assert_eq!(hex(&column_hash(b"")), "af1349b9f5f9a1a6a0404dea36dcc949");
    assert_eq!(ALGORITHM, 1);
}

#[test]
fn what_fits_no_group_is_an_error() {
    for (positions, parities) in [(0, 1), (33, 1), (1, 0), (1, 9), (usize::MAX, usize::MAX)] {
        assert_eq!(ParityCode::new(positions, parities).err(), Some(ParityError::Counts { positions, parities }));
    }
    let code = ParityCode::new(2, 1).unwrap();
    let parts = |found, expected| Err(ParityError::Parts { found, expected });
    let length = |len| Err(ParityError::Length { len });
    let (long, mut out) = (vec![0; SEGMENT_RAW_MAX + 1], vec![Vec::new()]);
    assert_eq!(code.encode(&[b"a"], 1, &mut out), parts(1, 2));
    assert_eq!(code.encode(&[b"a", b"b"], 1, &mut []), parts(0, 1));
    assert_eq!(code.encode(&[b"a", b"bc"], 1, &mut out), length(2));
    assert_eq!(code.encode(&[b"", b""], 0, &mut out), length(0));
    assert_eq!(code.encode(&[&long, b""], long.len(), &mut out), length(long.len()));
    assert_eq!(code.toggle(2, b"a", &mut out), parts(3, 2));
    assert_eq!(code.toggle(0, b"a", &mut []), parts(0, 1));
    assert_eq!(code.toggle(0, &long, &mut out), length(long.len()));
    assert_eq!(code.toggle(0, b"a", &mut [vec![0; 63]]), length(63));
    let mut data = vec![Vec::new(); 2];
    let sum = [&[b'a' ^ b'b'][..], &[0; 63]].concat();
    let sound = Damaged { len: 1, data: &[Some(b"a"), None], parity: &[Some(&sum)] };
    assert_eq!(code.reconstruct(&Damaged { parity: &[Some(b"p")], ..sound }, &mut data, &mut []), length(1));
    assert_eq!(code.reconstruct(&Damaged { parity: &[], ..sound }, &mut data, &mut []), parts(0, 1));
    assert_eq!(code.reconstruct(&Damaged { data: &[], ..sound }, &mut data, &mut []), parts(0, 2));
    assert_eq!(code.reconstruct(&Damaged { len: 0, ..sound }, &mut data, &mut []), length(0));
    assert_eq!(code.reconstruct(&Damaged { data: &[Some(b"ab"), None], ..sound }, &mut data, &mut []), length(2));
    assert_eq!(code.reconstruct(&sound, &mut [], &mut []), parts(0, 2));
    assert_eq!(code.reconstruct(&sound, &mut data, &mut [Vec::new(), Vec::new()]), parts(2, 1));
    code.encode(&[b"a", b"b"], 1, &mut out).unwrap();
    assert_eq!(out[0], sum);
    code.reconstruct(&sound, &mut data, &mut []).unwrap();
    assert_eq!(data, [b"".to_vec(), b"b".to_vec()]);
}

#[test]
fn threads_can_share_a_code() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<ParityCode>();
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, cases: 64, ..Default::default() })]

    #[test]
    fn any_loss_in_any_code_is_made_good(
        positions in 1..=PARITY_POSITIONS_MAX, parities in 1..=PARITY_COUNT_MAX, len in 1_usize..300,
        order in proptest::prelude::any::<[u16; 40]>(),
    ) {
        let code = ParityCode::new(positions, parities).unwrap();
        let data = members(positions, len);
        let parity = encoded(&code, &data, len);
        let mut parts: Vec<_> = (0..positions + parities).collect();
        parts.sort_by_key(|part| order[*part]);
        for count in [1, parities, parities + 1] {
            let lost = parts.iter().take(count).fold(0, |lost, part| lost | 1_u64 << part);
            lose(&code, (&data, &parity), len, lost);
        }
    }

    #[test]
    fn the_sum_of_two_groups_has_the_sum_of_their_parities(
        positions in 1..=PARITY_POSITIONS_MAX, parities in 1..=PARITY_COUNT_MAX, len in 1_usize..300,
    ) {
        let code = ParityCode::new(positions, parities).unwrap();
        let xor = |one: &[Vec<u8>], other: &[Vec<u8>]| -> Vec<Vec<u8>> {
            let sum = |(one, other): (&Vec<u8>, &Vec<u8>)| one.iter().zip(other).map(|(one, other)| one ^ other).collect();
            one.iter().zip(other).map(sum).collect()
        };
        let [one, other] = ["one", "other"].map(|seed| {
            (0..positions).map(|position| noise(&format!("{seed} {position}"), len)).collect::<Vec<_>>()
        });
        let sum = encoded(&code, &xor(&one, &other), len);
        let [one, other] = [one, other].map(|data| encoded(&code, &data, len));
        assert!(sum == xor(&one, &other));
    }
}
