//! How a person names a run. What it stands for depends on the catalog, and on the source that is meant.

use super::ids::RunSeq;
use super::moment::Moment;
use std::fmt;
use std::str::FromStr;

/// A run, by one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunSpec {
    /// By number.
    Number(RunSeq),
    /// The newest complete one of a source, or so many complete ones before it.
    Latest(u32),
    /// The newest complete one of a source that had begun by then.
    At(Moment, String),
}

impl RunSpec {
    /// Takes `RUN:PATH` apart where what stands before a colon is a run; the longest such, as a time has colons itself.
    pub fn before_path(text: &[u8]) -> Option<(Self, &[u8])> {
        let colons = text.iter().enumerate().rev().filter(|(_, byte)| **byte == b':');
        colons.into_iter().find_map(|(at, _)| {
            let run = std::str::from_utf8(&text[..at]).ok()?.parse().ok()?;
            Some((run, &text[at + 1..]))
        })
    }
}

impl From<RunSeq> for RunSpec {
    fn from(seq: RunSeq) -> Self {
        Self::Number(seq)
    }
}

impl FromStr for RunSpec {
    type Err = String;

    /// `7`, `latest`, `latest~2`, `@2026-09-01`, `@2026-09-01 12:30`.
    ///
    /// # Errors
    /// A sentence that says what a run is named like, and what may have been meant.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(date) = text.strip_prefix('@') {
            let moment = Moment::from_text(date)
                .ok_or_else(|| format!("`{date}` is no date; one is like `@2026-09-01` or `\"@2026-09-01 12:30\"`"))?;
            return Ok(Self::At(moment, date.to_owned()));
        }
        match text.strip_prefix("latest") {
            Some("") => return Ok(Self::Latest(0)),
            Some(rest) => {
                let back = rest.strip_prefix('~').filter(|digits| is_number(digits));
                if let Some(back) = back.and_then(|digits| digits.parse().ok()) {
                    return Ok(Self::Latest(back));
                }
            }
            None => {}
        }
        match text.parse::<i64>().ok().filter(|number| *number > 0 && is_number(text)) {
            Some(number) => Ok(Self::Number(RunSeq(number))),
            None => Err(sentence(text)),
        }
    }
}

impl fmt::Display for RunSpec {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(seq) => write!(to, "{seq}"),
            Self::Latest(0) => to.write_str("latest"),
            Self::Latest(back) => write!(to, "latest~{back}"),
            Self::At(_, text) => write!(to, "@{text}"),
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn sentence(text: &str) -> String {
    let meant = if Moment::from_text(text).is_some() {
        Some(format!("@{text}"))
    } else if text.strip_prefix('~').is_some_and(is_number) {
        Some(format!("latest{text}"))
    } else if ["last", "newest", "lates", "Latest", "LATEST"].contains(&text) {
        Some("latest".to_owned())
    } else {
        None
    };
    let hint = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
    format!("a run is a number, see `raidtape runs`, or `latest`, `latest~N`, `@2026-09-01`{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_run_is_understood_and_shown_as_it_was_written() {
        for text in ["7", "latest", "latest~2", "@2026-09-01", "@2026-09-01 12:30"] {
            assert_eq!(text.parse::<RunSpec>().unwrap().to_string(), text);
        }
        assert_eq!("7".parse(), Ok(RunSpec::Number(RunSeq(7))));
        assert_eq!("latest~0".parse(), Ok(RunSpec::Latest(0)));
    }

    #[test]
    fn a_run_stands_before_a_path_only_when_it_is_one() {
        let split = |text: &str| {
            RunSpec::before_path(text.as_bytes())
                .map(|(run, path)| (run.to_string(), String::from_utf8(path.to_vec()).unwrap()))
        };
        let is =
            |text, run: &str, path: &str| assert_eq!(split(text), Some((run.to_owned(), path.to_owned())), "{text}");
        is("3:x", "3", "x");
        is("latest~1:", "latest~1", "");
        is("@2026-09-01 12:30:a:b", "@2026-09-01 12:30", "a:b");
        is("@2026-09-01 12:30:05:a", "@2026-09-01 12:30:05", "a");
        is("3:4:5", "3", "4:5");
        for path in ["x", "./3:x", "a:b", ":x", "0:x", "latest", "/3:x"] {
            assert_eq!(split(path), None, "{path}");
        }
    }

    #[test]
    fn what_is_none_is_told_with_what_may_have_been_meant() {
        for bad in
            ["", "0", "-1", "+7", "newest", "latest~", "latest~-1", "latest~99999999999", "latestx", "@", "@soon"]
        {
            assert!(bad.parse::<RunSpec>().is_err(), "{bad}");
        }
        let said = |text: &str| text.parse::<RunSpec>().unwrap_err();
        assert!(said("2026-09-01").contains("did you mean `@2026-09-01`?"));
        assert!(said("~3").contains("did you mean `latest~3`?"));
        assert!(said("last").contains("did you mean `latest`?"));
        assert!(said("@soon").contains("`soon` is no date"));
    }
}
