//! The beginning of an identity, as a person copies it.

use std::str::FromStr;

/// Digits that a prefix has at least.
const DIGITS_MIN: usize = 8;

/// All identities of 32 bytes that begin with the same hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HexPrefix {
    /// The first of them.
    pub low: [u8; 32],
    /// The last of them.
    pub high: [u8; 32],
    digits: usize,
}

impl FromStr for HexPrefix {
    type Err = String;

    /// 8 to 64 hex digits.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || "an identity is given by its first 8 hex digits or more, 64 at most".to_owned();
        if !(DIGITS_MIN..=64).contains(&text.len()) {
            return Err(bad());
        }
        let (mut low, mut high) = ([0; 32], [0xff; 32]);
        for (index, digit) in text.chars().enumerate() {
            let value = digit.to_digit(16).and_then(|value| u8::try_from(value).ok()).ok_or_else(bad)?;
            let (shift, others) = if index % 2 == 0 { (4, 0x0f) } else { (0, 0xf0) };
            low[index / 2] |= value << shift;
            high[index / 2] = high[index / 2] & others | value << shift;
        }
        Ok(Self { low, high, digits: text.len() })
    }
}

impl std::fmt::Display for HexPrefix {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whole: String = self.low.iter().map(|byte| format!("{byte:02x}")).collect();
        to.write_str(&whole[..self.digits])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_range_of_what_begins_with_it() {
        let prefix: HexPrefix = "0123ABcde".parse().unwrap();
        assert_eq!(prefix.low[..6], [0x01, 0x23, 0xab, 0xcd, 0xe0, 0]);
        assert_eq!(prefix.high[..6], [0x01, 0x23, 0xab, 0xcd, 0xef, 0xff]);
        assert_eq!(prefix.to_string(), "0123abcde");
        let whole: HexPrefix = "5a".repeat(32).parse().unwrap();
        assert_eq!((whole.low, whole.high), ([0x5a; 32], [0x5a; 32]));
        for bad in ["", "0123456", "0123456g", "+1234567", "ééééééé", &"0".repeat(65)] {
            assert!(bad.parse::<HexPrefix>().is_err(), "{bad}");
        }
    }
}
