//! What comes back: a file is either right, or refused and named, and refused only where it may be lost or away.

use super::life::Life;
use crate::util::bench::Said;
use crate::util::changes::exact_path;
use crate::util::oracle::{Snapshot, snapshot};
use std::collections::BTreeSet;
use std::fs;

impl Life {
    /// The files that a restore with `--json` says it refused, after a look whether it may.
    fn refused(&mut self, said: &Said, tree: &Snapshot) -> BTreeSet<Vec<u8>> {
        assert!([0, 4, 5].contains(&said.code), "{said:#?}");
        let problems = said.summary()["problems"].as_array().cloned().unwrap_or_default();
        let refused: BTreeSet<Vec<u8>> = problems.iter().map(exact_path).collect();
        assert_eq!(said.code == 0, refused.is_empty(), "{said:#?}");
        for path in &refused {
            let node = tree.0.get(path).unwrap_or_else(|| panic!("no such file: {said:#?}"));
            assert!(node.kind == 'f', "{said:#?}");
            let may_lack = self.damage.may_be_lost(&node.content) || !self.away.is_empty();
            assert!(may_lack, "nothing of {} is lost: {said:#?}", String::from_utf8_lossy(path));
        }
        if said.code == 5 {
            assert!(!self.away.is_empty(), "{said:#?}");
        }
        self.tally.refused += refused.len() as u64;
        refused
    }

    /// A whole run; returns what was refused of it.
    pub fn check_run(&mut self, run: i64) -> BTreeSet<Vec<u8>> {
        let (dest, tree) = (self.bench.fresh("reverted"), self.runs[&run].tree.clone());
        let said = self.bench.run(&[
            "--json".as_ref(),
            "--no-progress".as_ref(),
            "revert-to-run".as_ref(),
            run.to_string().as_ref(),
            dest.as_os_str(),
        ]);
        let refused = self.refused(&said, &tree);
        assert_is(&dest, &tree, (&refused, b"", &format!("run {run}")));
        refused
    }

    pub fn restore_folder(&mut self, nth: u8, path: &str) {
        let Some((run, tree, path)) = self.pick(nth, path) else { return };
        if tree.0.get(path.as_bytes()).is_none_or(|node| node.kind != 'd') {
            return;
        }
        let dest = self.bench.fresh("folder");
        let args =
            ["--json", "--no-progress", "restore-folder", &path, dest.to_str().unwrap(), "--run", &run.to_string()];
        let said = self.bench.run(&args);
        let refused = self.refused(&said, &tree);
        assert_is(
            &dest,
            &tree.below(&path),
            (&refused, format!("{path}/").as_bytes(), &format!("{path} of run {run}")),
        );
    }

    pub fn restore_file(&mut self, nth: u8, path: &str) {
        let Some((run, tree, path)) = self.pick(nth, path) else { return };
        let Some(node) = tree.0.get(path.as_bytes()).filter(|node| node.kind != 'd') else { return };
        let dest = self.bench.fresh("one");
        fs::create_dir(&dest).unwrap();
        let args = ["--json", "--no-progress", "restore", &path, dest.to_str().unwrap(), "--run", &run.to_string()];
        let said = self.bench.run(&args);
        let is_refused = !self.refused(&said, &tree).is_empty();
        let mut found = snapshot(&dest).0;
        found.remove(&b""[..]);
        let what = format!("{path} of run {run}: {said:#?}");
        if is_refused {
            assert!(found.is_empty(), "nothing is left under the name of what was refused: {what}");
        } else {
            assert_eq!(found.len(), 1, "{what}");
            let (name, mut alone) = found.pop_first().unwrap();
            assert_eq!(Some(&name[..]), path.rsplit('/').next().map(str::as_bytes), "{what}");
            alone.names.clone_from(&node.names);
            assert_eq!(&alone, node, "{what}");
        }
        fs::remove_dir_all(dest).unwrap();
    }

    /// The n-th run's number, its tree, and a path as seen from its source; `None` where the path is in another.
    fn pick(&self, nth: u8, path: &str) -> Option<(i64, Snapshot, String)> {
        let run = self.nth_run(nth)?;
        let saved = &self.runs[&run];
        let path = path.strip_prefix(saved.source.name())?.strip_prefix('/')?;
        Some((run, saved.tree.clone(), path.to_owned()))
    }
}

/// Expects that `dest` is `tree` without what was refused, and removes it.
fn assert_is(dest: &std::path::Path, tree: &Snapshot, (refused, prefix, what): (&BTreeSet<Vec<u8>>, &[u8], &str)) {
    let refused: BTreeSet<&[u8]> = refused.iter().filter_map(|path| path.strip_prefix(prefix)).collect();
    let mut wanted = tree.clone();
    wanted.0.retain(|path, _| !refused.contains(path.as_slice()));
    for node in wanted.0.values_mut() {
        node.names.retain(|name| !refused.contains(name.as_slice()));
    }
    let mut found = snapshot(dest);
    // What is not complete says so, for the next try.
    found.0.remove(&b".raidtape-restore"[..]);
    found.assert_is(&wanted, what);
    fs::remove_dir_all(dest).unwrap();
}
