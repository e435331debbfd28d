//! The leader's duties in the words of its log.

use std::collections::BTreeSet;
use std::fmt;

use domain::NodeId;

use crate::raft::leader::Duty;

impl fmt::Display for Duty {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Duty::AddLearner(node, address) => write!(out, "node {node} at {address} is added without a vote"),
            Duty::Promote(voters) => write!(out, "the voters become {}", list(voters)),
            Duty::Remove(nodes) => write!(out, "{} taken out", list(nodes)),
            Duty::LeaveJoint => write!(out, "an unfinished change of voters is finished"),
            Duty::Backfill(region) => write!(out, "region {region} begins to refill"),
            Duty::Forget(store) => write!(out, "the rows of the lost store {store} are removed"),
            Duty::Finish(region) => write!(out, "what is left of region {region} is removed"),
        }
    }
}

fn list(nodes: &BTreeSet<NodeId>) -> String {
    let ids: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
    format!("{} {}", if ids.len() == 1 { "node" } else { "nodes" }, ids.join(", "))
}

#[cfg(test)]
mod tests {
    use domain::{RegionId, StoreId};

    use super::*;

    #[test]
    fn duties_are_said_without_the_names_of_types() {
        let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<BTreeSet<NodeId>>();
        let said = [
            (
                Duty::AddLearner(NodeId(2), "127.0.0.1:7002".to_owned()),
                "node 2 at 127.0.0.1:7002 is added without a vote",
            ),
            (Duty::Promote(nodes(&[1, 2])), "the voters become nodes 1, 2"),
            (Duty::Remove(nodes(&[3])), "node 3 taken out"),
            (Duty::LeaveJoint, "an unfinished change of voters is finished"),
            (Duty::Backfill(RegionId(2)), "region 2 begins to refill"),
            (Duty::Finish(RegionId(2)), "what is left of region 2 is removed"),
        ];
        for (duty, words) in said {
            assert_eq!(duty.to_string(), words);
        }
        assert!(!Duty::Forget(StoreId([1; 16])).to_string().contains("StoreId"));
    }
}
