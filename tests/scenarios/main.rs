//! The program as somebody uses it over weeks: real trees, real volumes, real mishaps, and every time the question
//! whether all that was promised comes back. Nothing here knows how the program works inside.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::unwrap_used,
    reason = "numbers of a test's own making, and a test that panics says so"
)]

#[path = "../util/mod.rs"]
#[allow(dead_code, reason = "each group of tests uses a part of it")]
mod util;

mod attributes;
mod copies;
mod damage;
mod deleting;
mod deleting_runs;
mod faults;
mod fidelity;
mod formats;
mod given_up;
mod history;
mod interruption;
mod kept;
mod listed;
mod many_rows;
mod page;
mod parity;
mod rebuild;
mod rehearsal;
mod restoring;
mod roots;
mod selection;
mod shapes;
mod space;
mod standing;
mod streams;
mod wrong_input;
