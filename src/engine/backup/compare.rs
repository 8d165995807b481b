//! Change detection for one name: what its row says against what the file system says. Pure decisions, no I/O.

use crate::catalog::row::StoredVersion;
use crate::catalog::state::LiveEntry;
use crate::model::entry::{EntryKind, Stat};
use crate::model::version::Owner;

/// What detection may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    /// Inode numbers mean something.
    pub inode: bool,
    /// The inode's change time means something.
    pub ctime: bool,
    /// A change of it always means reading the file.
    pub strict_ctime: bool,
}

/// What is to be done about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Unchanged,
    /// Only detection fields differ: they are brought up to date in place, if attributes are as before.
    Touch,
    /// The content is as before, other fields are not.
    Metadata,
    /// The content must be read.
    Read,
}

/// Judges a name that has a row. `link` is the hard-link group that the file has now; `owner` the one in the row.
pub fn judge(stat: &Stat, link: i64, (old, owner): (&LiveEntry, &Owner), trust: Trust) -> Verdict {
    if old.version.kind != stat.kind {
        return Verdict::Read;
    }
    let is_same_metadata = is_same_metadata(stat, link, &old.version, owner);
    match stat.kind {
        EntryKind::File => judge_file(stat, is_same_metadata, old, trust),
        EntryKind::Symlink => {
            let is_same = is_same_metadata && is_same_inode(stat, old, trust) && is_same_ctime(stat, old, trust);
            if is_same && !old.detection.marks.racy { settle(stat, old) } else { Verdict::Read }
        }
        EntryKind::Dir | EntryKind::Fifo | EntryKind::Socket if is_same_metadata => match settle(stat, old) {
            // Attributes may have changed since under the same time.
            Verdict::Unchanged if old.detection.marks.racy => Verdict::Touch,
            verdict => verdict,
        },
        EntryKind::CharDevice | EntryKind::BlockDevice => Verdict::Read,
        _ => Verdict::Metadata,
    }
}

fn judge_file(stat: &Stat, is_same_metadata: bool, old: &LiveEntry, trust: Trust) -> Verdict {
    let marks = old.detection.marks;
    let is_doubtful = marks.racy || marks.recheck || old.version.inconsistent;
    let is_same_data = old.version.size == stat.size && old.version.mtime_ns == stat.mtime_ns;
    if is_doubtful || !is_same_data || !is_same_inode(stat, old, trust) {
        return Verdict::Read;
    }
    let is_same_nlink = old.detection.nlink == stat.nlink;
    if is_same_ctime(stat, old, trust) {
        return if is_same_metadata { settle(stat, old) } else { Verdict::Metadata };
    }
    // The inode changed. When what changed explains it, the content needs no reading.
    if trust.strict_ctime || (is_same_metadata && is_same_nlink) {
        return Verdict::Read;
    }
    if is_same_metadata { Verdict::Touch } else { Verdict::Metadata }
}

/// Whether a file must be read for nothing but its inode number.
pub fn is_only_inode(stat: &Stat, old: &LiveEntry, trust: Trust) -> bool {
    let marks = old.detection.marks;
    let is_doubtful = marks.racy || marks.recheck || old.version.inconsistent;
    let is_same_data = old.version.size == stat.size && old.version.mtime_ns == stat.mtime_ns;
    old.version.kind == EntryKind::File
        && is_same_data
        && !is_doubtful
        && trust.inode
        && old.detection.ino != stat.ino
        && is_same_ctime(stat, old, trust)
}

/// Whether a file looks as if nobody had written it since: only its bytes could say otherwise.
pub fn is_untouched(stat: &Stat, old: &LiveEntry, trust: Trust) -> bool {
    let marks = old.detection.marks;
    let is_doubtful = marks.racy || marks.recheck || old.version.inconsistent;
    let is_same_data = old.version.size == stat.size && old.version.mtime_ns == stat.mtime_ns;
    let is_same_kind = old.version.kind == EntryKind::File;
    is_same_kind
        && is_same_data
        && !is_doubtful
        && is_same_inode(stat, old, trust)
        && old.detection.ctime_ns == stat.ctime_ns
}

/// Whether a file must be read for nothing but the time of its inode's change: attributes may explain that.
pub fn is_only_ctime(stat: &Stat, link: i64, (old, owner): (&LiveEntry, &Owner), trust: Trust) -> bool {
    let marks = old.detection.marks;
    let is_doubtful = marks.racy || marks.recheck || old.version.inconsistent;
    old.version.kind == EntryKind::File
        && old.version.size == stat.size
        && !is_doubtful
        && marks.attrs_known
        && !trust.strict_ctime
        && is_same_inode(stat, old, trust)
        && is_same_metadata(stat, link, &old.version, owner)
}

fn is_same_metadata(stat: &Stat, link: i64, old: &StoredVersion, owner: &Owner) -> bool {
    old.mode == stat.mode
        && owner.uid == stat.uid
        && owner.gid == stat.gid
        && old.mtime_ns == stat.mtime_ns
        && old.link == link
}

fn is_same_inode(stat: &Stat, old: &LiveEntry, trust: Trust) -> bool {
    !trust.inode || old.detection.ino == stat.ino
}

fn is_same_ctime(stat: &Stat, old: &LiveEntry, trust: Trust) -> bool {
    !trust.ctime || old.detection.ctime_ns == stat.ctime_ns
}

/// Unchanged, or touched when a field that serves detection differs.
fn settle(stat: &Stat, old: &LiveEntry) -> Verdict {
    let detection = &old.detection;
    let is_same = detection.ctime_ns == stat.ctime_ns
        && detection.ino == stat.ino
        && (detection.nlink == stat.nlink || stat.kind == EntryKind::Dir)
        && old.version.btime_ns == stat.btime_ns
        && detection.marks.attrs_known;
    if is_same { Verdict::Unchanged } else { Verdict::Touch }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::row::StoredObject;
    use crate::model::ids::ContentId;
    use crate::model::version::{Detection, Marks};

    const TRUST: Trust = Trust { inode: true, ctime: true, strict_ctime: false };

    fn stat() -> Stat {
        Stat {
            kind: EntryKind::File,
            mode: 0o644,
            uid: 1,
            gid: 2,
            size: 10,
            allocated: 512,
            mtime_ns: 5,
            ctime_ns: 6,
            btime_ns: Some(1),
            dev: 1,
            ino: 77,
            nlink: 1,
            rdev: 0,
            taken_ns: i64::MAX,
        }
    }

    fn row() -> LiveEntry {
        LiveEntry {
            name: b"f".to_vec(),
            version: StoredVersion {
                kind: EntryKind::File,
                mode: 0o644,
                owner: 1,
                size: 10,
                mtime_ns: 5,
                btime_ns: Some(1),
                object: StoredObject::Content(ContentId(1)),
                link: 0,
                attr: None,
                inconsistent: false,
            },
            detection: Detection {
                ctime_ns: 6,
                ino: 77,
                nlink: 1,
                marks: Marks { attrs_known: true, ..Marks::default() },
            },
        }
    }

    fn verdict(stat: &Stat, old: &LiveEntry, trust: Trust) -> Verdict {
        judge(stat, 0, (old, &Owner { uid: 1, gid: 2, ..Owner::default() }), trust)
    }

    #[test]
    fn a_file_with_all_fields_as_before_is_not_read() {
        assert_eq!(verdict(&stat(), &row(), TRUST), Verdict::Unchanged);
    }

    #[test]
    fn size_mtime_inode_and_an_unexplained_ctime_each_mean_reading() {
        let changes: [fn(&mut Stat); 4] = [|s| s.size = 11, |s| s.mtime_ns = 6, |s| s.ino = 78, |s| s.ctime_ns = 7];
        for change in changes {
            let mut now = stat();
            change(&mut now);
            assert_eq!(verdict(&now, &row(), TRUST), Verdict::Read);
        }
    }

    #[test]
    fn a_ctime_that_mode_owner_or_link_count_explains_does_not_read() {
        let mut chmod = stat();
        (chmod.mode, chmod.ctime_ns) = (0o600, 7);
        assert_eq!(verdict(&chmod, &row(), TRUST), Verdict::Metadata);
        assert_eq!(verdict(&chmod, &row(), Trust { strict_ctime: true, ..TRUST }), Verdict::Read);
        let mut linked = stat();
        (linked.nlink, linked.ctime_ns) = (2, 7);
        assert_eq!(verdict(&linked, &row(), TRUST), Verdict::Touch);
    }

    #[test]
    fn racy_rechecked_and_inconsistent_rows_are_read_whatever_the_fields() {
        for change in [
            |r: &mut LiveEntry| r.detection.marks.racy = true,
            |r: &mut LiveEntry| r.detection.marks.recheck = true,
            |r: &mut LiveEntry| r.version.inconsistent = true,
        ] {
            let mut old = row();
            change(&mut old);
            assert_eq!(verdict(&stat(), &old, TRUST), Verdict::Read);
        }
    }

    #[test]
    fn a_file_that_is_read_for_its_inode_alone_is_known_as_such() {
        let mut moved = stat();
        moved.ino = 99;
        assert!(is_only_inode(&moved, &row(), TRUST));
        moved.ctime_ns = 98;
        assert!(!is_only_inode(&moved, &row(), TRUST));
    }

    #[test]
    fn names_whose_attributes_were_never_looked_at_or_may_have_changed_unseen_are_looked_at() {
        let mut old = row();
        old.detection.marks.attrs_known = false;
        assert_eq!(verdict(&stat(), &old, TRUST), Verdict::Touch);
        let mut changed = stat();
        changed.ctime_ns = 7;
        let owner = Owner { uid: 1, gid: 2, ..Owner::default() };
        assert!(is_only_ctime(&changed, 0, (&row(), &owner), TRUST));
        assert!(!is_only_ctime(&changed, 0, (&old, &owner), TRUST), "what was not known explains nothing");
        let (mut dir, mut now) = (row(), stat());
        (dir.version.kind, now.kind) = (EntryKind::Dir, EntryKind::Dir);
        assert_eq!(verdict(&now, &dir, TRUST), Verdict::Unchanged);
        dir.detection.marks.racy = true;
        assert_eq!(verdict(&now, &dir, TRUST), Verdict::Touch);
    }

    #[test]
    fn untrusted_inodes_and_ctimes_only_touch() {
        let mut moved = stat();
        (moved.ino, moved.ctime_ns) = (99, 98);
        assert_eq!(verdict(&moved, &row(), Trust { inode: false, ctime: false, ..TRUST }), Verdict::Touch);
        assert_eq!(verdict(&moved, &row(), Trust { inode: false, ..TRUST }), Verdict::Read);
    }
}
