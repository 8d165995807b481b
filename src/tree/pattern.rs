//! PatternList by the rules of gitignore, on bytes: <https://git-scm.com/docs/gitignore>, as git itself goes by them.
//!
//! A line is taken apart once, into steps that fit one byte or a run of bytes; matching goes back to the last `*` and
//! the last `**` alone, so that no pattern takes exponential time. Does not know that nothing below a directory that is
//! left out is looked at: the walk does. Unlike git, which passes them over in silence, patterns that can never mean
//! what was written are refused: a class without its end, an unknown `[:name:]`, a range that runs backwards, a
//! backslash before nothing.

/// PatternList in their order; the last that fits decides.
#[derive(Debug, Default)]
pub struct PatternList(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    takes_back: bool,
    only_dirs: bool,
    /// It has no slash but a trailing one: it is about names in any directory.
    is_name: bool,
    any_case: bool,
    shape: Shape,
}

/// Most patterns are of the first two kinds, which cost next to nothing for each path.
#[derive(Debug)]
enum Shape {
    Whole(Vec<u8>),
    /// `*` and what follows it, of a name.
    End(Vec<u8>),
    Steps(Vec<Step>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    One(u8),
    /// Any of these bytes, a bit for each.
    OneOf(Box<[u64; 4]>),
    /// Any bytes but slashes.
    Star,
    /// Any bytes.
    Deep,
    /// Nothing, or any bytes and a slash.
    Dirs,
}

impl PatternList {
    /// Takes each line apart. Blank lines and comments are none.
    ///
    /// # Errors
    /// The line that has no meaning, and why.
    pub fn new<'l>(lines: impl Iterator<Item = &'l [u8]>, any_case: bool) -> Result<Self, (Vec<u8>, &'static str)> {
        let parsed = lines.map(|line| Pattern::new(line, any_case).map_err(|why| (line.to_vec(), why)));
        Ok(Self(parsed.filter_map(Result::transpose).collect::<Result<_, _>>()?))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a path is left out; `None` when no pattern fits.
    pub fn leave_out(&self, path: &[u8], is_dir: bool) -> Option<bool> {
        if self.is_empty() {
            return None;
        }
        let name_at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let fits = |pattern: &&Pattern| {
            let text = if pattern.is_name { &path[name_at..] } else { path };
            (is_dir || !pattern.only_dirs) && pattern.fits(text)
        };
        self.0.iter().rev().find(fits).map(|pattern| !pattern.takes_back)
    }
}

impl Pattern {
    fn new(line: &[u8], any_case: bool) -> Result<Option<Self>, &'static str> {
        let line = without_trailing_spaces(line);
        if line.is_empty() || line[0] == b'#' {
            return Ok(None);
        }
        let (takes_back, line) = line.strip_prefix(b"!").map_or((false, line), |rest| (true, rest));
        let (only_dirs, line) = line.strip_suffix(b"/").map_or((false, line), |rest| (true, rest));
        let is_name = !line.contains(&b'/');
        let line = line.strip_prefix(b"/").unwrap_or(line);
        if line.is_empty() {
            return Ok(None);
        }
        let shape = Shape::new(steps_of(line, (is_name, any_case))?, (is_name, any_case));
        Ok(Some(Self { takes_back, only_dirs, is_name, any_case, shape }))
    }

    fn is_one(&self, step: &Step, byte: u8) -> bool {
        match step {
            Step::One(one) if self.any_case => one.eq_ignore_ascii_case(&byte),
            Step::One(one) => *one == byte,
            Step::OneOf(set) => has_bit(set, byte),
            Step::Star | Step::Deep | Step::Dirs => false,
        }
    }

    fn fits(&self, text: &[u8]) -> bool {
        match &self.shape {
            Shape::Whole(whole) => text == whole.as_slice(),
            Shape::End(end) => text.ends_with(end),
            Shape::Steps(steps) => self.steps_fit(steps, text),
        }
    }

    fn steps_fit(&self, steps: &[Step], text: &[u8]) -> bool {
        let (mut step, mut at) = (0, 0);
        // Where to go on when it does not fit: the step behind, and how much the run has taken so far.
        let (mut star, mut deep) = (None, None);
        loop {
            match steps.get(step) {
                Some(Step::Star) => {
                    step += 1;
                    star = Some((step, at));
                    continue;
                }
                Some(run @ (Step::Deep | Step::Dirs)) => {
                    step += 1;
                    (star, deep) = (None, Some((step, at, *run == Step::Dirs)));
                    continue;
                }
                Some(one) if at < text.len() && self.is_one(one, text[at]) => {
                    (step, at) = (step + 1, at + 1);
                    continue;
                }
                None if at == text.len() => return true,
                _ => {}
            }
            if let Some((behind, taken)) = star.filter(|(_, taken)| text.get(*taken).is_some_and(|b| *b != b'/')) {
                (step, at) = (behind, taken + 1);
                star = Some((step, at));
                continue;
            }
            let Some((behind, taken, is_dirs)) = deep else { return false };
            let rest = &text[taken..];
            let more = if is_dirs { rest.iter().position(|b| *b == b'/') } else { (!rest.is_empty()).then_some(0) };
            let Some(more) = more else { return false };
            (step, at) = (behind, taken + more + 1);
            (star, deep) = (None, Some((step, at, is_dirs)));
        }
    }
}

impl Shape {
    fn new(steps: Vec<Step>, (is_name, any_case): (bool, bool)) -> Self {
        let plain = |steps: &[Step]| {
            let byte = |step: &Step| if let Step::One(byte) = step { Some(*byte) } else { None };
            steps.iter().map(byte).collect::<Option<Vec<u8>>>()
        };
        match steps.as_slice() {
            _ if any_case => Self::Steps(steps),
            [Step::Star, end @ ..] if is_name => plain(end).map_or_else(|| Self::Steps(steps.clone()), Self::End),
            all => plain(all).map_or_else(|| Self::Steps(steps.clone()), Self::Whole),
        }
    }
}

/// Spaces at the end mean nothing, unless a backslash stands before them.
fn without_trailing_spaces(line: &[u8]) -> &[u8] {
    let (mut at, mut end) = (0, 0);
    while at < line.len() {
        let is_space = line[at] == b' ';
        at += if line[at] == b'\\' { 2 } else { 1 };
        if !is_space {
            end = at.min(line.len());
        }
    }
    &line[..end]
}

fn steps_of(line: &[u8], (is_name, any_case): (bool, bool)) -> Result<Vec<Step>, &'static str> {
    let is_special = |byte: &u8| matches!(byte, b'*' | b'?' | b'[' | b'\\');
    let plain = line.iter().position(is_special).unwrap_or(line.len());
    let mut steps: Vec<Step> = line[..plain].iter().map(|byte| Step::One(*byte)).collect();
    let mut at = plain;
    while at < line.len() {
        match line[at] {
            b'*' => {
                let stars = line[at..].iter().take_while(|byte| **byte == b'*').count();
                // As with git, `**` also stands by itself right behind a beginning that means nothing but itself.
                let begins = at == plain || line[at - 1] == b'/';
                let (behind, is_deep) = (&line[at + stars..], stars > 1 && begins && !is_name);
                at += stars;
                match behind {
                    [b'/', ..] if is_deep => {
                        at += 1;
                        steps.push(Step::Dirs);
                    }
                    [] | [b'\\', b'/', ..] if is_deep => steps.push(Step::Deep),
                    _ => steps.push(Step::Star),
                }
            }
            b'?' => {
                steps.push(Step::OneOf(Box::new(without_slash([u64::MAX; 4]))));
                at += 1;
            }
            b'[' => {
                let (set, len) = class(&line[at..], any_case)?;
                steps.push(Step::OneOf(Box::new(without_slash(set))));
                at += len;
            }
            b'\\' => {
                steps.push(Step::One(*line.get(at + 1).ok_or("a backslash stands before nothing")?));
                at += 2;
            }
            byte => {
                steps.push(Step::One(byte));
                at += 1;
            }
        }
    }
    Ok(steps)
}

/// The bytes of a class that `line` begins with, in both cases where they are alike, and its length.
fn class(line: &[u8], any_case: bool) -> Result<([u64; 4], usize), &'static str> {
    const OPEN: &str = "a class has no `]`";
    let is_not = matches!(line.get(1), Some(b'!' | b'^'));
    let first = 1 + usize::from(is_not);
    let (mut set, mut at, mut before) = ([0; 4], first, None);
    loop {
        let byte = *line.get(at).ok_or(OPEN)?;
        if byte == b']' && at > first {
            break;
        }
        if byte == b'-' && before.is_some() && line.get(at + 1).is_some_and(|next| *next != b']') {
            let escape = usize::from(line[at + 1] == b'\\');
            let to = *line.get(at + 1 + escape).ok_or(OPEN)?;
            let from = before.take().unwrap_or(to);
            if from > to {
                return Err("a range in a class runs backwards");
            }
            (from..=to).for_each(|byte| put_bit(&mut set, byte));
            at += 2 + escape;
        } else if let Some((name, len)) = named_class(&line[at..]).ok_or(OPEN)? {
            let is_in = member(name).ok_or("a class names no kind of character")?;
            (0..=u8::MAX).filter(|byte| is_in(*byte)).for_each(|byte| put_bit(&mut set, byte));
            before = None;
            at += len;
        } else {
            let escape = usize::from(byte == b'\\');
            let byte = *line.get(at + escape).ok_or(OPEN)?;
            put_bit(&mut set, byte);
            before = Some(byte);
            at += 1 + escape;
        }
    }
    if any_case {
        // Before the class is turned round: what it says of one case it says of the other.
        let said = set;
        let letters = (0..=u8::MAX).filter(|byte| byte.is_ascii_alphabetic() && has_bit(&said, *byte));
        letters.for_each(|byte| put_bit(&mut set, byte ^ 0x20));
    }
    Ok((if is_not { set.map(|bits| !bits) } else { set }, at + 1))
}

/// The name in `[:name:]` and the length of all of it; inside `None` when it is none, `None` when it does not end.
fn named_class(line: &[u8]) -> Option<Option<(&[u8], usize)>> {
    let Some(rest) = line.strip_prefix(b"[:") else { return Some(None) };
    let end = rest.iter().position(|byte| *byte == b']')?;
    Some(rest[..end].strip_suffix(b":").map(|name| (name, end + 3)))
}

fn member(name: &[u8]) -> Option<fn(u8) -> bool> {
    Some(match name {
        b"alnum" => |byte| byte.is_ascii_alphanumeric(),
        b"alpha" => |byte| byte.is_ascii_alphabetic(),
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => |byte| byte.is_ascii_control(),
        b"digit" => |byte| byte.is_ascii_digit(),
        b"graph" => |byte| byte.is_ascii_graphic(),
        b"lower" => |byte| byte.is_ascii_lowercase(),
        b"print" => |byte| byte.is_ascii_graphic() || byte == b' ',
        b"punct" => |byte| byte.is_ascii_punctuation(),
        b"space" => |byte| byte.is_ascii_whitespace() || byte == 0x0b,
        b"upper" => |byte| byte.is_ascii_uppercase(),
        b"xdigit" => |byte| byte.is_ascii_hexdigit(),
        _ => return None,
    })
}

/// The word of a set and the bit in it.
fn place(byte: u8) -> (usize, u64) {
    (usize::from(byte / 64), 1 << (byte % 64))
}

fn put_bit(set: &mut [u64; 4], byte: u8) {
    let (word, bit) = place(byte);
    set[word] |= bit;
}

fn has_bit(set: &[u64; 4], byte: u8) -> bool {
    let (word, bit) = place(byte);
    set[word] & bit != 0
}

/// No single step fits a slash but a slash.
fn without_slash(mut set: [u64; 4]) -> [u64; 4] {
    let (word, bit) = place(b'/');
    set[word] &= !bit;
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves_out(line: &str, path: &str) -> bool {
        PatternList::new([line.as_bytes()].into_iter(), false).unwrap().leave_out(path.as_bytes(), false) == Some(true)
    }

    #[test]
    fn what_has_no_meaning_is_refused_and_what_is_literal_is_not() {
        for line in ["[a", "[z-a]", "a\\", "[[:nope:]]", "[!]", "[[:alpha:]"] {
            assert!(PatternList::new([line.as_bytes()].into_iter(), false).is_err(), "{line}");
        }
        for (line, path) in [("{a,b}", "{a,b}"), ("a]", "a]"), ("[]]", "]"), ("[[:]]", ":]"), ("\\[", "[")] {
            assert!(leaves_out(line, path), "{line}");
        }
        assert!(!leaves_out("{a,b}", "a"));
    }

    #[test]
    fn a_class_says_of_one_case_what_it_says_of_the_other_where_they_are_alike() {
        let fits = |line: &str, path: &str| {
            let list = PatternList::new([line.as_bytes()].into_iter(), true).unwrap();
            list.leave_out(path.as_bytes(), false) == Some(true)
        };
        for (line, path) in
            [("[!a]*", "beta"), ("[!a]*", "Gamma"), ("[a-c]*", "Beta"), ("[^B]", "c"), ("[[:upper:]]", "x")]
        {
            assert!(fits(line, path), "{line} and {path}");
        }
        for (line, path) in [("[!a]*", "alpha"), ("[!a]*", "Apple"), ("[!A]*", "a1"), ("[^b]", "B"), ("[a-c]", "d")] {
            assert!(!fits(line, path), "{line} and {path}");
        }
    }

    #[test]
    fn many_stars_against_a_long_name_take_no_time() {
        let line = "*a".repeat(60) + "/**/" + &"*a".repeat(60) + "b";
        let path = ("a".repeat(250) + "/").repeat(10) + &"a".repeat(250);
        let began = std::time::Instant::now();
        assert!(!leaves_out(&line, &path) && !leaves_out(&("*a".repeat(60) + "b"), &"a".repeat(255)));
        assert!(began.elapsed().as_secs() < 2);
    }
}
