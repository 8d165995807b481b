//! What an earlier attempt at the same restore left under a file's own name. Its size and time are no proof that its
//! bytes are there: they may have been lost when power was cut before the sync at the end.

use crate::codec::hash::{FileHasher, PIECE_LEN, piece_hash};
use crate::engine::observer::Observer;
use crate::model::ids::FileHash;
use crate::model::params::HashAlgo;
use crate::tree::error::TreeError;
use crate::tree::target::Target;
use std::io::{self, Read};

/// Whether the regular file `path` is there with these bytes. One that cannot be read is not; nor is one whose reading
/// was cancelled.
pub(super) fn has_content(
    target: &Target,
    path: &[u8],
    (algo, hash): (HashAlgo, FileHash),
    observer: &dyn Observer,
) -> Result<bool, TreeError> {
    let mut file = match target.open_read(path) {
        Ok(Some(file)) => file,
        // Its mode may be such that its owner cannot read it.
        Ok(None) | Err(TreeError::Write { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut hasher = FileHasher::new(algo);
    let mut piece = vec![0; PIECE_LEN];
    for index in 0.. {
        let len = match fill(&mut file, &mut piece) {
            Ok(len) if !observer.is_cancelled() => len,
            _ => return Ok(false),
        };
        if len > 0 {
            hasher.push(piece_hash(algo, index, &piece[..len]), &piece[..len]);
        }
        if len < PIECE_LEN {
            break;
        }
    }
    Ok(hasher.finish() == hash.0)
}

/// Fills the buffer, or as much of it as there is.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}
