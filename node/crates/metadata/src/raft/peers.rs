//! Addresses of and connections to other nodes, kept apart by duty.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::{ClusterId, Incarnation, NodeId};
use runtime::clock;
use tonic::metadata::{AsciiMetadataValue, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint};

use crate::handle::ChannelClass;
use crate::raft::config::Timing;

/// Metadata entry by which nodes of another cluster, incarnation or id are refused.
pub(crate) const CLUSTER_HEADER: &str = "longshore-cluster";

/// How long a measured round trip is believed.
const ROUND_TRIP_AGE_MAX: Duration = Duration::from_secs(30);

/// Where every other node is reached. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: ClusterId,
    incarnation: Incarnation,
    via: BTreeMap<NodeId, String>,
    timing: Timing,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    addresses: BTreeMap<NodeId, String>,
    channels: HashMap<(NodeId, ChannelClass), (String, Channel)>,
    round_trips: BTreeMap<NodeId, (Instant, Duration)>,
    /// This node was taken out of the cluster: it calls nobody but for an operator who asks it.
    retired: bool,
}

impl Peers {
    pub(crate) fn new(
        cluster: ClusterId,
        incarnation: Incarnation,
        via: BTreeMap<NodeId, String>,
        timing: Timing,
    ) -> Self {
        Peers { inner: Arc::new(Inner { cluster, incarnation, via, timing, state: Mutex::default() }) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing that holds the lock can leave the maps half changed.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the addresses with those of the replicated rows.
    pub(crate) fn set_addresses(&self, addresses: BTreeMap<NodeId, String>) {
        let mut state = self.state();
        state.channels.retain(|(node, _), _| addresses.contains_key(node));
        state.addresses = addresses;
    }

    /// Learns an address from Raft's membership, for nodes whose row is not applied here yet.
    pub(crate) fn learn(&self, node: NodeId, address: &str) {
        if !address.is_empty() {
            self.state().addresses.entry(node).or_insert_with(|| address.to_owned());
        }
    }

    /// Nodes of which an address is known.
    pub(crate) fn known(&self) -> BTreeSet<NodeId> {
        self.state().addresses.keys().chain(self.inner.via.keys()).copied().collect()
    }

    /// Ends all connections, and makes no other than those by which an operator is answered.
    pub(crate) fn retire(&self) {
        let mut state = self.state();
        state.retired = true;
        state.channels.clear();
    }

    /// A channel that connects when it is first used; none for an unknown node.
    pub(crate) fn channel(&self, node: NodeId, class: ChannelClass) -> Option<Channel> {
        let mut state = self.state();
        if state.retired && class != ChannelClass::Forward {
            return None;
        }
        let address = match self.inner.via.get(&node) {
            Some(via) => via.clone(),
            None => state.addresses.get(&node)?.clone(),
        };
        if let Some((known, channel)) = state.channels.get(&(node, class))
            && *known == address
        {
            return Some(channel.clone());
        }
        let channel = endpoint(&address, class, &self.inner.timing)?.connect_lazy();
        state.channels.insert((node, class), (address, channel.clone()));
        Some(channel)
    }

    /// Marks requests with our cluster, incarnation and whom they are for.
    pub(crate) fn stamp(&self, to: NodeId) -> Stamp {
        Stamp(header(self.inner.cluster, self.inner.incarnation, to))
    }

    /// A channel with the stamp, for the rooms' clients.
    pub(crate) fn stamped(
        &self,
        node: NodeId,
        class: ChannelClass,
    ) -> Option<tonic::service::interceptor::InterceptedService<Channel, Stamp>> {
        Some(tonic::service::interceptor::InterceptedService::new(self.channel(node, class)?, self.stamp(node)))
    }

    /// Notes a measured round trip, smoothed.
    pub(crate) fn note_round_trip(&self, node: NodeId, measured: Duration) {
        let mut state = self.state();
        let now = clock::now();
        let smoothed = match state.round_trips.get(&node) {
            Some((_, old)) => *old * 7 / 8 + measured / 8,
            None => measured,
        };
        state.round_trips.insert(node, (now, smoothed));
    }

    /// The smoothed round trip, if it was measured recently.
    pub(crate) fn round_trip(&self, node: NodeId) -> Option<Duration> {
        let state = self.state();
        let (at, round_trip) = state.round_trips.get(&node)?;
        (at.elapsed() < ROUND_TRIP_AGE_MAX).then_some(*round_trip)
    }
}

/// Adds the cluster header.
#[derive(Clone)]
pub(crate) struct Stamp(AsciiMetadataValue);

impl Interceptor for Stamp {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        request.metadata_mut().insert(CLUSTER_HEADER, self.0.clone());
        Ok(request)
    }
}

/// The header a receiver expects.
pub(crate) fn header(cluster: ClusterId, incarnation: Incarnation, to: NodeId) -> AsciiMetadataValue {
    MetadataValue::try_from(format!("{cluster}.{incarnation}.{to}")).expect("hex, digits and dots are valid ASCII")
}

/// A tuned endpoint for an address; none when it is not one.
pub(crate) fn endpoint(address: &str, class: ChannelClass, timing: &Timing) -> Option<Endpoint> {
    let (stream, connection) = timing.windows;
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .ok()?
        .connect_timeout(Duration::from_secs(2).max(timing.heartbeat * 4))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    Some(match class {
        ChannelClass::Bulk | ChannelClass::Direct | ChannelClass::Raft | ChannelClass::Forward => {
            endpoint.initial_stream_window_size(stream).initial_connection_window_size(connection)
        }
        ChannelClass::Heartbeat => endpoint,
    })
}
