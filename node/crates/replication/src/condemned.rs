//! Deletes the copies that condemned rows name for this store, then reports it (design §8). The rows drive it, so a node
//! that caught up by snapshot misses nothing.

use std::sync::Arc;
use std::time::Duration;

use domain::limits::REPORT_DIGESTS_MAX;
use metadata::command::HeldCopy;
use metadata::handle::Watched;
use tracing::{debug, warn};

use crate::core::Core;
use crate::report::Settled;

/// Pause after a round that left something, and longest pause without news. Unit: milliseconds.
const PAUSE_MS: u64 = 1_000;
const IDLE_MS: u64 = 30_000;

/// Runs until shutdown, once this process's boot is applied.
pub(crate) async fn run(core: Arc<Core>, metadata: metadata::Handle) {
    let mut changes = metadata.watch(Watched::Condemned);
    tokio::select! {
        () = core.tasks.cancelled() => return,
        _ = metadata.opened() => {}
    }
    loop {
        let pause_ms = match round(&core, &metadata).await {
            Ok(Round::More) => 0,
            Ok(Round::Left) => PAUSE_MS,
            Ok(Round::Clean) => IDLE_MS,
            Err(error) => {
                warn!(error = %error, "condemned copies cannot be deleted now");
                PAUSE_MS
            }
        };
        tokio::select! {
            () = core.tasks.cancelled() => return,
            _ = changes.changed(), if pause_ms == IDLE_MS => {}
            () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
        }
    }
}

enum Round {
    /// A full page was deleted.
    More,
    /// Something is pinned or could not be deleted.
    Left,
    /// Nothing is left.
    Clean,
}

async fn round(core: &Core, metadata: &metadata::Handle) -> Result<Round, String> {
    let store = metadata.identity().store;
    let rows = metadata
        .local()
        .and_then(|view| view.condemned(store, REPORT_DIGESTS_MAX))
        .map_err(|error| error.to_string())?;
    let mut deleted = Vec::new();
    for row in &rows {
        match core.blobs.delete_copy(row.digest, row.copy).await {
            Ok(true) => deleted.push(HeldCopy { digest: row.digest, copy: row.copy }),
            Ok(false) => debug!(digest = %row.digest, copy = %row.copy, "condemned copy is pinned"),
            Err(error) => warn!(digest = %row.digest, copy = %row.copy, error = %error, "condemned copy not deleted"),
        }
    }
    let left = deleted.len() < rows.len();
    let settled = core.reporter.deleted(deleted).await;
    Ok(match settled {
        Settled::Applied(_) if !left && rows.len() == REPORT_DIGESTS_MAX => Round::More,
        Settled::Applied(_) if !left => Round::Clean,
        Settled::Applied(_) | Settled::Refused | Settled::Abandoned => Round::Left,
    })
}
