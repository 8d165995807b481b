//! Reading one large file in order, on the source's thread: pieces of 4 MiB, cut as they come, handed on in parts that
//! begin and end with a chunk. Whole pieces that lie in holes are not read. A stream goes the same way, once.

use super::items::{DirContext, FileJob, Item};
use super::jobs::{Job, READINGS_MAX, RawPart, RawStep, Span, is_unchanged, open_problem, read_attrs};
use crate::codec::chunker::{Chunker, Cutter};
use crate::codec::hash::PIECE_LEN;
use crate::engine::observer::Observer;
use crate::model::problem::{Problem, ProblemOp};
use crate::tree::source_file::SourceFile;
use crate::tree::stream::Stream;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// Pieces in one part: larger parts are hashed on fewer threads at once, smaller ones copy more of their neighbours.
const PIECES_PER_PART: usize = 2;
/// How often it is looked whether the user asked to stop, while nothing comes.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Takes jobs in order; `Break` when the run stops.
pub type Emit<'e> = &'e mut dyn FnMut(Job) -> ControlFlow<()>;

/// Reads the file, again when it changed meanwhile, and emits its parts and its end.
pub fn read_large(file: &FileJob, chunker: &Chunker, emit: Emit<'_>) -> ControlFlow<()> {
    let path = crate::model::path::join(&file.dir.path, &file.name);
    for reading in 1..=READINGS_MAX {
        let mut source = match file.dir.handle.open_file(&file.name) {
            Ok(source) => source,
            Err(error) => return emit(Job::Ready(Item::LargeFailed(open_problem(&path, &error)))),
        };
        let is_settled = match source.settle() {
            Ok(is_settled) => is_settled,
            Err(error) => {
                return emit(Job::Ready(Item::LargeFailed(Problem::from_io(&path, ProblemOp::Read, &error))));
            }
        };
        source.advise_sequential();
        let mut reading_state = Reading::new(Bytes::File(&source), file, chunker.cutter());
        reading_state.is_restart = reading > 1;
        let size = match reading_state.read_to_end(emit) {
            ControlFlow::Break(()) => return ControlFlow::Break(()),
            ControlFlow::Continue(Ok(size)) => size,
            ControlFlow::Continue(Err(error)) => {
                return emit(Job::Ready(Item::LargeFailed(Problem::from_io(&path, ProblemOp::Read, &error))));
            }
        };
        let attrs = Box::new(read_attrs(&source, file, size, None));
        let is_same = match source.stat() {
            Ok(after) => is_settled && is_unchanged(source.opened(), &after) && after.size == size,
            Err(error) => {
                return emit(Job::Ready(Item::LargeFailed(Problem::from_io(&path, ProblemOp::Read, &error))));
            }
        };
        if is_same || reading == READINGS_MAX {
            let stat = *source.opened();
            let end = Item::LargeEnd { job: Box::new(file.clone()), stat, size, is_inconsistent: !is_same, attrs };
            return emit(Job::Ready(end));
        }
    }
    ControlFlow::Continue(())
}

/// Reads a stream to its end and emits its parts, one at least, and nothing behind them; returns how many bytes it has.
/// `Interrupted` when the user asked to stop.
pub fn read_stream(
    (stream, file): (&mut Stream, &FileJob),
    chunker: &Chunker,
    observer: &dyn Observer,
    emit: Emit<'_>,
) -> ControlFlow<(), std::io::Result<u64>> {
    let mut reading = Reading::new(Bytes::Stream(stream, observer), file, chunker.cutter());
    // One that is empty has a part all the same, so that there is a file.
    reading.emit_part(emit)?;
    reading.read_to_end(emit)
}

/// Where bytes come from.
enum Bytes<'s> {
    File(&'s SourceFile),
    Stream(&'s mut Stream, &'s dyn Observer),
}

impl Bytes<'_> {
    /// Up to where holes are looked for.
    fn size(&self) -> u64 {
        match self {
            Self::File(file) => file.opened().size,
            Self::Stream(..) => 0,
        }
    }

    fn next_data(&self, at: u64) -> std::io::Result<Option<(u64, u64)>> {
        match self {
            Self::File(file) => file.next_data(at),
            Self::Stream(..) => Ok(None),
        }
    }

    /// The bytes at `at`, which a stream has come to.
    fn read_at(&mut self, at: u64, into: &mut [u8]) -> std::io::Result<usize> {
        let (stream, observer) = match self {
            Self::File(file) => return file.read_at(at, into),
            Self::Stream(stream, observer) => (stream, observer),
        };
        while !observer.is_cancelled() {
            if let Some(n) = stream.read(into, LOOK_EVERY)? {
                return Ok(n);
            }
        }
        Err(std::io::ErrorKind::Interrupted.into())
    }
}

/// One reading of a file from its start.
struct Reading<'s> {
    source: Bytes<'s>,
    dir: Arc<DirContext>,
    cutter: Cutter,
    /// Bytes from the open chunk's start on.
    buffer: Vec<u8>,
    /// Where the buffer starts in the file.
    buffer_at: u64,
    spans: Vec<Span>,
    steps: Vec<RawStep>,
    cuts: Vec<u64>,
    is_restart: bool,
}

impl<'s> Reading<'s> {
    fn new(source: Bytes<'s>, file: &FileJob, cutter: Cutter) -> Self {
        Self {
            source,
            dir: Arc::clone(&file.dir),
            cutter,
            buffer: Vec::new(),
            buffer_at: 0,
            spans: Vec::new(),
            steps: Vec::new(),
            cuts: Vec::new(),
            is_restart: false,
        }
    }

    /// Emits parts up to the end of the file; returns how many bytes it has.
    fn read_to_end(&mut self, emit: Emit<'_>) -> ControlFlow<(), std::io::Result<u64>> {
        let mut at = 0_u64;
        let size = self.source.size();
        let mut data_from = 0_u64;
        let mut data_to = 0_u64;
        let mut pieces = 0;
        loop {
            // Where the next data lies, asked for again only when the last answer is used up.
            if at < size && at >= data_to {
                (data_from, data_to) = match self.source.next_data(at) {
                    Ok(Some(range)) => range,
                    Ok(None) => (size, size),
                    Err(error) => return ControlFlow::Continue(Err(error)),
                };
            }
            let hole = (data_from.min(size).saturating_sub(at)) / PIECE_LEN as u64 * PIECE_LEN as u64;
            if hole > 0 {
                self.zeros(at, hole);
                at += hole;
                continue;
            }
            match self.piece(at) {
                Ok(0) => break,
                Ok(n) => at += n,
                Err(error) => return ControlFlow::Continue(Err(error)),
            }
            pieces += 1;
            if pieces % PIECES_PER_PART == 0 {
                self.emit(emit)?;
            }
            if !at.is_multiple_of(PIECE_LEN as u64) {
                break;
            }
        }
        self.cutter.finish(&mut self.cuts);
        self.take_cuts();
        self.emit(emit)?;
        ControlFlow::Continue(Ok(at))
    }

    /// Reads and cuts up to one piece; fewer bytes only at the end of the file.
    fn piece(&mut self, at: u64) -> std::io::Result<u64> {
        let start = self.buffer.len();
        self.buffer.resize(start + PIECE_LEN, 0);
        let mut len = 0;
        while len < PIECE_LEN {
            let n = self.source.read_at(at + len as u64, &mut self.buffer[start + len..])?;
            if n == 0 {
                break;
            }
            len += n;
        }
        self.buffer.truncate(start + len);
        if len > 0 {
            self.steps.push(RawStep::Piece { index: at / PIECE_LEN as u64, range: start..start + len });
            self.cutter.feed(&self.buffer[start..], &mut self.cuts);
            self.take_cuts();
        }
        Ok(len as u64)
    }

    /// Passes over whole pieces of zeros. The chunk that is open gets the zeros it needs to be closed; chunks of
    /// nothing else are no bytes at all; the zeros behind the last cut open the next chunk.
    fn zeros(&mut self, at: u64, len: u64) {
        self.steps.push(RawStep::Zeros(len));
        let end = at + len;
        let mut from = self.buffer_end();
        let (mut first, mut last) = (None, from);
        self.cutter.feed_zeros(len, &mut |cut| {
            first.get_or_insert(cut);
            last = cut;
        });
        if let Some(cut) = first {
            self.put_buffer_zeros(cut - from);
            self.cuts.push(cut);
            self.take_cuts();
            if last > cut {
                self.spans.push(Span::Zeros(last - cut));
            }
            from = last;
        }
        // What is behind the last cut stays in the buffer: less than one chunk.
        let gap_at = self.buffer_end();
        self.put_gap(from - gap_at.min(from));
        self.put_buffer_zeros(end - from);
    }

    fn buffer_end(&self) -> u64 {
        self.buffer_at + self.buffer.len() as u64
    }

    fn put_buffer_zeros(&mut self, len: u64) {
        let len = usize::try_from(len).expect("zeros up to a cut are less than a chunk");
        self.buffer.resize(self.buffer.len() + len, 0);
    }

    /// Bytes that are in a zero span and not in the buffer: what follows lies so much further in the file.
    fn put_gap(&mut self, len: u64) {
        self.buffer_at += len;
    }

    /// Turns cuts into spans; the bytes behind the last one wait for the next.
    fn take_cuts(&mut self) {
        for cut in std::mem::take(&mut self.cuts) {
            let to = usize::try_from(cut - self.buffer_at).expect("a cut lies in the buffer");
            let from = self.spans_end();
            self.spans.push(Span::Chunk(from..to));
        }
    }

    /// Where in the buffer the open chunk starts.
    fn spans_end(&self) -> usize {
        let ends = self.spans.iter().rev().find_map(|span| match span {
            Span::Chunk(range) => Some(range.end),
            Span::Zeros(_) => None,
        });
        ends.unwrap_or(0)
    }

    /// Hands on what is cut; the open chunk's bytes go to the next part's buffer.
    fn emit(&mut self, emit: Emit<'_>) -> ControlFlow<()> {
        if self.spans.is_empty() && self.steps.is_empty() {
            return ControlFlow::Continue(());
        }
        self.emit_part(emit)
    }

    fn emit_part(&mut self, emit: Emit<'_>) -> ControlFlow<()> {
        let end = self.spans_end();
        let carry = self.buffer[end..].to_vec();
        let mut next = Vec::with_capacity(carry.len() + PIECES_PER_PART * PIECE_LEN);
        next.extend_from_slice(&carry);
        let buffer = std::mem::replace(&mut self.buffer, next);
        self.buffer_at += end as u64;
        let part = RawPart {
            dir: Arc::clone(&self.dir),
            is_restart: std::mem::take(&mut self.is_restart),
            buffer,
            spans: std::mem::take(&mut self.spans),
            steps: std::mem::take(&mut self.steps),
        };
        emit(Job::Part(part))
    }
}
