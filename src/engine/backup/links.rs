//! Names of one inode within a run: which group they form, and whose content they share. A group is a number of the
//! catalog's, never an inode: inodes are used again.

use super::items::InodeKey;
use crate::catalog::row::StoredVersion;
use hashbrown::HashMap;

/// What is known of an inode with several names.
#[derive(Debug, Clone)]
pub struct LinkGroup {
    /// Its number.
    pub group: i64,
    /// The version whose content the first name kept; `None` when the first name is read in this run.
    pub kept: Option<StoredVersion>,
}

/// The groups of a run.
#[derive(Debug)]
pub struct LinkTable {
    next: i64,
    by_inode: HashMap<InodeKey, LinkGroup>,
    claimed: HashMap<i64, InodeKey>,
}

impl LinkTable {
    /// Groups that are new get numbers from `next` on.
    pub fn new(next: i64) -> Self {
        Self { next, by_inode: HashMap::new(), claimed: HashMap::new() }
    }

    /// The group of an inode, if one of its names was met.
    pub fn get(&self, key: InodeKey) -> Option<&LinkGroup> {
        self.by_inode.get(&key)
    }

    /// The group for an inode whose first name is met now: the one that the name's row has, unless another inode
    /// took it; else a new one.
    pub fn group_for(&mut self, key: InodeKey, group_in_row: i64) -> i64 {
        if group_in_row != 0 && self.claimed.get(&group_in_row).is_none_or(|owner| *owner == key) {
            self.claimed.insert(group_in_row, key);
            return group_in_row;
        }
        let group = self.next;
        self.next += 1;
        self.claimed.insert(group, key);
        group
    }

    /// Remembers an inode after its first name.
    pub fn put(&mut self, key: InodeKey, group: LinkGroup) {
        self.by_inode.insert(key, group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_inodes_never_share_a_group_even_when_their_rows_did() {
        let mut table = LinkTable::new(10);
        let (one, two) = (InodeKey { dev: 1, ino: 1 }, InodeKey { dev: 1, ino: 2 });
        assert_eq!(table.group_for(one, 4), 4);
        assert_eq!(table.group_for(two, 4), 10);
        assert_eq!(table.group_for(InodeKey { dev: 1, ino: 3 }, 0), 11);
    }
}
