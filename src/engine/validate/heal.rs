//! Where the bytes of a damaged copy come from: a sound copy on another volume, else its parity group, else what is sound in
//! all of its copies together.

use super::report::ValidateReport;
use crate::catalog::blocks;
use crate::catalog::places::BlockRow;
use crate::engine::error::Result;
use crate::engine::observer::Observer;
use crate::engine::parity::encode::{Out, Trouble};
use crate::engine::parity::source::GroupSource;
use crate::engine::protect::copy::{BlockFile, CopyFailure, Present, Unread, copy_block, copy_object};
use crate::engine::protect::joined::Joined;
use crate::engine::repository::{Mounted, Repository};
use crate::format::layout;
use crate::model::ids::VolumeId;
use crate::volume::store::{Object, StoreError};
use std::sync::Arc;

/// What gave a block's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HealedBy {
    /// The copy on this volume.
    Copy(VolumeId),
    /// The other files of its parity group.
    Parity,
    /// Damaged copies, of each what is sound in it.
    Pieces,
}

/// The store's failure is counted, the catalog's ends the check; nothing where no source will do.
pub(super) type Tried = std::result::Result<Option<HealedBy>, StoreError>;

/// A damaged copy.
pub(super) struct Patient<'r> {
    pub repository: &'r Repository,
    pub row: &'r BlockRow,
    pub block: BlockFile,
    /// Where it is.
    pub to: &'r Mounted,
    /// What becomes of it.
    pub present: Present,
}

impl Patient<'_> {
    /// Writes it anew from the first source that will do; `from` are sound copies.
    pub fn heal(&self, from: &[&Mounted], report: &mut ValidateReport, observer: &dyn Observer) -> Result<Tried> {
        let mut tried = self.by_copy(from, report, observer);
        if matches!(tried, Ok(None)) {
            tried = self.by_group(observer)?;
        }
        if matches!(tried, Ok(None)) {
            tried = self.by_pieces(observer)?;
        }
        Ok(tried)
    }

    fn by_copy(&self, from: &[&Mounted], report: &mut ValidateReport, observer: &dyn Observer) -> Tried {
        for source in from {
            let stores = (source.store().as_ref(), self.to.store().as_ref());
            match copy_block(stores, &self.block, self.present, observer) {
                Ok(()) => return Ok(Some(HealedBy::Copy(source.row.id))),
                Err(CopyFailure::To(error)) => return Err(error),
                Err(CopyFailure::Stopped) => return Ok(None),
                Err(CopyFailure::From(what)) => {
                    let (id, name) = (self.block.id, &source.row.name);
                    report.notes.push(format!("block {id} on volume {name} cannot heal another copy: {what}"));
                }
            }
        }
        Ok(None)
    }

    fn by_group(&self, observer: &dyn Observer) -> Result<Tried> {
        let settings = self.repository.settings();
        let store_of = |id| self.repository.volume(id).map(|mounted| Arc::clone(mounted.store()));
        let (known, block) = ((settings.repository, settings.hash), (self.row.no, self.row.id));
        let conn = self.repository.catalog.conn();
        let Some(group) = GroupSource::find_with_identity(conn, block, known, &store_of)? else {
            return Ok(Ok(None));
        };
        if self.row.is_parity {
            let (volume, store) = (self.to.row.id, Arc::clone(self.to.store()));
            let out = Out { index: 0, volume, store, again: Some((self.row.id, self.present)) };
            return Ok(match group.make_parity(out, observer) {
                Ok(()) => Ok(Some(HealedBy::Parity)),
                Err(Trouble::Out(_, error)) => Err(error),
                Err(_) => Ok(None),
            });
        }
        let Some(recovered) = group.open() else { return Ok(Ok(None)) };
        Ok(self.write((&recovered, HealedBy::Parity), observer))
    }

    fn by_pieces(&self, observer: &dyn Observer) -> Result<Tried> {
        let key = layout::block_key(&self.row.id);
        let here = self.row.volumes.iter().filter_map(|volume| self.repository.volume(*volume));
        let objects: Vec<_> = here.filter_map(|mounted| mounted.store().open(&key).ok()).collect();
        if objects.len() < 2 || self.row.is_parity {
            return Ok(Ok(None));
        }
        let (table, _) = blocks::table_of(self.repository.catalog.conn(), self.row.no)?;
        let Some(joined) = Joined::new(objects, (&table, self.row.size), observer) else { return Ok(Ok(None)) };
        Ok(self.write((&joined, HealedBy::Pieces), observer))
    }

    fn write(&self, (object, by): (&dyn Object, HealedBy), observer: &dyn Observer) -> Tried {
        let unread = |error: StoreError| CopyFailure::From(Unread::Unreadable(error.to_string()));
        match copy_object((object, &unread), self.to.store().as_ref(), (&self.block, self.present), observer) {
            Ok(()) => Ok(Some(by)),
            Err(CopyFailure::To(error)) => Err(error),
            Err(CopyFailure::Stopped | CopyFailure::From(_)) => Ok(None),
        }
    }
}
