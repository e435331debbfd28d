//! Pins of placed bytes whose proposal is not settled (design §8).
//!
//! A pin goes when its proposal was applied or refused. Where the outcome is not known, or the proposal may be made
//! again by the session's next closing PUT, it stays here, and goes once the session is gone and the proposal has
//! fallen below the request horizon. The bytes go with it, unless they were recorded.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use blobs::handle::{Pin, SessionKey, UploadError};
use domain::{CopyId, Digest};
use metadata::handle::Demand;
use metadata::view::{self, View};
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
    pin: Pin,
    /// Cluster time when it was last held. Unit: milliseconds.
    at_ms: u64,
}

impl Pins {
    pub(crate) fn hold(&self, session: SessionKey, pin: Pin, now_ms: u64) {
        // One pin a session is enough: a retry pins the same copy again.
        self.lock().insert(session, Held { pin, at_ms: now_ms });
    }

    /// Says which copy was pinned.
    pub(crate) fn release(&self, session: SessionKey) -> Option<(Digest, CopyId)> {
        self.lock().remove(&session).map(|held| held.pin.copy())
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
    let local_ms = time_ms(&handle.metadata().local()?)?;
    if handle.pins().older_than(local_ms.saturating_sub(SETTLED_MS)).is_empty() {
        return Ok(());
    }
    let view = handle.view(Demand::Strict, None).await?;
    let now_ms = time_ms(&view)?;
    for session in handle.pins().older_than(now_ms.saturating_sub(SETTLED_MS)) {
        if matches!(handle.blobs().upload_status(session).await, Err(UploadError::Unknown))
            && let Some((digest, copy)) = handle.pins().release(session)
        {
            take_back(handle, &view, digest, copy).await;
        }
    }
    Ok(())
}

fn time_ms(view: &View) -> Result<u64, view::Error> {
    Ok(view.meta()?.map_or(0, |meta| meta.cluster_time_ms))
}

/// Deletes a copy that was placed and, as the view says, not recorded. Its proposal must be settled in that view. What
/// goes wrong here is left to the sweep of unknown copies.
pub(crate) async fn take_back(handle: &Handle, view: &View, digest: Digest, copy: CopyId) {
    // Once claimed nobody proposes it any more; while it is pinned somebody may.
    let Some(removal) = handle.blobs().claim_removal(digest, copy) else { return };
    let removed = match view.copy_in(&digest, handle.blobs().store()) {
        Ok(Some(held)) if held == copy => return,
        Ok(_) => handle.blobs().delete_claimed(removal).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match removed {
        Ok(()) => tracing::debug!(%digest, %copy, "bytes of an upload that was not recorded are deleted"),
        Err(error) => tracing::warn!(%digest, %copy, error, "bytes of an upload that was not recorded stay for now"),
    }
}
