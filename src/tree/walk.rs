//! Walking a source: directories in pre-order, each sorted by the bytes of its names, listed ahead by threads.
//!
//! Every directory that is known and not handed out yet lies in one of two ordered maps, *pending* or *ready*; the
//! smallest key of both is always the next to hand out, because what a directory holds sorts behind it. Workers take
//! the smallest pending key, so they list first what is wanted next, and rest when enough is listed ahead. The
//! consumer lists the wanted directory itself when nobody has begun it: no bound can make it wait for ever.
//! Owns order, threads and bounds; [`super::list`] does the work on one directory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::beneath::kept_fds_max;
use super::dir::Dir;
use super::error::TreeError;
use super::list::{Lister, Listing, SelectFn, Task};
use super::listed;
use super::select::Selection;
use super::stat::stat_fd;
use crate::model::problem::Problem;

/// How to walk.
#[derive(Clone)]
pub struct WalkOptions {
    /// Threads that list ahead; 0: everything happens on the caller's thread.
    pub threads: usize,
    /// Entries that may be listed ahead of the consumer (a directory counts as one more). Each thread may go beyond
    /// it by the directory that it is listing.
    pub lookahead_entries: usize,
    /// What is taken of what the user wants.
    pub select: SelectFn,
    /// What the user wants.
    pub selection: Arc<Selection>,
}

/// A walk through one source. Dropping it stops and joins its threads.
pub struct Walker {
    shared: Arc<Shared>,
    lister: Lister,
    threads: Vec<JoinHandle<()>>,
}

impl Walker {
    /// Opens the root; nothing is listed for the caller before [`Self::next`], though threads may begin. Fewer
    /// threads than asked for is no error.
    ///
    /// # Errors
    /// `RootMissing`, `RootNotDirectory`, `RootUnreadable`.
    pub fn open(root: &Path, options: WalkOptions) -> Result<Self, TreeError> {
        Self::open_with_fds(root, options, kept_fds_max())
    }

    fn open_with_fds(root: &Path, options: WalkOptions, fds_max: usize) -> Result<Self, TreeError> {
        let dir = Dir::open_root(root, fds_max)?;
        let stat = dir
            .with_fd(|fd| stat_fd(fd))
            .map_err(|source| TreeError::RootUnreadable { path: root.to_path_buf(), source })?;
        let mut queue = Queue::default();
        queue.pending.insert(Vec::new(), Task::root(stat));
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            work: Condvar::new(),
            done: Condvar::new(),
            lookahead_entries: options.lookahead_entries,
        });
        let lister = || Lister::new(dir.clone(), (Arc::clone(&options.select), Arc::clone(&options.selection)));
        let threads = (0..options.threads).map_while(|_| spawn(Arc::clone(&shared), lister())).collect();
        Ok(Self { lister: lister(), shared, threads })
    }

    /// The next directory in pre-order, or `None` after the last. Blocks while a thread is listing it.
    #[expect(
        clippy::should_implement_trait,
        reason = "a walk is consumed once, by one loop; adapters would hide where it blocks"
    )]
    pub fn next(&mut self) -> Option<Listing> {
        let shared = &*self.shared;
        let mut queue = shared.lock();
        loop {
            match queue.wanted() {
                Wanted::End => return None,
                Wanted::Listed(listing) => {
                    shared.wake_rested(&queue);
                    return Some(*listing);
                }
                // Listing what comes after it costs less than sleeping until it is done.
                Wanted::Begun => match shared.begin(&mut queue) {
                    Some(begun) => {
                        drop(queue);
                        queue = begun.list(&mut self.lister);
                    }
                    None => {
                        queue.is_waited_for = true;
                        queue = wait(&shared.done, queue);
                        queue.is_waited_for = false;
                    }
                },
                Wanted::Pending(key, task) => {
                    drop(queue);
                    let (listing, found) = self.lister.list(&path_of(&key), &task);
                    shared.add_pending(&mut shared.lock(), found);
                    return Some(listing);
                }
            }
        }
    }
}

impl Walker {
    /// Whether a path is a root of the source.
    pub fn is_root(&self, path: &[u8]) -> bool {
        self.lister.selection().is_root(path)
    }

    /// Whether a path is one of several roots or a directory above one: these were there when the walk began.
    pub fn leads(&self, path: &[u8]) -> bool {
        self.lister.selection().leads(path)
    }

    /// Whether a path would be wanted if it were there, patterns aside.
    pub fn wants(&self, path: &[u8]) -> bool {
        self.lister.selection().wants(path) != listed::Wanted::Not
    }

    /// After the end: paths that the user listed, that are there, and that something else leaves out.
    pub fn left_out(&self) -> Vec<Vec<u8>> {
        self.lister.left_out()
    }

    /// After the end: a problem for every path that the user listed and that is not there.
    pub fn not_met(&self) -> Vec<Problem> {
        self.lister.not_met()
    }
}

impl Drop for Walker {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A panic of a worker has come up on the consumer's thread already, see `Begun`.
            let _ = thread.join();
        }
    }
}

struct Shared {
    queue: Mutex<Queue>,
    /// There may be work for a resting thread.
    work: Condvar,
    /// A directory has been listed.
    done: Condvar,
    lookahead_entries: usize,
}

/// A path whose `/` are zero bytes: sorts in pre-order, because no name holds a byte that sorts before it.
type Key = Vec<u8>;

#[derive(Default)]
struct Queue {
    pending: BTreeMap<Key, Task>,
    ready: BTreeMap<Key, Option<Box<Listing>>>,
    /// Entries in `ready`, and one per directory there.
    ahead: usize,
    /// Workers without work.
    resting: usize,
    /// The consumer sleeps until something is done.
    is_waited_for: bool,
    stopped: bool,
}

enum Wanted {
    Listed(Box<Listing>),
    Begun,
    Pending(Key, Task),
    End,
}

impl Queue {
    /// Takes out what is to be handed out next.
    fn wanted(&mut self) -> Wanted {
        let pending = self.pending.first_key_value().map(|(key, _)| key);
        let Some(mut first) = self.ready.first_entry() else {
            return self.pending.pop_first().map_or(Wanted::End, |(key, task)| Wanted::Pending(key, task));
        };
        if pending.is_some_and(|pending| pending < first.key()) {
            let (key, task) = self.pending.pop_first().expect("its key was just seen");
            return Wanted::Pending(key, task);
        }
        let Some(listing) = first.get_mut().take() else {
            return Wanted::Begun;
        };
        first.remove();
        self.ahead -= weight(&listing);
        Wanted::Listed(listing)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_pending(&self, queue: &mut Queue, found: Vec<(Vec<u8>, Task)>) {
        if found.is_empty() {
            return;
        }
        for (path, task) in found {
            queue.pending.insert(key_of(path), task);
        }
        if queue.resting > 0 && queue.ahead < self.lookahead_entries {
            self.work.notify_all();
        }
    }

    /// Wakes threads only when half of what may lie ahead is used up, so that they do not wake for each directory.
    fn wake_rested(&self, queue: &Queue) {
        let is_low = queue.ahead <= self.lookahead_entries / 2;
        if queue.resting > 0 && is_low && !queue.pending.is_empty() {
            self.work.notify_all();
        }
    }

    /// Takes the first pending directory to list it ahead, if there is one and the bound allows.
    fn begin(&self, queue: &mut Queue) -> Option<Begun<'_>> {
        if queue.ahead >= self.lookahead_entries {
            return None;
        }
        let (key, task) = queue.pending.pop_first()?;
        queue.ready.insert(key.clone(), None);
        Some(Begun { shared: self, key, task: Some(task) })
    }

    /// A worker's life.
    fn run(&self, mut lister: Lister) {
        let mut queue = self.lock();
        while !queue.stopped {
            if let Some(begun) = self.begin(&mut queue) {
                drop(queue);
                queue = begun.list(&mut lister);
            } else {
                queue.resting += 1;
                queue = wait(&self.work, queue);
                queue.resting -= 1;
            }
        }
    }

    fn tell_consumer(&self, queue: &Queue) {
        if queue.is_waited_for {
            self.done.notify_one();
        }
    }
}

/// A directory that is being listed ahead. When that panics (in the selection of the caller), it is given back, so
/// that the consumer lists it itself and meets the same panic instead of waiting for ever.
struct Begun<'a> {
    shared: &'a Shared,
    key: Key,
    task: Option<Task>,
}

impl<'a> Begun<'a> {
    /// Lists it and puts it among the ready ones; call it without the lock, which it returns.
    fn list(mut self, lister: &mut Lister) -> MutexGuard<'a, Queue> {
        let shared = self.shared;
        let task = self.task.as_ref().expect("taken by nobody before");
        let (listing, found) = lister.list(&path_of(&self.key), task);
        self.task = None;
        let mut queue = shared.lock();
        queue.ahead += weight(&listing);
        let key = std::mem::take(&mut self.key);
        queue.ready.insert(key, Some(Box::new(listing)));
        shared.add_pending(&mut queue, found);
        shared.tell_consumer(&queue);
        queue
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let Some(task) = self.task.take() else { return };
        let mut queue = self.shared.lock();
        queue.ready.remove(&self.key);
        queue.pending.insert(std::mem::take(&mut self.key), task);
        self.shared.tell_consumer(&queue);
    }
}

fn spawn(shared: Arc<Shared>, lister: Lister) -> Option<JoinHandle<()>> {
    std::thread::Builder::new().name("walk".to_owned()).spawn(move || shared.run(lister)).ok()
}

fn wait<'a>(condvar: &Condvar, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
    condvar.wait(queue).unwrap_or_else(PoisonError::into_inner)
}

fn weight(listing: &Listing) -> usize {
    1 + listing.entries.len()
}

fn key_of(path: Vec<u8>) -> Key {
    swap(path, b'/', 0)
}

fn path_of(key: &Key) -> Vec<u8> {
    swap(key.clone(), 0, b'/')
}

fn swap(mut bytes: Vec<u8>, from: u8, to: u8) -> Vec<u8> {
    for byte in bytes.iter_mut().filter(|byte| **byte == from) {
        *byte = to;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::path::join;
    use crate::model::problem::ProblemOp;
    use crate::tree::list::Select;
    use rustix::fs::{Mode, OFlags};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn take_all(threads: usize, lookahead_entries: usize) -> WalkOptions {
        WalkOptions { threads, lookahead_entries, select: Arc::new(|_, _| Select::Take), selection: Arc::default() }
    }

    fn walk(root: &Path, options: WalkOptions) -> Vec<Listing> {
        let mut walker = Walker::open(root, options).unwrap();
        std::iter::from_fn(|| walker.next()).collect()
    }

    /// The paths of all listings and entries, as they came.
    fn shape(listings: &[Listing]) -> Vec<Vec<u8>> {
        listings
            .iter()
            .flat_map(|listing| {
                let names = listing.entries.iter().map(|entry| join(&listing.path, &entry.name));
                std::iter::once(listing.path.clone()).chain(names)
            })
            .collect()
    }

    /// 3 levels, with names around `/` in byte order.
    fn sample() -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        for dir in ["a", "a!", "a.b", "a0", "z"] {
            for sub in ["x", "x y", "x-"] {
                let path = temp.path().join(dir).join(sub);
                fs::create_dir_all(&path).unwrap();
                for file in 0..5 {
                    fs::write(path.join(format!("f{file}")), b"x").unwrap();
                }
            }
        }
        temp
    }

    #[test]
    fn the_order_is_the_same_with_any_threads_and_bounds() {
        let temp = sample();
        let expected = shape(&walk(temp.path(), take_all(0, 0)));
        assert_eq!(expected.len(), 1 + 5 + 2 * 15 + 75 + 5);
        assert_eq!(expected[..7], [&b""[..], b"a", b"a!", b"a.b", b"a0", b"z", b"a"].map(<[u8]>::to_vec));
        for (threads, lookahead) in [(1, 0), (1, 1), (2, 10), (4, 100_000)] {
            for _ in 0..20 {
                let listings = walk(temp.path(), take_all(threads, lookahead));
                assert_eq!(shape(&listings), expected);
            }
        }
    }

    #[test]
    fn dropping_a_walk_half_way_stops_its_threads() {
        let temp = sample();
        let mut walker = Walker::open(temp.path(), take_all(3, 4)).unwrap();
        assert!(walker.next().is_some());
        drop(walker);
    }

    #[test]
    fn what_is_skipped_is_named_and_not_entered() {
        let temp = sample();
        let options = WalkOptions {
            select: Arc::new(|path, _| if path == b"a" || path.ends_with(b"f3") { Select::Skip } else { Select::Take }),
            ..take_all(2, 100)
        };
        let listings = walk(temp.path(), options);
        assert_eq!(listings[0].skipped, [b"a".to_vec()]);
        assert_eq!(listings.len(), 1 + 4 + 12);
        assert_eq!(listings[2].skipped, [b"f3".to_vec()]);
    }

    #[test]
    fn a_directory_that_vanishes_or_becomes_a_link_is_reported_and_its_stat_kept() {
        for threads in [0, 2] {
            let temp = sample();
            let root = temp.path().to_path_buf();
            let options = WalkOptions {
                select: Arc::new(move |path, _| {
                    if path == b"a" {
                        fs::rename(root.join("a"), root.join("moved")).unwrap();
                        std::os::unix::fs::symlink("moved", root.join("a")).unwrap();
                    }
                    if path == b"z" {
                        fs::remove_dir_all(root.join("z")).unwrap();
                    }
                    Select::Take
                }),
                ..take_all(threads, 100)
            };
            let listings = walk(temp.path(), options);
            let errno = |path: &[u8]| {
                let listing = listings.iter().find(|listing| listing.path == path);
                let listing = listing.unwrap();
                assert!(listing.entries.is_empty() && listing.stat.ino != 0);
                listing.outcome.as_ref().unwrap_err().errno
            };
            assert!(matches!(errno(b"a"), Some(20 | 40)));
            assert_eq!(errno(b"z"), Some(2));
        }
    }

    #[test]
    fn what_may_not_be_read_is_named_and_never_taken_for_empty() {
        let temp = sample();
        let allow = |name: &str, mode| {
            let path = temp.path().join(name);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        allow("", 0o755);
        allow("a", 0);
        allow("z", 0o444);
        let listings = std::thread::scope(|scope| {
            let walk = || {
                if rustix::process::geteuid().is_root() {
                    rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(65534)).unwrap();
                }
                walk(temp.path(), take_all(2, 100))
            };
            scope.spawn(walk).join().unwrap()
        });
        allow("a", 0o755);
        allow("z", 0o755);
        let problem = listings[1].outcome.as_ref().unwrap_err();
        assert_eq!((problem.op, problem.errno), (ProblemOp::Open, Some(13)));
        let last = listings.last().unwrap();
        assert!(last.path == b"z" && last.outcome.is_ok() && last.entries.is_empty());
        assert_eq!(last.unreadable[1].0, b"x y");
        assert_eq!(last.unreadable[2].1.path, b"z/x-");
        assert_eq!(last.unreadable[2].1.op, ProblemOp::Stat);
    }

    #[test]
    fn a_panic_in_the_selection_reaches_the_caller() {
        let temp = sample();
        let options = WalkOptions {
            select: Arc::new(|path, _| {
                assert!(path != b"a.b/x/f1", "wanted");
                Select::Take
            }),
            ..take_all(2, 1000)
        };
        let outcome = std::thread::spawn(move || walk(temp.path(), options)).join();
        assert!(outcome.is_err());
    }

    #[test]
    fn a_root_that_is_missing_or_a_file_is_an_error_and_a_link_is_followed() {
        let temp = sample();
        let open = |name: &str| Walker::open(&temp.path().join(name), take_all(0, 0)).err();
        assert!(matches!(open("missing"), Some(TreeError::RootMissing { .. })));
        let file = open("a/x/f0");
        assert!(matches!(file, Some(TreeError::RootNotDirectory { .. })));
        std::os::unix::fs::symlink("a", temp.path().join("link")).unwrap();
        let listings = walk(&temp.path().join("link"), take_all(1, 10));
        assert_eq!(listings.len(), 4);
    }

    #[test]
    fn proc_is_a_mount_point_and_an_ordinary_directory_is_none() {
        let mut walker = Walker::open(Path::new("/proc"), take_all(0, 0)).unwrap();
        assert!(walker.next().unwrap().is_mount_point);
        let temp = sample();
        let listings = walk(&temp.path().join("a"), take_all(0, 0));
        assert!(listings.iter().all(|listing| !listing.is_mount_point));
    }

    const LEVELS: usize = 1500;
    const LEVEL: &str = "a-level-with-a-name-of-some-length";

    /// A chain of directories far beyond `PATH_MAX`, with a file at its end.
    fn deep() -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut fd = rustix::fs::open(temp.path(), flags, Mode::empty()).unwrap();
        for _ in 0..LEVELS {
            rustix::fs::mkdirat(&fd, LEVEL, Mode::RWXU).unwrap();
            fd = rustix::fs::openat(&fd, LEVEL, flags, Mode::empty()).unwrap();
        }
        let create = OFlags::CREATE | OFlags::WRONLY;
        rustix::fs::openat(&fd, "f", create, Mode::RUSR).unwrap();
        temp
    }

    /// Takes levels away from the top, so that nothing walks down the whole chain.
    fn flatten(temp: &tempfile::TempDir) {
        let top = temp.path().join(LEVEL);
        while fs::rename(top.join(LEVEL), temp.path().join("next")).is_ok() {
            fs::remove_dir(&top).unwrap();
            fs::rename(temp.path().join("next"), &top).unwrap();
        }
    }

    #[test]
    fn depth_and_path_length_have_no_limit_with_few_descriptors() {
        let temp = deep();
        for (threads, fds_max) in [(0, 0), (2, 3), (2, 16)] {
            let options = take_all(threads, 1_000_000);
            let mut walker = Walker::open_with_fds(temp.path(), options, fds_max).unwrap();
            let listings: Vec<_> = std::iter::from_fn(|| walker.next()).collect();
            assert_eq!(listings.len(), LEVELS + 1);
            assert!(listings.iter().all(|listing| listing.outcome.is_ok()));
            let last = listings.last().unwrap();
            assert!(last.path.len() > 50_000);
            assert_eq!(last.dir.open_file(b"f").unwrap().opened().size, 0);
        }
        flatten(&temp);
    }
}
