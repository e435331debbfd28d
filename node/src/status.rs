//! What the node says of itself, decided from plain facts.

use metadata::handle::{Agreement, Identity, Quorum};
use metadata::rows::RegionState;
use metadata::view::{self, View};

use crate::phase::Phase;

/// Life of the node, without its handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// No identity.
    Unjoined,
    /// Opening.
    Starting,
    /// All rooms open.
    Member,
    /// Stopping.
    Draining,
}

/// What readiness is judged by.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Where the node stands.
    pub life: Life,
    /// Raft, for a member.
    pub quorum: Option<Quorum>,
    /// State of the node's region, as far as its row is known here.
    pub region: Option<RegionState>,
    /// The node was removed or replaced, or its region leaves, as far as its rows are known here.
    pub leaves: bool,
    /// What became of the node, when it was told that it was removed or replaced.
    pub removed: Option<String>,
    /// Log or state could not be written: Raft has stopped here until the next start.
    pub raft_stopped: bool,
    /// The node's claim on its store is applied.
    pub store_open: bool,
    /// Blob storage is down to its reserve.
    pub disk_full: bool,
    /// So many copies are missing or bad at once that no more are given up before the operator confirms it.
    pub confirm_loss: bool,
    /// Why this node's state cannot be trusted, when a majority of the regions has another.
    pub diverged: Option<String>,
    /// Why nobody can say whose state is right, when regions differ and no majority agrees.
    pub undecided: Option<String>,
}

/// What to be ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Pulls, also stale ones.
    Pull,
    /// Pushes too.
    Push,
}

/// An answer for health checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Fit for the purpose.
    pub ready: bool,
    /// Promises that cannot be kept at the moment, as sentences.
    pub impaired: Vec<String>,
}

/// What a node says whose Raft has ended.
const RAFT_STOPPED: &str = "the disk of the log or the state failed or is full on this node";

/// Whether the rows say that a node was removed or replaced, or that its region leaves.
pub fn has_left(view: &View, identity: &Identity) -> Result<bool, view::Error> {
    let removed = view.nodes()?.into_iter().any(|row| row.id == identity.node && row.removed);
    let leaving = |row: metadata::rows::Region| row.state == RegionState::Leaving;
    Ok(removed || view.region(identity.region)?.is_some_and(leaving))
}

impl Facts {
    /// Facts of the moment.
    pub fn gather(phase: &Phase) -> Self {
        let life = match phase {
            Phase::Unjoined => Life::Unjoined,
            Phase::Starting => Life::Starting,
            Phase::Member(_) => Life::Member,
            Phase::Draining(_) => Life::Draining,
        };
        let mut facts = Facts {
            life,
            quorum: None,
            region: None,
            leaves: false,
            removed: None,
            raft_stopped: false,
            store_open: false,
            disk_full: false,
            confirm_loss: false,
            diverged: None,
            undecided: None,
        };
        let Some(rooms) = phase.rooms() else { return facts };
        facts.quorum = Some(rooms.metadata.quorum());
        facts.store_open = rooms.metadata.claim().is_some();
        facts.raft_stopped = rooms.metadata.has_stopped();
        let identity = rooms.metadata.identity();
        facts.removed = rooms.metadata.removal().map(|removal| removal.sentence(identity.node));
        let known =
            rooms.metadata.local().and_then(|view| Ok((view.region(identity.region)?, has_left(&view, identity)?)));
        match known {
            Ok((row, leaves)) => (facts.region, facts.leaves) = (row.map(|row| row.state), leaves),
            Err(error) => facts.diverged = Some(error.to_string()),
        }
        let agreement = rooms.metadata.agreement();
        let why = agreement.obstacle(rooms.metadata.identity().node);
        match agreement {
            Agreement::Agrees => {}
            Agreement::Undecided { .. } => facts.undecided = why,
            Agreement::Diverged { .. } => facts.diverged = why,
        }
        let space = rooms.blobs.space();
        facts.disk_full = space.free <= space.reserve;
        facts.confirm_loss = rooms.replication.progress().confirm_loss;
        facts
    }

    /// Promises that cannot be kept at the moment, pulls first.
    pub fn impaired(&self) -> Vec<String> {
        let mut list: Vec<String> = self.pull_obstacle().into_iter().collect();
        list.extend(self.push_obstacles());
        if self.confirm_loss {
            let what = "no repair of missing and damaged copies, others are asked for their bytes: too many were found at \
                        once. Look at the blob store's disk; if they are lost: cluster-cli sync --confirm-loss";
            list.push(what.to_owned());
        }
        list
    }

    /// Fitness for a purpose (ground.md §5): a lost quorum takes no region out of the DNS for pulls.
    pub fn readiness(&self, purpose: Purpose) -> Readiness {
        let ready = self.pull_obstacle().is_none()
            && match purpose {
                Purpose::Pull => true,
                Purpose::Push => self.push_obstacles().is_empty(),
            };
        Readiness { ready, impaired: self.impaired() }
    }

    /// Why the cluster takes no writes, as a node sees it that reaches a majority of the voters or does not; none while
    /// it takes them.
    pub fn no_writes(&self, majority_up: bool) -> Option<&'static str> {
        if self.diverged.is_some() {
            Some("the state of the node that was asked cannot be trusted")
        } else if self.undecided.is_some() {
            Some("the regions differ in state and no majority agrees")
        } else if self.raft_stopped {
            Some(RAFT_STOPPED)
        } else if self.has_left() {
            Some("the node that was asked left the cluster")
        } else if !self.is_quorum_heard() || !majority_up {
            Some("no majority of the regions can be reached")
        } else {
            None
        }
    }

    fn is_quorum_heard(&self) -> bool {
        self.quorum.as_ref().is_some_and(|quorum| quorum.heard)
    }

    /// Nobody tells a node that left what happens since: its rows are the last ones it got.
    fn has_left(&self) -> bool {
        self.removed.is_some() || self.leaves && !self.is_quorum_heard() && !self.raft_stopped
    }

    fn pull_obstacle(&self) -> Option<String> {
        if let Some(why) = &self.diverged {
            return Some(format!("no requests: the state of this node cannot be trusted: {why}"));
        }
        if let (Life::Member, Some(what)) = (self.life, &self.removed) {
            return Some(format!("no requests: {what}"));
        }
        if self.life == Life::Member && self.has_left() {
            let what = "no requests: this node left the cluster; stop it (a node that shall come back joins anew, with an \
                        empty data directory)";
            return Some(what.to_owned());
        }
        let why = match (self.life, self.region) {
            (Life::Unjoined, _) => "no requests: the node belongs to no cluster yet",
            (Life::Starting, _) => "no requests: the node is starting",
            (Life::Draining, _) => "no new requests: the node is stopping",
            (Life::Member, None | Some(RegionState::Joining)) => "not in service: the region is joining",
            (Life::Member, Some(RegionState::Backfilling)) => {
                "not in service: the region is backfilling (pulls work, missing blobs are fetched through)"
            }
            (Life::Member, Some(RegionState::Ready | RegionState::Leaving)) => return None,
        };
        Some(why.to_owned())
    }

    fn push_obstacles(&self) -> Vec<String> {
        let mut list = Vec::new();
        if self.life != Life::Member || self.diverged.is_some() || self.has_left() {
            return list;
        }
        if let Some(why) = &self.undecided {
            list.push(format!("no pushes: {why}"));
        }
        if self.region == Some(RegionState::Leaving) {
            list.push("no pushes: the region is leaving".to_owned());
        }
        if self.raft_stopped {
            let what = format!(
                "no writes, and pulls may be stale: {RAFT_STOPPED}; free space, it then ends to be started anew"
            );
            list.push(what);
        } else if !self.is_quorum_heard() {
            let what = "no pushes, and pulls may be stale: no majority of the regions can be reached";
            list.push(what.to_owned());
        } else if !self.store_open {
            list.push("no uploads yet: the blob store is being announced to the cluster".to_owned());
        }
        if self.disk_full {
            list.push("no uploads: blob storage is full down to its reserve".to_owned());
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use domain::{NodeId, Revision};
    use metadata::handle::Removal;

    use super::*;

    fn member(region: RegionState, heard: bool) -> Facts {
        let quorum = Quorum {
            leader: heard.then_some(NodeId(1)),
            is_leader: false,
            heard,
            term: 1,
            applied: Revision(5),
            committed: Revision(5),
        };
        Facts {
            life: Life::Member,
            quorum: Some(quorum),
            region: Some(region),
            leaves: region == RegionState::Leaving,
            removed: None,
            raft_stopped: false,
            store_open: true,
            disk_full: false,
            confirm_loss: false,
            diverged: None,
            undecided: None,
        }
    }

    #[test]
    fn a_loss_to_be_confirmed_is_told_and_stops_nothing() {
        let facts = Facts { confirm_loss: true, ..member(RegionState::Ready, true) };
        for purpose in [Purpose::Pull, Purpose::Push] {
            let readiness = facts.readiness(purpose);
            assert!(readiness.ready);
            assert!(readiness.impaired[0].contains("cluster-cli sync --confirm-loss"), "{:?}", readiness.impaired);
        }
    }

    #[test]
    fn a_lost_quorum_keeps_pulls_and_stops_pushes() {
        let facts = member(RegionState::Ready, false);
        assert!(facts.readiness(Purpose::Pull).ready);
        let push = facts.readiness(Purpose::Push);
        assert!(!push.ready);
        assert_eq!(push.impaired, ["no pushes, and pulls may be stale: no majority of the regions can be reached"]);
    }

    #[test]
    fn a_failed_disk_is_not_told_as_a_lost_quorum() {
        let facts = Facts { raft_stopped: true, ..member(RegionState::Ready, false) };
        let push = facts.readiness(Purpose::Push);
        assert!(!push.ready && facts.readiness(Purpose::Pull).ready, "pulls go on");
        let [said] = &push.impaired[..] else { panic!("not one reason: {:?}", push.impaired) };
        assert!(said.contains("disk of the log") && !said.contains("majority"), "{said}");
        assert_eq!(facts.no_writes(true), Some(RAFT_STOPPED));
    }

    #[test]
    fn writes_need_a_quorum_that_was_heard_and_voters_that_answer_now() {
        assert_eq!(member(RegionState::Ready, true).no_writes(true), None);
        for (heard, majority_up) in [(true, false), (false, true), (false, false)] {
            let why = member(RegionState::Ready, heard).no_writes(majority_up);
            assert_eq!(why, Some("no majority of the regions can be reached"), "{heard} {majority_up}");
        }
    }

    #[test]
    fn a_node_that_left_says_so_once_nobody_speaks_to_it() {
        assert!(member(RegionState::Leaving, true).readiness(Purpose::Pull).ready, "it still is told what happens");
        let replaced = Facts { leaves: true, ..member(RegionState::Ready, false) };
        for facts in [member(RegionState::Leaving, false), replaced] {
            let pull = facts.readiness(Purpose::Pull);
            assert!(!pull.ready);
            let [said] = &pull.impaired[..] else { panic!("not one reason: {:?}", pull.impaired) };
            assert!(said.contains("left the cluster"), "{said}");
            assert_eq!(facts.no_writes(true), Some("the node that was asked left the cluster"));
        }
    }

    #[test]
    fn a_node_that_was_told_of_its_removal_says_just_that() {
        let removal = Removal { successor: Some(NodeId(4)), revision: Revision(90), told_by: NodeId(1) };
        let removed = Some(removal.sentence(NodeId(3)));
        let facts = Facts { removed, ..member(RegionState::Ready, false) };
        let pull = facts.readiness(Purpose::Pull);
        let [said] = &pull.impaired[..] else { panic!("not one reason: {:?}", pull.impaired) };
        assert!(!pull.ready && said.contains("node 3 was replaced by node 4"), "{said}");
        assert_eq!(facts.no_writes(true), Some("the node that was asked left the cluster"));
    }

    #[test]
    fn a_healthy_region_is_ready_for_both_and_says_nothing() {
        let facts = member(RegionState::Ready, true);
        assert_eq!(facts.readiness(Purpose::Push), Readiness { ready: true, impaired: vec![] });
        assert!(facts.readiness(Purpose::Pull).ready);
    }

    #[test]
    fn what_cannot_pull_is_not_ready_for_anything() {
        let ready = member(RegionState::Ready, true);
        let unfit = [
            Facts { life: Life::Unjoined, ..ready.clone() },
            Facts { life: Life::Starting, ..ready.clone() },
            Facts { life: Life::Draining, ..ready.clone() },
            Facts { region: None, ..ready.clone() },
            Facts { diverged: Some("hash differs".to_owned()), ..ready },
            member(RegionState::Joining, true),
            member(RegionState::Backfilling, true),
        ];
        for facts in unfit {
            for purpose in [Purpose::Pull, Purpose::Push] {
                let readiness = facts.readiness(purpose);
                assert!(!readiness.ready && !readiness.impaired.is_empty(), "{facts:?}");
            }
        }
    }

    #[test]
    fn a_diverged_node_names_its_remedy_and_nothing_else() {
        let agreement = Agreement::Diverged { index: Revision(7), right: [NodeId(2), NodeId(3)].into() };
        let facts = Facts { diverged: agreement.obstacle(NodeId(1)), ..member(RegionState::Ready, false) }
            .readiness(Purpose::Pull);
        assert!(!facts.ready);
        assert_eq!(facts.impaired.len(), 1, "{:?}", facts.impaired);
        assert!(facts.impaired[0].contains("`cluster-cli join --replace 1`"), "{:?}", facts.impaired);
    }

    #[test]
    fn a_full_disk_an_unopened_store_leaving_and_doubt_stop_pushes_only() {
        let ready = member(RegionState::Ready, true);
        let cases = [
            Facts { undecided: Some("the regions differ".to_owned()), ..ready.clone() },
            Facts { disk_full: true, ..ready.clone() },
            Facts { store_open: false, ..ready },
            member(RegionState::Leaving, true),
        ];
        for facts in cases {
            assert!(facts.readiness(Purpose::Pull).ready, "{facts:?}");
            assert!(!facts.readiness(Purpose::Push).ready, "{facts:?}");
        }
    }
}
