//! The name that somebody who mistyped one may have meant.

/// The nearest of `names` to `given`, if it is near: case apart, one byte in three is another at most. The first of
/// several.
pub fn nearest(given: &[u8], names: impl Iterator<Item = Vec<u8>>) -> Option<Vec<u8>> {
    let limit = (given.len() / 3).clamp(1, 8);
    let lower = given.to_ascii_lowercase();
    let mut best: Option<(usize, Vec<u8>)> = None;
    for name in names.filter(|name| name.len().abs_diff(given.len()) <= limit) {
        let distance = distance(&lower, &name.to_ascii_lowercase());
        if distance <= limit && distance < given.len() && best.as_ref().is_none_or(|(least, _)| distance < *least) {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| name)
}

/// How many bytes must be added, taken away, replaced or swapped with their neighbour (optimal string alignment).
fn distance(one: &[u8], other: &[u8]) -> usize {
    let mut before = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, byte) in one.iter().enumerate() {
        let mut now = vec![row + 1];
        for (column, beside) in other.iter().enumerate() {
            let replaced = last[column] + usize::from(byte != beside);
            let mut least = replaced.min(last[column + 1] + 1).min(now[column] + 1);
            if row > 0 && column > 0 && one[row - 1] == *beside && *byte == other[column - 1] {
                least = least.min(before[column - 1] + 1);
            }
            now.push(least);
        }
        before = std::mem::replace(&mut last, now);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_found_and_another_word_is_not() {
        let names = ["photos", "Letters", "notes", "a", "photo-album"];
        let meant = |given: &str| nearest(given.as_bytes(), names.iter().map(|name| name.as_bytes().to_vec()));
        let is = |given, name: &str| assert_eq!(meant(given).as_deref(), Some(name.as_bytes()), "{given}");
        is("phtoos", "photos");
        is("letters", "Letters");
        is("letter", "Letters");
        is("note", "notes");
        is("A", "a");
        assert_eq!((meant("music"), meant("b"), meant("")), (None, None, None));
        assert_eq!((distance(b"ca", b"abc"), distance(b"", b"abc"), distance(b"ab", b"ba")), (3, 3, 1));
    }
}
