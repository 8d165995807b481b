//! Faults of every kind, enumerated rather than picked: each call that fails, each instant of death, each state that a
//! power cut may leave, random lives; and after every single one the same five questions (`util/five.rs`).
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "numbers of a test's own making; a test that panics says so, and all say how much they tried"
)]

#[path = "../util/mod.rs"]
#[allow(dead_code, reason = "each group of tests uses a part of it")]
mod util;

mod catalog;
mod concurrency;
#[cfg(target_arch = "x86_64")]
mod copies;
#[cfg(target_arch = "x86_64")]
mod disk_errors;
#[cfg(target_arch = "x86_64")]
mod enumerated;
mod forge;
mod hostile;
mod hostile_catalog;
mod identity;
mod kills;
mod limits;
mod machine;
mod media;
mod no_fault;
#[cfg(target_arch = "x86_64")]
mod order;
mod power;
mod power_states;
mod restore;
#[cfg(target_arch = "x86_64")]
mod signals;
mod source;
mod space;
mod target;
#[cfg(target_arch = "x86_64")]
mod tracing;
mod verify;

#[cfg(not(target_arch = "x86_64"))]
#[test]
fn faults_at_chosen_system_calls() {
    util::needs::has("a processor of the kind x86_64, whose registers the tracer knows", false);
}
