//! One attempt at reading the source: wires source, workers, assembler, writers and committer together, on threads or
//! on one, and says how it ended.

use super::assemble::{Assembler, PutSegment, Tally, Wiring};
use super::budget::{Budget, MemoryGate, Permit};
use super::commit::{CommitMsg, Committer, FinishedRows};
use super::early_copies::EarlyCopies;
use super::encode::encode_segment;
use super::input::Input;
use super::items::{Item, RawSegment};
use super::jobs::{HashContext, Job};
use super::lanes::{Lanes, SegmentJob, Stop, StopOnPanic};
use super::lookup::Lookup;
use super::place::Placement;
use super::rescue::{RescueBlock, rescue};
use super::seen::Seen;
use super::writer::{LaneVolume, LaneWriter, WriterContext};
use crate::catalog::settings::Settings;
use crate::catalog::{Catalog, CatalogError};
use crate::engine::error::{EngineError, Result};
use crate::engine::observer::Observer;
use crate::engine::protect::Copied;
use crate::model::ids::{ChunkId, RunSeq, SourceId, VolumeId};
use crate::model::redundancy::Redundancy;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of source data between reading and assembling, and of segments between assembling and writing, for each worker:
/// less keeps workers waiting.
const BUDGET_PER_WORKER: u64 = 12 << 20;
/// The same in all. The least lets one worker's largest piece be read while another is worked on.
const BUDGET_MIN: u64 = 24 << 20;
const BUDGET_MAX: u64 = 256 << 20;
/// Messages that wait for the committer at most.
const COMMIT_QUEUE: usize = 256;

/// After so long, open blocks are finished, so that a crash costs no more than that.
const BARRIER_EVERY: Duration = Duration::from_secs(15 * 60);

/// How an attempt is to run.
pub struct AttemptPlan<'a> {
    /// What the repository is.
    pub settings: Settings,
    /// The source and its run.
    pub run: (SourceId, RunSeq),
    /// Volumes to write, with the room that each has.
    pub volumes: Vec<(LaneVolume, u64)>,
    /// Volumes that failed in this process.
    pub avoid: Vec<VolumeId>,
    /// Under parity: volumes on which the group that is to be filled next has something.
    pub held: BTreeSet<VolumeId>,
    /// Copies may be made while the source is read.
    pub copies_early: bool,
    /// Damaged blocks whose sound chunks want a new place.
    pub rescue: Vec<RescueBlock>,
    /// Threads that read, hash and compress; 0 for everything on the caller's.
    pub workers: usize,
    /// Threads that write.
    pub write_workers: usize,
    /// Bytes of memory at which reading pauses.
    pub memory_limit: Option<u64>,
    /// Who watches.
    pub observer: &'a dyn Observer,
}

/// How it ended.
pub enum AttemptEnd {
    /// The source was read to the end and all its blocks are durable.
    Done(Box<AttemptDone>),
    /// All volumes are full; what was finished is kept.
    NoRoom,
    /// The user stopped it; what was finished is kept.
    Interrupted,
    /// A volume failed; what was finished is kept.
    Failed(VolumeId, EngineError),
}

/// What a finished attempt leaves.
pub struct AttemptDone {
    /// The run's rows.
    pub rows: FinishedRows,
    /// What the walk saw.
    pub seen: Seen,
    /// What was read and new.
    pub tally: Tally,
}

struct Wires {
    lanes: Arc<Lanes>,
    context: HashContext,
    commits: Sender<CommitMsg>,
    from_commits: Receiver<CommitMsg>,
    known: Receiver<Vec<ChunkId>>,
}

/// Runs the attempt. The committer works on the caller's thread, with the caller's catalog. What was copied meanwhile is added
/// to `copied`, however the attempt ends.
pub fn attempt(
    catalog: &mut Catalog,
    source: Input<'_>,
    (plan, copied): (&AttemptPlan<'_>, &mut Copied),
) -> Result<AttemptEnd> {
    let chunker = crate::codec::chunker::Chunker::new(&plan.settings.chunker)
        .map_err(|error| EngineError::Fault(format!("the catalog's chunker parameters: {error}")))?;
    let (commits, from_commits) = if plan.workers == 0 { unbounded() } else { bounded(COMMIT_QUEUE) };
    let (to_known, known) = unbounded();
    let lanes = Arc::new(Lanes::new(plan.volumes.len()));
    let context = HashContext { algo: plan.settings.hash, chunker };
    let reader = catalog.reader()?;
    let committer = Committer::new(catalog, plan.run, to_known);
    let wires = Wires { lanes, context, commits, from_commits, known };
    if plan.workers == 0 {
        on_one_thread(source, plan, wires, (reader, committer))
    } else {
        on_threads(source, (plan, copied), wires, (reader, committer))
    }
}

fn writers<'l>(
    lanes: &'l Lanes,
    plan: &AttemptPlan<'_>,
    commits: &Sender<CommitMsg>,
    per_lane: usize,
) -> Vec<LaneWriter<'l>> {
    let mut salt = [0; 32];
    salt[..16].copy_from_slice(&crate::model::ids::RunUuid::random().0);
    salt[16..].copy_from_slice(&crate::model::ids::RunUuid::random().0);
    let to = WriterContext { settings: plan.settings.clone(), salt, commits: commits.clone() };
    let mut writers = Vec::new();
    for (lane, (volume, _)) in plan.volumes.iter().enumerate() {
        for writer in 0..per_lane {
            writers.push(LaneWriter::new(lanes, (lane, writer), volume.clone(), to.clone()));
        }
    }
    writers
}

fn assembler<'w>(
    plan: &'w AttemptPlan<'_>,
    (lanes, known, commits): (&Arc<Lanes>, Receiver<Vec<ChunkId>>, Sender<CommitMsg>),
    reader: Catalog,
    put_segment: PutSegment<'w>,
) -> Result<Assembler<'w>> {
    let stretch = (plan.write_workers, plan.settings.block_size);
    let placement = Placement::new(Arc::clone(lanes), &plan.volumes, stretch);
    let placement = match plan.settings.redundancy {
        Redundancy::Parity { positions, parities } => placement.with_parity((positions, parities), &plan.held),
        Redundancy::None | Redundancy::Copies(_) => placement,
    };
    let lookup = Lookup::new(reader, plan.avoid.clone());
    let wiring = Wiring { lookup, known, commits, put_segment, observer: plan.observer };
    Ok(Assembler::new(wiring, placement, plan.settings.hash)?)
}

/// Everything in turn, for debugging: the same items in the same order give the same rows and blocks.
fn on_one_thread(
    mut source: Input<'_>,
    plan: &AttemptPlan<'_>,
    wires: Wires,
    (reader, mut committer): (Catalog, Committer<'_>),
) -> Result<AttemptEnd> {
    let Wires { lanes, context, commits, from_commits, known } = wires;
    let mut writers = writers(&lanes, plan, &commits, 1);
    let settings = plan.settings.clone();
    let queue = Arc::clone(&lanes);
    let put: PutSegment<'_> = Box::new(move |lane, raw: RawSegment| {
        let (sender, encoded) = bounded(1);
        let (ticket, chunks) = (raw.ticket, raw.chunks.clone());
        drop(sender.send(encode_segment(raw, &settings)));
        queue.put(lane, SegmentJob { ticket, chunks, encoded, permit: None });
    });
    let mut assembler = assembler(plan, (&lanes, known, commits), reader, put)?;
    let mut failure: Option<EngineError> = None;
    let mut step = |assembler: &mut Assembler<'_>, committer: &mut Committer<'_>, item: Item| -> Result<()> {
        assembler.push(item)?;
        writers.iter_mut().for_each(|writer| {
            writer.pump();
        });
        from_commits.try_iter().try_for_each(|message| committer.handle(message))?;
        Ok(())
    };
    let mut emit = |job: Job| {
        if plan.observer.is_cancelled() || lanes.has_stopped() {
            return ControlFlow::Break(());
        }
        match step(&mut assembler, &mut committer, job.run(&context)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    let mut flow = source.run(&mut emit)?;
    if flow.is_continue() {
        flow = rescue(&plan.rescue, &mut emit);
    }
    if let Some(error) = failure {
        return Err(error);
    }
    assembler.flush();
    lanes.close();
    // A writer with nothing to do now may still get what another one has no room for.
    while !writers.is_empty() {
        writers.retain_mut(LaneWriter::pump);
    }
    from_commits.try_iter().try_for_each(|message| committer.handle(message))?;
    let tally = std::mem::take(&mut assembler.tally);
    end(plan, &lanes, (flow, source.into_seen(), tally), committer)
}

fn on_threads(
    mut source: Input<'_>,
    (plan, copied): (&AttemptPlan<'_>, &mut Copied),
    wires: Wires,
    (reader, mut committer): (Catalog, Committer<'_>),
) -> Result<AttemptEnd> {
    let Wires { lanes, context, commits, from_commits, known } = wires;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(plan.workers)
        .thread_name(|index| format!("worker-{index}"))
        .build()
        .map_err(|error| EngineError::Fault(format!("worker threads cannot be started: {error}")))?;
    let per_lane = (plan.write_workers / plan.volumes.len().max(1)).max(1);
    let outcome = std::thread::scope(|scope| {
        let writers: Vec<_> = writers(&lanes, plan, &commits, per_lane)
            .into_iter()
            .map(|writer| {
                let ends = StopOnPanic(&lanes);
                scope.spawn(move || {
                    let _ends = ends;
                    writer.run();
                })
            })
            .collect();
        let (to_assembler, items) = unbounded();
        let pool = &pool;
        let lanes_of_source = Arc::clone(&lanes);
        let source_thread = scope.spawn(move || {
            let flow = read_source(&mut source, (pool, context), to_assembler, (plan, &lanes_of_source));
            (flow, source.into_seen())
        });
        let lanes_of_assembler = Arc::clone(&lanes);
        let to_committer = commits.clone();
        let ends = StopOnPanic(&lanes);
        let assembler_thread = scope.spawn(move || {
            let _ends = ends;
            let tally = assemble(plan, (&lanes_of_assembler, known, to_committer), (reader, pool), items);
            if tally.is_err() {
                lanes_of_assembler.stop(Stop::Fault(EngineError::Fault("assembling failed".into())));
            }
            lanes_of_assembler.close();
            tally
        });
        drop(commits);
        let mut early = EarlyCopies::start(scope, plan);
        let mut committed = Ok(());
        for message in from_commits {
            if committed.is_ok() {
                committed = commit(&mut committer, &mut early, message);
                if committed.is_err() {
                    lanes.stop(Stop::Fault(EngineError::Fault("committing failed".into())));
                }
            }
        }
        let (made, more) = early.end();
        copied.add(more);
        committed = committed.and_then(|()| committer.copies(&made));
        let joined = |what| EngineError::Fault(format!("the {what} thread panicked"));
        // All are waited for before any of them is asked how it went.
        let (source, assembler) = (source_thread.join(), assembler_thread.join());
        let broken = writers.into_iter().filter_map(|writer| writer.join().err()).count();
        let (flow, seen) = source.map_err(|_| joined("source"))?;
        let tally = assembler.map_err(|_| joined("assembler"))?;
        if broken > 0 {
            return Err(joined("writer"));
        }
        committed?;
        Ok((flow?, seen, tally?, committer))
    });
    let (flow, seen, tally, committer): (_, _, _, Committer<'_>) = outcome.map_err(|error: EngineError| error)?;
    end(plan, &lanes, (flow, seen, tally), committer)
}

/// Takes one message; a block that it registers goes on to further volumes.
fn commit(committer: &mut Committer<'_>, early: &mut EarlyCopies<'_>, message: CommitMsg) -> CatalogResult<()> {
    let block = early.block_of(&message);
    committer.handle(message)?;
    if let Some(block) = block {
        early.put(block);
    }
    committer.copies(&early.made())
}

fn budget_of(plan: &AttemptPlan<'_>) -> u64 {
    (plan.workers as u64 * BUDGET_PER_WORKER).clamp(BUDGET_MIN, BUDGET_MAX)
}

type CatalogResult<T> = std::result::Result<T, CatalogError>;

type Numbered = (u64, Item, Permit);

/// The source's thread: jobs get a number and a permit, in order, and go to the workers.
fn read_source(
    source: &mut Input<'_>,
    (pool, context): (&rayon::ThreadPool, HashContext),
    to_assembler: Sender<Numbered>,
    (plan, lanes): (&AttemptPlan<'_>, &Lanes),
) -> Result<ControlFlow<()>> {
    let budget = Budget::new(budget_of(plan), MemoryGate::new(plan.memory_limit));
    let mut number = 0;
    let mut emit = |job: Job| {
        if plan.observer.is_cancelled() || lanes.has_stopped() {
            return ControlFlow::Break(());
        }
        let permit = budget.take(job.weight());
        let (this, to_assembler) = (number, to_assembler.clone());
        number += 1;
        match job {
            // The assembler is gone only when the attempt has failed.
            Job::Ready(item) => drop(to_assembler.send((this, item, permit))),
            job => pool.spawn(move || drop(to_assembler.send((this, job.run(&context), permit)))),
        }
        ControlFlow::Continue(())
    };
    match source.run(&mut emit)? {
        ControlFlow::Continue(()) => Ok(rescue(&plan.rescue, &mut emit)),
        stopped => Ok(stopped),
    }
}

/// The assembler's thread: takes items in the order of their numbers.
fn assemble(
    plan: &AttemptPlan<'_>,
    (lanes, known, commits): (&Arc<Lanes>, Receiver<Vec<ChunkId>>, Sender<CommitMsg>),
    (reader, pool): (Catalog, &rayon::ThreadPool),
    items: Receiver<Numbered>,
) -> Result<Tally> {
    let budget = Budget::new(budget_of(plan), None);
    let settings = plan.settings.clone();
    let queue = Arc::clone(lanes);
    let put: PutSegment<'_> = Box::new(move |lane, raw: RawSegment| {
        let permit = budget.take(raw.bytes.len() as u64);
        let (sender, encoded) = bounded(1);
        let (ticket, chunks) = (raw.ticket, raw.chunks.clone());
        let settings = settings.clone();
        pool.spawn(move || drop(sender.send(encode_segment(raw, &settings))));
        queue.put(lane, SegmentJob { ticket, chunks, encoded, permit: Some(permit) });
    });
    let mut assembler = assembler(plan, (lanes, known, commits), reader, put)?;
    let mut waiting: BTreeMap<u64, (Item, Permit)> = BTreeMap::new();
    let mut next = 0;
    let mut barrier_at = Instant::now();
    for (number, item, permit) in items {
        waiting.insert(number, (item, permit));
        while let Some((item, permit)) = waiting.remove(&next) {
            assembler.push(item)?;
            drop(permit);
            next += 1;
        }
        if barrier_at.elapsed() > BARRIER_EVERY {
            barrier_at = Instant::now();
            assembler.flush();
            lanes.ask_close();
        }
    }
    assembler.flush();
    Ok(std::mem::take(&mut assembler.tally))
}

/// What the attempt came to; unless it is done, finished rows are put where the next run finds them.
fn end(
    plan: &AttemptPlan<'_>,
    lanes: &Lanes,
    (flow, seen, tally): (ControlFlow<()>, Seen, Tally),
    mut committer: Committer<'_>,
) -> Result<AttemptEnd> {
    let stop = lanes.take_stop();
    if stop.is_none() && flow.is_continue() && !plan.observer.is_cancelled() {
        let rows = committer.finish()?;
        return Ok(AttemptEnd::Done(Box::new(AttemptDone { rows, seen, tally })));
    }
    committer.leave_hints()?;
    match stop {
        Some(Stop::NoRoom) => Ok(AttemptEnd::NoRoom),
        Some(Stop::Failed { lane, error }) => Ok(AttemptEnd::Failed(plan.volumes[lane].0.id, error)),
        Some(Stop::Fault(error)) => Err(error),
        None => Ok(AttemptEnd::Interrupted),
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::add_volume::{AddVolumeOptions, add_volume};
    use crate::engine::backup::{BackupOptions, backup};
    use crate::engine::error::EngineError;
    use crate::engine::init::{InitOptions, init};
    use crate::engine::observer::{Observer, Silent};

    /// The assembler tells it of bytes.
    struct Panics;

    impl Observer for Panics {
        fn advance(&self, _items: u64, bytes: u64) {
            assert_eq!(bytes, 0, "as a test wants it");
        }
    }

    #[test]
    fn a_thread_that_panics_ends_the_run_with_an_error_and_the_next_one_goes_well() {
        let dir = tempfile::tempdir().unwrap();
        let (mut repository, _) = init(&dir.path().join("backup.cat"), &InitOptions::default()).unwrap();
        let disk = AddVolumeOptions { dir: dir.path().join("disk"), ..AddVolumeOptions::default() };
        add_volume(&mut repository, &disk, &Silent).unwrap();
        let src = dir.path().join("src");
        std::fs::create_dir(&src).unwrap();
        for number in 0..300 {
            std::fs::write(src.join(number.to_string()), vec![1; 10_000]).unwrap();
        }
        let options = BackupOptions { roots: vec![src], workers: Some(2), ..BackupOptions::default() };
        let error = backup(&mut repository, &options, &Panics).unwrap_err();
        assert!(matches!(&error, EngineError::Fault(text) if text.contains("assembler")), "{error}");
        assert_eq!(backup(&mut repository, &options, &Silent).unwrap().counts.added, 301);
    }
}
