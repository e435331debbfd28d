//! Pins of copies whose report was settled while an earlier proposal of it is in doubt (design §8).
//!
//! A proposal that ended without a known outcome may be applied late, after the one that repeated it, and then speaks for
//! the copy anew, even where a newer one has taken its place. So the bytes stay pinned until `apply` certainly refuses the
//! late one as too old; then what no row names is deleted. Reports fail like this only after 30 s, at most a few hundred
//! in that time, and are held for minutes: the list stays short.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blobs::handle::Pin;
use metadata::command::HeldCopy;
use tracing::{debug, warn};

use crate::core::Core;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Age at which `apply` certainly refuses a proposal as too old: twice the horizon. Unit: milliseconds of cluster time.
const SETTLED_MS: u64 = domain::limits::REQUEST_HORIZON_MS * 2;

struct Doubted {
    copy: HeldCopy,
    pin: Pin,
    /// Cluster time after the last proposal; none until it can be read.
    since_ms: Option<u64>,
}

/// The copies in doubt.
#[derive(Default)]
pub(crate) struct Doubts {
    list: Mutex<Vec<Doubted>>,
}

impl Doubts {
    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Doubted>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a pin. `since_ms`: cluster time now, as far as it can be read.
    pub(crate) fn hold(&self, copy: HeldCopy, pin: Pin, since_ms: Option<u64>) {
        debug!(digest = %copy.digest, copy = %copy.copy, "copy stays pinned, a proposal of it is in doubt");
        self.list().push(Doubted { copy, pin, since_ms });
    }

    /// Whether one may be settled at this time; those without a time begin theirs now.
    fn is_due(&self, now_ms: u64) -> bool {
        let mut list = self.list();
        for doubted in list.iter_mut() {
            doubted.since_ms.get_or_insert(now_ms);
        }
        list.iter().any(|doubted| doubted.is_settled(now_ms))
    }

    fn take_settled(&self, now_ms: u64) -> Vec<Doubted> {
        self.list().extract_if(.., |doubted| doubted.is_settled(now_ms)).collect()
    }
}

impl Doubted {
    fn is_settled(&self, now_ms: u64) -> bool {
        self.since_ms.is_some_and(|since_ms| since_ms.saturating_add(SETTLED_MS) < now_ms)
    }
}

/// Runs until shutdown.
pub(crate) async fn run(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = core.tasks.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => settle(&core).await,
        }
    }
}

/// Lets go of what a proved state is too new for, and deletes of it what no row names.
pub(crate) async fn settle(core: &Core) {
    let doubts = &core.reporter.doubts;
    if !core.cluster.time_ms().is_ok_and(|now_ms| doubts.is_due(now_ms)) {
        return;
    }
    let Some(now_ms) = core.cluster.proved_time_ms().await else { return };
    for Doubted { copy: HeldCopy { digest, copy }, pin, .. } in doubts.take_settled(now_ms) {
        drop(pin);
        // Once claimed nobody reports it any more; while it is pinned somebody may.
        let Some(removal) = core.blobs.claim_removal(digest, copy) else { continue };
        let is_named = core.cluster.facts(&digest).map(|facts| facts.copy_here == Some(copy));
        if matches!(is_named, Ok(false))
            && let Err(error) = core.blobs.delete_claimed(removal).await
        {
            warn!(%digest, %copy, error = %error, "unwanted copy not deleted");
        }
    }
}
