//! A node compares its own disk with its own rows, without network, at every start and when it is asked to (design §7).
//!
//! It corrects only its own store. A row without a file is `Lost`, unless so many are missing that the disk is more
//! likely not mounted. A file without a row is swept, once a state newer than the finding says that there is none; pinned
//! bytes are left alone, and a process does not sweep in its first hour. Neither happens before this process's
//! `OpenStore` is applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use blobs::handle::Removal;
use domain::{CopyId, Digest, StoreId};
use metadata::command::HeldCopy;
use metadata::handle::Demand;
use tracing::{error, info, warn};

use crate::core::{Core, lock};

/// Rows and files of one page.
const PAGE: usize = 500;
/// Rest between two pages, so that start-up leaves the disk to the clients. Unit: milliseconds.
const REST_MS: u64 = 20;
/// Most missing copies remembered in one pass.
const LOST_MAX: usize = 10_000;
/// Before sweeping is tried again when no quorum could be asked. Unit: milliseconds.
const RETRY_MS: u64 = 30_000;

/// Compares once at the start, then whenever it is asked to; sweeps again and again, for an upload may leave a copy
/// without a row at any time.
pub(crate) async fn run(core: Arc<Core>, metadata: metadata::Handle) {
    let work = async {
        metadata.opened().await;
        compare(&core, &metadata).await;
        let again = async {
            loop {
                core.compare.notified().await;
                compare(&core, &metadata).await;
            }
        };
        let sweeping = async {
            loop {
                tokio::time::sleep(Duration::from_millis(core.config.sweep_after_ms)).await;
                while let Err(error) = sweep(&core, &metadata).await {
                    info!(error = %error, "sweeping of unknown copies waits");
                    tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
                }
            }
        };
        tokio::join!(again, sweeping);
    };
    tokio::select! {
        () = core.tasks.cancelled() => {}
        () = work => {}
    }
}

/// Compares until everything that is missing was reported, or may not be.
async fn compare(core: &Arc<Core>, metadata: &metadata::Handle) {
    loop {
        match find_lost(core, metadata).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => warn!(error = %error, "own copies could not be compared with the rows, it is tried again"),
        }
        tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
    }
}

/// Reports the rows of this store whose file is not there; true when there were more than are reported at once.
async fn find_lost(core: &Arc<Core>, metadata: &metadata::Handle) -> Result<bool, String> {
    let store = metadata.identity().store;
    let mut last = None;
    let mut held = 0;
    let mut missing: Vec<HeldCopy> = Vec::new();
    let mut missing_count = 0;
    loop {
        let reading = metadata.clone();
        let page = tokio::task::spawn_blocking(move || {
            let view = reading.local()?;
            let mut page = Vec::new();
            for (digest, copy) in view.held_by(store, last.as_ref(), PAGE)? {
                page.push((digest, copy, view.blob(&digest)?.map(|blob| blob.size)));
            }
            Ok::<_, metadata::view::Error>(page)
        })
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
        for (digest, copy, size) in &page {
            held += 1;
            let Some(size) = size else { continue };
            let there = core.blobs.probe(*digest, *copy, *size).await.map_err(|error| error.to_string())?;
            // A newer copy may have taken the row since the page was read, and its file gone with it.
            if !there && still_held(metadata, *digest, *copy).await? {
                missing_count += 1;
                if missing.len() < LOST_MAX {
                    missing.push(HeldCopy { digest: *digest, copy: *copy });
                }
            }
        }
        match page.last() {
            Some((digest, ..)) if page.len() == PAGE => last = Some(*digest),
            _ => break,
        }
        tokio::time::sleep(Duration::from_millis(REST_MS)).await;
    }
    let now_ms = core.now_ms();
    if missing_count > 0 && !lock(&core.health).losses.judge_missing(missing_count, held, now_ms) {
        error!(
            missing = missing_count,
            held,
            "too many copies are missing, is the store's disk mounted? none is reported lost before \
             `cluster-cli sync --confirm-loss`"
        );
        return Ok(false);
    }
    info!(missing = missing_count, held, "own copies are compared with the rows");
    if missing_count > 0 {
        warn!(missing = missing_count, held, "copies are missing, they will be fetched again");
    }
    let more = missing_count > missing.len() as u64;
    for copy in missing {
        core.report_lost(copy.digest, copy.copy);
    }
    Ok(more)
}

/// Whether a newer state than the page still has that copy in this store.
async fn still_held(metadata: &metadata::Handle, digest: Digest, copy: CopyId) -> Result<bool, String> {
    let (reading, store) = (metadata.clone(), metadata.identity().store);
    let read = tokio::task::spawn_blocking(move || reading.local()?.copy_in(&digest, store));
    let held = read.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    Ok(held == Some(copy))
}

/// A copy on disk.
type Copy = (Digest, CopyId);

/// Files without a row.
async fn sweep(core: &Arc<Core>, metadata: &metadata::Handle) -> Result<(), String> {
    let store = metadata.identity().store;
    let mut last: Option<Copy> = None;
    let mut swept = 0u64;
    loop {
        let found = core.blobs.inventory(last, PAGE).await.map_err(|error| error.to_string())?;
        let found: Vec<Copy> = found.into_iter().map(|(digest, copy, _)| (digest, copy)).collect();
        last = Some(match found.last() {
            Some(copy) => *copy,
            None => break,
        });
        // Most copies are known here already, and cost no quorum's word.
        let view = metadata.local().map_err(|error| error.to_string())?;
        let suspects = unknown(view, store, found).await?;
        swept += sweep_unknown(&core.blobs, suspects, async |claimed| {
            let view = metadata.view(Demand::Strict, None).await.map_err(|error| error.to_string())?;
            unknown(view, store, claimed).await
        })
        .await?;
        tokio::time::sleep(Duration::from_millis(REST_MS)).await;
    }
    if swept > 0 {
        info!(swept, "copies without a row swept");
    }
    Ok(())
}

/// Which of these copies have no row in the view.
async fn unknown(view: metadata::View, store: StoreId, copies: Vec<Copy>) -> Result<Vec<Copy>, String> {
    tokio::task::spawn_blocking(move || {
        let mut unknown = Vec::new();
        for (digest, copy) in copies {
            if view.copy_in(&digest, store)? != Some(copy) {
                unknown.push((digest, copy));
            }
        }
        Ok::<_, metadata::view::Error>(unknown)
    })
    .await
    .map_err(|error| error.to_string())?
    .map_err(|error| error.to_string())
}

/// Deletes those of the suspects that `judge` does not know either; returns how many.
///
/// Their removal is claimed first. What is pinned is left out, its report is under way; what is claimed cannot be pinned
/// any more, so every report of it was settled before `judge` looks, and its word still holds when the copy is deleted.
async fn sweep_unknown(
    blobs: &blobs::Handle,
    suspects: Vec<Copy>,
    judge: impl AsyncFnOnce(Vec<Copy>) -> Result<Vec<Copy>, String>,
) -> Result<u64, String> {
    let claims = suspects.into_iter().filter_map(|(digest, copy)| blobs.claim_removal(digest, copy));
    let mut claims: BTreeMap<Copy, Removal> = claims.map(|removal| (removal.copy(), removal)).collect();
    if claims.is_empty() {
        return Ok(0);
    }
    let unknown: BTreeSet<Copy> = judge(claims.keys().copied().collect()).await?.into_iter().collect();
    claims.retain(|copy, _| unknown.contains(copy));
    let mut swept = 0;
    for ((digest, copy), removal) in claims {
        match blobs.delete_claimed(removal).await {
            Ok(()) => {
                swept += 1;
                info!(%digest, %copy, "copy without a row swept");
            }
            Err(error) => warn!(%digest, %copy, error = %error, "copy without a row not swept"),
        }
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::world_test::{Node, World};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_copy_recorded_while_the_sweep_looks_is_kept() {
        let world = World::new();
        let a = Node::start(&world, 1).await;
        let bytes = Bytes::from_static(b"recorded in time");
        let (digest, _) = a.push(&world, &bytes).await;
        let recorded = world.holder(&a, &digest).unwrap();
        let place = async || {
            let session = a.upload(&bytes).await;
            a.core.blobs.complete(session, digest).await.unwrap()
        };
        let (pushed, pin) = place().await;
        let (left, unpinned) = place().await;
        drop(unpinned);
        let found = a.core.blobs.inventory(None, 10).await.unwrap();
        assert_eq!(found.len(), 3);
        let suspects = found.into_iter().map(|(digest, copy, _)| (digest, copy)).collect();
        let swept = sweep_unknown(&a.core.blobs, suspects, async |claimed| {
            assert!(!claimed.contains(&(digest, pushed.copy)), "its report is under way");
            // It is recorded after this look at the rows, and let go before its turn comes.
            drop(pin);
            assert!(!a.core.blobs.delete_copy(digest, left.copy).await.unwrap(), "claimed until it is deleted");
            Ok(claimed.into_iter().filter(|(_, copy)| *copy != recorded).collect())
        });
        assert_eq!(swept.await, Ok(1));
        let kept: BTreeSet<CopyId> =
            a.core.blobs.inventory(None, 10).await.unwrap().into_iter().map(|(_, copy, _)| copy).collect();
        assert_eq!(kept, BTreeSet::from([recorded, pushed.copy]));
        assert!(a.core.blobs.delete_copy(digest, recorded).await.unwrap(), "claims not used are given back");
    }
}
