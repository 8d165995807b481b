//! Parity groups: which blocks are in which, what of a group is there, and what of it could be had without some volumes.
//! Reading needs nothing but the tables of schema 1; a group's identity is for writers.

use super::error::{CatalogError, Result};
use crate::format::parity::ParityTable;
use crate::model::ids::{BlockId, BlockNo, VolumeId};
use crate::model::redundancy::Redundancy;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::{BTreeSet, HashMap};

/// Tag of a parity's kind in `blocks`.
pub const PARITY_KIND: u8 = 3;

/// A copy of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberCopy {
    /// Where.
    pub volume: VolumeId,
    /// Nothing is known to be wrong with it, and its volume is not given up: it can be read when that is here.
    pub is_held: bool,
    /// And its volume is not rolled back: it counts.
    pub is_counted: bool,
    /// There may be something of it, as damaged as it is.
    pub is_there: bool,
}

/// A block of chunks or a parity in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Below K a block of chunks, from K on a parity.
    pub position: u8,
    /// Number.
    pub no: BlockNo,
    /// Name.
    pub id: BlockId,
    /// Bytes of the file.
    pub size: u64,
    /// Somebody needs it: it is neither condemned nor gone.
    pub is_needed: bool,
    /// It is known as damaged.
    pub is_bad: bool,
    /// Where it is.
    pub copies: Vec<MemberCopy>,
}

impl Member {
    /// Copies that count.
    pub fn counted(&self) -> usize {
        self.copies.iter().filter(|copy| copy.is_counted).count()
    }
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its row.
    pub no: i64,
    /// K.
    pub positions: u8,
    /// M.
    pub parities: u8,
    /// By position; parities that are not needed any more are left out.
    pub members: Vec<Member>,
}

impl Group {
    /// Its blocks of chunks.
    pub fn blocks(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.position < self.positions)
    }

    /// Its parities that are known.
    pub fn parity(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.position >= self.positions)
    }

    /// Volumes on which copies lie that count.
    pub fn volumes(&self) -> BTreeSet<VolumeId> {
        let copies = self.members.iter().flat_map(|member| &member.copies);
        copies.filter(|copy| copy.is_counted).map(|copy| copy.volume).collect()
    }

    /// Whether what was lost can be made again from the copies that `is_there` says of that they can be had.
    pub fn suffices(&self, is_there: &dyn Fn(&MemberCopy) -> bool) -> bool {
        let known = self.parity().count();
        let lost = self.members.iter().filter(|member| !member.copies.iter().any(is_there)).count();
        known > 0 && lost + usize::from(self.parities).saturating_sub(known) <= usize::from(self.parities)
    }

    /// Whether any M volumes may be lost without a loss: all members are there, each on a volume of its own.
    pub fn is_sound(&self) -> bool {
        self.places().is_some()
    }

    /// A volume for each position, no two the same, where there are such.
    pub fn places(&self) -> Option<HashMap<u8, VolumeId>> {
        if self.parity().count() != usize::from(self.parities) {
            return None;
        }
        let mut holder: HashMap<VolumeId, usize> = HashMap::new();
        let found = (0..self.members.len()).all(|at| self.find_volume(at, &mut holder, &mut BTreeSet::new()));
        found.then(|| holder.into_iter().map(|(volume, at)| (self.members[at].position, volume)).collect())
    }

    /// A volume for a member, moving others to another of theirs where that helps (Kuhn's matching).
    fn find_volume(&self, at: usize, holder: &mut HashMap<VolumeId, usize>, seen: &mut BTreeSet<VolumeId>) -> bool {
        for copy in self.members[at].copies.iter().filter(|copy| copy.is_counted) {
            if !seen.insert(copy.volume) {
                continue;
            }
            let is_free = match holder.get(&copy.volume).copied() {
                None => true,
                Some(other) => self.find_volume(other, holder, seen),
            };
            if is_free {
                holder.insert(copy.volume, at);
                return true;
            }
        }
        false
    }
}

/// Parities that are to be deleted are not counted on.
const LASTING: &str = "NOT (t.pos >= g.k AND b.state IN ('deleting', 'gone'))";

/// Hands every group that has a parity to `each`, by number.
pub fn for_each(conn: &Connection, each: &mut dyn FnMut(Group) -> Result<()>) -> Result<()> {
    select(conn, LASTING, &[], each)
}

/// The groups that a block is in, the newest first: one that others took the place of may still be there.
pub fn of_block(conn: &Connection, block: BlockNo) -> Result<Vec<Group>> {
    select_of_block(conn, block, LASTING)
}

/// The same with parities that are to be deleted: as long as they are there they can be read.
pub fn of_block_to_read(conn: &Connection, block: BlockNo) -> Result<Vec<Group>> {
    select_of_block(conn, block, "TRUE")
}

fn select_of_block(conn: &Connection, block: BlockNo, which: &str) -> Result<Vec<Group>> {
    let mut found = Vec::new();
    let condition = format!("{which} AND g.id IN (SELECT grp FROM parity_members WHERE block = ?1)");
    select(conn, &condition, &[block.0], &mut |group| {
        found.insert(0, group);
        Ok(())
    })?;
    Ok(found)
}

fn select(
    conn: &Connection,
    condition: &str,
    numbers: &[i64],
    each: &mut dyn FnMut(Group) -> Result<()>,
) -> Result<()> {
    let mut select = conn.prepare_cached(&format!(
        "SELECT g.id, g.k, g.m, t.pos, b.id, b.name, t.len, p.volume,
           coalesce(b.state = 'ok' AND p.state = 'ok' AND v.state NOT IN ('lost', 'removed'), 0),
           coalesce(b.state = 'ok' AND p.state = 'ok' AND v.state NOT IN ('lost', 'removed', 'readonly'), 0),
           coalesce(p.state IN ('ok', 'bad', 'deleting') AND v.state NOT IN ('lost', 'removed'), 0),
           b.state IN ('ok', 'bad'), b.state = 'bad'
         FROM parity_groups g JOIN parity_members t ON t.grp = g.id JOIN blocks b ON b.id = t.block
         LEFT JOIN copies p ON p.block = b.id LEFT JOIN volumes v ON v.id = p.volume
         WHERE {condition}
         ORDER BY g.id, t.pos, p.volume"
    ))?;
    let mut rows = select.query(rusqlite::params_from_iter(numbers))?;
    let mut group: Option<Group> = None;
    while let Some(row) = rows.next()? {
        let no: i64 = row.get(0)?;
        if group.as_ref().is_some_and(|group| group.no != no)
            && let Some(done) = group.take()
        {
            hand(done, each)?;
        }
        let group = match &mut group {
            Some(group) => group,
            None => group.insert(Group { no, positions: row.get(1)?, parities: row.get(2)?, members: Vec::new() }),
        };
        let position: u8 = row.get(3)?;
        if group.members.last().is_none_or(|member| member.position != position) {
            group.members.push(member_from_row(row, position)?);
        }
        if let (Some(member), Some(volume)) = (group.members.last_mut(), row.get::<_, Option<i64>>(7)?) {
            let volume = VolumeId(volume);
            let (is_held, is_counted, is_there) = (row.get(8)?, row.get(9)?, row.get(10)?);
            member.copies.push(MemberCopy { volume, is_held, is_counted, is_there });
        }
    }
    group.map_or(Ok(()), |group| hand(group, each))
}

fn hand(group: Group, each: &mut dyn FnMut(Group) -> Result<()>) -> Result<()> {
    if group.parity().next().is_some() { each(group) } else { Ok(()) }
}

fn member_from_row(row: &Row<'_>, position: u8) -> rusqlite::Result<Member> {
    Ok(Member {
        position,
        no: BlockNo(row.get(4)?),
        id: BlockId(row.get(5)?),
        size: row.get::<_, i64>(6)?.cast_unsigned(),
        is_needed: row.get(11)?,
        is_bad: row.get(12)?,
        copies: Vec::new(),
    })
}

/// The blocks of chunks in groups of which any so many volumes, or more, may be lost.
pub fn in_sound_groups(conn: &Connection, parities: u8) -> Result<BTreeSet<BlockNo>> {
    let mut found = BTreeSet::new();
    for_each(conn, &mut |group| {
        if group.parities >= parities && group.is_sound() {
            found.extend(group.blocks().map(|member| member.no));
        }
        Ok(())
    })?;
    Ok(found)
}

/// The blocks of chunks of which no copy could be had without these volumes, and that could be made again from the
/// others of their groups.
pub fn recoverable(conn: &Connection, without: &[VolumeId]) -> Result<BTreeSet<BlockNo>> {
    let is_there = |copy: &MemberCopy| copy.is_held && !without.contains(&copy.volume);
    let mut found = BTreeSet::new();
    for_each(conn, &mut |group| {
        if group.suffices(&is_there) {
            let lost = group.blocks().filter(|member| !member.copies.iter().any(is_there));
            found.extend(lost.map(|member| member.no));
        }
        Ok(())
    })?;
    Ok(found)
}

/// The identity of a group.
pub fn identity(conn: &Connection, group: i64) -> Result<Option<[u8; 16]>> {
    let mut select = conn.prepare_cached("SELECT uuid FROM parity_groups WHERE id = ?1")?;
    Ok(select.query_row([group], |row| row.get(0)).optional()?.flatten())
}

/// A block of chunks that is in no group that stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ungrouped {
    /// Number.
    pub no: BlockNo,
    /// Name.
    pub id: BlockId,
    /// Bytes.
    pub size: u64,
    /// No record lists it.
    pub is_unlisted: bool,
    /// Where copies are that count: those that a record tells of, so that a rebuild finds what is kept where it looks; others
    /// only where there are none.
    pub volumes: Vec<VolumeId>,
}

/// The sound blocks of chunks that are not among `sound`, by number.
pub fn ungrouped(conn: &Connection, sound: &BTreeSet<BlockNo>) -> Result<Vec<Ungrouped>> {
    let mut select = conn.prepare(
        "SELECT b.id, b.name, b.size, b.run IS NULL, p.volume, p.role FROM blocks b JOIN copies p ON p.block = b.id
         JOIN volumes v ON v.id = p.volume WHERE b.kind <> 3 AND b.state = 'ok' AND p.state = 'ok'
           AND v.state NOT IN ('lost', 'removed', 'readonly') ORDER BY b.id, p.role, p.volume",
    )?;
    let mut rows = select.query([])?;
    let (mut found, mut role): (Vec<Ungrouped>, u8) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let no = BlockNo(row.get(0)?);
        if sound.contains(&no) {
            continue;
        }
        let (volume, own): (i64, u8) = (row.get(4)?, row.get(5)?);
        if let Some(last) = found.last_mut().filter(|last| last.no == no) {
            if own == role {
                last.volumes.push(VolumeId(volume));
            }
            continue;
        }
        role = own;
        found.push(Ungrouped {
            no,
            id: BlockId(row.get(1)?),
            size: row.get::<_, i64>(2)?.cast_unsigned(),
            is_unlisted: row.get(3)?,
            volumes: vec![VolumeId(volume)],
        });
    }
    Ok(found)
}

/// Numbers for an `IN` list.
pub fn list_sql(blocks: &BTreeSet<BlockNo>) -> String {
    blocks.iter().map(|block| block.0.to_string()).collect::<Vec<_>>().join(",")
}

/// A parity file that is durable: registers it, its group, and where its members are in that. Blocks that the catalog does
/// not have are noted by name.
pub fn register(
    conn: &Connection,
    (id, size, volume): (BlockId, u64, VolumeId),
    table: &ParityTable,
) -> Result<BlockNo> {
    let known = super::blocks::number_of(conn, id)?;
    let no = match known {
        Some(no) => no,
        None => insert_block(conn, id, (size, PARITY_KIND, "ok"))?,
    };
    // One that was to be deleted and is still there is of use again only where its group is.
    conn.execute("UPDATE blocks SET state = 'ok' WHERE id = ?1 AND state = 'gone'", [no.0])?;
    super::blocks::put_copy(conn, no, volume)?;
    let group = put_group(conn, table)?;
    let mut put =
        conn.prepare_cached("INSERT OR IGNORE INTO parity_members(grp, pos, block, len) VALUES(?1, ?2, ?3, ?4)")?;
    for member in &table.members {
        let block = match super::blocks::number_of(conn, member.block)? {
            Some(block) => block,
            None => insert_block(conn, member.block, (member.len, 1, "gone"))?,
        };
        put.execute(params![group, member.position, block.0, member.len.cast_signed()])?;
    }
    let position = u32::from(table.positions) + u32::from(table.index);
    put.execute(params![group, position, no.0, size.cast_signed()])?;
    Ok(no)
}

fn insert_block(conn: &Connection, id: BlockId, (size, kind, state): (u64, u8, &str)) -> Result<BlockNo> {
    conn.prepare_cached("INSERT INTO blocks(name, kind, size, state) VALUES(?1, ?2, ?3, ?4)")?.execute(params![
        id.0,
        kind,
        size.cast_signed(),
        state
    ])?;
    Ok(BlockNo(conn.last_insert_rowid()))
}

fn put_group(conn: &Connection, table: &ParityTable) -> Result<i64> {
    let known: Option<(i64, u8, u8)> = conn
        .prepare_cached("SELECT id, k, m FROM parity_groups WHERE uuid = ?1")?
        .query_row([table.group], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    match known {
        Some((no, k, m)) if (k, m) == (table.positions, table.parities) => Ok(no),
        Some(_) => Err(CatalogError::damaged("two parity groups have one identity")),
        None => {
            conn.prepare_cached("INSERT INTO parity_groups(k, m, algo, state, uuid) VALUES(?1, ?2, ?3, 'ok', ?4)")?
                .execute(params![table.positions, table.parities, table.algorithm, table.group])?;
            Ok(conn.last_insert_rowid())
        }
    }
}

/// Number and length of the block with this name, unless it is known by name alone.
pub fn known(conn: &Connection, id: BlockId) -> Result<Option<(BlockNo, u64)>> {
    Ok(conn
        .prepare_cached("SELECT id, size FROM blocks WHERE name = ?1 AND state <> 'gone'")?
        .query_row([id.0], |row| Ok((BlockNo(row.get(0)?), row.get::<_, i64>(1)?.cast_unsigned())))
        .optional()?)
}

/// A volume holds a copy of a block that nobody told of; what is known of one stays.
pub fn put_found_copy(conn: &Connection, block: BlockNo, volume: VolumeId) -> Result<()> {
    conn.prepare_cached("INSERT OR IGNORE INTO copies(block, volume, role, state) VALUES(?1, ?2, 0, 'ok')")?
        .execute([block.0, volume.0])?;
    Ok(())
}

/// A copy that a record tells of is not on its volume. It may have been deleted because a group stood for it, of which
/// perhaps nothing is here or left: nothing is missing as long as there are as many others as the policy wants, or one under
/// parity. Returns whether something is.
pub fn note_absent(conn: &Connection, (block, volume): (BlockNo, VolumeId)) -> Result<bool> {
    let copies = super::redundancy::copies(conn, block)?;
    let others = copies.iter().filter(|copy| copy.is_counted && copy.volume != volume).count();
    let wanted = match super::settings::redundancy(conn)? {
        Redundancy::Parity { .. } => 1,
        policy => policy.copies() as usize,
    };
    if others >= wanted {
        conn.prepare_cached("DELETE FROM copies WHERE block = ?1 AND volume = ?2")?.execute([block.0, volume.0])?;
        return Ok(false);
    }
    super::blocks::set_copy_state(conn, block, (volume, "missing"))?;
    Ok(true)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::catalog::test_plans::catalog;
    use crate::format::parity::ParityMember;

    pub fn id(byte: u8) -> BlockId {
        BlockId([byte; 32])
    }

    /// Blocks 1 and 2 on volumes 1 and 2, their parity on volume 3; block 3 on volume 3 alone.
    pub fn filled() -> (tempfile::TempDir, crate::catalog::Catalog) {
        let (dir, catalog) = catalog();
        catalog
            .conn()
            .execute_batch(
                "INSERT INTO volumes(id, uuid, name, state, reserve) VALUES(1, x'01', 'a', 'active', '0'),
                   (2, x'02', 'b', 'active', '0'), (3, x'03', 'c', 'active', '0'), (4, x'04', 'd', 'active', '0');",
            )
            .unwrap();
        for (byte, volume) in [(1, 1), (2, 2), (3, 3)] {
            let no = insert_block(catalog.conn(), id(byte), (100, 1, "ok")).unwrap();
            super::super::blocks::put_copy(catalog.conn(), no, VolumeId(volume)).unwrap();
        }
        register(catalog.conn(), (id(9), 300, VolumeId(3)), &table(7, &[1, 2])).unwrap();
        (dir, catalog)
    }

    fn table(group: u8, blocks: &[u8]) -> ParityTable {
        let member = |(at, byte): (usize, &u8)| ParityMember {
            position: u8::try_from(at).unwrap(),
            block: id(*byte),
            len: 100,
            hashes: Vec::new(),
        };
        ParityTable {
            algorithm: 1,
            group: [group; 16],
            positions: 2,
            parities: 1,
            index: 0,
            column_len: 1 << 20,
            members: blocks.iter().enumerate().map(member).collect(),
            hashes: Vec::new(),
        }
    }

    pub fn only_group(conn: &Connection) -> Group {
        let mut groups = Vec::new();
        for_each(conn, &mut |group| {
            groups.push(group);
            Ok(())
        })
        .unwrap();
        assert_eq!(groups.len(), 1);
        groups.remove(0)
    }

    #[test]
    fn a_group_is_sound_while_every_member_is_on_a_volume_of_its_own() {
        let (_dir, catalog) = filled();
        let conn = catalog.conn();
        assert!(only_group(conn).is_sound());
        assert_eq!(in_sound_groups(conn, 1).unwrap(), [BlockNo(1), BlockNo(2)].into());
        // A second copy does no harm, wherever it is.
        super::super::blocks::put_copy(conn, BlockNo(1), VolumeId(2)).unwrap();
        assert!(only_group(conn).is_sound());
        conn.execute("UPDATE copies SET state = 'bad' WHERE block = 1 AND volume = 1", []).unwrap();
        assert!(!only_group(conn).is_sound(), "both on volume 2");
        super::super::blocks::put_copy(conn, BlockNo(2), VolumeId(4)).unwrap();
        assert!(only_group(conn).is_sound(), "one can be thought of as on volume 2, the other on 4");
        conn.execute("UPDATE volumes SET state = 'readonly' WHERE id = 4", []).unwrap();
        assert!(!only_group(conn).is_sound());
        assert!(in_sound_groups(conn, 1).unwrap().is_empty());
    }

    #[test]
    fn what_can_be_made_again_is_told_from_what_cannot() {
        let (_dir, catalog) = filled();
        let conn = catalog.conn();
        let lost = |volumes: &[i64]| {
            let volumes: Vec<VolumeId> = volumes.iter().map(|id| VolumeId(*id)).collect();
            recoverable(conn, &volumes).unwrap().into_iter().map(|block| block.0).collect::<Vec<_>>()
        };
        assert_eq!((lost(&[1]), lost(&[2]), lost(&[3])), (vec![1], vec![2], vec![]));
        assert!(lost(&[1, 2]).is_empty() && lost(&[1, 3]).is_empty());
        conn.execute("UPDATE volumes SET state = 'lost' WHERE id = 1", []).unwrap();
        assert_eq!(lost(&[]), [1]);
        assert!(lost(&[3]).is_empty());
        conn.execute("UPDATE blocks SET state = 'bad' WHERE id = 2", []).unwrap();
        assert!(lost(&[]).is_empty());
    }

    #[test]
    fn a_block_that_is_not_known_is_a_lost_member() {
        let (_dir, catalog) = filled();
        let conn = catalog.conn();
        register(conn, (id(8), 300, VolumeId(4)), &table(6, &[3, 77])).unwrap();
        assert!(!of_block(conn, BlockNo(3)).unwrap()[0].is_sound());
        assert_eq!(recoverable(conn, &[]).unwrap().len(), 1, "the unknown one alone");
        assert!(!recoverable(conn, &[VolumeId(3)]).unwrap().contains(&BlockNo(3)));
    }
}
