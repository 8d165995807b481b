//! Tables of parity files.

use raidtape::format::parity::ParityTable;

/// A table's raw bytes; what is taken is a group, and comes back when it is written again.
pub fn table(data: &[u8]) {
    let Ok(table) = ParityTable::decode(data) else { return };
    assert!((1..=32).contains(&table.positions) && (1..=8).contains(&table.parities) && table.index < table.parities);
    assert!(!table.members.is_empty() && table.members.len() <= usize::from(table.positions));
    assert!((4096..=4 << 20).contains(&table.column_len) && table.column_len.is_multiple_of(64));
    let (mut floor, mut hashes) = (0, table.hashes.len());
    for member in &table.members {
        assert!((floor..table.positions).contains(&member.position));
        floor = member.position + 1;
        assert!(member.len > 0 && member.len <= table.protected_len());
        assert_eq!(member.hashes.len() as u64, member.len.div_ceil(table.column_len.into()));
        hashes += member.hashes.len();
    }
    assert_eq!(table.hashes.len() as u64, table.column_count());
    assert!(hashes * 16 <= data.len());
    assert_eq!(ParityTable::decode(&table.encode()), Ok(table.clone()));
    assert!(table.goes_with(&table));
}
