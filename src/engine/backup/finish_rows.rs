//! The rows of a run that is about to end: what they replace is read ahead, they are applied, and said for the record, each
//! on a thread of its own; beside them it is worked out whether what they build on is what the run before wrote. None of
//! it is seen by anybody before the commit.

use crate::catalog::ahead::{Ahead, LookAhead};
use crate::catalog::pending::PendingChange;
use crate::catalog::runs::{Run, Source};
use crate::catalog::spool::Spool;
use crate::catalog::versions::{Applied, Applier, Change};
use crate::catalog::{Catalog, CatalogError, digests};
use crate::engine::error::{EngineError, Result};
use crate::engine::manifest_write_rows::{RowSections, RowsWriter};
use crate::model::content::Content;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// Rows that go from thread to thread together, and their bytes, but for those of the last one.
const BATCH: usize = 256;
const BATCH_LEN: usize = 256 << 10;
/// Batches that wait between two threads.
const QUEUE: usize = 4;
/// With fewer rows, threads and their connections would take longer than they save.
const ALONE_MAX: u64 = 1000;

/// A row on its way.
struct PassingRow {
    row: PendingChange,
    content: Option<Content>,
    ahead: Option<Ahead>,
    applied: Applied,
}

/// Applies all rows, and says them for the record; on this thread alone if `is_alone`. `before` is the catalog before the
/// open transaction, in which `applier` writes.
pub fn apply_rows(
    rows: &Spool,
    applier: &mut Applier<'_>,
    (before, source, base): (&Catalog, &Source, Option<&Run>),
    is_alone: bool,
) -> Result<RowSections> {
    let base = base.filter(|_| !rows.is_empty());
    if !is_alone
        && rows.len() > ALONE_MAX
        && let Some(sections) = side_by_side(rows, applier, (before, source, base))?
    {
        return Ok(sections);
    }
    if let Some(base) = base {
        check_base(before, (source, base))?;
    }
    let mut writer = RowsWriter::new(before);
    rows.for_each(&mut |PendingChange { dir, name, change }, content| {
        let applied = applier.apply(&dir, &name, &change)?;
        writer.push((&dir, &name), (&change, applied, content.as_ref()))
    })?;
    applier.finish()?;
    Ok(writer.finish()?)
}

impl PassingRow {
    /// Bytes that it takes, or nearly so.
    fn weight(&self) -> usize {
        let own = match &self.row.change {
            Change::Put { version, .. } => version.attrs.len(),
            Change::Touch { .. } | Change::End(_) => 0,
        };
        let old = self.ahead.as_ref().and_then(|ahead| ahead.old.as_ref()).map_or(0, |old| old.version.attrs.len());
        let extents = self.content.as_ref().map_or(0, |content| size_of_val(content.extents.as_slice()));
        self.row.dir.len() + self.row.name.len() + own + old + extents
    }
}

/// `None`, and nothing done, where no thread or no further connection is to be had.
fn side_by_side(
    rows: &Spool,
    applier: &mut Applier<'_>,
    (before, source, base): (&Catalog, &Source, Option<&Run>),
) -> Result<Option<RowSections>> {
    let (to_apply, looked) = bounded(QUEUE);
    let (to_say, applied) = bounded(QUEUE);
    let (Ok(for_ahead), Ok(for_record)) = (before.reader(), before.reader()) else { return Ok(None) };
    let Ok(to_check) = base.map(|base| before.reader().map(|reader| (reader, base))).transpose() else {
        return Ok(None);
    };
    std::thread::scope(|scope| {
        let Some(record) = spawn(scope, "record", move || say(&for_record, &applied)) else { return Ok(None) };
        let check = move || to_check.map_or(Ok(()), |(reader, base)| check_base(&reader, (source, base)));
        let Some(check) = spawn(scope, "check", check) else { return Ok(None) };
        let ahead = move || look_ahead(rows, (&for_ahead, source), &to_apply);
        let Some(ahead) = spawn(scope, "ahead", ahead) else { return Ok(None) };
        let outcome = apply(applier, &looked, &to_say);
        // Both hear by this that no more is wanted of them.
        drop((looked, to_say));
        let (ahead, record, check) = (joined(ahead), joined(record), joined(check));
        outcome?;
        ahead?;
        check?;
        let (said, sections) = record?;
        if said != rows.len() {
            return Err(EngineError::Fault(format!("{said} of {} rows of the run reached its record", rows.len())));
        }
        applier.finish()?;
        Ok(Some(sections))
    })
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'scope,
) -> Option<ScopedJoinHandle<'scope, Result<T>>> {
    Builder::new().name(name.to_owned()).spawn_scoped(scope, work).ok()
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    let panicked = |_| Err(EngineError::Fault(format!("the thread `{name}` at the end of the run panicked")));
    thread.join().unwrap_or_else(panicked)
}

/// Reads what rows replace. Ends early when nobody takes them any more.
fn look_ahead(rows: &Spool, (before, source): (&Catalog, &Source), to_apply: &Sender<Vec<PassingRow>>) -> Result<()> {
    let held = before.reading()?;
    let mut look = LookAhead::new(before.conn(), source.id);
    let (mut batch, mut len, mut is_wanted) = (Vec::with_capacity(BATCH), 0, true);
    rows.for_each(&mut |row, content| {
        if !is_wanted {
            return Ok(());
        }
        let ahead = look.look(&row.dir, &row.name, &row.change)?;
        let row = PassingRow { row, content, ahead, applied: Applied::Nothing };
        len += row.weight();
        batch.push(row);
        if batch.len() == BATCH || len > BATCH_LEN {
            len = 0;
            is_wanted = to_apply.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).is_ok();
        }
        Ok(())
    })?;
    drop(held);
    // Whoever does not take the last rows has failed, and says so.
    drop(to_apply.send(batch));
    Ok(())
}

fn apply(
    applier: &mut Applier<'_>,
    looked: &Receiver<Vec<PassingRow>>,
    to_say: &Sender<Vec<PassingRow>>,
) -> std::result::Result<(), CatalogError> {
    for mut batch in looked {
        for PassingRow { row, ahead, applied, .. } in &mut batch {
            *applied = applier.apply_ahead((&row.dir, &row.name), &row.change, ahead.take())?;
        }
        if to_say.send(batch).is_err() {
            break;
        }
    }
    Ok(())
}

/// Says rows for the record, and how many they were.
fn say(before: &Catalog, applied: &Receiver<Vec<PassingRow>>) -> Result<(u64, RowSections)> {
    let held = before.reading()?;
    let (mut said, mut writer) = (0, RowsWriter::new(before));
    for PassingRow { row, content, applied, .. } in applied.iter().flatten() {
        said += 1;
        writer.push((&row.dir, &row.name), (&row.change, applied, content.as_ref()))?;
    }
    drop(held);
    Ok((said, writer.finish()?))
}

/// A delta on rows that are not what the run before wrote would never fit that run's record again.
fn check_base(reader: &Catalog, (source, base): (&Source, &Run)) -> Result<()> {
    if base.digest == Some(digests::of_live(reader.conn(), source.id)?) {
        return Ok(());
    }
    let (host, name, run) = (&source.host, &source.name, base.seq);
    Err(CatalogError::damaged(format!("the rows of {host}:{name} are not those that run {run} wrote")).into())
}

#[cfg(test)]
mod tests {
    use super::{ALONE_MAX, apply_rows};
    use crate::catalog::Catalog;
    use crate::catalog::runs;
    use crate::catalog::spool::Spool;
    use crate::catalog::spool_row::encode;
    use crate::catalog::versions::{Applied, Applier, ApplyRun, Change};
    use crate::engine::add_volume::{AddVolumeOptions, add_volume};
    use crate::engine::backup::{BackupOptions, backup};
    use crate::engine::init::{InitOptions, init};
    use crate::engine::observer::Silent;
    use crate::engine::rebuild_catalog::{RebuildOptions, rebuild_catalog};
    use crate::engine::test_repository::noise;
    use crate::format::manifest::RunCounts;
    use crate::model::entry::EntryKind;
    use crate::model::ids::{ContentId, FileHash, RunSeq, StateDigest};
    use crate::model::version::{Detection, Object, Owner, Version};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn fill(src: &Path) {
        for dir in 0..50 {
            let dir = src.join(format!("d{dir}"));
            std::fs::create_dir_all(dir.join("below/deeper")).unwrap();
            for file in 0..60_u32 {
                std::fs::write(dir.join(format!("f{file}")), format!("{} {file}", dir.display())).unwrap();
                std::fs::write(dir.join(format!("below/deeper/{file}")), "one content for all").unwrap();
            }
        }
        let large = [noise(1, 9 << 20), vec![0; 9 << 20], noise(2, 9 << 20)].concat();
        std::fs::write(src.join("large"), large).unwrap();
    }

    /// Every kind of change, and in each directory; a third of them lose what is below.
    fn change(src: &Path) {
        for number in 0..50 {
            let dir = src.join(format!("d{number}"));
            for file in 0..40_u32 {
                let path = dir.join(format!("f{file}"));
                match file % 5 {
                    0 => std::fs::write(&path, format!("{number} {file} has changed")).unwrap(),
                    1 => std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap(),
                    2 => std::fs::remove_file(&path).unwrap(),
                    3 => {
                        std::fs::remove_file(&path).unwrap();
                        std::fs::create_dir(&path).unwrap();
                        std::fs::write(path.join("new below"), "new").unwrap();
                    }
                    _ => std::fs::write(&path, "one content for all").unwrap(),
                }
            }
            if number % 3 == 0 {
                std::fs::remove_dir_all(dir.join("below")).unwrap();
                std::fs::write(dir.join("below"), "a file where a directory was").unwrap();
            }
        }
        // Of what it had, and of what nobody had.
        let mut large = std::fs::read(src.join("large")).unwrap();
        large[5 << 20..6 << 20].copy_from_slice(&noise(3, 1 << 20));
        std::fs::write(src.join("large"), &large).unwrap();
        std::fs::write(src.join("a part of it"), &large[20 << 20..]).unwrap();
    }

    /// All versions, without the numbers that are given as they come.
    fn versions(catalog: &Path) -> Vec<String> {
        let catalog = Catalog::open(catalog).unwrap();
        let columns = "path, kind, size, mtime_ns, first_run, last_run, file_hash, mode";
        let sql = format!("SELECT concat_ws(' ', {columns}) FROM file_versions ORDER BY path, first_run");
        let mut select = catalog.conn().prepare(&sql).unwrap();
        let rows = select.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    fn fifo_or_file(mode: u32, content: Option<ContentId>) -> Change {
        let version = Version {
            kind: if content.is_some() { EntryKind::File } else { EntryKind::Fifo },
            mode,
            owner: Owner { uid: 7, gid: 8, user: Vec::new(), group: Vec::new() },
            size: 0,
            mtime_ns: 1,
            btime_ns: None,
            link: 0,
            inconsistent: false,
            object: content.map_or(Object::Nothing, |_| Object::Content(FileHash([9; 32]))),
            attrs: Vec::new(),
        };
        Change::Put { version, content, detection: Detection::default() }
    }

    #[test]
    fn a_thread_that_fails_ends_the_run_with_its_error() {
        let dir = tempfile::tempdir().unwrap();
        let (mut repository, _) = init(&dir.path().join("backup.cat"), &InitOptions::default()).unwrap();
        let catalog = &mut repository.catalog;
        let source = runs::intern_source(catalog.conn(), "host", "/src", &[]).unwrap();
        let source = runs::sources(catalog.conn()).unwrap().into_iter().find(|found| found.id == source).unwrap();
        let run = |seq| ApplyRun { source: source.id, run: RunSeq(seq), prev: Some(RunSeq(seq - 1)) };
        let first = fifo_or_file(0o600, None);
        let applied = Applier::new(catalog.conn(), run(1), StateDigest::EMPTY).apply(b"", b"5000", &first).unwrap();
        assert_eq!(applied, Applied::Changed { before: None });
        let attempt = |content: Option<ContentId>, catalog: &mut Catalog| {
            let mut spool = Spool::beside(catalog.path());
            for number in 0..20_000 {
                let row = encode(number.to_string().as_bytes(), &fifo_or_file(0o640, content), None);
                spool.push(b"", content, &row).unwrap();
            }
            let before = catalog.reader().unwrap();
            let tx = catalog.begin().unwrap();
            let mut applier = Applier::new(&tx, run(2), StateDigest::EMPTY);
            apply_rows(&spool, &mut applier, (&before, &source, None), false).map(drop)
        };
        attempt(None, catalog).unwrap();
        let error = attempt(Some(ContentId(77)), catalog).unwrap_err();
        assert!(error.to_string().contains("content 77 is missing"), "what a record would say: {error}");
        catalog.conn().execute("UPDATE live SET owner = 999", []).unwrap();
        attempt(None, catalog).expect_err("what a row replaces cannot be read");
    }

    #[test]
    fn rows_applied_side_by_side_are_those_applied_one_by_one_and_so_is_the_record() {
        let dir = tempfile::tempdir().unwrap();
        let src = dir.path().join("src");
        fill(&src);
        let mut repositories = ["threads", "alone"].map(|name| {
            let catalog = dir.path().join(format!("{name}.cat"));
            let (mut repository, _) = init(&catalog, &InitOptions::default()).unwrap();
            let disk = AddVolumeOptions { dir: dir.path().join(name), ..AddVolumeOptions::default() };
            add_volume(&mut repository, &disk, &Silent).unwrap();
            repository
        });
        let mut run = || {
            let counts = [0, 1].map(|at| {
                let options = BackupOptions {
                    roots: vec![src.clone()],
                    workers: Some(2),
                    single_threaded: at == 1,
                    ..BackupOptions::default()
                };
                let counts = backup(&mut repositories[at], &options, &Silent).unwrap().counts;
                RunCounts { bytes_stored: 0, bytes_read: 0, ..counts }
            });
            assert_eq!(counts[0], counts[1]);
            counts[0]
        };
        assert!(run().added > ALONE_MAX);
        change(&src);
        let counts = run();
        let changed = [counts.added, counts.modified, counts.metadata, counts.deleted];
        assert!(changed.iter().all(|count| *count > 100) && changed.iter().sum::<u64>() > ALONE_MAX, "{changed:?}");
        drop(repositories);
        let [threads, alone] = ["threads", "alone"].map(|name| versions(&dir.path().join(format!("{name}.cat"))));
        assert!(threads.len() > 7000, "{}", threads.len());
        assert_eq!(threads, alone);
        for name in ["threads", "alone"] {
            let rebuilt = dir.path().join(format!("{name}.rebuilt"));
            let options = RebuildOptions { volumes: vec![dir.path().join(name)] };
            rebuild_catalog(&rebuilt, &options, &Silent).unwrap();
            assert_eq!(versions(&rebuilt), threads, "from the record of {name}");
        }
    }
}
