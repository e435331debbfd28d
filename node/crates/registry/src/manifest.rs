//! Manifests: read, put, delete.

use bytes::Bytes;
use domain::digest::Algorithm;
use domain::manifest as document;
use domain::{Digest, Reference, RepositoryName, Revision, Tag};
use metadata::View;
use metadata::command::{Command, ManifestChild, Precondition, PutManifest};
use metadata::handle::Origin;
use metadata::outcome::{Outcome, Refusal};
use ring::digest as hash;

use crate::condition::{Condition, current_text};
use crate::fault::{self, AsOf, ReadFault, Unavailable, WriteFault};
use crate::handle::Handle;
use crate::read::{Asked, blocking};

mod get;

pub(crate) use get::Short;
pub use get::{Found, GetError};

mod propose;

/// Bodies from which on hashing and parsing leave the async threads. Unit: bytes.
const BLOCKING_BYTES_MIN: usize = 32 * 1024;

/// Why a manifest was not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// Not a manifest that this registry stores. HTTP 400, 413 when too large.
    #[error(transparent)]
    Invalid(#[from] document::Error),
    /// The body does not hash to the digest in the URL. HTTP 400.
    #[error("content hashes to `{actual}`, not to `{expected}`")]
    Digest {
        /// What the client said.
        expected: Digest,
        /// What the bytes are.
        actual: Digest,
    },
    /// Blobs or manifests it names are not in the repository. HTTP 400 MANIFEST_BLOB_UNKNOWN.
    #[error("the manifest names {} blobs or manifests that `{repository}` does not hold", digests.len())]
    Missing {
        /// The repository.
        repository: RepositoryName,
        /// All of them.
        digests: Vec<Digest>,
    },
    /// `If-Match` or `If-None-Match` does not hold. HTTP 412.
    #[error("the precondition does not hold: {}", current_text(*.current))]
    Precondition {
        /// What the tag names now.
        current: Option<Digest>,
    },
    /// A policy forbids the tag to move. HTTP 403.
    #[error("tag `{tag}` is immutable by the policy of `{prefix}`")]
    Immutable {
        /// The tag.
        tag: String,
        /// The policy's prefix.
        prefix: String,
    },
    /// Its blobs did not become durable in enough regions in time; nothing changed. HTTP 503.
    #[error(
        "{missing} blobs of the manifest are in {have} of the {need} regions that their durability asks for; retry: they are on their way"
    )]
    NotDurable {
        /// Blobs short of it.
        missing: usize,
        /// Regions the least durable one is in.
        have: u32,
        /// Regions needed.
        need: u32,
    },
    /// The write was not done, or is not known to be.
    #[error(transparent)]
    Write(#[from] WriteFault),
    /// A proof that the answer needs.
    #[error(transparent)]
    Read(#[from] ReadFault),
}

impl PutError {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            PutError::NotDurable { .. } => true,
            PutError::Invalid(_)
            | PutError::Digest { .. }
            | PutError::Missing { .. }
            | PutError::Precondition { .. }
            | PutError::Immutable { .. } => false,
            PutError::Write(fault) => fault.is_retryable(),
            PutError::Read(fault) => fault.is_retryable(),
        }
    }

    /// Whether certainly nothing changed.
    pub fn has_no_side_effects(&self) -> bool {
        match self {
            PutError::Write(fault) => fault.has_no_side_effects(),
            PutError::Invalid(_)
            | PutError::Digest { .. }
            | PutError::Missing { .. }
            | PutError::Precondition { .. }
            | PutError::Immutable { .. }
            | PutError::NotDurable { .. }
            | PutError::Read(_) => true,
        }
    }
}

/// Why a manifest or tag was not deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// No such repository. HTTP 404 NAME_UNKNOWN.
    #[error("repository `{repository}` is not known")]
    UnknownRepository {
        /// The repository.
        repository: RepositoryName,
    },
    /// No such manifest or tag. HTTP 404 MANIFEST_UNKNOWN.
    #[error("`{reference}` is not known in `{repository}`")]
    Unknown {
        /// The repository.
        repository: RepositoryName,
        /// What was to go.
        reference: Reference,
    },
    /// A policy forbids it. HTTP 403.
    #[error("tag `{tag}` is immutable by the policy of `{prefix}`")]
    Immutable {
        /// The tag.
        tag: String,
        /// The policy's prefix.
        prefix: String,
    },
    /// `If-Match` or `If-None-Match` does not hold. HTTP 412.
    #[error("the precondition does not hold: {}", current_text(Some(*.current)))]
    Precondition {
        /// What is there now.
        current: Digest,
    },
    /// The write was not done, or is not known to be.
    #[error(transparent)]
    Write(#[from] WriteFault),
    /// A proof that the answer needs.
    #[error(transparent)]
    Read(#[from] ReadFault),
}

impl DeleteError {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            DeleteError::UnknownRepository { .. }
            | DeleteError::Unknown { .. }
            | DeleteError::Immutable { .. }
            | DeleteError::Precondition { .. } => false,
            DeleteError::Write(fault) => fault.is_retryable(),
            DeleteError::Read(fault) => fault.is_retryable(),
        }
    }

    /// Whether certainly nothing changed.
    pub fn has_no_side_effects(&self) -> bool {
        match self {
            DeleteError::UnknownRepository { .. }
            | DeleteError::Unknown { .. }
            | DeleteError::Immutable { .. }
            | DeleteError::Precondition { .. }
            | DeleteError::Read(_) => true,
            DeleteError::Write(fault) => fault.has_no_side_effects(),
        }
    }
}

/// A manifest to store.
#[derive(Clone, Debug)]
pub struct Put {
    /// Repository.
    pub repository: RepositoryName,
    /// What the URL names.
    pub reference: Reference,
    /// Tags from `?tag=`, for a put by digest; distinct.
    pub tags: Vec<Tag>,
    /// The exact bytes.
    pub body: Bytes,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `If-Match`, `If-None-Match`.
    pub condition: Option<Condition>,
    /// Who asks.
    pub origin: Origin,
}

/// A manifest that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its digest, as the client named it, else sha256.
    pub digest: Digest,
    /// Revision of its last move.
    pub revision: Revision,
    /// Its subject: `OCI-Subject`.
    pub subject: Option<Digest>,
    /// Tags from `?tag=`: `OCI-Tag`.
    pub tags: Vec<Tag>,
}

impl Handle {
    /// Stores a manifest and moves its tags.
    pub async fn manifest_put(&self, put: Put) -> Result<Stored, PutError> {
        let Put { repository, reference, tags, body, content_type, condition, origin } = put;
        let algorithm = match &reference {
            Reference::Digest(digest) => digest.algorithm(),
            Reference::Tag(_) => Algorithm::Sha256,
        };
        let (parsed, actual, body) = examine(body, content_type, algorithm).await?;
        let (moved, echoed) = match reference {
            Reference::Digest(expected) if expected != actual => return Err(PutError::Digest { expected, actual }),
            Reference::Digest(_) => (tags.clone(), tags),
            Reference::Tag(tag) => (vec![tag], Vec::new()),
        };
        let any = condition == Some(Condition::Present);
        let precondition = match condition {
            Some(Condition::Present) => Some(self.present(&repository, actual, &moved).await?),
            other => other.and_then(Condition::precondition),
        };
        let (subject, bytes) = (parsed.subject, body.len());
        let command = command(repository.clone(), parsed, actual, body, moved, precondition);
        let revision = self.propose_put(origin, command, repository, any).await?;
        self.short_manifests().note(actual, bytes);
        Ok(Stored { digest: actual, revision, subject, tags: echoed })
    }

    /// `If-Match: *` as a precondition that `apply` can judge: what is there now, as a proved read says.
    async fn present(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        tags: &[Tag],
    ) -> Result<Precondition, PutError> {
        let (repository, tags) = (repository.clone(), tags.to_vec());
        let find = move |view: &View| -> Result<Option<Vec<Digest>>, metadata::view::Error> {
            if tags.is_empty() {
                return Ok(view.manifest(&repository, &digest)?.map(|_| vec![digest]));
            }
            let mut current = Vec::with_capacity(tags.len());
            for tag in &tags {
                let Some(row) = view.tag(&repository, tag)? else { return Ok(None) };
                current.push(row.digest);
            }
            Ok(Some(current))
        };
        let (current, _) = self.prove(Asked::default().strict(), find).await?;
        current.map(Precondition::Matches).ok_or(PutError::Precondition { current: None })
    }

    /// Deletes a manifest with its tags, or a tag alone, if the condition holds.
    pub async fn manifest_delete(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        condition: Option<Condition>,
        origin: Origin,
    ) -> Result<AsOf, DeleteError> {
        let command = match reference {
            Reference::Digest(digest) if condition.as_ref().is_some_and(|condition| !condition.holds(digest)) => {
                return Err(self.keeps(repository, *digest).await?);
            }
            Reference::Digest(digest) => Command::DeleteManifest { repository: repository.clone(), digest: *digest },
            Reference::Tag(tag) => Command::DeleteTag {
                repository: repository.clone(),
                tag: tag.clone(),
                precondition: condition.and_then(Condition::precondition),
            },
        };
        let refusal = match self.metadata().propose(origin, command).await {
            Ok(applied) => return Ok(AsOf::at(applied.revision)),
            Err(error) => fault::of_proposal(error, &self.here(""))?,
        };
        let repository = repository.clone();
        match refusal {
            Refusal::UnknownRepository => Err(DeleteError::UnknownRepository { repository }),
            Refusal::UnknownManifest | Refusal::Unknown { .. } => {
                Err(DeleteError::Unknown { repository, reference: reference.clone() })
            }
            Refusal::Immutable { tag, prefix } => Err(DeleteError::Immutable { tag, prefix }),
            Refusal::Precondition { current: Some(current) } => Err(DeleteError::Precondition { current }),
            other => Err(WriteFault::of_refusal(&other, &self.here("")).into()),
        }
    }

    /// Why a manifest stays whose digest does not meet the condition: what is not there is unknown, as without one.
    async fn keeps(&self, repository: &RepositoryName, digest: Digest) -> Result<DeleteError, ReadFault> {
        let reference = Reference::Digest(digest);
        match self.manifest(repository, &reference, Asked::default().strict(), true).await {
            Ok(_) => Ok(DeleteError::Precondition { current: digest }),
            Err(GetError::UnknownRepository { repository, .. }) => Ok(DeleteError::UnknownRepository { repository }),
            Err(GetError::Unknown { repository, reference, .. }) => Ok(DeleteError::Unknown { repository, reference }),
            Err(GetError::Read(fault)) => Err(fault),
        }
    }
}

fn put_revision(outcome: &Outcome) -> Option<Revision> {
    match outcome {
        Outcome::ManifestPut { revision } => Some(*revision),
        Outcome::Done
        | Outcome::Minted { .. }
        | Outcome::StoreOpened { .. }
        | Outcome::StoreForgotten { .. }
        | Outcome::Refused(_)
        | Outcome::Stays(_) => None,
    }
}

fn put_error(refusal: Refusal, repository: &RepositoryName, here: &Unavailable) -> PutError {
    match refusal {
        Refusal::Unknown { digests } => PutError::Missing { repository: repository.clone(), digests },
        Refusal::Precondition { current } => PutError::Precondition { current },
        Refusal::Immutable { tag, prefix } => PutError::Immutable { tag, prefix },
        other => WriteFault::of_refusal(&other, here).into(),
    }
}

fn command(
    repository: RepositoryName,
    parsed: document::Manifest,
    digest: Digest,
    body: Bytes,
    tags: Vec<Tag>,
    precondition: Option<Precondition>,
) -> PutManifest {
    let document::Manifest { media_type, children, subject, artifact_type, annotations } = parsed;
    let child = |child: document::Child| {
        let document::Child { digest, size: _, exempt, may_be_manifest } = child;
        ManifestChild { digest, exempt, may_be_manifest }
    };
    PutManifest {
        repository,
        digest,
        media_type,
        body,
        children: children.into_iter().map(child).collect(),
        subject,
        artifact_type,
        // Only a referrers list shows them; without a subject they would only make the command larger.
        annotations: if subject.is_some() { annotations } else { Vec::new() },
        tags,
        precondition,
    }
}

/// Parses and hashes a body.
async fn examine(
    body: Bytes,
    content_type: Option<String>,
    algorithm: Algorithm,
) -> Result<(document::Manifest, Digest, Bytes), PutError> {
    let large = body.len() >= BLOCKING_BYTES_MIN;
    let work = move || {
        let parsed = document::parse(&body, content_type.as_deref())?;
        Ok::<_, document::Error>((parsed, digest_of(algorithm, &body), body))
    };
    Ok(if large { blocking(work).await?? } else { work()? })
}

/// The digest of bytes.
pub fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let hash = match algorithm {
        Algorithm::Sha256 => hash::digest(&hash::SHA256, bytes),
        Algorithm::Sha512 => hash::digest(&hash::SHA512, bytes),
    };
    Digest::from_raw(algorithm, hash.as_ref()).expect("a hash has the length of its algorithm")
}

/// A short fingerprint of an answer, for its `ETag`.
pub fn fingerprint(bytes: &[u8]) -> String {
    domain::digest::encode_hex(&hash::digest(&hash::SHA256, bytes).as_ref()[..16])
}
