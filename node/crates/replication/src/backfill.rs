//! Drives the backfill of this node's region (ground.md §2): extends the window of wanted rows, and turns the region
//! ready when everything that was there at the end of the cursor has arrived.

use std::time::Duration;

use domain::Digest;
use metadata::command::Command;
use metadata::handle::Watched;
use metadata::rows::{Region, RegionState};
use metadata::view;
use runtime::Tasks;
use tracing::{debug, info, warn};

use crate::cluster::system;

/// Below so many open rows the window is extended (ground.md §2).
const OPEN_ROWS_MIN: u64 = 5_000;
/// Unit: milliseconds.
const LOOK_EVERY_MS: u64 = 1_000;
/// Rows of one page.
const PAGE: usize = 1_000;

/// What a look at the region's row asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing to do in this state.
    Rest,
    /// Enough rows are open.
    Wait,
    /// Extend the window from the cursor.
    Advance(Option<Digest>),
    /// The cursor is at its end: ready as soon as what it left has arrived.
    Finish,
}

fn step(region: &Region) -> Step {
    if region.state != RegionState::Backfilling {
        Step::Rest
    } else if region.backfill_blobs == 0 {
        Step::Finish
    } else if region.wanted_blobs < OPEN_ROWS_MIN {
        Step::Advance(region.backfill_cursor)
    } else {
        Step::Wait
    }
}

/// Runs until shutdown.
pub(crate) async fn run(metadata: metadata::Handle, tasks: Tasks) {
    let mut cluster = metadata.watch(Watched::Cluster);
    let mut wanted = metadata.watch(Watched::Wanted);
    // Cluster time at which the cursor was first seen at its end.
    let mut ended_ms = None;
    loop {
        let busy = match look(&metadata, &mut ended_ms).await {
            Ok(busy) => busy,
            Err(error) => {
                debug!(error = %error, "backfill waits");
                false
            }
        };
        let pause = Duration::from_millis(if busy { 10 } else { LOOK_EVERY_MS });
        tokio::select! {
            () = tasks.cancelled() => return,
            _ = cluster.changed(), if !busy => {}
            _ = wanted.changed(), if !busy => tokio::time::sleep(Duration::from_millis(50)).await,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One look, and one proposal at most; true when there may be more to do at once.
async fn look(metadata: &metadata::Handle, ended_ms: &mut Option<u64>) -> Result<bool, String> {
    let id = metadata.identity().region;
    let Some((region, now_ms)) = read(metadata).map_err(|error| error.to_string())? else { return Ok(false) };
    let command = match step(&region) {
        Step::Rest | Step::Wait => {
            *ended_ms = None;
            return Ok(false);
        }
        Step::Advance(from) => Command::AdvanceBackfill { region: id, from },
        Step::Finish => {
            let ended = *ended_ms.get_or_insert(now_ms);
            let reading = metadata.clone();
            let left = tokio::task::spawn_blocking(move || is_left(&reading, ended))
                .await
                .map_err(|error| error.to_string())?
                .map_err(|error| error.to_string())?;
            if left {
                return Ok(false);
            }
            Command::SetRegionState { region: id, state: RegionState::Ready }
        }
    };
    let finishes = matches!(command, Command::SetRegionState { .. });
    match metadata.propose(system(), command).await {
        Ok(_) if finishes => info!(region = %region.name, blobs = region.backfill_blobs_total, "region is ready"),
        Ok(_) => {}
        Err(error) if error.is_retryable() => return Err(error.to_string()),
        Err(error) => warn!(region = %region.name, error = %error, "backfill step refused"),
    }
    Ok(!finishes)
}

/// The region's row and cluster time.
fn read(metadata: &metadata::Handle) -> Result<Option<(Region, u64)>, view::Error> {
    let view = metadata.local()?;
    let now_ms = view.meta()?.map_or(0, |meta| meta.cluster_time_ms);
    Ok(view.region(metadata.identity().region)?.map(|region| (region, now_ms)))
}

/// Whether a row that the cursor left still waits for a holder that exists. Rows of later pushes do not count, nor do
/// blobs that no open store holds: they cannot arrive.
fn is_left(metadata: &metadata::Handle, ended_ms: u64) -> Result<bool, view::Error> {
    let region = metadata.identity().region;
    let mut last = None;
    loop {
        // One view a page: a long read would pin pages of the state file.
        let view = metadata.local()?;
        let page = view.wanted(region, last.as_ref(), PAGE)?;
        for row in page.iter().filter(|row| row.since_ms <= ended_ms) {
            if !view.holders(&row.digest)?.is_empty() {
                return Ok(true);
            }
        }
        match page.last() {
            Some(row) if page.len() == PAGE => last = Some(row.digest),
            _ => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{Place, RegionId, RegionName};

    use super::*;

    fn region(state: RegionState, beyond: u64, wanted: u64) -> Region {
        Region {
            id: RegionId(2),
            name: RegionName::parse("tokyo").unwrap(),
            place: Place::default(),
            public_url: String::new(),
            state,
            cordoned: false,
            backfill_cursor: Some(Digest::Sha256([7; 32])),
            backfill_blobs: beyond,
            backfill_bytes: beyond,
            backfill_blobs_total: 100_000,
            backfill_bytes_total: 100_000,
            wanted_blobs: wanted,
            wanted_bytes: wanted,
            departure: None,
        }
    }

    #[test]
    fn the_window_is_kept_full_and_the_end_is_waited_for() {
        let advance = Step::Advance(Some(Digest::Sha256([7; 32])));
        assert_eq!(step(&region(RegionState::Joining, 10, 0)), Step::Rest);
        assert_eq!(step(&region(RegionState::Ready, 0, 0)), Step::Rest);
        assert_eq!(step(&region(RegionState::Backfilling, 10, 4_999)), advance);
        assert_eq!(step(&region(RegionState::Backfilling, 10, 5_000)), Step::Wait);
        assert_eq!(step(&region(RegionState::Backfilling, 0, 4_000)), Step::Finish);
    }
}
