//! A block that is lost, or damaged, as the rest of its group gives it back: an object like any other, made column by
//! column. What can still be read of the block itself is taken from there, so that damage in different columns of several
//! files adds up to no loss.

use super::file::{ParityFile, part_len};
use crate::codec::parity::{Damaged, ParityCode, column_hash};
use crate::format::parity::{ParityMember, ParityTable};
use crate::model::ids::BlockId;
use crate::volume::store::{Object, StoreError};
use std::sync::Mutex;

/// A block, its group being at hand.
pub struct Recovered {
    key: String,
    position: u8,
    len: u64,
    code: ParityCode,
    /// One of the group's; the members are the same in all.
    table: ParityTable,
    /// What has a member's name, wherever it is, by position.
    members: Vec<Vec<Box<dyn Object>>>,
    parities: Vec<ParityFile>,
    last: Mutex<Option<(u64, Vec<u8>)>>,
}

impl Recovered {
    /// With parities that go together, and the files of members by position. `None` where the block is not among the
    /// members.
    pub fn new(
        (key, block): (String, BlockId),
        parities: Vec<ParityFile>,
        members: Vec<Vec<Box<dyn Object>>>,
    ) -> Option<Self> {
        let table = parities.first()?.table.clone();
        let code = ParityCode::new(table.positions.into(), table.parities.into()).ok()?;
        let member = table.members.iter().find(|member| member.block == block)?;
        let (position, len) = (member.position, member.len);
        Some(Self { key, position, len, code, table, members, parities, last: Mutex::new(None) })
    }

    fn column(&self, column: u64) -> Result<Vec<u8>, StoreError> {
        let own = self.table.members.iter().find(|member| member.position == self.position);
        let own = own.ok_or_else(|| self.failed("its group lacks it"))?;
        if let Some(bytes) = self.part(own, column) {
            return Ok(bytes);
        }
        // An empty position, and a member that ends before the column, count as zeros.
        let mut data: Vec<Option<Vec<u8>>> = vec![Some(Vec::new()); self.table.positions.into()];
        for member in &self.table.members {
            data[usize::from(member.position)] =
                if member.position == self.position { None } else { self.part(member, column) };
        }
        let lost = data.iter().filter(|part| part.is_none()).count();
        let mut parity: Vec<Option<Vec<u8>>> = vec![None; self.table.parities.into()];
        for file in &self.parities {
            if parity.iter().flatten().count() >= lost {
                break;
            }
            let slot = &mut parity[usize::from(file.table.index)];
            *slot = slot.take().or_else(|| file.column(column).ok());
        }
        let data: Vec<Option<&[u8]>> = data.iter().map(Option::as_deref).collect();
        let parity: Vec<Option<&[u8]>> = parity.iter().map(Option::as_deref).collect();
        let len = part_len(self.table.protected_len(), &self.table, column);
        let damaged = Damaged { len, data: &data, parity: &parity };
        let mut found = vec![Vec::new(); data.len()];
        self.code.reconstruct(&damaged, &mut found, &mut []).map_err(|error| self.failed(&error.to_string()))?;
        let mut bytes = std::mem::take(&mut found[usize::from(self.position)]);
        bytes.truncate(part_len(self.len, &self.table, column));
        if self.hash_of(own, column) != Some(column_hash(&bytes)) {
            return Err(self.failed("what its group gives back is not what it was"));
        }
        Ok(bytes)
    }

    /// What a member has in a column, from the first of its files in which that is as it was.
    fn part(&self, member: &ParityMember, column: u64) -> Option<Vec<u8>> {
        let len = part_len(member.len, &self.table, column);
        if len == 0 {
            return Some(Vec::new());
        }
        let wanted = self.hash_of(member, column)?;
        let offset = column * u64::from(self.table.column_len);
        self.members.get(usize::from(member.position))?.iter().find_map(|object| {
            let mut bytes = vec![0; len];
            object.read_exact_at(offset, &mut bytes).ok()?;
            object.forget(offset, len as u64);
            (column_hash(&bytes) == wanted).then_some(bytes)
        })
    }

    fn hash_of(&self, member: &ParityMember, column: u64) -> Option<[u8; 16]> {
        member.hashes.get(usize::try_from(column).ok()?).copied()
    }

    fn failed(&self, why: &str) -> StoreError {
        let source = std::io::Error::other(why.to_owned());
        StoreError::Io { key: self.key.clone(), op: "recover from parity", source }
    }
}

impl Object for Recovered {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let end = offset.saturating_add(buf.len() as u64);
        if end > self.len {
            return Err(StoreError::Truncated { key: self.key.clone(), offset, end, len_bytes: self.len });
        }
        let step = u64::from(self.table.column_len);
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (mut at, mut left) = (offset, buf);
        while !left.is_empty() {
            let column = at / step;
            if last.as_ref().is_none_or(|(known, _)| *known != column) {
                *last = None;
                *last = Some((column, self.column(column)?));
            }
            let Some((_, bytes)) = last.as_ref() else { break };
            let from = usize::try_from(at % step).unwrap_or(usize::MAX);
            let part = bytes.get(from..).filter(|part| !part.is_empty()).ok_or_else(|| self.failed("it ends early"))?;
            let len = part.len().min(left.len());
            let (now, later) = left.split_at_mut(len);
            now.copy_from_slice(&part[..len]);
            (at, left) = (at + len as u64, later);
        }
        Ok(())
    }

    fn forget(&self, _offset: u64, _len: u64) {}

    fn will_read(&self, _offset: u64, _len: u64) {}
}
