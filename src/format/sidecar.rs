//! The JSON sidecar of a block: which files it holds, enough to rebuild each with `jq`, `dd` and `zstd`.
//! Written as a stream, one mapping at a time.

use serde::Serialize;

/// One chunk of one file version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mapping {
    /// Path inside the source; bytes that are not UTF-8 are replaced.
    pub file_path: String,
    /// The exact path in base64, only when it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_path_b64: Option<String>,
    /// Ordinal of the chunk in its file, zeros not counted.
    pub seq: u64,
    /// Bytes of the file.
    pub file_size: u64,
    /// Where the chunk lies in the file.
    pub file_offset: u64,
    /// Bytes of the chunk.
    pub length: u64,
    /// Hash of the chunk.
    pub chunk_hash: String,
    /// Hash of the file.
    pub file_hash: String,
    /// The file's modification time.
    pub mtime_ns: i64,
    /// `host:name` of the source.
    pub source: String,
    /// First run that saw this version.
    pub first_run: i64,
    /// Last run that saw it; null while it lives.
    pub last_run: Option<i64>,
    /// Where the segment's stored bytes start in the block, behind the segment's header.
    pub segment_offset: u64,
    /// Stored bytes of the segment.
    pub segment_length: u64,
    /// `raw` or `zstd`.
    pub codec: &'static str,
    /// Where the chunk starts in the decoded segment.
    pub offset_in_segment: u64,
}

/// The text before the first mapping.
pub fn head(block_id: &str, size: u64) -> String {
    format!("{{\"chunk_id\":\"{block_id}\",\"block_id\":\"{block_id}\",\"size\":{size},\"mappings\":[")
}

/// Appends one mapping, on a line of its own.
pub fn put_mapping(out: &mut Vec<u8>, is_first: bool, mapping: &Mapping) {
    out.extend_from_slice(if is_first { b"\n" } else { b",\n" });
    let text = serde_json::to_vec(mapping).expect("strings and integers have a JSON form");
    out.extend_from_slice(&text);
}

/// The text after the last mapping.
pub const TAIL: &str = "\n]}\n";

/// Base64 with padding (RFC 4648).
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4_usize {
            if digit <= group.len() {
                text.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_the_standard_has_it() {
        for (plain, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), text);
        }
    }
}
