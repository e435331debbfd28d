//! Timings by profile (design §5, §7; measurements in decision 0002).

use std::sync::Arc;
use std::time::Duration;

use domain::limits;
use openraft::SnapshotPolicy;

use crate::birth::{Config, Profile};

/// Everything that waits, in one place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// Interval of heartbeats; also the deadline of one RPC of the library.
    pub(crate) heartbeat: Duration,
    /// Shortest election timeout.
    pub(crate) election_min: Duration,
    /// Longest election timeout; also the leader's lease.
    pub(crate) election_max: Duration,
    /// Longest wait of a strict read that may fall back to local state.
    pub(crate) strict_wait: Duration,
    /// Longest wait through a fail-over.
    pub(crate) failover_wait: Duration,
    /// Stream and connection windows of HTTP/2. Unit: bytes.
    pub(crate) windows: (u32, u32),
}

impl Timing {
    pub(crate) fn of(config: &Config) -> Self {
        let ms = Duration::from_millis;
        let mut timing = match config.profile {
            Profile::Lan => Timing {
                heartbeat: ms(100),
                election_min: ms(400),
                election_max: ms(800),
                strict_wait: ms(1_000),
                failover_wait: ms(3_000),
                windows: (4 << 20, 8 << 20),
            },
            Profile::Wan => Timing {
                heartbeat: ms(500),
                election_min: ms(2_000),
                election_max: ms(4_000),
                strict_wait: ms(3_000),
                failover_wait: ms(10_000),
                windows: (32 << 20, 64 << 20),
            },
        };
        if let Some(wait) = config.strict_wait_ms_max {
            timing.strict_wait = ms(wait);
        }
        if let Some(wait) = config.failover_wait_ms_max {
            timing.failover_wait = ms(wait);
        }
        timing
    }
}

/// The library's configuration. Snapshots and purges are triggered by us (design §10).
pub(crate) fn raft_config(timing: &Timing, cluster: String) -> Result<Arc<openraft::Config>, openraft::ConfigError> {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = openraft::Config {
        cluster_name: cluster,
        heartbeat_interval: ms(timing.heartbeat),
        election_timeout_min: ms(timing.election_min),
        election_timeout_max: ms(timing.election_max),
        enable_pre_vote: Some(true),
        // A leader replicates entries before its own disk has them. Restored as leader of the same term after a crash, it
        // could write other entries under ids that a follower holds already: the histories would part.
        enable_leader_restore: Some(false),
        max_payload_entries: limits::BATCH_ENTRIES_MAX as u64,
        max_append_entries: Some(limits::BATCH_ENTRIES_MAX as u64 * 4),
        api_channel_size: Some(4096),
        api_batch_capacity: 1024,
        notification_channel_size: Some(4096),
        // Entries in flight to the state machine; with the byte admission of proposals this bounds its queue.
        state_machine_channel_size: Some(64),
        install_snapshot_timeout: 15 * 60 * 1000,
        snapshot_policy: SnapshotPolicy::Never,
        // Purging is ours too: nothing is purged that a snapshot in flight or a lagging peer still needs.
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: 30_000,
        ..openraft::Config::default()
    };
    Ok(Arc::new(config.validate()?))
}
