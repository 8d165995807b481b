//! The end of a run, in the order that makes it safe: rows are applied in one transaction that is not committed yet,
//! the manifest is made durable on every writable volume, then the transaction that makes the run complete is
//! committed. A crash before that leaves an open run whose manifest completes it at the next start.

use super::attempt::AttemptDone;
use super::finish_rows::apply_rows;
use super::seen::Seen;
use crate::catalog::interned::{Interner, set_mount};
use crate::catalog::runs::{self, Run, RunState, Source};
use crate::catalog::settings::Settings;
use crate::catalog::versions::{Applier, ApplyRun};
use crate::catalog::volumes::VolumeState;
use crate::catalog::{Catalog, CatalogError, Connection, blocks, pending, volumes};
use crate::engine::error::{EngineError, Result};
use crate::engine::manifest_file::{CopyError, ManifestOutcome, ManifestSink, copy_manifest_file};
use crate::engine::manifest_write::ManifestEncoder;
use crate::engine::manifest_write_rows::RowSections;
use crate::engine::observer::Observer;
use crate::engine::repository::Repository;
use crate::format::container::{ContainerKind, Header};
use crate::format::layout::{self, ManifestCopy};
use crate::format::manifest::{Encoding, ManifestMeta, ManifestSource, ManifestVolume, RunCounts};
use crate::model::ids::{RunSeq, StateDigest, VolumeId};
use crate::model::problem::{Problem, ProblemOp};
use crate::volume::index::{IndexDb, IndexedBlock};

/// So many files with a new inode and the same content say that the file system's inodes mean nothing.
const ONLY_INODE_MAX: u64 = 100;

/// Completes `run` of `source`, on this thread alone if `is_alone`; returns its counts, and how many of the deleted are
/// only no longer selected.
pub fn finish(
    repository: &mut Repository,
    (source, run): (&Source, &Run),
    (done, is_alone): (&AttemptDone, bool),
    observer: &dyn Observer,
) -> Result<(RunCounts, u64)> {
    let before = repository.catalog.reader()?;
    let base = runs::newest_complete(before.conn(), source.id)?;
    let base_digest = base.as_ref().and_then(|run| run.digest).unwrap_or(StateDigest::EMPTY);
    let held = before.reading()?;
    let Repository { catalog, mounted, .. } = repository;
    let writable: Vec<usize> = (0..mounted.len()).filter(|index| mounted[*index].is_locked_for_writing()).collect();
    let tx = catalog.begin()?;
    let mut applier = Applier::new(
        &tx,
        ApplyRun { source: source.id, run: run.seq, prev: base.as_ref().map(|base| base.seq) },
        base_digest,
    );
    let rows = apply_rows(&done.rows.rows, &mut applier, (&before, source, base.as_ref()), is_alone)?;
    let (counts, excluded) = (counts_of(applier.counts(), done), applier.excluded());
    let complete = Run {
        state: RunState::Complete,
        prev: base.as_ref().map(|base| base.seq),
        ended_ns: Some(jiff_now_ns()),
        digest: Some(applier.digest()),
        counts,
        ..run.clone()
    };
    let meta = ManifestMeta {
        selected: runs::asked(&tx, run.seq)?.map(|asked| asked.selected),
        ..meta_of(source, &complete, base_digest, before.settings())
    };
    let known = known_volumes(before.conn())?;
    let stores: Vec<(usize, &dyn crate::volume::store::Store)> =
        writable.iter().map(|index| (*index, mounted[*index].store().as_ref())).collect();
    let encoder = ManifestEncoder { before: before.conn() };
    let outcome = write_manifest(&encoder, stores, (&meta, &known), (&rows, catalog_header(&before)))?;
    drop(held);
    for (index, error) in &outcome.failed {
        observer
            .warn(&format!("volume {}: the record of the run cannot be written: {error}", mounted[*index].row.name));
    }
    if outcome.durable.is_empty() {
        return Err(EngineError::NoVolume(
            "no volume took the record of this run, so no run was saved; free some space, or add a volume with \
             `raidtape add-volume DIR`"
                .to_owned(),
        ));
    }
    let complete = Run { manifest: outcome.digest, ..complete };
    let listed = (|| {
        list(&tx, &complete, &outcome)?;
        runs::put_problems(&tx, run.seq, &all_problems(done))?;
        put_mounts(&tx, source, done, observer)?;
        // A volume that lacks an earlier record is still to be given it.
        for index in outcome.durable.iter().filter(|index| !mounted[**index].lacks_records) {
            volumes::set_last_manifest(&tx, mounted[*index].row.id, run.seq)?;
        }
        tx.commit().map_err(CatalogError::from)
    })();
    listed.map_err(|source| EngineError::NotListed { run: run.seq, source })?;
    drop(before);
    second_copy(mounted, &outcome.durable, run, observer);
    Ok((counts, excluded))
}

/// The rows that make a run complete whose record is durable.
fn list(tx: &Connection, run: &Run, written: &ManifestOutcome) -> std::result::Result<(), CatalogError> {
    runs::complete(tx, run)?;
    runs::set_manifest_bytes(tx, run.seq, written.size)?;
    blocks::mark_listed(tx, run.seq)?;
    blocks::condemn_superseded(tx)?;
    pending::clear(tx, run.source, run.seq)
}

/// Keeps what is a mount point, and which file systems give other inodes to the same files.
fn put_mounts(
    tx: &Connection,
    source: &Source,
    done: &AttemptDone,
    observer: &dyn Observer,
) -> std::result::Result<(), CatalogError> {
    let mut interner = Interner::default();
    for mount in &done.seen.mounts {
        let dir = interner.dir(tx, source.id, &mount.path)?;
        set_mount(tx, dir, mount.is_mount_point, mount.inodes_untrusted)?;
    }
    for (dev, count) in &done.rows.written.only_inode {
        let Some(top) = done.seen.file_systems.get(dev).filter(|_| *count >= ONLY_INODE_MAX) else { continue };
        let dir = interner.dir(tx, source.id, &top.path)?;
        set_mount(tx, dir, top.is_mount_point, true)?;
        observer.warn(&format!(
            "{count} files below {} had another inode number and the same content: inode numbers are not relied on \
             there any more",
            if top.path.is_empty() { source.name.clone() } else { crate::model::path::show(&top.path) }
        ));
    }
    Ok(())
}

fn counts_of(applied: RunCounts, done: &AttemptDone) -> RunCounts {
    let counts = whole_counts(applied, (&done.seen, &done.tally.problems));
    RunCounts {
        bytes_read: done.tally.bytes_read,
        bytes_new: done.tally.bytes_new,
        bytes_stored: done.rows.written.bytes,
        ..counts
    }
}

/// The counts of changes with those of what was seen: what did not change, problems, bytes in all.
pub fn whole_counts(changes: RunCounts, (seen, unread): (&Seen, &[Problem])) -> RunCounts {
    let changed = changes.added + changes.modified + changes.metadata;
    // What changed while it was read has a version, and is among those that changed.
    let is_unread = |op| !matches!(op, ProblemOp::Changed | ProblemOp::Attrs | ProblemOp::Rot);
    let problems = (seen.problems.len() + unread.len()) as u64;
    let unread = unread.iter().filter(|problem| is_unread(problem.op)).count() as u64;
    RunCounts { unchanged: seen.paths.saturating_sub(changed + unread), problems, bytes_total: seen.bytes, ..changes }
}

/// What could not be looked at, and what could not be read.
pub fn all_problems(done: &AttemptDone) -> Vec<Problem> {
    done.seen.problems.iter().chain(&done.tally.problems).cloned().collect()
}

/// The head of the record of `run`, a delta on the state `base`.
pub fn meta_of(source: &Source, run: &Run, base: StateDigest, settings: &Settings) -> ManifestMeta {
    ManifestMeta {
        run: run.uuid,
        seq: run.seq.0,
        prev: run.prev.map(|prev| prev.0),
        source: ManifestSource { host: source.host.clone(), name: source.name.clone(), roots: source.roots.clone() },
        encoding: Encoding::Delta,
        base,
        result: run.digest.unwrap_or(StateDigest::EMPTY),
        started_ns: run.started_ns,
        ended_ns: run.ended_ns.unwrap_or(run.started_ns),
        counts: run.counts,
        compression: Some(settings.compression),
        redundancy: Some(settings.redundancy),
        selected: None,
        marks: run.marks.clone(),
    }
}

/// All volumes that the catalog knows, as a manifest lists them.
pub fn known_volumes(conn: &Connection) -> Result<Vec<ManifestVolume>> {
    let known = volumes::all_ever(conn)?;
    let is_gone = |state| matches!(state, VolumeState::Lost | VolumeState::Removed);
    let listed = known.into_iter().map(|row| ManifestVolume {
        state: Some(row.state).filter(|state| is_gone(*state)).map(|state| state.word().to_owned()),
        uuid: row.uuid,
        name: row.name,
        last_seq: row.last_seq.map(|seq| seq.0),
    });
    Ok(listed.collect())
}

/// The header of a manifest, with a fresh salt.
pub fn catalog_header(catalog: &Catalog) -> Header {
    let settings = catalog.settings();
    let mut salt = [0; 32];
    salt[..16].copy_from_slice(&crate::model::ids::RunUuid::random().0);
    Header { kind: ContainerKind::Manifest, hash: settings.hash, repository: settings.repository, salt }
}

fn write_manifest(
    encoder: &ManifestEncoder<'_>,
    stores: Vec<(usize, &dyn crate::volume::store::Store)>,
    (meta, known): (&ManifestMeta, &[ManifestVolume]),
    (rows, header): (&RowSections, Header),
) -> Result<ManifestOutcome> {
    let mut sink = ManifestSink::open(&stores, &header);
    encoder.write(&mut sink, (meta, known), rows)?;
    let key = layout::manifest_key(meta.run_seq(), &meta.run, ManifestCopy::First);
    Ok(sink.finish(&key))
}

/// Where only one volume has the manifest, a second file of it guards against a bad sector.
fn second_copy(mounted: &[crate::engine::repository::Mounted], durable: &[usize], run: &Run, observer: &dyn Observer) {
    let [only] = durable else { return };
    let Some(volume) = mounted.get(*only) else { return };
    let first = layout::manifest_key(run.seq, &run.uuid, ManifestCopy::First);
    let second = layout::manifest_key(run.seq, &run.uuid, ManifestCopy::Second);
    let store = volume.store().as_ref();
    let opened = store.open(&first).map_err(CopyError::From);
    let copied = opened.and_then(|object| copy_manifest_file(object.as_ref(), store, &second));
    if let Err(error) = copied {
        observer.warn(&format!("volume {}: the second record of run {} is missing: {error}", volume.row.name, run.seq));
    }
}

/// Tells every volume's own index what came with this run. The index is a cache: a failure is only said.
pub fn update_indexes(repository: &Repository, run: RunSeq, observer: &dyn Observer) -> Result<()> {
    let mut added: std::collections::BTreeMap<VolumeId, Vec<IndexedBlock>> = std::collections::BTreeMap::new();
    for (id, size, volume) in blocks::listed_by(repository.catalog.conn(), run)? {
        added.entry(volume).or_default().push(IndexedBlock { id, size, verified_ns: None });
    }
    for (volume, blocks) in added {
        let Some(mounted) = repository.volume(volume).filter(|mounted| mounted.is_locked_for_writing()) else {
            continue;
        };
        if let Err(error) = IndexDb::update(&mounted.volume.root, &blocks, &[], &[]) {
            observer.warn(&format!("volume {}: its index is not up to date: {error}", mounted.row.name));
        }
    }
    Ok(())
}

/// Nanoseconds since 1970.
pub fn jiff_now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
