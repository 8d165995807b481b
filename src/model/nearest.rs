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
}
