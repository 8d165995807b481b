//! Between points in time as people write them, in this system's time zone, and nanoseconds since 1970.

use crate::model::moment::Moment;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Where a moment begins, and where it has ended, in nanoseconds since 1970; those that no `i64` holds are its ends.
pub fn range_ns(moment: &Moment) -> (i64, i64) {
    (instant_ns(moment.from), instant_ns(moment.until))
}

fn instant_ns(at: DateTime) -> i64 {
    // Beside the ends of what jiff knows, a zone has an instant for every time, also for one that a change of clocks
    // leaves out.
    let zone = TimeZone::system();
    let instant = zone.to_ambiguous_timestamp(at).compatible().map(jiff::Timestamp::as_nanosecond);
    instant.map_or(i64::MAX, |ns| i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX }))
}

/// `2026-09-01 12:34` in the local time zone.
pub fn minute(time_ns: i64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(time_ns)) {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string(),
        Err(_) => "?".to_owned(),
    }
}
