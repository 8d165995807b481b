//! The threads of a restore: each reads a segment once, decodes it once, checks every chunk that is needed, and
//! writes the chunks where they belong. A chunk that is damaged is looked for in the block's other copies, then in
//! the block's parity group, then in its further places; when there is none, its files fail.

use super::file::Ground;
use super::plan::{ChunkRef, Job, SegmentJob, segment_job};
use super::sites::{Site, Stores};
use super::tally::DataFailure;
use crate::catalog::{Catalog, CatalogError, places};
use crate::engine::block_file::{ReadError, SegmentReader, SegmentRef, is_chunk};
use crate::engine::error::EngineError;
use crate::model::ids::{BlockNo, ChunkId, SegmentNo};
use crate::volume::store::{Object, Store, StoreError};
use crossbeam_channel::Receiver;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Further places of one chunk that are tried at most: each means that all before were damaged.
const ROUNDS_MAX: usize = 8;

/// One thread's tools.
pub(super) struct Worker<'a> {
    ground: &'a Ground<'a>,
    stores: &'a Stores,
    catalog_path: &'a Path,
    reader: SegmentReader,
    /// The block that was read last.
    open: OpenBlock,
    /// For further places; opened when the first damage is met.
    catalog: Option<Catalog>,
}

impl<'a> Worker<'a> {
    pub fn new((ground, stores): (&'a Ground<'a>, &'a Stores), catalog_path: &'a Path) -> Self {
        Self { ground, stores, catalog_path, reader: SegmentReader::new(), open: None, catalog: None }
    }

    /// Works until there is nothing more; after a stop, jobs are only counted down.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        for job in jobs {
            if self.ground.observer.is_cancelled() {
                self.ground.tally.stop(EngineError::Interrupted);
            }
            match job {
                Job::Segment(job) if self.ground.tally.is_stopped() => done_each(self.ground, &job.refs),
                Job::Segment(job) => self.segment(job, 0),
                Job::Hash { file, pieces, are_zeros } => {
                    file.hash_pieces(self.ground, pieces, are_zeros);
                    file.parts_done(self.ground, 1);
                }
                Job::Finish(file) => file.parts_done(self.ground, 1),
            }
        }
    }

    /// Restores all that comes out of one segment; `round` counts the further places that were tried before.
    fn segment(&mut self, job: SegmentJob, round: usize) {
        let SegmentJob { site, segment, ahead, refs } = job;
        let (failed, mut left): (Vec<_>, Vec<_>) = refs.into_iter().partition(|chunk| chunk.file.has_failed());
        done_each(self.ground, &failed);
        if left.is_empty() {
            return;
        }
        let mut reason = format!("block {} is on no volume that is here", site.key);
        let mut is_elsewhere = round > 0;
        for volume in site.here.clone() {
            let store = self.stores.store(volume);
            let reader = &mut self.reader;
            let read = open_block(&mut self.open, (store, volume), &site).and_then(|object| {
                if let Some((offset, len)) = ahead {
                    object.will_read(offset, len);
                }
                reader.read(object, &segment)
            });
            let why = match read {
                Ok(raw) => {
                    let wanted = left.len();
                    left = scatter(self.ground, raw, left);
                    if is_elsewhere && left.len() < wanted {
                        self.ground.tally.counts().read_elsewhere += 1;
                    }
                    if left.is_empty() {
                        return;
                    }
                    ReadError::Content.to_string()
                }
                Err(error) => read_error_words(&error),
            };
            is_elsewhere = true;
            reason = format!("its data is damaged: volume {}, block {}: {why}", self.stores.words(volume), site.key);
        }
        match self.read_from_group(&site, &segment, &mut left) {
            Ok(_) if left.is_empty() => {}
            Ok(away) if away.is_empty() => self.elsewhere(left, &DataFailure::Damaged(reason), round),
            Ok(away) => self.elsewhere(left, &DataFailure::Away(away), round),
            Err(error) => {
                self.ground.tally.stop(error.into());
                done_each(self.ground, &left);
            }
        }
    }

    /// Restores what the block's parity group gives back of a segment; what it does not is left. Returns the words for the
    /// volumes that are away and may have the rest.
    fn read_from_group(
        &mut self,
        site: &Site,
        segment: &SegmentRef,
        left: &mut Vec<ChunkRef>,
    ) -> Result<Vec<String>, CatalogError> {
        let group = match &site.group {
            Some(group) => Some(Arc::clone(group)),
            None => {
                let catalog = opened(&mut self.catalog, self.catalog_path)?;
                self.stores.group(catalog, site)?.map(Arc::new)
            }
        };
        let Some(group) = group else { return Ok(self.stores.all_away_words(site.away.iter().copied())) };
        let away = self.stores.all_away_words(site.away.iter().copied().chain(group.volumes()));
        let is_open = self.open.as_ref().is_some_and(|(at, block, _)| *at == RECOVERED && *block == site.block);
        if !is_open {
            self.open = None;
            let Some(recovered) = group.open() else { return Ok(away) };
            self.open = Some((RECOVERED, site.block, Box::new(recovered)));
        }
        let Some((_, _, object)) = &self.open else { return Ok(away) };
        if let Ok(raw) = self.reader.read(&**object, segment) {
            let wanted = left.len();
            *left = scatter(self.ground, raw, std::mem::take(left));
            if left.len() < wanted {
                self.ground.tally.counts().read_elsewhere += 1;
            }
        }
        Ok(away)
    }

    /// Tries the next further place of chunks that could not be read.
    fn elsewhere(&mut self, refs: Vec<ChunkRef>, reason: &DataFailure, round: usize) {
        let mut jobs: HashMap<SegmentNo, SegmentJob> = HashMap::new();
        for chunk in refs {
            let next = if chunk.file.has_failed() || round >= ROUNDS_MAX {
                Ok(None)
            } else {
                self.further_place(&chunk, round)
            };
            match next {
                Ok(Some((segment, job))) => {
                    let job = jobs.entry(segment).or_insert(job);
                    job.refs.push(chunk);
                }
                Ok(None) => {
                    chunk.file.fail(reason.clone().into());
                    chunk.file.parts_done(self.ground, 1);
                }
                Err(error) => {
                    self.ground.tally.stop(error.into());
                    chunk.file.parts_done(self.ground, 1);
                }
            }
        }
        for job in jobs.into_values() {
            self.segment_again(job, reason, round + 1);
        }
    }

    /// A segment in another place; when its block is not here either, the first reason is the one that counts.
    fn segment_again(&mut self, job: SegmentJob, reason: &DataFailure, round: usize) {
        if !job.site.is_here() {
            self.elsewhere(job.refs, reason, round);
        } else {
            self.segment(job, round);
        }
    }

    fn further_place(
        &mut self,
        chunk: &ChunkRef,
        round: usize,
    ) -> Result<Option<(SegmentNo, SegmentJob)>, CatalogError> {
        let catalog = opened(&mut self.catalog, self.catalog_path)?;
        let Some(place) = places::further_places(catalog.conn(), chunk.no)?.into_iter().nth(round) else {
            return Ok(None);
        };
        let site = self.stores.site(catalog, place.block)?;
        Ok(Some((place.segment, segment_job(Arc::new(site), &place))))
    }
}

/// The catalog, opened when it is needed first.
fn opened<'c>(catalog: &'c mut Option<Catalog>, path: &Path) -> Result<&'c Catalog, CatalogError> {
    let known = match catalog.take() {
        Some(known) => known,
        None => Catalog::open(path)?,
    };
    Ok(catalog.insert(known))
}

type OpenBlock = Option<(usize, BlockNo, Box<dyn Object>)>;

/// Stands for the place of a block that its parity group gives back.
const RECOVERED: usize = usize::MAX;

/// The block's object, opened unless it is the one that was read last.
fn open_block<'o>(
    last: &'o mut OpenBlock,
    (store, volume): (&dyn Store, usize),
    site: &Site,
) -> Result<&'o dyn Object, ReadError> {
    let kept = last.take().filter(|(at, block, _)| *at == volume && *block == site.block);
    let (_, _, object) = match kept {
        Some(kept) => last.insert(kept),
        None => last.insert((volume, site.block, store.open(&site.key)?)),
    };
    Ok(&**object)
}

/// Checks the chunks in a decoded segment and writes the good ones, each run of neighbours at once. Returns those that
/// are not what their names say.
fn scatter(ground: &Ground<'_>, raw: &[u8], mut refs: Vec<ChunkRef>) -> Vec<ChunkRef> {
    refs.sort_unstable_by_key(|chunk| chunk.offset_in_segment);
    let (mut good, mut bad) = (Vec::with_capacity(refs.len()), Vec::new());
    let mut last: Option<(ChunkId, u32, bool)> = None;
    for chunk in refs {
        let is_good = match last {
            Some((id, offset, is_good)) if id == chunk.id && offset == chunk.offset_in_segment => is_good,
            _ => bytes_of(raw, &chunk).is_some_and(|bytes| is_chunk(ground.algo, &chunk.id, bytes)),
        };
        last = Some((chunk.id, chunk.offset_in_segment, is_good));
        if is_good { &mut good } else { &mut bad }.push(chunk);
    }
    good.sort_unstable_by_key(|chunk| (chunk.file.order, chunk.at));
    for run in good.chunk_by(are_neighbours) {
        let (first, last) = (&run[0], &run[run.len() - 1]);
        let begin = first.offset_in_segment as usize;
        let end = last.offset_in_segment as usize + last.len as usize;
        let bytes = &raw[begin..end];
        if !first.file.write_whole(ground, bytes) {
            first.file.write(ground, first.at, bytes);
        }
        first.file.parts_done(ground, run.len() as u64);
    }
    bad
}

fn bytes_of<'r>(raw: &'r [u8], chunk: &ChunkRef) -> Option<&'r [u8]> {
    raw.get(chunk.offset_in_segment as usize..)?.get(..chunk.len as usize)
}

/// Whether two chunks follow each other both in the segment and in the same file.
fn are_neighbours(one: &ChunkRef, next: &ChunkRef) -> bool {
    one.file.order == next.file.order
        && one.at + u64::from(one.len) == next.at
        && u64::from(one.offset_in_segment) + u64::from(one.len) == u64::from(next.offset_in_segment)
}

fn done_each(ground: &Ground<'_>, refs: &[ChunkRef]) {
    for chunk in refs {
        chunk.file.parts_done(ground, 1);
    }
}

pub(super) fn read_error_words(error: &ReadError) -> String {
    match error {
        ReadError::Store(StoreError::NotFound { .. }) => "it is missing".to_owned(),
        ReadError::Store(StoreError::Truncated { len_bytes, .. }) => format!("it is cut off after {len_bytes} bytes"),
        other => other.to_string(),
    }
}
