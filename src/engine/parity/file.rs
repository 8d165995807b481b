//! A parity file that is read: its table, and its columns one by one, each proven by its checksum.

use crate::catalog::parity::Group;
use crate::codec::parity::{ALGORITHM, column_hash, parity_len};
use crate::engine::block_file::{ReadError, read_header, read_parity_table};
use crate::format::container::{ContainerKind, FormatError, HEADER_LEN, SEGMENT_HEADER_LEN};
use crate::format::parity::ParityTable;
use crate::model::ids::RepositoryUuid;
use crate::volume::store::Object;

/// An open parity file.
pub struct ParityFile {
    object: Box<dyn Object>,
    /// What it says of its group.
    pub table: ParityTable,
}

impl ParityFile {
    /// Reads header and table.
    pub fn open(object: Box<dyn Object>, repository: RepositoryUuid) -> Result<Self, ReadError> {
        let header = read_header(object.as_ref())?;
        if header.kind != ContainerKind::Parity || header.repository != repository {
            return Err(FormatError::Invalid("kind").into());
        }
        let table = read_parity_table(object.as_ref())?;
        if table.algorithm != ALGORITHM {
            return Err(FormatError::Unsupported("an unknown parity code").into());
        }
        Ok(Self { object, table })
    }

    /// What it has for a column; an error also where that does not match its checksum.
    pub fn column(&self, column: u64) -> Result<Vec<u8>, ReadError> {
        let step = SEGMENT_HEADER_LEN as u64 + u64::from(self.table.column_len);
        let len = parity_len(part_len(self.table.protected_len(), &self.table, column));
        let offset = HEADER_LEN as u64 + column * step + SEGMENT_HEADER_LEN as u64;
        let mut bytes = vec![0; len];
        self.object.read_exact_at(offset, &mut bytes)?;
        let wanted = usize::try_from(column).ok().and_then(|column| self.table.hashes.get(column));
        if wanted != Some(&column_hash(&bytes)) {
            return Err(ReadError::Content);
        }
        self.object.forget(offset, len as u64);
        Ok(bytes)
    }
}

/// Whether a table is that of the parity with this index in a group: a file with another name may have a parity's.
pub fn is_parity_of(table: &ParityTable, group: &Group, index: u8) -> bool {
    let members: Vec<_> = group.blocks().map(|member| (member.position, member.id, member.size)).collect();
    let told: Vec<_> = table.members.iter().map(|member| (member.position, member.block, member.len)).collect();
    (table.positions, table.parities, table.index) == (group.positions, group.parities, index) && told == members
}

/// Bytes that a file of `len` bytes has in a column.
pub fn part_len(len: u64, table: &ParityTable, column: u64) -> usize {
    let column_len = u64::from(table.column_len);
    let left = len.saturating_sub(column.saturating_mul(column_len)).min(column_len);
    usize::try_from(left).unwrap_or(0)
}
