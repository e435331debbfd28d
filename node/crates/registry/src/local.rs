//! Sessions that live on this node.

use std::future::Future;
use std::time::Duration;

use blobs::handle::{PlacedBlob, SessionStatus, UploadError};
use domain::content_range::Chunk;
use domain::{Digest, RepositoryName};
use metadata::command::Command;
use metadata::handle::{Origin, ProposeError};
use runtime::clock;

use crate::fault::{self, ReadFault, WriteFault};
use crate::handle::Handle;
use crate::session_id::SessionId;
use crate::turns::Turn;
use crate::upload::{Body, Closing, Error, Recorded, Sessions, WrongDigest, of_upload};

/// Longest wait of a closing PUT for the request before it: the same PUT, which may still be hashing or recording. A node
/// that passes one on hears of it before it calls this one stalled.
const CLOSE_TURN_MAX: Duration = Duration::from_secs(12);
/// Longest wait of a chunk or a cancellation for the request before it, whose connection may have broken unnoticed.
const STEP_TURN_MAX: Duration = Duration::from_secs(5);

/// Pause between two looks at a session that its store locks.
const LOCKED_PAUSE: Duration = Duration::from_millis(50);

async fn turn(handle: &Handle, id: SessionId, wait_max: Duration) -> Result<Turn, Error> {
    handle.turns().take(id.key, wait_max).await.ok_or_else(|| busy(handle))
}

fn busy(handle: &Handle) -> Error {
    WriteFault::Unavailable(handle.here("another request is at work on this upload session")).into()
}

/// Tries a step again while the store itself is at work on the session (expiry); `None` when it still is after
/// `wait_max`.
async fn unlocked<T, F>(wait_max: Duration, step: impl Fn() -> F) -> Option<Result<T, UploadError>>
where
    F: Future<Output = Result<T, UploadError>>,
{
    let start = clock::now();
    loop {
        match step().await {
            Err(UploadError::Busy { .. }) if start.elapsed() >= wait_max => return None,
            Err(UploadError::Busy { .. }) => tokio::time::sleep(LOCKED_PAUSE).await,
            other => return Some(other),
        }
    }
}

pub(crate) struct Local {
    handle: Handle,
}

impl Local {
    pub(crate) fn new(handle: &Handle) -> Self {
        Local { handle: handle.clone() }
    }

    /// The session, if it is one of that repository: peers pass on the repository, and only the door checked its MAC.
    async fn find(&self, id: SessionId, repository: &RepositoryName) -> Result<SessionStatus, Error> {
        let status = self.handle.blobs().upload_status(id.key).await;
        let status = status.map_err(|error| of_upload(error, self.handle.region())).map_err(|error| match error {
            Error::Unknown => self.handle.ended().of(&id.key).map_or(error, |closed_as| Error::Ended { closed_as }),
            other => other,
        })?;
        if status.repository == *repository { Ok(status) } else { Err(Error::Unknown) }
    }
}

impl Sessions for Local {
    async fn status(&self, id: SessionId, repository: &RepositoryName) -> Result<u64, Error> {
        Ok(self.find(id, repository).await?.offset)
    }

    async fn append(
        &self,
        id: SessionId,
        repository: &RepositoryName,
        chunk: Option<Chunk>,
        body: Body,
    ) -> Result<u64, Error> {
        let (local, repository) = (Local::new(&self.handle), repository.clone());
        let step = async move {
            let _turn = turn(&local.handle, id, STEP_TURN_MAX).await?;
            local.take_in(id, &repository, chunk, body).await
        };
        // A client that leaves now leaves bytes to be settled, and the next request waits for that.
        self.handle.to_the_end("append chunk", step).await.unwrap_or(Err(WriteFault::Unknown.into()))
    }

    async fn close(&self, id: SessionId, repository: &RepositoryName, closing: Closing) -> Result<Recorded, Error> {
        let (local, repository) = (Local::new(&self.handle), repository.clone());
        let step = async move {
            let _turn = turn(&local.handle, id, CLOSE_TURN_MAX).await?;
            let digest = closing.digest;
            let finished = local.finish(id, repository, closing).await;
            local.note_end(id, digest, finished.as_ref().err()).await;
            finished
        };
        // A client that leaves now must not take the pin of an open proposal with it.
        self.handle.to_the_end("close upload", step).await.unwrap_or(Err(WriteFault::Unknown.into()))
    }

    async fn cancel(&self, id: SessionId, repository: &RepositoryName) -> Result<bool, Error> {
        self.find(id, repository).await?;
        let _turn = turn(&self.handle, id, STEP_TURN_MAX).await?;
        let cancelled = unlocked(STEP_TURN_MAX, || self.handle.blobs().cancel_upload(id.key)).await;
        let cancelled = cancelled.ok_or_else(|| busy(&self.handle))?;
        let known = cancelled.map_err(|error| of_upload(error, self.handle.region()))?;
        if known {
            self.handle.ended().note(id.key, None);
        }
        Ok(known)
    }
}

/// Steps that are taken in turn.
impl Local {
    /// Remembers a session that its closing PUT has ended. Bytes with another digest end it too.
    async fn note_end(&self, id: SessionId, digest: Digest, failed: Option<&Error>) {
        match failed {
            None => self.handle.ended().note(id.key, Some(digest)),
            Some(Error::Digest(_)) => {
                if matches!(self.handle.blobs().upload_status(id.key).await, Err(UploadError::Unknown)) {
                    self.handle.ended().note(id.key, None);
                }
            }
            Some(_) => {}
        }
    }

    async fn take_in(
        &self,
        id: SessionId,
        repository: &RepositoryName,
        chunk: Option<Chunk>,
        body: Body,
    ) -> Result<u64, Error> {
        let status = self.find(id, repository).await?;
        if status.placed.is_some() {
            // Complete, and only its closing PUT may follow.
            return Err(Error::Offset { offset: status.offset });
        }
        let (offset, length) = (chunk.map(|chunk| chunk.offset), chunk.map(|chunk| chunk.length));
        let appended = self.handle.blobs().append(id.key, offset, length, body).await;
        appended.map_err(|error| of_upload(error, self.handle.region()))
    }

    async fn finish(&self, id: SessionId, repository: RepositoryName, closing: Closing) -> Result<Recorded, Error> {
        let Closing { digest, chunk, body, actor } = closing;
        let status = self.find(id, &repository).await?;
        if let (None, None, Some(chunk)) = (status.placed, &body, chunk) {
            return Err(Error::Length { expected: chunk.length, given: 0 });
        }
        let (handle, blobs) = (&self.handle, self.handle.blobs());
        let completed = match (status.placed, body) {
            (Some(placed), _) if placed.digest != digest => {
                return Err(Error::Digest(Box::new(WrongDigest { expected: digest, actual: placed.digest })));
            }
            (None, Some(body)) => {
                let (offset, length) = (chunk.map(|chunk| chunk.offset), chunk.map(|chunk| chunk.length));
                blobs.append_and_complete(id.key, offset, length, body, digest).await
            }
            // Of a retry the bytes lie where they belong, and what the client sends again is not read.
            (Some(_), _) | (None, None) => {
                let completed = unlocked(STEP_TURN_MAX, || blobs.complete(id.key, digest)).await;
                completed.ok_or_else(|| busy(handle))?
            }
        };
        let (placed, pin) = completed.map_err(|error| of_upload(error, handle.region()))?;
        let now_ms = handle.metadata().local().and_then(|view| view.meta()).map_err(ReadFault::from)?;
        handle.pins().hold(id.key, pin, now_ms.map_or(0, |meta| meta.cluster_time_ms));
        record(handle, id, repository, placed, actor).await
    }
}

async fn record(
    handle: &Handle,
    id: SessionId,
    repository: RepositoryName,
    placed: PlacedBlob,
    actor: String,
) -> Result<Recorded, Error> {
    let claim = handle.metadata().claim();
    let claim = claim.ok_or_else(|| WriteFault::Unavailable(handle.here("its blob store is not open yet")))?;
    let PlacedBlob { digest, size, root, copy } = placed;
    let command = Command::RecordBlob { repository, digest, size, root, claim, copy };
    match handle.metadata().propose(Origin { actor }, command).await {
        Ok(applied) => {
            handle.blobs().finish_upload(id.key).await;
            handle.pins().release(id.key);
            Ok(Recorded { revision: applied.revision })
        }
        Err(error) => {
            // Whatever was not judged may be proposed again by a retry of the closing PUT, so its pin stays.
            if matches!(error, ProposeError::Refused(_)) {
                handle.pins().release(id.key);
            }
            let refusal = fault::of_proposal(error, &handle.here(""))?;
            Err(WriteFault::of_refusal(&refusal, &handle.here("")).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_locked_session_is_waited_for_within_bounds() {
        let tries = AtomicUsize::new(0);
        let step = || {
            let at = tries.fetch_add(1, Ordering::Relaxed);
            async move { if at < 2 { Err(UploadError::Busy { offset: 0 }) } else { Ok(at) } }
        };
        assert!(matches!(unlocked(STEP_TURN_MAX, step).await, Some(Ok(2))));
        let busy = || async { Err::<(), _>(UploadError::Busy { offset: 0 }) };
        assert!(unlocked(Duration::ZERO, busy).await.is_none());
        let unknown = || async { Err::<(), _>(UploadError::Unknown) };
        assert!(matches!(unlocked(STEP_TURN_MAX, unknown).await, Some(Err(UploadError::Unknown))));
    }
}
