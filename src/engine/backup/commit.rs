//! The committer: the only writer of the catalog during a run. Registers durable blocks, tells the assembler that
//! their chunks can be looked up now, and keeps the run's rows until they can be applied: in a spool, and, at intervals
//! and when the run does not come to its end, in `pending`, where the next run finds them.

use super::early_copies::MadeCopy;
use super::items::{StagedChange, StagedRow};
use crate::catalog::blocks::{self, NewBlock};
use crate::catalog::interned::{Interner, set_affinity};
use crate::catalog::pending::{PendingWriter, content_of};
use crate::catalog::spool::{Spool, SpoolMark};
use crate::catalog::spool_row;
use crate::catalog::volumes::{self, VolumeState};
use crate::catalog::{Catalog, CatalogError, contents, redundancy};
use crate::model::ids::{ChunkId, ContentId, RunSeq, SourceId, VolumeId};
use crossbeam_channel::Sender;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows that wait for their blocks, or for a transaction, before it is looked whether some can go on; and their bytes.
const WAITING_MAX: usize = 20_000;
const WAITING_LEN_MAX: usize = 8 << 20;
/// Rows whose contents are put into the catalog together.
const INTERNED_AT_ONCE: usize = 1 << 15;
/// After so long, finished rows are put where a crash does not reach them.
const HINT_EVERY: Duration = Duration::from_secs(15 * 60);
/// Who stops a run does not want to wait for more of that than so long.
const HINTS_AT_END: Duration = Duration::from_secs(5);

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
    /// Rows that are not in the spool, in order.
    waiting: VecDeque<WaitingRow>,
    waiting_len: usize,
    /// So many of them, or bytes, and it is looked whether some can go on.
    look_at: (usize, usize),
    spool: Spool,
    facts: Vec<CommitMsg>,
    pending: PendingWriter,
    hinted: SpoolMark,
    hinted_at: Instant,
    durable: BTreeSet<u64>,
    durable_below: u64,
    /// Blocks, their bytes, and the volumes that hold them.
    pub written: Written,
}

/// A row whose bytes are not durable yet, or whose content is not in the catalog.
struct WaitingRow {
    dir: Arc<[u8]>,
    row: Box<[u8]>,
    needs: u64,
    id: Option<ContentId>,
    /// A file that was read: its content has to be there first.
    is_read: bool,
    expected: Option<Box<(ContentId, u64)>>,
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
        let spool = Spool::beside(catalog.path());
        Self {
            catalog,
            source,
            known,
            waiting: VecDeque::new(),
            waiting_len: 0,
            look_at: (WAITING_MAX, WAITING_LEN_MAX),
            spool,
            facts: Vec::new(),
            pending: PendingWriter::new(source, run),
            hinted: SpoolMark::default(),
            hinted_at: Instant::now(),
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
                let is_much = self.waiting.len() > self.look_at.0 || self.waiting_len > self.look_at.1;
                if is_much { self.settle(None) } else { Ok(()) }
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
    fn take(&mut self, rows: Vec<StagedRow>) -> Result<()> {
        let reading = self.catalog.reading()?;
        for row in rows {
            let mut waiting = WaitingRow::from_staged(&row);
            if let StagedChange::File(file) = &row.change
                && row.needs <= self.durable_below
                && let Some(id) = contents::find(self.catalog.conn(), file.content.hash, file.content.size)?
            {
                waiting.found(id, &mut self.written);
            }
            self.waiting_len += waiting.row.len();
            self.waiting.push_back(waiting);
        }
        drop(reading);
        Ok(())
    }

    fn block(&mut self, block: &NewBlock, tickets: &[u64]) -> Result<()> {
        self.durable.extend(tickets);
        while self.durable.remove(&self.durable_below) {
            self.durable_below += 1;
        }
        self.settle(Some(block))?;
        self.written.blocks += 1;
        self.written.bytes += block.size;
        self.written.volumes.extend(block.volumes.iter().map(|volume| volume.0));
        let ids = block.table.segments.iter().flat_map(|segment| &segment.chunks).map(|(id, _)| *id).collect();
        // The assembler is gone only when the attempt is over.
        drop(self.known.send(ids));
        if self.hinted_at.elapsed() > HINT_EVERY { self.hint(Duration::MAX) } else { Ok(()) }
    }

    /// Further copies of blocks are durable.
    pub fn copies(&mut self, made: &[MadeCopy]) -> Result<()> {
        if made.is_empty() {
            return Ok(());
        }
        let tx = self.catalog.begin()?;
        for MadeCopy { block, volume, .. } in made {
            let number = blocks::number_of(&tx, block.id)?;
            let number = number.ok_or_else(|| CatalogError::damaged("a block that was copied is not in it"))?;
            redundancy::put_made_copy(&tx, number, *volume)?;
        }
        Ok(tx.commit()?)
    }

    /// Registers a block, and lets those rows go on whose bytes are durable: their contents go into the catalog, they
    /// themselves into the spool.
    fn settle(&mut self, block: Option<&NewBlock>) -> Result<()> {
        let ready = self.waiting.iter().take_while(|row| row.needs <= self.durable_below).count();
        let tx = self.catalog.begin()?;
        if let Some(block) = block {
            blocks::register(&tx, block)?;
        }
        intern(&tx, self.waiting.iter_mut().take(ready), &mut self.written)?;
        tx.commit()?;
        for row in self.waiting.drain(..ready) {
            self.waiting_len -= row.row.len();
            self.spool.push(&row.dir, row.id, &row.row)?;
        }
        // What waits for a block would be looked through in vain by every message until that is written.
        self.look_at = (self.waiting.len() + WAITING_MAX, self.waiting_len + WAITING_LEN_MAX);
        Ok(())
    }

    /// The attempt does not come to its end: puts the rows whose bytes are durable where the next one finds them.
    pub fn leave_hints(&mut self) -> Result<()> {
        self.settle(None)?;
        self.hint(HINTS_AT_END)
    }

    /// Writes the facts, and rows that came since the last time, as many as `time` allows, where a crash does not reach
    /// them.
    fn hint(&mut self, time: Duration) -> Result<()> {
        self.hinted_at = Instant::now();
        let (began, mark) = (self.hinted_at, self.spool.mark()?);
        let tx = self.catalog.begin()?;
        put_facts(&tx, self.source, &self.facts)?;
        let (pending, mut is_late) = (&mut self.pending, false);
        self.spool.for_each_since(self.hinted, &mut |row, _| {
            is_late = is_late || began.elapsed() > time;
            if is_late { Ok(()) } else { pending.put(&tx, &row) }
        })?;
        tx.commit()?;
        self.facts.clear();
        self.hinted = mark;
        Ok(())
    }

    /// All blocks are durable: hands the rows over.
    pub fn finish(mut self) -> Result<FinishedRows> {
        self.settle(None)?;
        if !self.waiting.is_empty() {
            return Err(CatalogError::damaged("a row of this run needs a block that was not written"));
        }
        let tx = self.catalog.begin()?;
        put_facts(&tx, self.source, &self.facts)?;
        tx.commit()?;
        Ok(FinishedRows { rows: self.spool, written: self.written })
    }
}

/// The rows of a run whose source was read to the end.
pub struct FinishedRows {
    /// In the order of the walk; their contents are in the catalog.
    pub rows: Spool,
    /// What the writers wrote.
    pub written: Written,
}

impl WaitingRow {
    fn from_staged(row: &StagedRow) -> Self {
        let (change, content) = row.change.parts();
        let expected = match &row.change {
            StagedChange::File(file) => file.expected.map(Box::new),
            StagedChange::Ready(_) => None,
        };
        Self {
            dir: Arc::clone(&row.dir),
            row: spool_row::encode(&row.name, change, content),
            needs: row.needs,
            id: content_of(change),
            is_read: content.is_some(),
            expected,
        }
    }

    fn found(&mut self, id: ContentId, written: &mut Written) {
        self.id = Some(id);
        if let Some((_, dev)) = self.expected.as_deref().filter(|(expected, _)| *expected == id) {
            *written.only_inode.entry(*dev).or_default() += 1;
        }
    }
}

/// Puts the contents of rows into the catalog, those that are not there yet: many at a time, see [`contents::put_many`].
fn intern<'r>(
    conn: &crate::catalog::Connection,
    rows: impl Iterator<Item = &'r mut WaitingRow>,
    written: &mut Written,
) -> Result<()> {
    let mut rows: Vec<&mut WaitingRow> = rows.filter(|row| row.is_read && row.id.is_none()).collect();
    let missing = || CatalogError::damaged("a file that was read, without its content");
    for rows in rows.chunks_mut(INTERNED_AT_ONCE) {
        let content = |at: usize| spool_row::decode(&rows[at].row, None)?.2.ok_or_else(missing);
        let keys = (0..rows.len()).map(|at| content(at).map(|content| (content.hash, content.size)));
        let numbers = contents::put_many(conn, &keys.collect::<Result<Vec<_>>>()?, &mut |at| content(at))?;
        rows.iter_mut().zip(numbers).for_each(|(row, id)| row.found(id, written));
    }
    Ok(())
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
