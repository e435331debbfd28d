//! Pushing blobs: sessions, closing them, mounts.
//!
//! A session lives on one node; requests that arrive elsewhere are passed on to it, and every answer is the one its
//! owner gives, for both ways run through [`Sessions`].

use std::future::Future;

use blobs::handle::{BodyFault, ByteStream, UploadError};
use domain::content_range::Chunk;
use domain::{Digest, RegionName, RepositoryName, Revision};
use metadata::command::Command;
use metadata::handle::{Demand, Origin};
use metadata::outcome::Refusal;

use crate::blob;
use crate::fault::{self, ReadFault, Unavailable, WriteFault};
use crate::handle::Handle;
use crate::local::Local;
use crate::network::Remote;
use crate::pins;
use crate::read::Asked;
use crate::session_id::SessionId;

/// A request's body as a stream.
pub type Body = ByteStream<BodyError>;

/// A body ended before its end: a connection broke off, or idled for too long.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct BodyError {
    detail: String,
    is_of_link: bool,
}

impl BodyError {
    /// The client's own connection: what came before is kept, for the client can ask how far it got.
    pub fn of_client(detail: impl Into<String>) -> Self {
        BodyError { detail: detail.into(), is_of_link: false }
    }

    /// The link from the node that passes the body on: its client is told that nothing was done, and sends it again.
    pub(crate) fn of_link(detail: impl Into<String>) -> Self {
        BodyError { detail: detail.into(), is_of_link: true }
    }
}

impl BodyFault for BodyError {
    fn keeps_what_came(&self) -> bool {
        !self.is_of_link
    }
}

/// Bytes do not hash to the digest that the client named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("content hashes to `{actual}`, not to `{expected}`")]
pub struct WrongDigest {
    /// What the client said.
    pub expected: Digest,
    /// What the bytes are.
    pub actual: Digest,
}

/// Why a step of a push was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such session: never was, expired, cancelled, closed, of another repository, or its owner is gone for good.
    #[error("upload session is not known; begin a new one")]
    Unknown,
    /// The session is over, and its owner remembers how. HTTP 404, or the answer of its success once more.
    #[error("upload session is not known; begin a new one")]
    Ended {
        /// What it was closed as, if it was not cancelled, and did not fail in its last step.
        closed_as: Option<Digest>,
    },
    /// The chunk does not begin at the session's offset, or another request is writing; nothing changed.
    #[error("the session is at offset {offset}; continue from there")]
    Offset {
        /// Durable bytes.
        offset: u64,
    },
    /// The client's body broke off.
    #[error("request body broke off: {detail}")]
    Body {
        /// What the transport said.
        detail: String,
    },
    /// The body is not as long as announced; the offset is unchanged.
    #[error("body has {given} bytes, {expected} were announced")]
    Length {
        /// Announced.
        expected: u64,
        /// Received.
        given: u64,
    },
    /// The bytes do not hash to the digest.
    #[error(transparent)]
    Digest(Box<WrongDigest>),
    /// Too many sessions are open.
    #[error("too many uploads are open in this region, retry in a moment")]
    TooMany,
    /// The region's disk is full to its reserve.
    #[error(
        "the blob storage of {region} is full ({free} bytes free, {reserve} kept in reserve); pulls work; push to another region or retry later"
    )]
    Full {
        /// The region.
        region: RegionName,
        /// Free bytes.
        free: u64,
        /// Reserve.
        reserve: u64,
    },
    /// The session lives in another region, which does not answer.
    #[error("the upload session lives in {owner}, which {region} cannot reach now; retry, or begin the upload again")]
    OwnerUnreachable {
        /// The region that answers.
        region: RegionName,
        /// The region that owns the session.
        owner: RegionName,
    },
    /// The region's disk failed; the session stands at its last durable offset.
    #[error("blob storage failed: {detail}")]
    Storage {
        /// What happened.
        detail: String,
    },
    /// Recording the blob.
    #[error(transparent)]
    Write(#[from] WriteFault),
    /// A proof that the answer needs.
    #[error(transparent)]
    Read(#[from] ReadFault),
}

impl Error {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::TooMany | Error::Full { .. } | Error::OwnerUnreachable { .. } => true,
            Error::Offset { .. } | Error::Body { .. } | Error::Storage { .. } => true,
            Error::Unknown | Error::Ended { .. } | Error::Length { .. } | Error::Digest(_) => false,
            Error::Write(fault) => fault.is_retryable(),
            Error::Read(fault) => fault.is_retryable(),
        }
    }

    /// Whether certainly nothing changed.
    pub fn has_no_side_effects(&self) -> bool {
        match self {
            Error::Body { .. } | Error::Storage { .. } | Error::Digest(_) => false,
            Error::Write(fault) => fault.has_no_side_effects(),
            Error::Unknown
            | Error::Ended { .. }
            | Error::Offset { .. }
            | Error::Length { .. }
            | Error::TooMany
            | Error::Full { .. }
            | Error::OwnerUnreachable { .. }
            | Error::Read(_) => true,
        }
    }
}

/// A session as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Last part of its Location.
    pub id: String,
    /// For `Docker-Upload-UUID`.
    pub uuid: String,
    /// Durable bytes.
    pub offset: u64,
}

/// A blob that was recorded or mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Revision of the entry.
    pub revision: Revision,
}

/// What a mount came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mounted {
    /// The blob is linked.
    Linked(Recorded),
    /// It could not be mounted: a session to upload it is open.
    Session(Session),
}

/// What a closing PUT brings.
pub struct Closing {
    /// The digest the client names.
    pub digest: Digest,
    /// From `Content-Range`.
    pub chunk: Option<Chunk>,
    /// The final bytes, if any.
    pub body: Option<Body>,
    /// Who asks, for the log's display fields.
    pub actor: String,
}

/// The steps of a session, here or on the node that owns it.
pub(crate) trait Sessions {
    fn status(&self, id: SessionId, repository: &RepositoryName) -> impl Future<Output = Result<u64, Error>> + Send;
    fn append(
        &self,
        id: SessionId,
        repository: &RepositoryName,
        chunk: Option<Chunk>,
        body: Body,
    ) -> impl Future<Output = Result<u64, Error>> + Send;
    fn close(
        &self,
        id: SessionId,
        repository: &RepositoryName,
        closing: Closing,
    ) -> impl Future<Output = Result<Recorded, Error>> + Send;
    fn cancel(&self, id: SessionId, repository: &RepositoryName) -> impl Future<Output = Result<bool, Error>> + Send;
}

enum Owner {
    Here(Local),
    There(Box<Remote>),
}

impl Handle {
    /// Opens a session here. Refused while regions differ in state or this node's store is not open, and when no quorum
    /// is heard for longer than a fail-over takes: what could not be recorded need not be uploaded.
    pub async fn create_upload(&self, repository: &RepositoryName) -> Result<Session, Error> {
        if let Some(why) = self.metadata().agreement().obstacle(self.node()) {
            return Err(WriteFault::Unavailable(self.here(&why)).into());
        }
        if self.metadata().claim().is_none() {
            return Err(WriteFault::Unavailable(self.here("its blob store is not open yet")).into());
        }
        if !self.hear_quorum().await {
            return Err(WriteFault::Unavailable(self.here(&self.metadata().no_quorum_text())).into());
        }
        let created = self.blobs().create_upload(repository.clone()).await;
        let key = created.map_err(|error| of_upload(error, self.region()))?;
        self.session(SessionId { key, node: self.node() }, repository, 0)
    }

    /// Opens a session, takes the whole body and closes it.
    pub async fn upload_whole(&self, repository: &RepositoryName, closing: Closing) -> Result<Recorded, Error> {
        let session = self.create_upload(repository).await?;
        let id = self.verify(&session.id, repository)?;
        let (handle, repository) = (self.clone(), repository.clone());
        let step = async move {
            let closed = Local::new(&handle).close(id, &repository, closing).await;
            if closed.as_ref().is_err_and(Error::has_no_further_use) {
                handle.abandon(id, &repository).await;
            }
            closed
        };
        // The client was never told of the session: if it leaves in the middle, nobody else would end it.
        self.to_the_end("upload whole blob", step).await.unwrap_or(Err(WriteFault::Unknown.into()))
    }

    /// Ends a session that nobody knows of and whose proposal was refused, or never made, and takes its bytes back.
    async fn abandon(&self, id: SessionId, repository: &RepositoryName) {
        let placed = self.blobs().upload_status(id.key).await.ok().and_then(|status| status.placed);
        // A session that failed in its last step may be gone already.
        match self.blobs().cancel_upload(id.key).await {
            Ok(_) | Err(UploadError::Unknown) => {}
            Err(error) => {
                tracing::warn!(repo = %repository, upload_id = id.uuid(), error = %error, "failed upload was not cancelled");
            }
        }
        self.pins().release(id.key);
        let Some(placed) = placed else { return };
        match self.metadata().local() {
            Ok(view) => pins::take_back(self, &view, placed.digest, placed.copy).await,
            // The sweep of unknown copies finds it.
            Err(error) => {
                tracing::warn!(repo = %repository, digest = %placed.digest, error = %error, "bytes of a failed upload stay for now")
            }
        }
    }

    /// A session's durable offset.
    pub async fn upload_status(&self, repository: &RepositoryName, id: &str) -> Result<Session, Error> {
        let id = self.verify(id, repository)?;
        let offset = match self.owner(id).await? {
            Owner::Here(local) => local.status(id, repository).await?,
            Owner::There(remote) => remote.status(id, repository).await?,
        };
        self.session(id, repository, offset)
    }

    /// Appends a chunk.
    pub async fn append(
        &self,
        repository: &RepositoryName,
        id: &str,
        chunk: Option<Chunk>,
        body: Body,
    ) -> Result<Session, Error> {
        let id = self.verify(id, repository)?;
        let offset = match self.owner(id).await? {
            Owner::Here(local) => local.append(id, repository, chunk, body).await?,
            Owner::There(remote) => {
                let repository = repository.clone();
                let step = async move { remote.append(id, &repository, chunk, body).await };
                // A client that leaves breaks its body off, which the owner is to hear; the link to it stays.
                self.to_the_end("pass on chunk", step).await.unwrap_or(Err(WriteFault::Unknown.into()))?
            }
        };
        self.session(id, repository, offset)
    }

    /// Closes a session. Sent again after its success it succeeds again, through any region, with its owner dead too.
    pub async fn close(&self, repository: &RepositoryName, id: &str, closing: Closing) -> Result<Recorded, Error> {
        let id = self.verify(id, repository)?;
        let digest = closing.digest;
        let closed = match self.owner(id).await {
            Ok(Owner::Here(local)) => local.close(id, repository, closing).await,
            Ok(Owner::There(remote)) => {
                // A digest that is linked already may be that of a session which is still open, for other bytes; only
                // its owner can tell, if it answers.
                let remote = if self.is_linked_here(repository, &digest) { remote.dispensable() } else { *remote };
                let repository = repository.clone();
                let step = async move { remote.close(id, &repository, closing).await };
                self.to_the_end("pass on closing chunk", step).await.unwrap_or(Err(WriteFault::Unknown.into()))
            }
            Err(error) => Err(error),
        };
        match closed {
            Err(error) if error.may_follow_success(&digest) => self.closed_before(repository, digest, error).await,
            other => other,
        }
    }

    /// Whether the state here, new or not, would answer a closing PUT that lost its session.
    fn is_linked_here(&self, repository: &RepositoryName, digest: &Digest) -> bool {
        let grace_ms = self.config().grace_ms;
        let found = self.metadata().local().and_then(|view| blob::dependable(&view, repository, digest, grace_ms));
        found.is_ok_and(|row| row.is_some())
    }

    /// Ends a session and frees its staging.
    pub async fn cancel_upload(&self, repository: &RepositoryName, id: &str) -> Result<(), Error> {
        let id = self.verify(id, repository)?;
        let known = match self.owner(id).await? {
            Owner::Here(local) => local.cancel(id, repository).await?,
            Owner::There(remote) => remote.cancel(id, repository).await?,
        };
        if known { Ok(()) } else { Err(Error::Unknown) }
    }

    /// Links a blob of another repository, or opens a session where that cannot be done.
    pub async fn mount(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        from: Option<RepositoryName>,
        origin: Origin,
    ) -> Result<Mounted, Error> {
        if !self.is_mountable(digest, from.as_ref()).await? {
            return self.create_upload(repository).await.map(Mounted::Session);
        }
        let command = Command::MountBlob { from, to: repository.clone(), digest };
        let refusal = match self.metadata().propose(origin, command).await {
            Ok(applied) => return Ok(Mounted::Linked(Recorded { revision: applied.revision })),
            Err(error) => fault::of_proposal(error, &self.here(""))?,
        };
        match refusal {
            Refusal::Unknown { .. } | Refusal::UnknownRepository | Refusal::Invalid { .. } => {
                self.create_upload(repository).await.map(Mounted::Session)
            }
            other => Err(WriteFault::of_refusal(&other, &self.here("")).into()),
        }
    }

    async fn is_mountable(&self, digest: Digest, from: Option<&RepositoryName>) -> Result<bool, Error> {
        let view = self.view(Demand::Strict, None).await?;
        let linked = match from {
            Some(from) => blob::linked(&view, from, &digest).map_err(ReadFault::from)?.is_some(),
            None => {
                let row = view.blob(&digest).map_err(ReadFault::from)?;
                row.is_some_and(|row| row.references > 0)
            }
        };
        Ok(linked && !view.holders(&digest).map_err(ReadFault::from)?.is_empty())
    }

    /// Whether a PUT that its owner does not know (any more) had its success before: then the digest is linked. A blob
    /// that no open store holds, or that is about to be collected, must be sent again, and gets the error.
    async fn closed_before(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        error: Error,
    ) -> Result<Recorded, Error> {
        let grace_ms = self.config().grace_ms;
        let find = |view: &metadata::View| blob::dependable(view, repository, &digest, grace_ms);
        let found = self.prove_point(Asked::default().strict(), find).await;
        match (found, error) {
            (Ok((Some(_), as_of)), _) => Ok(Recorded { revision: as_of.revision }),
            // "Unknown" is a negative answer, and it could not be proved.
            (Err(fault), Error::Unknown | Error::Ended { .. }) => Err(fault.into()),
            (_, error) => Err(error),
        }
    }

    fn verify(&self, id: &str, repository: &RepositoryName) -> Result<SessionId, Error> {
        self.mint()?.read(id, repository).map_err(|_| Error::Unknown)
    }

    fn session(&self, id: SessionId, repository: &RepositoryName, offset: u64) -> Result<Session, Error> {
        Ok(Session { id: self.mint()?.write(id, repository), uuid: id.uuid(), offset })
    }

    /// Where a session lives. `Unknown` once its node is removed or has no open store, which only a proved state says.
    async fn owner(&self, id: SessionId) -> Result<Owner, Error> {
        if id.node == self.node() {
            return Ok(Owner::Here(Local::new(self)));
        }
        match self.remote(id, &self.metadata().local().map_err(ReadFault::from)?) {
            Ok(Some(remote)) => return Ok(Owner::There(Box::new(remote))),
            // The state here may be older than the owner's removal.
            Ok(None) | Err(Error::OwnerUnreachable { .. }) => {}
            Err(error) => return Err(error),
        }
        let view = self.view(Demand::Strict, None).await?;
        self.remote(id, &view)?.map(|remote| Owner::There(Box::new(remote))).ok_or(Error::Unknown)
    }

    fn remote(&self, id: SessionId, view: &metadata::View) -> Result<Option<Remote>, Error> {
        let stores = view.stores().map_err(ReadFault::from)?;
        let Some(store) = stores.iter().find(|store| store.node == id.node && store.open) else { return Ok(None) };
        let region = view.region(store.region).map_err(ReadFault::from)?;
        let Some(region) = region else { return Ok(None) };
        match Remote::to(self, id.node) {
            Some(remote) => Ok(Some(remote.in_region(region.name))),
            // Its store is open, so the session may well live; there is only no way to it now.
            None => Err(Error::OwnerUnreachable { region: self.region().clone(), owner: region.name }),
        }
    }
}

impl Error {
    /// Whether a session that nobody knows of may go. One whose proposal is in doubt must stay.
    fn has_no_further_use(&self) -> bool {
        !matches!(self, Error::Write(WriteFault::Unknown))
    }

    /// Whether a closing PUT that was successful before may get this when it is sent again. A refusal too: its copy may
    /// have been recorded, and given way to that of another upload since.
    fn may_follow_success(&self, digest: &Digest) -> bool {
        match self {
            Error::Unknown | Error::OwnerUnreachable { .. } => true,
            Error::Ended { closed_as } => closed_as.as_ref() == Some(digest),
            Error::Write(fault) => matches!(fault, WriteFault::Unknown | WriteFault::Internal { .. }),
            Error::Offset { .. }
            | Error::Body { .. }
            | Error::Length { .. }
            | Error::Digest(_)
            | Error::TooMany
            | Error::Full { .. }
            | Error::Storage { .. }
            | Error::Read(_) => false,
        }
    }
}

/// A step's failure in the blob room.
pub(crate) fn of_upload(error: UploadError, region: &RegionName) -> Error {
    match error {
        UploadError::Unknown => Error::Unknown,
        UploadError::Offset { offset, given: _ } | UploadError::Busy { offset } => Error::Offset { offset },
        UploadError::Body { detail } => Error::Body { detail },
        UploadError::Length { expected, given } => Error::Length { expected, given },
        UploadError::DigestMismatch { expected, actual } => Error::Digest(Box::new(WrongDigest { expected, actual })),
        UploadError::TooMany => Error::TooMany,
        UploadError::Full { free, reserve } => Error::Full { region: region.clone(), free, reserve },
        UploadError::Storage { detail } => Error::Storage { detail },
        UploadError::Stopping => {
            let detail = "its node is stopping".to_owned();
            WriteFault::Unavailable(Unavailable { region: region.clone(), cut_off: false, detail }).into()
        }
    }
}
