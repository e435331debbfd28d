//! Conditions on what is there now. Source: RFC 9110 §13.

use domain::Digest;
use metadata::command::Precondition;

/// What must be there for a request to be carried out. The entity tag of a manifest, a tag or a blob is a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `If-None-Match: *`.
    Absent,
    /// `If-Match: *`.
    Present,
    /// `If-Match` with digests.
    Matches(Vec<Digest>),
    /// `If-None-Match` with digests.
    Differs(Vec<Digest>),
}

impl Condition {
    /// Whether it holds where `current` is there.
    pub fn holds(&self, current: &Digest) -> bool {
        self.clone().precondition().is_none_or(|precondition| precondition.holds(Some(current)))
    }

    /// As `apply` judges it. None where nothing is asked beyond that something is there, or nothing at all.
    pub(crate) fn precondition(self) -> Option<Precondition> {
        match self {
            Condition::Absent => Some(Precondition::Absent),
            Condition::Matches(digests) => Some(Precondition::Matches(digests)),
            Condition::Differs(digests) if !digests.is_empty() => Some(Precondition::Differs(digests)),
            Condition::Present | Condition::Differs(_) => None,
        }
    }
}

/// What is there, for people.
pub(crate) fn current_text(current: Option<Digest>) -> String {
    current.map_or_else(|| "nothing is there now".to_owned(), |digest| format!("`{digest}` is there now"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_about_what_is_there() {
        let (one, two) = (Digest::Sha256([1; 32]), Digest::Sha256([2; 32]));
        assert!(Condition::Present.holds(&one) && !Condition::Absent.holds(&one));
        let both = [vec![one, two], vec![two]];
        assert_eq!(both.clone().map(|digests| Condition::Matches(digests).holds(&one)), [true, false]);
        assert_eq!(both.map(|digests| Condition::Differs(digests).holds(&one)), [false, true]);
        assert!(!Condition::Matches(Vec::new()).holds(&one) && Condition::Differs(Vec::new()).holds(&one));
    }

    #[test]
    fn what_asks_for_nothing_is_no_precondition() {
        assert_eq!(Condition::Differs(Vec::new()).precondition(), None);
        assert_eq!(Condition::Matches(Vec::new()).precondition(), Some(Precondition::Matches(Vec::new())));
        assert_eq!(Condition::Present.precondition(), None);
    }
}
