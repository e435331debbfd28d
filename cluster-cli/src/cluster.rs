//! A cluster as operators see it. Also the JSON of `status` and `regions`: field names are stable.

use serde::Serialize;

/// Life of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RegionState {
    /// Its node catches up with the metadata.
    Joining,
    /// It fetches what is missing.
    Backfilling,
    /// In full service.
    Ready,
    /// On its way out.
    Leaving,
    /// A state this release does not know.
    Unknown,
}

impl RegionState {
    pub(crate) fn word(self) -> &'static str {
        match self {
            RegionState::Joining => "joining",
            RegionState::Backfilling => "backfilling",
            RegionState::Ready => "ready",
            RegionState::Leaving => "leaving",
            RegionState::Unknown => "unknown",
        }
    }
}

/// Life of a node's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Belongs to no cluster yet.
    Unjoined,
    /// Opens its rooms.
    Starting,
    /// In service.
    Member,
    /// Stops.
    Draining,
}

/// The cluster, as one node sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Cluster {
    pub(crate) cluster: String,
    pub(crate) revision: u64,
    pub(crate) answered_by: u64,
    pub(crate) writes_ok: bool,
    /// Why they are not; none while they are.
    pub(crate) no_writes: Option<String>,
    pub(crate) leader: Option<u64>,
    pub(crate) format_level: u32,
    pub(crate) regions: Vec<Region>,
}

/// A region: its row, its backlog, its nodes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Region {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) state: RegionState,
    pub(crate) cordoned: bool,
    pub(crate) registry_url: String,
    pub(crate) backlog_blobs: u64,
    pub(crate) backlog_bytes: u64,
    pub(crate) lag_ms: u64,
    pub(crate) backfill_blobs_total: u64,
    pub(crate) backfill_bytes_total: u64,
    pub(crate) nodes: Vec<Member>,
}

/// A node: its row, and what it says of itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Member {
    pub(crate) node: u64,
    pub(crate) peer_address: String,
    pub(crate) status: Option<Node>,
    pub(crate) unreachable: Option<String>,
}

impl Member {
    /// Whether the node answers, as the one it is in the rows.
    pub(crate) fn answers(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.node == self.node)
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Node {
    pub(crate) phase: Phase,
    pub(crate) node: u64,
    pub(crate) region: String,
    pub(crate) cluster: String,
    pub(crate) version: String,
    pub(crate) process_id: u64,
    pub(crate) uptime_ms: u64,
    pub(crate) registry_url: String,
    pub(crate) peer_address: String,
    pub(crate) insecure: bool,
    pub(crate) profile: String,
    pub(crate) leader: Option<u64>,
    pub(crate) is_leader: bool,
    pub(crate) quorum_heard: bool,
    pub(crate) term: u64,
    pub(crate) applied: u64,
    pub(crate) committed: u64,
    pub(crate) format_level: u32,
    pub(crate) state_hash: String,
    pub(crate) state_hash_index: u64,
    pub(crate) store_open: bool,
    pub(crate) disk_total_bytes: u64,
    pub(crate) disk_free_bytes: u64,
    pub(crate) disk_reserve_bytes: u64,
    pub(crate) fetches: u64,
    pub(crate) fetched_bytes: u64,
    pub(crate) fetched_blobs: u64,
    pub(crate) fetch_failures: u64,
    pub(crate) copies_damaged: u64,
    pub(crate) fetch_bytes_per_second: f64,
    pub(crate) confirm_loss: bool,
    pub(crate) impaired: Vec<String>,
}

impl Region {
    /// The node that answers for the region, if one does.
    pub(crate) fn node(&self) -> Option<&Node> {
        self.nodes.iter().find_map(|member| member.status.as_ref())
    }
}

impl Cluster {
    /// The region of that name.
    pub(crate) fn region(&self, name: &str) -> Option<&Region> {
        self.regions.iter().find(|region| region.name == name)
    }

    /// Regions of which a node answered.
    pub(crate) fn regions_up(&self) -> usize {
        self.regions.iter().filter(|region| region.node().is_some()).count()
    }

    /// Some door is open to whoever reaches it.
    pub(crate) fn insecure(&self) -> bool {
        self.regions
            .iter()
            .flat_map(|region| &region.nodes)
            .filter_map(|member| member.status.as_ref())
            .any(|node| node.insecure)
    }
}
