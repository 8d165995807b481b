//! Bounds that hold everywhere, each with its reason. What a reader meets beyond them is damage, not data.

/// Raw bytes of one segment at most: 4 MiB decode in about 4 ms, the price of restoring one small file.
pub const SEGMENT_RAW_MAX: usize = 4 << 20;

/// Bytes of one chunk at most, whatever the chunker's parameters say; a chunk fits into one segment.
pub const CHUNK_LEN_MAX: usize = SEGMENT_RAW_MAX;

/// Size of a block file unless `--block-size` says otherwise, and the most that it may say.
pub const BLOCK_SIZE_MAX: u64 = 128 << 20;

/// Bytes of a block file that a reader believes at most, whatever limit wrote it; sums of so many blocks as there can be
/// stay far below 2^63.
pub const BLOCK_FILE_LEN_MAX: u64 = 1 << 40;

/// A block must hold at least one segment that did not shrink, its table and its frame.
pub const BLOCK_SIZE_MIN: u64 = 8 << 20;

/// Bytes of one file name at most (`NAME_MAX` of every Linux file system).
pub const NAME_LEN_MAX: usize = 255;

/// Bytes of a path inside a source at most: 4,096 levels of 255 bytes, far beyond what a kernel call takes at once.
pub const PATH_LEN_MAX: usize = 4096 * 256;

/// Bytes of a symlink's target at most (`PATH_MAX`).
pub const LINK_TARGET_LEN_MAX: usize = 4096;

/// Bytes of one file's extended attributes and flags at most: 16 values of the longest kind that Linux takes. What is
/// beyond is a problem of that file, and not stored.
pub const ATTRS_LEN_MAX: usize = 1 << 20;

/// Holes of one file that are remembered at most, each in its place; a file with more has them where whole chunks of it
/// are zeros. 200 KiB for each version of such a file.
pub const HOLES_MAX: usize = 1 << 15;

/// Chunks of one extent at most, so that the extents that hold a given chunk are found by an index range.
pub const EXTENT_CHUNKS_MAX: u32 = 256;

/// Bytes of one manifest section at most, raw; sections are cut well below it.
pub const SECTION_RAW_MAX: usize = 16 << 20;

/// Pieces of one file at most that a record may make of its few bytes: 32 TiB in chunks of the usual length.
pub const PIECES_MAX: usize = 1 << 26;

/// Bytes of one file at most: what a kernel can tell.
pub const FILE_LEN_MAX: u64 = i64::MAX.cast_unsigned();

/// The highest run number, chunk number and hard-link group that is taken over from a record: those that come after
/// it still have room.
pub const NUMBER_MAX: i64 = 1 << 53;

/// The highest number of a row after which another may come: numbers above [`NUMBER_MAX`] are given to what comes after those
/// of a record, and nobody comes near this.
pub const ROW_MAX: i64 = 1 << 62;

/// Bytes of a label at most.
pub const LABEL_LEN_MAX: usize = 64 << 10;

/// Positions of a parity group at most, filled or not: more than this many disks need another plan.
pub const PARITY_POSITIONS_MAX: usize = 32;

/// Parities of a group at most: disks that may be lost at once.
pub const PARITY_COUNT_MAX: usize = 8;

/// Bytes of one column of a parity group: what is lost, and what is held in memory of each member, goes by columns. It
/// fits into one segment.
pub const PARITY_COLUMN_LEN: usize = 1 << 20;
