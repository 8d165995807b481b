//! The store that is a directory of a local (or mounted) file system.
//!
//! An object is written under `tmp/`, made durable, renamed: see `durable`. Listing walks the open directory, never
//! its path. How one object is written and read is `local_object`'s business. Whether the directory is a volume is `handle`'s question.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;
use walkdir::WalkDir;

use super::durable;
use super::local_object::{LocalObject, LocalSink, free_reserve};
use super::root::{Root, split};
use super::store::{Existing, Object, Sink, Space, Store, StoreError, check_key};
use super::uncached::UncachedObject;
use crate::format::layout;

/// Space that is kept for finishing a block, its directories and the index on a full disk.
pub const RESERVE_LEN: usize = 1 << 20;

/// Objects in a directory.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: Arc<Root>,
}

impl LocalStore {
    /// The store in this directory, which stays the same one whatever is mounted there later. Writes nothing.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let root =
            Root::open(dir).map_err(|errno| StoreError::from_io(&dir.to_string_lossy(), "open", errno.into()))?;
        Ok(Self::at(Arc::new(root)))
    }

    pub(super) fn at(root: Arc<Root>) -> Self {
        Self { root }
    }

    fn put_as(&self, key: &str, bytes: &[u8], existing: Existing) -> Result<(), StoreError> {
        check_key(key)?;
        let mut sink = LocalSink::begin(&self.root)?;
        sink.write(bytes)?;
        Box::new(sink).commit(key, existing)
    }

    /// A directory that does not exist: empty if it is one that is made on demand, and the volume is there.
    fn list_missing(&self, prefix: &str) -> Result<(), StoreError> {
        let top = prefix.split('/').next().unwrap_or(prefix);
        let on_demand = [layout::CHUNKS, layout::META, layout::RUNS, layout::QUARANTINE].contains(&top);
        if on_demand && self.root.stat(layout::LABEL)?.is_some() {
            return Ok(());
        }
        Err(StoreError::NotFound { key: prefix.to_owned() })
    }
}

impl Store for LocalStore {
    fn begin(&self, lease_bytes: u64) -> Result<Box<dyn Sink>, StoreError> {
        let sink = LocalSink::begin(&self.root)?;
        sink.set_aside(lease_bytes, || self.space())?;
        Ok(Box::new(sink))
    }

    fn open(&self, key: &str) -> Result<Box<dyn Object>, StoreError> {
        Ok(Box::new(LocalObject::open(&self.root, key)?))
    }

    fn open_uncached(&self, key: &str) -> Result<Box<dyn Object>, StoreError> {
        Ok(Box::new(UncachedObject::open(&self.root, key)?))
    }

    fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let Some(found) = self.root.stat(key)? else {
            return Ok(None);
        };
        match u64::try_from(found.st_size) {
            Ok(len) if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile => Ok(Some(len)),
            _ => Err(StoreError::NotAnObject { key: key.to_owned() }),
        }
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(&str, u64)) -> Result<(), StoreError> {
        if !prefix.is_empty() {
            check_key(prefix)?;
        }
        let dir = match self.root.dir(prefix) {
            Err(Errno::NOENT) => return self.list_missing(prefix),
            dir => dir.map_err(|errno| StoreError::from_io(prefix, "list", errno.into()))?,
        };
        // Through the descriptor: the path may lead elsewhere by now.
        let top = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
        let walk = WalkDir::new(&top).min_depth(1).sort_by_file_name();
        let entries = walk.into_iter().filter_entry(|entry| entry.depth() > 1 || entry.file_name() != "lost+found");
        for entry in entries {
            let entry = entry.map_err(|error| unlistable(prefix, error))?;
            if !entry.file_type().is_file() {
                continue;
            }
            let found = match entry.metadata() {
                Ok(found) => found,
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(unlistable(prefix, error)),
            };
            let below = entry.path().strip_prefix(&top).unwrap_or(entry.path());
            let below = below.to_string_lossy();
            match prefix {
                "" => each(&below, found.len()),
                _ => each(&format!("{prefix}/{below}"), found.len()),
            }
        }
        Ok(())
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.root.unlink(key)
    }

    fn set_aside(&self, key: &str, aside: &str) -> Result<(), StoreError> {
        check_key(key)?;
        check_key(aside)?;
        durable::place(&self.root, key, aside, Existing::Fail)?;
        durable::sync_dir_of(&self.root, split(key).0)
    }

    fn settle(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        let dir = split(key).0;
        durable::make_durable_dirs(&self.root, dir)?;
        durable::sync_dir_of(&self.root, dir)
    }

    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_as(key, bytes, Existing::Fail)
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_as(key, bytes, Existing::Replace)
    }

    fn space(&self) -> Result<Space, StoreError> {
        let found = self.root.statvfs()?;
        Ok(Space {
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }

    fn free_reserve(&self) -> Result<bool, StoreError> {
        free_reserve(&self.root)
    }

    fn restore_reserve(&self) -> Result<(), StoreError> {
        if self.head(layout::RESERVE)? == Some(RESERVE_LEN as u64) {
            return Ok(());
        }
        // Noise, because zeros take no space on a file system that compresses.
        let mut noise = vec![0; RESERVE_LEN];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        self.put(layout::RESERVE, &noise)
    }

    fn sweep(&self) -> Result<u64, StoreError> {
        let mut keys = Vec::new();
        match self.list(layout::TMP, &mut |key, _| keys.push(key.to_owned())) {
            Err(StoreError::NotFound { .. }) => return Ok(0),
            listed => listed?,
        }
        let mut swept = 0;
        for key in keys {
            match self.root.unlink(&key) {
                Err(StoreError::NotFound { .. }) => {}
                unlinked => {
                    unlinked?;
                    swept += 1;
                }
            }
        }
        Ok(swept)
    }
}

fn is_gone(error: &walkdir::Error) -> bool {
    error.io_error().is_some_and(|source| source.kind() == std::io::ErrorKind::NotFound)
}

/// Always `Io`: a directory that cannot be listed must not look like an object that is not there.
fn unlistable(prefix: &str, error: walkdir::Error) -> StoreError {
    StoreError::Io { key: prefix.to_owned(), op: "list", source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::super::test_mount::TestMount;
    use super::*;
    use rustix::fs::{self, Mode};
    use std::fs::File;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tempfile::TempDir;

    fn store() -> (TempDir, LocalStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path()).unwrap();
        (dir, store)
    }

    fn write_object(store: &dyn Store, key: &str, parts: &[&[u8]]) -> Result<(), StoreError> {
        let mut sink = store.begin(1 << 20)?;
        for part in parts {
            sink.write(part)?;
        }
        sink.commit(key, Existing::Fail)
    }

    fn keys(store: &dyn Store, prefix: &str) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        store.list(prefix, &mut |key, len| found.push((key.to_owned(), len))).unwrap();
        found
    }

    const KEY: &str = "chunks/aa/bb/block";

    #[test]
    fn an_object_is_there_whole_after_its_commit_and_not_before() {
        let (dir, store) = store();
        let mut sink = store.begin(1 << 20).unwrap();
        sink.write(b"hello ").unwrap();
        sink.write(b"world").unwrap();
        assert_eq!(sink.len(), 11);
        assert_eq!(store.head(KEY).unwrap(), None);
        sink.commit(KEY, Existing::Fail).unwrap();
        assert_eq!(store.head(KEY).unwrap(), Some(11));
        assert_eq!(store.read_all(KEY, 11).unwrap(), b"hello world");
        assert!(keys(&store, "tmp").is_empty());
        let mode = |key| {
            let found = std::fs::metadata(dir.path().join(key)).unwrap();
            found.permissions().mode() & 0o7777
        };
        assert_eq!(mode(KEY), 0o400);
        for made in ["chunks", "chunks/aa", "chunks/aa/bb", "tmp"] {
            assert_eq!(mode(made), 0o700, "{made}");
        }
    }

    #[test]
    fn the_lease_is_given_back_at_the_commit() {
        use std::os::unix::fs::MetadataExt;
        let (dir, store) = store();
        let mut sink = store.begin(64 << 20).unwrap();
        sink.write(b"little").unwrap();
        sink.commit(KEY, Existing::Fail).unwrap();
        let found = std::fs::metadata(dir.path().join(KEY)).unwrap();
        assert!(found.blocks() * 512 < 1 << 20, "{}", found.blocks());
    }

    #[test]
    fn what_is_set_aside_is_there_under_its_other_key_alone() {
        let (_dir, store) = store();
        write_object(&store, KEY, &[b"bad"]).unwrap();
        store.set_aside(KEY, "quarantine/block").unwrap();
        assert_eq!(store.head(KEY).unwrap(), None);
        assert_eq!(store.read_all("quarantine/block", 3).unwrap(), b"bad");
        write_object(&store, KEY, &[b"worse"]).unwrap();
        let taken = store.set_aside(KEY, "quarantine/block");
        assert!(matches!(taken, Err(StoreError::Exists { .. })));
        assert_eq!(store.read_all(KEY, 9).unwrap(), b"worse");
        assert!(matches!(store.set_aside("chunks/aa/bb/no", "quarantine/no"), Err(StoreError::NotFound { .. })));
    }

    #[test]
    fn a_dropped_sink_leaves_nothing() {
        let (_dir, store) = store();
        let mut sink = store.begin(0).unwrap();
        sink.write(b"never").unwrap();
        drop(sink);
        assert!(keys(&store, "").is_empty());
    }

    #[test]
    fn a_taken_key_is_left_alone_unless_it_is_to_be_replaced() {
        let (_dir, store) = store();
        write_object(&store, KEY, &[b"first"]).unwrap();
        let again = write_object(&store, KEY, &[b"second"]);
        assert!(matches!(again, Err(StoreError::Exists { .. })));
        assert_eq!(store.read_all(KEY, 99).unwrap(), b"first");
        assert!(keys(&store, "tmp").is_empty());
        let mut sink = store.begin(0).unwrap();
        sink.write(b"third").unwrap();
        sink.commit(KEY, Existing::Replace).unwrap();
        assert_eq!(store.read_all(KEY, 99).unwrap(), b"third");
    }

    #[test]
    fn small_objects_are_put_once_or_replaced() {
        let (_dir, store) = store();
        store.put_new("runs/a", b"1").unwrap();
        let again = store.put_new("runs/a", b"2");
        assert!(matches!(again, Err(StoreError::Exists { .. })));
        store.put("runs/a", b"3").unwrap();
        assert_eq!(store.read_all("runs/a", 1).unwrap(), b"3");
        store.delete("runs/a").unwrap();
        let gone = store.delete("runs/a");
        assert!(matches!(gone, Err(StoreError::NotFound { .. })));
    }

    #[test]
    fn reading_past_the_end_is_truncation_and_too_long_is_refused() {
        let (_dir, store) = store();
        store.put("meta/x", b"0123456789").unwrap();
        let object = store.open("meta/x").unwrap();
        let mut buf = [0; 4];
        object.read_exact_at(6, &mut buf).unwrap();
        assert_eq!(&buf, b"6789");
        for offset in [7, 10, u64::MAX - 1, u64::MAX] {
            let read = object.read_exact_at(offset, &mut buf);
            let Err(StoreError::Truncated { len_bytes: 10, .. }) = read else {
                panic!("{offset}: {read:?}");
            };
        }
        object.will_read(0, 10);
        object.forget(0, u64::MAX);
        let read = store.read_all("meta/x", 9);
        let Err(StoreError::TooLong { len_bytes: 10, .. }) = read else {
            panic!("{read:?}");
        };
    }

    #[test]
    fn an_object_cut_while_it_is_open_reads_as_truncated() {
        let (dir, store) = store();
        store.put("meta/x", b"0123456789").unwrap();
        let object = store.open("meta/x").unwrap();
        let file = File::options().write(true).open(dir.path().join("meta/x"));
        file.unwrap().set_len(3).unwrap();
        let read = object.read_exact_at(0, &mut [0; 10]);
        assert!(matches!(read, Err(StoreError::Truncated { .. })));
    }

    #[test]
    fn a_listing_is_sorted_and_holds_objects_only() {
        let (dir, store) = store();
        for key in ["chunks/bb/00/2", "chunks/aa/ff/1", "chunks/aa/00/3"] {
            store.put_new(key, b"xy").unwrap();
        }
        symlink("/etc/passwd", dir.path().join("chunks/aa/00/0link")).unwrap();
        std::fs::create_dir(dir.path().join("lost+found")).unwrap();
        let listed: Vec<_> = keys(&store, "chunks");
        let expected = ["chunks/aa/00/3", "chunks/aa/ff/1", "chunks/bb/00/2"];
        assert_eq!(listed, expected.map(|key| (key.to_owned(), 2)));
        assert_eq!(keys(&store, ""), listed);
        assert_eq!(keys(&store, "chunks/bb").len(), 1);
    }

    #[test]
    fn a_directory_not_made_yet_is_empty_only_while_the_volume_is_there() {
        let (dir, store) = store();
        let list = |prefix| store.list(prefix, &mut |_, _| {});
        assert!(matches!(list("chunks"), Err(StoreError::NotFound { .. })));
        std::fs::write(dir.path().join(layout::LABEL), b"{}").unwrap();
        assert!(list("chunks").is_ok() && list("chunks/aa").is_ok() && list("runs").is_ok());
        assert!(matches!(list("tmp"), Err(StoreError::NotFound { .. })));
        assert!(matches!(list(".."), Err(StoreError::BadKey { .. })));
        std::fs::write(dir.path().join("meta"), b"a file").unwrap();
        assert!(matches!(list("meta"), Err(StoreError::Io { .. })));
    }

    #[test]
    fn links_and_fifos_are_no_objects_and_lead_nowhere() {
        let (dir, store) = store();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("x"), b"secret").unwrap();
        symlink(outside.path(), dir.path().join("meta")).unwrap();
        symlink(outside.path().join("x"), dir.path().join("index.db")).unwrap();
        fs::mkfifoat(store.root.fd(), "reserve", Mode::RUSR).unwrap();
        let opened = |key| store.open(key).err().unwrap();
        assert!(matches!(opened("meta/x"), StoreError::Io { .. }));
        assert!(matches!(opened("index.db"), StoreError::NotAnObject { .. }));
        assert!(matches!(opened("reserve"), StoreError::NotAnObject { .. }));
        assert!(matches!(store.head("reserve"), Err(StoreError::NotAnObject { .. })));
        assert!(store.put("meta/y", b"").is_err());
        assert!(store.list("meta", &mut |_, _| {}).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_store_stays_in_its_directory_when_the_path_leads_elsewhere() {
        let parent = tempfile::tempdir().unwrap();
        let (path, moved) = (parent.path().join("vol"), parent.path().join("moved"));
        std::fs::create_dir(&path).unwrap();
        let store = LocalStore::open(&path).unwrap();
        std::fs::rename(&path, &moved).unwrap();
        std::fs::create_dir(&path).unwrap();
        store.put_new(KEY, b"x").unwrap();
        assert_eq!(keys(&store, "chunks").len(), 1);
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
        assert!(moved.join(KEY).exists());
    }

    #[test]
    fn writers_that_share_new_directories_do_not_disturb_each_other() {
        let (_dir, store) = store();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    for number in 0..16 {
                        let key = format!("chunks/{:02x}/{number:02x}/{writer}", number / 4);
                        write_object(store, &key, &[b"x"]).unwrap();
                    }
                });
            }
        });
        assert_eq!(keys(&store, "chunks").len(), 64);
    }

    #[test]
    fn what_was_begun_and_not_committed_is_swept() {
        let (dir, store) = store();
        assert_eq!(store.sweep().unwrap(), 0);
        store.put_new("runs/a", b"1").unwrap();
        std::fs::write(dir.path().join("tmp/left.part"), b"x").unwrap();
        assert_eq!(store.sweep().unwrap(), 1);
        assert_eq!(keys(&store, ""), [("runs/a".to_owned(), 1)]);
    }

    #[test]
    fn the_reserve_takes_real_space_and_comes_back() {
        use std::os::unix::fs::MetadataExt;
        let (dir, store) = store();
        assert!(!store.free_reserve().unwrap());
        store.restore_reserve().unwrap();
        store.restore_reserve().unwrap();
        let found = std::fs::metadata(dir.path().join("reserve")).unwrap();
        assert!(found.blocks() * 512 >= RESERVE_LEN as u64);
        assert!(store.free_reserve().unwrap() && !store.free_reserve().unwrap());
    }

    #[test]
    fn a_lease_that_does_not_fit_is_refused_and_leaves_nothing() {
        let Some(disk) = TestMount::new("lease", "size=4m") else {
            return;
        };
        let store = LocalStore::open(disk.path()).unwrap();
        assert!(matches!(store.begin(5 << 20), Err(StoreError::NoSpace { .. })));
        assert!(keys(&store, "").is_empty());
        let space = store.space().unwrap();
        assert_eq!(space.total_bytes, 4 << 20);
        let sink = store.begin(3 << 20).unwrap();
        assert!(store.space().unwrap().free_bytes <= 1 << 20);
        assert!(matches!(store.begin(3 << 20), Err(StoreError::NoSpace { .. })));
        drop(sink);
        assert!(store.begin(3 << 20).is_ok());
    }

    #[test]
    fn a_block_on_a_full_disk_is_finished_within_its_lease_or_with_the_reserve() {
        let Some(disk) = TestMount::new("full disk", "size=8m") else {
            return;
        };
        let store = LocalStore::open(disk.path()).unwrap();
        store.restore_reserve().unwrap();
        let mut sink = store.begin(1 << 20).unwrap();
        disk.fill(0);
        sink.write(&[1; 1 << 20]).unwrap();
        let beyond = sink.write(&[2; 1 << 16]);
        assert!(matches!(beyond, Err(StoreError::NoSpace { .. })));
        assert_eq!(sink.len(), 1 << 20);
        assert!(store.free_reserve().unwrap());
        sink.write(&[3; 1 << 10]).unwrap();
        sink.commit(KEY, Existing::Fail).unwrap();
        let bytes = store.read_all(KEY, 8 << 20).unwrap();
        assert_eq!(bytes.len(), (1 << 20) + (1 << 10));
        assert!(bytes[1 << 20..].iter().all(|byte| *byte == 3));
    }

    #[test]
    fn a_read_only_file_system_is_told_from_a_full_one() {
        let Some(disk) = TestMount::new("read-only", "size=4m") else {
            return;
        };
        let store = LocalStore::open(disk.path()).unwrap();
        store.put_new("runs/a", b"1").unwrap();
        disk.remount("ro");
        assert!(matches!(store.begin(0), Err(StoreError::ReadOnly { .. })));
        assert!(matches!(store.put("runs/a", b""), Err(StoreError::ReadOnly { .. })));
        assert!(matches!(store.delete("runs/a"), Err(StoreError::ReadOnly { .. })));
        assert_eq!(store.read_all("runs/a", 1).unwrap(), b"1");
    }
}
