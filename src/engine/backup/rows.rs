//! From what the file system says to what the catalog keeps.

use crate::model::entry::{EntryKind, Stat};
use crate::model::version::{Detection, Marks, Object, Owner, Version};

/// The version of a file as it was looked at; `owner` is that of `stat` with its names.
pub fn version_of(stat: &Stat, owner: Owner, link: i64, object: Object) -> Version {
    Version {
        kind: stat.kind,
        mode: stat.mode,
        owner,
        size: if stat.kind == EntryKind::File { stat.size } else { 0 },
        mtime_ns: stat.mtime_ns,
        btime_ns: stat.btime_ns,
        link,
        inconsistent: false,
        object,
        attrs: Vec::new(),
    }
}

/// What the next run will compare with. An inode that changed within `racy_within_ns` of being looked at may change
/// again under the same time. `attrs_known`: its attributes are those of the row.
pub fn detection_of(stat: &Stat, racy_within_ns: i64, attrs_known: bool) -> Detection {
    let racy = stat.taken_ns.saturating_sub(stat.ctime_ns) < racy_within_ns;
    Detection {
        ctime_ns: stat.ctime_ns,
        ino: stat.ino,
        nlink: stat.nlink,
        marks: Marks { racy, recheck: false, attrs_known },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_that_changed_just_now_or_in_the_future_is_racy() {
        let mut stat = Stat {
            kind: EntryKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            allocated: 0,
            mtime_ns: 0,
            ctime_ns: 10_000_000_000,
            btime_ns: None,
            dev: 0,
            ino: 1,
            nlink: 1,
            rdev: 0,
            taken_ns: 11_000_000_000,
        };
        assert!(detection_of(&stat, 2_000_000_000, true).marks.racy);
        stat.taken_ns = 12_000_000_000;
        assert!(!detection_of(&stat, 2_000_000_000, true).marks.racy);
        stat.taken_ns = 9_000_000_000;
        assert!(detection_of(&stat, 2_000_000_000, true).marks.racy);
    }
}
