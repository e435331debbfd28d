//! Log entries and outcomes as protobuf, on disk and on the wire (`proto/proto/log.proto`).
//!
//! Our own encoding, so that an upgrade of the Raft library never changes the disk. Foreign bytes become errors.

mod command;
mod outcome;
mod parts;

use bytes::Bytes;
use prost::Message;

use crate::command::Proposal;
use crate::outcome::Outcome;

/// Bytes that are no entry or outcome of this release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not protobuf of the expected message.
    #[error("log bytes cannot be decoded: {detail}")]
    Malformed {
        /// What the library said.
        detail: String,
    },
    /// A field is missing or holds what it must not.
    #[error("log field `{field}` is missing or malformed")]
    Field {
        /// The field.
        field: &'static str,
    },
}

/// Encodes a proposal.
pub fn encode_proposal(proposal: &Proposal) -> Bytes {
    Bytes::from(command::proposal(proposal).encode_to_vec())
}

/// Decodes a proposal; bodies share `bytes`.
pub fn decode_proposal(bytes: Bytes) -> Result<Proposal, Error> {
    let message = proto::log::Proposal::decode(bytes).map_err(|e| Error::Malformed { detail: e.to_string() })?;
    command::read_proposal(message)
}

/// Encodes an outcome.
pub fn encode_outcome(outcome: &Outcome) -> Bytes {
    Bytes::from(outcome::outcome(outcome).encode_to_vec())
}

/// Decodes an outcome.
pub fn decode_outcome(bytes: Bytes) -> Result<Outcome, Error> {
    let message = proto::log::Outcome::decode(bytes).map_err(|e| Error::Malformed { detail: e.to_string() })?;
    outcome::read_outcome(message)
}

#[cfg(test)]
#[path = "wire/wire_test.rs"]
mod tests;
