//! Numbers as people read them: sizes, counts, durations, times.

use bytesize::ByteSize;
use raidtape::model::ids::RunSeq;

/// `9.8 MiB`, `30 MiB`, `98 B`.
pub fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string().replace(".0 ", " ")
}

/// `78,455`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 block`, `1,200 blocks`.
pub fn plural(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(number))
}

/// `3`, or `3, 1 of them no longer selected`: what a run did not find any more.
pub fn deleted(deleted: u64, excluded: u64) -> String {
    match excluded {
        0 => count(deleted),
        _ => format!("{}, {} of them no longer selected", count(deleted), count(excluded)),
    }
}

/// `12.3 s`, `2 min 5 s`, `1 h 3 min`, `2 d 3 h`.
pub fn duration(seconds: f64) -> String {
    if seconds < 59.95 {
        return format!("{:.1} s", seconds.max(0.0));
    }
    let whole = std::time::Duration::try_from_secs_f64(seconds.round()).unwrap_or_default().as_secs();
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min {} s", whole % 60),
        (0, _) => format!("{hours} h {minutes} min"),
        _ => format!("{} d {hours} h", count(days)),
    }
}

/// `0:42`, `12:05`, `1:02:03`: time that is left.
pub fn clock(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours == 0 { format!("{minutes}:{rest:02}") } else { format!("{hours}:{minutes:02}:{rest:02}") }
}

/// `2026-09-01 12:34` in the local time zone.
pub fn minute(time_ns: i64) -> String {
    raidtape::engine::local_time::minute(time_ns)
}

/// The runs that saw a version: `3-5`, `4`, `7-` while it lives.
pub fn run_range(first: RunSeq, last: Option<RunSeq>) -> String {
    match last {
        Some(last) if last == first => first.to_string(),
        Some(last) => format!("{first}-{last}"),
        None => format!("{first}-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_digit_at_most_and_binary_units() {
        for (bytes, text) in [(0, "0 B"), (98, "98 B"), (30 << 20, "30 MiB"), (10_276_045, "9.8 MiB")] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (78_455, "78,455"), (1_000_000, "1,000,000")] {
            assert_eq!(count(number), text);
        }
        assert_eq!((plural(1, "block"), plural(0, "block")), ("1 block".to_owned(), "0 blocks".to_owned()));
    }

    #[test]
    fn durations_name_two_units_at_most() {
        for (seconds, text) in [
            (12.34, "12.3 s"),
            (59.99, "1 min 0 s"),
            (125.0, "2 min 5 s"),
            (3780.0, "1 h 3 min"),
            (183_600.0, "2 d 3 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
