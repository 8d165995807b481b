//! What a damaged copy touches: which of its chunks cannot be read from it, and which file versions need one of those
//! that is sound nowhere else.

use super::block_check::{Damage, segment_ref, sound_chunks};
use super::record::Outcomes;
use super::report::{AffectedFile, DamagedBlock, FILES_NAMED_MAX};
use crate::catalog::places::{self, BlockRow};
use crate::catalog::{blocks, damage, runs};
use crate::engine::block_file::{SegmentReader, SegmentRef, is_chunk};
use crate::engine::error::Result;
use crate::engine::parity::recovered::Recovered;
use crate::engine::parity::source::GroupSource;
use crate::engine::repository::Repository;
use crate::format::layout;
use crate::format::sidecar::base64;
use crate::model::ids::{BlockId, BlockNo, ChunkId, ChunkNo, ContentId, SourceId, VolumeId};
use crate::model::path;
use crate::volume::store::Object;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Looks into damaged copies, after all copies were looked at.
pub(super) struct Toucher<'r> {
    repository: &'r Repository,
    rows: HashMap<BlockNo, &'r BlockRow>,
    outcomes: &'r Outcomes,
    sources: HashMap<SourceId, String>,
    reader: SegmentReader,
    /// The block that its group was asked for last.
    recovered: Option<(BlockNo, Option<Recovered>)>,
}

impl<'r> Toucher<'r> {
    /// `rows` are all blocks of the catalog.
    pub fn new(repository: &'r Repository, rows: &'r [BlockRow], outcomes: &'r Outcomes) -> Result<Self> {
        let sources = runs::sources(repository.catalog.conn())?;
        Ok(Self {
            repository,
            rows: rows.iter().map(|row| (row.no, row)).collect(),
            outcomes,
            sources: sources
                .into_iter()
                .map(|source| (source.id, format!("{}:{}", source.host, source.name)))
                .collect(),
            reader: SegmentReader::new(),
            recovered: None,
        })
    }

    /// The report of one damaged copy.
    pub fn describe(&mut self, copy: (BlockNo, VolumeId), damage: &Damage) -> Result<Option<DamagedBlock>> {
        let Some(row) = self.rows.get(&copy.0).copied() else {
            return Ok(None);
        };
        let lost = self.lost_chunks(row, copy.1, damage)?;
        let mut contents: BTreeSet<ContentId> = BTreeSet::new();
        let is_given_back = self.outcomes.given_back.contains(&copy.0);
        for no in lost.iter().filter(|_| !is_given_back) {
            if !self.is_sound_elsewhere(*no, copy)? {
                let uses = damage::extents_with(self.repository.catalog.conn(), *no, *no)?;
                contents.extend(uses.into_iter().map(|found| found.content));
            }
        }
        let (files, files_total) = self.files_of(&contents)?;
        let what = match (row.is_parity, lost.is_empty()) {
            (true, _) => format!("{damage}; it is a parity, and holds no file"),
            (false, _) if self.outcomes.awaited.contains(&copy.0) => {
                format!("{damage}; part of its parity group is on volumes that are away")
            }
            (false, _) if is_given_back => format!("{damage}; its parity group gives it back"),
            (false, true) => format!("{damage}; all of its chunks can still be read"),
            (false, false) => damage.to_string(),
        };
        Ok(Some(DamagedBlock {
            block: row.id,
            volume: match damage {
                Damage::GivenUp => "no volume".to_owned(),
                _ => self.repository.volume_words(copy.1),
            },
            what,
            damaged_chunks: lost.len() as u64,
            files,
            files_total,
            healed_from: None,
        }))
    }

    /// Chunks that cannot be read from this copy, by the catalog's rows: the copy's own table may be damaged.
    fn lost_chunks(&mut self, row: &BlockRow, volume: VolumeId, damage: &Damage) -> Result<Vec<ChunkNo>> {
        let (table, numbers) = blocks::table_of(self.repository.catalog.conn(), row.no)?;
        let object = match damage {
            Damage::Missing | Damage::GivenUp => None,
            _ => self.open(row, volume),
        };
        let algo = self.repository.settings().hash;
        let (mut sound, mut lost) = (HashSet::new(), Vec::new());
        let mut numbers = numbers.into_iter();
        for segment in &table.segments {
            let raw = object.as_deref().and_then(|object| self.reader.read(object, &segment_ref(segment)).ok());
            let are_sound = sound_chunks(algo, segment, raw.unwrap_or_default());
            for (no, is_sound) in numbers.by_ref().take(segment.chunks.len()).zip(are_sound) {
                if is_sound {
                    sound.insert(no);
                } else {
                    lost.push(no);
                }
            }
            if let Some(object) = &object {
                object.forget(segment.offset, u64::from(segment.stored_len));
            }
        }
        lost.retain(|no| !sound.contains(no));
        lost.sort_unstable();
        lost.dedup();
        Ok(lost)
    }

    fn open(&self, row: &BlockRow, volume: VolumeId) -> Option<Box<dyn Object>> {
        self.repository.volume(volume)?.store().open(&layout::block_key(&row.id)).ok()
    }

    /// Whether a chunk can be had from a copy that is here, other than `copy`. What was not found damaged is trusted;
    /// a damaged copy may still have this chunk, so it is asked.
    fn is_sound_elsewhere(&mut self, no: ChunkNo, copy: (BlockNo, VolumeId)) -> Result<bool> {
        let conn = self.repository.catalog.conn();
        let Some(chunk) = places::chunks_from(conn, no, 1)?.pop() else {
            return Ok(false);
        };
        let further = places::further_places(conn, no)?;
        for place in chunk.place.into_iter().chain(further) {
            let Some(row) = self.rows.get(&place.block).copied() else { continue };
            if !matches!(row.state.as_str(), "ok" | "bad") {
                continue;
            }
            let segment = SegmentRef {
                offset: place.offset,
                stored_len: place.stored_len,
                raw_len: place.raw_len,
                codec: place.codec,
            };
            for volume in &row.volumes {
                let other = (place.block, *volume);
                if other == copy || self.repository.volume(*volume).is_none() {
                    continue;
                }
                if row.state == "ok" && !self.outcomes.is_damaged(other) {
                    return Ok(true);
                }
                if self.holds(other, &segment, (&chunk.id, place.offset_in_segment as usize, chunk.len as usize)) {
                    return Ok(true);
                }
            }
            let chunk = (&chunk.id, place.offset_in_segment as usize, chunk.len as usize);
            if self.gives_back((row.no, row.id), &segment, chunk)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the parity group of a block gives a chunk back.
    fn gives_back(
        &mut self,
        block: (BlockNo, BlockId),
        segment: &SegmentRef,
        (id, at, len): (&ChunkId, usize, usize),
    ) -> Result<bool> {
        let repository = self.repository;
        let algo = repository.settings().hash;
        let store_of = |id| repository.volume(id).map(|mounted| Arc::clone(mounted.store()));
        let known = (repository.settings().repository, algo);
        if self.recovered.as_ref().is_none_or(|(open, _)| *open != block.0) {
            let group = GroupSource::find(repository.catalog.conn(), block, known, &store_of)?;
            self.recovered = Some((block.0, group.and_then(|group| group.open())));
        }
        let Some((_, Some(object))) = &self.recovered else { return Ok(false) };
        let raw = self.reader.read(object, segment).ok();
        Ok(raw.and_then(|raw| raw.get(at..at.saturating_add(len))).is_some_and(|bytes| is_chunk(algo, id, bytes)))
    }

    fn holds(
        &mut self,
        (block, volume): (BlockNo, VolumeId),
        segment: &SegmentRef,
        (id, at, len): (&ChunkId, usize, usize),
    ) -> bool {
        let algo = self.repository.settings().hash;
        let Some(object) = self.rows.get(&block).and_then(|row| self.open(row, volume)) else {
            return false;
        };
        let raw = self.reader.read(&*object, segment).ok();
        raw.and_then(|raw| raw.get(at..at.saturating_add(len))).is_some_and(|bytes| is_chunk(algo, id, bytes))
    }

    fn files_of(&self, contents: &BTreeSet<ContentId>) -> Result<(Vec<AffectedFile>, u64)> {
        let (mut files, mut total) = (Vec::new(), 0);
        for content in contents {
            damage::for_each_user(self.repository.catalog.conn(), *content, &mut |user| {
                total += 1;
                if files.len() < FILES_NAMED_MAX {
                    files.push(AffectedFile {
                        source: self.sources.get(&user.source).cloned().unwrap_or_default(),
                        path: path::show(&user.path),
                        path_b64: std::str::from_utf8(&user.path).is_err().then(|| base64(&user.path)),
                        first_run: user.first_run,
                        last_run: user.last_run,
                    });
                }
                Ok(())
            })?;
        }
        files.sort();
        Ok((files, total))
    }
}
