//! The room's worker: purges abandoned uploads, lets go of settled pins and, on the leader, asks `apply` to judge what
//! looks unreferenced (design §8). All ages are cluster time.

use metadata::command::Command;
use metadata::handle::{Demand, Origin};
use tokio_util::sync::CancellationToken;

use crate::fault::ReadFault;
use crate::handle::Handle;
use crate::read::blocking;

/// Links and blobs judged by one command: each may touch a few rows (design §3, about 1,000 a command).
const BATCH: usize = 100;

pub(crate) async fn run(handle: Handle, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(handle.config().collect_every) => {}
        }
        if let Err(fault) = purge(&handle).await {
            tracing::debug!(error = %fault, "abandoned uploads were not looked for");
        }
        if handle.metadata().quorum().is_leader
            && let Err(fault) = collect(&handle, &stop).await
        {
            tracing::debug!(error = %fault, "collection was put off");
        }
    }
}

/// Purges uploads past their time to live, and pins whose proposals can no longer be applied.
async fn purge(handle: &Handle) -> Result<(), ReadFault> {
    let Some(meta) = handle.metadata().local()?.meta()? else { return Ok(()) };
    let purged = handle.blobs().expire_uploads(meta.cluster_time_ms, handle.config().upload_expiry_ms).await;
    if purged > 0 {
        tracing::info!(sessions = purged, "abandoned uploads purged");
    }
    // Twice the horizon after it was proposed, `apply` refuses a proposal as too old for certain, if a proved state
    // says that so much time has passed.
    let age_ms = domain::limits::REQUEST_HORIZON_MS * 2;
    if handle.pins().older_than(meta.cluster_time_ms.saturating_sub(age_ms)).is_empty() {
        return Ok(());
    }
    let now_ms = handle.view(Demand::Strict, None).await?.meta()?.map_or(0, |meta| meta.cluster_time_ms);
    for session in handle.pins().older_than(now_ms.saturating_sub(age_ms)) {
        if matches!(handle.blobs().upload_status(session).await, Err(blobs::handle::UploadError::Unknown)) {
            handle.pins().release(session);
        }
    }
    Ok(())
}

/// Proposes the judgement of everything past its grace, a batch at a time.
async fn collect(handle: &Handle, stop: &CancellationToken) -> Result<(), ReadFault> {
    let grace_ms = handle.config().grace_ms;
    let mut before = None;
    while !stop.is_cancelled() {
        let view = handle.view(Demand::Strict, None).await?;
        let now_ms = view.meta()?.map_or(0, |meta| meta.cluster_time_ms);
        let Some(before_ms) = now_ms.checked_sub(grace_ms) else { return Ok(()) };
        let found = blocking(move || view.collectable(before_ms, BATCH)).await??;
        // What `apply` keeps, for a reason this state does not show, comes back unchanged: the next round asks again.
        if (found.links.is_empty() && found.blobs.is_empty()) || before.as_ref() == Some(&found) {
            return Ok(());
        }
        let command = Command::Collect { grace_ms, links: found.links.clone(), blobs: found.blobs.clone() };
        let (links, blobs) = (found.links.len(), found.blobs.len());
        before = Some(found);
        match handle.metadata().propose(Origin { actor: "system".to_owned() }, command).await {
            Ok(applied) => {
                tracing::info!(links, blobs, log_index = applied.revision.0, "unreferenced content collected")
            }
            Err(error) => {
                tracing::debug!(error = %error, "collection was refused or is in doubt");
                return Ok(());
            }
        }
    }
    Ok(())
}
