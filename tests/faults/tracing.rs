//! The tracer itself: it sees all calls of all threads, and what it does to one happens.

use crate::util::bench::Bench;
use crate::util::tracer::{Call, Fate, can_trace, trace};
use crate::util::tree::{Rng, write};
use nix::errno::Errno;

fn ready() -> Bench {
    let bench = Bench::in_memory().and_volumes(&["disk1"], &[]);
    write(&bench.src(), "a/b", &Rng(1).bytes(30_000));
    bench
}

#[test]
fn the_tracer_lists_calls_and_lets_them_fail_or_be_the_last() {
    if !can_trace() {
        return;
    }
    let bench = ready();
    let backup = bench.command(&["--json", "--no-progress", "backup", "src"]);
    let is_rename = |call: &Call| call.name.starts_with("rename") && call.path.starts_with("disk1");
    let block = |to: &Option<std::path::PathBuf>| to.as_ref().is_some_and(|to| to.starts_with("disk1/chunks"));
    for fate in [Fate::Fails(Errno::EIO), Fate::DiesBefore, Fate::DiesAfter] {
        let mut asked = 0;
        let traced = trace(&backup, &bench.path(""), &mut |call| {
            asked += 1;
            if is_rename(call) && block(&call.to) { fate } else { Fate::Passes }
        });
        let met = traced.met.first().expect("a block is renamed").clone();
        assert_eq!(asked, traced.calls.len());
        match fate {
            Fate::Fails(_) => {
                assert_eq!((traced.said.code, traced.calls[met.number].result), (5, -5), "{:#?}", traced.said);
                assert!(bench.blocks("disk1").is_empty());
            }
            Fate::DiesBefore => assert_eq!((traced.said.code, bench.blocks("disk1").len()), (-9, 0)),
            _ => assert_eq!((traced.said.code, bench.blocks("disk1").len()), (-9, 1)),
        }
    }
    let traced = trace(&backup, &bench.path(""), &mut |_| Fate::Passes);
    assert_eq!(traced.said.code, 0, "{:#?}", traced.said);
    assert!(traced.met.is_empty() && traced.calls.iter().all(|call| call.ended.is_some()));
    println!("{} calls below the bench", traced.calls.len());
    bench.assert_all_good();
}
