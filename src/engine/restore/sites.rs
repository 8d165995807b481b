//! Where blocks can be read: which of the volumes that are here hold a copy, whether a parity group gives back what none of
//! them holds, and whom to ask for when there is neither.

use crate::catalog::volumes::VolumeState;
use crate::catalog::{Catalog, CatalogError, places};
use crate::engine::parity::source::GroupSource;
use crate::engine::repository::Repository;
use crate::format::layout;
use crate::model::ids::{BlockId, BlockNo, RepositoryUuid, VolumeId};
use crate::model::params::HashAlgo;
use crate::volume::store::Store;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Blocks remembered at most; a repository of 2 TiB has about so many.
const REMEMBERED_MAX: usize = 20_000;

/// One block's copies.
#[derive(Clone)]
pub(super) struct Site {
    pub block: BlockNo,
    pub id: BlockId,
    /// Its key on every volume.
    pub key: String,
    /// Volumes that are here, by position in [`Stores`].
    pub here: Vec<usize>,
    /// Volumes that are not, but may come back.
    pub away: Vec<VolumeId>,
    /// What gives it back although no volume that is here holds it.
    pub group: Option<Arc<GroupSource>>,
}

impl Site {
    /// Whether it can be read, as far as that is known.
    pub fn is_here(&self) -> bool {
        !self.here.is_empty() || self.group.is_some()
    }
}

/// The volumes of a repository as a restore sees them. Threads share it.
pub(super) struct Stores {
    here: Vec<(VolumeId, String, Arc<dyn Store>)>,
    /// Volumes that are away and not given up, with the words for them.
    away: Vec<(VolumeId, String)>,
    repository: RepositoryUuid,
    algo: HashAlgo,
}

impl Stores {
    pub fn of(repository: &Repository) -> Self {
        let words = |id| repository.volume_words(id);
        let mounted = repository.mounted.iter();
        let away = repository.away.iter().filter(|row| !matches!(row.state, VolumeState::Lost | VolumeState::Removed));
        Self {
            here: mounted.map(|one| (one.row.id, words(one.row.id), Arc::clone(one.store()))).collect(),
            away: away.map(|row| (row.id, words(row.id))).collect(),
            repository: repository.settings().repository,
            algo: repository.settings().hash,
        }
    }

    /// Name and identity of a volume that is here.
    pub fn words(&self, at: usize) -> &str {
        &self.here[at].1
    }

    pub fn store(&self, at: usize) -> &dyn Store {
        &*self.here[at].2
    }

    /// Name and identity of a volume that is away.
    pub fn away_words(&self, id: VolumeId) -> Option<&str> {
        self.away.iter().find(|(other, _)| *other == id).map(|(_, words)| words.as_str())
    }

    /// The same of those among these, each once.
    pub fn all_away_words(&self, volumes: impl Iterator<Item = VolumeId>) -> Vec<String> {
        let wanted: BTreeSet<VolumeId> = volumes.collect();
        wanted.into_iter().filter_map(|id| self.away_words(id).map(str::to_owned)).collect()
    }

    /// Looks a block up.
    pub fn site(&self, catalog: &Catalog, no: BlockNo) -> Result<Site, CatalogError> {
        let row = places::block(catalog.conn(), no)?;
        let holds = |id: VolumeId| row.volumes.contains(&id);
        let mut site = Site {
            block: no,
            id: row.id,
            key: layout::block_key(&row.id),
            here: (0..self.here.len()).filter(|at| holds(self.here[*at].0)).collect(),
            away: self.away.iter().map(|(id, _)| *id).filter(|id| holds(*id)).collect(),
            group: None,
        };
        if site.here.is_empty()
            && let Some(group) = self.group(catalog, &site)?
        {
            if group.is_enough() {
                site.group = Some(Arc::new(group));
            } else {
                let volumes: Vec<VolumeId> = group.volumes().collect();
                site.away =
                    self.away.iter().map(|(id, _)| *id).filter(|id| holds(*id) || volumes.contains(id)).collect();
            }
        }
        Ok(site)
    }

    /// The parity group of a block, if it has one.
    pub fn group(&self, catalog: &Catalog, site: &Site) -> Result<Option<GroupSource>, CatalogError> {
        let store_of = |id| self.here.iter().find(|(known, _, _)| *known == id).map(|(_, _, store)| Arc::clone(store));
        GroupSource::find(catalog.conn(), (site.block, site.id), (self.repository, self.algo), &store_of)
    }
}

/// Blocks that were looked up already.
pub(super) struct SiteCache<'a> {
    catalog: &'a Catalog,
    stores: &'a Stores,
    known: HashMap<BlockNo, Arc<Site>>,
}

impl<'a> SiteCache<'a> {
    pub fn new(catalog: &'a Catalog, stores: &'a Stores) -> Self {
        Self { catalog, stores, known: HashMap::new() }
    }

    pub fn get(&mut self, no: BlockNo) -> Result<Arc<Site>, CatalogError> {
        if let Some(site) = self.known.get(&no) {
            return Ok(Arc::clone(site));
        }
        let site = Arc::new(self.stores.site(self.catalog, no)?);
        if self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
        }
        self.known.insert(no, Arc::clone(&site));
        Ok(site)
    }
}
