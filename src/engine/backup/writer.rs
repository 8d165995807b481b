//! One writer of a lane: fills a block on its volume segment by segment, makes it durable, hands it to the committer.
//! Decides when a block is full, when a volume is, and what is a failure.

use super::commit::CommitMsg;
use super::items::SegmentChunk;
use super::lanes::{Lanes, SegmentJob, Stop, Turn};
use crate::catalog::blocks::NewBlock;
use crate::catalog::settings::Settings;
use crate::engine::block_file::{ContainerWriter, EncodedSegment};
use crate::engine::error::EngineError;
use crate::format::container::{ContainerKind, Header};
use crate::format::layout;
use crate::model::ids::{ChunkNo, VolumeId};
use crate::model::params::Reserve;
use crate::volume::store::{Store, StoreError};
use crossbeam_channel::Sender;
use std::sync::Arc;

/// A volume with less than this above its reserve is sealed: a block would hardly be worth its file.
pub const LEASE_MIN: u64 = 8 << 20;

/// The volume of a lane.
#[derive(Clone)]
pub struct LaneVolume {
    /// Its number.
    pub id: VolumeId,
    /// Its name.
    pub name: String,
    /// Space that it keeps free.
    pub reserve: Reserve,
    /// Its objects.
    pub store: Arc<dyn Store>,
    /// The device that it is on.
    pub device: Option<u64>,
}

impl LaneVolume {
    /// Bytes that it may take now.
    pub fn room(&self) -> Result<u64, StoreError> {
        let space = self.store.space()?;
        Ok(space.free_bytes.saturating_sub(self.reserve.bytes_of(space.total_bytes)))
    }
}

/// A block that is being filled.
struct OpenBlock {
    container: ContainerWriter,
    tickets: Vec<u64>,
    numbers: Vec<ChunkNo>,
}

/// A writer and its open block.
pub struct LaneWriter<'l> {
    /// The queues.
    pub lanes: &'l Lanes,
    /// Its lane.
    pub lane: usize,
    /// Its number among the writers of the lane.
    pub writer: usize,
    /// Where it writes.
    pub volume: LaneVolume,
    /// What the repository is.
    pub settings: Settings,
    /// Salt of this attempt's blocks.
    pub salt: [u8; 32],
    /// To the committer.
    pub commits: Sender<CommitMsg>,
    open: Option<OpenBlock>,
}

impl<'l> LaneWriter<'l> {
    /// With no block open.
    pub fn new(lanes: &'l Lanes, (lane, writer): (usize, usize), volume: LaneVolume, to: WriterContext) -> Self {
        let WriterContext { settings, salt, commits } = to;
        Self { lanes, lane, writer, volume, settings, salt, commits, open: None }
    }

    /// Works until nothing more will come.
    pub fn run(mut self) {
        loop {
            let turn = self.lanes.next(self.lane, self.writer, self.open.is_some());
            if !self.act(turn) {
                return;
            }
        }
    }

    /// Does what there is to do now, without waiting; false when nothing more will come.
    pub fn pump(&mut self) -> bool {
        while let Some(turn) = self.lanes.try_next(self.lane, self.writer, self.open.is_some()) {
            if !self.act(turn) {
                return false;
            }
        }
        true
    }

    fn act(&mut self, turn: Turn) -> bool {
        match turn {
            Turn::Segment(job) => self.take(job),
            Turn::Close => self.close(),
            Turn::Done => {
                self.close();
                return false;
            }
        }
        true
    }

    fn take(&mut self, job: SegmentJob) {
        match job.encoded.recv() {
            Ok(Ok(segment)) => self.write(job, segment),
            Ok(Err(error)) => self.lanes.stop(Stop::Fault(error)),
            Err(_) => {
                let error = EngineError::Fault("a segment was lost on its way to the writer".into());
                self.lanes.stop(Stop::Fault(error));
            }
        }
    }

    fn write(&mut self, job: SegmentJob, segment: EncodedSegment) {
        if self.open.is_none() {
            let begun = match self.begin() {
                // What another writer's block leaves over may be room enough.
                Ok(None) if self.lanes.wait_for_closing(self.lane) => self.begin(),
                begun => begun,
            };
            match begun {
                Ok(Some(block)) => self.open = Some(block),
                Ok(None) => return self.seal(job, segment),
                Err(error) => return self.fail(error),
            }
        }
        let Some(block) = &mut self.open else { return };
        if !block.container.has_room(segment.bytes.len(), job.chunks.len()) {
            if block.container.is_empty() {
                // Not even one segment fits into what is left of the volume.
                self.open = None;
                return self.seal(job, segment);
            }
            self.lanes.put_back(self.lane, with_encoded(job, segment));
            return self.close();
        }
        let chunks: Vec<_> = job.chunks.iter().map(|chunk| (chunk.id, chunk.len)).collect();
        match block.container.put_data(&segment, &chunks) {
            Ok(()) => {
                block.tickets.push(job.ticket);
                block.numbers.extend(job.chunks.iter().map(|chunk: &SegmentChunk| chunk.no));
                self.lanes.written();
            }
            Err(StoreError::NoSpace { .. }) => {
                // The file system promised room that it does not have. What is in the block is kept: the reserve
                // file makes place for its table.
                let freed = self.volume.store.free_reserve();
                if let Err(error) = freed {
                    return self.fail(error);
                }
                // Nobody else may take that room before the table has it.
                if let Some(block) = self.open.take() {
                    self.finish(block);
                }
                self.seal(job, segment);
            }
            Err(error) => self.fail(error),
        }
    }

    /// A new block with its lease; `None` when the volume has no room for one.
    fn begin(&self) -> Result<Option<OpenBlock>, StoreError> {
        let lease = self.volume.room()?.min(self.settings.block_size);
        if lease < LEASE_MIN {
            return Ok(None);
        }
        let sink = match self.volume.store.begin(lease) {
            Ok(sink) => sink,
            Err(StoreError::NoSpace { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let header = Header {
            kind: ContainerKind::Block,
            hash: self.settings.hash,
            repository: self.settings.repository,
            salt: self.salt,
        };
        let container = ContainerWriter::new(sink, &header, lease)?;
        Ok(Some(OpenBlock { container, tickets: Vec::new(), numbers: Vec::new() }))
    }

    /// Makes the open block durable and hands it on; nothing to do when it is empty.
    fn close(&mut self) {
        let Some(block) = self.open.take() else { return };
        self.lanes.block_closed(self.lane, self.writer);
        self.finish(block);
        self.lanes.block_done(self.lane);
    }

    fn finish(&mut self, block: OpenBlock) {
        if block.container.is_empty() {
            return;
        }
        match block.container.finish(ContainerKind::Block, &|id| layout::block_key(&id)) {
            Ok(done) => {
                let new = NewBlock {
                    id: done.id,
                    size: done.size,
                    kind: ContainerKind::Block as u8,
                    volumes: vec![self.volume.id],
                    table: done.table,
                    numbers: block.numbers,
                    listed_by: None,
                };
                // The committer is gone only when the attempt has failed already.
                drop(self.commits.send(CommitMsg::Block { block: Box::new(new), tickets: block.tickets }));
            }
            Err(error) => self.fail(error),
        }
    }

    fn seal(&mut self, job: SegmentJob, segment: EncodedSegment) {
        drop(self.commits.send(CommitMsg::Sealed(self.volume.id)));
        self.lanes.seal(self.lane, self.writer, with_encoded(job, segment));
    }

    fn fail(&mut self, error: StoreError) {
        self.open = None;
        let error = EngineError::store(&self.volume.name)(error);
        self.lanes.stop(Stop::Failed { lane: self.lane, error });
    }
}

/// What all writers of an attempt share.
#[derive(Clone)]
pub struct WriterContext {
    /// What the repository is.
    pub settings: Settings,
    /// Salt of this attempt's blocks.
    pub salt: [u8; 32],
    /// To the committer.
    pub commits: Sender<CommitMsg>,
}

fn with_encoded(mut job: SegmentJob, segment: EncodedSegment) -> SegmentJob {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    // The channel has room for the one message that it will ever carry.
    drop(sender.send(Ok(segment)));
    job.encoded = receiver;
    job
}
