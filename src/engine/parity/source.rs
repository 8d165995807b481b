//! Where the files of a block's group are: looked up in the catalog at once, opened where and when they are needed, by
//! any thread.

use super::encode::{Out, Part, Shape, Trouble, encode, unread};
use super::file::{ParityFile, is_parity_of};
use super::recovered::Recovered;
use crate::catalog::parity::{self, Group};
use crate::catalog::{CatalogError, Connection};
use crate::engine::block_file::ReadError;
use crate::engine::observer::Observer;
use crate::engine::protect::copy::BlockFile;
use crate::format::layout;
use crate::format::parity::ParityTable;
use crate::model::ids::{BlockId, BlockNo, RepositoryUuid, VolumeId};
use crate::model::params::HashAlgo;
use crate::volume::store::{Object, Store};
use std::sync::Arc;

/// Tells where a volume is.
pub type StoreOf<'s> = &'s dyn Fn(VolumeId) -> Option<Arc<dyn Store>>;

/// One file of a group.
#[derive(Clone)]
struct Held {
    position: u8,
    id: BlockId,
    size: u64,
    /// Volumes, here or away, on which something has its name, and those of them that are here.
    volumes: Vec<VolumeId>,
    stores: Vec<Arc<dyn Store>>,
}

/// The groups of one block or parity.
#[derive(Clone)]
pub struct GroupSource {
    block: BlockId,
    repository: RepositoryUuid,
    algo: HashAlgo,
    groups: Vec<GroupFiles>,
}

#[derive(Clone)]
struct GroupFiles {
    group: Group,
    positions: u8,
    parities: u8,
    identity: Option<[u8; 16]>,
    held: Vec<Held>,
}

impl GroupSource {
    /// The groups of a block, if there are any.
    pub fn find(
        conn: &Connection,
        (no, block): (BlockNo, BlockId),
        (repository, algo): (RepositoryUuid, HashAlgo),
        store_of: StoreOf<'_>,
    ) -> Result<Option<Self>, CatalogError> {
        let found = parity::of_block_to_read(conn, no)?;
        let groups: Vec<GroupFiles> = found.iter().map(|group| files_of(group, store_of)).collect();
        Ok(Some(Self { block, repository, algo, groups }).filter(|source| !source.groups.is_empty()))
    }

    /// The same for a writer, which can make parities again.
    pub fn find_with_identity(
        conn: &Connection,
        block: (BlockNo, BlockId),
        settings: (RepositoryUuid, HashAlgo),
        store_of: StoreOf<'_>,
    ) -> Result<Option<Self>, CatalogError> {
        let Some(mut source) = Self::find(conn, block, settings, store_of)? else { return Ok(None) };
        for (files, group) in source.groups.iter_mut().zip(parity::of_block_to_read(conn, block.0)?) {
            files.identity = parity::identity(conn, group.no)?;
        }
        Ok(Some(source))
    }

    /// Whether enough of a group is here, as far as that can be told by whole files.
    pub fn is_enough(&self) -> bool {
        self.groups.iter().any(|files| {
            let known = files.held.iter().filter(|held| held.position >= files.positions).count();
            let lost = files.held.iter().filter(|held| held.stores.is_empty()).count();
            lost + usize::from(files.parities).saturating_sub(known) <= usize::from(files.parities)
        })
    }

    /// Volumes on which files of the groups are.
    pub fn volumes(&self) -> impl Iterator<Item = VolumeId> {
        self.groups.iter().flat_map(|files| files.held.iter().flat_map(|held| held.volumes.iter().copied()))
    }

    /// The block as its group gives it back; `None` where no parity can be opened. Of several groups the one of which most
    /// is there.
    pub fn open(&self) -> Option<Recovered> {
        let mut best: Option<(i64, Recovered)> = None;
        for files in &self.groups {
            let Some((spare, recovered)) = self.open_group(files, self.block) else { continue };
            if best.as_ref().is_none_or(|(most, _)| spare > *most) {
                best = Some((spare, recovered));
            }
        }
        best.map(|(_, recovered)| recovered)
    }

    /// With the number of parities beyond what is lost.
    fn open_group(&self, files: &GroupFiles, block: BlockId) -> Option<(i64, Recovered)> {
        let mut parities: Vec<ParityFile> = Vec::new();
        for held in files.held.iter().filter(|held| held.position >= files.positions) {
            let opened = held.stores.iter().filter_map(|store| store.open(&layout::block_key(&held.id)).ok());
            let mut files_there = opened.filter_map(|object| ParityFile::open(object, self.repository).ok());
            let is_of = |table: &ParityTable| is_parity_of(table, &files.group, held.position - files.positions);
            let goes = |table: &ParityTable| parities.first().is_none_or(|first| first.table.goes_with(table));
            let file = files_there.find(|file| is_of(&file.table) && goes(&file.table));
            parities.extend(file);
        }
        let mut members: Vec<Vec<Box<dyn Object>>> = (0..files.positions).map(|_| Vec::new()).collect();
        let mut lost = 0;
        for held in files.held.iter().filter(|held| held.position < files.positions) {
            let opened = held.stores.iter().filter_map(|store| store.open(&layout::block_key(&held.id)).ok());
            let objects: Vec<_> = opened.collect();
            lost += i64::from(objects.is_empty());
            members[usize::from(held.position)] = objects;
        }
        let spare = i64::try_from(parities.len()).unwrap_or(0) - lost;
        let recovered = Recovered::new((layout::block_key(&block), block), parities, members)?;
        Some((spare, recovered))
    }

    /// Writes the parity that this source is of once more, from the members of its group. Of a member that is not what its name
    /// says, what the group gives back is taken.
    pub fn make_parity(&self, mut out: Out, observer: &dyn Observer) -> Result<(), Trouble> {
        let mut trouble = Trouble::Fault("its group is not known".to_owned());
        for files in &self.groups {
            let Some(own) = files.held.iter().find(|held| held.id == self.block) else { continue };
            let Some(group) = files.identity.filter(|_| own.position >= files.positions) else { continue };
            out.index = own.position - files.positions;
            let (positions, parities) = (files.positions, files.parities);
            let shape = Shape { repository: self.repository, algo: self.algo, positions, parities, group };
            let mut parts = Vec::new();
            let mut recovered = vec![false; files.held.len()];
            match self.parts(files, &mut recovered) {
                Ok(found) => parts = found,
                Err(what) => trouble = what,
            }
            while !parts.is_empty() {
                match encode(&shape, &parts, (None, std::slice::from_ref(&out)), observer) {
                    Ok(_) => return Ok(()),
                    // Once more with what the group has for it.
                    Err(Trouble::Part(at, _)) if !recovered[at] => {
                        recovered[at] = true;
                        match self.parts(files, &mut recovered) {
                            Ok(found) => parts = found,
                            Err(what) => {
                                trouble = what;
                                break;
                            }
                        }
                    }
                    Err(what @ (Trouble::Out(..) | Trouble::Stopped)) => return Err(what),
                    Err(what) => {
                        trouble = what;
                        break;
                    }
                }
            }
        }
        Err(trouble)
    }

    /// The members of a group; those that `recovered` names, or that cannot be opened, by way of the others.
    fn parts(&self, files: &GroupFiles, recovered: &mut [bool]) -> Result<Vec<Part>, Trouble> {
        let blocks = files.held.iter().filter(|held| held.position < files.positions);
        let mut parts = Vec::new();
        for (at, held) in blocks.enumerate() {
            let opened = held.stores.iter().map(|store| store.open(&layout::block_key(&held.id)));
            let sound = opened.filter_map(Result::ok).find(|object| object.len() == held.size && !recovered[at]);
            let object = match sound {
                Some(object) => object,
                None => {
                    recovered[at] = true;
                    let found = self.open_group(files, held.id);
                    let lost = || Trouble::Part(at, unread(&ReadError::Content));
                    Box::new(found.ok_or_else(lost)?.1) as Box<dyn Object>
                }
            };
            let file = BlockFile { id: held.id, size: held.size, algo: self.algo };
            parts.push(Part { position: held.position, file, object });
        }
        Ok(parts)
    }
}

fn files_of(group: &Group, store_of: StoreOf<'_>) -> GroupFiles {
    let held = group.members.iter().map(|member| {
        let there = member.copies.iter().filter(|copy| copy.is_there);
        let volumes: Vec<VolumeId> = there.map(|copy| copy.volume).collect();
        let stores = volumes.iter().filter_map(|volume| store_of(*volume)).collect();
        Held { position: member.position, id: member.id, size: member.size, volumes, stores }
    });
    let (positions, parities, held) = (group.positions, group.parities, held.collect());
    GroupFiles { group: group.clone(), positions, parities, identity: None, held }
}
