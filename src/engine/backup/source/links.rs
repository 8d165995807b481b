//! Names of one inode while the source is compared: which group a name belongs to, and when its content is that of a name
//! which came before.

use super::super::compare::{Trust, Verdict};
use super::super::items::{DirContext, FileJob, InodeKey, Item};
use super::super::jobs::Job;
use super::super::large::Emit;
use super::super::links::LinkGroup;
use super::{Flow, Result, Source};
use crate::catalog::state::LiveEntry;
use crate::model::entry::{EntryKind, Stat};
use std::sync::Arc;

impl Source<'_> {
    /// The hard-link group of what has no content; 0 with one name, and for directories, whose links are their own.
    pub(super) fn link_of_special(&mut self, stat: &Stat, old: Option<&LiveEntry>) -> i64 {
        if stat.nlink < 2 || stat.kind == EntryKind::Dir {
            return 0;
        }
        let key = InodeKey { dev: stat.dev, ino: stat.ino };
        if let Some(known) = self.links.get(key) {
            return known.group;
        }
        let group = self.links.group_for(key, old.map_or(0, |old| old.version.link));
        self.links.put(key, LinkGroup { group, kept: None });
        group
    }

    /// A file with several names: only the first that is met may be read.
    pub(super) fn linked_file(
        &mut self,
        dir: &Arc<DirContext>,
        (name, stat): (&[u8], &Stat),
        (old, trust): (Option<&LiveEntry>, Trust),
        emit: Emit<'_>,
    ) -> Result<Flow> {
        let key = InodeKey { dev: stat.dev, ino: stat.ino };
        let Some(known) = self.links.get(key).cloned() else {
            let group = self.links.group_for(key, old.map_or(0, |old| old.version.link));
            let verdict = self.verdict_of(dir, (name, stat, group), (old, trust))?;
            let kept = old.map(|old| old.version.clone()).filter(|_| verdict != Verdict::Read);
            self.links.put(key, LinkGroup { group, kept });
            return self.file(dir, (name, stat, group), (old, None, trust), emit);
        };
        match known.kept {
            Some(kept) => {
                let is_same_content = old.is_some_and(|old| old.version.object == kept.object);
                if is_same_content {
                    let old = old.filter(|old| !old.detection.marks.recheck);
                    return self.file(dir, (name, stat, known.group), (old, None, trust), emit);
                }
                self.keep_content(dir, (name, stat, known.group), &kept, emit)
            }
            None => {
                // The first name's bytes are on their way to the assembler, in order.
                if self.flush(emit).is_break() {
                    return Ok(Flow::Break(()));
                }
                self.observer.advance(1, 0);
                let (dir, name, link) = (Arc::clone(dir), name.to_vec(), known.group);
                let job = FileJob { dir, name, stat: *stat, link, expected: None, must_hold: None };
                Ok(emit(Job::Ready(Item::LinkTo(job))))
            }
        }
    }
}
