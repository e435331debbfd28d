//! Birth, join and start of a node (ground.md §5): identity, stamps, and opening of log and state.

use std::collections::BTreeMap;
use std::path::PathBuf;

use domain::{ClusterId, Durability, Incarnation, NodeId, RegionId, StoreId};
use runtime::Tasks;

mod identity;
mod intent;
mod leftover;
mod network_mint;
mod start;

use leftover::Leftover;

use crate::command::NewNode;
use crate::handle::Handle;

/// Settings that suit the round trips between the regions (design §7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Round trips of a few milliseconds: heartbeat 100 ms, election 400–800 ms.
    #[default]
    Lan,
    /// Round trips of 50–250 ms: heartbeat 500 ms, election 2–4 s.
    Wan,
}

/// How the room is opened.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of identity, log, state and snapshots.
    pub data: PathBuf,
    /// `host:port` by which other nodes reach this one.
    pub peer_address: String,
    /// Dial addresses that override a node's row (NAT; in tests: delay and cuts).
    pub via: BTreeMap<NodeId, String>,
    /// Timings and windows.
    pub profile: Profile,
    /// Longest wait of a strict read before local state is served. Unit: milliseconds. None = the profile's.
    pub strict_wait_ms_max: Option<u64>,
    /// Longest wait through a fail-over. Unit: milliseconds. None = the profile's.
    pub failover_wait_ms_max: Option<u64>,
    /// Cache of the log file. Unit: bytes.
    pub log_cache_bytes: usize,
    /// Cache of the state file. Unit: bytes.
    pub state_cache_bytes: usize,
    /// Entries kept in the log behind the applied index.
    pub log_entries_kept: u64,
    /// Entries between two snapshots (purges).
    pub snapshot_every: u64,
    /// Largest log. Unit: bytes.
    pub log_bytes_max: u64,
    /// Allow a non-loopback peer address without TLS.
    pub insecure: bool,
}

#[cfg(test)]
impl Config {
    /// A configuration that names no disk.
    pub(crate) fn for_tests(profile: Profile) -> Self {
        Config {
            data: PathBuf::new(),
            peer_address: String::new(),
            via: BTreeMap::new(),
            profile,
            strict_wait_ms_max: None,
            failover_wait_ms_max: None,
            log_cache_bytes: 0,
            state_cache_bytes: 0,
            log_entries_kept: 0,
            snapshot_every: 0,
            log_bytes_max: 0,
            insecure: false,
        }
    }
}

/// A cluster of one node in a folder, for tests; `change` has the last word on its settings.
#[cfg(test)]
pub(crate) async fn born_alone(folder: &std::path::Path, change: impl FnOnce(&mut Config)) -> (Handle, Tasks) {
    let mut config = Config {
        data: folder.join("data"),
        peer_address: "127.0.0.1:7001".to_owned(),
        log_cache_bytes: 4 << 20,
        state_cache_bytes: 4 << 20,
        log_entries_kept: 10_000,
        snapshot_every: 10_000,
        log_bytes_max: 64 << 20,
        ..Config::for_tests(Profile::Lan)
    };
    change(&mut config);
    let node = NewNode {
        region: domain::RegionName::parse("paris").expect("valid"),
        place: domain::Place::default(),
        public_url: String::new(),
        peer_address: config.peer_address.clone(),
        certificate: Vec::new(),
    };
    let tasks = Tasks::new();
    let format: FormatStore = Box::new(|_| Ok(StoreId([1; 16])));
    let handle = init(config, node, Durability::Local, format, tasks.clone()).await.expect("born");
    handle.opened().await;
    (handle, tasks)
}

/// What `open` found.
pub enum Opened {
    /// No identity yet: only the admin door and health may run, until `init` or `join`.
    Unjoined,
    /// A member; Raft runs.
    Member(Handle),
}

/// Why a node does not start or is not born. Each names its remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is missing or belongs to another cluster, node, store or incarnation.
    #[error("{detail}")]
    Identity {
        /// What, and what to do next.
        detail: String,
    },
    /// The node is a member already. Exit code 4.
    #[error("this node already belongs to cluster {cluster} as node {node}")]
    AlreadyMember {
        /// The cluster.
        cluster: ClusterId,
        /// Its id there.
        node: NodeId,
    },
    /// No member answered, or none could commit. Exit code 3.
    #[error("{detail}")]
    Unavailable {
        /// What was tried.
        detail: String,
    },
    /// The cluster refused. Exit code 1.
    #[error("{detail}")]
    Refused {
        /// Why.
        detail: String,
    },
    /// The disk failed.
    #[error("{detail}")]
    Storage {
        /// What happened.
        detail: String,
    },
}

/// Formats the blob store for a cluster and gives its id; for one already formatted for it, that id.
pub type FormatStore = Box<dyn FnOnce(ClusterId) -> Result<StoreId, String> + Send>;

/// Opens an existing member, or says that there is none. `store` is the id of the blob store as it lies on disk.
pub async fn open(config: Config, store: Option<StoreId>, tasks: Tasks) -> Result<Opened, Error> {
    let Some(identity) = identity::read(&config.data)? else {
        if let Some(found) = Leftover::find(&config)? {
            found.refuse_member(&config.data)?;
        }
        return Ok(Opened::Unjoined);
    };
    // A stop right after the identity was written left it: with the identity lost later, the member would look unborn.
    intent::forget(&config.data);
    if store != Some(identity.store) {
        let found = store.map_or("none".to_owned(), |store| store.to_string());
        return Err(Error::Identity {
            detail: format!(
                "the blob store holds id {found}, this node's identity names {}; mount the right disk, or join anew \
                 with an empty data directory and `cluster-cli join --replace {}`",
                identity.store, identity.node
            ),
        });
    }
    start::start(config, identity, start::Begin::Existing, tasks).await.map(Opened::Member)
}

/// Genesis: this node becomes node 1 of region 1. Repeatable after a crash: the identity file is written last.
pub async fn init(
    config: Config,
    node: NewNode,
    durability: Durability,
    format: FormatStore,
    tasks: Tasks,
) -> Result<Handle, Error> {
    refuse_member(&config)?;
    check_address(&config)?;
    let found = Leftover::find(&config)?;
    if let Some(found) = &found {
        found.refuse_member(&config.data)?;
        found.refuse_join(&config.data)?;
    }
    let cluster = intent::cluster(&config.data, &node.region, durability, found.is_some())?;
    let store = format(cluster).map_err(|detail| Error::Storage { detail })?;
    let identity = identity::File {
        cluster,
        incarnation: Incarnation(1),
        node: NodeId(1),
        region: RegionId(1),
        region_name: node.region.clone(),
        store,
    };
    if let Some(found) = found {
        found.refuse_other(&identity)?;
    }
    let handle = start::start(config.clone(), identity.clone(), start::Begin::Genesis(node, durability), tasks).await?;
    identity::write(&config.data, &identity)?;
    intent::forget(&config.data);
    tracing::info!(cluster = %identity.cluster, region = %identity.region_name, "cluster was born");
    Ok(handle)
}

/// Joins the cluster of `member` (`host:port` of any member's peer door). Repeatable after a crash. Returns when the
/// node is minted and Raft runs; becoming voter, backfilling and ready happen by themselves and show in the rows.
pub async fn join(
    config: Config,
    member: String,
    node: NewNode,
    replace: Option<NodeId>,
    format: FormatStore,
    tasks: Tasks,
) -> Result<Handle, Error> {
    refuse_member(&config)?;
    check_address(&config)?;
    let found = Leftover::find(&config)?;
    if let Some(found) = &found {
        found.refuse_member(&config.data)?;
        found.refuse_init()?;
    }
    let minted = network_mint::ask(&config, &member, &node, replace).await?;
    if let Some(found) = &found {
        found.refuse_cluster(minted.cluster)?;
    }
    let store = format(minted.cluster).map_err(|detail| Error::Storage { detail })?;
    let identity = identity::File {
        cluster: minted.cluster,
        incarnation: minted.incarnation,
        node: minted.node,
        region: minted.region,
        region_name: node.region,
        store,
    };
    start::create_files(&config, &identity)?;
    identity::write(&config.data, &identity)?;
    intent::forget(&config.data);
    tracing::info!(cluster = %identity.cluster, node = identity.node.0, region = %identity.region_name, "node joins");
    start::start(config, identity, start::Begin::Existing, tasks).await
}

fn refuse_member(config: &Config) -> Result<(), Error> {
    match identity::read(&config.data)? {
        Some(identity) => Err(Error::AlreadyMember { cluster: identity.cluster, node: identity.node }),
        None => Ok(()),
    }
}

/// Peers dial this address without TLS until the trust issue, so it must be loopback unless insecurity is accepted.
fn check_address(config: &Config) -> Result<(), Error> {
    let host = config.peer_address.rsplit_once(':').map_or(config.peer_address.as_str(), |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if loopback || config.insecure {
        return Ok(());
    }
    Err(Error::Refused {
        detail: format!(
            "peer address {} is not loopback and connections between nodes are not encrypted yet; set peer.insecure = \
             true to accept that",
            config.peer_address
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use domain::{Place, RegionName};

    use super::*;

    /// Stopped between the format of the blob store and the stamp of the log, `init` goes on with the same cluster:
    /// the store is formatted for it already.
    #[tokio::test]
    async fn an_init_that_stopped_after_the_format_keeps_its_cluster() {
        let folder = tempfile::tempdir().expect("folder");
        let data = folder.path().join("data");
        let config = Config { data, peer_address: "127.0.0.1:7001".to_owned(), ..Config::for_tests(Profile::Lan) };
        let seen = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..2 {
            let node = NewNode {
                region: RegionName::parse("paris").expect("valid"),
                place: Place::default(),
                public_url: String::new(),
                peer_address: config.peer_address.clone(),
                certificate: Vec::new(),
            };
            let seen = seen.clone();
            let format: FormatStore = Box::new(move |cluster| {
                seen.lock().expect("no panic").push(cluster);
                Err("stopped here".to_owned())
            });
            let begun = init(config.clone(), node, Durability::Majority, format, Tasks::new()).await;
            assert!(matches!(begun, Err(Error::Storage { .. })), "the format was the last step");
        }
        let seen = seen.lock().expect("no panic").clone();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0], seen[1], "one birth, one cluster");
    }
}
