//! What a verb tells while it works, and how it hears that it should stop.

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reading and storing a source.
    Backup,
    /// Putting the record of the run on the volumes.
    Finish,
    /// Writing files.
    Restore,
    /// Reading blocks.
    Validate,
    /// Reading manifests.
    Rebuild,
    /// Writing sidecars.
    Genmeta,
    /// Copying blocks to further volumes.
    Protect,
    /// Going through the catalog's directories.
    Search,
    /// Gathering what a page shows.
    Report,
}

/// How much there is to do, as far as known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expected {
    /// Files, blocks, manifests, or whatever the phase goes through.
    pub items: Option<u64>,
    /// Bytes.
    pub bytes: Option<u64>,
}

/// Watches a verb. Calls come from several threads and must return at once.
pub trait Observer: Sync {
    /// A phase begins.
    fn begin(&self, _phase: Phase, _expected: Expected) {}
    /// So many more items and bytes are done.
    fn advance(&self, _items: u64, _bytes: u64) {}
    /// Something that the user should know and that does not end the verb.
    fn warn(&self, _text: &str) {}
    /// Whether the user asked to stop.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}
