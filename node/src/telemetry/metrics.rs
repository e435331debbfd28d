//! Metrics, computed when they are asked for from the rows and handles that drive the work.

use std::fmt;
use std::sync::{Arc, Mutex};

use metadata::handle::Agreement;
use metadata::rows::RegionState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::phase::{Phase, PhaseCell};
use crate::rooms::Rooms;
use crate::status::{Facts, Purpose};

/// A metric as documented.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name without the suffix `_total` of counters.
    pub name: &'static str,
    /// Meaning and unit.
    pub help: &'static str,
    /// How it behaves.
    pub kind: Kind,
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only ever grows while the process runs.
    Counter,
    /// Counts by size.
    Histogram,
}

macro_rules! metrics {
    ($($constant:ident $kind:ident $name:literal $help:literal;)+) => {
        $(pub(super) const $constant: Metric = Metric { name: $name, help: $help, kind: Kind::$kind };)+
        /// Every metric of a node.
        pub const METRICS: &[Metric] = &[$($constant),+];
    };
}

metrics! {
    READY Gauge "longshore_ready" "1 when this region serves pulls (like /readyz)";
    READY_FOR_PUSH Gauge "longshore_ready_for_push" "1 when this region accepts pushes (like /readyz?for=push)";
    QUORUM Gauge "longshore_quorum_heard" "1 when a majority of the regions was heard within a lease";
    LEADER Gauge "longshore_leader" "1 when this node leads";
    DIVERGED Gauge "longshore_diverged" "1 when a majority of the regions has another state and this node serves nothing";
    UNDECIDED Gauge "longshore_undecided" "1 when regions differ in state and no majority agrees: writes are refused";
    TERM Gauge "longshore_term" "Raft term";
    APPLIED Gauge "longshore_applied_revision" "Newest log index applied here";
    COMMITTED Gauge "longshore_committed_revision" "Newest log index known here as committed";
    LOG_BYTES Gauge "longshore_log_bytes" "Bytes of the entries in the Raft log";
    LOG_PURGED Gauge "longshore_log_purged_revision" "Newest log index that was purged; a peer behind it needs a snapshot";
    SNAPSHOTS Counter "longshore_snapshots_installed" "Snapshots received and put in place since start";
    SNAPSHOT_SENT Counter "longshore_snapshot_sent_bytes" "Bytes of snapshots sent to peers since start";
    SNAPSHOT_RECEIVED Counter "longshore_snapshot_received_bytes" "Bytes of snapshots received since start";
    SNAPSHOT_RESUMED Counter "longshore_snapshot_resumed_bytes" "Bytes of snapshots that were here already when a transfer went on where it broke off";
    BACKLOG_BLOBS Gauge "longshore_backlog_blobs" "Blobs this region wants and does not hold yet";
    BACKLOG_BYTES Gauge "longshore_backlog_bytes" "Bytes of the blobs this region wants and does not hold yet";
    DISK_TOTAL Gauge "longshore_blob_disk_bytes" "Size of the blob store's disk";
    DISK_FREE Gauge "longshore_blob_disk_free_bytes" "Free bytes of the blob store's disk";
    DISK_RESERVE Gauge "longshore_blob_disk_reserve_bytes" "Free bytes at which uploads and fetches stop";
    FETCHES Gauge "longshore_fetches" "Blob fetches running";
    FETCHED_BLOBS Counter "longshore_fetched_blobs" "Blobs fetched from other regions since start";
    FETCHED_BYTES Counter "longshore_fetched_bytes" "Bytes fetched from other regions since start";
    FETCH_FAILURES Counter "longshore_fetch_failures" "Blob fetches that failed since start";
    DAMAGED Counter "longshore_damaged_copies" "Copies of blobs found missing or damaged since start";
    CONFIRM_LOSS Gauge "longshore_confirm_loss" "1 while too many copies are missing or damaged at once and the operator is asked (sync --confirm-loss)";
    HTTP_REQUESTS Counter "longshore_http_requests" "Requests answered at the registry's door, by method, route and code";
    HTTP_REQUEST_SECONDS Histogram "longshore_http_request_seconds" "Seconds until the head of an answer, by method and route";
}

/// The metrics of a node. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// Metrics of the node in this phase.
    pub fn new(phase: PhaseCell) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Rows(phase)));
        Metrics(Arc::new(Mutex::new(registry)))
    }

    /// Lets another room of the roof register metrics of its own.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// OpenMetrics text.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut rendered = String::new();
        let registry = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        text::encode(&mut rendered, &registry)?;
        Ok(rendered)
    }
}

struct Rows(PhaseCell);

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rows")
    }
}

impl Collector for Rows {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (metric, value) in samples(&self.0.get()) {
            let is_counter = metric.kind == Kind::Counter;
            let kind = if is_counter { MetricType::Counter } else { MetricType::Gauge };
            let line = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            if is_counter {
                ConstCounter::new(value).encode(line)?;
            } else {
                ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(line)?;
            }
        }
        Ok(())
    }
}

fn samples(phase: &Phase) -> Vec<(Metric, u64)> {
    let facts = Facts::gather(phase);
    let mut list = vec![
        (READY, u64::from(facts.readiness(Purpose::Pull).ready)),
        (READY_FOR_PUSH, u64::from(facts.readiness(Purpose::Push).ready)),
    ];
    if let Some(quorum) = &facts.quorum {
        list.extend([
            (QUORUM, u64::from(quorum.heard)),
            (LEADER, u64::from(quorum.is_leader)),
            (TERM, quorum.term),
            (APPLIED, quorum.applied.0),
            (COMMITTED, quorum.committed.0),
        ]);
    }
    if let Some(rooms) = phase.rooms() {
        list.extend(room_samples(&rooms));
    }
    list
}

fn room_samples(rooms: &Rooms) -> Vec<(Metric, u64)> {
    let mut list = Vec::new();
    let region = rooms.metadata.identity().region;
    if let Ok(Some(row)) = rooms.metadata.local().and_then(|view| view.region(region)) {
        let beyond = if row.state == RegionState::Ready { (0, 0) } else { (row.backfill_blobs, row.backfill_bytes) };
        list.push((BACKLOG_BLOBS, row.wanted_blobs.saturating_add(beyond.0)));
        list.push((BACKLOG_BYTES, row.wanted_bytes.saturating_add(beyond.1)));
    }
    let snapshots = rooms.metadata.snapshots();
    list.extend([
        (LOG_BYTES, rooms.metadata.log_bytes()),
        (LOG_PURGED, rooms.metadata.log_purged().0),
        (SNAPSHOTS, snapshots.installed),
        (SNAPSHOT_SENT, snapshots.sent_bytes),
        (SNAPSHOT_RECEIVED, snapshots.received_bytes),
        (SNAPSHOT_RESUMED, snapshots.resumed_bytes),
    ]);
    let agreement = rooms.metadata.agreement();
    list.push((DIVERGED, u64::from(matches!(agreement, Agreement::Diverged { .. }))));
    list.push((UNDECIDED, u64::from(matches!(agreement, Agreement::Undecided { .. }))));
    let space = rooms.blobs.space();
    let progress = rooms.replication.progress();
    list.extend([
        (DISK_TOTAL, space.total),
        (DISK_FREE, space.free),
        (DISK_RESERVE, space.reserve),
        (FETCHES, progress.fetches),
        (FETCHED_BLOBS, progress.fetched_blobs),
        (FETCHED_BYTES, progress.fetched_bytes),
        (FETCH_FAILURES, progress.failures),
        (DAMAGED, progress.damaged),
        (CONFIRM_LOSS, u64::from(progress.confirm_loss)),
    ]);
    list
}

/// The table of docs/operations.md.
pub fn markdown_table() -> String {
    let mut table = "| Metric | Kind | Meaning |\n| --- | --- | --- |\n".to_owned();
    for metric in METRICS {
        let (suffix, kind) = match metric.kind {
            Kind::Counter => ("_total", "counter"),
            Kind::Gauge => ("", "gauge"),
            Kind::Histogram => ("", "histogram"),
        };
        table.push_str(&format!("| `{}{suffix}` | {kind} | {} |\n", metric.name, metric.help));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unjoined_node_says_that_it_is_not_ready() {
        let rendered = Metrics::new(PhaseCell::default()).render().unwrap();
        assert!(rendered.contains("\nlongshore_ready 0\n"), "{rendered}");
        assert!(rendered.contains("# HELP longshore_ready 1 when this region serves pulls"), "{rendered}");
    }

    #[test]
    fn names_are_ours_and_documented_once() {
        let mut names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert!(names.iter().all(|name| name.starts_with("longshore_") && !name.ends_with("_total")));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
    }

    #[test]
    fn the_operations_guide_lists_the_metrics_as_they_are() {
        let guide = include_str!("../../../docs/operations.md");
        let table = markdown_table();
        assert!(guide.contains(&table), "docs/operations.md should contain:\n{table}");
    }
}
