//! Between the room's words and those of `sessions.proto`.

use blobs::handle::SessionKey;
use domain::content_range::Chunk;
use domain::{Digest, RegionName, RepositoryName, Revision};
use proto::sessions::{self as wire, failure::Failure as Kind, session_reply::Reply};

use crate::fault::{ReadFault, Unavailable, WriteFault};
use crate::upload::{Error, Recorded, WrongDigest};

/// A peer sent what no node of ours sends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("peer sent a malformed message: {what}")]
pub(crate) struct Malformed {
    what: &'static str,
}

pub(crate) fn malformed(what: &'static str) -> Malformed {
    Malformed { what }
}

/// What the first part of a body says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) session: SessionKey,
    pub(crate) repository: RepositoryName,
    pub(crate) chunk: Option<Chunk>,
    pub(crate) digest: Option<Digest>,
    pub(crate) actor: String,
}

pub(crate) fn session_request(session: SessionKey, repository: &RepositoryName) -> wire::SessionRequest {
    wire::SessionRequest { session: session.0.to_vec().into(), repository: repository.as_str().to_owned() }
}

pub(crate) fn read_session(request: wire::SessionRequest) -> Result<(SessionKey, RepositoryName), Malformed> {
    let wire::SessionRequest { session, repository } = request;
    let key = session.as_ref().try_into().map_err(|_| malformed("session key"))?;
    let repository = RepositoryName::parse(&repository).map_err(|_| malformed("repository"))?;
    Ok((SessionKey(key), repository))
}

impl From<&Opening> for wire::Begin {
    fn from(opening: &Opening) -> Self {
        let Opening { session, repository, chunk, digest, actor } = opening;
        wire::Begin {
            session: Some(session_request(*session, repository)),
            offset: chunk.map(|chunk| chunk.offset),
            length: chunk.map(|chunk| chunk.length),
            digest: digest.map(|digest| digest.to_string()).unwrap_or_default(),
            actor: actor.clone(),
        }
    }
}

impl TryFrom<wire::Begin> for Opening {
    type Error = Malformed;

    fn try_from(begin: wire::Begin) -> Result<Self, Malformed> {
        let wire::Begin { session, offset, length, digest, actor } = begin;
        let (session, repository) = read_session(session.ok_or(malformed("begin without a session"))?)?;
        let chunk = match (offset, length) {
            (Some(offset), Some(length)) => Some(Chunk { offset, length }),
            (None, None) => None,
            _ => return Err(malformed("half a chunk")),
        };
        let digest = if digest.is_empty() { None } else { Some(read_digest(&digest)?) };
        Ok(Opening { session, repository, chunk, digest, actor })
    }
}

/// What an owner answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Offset(u64),
    Recorded(Recorded),
    Cancelled(bool),
}

pub(crate) fn write_reply(answer: Result<Answer, Error>) -> wire::SessionReply {
    let reply = match answer {
        Ok(Answer::Offset(offset)) => Reply::Offset(offset),
        Ok(Answer::Recorded(Recorded { revision })) => Reply::Recorded(wire::Recorded { revision: revision.0 }),
        Ok(Answer::Cancelled(known)) => Reply::Cancelled(known),
        Err(error) => Reply::Failure(wire::Failure { failure: Some(write_failure(error)) }),
    };
    wire::SessionReply { reply: Some(reply) }
}

pub(crate) fn read_reply(reply: wire::SessionReply) -> Result<Result<Answer, Error>, Malformed> {
    let wire::SessionReply { reply } = reply;
    Ok(match reply.ok_or(malformed("empty reply"))? {
        Reply::Offset(offset) => Ok(Answer::Offset(offset)),
        Reply::Recorded(wire::Recorded { revision }) => Ok(Answer::Recorded(Recorded { revision: Revision(revision) })),
        Reply::Cancelled(known) => Ok(Answer::Cancelled(known)),
        Reply::Failure(wire::Failure { failure }) => Err(read_failure(failure.ok_or(malformed("empty failure"))?)?),
    })
}

fn write_failure(error: Error) -> Kind {
    match error {
        Error::Unknown => Kind::Unknown(wire::Empty {}),
        Error::Ended { closed_as } => Kind::Ended(closed_as.map_or_else(String::new, |digest| digest.to_string())),
        Error::Offset { offset } => Kind::Offset(offset),
        Error::Body { detail } => Kind::Body(detail),
        Error::Length { expected, given } => Kind::Length(wire::WrongLength { expected, given }),
        Error::Digest(wrong) => {
            let WrongDigest { expected, actual } = *wrong;
            Kind::Digest(wire::WrongDigest { expected: expected.to_string(), actual: actual.to_string() })
        }
        Error::TooMany => Kind::TooMany(wire::Empty {}),
        Error::Full { region, free, reserve } => {
            Kind::Full(wire::Full { region: region.as_str().to_owned(), free, reserve })
        }
        Error::OwnerUnreachable { region, owner } => Kind::Unreachable(wire::Unreachable {
            region: region.as_str().to_owned(),
            owner: owner.as_str().to_owned(),
        }),
        Error::Storage { detail } => Kind::Storage(detail),
        Error::Write(WriteFault::Busy) => Kind::WriteBusy(wire::Empty {}),
        Error::Write(WriteFault::Unavailable(cause)) => Kind::WriteUnavailable(write_cause(cause)),
        Error::Write(WriteFault::Unknown) => Kind::WriteUnknown(wire::Empty {}),
        Error::Write(WriteFault::Internal { detail }) => Kind::WriteInternal(detail),
        Error::Read(ReadFault::Unavailable(cause)) => Kind::ReadUnavailable(write_cause(cause)),
        Error::Read(ReadFault::Internal { detail }) => Kind::ReadInternal(detail),
    }
}

fn read_failure(kind: Kind) -> Result<Error, Malformed> {
    Ok(match kind {
        Kind::Unknown(wire::Empty {}) => Error::Unknown,
        Kind::Ended(text) if text.is_empty() => Error::Ended { closed_as: None },
        Kind::Ended(text) => Error::Ended { closed_as: Some(read_digest(&text)?) },
        Kind::Offset(offset) => Error::Offset { offset },
        Kind::Body(detail) => Error::Body { detail },
        Kind::Length(wire::WrongLength { expected, given }) => Error::Length { expected, given },
        Kind::Digest(wire::WrongDigest { expected, actual }) => {
            Error::Digest(Box::new(WrongDigest { expected: read_digest(&expected)?, actual: read_digest(&actual)? }))
        }
        Kind::TooMany(wire::Empty {}) => Error::TooMany,
        Kind::Full(wire::Full { region, free, reserve }) => {
            Error::Full { region: read_region(&region)?, free, reserve }
        }
        Kind::Unreachable(wire::Unreachable { region, owner }) => {
            Error::OwnerUnreachable { region: read_region(&region)?, owner: read_region(&owner)? }
        }
        Kind::Storage(detail) => Error::Storage { detail },
        Kind::WriteBusy(wire::Empty {}) => WriteFault::Busy.into(),
        Kind::WriteUnavailable(cause) => WriteFault::Unavailable(read_cause(cause)?).into(),
        Kind::WriteUnknown(wire::Empty {}) => WriteFault::Unknown.into(),
        Kind::WriteInternal(detail) => WriteFault::Internal { detail }.into(),
        Kind::ReadUnavailable(cause) => ReadFault::Unavailable(read_cause(cause)?).into(),
        Kind::ReadInternal(detail) => ReadFault::Internal { detail }.into(),
    })
}

fn write_cause(cause: Unavailable) -> wire::Cause {
    let Unavailable { region, cut_off, detail } = cause;
    wire::Cause { region: region.as_str().to_owned(), detail, cut_off }
}

fn read_cause(cause: wire::Cause) -> Result<Unavailable, Malformed> {
    let wire::Cause { region, detail, cut_off } = cause;
    Ok(Unavailable { region: read_region(&region)?, cut_off, detail })
}

fn read_digest(text: &str) -> Result<Digest, Malformed> {
    Digest::parse(text).map_err(|_| malformed("digest"))
}

fn read_region(text: &str) -> Result<RegionName, Malformed> {
    RegionName::parse(text).map_err(|_| malformed("region name"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest() -> impl Strategy<Value = Digest> {
        prop_oneof![
            any::<[u8; 32]>().prop_map(Digest::Sha256),
            proptest::collection::vec(any::<u8>(), 64)
                .prop_map(|raw| { Digest::from_raw(domain::Algorithm::Sha512, &raw).expect("64 bytes") }),
        ]
    }

    fn region() -> impl Strategy<Value = RegionName> {
        "[a-z]{1,8}".prop_map(|text| RegionName::parse(&text).expect("valid"))
    }

    fn cause() -> impl Strategy<Value = Unavailable> {
        (region(), any::<bool>(), ".{0,20}").prop_map(|(region, cut_off, detail)| Unavailable {
            region,
            cut_off,
            detail,
        })
    }

    fn error() -> impl Strategy<Value = Error> {
        prop_oneof![
            Just(Error::Unknown),
            proptest::option::of(digest()).prop_map(|closed_as| Error::Ended { closed_as }),
            any::<u64>().prop_map(|offset| Error::Offset { offset }),
            ".{0,20}".prop_map(|detail| Error::Body { detail }),
            any::<(u64, u64)>().prop_map(|(expected, given)| Error::Length { expected, given }),
            (digest(), digest())
                .prop_map(|(expected, actual)| Error::Digest(Box::new(WrongDigest { expected, actual }))),
            Just(Error::TooMany),
            (region(), any::<(u64, u64)>()).prop_map(|(region, (free, reserve))| Error::Full { region, free, reserve }),
            (region(), region()).prop_map(|(region, owner)| Error::OwnerUnreachable { region, owner }),
            ".{0,20}".prop_map(|detail| Error::Storage { detail }),
            Just(WriteFault::Busy.into()),
            Just(WriteFault::Unknown.into()),
            cause().prop_map(|cause| WriteFault::Unavailable(cause).into()),
            cause().prop_map(|cause| ReadFault::Unavailable(cause).into()),
            ".{0,20}".prop_map(|detail| WriteFault::Internal { detail }.into()),
            ".{0,20}".prop_map(|detail| ReadFault::Internal { detail }.into()),
        ]
    }

    proptest! {
        #[test]
        fn answers_round_trip(error in error(), offset in any::<u64>(), known in any::<bool>()) {
            for answer in [
                Err(error),
                Ok(Answer::Offset(offset)),
                Ok(Answer::Cancelled(known)),
                Ok(Answer::Recorded(Recorded { revision: Revision(offset) })),
            ] {
                prop_assert_eq!(read_reply(write_reply(answer.clone())), Ok(answer));
            }
        }

        #[test]
        fn openings_round_trip(
            key in any::<[u8; 16]>(), digest in proptest::option::of(digest()), chunk in any::<Option<(u64, u64)>>()
        ) {
            let opening = Opening {
                session: SessionKey(key),
                repository: RepositoryName::parse("team/api").expect("valid"),
                chunk: chunk.map(|(offset, length)| Chunk { offset, length }),
                digest,
                actor: "anonymous".to_owned(),
            };
            prop_assert_eq!(Opening::try_from(wire::Begin::from(&opening)), Ok(opening));
        }
    }

    #[test]
    fn malformed_messages_are_refused() {
        let good = session_request(SessionKey([1; 16]), &RepositoryName::parse("a").expect("valid"));
        let begin = |session, offset, length, digest: &str| {
            Opening::try_from(wire::Begin { session, offset, length, digest: digest.to_owned(), actor: String::new() })
        };
        assert!(begin(Some(good.clone()), None, None, "").is_ok());
        assert!(begin(None, None, None, "").is_err());
        assert!(begin(Some(good.clone()), Some(1), None, "").is_err());
        assert!(begin(Some(good.clone()), None, None, "sha256:x").is_err());
        assert!(read_session(wire::SessionRequest { session: vec![0; 15].into(), ..good.clone() }).is_err());
        assert!(read_session(wire::SessionRequest { repository: "A".to_owned(), ..good }).is_err());
        assert!(read_reply(wire::SessionReply { reply: None }).is_err());
        assert!(
            read_reply(wire::SessionReply { reply: Some(Reply::Failure(wire::Failure { failure: None })) }).is_err()
        );
    }
}
