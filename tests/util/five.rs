//! The five questions after every fault: was the exit code right, does every earlier run come back byte for byte, does
//! `validate` report exactly the damage that there is, does the next backup succeed, and does a catalog rebuilt from
//! the volumes alone tell the same as the one that was there.

use super::bench::{Bench, Said};
use super::oracle::{Snapshot, snapshot};
use std::collections::BTreeMap;
use std::ffi::OsString;

/// The complete runs of a bench's `src`, with the trees that they saved.
#[derive(Clone, Default)]
pub struct Known(pub BTreeMap<i64, Snapshot>);

/// Exit codes of a command that did what it was asked.
const SAVED: [i32; 2] = [0, 3];

impl Known {
    /// Backs `src` up, which must go well, and remembers the tree.
    #[track_caller]
    pub fn backup(&mut self, bench: &Bench) -> i64 {
        let tree = snapshot(&bench.src());
        let run = bench.backup()["run"].as_i64().expect("a number");
        self.0.insert(run, tree);
        run
    }

    /// The first question, for a backup with `--json` that met a fault: one of the documented codes, a panic never;
    /// exit 0 only when the new run is the tree that was there, and no new run at all with any other code but 3; where
    /// the catalog failed last it may have one, if that was said.
    #[track_caller]
    pub fn assert_told(&mut self, bench: &Bench, (said, allowed): (&Said, &[i32]), what: &str) {
        assert!(allowed.contains(&said.code), "{what}: {said:#?}");
        assert!(!said.err.contains("panicked"), "{what}: {said:#?}");
        let before: Vec<i64> = self.0.keys().copied().collect();
        let new: Vec<i64> = complete_runs(bench).into_iter().filter(|run| !before.contains(run)).collect();
        if said.code == 1 && said.err.contains("is stored on its volumes, but the catalog could not be told") {
            assert!(new.len() <= 1, "{what}: new runs {new:?}: {said:#?}");
            new.iter().for_each(|run| _ = self.0.insert(*run, snapshot(&bench.src())));
            return;
        }
        assert_eq!(new.len(), usize::from(SAVED.contains(&said.code)), "{what}: new runs {new:?}: {said:#?}");
        if said.code == 0 {
            self.0.insert(new[0], snapshot(&bench.src()));
        }
    }

    /// The other four, where nothing that is stored was damaged. `volumes` are the directories of all volumes.
    #[track_caller]
    pub fn assert_holds(&mut self, bench: &Bench, volumes: &[&str], what: &str) {
        self.assert_restores(bench, what);
        let said = bench.run(&["--no-progress", "validate", "--deep"]);
        assert!(said.code == 0 && said.out.ends_with("All good\n"), "{what}: {said:#?}");
        let said = bench.run(&["--json", "--no-progress", "backup", "src"]);
        assert!(said.code == 0, "{what}: the next backup: {said:#?}");
        let run = said.summary()["run"].as_i64().expect("a number");
        self.0.insert(run, snapshot(&bench.src()));
        let (dest, found) = bench.reverted(run);
        found.assert_is(&self.0[&run], what);
        std::fs::remove_dir_all(dest).expect("a folder that can be removed");
        assert_rebuilds(bench, volumes, what);
    }

    /// The second alone: every run comes back.
    #[track_caller]
    pub fn assert_restores(&self, bench: &Bench, what: &str) {
        for (run, tree) in &self.0 {
            let dest = bench.fresh("reverted");
            let said = bench.run(&["revert-to-run".as_ref(), run.to_string().as_ref(), dest.as_os_str()]);
            assert!(said.code == 0, "{what}: run {run}: {said:#?}");
            snapshot(&dest).assert_is(tree, &format!("{what}: run {run}"));
            std::fs::remove_dir_all(dest).expect("a folder that can be removed");
        }
    }
}

/// The numbers of the complete runs, from the catalog.
pub fn complete_runs(bench: &Bench) -> Vec<i64> {
    let runs = bench.json(&["runs"], 0);
    let complete = runs["runs"].as_array().expect("runs").iter().filter(|run| run["state"] == "complete");
    complete.map(|run| run["run"].as_i64().expect("a number")).collect()
}

/// The fifth: a catalog rebuilt beside the one that is there tells the same of every version and of every run.
#[track_caller]
pub fn assert_rebuilds(bench: &Bench, volumes: &[&str], what: &str) {
    let story = |catalog: &str| {
        let mut rows = bench.query_in(
            catalog,
            "SELECT hex(path), source, first_run, last_run, file_hash, size, mode, mtime_ns, kind, inconsistent
             FROM file_versions ORDER BY 1, 2, 3",
        );
        rows.extend(bench.query_in(
            catalog,
            "SELECT seq, hex(uuid), added, modified, metadata, deleted, hex(digest), selected, roots FROM runs
             WHERE state = 'complete' ORDER BY seq",
        ));
        rows
    };
    let mut args: Vec<OsString> =
        ["--catalog", "rebuilt.cat", "--no-progress", "rebuild-catalog"].map(Into::into).into();
    args.extend(volumes.iter().flat_map(|volume| ["--volume".into(), OsString::from(volume)]));
    let said = bench.run(&args);
    assert!(said.code == 0, "{what}: rebuild: {said:#?}");
    assert_eq!(story(bench.catalog()), story("rebuilt.cat"), "{what}: the rebuilt catalog tells another story");
    for end in ["", "-wal", "-shm", ".lock"] {
        let _ = std::fs::remove_file(bench.path(format!("rebuilt.cat{end}")));
    }
}
