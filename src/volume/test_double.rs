//! For tests: volumes in memory that keep the contract of [`Store`] to the letter and no more, fail where they are told
//! to, and remember every state that a crash may have left. Several share one [`World`], so that what was asked of
//! them has one order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;

use super::store::{Existing, Object, Sink, Space, Store, StoreError, check_key};
use crate::format::layout;

/// Everything that lies on a volume, by key, with what is being written under `tmp/`.
pub(crate) type Objects = BTreeMap<String, Arc<Vec<u8>>>;

/// What can be asked of a store, a sink or an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Op {
    Begin,
    Write,
    Commit,
    Put,
    PutNew,
    Open,
    Read,
    Head,
    List,
    Delete,
    SetAside,
    Settle,
    Space,
    FreeReserve,
    RestoreReserve,
    Sweep,
}

impl Op {
    /// Those that change what is there.
    pub(crate) fn is_change(self) -> bool {
        !matches!(self, Self::Open | Self::Read | Self::Head | Self::List | Self::Space)
    }

    /// Those of which nobody can tell, after an error, whether they were done.
    pub(crate) fn may_be_done_and_fail(self) -> bool {
        self.is_change() && !matches!(self, Self::Begin | Self::Write)
    }

    /// Whether a system could answer this with `errno`: a full disk still reads and deletes, a read-only one reads.
    fn may_say(self, errno: Errno) -> bool {
        match errno {
            Errno::NOSPC | Errno::DQUOT => {
                self.is_change() && !matches!(self, Self::Delete | Self::FreeReserve | Self::Sweep)
            }
            Errno::ROFS => self.is_change(),
            _ => true,
        }
    }
}

/// How long a fault lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// For one operation.
    Once,
    /// For all that come after it, too.
    ForGood,
    /// Until the reserve was given up.
    UntilReserveIsFreed,
}

/// A failure that is to happen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    /// On this volume; on all when none is named.
    pub disk: Option<usize>,
    /// At the n-th operation, from 0, of those that can fail so.
    pub at: u64,
    /// What the system says.
    pub errno: Errno,
    /// How long.
    pub lasting: Lasting,
    /// Whether the first operation that fails is done all the same, where that may be.
    pub is_done: bool,
}

/// One operation that changed something, or was about to.
pub(crate) struct Event {
    pub op: Op,
    /// What all volumes held before.
    pub before: Vec<Objects>,
    /// And after.
    pub after: Vec<Objects>,
    /// Everything that was removed up to then, swept or given up, and is not back: no sync has made that durable.
    pub removed: BTreeMap<(usize, String), Arc<Vec<u8>>>,
    /// What the watcher answered before.
    pub seen: usize,
}

#[derive(Default)]
struct Disk {
    objects: Objects,
    capacity: u64,
}

/// Tells something about the world outside when an operation begins.
type Watcher = Box<dyn FnMut() -> usize + Send>;

#[derive(Default)]
struct Inner {
    disks: Vec<Disk>,
    fault: Option<Fault>,
    /// The only kind of operation that fails, if it is one.
    only: Option<Op>,
    /// Operations so far that the fault could have hit.
    passed: u64,
    fired: Option<(Op, String)>,
    counts: BTreeMap<Op, u64>,
    parts: u64,
    watcher: Option<Watcher>,
    events: Vec<Event>,
    removed: BTreeMap<(usize, String), Arc<Vec<u8>>>,
}

/// Some volumes, and what is to happen to them.
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<Inner>>);

impl World {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Adds an empty volume of so many bytes.
    pub(crate) fn add_disk(&self, capacity: u64) -> MemoryStore {
        let mut inner = self.lock();
        inner.disks.push(Disk { objects: Objects::new(), capacity });
        MemoryStore { world: self.clone(), disk: inner.disks.len() - 1 }
    }

    /// The store of a volume.
    pub(crate) fn store(&self, disk: usize) -> MemoryStore {
        MemoryStore { world: self.clone(), disk }
    }

    /// What all volumes hold.
    pub(crate) fn objects(&self) -> Vec<Objects> {
        self.lock().disks.iter().map(|disk| disk.objects.clone()).collect()
    }

    /// Makes the volumes hold that.
    pub(crate) fn set_objects(&self, objects: &[Objects]) {
        let mut inner = self.lock();
        inner.disks.iter_mut().zip(objects).for_each(|(disk, objects)| disk.objects.clone_from(objects));
    }

    /// From now on, operations are counted for this fault.
    pub(crate) fn arm(&self, fault: Fault) {
        let mut inner = self.lock();
        (inner.fault, inner.only, inner.passed, inner.fired) = (Some(fault), None, 0, None);
    }

    /// The same, where only such operations are counted and fail.
    pub(crate) fn arm_for(&self, op: Op, fault: Fault) {
        self.arm(fault);
        self.lock().only = Some(op);
    }

    /// Nothing fails any more; what failed first since the fault was armed.
    pub(crate) fn disarm(&self) -> Option<(Op, String)> {
        let mut inner = self.lock();
        inner.fault = None;
        inner.fired.take()
    }

    /// How often each operation was asked for, since this was asked last.
    pub(crate) fn take_counts(&self) -> BTreeMap<Op, u64> {
        std::mem::take(&mut self.lock().counts)
    }

    /// Remembers every change from now on.
    pub(crate) fn record(&self, watcher: Watcher) {
        let mut inner = self.lock();
        inner.watcher = Some(watcher);
        (inner.events, inner.removed) = (Vec::new(), BTreeMap::new());
    }

    /// What was remembered; nothing more is.
    pub(crate) fn take_record(&self) -> Vec<Event> {
        let mut inner = self.lock();
        inner.watcher = None;
        std::mem::take(&mut inner.events)
    }

    /// Does one operation, or fails it.
    fn call<T>(
        &self,
        (disk, op, key): (usize, Op, &str),
        act: impl FnOnce(&mut Inner) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut inner = self.lock();
        *inner.counts.entry(op).or_default() += 1;
        let failure = inner.failure(disk, op, key);
        let is_recorded = op.is_change() && inner.watcher.is_some();
        let (before, seen) = if is_recorded { inner.look() } else { (Vec::new(), 0) };
        let done = match failure {
            Some((error, false)) => Err(error),
            Some((error, true)) => act(&mut inner).and(Err(error)),
            None => act(&mut inner),
        };
        if is_recorded {
            let after = inner.disks.iter().map(|disk| disk.objects.clone()).collect();
            let removed = inner.removed.clone();
            inner.events.push(Event { op, before, after, removed, seen });
        }
        done
    }
}

impl Inner {
    fn look(&mut self) -> (Vec<Objects>, usize) {
        let before = self.disks.iter().map(|disk| disk.objects.clone()).collect();
        (before, self.watcher.as_mut().map_or(0, |watch| watch()))
    }

    /// How this operation is to fail, if it is, and whether it is done all the same.
    fn failure(&mut self, disk: usize, op: Op, key: &str) -> Option<(StoreError, bool)> {
        let fault = self.fault.filter(|fault| fault.disk.is_none_or(|only| only == disk) && op.may_say(fault.errno))?;
        if self.only.is_some_and(|only| only != op) {
            return None;
        }
        let number = self.passed;
        self.passed += 1;
        let is_hit = number == fault.at || number > fault.at && fault.lasting != Lasting::Once;
        if !is_hit {
            return None;
        }
        let is_first = self.fired.is_none();
        if is_first {
            self.fired = Some((op, key.to_owned()));
        }
        let error = StoreError::from_io(key, "fault", fault.errno.into());
        Some((error, is_first && fault.is_done && op.may_be_done_and_fail()))
    }

    fn place(&mut self, disk: usize, key: &str, bytes: Arc<Vec<u8>>) {
        self.removed.remove(&(disk, key.to_owned()));
        self.disks[disk].objects.insert(key.to_owned(), bytes);
    }

    fn remove(&mut self, disk: usize, key: &str) -> bool {
        let Some(bytes) = self.disks[disk].objects.remove(key) else { return false };
        self.removed.insert((disk, key.to_owned()), bytes);
        true
    }

    /// Whether nothing but a directory can have this name.
    fn is_dir(&self, disk: usize, key: &str) -> bool {
        let below = format!("{key}/");
        self.disks[disk].objects.keys().any(|other| other.starts_with(&below))
    }

    fn check_free(&self, disk: usize, key: &str, existing: Existing) -> Result<(), StoreError> {
        let is_taken = self.disks[disk].objects.contains_key(key) || self.is_dir(disk, key);
        if is_taken && existing == Existing::Fail {
            return Err(StoreError::Exists { key: key.to_owned() });
        }
        Ok(())
    }

    fn free(&self, disk: usize) -> u64 {
        let used: u64 = self.disks[disk].objects.values().map(|bytes| bytes.len() as u64).sum();
        self.disks[disk].capacity.saturating_sub(used)
    }
}

/// Bytes of the reserve: enough to be seen.
const RESERVE_LEN: usize = 4096;

/// A volume's store.
#[derive(Clone)]
pub(crate) struct MemoryStore {
    world: World,
    disk: usize,
}

impl MemoryStore {
    fn put_as(&self, (op, key): (Op, &str), bytes: &[u8], existing: Existing) -> Result<(), StoreError> {
        check_key(key)?;
        self.world.call((self.disk, op, key), |inner| {
            inner.check_free(self.disk, key, existing)?;
            if inner.free(self.disk) < bytes.len() as u64 {
                return Err(StoreError::from_io(key, "put", Errno::NOSPC.into()));
            }
            inner.place(self.disk, key, Arc::new(bytes.to_vec()));
            Ok(())
        })
    }
}

impl Store for MemoryStore {
    fn begin(&self, lease_bytes: u64) -> Result<Box<dyn Sink>, StoreError> {
        self.world.call((self.disk, Op::Begin, layout::TMP), |inner| {
            if inner.free(self.disk) < lease_bytes {
                return Err(StoreError::from_io(layout::TMP, "begin", Errno::NOSPC.into()));
            }
            inner.parts += 1;
            let part = layout::tmp_key(&format!("{}.part", inner.parts));
            inner.place(self.disk, &part, Arc::default());
            let sink = MemorySink { store: self.clone(), part, len: 0 };
            Ok(Box::new(sink) as Box<dyn Sink>)
        })
    }

    fn open(&self, key: &str) -> Result<Box<dyn Object>, StoreError> {
        check_key(key)?;
        self.world.call((self.disk, Op::Open, key), |inner| {
            let Some(bytes) = inner.disks[self.disk].objects.get(key) else {
                let key = key.to_owned();
                let is_dir = inner.is_dir(self.disk, &key);
                return Err(if is_dir { StoreError::NotAnObject { key } } else { StoreError::NotFound { key } });
            };
            let object = MemoryObject { store: self.clone(), key: key.to_owned(), bytes: Arc::clone(bytes) };
            Ok(Box::new(object) as Box<dyn Object>)
        })
    }

    fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        check_key(key)?;
        self.world.call((self.disk, Op::Head, key), |inner| match inner.disks[self.disk].objects.get(key) {
            Some(bytes) => Ok(Some(bytes.len() as u64)),
            None if inner.is_dir(self.disk, key) => Err(StoreError::NotAnObject { key: key.to_owned() }),
            None => Ok(None),
        })
    }

    /// A listing that fails has shown half of what is there.
    fn list(&self, prefix: &str, each: &mut dyn FnMut(&str, u64)) -> Result<(), StoreError> {
        if !prefix.is_empty() {
            check_key(prefix)?;
        }
        let objects = self.world.lock().disks[self.disk].objects.clone();
        let is_below = |key: &str| prefix.is_empty() || key.strip_prefix(prefix).is_some_and(|r| r.starts_with('/'));
        // By directories and the names in them, as a walk comes by.
        let below: BTreeSet<(Vec<&str>, u64)> = objects
            .iter()
            .filter(|(key, _)| is_below(key))
            .map(|(key, bytes)| (key.split('/').collect(), bytes.len() as u64))
            .collect();
        let listed = self.world.call((self.disk, Op::List, prefix), |_| Ok(()));
        let shown = if listed.is_ok() { below.len() } else { below.len() / 2 };
        below.iter().take(shown).for_each(|(names, len)| each(&names.join("/"), *len));
        listed?;
        let top = prefix.split('/').next().unwrap_or(prefix);
        let on_demand = ["", layout::CHUNKS, layout::META, layout::RUNS, layout::QUARANTINE].contains(&top);
        if below.is_empty() && !(on_demand && objects.contains_key(layout::LABEL)) && !prefix.is_empty() {
            return Err(StoreError::NotFound { key: prefix.to_owned() });
        }
        Ok(())
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        self.world.call((self.disk, Op::Delete, key), |inner| match inner.remove(self.disk, key) {
            true => Ok(()),
            false => Err(StoreError::NotFound { key: key.to_owned() }),
        })
    }

    fn set_aside(&self, key: &str, aside: &str) -> Result<(), StoreError> {
        check_key(key)?;
        check_key(aside)?;
        self.world.call((self.disk, Op::SetAside, key), |inner| {
            let Some(bytes) = inner.disks[self.disk].objects.get(key).cloned() else {
                return Err(StoreError::NotFound { key: key.to_owned() });
            };
            inner.check_free(self.disk, aside, Existing::Fail)?;
            inner.place(self.disk, aside, bytes);
            inner.remove(self.disk, key);
            Ok(())
        })
    }

    fn settle(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        self.world.call((self.disk, Op::Settle, key), |_| Ok(()))
    }

    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_as((Op::PutNew, key), bytes, Existing::Fail)
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_as((Op::Put, key), bytes, Existing::Replace)
    }

    fn space(&self) -> Result<Space, StoreError> {
        self.world.call((self.disk, Op::Space, "."), |inner| {
            Ok(Space { total_bytes: inner.disks[self.disk].capacity, free_bytes: inner.free(self.disk) })
        })
    }

    fn free_reserve(&self) -> Result<bool, StoreError> {
        self.world.call((self.disk, Op::FreeReserve, layout::RESERVE), |inner| {
            inner.fault = inner.fault.filter(|fault| fault.lasting != Lasting::UntilReserveIsFreed);
            Ok(inner.remove(self.disk, layout::RESERVE))
        })
    }

    fn restore_reserve(&self) -> Result<(), StoreError> {
        self.world.call((self.disk, Op::RestoreReserve, layout::RESERVE), |inner| {
            if !inner.disks[self.disk].objects.contains_key(layout::RESERVE) {
                inner.place(self.disk, layout::RESERVE, Arc::new(vec![0xa5; RESERVE_LEN]));
            }
            Ok(())
        })
    }

    fn sweep(&self) -> Result<u64, StoreError> {
        self.world.call((self.disk, Op::Sweep, layout::TMP), |inner| {
            let is_part = |key: &&String| key.starts_with("tmp/");
            let parts: Vec<String> = inner.disks[self.disk].objects.keys().filter(is_part).cloned().collect();
            let swept = parts.iter().filter(|key| inner.remove(self.disk, key)).count();
            Ok(swept as u64)
        })
    }
}

/// An object under `tmp/`.
struct MemorySink {
    store: MemoryStore,
    part: String,
    len: usize,
}

impl Sink for MemorySink {
    /// One that fails leaves half of the bytes behind those that count.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let disk = self.store.disk;
        let taken = self.store.world.call((disk, Op::Write, &self.part), |inner| {
            if inner.free(disk) < bytes.len() as u64 {
                return Err(StoreError::from_io(&self.part, "write", Errno::NOSPC.into()));
            }
            Ok(())
        });
        let mut inner = self.store.world.lock();
        let part = inner.disks[disk].objects.entry(self.part.clone()).or_default();
        let part = Arc::make_mut(part);
        part.truncate(self.len);
        part.extend_from_slice(if taken.is_ok() { bytes } else { &bytes[..bytes.len() / 2] });
        taken?;
        self.len += bytes.len();
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len as u64
    }

    fn commit(self: Box<Self>, key: &str, existing: Existing) -> Result<(), StoreError> {
        check_key(key)?;
        let disk = self.store.disk;
        self.store.world.call((disk, Op::Commit, key), |inner| {
            inner.check_free(disk, key, existing)?;
            let mut bytes = inner.disks[disk].objects.remove(&self.part).unwrap_or_default();
            Arc::make_mut(&mut bytes).truncate(self.len);
            inner.place(disk, key, bytes);
            Ok(())
        })
    }
}

impl Drop for MemorySink {
    fn drop(&mut self) {
        self.store.world.lock().disks[self.store.disk].objects.remove(&self.part);
    }
}

/// An object as it was when it was opened.
struct MemoryObject {
    store: MemoryStore,
    key: String,
    bytes: Arc<Vec<u8>>,
}

impl Object for MemoryObject {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// One that fails has filled half of `buf`, and with rubbish.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let read = self.store.world.call((self.store.disk, Op::Read, &self.key), |_| {
            let end = offset.saturating_add(buf.len() as u64);
            let len_bytes = self.bytes.len() as u64;
            match usize::try_from(offset).ok().and_then(|at| self.bytes.get(at..)?.get(..buf.len())) {
                Some(found) => Ok(found),
                None => Err(StoreError::Truncated { key: self.key.clone(), offset, end, len_bytes }),
            }
        });
        match read {
            Ok(found) => buf.copy_from_slice(found),
            Err(error) => {
                let half = buf.len() / 2;
                buf[..half].fill(0xee);
                return Err(error);
            }
        }
        Ok(())
    }

    fn forget(&self, _offset: u64, _len: u64) {}

    fn will_read(&self, _offset: u64, _len: u64) {}
}

mod tests {
    use super::super::local::LocalStore;
    use super::*;

    const KEY: &str = "chunks/aa/bb/block";

    fn with_label(store: &dyn Store) {
        store.put_new(layout::LABEL, b"{}").unwrap();
    }

    /// What a store did, step by step, without what it may choose for itself.
    fn story(store: &dyn Store) -> Vec<String> {
        let mut told = Vec::new();
        let mut tell = |what: &str, answer: String| told.push(format!("{what}: {answer}"));
        let short = |error: StoreError| format!("{error:?}").split([' ', '{']).next().unwrap_or("").to_owned();
        let done = |answer: Result<(), StoreError>| answer.map_or_else(short, |()| "done".to_owned());
        let list = |prefix: &str| {
            let mut keys = Vec::new();
            let listed = store.list(prefix, &mut |key, len| keys.push(format!("{key}={len}")));
            listed.map_or_else(short, |()| keys.join(" "))
        };
        tell("nothing", list("chunks"));
        with_label(store);
        for prefix in ["chunks", "chunks/aa", "runs", "meta", "other", ".."] {
            tell(prefix, list(prefix));
        }
        let mut sink = store.begin(1 << 20).unwrap();
        sink.write(b"hello ").unwrap();
        sink.write(b"world").unwrap();
        tell("length", sink.len().to_string());
        tell("not yet", format!("{:?}", store.head(KEY).unwrap()));
        tell("commit", done(sink.commit(KEY, Existing::Fail)));
        tell("there", format!("{:?}", store.head(KEY).unwrap()));
        tell("read", String::from_utf8(store.read_all(KEY, 11).unwrap()).unwrap());
        tell("too long", store.read_all(KEY, 10).map_or_else(short, |_| "read".to_owned()));
        let mut again = store.begin(0).unwrap();
        again.write(b"second").unwrap();
        tell("again", done(again.commit(KEY, Existing::Fail)));
        let mut again = store.begin(0).unwrap();
        again.write(b"third").unwrap();
        tell("instead", done(again.commit(KEY, Existing::Replace)));
        drop(store.begin(0).unwrap());
        tell("put", done(store.put_new("runs/a", b"1")));
        tell("put again", done(store.put_new("runs/a", b"22")));
        tell("put instead", done(store.put("runs/a", b"333")));
        tell("put b", done(store.put("chunks/aa/00/b", b"4")));
        tell("put ab", done(store.put("chunks/aa.b/c", b"4")));
        tell("all", list(""));
        tell("chunks", list("chunks"));
        tell("below", list("chunks/aa"));
        let object = store.open(KEY).unwrap();
        for (offset, len) in [(0, 5), (1, 4), (2, 4), (5, 0), (u64::MAX, 1)] {
            let mut buf = vec![0; len];
            let read = object.read_exact_at(offset, &mut buf).map_err(short);
            tell("at", read.map_or_else(|error| error, |()| String::from_utf8(buf).unwrap()));
        }
        tell("directory", store.open("chunks/aa").map_or_else(short, |_| "open".to_owned()));
        tell("directory", store.head("chunks/aa").map_or_else(short, |_| "there".to_owned()));
        tell("missing", store.open("chunks/aa/x").map_or_else(short, |_| "open".to_owned()));
        tell("bad", store.open("../x").map_or_else(short, |_| "open".to_owned()));
        tell("no reserve", store.free_reserve().unwrap().to_string());
        tell("reserve", done(store.restore_reserve()));
        tell("reserve", done(store.restore_reserve()));
        tell("freed", store.free_reserve().unwrap().to_string());
        std::mem::forget(store.begin(0).unwrap());
        tell("swept", store.sweep().unwrap().to_string());
        tell("deleted", done(store.delete(KEY)));
        tell("deleted", done(store.delete(KEY)));
        tell("all", list(""));
        tell("far too much", store.begin(1 << 60).map_or_else(short, |_| "begun".to_owned()));
        told
    }

    #[test]
    fn it_does_what_a_directory_does() {
        let dir = tempfile::tempdir().unwrap();
        let local = story(&LocalStore::open(dir.path()).unwrap());
        let double = story(&World::default().add_disk(64 << 20));
        assert!(local.len() > 40);
        for (local, double) in local.iter().zip(&double) {
            assert_eq!(local.replace("far too much: Io", "far too much: NoSpace"), *double);
        }
    }

    #[test]
    fn the_nth_operation_fails_once_or_with_all_after_it() {
        let fails = |lasting, errno, at| {
            let world = World::default();
            let store = world.add_disk(1 << 20);
            with_label(&store);
            world.arm(Fault { disk: Some(0), at, errno, lasting, is_done: false });
            let mut failed = String::new();
            let mut tell = |is_ok: bool| failed.push(if is_ok { '.' } else { 'x' });
            for n in 0..3 {
                tell(store.put_new(&format!("runs/{n}"), b"x").is_ok());
                tell(store.head("runs/0").is_ok());
            }
            assert_eq!(world.disarm().is_some(), failed.contains('x'));
            failed
        };
        assert_eq!(fails(Lasting::Once, Errno::IO, 1), ".x....");
        assert_eq!(fails(Lasting::ForGood, Errno::IO, 1), ".xxxxx");
        assert_eq!(fails(Lasting::Once, Errno::NOSPC, 1), "..x...");
        assert_eq!(fails(Lasting::ForGood, Errno::ROFS, 1), "..x.x.");
        assert_eq!(fails(Lasting::ForGood, Errno::IO, 6), "......");
    }

    #[test]
    fn what_fails_is_done_or_not_and_a_write_never_in_part() {
        let world = World::default();
        let store = world.add_disk(1 << 20);
        for is_done in [false, true] {
            world.arm(Fault { disk: Some(0), at: 0, errno: Errno::IO, lasting: Lasting::Once, is_done });
            let put = store.put_new("runs/a", b"x");
            assert!(matches!(put, Err(StoreError::Io { .. })));
            world.disarm();
            assert_eq!(store.head("runs/a").unwrap().is_some(), is_done);
        }
        let mut sink = store.begin(0).unwrap();
        sink.write(b"one ").unwrap();
        world.arm(Fault { disk: Some(0), at: 0, errno: Errno::DQUOT, lasting: Lasting::Once, is_done: true });
        assert!(matches!(sink.write(b"lost"), Err(StoreError::NoSpace { .. })));
        assert_eq!(world.objects()[0]["tmp/1.part"].as_slice(), b"one lo");
        sink.write(b"two").unwrap();
        sink.commit("runs/b", Existing::Fail).unwrap();
        assert_eq!(store.read_all("runs/b", 99).unwrap(), b"one two");
    }

    #[test]
    fn a_listing_that_fails_has_shown_a_part() {
        let world = World::default();
        let store = world.add_disk(1 << 20);
        ["runs/a", "runs/b"].iter().for_each(|key| store.put_new(key, b"").unwrap());
        world.arm(Fault { disk: Some(0), at: 0, errno: Errno::IO, lasting: Lasting::Once, is_done: false });
        let mut keys = Vec::new();
        assert!(store.list("runs", &mut |key, _| keys.push(key.to_owned())).is_err());
        assert_eq!(keys, ["runs/a"]);
    }

    #[test]
    fn every_change_is_remembered_with_what_was_before_and_after() {
        let world = World::default();
        let store = world.add_disk(1 << 20);
        store.put_new("runs/a", b"x").unwrap();
        let mut count = 0;
        world.record(Box::new(move || {
            count += 1;
            count
        }));
        store.head("runs/a").unwrap();
        store.delete("runs/a").unwrap();
        store.put("runs/b", b"y").unwrap();
        let events = world.take_record();
        let keys = |objects: &[Objects]| objects[0].keys().cloned().collect::<Vec<_>>().join(" ");
        let told: Vec<_> =
            events.iter().map(|event| (event.op, keys(&event.before), keys(&event.after), event.seen)).collect();
        let (a, b) = ("runs/a".to_owned(), "runs/b".to_owned());
        assert_eq!(told, [(Op::Delete, a, String::new(), 1), (Op::Put, String::new(), b, 2)]);
        assert_eq!(events[1].removed.len(), 1);
        store.put("runs/c", b"z").unwrap();
        assert!(world.take_record().is_empty());
        assert_eq!(world.take_counts()[&Op::Put], 2);
    }
}
