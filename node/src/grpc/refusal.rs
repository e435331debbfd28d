//! Refusals as gRPC statuses: code for the exit code, message for what and why, metadata for what to do next.

use metadata::birth;
use metadata::handle::{ProposeError, ReadError, TransferError};
use metadata::outcome::Refusal;
use registry::WriteFault;
use registry::history;
use registry::manifest::PutError;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// Metadata key of what to do next, UTF-8.
pub(super) const NEXT: &str = "longshore-next-bin";

/// A status that says what to do next.
pub(super) fn refuse(code: Code, what: impl Into<String>, next: &str) -> Status {
    let mut status = Status::new(code, what);
    if !next.is_empty() {
        status.metadata_mut().insert_bin(NEXT, MetadataValue::from_bytes(next.as_bytes()));
    }
    status
}

pub(super) fn from_birth(error: &birth::Error) -> Status {
    let text = error.to_string();
    match error {
        birth::Error::Identity { .. } => {
            refuse(Code::Internal, text, "see docs/operations.md, \"A node does not start\"")
        }
        birth::Error::AlreadyMember { .. } => refuse(
            Code::FailedPrecondition,
            text,
            "run `cluster-cli status` to see its cluster; name another node with --node",
        ),
        birth::Error::Unavailable { .. } => {
            let next =
                "name the peer door of a member that runs; with one, run it again once a majority of the regions is up";
            refuse(Code::Unavailable, text, next)
        }
        birth::Error::Refused { .. } => {
            refuse(Code::Aborted, text, "run `cluster-cli status` to see regions and nodes")
        }
        birth::Error::Storage { .. } => {
            refuse(Code::Internal, text, "look at the disk and the node's log, then run it again")
        }
    }
}

pub(super) fn from_propose(error: &ProposeError) -> Status {
    let text = error.to_string();
    match error {
        ProposeError::Refused(refusal) => from_refusal(refusal),
        ProposeError::Busy => refuse(Code::ResourceExhausted, text, "run it again in a few seconds"),
        ProposeError::Unavailable { .. } => {
            refuse(Code::Unavailable, text, "nothing was changed; run it again once a majority of the regions is up")
        }
        ProposeError::Unknown => refuse(
            Code::DeadlineExceeded,
            text,
            "look with `cluster-cli status`, then run it again: repeating it is harmless",
        ),
    }
}

/// A policy that was not set.
pub(super) fn from_policy(error: &ProposeError) -> Status {
    match error {
        ProposeError::Refused(Refusal::Invalid { .. }) => {
            let next = "prefixes are whole lower-case components such as team/api, globs look like v* or 1.?; \
                        see `cluster-cli policy set --help`";
            refuse(Code::InvalidArgument, error.to_string(), next)
        }
        _ => from_propose(error),
    }
}

/// A leadership that was not handed on.
pub(super) fn from_transfer(error: &TransferError) -> Status {
    let text = error.to_string();
    match error {
        TransferError::NoVote(_) => refuse(
            Code::FailedPrecondition,
            text,
            "name a node of a region that is ready: `cluster-cli status --verbose`",
        ),
        TransferError::Silent(_) => refuse(Code::Unavailable, text, "start that node, or name another one"),
        TransferError::NoQuorum => refuse(Code::Unavailable, text, "run it again once a majority of the regions is up"),
        TransferError::Alone => refuse(Code::Unavailable, text, "start or join another region first"),
        TransferError::NotLeader(_) | TransferError::NotTaken(_) => {
            refuse(Code::Unavailable, text, "see who leads with `cluster-cli status --verbose`, then run it again")
        }
    }
}

pub(super) fn from_refusal(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    let (code, next) = match refusal {
        Refusal::LastCopies { .. } => (
            Code::FailedPrecondition,
            "wait until other regions hold them (`cluster-cli status`), then run it again; --force gives them up",
        ),
        Refusal::Lifecycle { .. } => (Code::FailedPrecondition, "run `cluster-cli status` to see the cluster's state"),
        Refusal::Invalid { .. } => (Code::InvalidArgument, "run `cluster-cli regions` to see what there is"),
        Refusal::TooOld | Refusal::NotYetDurable { .. } => (Code::Unavailable, "run it again"),
        _ => (Code::Aborted, ""),
    };
    refuse(code, text, next)
}

/// A tag's history that is not shown, or a tag that was not put back.
pub(super) fn from_history(error: &history::Error) -> Status {
    let text = error.to_string();
    let look = "see where the tag pointed with `cluster-cli tags history`";
    let again = "nothing was changed; run it again once a majority of the regions is up";
    match error {
        history::Error::Unknown { .. } => refuse(Code::InvalidArgument, text, "check repository and tag"),
        history::Error::NoTarget(_) => refuse(Code::InvalidArgument, text, look),
        history::Error::Gone { .. } => {
            refuse(Code::FailedPrecondition, text, "push it again, or name another revision")
        }
        history::Error::Put(PutError::Precondition { .. }) => {
            refuse(Code::Unavailable, "the tag moved meanwhile".to_owned(), look)
        }
        history::Error::Put(PutError::Immutable { .. }) => {
            refuse(Code::FailedPrecondition, text, "see the policy with `cluster-cli policy show`")
        }
        history::Error::Put(PutError::Missing { .. }) => {
            refuse(Code::FailedPrecondition, text, "push what is missing again, or name another revision")
        }
        history::Error::Put(PutError::Write(WriteFault::Unknown)) => {
            refuse(Code::DeadlineExceeded, text, "look with `cluster-cli tags history` before you run it again")
        }
        history::Error::Put(PutError::NotDurable { .. } | PutError::Write(_) | PutError::Read(_)) => {
            refuse(Code::Unavailable, text, again)
        }
        history::Error::Put(PutError::Invalid(_) | PutError::Digest { .. }) => refuse(Code::Internal, text, ""),
        history::Error::Read(_) => refuse(Code::Unavailable, text, again),
    }
}

pub(super) fn from_read(error: &ReadError) -> Status {
    let text = error.to_string();
    match error {
        ReadError::Unavailable { .. } => {
            refuse(Code::Unavailable, text, "run it again once a majority of the regions is up")
        }
        ReadError::State(_) => refuse(Code::Internal, text, "look at the node's log and disk"),
    }
}

pub(super) fn from_state(error: &metadata::view::Error) -> Status {
    refuse(Code::Internal, error.to_string(), "look at the node's log and disk")
}
