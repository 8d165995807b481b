//! The five questions themselves, where nothing is wrong, and where something is.

use crate::util::bench::Bench;
use crate::util::five::Known;
use crate::util::tree::{Rng, write};

#[test]
fn without_a_fault_all_five_are_answered_well() {
    let bench = Bench::in_memory().and_volumes(&["disk1", "disk2"], &[]);
    let mut known = Known::default();
    write(&bench.src(), "a/b", &Rng(1).bytes(30_000));
    known.backup(&bench);
    write(&bench.src(), "a/c", &Rng(2).bytes(30_000));
    known.backup(&bench);
    known.assert_holds(&bench, &["disk1", "disk2"], "nothing happened");
    assert_eq!(known.0.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
#[should_panic(expected = "a flipped byte")]
fn a_fault_that_damages_something_is_seen() {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    let mut known = Known::default();
    write(&bench.src(), "a/b", &Rng(1).bytes(30_000));
    known.backup(&bench);
    for block in bench.blocks("disk1").values() {
        crate::util::tree::flip(block, 500);
    }
    known.assert_holds(&bench, &["disk1"], "a flipped byte");
}
