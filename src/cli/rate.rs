//! How fast it goes: over the last seconds, so that an estimate follows what is happening now.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What the rate is taken over.
const WINDOW: Duration = Duration::from_secs(15);
/// Two notes are at least so far apart: bounds the window's length.
const NOTE_EVERY: Duration = Duration::from_millis(500);

/// Notes of a growing number.
#[derive(Debug)]
pub struct Rate {
    notes: VecDeque<(Instant, u64)>,
    now: (Instant, u64),
}

impl Rate {
    /// At zero, now.
    pub fn new(now: Instant) -> Self {
        Self { notes: VecDeque::from([(now, 0)]), now: (now, 0) }
    }

    /// The number as it is now.
    pub fn note(&mut self, now: Instant, number: u64) {
        self.now = (now, number);
        if self.notes.back().is_none_or(|(last, _)| now - *last >= NOTE_EVERY) {
            self.notes.push_back(self.now);
        }
        while self.notes.len() > 2 && now - self.notes[0].0 > WINDOW {
            self.notes.pop_front();
        }
    }

    /// Growth a second.
    pub fn per_second(&self) -> u64 {
        let Some((since, from)) = self.notes.front() else { return 0 };
        let milliseconds = (self.now.0 - *since).as_millis().max(1);
        let grown = u128::from(self.now.1.saturating_sub(*from));
        u64::try_from(grown * 1000 / milliseconds).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_the_last_seconds() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        for second in 1..=60 {
            rate.note(start + Duration::from_secs(second), second * 100);
        }
        assert_eq!(rate.per_second(), 100);
        for second in 61..=80 {
            rate.note(start + Duration::from_secs(second), 6000);
        }
        assert_eq!(rate.per_second(), 0);
    }
}
