//! The label: what makes a directory a volume of one repository. One JSON object per volume, written once.
//!
//! Owns its encoding and every check of it; reading and writing the file is the business of `volume`. The field
//! `digest` is BLAKE3 over the object without that field, compact, keys sorted: the rule holds for all versions, so
//! a flipped byte is told from a newer label. Fields that this release does not know are ignored, and covered by the
//! digest. No field holds a fraction: their text is not canonical.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::model::ids::{RepositoryUuid, VolumeUuid};
use crate::model::limits::{BLOCK_SIZE_MAX, BLOCK_SIZE_MIN, CHUNK_LEN_MAX, LABEL_LEN_MAX, NAME_LEN_MAX};
use crate::model::params::{ChunkerParams, HashAlgo, Reserve};
use crate::model::path;
use crate::model::redundancy::Redundancy;

/// Version of the label, and of the volume's layout, that this release writes.
pub const FORMAT_VERSION: u64 = 1;
/// The one chunker of this release: gear hash of 64 bits, normalized chunking.
pub const CHUNKER_ID: &str = "gear64-nc";
/// Stands in the reserved field `cipher`.
const NONE: &str = "none";
/// Required features that this release can deal with.
const REQUIRED_KNOWN: [&str; 0] = [];
/// Features of either kind at most; more is damage.
const FEATURES_MAX: usize = 64;

/// What a volume says about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// The repository that it belongs to.
    pub repository: RepositoryUuid,
    /// Its own identity.
    pub volume: VolumeUuid,
    /// Its name for people: 1 to 255 bytes, no control characters.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Hash of chunks, blocks and files; chunk ids are that hash, plain.
    pub hash: HashAlgo,
    /// Parameters of the chunker [`CHUNKER_ID`].
    pub chunker: ChunkerParams,
    /// Bytes of a block file at most.
    pub block_size: u64,
    /// Space that it keeps free.
    pub reserve: Reserve,
    /// The repository's policy when the volume was made: the records of later runs have the one that counts.
    pub redundancy: Redundancy,
    /// What a reader must or may know.
    pub features: Features,
}

/// Names of features: a reader that does not know a required one must not go on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Features {
    /// Without them the volume cannot be read.
    pub required: Vec<String>,
    /// May be ignored.
    pub optional: Vec<String>,
}

/// Why bytes are not a label that this release can go by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Not what was written: cut, flipped, or no label at all.
    #[error("the label is damaged ({what})")]
    Damaged {
        /// What does not hold.
        what: &'static str,
    },
    /// Sound, but of a later release.
    #[error("the label has format version {version}, this release knows up to {FORMAT_VERSION}; use a newer RaidTape")]
    Newer {
        /// The version that it has.
        version: u64,
    },
    /// Sound, but with required features of a later release.
    #[error(
        "the volume needs features that this release does not know: {}; use a newer RaidTape",
        names.join(", ")
    )]
    UnknownFeatures {
        /// Their names, fit for a terminal.
        names: Vec<String>,
    },
    /// Sound, but a field holds a choice that this release does not have.
    #[error("the label says {field} = {value:?}, which this release does not know")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// A field is missing or holds what it never may.
    #[error("the label has no valid {field}")]
    BadField {
        /// The field.
        field: &'static str,
    },
}

impl Label {
    /// The label file's bytes: indented JSON that ends with a line feed.
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = self.to_fields();
        fields.insert("digest".to_owned(), Value::String(digest_of(&fields)));
        let mut bytes =
            serde_json::to_vec_pretty(&Value::Object(fields)).expect("a JSON value with text keys always has a text");
        bytes.push(b'\n');
        bytes
    }

    /// The label in these bytes. Never panics, whatever they are; looks at no more than `LABEL_LEN_MAX` of them.
    pub fn decode(bytes: &[u8]) -> Result<Self, LabelError> {
        if bytes.len() > LABEL_LEN_MAX {
            return Err(LabelError::Damaged { what: "too long" });
        }
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(bytes) else {
            return Err(LabelError::Damaged { what: "not a JSON object" });
        };
        let digest = fields.remove("digest");
        if digest.as_ref().and_then(Value::as_str) != Some(&digest_of(&fields)) {
            return Err(LabelError::Damaged { what: "its digest does not match" });
        }
        let version = number(&fields, "format")?;
        if version > FORMAT_VERSION {
            return Err(LabelError::Newer { version });
        }
        let features = features_of(&fields)?;
        Self::from_fields(&fields, features)
    }

    fn to_fields(&self) -> Map<String, Value> {
        let value = json!({
            "format": FORMAT_VERSION,
            "repository": self.repository.to_string(),
            "volume": self.volume.to_string(),
            "name": self.name,
            "created": self.created.to_string(),
            "hash": self.hash.name(),
            "chunk_ids": self.hash.name(),
            "chunker": {
                "id": CHUNKER_ID,
                "min": self.chunker.min,
                "avg": self.chunker.avg,
                "max": self.chunker.max,
                "normalization": self.chunker.normalization,
            },
            "block_size": self.block_size,
            "cipher": NONE,
            "salt": null,
            "redundancy": self.redundancy.to_text(),
            "reserve": self.reserve.to_text(),
            "features": { "required": self.features.required, "optional": self.features.optional },
        });
        match value {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }

    fn from_fields(fields: &Map<String, Value>, features: Features) -> Result<Self, LabelError> {
        let hash_name = text(fields, "hash")?;
        let hash = HashAlgo::from_name(hash_name).ok_or_else(|| unsupported("hash", hash_name))?;
        for (field, known) in [("chunk_ids", hash_name), ("cipher", NONE)] {
            let value = text(fields, field)?;
            if value != known {
                return Err(unsupported(field, value));
            }
        }
        Ok(Self {
            repository: uuid(fields, "repository")?,
            volume: uuid(fields, "volume")?,
            name: name_of(fields)?,
            created: text(fields, "created")?.parse().map_err(|_| LabelError::BadField { field: "created" })?,
            hash,
            chunker: chunker_of(fields)?,
            block_size: block_size_of(fields)?,
            reserve: Reserve::from_text(text(fields, "reserve")?).ok_or(LabelError::BadField { field: "reserve" })?,
            redundancy: redundancy_of(fields)?,
            features,
        })
    }
}

fn digest_of(fields: &Map<String, Value>) -> String {
    let mut canonical = String::new();
    put_object(&mut canonical, fields);
    blake3::hash(canonical.as_bytes()).to_hex().to_string()
}

/// Compact JSON with sorted keys, whatever order the map keeps. The depth is bounded by the parser's own limit.
fn put_canonical(out: &mut String, value: &Value) {
    match value {
        Value::Object(fields) => put_object(out, fields),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                put_canonical(out, item);
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

fn put_object(out: &mut String, fields: &Map<String, Value>) {
    let mut sorted: Vec<_> = fields.iter().collect();
    sorted.sort_unstable_by_key(|(key, _)| key.as_str());
    out.push('{');
    for (at, (key, value)) in sorted.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(&Value::from(key.as_str()).to_string());
        out.push(':');
        put_canonical(out, value);
    }
    out.push('}');
}

fn redundancy_of(fields: &Map<String, Value>) -> Result<Redundancy, LabelError> {
    let word = text(fields, "redundancy")?;
    Redundancy::from_text(word).ok_or_else(|| unsupported("redundancy", word))
}

fn unsupported(field: &'static str, value: &str) -> LabelError {
    LabelError::Unsupported { field, value: path::show(value.as_bytes()) }
}

fn text<'a>(fields: &'a Map<String, Value>, field: &'static str) -> Result<&'a str, LabelError> {
    let value = fields.get(field).and_then(Value::as_str);
    value.ok_or(LabelError::BadField { field })
}

fn number(fields: &Map<String, Value>, field: &'static str) -> Result<u64, LabelError> {
    let value = fields.get(field).and_then(Value::as_u64);
    value.ok_or(LabelError::BadField { field })
}

/// Takes the one spelling that [`Label::encode`] writes, so that equal identities are equal texts.
fn uuid<T>(fields: &Map<String, Value>, field: &'static str) -> Result<T, LabelError>
where
    T: std::str::FromStr + std::fmt::Display,
{
    let spelled = text(fields, field)?;
    let parsed = spelled.parse::<T>().ok();
    parsed.filter(|uuid| uuid.to_string() == spelled).ok_or(LabelError::BadField { field })
}

fn name_of(fields: &Map<String, Value>) -> Result<String, LabelError> {
    let name = text(fields, "name")?;
    if name.is_empty() || name.len() > NAME_LEN_MAX || name.chars().any(char::is_control) {
        return Err(LabelError::BadField { field: "name" });
    }
    Ok(name.to_owned())
}

fn block_size_of(fields: &Map<String, Value>) -> Result<u64, LabelError> {
    let field = "block_size";
    let size = number(fields, field)?;
    (BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&size).then_some(size).ok_or(LabelError::BadField { field })
}

fn chunker_of(fields: &Map<String, Value>) -> Result<ChunkerParams, LabelError> {
    let bad = LabelError::BadField { field: "chunker" };
    let Some(Value::Object(chunker)) = fields.get("chunker") else {
        return Err(bad);
    };
    let id = text(chunker, "id").map_err(|_| bad.clone())?;
    if id != CHUNKER_ID {
        return Err(unsupported("chunker", id));
    }
    let small = |field| {
        let value = chunker.get(field).and_then(Value::as_u64);
        value.and_then(|value| u32::try_from(value).ok()).ok_or_else(|| bad.clone())
    };
    let params = ChunkerParams {
        min: small("min")?,
        avg: small("avg")?,
        max: small("max")?,
        normalization: small("normalization")?,
    };
    // As strict as the chunker is, so that no label can be read that no run could use.
    let ordered = 64 <= params.min && params.min < params.avg && params.avg < params.max;
    let fits = usize::try_from(params.max).is_ok_and(|max| max <= CHUNK_LEN_MAX);
    let maskable =
        params.avg.is_power_of_two() && params.normalization.saturating_add(4) <= params.avg.trailing_zeros();
    (ordered && fits && maskable).then_some(params).ok_or(bad)
}

fn features_of(fields: &Map<String, Value>) -> Result<Features, LabelError> {
    let bad = LabelError::BadField { field: "features" };
    let Some(Value::Object(kinds)) = fields.get("features") else {
        return Err(bad);
    };
    let names = |kind| {
        let listed = kinds.get(kind).and_then(Value::as_array)?;
        let names = listed.iter().map(|name| name.as_str().map(str::to_owned));
        (listed.len() <= FEATURES_MAX).then(|| names.collect::<Option<Vec<_>>>())?
    };
    let (Some(required), Some(optional)) = (names("required"), names("optional")) else {
        return Err(bad);
    };
    let unknown = required.iter().filter(|name| !REQUIRED_KNOWN.contains(&name.as_str()));
    let names: Vec<_> = unknown.map(|name| path::show(name.as_bytes())).collect();
    if !names.is_empty() {
        return Err(LabelError::UnknownFeatures { names });
    }
    Ok(Features { required, optional })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label() -> Label {
        Label {
            repository: RepositoryUuid([1; 16]),
            volume: VolumeUuid([2; 16]),
            name: "vol-ä".to_owned(),
            created: Timestamp::UNIX_EPOCH,
            hash: HashAlgo::Blake3,
            chunker: ChunkerParams { min: 128 << 10, avg: 512 << 10, max: 4 << 20, normalization: 2 },
            block_size: BLOCK_SIZE_MAX,
            reserve: Reserve::Percent(2.5),
            redundancy: Redundancy::Copies(3),
            features: Features::default(),
        }
    }

    /// The label with one field replaced and a digest that matches.
    fn with(field: &str, value: Value) -> Vec<u8> {
        let mut fields = label().to_fields();
        fields.insert(field.to_owned(), value);
        fields.insert("digest".to_owned(), Value::String(digest_of(&fields)));
        serde_json::to_vec(&fields).unwrap()
    }

    #[test]
    fn a_label_goes_there_and_back() {
        for reserve in [Reserve::Percent(10.0), Reserve::Bytes(20 << 30)] {
            let mut label = label();
            label.reserve = reserve;
            label.features.optional.push("shiny".to_owned());
            assert_eq!(Label::decode(&label.encode()), Ok(label));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed_or_changes_nothing() {
        let bytes = label().encode();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                match Label::decode(&flipped) {
                    Ok(read) => assert_eq!(read, label(), "byte {at} bit {bit}"),
                    Err(error) => assert!(matches!(error, LabelError::Damaged { .. }), "byte {at} bit {bit}: {error}"),
                }
            }
        }
    }

    #[test]
    fn a_cut_label_is_damaged_at_every_length() {
        let bytes = label().encode();
        for len in 0..bytes.len() - 1 {
            let cut = Label::decode(&bytes[..len]);
            assert!(matches!(cut, Err(LabelError::Damaged { .. })), "{len}");
        }
    }

    #[test]
    fn a_newer_version_and_unknown_features_are_refused_by_name() {
        assert_eq!(Label::decode(&with("format", json!(2))), Err(LabelError::Newer { version: 2 }));
        let bytes = with("features", json!({"required": ["parity", "x\u{1b}"], "optional": []}));
        let error = Label::decode(&bytes).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the volume needs features that this release does not know: parity, x\\u{1b}; use a newer RaidTape"
        );
    }

    #[test]
    fn unknown_fields_are_ignored() {
        assert_eq!(Label::decode(&with("colour", json!(["blue", {"b": 1, "a": 2}]))), Ok(label()));
    }

    #[test]
    fn a_field_that_never_may_be_so_is_named() {
        let chunker = |min: u64, avg: u64, max: u64, normalization: u64| json!({"id": CHUNKER_ID, "min": min, "avg": avg, "max": max, "normalization": normalization});
        for (field, value) in [
            ("repository", json!("01010101")),
            ("volume", json!("02020202020202020202020202020202")),
            ("name", json!("")),
            ("name", json!("a\u{7}")),
            ("name", json!("x".repeat(256))),
            ("created", json!("yesterday")),
            ("block_size", json!(1)),
            ("block_size", json!(u64::MAX)),
            ("reserve", json!("100")),
            ("format", json!(-1)),
            ("features", json!({"required": [1], "optional": []})),
            ("chunker", chunker(0, 512, 1024, 2)),
            ("chunker", chunker(256, 500, 1024, 2)),
            ("chunker", chunker(256, 512, 1 << 40, 2)),
            ("chunker", chunker(256, 512, 8 << 20, 2)),
            ("chunker", chunker(1024, 512, 2048, 2)),
            ("chunker", chunker(256, 512, 1024, 9)),
            ("chunker", chunker(256, 512, 1024, u32::MAX.into())),
        ] {
            let read = Label::decode(&with(field, value.clone()));
            assert_eq!(read, Err(LabelError::BadField { field }), "{value}");
        }
    }

    #[test]
    fn a_choice_of_a_later_release_is_refused_by_its_name() {
        for (field, value) in [
            ("hash", json!("blake4")),
            ("chunk_ids", json!("blake3-keyed")),
            ("cipher", json!("aes")),
            ("redundancy", json!("rs:4+2")),
            ("chunker", json!({"id": "rabin", "min": 1, "avg": 1, "max": 1, "normalization": 0})),
        ] {
            let read = Label::decode(&with(field, value));
            assert!(matches!(&read, Err(LabelError::Unsupported { field: named, .. }) if *named == field), "{read:?}");
        }
    }

    #[test]
    fn any_bytes_at_all_are_an_error_and_no_panic() {
        for bytes in
            [&b""[..], b"{}", b"null", b"[1]", b"\xff\xff", &b"[".repeat(60 << 10), &vec![b' '; LABEL_LEN_MAX + 1]]
        {
            assert!(matches!(Label::decode(bytes), Err(LabelError::Damaged { .. })));
        }
    }
}
