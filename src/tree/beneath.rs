//! Opening below a directory without ever leaving it: one `openat2` per piece of a path that the kernel takes whole.
//!
//! Follows no symlink in any component, so a path means what it spells. Also holds how many descriptors this room may
//! keep. Used by the walker to reopen directories and by the target for every parent.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The longest piece that one call takes: `PATH_MAX` without the closing zero byte.
const PIECE_LEN_MAX: usize = 4095;

/// Descriptors that one walker or target keeps, at most, whatever the limit: enough for any real nesting.
const KEPT_FDS_MAX: u64 = 512;

/// A kernel may ask to try again while names move; more often than this it is an attack.
const AGAIN_MAX: usize = 64;

/// Opens `path` (the empty path is `root` itself) below `root`, following nothing; the last component too is not
/// followed. Errors are the kernel's: ELOOP for a symlink, ENOTDIR, ENOENT, EXDEV for a path that would leave.
pub(super) fn open_beneath(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    open_resolved(root, path, (flags, ResolveFlags::empty()))
}

/// The same, on the mount of `root` alone: EXDEV where something is mounted on the way or at the end, a bind of the same
/// file system too.
pub(super) fn open_on_mount(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    open_resolved(root, path, (flags, ResolveFlags::NO_XDEV))
}

fn open_resolved(root: BorrowedFd<'_>, path: &[u8], (flags, more): (OFlags, ResolveFlags)) -> io::Result<OwnedFd> {
    let mut rest = path;
    let mut stepped: Option<OwnedFd> = None;
    loop {
        let base = stepped.as_ref().map_or(root, AsFd::as_fd);
        let (piece, after) = next_piece(rest)?;
        if after.is_empty() {
            return open_piece(base, piece, (flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, more));
        }
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        stepped = Some(open_piece(base, piece, (step, more))?);
        rest = after;
    }
}

/// The most components that fit into one call, and what is left.
fn next_piece(path: &[u8]) -> io::Result<(&[u8], &[u8])> {
    if path.is_empty() {
        return Ok((b".", b""));
    }
    if path.len() <= PIECE_LEN_MAX {
        return Ok((path, b""));
    }
    let cut = path[..=PIECE_LEN_MAX]
        .iter()
        .rposition(|byte| *byte == b'/')
        .ok_or_else(|| io::Error::from(Errno::NAMETOOLONG))?;
    Ok((&path[..cut], &path[cut + 1..]))
}

fn open_piece(base: BorrowedFd<'_>, piece: &[u8], (flags, more): (OFlags, ResolveFlags)) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | more;
    for _ in 0..AGAIN_MAX {
        match rustix::fs::openat2(base, piece, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return Ok(answer?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// How many descriptors a walker or a target may keep: a quarter of the process's limit, bounded.
pub(super) fn kept_fds_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let quarter = limit.current.map_or(KEPT_FDS_MAX, |soft| soft / 4);
    usize::try_from(quarter.clamp(4, KEPT_FDS_MAX)).expect("at most 512")
}

/// Counts kept descriptors up to a bound.
#[derive(Debug)]
pub(super) struct FdBudget {
    held: AtomicUsize,
    max: usize,
}

impl FdBudget {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), max })
    }

    /// Leave to keep one more descriptor, until the permit is dropped.
    pub(super) fn try_hold(self: &Arc<Self>) -> Option<FdPermit> {
        self.held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| (held < self.max).then_some(held + 1))
            .ok()
            .map(|_| FdPermit(Arc::clone(self)))
    }
}

/// One kept descriptor's place in its [`FdBudget`].
#[derive(Debug)]
pub(super) struct FdPermit(Arc<FdBudget>);

impl Drop for FdPermit {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn pieces_are_cut_between_names_and_join_to_the_path() {
        let path = vec![&b"abcdefgh"[..]; 2000].join(&b'/');
        let (mut rest, mut pieces) = (&path[..], Vec::new());
        while !rest.is_empty() {
            let (piece, after) = next_piece(rest).unwrap();
            assert!(piece.len() <= PIECE_LEN_MAX);
            pieces.push(piece);
            rest = after;
        }
        assert_eq!(pieces.join(&b'/'), path);
        assert!(next_piece(&[b'x'; 5000]).is_err());
    }

    #[test]
    fn symlinks_and_dots_do_not_lead_out() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("l")).unwrap();
        let root = File::open(dir.path()).unwrap();
        let open = |path: &[u8]| open_beneath(root.as_fd(), path, OFlags::RDONLY);
        assert!(open(b"d").is_ok() && open(b"").is_ok());
        for bad in [&b"l"[..], b"l/x", b"..", b"d/../..", b"/etc"] {
            assert!(open(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_budget_gives_back_what_is_dropped() {
        let budget = FdBudget::new(1);
        let first = budget.try_hold();
        assert!(first.is_some() && budget.try_hold().is_none());
        drop(first);
        assert!(budget.try_hold().is_some());
    }
}
