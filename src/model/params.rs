//! Choices made at `init` and kept with the data: hash, chunker, compression, reserve.

use serde::{Deserialize, Serialize};

/// Hash of chunks, blocks and files; fixed when a repository is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashAlgo {
    /// BLAKE3, 32 bytes: what `b3sum` prints.
    Blake3,
    /// SHA-256: what `sha256sum` prints.
    Sha256,
}

impl HashAlgo {
    /// The word of the command line and of the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha256",
        }
    }

    /// The inverse of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Blake3, Self::Sha256].into_iter().find(|algo| algo.name() == name)
    }
}

/// Where chunks are cut. Two repositories with equal parameters cut alike, on every release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkerParams {
    /// No chunk is shorter, but for the last of a file, in bytes.
    pub min: u32,
    /// The length that cuts aim at, in bytes; a power of two.
    pub avg: u32,
    /// No chunk is longer, in bytes.
    pub max: u32,
    /// How many mask bits are added before and taken away after the average.
    pub normalization: u32,
}

/// How segments are compressed from now on; each segment says for itself how it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Compression {
    /// Stored as it is.
    None,
    /// zstd at this level.
    Zstd(i32),
}

impl From<Compression> for String {
    fn from(compression: Compression) -> Self {
        compression.to_text()
    }
}

impl TryFrom<String> for Compression {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::from_text(&text).ok_or_else(|| format!("{text} is no compression"))
    }
}

impl Compression {
    /// The words of the command line: `none`, `zstd:3`.
    pub fn to_text(self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Zstd(level) => format!("zstd:{level}"),
        }
    }

    /// The inverse of [`Self::to_text`]; also takes `zstd` alone. Levels from 1 to 19.
    pub fn from_text(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "none" => Some(Self::None),
            None if text == "zstd" => Some(Self::Zstd(3)),
            Some(("zstd", level)) => {
                let level = level.parse().ok().filter(|level| (1..=19).contains(level))?;
                Some(Self::Zstd(level))
            }
            _ => None,
        }
    }
}

/// Space that a volume keeps free.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reserve {
    /// Hundredths of the file system's size.
    Percent(f64),
    /// Bytes.
    Bytes(u64),
}

impl Reserve {
    /// Bytes to keep free on a file system of `total_bytes`.
    pub fn bytes_of(self, total_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a percentage between 0 and 100 of a u64 stays one; a byte more or less does not matter"
            )]
            Self::Percent(percent) => (total_bytes as f64 * percent.clamp(0.0, 100.0) / 100.0) as u64,
        }
    }

    /// The words of the command line: `10` (per cent), `20000000000B`.
    pub fn to_text(self) -> String {
        match self {
            Self::Percent(percent) => format!("{percent}"),
            Self::Bytes(bytes) => format!("{bytes}B"),
        }
    }

    /// The inverse of [`Self::to_text`]: a bare number (or `N%`) is a percentage below 100, a number with a unit
    /// (`20G`, `500MB`, `1GiB`) a size. One letter means the binary unit, as for restic and borg.
    pub fn from_text(text: &str) -> Option<Self> {
        if let Ok(percent) = text.trim_end_matches('%').parse::<f64>() {
            return (0.0..100.0).contains(&percent).then_some(Self::Percent(percent));
        }
        size_from_text(text).map(Self::Bytes)
    }
}

/// Bytes of `20G`, `500MB`, `1.5GiB`, `4096`. One letter means the binary unit.
pub fn size_from_text(text: &str) -> Option<u64> {
    let text = text.trim();
    let binary = text.strip_suffix(['K', 'M', 'G', 'T', 'P', 'k', 'm', 'g', 't', 'p']).is_some();
    let spelled = if binary { format!("{text}iB") } else { text.to_owned() };
    spelled.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_a_percentage_and_a_unit_makes_it_a_size() {
        assert_eq!(Reserve::from_text("10"), Some(Reserve::Percent(10.0)));
        assert_eq!(Reserve::from_text("2.5%"), Some(Reserve::Percent(2.5)));
        assert_eq!(Reserve::from_text("20G"), Some(Reserve::Bytes(20 << 30)));
        assert_eq!(Reserve::from_text("20GB"), Some(Reserve::Bytes(20_000_000_000)));
        assert_eq!(Reserve::from_text("7B"), Some(Reserve::Bytes(7)));
        for bad in ["100", "-1", "x", "", "NaN", "10 parsecs"] {
            assert_eq!(Reserve::from_text(bad), None, "{bad}");
        }
        for reserve in [Reserve::Percent(2.5), Reserve::Bytes(12345)] {
            assert_eq!(Reserve::from_text(&reserve.to_text()), Some(reserve));
        }
    }

    #[test]
    fn compression_words_go_there_and_back() {
        for compression in [Compression::None, Compression::Zstd(7)] {
            assert_eq!(Compression::from_text(&compression.to_text()), Some(compression));
        }
        for bad in ["zstd:0", "zstd:20", "lz4", "zstd:x", ""] {
            assert_eq!(Compression::from_text(bad), None, "{bad}");
        }
    }
}
