//! `remove-volume`: what is on a volume goes to the others, then it is no volume of the repository any more. Its files are
//! left as they are.

use super::error::{EngineError, Exit, Result};
use super::observer::{Expected, Observer, Phase};
use super::protect::copy::{BlockFile, Found, look};
use super::protect::{
    Copied, CopyLimits, bring_about, give_copies, make_ready, shortfall, tell_beside, update_indexes,
};
use super::recover::settle_records;
use super::repository::Repository;
use super::volumes::named;
use crate::catalog::redundancy::{self, Goal, Scope, Want};
use crate::catalog::volumes::{self, VolumeRow};
use crate::catalog::{CatalogError, blocks, retired};
use crate::model::ids::{BlockNo, VolumeId};
use crate::model::redundancy::Redundancy;
use std::time::Instant;

/// Blocks that are looked up at once.
const BATCH: usize = 256;

/// What was done.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RemoveVolumeReport {
    /// The volume, as `name (uuid)`.
    pub volume: String,
    /// Where it is.
    pub path: String,
    /// Copies that were made elsewhere.
    pub blocks_copied: u64,
    /// Their bytes.
    pub bytes_copied: u64,
    /// Blocks of the whole repository that lie on fewer volumes than the policy wants.
    pub blocks_under_protected: u64,
    /// Their bytes.
    pub bytes_under_protected: u64,
    /// Seconds.
    pub duration_s: f64,
}

impl RemoveVolumeReport {
    /// `UnderProtected` while blocks want more copies.
    pub fn exit(&self) -> Exit {
        if self.blocks_under_protected > 0 { Exit::UnderProtected } else { Exit::Done }
    }
}

/// Empties the volume into the others and removes it. It stays one while any block or record is on it alone; interrupted,
/// the same command goes on.
pub fn remove_volume(repository: &mut Repository, name: &str, observer: &dyn Observer) -> Result<RemoveVolumeReport> {
    let began = Instant::now();
    let rows = volumes::all(repository.catalog.conn())?;
    let row = named(&rows, name)?.clone();
    if repository.volume(row.id).is_none() {
        return Err(EngineError::Usage(format!(
            "volume {name} is not here; mount it, or pass --volume DIR if it moved. One that will not come back is given up \
             with `raidtape remove-volume {name} --lost`, or `raidtape replace-volume {name} DIR`"
        )));
    }
    make_ready(repository, observer)?;
    check_others(repository, &row)?;
    keep_retired(repository, row.id)?;
    let redundancy = repository.settings().redundancy;
    // First one copy that was just read, or made, on a volume that is here; then as many as the policy wants.
    let unseen = repository.away.iter().map(|away| away.id).chain([row.id]).collect();
    let seen = Want { scope: Scope::On(row.id), goal: Goal::Each(1), leaving: unseen };
    check_survivors(repository, &row, observer)?;
    let mut copied = give_copies(repository, &seen, CopyLimits::default(), observer)?;
    if redundancy.copies() > 1 && !observer.is_cancelled() {
        let wanted = Want::of(repository.catalog.conn(), redundancy, Scope::On(row.id))?;
        let want = Want { leaving: vec![row.id], ..wanted };
        copied.add(give_copies(repository, &want, CopyLimits::default(), observer)?);
    }
    tell_beside(repository, &copied, observer);
    update_indexes(repository, &copied, observer);
    if observer.is_cancelled() {
        return Err(EngineError::Interrupted);
    }
    copied.problems.iter().for_each(|problem| observer.warn(problem));
    // Blocks that proved damaged meanwhile are among these.
    check_others(repository, &row)?;
    let alone = redundancy::shortfall(repository.catalog.conn(), &seen)?;
    if alone.blocks > 0 {
        let (blocks, bytes) = (alone.blocks, alone.bytes);
        return Err(EngineError::NoVolume(format!(
            "volume {name} stays: {blocks} of its blocks ({bytes} bytes) could not be copied to a volume that is here; {}, then give the \
             same command again",
            if redundancy::has_bad_copies(repository.catalog.conn())? {
                "some copies there are damaged: heal them with `raidtape validate --repair`"
            } else {
                "free some space on the others, or add one with `raidtape add-volume DIR`"
            }
        )));
    }
    let gone = settle_records(repository, row.id, observer)?;
    if let Some(first) = gone.first() {
        return Err(EngineError::Damage(format!(
            "volume {name} stays: the records of {} runs, the first is run {first}, are sound on no volume; `raidtape validate` says \
             more",
            gone.len()
        )));
    }
    let path = repository.volume(row.id).map(|mounted| mounted.volume.root.display().to_string()).unwrap_or_default();
    let tx = repository.catalog.begin()?;
    volumes::remove(&tx, row.id)?;
    tx.commit().map_err(CatalogError::from)?;
    repository.mounted.retain(|mounted| mounted.row.id != row.id);
    if redundancy != Redundancy::None && !observer.is_cancelled() {
        copied.add(protect_rest(repository, redundancy, observer)?);
    }
    repository.catalog.checkpoint().ok();
    let left = shortfall(repository)?;
    Ok(RemoveVolumeReport {
        volume: format!("{} ({})", row.name, row.uuid),
        path,
        blocks_copied: copied.blocks,
        bytes_copied: copied.bytes,
        blocks_under_protected: left.blocks,
        bytes_under_protected: left.bytes,
        duration_s: began.elapsed().as_secs_f64(),
    })
}

/// Copies on it that were to be deleted and are sound count again: what was to stand for them may not.
fn keep_retired(repository: &Repository, volume: VolumeId) -> Result<()> {
    let (conn, algo) = (repository.catalog.conn(), repository.settings().hash);
    let Some(mounted) = repository.volume(volume) else { return Ok(()) };
    for file in retired::all(conn)?.iter().filter(|file| file.volume == volume && !file.is_parity) {
        let block = BlockFile { id: file.id, size: file.size, algo };
        if matches!(look(mounted.store().as_ref(), &block), Ok(Found::Sound)) {
            retired::keep(conn, file)?;
        }
    }
    Ok(())
}

/// What is on the others is to be as well protected without the volume.
fn protect_rest(repository: &mut Repository, redundancy: Redundancy, observer: &dyn Observer) -> Result<Copied> {
    let more = bring_about(repository, (redundancy, Scope::All), CopyLimits::default(), observer)?;
    tell_beside(repository, &more, observer);
    update_indexes(repository, &more, observer);
    more.problems.iter().for_each(|problem| observer.warn(problem));
    Ok(more)
}

/// Reads the other copies of everything that is on the volume until one proves sound; what does not is noted as damaged.
/// Copies on volumes that are away are not relied on.
fn check_survivors(repository: &Repository, row: &VolumeRow, observer: &dyn Observer) -> Result<()> {
    let conn = repository.catalog.conn();
    let held = volumes::holdings(conn, row.id)?;
    observer.begin(Phase::Validate, Expected { items: Some(held.blocks), bytes: Some(held.bytes) });
    let algo = repository.settings().hash;
    let mut after = BlockNo(0);
    loop {
        let batch = redundancy::blocks_on(conn, row.id, after, BATCH)?;
        let Some(last) = batch.last() else { return Ok(()) };
        after = last.no;
        for block in &batch {
            if observer.is_cancelled() {
                return Ok(());
            }
            let file = BlockFile { id: block.id, size: block.size, algo };
            for copy in block.copies.iter().filter(|copy| copy.is_counted && copy.volume != row.id) {
                let Some(mounted) = repository.volume(copy.volume) else { continue };
                let state = match look(mounted.store().as_ref(), &file) {
                    Ok(Found::Sound) => break,
                    Ok(Found::Nothing) => "missing",
                    Ok(Found::Other) => "bad",
                    // It may be sound all the same; nothing is let go for it.
                    Err(error) => return Err(EngineError::store(&mounted.row.name)(error)),
                };
                blocks::set_copy_state(conn, block.no, (copy.volume, state))?;
            }
            observer.advance(1, block.size);
        }
    }
}

/// Somebody else can take the blocks and has every record; and no damaged block, of which parts may still be read, is
/// there.
fn check_others(repository: &Repository, row: &VolumeRow) -> Result<()> {
    let mut others = repository.writable().filter(|mounted| mounted.row.id != row.id).peekable();
    if others.peek().is_none() {
        return Err(EngineError::NoVolume(format!(
            "volume {} stays: no other one is here and can be written; add one with `raidtape add-volume DIR`",
            row.name
        )));
    }
    if others.all(|mounted| mounted.lacks_records) {
        return Err(EngineError::NoVolume(format!(
            "volume {} stays: no other one that is here has the records of all runs; mount the others once",
            row.name
        )));
    }
    let (bad, _) = redundancy::bad_on(repository.catalog.conn(), row.id)?;
    if bad > 0 {
        return Err(EngineError::Damage(format!(
            "volume {} stays: {bad} of its blocks are damaged, here and wherever else they are, and parts of them may still be \
             read; `raidtape validate` names their files, and a backup heals what its source still has",
            row.name
        )));
    }
    Ok(())
}
