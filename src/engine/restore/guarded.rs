//! Files that a restore never deletes, whoever put them into its target: catalogs, and what volumes are made of.

use crate::catalog::handle::{CATALOG_ENDINGS, CATALOG_HEAD_LEN, is_catalog_head};
use crate::catalog::replace::BUILDING;
use crate::format::container::HEADER_MAGIC;
use crate::model::entry::EntryKind;
use crate::model::path::{join, split};
use crate::tree::error::TreeError;
use crate::tree::target::Target;
use std::collections::HashSet;

const STORED: &str = "a block of a RaidTape volume, or a record of a run";
const CATALOG: &str = "a RaidTape catalog, or a file of one";

/// SQLite's files are whole pages of this length or a multiple of it.
const PAGE_LEN_MIN: u64 = 512;

type Result<T> = std::result::Result<T, TreeError>;

/// Tells them in one target.
pub(super) struct Guarded<'a> {
    pub target: &'a Target,
    /// Device and inode of this repository's own.
    pub own: &'a HashSet<(u64, u64)>,
}

impl Guarded<'_> {
    /// What the file `path`, which is called `name`, is, if it is to stay.
    pub fn what(&self, path: &[u8], name: &[u8]) -> Result<Option<&'static str>> {
        if self.is_of_catalog(path, name)? {
            return Ok(Some(CATALOG));
        }
        // Wherever it lies and whatever has become of the volume's label.
        let is_stored = self.target.head(path, HEADER_MAGIC.len())?.is_some_and(|head| head == HEADER_MAGIC);
        Ok(is_stored.then_some(STORED))
    }

    /// Whether a name is a catalog, in use or in the making, or one of the files that belong to one.
    fn is_of_catalog(&self, path: &[u8], name: &[u8]) -> Result<bool> {
        if self.is_catalog(path)? || is_building(name) {
            return Ok(true);
        }
        let bases = CATALOG_ENDINGS.iter().filter_map(|ending| name.strip_suffix(ending.as_bytes()));
        for base in bases.filter(|base| !base.is_empty()) {
            let beside = |name: &[u8]| join(split(path).0, name);
            let building = beside(&[base, BUILDING.as_bytes()].concat());
            if is_building(base) || self.is_catalog(&beside(base))? || self.target.stat(&building)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_catalog(&self, path: &[u8]) -> Result<bool> {
        let Some(there) = self.target.stat(path)? else { return Ok(false) };
        if self.own.contains(&(there.dev, there.ino)) {
            return Ok(true);
        }
        if there.kind != EntryKind::File || there.size == 0 || there.size % PAGE_LEN_MIN != 0 {
            return Ok(false);
        }
        Ok(self.target.head(path, CATALOG_HEAD_LEN)?.is_some_and(|head| is_catalog_head(&head)))
    }
}

/// Whether a catalog in the making is called so: it has no mark of its own yet.
fn is_building(name: &[u8]) -> bool {
    name.len() > BUILDING.len() && name.ends_with(BUILDING.as_bytes())
}
