//! Points in time as a person writes them: a day, a minute or a second, with no zone. Who knows the zone makes
//! nanoseconds of them.

use jiff::civil::{Date, DateTime, Time};
use jiff::{Span, ToSpan};

/// What was written, from its first instant to its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The first instant.
    pub from: DateTime,
    /// The first instant behind it.
    pub until: DateTime,
}

impl Moment {
    /// `2026-09-01`, `2026-09-01 12:30` or `2026-09-01 12:30:05`; a `T` may stand in place of the blank. `None` for
    /// anything else.
    pub fn from_text(text: &str) -> Option<Self> {
        let (day, time) = match text.split_once([' ', 'T']) {
            Some((day, time)) => (day, Some(time)),
            None => (text, None),
        };
        let day = Date::strptime("%Y-%m-%d", day).ok().filter(|day| day.year() >= 1000)?;
        let (time, len): (Time, Span) = match time {
            None => (Time::midnight(), 1.day()),
            Some(time) => match Time::strptime("%H:%M", time) {
                Ok(minute) => (minute, 1.minute()),
                Err(_) => (Time::strptime("%H:%M:%S", time).ok()?, 1.second()),
            },
        };
        let from = day.to_datetime(time);
        Some(Self { from, until: from.checked_add(len).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn a_moment_is_as_long_as_it_was_written() {
        let midnight = |day: i8| date(2026, 9, day).at(0, 0, 0, 0);
        let day = Moment::from_text("2026-09-01").unwrap();
        assert_eq!((day.from, day.until), (midnight(1), midnight(2)));
        let minute = Moment::from_text("2026-09-01 23:59").unwrap();
        assert_eq!((minute.from, minute.until), (date(2026, 9, 1).at(23, 59, 0, 0), midnight(2)));
        let second = Moment::from_text("2026-09-01T12:30:05").unwrap();
        assert_eq!(second.until, date(2026, 9, 1).at(12, 30, 6, 0));
        for bad in ["", "2026", "2026-13-01", "2026-02-30", "2026-09-01 25:00", "2026-09-01 ", "9999-12-31", "-1-1-1"] {
            assert_eq!(Moment::from_text(bad), None, "{bad}");
        }
    }
}
