//! Between the wire and our own words. Everything that comes from a peer is checked here for shape; whether it is true is
//! proved later, against the replicated state.

use bytes::Bytes;
use domain::{CopyId, Digest, limits};
use proto::blobs as wire;

use crate::config::GROUP;

/// A message of the wrong shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {detail}")]
pub(crate) struct Malformed {
    /// What is wrong.
    pub(crate) detail: String,
}

pub(crate) fn malformed(detail: impl Into<String>) -> Malformed {
    Malformed { detail: detail.into() }
}

/// A request for bytes of one blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadRequest {
    pub(crate) digest: Digest,
    /// On a group boundary.
    pub(crate) start: u64,
    /// On a group boundary or the blob's end; equal to `start` only for no bytes at all.
    pub(crate) end: u64,
    pub(crate) with_values: bool,
}

pub(crate) fn digest(raw: &[u8]) -> Result<Digest, Malformed> {
    Digest::from_key(raw).map_err(|error| malformed(error.to_string()))
}

pub(crate) fn digest_to_wire(digest: &Digest) -> Bytes {
    digest.to_key().into()
}

pub(crate) fn digests(raw: &[Bytes]) -> Result<Vec<Digest>, Malformed> {
    if raw.len() > limits::REPORT_DIGESTS_MAX {
        return Err(malformed(format!("{} digests, at most {}", raw.len(), limits::REPORT_DIGESTS_MAX)));
    }
    raw.iter().map(|raw| digest(raw)).collect()
}

impl TryFrom<wire::ReadRequest> for ReadRequest {
    type Error = Malformed;

    fn try_from(request: wire::ReadRequest) -> Result<Self, Malformed> {
        let wire::ReadRequest { digest: raw, start, end, with_values } = request;
        if !start.is_multiple_of(GROUP) || end < start {
            return Err(malformed(format!("range {start}..{end} does not begin at a group")));
        }
        Ok(ReadRequest { digest: digest(&raw)?, start, end, with_values })
    }
}

impl From<ReadRequest> for wire::ReadRequest {
    fn from(request: ReadRequest) -> Self {
        let ReadRequest { digest, start, end, with_values } = request;
        wire::ReadRequest { digest: digest_to_wire(&digest), start, end, with_values }
    }
}

/// The beginning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) size: u64,
    pub(crate) copy: CopyId,
    pub(crate) values_bytes: u64,
}

impl TryFrom<wire::ReadHeader> for Header {
    type Error = Malformed;

    fn try_from(header: wire::ReadHeader) -> Result<Self, Malformed> {
        let wire::ReadHeader { size, copy, values_bytes } = header;
        let copy = CopyId::from_slice(&copy).ok_or_else(|| malformed("copy id is not 16 bytes"))?;
        Ok(Header { size, copy, values_bytes })
    }
}

impl From<Header> for wire::ReadHeader {
    fn from(header: Header) -> Self {
        let Header { size, copy, values_bytes } = header;
        wire::ReadHeader { size, copy: Bytes::copy_from_slice(copy.as_bytes()), values_bytes }
    }
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Header(Header),
    Values(Bytes),
    Data(Bytes),
}

impl TryFrom<wire::ReadReply> for Part {
    type Error = Malformed;

    fn try_from(reply: wire::ReadReply) -> Result<Self, Malformed> {
        let wire::ReadReply { part } = reply;
        match part {
            Some(wire::read_reply::Part::Header(header)) => Ok(Part::Header(header.try_into()?)),
            Some(wire::read_reply::Part::Values(values)) => Ok(Part::Values(values)),
            Some(wire::read_reply::Part::Data(data)) => Ok(Part::Data(data)),
            None => Err(malformed("answer without a part")),
        }
    }
}

impl From<Part> for wire::ReadReply {
    fn from(part: Part) -> Self {
        let part = match part {
            Part::Header(header) => wire::read_reply::Part::Header(header.into()),
            Part::Values(values) => wire::read_reply::Part::Values(values),
            Part::Data(data) => wire::read_reply::Part::Data(data),
        };
        wire::ReadReply { part: Some(part) }
    }
}

/// One small blob's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Small {
    Data(Bytes),
    Absent,
    Damaged,
    Busy,
}

/// A small blob's answer and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SmallReply {
    pub(crate) digest: Digest,
    pub(crate) small: Small,
}

impl TryFrom<wire::ReadManyReply> for SmallReply {
    type Error = Malformed;

    fn try_from(reply: wire::ReadManyReply) -> Result<Self, Malformed> {
        let wire::ReadManyReply { digest: raw, outcome } = reply;
        let small = match outcome {
            Some(wire::read_many_reply::Outcome::Data(data)) => Small::Data(data),
            Some(wire::read_many_reply::Outcome::Problem(problem)) => match wire::Problem::try_from(problem) {
                Ok(wire::Problem::Absent) => Small::Absent,
                Ok(wire::Problem::Damaged) => Small::Damaged,
                Ok(wire::Problem::Busy | wire::Problem::Unspecified) | Err(_) => Small::Busy,
            },
            None => return Err(malformed("answer without an outcome")),
        };
        Ok(SmallReply { digest: digest(&raw)?, small })
    }
}

impl From<SmallReply> for wire::ReadManyReply {
    fn from(reply: SmallReply) -> Self {
        use wire::read_many_reply::Outcome;
        let SmallReply { digest, small } = reply;
        let outcome = match small {
            Small::Data(data) => Outcome::Data(data),
            Small::Absent => Outcome::Problem(wire::Problem::Absent.into()),
            Small::Damaged => Outcome::Problem(wire::Problem::Damaged.into()),
            Small::Busy => Outcome::Problem(wire::Problem::Busy.into()),
        };
        wire::ReadManyReply { digest: digest_to_wire(&digest), outcome: Some(outcome) }
    }
}
