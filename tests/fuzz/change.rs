//! Changes of real inputs: flips, extremes, cuts, repetitions, pieces of one in another.

/// Makes inputs, the same for the same seed.
pub struct Changer<'i> {
    state: u64,
    inputs: &'i [Vec<u8>],
}

/// Values at which lengths, counts and offsets break.
const EXTREMES: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 31,
    u64::MAX,
];

impl<'i> Changer<'i> {
    pub fn new(seed: u64, inputs: &'i [Vec<u8>]) -> Self {
        Self { state: seed, inputs }
    }

    fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit.max(1) as u64) as usize
    }

    fn any(&mut self) -> &'i [u8] {
        let at = self.below(self.inputs.len());
        &self.inputs[at]
    }

    /// The next input.
    pub fn next(&mut self) -> Vec<u8> {
        if self.below(50) == 0 {
            let len = self.below(400);
            return (0..len).map(|_| self.number() as u8).collect();
        }
        let mut bytes = self.any().to_vec();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        match self.below(10) {
            0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            2 if !bytes.is_empty() => bytes[at] = self.number() as u8,
            3 | 4 => {
                let width = [1, 2, 4, 8][self.below(4)];
                let value = EXTREMES[self.below(EXTREMES.len())].to_le_bytes();
                for (byte, new) in bytes.iter_mut().skip(at).zip(&value[..width]) {
                    *byte = *new;
                }
            }
            5 => {
                // A length or count as it is written with 7 bits a byte.
                let mut varint = Vec::new();
                raidtape::format::bytes::put_varint(&mut varint, EXTREMES[self.below(EXTREMES.len())]);
                let end = (at + self.below(3)).min(bytes.len());
                bytes.splice(at..end, varint);
            }
            6 => bytes.truncate(at),
            7 => {
                let end = (at + self.below(64)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = self.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            8 => {
                let digits = EXTREMES[self.below(EXTREMES.len())].to_string();
                let is_digit = |at: &usize| bytes.get(*at).is_some_and(u8::is_ascii_digit);
                let from = (at..bytes.len()).find(is_digit).unwrap_or(at);
                let end = (from..bytes.len()).find(|at| !is_digit(at)).unwrap_or(bytes.len());
                bytes.splice(from..end, digits.into_bytes());
            }
            _ => {
                let other = self.any();
                let from = self.below(other.len());
                let piece = other[from..(from + 1 + self.below(200)).min(other.len())].to_vec();
                let end = (at + piece.len()).min(bytes.len());
                bytes.splice(at..end, piece);
            }
        }
        bytes.truncate(1 << 20);
    }
}
