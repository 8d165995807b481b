//! `dump`: the bytes of one file in their order, to whoever takes them.
//!
//! Each chunk is hashed before it is handed out, the whole when it is complete; the end of a file is held back until its
//! hash is known to be right. Memory is a few segments and one piece, however long the file.

use super::fetch::read_error_words;
use super::sites::{Site, SiteCache, Stores};
use crate::catalog::places::{self, ChunkPlace, SegmentPlace};
use crate::catalog::row::StoredObject;
use crate::catalog::{contents, view};
use crate::codec::hash::{FileHasher, PIECE_LEN, piece_hash};
use crate::engine::block_file::{ReadError, SegmentReader, SegmentRef, is_chunk};
use crate::engine::error::{EngineError, Result};
use crate::engine::observer::{Expected, Observer, Phase};
use crate::engine::repository::Repository;
use crate::engine::select::{Picked, pick, source_words};
use crate::model::entry::EntryKind;
use crate::model::ids::{ContentId, RunSeq, SegmentNo};
use crate::model::params::HashAlgo;
use crate::model::path::show;
use crate::model::run_spec::RunSpec;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

/// Decoded segments that are kept, 4 MiB each at most: a file's new chunks lie one behind the other, those that it shares
/// with others do not.
const SEGMENTS_KEPT_MAX: usize = 6;
/// Zeros that are written at once.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Which file.
#[derive(Debug, Clone, Default)]
pub struct DumpOptions {
    /// Path inside the source, or absolute below its root.
    pub path: Vec<u8>,
    /// As of this run; the newest complete one when not given.
    pub run: Option<RunSpec>,
    /// `name` or `host:name`, where several sources fit.
    pub source: Option<String>,
}

/// What was dumped.
#[derive(Debug, Clone)]
pub struct DumpReport {
    /// The run.
    pub run: RunSeq,
    /// `host:name` of its source.
    pub source: String,
    /// Bytes, zeros included.
    pub bytes: u64,
    /// The file changed while it was stored: its bytes may never have been together.
    pub is_inconsistent: bool,
}

/// Writes a file's bytes to `out`. When it returns `Ok`, they were all of it and had its hash.
///
/// # Errors
/// `Usage` for what is no regular file; `Damage` and `NoVolume` when its bytes cannot be had, `Output` when they cannot be
/// written; a part may be written then, never the end.
pub fn dump(
    repository: &mut Repository,
    options: &DumpOptions,
    (out, observer): (&mut dyn Write, &dyn Observer),
) -> Result<DumpReport> {
    let picked = pick(repository, &options.path, options.run.as_ref(), options.source.as_deref())?;
    let entry = view::entry(repository.catalog.conn(), picked.as_of(), &picked.path)?;
    let Some(entry) = entry.filter(|entry| entry.version.kind == EntryKind::File) else {
        return Err(not_a_file(repository, &picked)?);
    };
    let StoredObject::Content(content) = entry.version.object else {
        return Err(EngineError::Fault(format!("{} has no content in the catalog", show(&picked.path))));
    };
    observer.begin(Phase::Restore, Expected { items: Some(1), bytes: Some(entry.version.size) });
    let stores = Stores::of(repository);
    let bytes = Dumper::new((repository, &stores), (&picked.path, out), observer).file(content)?;
    let source = source_words(&picked.source);
    Ok(DumpReport { run: picked.run.seq, source, bytes, is_inconsistent: entry.version.inconsistent })
}

fn not_a_file(repository: &Repository, picked: &Picked) -> Result<EngineError> {
    let entry = view::entry(repository.catalog.conn(), picked.as_of(), &picked.path)?;
    let kind = entry.as_ref().map_or(EntryKind::Dir, |entry| entry.version.kind);
    let name = if picked.path.is_empty() { "the root".to_owned() } else { show(&picked.path) };
    Ok(EngineError::Usage(match (kind, entry.map(|entry| entry.version.object)) {
        (EntryKind::Dir, _) => {
            format!("{name} is a directory in run {}; use `raidtape restore-folder` for it", picked.run.seq)
        }
        (_, Some(StoredObject::Target(to))) => format!(
            "{name} is a symlink to {} in run {}; name the file that it leads to, or use `raidtape restore` for the link",
            show(&to),
            picked.run.seq
        ),
        (kind, _) => format!(
            "{name} is a {} in run {} and has no bytes; use `raidtape restore` for it",
            kind.word(),
            picked.run.seq
        ),
    }))
}

struct Dumper<'a> {
    repository: &'a Repository,
    stores: &'a Stores,
    sites: SiteCache<'a>,
    observer: &'a dyn Observer,
    path: &'a [u8],
    out: &'a mut dyn Write,
    algo: HashAlgo,
    hasher: FileHasher,
    /// Bytes of the piece that is not complete yet.
    piece: Vec<u8>,
    pieces: u64,
    /// What is not written yet, so that the end is never written before the hash is known.
    held: Vec<u8>,
    reader: SegmentReader,
    /// The one that was used last at the end.
    segments: VecDeque<(SegmentNo, Vec<u8>)>,
}

impl<'a> Dumper<'a> {
    fn new(
        (repository, stores): (&'a Repository, &'a Stores),
        (path, out): (&'a [u8], &'a mut dyn Write),
        observer: &'a dyn Observer,
    ) -> Self {
        let algo = repository.settings().hash;
        Self {
            repository,
            stores,
            sites: SiteCache::new(&repository.catalog, stores),
            observer,
            path,
            out,
            algo,
            hasher: FileHasher::new(algo),
            piece: Vec::new(),
            pieces: 0,
            held: Vec::new(),
            reader: SegmentReader::new(),
            segments: VecDeque::new(),
        }
    }

    fn file(mut self, id: ContentId) -> Result<u64> {
        let conn = self.repository.catalog.conn();
        let content = contents::get(conn, id)?;
        let mut at = 0_u64;
        for (index, extent) in content.extents.iter().enumerate() {
            if extent.at != at {
                break;
            }
            if extent.chunk.0 == 0 {
                let end = content.extents.get(index + 1).map_or(content.size, |next| next.at);
                let Some(len) = end.checked_sub(at).filter(|_| end <= content.size) else { break };
                self.zeros(len)?;
                at = end;
                continue;
            }
            for chunk in places::chunks_from(conn, extent.chunk, extent.n)? {
                self.chunk(&chunk)?;
                at = at.saturating_add(u64::from(chunk.len));
            }
        }
        if at != content.size {
            return Err(self.damaged(
                "the catalog's list of its chunks does not add up; bring the catalog back with `raidtape rebuild-catalog`",
            ));
        }
        if !self.piece.is_empty() {
            self.push_piece();
        }
        let hasher = std::mem::replace(&mut self.hasher, FileHasher::new(self.algo));
        if hasher.finish() != content.hash.0 {
            return Err(self.damaged("its bytes do not have the hash that was recorded for it"));
        }
        let held = std::mem::take(&mut self.held);
        self.write(&held)?;
        self.out.flush().map_err(EngineError::Output)?;
        Ok(content.size)
    }

    fn zeros(&mut self, mut len: u64) -> Result<()> {
        while len > 0 {
            let now = usize::try_from(len).unwrap_or(usize::MAX).min(ZEROS.len());
            self.give(&ZEROS[..now])?;
            len -= now as u64;
        }
        Ok(())
    }

    fn chunk(&mut self, chunk: &ChunkPlace) -> Result<()> {
        let bytes = self.read(chunk)?;
        self.give(&bytes)
    }

    /// Hashes the next bytes, and writes those before them.
    fn give(&mut self, bytes: &[u8]) -> Result<()> {
        if self.observer.is_cancelled() {
            return Err(EngineError::Interrupted);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let now = rest.len().min(PIECE_LEN - self.piece.len());
            self.piece.extend_from_slice(&rest[..now]);
            rest = &rest[now..];
            if self.piece.len() == PIECE_LEN {
                self.push_piece();
            }
        }
        let held = std::mem::replace(&mut self.held, bytes.to_vec());
        self.write(&held)
    }

    fn push_piece(&mut self) {
        self.hasher.push(piece_hash(self.algo, self.pieces, &self.piece), &self.piece);
        self.piece.clear();
        self.pieces += 1;
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(EngineError::Output)?;
        self.observer.advance(0, bytes.len() as u64);
        Ok(())
    }

    /// A chunk's bytes, shown to be it, from whichever place and copy has them.
    fn read(&mut self, chunk: &ChunkPlace) -> Result<Vec<u8>> {
        let Some(first) = chunk.place.filter(|_| chunk.len > 0) else {
            return Err(self.away(
                "its place is unknown: the volume that holds it was never seen; mount that volume and run \
                 `raidtape rebuild-catalog`",
            ));
        };
        let further = places::further_places(self.repository.catalog.conn(), chunk.no)?;
        let (mut away, mut why) = (Vec::new(), None);
        for place in std::iter::once(first).chain(further) {
            if let Some(bytes) = self.kept(&place, chunk) {
                return Ok(bytes);
            }
            let site = self.sites.get(place.block)?;
            away.extend(site.away.iter().filter_map(|id| self.stores.away_words(*id).map(str::to_owned)));
            match self.read_at(&site, (&place, chunk)) {
                Ok(bytes) => return Ok(bytes),
                Err(reason) => why = why.or(reason),
            }
        }
        if let Some(why) = why {
            return Err(self.damaged(&why));
        }
        if away.is_empty() {
            return Err(self.damaged("its data was on a volume that was given up, or its block is gone"));
        }
        away.dedup();
        Err(self.away(&format!(
            "its data is on {}, not mounted; mount it, or pass `--volume DIR` if it moved",
            away.join(" or ")
        )))
    }

    fn kept(&mut self, place: &SegmentPlace, chunk: &ChunkPlace) -> Option<Vec<u8>> {
        let at = self.segments.iter().position(|(segment, _)| *segment == place.segment)?;
        let kept = self.segments.remove(at)?;
        let bytes = bytes_of(self.algo, &kept.1, (place, chunk));
        self.segments.push_back(kept);
        bytes
    }

    /// The chunk from one of a block's copies, or why none that is here has it.
    fn read_at(
        &mut self,
        site: &Site,
        (place, chunk): (&SegmentPlace, &ChunkPlace),
    ) -> std::result::Result<Vec<u8>, Option<String>> {
        let segment = SegmentRef {
            offset: place.offset,
            stored_len: place.stored_len,
            raw_len: place.raw_len,
            codec: place.codec,
        };
        let mut why = None;
        for volume in &site.here {
            let opened = self.stores.store(*volume).open(&site.key).map_err(Into::into);
            let reason = match opened.and_then(|object| Ok(self.reader.read(&*object, &segment)?.to_vec())) {
                Ok(raw) => match bytes_of(self.algo, &raw, (place, chunk)) {
                    Some(bytes) => {
                        if self.segments.len() >= SEGMENTS_KEPT_MAX {
                            self.segments.pop_front();
                        }
                        self.segments.push_back((place.segment, raw));
                        return Ok(bytes);
                    }
                    None => ReadError::Content.to_string(),
                },
                Err(error) => read_error_words(&error),
            };
            let words = self.stores.words(*volume);
            why = Some(format!("its data is damaged: volume {words}, block {}: {reason}", site.key));
        }
        self.read_from_group(site, &segment, (place, chunk)).ok_or(why)
    }

    /// The chunk as the block's parity group gives it back.
    fn read_from_group(
        &mut self,
        site: &Site,
        segment: &SegmentRef,
        (place, chunk): (&SegmentPlace, &ChunkPlace),
    ) -> Option<Vec<u8>> {
        let group = match &site.group {
            Some(group) => Arc::clone(group),
            None => Arc::new(self.stores.group(&self.repository.catalog, site).ok()??),
        };
        let raw = self.reader.read(&group.open()?, segment).ok()?.to_vec();
        let bytes = bytes_of(self.algo, &raw, (place, chunk))?;
        if self.segments.len() >= SEGMENTS_KEPT_MAX {
            self.segments.pop_front();
        }
        self.segments.push_back((place.segment, raw));
        Some(bytes)
    }

    fn damaged(&self, why: &str) -> EngineError {
        EngineError::Damage(format!("{} cannot be dumped whole: {why}", show(self.path)))
    }

    fn away(&self, why: &str) -> EngineError {
        EngineError::NoVolume(format!("{} cannot be dumped whole: {why}", show(self.path)))
    }
}

/// A chunk's bytes in a decoded segment, if they are it.
fn bytes_of(algo: HashAlgo, raw: &[u8], (place, chunk): (&SegmentPlace, &ChunkPlace)) -> Option<Vec<u8>> {
    let bytes = raw.get(place.offset_in_segment as usize..)?.get(..chunk.len as usize)?;
    is_chunk(algo, &chunk.id, bytes).then(|| bytes.to_vec())
}
