//! Faults of every kind, enumerated rather than picked: each call that fails, each instant of death, each state that a
//! power cut may leave, random lives; and after every single one the same five questions (`util/oracles.rs`).
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "numbers of a test's own making, a test that panics says so, and one that passes tells its counts"
)]

#[path = "../util/mod.rs"]
#[allow(dead_code, reason = "each group of tests uses a part of it")]
mod util;

mod catalog;
mod limits;
mod no_fault;
mod power;
mod space;
mod verify;
