//! Paths of the source in results: as words, and as JSON that keeps every byte.

use raidtape::format::sidecar::base64;
use raidtape::model::path;
use serde::Serialize;

/// A path for JSON: readable, and exact in base64 where it is not UTF-8.
#[derive(Debug, Serialize)]
pub struct JsonPath {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
}

impl From<&[u8]> for JsonPath {
    fn from(bytes: &[u8]) -> Self {
        let path_b64 = std::str::from_utf8(bytes).is_err().then(|| base64(bytes));
        Self { path: String::from_utf8_lossy(bytes).into_owned(), path_b64 }
    }
}

/// A path for people; the root is a dot.
pub fn words(bytes: &[u8]) -> String {
    if bytes.is_empty() { ".".to_owned() } else { path::show(bytes) }
}
