//! SIGINT and SIGTERM: the first asks the verb to stop at the next safe place, the second ends the process at once.
//! SIGXFSZ: does nothing, so that a file longer than `ulimit -f` allows is an error that can be told.

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

static CAUGHT: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// Takes over both signals for the rest of the process.
pub fn install() -> std::io::Result<()> {
    let armed = Arc::new(AtomicBool::new(false));
    for (signal, value, code) in [(SIGINT, 2, 130), (SIGTERM, 15, 143)] {
        // The order matters: the first signal must find the flag down, and then raise it.
        flag::register_conditional_shutdown(signal, code, Arc::clone(&armed))?;
        flag::register(signal, Arc::clone(&armed))?;
        flag::register_usize(signal, Arc::clone(&CAUGHT), value)?;
    }
    Ok(())
}

/// A write beyond the process's limit then fails with EFBIG rather than ending the process without a word.
pub fn survive_file_limit() -> std::io::Result<()> {
    flag::register(SIGXFSZ, Arc::default()).map(drop)
}

/// Whether one came.
pub fn is_caught() -> bool {
    CAUGHT.load(Ordering::Relaxed) != 0
}

/// The exit code of a command that was stopped.
pub fn exit_code() -> u8 {
    if CAUGHT.load(Ordering::Relaxed) == 15 { 143 } else { 130 }
}
