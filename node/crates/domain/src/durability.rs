//! Durability of a repository (design §6).

use std::fmt;

/// In how many regions every blob below a manifest must be durable before the manifest is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The accepting region alone.
    Local,
    /// ⌊ready / 2⌋ + 1 of the ready regions of the placement.
    #[default]
    Majority,
    /// Every ready region of the placement.
    All,
    /// A fixed number of regions, at least 1.
    AtLeast(u32),
}

/// Why a durability was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("durability `{text}` is none of local, majority, all or a number from 1 to 7")]
pub struct Error {
    /// What was given.
    pub text: String,
}

impl Durability {
    /// Parses `local`, `majority`, `all` or a number.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "local" => Ok(Durability::Local),
            "majority" => Ok(Durability::Majority),
            "all" => Ok(Durability::All),
            number => match number.parse::<u32>() {
                Ok(k @ 1..=7) => Ok(Durability::AtLeast(k)),
                _ => Err(Error { text: crate::digest::clip(text) }),
            },
        }
    }

    /// Copies needed when `ready` regions of the placement are ready; at least 1.
    pub fn copies_needed(self, ready: u32) -> u32 {
        match self {
            Durability::Local => 1,
            Durability::Majority => ready / 2 + 1,
            Durability::All => ready.max(1),
            Durability::AtLeast(k) => k.max(1),
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Durability::Local => f.write_str("local"),
            Durability::Majority => f.write_str("majority"),
            Durability::All => f.write_str("all"),
            Durability::AtLeast(k) => write!(f, "{k}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majority_is_the_table_of_the_design() {
        let needed: Vec<u32> = (0..=5).map(|ready| Durability::Majority.copies_needed(ready)).collect();
        assert_eq!(needed, [1, 1, 2, 2, 3, 3]);
        assert_eq!(Durability::All.copies_needed(0), 1);
    }

    #[test]
    fn text_round_trips_and_nonsense_is_refused() {
        for text in ["local", "majority", "all", "1", "7"] {
            assert_eq!(Durability::parse(text).map(|d| d.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "0", "8", "-1", "most", "Majority"] {
            assert!(Durability::parse(text).is_err(), "{text}");
        }
    }
}
