//! Applying a manifest to a catalog: the one way in which the roll-forward of an unfinished run, the catch-up of an
//! older catalog and a rebuild bring a run in. Everything happens in the caller's transaction; on an error the caller
//! drops it.

use super::block_file::ReadError;
use super::manifest_file::ManifestReader;
use crate::catalog::blocks::{self, NewBlock};
use crate::catalog::chunks;
use crate::catalog::runs::{self, Run, RunState};
use crate::catalog::settings;
use crate::catalog::versions::{Applier, ApplyRun};
use crate::catalog::volumes;
use crate::catalog::{CatalogError, Connection, pending};
use crate::format::bytes::Reader;
use crate::format::container::FormatError;
use crate::format::manifest::{BlockRecord, DictionaryRun, Encoding, ManifestMeta, ManifestVolume, SectionTag};
use crate::model::ids::{ChunkId, ChunkNo, RunSeq, SourceId, StateDigest};
use crate::model::limits::NUMBER_MAX;
use crate::model::params::Reserve;
use std::collections::{HashMap, HashSet};

/// Why a manifest could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The catalog.
    #[error(transparent)]
    Catalog(CatalogError),
    /// What it says cannot all be so: a path twice, a run that another number has already.
    #[error("it contradicts itself or the runs before it")]
    Contradiction,
    /// Its bytes.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It changes a state that is not the catalog's.
    #[error("it goes on from a state that is not here")]
    OtherBase,
    /// The state that it changes is past.
    #[error("a later run of its source, {0}, is in the catalog already and does not go on from it")]
    Late(RunSeq),
    /// The state after it is not the one that it says.
    #[error("the state after it is not the one that it records")]
    WrongResult,
    /// It names a chunk that it does not define.
    #[error("it names chunk {0} and does not say which that is")]
    UnknownChunk(i64),
}

impl From<CatalogError> for ApplyError {
    fn from(error: CatalogError) -> Self {
        if error.is_contradiction() { Self::Contradiction } else { Self::Catalog(error) }
    }
}

impl From<FormatError> for ApplyError {
    fn from(error: FormatError) -> Self {
        Self::Read(error.into())
    }
}

pub(super) type Result<T> = std::result::Result<T, ApplyError>;

/// Reads the head of a manifest: its first section.
pub fn read_meta(reader: &mut ManifestReader<'_>) -> std::result::Result<ManifestMeta, ReadError> {
    match reader.next_section()? {
        Some((SectionTag::Meta, body)) => {
            serde_json::from_slice(&body).map_err(|_| FormatError::Invalid("head").into())
        }
        _ => Err(FormatError::Invalid("head").into()),
    }
}

/// A manifest being applied.
pub struct ManifestApply<'c> {
    pub(super) conn: &'c Connection,
    pub(super) meta: &'c ManifestMeta,
    pub(super) source: SourceId,
    /// Catalog numbers of manifest numbers, where they differ.
    pub(super) remap: HashMap<i64, i64>,
    /// Reserve of volumes that are met for the first time.
    reserve: Reserve,
    /// Paths of a full record.
    pub(super) present: HashSet<Vec<u8>>,
}

impl<'c> ManifestApply<'c> {
    /// For the run of `meta`; makes its source when that is new.
    pub fn new(conn: &'c Connection, meta: &'c ManifestMeta, reserve: Reserve) -> Result<Self> {
        let source = runs::intern_source(conn, &meta.source.host, &meta.source.name, &meta.source.roots)?;
        Ok(Self { conn, meta, source, remap: HashMap::new(), reserve, present: HashSet::new() })
    }

    /// Applies the sections behind the head, and makes the run complete.
    pub fn apply(mut self, reader: &mut ManifestReader<'_>) -> Result<()> {
        let newest = runs::newest_complete(self.conn, self.source)?;
        // The live rows are those of the newest run; an earlier one cannot enter behind it.
        if let Some(newest) = newest.as_ref().filter(|run| run.seq >= self.meta.run_seq()) {
            return Err(ApplyError::Late(newest.seq));
        }
        let state = newest.as_ref().and_then(|run| run.digest).unwrap_or(StateDigest::EMPTY);
        if self.meta.encoding == Encoding::Delta && state != self.meta.base {
            return Err(ApplyError::OtherBase);
        }
        let prev = newest.map(|run| run.seq);
        let apply_run = ApplyRun { source: self.source, run: self.meta.run_seq(), prev };
        let mut applier = Applier::new(self.conn, apply_run, state).exactly();
        while let Some((tag, body)) = reader.next_section()? {
            match tag {
                SectionTag::Meta => return Err(FormatError::Invalid("head").into()),
                SectionTag::Volumes => self.volumes(&body)?,
                SectionTag::Blocks => self.blocks(&body)?,
                SectionTag::Dictionary => self.dictionary(&body)?,
                SectionTag::Rows => self.rows(&body, &mut applier)?,
            }
        }
        if self.meta.encoding == Encoding::Full {
            applier.end_all_but(&self.present)?;
        }
        if applier.digest() != self.meta.result {
            return Err(ApplyError::WrongResult);
        }
        applier.finish()?;
        self.complete(prev, (reader.digest()?, reader.file_len()))
    }

    fn complete(&self, prev: Option<RunSeq>, (manifest, len): ([u8; 32], u64)) -> Result<()> {
        let seq = self.meta.run_seq();
        let run = Run {
            seq,
            uuid: self.meta.run,
            source: self.source,
            state: RunState::Complete,
            prev,
            started_ns: self.meta.started_ns,
            ended_ns: Some(self.meta.ended_ns),
            digest: Some(self.meta.result),
            // A full record is not the file that validate compares with.
            manifest: Some(manifest).filter(|_| self.meta.encoding == Encoding::Delta),
            counts: self.meta.counts,
            marks: self.meta.marks.clone(),
        };
        if runs::get(self.conn, seq)?.is_none() {
            runs::insert_open(self.conn, &run)?;
        }
        runs::complete(self.conn, &run)?;
        runs::set_asked_by(self.conn, self.meta)?;
        match self.meta.encoding {
            Encoding::Delta => runs::set_manifest_bytes(self.conn, seq, len)?,
            Encoding::Full => runs::set_full_bytes(self.conn, seq, len)?,
        }
        pending::clear(self.conn, self.source, seq)?;
        if let Some(compression) = self.meta.compression {
            settings::set_compression(self.conn, compression)?;
        }
        if let Some(redundancy) = self.meta.redundancy {
            settings::set_redundancy(self.conn, redundancy)?;
        }
        Ok(())
    }

    fn volumes(&self, body: &[u8]) -> Result<()> {
        let listed: Vec<ManifestVolume> = serde_json::from_slice(body).map_err(|_| FormatError::Invalid("volumes"))?;
        for volume in listed {
            let identity = (volume.uuid, volume.name.as_str());
            let told = (self.meta.redundancy.is_some(), volume.state.as_deref());
            volumes::put_told(self.conn, identity, told, self.reserve)?;
        }
        Ok(())
    }

    fn blocks(&mut self, body: &[u8]) -> Result<()> {
        let mut fields = Reader::new(body);
        while !fields.is_at_end() {
            let record = BlockRecord::decode(&mut fields)?;
            let mut numbers = Vec::with_capacity(record.numbers.len());
            let segments = record.table.segments.iter();
            let ids: Vec<&ChunkId> = segments.flat_map(|segment| &segment.chunks).map(|(id, _)| id).collect();
            let known = chunks::numbers_of(self.conn, &ids)?;
            let mut given = Given::default();
            for ((id, known), no) in ids.into_iter().zip(known).zip(&record.numbers) {
                numbers.push(self.number_for(*no, (id, known), &mut given)?);
            }
            let known = record.volumes.iter().map(|uuid| volumes::put_named(self.conn, *uuid, self.reserve));
            let volumes_of = known.collect::<std::result::Result<_, _>>()?;
            let block = NewBlock {
                id: record.id,
                size: record.size,
                kind: record.kind,
                volumes: volumes_of,
                table: record.table,
                numbers,
                listed_by: Some(self.meta.run_seq()),
            };
            let no = blocks::register(self.conn, &block)?;
            blocks::set_listed(self.conn, no, self.meta.run_seq())?;
        }
        Ok(())
    }

    /// The catalog's number for a chunk that the manifest calls `no`: the one it has; else the same, when it is free.
    fn number_for(
        &mut self,
        no: ChunkNo,
        (id, known): (&ChunkId, Option<ChunkNo>),
        given: &mut Given,
    ) -> Result<ChunkNo> {
        let local = match given.by_id.get(id).copied().or(known) {
            Some(known) => known,
            None => {
                let is_free = (1..=NUMBER_MAX).contains(&no.0)
                    && !given.used.contains(&no.0)
                    && chunks::get(self.conn, no)?.is_none();
                let fresh = if is_free { no } else { given.next(chunks::next_no(self.conn)?) };
                given.put(*id, fresh);
                fresh
            }
        };
        if local != no {
            self.remap.insert(no.0, local.0);
        }
        Ok(local)
    }

    fn dictionary(&mut self, body: &[u8]) -> Result<()> {
        let mut fields = Reader::new(body);
        while !fields.is_at_end() {
            let run = DictionaryRun::decode(&mut fields)?;
            for (step, (id, len)) in (0_i64..).zip(&run.chunks) {
                let no = ChunkNo(run.first.0.wrapping_add(step));
                let known = chunks::find_place(self.conn, id)?.map(|(known, _)| known);
                let local = self.number_for(no, (id, known), &mut Given::default())?;
                if chunks::get(self.conn, local)?.is_none() {
                    chunks::put_placeless(self.conn, local, (id, *len))?;
                }
            }
        }
        Ok(())
    }
}

/// Numbers given to chunks that are not in the catalog yet.
#[derive(Debug, Default)]
struct Given {
    by_id: HashMap<ChunkId, ChunkNo>,
    used: HashSet<i64>,
    max: i64,
}

impl Given {
    fn put(&mut self, id: ChunkId, no: ChunkNo) {
        self.by_id.insert(id, no);
        self.used.insert(no.0);
        self.max = self.max.max(no.0);
    }

    fn next(&self, floor: ChunkNo) -> ChunkNo {
        ChunkNo(floor.0.max(self.max + 1))
    }
}
