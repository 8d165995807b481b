//! A catalog with the volumes that are here now. Owns finding volumes by identity, locking, and refusing those that
//! are not what the catalog knows.

use super::error::{EngineError, Result};
use super::observer::Observer;
use crate::catalog::handle::{CATALOG_ENDINGS, CatalogLock};
use crate::catalog::settings::Settings;
use crate::catalog::volumes::{self, VolumeRow, VolumeState};
use crate::catalog::{Catalog, CatalogError, blocks, parity, replace, runs};
use crate::format::layout::{self, ManifestCopy};
use crate::model::ids::{BlockId, VolumeId, VolumeUuid};
use crate::volume::handle::{Volume, VolumeError, VolumeLock};
use crate::volume::store::Store;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a verb is going to do with the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read the catalog and, where mounted, the volumes.
    Read,
    /// Write the catalog, volumes only when a verb locks them.
    Write,
}

/// A volume that is here.
pub struct Mounted {
    /// Its row.
    pub row: VolumeRow,
    /// Its objects.
    pub volume: Volume,
    /// Whether it lacks the record of an earlier run, and no volume that is here could give it.
    pub lacks_records: bool,
    /// Whether it was given up until now.
    is_back: bool,
    /// Held while this process writes it.
    lock: Option<VolumeLock>,
}

impl Mounted {
    fn new(row: VolumeRow, volume: Volume) -> Self {
        Self { row, volume, lacks_records: false, is_back: false, lock: None }
    }

    /// Its store.
    pub fn store(&self) -> &Arc<dyn Store> {
        self.volume.store()
    }

    /// Whether this process holds its lock and may write.
    pub fn is_locked_for_writing(&self) -> bool {
        self.lock.is_some()
    }
}

/// An open repository.
pub struct Repository {
    /// The catalog.
    pub catalog: Catalog,
    _lock: Option<CatalogLock>,
    /// Volumes that are here, by number.
    pub mounted: Vec<Mounted>,
    /// Volumes that are not.
    pub away: Vec<VolumeRow>,
}

impl Repository {
    /// Opens the catalog and finds its volumes: at `dirs`, or where they were last. A directory of `dirs` without a volume
    /// is refused, unless one was there last: that one is away, as it is when nobody names its place. With
    /// [`Access::Write`] the catalog's lock is taken, and what is remembered of places is brought up to date.
    pub fn open(catalog_path: &Path, dirs: &[PathBuf], access: Access) -> Result<Self> {
        let mut lock = None;
        if access == Access::Write && catalog_path.is_file() {
            lock = Some(Catalog::lock(catalog_path)?);
        }
        let mut catalog = Catalog::open(catalog_path)?;
        if lock.is_some() {
            catalog.step_up()?;
        }
        let mut repository = Self { catalog, _lock: lock, mounted: Vec::new(), away: Vec::new() };
        repository.find_volumes(dirs)?;
        if access == Access::Write {
            repository.remember_places()?;
            repository.take_back()?;
        }
        Ok(repository)
    }

    /// Creates a catalog, holds its lock, knows no volume.
    pub fn create(catalog_path: &Path, settings: &Settings) -> Result<Self> {
        let (catalog, lock) = replace::create(catalog_path, settings)?;
        Ok(Self { catalog, _lock: Some(lock), mounted: Vec::new(), away: Vec::new() })
    }

    /// Closes the catalog and gives back nothing: for a rebuild that swaps the file.
    pub fn settings(&self) -> &Settings {
        self.catalog.settings()
    }

    /// Devices and inodes of what belongs to the repository itself: the catalog with the files beside it, and the
    /// directories of the volumes that are here.
    pub fn own_inodes(&self) -> HashSet<(u64, u64)> {
        let beside = [""].iter().chain(&CATALOG_ENDINGS).map(|ending| {
            let mut path = self.catalog.path().as_os_str().to_owned();
            path.push(ending);
            PathBuf::from(path)
        });
        let volumes = self.mounted.iter().map(|mounted| mounted.volume.root.clone());
        let inode = |path: PathBuf| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        beside.chain(volumes).filter_map(inode).collect()
    }

    /// The same with all places in which blocks and records lie or lay: also where volumes were seen last, whatever has
    /// become of their labels, and the directories inside volumes. Nothing there is ever to be deleted.
    pub fn guarded_inodes(&self) -> HashSet<(u64, u64)> {
        let here = self.mounted.iter().map(|mounted| mounted.volume.root.clone());
        let roots = here.chain(self.away.iter().filter_map(|row| row.path.clone()));
        let places = roots.flat_map(|root| {
            let inside: Vec<PathBuf> = layout::DIRS.iter().map(|name| root.join(name)).collect();
            std::iter::once(root).chain(inside)
        });
        let inode = |path: PathBuf| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        self.own_inodes().into_iter().chain(places.filter_map(inode)).collect()
    }

    /// The volume with this number, if it is here.
    pub fn volume(&self, id: VolumeId) -> Option<&Mounted> {
        self.mounted.iter().find(|mounted| mounted.row.id == id)
    }

    /// What a person calls a volume, here or away: name and identity.
    pub fn volume_words(&self, id: VolumeId) -> String {
        let rows = self.mounted.iter().map(|mounted| &mounted.row).chain(&self.away);
        rows.into_iter()
            .find(|row| row.id == id)
            .map_or_else(|| format!("number {id}"), |row| format!("{} ({})", row.name, row.uuid))
    }

    fn find_volumes(&mut self, dirs: &[PathBuf]) -> Result<()> {
        let rows = volumes::all(self.catalog.conn())?;
        let ours = self.settings().repository;
        let mut found: BTreeMap<VolumeUuid, Volume> = BTreeMap::new();
        for dir in dirs {
            let volume = match Volume::open(dir) {
                Err(VolumeError::NotMounted { .. } | VolumeError::NoLabel { .. }) if was_last_at(&rows, dir) => {
                    continue;
                }
                opened => opened?,
            };
            if volume.label.repository != ours {
                let theirs = volume.label.repository;
                return Err(VolumeError::ForeignRepository { dir: dir.clone(), theirs, ours }.into());
            }
            if volumes::find(self.catalog.conn(), volume.label.volume)?
                .is_some_and(|row| row.state == VolumeState::Removed)
            {
                return Err(EngineError::Usage(format!(
                    "{} is volume {}, which was removed from this repository; to use the disk again, delete what is in there \
                     and give it to `raidtape add-volume`",
                    dir.display(),
                    volume.label.name
                )));
            }
            if !rows.iter().any(|row| row.uuid == volume.label.volume) {
                return Err(EngineError::Usage(format!(
                    "{} is volume {} of this repository, but the catalog {} does not know it; bring the catalog up to \
                     date with `raidtape rebuild-catalog --volume {}`",
                    dir.display(),
                    volume.label.name,
                    self.catalog.path().display(),
                    dir.display()
                )));
            }
            insert_once(&mut found, volume)?;
        }
        let given: Vec<VolumeUuid> = found.keys().copied().collect();
        for path in rows.iter().filter_map(|row| row.path.as_deref()) {
            // A place that is empty, foreign or unreadable now is a volume that is away, whatever the reason.
            let Ok(volume) = Volume::open(path) else { continue };
            if volume.label.repository == ours && !given.contains(&volume.label.volume) {
                insert_once(&mut found, volume)?;
            }
        }
        for row in rows {
            match found.remove(&row.uuid) {
                Some(volume) => self.mounted.push(Mounted::new(row, volume)),
                None => self.away.push(row),
            }
        }
        Ok(())
    }

    fn remember_places(&mut self) -> Result<()> {
        for mounted in &mut self.mounted {
            let place = std::path::absolute(&mounted.volume.root).unwrap_or_else(|_| mounted.volume.root.clone());
            if mounted.row.path.as_ref() != Some(&place) {
                volumes::set_path(self.catalog.conn(), mounted.row.id, &place)?;
                mounted.row.path = Some(place);
            }
        }
        Ok(())
    }

    /// A volume that was given up and is here counts again, with what is still on it. One that cannot be listed stays
    /// given up.
    fn take_back(&mut self) -> Result<()> {
        for mounted in self.mounted.iter_mut().filter(|mounted| mounted.row.state == VolumeState::Lost) {
            let mut here: HashMap<BlockId, u64> = HashMap::new();
            let listed = mounted.volume.store().list(layout::CHUNKS, &mut |key, size| {
                here.extend(layout::parse_block_key(key).map(|id| (id, size)));
            });
            if listed.is_err() {
                continue;
            }
            let tx = self.catalog.begin()?;
            for (no, id, size) in blocks::copies_on(&tx, mounted.row.id)? {
                if here.get(&id) != Some(&size) {
                    parity::note_absent(&tx, (no, mounted.row.id))?;
                }
            }
            tx.commit().map_err(CatalogError::from)?;
            volumes::set_state(self.catalog.conn(), mounted.row.id, VolumeState::Active)?;
            mounted.row.state = VolumeState::Active;
            mounted.is_back = true;
        }
        Ok(())
    }

    /// Adds a volume that was just made to those that are here.
    pub fn adopt_volume(&mut self, row: VolumeRow, volume: Volume) {
        self.mounted.push(Mounted::new(row, volume));
    }

    /// Takes the locks of all volumes that can be written; `Locked` when another process has one. A volume that is
    /// rolled back or a clone is left out and stays read-only, with a warning. `tmp/` is emptied and the reserve
    /// file restored.
    pub fn lock_volumes(&mut self, observer: &dyn Observer) -> Result<()> {
        let known = runs::all(self.catalog.conn())?;
        for mounted in &mut self.mounted {
            if mounted.lock.is_some() {
                continue;
            }
            let name = mounted.row.name.clone();
            // It could not be listed when it was to be taken back: what is written there would not count.
            if mounted.row.state == VolumeState::Lost {
                observer.warn(&format!("volume {name} is given up and cannot be listed; nothing is written there"));
                continue;
            }
            if std::mem::take(&mut mounted.is_back) {
                observer.warn(&format!("volume {name} was given up and is here again: what it holds counts again"));
            }
            if !mounted.volume.is_writable() {
                observer.warn(&format!("volume {name} is read-only; nothing is written there"));
                continue;
            }
            let newest = mounted.row.last_seq.and_then(|seq| known.iter().find(|run| run.seq == seq));
            if let Some(run) = newest {
                let mut is_held = false;
                for copy in [ManifestCopy::First, ManifestCopy::Second, ManifestCopy::Full] {
                    let key = layout::manifest_key(run.seq, &run.uuid, copy);
                    is_held = is_held || mounted.store().head(&key).map_err(EngineError::store(&name))?.is_some();
                }
                let state = if is_held { None } else { Some(VolumeState::Readonly) };
                if let Some(state) = state {
                    volumes::set_state(self.catalog.conn(), mounted.row.id, state)?;
                    mounted.row.state = state;
                    observer.warn(&format!(
                        "volume {name} lacks the record of run {}, which it had: it was rolled back or is an older \
                         copy; it stays read-only",
                        run.seq
                    ));
                    continue;
                }
                if mounted.row.state == VolumeState::Readonly {
                    volumes::set_state(self.catalog.conn(), mounted.row.id, VolumeState::Active)?;
                    mounted.row.state = VolumeState::Active;
                }
            }
            let lock = mounted.volume.lock()?;
            mounted.store().sweep().map_err(EngineError::store(&name))?;
            if let Err(error) = mounted.store().restore_reserve() {
                observer.warn(&format!("volume {name}: its reserve file cannot be restored: {error}"));
            }
            mounted.lock = Some(lock);
        }
        Ok(())
    }

    /// Gives up writing a volume that failed; the others are written on.
    pub fn leave_out(&mut self, id: VolumeId) {
        if let Some(mounted) = self.mounted.iter_mut().find(|mounted| mounted.row.id == id) {
            mounted.lock = None;
        }
    }

    /// Takes a volume that cannot even be listed for one that is not here, so that the others can be used. False when
    /// there is no other.
    pub fn take_for_away(&mut self, name: &str) -> bool {
        let at = self.mounted.iter().position(|mounted| mounted.row.name == name);
        let Some(at) = at.filter(|_| self.mounted.len() > 1) else { return false };
        let failing = self.mounted.remove(at);
        self.away.push(failing.row);
        true
    }

    /// The volumes that this process may write.
    pub fn writable(&self) -> impl Iterator<Item = &Mounted> {
        self.mounted.iter().filter(|mounted| mounted.is_locked_for_writing())
    }
}

/// Whether a volume was seen there last.
fn was_last_at(rows: &[VolumeRow], dir: &Path) -> bool {
    std::path::absolute(dir).is_ok_and(|place| rows.iter().any(|row| row.path.as_ref() == Some(&place)))
}

fn insert_once(found: &mut BTreeMap<VolumeUuid, Volume>, volume: Volume) -> Result<()> {
    let same_place = |one: &Path, other: &Path| {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        real(one) == real(other)
    };
    if let Some(first) = found.get(&volume.label.volume) {
        if same_place(&first.root, &volume.root) {
            return Ok(());
        }
        return Err(EngineError::Usage(format!(
            "{} and {} both say that they are volume {} ({}); one is a copy: unmount it, nothing was written",
            first.root.display(),
            volume.root.display(),
            volume.label.name,
            volume.label.volume
        )));
    }
    found.insert(volume.label.volume, volume);
    Ok(())
}
