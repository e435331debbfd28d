//! Requests and what came of them.

use std::fmt;
use std::sync::Arc;

/// Name of a repository or a tag, or a digest.
pub type Name = Arc<str>;

/// A request, when it ran, and what its client learned.
///
/// Times are ticks of one counter that all clients share: what ended before something else began has the smaller number.
#[derive(Clone, Debug)]
pub struct Event {
    /// Who asked.
    pub client: usize,
    /// Tick before it was sent.
    pub start: u64,
    /// Tick after its answer was read.
    pub end: u64,
    /// Node that answered; 0 when it did not say.
    pub node: u64,
    /// What was asked.
    pub request: Request,
    /// What came of it.
    pub outcome: Outcome,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The last step of an upload.
    PushBlob {
        /// Repository.
        repository: Name,
        /// The blob.
        digest: Name,
    },
    /// `POST ?mount=`
    MountBlob {
        /// Repository it is mounted into.
        repository: Name,
        /// Where it comes from; from anywhere when none.
        from: Option<Name>,
        /// The blob.
        digest: Name,
    },
    /// `DELETE` of a blob.
    DeleteBlob {
        /// Repository.
        repository: Name,
        /// The blob.
        digest: Name,
    },
    /// `PUT` of a manifest.
    PutManifest(Put),
    /// `DELETE` of a manifest by digest.
    DeleteManifest {
        /// Repository.
        repository: Name,
        /// The manifest.
        digest: Name,
    },
    /// `DELETE` of a tag.
    DeleteTag {
        /// Repository.
        repository: Name,
        /// The tag.
        tag: Name,
    },
    /// Anything that changes nothing.
    Read(Read),
}

/// A put of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Repository.
    pub repository: Name,
    /// What is put.
    pub digest: Name,
    /// Tags that shall name it: the one of the path, or those of `?tag=`.
    pub tags: Vec<Name>,
    /// Its precondition.
    pub condition: Condition,
}

/// A precondition of a put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// None.
    Always,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match: *`
    Present,
    /// `If-Match` with digests.
    Matches(Vec<Name>),
}

/// A read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Repository.
    pub repository: Name,
    /// What it asks.
    pub question: Question,
    /// Which proof it asks for.
    pub demand: Demand,
    /// `Longshore-Min-Revision`
    pub min_revision: Option<u64>,
}

/// What a read asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// What a tag names.
    Tag(Name),
    /// Whether a manifest is there, by digest.
    Manifest(Name),
    /// Whether a client may count on a blob.
    HeadBlob(Name),
    /// A blob's bytes.
    GetBlob(Name),
    /// A page of tags.
    Tags {
        /// Rows wanted; as many as there are when none.
        rows: Option<usize>,
        /// Only what comes after.
        last: Option<Name>,
        /// The walk through all pages that this page belongs to.
        walk: u64,
    },
    /// What refers to a subject.
    Referrers {
        /// The subject.
        subject: Name,
        /// Only those of this type.
        artifact_type: Option<Name>,
    },
}

/// Which proof a read asks for, by `Longshore-Consistency`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing is said: strict, but for a blob's bytes.
    Usual,
    /// `strict`
    Strict,
    /// `local`
    Local,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// An answer that says what happened.
    Answered(Answer),
    /// Certainly nothing was done: a documented 503 or 429.
    Refused,
    /// It may have been done: a documented 504, or a connection that broke.
    Unknown,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Longshore-Revision`
    pub revision: Option<u64>,
    /// It says of itself that it may be stale.
    pub is_stale: bool,
    /// What else it says.
    pub said: Said,
}

/// What an answer says beside its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing that matters here; of an error: it had no body (HEAD).
    Nothing,
    /// An error code.
    Code(Name),
    /// 412: what the first tag names whose precondition does not hold.
    Current(Option<Name>),
    /// 400: what the repository lacks, in order.
    Missing(Vec<Name>),
    /// The manifest, by digest.
    Digest(Name),
    /// A page of tags.
    Tags {
        /// In order.
        tags: Vec<Name>,
        /// A `Link` leads to more.
        more: bool,
    },
    /// Digests of referrers, in order.
    Referrers(Vec<Name>),
}

impl Event {
    /// Its answer, if it has one.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Answered(answer) => Some(answer),
            Outcome::Refused | Outcome::Unknown => None,
        }
    }

    /// The revision that its answer names.
    pub fn revision(&self) -> Option<u64> {
        self.answer().and_then(|answer| answer.revision)
    }
}

impl Request {
    /// Whether it changes nothing.
    pub fn is_read(&self) -> bool {
        matches!(self, Request::Read(_))
    }

    /// Which kind it is, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Request::PushBlob { .. } => "push blob",
            Request::MountBlob { from: Some(_), .. } => "mount",
            Request::MountBlob { from: None, .. } => "mount from anywhere",
            Request::DeleteBlob { .. } => "delete blob",
            Request::PutManifest(put) => match put.condition {
                Condition::Always => "put manifest",
                Condition::Absent => "put if absent",
                Condition::Present => "put if present",
                Condition::Matches(_) => "put if match",
            },
            Request::DeleteManifest { .. } => "delete manifest",
            Request::DeleteTag { .. } => "delete tag",
            Request::Read(read) => match read.question {
                Question::Tag(_) => "read tag",
                Question::Manifest(_) => "read manifest",
                Question::HeadBlob(_) => "head blob",
                Question::GetBlob(_) => "get blob",
                Question::Tags { .. } => "list tags",
                Question::Referrers { .. } => "list referrers",
            },
        }
    }
}

/// The first characters of a digest, or the whole name.
fn short(name: &str) -> &str {
    let end = name.find(':').map_or(name.len(), |colon| (colon + 9).min(name.len()));
    &name[..end]
}

fn list(names: &[Name]) -> String {
    names.iter().map(|name| short(name)).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Request {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Request::PushBlob { repository, digest }
            | Request::DeleteBlob { repository, digest }
            | Request::DeleteManifest { repository, digest } => write!(out, "{kind} {repository} {}", short(digest)),
            Request::MountBlob { repository, from, digest } => {
                write!(out, "{kind} {repository} {} from {}", short(digest), from.as_deref().unwrap_or("anywhere"))
            }
            Request::DeleteTag { repository, tag } => write!(out, "{kind} {repository}:{tag}"),
            Request::PutManifest(Put { repository, digest, tags, condition }) => {
                write!(out, "{kind} {repository} {} under [{}]", short(digest), list(tags))?;
                if let Condition::Matches(digests) = condition {
                    write!(out, " match [{}]", list(digests))
                } else {
                    Ok(())
                }
            }
            Request::Read(Read { repository, question, demand, min_revision }) => {
                write!(out, "{kind} {repository} ")?;
                match question {
                    Question::Tag(name)
                    | Question::Manifest(name)
                    | Question::HeadBlob(name)
                    | Question::GetBlob(name) => write!(out, "{}", short(name))?,
                    Question::Tags { rows, last, walk } => write!(out, "n={rows:?} last={last:?} (walk {walk})")?,
                    Question::Referrers { subject, artifact_type } => {
                        write!(out, "{} type={artifact_type:?}", short(subject))?;
                    }
                }
                write!(out, " {demand:?} min={min_revision:?}")
            }
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Nothing => write!(out, "nothing"),
            Said::Code(code) => write!(out, "{code}"),
            Said::Current(current) => write!(out, "current {}", current.as_deref().map_or("none", short)),
            Said::Missing(digests) => write!(out, "missing [{}]", list(digests)),
            Said::Digest(digest) => write!(out, "{}", short(digest)),
            Said::Tags { tags, more } => write!(out, "[{}]{}", list(tags), if *more { " and more" } else { "" }),
            Said::Referrers(digests) => write!(out, "[{}]", list(digests)),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { client, start, end, node, request, outcome } = self;
        write!(out, "client {client} at node {node}, ticks {start} to {end}: {request}: ")?;
        match outcome {
            Outcome::Answered(Answer { status, revision, is_stale, said }) => {
                let revision = revision.map_or("no revision".to_owned(), |revision| format!("revision {revision}"));
                write!(out, "{status}, {said}, {revision}{}", if *is_stale { ", stale" } else { "" })
            }
            Outcome::Refused => write!(out, "refused"),
            Outcome::Unknown => write!(out, "unknown"),
        }
    }
}
