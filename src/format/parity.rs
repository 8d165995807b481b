//! What a parity file says of its group: who its members are and where, and the checksums by which lost columns are
//! told from sound ones. Owns the bytes of the table in `FORMAT.md`, "Parity"; not the code (`codec`), and not which
//! blocks make a group (`engine`).

use super::bytes::{Reader, put_varint};
use super::container::FormatError;
use crate::model::ids::BlockId;
use crate::model::limits::{
    BLOCK_FILE_LEN_MAX, PARITY_COUNT_MAX, PARITY_POSITIONS_MAX, SECTION_RAW_MAX, SEGMENT_RAW_MAX,
};

/// The layout that this release writes. A reader refuses a higher one.
const VERSION: u8 = 1;

/// A column's length is a multiple of so many bytes.
const COLUMN_LEN_UNIT: u32 = 64;

/// Bytes of a column at least: with shorter ones the checksums would outweigh what they are for.
const COLUMN_LEN_MIN: u32 = 4096;

/// The first 16 bytes of the BLAKE3 of what lies in one column of one file.
pub type ColumnHash = [u8; 16];

/// A block in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParityMember {
    /// Which position it has, below K.
    pub position: u8,
    /// Its name.
    pub block: BlockId,
    /// Bytes of the block file.
    pub len: u64,
    /// One for each column that it reaches into, over the bytes that it has there.
    pub hashes: Vec<ColumnHash>,
}

/// The table of a parity file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParityTable {
    /// Number of the code; which there are is for `codec` to say.
    pub algorithm: u8,
    /// Random, common to all parities of the group.
    pub group: [u8; 16],
    /// K: positions of the group, filled or not.
    pub positions: u8,
    /// M: parities of the group.
    pub parities: u8,
    /// Which of the parities this is, below M.
    pub index: u8,
    /// Bytes of each member that make a column; the last one may be shorter.
    pub column_len: u32,
    /// Ascending by position, at least one; empty positions are left out.
    pub members: Vec<ParityMember>,
    /// One for each column of the group, over all bytes that this parity has for it.
    pub hashes: Vec<ColumnHash>,
}

impl ParityTable {
    /// Bytes that the parity protects: as many as its longest member has.
    pub fn protected_len(&self) -> u64 {
        self.members.iter().map(|member| member.len).max().unwrap_or(0)
    }

    /// Columns of the group.
    pub fn column_count(&self) -> u64 {
        columns(self.protected_len(), self.column_len)
    }

    /// Whether both are parities of one group in one state. Only such can be used together: a group whose members have
    /// changed has new parities, and those before say nothing of it.
    pub fn goes_with(&self, other: &Self) -> bool {
        let of = |table: &Self| (table.algorithm, table.group, table.positions, table.parities, table.column_len);
        of(self) == of(other) && self.members == other.members
    }

    /// The raw bytes of the table segment.
    pub fn encode(&self) -> Vec<u8> {
        let hashes = self.hashes.len() + self.members.iter().map(|member| member.hashes.len()).sum::<usize>();
        let mut out = Vec::with_capacity(64 + self.members.len() * 48 + hashes * 16);
        out.extend([VERSION, self.algorithm]);
        out.extend(self.group);
        out.extend([self.positions, self.parities, self.index]);
        put_varint(&mut out, u64::from(self.column_len));
        put_varint(&mut out, self.protected_len());
        put_varint(&mut out, self.members.len() as u64);
        for member in &self.members {
            out.push(member.position);
            out.extend(member.block.0);
            put_varint(&mut out, member.len);
            out.extend(member.hashes.as_flattened());
        }
        out.extend(self.hashes.as_flattened());
        out
    }

    /// Reads a table. What it takes is a group: positions ascend below K, no block is in it twice, and there are as many
    /// checksums as columns.
    pub fn decode(raw: &[u8]) -> Result<Self, FormatError> {
        if raw.len() > SECTION_RAW_MAX {
            return Err(FormatError::Invalid("table length"));
        }
        let mut fields = Reader::new(raw);
        match fields.u8()? {
            VERSION => {}
            0 => return Err(FormatError::Invalid("version")),
            newer => return Err(FormatError::Newer(newer.into())),
        }
        let algorithm = fields.u8()?;
        let group = fields.array()?;
        let [positions, parities, index] = fields.array()?;
        let is_group = (1..=PARITY_POSITIONS_MAX).contains(&positions.into())
            && (1..=PARITY_COUNT_MAX).contains(&parities.into())
            && index < parities;
        if !is_group {
            return Err(FormatError::Invalid("parity group"));
        }
        let column_len = fields.varint_u32()?;
        let is_column = column_len >= COLUMN_LEN_MIN
            && column_len as usize <= SEGMENT_RAW_MAX
            && column_len.is_multiple_of(COLUMN_LEN_UNIT);
        if !is_column {
            return Err(FormatError::Invalid("column length"));
        }
        let len = fields.varint()?;
        let members = decode_members(&mut fields, positions, column_len)?;
        if members.iter().map(|member| member.len).max() != Some(len) {
            return Err(FormatError::Invalid("parity length"));
        }
        let hashes = decode_hashes(&mut fields, columns(len, column_len))?;
        if !fields.is_at_end() {
            return Err(FormatError::Invalid("table length"));
        }
        Ok(Self { algorithm, group, positions, parities, index, column_len, members, hashes })
    }
}

fn decode_members(fields: &mut Reader<'_>, positions: u8, column_len: u32) -> Result<Vec<ParityMember>, FormatError> {
    let count = fields.varint()?;
    if !(1..=u64::from(positions)).contains(&count) {
        return Err(FormatError::Invalid("number of members"));
    }
    let mut members: Vec<ParityMember> = Vec::new();
    for _ in 0..count {
        let position = fields.u8()?;
        let floor = members.last().map_or(0, |last| last.position + 1);
        if !(floor..positions).contains(&position) {
            return Err(FormatError::Invalid("position"));
        }
        let (block, len) = (BlockId(fields.array()?), fields.varint()?);
        if members.iter().any(|member| member.block == block) {
            return Err(FormatError::Invalid("member"));
        }
        if len == 0 || len > BLOCK_FILE_LEN_MAX {
            return Err(FormatError::Invalid("member length"));
        }
        let hashes = decode_hashes(fields, columns(len, column_len))?;
        members.push(ParityMember { position, block, len, hashes });
    }
    Ok(members)
}

/// As many checksums; memory is taken only for those that are there.
fn decode_hashes(fields: &mut Reader<'_>, count: u64) -> Result<Vec<ColumnHash>, FormatError> {
    let len = usize::try_from(count).ok().and_then(|count| count.checked_mul(size_of::<ColumnHash>()));
    let (hashes, _) = fields.take(len.ok_or(FormatError::Short)?)?.as_chunks();
    Ok(hashes.to_vec())
}

fn columns(len: u64, column_len: u32) -> u64 {
    len.div_ceil(u64::from(column_len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> ParityTable {
        let member = |position, byte, len: u64| ParityMember {
            position,
            block: BlockId([byte; 32]),
            len,
            hashes: (0..columns(len, 1 << 20)).map(|column| [byte ^ column.to_le_bytes()[0]; 16]).collect(),
        };
        ParityTable {
            algorithm: 1,
            group: [9; 16],
            positions: 4,
            parities: 2,
            index: 1,
            column_len: 1 << 20,
            members: vec![member(0, 0x10, 1), member(1, 0x20, (2 << 20) + 1), member(3, 0x30, 1 << 20)],
            hashes: vec![[0x40; 16], [0x41; 16], [0x42; 16]],
        }
    }

    fn refused(change: impl FnOnce(&mut ParityTable)) -> FormatError {
        let mut table = table();
        change(&mut table);
        ParityTable::decode(&table.encode()).unwrap_err()
    }

    #[test]
    fn a_table_comes_back_and_a_cut_or_longer_one_does_not() {
        let raw = table().encode();
        assert_eq!(ParityTable::decode(&raw), Ok(table()));
        assert_eq!((table().protected_len(), table().column_count()), ((2 << 20) + 1, 3));
        for len in 0..raw.len() {
            assert!(ParityTable::decode(&raw[..len]).is_err(), "{len}");
        }
        assert!(ParityTable::decode(&[&raw[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_flipped_bit_gives_an_error_or_a_table_that_is_written_alike() {
        let raw = table().encode();
        let mut taken = 0;
        for bit in 0..raw.len() * 8 {
            let mut bad = raw.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            if let Ok(found) = ParityTable::decode(&bad) {
                assert_eq!(found.encode(), bad, "bit {bit}");
                taken += 1;
            }
        }
        // Ids and checksums are what they are; the frame's CRC-32 and the file's name judge them.
        assert!(taken >= (16 + 3 * 32 + 8 * 16) * 8, "{taken}");
    }

    #[test]
    fn parities_go_together_if_they_tell_of_the_same_members() {
        let mut other = ParityTable { index: 0, hashes: vec![[0; 16]; 3], ..table() };
        assert!(table().goes_with(&other));
        other.members[0].len = 2;
        assert!(!table().goes_with(&other));
        assert!(!table().goes_with(&ParityTable { group: [8; 16], ..table() }));
    }

    #[test]
    fn what_is_no_group_is_refused() {
        let invalid = FormatError::Invalid;
        for (positions, parities, index) in [(0, 2, 1), (33, 2, 1), (4, 0, 0), (4, 9, 1), (4, 2, 2)] {
            let found = refused(|table| (table.positions, table.parities, table.index) = (positions, parities, index));
            assert_eq!(found, invalid("parity group"));
        }
        for column_len in [0, 64, (1 << 20) + 1, (4 << 20) + 64, u32::MAX] {
            assert_eq!(refused(|table| table.column_len = column_len), invalid("column length"), "{column_len}");
        }
        assert_eq!(refused(|table| table.members.clear()), invalid("number of members"));
        assert_eq!(refused(|table| table.positions = 2), invalid("number of members"));
        assert_eq!(refused(|table| table.positions = 3), invalid("position"));
        assert_eq!(refused(|table| table.members.swap(0, 1)), invalid("position"));
        assert_eq!(refused(|table| table.members[2].position = 1), invalid("position"));
        assert_eq!(refused(|table| table.members[2].block = BlockId([0x10; 32])), invalid("member"));
        assert_eq!(refused(|table| table.members[0].len = 0), invalid("member length"));
        assert_eq!(refused(|table| table.members[0].len = (1 << 40) + 1), invalid("member length"));
        assert_eq!(refused(|table| table.hashes.push([0; 16])), invalid("table length"));
        let mut raw = table().encode();
        raw[0] = 2;
        assert_eq!(ParityTable::decode(&raw), Err(FormatError::Newer(2)));
        raw[0] = 0;
        assert_eq!(ParityTable::decode(&raw), Err(invalid("version")));
    }

    #[test]
    fn lengths_that_the_bytes_do_not_hold_take_no_memory() {
        assert_eq!(refused(|table| table.members[0].len = 1 << 40), FormatError::Short);
        let mut raw = table().encode();
        // The parity's own length, behind version, algorithm, group, counts and the column's length.
        assert_eq!(raw[24..28], [0x81, 0x80, 0x80, 0x01]);
        raw[24] ^= 2;
        assert_eq!(ParityTable::decode(&raw), Err(FormatError::Invalid("parity length")));
        assert_eq!(ParityTable::decode(&vec![0; SECTION_RAW_MAX + 1]), Err(FormatError::Invalid("table length")));
    }
}
