//! Queues of segments, one lane a volume. A lane's segments are written in order by whichever of its writers fills the
//! open block; while that one makes a full block durable, the next may begin another. A sealed lane's segments move on
//! to the others. What is queued is bounded by the permits inside the messages.

use super::budget::Permit;
use super::items::SegmentChunk;
use crate::engine::block_file::EncodedSegment;
use crate::engine::error::EngineError;
use crossbeam_channel::Receiver;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A segment that is being compressed.
#[derive(Debug)]
pub struct SegmentJob {
    /// Ordinal among all segments of the attempt.
    pub ticket: u64,
    /// Its chunks in order.
    pub chunks: Vec<SegmentChunk>,
    /// Gives the stored form when it is ready.
    pub encoded: Receiver<Result<EncodedSegment, EngineError>>,
    /// The bytes that it holds in memory.
    #[expect(dead_code, reason = "given back when the job is dropped")]
    pub permit: Option<Permit>,
}

/// What a writer is to do next.
#[derive(Debug)]
pub enum Turn {
    /// Write this segment.
    Segment(SegmentJob),
    /// Finish the open block, then ask again.
    Close,
    /// Nothing more will come, or the attempt has stopped: finish the open block, whose segments are sound, and stop.
    Done,
}

/// Why no lane takes a segment any more.
#[derive(Debug)]
pub enum Stop {
    /// All volumes are sealed.
    NoRoom,
    /// A volume failed; the attempt is over.
    Failed {
        /// Its lane.
        lane: usize,
        /// What happened.
        error: EngineError,
    },
    /// Something else went wrong.
    Fault(EngineError),
}

#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<SegmentJob>,
    is_sealed: bool,
    /// The writer that fills the open block.
    filler: Option<usize>,
    /// The open block is to be finished.
    close_asked: bool,
    /// Writers that make a block durable: what their blocks leave over of the room set aside for them comes free.
    closing: usize,
}

#[derive(Debug, Default)]
struct State {
    lanes: Vec<Lane>,
    in_hand: usize,
    is_closed: bool,
    stop: Option<Stop>,
}

/// The queues of all lanes.
#[derive(Debug)]
pub struct Lanes {
    state: Mutex<State>,
    changed: Condvar,
}

impl Lanes {
    /// So many empty lanes.
    pub fn new(count: usize) -> Self {
        let state = State { lanes: (0..count).map(|_| Lane::default()).collect(), ..State::default() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a segment on `lane`, or on another one when that is sealed. Dropped when the attempt has stopped.
    pub fn put(&self, lane: usize, job: SegmentJob) {
        let mut state = self.lock();
        state.route(lane, job);
        self.changed.notify_all();
    }

    /// No more segments will be put.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Asks every lane to finish its open block soon.
    pub fn ask_close(&self) {
        self.lock().lanes.iter_mut().for_each(|lane| lane.close_asked = true);
        self.changed.notify_all();
    }

    /// Whether a lane takes segments.
    pub fn is_open(&self, lane: usize) -> bool {
        !self.lock().lanes[lane].is_sealed
    }

    /// Whether the attempt has stopped.
    pub fn has_stopped(&self) -> bool {
        self.lock().stop.is_some()
    }

    /// Why the attempt stopped, if it did.
    pub fn take_stop(&self) -> Option<Stop> {
        self.lock().stop.take()
    }

    /// Ends the attempt: queued segments are dropped, writers stop at their next turn.
    pub fn stop(&self, why: Stop) {
        self.lock().stop_with(why);
        self.changed.notify_all();
    }

    /// What `writer` of `lane` is to do; `has_block` says whether it has a block open. Waits.
    pub fn next(&self, lane: usize, writer: usize, has_block: bool) -> Turn {
        let mut state = self.lock();
        loop {
            if let Some(turn) = state.turn(lane, writer, has_block) {
                return turn;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The same without waiting: `None` when there is nothing to do now.
    pub fn try_next(&self, lane: usize, writer: usize, has_block: bool) -> Option<Turn> {
        self.lock().turn(lane, writer, has_block)
    }

    /// The segment that a writer took does not fit into its block any more: it is the first of the next one.
    pub fn put_back(&self, lane: usize, job: SegmentJob) {
        let mut state = self.lock();
        state.in_hand -= 1;
        state.lanes[lane].queue.push_front(job);
        state.lanes[lane].filler = None;
        self.changed.notify_all();
    }

    /// The segment that a writer took is in its block.
    pub fn written(&self) {
        self.lock().in_hand -= 1;
        self.changed.notify_all();
    }

    /// `writer` puts nothing more into its block and makes it durable: another one of the lane may begin the next.
    pub fn block_closed(&self, lane: usize, writer: usize) {
        let mut state = self.lock();
        state.lanes[lane].closing += 1;
        state.release(lane, writer);
        self.changed.notify_all();
    }

    /// A block that was closed is durable, or has failed.
    pub fn block_done(&self, lane: usize) {
        self.lock().lanes[lane].closing -= 1;
        self.changed.notify_all();
    }

    /// Waits while other writers of the lane make their blocks durable; false when there was nothing to wait for.
    pub fn wait_for_closing(&self, lane: usize) -> bool {
        let mut state = self.lock();
        let is_closing = state.lanes[lane].closing > 0;
        while state.lanes[lane].closing > 0 && state.stop.is_none() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        is_closing
    }

    /// The lane takes no more: its queue and the segment in `writer`'s hand move on to other lanes.
    pub fn seal(&self, lane: usize, writer: usize, job: SegmentJob) {
        let mut state = self.lock();
        state.in_hand -= 1;
        state.lanes[lane].is_sealed = true;
        state.release(lane, writer);
        let queue = std::mem::take(&mut state.lanes[lane].queue);
        for job in std::iter::once(job).chain(queue) {
            state.route(lane, job);
        }
        self.changed.notify_all();
    }
}

impl State {
    fn release(&mut self, lane: usize, writer: usize) {
        let own = &mut self.lanes[lane];
        own.filler = own.filler.filter(|filler| *filler != writer);
    }

    fn turn(&mut self, lane: usize, writer: usize, has_block: bool) -> Option<Turn> {
        if self.stop.is_some() {
            return Some(Turn::Done);
        }
        let own = &mut self.lanes[lane];
        if own.close_asked && own.filler.is_none_or(|filler| filler == writer) {
            own.close_asked = false;
            if has_block {
                return Some(Turn::Close);
            }
        }
        if own.filler.is_none_or(|filler| filler == writer)
            && let Some(job) = own.queue.pop_front()
        {
            own.filler = Some(writer);
            self.in_hand += 1;
            return Some(Turn::Segment(job));
        }
        let is_drained = self.in_hand == 0 && self.lanes.iter().all(|lane| lane.queue.is_empty());
        (self.is_closed && is_drained).then_some(Turn::Done)
    }

    fn route(&mut self, lane: usize, job: SegmentJob) {
        if self.stop.is_some() {
            return;
        }
        let count = self.lanes.len();
        let open = (0..count).map(|step| (lane + step) % count).find(|lane| !self.lanes[*lane].is_sealed);
        match open {
            Some(lane) => self.lanes[lane].queue.push_back(job),
            None => self.stop_with(Stop::NoRoom),
        }
    }

    fn stop_with(&mut self, why: Stop) {
        // The first reason stands, but a fault outweighs a full disk.
        if self.stop.as_ref().is_none_or(|stop| matches!(stop, Stop::NoRoom)) {
            self.stop = Some(why);
        }
        self.lanes.iter_mut().for_each(|lane| lane.queue.clear());
    }
}

/// Ends the attempt if the thread that holds it panics: the others would wait for it for ever.
pub struct StopOnPanic<'l>(pub &'l Lanes);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(Stop::Fault(EngineError::Fault("a thread panicked".into())));
            self.0.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    fn job(ticket: u64) -> SegmentJob {
        let (_, encoded) = crossbeam_channel::bounded(1);
        SegmentJob { ticket, chunks: Vec::new(), encoded, permit: None }
    }

    fn ticket(turn: Turn) -> Option<u64> {
        match turn {
            Turn::Segment(job) => Some(job.ticket),
            _ => None,
        }
    }

    #[test]
    fn a_sealed_lane_hands_its_segments_on_in_order() {
        let lanes = Lanes::new(2);
        (0..3).for_each(|ticket| lanes.put(0, job(ticket)));
        let Turn::Segment(first) = lanes.next(0, 0, false) else { unreachable!("a segment is queued") };
        lanes.seal(0, 0, first);
        lanes.close();
        for expected in 0..3 {
            assert_eq!(ticket(lanes.next(1, 0, false)), Some(expected));
            lanes.written();
        }
        assert!(matches!(lanes.next(1, 0, true), Turn::Done));
        assert!(matches!(lanes.next(0, 0, false), Turn::Done));
    }

    #[test]
    fn with_every_lane_sealed_the_attempt_stops_for_room() {
        let lanes = Lanes::new(1);
        lanes.put(0, job(7));
        let Turn::Segment(first) = lanes.next(0, 0, false) else { unreachable!("a segment is queued") };
        lanes.seal(0, 0, first);
        assert!(matches!(lanes.next(0, 0, true), Turn::Done));
        assert!(matches!(lanes.take_stop(), Some(Stop::NoRoom)));
    }

    #[test]
    fn only_one_writer_fills_a_block_of_a_lane_at_a_time() {
        let lanes = Lanes::new(1);
        lanes.put(0, job(1));
        lanes.put(0, job(2));
        assert_eq!(ticket(lanes.next(0, 0, false)), Some(1));
        lanes.written();
        assert_eq!(ticket(lanes.next(0, 0, true)), Some(2));
        lanes.written();
        lanes.put(0, job(3));
        lanes.block_closed(0, 0);
        assert_eq!(ticket(lanes.next(0, 1, false)), Some(3));
    }

    #[test]
    fn room_that_another_writer_gives_back_is_waited_for() {
        let lanes = Lanes::new(1);
        assert!(!lanes.wait_for_closing(0));
        lanes.block_closed(0, 0);
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                lanes.wait_for_closing(0);
                is_done.load(Ordering::SeqCst)
            });
            std::thread::sleep(Duration::from_millis(50));
            is_done.store(true, Ordering::SeqCst);
            lanes.block_done(0);
            assert!(waiting.join().unwrap(), "it went on before there was room");
        });
        lanes.block_closed(0, 0);
        lanes.stop(Stop::NoRoom);
        assert!(lanes.wait_for_closing(0));
    }

    #[test]
    fn a_writer_that_seals_its_lane_leaves_the_block_of_another_to_it() {
        let lanes = Lanes::new(2);
        (1..=3).for_each(|ticket| lanes.put(0, job(ticket)));
        let Turn::Segment(first) = lanes.next(0, 0, false) else { unreachable!("a segment is queued") };
        lanes.block_closed(0, 0);
        assert_eq!(ticket(lanes.next(0, 1, false)), Some(2));
        lanes.written();
        lanes.seal(0, 0, first);
        lanes.ask_close();
        assert!(lanes.try_next(0, 0, false).is_none());
        assert!(matches!(lanes.next(0, 1, true), Turn::Close));
    }
}
