//! Did you mean: the known word that is nearest to one that nobody knows.

/// As alike as clap wants its own words to be.
const ALIKE_MIN: f64 = 0.7;

/// The nearest of `known`, if any is near.
pub fn nearest<'k>(wrong: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let alike = known.into_iter().map(|word| (strsim::jaro_winkler(wrong, word), word));
    let near = alike.filter(|(alike, word)| *alike > ALIKE_MIN && *word != wrong);
    near.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, word)| word)
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
    }
}
