//! Further copies while the source is still being read: a block that is durable and in the catalog goes on to other volumes
//! at once, on a thread for each, while that has half of the room that it had. What is not done when the source has been read,
//! and what fails, is left to [`protect_new`](crate::engine::protect). What a run needs more than a second copy of each block is
//! a first one: when all volumes are full, second ones are taken back and the source is read once more without any.

use super::attempt::AttemptPlan;
use super::commit::CommitMsg;
use super::writer::LaneVolume;
use crate::catalog::retired::{self, Retired};
use crate::catalog::{blocks, redundancy};
use crate::engine::error::Result;
use crate::engine::observer::Observer;
use crate::engine::protect::Copied;
use crate::engine::protect::copy::{BlockFile, CopyFailure, Found, Present, copy_block, look};
use crate::engine::repository::Repository;
use crate::format::layout;
use crate::model::ids::{BlockId, VolumeId};
use crate::model::redundancy::Redundancy;
use crate::volume::index::IndexedBlock;
use crate::volume::store::StoreError;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};

/// A copy that is durable.
pub struct MadeCopy {
    /// The block.
    pub block: BlockFile,
    /// Where it is now.
    pub volume: VolumeId,
    /// A volume on the same device that has it too.
    beside: Option<VolumeId>,
}

/// A block, the volume that it is to be read from, and one beside the target that has it.
struct Job {
    block: BlockFile,
    from: LaneVolume,
    beside: Option<VolumeId>,
}

/// A copy, or why a volume gets no more.
type Told = std::result::Result<MadeCopy, (VolumeId, String)>;

/// A volume that copies go to.
struct Target<'s> {
    volume: LaneVolume,
    /// Bytes that it could take when the run began, less what was given to it.
    room: u64,
    jobs: Sender<Job>,
    thread: ScopedJoinHandle<'s, ()>,
}

/// Makes them.
pub struct EarlyCopies<'s> {
    targets: Vec<Target<'s>>,
    /// Copies that a block gets beside the first.
    further: usize,
    plan: &'s AttemptPlan<'s>,
    told: Receiver<Told>,
    is_over: Arc<AtomicBool>,
    /// What became of it.
    copied: Copied,
}

impl<'s> EarlyCopies<'s> {
    /// Starts the threads, none where blocks are not to have copies. Where one cannot be started there is that much left
    /// for later.
    pub fn start<'e>(scope: &'s Scope<'s, 'e>, plan: &'s AttemptPlan<'s>) -> Self {
        let further = match plan.settings.redundancy {
            Redundancy::Copies(count) if plan.copies_early => usize::from(count).saturating_sub(1),
            Redundancy::Copies(_) | Redundancy::None | Redundancy::Parity { .. } => 0,
        };
        let (tell, told) = unbounded();
        let is_over = Arc::new(AtomicBool::new(false));
        let mut targets = Vec::new();
        let volumes = plan.volumes.iter().filter(|_| further > 0 && plan.volumes.len() > 1);
        for (volume, room) in volumes {
            let (jobs, todo) = unbounded();
            let kept = (room / 2).max(2 * plan.settings.block_size);
            let to = volume.clone();
            let (tell, is_over) = (tell.clone(), Arc::clone(&is_over));
            let work = move || copy_all((&to, kept), &todo, (&tell, &is_over), plan.observer);
            let thread = std::thread::Builder::new().name("early-copy".to_owned()).spawn_scoped(scope, work);
            let Ok(thread) = thread else { continue };
            targets.push(Target { volume: volume.clone(), room: *room, jobs, thread });
        }
        Self { targets, further, plan, told, is_over, copied: Copied::default() }
    }

    /// The block that a message registers, where it is to be copied then.
    pub fn block_of(&self, message: &CommitMsg) -> Option<(BlockId, u64, VolumeId)> {
        match message {
            CommitMsg::Block { block, .. } if !self.targets.is_empty() => {
                Some((block.id, block.size, *block.volumes.first()?))
            }
            _ => None,
        }
    }

    /// A block is in the catalog: it goes on to others.
    pub fn put(&mut self, (id, size, on): (BlockId, u64, VolumeId)) {
        let block = BlockFile { id, size, algo: self.plan.settings.hash };
        let Some((source, _)) = self.plan.volumes.iter().find(|(volume, _)| volume.id == on) else { return };
        if let Some(own) = self.targets.iter_mut().find(|target| target.volume.id == on) {
            own.room = own.room.saturating_sub(size);
        }
        let mut held = vec![source];
        for _ in 0..self.further {
            let is_beside = |volume: &LaneVolume, held: &[&LaneVolume]| {
                volume.device.is_some() && held.iter().any(|other| other.device == volume.device)
            };
            let free = self.targets.iter_mut().filter(|target| target.room >= size);
            let free = free.filter(|target| held.iter().all(|volume| volume.id != target.volume.id));
            let best = free.max_by_key(|target| (!is_beside(&target.volume, &held), target.room));
            let Some(target) = best else { return };
            target.room -= size;
            let beside = held.iter().find(|other| other.device.is_some() && other.device == target.volume.device);
            let job = Job { block, from: source.clone(), beside: beside.map(|volume| volume.id) };
            if target.jobs.send(job).is_err() {
                // Its thread has met an error.
                target.room = 0;
                return;
            }
            let id = target.volume.id;
            held.extend(self.plan.volumes.iter().map(|(volume, _)| volume).filter(|volume| volume.id == id));
        }
    }

    /// Copies that are durable since the last time.
    pub fn made(&mut self) -> Vec<MadeCopy> {
        let mut copies = Vec::new();
        for told in self.told.try_iter() {
            match told {
                Ok(made) => copies.push(made),
                Err((volume, problem)) => {
                    self.copied.failed.insert(volume);
                    self.copied.problems.push(problem);
                }
            }
        }
        for made in &copies {
            self.copied.blocks += 1;
            self.copied.bytes += made.block.size;
            let file = IndexedBlock { id: made.block.id, size: made.block.size, verified_ns: None };
            self.copied.note_made(made.volume, file);
            if let Some(other) = made.beside {
                self.copied.beside.insert((made.volume.min(other), made.volume.max(other)));
            }
        }
        copies
    }

    /// The source has been read: each thread ends the copy that it is at. The last ones, and what came of all.
    pub fn end(mut self) -> (Vec<MadeCopy>, Copied) {
        self.is_over.store(true, Ordering::Relaxed);
        for Target { jobs, thread, .. } in std::mem::take(&mut self.targets) {
            drop(jobs);
            // One that panicked has told nothing that is not so.
            drop(thread.join());
        }
        let made = self.made();
        (made, self.copied)
    }
}

/// Works through the copies for one volume, until one fails; leaves `kept` bytes of its room.
fn copy_all(
    (to, kept): (&LaneVolume, u64),
    jobs: &Receiver<Job>,
    (tell, is_over): (&Sender<Told>, &AtomicBool),
    observer: &dyn Observer,
) {
    for Job { block, from, beside } in jobs {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let Ok(room) = to.room() else { return };
        if room < kept.saturating_add(block.size) {
            continue;
        }
        match copy_block((from.store.as_ref(), to.store.as_ref()), &block, Present::Replaced, &Stops(observer)) {
            Ok(()) => drop(tell.send(Ok(MadeCopy { block, volume: to.id, beside }))),
            // Whose fault it is will be seen when it is tried again.
            Err(CopyFailure::From(_)) => {}
            Err(CopyFailure::Stopped | CopyFailure::To(StoreError::NoSpace { .. })) => return,
            Err(CopyFailure::To(error)) => {
                let problem = format!("volume {}: a copy of a block could not be written: {error}", to.name);
                return drop(tell.send(Err((to.id, problem))));
            }
        }
    }
}

/// All volumes are full: copies that this process made are deleted again, each after the first one was read and hashed; what is
/// on volumes that failed does not count and stays. Whether there is more room now.
pub fn take_back(
    repository: &Repository,
    (copied, avoid): (&mut Copied, &[VolumeId]),
    observer: &dyn Observer,
) -> Result<bool> {
    let (conn, algo) = (repository.catalog.conn(), repository.settings().hash);
    let made = copied.made();
    let mut gone: Vec<(VolumeId, BlockId)> = Vec::new();
    for (volume, file) in &made {
        if observer.is_cancelled() {
            break;
        }
        let is_made = |other: VolumeId| made.iter().any(|(on, copy)| *on == other && copy.id == file.id);
        let Some(no) = blocks::number_of(conn, file.id)? else { continue };
        let block = BlockFile { id: file.id, size: file.size, algo };
        let first = redundancy::copies(conn, no)?.into_iter().find(|copy| copy.is_counted && !is_made(copy.volume));
        let first = first.filter(|copy| !avoid.contains(&copy.volume)).and_then(|copy| repository.volume(copy.volume));
        let second = repository.volume(*volume).filter(|mounted| mounted.is_locked_for_writing());
        let (Some(first), Some(second)) = (first, second.filter(|_| !avoid.contains(volume))) else { continue };
        if !matches!(look(first.store().as_ref(), &block), Ok(Found::Sound)) {
            continue;
        }
        retired::retire_copy(conn, no, *volume)?;
        let retired = Retired { no, id: file.id, size: file.size, is_parity: false, volume: *volume };
        let key = layout::block_key(&file.id);
        match second.store().delete(&key) {
            Ok(()) | Err(StoreError::NotFound { .. }) => {
                retired::forget(conn, &retired)?;
                gone.push((*volume, file.id));
            }
            Err(error) => {
                let name = &second.row.name;
                observer.warn(&format!("volume {name}: a copy that is to give way cannot be deleted: {error}"));
                if matches!(look(second.store().as_ref(), &block), Ok(Found::Sound)) {
                    retired::keep(conn, &retired)?;
                }
            }
        }
    }
    for (volume, id) in &gone {
        copied.take_made(*volume, &|made| made == id);
    }
    Ok(!gone.is_empty())
}

/// Hears only that it should stop: the progress shown is that of the source.
struct Stops<'o>(&'o dyn Observer);

impl Observer for Stops<'_> {
    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::observer::Silent;
    use crate::engine::test_repo::{Node, TestRepo};

    #[test]
    fn a_copy_gives_way_only_where_the_first_one_is_sound() {
        let mut repo = TestRepo::new();
        repo.add_volume("second");
        repo.use_volume("first");
        let [rotten, sound] = [b"rotten", b"sound "].map(|bytes| bytes.repeat(100));
        let mut files = Vec::new();
        for bytes in [&rotten, &sound] {
            repo.run(&[("file", Node::bytes(bytes))]);
            repo.copy_block(bytes, "second");
            let path = repo.block_file_of(bytes).0;
            let id =
                layout::parse_block_key(&path.to_str().unwrap()[path.to_str().unwrap().find("chunks/").unwrap()..]);
            files.push((id.unwrap(), std::fs::metadata(&path).unwrap().len()));
        }
        repo.damage(&rotten);
        repo.repository.lock_volumes(&Silent).unwrap();
        let volume =
            |name: &str| repo.repository.mounted.iter().find(|mounted| mounted.row.name == name).unwrap().row.id;
        let (first, second) = (volume("first"), volume("second"));
        let mut copied = Copied::default();
        for (id, size) in &files {
            copied.blocks += 1;
            copied.bytes += size;
            copied.note_made(second, IndexedBlock { id: *id, size: *size, verified_ns: None });
        }
        assert!(!take_back(&repo.repository, (&mut copied, &[first]), &Silent).unwrap());
        assert!(take_back(&repo.repository, (&mut copied, &[]), &Silent).unwrap());
        let is_there = |(id, _): &(BlockId, u64)| repo.dir.path().join("second").join(layout::block_key(id)).exists();
        assert_eq!(files.iter().map(is_there).collect::<Vec<_>>(), [true, false]);
        assert_eq!((copied.blocks, copied.bytes), (1, files[0].1));
        let conn = repo.repository.catalog.conn();
        let copies = |(id, _): &(BlockId, u64)| {
            redundancy::copies(conn, blocks::number_of(conn, *id).unwrap().unwrap()).unwrap().len()
        };
        assert_eq!(files.iter().map(copies).collect::<Vec<_>>(), [2, 1]);
        assert!(retired::all(conn).unwrap().is_empty());
        assert!(!take_back(&repo.repository, (&mut copied, &[]), &Silent).unwrap());
    }
}
