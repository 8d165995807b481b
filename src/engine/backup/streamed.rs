//! A stream as a source: a root directory and one file in it, read once. What it had under other names ends as no
//! longer selected.

use super::items::{DirContext, FileJob, Item, ReadAttrs};
use super::jobs::Job;
use super::large::{Emit, read_stream};
use super::prior::Prior;
use super::rows::{detection_of, version_of};
use super::seen::Seen;
use super::source::emit_row;
use crate::catalog::versions::Change;
use crate::codec::chunker::Chunker;
use crate::engine::error::Result;
use crate::engine::observer::Observer;
use crate::format::attrs;
use crate::model::attrs::Attrs;
use crate::model::entry::EntryKind;
use crate::model::version::{EndReason, Object};
use crate::tree::error::TreeError;
use crate::tree::names::Names;
use crate::tree::stream::{Stream, stat_of_stream};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether a command has ended whose output has.
const LOOK_EVERY: Duration = Duration::from_millis(5);

type Flow = ControlFlow<()>;

/// See the module.
pub struct Streamed<'s> {
    stream: Stream,
    name: Vec<u8>,
    prior: Prior,
    chunker: Chunker,
    observer: &'s dyn Observer,
    /// What was seen.
    pub seen: Seen,
}

impl<'s> Streamed<'s> {
    /// A stream under a name.
    pub fn new((stream, name): (Stream, Vec<u8>), prior: Prior, chunker: Chunker, observer: &'s dyn Observer) -> Self {
        Self { stream, name, prior, chunker, observer, seen: Seen::default() }
    }

    /// Reads to the end. The file gets a row only when all of it came and the command ended well.
    pub fn run(&mut self, emit: Emit<'_>) -> Result<Flow> {
        let root = stat_of_stream(EntryKind::Dir);
        let before = self.prior.directory(b"", &root)?;
        let path: Arc<[u8]> = Arc::from(&b""[..]);
        let (handle, affinity) = (Stream::place()?, before.affinity);
        let dir = Arc::new(DirContext { path, handle, affinity, racy_within_ns: 0 });
        if before.entry(b"").is_none() {
            let owner = Names::default().owner(root.uid, root.gid);
            let put = Change::Put {
                version: version_of(&root, owner, 0, Object::Nothing),
                content: None,
                detection: detection_of(&root, 0, true),
            };
            if emit_row(&dir, b"", put, emit).is_break() {
                return Ok(Flow::Break(()));
            }
        }
        let other = |is_before: bool| {
            let is_other = move |name: &[u8], own: &[u8]| if is_before { name < own } else { name > own };
            let rows = before.rows.iter().filter(|row| !row.name.is_empty());
            rows.map(|row| row.name.clone()).filter(|name| is_other(name, &self.name)).collect::<Vec<_>>()
        };
        let (behind, ahead) = (other(true), other(false));
        if end_all(&dir, &behind, emit).is_break() || self.file(&dir, emit)?.is_break() {
            return Ok(Flow::Break(()));
        }
        Ok(end_all(&dir, &ahead, emit))
    }

    fn file(&mut self, dir: &Arc<DirContext>, emit: Emit<'_>) -> Result<Flow> {
        let mut stat = stat_of_stream(EntryKind::File);
        let (dir, name) = (Arc::clone(dir), self.name.clone());
        let job = FileJob { dir, name, stat, link: 0, expected: None, must_hold: None };
        let read = read_stream((&mut self.stream, &job), &self.chunker, self.observer, emit);
        let size = match read {
            ControlFlow::Break(()) => return Ok(Flow::Break(())),
            ControlFlow::Continue(Ok(size)) => size,
            ControlFlow::Continue(Err(_)) if self.observer.is_cancelled() => return Ok(Flow::Break(())),
            ControlFlow::Continue(Err(source)) => return Err(TreeError::StreamUnreadable { source }.into()),
        };
        while !self.stream.has_ended()? {
            if self.observer.is_cancelled() {
                return Ok(Flow::Break(()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.observer.advance(1, 0);
        stat.size = size;
        (self.seen.paths, self.seen.bytes) = (2, size);
        let attrs = Box::new(ReadAttrs { body: attrs::encode(&Attrs::default()), holes: None, problem: None });
        let job = Box::new(job);
        Ok(emit(Job::Ready(Item::LargeEnd { job, stat, size, is_inconsistent: false, attrs })))
    }
}

fn end_all(dir: &Arc<DirContext>, names: &[Vec<u8>], emit: Emit<'_>) -> Flow {
    names.iter().try_for_each(|name| emit_row(dir, name, Change::End(EndReason::Excluded), emit))
}
