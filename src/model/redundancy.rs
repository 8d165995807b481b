//! How many disks may be lost: the policy of a repository.

use serde::{Deserialize, Serialize};

/// On how many volumes every block is to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Redundancy {
    /// On one.
    #[default]
    None,
    /// On so many, [`Redundancy::COPIES_MIN`] to [`Redundancy::COPIES_MAX`].
    Copies(u8),
}

impl Redundancy {
    /// One copy is what [`Redundancy::None`] means.
    pub const COPIES_MIN: u8 = 2;
    /// More disks than anybody loses at once.
    pub const COPIES_MAX: u8 = 16;

    /// Volumes that every block is to lie on.
    pub fn copies(self) -> u32 {
        match self {
            Self::None => 1,
            Self::Copies(copies) => u32::from(copies),
        }
    }

    /// The words of the command line: `none`, `copies=2`.
    pub fn to_text(self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Copies(copies) => format!("copies={copies}"),
        }
    }

    /// The inverse of [`Self::to_text`].
    pub fn from_text(text: &str) -> Option<Self> {
        match text.split_once('=') {
            None if text == "none" => Some(Self::None),
            Some(("copies", number)) => {
                let copies = number.parse().ok()?;
                let is_known = (Self::COPIES_MIN..=Self::COPIES_MAX).contains(&copies);
                Some(Self::Copies(copies)).filter(|found| is_known && found.to_text() == text)
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Redundancy {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(&self.to_text())
    }
}

impl From<Redundancy> for String {
    fn from(redundancy: Redundancy) -> Self {
        redundancy.to_text()
    }
}

impl TryFrom<String> for Redundancy {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::from_text(&text).ok_or_else(|| format!("{text} is no redundancy that this release knows"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_there_and_back() {
        for redundancy in [Redundancy::None, Redundancy::Copies(2), Redundancy::Copies(16)] {
            assert_eq!(Redundancy::from_text(&redundancy.to_text()), Some(redundancy));
        }
        for bad in [
            "",
            "copies",
            "copies=",
            "copies=1",
            "copies=17",
            "copies=02",
            "copies=+2",
            "copies=300",
            "parity=4+2",
            "None",
        ] {
            assert_eq!(Redundancy::from_text(bad), None, "{bad}");
        }
    }
}
