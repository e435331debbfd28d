//! The background life of a store: open the inventory cache, compare it with the disk, sweep staging, close.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use runtime::{TaskKind, Tasks};

use crate::layout::{Staged, parse_staged};
use crate::quarantine;
use crate::sessions::if_there;
use crate::store::{Config, Store, blocking};

/// How often staging is swept.
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);
/// How often it is seen to that no quarantine stands between the disk and its reserve.
const CLEAR_EVERY: Duration = Duration::from_secs(30);
/// Age of a transfer's staging that nobody takes up. Unit: milliseconds of wall time; losing one costs a transfer.
const FETCH_AGE_MS: u64 = 24 * 60 * 60 * 1000;

pub(crate) fn spawn(store: &Arc<Store>, config: &Config, tasks: &Tasks) {
    let (store, stop) = (Arc::clone(store), tasks.token());
    let cache = kv::cache::Config { directory: config.index.clone(), cache_bytes: config.index_cache_bytes };
    tasks.spawn(TaskKind::Worker, "blob inventory", async move {
        let index = Arc::clone(&store.index);
        let opened = blocking(move || {
            index.open(&cache);
            Ok(())
        });
        report(opened.await);
        report(compare(&store).await.map(|_| ()));
        let mut sweeps = runtime::clock::now();
        while !stop.is_cancelled() {
            let (clearing, sweeps_now) = (Arc::clone(&store), runtime::clock::now() >= sweeps);
            report(blocking(move || quarantine::clear(&clearing.layout, &clearing.disk)).await);
            if sweeps_now {
                sweeps = runtime::clock::now() + SWEEP_EVERY;
                let sweeping = Arc::clone(&store);
                report(blocking(move || sweep(&sweeping)).await);
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(CLEAR_EVERY) => {}
            }
        }
        let index = Arc::clone(&store.index);
        let closed = blocking(move || {
            index.close();
            Ok(())
        });
        report(closed.await);
    });
}

/// Compares the inventory with the disk; returns the corrections.
pub(crate) async fn compare(store: &Arc<Store>) -> io::Result<u64> {
    let (store, stop) = (Arc::clone(store), store.tasks.token());
    blocking(move || store.index.compare(&|| stop.is_cancelled(), &|digest, copy| store.pins.is_pinned(digest, copy)))
        .await
}

fn report(result: io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!(error = %error, "blob inventory step failed");
    }
}

/// Removes transfers that nobody took up for long. Blocks.
fn sweep(store: &Store) -> io::Result<()> {
    let now_ms = runtime::clock::wall_ms();
    for entry in fs::read_dir(store.layout.staging())? {
        let entry = entry?;
        if entry.file_name().to_str().map(parse_staged) != Some(Staged::Fetch) {
            continue;
        }
        let Some(metadata) = if_there(entry.metadata())? else { continue };
        let since = metadata.modified()?.duration_since(std::time::UNIX_EPOCH).map_err(io::Error::other)?;
        let at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        if now_ms.saturating_sub(at_ms) < FETCH_AGE_MS {
            continue;
        }
        let path = entry.path();
        let active = store.ingests().iter().any(|digest| store.layout.fetch(digest) == path);
        if !active {
            if_there(fs::remove_file(path))?;
        }
    }
    Ok(())
}
