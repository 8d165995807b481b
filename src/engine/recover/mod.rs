//! What every writing command does first: brings in what a crash, an older catalog or an absent volume left behind.
//! Runs whose manifest is durable are completed; before a backup also others given up, whole blocks that no row names
//! adopted, and manifests brought to the volumes that lack them (`replicate`). Which records belong to the history,
//! `chain` knows.

mod adopt;
mod chain;
mod lonely;
mod replicate;

pub use adopt::Orphan;
pub use lonely::{is_awaited, is_given_back};
pub use replicate::{is_excused, is_lacking, settle_records};

pub use chain::{Manifests, RunKey, put_manifest, take_out_passed_over};

use super::block_file::ReadError;
use super::error::{EngineError, Result};
use super::manifest_apply::{ApplyError, ManifestApply, read_meta};
use super::manifest_file::ManifestReader;
use super::observer::Observer;
use super::parity::retire::delete_retired;
use super::protect::update_indexes;
use super::repository::{Mounted, Repository};
use crate::catalog::runs::{self, Run, RunState};
use crate::catalog::settings::{self, Doubt};
use crate::catalog::volumes;
use crate::catalog::{Catalog, CatalogError};
use crate::codec::hash::Hasher;
use crate::format::container::FormatError;
use crate::format::layout::{self, ManifestCopy};
use crate::model::ids::{RunSeq, RunUuid, VolumeId};
use crate::model::limits::NUMBER_MAX;
use crate::model::params::HashAlgo;
use crate::volume::store::{Object, Store, StoreError};
use adopt::adopt_blocks;
use replicate::{records_on, replicate_manifests};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Numbers that a record which cannot be brought in may make taken at most: a name alone is no proof of so many runs.
const NUMBERS_SKIPPED_MAX: i64 = 1_000_000;
/// Bytes read at once when a whole block is hashed.
const READ_LEN: usize = 1 << 20;

/// Does all of it; the volumes are locked.
pub fn recover(repository: &mut Repository, observer: &dyn Observer) -> Result<()> {
    // A run that did not come to its end may have left whole blocks that no row names.
    let newest = runs::all(repository.catalog.conn())?.pop();
    let is_unclean = newest.is_some_and(|run| run.state != RunState::Complete);
    let forward = roll_forward(repository, observer, true)?;
    forward.problems.iter().for_each(|problem| observer.warn(problem));
    let is_doubtful = is_unclean || forward.has_gaps;
    let failed = in_doubt(repository, Doubt::Failed)?;
    if is_doubtful || !failed.is_empty() {
        let is_asked =
            |mounted: &Mounted| mounted.is_locked_for_writing() && (is_doubtful || failed.contains(&mounted.row.id));
        adopt_blocks(repository, &is_asked, observer)?;
        no_more_in_doubt(repository, (&failed, Doubt::Failed))?;
        for run in runs::open_ones(repository.catalog.conn())? {
            runs::set_state(repository.catalog.conn(), run.seq, RunState::Aborted)?;
        }
    }
    look_again(repository, observer)?;
    let deleted = delete_retired(repository, &BTreeSet::new(), observer)?;
    update_indexes(repository, &deleted, observer);
    lonely::find_lonely(repository, observer)?;
    replicate_manifests(repository, observer)
}

/// Does a step, without volumes that fail at it if there are others: a run on a sound disk must not wait for another.
pub fn with_what_works(
    repository: &mut Repository,
    observer: &dyn Observer,
    step: &dyn Fn(&mut Repository) -> Result<()>,
) -> Result<()> {
    loop {
        match step(repository) {
            Err(EngineError::Store { volume, source }) => {
                // Nobody else may know whether a run that was cut off is saved.
                let must_wait = !runs::open_ones(repository.catalog.conn())?.is_empty();
                if must_wait || !repository.take_for_away(&volume) {
                    return Err(EngineError::Store { volume, source });
                }
                observer.warn(&format!("volume {volume} fails and is not used by this run: {source}"));
            }
            done => return done,
        }
    }
}

/// The part that writes the catalog alone: completes the runs whose manifest is found on a volume. Returns sentences
/// about records that cannot be listed or used: no reason not to do the rest.
pub fn catch_up(repository: &mut Repository, observer: &dyn Observer) -> Result<Vec<String>> {
    let forward = match roll_forward(repository, observer, false) {
        Err(error @ EngineError::Store { .. }) => {
            return Ok(vec![format!("the records of runs cannot be looked through: {error}")]);
        }
        done => done?,
    };
    // A volume that cannot be listed is told by who needs it.
    match look_again(repository, observer) {
        Err(EngineError::Store { .. }) => {}
        done => done?,
    }
    Ok(forward.problems)
}

/// Takes in what lies on volumes that this catalog may not know all of: it was behind, or was rebuilt without them, or a
/// command was cut off that wrote parities. A volume that is locked need not be looked at again.
fn look_again(repository: &mut Repository, observer: &dyn Observer) -> Result<()> {
    if settings::is_protecting(repository.catalog.conn())? {
        set_all_unseen(repository)?;
        settings::set_protecting(repository.catalog.conn(), false)?;
    }
    let unseen = in_doubt(repository, Doubt::Unseen)?;
    if unseen.is_empty() {
        return Ok(());
    }
    adopt_blocks(repository, &|mounted| unseen.contains(&mounted.row.id), observer)?;
    no_more_in_doubt(repository, (&unseen, Doubt::Unseen))
}

/// The volumes that are here and in doubt.
fn in_doubt(repository: &Repository, doubt: Doubt) -> Result<BTreeSet<VolumeId>> {
    let mut found = BTreeSet::new();
    for mounted in &repository.mounted {
        if settings::is_in_doubt(repository.catalog.conn(), mounted.row.id, doubt)? {
            found.insert(mounted.row.id);
        }
    }
    Ok(found)
}

/// What lies on these was taken in; where others may write meanwhile they are looked at again.
fn no_more_in_doubt(repository: &Repository, (volumes, doubt): (&BTreeSet<VolumeId>, Doubt)) -> Result<()> {
    for mounted in repository.writable().filter(|mounted| volumes.contains(&mounted.row.id)) {
        settings::set_doubt(repository.catalog.conn(), (mounted.row.id, doubt), false)?;
    }
    Ok(())
}

fn set_all_unseen(repository: &Repository) -> Result<()> {
    let rows = repository.mounted.iter().map(|mounted| &mounted.row).chain(&repository.away);
    for row in rows {
        settings::set_doubt(repository.catalog.conn(), (row.id, Doubt::Unseen), true)?;
    }
    Ok(())
}

/// What came of bringing in runs from their records.
#[derive(Default)]
struct Forward {
    /// Records that cannot be used.
    problems: Vec<String>,
    /// Whether blocks may be missing in the catalog: a full record does not list those of the runs before it.
    has_gaps: bool,
    /// Whether any run was brought in: what else was done since is not in the catalog.
    is_ahead: bool,
}

/// Manifests on the volumes of runs that the catalog does not have as complete, oldest first.
fn unknown_manifests(repository: &Repository) -> Result<Manifests> {
    let known: BTreeSet<RunUuid> = runs::all(repository.catalog.conn())?
        .into_iter()
        .filter(|run| run.state != RunState::Open)
        .map(|run| run.uuid)
        .collect();
    let mut found = Manifests::new();
    for mounted in &repository.mounted {
        let listed = mounted.store().list(layout::RUNS, &mut |key, _| {
            if let Some((_, uuid, _)) = layout::parse_manifest_key(key)
                && !known.contains(&uuid)
            {
                put_manifest(&mut found, mounted.row.id, key);
            }
        });
        listed.map_err(EngineError::store(&mounted.row.name))?;
    }
    Ok(found)
}

/// Completes runs whose manifest is durable: those that a crash left open, and those that an older copy of the
/// catalog does not know.
///
/// Before a new run, a record that is there and cannot be read ends it, because a disk that does not answer just now must
/// not make a saved run forgotten. Of a run that the catalog never knew that is so once: its number is taken from then
/// on, and with a disk that stays so the next run goes on without it.
fn roll_forward(repository: &mut Repository, observer: &dyn Observer, is_for_a_run: bool) -> Result<Forward> {
    let mut unknown = unknown_manifests(repository)?;
    let store_of = |id| repository.volume(id).map(|mounted| Arc::clone(mounted.store()));
    let known = runs::all(repository.catalog.conn())?.into_iter().filter_map(|run| run.digest).collect();
    for (run, (by, _)) in take_out_passed_over(&mut unknown, (repository.settings().repository, &known), &store_of) {
        observer.warn(&format!("run {run} on the volumes is passed over: run {by} goes on from the state before it"));
    }
    let mut forward = Forward::default();
    for (run, places) in unknown {
        let (mut is_applied, mut unread) = (false, None);
        for (volume, key, copy) in places {
            let Some(mounted) = repository.volume(volume) else { continue };
            let (store, name) = (Arc::clone(mounted.store()), mounted.row.name.clone());
            match apply_one(&mut repository.catalog, store.as_ref(), &key, run) {
                Ok(_) => {
                    observer.warn(&format!("run {} was found on the volumes and is in the catalog again", run.0));
                    forward.is_ahead = true;
                    (is_applied, forward.has_gaps) = (true, forward.has_gaps || copy == ManifestCopy::Full);
                    break;
                }
                Err(ApplyError::Catalog(error)) => return Err(error.into()),
                // Another history's, not damaged.
                Err(error @ (ApplyError::Late(_) | ApplyError::OtherBase)) => {
                    observer.warn(&format!("{key} on volume {name} is passed over: {error}"));
                }
                Err(error) => {
                    let volume = repository.volume_words(volume);
                    forward.problems.push(format!("{key} on volume {volume} cannot be used: {error}"));
                    if let ApplyError::Read(ReadError::Store(source)) = error {
                        unread = Some(EngineError::Unread { volume: name, source });
                    }
                }
            }
        }
        forward.has_gaps = forward.has_gaps || !is_applied;
        if !is_applied && is_for_a_run {
            let is_news = take_number(repository, run)?;
            unread.filter(|_| is_news).map_or(Ok(()), Err)?;
        }
    }
    note_records(repository)?;
    if forward.is_ahead {
        set_all_unseen(repository)?;
    }
    Ok(forward)
}

/// Makes the number of a run taken whose record is there and cannot be brought in. False when it was already.
fn take_number(repository: &Repository, (seq, uuid): RunKey) -> Result<bool> {
    let conn = repository.catalog.conn();
    if runs::get(conn, seq)?.is_some_and(|run| run.uuid == uuid) {
        return Ok(true);
    }
    let next = runs::next_seq(conn)?;
    let is_news = seq >= next && seq.0 - next.0 < NUMBERS_SKIPPED_MAX;
    if is_news {
        runs::set_floor(conn, seq)?;
    }
    Ok(is_news)
}

/// Notes of volumes that the catalog does not know to hold all records up to which run they do: after a rebuild without
/// them, or a roll-forward. What they lack they get from the next backup.
fn note_records(repository: &mut Repository) -> Result<()> {
    let mut complete = runs::all(repository.catalog.conn())?;
    complete.retain(|run| run.state == RunState::Complete && run.manifest.is_some());
    let Some(newest) = complete.last().map(|run| run.seq) else { return Ok(()) };
    for mounted in repository.mounted.iter_mut().filter(|mounted| mounted.row.last_seq < Some(newest)) {
        let held = records_on(mounted)?;
        let first_key = |run: &Run| layout::manifest_key(run.seq, &run.uuid, ManifestCopy::First);
        let further = complete.iter().filter(|run| Some(run.seq) > mounted.row.last_seq);
        let all_held = further.take_while(|run| held.contains(&first_key(run))).map(|run| run.seq);
        if let Some(seq) = all_held.last() {
            volumes::set_last_manifest(repository.catalog.conn(), mounted.row.id, seq)?;
            mounted.row.last_seq = Some(seq);
        }
    }
    Ok(())
}

/// Applies the manifest `key` of run `seq` to the catalog, in one transaction. Returns its length.
pub fn apply_one(
    catalog: &mut Catalog,
    store: &dyn Store,
    key: &str,
    (seq, uuid): (RunSeq, RunUuid),
) -> std::result::Result<u64, ApplyError> {
    let settings = catalog.settings().clone();
    let object = store.open(key).map_err(ReadError::from)?;
    let (mut reader, _) = ManifestReader::open(object.as_ref(), Some(settings.repository))?;
    let meta = read_meta(&mut reader)?;
    if meta.run != uuid || meta.run_seq() != seq {
        return Err(FormatError::Invalid("name").into());
    }
    if seq.0 > NUMBER_MAX {
        return Err(FormatError::Invalid("number").into());
    }
    let tx = catalog.begin()?;
    if runs::get(&tx, seq)?.is_some_and(|run| run.uuid != uuid) {
        return Err(FormatError::Invalid("number: another run has it").into());
    }
    ManifestApply::new(&tx, &meta, settings.reserve)?.apply(&mut reader)?;
    tx.commit().map_err(CatalogError::from)?;
    Ok(object.len())
}

/// The hash of a whole object.
pub fn hash_object(object: &dyn Object, algo: HashAlgo) -> std::result::Result<[u8; 32], StoreError> {
    let mut hasher = Hasher::new(algo);
    let mut buffer = vec![0; READ_LEN];
    let mut at = 0;
    while at < object.len() {
        let len = usize::try_from(object.len() - at).unwrap_or(READ_LEN).min(READ_LEN);
        object.read_exact_at(at, &mut buffer[..len])?;
        hasher.update(&buffer[..len]);
        at += len as u64;
    }
    Ok(hasher.finalize())
}
