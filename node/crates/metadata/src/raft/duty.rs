//! The leader's duties in the words of its log.

use std::collections::BTreeSet;
use std::fmt;

use domain::NodeId;
use domain::limits::DEPARTURE_BLOBS_MAX;

use crate::command::Command;
use crate::raft::leader::Duty;
use crate::rows::RegionState;

impl Duty {
    /// The command of a duty that is a step of the rows; none where Raft's membership changes.
    pub(crate) fn command(&self) -> Option<Command> {
        match *self {
            Duty::AddLearner(..) | Duty::Promote(_) | Duty::Remove(_) | Duty::LeaveJoint => None,
            Duty::Backfill(region) => Some(Command::SetRegionState { region, state: RegionState::Backfilling }),
            Duty::Depart(region, from) => {
                let blobs = u32::try_from(DEPARTURE_BLOBS_MAX).unwrap_or(u32::MAX);
                Some(Command::AdvanceDeparture { region, from, blobs })
            }
            Duty::Forget(store) => Some(Command::ForgetStore { store }),
            // It was forced, or nothing of it was the last: what is repeated here only clears rows.
            Duty::Finish(region) => Some(Command::RemoveRegion { region, force: true }),
        }
    }

    /// Whether the next page of it may follow at once.
    pub(crate) fn has_pages(&self) -> bool {
        matches!(self, Duty::Depart(..) | Duty::Forget(_) | Duty::Finish(_))
    }
}

impl fmt::Display for Duty {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Duty::AddLearner(node, address) => write!(out, "node {node} at {address} is added without a vote"),
            Duty::Promote(voters) => write!(out, "the voters become {}", list(voters)),
            Duty::Remove(nodes) => write!(out, "{} taken out", list(nodes)),
            Duty::LeaveJoint => write!(out, "an unfinished change of voters is finished"),
            Duty::Backfill(region) => write!(out, "region {region} begins to refill"),
            Duty::Depart(region, _) => {
                write!(out, "region {region}, which shall leave, is looked through for last copies")
            }
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
            (Duty::Depart(RegionId(2), None), "region 2, which shall leave, is looked through for last copies"),
        ];
        for (duty, words) in said {
            assert_eq!(duty.to_string(), words);
        }
        assert!(!Duty::Forget(StoreId([1; 16])).to_string().contains("StoreId"));
    }
}
