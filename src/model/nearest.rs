//! Did you mean: the known word that is nearest to one that nobody knows.

/// As alike as clap wants its own words to be.
const ALIKE_MIN: f64 = 0.7;

/// The nearest of `known`, if any is near.
pub fn nearest<'k>(wrong: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let alike = known.into_iter().map(|word| (strsim::jaro_winkler(wrong, word), word));
    let near = alike.filter(|(alike, word)| *alike > ALIKE_MIN && *word != wrong);
    near.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, word)| word)
}

/// `; did you mean X?`, or nothing where none is near. With a colon in `known` (`host:name`), what is behind the first
/// one is looked at too.
pub fn hint<'k>(wrong: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let both = known.into_iter().flat_map(|word| [Some(word), word.split_once(':').map(|(_, name)| name)]).flatten();
    nearest(wrong, both).map(|near| format!("; did you mean {near}?")).unwrap_or_default()
}

/// The nearest of `names` to `given`, if it is near: case apart, one byte in three is added, missing, another or swapped at
/// most. The first of several.
pub fn nearest_name(given: &[u8], names: impl Iterator<Item = Vec<u8>>) -> Option<Vec<u8>> {
    let limit = (given.len() / 3).clamp(1, 8);
    let lower = given.to_ascii_lowercase();
    let mut best: Option<(usize, Vec<u8>)> = None;
    for name in names.filter(|name| name.len().abs_diff(given.len()) <= limit) {
        let distance = strsim::generic_damerau_levenshtein(&lower, &name.to_ascii_lowercase());
        if distance <= limit && distance < given.len() && best.as_ref().is_none_or(|(least, _)| distance < *least) {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_nothing_where_none_is_near() {
        let known = ["/home/ann", "/home/bob", "config"];
        assert_eq!(nearest("/home/an", known), Some("/home/ann"));
        assert_eq!(nearest("confg", known), Some("config"));
        assert_eq!(nearest("xyz", known), None);
        assert_eq!(nearest("x", []), None);
        assert_eq!(hint("/home/an", ["host:/home/ann"]), "; did you mean /home/ann?");
        assert_eq!(hint("hst:/etc", ["host:/etc"]), "; did you mean host:/etc?");
        assert_eq!(hint("xyz", ["host:/home"]), "");
    }

    #[test]
    fn a_slip_of_the_finger_is_found_and_another_word_is_not() {
        let names = ["photos", "Letters", "notes", "a", "photo-album"];
        let meant = |given: &str| nearest_name(given.as_bytes(), names.iter().map(|name| name.as_bytes().to_vec()));
        let is = |given, name: &str| assert_eq!(meant(given).as_deref(), Some(name.as_bytes()), "{given}");
        is("phtoos", "photos");
        is("letters", "Letters");
        is("letter", "Letters");
        is("note", "notes");
        is("A", "a");
        assert_eq!((meant("music"), meant("b"), meant("")), (None, None, None));
    }
}
