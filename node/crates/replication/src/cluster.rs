//! What transfers need to know of the cluster: a narrow port onto `metadata`, so that flights, readers and reports can be
//! tested against real blob stores without a Raft cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::{CopyId, Digest, NodeId, RegionId, Revision};
use futures_util::future::BoxFuture;
use metadata::command::{Command, StoreClaim};
use metadata::handle::{Applied, ChannelClass, Demand, Origin, ProposeError, Watched};
use metadata::rows::{self, RegionState};
use metadata::view;
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::losses::Count;

/// Rows read at once when copies are counted.
const HELD_PAGE: usize = 1_000;

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
    /// Those of `digests` that lie in fewer than `need` ready regions; with `only`, that region must be one that holds
    /// them, as soon as it is ready itself.
    fn below(&self, digests: &[Digest], need: u32, only: Option<RegionId>) -> Result<Below, view::Error>;
    /// Copies that rows name for this store, counted up to `most`.
    fn count_held(&self, most: u64) -> Result<Count, view::Error>;
    /// Nodes of other regions.
    fn peers(&self) -> Result<Vec<Peer>, view::Error>;
    /// Cluster time as this node's state has it. Unit: milliseconds.
    fn time_ms(&self) -> Result<u64, view::Error>;
    /// Cluster time of a state that a quorum proved to be the newest, and that is applied here; none without a quorum.
    /// Unit: milliseconds.
    fn proved_time_ms(&self) -> BoxFuture<'_, Option<u64>>;
    /// Connection for transfers of this class.
    fn channel(&self, node: NodeId, class: ChannelClass) -> Option<Channel>;
    /// Measured round trip.
    fn round_trip(&self, node: NodeId) -> Option<Duration>;
    /// Proposes a report.
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Applied, ProposeError>>;
    /// Changes of a space.
    fn watch(&self, space: Watched) -> watch::Receiver<u64>;
}

/// A node of another region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    /// Its region counts for durability.
    pub(crate) is_ready: bool,
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

    fn below(&self, digests: &[Digest], need: u32, only: Option<RegionId>) -> Result<Below, view::Error> {
        let view = self.local()?;
        let regions = view.regions()?;
        let ready: BTreeSet<_> = regions.iter().filter(|region| region.counts()).map(|region| region.id).collect();
        let stays = |region: &&rows::Region| region.state != RegionState::Leaving && region.departure.is_none();
        let coming = regions.iter().filter(stays).count();
        let mut below = Below { digests: Vec::new(), hopeless: coming < need as usize };
        for digest in digests {
            let holding: BTreeSet<_> = view.holders(digest)?.iter().map(|holder| holder.region).collect();
            if !is_durable(&holding, &ready, need, only) {
                below.digests.push(*digest);
            }
        }
        Ok(below)
    }

    fn count_held(&self, most: u64) -> Result<Count, view::Error> {
        let (view, store) = (self.local()?, self.identity().store);
        let (mut held, mut last) = (0, None);
        while held < most {
            let page = view.held_by(store, last.as_ref(), HELD_PAGE)?;
            held += page.len() as u64;
            last = page.last().map(|(digest, _)| *digest);
            if page.len() < HELD_PAGE {
                return Ok(Count { held, whole: true });
            }
        }
        Ok(Count { held, whole: false })
    }

    fn peers(&self) -> Result<Vec<Peer>, view::Error> {
        let region = self.identity().region;
        let view = self.local()?;
        let regions = view.regions()?;
        let ready: BTreeSet<_> = regions.iter().filter(|r| r.state == RegionState::Ready).map(|r| r.id).collect();
        let others = view.nodes()?.into_iter().filter(|node| !node.removed && node.region != region);
        Ok(others.map(|node| Peer { node: node.id, is_ready: ready.contains(&node.region) }).collect())
    }

    fn time_ms(&self) -> Result<u64, view::Error> {
        Ok(self.local()?.meta()?.map_or(0, |meta| meta.cluster_time_ms))
    }

    fn proved_time_ms(&self) -> BoxFuture<'_, Option<u64>> {
        Box::pin(async {
            let view = metadata::Handle::view(self, Demand::Strict, None).await.ok()?;
            Some(view.meta().ok()?.map_or(0, |meta| meta.cluster_time_ms))
        })
    }

    fn channel(&self, node: NodeId, class: ChannelClass) -> Option<Channel> {
        metadata::Handle::channel(self, node, class)
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

/// Whether a blob of these regions is durable, by the same count as `apply`'s.
fn is_durable(holding: &BTreeSet<RegionId>, ready: &BTreeSet<RegionId>, need: u32, only: Option<RegionId>) -> bool {
    // A region that is not ready cannot answer for itself: any other does.
    let is_there = only.filter(|region| ready.contains(region)).is_none_or(|region| holding.contains(&region));
    is_there && holding.intersection(ready).count() >= need as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_that_answers_for_itself_must_hold_the_blob() {
        let regions = |ids: &[u32]| ids.iter().copied().map(RegionId).collect::<BTreeSet<_>>();
        let (one, two) = (Some(RegionId(1)), Some(RegionId(2)));
        let ready = regions(&[1, 2]);
        assert!(is_durable(&regions(&[1]), &ready, 1, one));
        assert!(!is_durable(&regions(&[1]), &ready, 1, two), "2 has not fetched it yet");
        assert!(is_durable(&regions(&[1, 2]), &ready, 1, two));
        assert!(is_durable(&regions(&[1]), &regions(&[1]), 1, two), "2 is not ready");
        assert!(!is_durable(&regions(&[2]), &regions(&[1]), 1, two), "2 is not ready");
        assert!(is_durable(&regions(&[1]), &ready, 1, None));
        assert!(!is_durable(&regions(&[1, 3]), &ready, 2, None));
    }
}
