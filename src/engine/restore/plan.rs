//! The order of a restore's reads: which segments are needed, by volume, block and offset, and which bytes of which file
//! come out of each. Works in windows, so that a plan never grows with the data; files may reach over several.

use super::file::{FileJob, FileSpec, Ground};
use super::sites::{Site, SiteCache, Stores};
use super::tally::Failure;
use crate::catalog::places::{self, ChunkPlace, ContentHead, SegmentPlace};
use crate::catalog::{Catalog, contents};
use crate::engine::block_file::SegmentRef;
use crate::engine::error::{EngineError, Result};
use crate::model::ids::{ChunkId, ChunkNo, ContentId, SegmentNo};
use crossbeam_channel::Sender;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Chunk references in one window at most: about 5 MiB of memory.
const WINDOW_REFS_MAX: usize = 1 << 16;
/// Files in one window at most, and in the first one: that is small, so that writing begins soon.
const WINDOW_FILES_MAX: usize = 1 << 14;
const WINDOW_FILES_FIRST: usize = 1 << 9;
/// Pieces of zeros in one job.
const ZERO_PIECES_MAX: u64 = 64;
/// How far ahead of its own segment a thread asks for the next ones, in jobs.
const AHEAD: usize = 2;

/// Bytes of a chunk that go to an offset of a file.
pub(super) struct ChunkRef {
    pub no: ChunkNo,
    pub id: ChunkId,
    pub len: u32,
    pub offset_in_segment: u32,
    pub at: u64,
    pub file: Arc<FileJob>,
}

/// A segment to read once, and all that comes out of it.
pub(super) struct SegmentJob {
    pub site: Arc<Site>,
    pub segment: SegmentRef,
    /// What of the same block will be wanted soon: offset and length.
    pub ahead: Option<(u64, u64)>,
    pub refs: Vec<ChunkRef>,
}

/// What threads do.
pub(super) enum Job {
    /// Read, decode, check, write.
    Segment(SegmentJob),
    /// Hash pieces that no more bytes come for.
    Hash { file: Arc<FileJob>, pieces: Range<u64>, are_zeros: bool },
    /// Finish a file whose parts are all done already.
    Finish(Arc<FileJob>),
}

/// Plans files one after the other and sends jobs.
pub(super) struct Planner<'a> {
    catalog: &'a Catalog,
    ground: &'a Ground<'a>,
    stores: &'a Stores,
    sites: SiteCache<'a>,
    jobs: Sender<Job>,
    segments: HashMap<SegmentNo, SegmentJob>,
    refs: usize,
    files: usize,
    window_files: usize,
    order: u64,
}

impl<'a> Planner<'a> {
    pub fn new(catalog: &'a Catalog, (ground, stores): (&'a Ground<'a>, &'a Stores), jobs: Sender<Job>) -> Self {
        Self {
            catalog,
            ground,
            stores,
            sites: SiteCache::new(catalog, stores),
            jobs,
            segments: HashMap::new(),
            refs: 0,
            files: 0,
            window_files: WINDOW_FILES_FIRST,
            order: 0,
        }
    }

    /// Plans a file. What cannot be read of it becomes its failure; an error is the catalog's.
    pub fn file(&mut self, spec: FileSpec, content: ContentId, head: &ContentHead) -> Result<()> {
        let is_one_chunk = head.only.is_some_and(|chunk| chunk.id.0 == head.hash.0);
        let file = Arc::new(FileJob::new(spec, self.order, (self.ground.algo, is_one_chunk)));
        self.order += 1;
        self.files += 1;
        match head.only {
            Some(chunk) => self.chunk(&file, 0, chunk)?,
            None => self.extents(&file, content)?,
        }
        if file.is_last_part() {
            self.send(Job::Finish(file))?;
        } else {
            // Another thread may have done the rest since.
            file.parts_done(self.ground, 1);
        }
        if self.refs >= WINDOW_REFS_MAX || self.files >= self.window_files {
            self.flush()?;
        }
        Ok(())
    }

    /// Sends what is planned.
    pub fn flush(&mut self) -> Result<()> {
        let mut jobs: Vec<SegmentJob> = self.segments.drain().map(|(_, job)| job).collect();
        jobs.sort_unstable_by_key(|job| (job.site.here.first().copied(), job.site.block, job.segment.offset));
        for at in 0..jobs.len() {
            if let Some(later) = jobs.get(at + AHEAD).filter(|later| later.site.block == jobs[at].site.block) {
                jobs[at].ahead = Some((later.segment.offset, u64::from(later.segment.stored_len)));
            }
        }
        self.refs = 0;
        self.files = 0;
        self.window_files = (self.window_files * 2).min(WINDOW_FILES_MAX);
        jobs.into_iter().try_for_each(|job| self.send(Job::Segment(job)))
    }

    /// The pieces of a content of several chunks, or with zeros.
    fn extents(&mut self, file: &Arc<FileJob>, id: ContentId) -> Result<()> {
        let content = contents::get(self.catalog.conn(), id)?;
        let mut at = 0;
        for (index, extent) in content.extents.iter().enumerate() {
            if file.has_failed() {
                return Ok(());
            }
            if extent.at != at {
                break;
            }
            if extent.chunk.0 == 0 {
                let end = content.extents.get(index + 1).map_or(content.size, |next| next.at);
                let Some(len) = end.checked_sub(at).filter(|_| end <= content.size) else { break };
                self.zeros(file, at, len)?;
                at = end;
                continue;
            }
            for chunk in places::chunks_from(self.catalog.conn(), extent.chunk, extent.n)? {
                if at.saturating_add(u64::from(chunk.len)) > content.size || file.has_failed() {
                    break;
                }
                self.chunk(file, at, chunk)?;
                at += u64::from(chunk.len);
                if self.refs >= WINDOW_REFS_MAX {
                    self.flush()?;
                }
            }
        }
        if at != content.size && !file.has_failed() {
            file.fail(Failure::Damaged(
                "the catalog's list of its chunks does not add up; bring the catalog back with \
                 `raidtape rebuild-catalog`"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    fn zeros(&self, file: &Arc<FileJob>, at: u64, len: u64) -> Result<()> {
        self.ground.observer.advance(0, len);
        let (zeros, complete) = file.note_zeros(at, len);
        let mut from = zeros.start;
        while from < zeros.end {
            let to = zeros.end.min(from + ZERO_PIECES_MAX);
            file.expect_part();
            self.send(Job::Hash { file: Arc::clone(file), pieces: from..to, are_zeros: true })?;
            from = to;
        }
        for index in complete {
            file.expect_part();
            self.send(Job::Hash { file: Arc::clone(file), pieces: index..index + 1, are_zeros: false })?;
        }
        Ok(())
    }

    fn chunk(&mut self, file: &Arc<FileJob>, at: u64, chunk: ChunkPlace) -> Result<()> {
        let Some((place, site)) = self.place_of(file, &chunk)? else { return Ok(()) };
        let job = self.segments.entry(place.segment).or_insert_with(|| segment_job(site, &place));
        file.expect_part();
        job.refs.push(ChunkRef {
            no: chunk.no,
            id: chunk.id,
            len: chunk.len,
            offset_in_segment: place.offset_in_segment,
            at,
            file: Arc::clone(file),
        });
        self.refs += 1;
        Ok(())
    }

    /// A place of a chunk on a volume that is here; else the file has failed.
    fn place_of(&mut self, file: &FileJob, chunk: &ChunkPlace) -> Result<Option<(SegmentPlace, Arc<Site>)>> {
        let Some(first) = chunk.place.filter(|_| chunk.len > 0) else {
            file.fail(Failure::Away(Vec::new()));
            return Ok(None);
        };
        let site = self.sites.get(first.block)?;
        if site.is_here() {
            return Ok(Some((first, site)));
        }
        let mut away = site.away.clone();
        for place in places::further_places(self.catalog.conn(), chunk.no)? {
            let site = self.sites.get(place.block)?;
            if site.is_here() {
                return Ok(Some((place, site)));
            }
            away.extend(&site.away);
        }
        file.fail(if away.is_empty() {
            Failure::Damaged("its data was on a volume that was given up, or its block is gone".to_owned())
        } else {
            let words = |id: &_| self.stores.away_words(*id).map(str::to_owned);
            Failure::Away(away.iter().filter_map(words).collect())
        });
        Ok(None)
    }

    fn send(&self, job: Job) -> Result<()> {
        self.jobs.send(job).map_err(|_| EngineError::Fault("the threads of the restore ended early".to_owned()))
    }
}

/// A job for one segment, with nothing to come out of it yet.
pub(super) fn segment_job(site: Arc<Site>, place: &SegmentPlace) -> SegmentJob {
    let segment =
        SegmentRef { offset: place.offset, stored_len: place.stored_len, raw_len: place.raw_len, codec: place.codec };
    SegmentJob { site, segment, ahead: None, refs: Vec::new() }
}
