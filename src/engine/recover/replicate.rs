//! Records on every volume: a writable one that lacks some is given them from another.

use crate::catalog::runs::{self, Run, RunState};
use crate::catalog::volumes;
use crate::engine::block_file::ReadError;
use crate::engine::error::{EngineError, Result};
use crate::engine::manifest_file::{CopyError, ManifestReader, copy_manifest_file};
use crate::engine::observer::Observer;
use crate::engine::repository::{Mounted, Repository};
use crate::format::container::FormatError;
use crate::format::layout::{self, ManifestCopy};
use crate::model::ids::{RepositoryUuid, RunSeq, SourceId, VolumeId};
use crate::volume::store::{Object, Store, StoreError};
use std::collections::BTreeSet;

/// Copies to every writable volume the manifests of complete runs that it lacks, from any volume that has them. A
/// volume that fails at that is left out of what follows: others can take the run, and it catches up another time.
pub(super) fn replicate_manifests(repository: &mut Repository, observer: &dyn Observer) -> Result<()> {
    let complete: Vec<Run> = runs::all(repository.catalog.conn())?
        .into_iter()
        .filter(|run| run.state == RunState::Complete && run.manifest.is_some())
        .collect();
    let Some(newest) = complete.last().map(|run| run.seq) else { return Ok(()) };
    let writable: Vec<VolumeId> = repository.writable().map(|mounted| mounted.row.id).collect();
    for id in writable {
        let name = repository.volume(id).map_or_else(String::new, |mounted| mounted.row.name.clone());
        let missing = match give_records(repository, id, &complete, observer) {
            Err(EngineError::Store { source, .. }) => {
                observer.warn(&format!(
                    "volume {name} cannot be given the records that it lacks and is not written this time: {source}"
                ));
                repository.leave_out(id);
                continue;
            }
            given => given?,
        };
        let Some(mounted) = repository.mounted.iter_mut().find(|mounted| mounted.row.id == id) else { continue };
        mounted.lacks_records = missing > 0;
        if missing > 0 {
            observer.warn(&format!(
                "volume {name} lacks the {} of {missing} {}, and no volume that is here has them; mount the \
                 others once to bring it up to date",
                if missing == 1 { "record" } else { "records" },
                if missing == 1 { "run" } else { "runs" }
            ));
        } else if mounted.row.last_seq < Some(newest) {
            volumes::set_last_manifest(repository.catalog.conn(), id, newest)?;
            mounted.row.last_seq = Some(newest);
        }
    }
    Ok(())
}

/// Copies to one volume what it lacks; returns of how many runs no volume could give the manifest.
fn give_records(repository: &Repository, id: VolumeId, complete: &[Run], observer: &dyn Observer) -> Result<u64> {
    let Some(mounted) = repository.volume(id) else { return Ok(0) };
    let held = records_on(mounted)?;
    let mut given_by_none = Vec::new();
    for run in complete {
        let key = layout::manifest_key(run.seq, &run.uuid, ManifestCopy::First);
        if held.contains(&key) {
            continue;
        }
        if !copy_manifest(repository, id, (run, ManifestCopy::First), observer)? {
            given_by_none.push(run);
        }
        let full = layout::manifest_key(run.seq, &run.uuid, ManifestCopy::Full);
        if !held.contains(&full) {
            copy_manifest(repository, id, (run, ManifestCopy::Full), observer)?;
        }
    }
    given_by_none.retain(|run| !is_excused(mounted, complete, run));
    let missing = given_by_none.len() as u64;
    if repository.mounted.len() == 1 && repository.away.is_empty() {
        give_second_ones(mounted, complete, &held, observer);
    }
    Ok(missing)
}

/// Whether a volume holds a record of the whole state of the same source at or after `run`.
fn has_full_after(store: &dyn Store, complete: &[Run], run: &Run) -> bool {
    let later = complete.iter().rev().filter(|later| later.source == run.source && later.seq >= run.seq);
    later.into_iter().any(|later| {
        let key = layout::manifest_key(later.seq, &later.uuid, ManifestCopy::Full);
        store.head(&key).is_ok_and(|found| found.is_some())
    })
}

/// Whether a volume need not have the record of a run: it was made after that, and what follows does not build on it. True
/// where the volumes that had it are gone for good, and a record of the whole state was written since.
pub fn is_excused(mounted: &Mounted, complete: &[Run], run: &Run) -> bool {
    let made_ns = mounted.volume.label.created.as_nanosecond();
    let is_younger = run.ended_ns.is_some_and(|ended_ns| made_ns > i128::from(ended_ns));
    is_younger && has_full_after(mounted.store().as_ref(), complete, run)
}

/// Whether the newest state of a source could not be had from any volume that is written alone: there, some record is missing
/// and none of the whole state was written since.
pub fn is_lacking(repository: &Repository, source: SourceId) -> Result<bool> {
    let mut complete = runs::all(repository.catalog.conn())?;
    complete.retain(|run| run.state == RunState::Complete && run.source == source);
    for mounted in repository.writable() {
        let held = records_on(mounted)?;
        let has = |run: &Run| {
            held.contains(&layout::manifest_key(run.seq, &run.uuid, ManifestCopy::First))
                || has_full_after(mounted.store().as_ref(), &complete, run)
        };
        if complete.iter().all(has) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads the record of every run on the volumes that stay when `leaving` goes; where none of them has it soundly it is written
/// anew from `leaving`, and what was there is set aside. Returns the runs of which no sound record is anywhere.
pub fn settle_records(repository: &Repository, leaving: VolumeId, observer: &dyn Observer) -> Result<Vec<RunSeq>> {
    let mut complete = runs::all(repository.catalog.conn())?;
    complete.retain(|run| run.state == RunState::Complete && run.manifest.is_some());
    let mut gone = Vec::new();
    for run in &complete {
        let wanted = (repository.settings().repository, run.manifest);
        let key = layout::manifest_key(run.seq, &run.uuid, ManifestCopy::First);
        let stay = || repository.writable().filter(|mounted| mounted.row.id != leaving);
        let is_sound = |mounted: &Mounted| {
            let files = [ManifestCopy::First, ManifestCopy::Second];
            let keys = files.map(|file| layout::manifest_key(run.seq, &run.uuid, file));
            keys.iter().any(|key| sound_manifest(mounted.store().as_ref(), key, wanted).is_ok())
        };
        if stay().any(is_sound) {
            continue;
        }
        let Some(to) = stay().next() else { continue };
        let from = repository.volume(leaving).map(|mounted| sound_manifest(mounted.store().as_ref(), &key, wanted));
        let Some(Ok(object)) = from else {
            if !stay().any(|mounted| is_excused(mounted, &complete, run)) {
                gone.push(run.seq);
            }
            continue;
        };
        let (store, name) = (to.store().as_ref(), &to.row.name);
        let aside = format!("{}/{}", layout::QUARANTINE, key.rsplit('/').next().unwrap_or(&key));
        match store.set_aside(&key, &aside) {
            Ok(()) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(EngineError::store(name)(error)),
        }
        match copy_manifest_file(object.as_ref(), store, &key) {
            Ok(()) => observer
                .warn(&format!("the record of run {} on volume {name} was damaged and is written anew", run.seq)),
            Err(CopyError::From(error) | CopyError::To(error)) => return Err(EngineError::store(name)(error)),
        }
    }
    Ok(gone)
}

/// The keys of all manifests on a volume.
pub(super) fn records_on(mounted: &Mounted) -> Result<BTreeSet<String>> {
    let mut held = BTreeSet::new();
    let listed = mounted.store().list(layout::RUNS, &mut |key, _| {
        held.insert(key.to_owned());
    });
    listed.map_err(EngineError::store(&mounted.row.name))?;
    Ok(held)
}

/// On the only volume that there is, a run may have been cut off before the second file of its manifest was made.
fn give_second_ones(mounted: &Mounted, complete: &[Run], held: &BTreeSet<String>, observer: &dyn Observer) {
    let store = mounted.store().as_ref();
    for run in complete {
        let [first, second] =
            [ManifestCopy::First, ManifestCopy::Second].map(|copy| layout::manifest_key(run.seq, &run.uuid, copy));
        if !held.contains(&first) || held.contains(&second) {
            continue;
        }
        // A damaged first one is for validate to tell.
        let Ok(object) = store.open(&first) else { continue };
        if let Err(CopyError::To(error)) = copy_manifest_file(object.as_ref(), store, &second) {
            observer.warn(&format!(
                "volume {}: the second record of run {} is missing: {error}",
                mounted.row.name, run.seq
            ));
        }
    }
}

/// Copies a manifest from the first place where it is sound, a second file of it on any volume included. A place that
/// cannot be read is said and passed over.
fn copy_manifest(
    repository: &Repository,
    to: VolumeId,
    (run, copy): (&Run, ManifestCopy),
    observer: &dyn Observer,
) -> Result<bool> {
    let Some(target) = repository.volume(to) else { return Ok(false) };
    let key = layout::manifest_key(run.seq, &run.uuid, copy);
    // A full record has other bytes than the digest is of.
    let (digest, files) = match copy {
        ManifestCopy::Full => (None, &[ManifestCopy::Full][..]),
        _ => (run.manifest, &[ManifestCopy::First, ManifestCopy::Second][..]),
    };
    for (from, file) in repository.mounted.iter().flat_map(|from| files.iter().map(move |file| (from, *file))) {
        let source = layout::manifest_key(run.seq, &run.uuid, file);
        let unusable = |error: &dyn std::fmt::Display| {
            observer.warn(&format!("{source} on volume {} cannot be copied: {error}", from.row.name));
        };
        let found = sound_manifest(from.store().as_ref(), &source, (repository.settings().repository, digest));
        let object = match found {
            Ok(object) => object,
            Err(ReadError::Store(StoreError::NotFound { .. })) => continue,
            Err(error) => {
                unusable(&error);
                continue;
            }
        };
        match copy_manifest_file(object.as_ref(), target.store().as_ref(), &key) {
            Ok(()) => return Ok(true),
            Err(CopyError::From(error)) => unusable(&error),
            Err(CopyError::To(error)) => return Err(EngineError::store(&target.row.name)(error)),
        }
    }
    Ok(false)
}

/// Opens a manifest that can be read to its end and is the one that is meant: a damaged one must not be spread.
fn sound_manifest(
    store: &dyn Store,
    key: &str,
    (ours, digest): (RepositoryUuid, Option<[u8; 32]>),
) -> std::result::Result<Box<dyn Object>, ReadError> {
    let object = store.open(key)?;
    let (mut reader, _) = ManifestReader::open(object.as_ref(), Some(ours))?;
    while reader.next_section()?.is_some() {}
    if digest.is_some_and(|digest| reader.digest().ok() != Some(digest)) {
        return Err(FormatError::Checksum("file").into());
    }
    Ok(object)
}
