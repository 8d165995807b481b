//! A volume: a label, a store, a lock. Known by the UUID in its label, never by its path.
//!
//! Opening writes nothing; making one is `create`'s. Which repository a volume ought to belong to, and whether it is
//! rolled back or a clone, is for `engine` to find out.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, Access, AtFlags, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;

use super::create;
use super::index::IndexProblem;
use super::local::LocalStore;
use super::root::Root;
use super::store::{Store, StoreError};
use super::verified::VerifiedStore;
use crate::format::label::{Label, LabelError};
use crate::format::layout;
use crate::model::ids::{RepositoryUuid, VolumeUuid};
use crate::model::limits::LABEL_LEN_MAX;
use crate::model::params::Reserve;

/// An open volume. The directory is held open: what is mounted at its path later makes no difference.
pub struct Volume {
    /// What it says about itself.
    pub label: Label,
    /// Where it was when it was opened: for messages, and for its index.
    pub root: PathBuf,
    store: Arc<dyn Store>,
    /// The directory itself; without one (a test double's) the path is asked.
    held: Option<Arc<Root>>,
}

/// Why a directory is not, or cannot be made, a volume to work with.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// There is no such directory.
    #[error("{} does not exist", dir.display())]
    NotMounted {
        /// The directory.
        dir: PathBuf,
    },
    /// A directory without a label: no volume, or the mount point of one that is not mounted.
    #[error("{} holds no RaidTape volume; is it mounted?", dir.display())]
    NoLabel {
        /// The directory.
        dir: PathBuf,
    },
    /// The name of something else.
    #[error("{} is not a directory", dir.display())]
    NotADirectory {
        /// The path.
        dir: PathBuf,
    },
    /// A volume of another repository.
    #[error("{} is a volume of repository {theirs}, not of {ours}", dir.display())]
    ForeignRepository {
        /// The directory.
        dir: PathBuf,
        /// What its label says.
        theirs: RepositoryUuid,
        /// What was expected.
        ours: RepositoryUuid,
    },
    /// An empty directory that existed before, on the file system of its parent.
    #[error(
        "{} is empty and on the file system of its parent: an unmounted mount point? Mount the disk, or use --force",
        dir.display()
    )]
    EmptyMountPoint {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory is to become a volume and is one.
    #[error("{} is already volume {name} ({uuid})", dir.display())]
    AlreadyAVolume {
        /// The directory.
        dir: PathBuf,
        /// Its name.
        name: String,
        /// Its identity.
        uuid: VolumeUuid,
    },
    /// The directory is to become a volume and holds other things.
    #[error("{} is not empty; use --force to make it a volume nevertheless", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// There is a label, and it cannot be gone by.
    #[error("{}: {source}", dir.display())]
    Label {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with the label.
        source: LabelError,
    },
    /// Another process, or another part of this one, has the volume.
    #[error("{} is in use by another process", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The store failed.
    #[error("{}: {source}", dir.display())]
    Store {
        /// The directory.
        dir: PathBuf,
        /// How.
        source: StoreError,
    },
    /// The index failed.
    #[error("{}: {source}", dir.display())]
    Index {
        /// The directory.
        dir: PathBuf,
        /// How.
        source: IndexProblem,
    },
}

/// The right to write a volume; ends when dropped, or with the process, however that dies.
#[derive(Debug)]
pub struct VolumeLock {
    _file: File,
}

impl Volume {
    /// Makes `dir` a volume with this label and opens it. `dir` is created if it does not exist and its parent does.
    /// The label is written last: a creation that was cut off leaves no volume and is taken up by the next one.
    ///
    /// Refused: a directory with a label (`AlreadyAVolume`, `ForeignRepository`, `Label`), always; one that holds
    /// other things (`NotEmpty`) or may be an unmounted mount point (`EmptyMountPoint`), unless `force`.
    pub fn create(dir: &Path, label: &Label, force: bool) -> Result<Self, VolumeError> {
        create::create(dir, label, force)?;
        Self::open(dir)
    }

    /// Opens the volume in `dir`. Reads its label and writes nothing, so that a read-only mount will do; where there is
    /// no label, nothing is created.
    pub fn open(dir: &Path) -> Result<Self, VolumeError> {
        let root = open_root(dir)?;
        let label = read_label(&root, dir)?.ok_or_else(|| VolumeError::NoLabel { dir: dir.to_owned() })?;
        Ok(Self { label, root: dir.to_owned(), store: Arc::new(LocalStore::at(Arc::clone(&root))), held: Some(root) })
    }

    /// A volume over any store, for test doubles and decorators; `root` is where its lock and its index lie.
    pub fn with_store(label: Label, root: PathBuf, store: Arc<dyn Store>) -> Self {
        Self { label, root, store, held: None }
    }

    /// Where its objects are.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// From now on every block and manifest is read back from the disk before its commit counts.
    pub fn verify_writes(&mut self) {
        self.store = Arc::new(VerifiedStore::new(Arc::clone(&self.store)));
    }

    /// Takes the lock that every writer of the volume must hold; `Locked` at once when somebody has it.
    pub fn lock(&self) -> Result<VolumeLock, VolumeError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened =
            self.held()?.at(layout::LOCK, "open", |dir, name| fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR));
        let file = File::from(opened.map_err(store_failed(&self.root))?);
        match file.try_lock() {
            Ok(()) => Ok(VolumeLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(VolumeError::Locked { dir: self.root.clone() }),
            Err(TryLockError::Error(source)) => {
                let error = StoreError::from_io(layout::LOCK, "lock", source);
                Err(store_failed(&self.root)(error))
            }
        }
    }

    /// Whether it looks as if this process could write: a cheap probe, not a promise. Writes nothing.
    pub fn is_writable(&self) -> bool {
        let Ok(root) = self.held() else {
            return false;
        };
        let read_only = root.statvfs().is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY));
        let allowed = fs::accessat(root.fd(), ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
        !read_only && allowed.is_ok()
    }

    /// Free bytes above what `reserve` keeps; 0 when there are none.
    pub fn space_for_data(&self, reserve: Reserve) -> Result<u64, VolumeError> {
        let space = self.store.space().map_err(store_failed(&self.root))?;
        Ok(space.free_bytes.saturating_sub(reserve.bytes_of(space.total_bytes)))
    }

    fn held(&self) -> Result<Arc<Root>, VolumeError> {
        match &self.held {
            Some(root) => Ok(Arc::clone(root)),
            None => open_root(&self.root),
        }
    }
}

/// Opens the directory, and tells the ways in which it may not be one.
pub(super) fn open_root(dir: &Path) -> Result<Arc<Root>, VolumeError> {
    let dir = dir.to_owned();
    match Root::open(&dir) {
        Ok(root) => Ok(Arc::new(root)),
        Err(Errno::NOENT) => Err(VolumeError::NotMounted { dir }),
        Err(Errno::NOTDIR) => Err(VolumeError::NotADirectory { dir }),
        Err(errno) => {
            let error = StoreError::from_io(".", "open", errno.into());
            Err(store_failed(&dir)(error))
        }
    }
}

/// The label in an open directory, or `None` when there is no such file.
pub(super) fn read_label(root: &Arc<Root>, dir: &Path) -> Result<Option<Label>, VolumeError> {
    let damaged = |source| VolumeError::Label { dir: dir.to_owned(), source };
    let store = LocalStore::at(Arc::clone(root));
    match store.read_all(layout::LABEL, LABEL_LEN_MAX) {
        Ok(bytes) => Label::decode(&bytes).map(Some).map_err(damaged),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(StoreError::TooLong { .. }) => Err(damaged(LabelError::Damaged { what: "too long" })),
        Err(StoreError::NotAnObject { .. }) => Err(damaged(LabelError::Damaged { what: "not a regular file" })),
        Err(error) => Err(store_failed(dir)(error)),
    }
}

pub(super) fn store_failed(dir: &Path) -> impl Fn(StoreError) -> VolumeError {
    let dir = dir.to_owned();
    move |source| VolumeError::Store { dir: dir.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::super::index::IndexDb;
    use super::super::test_mount::TestMount;
    use super::*;
    use crate::model::params::{ChunkerParams, HashAlgo};
    use std::os::unix::fs::PermissionsExt;

    fn label(name: &str) -> Label {
        Label {
            repository: RepositoryUuid([1; 16]),
            volume: VolumeUuid::random(),
            name: name.to_owned(),
            created: jiff::Timestamp::UNIX_EPOCH,
            hash: HashAlgo::Blake3,
            chunker: ChunkerParams { min: 128 << 10, avg: 512 << 10, max: 4 << 20, normalization: 2 },
            block_size: 128 << 20,
            reserve: Reserve::Percent(10.0),
            redundancy: crate::model::redundancy::Redundancy::None,
            features: crate::format::label::Features::default(),
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn refused(made: Result<Volume, VolumeError>) -> VolumeError {
        made.err().unwrap()
    }

    #[test]
    fn a_new_directory_becomes_a_volume_and_opens() {
        let parent = tempfile::tempdir().unwrap();
        let (dir, label) = (parent.path().join("vol"), label("vol"));
        Volume::create(&dir, &label, false).unwrap();
        let expected = ["chunks", "index.db", "lock", "meta", "raidtape-volume.json", "reserve", "runs", "tmp"];
        assert_eq!(names(&dir), expected);
        for made in ["", "chunks", "meta", "runs", "tmp"] {
            let mode = std::fs::metadata(dir.join(made)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o700, "{made}");
        }
        for made in ["index.db", "lock", "raidtape-volume.json", "reserve"] {
            let mode = std::fs::metadata(dir.join(made)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600, "{made}");
        }
        let volume = Volume::open(&dir).unwrap();
        assert_eq!(volume.label, label);
        assert!(volume.is_writable());
        assert_eq!(IndexDb::load(&dir).unwrap(), []);
        assert!(names(&dir.join("tmp")).is_empty());
    }

    #[test]
    fn a_directory_without_a_label_is_no_volume_and_stays_empty() {
        let dir = tempfile::tempdir().unwrap();
        let opened = refused(Volume::open(dir.path()));
        assert!(matches!(opened, VolumeError::NoLabel { .. }));
        assert!(names(dir.path()).is_empty());
        let missing = dir.path().join("missing");
        let opened = refused(Volume::open(&missing));
        assert!(matches!(opened, VolumeError::NotMounted { .. }));
        std::fs::write(&missing, b"a file").unwrap();
        let opened = refused(Volume::open(&missing));
        assert!(matches!(opened, VolumeError::NotADirectory { .. }));
        let below = refused(Volume::create(&missing.join("vol"), &label("x"), true));
        assert!(matches!(below, VolumeError::NotADirectory { .. }));
        let below = refused(Volume::create(&dir.path().join("no/vol"), &label("x"), true));
        assert!(matches!(below, VolumeError::NotMounted { .. }));
    }

    #[test]
    fn an_empty_directory_on_its_parents_file_system_needs_force() {
        let dir = tempfile::tempdir().unwrap();
        let made = refused(Volume::create(dir.path(), &label("x"), false));
        assert!(matches!(made, VolumeError::EmptyMountPoint { .. }));
        assert!(names(dir.path()).is_empty());
        Volume::create(dir.path(), &label("x"), true).unwrap();
    }

    #[test]
    fn a_directory_with_other_things_needs_force_and_keeps_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("photo"), b"x").unwrap();
        let made = refused(Volume::create(dir.path(), &label("x"), false));
        assert!(matches!(made, VolumeError::NotEmpty { .. }));
        assert_eq!(names(dir.path()), ["photo"]);
        Volume::create(dir.path(), &label("x"), true).unwrap();
        assert_eq!(std::fs::read(dir.path().join("photo")).unwrap(), b"x");
    }

    #[test]
    fn lost_and_found_alone_is_a_fresh_disk() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("lost+found")).unwrap();
        Volume::create(dir.path(), &label("x"), false).unwrap();
    }

    #[test]
    fn a_label_is_never_overwritten_not_even_by_force() {
        let dir = tempfile::tempdir().unwrap();
        let first = label("first");
        Volume::create(dir.path(), &first, true).unwrap();
        let made = refused(Volume::create(dir.path(), &label("second"), true));
        let VolumeError::AlreadyAVolume { name, uuid, .. } = made else {
            panic!("{made}");
        };
        assert_eq!((name.as_str(), uuid), ("first", first.volume));
        let mut foreign = label("foreign");
        foreign.repository = RepositoryUuid([9; 16]);
        let made = refused(Volume::create(dir.path(), &foreign, true));
        assert!(matches!(made, VolumeError::ForeignRepository { .. }));
        std::fs::write(dir.path().join(layout::LABEL), b"{}").unwrap();
        for made in [Volume::create(dir.path(), &foreign, true), Volume::open(dir.path())] {
            let made = refused(made);
            assert!(matches!(made, VolumeError::Label { .. }), "{made}");
        }
        assert_eq!(std::fs::read(dir.path().join(layout::LABEL)).unwrap(), b"{}");
    }

    #[test]
    fn a_creation_that_was_cut_off_is_taken_up_but_a_lost_label_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Volume::create(dir.path(), &label("x"), true).unwrap();
        std::fs::remove_file(dir.path().join(layout::LABEL)).unwrap();
        Volume::create(dir.path(), &label("y"), false).unwrap();
        volume.store().put_new("chunks/aa/bb/block", b"x").unwrap();
        std::fs::remove_file(dir.path().join(layout::LABEL)).unwrap();
        let made = refused(Volume::create(dir.path(), &label("z"), false));
        assert!(matches!(made, VolumeError::NotEmpty { .. }));
    }

    #[test]
    fn a_label_that_could_not_be_read_again_is_not_written() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("vol");
        let made = refused(Volume::create(&dir, &label("bell\u{7}"), false));
        assert!(matches!(made, VolumeError::Label { .. }));
        assert!(!dir.exists());
    }

    #[test]
    fn one_writer_at_a_time_and_the_lock_goes_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Volume::create(dir.path(), &label("x"), true).unwrap();
        let held = volume.lock().unwrap();
        let other = Volume::open(dir.path()).unwrap();
        assert!(matches!(other.lock(), Err(VolumeError::Locked { .. })));
        let store: Arc<dyn Store> = Arc::clone(other.store());
        let double = Volume::with_store(other.label.clone(), other.root.clone(), store);
        assert!(matches!(double.lock(), Err(VolumeError::Locked { .. })));
        drop(held);
        assert!(double.lock().is_ok() && double.is_writable());
    }

    #[test]
    fn the_reserve_is_not_space_for_data() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Volume::create(dir.path(), &label("x"), true).unwrap();
        let space = |reserve| volume.space_for_data(reserve).unwrap();
        assert!(space(Reserve::Bytes(0)) > 0);
        assert_eq!(space(Reserve::Bytes(u64::MAX)), 0);
    }

    #[test]
    fn a_mounted_disk_needs_no_force_and_opens_read_only_without_a_write() {
        let Some(disk) = TestMount::new("mounted disk", "size=8m") else {
            return;
        };
        Volume::create(disk.path(), &label("x"), false).unwrap();
        disk.remount("ro");
        let volume = Volume::open(disk.path()).unwrap();
        assert!(!volume.is_writable());
        assert_eq!(IndexDb::load(disk.path()).unwrap(), []);
        let updated = IndexDb::update(disk.path(), &[], &[], &[]);
        assert!(matches!(updated, Err(IndexProblem::ReadOnly)), "{updated:?}");
        let locked = volume.lock();
        let Err(VolumeError::Store { source: StoreError::ReadOnly { .. }, .. }) = locked else {
            panic!("{locked:?}");
        };
        let replaced = IndexDb::replace(disk.path(), &[]);
        assert!(replaced.is_err());
    }

    #[test]
    fn an_index_on_a_full_disk_says_so() {
        let Some(disk) = TestMount::new("full index", "size=8m") else {
            return;
        };
        Volume::create(disk.path(), &label("x"), false).unwrap();
        disk.fill(0);
        let replaced = IndexDb::replace(disk.path(), &[]);
        assert!(matches!(replaced, Err(IndexProblem::NoSpace)), "{replaced:?}");
        assert_eq!(IndexDb::load(disk.path()).unwrap(), []);
    }
}
