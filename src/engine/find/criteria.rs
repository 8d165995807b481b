//! What a version must be to be found.

use super::FindOptions;
use crate::catalog::row::StoredVersion;
use crate::catalog::scan::{NameTest, RowTests};
use crate::engine::error::{EngineError, Result};
use crate::engine::local_time::range_ns;
use crate::model::entry::EntryKind;
use crate::model::path::{show, split};
use crate::tree::pattern::PatternList;

/// A test of a regular file's size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeTest {
    /// Larger.
    Above(u64),
    /// Smaller.
    Below(u64),
    /// Neither.
    Exactly(u64),
}

/// The tests of a search, ready for many versions.
pub(super) struct Criteria {
    pattern: Option<PatternList>,
    /// Its words, and whether letters of either case are the same.
    text: Option<(Vec<u8>, bool)>,
    has_slash: bool,
    size: Option<SizeTest>,
    from_ns: Option<i64>,
    before_ns: Option<i64>,
    kind: Option<EntryKind>,
    name_part: Option<Vec<u8>>,
}

impl Criteria {
    pub fn new(options: &FindOptions) -> Result<Self> {
        let pattern = options.pattern.as_deref().map(|text| pattern(text, options.ignore_case)).transpose()?;
        let words = options.pattern.clone().map(|text| (text, options.ignore_case));
        let text = options.pattern.as_deref().unwrap_or_default();
        Ok(Self {
            pattern,
            text: words,
            has_slash: text.strip_suffix(b"/").unwrap_or(text).contains(&b'/'),
            size: options.size,
            from_ns: options.newer.map(|moment| range_ns(&moment).0),
            before_ns: options.older.map(|moment| range_ns(&moment).0),
            kind: options.kind,
            name_part: (!options.ignore_case).then(|| name_part(text)).flatten(),
        })
    }

    /// What of it a row tells by itself.
    pub fn row_tests(&self) -> RowTests {
        RowTests {
            name_part: self.name_part.clone(),
            kind: self.kind.or(self.size.map(|_| EntryKind::File)),
            size: self.size.map(SizeTest::range),
            from_ns: self.from_ns,
            before_ns: self.before_ns,
        }
    }

    /// The same as [`Self::may_be_named`], to be asked before anything else is looked at; none where a piece of the name does
    /// better, or the name alone does not tell.
    pub fn name_test(&self) -> Option<NameTest> {
        let (text, any_case) = self.text.as_ref()?;
        if self.has_slash || self.name_part.is_some() {
            return None;
        }
        let list = pattern(text, *any_case).ok()?;
        Some(Box::new(move |name| list.leave_out(name, true) == Some(true)))
    }

    /// Whether the name alone does not tell.
    pub fn needs_path(&self) -> bool {
        self.has_slash
    }

    /// Whether a name fits, as far as it tells.
    pub fn may_be_named(&self, name: &[u8]) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.leave_out(name, true) == Some(true))
    }

    /// Whether a path fits, if it is a directory's.
    pub fn fits_path(&self, path: &[u8]) -> bool {
        self.may_be_named(path)
    }

    /// All tests.
    pub fn pass(&self, path: &[u8], version: &StoredVersion) -> bool {
        let is_dir = version.kind == EntryKind::Dir;
        let text = if self.has_slash { path } else { split(path).1 };
        self.kind.is_none_or(|kind| kind == version.kind)
            && self.size.is_none_or(|size| version.kind == EntryKind::File && size.takes(version.size))
            && self.from_ns.is_none_or(|from| version.mtime_ns >= from)
            && self.before_ns.is_none_or(|before| version.mtime_ns < before)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.leave_out(text, is_dir) == Some(true))
    }
}

impl SizeTest {
    fn takes(self, size: u64) -> bool {
        match self {
            Self::Above(than) => size > than,
            Self::Below(than) => size < than,
            Self::Exactly(wanted) => size == wanted,
        }
    }

    /// The least and the largest size that may pass.
    fn range(self) -> (u64, u64) {
        match self {
            Self::Above(than) => (than, u64::MAX),
            Self::Below(than) => (0, than),
            Self::Exactly(wanted) => (wanted, wanted),
        }
    }
}

/// The longest piece of a pattern's last name that stands for itself: a name that fits has it.
fn name_part(pattern: &[u8]) -> Option<Vec<u8>> {
    let name = pattern.strip_suffix(b"/").unwrap_or(pattern).rsplit(|byte| *byte == b'/').next()?;
    // What is in brackets, and behind them, may stand for anything.
    let plain = name.split(|byte| *byte == b'[').next()?;
    let mut parts: Vec<Vec<u8>> = vec![Vec::new()];
    let mut bytes = plain.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'*' | b'?' => parts.push(Vec::new()),
            b'\\' => {
                bytes.next();
                parts.push(Vec::new());
            }
            byte => parts.last_mut()?.push(*byte),
        }
    }
    parts.into_iter().max_by_key(Vec::len).filter(|part| !part.is_empty())
}

/// A pattern as for `--exclude`, but that nothing in front of it has a meaning and blanks behind it count.
fn pattern(text: &[u8], any_case: bool) -> Result<PatternList> {
    let mut line = text.to_vec();
    if matches!(line.first(), Some(b'!' | b'#')) {
        line.insert(0, b'\\');
    }
    let list = PatternList::new(std::iter::once(line.as_slice()), any_case)
        .map_err(|(_, why)| EngineError::Usage(format!("the pattern {}: {why}", show(text))))?;
    if list.is_empty() {
        return Err(EngineError::Usage("the pattern fits nothing; give a name, like '*.txt'".to_owned()));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_piece_that_a_name_must_have_is_never_more_than_the_pattern_says() {
        let is = |pattern: &str, part: &str| {
            let found = name_part(pattern.as_bytes()).unwrap_or_default();
            assert_eq!(String::from_utf8(found).unwrap(), part, "{pattern}");
        };
        is("a.txt", "a.txt");
        is("*.txt", ".txt");
        is("d/*.jpeg*x", ".jpeg");
        is("dir/", "dir");
        is("**/ab?cde", "cde");
        is("a[bc]defg", "a");
        is(r"\!abc\*de", "abc");
        is("*", "");
        is("d/**", "");
        is("[ab]", "");
        is("", "");
    }
}
