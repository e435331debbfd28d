//! Sessions that live on another node: requests passed on to it, with flow control end to end.
//!
//! Before the owner is told to change anything it is asked for the session's offset, within `owner_wait_max`: an owner
//! that cannot be reached costs the client no bytes and nothing is left to happen later, and a wrong offset is answered
//! before a body crosses an ocean.
//!
//! The owner acts at the end of a body and not before: when the link breaks earlier, it goes back to where the session
//! was, and the client is told that nothing was done. Only a link that breaks after the end leaves the outcome unknown.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::content_range::Chunk;
use domain::{Digest, NodeId, RegionName, RepositoryName};
use futures_util::{Stream, StreamExt, stream};
use metadata::handle::ChannelClass;
use proto::sessions::sessions_client::SessionsClient;
use proto::sessions::{BodyPart, Broken, End, SessionReply, body_part};
use runtime::clock;
use tonic::transport::Channel;

use crate::fault::WriteFault;
use crate::handle::Handle;
use crate::session_id::SessionId;
use crate::upload::{Body, Closing, Error, Recorded, Sessions};
use crate::wire::{self, Answer, Opening};

/// Bytes of a message. Larger chunks of a body are split.
const MESSAGE_BYTES: usize = domain::limits::BULK_MESSAGE_BYTES;
/// Longest time in which the owner takes no part that is ready for it.
const STALL_MAX: Duration = Duration::from_secs(15);
/// Longest wait for the answer once the whole body was taken: the owner may have to hash it again and to commit.
const ANSWER_WAIT_MAX: Duration = Duration::from_mins(5);
/// Longest wait for the answer to a cancellation: more than the owner lets it wait for its turn.
const CANCEL_WAIT_MAX: Duration = Duration::from_secs(12);
/// Longest wait for the owner where the answer to a closing PUT is known without it, should it not answer.
const DISPENSABLE_WAIT_MAX: Duration = Duration::from_millis(500);

pub(crate) struct Remote {
    client: SessionsClient<Channel>,
    wait_max: Duration,
    here: RegionName,
    owner: RegionName,
}

impl Remote {
    pub(crate) fn to(handle: &Handle, node: NodeId) -> Option<Self> {
        let channel = handle.metadata().channel(node, ChannelClass::Forward)?;
        let client = SessionsClient::new(channel);
        let here = handle.region().clone();
        Some(Remote { client, wait_max: handle.config().owner_wait_max, owner: here.clone(), here })
    }

    pub(crate) fn in_region(self, owner: RegionName) -> Self {
        Remote { owner, ..self }
    }

    /// The owner is asked because it may know better, and not waited for when it is silent.
    pub(crate) fn dispensable(self) -> Self {
        Remote { wait_max: self.wait_max.min(DISPENSABLE_WAIT_MAX), ..self }
    }

    fn unreachable(&self) -> Error {
        Error::OwnerUnreachable { region: self.here.clone(), owner: self.owner.clone() }
    }

    /// What the client is told when a body did not get its answer.
    fn told(&self, error: Error, pace: &Pace) -> Error {
        match error {
            Error::OwnerUnreachable { .. } if pace.has_ended() => WriteFault::Unknown.into(),
            // The owner heard nothing for too long, and the client had not broken off.
            Error::Body { .. } if !pace.has_ended() => self.unreachable(),
            other => other,
        }
    }

    /// A short call: the answer, or "unreachable" after the bound.
    async fn ask<F>(&self, call: F) -> Result<Answer, Error>
    where
        F: Future<Output = Result<tonic::Response<SessionReply>, tonic::Status>> + Send,
    {
        match tokio::time::timeout(self.wait_max, call).await {
            Ok(Ok(response)) => read(response.into_inner()),
            Ok(Err(status)) => {
                tracing::debug!(peer = %self.owner, error = %status, "session's owner did not answer");
                Err(self.unreachable())
            }
            Err(_) => Err(self.unreachable()),
        }
    }

    /// A call with a body: ends with the answer, or once the owner has stopped taking parts.
    async fn send<F>(&self, call: F, pace: Arc<Pace>) -> Result<Answer, Error>
    where
        F: Future<Output = Result<tonic::Response<SessionReply>, tonic::Status>> + Send,
    {
        tokio::select! {
            answered = call => match answered {
                Ok(response) => read(response.into_inner()),
                Err(status) => {
                    tracing::debug!(peer = %self.owner, error = %status, "passing a body on to the session's owner failed");
                    Err(self.unreachable())
                }
            },
            () = pace.stalled() => Err(self.unreachable()),
        }
    }
}

impl Sessions for Remote {
    async fn status(&self, id: SessionId, repository: &RepositoryName) -> Result<u64, Error> {
        let mut client = self.client.clone();
        match self.ask(client.status(wire::session_request(id.key, repository))).await? {
            Answer::Offset(offset) => Ok(offset),
            Answer::Recorded(_) | Answer::Cancelled(_) => Err(unexpected()),
        }
    }

    async fn append(
        &self,
        id: SessionId,
        repository: &RepositoryName,
        chunk: Option<Chunk>,
        body: Body,
    ) -> Result<u64, Error> {
        let offset = self.status(id, repository).await?;
        if chunk.is_some_and(|chunk| chunk.offset != offset) {
            return Err(Error::Offset { offset });
        }
        let opening = opening(id, repository, chunk, None, String::new());
        let (parts, pace) = parts(&opening, Some(body));
        let mut client = self.client.clone();
        match self.send(client.append(parts), pace.clone()).await {
            Ok(Answer::Offset(offset)) => Ok(offset),
            Ok(Answer::Recorded(_) | Answer::Cancelled(_)) => Err(unexpected()),
            Err(error) => Err(self.told(error, &pace)),
        }
    }

    async fn close(&self, id: SessionId, repository: &RepositoryName, closing: Closing) -> Result<Recorded, Error> {
        let Closing { digest, chunk, body, actor } = closing;
        // Not compared here: a complete session's retry repeats a chunk that it holds already.
        self.status(id, repository).await?;
        let opening = opening(id, repository, chunk, Some(digest), actor);
        let (parts, pace) = parts(&opening, body);
        let mut client = self.client.clone();
        match self.send(client.close(parts), pace.clone()).await {
            Ok(Answer::Recorded(recorded)) => Ok(recorded),
            Ok(Answer::Offset(_) | Answer::Cancelled(_)) => Err(unexpected()),
            Err(error) => Err(self.told(error, &pace)),
        }
    }

    async fn cancel(&self, id: SessionId, repository: &RepositoryName) -> Result<bool, Error> {
        self.status(id, repository).await?;
        let mut client = self.client.clone();
        let call = client.cancel(wire::session_request(id.key, repository));
        let answered = tokio::time::timeout(CANCEL_WAIT_MAX, call).await;
        // It was sent, so it may be done now or once the owner goes on.
        let Ok(Ok(response)) = answered else { return Err(WriteFault::Unknown.into()) };
        match read(response.into_inner())? {
            Answer::Cancelled(known) => Ok(known),
            Answer::Offset(_) | Answer::Recorded(_) => Err(unexpected()),
        }
    }
}

fn read(reply: SessionReply) -> Result<Answer, Error> {
    wire::read_reply(reply).unwrap_or_else(|error| Err(Error::Storage { detail: error.to_string() }))
}

fn unexpected() -> Error {
    Error::Storage { detail: "the session's owner gave the answer to another question".to_owned() }
}

fn opening(
    id: SessionId,
    repository: &RepositoryName,
    chunk: Option<Chunk>,
    digest: Option<Digest>,
    actor: String,
) -> Opening {
    Opening { session: id.key, repository: repository.clone(), chunk, digest, actor }
}

/// Where the sending of a body stands, for the watch over it.
#[derive(Debug, Default)]
struct Pace {
    state: Mutex<Step>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Step {
    /// The client is to send more; the door watches over that.
    #[default]
    WaitsForClient,
    /// A part was handed to the transport, which has not asked for another since.
    Handed(Instant),
    /// The last part was handed over: the end, or word that the client broke off.
    Ended(Instant),
}

impl Pace {
    fn set(&self, step: Step) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }

    fn step(&self) -> Step {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the owner may have got what it acts upon: the end, or a client's break, before which it keeps what came.
    fn has_ended(&self) -> bool {
        matches!(self.step(), Step::Ended(_))
    }

    /// Resolves when the owner has taken nothing for too long.
    async fn stalled(&self) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let late = match self.step() {
                Step::WaitsForClient => false,
                Step::Handed(since) => since.elapsed() > STALL_MAX,
                Step::Ended(since) => since.elapsed() > ANSWER_WAIT_MAX,
            };
            if late {
                return;
            }
        }
    }
}

enum Sending {
    Begin(BodyPart, Option<Body>),
    Body(Body, Bytes),
    Done,
}

/// The parts of a body: begin, data, end. A body that breaks off says so at its end.
fn parts(opening: &Opening, body: Option<Body>) -> (impl Stream<Item = BodyPart> + Send + 'static, Arc<Pace>) {
    let pace = Arc::new(Pace::default());
    let begin = BodyPart { part: Some(body_part::Part::Begin(opening.into())) };
    let watched = pace.clone();
    let parts = stream::unfold(Sending::Begin(begin, body), move |sending| {
        let pace = watched.clone();
        async move {
            // The transport asks once more after the end; that changes nothing.
            if !matches!(sending, Sending::Done) {
                pace.set(Step::WaitsForClient);
            }
            let (part, rest) = step(sending).await?;
            pace.set(if matches!(rest, Sending::Done) {
                Step::Ended(clock::now())
            } else {
                Step::Handed(clock::now())
            });
            Some((part, rest))
        }
    });
    (parts, pace)
}

async fn step(sending: Sending) -> Option<(BodyPart, Sending)> {
    let last = |part| Some((BodyPart { part: Some(part) }, Sending::Done));
    let (mut body, mut pending) = match sending {
        Sending::Begin(begin, Some(body)) => return Some((begin, Sending::Body(body, Bytes::new()))),
        Sending::Begin(begin, None) => {
            let nothing: Body = Box::pin(stream::empty());
            return Some((begin, Sending::Body(nothing, Bytes::new())));
        }
        Sending::Body(body, pending) => (body, pending),
        Sending::Done => return None,
    };
    while pending.is_empty() {
        match body.next().await {
            Some(Ok(bytes)) => pending = bytes,
            Some(Err(error)) => return last(body_part::Part::Broken(Broken { detail: error.to_string() })),
            None => return last(body_part::Part::End(End {})),
        }
    }
    let data = pending.split_to(pending.len().min(MESSAGE_BYTES));
    Some((BodyPart { part: Some(body_part::Part::Data(data)) }, Sending::Body(body, pending)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upload::BodyError;

    fn sample() -> Opening {
        Opening {
            session: blobs::handle::SessionKey([1; 16]),
            repository: RepositoryName::parse("a").expect("valid"),
            chunk: None,
            digest: None,
            actor: String::new(),
        }
    }

    async fn shapes(body: Option<Vec<Result<Bytes, BodyError>>>) -> (Vec<String>, bool) {
        let body = body.map(|chunks| Box::pin(stream::iter(chunks)) as Body);
        let (parts, pace) = parts(&sample(), body);
        let shape = |part: BodyPart| match part.part {
            Some(body_part::Part::Begin(_)) => "begin".to_owned(),
            Some(body_part::Part::Data(data)) => data.len().to_string(),
            Some(body_part::Part::End(_)) => "end".to_owned(),
            Some(body_part::Part::Broken(Broken { detail })) => format!("broken: {detail}"),
            None => "nothing".to_owned(),
        };
        let shapes = parts.map(shape).collect().await;
        (shapes, matches!(pace.step(), Step::Ended(_)))
    }

    #[tokio::test]
    async fn a_body_is_split_and_ended() {
        let chunks = vec![Ok(Bytes::from(vec![0; MESSAGE_BYTES + 5])), Ok(Bytes::new()), Ok(Bytes::from_static(b"ab"))];
        let (shapes_seen, ended) = shapes(Some(chunks)).await;
        assert_eq!(shapes_seen, ["begin", &MESSAGE_BYTES.to_string(), "5", "2", "end"]);
        assert!(ended);
        assert_eq!(shapes(None).await, (vec!["begin".to_owned(), "end".to_owned()], true));
    }

    #[tokio::test]
    async fn an_owner_acts_at_the_end_and_not_before() {
        let bytes = || Ok(Bytes::from_static(b"ab"));
        for last in [None, Some(Err(BodyError::of_client("reset")))] {
            let body: Body = Box::pin(stream::iter([bytes(), bytes()].into_iter().chain(last)));
            let (parts, pace) = parts(&sample(), Some(body));
            let mut parts = std::pin::pin!(parts);
            for _ in ["begin", "2", "2"] {
                assert!(parts.next().await.is_some() && !pace.has_ended());
            }
            assert!(parts.next().await.is_some() && pace.has_ended());
            assert!(parts.next().await.is_none() && pace.has_ended());
        }
    }

    #[tokio::test]
    async fn a_broken_body_says_so() {
        let broken = Err(BodyError::of_client("reset"));
        let (shapes_seen, ended) = shapes(Some(vec![Ok(Bytes::from_static(b"ab")), broken])).await;
        assert_eq!(shapes_seen, ["begin", "2", "broken: reset"]);
        assert!(ended);
    }
}
