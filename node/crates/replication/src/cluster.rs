//! What transfers need to know of the cluster: a narrow port onto `metadata`, so that flights, readers and reports can be
//! tested against real blob stores without a Raft cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::{CopyId, Digest, NodeId, Revision};
use futures_util::future::BoxFuture;
use metadata::command::{Command, StoreClaim};
use metadata::handle::{Applied, ChannelClass, Origin, ProposeError, Watched};
use metadata::rows::{self, RegionState};
use metadata::view;
use tokio::sync::watch;
use tonic::transport::Channel;

/// What one state says about one blob, seen from this node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Its row; none when it does not exist.
    pub(crate) blob: Option<rows::Blob>,
    /// The copy in this node's store.
    pub(crate) copy_here: Option<CopyId>,
    /// Nodes that hold it elsewhere.
    pub(crate) holders: Vec<NodeId>,
    /// This region wants it.
    pub(crate) wanted: bool,
    /// The state that says so.
    pub(crate) revision: Revision,
}

/// The port. Every method that reads takes one state.
pub(crate) trait Cluster: Send + Sync + 'static {
    /// This node's claim, as soon as there is one.
    fn opened(&self) -> BoxFuture<'_, StoreClaim>;
    /// What is known about a blob.
    fn facts(&self, digest: &Digest) -> Result<Facts, view::Error>;
    /// Backlog rows of this region after `last`.
    fn wanted(&self, last: Option<&Digest>, limit: usize) -> Result<Vec<rows::Wanted>, view::Error>;
    /// Those of `digests` that lie in fewer than `need` ready regions.
    fn below(&self, digests: &[Digest], need: u32) -> Result<Below, view::Error>;
    /// Nodes of other regions.
    fn peers(&self) -> Result<Vec<NodeId>, view::Error>;
    /// Connection for bulk transfers.
    fn channel(&self, node: NodeId) -> Option<Channel>;
    /// Measured round trip.
    fn round_trip(&self, node: NodeId) -> Option<Duration>;
    /// Proposes a report.
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Applied, ProposeError>>;
    /// Changes of a space.
    fn watch(&self, space: Watched) -> watch::Receiver<u64>;
}

/// What still keeps a manifest from being durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Below {
    /// Blobs in too few ready regions.
    pub(crate) digests: Vec<Digest>,
    /// No region that exists or is on its way could make up the number.
    pub(crate) hopeless: bool,
}

/// Origin of what a node proposes for itself.
pub(crate) fn system() -> Origin {
    Origin { actor: "system".to_owned() }
}

impl Cluster for metadata::Handle {
    fn opened(&self) -> BoxFuture<'_, StoreClaim> {
        Box::pin(metadata::Handle::opened(self))
    }

    fn facts(&self, digest: &Digest) -> Result<Facts, view::Error> {
        let view = self.local()?;
        let own = self.identity();
        let holders = view.holders(digest)?;
        let copy_here = holders.iter().find(|holder| holder.store == own.store).map(|holder| holder.copy);
        let mut nodes: Vec<NodeId> =
            holders.iter().filter(|holder| holder.node != own.node).map(|holder| holder.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        Ok(Facts {
            blob: view.blob(digest)?,
            copy_here,
            holders: nodes,
            wanted: view.is_wanted(own.region, digest)?,
            revision: view.revision(),
        })
    }

    fn wanted(&self, last: Option<&Digest>, limit: usize) -> Result<Vec<rows::Wanted>, view::Error> {
        self.local()?.wanted(self.identity().region, last, limit)
    }

    fn below(&self, digests: &[Digest], need: u32) -> Result<Below, view::Error> {
        let view = self.local()?;
        let regions = view.regions()?;
        let ready: BTreeSet<_> = regions.iter().filter(|r| r.state == RegionState::Ready).map(|r| r.id).collect();
        let coming = regions.iter().filter(|r| r.state != RegionState::Leaving).count();
        let mut below = Below { digests: Vec::new(), hopeless: coming < need as usize };
        for digest in digests {
            let holding: BTreeSet<_> = view.holders(digest)?.iter().map(|holder| holder.region).collect();
            if holding.intersection(&ready).count() < need as usize {
                below.digests.push(*digest);
            }
        }
        Ok(below)
    }

    fn peers(&self) -> Result<Vec<NodeId>, view::Error> {
        let region = self.identity().region;
        let nodes = self.local()?.nodes()?;
        Ok(nodes.into_iter().filter(|node| !node.removed && node.region != region).map(|node| node.id).collect())
    }

    fn channel(&self, node: NodeId) -> Option<Channel> {
        metadata::Handle::channel(self, node, ChannelClass::Bulk)
    }

    fn round_trip(&self, node: NodeId) -> Option<Duration> {
        metadata::Handle::round_trip(self, node)
    }

    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Applied, ProposeError>> {
        Box::pin(metadata::Handle::propose(self, system(), command))
    }

    fn watch(&self, space: Watched) -> watch::Receiver<u64> {
        metadata::Handle::watch(self, space)
    }
}
