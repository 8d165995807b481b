//! The ```hex fences of `FORMAT.md`: bytes in hex, a comment behind `;`.

const FORMAT: &str = include_str!("../../src/format/FORMAT.md");

/// The bytes of the fence that opens with ```` ```hex NAME ````.
#[track_caller]
pub fn bytes(name: &str) -> Vec<u8> {
    parse(FORMAT, name).expect("a sound example of this name in FORMAT.md")
}

/// Names of all fences.
pub fn names() -> Vec<&'static str> {
    FORMAT.lines().filter_map(|line| line.strip_prefix("```hex ")).collect()
}

fn parse(text: &str, name: &str) -> Option<Vec<u8>> {
    let opening = format!("```hex {name}");
    let body = text.lines().skip_while(|line| *line != opening).skip(1);
    let mut bytes = Vec::new();
    for line in body {
        if line.starts_with("```") {
            return Some(bytes);
        }
        for pair in line.split(';').next()?.split_whitespace() {
            bytes.push(u8::from_str_radix(pair, 16).ok().filter(|_| pair.len() == 2)?);
        }
    }
    None
}

#[test]
fn a_fence_is_read_to_its_end_without_its_comments() {
    let text = "text\n```hex one\n00 ff ; 11\n\n7f\n```\n```hex bad\n0\n```\n```hex open\n00\n";
    assert_eq!(parse(text, "one"), Some(vec![0, 0xff, 0x7f]));
    for name in ["bad", "open", "none"] {
        assert_eq!(parse(text, name), None, "{name}");
    }
}
