//! How many disks may be lost: the policy of a repository.

use crate::model::limits::{PARITY_COUNT_MAX, PARITY_POSITIONS_MAX};
use serde::{Deserialize, Serialize};

/// On how many volumes every block is to lie, and what of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Redundancy {
    /// On one.
    #[default]
    None,
    /// On so many, [`Redundancy::COPIES_MIN`] to [`Redundancy::COPIES_MAX`].
    Copies(u8),
    /// On one, in a group with up to `positions` - 1 others and `parities` parities, each on another volume.
    Parity {
        /// K, at least [`Redundancy::POSITIONS_MIN`].
        positions: u8,
        /// M.
        parities: u8,
    },
}

impl Redundancy {
    /// One copy is what [`Redundancy::None`] means.
    pub const COPIES_MIN: u8 = 2;
    /// More disks than anybody loses at once.
    pub const COPIES_MAX: u8 = 16;

    /// Fewer would be copies.
    pub const POSITIONS_MIN: u8 = 2;

    /// Volumes that a block is to lie on for which there is no parity.
    pub fn copies(self) -> u32 {
        self.tolerance() + 1
    }

    /// Volumes that may be lost at once.
    pub fn tolerance(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Copies(copies) => u32::from(copies).saturating_sub(1),
            Self::Parity { parities, .. } => u32::from(parities),
        }
    }

    /// Volumes that it needs to do what it promises at the price that it promises.
    pub fn volumes(self) -> u32 {
        match self {
            Self::None | Self::Copies(_) => self.copies(),
            Self::Parity { positions, parities } => u32::from(positions) + u32::from(parities),
        }
    }

    /// The words of the command line: `none`, `copies=2`, `parity=4+2`.
    pub fn to_text(self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Copies(copies) => format!("copies={copies}"),
            Self::Parity { positions, parities } => format!("parity={positions}+{parities}"),
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
            Some(("parity", numbers)) => {
                let (positions, parities) = numbers.split_once('+')?;
                let found = Self::Parity { positions: positions.parse().ok()?, parities: parities.parse().ok()? };
                let Self::Parity { positions, parities } = found else { return None };
                let is_known = (Self::POSITIONS_MIN.into()..=PARITY_POSITIONS_MAX).contains(&positions.into())
                    && (1..=PARITY_COUNT_MAX).contains(&parities.into());
                Some(found).filter(|found| is_known && found.to_text() == text)
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
        let parity = |positions, parities| Redundancy::Parity { positions, parities };
        for redundancy in
            [Redundancy::None, Redundancy::Copies(2), Redundancy::Copies(16), parity(2, 1), parity(4, 2), parity(32, 8)]
        {
            assert_eq!(Redundancy::from_text(&redundancy.to_text()), Some(redundancy));
        }
        assert_eq!((parity(4, 2).copies(), parity(4, 2).tolerance(), parity(4, 2).volumes()), (3, 2, 6));
        for bad in [
            "",
            "copies",
            "copies=",
            "copies=1",
            "copies=17",
            "copies=02",
            "copies=+2",
            "copies=300",
            "parity=",
            "parity=4",
            "parity=4+",
            "parity=1+1",
            "parity=33+1",
            "parity=4+0",
            "parity=4+9",
            "parity=04+2",
            "parity=4+2+1",
            "None",
        ] {
            assert_eq!(Redundancy::from_text(bad), None, "{bad}");
        }
    }
}
