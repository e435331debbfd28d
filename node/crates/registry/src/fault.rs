//! Facts that the errors of several operations share.

use domain::{RegionName, Revision};
use metadata::handle::{ProposeError, ReadError};
use metadata::outcome::Refusal;
use metadata::view::{self, Freshness, View};

/// Which state an answer reflects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsOf {
    /// The log index.
    pub revision: Revision,
    /// It could not be proved to be the newest: the answer carries the stale warning.
    pub stale: bool,
}

impl AsOf {
    /// Of a view.
    pub fn of(view: &View) -> Self {
        AsOf { revision: view.revision(), stale: view.freshness() == Freshness::Stale }
    }

    /// Of a write that was applied at `revision`.
    pub fn at(revision: Revision) -> Self {
        AsOf { revision, stale: false }
    }
}

/// A region cannot do now what it was asked; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// The region that answers.
    pub region: RegionName,
    /// No quorum of the regions is heard.
    pub cut_off: bool,
    /// What failed, for people.
    pub detail: String,
}

/// Why a read has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadFault {
    /// The answer cannot be proved now. HTTP 503.
    #[error("{}", .0.of_a_read())]
    Unavailable(Unavailable),
    /// State or storage cannot be read. HTTP 500.
    #[error("the region's state cannot be read: {detail}")]
    Internal {
        /// What happened.
        detail: String,
    },
}

/// Why a write was not done, or is not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteFault {
    /// Too much is in flight; nothing changed. HTTP 429.
    #[error("too many writes are in flight, retry in a moment")]
    Busy,
    /// Certainly not applied. HTTP 503.
    #[error("{}", .0.of_a_write())]
    Unavailable(Unavailable),
    /// It may have happened, and may still happen. HTTP 504.
    #[error("the outcome of the write is not known yet; sending it again is safe")]
    Unknown,
    /// Refused for a reason that no client can cause. HTTP 500.
    #[error("the write was refused: {detail}")]
    Internal {
        /// What happened.
        detail: String,
    },
}

impl Unavailable {
    fn of_a_write(&self) -> String {
        let Unavailable { region, cut_off, detail } = self;
        if *cut_off {
            format!(
                "{region} is cut off from the other regions and cannot accept a push now; pulls work; \
                 retry, or push to another region ({detail})"
            )
        } else {
            format!("{region} cannot accept a push now; retry, or push to another region ({detail})")
        }
    }

    fn of_a_read(&self) -> String {
        let Unavailable { region, cut_off, detail } = self;
        if *cut_off {
            format!(
                "{region} is cut off from the other regions and cannot prove this answer; \
                 retry, or ask another region ({detail})"
            )
        } else {
            format!("{region} cannot prove this answer now; retry, or ask another region ({detail})")
        }
    }
}

impl ReadFault {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            ReadFault::Unavailable(_) => true,
            ReadFault::Internal { .. } => false,
        }
    }
}

impl WriteFault {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            WriteFault::Busy | WriteFault::Unavailable(_) | WriteFault::Unknown => true,
            WriteFault::Internal { .. } => false,
        }
    }

    /// Whether certainly nothing changed.
    pub fn has_no_side_effects(&self) -> bool {
        !matches!(self, WriteFault::Unknown)
    }

    /// A refusal that the operation has no answer of its own for.
    pub(crate) fn of_refusal(refusal: &Refusal, here: &Unavailable) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::Lifecycle { .. } | Refusal::TooOld | Refusal::Fenced | Refusal::NotYetDurable { .. } => {
                WriteFault::Unavailable(Unavailable { detail, ..here.clone() })
            }
            Refusal::UnknownRepository
            | Refusal::UnknownManifest
            | Refusal::Unknown { .. }
            | Refusal::Precondition { .. }
            | Refusal::Immutable { .. }
            | Refusal::Referenced
            | Refusal::LastCopies { .. }
            | Refusal::Invalid { .. } => WriteFault::Internal { detail },
        }
    }
}

impl From<view::Error> for ReadFault {
    fn from(error: view::Error) -> Self {
        ReadFault::Internal { detail: error.detail }
    }
}

/// Splits a failed proposal into the refusal, which the operation judges, and the rest.
pub(crate) fn of_proposal(error: ProposeError, here: &Unavailable) -> Result<Refusal, WriteFault> {
    match error {
        ProposeError::Refused(refusal) => Ok(refusal),
        ProposeError::Busy => Err(WriteFault::Busy),
        ProposeError::Unavailable { detail } => Err(WriteFault::Unavailable(Unavailable { detail, ..here.clone() })),
        ProposeError::Unknown => Err(WriteFault::Unknown),
    }
}

/// A failed read of the metadata room.
pub(crate) fn of_read(error: ReadError, here: &Unavailable) -> ReadFault {
    match error {
        ReadError::Unavailable { detail } => ReadFault::Unavailable(Unavailable { detail, ..here.clone() }),
        ReadError::State(error) => ReadFault::from(error),
    }
}
