//! How much memory the C library's heap keeps.
//!
//! glibc gives each thread an arena of its own, and none gives back what another could use: a backup's threads hand their
//! buffers on to each other, so that it held a quarter more than it used. One arena for all costs it no time that can
//! be measured. Musl's heap has a single one.

/// Sets the number of arenas to one: before the first thread.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "mallopt has no safe face; it only stores a number, and no other thread is there yet")]
pub fn keep_one_arena() {
    // What it answers does not matter: without it more memory is kept.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Nothing to set.
#[cfg(not(target_env = "gnu"))]
pub fn keep_one_arena() {}
