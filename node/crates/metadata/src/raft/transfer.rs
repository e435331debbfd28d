//! Handing leadership on at an operator's wish: refused when it cannot work, and done only when the other one leads.

use std::collections::{BTreeMap, BTreeSet};

use domain::NodeId;
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;

use crate::handle::{Quorum, TransferError};
use crate::raft::member::Member;

/// Who is to lead; decided without I/O. `followers` are the other voters that this leader hears, and how much of its log
/// each holds.
pub(crate) fn choose(
    me: NodeId,
    quorum: &Quorum,
    voters: &BTreeSet<NodeId>,
    followers: &BTreeMap<NodeId, u64>,
    to: Option<NodeId>,
) -> Result<NodeId, TransferError> {
    if !quorum.heard {
        return Err(TransferError::NoQuorum);
    }
    if !quorum.is_leader {
        return Err(TransferError::NotLeader(quorum.leader));
    }
    match to {
        Some(node) if node == me => Ok(node),
        Some(node) if !voters.contains(&node) => Err(TransferError::NoVote(node)),
        Some(node) if !followers.contains_key(&node) => Err(TransferError::Silent(node)),
        Some(node) => Ok(node),
        None => followers.iter().max_by_key(|(_, held)| **held).map(|(node, _)| *node).ok_or(TransferError::Alone),
    }
}

impl Member {
    /// See [`crate::Handle::transfer_leadership`].
    pub(crate) async fn transfer(&self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        let me = self.identity().node;
        let (voters, followers) = self.audience();
        let node = choose(me, &self.quorum(), &voters, &followers, to)?;
        if node == me {
            return Ok(me);
        }
        if self.raft().trigger().transfer_leader(node.0).await.is_err() {
            return Err(TransferError::NotTaken(node));
        }
        let mut changes = self.quorum_changes();
        let taken = changes.wait_for(|quorum| quorum.leader == Some(node));
        match tokio::time::timeout(self.timing().failover_wait, taken).await {
            Ok(Ok(_)) => Ok(node),
            Ok(Err(_)) | Err(_) => Err(TransferError::NotTaken(node)),
        }
    }

    /// All voters, and those of the others that a leader heard within its lease, with the index their logs match up to.
    fn audience(&self) -> (BTreeSet<NodeId>, BTreeMap<NodeId, u64>) {
        let voters = self.voters();
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let lease = self.timing().election_max;
        let heard = metrics.heartbeat.iter().flatten();
        let heard = heard.filter(|(_, at)| at.as_ref().is_some_and(|at| at.elapsed() < lease));
        let held = |node: &u64| {
            let matched = metrics.replication.as_ref().and_then(|matched| matched.get(node))?.as_ref()?;
            Some(matched.index)
        };
        let followers = heard
            .map(|(node, _)| (NodeId(*node), held(node).unwrap_or(0)))
            .filter(|(node, _)| *node != self.identity().node && voters.contains(node))
            .collect();
        (voters, followers)
    }
}

#[cfg(test)]
mod tests {
    use domain::Revision;

    use super::*;

    fn quorum(leader: u64, heard: bool) -> Quorum {
        Quorum {
            leader: Some(NodeId(leader)),
            is_leader: leader == 1,
            heard,
            term: 3,
            applied: Revision(9),
            committed: Revision(9),
        }
    }

    #[test]
    fn only_a_voter_that_is_heard_is_handed_the_leadership_and_only_by_the_leader() {
        let voters = BTreeSet::from([1, 2, 3, 4].map(NodeId));
        let followers = BTreeMap::from([(NodeId(2), 7), (NodeId(3), 9)]);
        let ask = |quorum: &Quorum, to: Option<u64>| choose(NodeId(1), quorum, &voters, &followers, to.map(NodeId));
        let leads = quorum(1, true);
        assert_eq!(ask(&leads, Some(2)), Ok(NodeId(2)));
        assert_eq!(ask(&leads, Some(1)), Ok(NodeId(1)), "it leads already");
        assert_eq!(ask(&leads, None), Ok(NodeId(3)), "the longest log");
        assert_eq!(ask(&leads, Some(4)), Err(TransferError::Silent(NodeId(4))));
        assert_eq!(ask(&leads, Some(5)), Err(TransferError::NoVote(NodeId(5))));
        assert_eq!(ask(&quorum(2, true), Some(3)), Err(TransferError::NotLeader(Some(NodeId(2)))));
        for leader in [1, 2] {
            assert_eq!(ask(&quorum(leader, false), Some(3)), Err(TransferError::NoQuorum));
        }
        let alone = choose(NodeId(1), &leads, &BTreeSet::from([NodeId(1)]), &BTreeMap::new(), None);
        assert_eq!(alone, Err(TransferError::Alone));
    }
}
