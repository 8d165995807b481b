//! What a person gives a run along: a label, and tags to find it by.

use serde::{Deserialize, Serialize};

/// Bytes of a label or a tag at most.
pub const MARK_LEN_MAX: usize = 1024;
/// Tags of one run at most.
pub const TAGS_MAX: usize = 64;

/// A run's label and tags.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunMarks {
    /// A few words for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Each once, without commas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

impl RunMarks {
    /// The tags of several lists like `a,b`, each once in the order in which they came first.
    ///
    /// # Errors
    /// What is wrong with a tag or the label.
    pub fn new<'l>(label: Option<&str>, lists: impl Iterator<Item = &'l str>) -> Result<Self, String> {
        let mut tags: Vec<String> = Vec::new();
        for tag in lists.flat_map(|list| list.split(',')).map(str::trim) {
            checked("tag", tag)?;
            if !tags.iter().any(|known| known == tag) {
                tags.push(tag.to_owned());
            }
        }
        if tags.len() > TAGS_MAX {
            return Err(format!("a run has {TAGS_MAX} tags at most, not {}", tags.len()));
        }
        let label = label.map(str::trim);
        label.map_or(Ok(()), |label| checked("label", label))?;
        Ok(Self { label: label.map(str::to_owned), tags })
    }
}

fn checked(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("a {what} has one letter at least"));
    }
    if text.len() > MARK_LEN_MAX {
        return Err(format!("a {what} has {MARK_LEN_MAX} bytes at most"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("a {what} is one line without control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_tags_are_put_together_and_what_is_no_tag_is_refused() {
        let marks = RunMarks::new(Some(" before the move "), ["a, b", "b,c"].into_iter()).unwrap();
        assert_eq!((marks.label.as_deref(), marks.tags.join("|")), (Some("before the move"), "a|b|c".to_owned()));
        for bad in ["", "a,,b", "a\nb", &"x".repeat(MARK_LEN_MAX + 1)] {
            assert!(RunMarks::new(None, [bad].into_iter()).is_err(), "{bad}");
        }
        assert!(RunMarks::new(Some(""), std::iter::empty()).is_err());
    }
}
