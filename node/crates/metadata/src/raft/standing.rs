//! Whether this node still belongs to the cluster: found out, kept, and acted on.
//!
//! A node that was down while it was removed or replaced never got the rows that say so, and nobody calls it any more.
//! While it hears no quorum it asks every node it knows an address of. One whose applied state says that the asking node
//! is out answers so: removal is final and ids are never used again, so it is true however old that state is.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::NodeId;
use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver;
use runtime::Backoff;

use crate::handle::{ChannelClass, Removal};
use crate::raft::member::Member;
use crate::raft::network::calls;
use crate::rows;
use crate::view::{self, Freshness};

/// Longest pause between two rounds of asking.
const ASK_EVERY_MAX: Duration = Duration::from_secs(10);

/// Whether a node is out, and which one has its place now. A removed node whose vote still counts is needed until its
/// successor has taken that over: it is not told.
fn judge(nodes: &[rows::Node], members: &BTreeSet<NodeId>, node: NodeId) -> Option<Option<NodeId>> {
    let row = nodes.iter().find(|row| row.id == node && row.removed)?;
    let successor =
        nodes.iter().filter(|other| !other.removed && other.region == row.region).map(|other| other.id).max();
    (!members.contains(&node)).then_some(successor)
}

impl Member {
    /// That this node was taken out of the cluster, once it knows.
    pub(crate) fn removal(&self) -> Option<Removal> {
        *self.file().removal().borrow()
    }

    /// This node answers for nothing any more: a majority has another state, or it was taken out.
    pub(crate) fn serves_nothing(&self) -> bool {
        self.is_diverged() || self.removal().is_some()
    }

    /// What the state here says of a node that was taken out; none while it belongs to the cluster, as far as known here.
    pub(crate) fn standing_of(&self, node: NodeId) -> Result<Option<Removal>, view::Error> {
        if self.is_diverged() {
            return Ok(None);
        }
        let members = {
            let metrics = self.raft().metrics();
            let metrics = metrics.borrow_watched();
            let newest = metrics.membership_config.membership();
            let committed = metrics.committed_membership_config.membership();
            let ids = [newest, committed].into_iter().flat_map(|of| of.voter_ids().chain(of.learner_ids()));
            ids.map(NodeId).collect()
        };
        let view = self.local_view(Freshness::Local)?;
        let (revision, told_by) = (view.revision(), self.identity().node);
        let out = judge(&view.nodes()?, &members, node);
        Ok(out.map(|successor| Removal { successor, revision, told_by }))
    }

    /// Takes no part any more: Raft ends here, and this node calls nobody.
    pub(crate) async fn retire(&self) {
        self.stopping().store(true, Ordering::Release);
        self.peers().retire();
        self.claims().send_replace(None);
        if let Err(error) = self.raft().shutdown().await {
            tracing::debug!(error = %error, "raft had ended already");
        }
    }
}

/// Asks while no quorum is heard, until the node stops or knows that it is out.
pub(crate) async fn run(member: Member) {
    let token = member.tasks().token();
    let mut backoff = Backoff::new(member.timing().election_max, ASK_EVERY_MAX);
    loop {
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            () = token.cancelled() => return,
        }
        if member.quorum().heard {
            backoff.reset();
            continue;
        }
        let found = tokio::select! {
            found = find(&member) => found,
            () = token.cancelled() => return,
        };
        match found {
            Ok(Some(removal)) => return leave(&member, removal).await,
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "whether this node belongs to the cluster cannot be read"),
        }
    }
}

async fn find(member: &Member) -> Result<Option<Removal>, view::Error> {
    let me = member.identity().node;
    if let Some(removal) = member.standing_of(me)? {
        return Ok(Some(removal));
    }
    let view = member.local_view(Freshness::Local)?;
    let (applied, is_removed) = (view.revision(), view.node(me)?.is_some_and(|row| row.removed));
    drop(view);
    let limit = member.timing().election_max;
    let asked = member.peers().known().into_iter().filter(|node| *node != me).map(|node| async move {
        let channel = member.peers().channel(node, ChannelClass::Heartbeat)?;
        let asking = calls::standing(channel, member.identity().cluster, member.incarnation(), me);
        match tokio::time::timeout(limit, asking).await {
            Ok(Ok(said)) => said,
            other => {
                tracing::debug!(peer = %node, answer = ?other, "the peer does not say whether this node is out");
                None
            }
        }
    });
    let told = join_all(asked).await.into_iter().flatten();
    // An older state than this node's cannot know better than its own rows.
    Ok(told.into_iter().find(|removal| is_removed || removal.revision > applied))
}

/// Writes it down, so that the next start needs nobody to know, and takes no part from then on.
async fn leave(member: &Member, removal: Removal) {
    let file = member.file().clone();
    let marking = tokio::task::spawn_blocking(move || file.mark_removed(removal)).await;
    if let Ok(Err(error)) = marking {
        tracing::error!(%error, "that this node was taken out of the cluster cannot be written down");
    }
    let why = removal.sentence(member.identity().node);
    tracing::warn!(reason = %why, "this node was taken out of the cluster and takes no part any more");
    member.retire().await;
}

#[cfg(test)]
mod tests {
    use domain::RegionId;

    use super::*;

    fn node(id: u64, region: u32, removed: bool) -> rows::Node {
        rows::Node {
            id: NodeId(id),
            region: RegionId(region),
            peer_address: String::new(),
            certificate: Vec::new(),
            format_level_max: 1,
            removed,
        }
    }

    #[test]
    fn a_removed_node_is_out_once_raft_does_not_count_on_it_any_more() {
        let members = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
        let replaced = [node(1, 1, false), node(2, 2, true), node(3, 3, true), node(4, 2, true), node(5, 2, false)];
        let out = |id, of: &[u64]| judge(&replaced, &members(of), NodeId(id));
        assert_eq!(out(1, &[1, 5]), None, "it belongs to the cluster");
        assert_eq!(out(9, &[1, 5]), None, "a node that is not known here may be a new one");
        assert_eq!(out(2, &[1, 2, 5]), None, "its successor has no vote yet");
        assert_eq!(out(2, &[1, 5]), Some(Some(NodeId(5))));
        assert_eq!(out(4, &[1, 5]), Some(Some(NodeId(5))));
        assert_eq!(out(3, &[1, 5]), Some(None), "its region is gone");
    }
}
