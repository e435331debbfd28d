//! Outcomes.

use domain::{Boot, NodeId, RegionId, Revision};
use proto::log::{self, outcome::Kind, refusal};

use super::Error;
use super::parts::{digest, digests, read_digest, read_digests, some};
use crate::outcome::{Outcome, Refusal};

pub(super) fn outcome(value: &Outcome) -> log::Outcome {
    let kind = match value {
        Outcome::Done => Kind::Done(log::Nothing {}),
        Outcome::Minted { node, region } => Kind::Minted(log::Minted { node: node.0, region: region.0 }),
        Outcome::StoreOpened { boot } => Kind::StoreOpened(boot.0),
        Outcome::ManifestPut { revision } => Kind::ManifestPut(revision.0),
        Outcome::StoreForgotten { done } => Kind::StoreForgotten(*done),
        Outcome::Refused(refusal) => Kind::Refused(refused(refusal)),
        Outcome::Stays(why) => Kind::Stays(refused(why)),
    };
    log::Outcome { kind: Some(kind) }
}

fn refused(value: &Refusal) -> log::Refusal {
    use refusal::Kind;
    let kind = match value {
        Refusal::Lifecycle { detail } => Kind::Lifecycle(detail.clone()),
        Refusal::TooOld => Kind::TooOld(log::Nothing {}),
        Refusal::UnknownRepository => Kind::UnknownRepository(log::Nothing {}),
        Refusal::UnknownManifest => Kind::UnknownManifest(log::Nothing {}),
        Refusal::Unknown { digests: unknown } => Kind::Unknown(log::Digests { digests: digests(unknown) }),
        Refusal::NotYetDurable { digests: waiting, have, need } => {
            Kind::NotYetDurable(log::NotYetDurable { digests: digests(waiting), have: *have, need: *need })
        }
        Refusal::Precondition { current } => {
            Kind::Precondition(log::PreconditionFailed { current: current.as_ref().map(digest) })
        }
        Refusal::Immutable { tag, prefix } => {
            Kind::Immutable(log::Immutable { tag: tag.clone(), prefix: prefix.clone() })
        }
        Refusal::Referenced => Kind::Referenced(log::Nothing {}),
        Refusal::Fenced => Kind::Fenced(log::Nothing {}),
        Refusal::LastCopies { count, bytes, digests: some } => {
            Kind::LastCopies(log::LastCopies { count: *count, bytes: *bytes, digests: digests(some) })
        }
        Refusal::Invalid { detail } => Kind::Invalid(detail.clone()),
    };
    log::Refusal { kind: Some(kind) }
}

pub(super) fn read_outcome(message: log::Outcome) -> Result<Outcome, Error> {
    let log::Outcome { kind } = message;
    Ok(match some(kind, "outcome")? {
        Kind::Done(log::Nothing {}) => Outcome::Done,
        Kind::Minted(log::Minted { node, region }) => Outcome::Minted { node: NodeId(node), region: RegionId(region) },
        Kind::StoreOpened(boot) => Outcome::StoreOpened { boot: Boot(boot) },
        Kind::ManifestPut(revision) => Outcome::ManifestPut { revision: Revision(revision) },
        Kind::StoreForgotten(done) => Outcome::StoreForgotten { done },
        Kind::Refused(refusal) => Outcome::Refused(read_refused(refusal)?),
        Kind::Stays(why) => Outcome::Stays(read_refused(why)?),
    })
}

fn read_refused(message: log::Refusal) -> Result<Refusal, Error> {
    use refusal::Kind;
    let log::Refusal { kind } = message;
    Ok(match some(kind, "refusal")? {
        Kind::Lifecycle(detail) => Refusal::Lifecycle { detail },
        Kind::TooOld(log::Nothing {}) => Refusal::TooOld,
        Kind::UnknownRepository(log::Nothing {}) => Refusal::UnknownRepository,
        Kind::UnknownManifest(log::Nothing {}) => Refusal::UnknownManifest,
        Kind::Unknown(log::Digests { digests }) => Refusal::Unknown { digests: read_digests(&digests)? },
        Kind::NotYetDurable(log::NotYetDurable { digests, have, need }) => {
            Refusal::NotYetDurable { digests: read_digests(&digests)?, have, need }
        }
        Kind::Precondition(log::PreconditionFailed { current }) => {
            Refusal::Precondition { current: current.as_ref().map(read_digest).transpose()? }
        }
        Kind::Immutable(log::Immutable { tag, prefix }) => Refusal::Immutable { tag, prefix },
        Kind::Referenced(log::Nothing {}) => Refusal::Referenced,
        Kind::Fenced(log::Nothing {}) => Refusal::Fenced,
        Kind::LastCopies(log::LastCopies { count, bytes, digests }) => {
            Refusal::LastCopies { count, bytes, digests: read_digests(&digests)? }
        }
        Kind::Invalid(detail) => Refusal::Invalid { detail },
    })
}
