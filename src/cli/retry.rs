//! `--retry-lock`: waiting for a catalog or a volume that another process has.
//!
//! The whole command is tried again: a lock that is not to be had ends every command before it has read anything that
//! cannot be read again (standard input) and before it has saved anything, so a second try is the first one.

use super::output::{json_line, one_line, stderr_line};
use super::session::Session;
use super::{signals, words};
use raidtape::engine::{EngineError, Exit};
use std::time::{Duration, Instant};

/// Between two tries.
const EVERY: Duration = Duration::from_secs(1);
/// Between two looks for a signal.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Tries between two lines on stderr.
const TRIES_PER_LINE: u32 = 60;

/// Tries until nobody else has the lock, or the time is over; then the last answer counts.
pub fn until_unlocked<T>(
    session: &mut Session,
    attempt: impl Fn(&mut Session) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let began = Instant::now();
    for tries in 0.. {
        let answer = attempt(session);
        let (Err(error), Some(patience)) = (&answer, session.global.retry_lock) else { return answer };
        let left = patience.saturating_sub(began.elapsed());
        let is_locked = error.downcast_ref::<EngineError>().is_some_and(|error| error.exit() == Exit::Locked);
        if !is_locked || left.is_zero() {
            return answer;
        }
        if tries == 0 {
            signals::install()?;
        }
        if tries % TRIES_PER_LINE == 0 {
            say(session, &error.to_string(), left);
        }
        pause(EVERY.min(left))?;
    }
    Err(EngineError::Fault("waiting for a lock never ended".to_owned()).into())
}

fn pause(time: Duration) -> Result<(), EngineError> {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        if signals::is_caught() {
            return Err(EngineError::Interrupted);
        }
        std::thread::sleep(LOOK_EVERY.min(left));
    }
    Ok(())
}

fn say(session: &Session, why: &str, left: Duration) {
    #[derive(serde::Serialize)]
    struct Waiting<'a> {
        waiting: &'a str,
        seconds_left: u128,
    }
    if session.global.quiet {
        return;
    }
    // Rounded up: while it waits, there is time left.
    match json_line("waiting", &Waiting { waiting: why, seconds_left: left.as_millis().div_ceil(1000) }) {
        Ok(line) if session.global.json => stderr_line(&line),
        _ => {
            let time = words::duration(left.as_secs_f64());
            // What the sentence advises is being done.
            let why = why.strip_suffix("; wait until that one is done").unwrap_or(why);
            stderr_line(&format!("raidtape: note: {}; waiting up to {time} for it", one_line(why)));
        }
    }
}
