//! Online collection (design §8): the leader names what looks unreferenced past its grace, `apply` judges. And every node
//! purges the uploads that were abandoned on it. Both go by cluster time.

use std::sync::Arc;
use std::time::Duration;

use metadata::command::Command;
use metadata::handle::Watched;
use metadata::view::Collectable;
use runtime::clock;
use tracing::{debug, info, warn};

use crate::cluster::system;
use crate::core::Core;

/// Links, and blobs, that one command asks about: each may touch some ten rows of the thousand a command may.
const CHUNK: usize = 64;
/// Chunks of one collection; the rest waits for the next one.
const CHUNKS_MAX: usize = 1_000;
/// The blob room is told the cluster time at most so often. Unit: milliseconds.
const NOTE_EVERY_MS: u64 = 500;
/// Unit: milliseconds.
const EVERY_MS_MIN: u64 = 1_000;
/// Abandoned uploads and collections are looked for at least so often. Unit: milliseconds.
const EVERY_MS_MAX: u64 = 600_000;

/// Pause between two collections. Unit: milliseconds.
fn every_ms(configured: Option<u64>, grace_ms: u64) -> u64 {
    configured.unwrap_or_else(|| (grace_ms / 4).clamp(EVERY_MS_MIN, EVERY_MS_MAX)).max(1)
}

/// Runs until shutdown.
pub(crate) async fn run(core: Arc<Core>, metadata: metadata::Handle) {
    let pause = Duration::from_millis(every_ms(core.config.collect_every_ms, core.config.grace_ms));
    let mut changes = metadata.watch(Watched::Applied);
    let mut due = clock::now() + pause;
    loop {
        tokio::select! {
            () = core.tasks.cancelled() => return,
            () = tokio::time::sleep_until(due.into()) => {}
            // New uploads are dated by what the blob room was told last.
            _ = changes.changed() => tokio::time::sleep(Duration::from_millis(NOTE_EVERY_MS)).await,
        }
        if let Ok(now_ms) = cluster_time_ms(&metadata) {
            core.blobs.note_cluster_time(now_ms);
        }
        if clock::now() < due {
            continue;
        }
        due = clock::now() + pause;
        if let Err(error) = expire(&core, &metadata).await {
            warn!(error = %error, "abandoned uploads cannot be looked for");
        }
        if metadata.quorum().is_leader
            && let Err(error) = collect(&core, &metadata).await
        {
            debug!(error = %error, "collection broke off, it goes on next time");
        }
    }
}

fn cluster_time_ms(metadata: &metadata::Handle) -> Result<u64, String> {
    let meta = metadata.local().and_then(|view| view.meta()).map_err(|error| error.to_string())?;
    Ok(meta.map_or(0, |meta| meta.cluster_time_ms))
}

async fn expire(core: &Core, metadata: &metadata::Handle) -> Result<(), String> {
    let now_ms = cluster_time_ms(metadata)?;
    let purged = core.blobs.expire_uploads(now_ms, core.config.upload_expiry_ms).await;
    if purged > 0 {
        info!(purged, "abandoned uploads purged");
    }
    Ok(())
}

async fn collect(core: &Core, metadata: &metadata::Handle) -> Result<(), String> {
    let grace_ms = core.config.grace_ms;
    let mut before = Collectable::default();
    for _ in 0..CHUNKS_MAX {
        let Some(limit_ms) = cluster_time_ms(metadata)?.checked_sub(grace_ms) else { return Ok(()) };
        let reading = metadata.clone();
        let found = tokio::task::spawn_blocking(move || reading.local()?.collectable(limit_ms, CHUNK))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        // What was asked about and is still there was judged differently by `apply`.
        if (found.links.is_empty() && found.blobs.is_empty()) || found == before {
            return Ok(());
        }
        before = found.clone();
        let Collectable { links, blobs } = found;
        let asked = (links.len(), blobs.len());
        metadata
            .propose(system(), Command::Collect { grace_ms, links, blobs })
            .await
            .map_err(|error| error.to_string())?;
        info!(links = asked.0, blobs = asked.1, "collection asked for");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_is_a_quarter_of_the_grace_within_bounds() {
        assert_eq!(every_ms(None, 8_000), 2_000);
        assert_eq!(every_ms(None, 100), 1_000);
        assert_eq!(every_ms(None, domain::limits::GRACE_MS), 600_000);
        assert_eq!(every_ms(Some(50), 100), 50);
    }
}
