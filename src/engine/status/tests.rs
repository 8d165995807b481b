//! What each state of things is called.

use super::{Severity, StatusOptions, StatusReport, status};
use crate::catalog::{Catalog, blocks};
use crate::engine::test_repo::{Node, TestRepo};
use crate::model::ids::BlockNo;
use std::time::Duration;

/// About when the runs of a test repository begin.
const RUN_NS: i64 = 1_700_000_000_000_000_000;
const HOUR_NS: i64 = 3_600_000_000_000;

fn after(repo: &TestRepo, hours: i64) -> StatusReport {
    status(&repo.repository, &StatusOptions::default(), RUN_NS + hours * HOUR_NS).unwrap()
}

fn severity(report: &StatusReport, what: &str) -> Vec<Severity> {
    report.checks.iter().filter(|check| check.what == what).map(|check| check.severity).collect()
}

#[test]
fn a_run_grows_late_and_then_too_old() {
    let mut repo = TestRepo::new();
    assert_eq!(after(&repo, 1).state, Severity::Critical);
    repo.run(&[("a", Node::bytes(b"1"))]);
    for (hours, state) in [(1, Severity::Ok), (26, Severity::Ok), (28, Severity::Warning), (37, Severity::Critical)] {
        let report = after(&repo, hours);
        assert_eq!((report.state, &severity(&report, "run")[..]), (state, &[state][..]), "{report:?}");
    }
    assert_eq!(after(&repo, -1).state, Severity::Warning);
}

#[test]
fn a_run_that_was_not_finished_is_told_from_one_under_way_by_the_lock() {
    let mut repo = TestRepo::new();
    repo.run(&[("a", Node::bytes(b"1"))]);
    repo.open_run();
    repo.reopen();
    assert_eq!(severity(&after(&repo, 1), "unfinished"), [Severity::Warning]);
    let lock = Catalog::lock(repo.repository.catalog.path()).unwrap();
    let report = after(&repo, 1);
    assert_eq!((report.state, severity(&report, "unfinished")), (Severity::Ok, vec![Severity::Ok]));
    drop(lock);
    assert_eq!(after(&repo, 1).state, Severity::Warning);
}

#[test]
fn a_source_without_a_complete_run_is_critical_whatever_others_have() {
    let mut repo = TestRepo::new();
    repo.run(&[("a", Node::bytes(b"1"))]);
    repo.use_source("/other");
    repo.open_run();
    repo.reopen();
    let report = after(&repo, 1);
    assert_eq!(report.state, Severity::Critical);
    assert!(report.checks[0].text.contains("/other"), "{report:?}");
    assert!(report.sentence.starts_with(&report.checks[0].text) && report.sentence.contains("and 1 more"));
}

#[test]
fn damage_is_critical_and_old_or_no_verification_a_warning() {
    let mut repo = TestRepo::new();
    let run = repo.run(&[("a", Node::bytes(b"1"))]);
    let conn = repo.repository.catalog.conn();
    blocks::mark_listed(conn, run).unwrap();
    let volume = repo.repository.mounted[0].row.id;
    let relaxed = StatusOptions { max_run_age: Duration::from_secs(1 << 40), ..StatusOptions::default() };
    let at = |days: i64| status(&repo.repository, &relaxed, RUN_NS + days * 24 * HOUR_NS).unwrap();
    // Written a while ago and never looked at; what is new does not count yet.
    assert_eq!((at(29).state, at(31).state), (Severity::Ok, Severity::Warning));
    assert!(at(31).sentence.contains("`raidtape validate --max-age 30d` does it"), "{}", at(31).sentence);
    let hours = StatusOptions { max_verify_age: Duration::from_secs(36 * 3600), ..relaxed };
    let report = status(&repo.repository, &hours, RUN_NS + 100 * HOUR_NS).unwrap();
    assert!(report.sentence.contains("--max-age 36h`"), "{}", report.sentence);
    blocks::set_verified(conn, BlockNo(1), (volume, RUN_NS + 20 * 24 * HOUR_NS)).unwrap();
    assert_eq!((at(31).state, at(51).state), (Severity::Ok, Severity::Warning));
    blocks::mark_bad(conn, BlockNo(1)).unwrap();
    let report = at(31);
    assert_eq!((report.state, severity(&report, "damage")), (Severity::Critical, vec![Severity::Critical]));
}

#[test]
fn a_volume_that_is_away_is_a_warning_and_none_at_all_is_critical() {
    let mut repo = TestRepo::new();
    repo.run(&[("a", Node::bytes(b"1"))]);
    repo.add_volume("second");
    repo.take_away("first");
    assert_eq!(after(&repo, 1).state, Severity::Warning);
    repo.take_away("second");
    let report = after(&repo, 1);
    assert_eq!(report.state, Severity::Critical);
    assert_eq!(severity(&report, "volume").len(), 3);
}
