//! Paths inside a source: bytes, relative to its root, `/` between names, no leading or trailing `/`; the root is
//! empty. Owns joining, splitting, checking and showing them.

use super::limits::NAME_LEN_MAX;

/// `dir/name`, or `name` below the root.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() {
        return name.to_vec();
    }
    if name.is_empty() {
        return dir.to_vec();
    }
    [dir, b"/", name].concat()
}

/// The directory and the name of a path; the root is (empty, empty).
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// Whether a name may stand as one component of a path: it names neither its directory nor one above.
pub fn is_valid_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= NAME_LEN_MAX
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

/// Whether every component of a path is valid; the root is.
pub fn is_valid(path: &[u8]) -> bool {
    path.is_empty()
        || (path.len() <= super::limits::PATH_LEN_MAX && path.split(|byte| *byte == b'/').all(is_valid_name))
}

/// Whether `path` is `dir` or lies below it.
pub fn is_within(path: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Whether a terminal or a browser would act on the character and not only show it: control characters, and those that
/// turn the direction of the text around, so that a name reads as another one.
pub fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The path as a person may see it on a terminal: UTF-8 as it is, control characters and stray bytes escaped.
pub fn show(path: &[u8]) -> String {
    let mut shown = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_control(character) || character == '\\' {
                shown.extend(character.escape_default());
            } else {
                shown.push(character);
            }
        }
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_and_split_are_inverse_and_the_root_is_empty() {
        for path in [&b""[..], b"a", b"a/b", b"a/b/c"] {
            let (dir, name) = split(path);
            assert_eq!(join(dir, name), path);
        }
    }

    #[test]
    fn a_name_that_leaves_its_directory_is_not_valid() {
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'x'; 256]] {
            assert!(!is_valid_name(name));
        }
        assert!(is_valid_name(b"...") && is_valid_name(&[0xff; 255]));
        assert!(is_valid(b"a/b") && is_valid(b"") && !is_valid(b"a//b") && !is_valid(b"/a") && !is_valid(b"a/../b"));
    }

    #[test]
    fn within_counts_whole_components() {
        assert!(is_within(b"a/b", b"a") && is_within(b"a", b"a") && is_within(b"a", b""));
        assert!(!is_within(b"ab", b"a"));
    }

    #[test]
    fn what_a_terminal_would_act_on_is_escaped() {
        assert_eq!(show("ä b".as_bytes()), "ä b");
        assert_eq!(show(b"a\x1b[1m\n\xff"), "a\\u{1b}[1m\\n\\xff");
        assert_eq!(show("\u{202e}evil\u{202c}.txt".as_bytes()), "\\u{202e}evil\\u{202c}.txt");
        assert!("\u{61c}\u{200e}\u{200f}\u{202a}\u{2066}\u{2069}".chars().all(is_control));
        assert!(!"\u{200d}\u{5d0}\u{627} ".chars().any(is_control));
    }
}
