//! The committer: the only writer of the catalog during a run. Registers durable blocks, tells the assembler that
//! their chunks can be looked up now, and keeps the run's rows until they can be applied: in memory, and in `pending`
//! when they grow many, at intervals, and when the run does not come to its end.

use super::items::{StagedChange, StagedFile, StagedRow};
use crate::catalog::blocks::{self, NewBlock};
use crate::catalog::interned::{Interner, set_affinity};
use crate::catalog::pending::{PendingChange, PendingWriter};
use crate::catalog::versions::Change;
use crate::catalog::volumes::{self, VolumeState};
use crate::catalog::{Catalog, CatalogError, contents};
use crate::model::ids::{ChunkId, ContentId, RunSeq, SourceId, VolumeId};
use crossbeam_channel::Sender;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Rows kept in memory at most, about 500 bytes each; more go to `pending`.
const ROWS_IN_MEMORY_MAX: usize = 100_000;
/// Bytes of attributes in these rows, about, after which they are written too.
const ATTRS_IN_MEMORY_MAX: usize = 16 << 20;
/// After so long, finished rows are put where a crash does not reach them.
const SPILL_EVERY: Duration = Duration::from_secs(15 * 60);

/// To the committer.
#[derive(Debug)]
pub enum CommitMsg {
    /// A block is durable.
    Block {
        /// The block.
        block: Box<NewBlock>,
        /// The segments in it.
        tickets: Vec<u64>,
    },
    /// Rows of the run.
    Rows(Vec<StagedRow>),
    /// A directory's chunks go to this volume from now on.
    Affinity {
        /// The directory.
        dir: Vec<u8>,
        /// The volume.
        volume: VolumeId,
    },
    /// A volume reached its reserve.
    Sealed(VolumeId),
}

/// Keeps what is to be committed.
pub struct Committer<'c> {
    catalog: &'c mut Catalog,
    source: SourceId,
    known: Sender<Vec<ChunkId>>,
    rows: VecDeque<StagedRow>,
    /// Bytes of attributes that came since rows were last written.
    attrs_len: usize,
    facts: Vec<CommitMsg>,
    pending: PendingWriter,
    has_spilled: bool,
    spilled_at: Instant,
    durable: BTreeSet<u64>,
    durable_below: u64,
    /// Blocks, their bytes, and the volumes that hold them.
    pub written: Written,
}

fn attrs_len(change: &Change) -> usize {
    match change {
        Change::Put { version, .. } => version.attrs.len(),
        Change::Touch { .. } | Change::End(_) => 0,
    }
}

/// What the writers wrote.
#[derive(Debug, Default, Clone)]
pub struct Written {
    /// Blocks.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Volumes that hold them.
    pub volumes: BTreeSet<i64>,
    /// Volumes that were sealed.
    pub sealed: BTreeSet<i64>,
    /// Files by file system whose inode alone had changed and whose content had not.
    pub only_inode: BTreeMap<u64, u64>,
}

type Result<T> = std::result::Result<T, CatalogError>;

impl<'c> Committer<'c> {
    /// For `run` of `source`; `known` hears which chunks the catalog has from now on.
    pub fn new(catalog: &'c mut Catalog, (source, run): (SourceId, RunSeq), known: Sender<Vec<ChunkId>>) -> Self {
        Self {
            catalog,
            source,
            known,
            rows: VecDeque::new(),
            facts: Vec::new(),
            pending: PendingWriter::new(source, run),
            has_spilled: false,
            attrs_len: 0,
            spilled_at: Instant::now(),
            durable: BTreeSet::new(),
            durable_below: 0,
            written: Written::default(),
        }
    }

    /// Takes one message.
    pub fn handle(&mut self, message: CommitMsg) -> Result<()> {
        match message {
            CommitMsg::Block { block, tickets } => self.block(&block, &tickets),
            CommitMsg::Rows(rows) => {
                self.take(rows)?;
                let is_much = self.rows.len() > ROWS_IN_MEMORY_MAX || self.attrs_len > ATTRS_IN_MEMORY_MAX;
                if is_much { self.spill() } else { Ok(()) }
            }
            CommitMsg::Sealed(volume) => {
                self.written.sealed.insert(volume.0);
                volumes::set_state(self.catalog.conn(), volume, VolumeState::Sealed)
            }
            fact => {
                self.facts.push(fact);
                Ok(())
            }
        }
    }

    /// Keeps rows. While the source is being read there is time to find contents that are known already.
    fn take(&mut self, mut rows: Vec<StagedRow>) -> Result<()> {
        let reading = self.catalog.reading()?;
        for row in rows.iter_mut().filter(|row| row.needs <= self.durable_below) {
            if let StagedChange::File(file) = &mut row.change
                && let Some(id) = contents::find(self.catalog.conn(), file.content.hash, file.content.size)?
            {
                note_content(file, id, &mut self.written);
            }
        }
        drop(reading);
        self.attrs_len += rows.iter().map(|row| attrs_len(row.change.parts().0)).sum::<usize>();
        self.rows.extend(rows);
        Ok(())
    }

    fn block(&mut self, block: &NewBlock, tickets: &[u64]) -> Result<()> {
        self.durable.extend(tickets);
        while self.durable.remove(&self.durable_below) {
            self.durable_below += 1;
        }
        let tx = self.catalog.begin()?;
        blocks::register(&tx, block)?;
        for row in self.rows.iter_mut().take_while(|row| row.needs <= self.durable_below) {
            intern(&tx, row, &mut self.written)?;
        }
        tx.commit()?;
        self.written.blocks += 1;
        self.written.bytes += block.size;
        self.written.volumes.extend(block.volumes.iter().map(|volume| volume.0));
        let ids = block.table.segments.iter().flat_map(|segment| &segment.chunks).map(|(id, _)| *id).collect();
        // The assembler is gone only when the attempt is over.
        drop(self.known.send(ids));
        if self.spilled_at.elapsed() > SPILL_EVERY { self.spill() } else { Ok(()) }
    }

    /// Writes the facts, and the rows whose bytes are durable, where a crash does not reach them.
    pub fn spill(&mut self) -> Result<()> {
        self.spilled_at = Instant::now();
        self.attrs_len = 0;
        let ready = self.rows.iter().take_while(|row| row.needs <= self.durable_below).count();
        let tx = self.catalog.begin()?;
        put_facts(&tx, self.source, &self.facts)?;
        for row in self.rows.iter_mut().take(ready) {
            intern(&tx, row, &mut self.written)?;
            let change = row.change.parts().0.clone();
            self.pending.put(&tx, &PendingChange { dir: row.dir.to_vec(), name: row.name.clone(), change })?;
        }
        tx.commit()?;
        self.facts.clear();
        self.rows.drain(..ready);
        self.has_spilled |= ready > 0;
        Ok(())
    }

    /// All blocks are durable: interns what is left and hands the rows over.
    pub fn finish(mut self) -> Result<FinishedRows> {
        let tx = self.catalog.begin()?;
        put_facts(&tx, self.source, &self.facts)?;
        for row in &mut self.rows {
            if row.needs > self.durable_below {
                return Err(CatalogError::damaged("a row of this run needs a block that was not written"));
            }
            intern(&tx, row, &mut self.written)?;
        }
        tx.commit()?;
        Ok(FinishedRows { rows: self.rows, has_spilled: self.has_spilled, written: self.written })
    }
}

/// The rows of a run whose source was read to the end.
pub struct FinishedRows {
    /// Those in memory; their contents are in the catalog.
    pub rows: VecDeque<StagedRow>,
    /// Whether there are more in `pending`.
    pub has_spilled: bool,
    /// What the writers wrote.
    pub written: Written,
}

impl FinishedRows {
    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && !self.has_spilled
    }
}

/// Puts the content of a row into the catalog, unless it is there.
fn intern(conn: &crate::catalog::Connection, row: &mut StagedRow, written: &mut Written) -> Result<()> {
    if let StagedChange::File(file) = &mut row.change
        && file.content_id().is_none()
    {
        let id = contents::put(conn, &file.content)?;
        note_content(file, id, written);
    }
    Ok(())
}

fn note_content(file: &mut StagedFile, id: ContentId, written: &mut Written) {
    file.set_content_id(id);
    if let Some((_, dev)) = file.expected.filter(|(expected, _)| *expected == id) {
        *written.only_inode.entry(dev).or_default() += 1;
    }
}

fn put_facts(conn: &crate::catalog::Connection, source: SourceId, facts: &[CommitMsg]) -> Result<()> {
    let mut interner = Interner::default();
    for fact in facts {
        if let CommitMsg::Affinity { dir, volume } = fact {
            let dir = interner.dir(conn, source, dir)?;
            set_affinity(conn, dir, *volume)?;
        }
    }
    Ok(())
}
