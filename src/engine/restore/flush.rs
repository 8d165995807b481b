//! Writing back to the target's disk while files are still being restored, so that the sync at the end has little left to
//! wait for. Nothing counts as restored because of it: that is what the last sync says.

use super::file::Ground;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use std::thread::Scope;
use std::time::Duration;

/// How often it is looked whether there is enough to write back.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Bytes restored since the last time that are worth a sync of the whole file system.
const BYTES_MIN: u64 = 64 << 20;
/// Files restored since then that are.
const FILES_MIN: u64 = 4096;

/// A thread that writes back until this is dropped.
pub(super) struct Flusher {
    _until: Sender<()>,
}

impl Flusher {
    /// Starts it. Without a thread to be had everything is written back at the end.
    pub fn spawn<'scope, 'env>(scope: &'scope Scope<'scope, 'env>, ground: &'env Ground<'env>) -> Self {
        let (until, ends) = bounded::<()>(0);
        let flush = move || {
            let mut before = (0, 0);
            while ends.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                let now = {
                    let counts = ground.tally.counts();
                    (counts.bytes, counts.files)
                };
                if now.0 - before.0 < BYTES_MIN && now.1 - before.1 < FILES_MIN {
                    continue;
                }
                before = now;
                // The sync at the end would not tell of it again, and it would end the restore as well.
                if let Err(error) = ground.target.sync() {
                    ground.tally.stop(error.into());
                    return;
                }
            }
        };
        let _ = std::thread::Builder::new().name("flush".to_owned()).spawn_scoped(scope, flush);
        Self { _until: until }
    }
}
