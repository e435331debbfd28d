//! Pins of placed bytes whose proposal is not settled (design §8).
//!
//! A pin goes when its proposal was applied or refused. Where the outcome is not known, or the proposal may be made
//! again by the session's next closing PUT, it stays here, and goes once the session is gone and the proposal has
//! fallen below the request horizon.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use blobs::handle::{Pin, SessionKey, UploadError};
use metadata::handle::Demand;
use tokio_util::sync::CancellationToken;

use crate::fault::ReadFault;
use crate::handle::Handle;

/// Pause between two looks for pins that are settled.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// Age at which `apply` certainly refuses a proposal as too old: twice the horizon. Unit: milliseconds of cluster time.
const SETTLED_MS: u64 = domain::limits::REQUEST_HORIZON_MS * 2;

/// The pins, by session.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    held: Mutex<HashMap<SessionKey, Held>>,
}

#[derive(Debug)]
struct Held {
    /// Kept only to be dropped.
    _pin: Pin,
    /// Cluster time when it was last held. Unit: milliseconds.
    at_ms: u64,
}

impl Pins {
    pub(crate) fn hold(&self, session: SessionKey, pin: Pin, now_ms: u64) {
        // One pin a session is enough: a retry pins the same copy again.
        self.lock().insert(session, Held { _pin: pin, at_ms: now_ms });
    }

    pub(crate) fn release(&self, session: SessionKey) {
        self.lock().remove(&session);
    }

    /// Sessions pinned since before `before_ms`.
    pub(crate) fn older_than(&self, before_ms: u64) -> Vec<SessionKey> {
        self.lock().iter().filter(|(_, held)| held.at_ms < before_ms).map(|(session, _)| *session).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets go of settled pins until shutdown.
pub(crate) async fn run(handle: Handle, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if let Err(fault) = settle(&handle).await {
            tracing::debug!(error = %fault, "pins cannot be looked through now");
        }
    }
}

/// A pin goes once its session is gone and a proved state says that its proposal is too old to be applied.
async fn settle(handle: &Handle) -> Result<(), ReadFault> {
    let time_ms = |meta: Option<metadata::rows::Meta>| meta.map_or(0, |meta| meta.cluster_time_ms);
    let local_ms = time_ms(handle.metadata().local()?.meta()?);
    if handle.pins().older_than(local_ms.saturating_sub(SETTLED_MS)).is_empty() {
        return Ok(());
    }
    let now_ms = time_ms(handle.view(Demand::Strict, None).await?.meta()?);
    for session in handle.pins().older_than(now_ms.saturating_sub(SETTLED_MS)) {
        if matches!(handle.blobs().upload_status(session).await, Err(UploadError::Unknown)) {
            handle.pins().release(session);
        }
    }
    Ok(())
}
