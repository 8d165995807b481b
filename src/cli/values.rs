//! The values of options: texts in, checked values or a sentence out.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use raidtape::engine::find::SizeTest;
use raidtape::engine::ls::LsSort;
use raidtape::engine::restore::Overwrite;
use raidtape::model::entry::EntryKind;
use raidtape::model::moment::Moment;
use raidtape::model::params::{Compression, HashAlgo, Reserve, size_from_text};
use raidtape::model::redundancy::Redundancy;
use std::num::NonZeroUsize;
use std::time::Duration;

/// `10` (per cent) or `20G`.
pub fn reserve(text: &str) -> Result<Reserve, String> {
    Reserve::from_text(text).ok_or_else(|| {
        "a reserve is a percentage of the volume from 0 to 99 (`10`), or a size with its unit (`20G`)".to_owned()
    })
}

/// `512M`, `1GiB`, `4096`.
pub fn size(text: &str) -> Result<u64, String> {
    let found = size_from_text(text).filter(|bytes| *bytes > 0);
    found.ok_or_else(|| "a size is a number with a unit, like `512M`, `2G` or `1.5GiB`".to_owned())
}

/// A host's name: what stands before the colon in `host:name`.
pub fn host(text: &str) -> Result<String, String> {
    let is_one =
        !text.is_empty() && text.len() <= 255 && !text.contains([':', '/']) && !text.contains(char::is_control);
    if is_one { Ok(text.to_owned()) } else { Err("a host is a name without `:` and `/`".to_owned()) }
}

/// `2026-09-01` or `2026-09-01 12:30`.
pub fn moment(text: &str) -> Result<Moment, String> {
    Moment::from_text(text).ok_or_else(|| "a date is like `2026-09-01` or `2026-09-01 12:30`".to_owned())
}

/// `zstd:3` or `none`.
pub fn compression(text: &str) -> Result<Compression, String> {
    Compression::from_text(text).ok_or_else(|| "choose `zstd:1` to `zstd:19`, or `none`".to_owned())
}

/// `none`, `copies=2` or `parity=4+2`.
pub fn redundancy(text: &str) -> Result<Redundancy, String> {
    Redundancy::from_text(text).ok_or_else(|| {
        if text.starts_with("parity=1+") {
            return "parity of one block is a copy: choose `copies=2`, or `parity=2+1`".to_owned();
        }
        "choose `none`, `copies=2` to `copies=16`, or `parity=K+M` with K from 2 to 32 and M from 1 to 8, as `parity=4+2`"
            .to_owned()
    })
}

/// `blake3` or `sha256`.
pub fn hash_algo(text: &str) -> Result<HashAlgo, String> {
    HashAlgo::from_name(text).ok_or_else(|| "choose `blake3` or `sha256`".to_owned())
}

/// `always`, `if-changed`, `if-newer` or `never`.
pub fn overwrite(text: &str) -> Result<Overwrite, String> {
    let found = Overwrite::ALL.into_iter().find(|mode| mode.word() == text);
    found.ok_or_else(|| "choose `always`, `if-changed`, `if-newer` or `never`".to_owned())
}

/// `name`, `size` or `time`; a shell completes them.
pub fn ls_sort() -> impl TypedValueParser<Value = LsSort> {
    PossibleValuesParser::new(LsSort::ALL.map(LsSort::word))
        .map(|word| LsSort::ALL.into_iter().find(|order| order.word() == word).unwrap_or(LsSort::ALL[0]))
}

/// `+1G`, `-10k`, `4096`.
pub fn size_test(text: &str) -> Result<SizeTest, String> {
    let sentence = || "a size is like `+1G` (larger), `-10k` (smaller) or `4096`".to_owned();
    let bytes = |text: &str| size_from_text(text).ok_or_else(sentence);
    match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(rest), _) => bytes(rest).map(SizeTest::Above),
        (None, Some(rest)) => bytes(rest).map(SizeTest::Below),
        (None, None) => bytes(text).map(SizeTest::Exactly),
    }
}

/// `f`, `d` or `l`.
pub fn kind(text: &str) -> Result<EntryKind, String> {
    match text {
        "f" => Ok(EntryKind::File),
        "d" => Ok(EntryKind::Dir),
        "l" => Ok(EntryKind::Symlink),
        _ => Err("choose `f` (files), `d` (directories) or `l` (symlinks)".to_owned()),
    }
}

/// Threads: 1 to 1024.
pub fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let found = text.parse::<NonZeroUsize>().ok().filter(|number| number.get() <= 1024);
    found.ok_or_else(|| "a number of threads is from 1 to 1024".to_owned())
}

/// `90m`, `36h`, `30d`, `2w`; a bare number counts days.
pub fn age(text: &str) -> Result<Duration, String> {
    let days = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| format!("{text}d"));
    let found = seconds(days.as_deref().unwrap_or(text));
    found.ok_or_else(|| "an age is a number with a unit, like `36h`, `30d` or `2w`".to_owned())
}

/// `90s`, `20m`, `36h`, `2d`; a bare number says nothing.
pub fn duration(text: &str) -> Result<Duration, String> {
    seconds(text).ok_or_else(|| "a duration is a number with a unit, like `90s`, `20m` or `36h`".to_owned())
}

/// A priority: -20 to 19.
pub fn nice(text: &str) -> Result<i32, String> {
    let found = text.parse::<i32>().ok().filter(|nice| (-20..=19).contains(nice));
    found.ok_or_else(|| "a priority is a number from -20 (first) to 19 (last)".to_owned())
}

/// A number and its unit.
fn seconds(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let unit_s = match &text[digits.len()..] {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        "y" => 365 * 86_400,
        _ => return None,
    };
    let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_s));
    // A thousand years: beyond it nothing is older, and times overflow.
    let seconds = seconds.filter(|seconds| *seconds <= 365 * 86_400 * 1000);
    seconds.map(Duration::from_secs)
}

/// `10%` as 10.0; above 0, up to 100.
pub fn percentage(text: &str) -> Result<f64, String> {
    let found = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    let found = found.filter(|percent| *percent > 0.0 && *percent <= 100.0);
    found.ok_or_else(|| "a sample is a percentage above 0%, up to 100%".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_units_and_nothing_else_is_taken() {
        assert_eq!(age("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(age("36h"), Ok(Duration::from_secs(36 * 3600)));
        for bad in ["", "d", "-1d", "3 fortnights", "99999999999999999999d", "400000y", "1.5d"] {
            assert!(age(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_have_units_too_and_a_bare_number_is_none() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("20m"), Ok(Duration::from_secs(1200)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(age("30"), age("30d"));
        for bad in ["", "20", "m", "-1m", "1h30m", "20 m", "1.5h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn samples_threads_and_sizes_are_checked() {
        assert_eq!(percentage("10%"), Ok(10.0));
        assert!(percentage("0").is_err() && percentage("101%").is_err() && percentage("NaN").is_err());
        assert!(threads("0").is_err() && threads("4").is_ok() && threads("9999").is_err());
        assert!(size("0").is_err() && size("x").is_err() && size("2G") == Ok(2 << 30));
    }
}
