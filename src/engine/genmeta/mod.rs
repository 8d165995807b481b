//! `genmeta`: writes a JSON sidecar beside every block that says which files it holds. A sidecar is written only when
//! its text is another than what was written last, and replaced as a whole.
//!
//! `mappings` finds what to say about a block, `text` writes it as it comes.

mod mappings;
#[cfg(test)]
mod tests;
mod text;

use super::Observer;
use super::error::{EngineError, Result};
use super::observer::{Expected, Phase};
use super::recover;
use super::repository::{Mounted, Repository};
use crate::catalog::places::{self, BlockRow};
use crate::catalog::runs::{self, RunState};
use crate::catalog::view::AsOf;
use crate::catalog::volumes::VolumeState;
use crate::catalog::{CatalogError, sidecars};
use crate::format::layout;
use crate::model::ids::{BlockNo, RunSeq, VolumeId};
use mappings::Mapper;
use std::collections::BTreeSet;
use std::time::Instant;
use text::{Text, Written};

/// Blocks between two transactions: a cut-off `genmeta` writes so many sidecars again at most.
const BATCH_BLOCKS: usize = 64;

/// Which sidecars to write.
#[derive(Debug, Clone, Copy, Default)]
pub struct GenmetaOptions {
    /// Only those of blocks that this run's files use.
    pub run: Option<RunSeq>,
}

/// What `genmeta` did.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct GenmetaReport {
    /// Sidecars that were written.
    pub written: u64,
    /// Sidecars that say what they should already.
    pub unchanged: u64,
    /// Copies of blocks whose file is not there.
    pub blocks_skipped: u64,
    /// Volumes that are not here or not writable, as `name (uuid)`.
    pub volumes_skipped: Vec<String>,
    /// Bytes of the sidecars that were written.
    pub bytes_written: u64,
    /// Seconds.
    pub duration_s: f64,
}

/// Sidecars that were written and are not in the catalog yet.
type Done = Vec<((BlockNo, VolumeId), [u8; 32])>;

/// Writes the sidecars of all blocks on volumes that can be written. What is missing is counted and left out.
pub fn genmeta(
    repository: &mut Repository,
    options: &GenmetaOptions,
    observer: &dyn Observer,
) -> Result<GenmetaReport> {
    let started = Instant::now();
    recover::catch_up(repository, observer)?.iter().for_each(|problem| observer.warn(problem));
    let mut rows = wanted_blocks(repository, options)?;
    repository.lock_volumes(observer)?;
    let mut report = GenmetaReport::default();
    let skipped = repository.mounted.iter().filter(|mounted| !mounted.is_locked_for_writing());
    let away = repository.away.iter().filter(|row| row.state != VolumeState::Lost);
    let skipped = skipped.map(|mounted| &mounted.row).chain(away);
    report.volumes_skipped = skipped.map(|row| repository.volume_words(row.id)).collect();
    let writable: BTreeSet<VolumeId> = repository.writable().map(|mounted| mounted.row.id).collect();
    rows.retain(|row| row.volumes.iter().any(|volume| writable.contains(volume)));
    observer.begin(Phase::Genmeta, Expected { items: Some(rows.len() as u64), bytes: None });
    let mut mapper = Mapper::new(&repository.catalog)?;
    for batch in rows.chunks(BATCH_BLOCKS) {
        let mut done = Done::new();
        let ended = write_batch((repository, &mut mapper), batch, (&mut done, &mut report), observer);
        let tx = repository.catalog.begin()?;
        for (copy, digest) in done {
            sidecars::put(&tx, copy, digest)?;
        }
        tx.commit().map_err(CatalogError::from)?;
        ended?;
    }
    report.duration_s = started.elapsed().as_secs_f64();
    Ok(report)
}

fn wanted_blocks(repository: &Repository, options: &GenmetaOptions) -> Result<Vec<BlockRow>> {
    let conn = repository.catalog.conn();
    let mut rows = places::all_blocks(conn)?;
    rows.retain(|row| !row.is_parity && matches!(row.state.as_str(), "ok" | "bad"));
    if let Some(seq) = options.run {
        let run = runs::get(conn, seq)?.filter(|run| run.state == RunState::Complete);
        let run =
            run.ok_or_else(|| EngineError::Usage(format!("there is no run {seq}; `raidtape runs` lists them")))?;
        let used = places::blocks_of_state(conn, AsOf { source: run.source, run: seq })?;
        rows.retain(|row| used.binary_search(&row.no).is_ok());
    }
    Ok(rows)
}

fn write_batch(
    (repository, mapper): (&Repository, &mut Mapper),
    batch: &[BlockRow],
    (done, report): (&mut Done, &mut GenmetaReport),
    observer: &dyn Observer,
) -> Result<()> {
    for row in batch {
        for mounted in repository.writable().filter(|mounted| row.volumes.contains(&mounted.row.id)) {
            if observer.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            let before = report.bytes_written;
            let sidecar = Sidecar { repository, mounted, row };
            match sidecar.bring_up_to_date(mapper)? {
                Outcome::NoBlock => report.blocks_skipped += 1,
                Outcome::NoFiles => {}
                Outcome::Unchanged => report.unchanged += 1,
                Outcome::Written(text) => {
                    report.written += 1;
                    report.bytes_written += text.len;
                    done.push(((row.no, mounted.row.id), text.digest));
                }
            }
            observer.advance(0, report.bytes_written - before);
        }
        observer.advance(1, 0);
    }
    Ok(())
}

enum Outcome {
    NoBlock,
    NoFiles,
    Unchanged,
    Written(Written),
}

struct Sidecar<'r> {
    repository: &'r Repository,
    mounted: &'r Mounted,
    row: &'r BlockRow,
}

impl Sidecar<'_> {
    fn bring_up_to_date(&self, mapper: &mut Mapper) -> Result<Outcome> {
        let store = &**self.mounted.store();
        // A block that is damaged or cannot be looked at is validate's business; without a file there is nothing to describe.
        if !matches!(store.head(&layout::block_key(&self.row.id)), Ok(Some(_))) {
            return Ok(Outcome::NoBlock);
        }
        let failed = EngineError::store(&self.mounted.row.name);
        let key = layout::sidecar_key(&self.row.id);
        let present = store.head(&key).map_err(&failed)?;
        let recorded = sidecars::digest(self.repository.catalog.conn(), self.row.no, self.mounted.row.id)?;
        if let (Some(len), Some(digest)) = (present, recorded) {
            let text = self.fill(Text::measure(self.row), mapper)?.finish(None).map_err(&failed)?;
            if text.is_some_and(|text| text.len == len && text.digest == digest) {
                return Ok(Outcome::Unchanged);
            }
        }
        let text = self.fill(Text::write(self.row, store), mapper)?.finish(Some(&key)).map_err(&failed)?;
        Ok(text.map_or(Outcome::NoFiles, Outcome::Written))
    }

    fn fill<'t>(&self, mut text: Text<'t>, mapper: &mut Mapper) -> Result<Text<'t>> {
        mapper.for_each_mapping(&self.repository.catalog, self.row.no, &mut |mapping| text.put(mapping))?;
        Ok(text)
    }
}
