//! One function per parser: whatever the bytes, it returns, and what it takes for valid holds what the parser promises.
//! Shared by the bounded loop of `cargo test` and by the targets of `cargo fuzz`, which cannot see each other.

pub mod frames;
pub mod manifests;
pub mod parities;
pub mod rebuild;
pub mod tables;

/// A target: a name, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All that are fast; `rebuild` is apart.
pub const ALL: [Target; 10] = [
    ("label", frames::label),
    ("frame", frames::frame),
    ("keys", frames::keys),
    ("segment", frames::segment),
    ("table", tables::table),
    ("block", tables::block),
    ("records", manifests::records),
    ("rows", manifests::rows),
    ("manifest", manifests::manifest),
    ("parity", parities::table),
];

/// Takes a little-endian number off the front; missing bytes are zero.
pub fn take<const N: usize>(data: &mut &[u8]) -> [u8; N] {
    let (front, rest) = data.split_at(data.len().min(N));
    *data = rest;
    let mut bytes = [0; N];
    bytes[..front.len()].copy_from_slice(front);
    bytes
}

/// Bytes in memory as an object of a store.
pub struct Memory<'b>(pub &'b [u8]);

impl raidtape::volume::store::Object for Memory<'_> {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), raidtape::volume::store::StoreError> {
        // The length is told by who asks for it before: a decoder must not ask for more than there may be.
        assert!(buf.len() <= 17 << 20, "{} bytes at once", buf.len());
        let from = usize::try_from(offset).ok();
        match from.and_then(|from| self.0.get(from..)).and_then(|rest| rest.get(..buf.len())) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(raidtape::volume::store::StoreError::NotFound { key: "memory".to_owned() }),
        }
    }

    fn forget(&self, _offset: u64, _len: u64) {}

    fn will_read(&self, _offset: u64, _len: u64) {}
}

/// Sets the checksums of a container right wherever its frame can be followed, so that what lies behind them is met.
pub fn mend(bytes: &mut [u8]) {
    const HEADER: usize = 96;
    const TRAILER: usize = 64;
    if bytes.len() < HEADER + TRAILER {
        return;
    }
    let crc = crc32fast::hash(&bytes[..92]).to_le_bytes();
    bytes[92..96].copy_from_slice(&crc);
    let end = bytes.len() - TRAILER;
    let mut at = HEADER;
    while at + 32 <= end {
        let stored = u32::from_le_bytes([bytes[at + 12], bytes[at + 13], bytes[at + 14], bytes[at + 15]]) as usize;
        let Some(stop) = at.checked_add(32 + stored).filter(|stop| *stop <= end) else { break };
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[at..at + 28]);
        crc.update(&bytes[at + 32..stop]);
        let crc = crc.finalize().to_le_bytes();
        bytes[at + 28..at + 32].copy_from_slice(&crc);
        at = stop;
    }
    let crc = crc32fast::hash(&bytes[end..end + 52]).to_le_bytes();
    bytes[end + 52..end + 56].copy_from_slice(&crc);
}
