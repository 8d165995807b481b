//! Which standard descriptors this process was started without.
//!
//! Rust's runtime opens `/dev/null` in the place of a closed one before `main`: a file that is dumped would vanish without
//! an error, and a stream that is backed up be empty. So they are looked at by a function that the loader calls before
//! that. A descriptor that somebody opened on `/dev/null` is none of these.

use std::sync::atomic::{AtomicBool, Ordering};

static STDIN: AtomicBool = AtomicBool::new(false);
static STDOUT: AtomicBool = AtomicBool::new(false);

/// Whether there was no standard input.
pub fn was_stdin() -> bool {
    STDIN.load(Ordering::Relaxed)
}

/// Whether there was no standard output.
pub fn was_stdout() -> bool {
    STDOUT.load(Ordering::Relaxed)
}

#[used]
#[expect(unsafe_code, reason = "the only way to run before Rust's runtime; what runs needs nothing of it")]
// SAFETY: the section holds pointers to functions that the loader calls once, on the first thread.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = look;

#[expect(unsafe_code, reason = "a descriptor that may be closed has no safe face")]
extern "C" fn look() {
    for (number, is_closed) in [(0, &STDIN), (1, &STDOUT)] {
        // SAFETY: it takes a number, changes nothing, and only fails when that is no descriptor.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        is_closed.store(flags == -1, Ordering::Relaxed);
    }
}
