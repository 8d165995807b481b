//! `diff`: runs and directories made by hand.

use super::*;
use crate::engine::test_repo::{FileNode, MTIME_NS, Node, TestRepo};
use std::os::unix::fs::PermissionsExt;

fn told(kind: DiffKind, path: &[u8], is_dir: bool) -> String {
    format!("{}{}{}", kind.letter(), String::from_utf8_lossy(path), if is_dir { "/" } else { "" })
}

fn options(from: &str, to: &str, path: &str) -> DiffOptions {
    let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
    DiffOptions { from, to, path: path.into(), source: None, across: false }
}

fn lines(repo: &TestRepo, options: &DiffOptions) -> (String, DiffReport) {
    let mut lines = Vec::new();
    let report = diff(&repo.repository, options, &mut |kind, path, is_dir| lines.push(told(kind, path, is_dir)));
    (lines.join(" "), report.unwrap())
}

fn repo() -> TestRepo {
    let mut repo = TestRepo::new();
    let mode = Node::File(FileNode { mode: 0o600, ..FileNode::of(b"three") });
    repo.run(&[
        ("d", Node::Dir),
        ("d/x", Node::bytes(b"deep")),
        ("d-e", Node::Dir),
        ("d-e/y", Node::bytes(b"1")),
        ("kept", Node::bytes(b"kept")),
        ("mode", Node::bytes(b"three")),
        ("turned", Node::bytes(b"12")),
    ]);
    repo.run(&[("mode", mode), ("d/x", Node::bytes(b"deeper")), ("turned", Node::link("kept"))]);
    repo.run(&[("d-e", Node::Gone), ("d-e/y", Node::Gone), ("new", Node::bytes(b"abc"))]);
    repo
}

#[test]
fn two_runs_are_merged_and_the_other_way_round_is_the_mirror() {
    let repo = repo();
    let (said, report) = lines(&repo, &options("1", "latest", ""));
    assert_eq!(said, "-d-e/ Umode +new Tturned Md/x -d-e/y");
    assert_eq!((report.added, report.removed, report.kind, report.content, report.metadata), (1, 2, 1, 1, 1));
    assert_eq!((report.bytes_added, report.bytes_removed), (9, 7));
    let (said, back) = lines(&repo, &options("latest", "1", ""));
    assert_eq!(said, "+d-e/ Umode -new Tturned Md/x +d-e/y");
    assert_eq!((back.bytes_added, back.bytes_removed), (report.bytes_removed, report.bytes_added));
    assert_eq!(lines(&repo, &options("latest~1", "latest~1", "")).0, "");
    assert_eq!(lines(&repo, &options("1", "3", "/src/d")).0, "Md/x");
    assert_eq!(lines(&repo, &options("1", "3", "d-e")).0, "-d-e/ -d-e/y");
    assert_eq!(lines(&repo, &options("1", "3", "mode")).0, "Umode");
    let missing = diff(&repo.repository, &options("1", "3", "mdoe"), &mut |_, _, _| {});
    assert!(missing.unwrap_err().to_string().contains("did you mean mode?"));
}

#[test]
fn runs_of_two_sources_are_compared_only_when_that_is_meant() {
    let mut repo = repo();
    repo.use_source("/copy");
    repo.run(&[("kept", Node::bytes(b"kept")), ("mode", Node::bytes(b"four!"))]);
    let refused = diff(&repo.repository, &options("3", "4", ""), &mut |_, _, _| {}).unwrap_err().to_string();
    assert!(refused.contains("--across"), "{refused}");
    let across = DiffOptions { across: true, ..options("3", "4", "") };
    assert_eq!(lines(&repo, &across).0, "-d/ Mmode -new -turned -d/x");
    // A number tells whose latest is meant.
    assert_eq!(lines(&repo, &options("latest~2", "3", "d")).0, "Md/x");
    assert!(diff(&repo.repository, &options("latest", "latest~1", ""), &mut |_, _, _| {}).is_err());
}

#[test]
fn a_directory_is_laid_beside_a_run() {
    let repo = repo();
    let dir = repo.dir.path().join("live");
    let put = |name: &str, bytes: &[u8], mode: u32, time_ns: i64| {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(time_ns.unsigned_abs());
        std::fs::File::open(&path).unwrap().set_modified(time).unwrap();
    };
    put("d/x", b"Deep", 0o640, MTIME_NS);
    put("d/extra", b"12345", 0o640, MTIME_NS);
    put("kept", b"kept", 0o640, MTIME_NS + 1);
    put("mode", b"three", 0o644, MTIME_NS);
    std::fs::create_dir(dir.join("turned")).unwrap();
    let of = |content, path: &str| {
        let mut lines = Vec::new();
        let options = DiffDirOptions {
            run: "1".parse().unwrap(),
            dir: if path.is_empty() { dir.clone() } else { dir.join(path) },
            path: path.into(),
            source: None,
            content,
        };
        let report = diff_dir(&repo.repository, &options, &mut |kind, path, is_dir| {
            // The owner of the test's files is whoever runs it, so that all may differ in metadata.
            if kind != DiffKind::Metadata {
                lines.push(told(kind, path, is_dir));
            }
        });
        let report = report.unwrap();
        assert!(report.problems.is_empty());
        (lines.join(" "), report)
    };
    let (said, report) = of(false, "");
    assert_eq!(said, "-d-e/ -d-e/y Tturned/ +d/extra");
    assert_eq!((report.bytes_added, report.bytes_removed, report.to), (5, 3, None));
    assert_eq!(of(true, "").0, "-d-e/ -d-e/y Tturned/ +d/extra Md/x");
    assert_eq!(of(true, "d").0, "+extra Mx");
    put("kept", b"Kept", 0o640, MTIME_NS + 1);
    assert!(of(false, "").0.contains("Mkept"));
}
