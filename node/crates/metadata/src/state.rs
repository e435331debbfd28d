//! The replicated state on disk: key spaces, row encodings, the batch that changes them and its hash (design §3).
//!
//! Owns every byte of the state file; `docs/storage-format.md` draws it. It decides nothing: `apply` does. All rows live
//! in one table of one ledger: key = space ordinal ‖ parts, value = version byte ‖ fields.

pub(crate) mod batch;
pub(crate) mod codec;
pub(crate) mod content;
pub(crate) mod hash;
pub(crate) mod places;
pub(crate) mod read;
pub(crate) mod space;

pub use batch::{Batch, Divergence, Touched};

/// The one table of the state file.
pub const TABLE: &str = "rows";

/// Format level of this release: encodings of rows and decisions of `apply` depend on it alone.
pub const FORMAT_LEVEL: u32 = 1;

/// Why the state could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The file failed.
    #[error(transparent)]
    Ledger(#[from] kv::ledger::Error),
    /// A row is not what this release wrote.
    #[error("row of space {space:#04x} is damaged: {detail}")]
    Corrupt {
        /// Ordinal of the space.
        space: u8,
        /// What is wrong.
        detail: &'static str,
    },
}

#[cfg(test)]
mod golden_test;
