//! Bodies: of requests, watched for idleness and drained when they are refused; of answers, counted while they stream.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, header};
use http_body::{Body as _, Frame, SizeHint};
use registry::upload::BodyError;
use runtime::{TaskKind, Tasks};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Bytes of a refused body that are read, so that its client gets to see the answer instead of a reset. Unit: bytes.
const DRAIN_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest time spent on that.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// A request's body: pieces of data, ending in an error when the client pauses for too long or goes away.
///
/// Dropped before its end it is drained for a bounded while in the background; the answer goes out meanwhile. A client
/// that waits for `100 Continue` sends nothing unless somebody reads, and is not made to.
pub(super) struct RequestBody {
    body: Option<Body>,
    announced: Option<u64>,
    idle: Pin<Box<Sleep>>,
    idle_max: Duration,
    tasks: Tasks,
    is_untouched: bool,
    waits_for_continue: bool,
    /// Unit: bytes.
    taken: u64,
    left: Left,
}

/// Whether a body was given up with more of it to come than is drained: then the connection ends with the answer, and
/// the answer says so. Source: RFC 9112 §9.6.
#[derive(Clone, Debug, Default)]
pub(super) struct Left(Arc<AtomicBool>);

impl Left {
    /// True once that is certain. A chunked body does not say how long it is.
    pub(super) fn ends_the_connection(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl RequestBody {
    pub(super) fn new(body: Body, headers: &HeaderMap, idle_max: Duration, tasks: Tasks) -> Self {
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        RequestBody {
            announced,
            idle: Box::pin(tokio::time::sleep(idle_max)),
            idle_max,
            tasks,
            is_untouched: true,
            waits_for_continue: headers.contains_key(header::EXPECT),
            taken: 0,
            left: Left::default(),
            body: Some(body),
        }
    }

    /// Tells later what became of it.
    pub(super) fn left(&self) -> Left {
        self.left.clone()
    }

    /// `Content-Length`. A chunked body has none, and may be empty all the same.
    pub(super) fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// Certainly empty.
    pub(super) fn is_empty(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    /// The whole body, if it is not longer than `bytes_max`, with its share of `budget` (unit: bytes). The share grows
    /// with what has come, so that a client that only announces bytes takes none from the others; each piece waits for
    /// its part of it for `turn_max`.
    pub(super) async fn collect(
        mut self,
        bytes_max: usize,
        budget: &Arc<Semaphore>,
        turn_max: Duration,
    ) -> Result<(Bytes, OwnedSemaphorePermit), CollectError> {
        if let Some(announced) = self.announced.filter(|announced| *announced > bytes_max as u64) {
            return Err(CollectError::TooLarge { given: usize::try_from(announced).unwrap_or(usize::MAX) });
        }
        let mut whole = BytesMut::new();
        let mut share = turn(budget, 0, turn_max).await?;
        while let Some(piece) = self.next().await {
            let piece = piece.map_err(CollectError::Broken)?;
            if whole.len() + piece.len() > bytes_max {
                return Err(CollectError::TooLarge { given: whole.len() + piece.len() });
            }
            share.merge(turn(budget, piece.len(), turn_max).await?);
            if whole.is_empty() && self.is_empty() {
                return Ok((piece, share));
            }
            whole.extend_from_slice(&piece);
        }
        Ok((whole.freeze(), share))
    }
}

async fn turn(budget: &Arc<Semaphore>, bytes: usize, turn_max: Duration) -> Result<OwnedSemaphorePermit, CollectError> {
    let bytes = u32::try_from(bytes).map_err(|_| CollectError::Busy)?;
    match tokio::time::timeout(turn_max, budget.clone().acquire_many_owned(bytes)).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) | Err(_) => Err(CollectError::Busy),
    }
}

/// Why a body could not be had as a whole.
#[derive(Debug)]
pub(super) enum CollectError {
    /// It is longer than allowed.
    TooLarge {
        /// Bytes announced, or seen so far.
        given: usize,
    },
    /// Other bodies take the whole budget.
    Busy,
    /// It broke off.
    Broken(BodyError),
}

impl Stream for RequestBody {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.is_untouched = false;
        let Some(body) = this.body.as_mut() else { return Poll::Ready(None) };
        let item = loop {
            match Pin::new(&mut *body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    let deadline = Instant::now() + this.idle_max;
                    this.idle.as_mut().reset(deadline);
                    if let Ok(data) = frame.into_data() {
                        this.taken += data.len() as u64;
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Some(Err(error))) => break Some(Err(BodyError::of_client(error.to_string()))),
                Poll::Ready(None) => break None,
                Poll::Pending => {
                    if this.idle.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    let detail = format!("the client sent nothing for {} s", this.idle_max.as_secs());
                    break Some(Err(BodyError::of_client(detail)));
                }
            }
        };
        this.body = None;
        Poll::Ready(item)
    }
}

use std::future::Future as _;

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        if self.is_untouched && self.waits_for_continue {
            self.left.0.store(true, Ordering::Relaxed);
            return;
        }
        if self.announced.is_some_and(|announced| announced.saturating_sub(self.taken) > DRAIN_BYTES_MAX as u64) {
            self.left.0.store(true, Ordering::Relaxed);
        }
        self.tasks.spawn(TaskKind::Request, "drain body", async move {
            let drain = async {
                let mut bytes = 0;
                while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                    if bytes > DRAIN_BYTES_MAX {
                        return;
                    }
                }
            };
            // Past the bound the connection is closed on the client, which had its answer in the meantime.
            let _ = tokio::time::timeout(DRAIN_MAX, drain).await;
        });
    }
}

/// An answer's body that keeps something until it is sent: its place among the requests at work, or a note of itself.
pub(super) struct Guarded<G> {
    body: Body,
    _guard: G,
}

impl<G> Guarded<G> {
    pub(super) fn new(body: Body, guard: G) -> Self {
        Guarded { body, _guard: guard }
    }
}

impl<G: Unpin> http_body::Body for Guarded<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(pieces: Vec<Bytes>, tasks: &Tasks) -> RequestBody {
        let pieces = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
        RequestBody::new(Body::from_stream(pieces), &HeaderMap::new(), Duration::from_mins(1), tasks.clone())
    }

    #[tokio::test]
    async fn a_body_takes_of_the_budget_what_has_come() {
        let tasks = Tasks::new();
        let budget = Arc::new(Semaphore::new(5));
        let pieces = || vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")];
        let collected = body(pieces(), &tasks).collect(10, &budget, Duration::ZERO).await;
        let Ok((bytes, share)) = collected else { panic!("not collected") };
        assert_eq!((bytes.as_ref(), share.num_permits(), budget.available_permits()), (&b"abc"[..], 3, 2));
        let refused = body(pieces(), &tasks).collect(10, &budget, Duration::ZERO).await;
        assert!(matches!(refused, Err(CollectError::Busy)));
        assert_eq!(budget.available_permits(), 2);
        drop(share);
        let refused = body(pieces(), &tasks).collect(2, &budget, Duration::ZERO).await;
        assert!(matches!(refused, Err(CollectError::TooLarge { given: 3 })));
        assert_eq!(budget.available_permits(), 5);
    }
}
