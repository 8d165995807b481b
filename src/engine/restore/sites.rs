//! Where blocks can be read: which of the volumes that are here hold a copy, and whom to ask for when none does.

use crate::catalog::volumes::VolumeState;
use crate::catalog::{Catalog, CatalogError, places};
use crate::engine::repository::Repository;
use crate::format::layout;
use crate::model::ids::{BlockNo, VolumeId};
use crate::volume::store::Store;
use std::collections::HashMap;
use std::sync::Arc;

/// Blocks remembered at most; a repository of 2 TiB has about so many.
const REMEMBERED_MAX: usize = 20_000;

/// One block's copies.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub block: BlockNo,
    /// Its key on every volume.
    pub key: String,
    /// Volumes that are here, by position in [`Stores`].
    pub here: Vec<usize>,
    /// Volumes that are not, but may come back.
    pub away: Vec<VolumeId>,
}

/// The volumes of a repository as a restore sees them. Threads share it.
pub(super) struct Stores {
    here: Vec<(VolumeId, String, Arc<dyn Store>)>,
    /// Volumes that are away and not given up, with the words for them.
    away: Vec<(VolumeId, String)>,
}

impl Stores {
    pub fn of(repository: &Repository) -> Self {
        let words = |id| repository.volume_words(id);
        let mounted = repository.mounted.iter();
        let away = repository.away.iter().filter(|row| !matches!(row.state, VolumeState::Lost | VolumeState::Removed));
        Self {
            here: mounted.map(|one| (one.row.id, words(one.row.id), Arc::clone(one.store()))).collect(),
            away: away.map(|row| (row.id, words(row.id))).collect(),
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

    /// Looks a block up.
    pub fn site(&self, catalog: &Catalog, no: BlockNo) -> Result<Site, CatalogError> {
        let row = places::block(catalog.conn(), no)?;
        let holds = |id: VolumeId| row.volumes.contains(&id);
        Ok(Site {
            block: no,
            key: layout::block_key(&row.id),
            here: (0..self.here.len()).filter(|at| holds(self.here[*at].0)).collect(),
            away: self.away.iter().map(|(id, _)| *id).filter(|id| holds(*id)).collect(),
        })
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
