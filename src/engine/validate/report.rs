//! What a check found, and the exit code that it means.

use crate::engine::error::Exit;
use crate::model::ids::BlockId;

use super::Level;

/// Files that one damaged block names at most; the rest is counted.
pub(super) const FILES_NAMED_MAX: usize = 1000;

/// What `validate` found.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ValidateReport {
    /// How deep it looked.
    pub level: Level,
    /// Copies of blocks that were looked at.
    pub blocks_checked: u64,
    /// Blocks that were left out, by age or sample.
    pub blocks_skipped: u64,
    /// Copies that the time given did not suffice for; they come first the next time.
    pub blocks_left: u64,
    /// Their bytes.
    pub bytes_left: u64,
    /// Blocks that nothing needs any more; they are not looked at.
    pub blocks_condemned: u64,
    /// Blocks of which no copy is here.
    pub blocks_away: u64,
    /// Files under `chunks/` that the catalog does not know.
    pub blocks_unknown: u64,
    /// Bytes of blocks that were read.
    pub bytes_read: u64,
    /// Chunks that were decoded and hashed.
    pub chunks_checked: u64,
    /// Damaged copies of blocks.
    pub damaged: Vec<DamagedBlock>,
    /// Blocks that lie on fewer volumes than the policy wants.
    pub blocks_under_protected: u64,
    /// Rows of the catalog that are not backed by what they name.
    pub row_problems: Vec<String>,
    /// Manifest files that were read.
    pub manifests_checked: u64,
    /// Manifests that are missing or damaged.
    pub manifest_problems: Vec<String>,
    /// Labels that are damaged or say what the catalog does not.
    pub label_problems: Vec<String>,
    /// Volumes whose blocks cannot be listed.
    pub listing_problems: Vec<String>,
    /// Volumes whose index was missing or wrong: a cache, so no damage.
    pub index_problems: Vec<String>,
    /// What a user may want to know and that is no damage.
    pub notes: Vec<String>,
    /// Volumes that are not here, as `name (uuid)`.
    pub volumes_away: Vec<String>,
    /// Seconds.
    pub duration_s: f64,
}

/// A damaged copy of a block.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DamagedBlock {
    /// The block.
    pub block: BlockId,
    /// The volume that this copy is on, as `name (uuid)`.
    pub volume: String,
    /// What is wrong.
    pub what: String,
    /// Chunks of this copy that cannot be read from it.
    pub damaged_chunks: u64,
    /// The first thousand file versions that need a chunk which is sound nowhere else.
    pub files: Vec<AffectedFile>,
    /// All of them.
    pub files_total: u64,
    /// From what it was written anew: the volume with the sound copy, as `name (uuid)`, parity, or pieces of its copies.
    pub healed_from: Option<String>,
}

/// A file version that cannot be restored whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct AffectedFile {
    /// `host:name` of its source.
    pub source: String,
    /// Its path inside the source, as it may be shown.
    pub path: String,
    /// The same exactly, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_b64: Option<String>,
    /// First run that has it.
    pub first_run: i64,
    /// Last run that has it; none while it lives.
    pub last_run: Option<i64>,
}

impl ValidateReport {
    pub(super) fn new(level: Level) -> Self {
        Self {
            level,
            blocks_checked: 0,
            blocks_skipped: 0,
            blocks_left: 0,
            bytes_left: 0,
            blocks_condemned: 0,
            blocks_away: 0,
            blocks_unknown: 0,
            bytes_read: 0,
            chunks_checked: 0,
            damaged: Vec::new(),
            blocks_under_protected: 0,
            row_problems: Vec::new(),
            manifests_checked: 0,
            manifest_problems: Vec::new(),
            label_problems: Vec::new(),
            listing_problems: Vec::new(),
            index_problems: Vec::new(),
            notes: Vec::new(),
            volumes_away: Vec::new(),
            duration_s: 0.0,
        }
    }

    /// Damaged copies that are as they were found.
    pub fn unhealed(&self) -> impl Iterator<Item = &DamagedBlock> {
        self.damaged.iter().filter(|block| block.healed_from.is_none())
    }

    /// Whether every copy was looked at, and found sound.
    pub(super) fn is_whole(&self) -> bool {
        let left_out = self.blocks_skipped + self.blocks_left + self.blocks_away;
        self.damaged.is_empty() && self.exit() == Exit::Done && left_out == 0
    }

    /// Whether anything that was looked at is damaged, and not healed.
    pub fn has_damage(&self) -> bool {
        let sentences = [&self.row_problems, &self.manifest_problems, &self.label_problems, &self.listing_problems];
        self.unhealed().next().is_some() || sentences.into_iter().any(|found| !found.is_empty())
    }

    /// `Damage` when something is damaged, `NoVolume` when something could not be looked at: all is good only when
    /// all was here and sound, but for what the options or the time left out.
    pub fn exit(&self) -> Exit {
        if self.has_damage() {
            Exit::Damage
        } else if !self.volumes_away.is_empty() || self.blocks_away > 0 {
            Exit::NoVolume
        } else {
            Exit::Done
        }
    }
}
