//! Proposals: to the leader, wherever it is, at most once, with an honest answer (design §3, §5).

use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::{NodeId, Revision, limits};
use openraft::errors::{ClientWriteError, RaftError};
use runtime::{clock, random};

use crate::command::{Command, Proposal};
use crate::handle::{Applied, ChannelClass, Origin, ProposeError};
use crate::outcome::{Outcome, Refusal};
use crate::raft::member::Member;
use crate::raft::network::{calls, client};
use crate::raft::types::{Data, Response};
use crate::wire;

/// After this an unresolved proposal is reported as unknown (design §5).
const UNRESOLVED_MAX: Duration = Duration::from_secs(30);
/// How long a success waits until it is applied here as well (design §4).
const LOCAL_APPLY_MAX: Duration = Duration::from_secs(1);
/// Pause between attempts that were refused without being appended.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// What one attempt to propose came to.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// In the log and applied by the leader.
    Applied {
        /// Index of this entry.
        index: Revision,
        /// Index under which the outcome was first decided.
        revision: Revision,
        /// The outcome.
        outcome: Outcome,
    },
    /// Certainly not appended there.
    NotLeader(Option<NodeId>),
    /// Certainly not appended: too much is in flight.
    Busy,
    /// It may be in somebody's log.
    Unknown,
}

impl Member {
    /// See [`crate::Handle::propose`]: proposes until the outcome is known or `UNRESOLVED_MAX` is over.
    pub(crate) async fn propose(&self, origin: Origin, command: Command) -> Result<Applied, ProposeError> {
        let upkeep = command.is_upkeep();
        let proposal = Proposal {
            request: random::request_id(),
            as_of: self.applied(),
            wall_ms: clock::wall_ms(),
            actor: origin.actor,
            region: self.identity().region,
            command,
        };
        // Every attempt is the same request, so that it happens once.
        let proposal = wire::encode_proposal(&proposal);
        let bytes = u32::try_from(proposal.len()).unwrap_or(u32::MAX);
        let _admitted = self.admission().node.try_acquire_many(bytes).map_err(|_| ProposeError::Busy)?;
        let started = clock::now();
        let mut maybe = false;
        loop {
            let attempt = self.attempt(&proposal, upkeep, started).await;
            match attempt {
                Attempt::Applied { index, revision, outcome } => {
                    return self.settle(index, revision, outcome, maybe).await;
                }
                Attempt::Busy if !maybe => return Err(ProposeError::Busy),
                Attempt::Unknown => maybe = true,
                Attempt::NotLeader(_) | Attempt::Busy => {}
            }
            if started.elapsed() >= UNRESOLVED_MAX {
                return Err(if maybe { ProposeError::Unknown } else { self.cut_off() });
            }
            if !maybe && self.waited_long_enough(started, upkeep) {
                return Err(self.cut_off());
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// The error of a write that certainly was not appended anywhere.
    fn cut_off(&self) -> ProposeError {
        ProposeError::Unavailable { detail: self.state_obstacle().unwrap_or_else(|| self.cut_off_text()) }
    }

    /// Whether states differ so that this node must not add to them. While no majority agrees only the cluster's own
    /// upkeep goes on: ticks, by which states are compared, and the replacing of nodes, which is the remedy.
    fn is_suspended(&self, upkeep: bool) -> bool {
        self.serves_nothing() || !upkeep && self.undecided_for().is_some()
    }

    /// Whether a wait that began at `started` has outlived a fail-over: without contact to a quorum, or suspended, for
    /// the whole of the wait's bound.
    fn waited_long_enough(&self, started: Instant, upkeep: bool) -> bool {
        let wait = self.timing().failover_wait;
        let over = |since: Option<Duration>| since.is_some_and(|since| since >= wait);
        over(Some(started.elapsed())) || over(self.quorum_lost_for()) || !upkeep && over(self.undecided_for())
    }

    async fn settle(
        &self,
        index: Revision,
        revision: Revision,
        outcome: Outcome,
        maybe: bool,
    ) -> Result<Applied, ProposeError> {
        // Success known from the leader never becomes an error: the wait for the local apply is only bounded.
        self.wait_applied(index, LOCAL_APPLY_MAX).await;
        match outcome {
            // An earlier attempt may have been applied and its record pruned since.
            Outcome::Refused(Refusal::TooOld) if maybe => Err(ProposeError::Unknown),
            Outcome::Refused(refusal) => Err(ProposeError::Refused(refusal)),
            outcome => Ok(Applied { revision, outcome }),
        }
    }

    async fn attempt(&self, proposal: &Bytes, upkeep: bool, started: Instant) -> Attempt {
        let quorum = self.quorum();
        if !quorum.heard || self.is_suspended(upkeep) {
            return Attempt::NotLeader(None);
        }
        match quorum.leader {
            None => Attempt::NotLeader(None),
            Some(node) if node == self.identity().node => {
                // A leader that was cut off keeps what it appended until it hears of another: nobody waits for that.
                let left = UNRESOLVED_MAX.saturating_sub(started.elapsed());
                let submitted = tokio::time::timeout(left, self.submit(proposal.clone(), upkeep)).await;
                submitted.unwrap_or(Attempt::Unknown)
            }
            Some(node) => {
                let left = UNRESOLVED_MAX.saturating_sub(started.elapsed());
                self.forward(node, proposal.clone(), left).await
            }
        }
    }

    /// Proposes on this node, if it leads.
    pub(crate) async fn submit(&self, proposal: Bytes, upkeep: bool) -> Attempt {
        if self.is_suspended(upkeep) {
            return Attempt::NotLeader(None);
        }
        let bytes = u32::try_from(proposal.len()).unwrap_or(u32::MAX);
        let Ok(_admitted) = self.admission().leader.try_acquire_many(bytes) else { return Attempt::Busy };
        match self.raft().client_write(Data(proposal)).await {
            Ok(written) => match written.data {
                Response::Decided(revision, outcome) => {
                    Attempt::Applied { index: Revision(written.log_id.index), revision, outcome }
                }
                Response::Nothing => Attempt::Unknown,
            },
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Attempt::NotLeader(forward.leader_id.map(NodeId))
            }
            // Appended here, then overtaken by another leader: it may have been committed all the same.
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => Attempt::Unknown,
            Err(RaftError::APIError(
                ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_),
            )) => Attempt::NotLeader(None),
            Err(RaftError::Fatal(error)) => {
                tracing::error!(error = %error, "raft has stopped on this node");
                Attempt::Unknown
            }
        }
    }

    async fn forward(&self, leader: NodeId, proposal: Bytes, limit: Duration) -> Attempt {
        let Some(client) = client::connect(self.peers(), leader, ChannelClass::Raft) else {
            return Attempt::NotLeader(None);
        };
        let mut changed = self.quorum_changes();
        changed.borrow_and_update();
        let moved_on = async {
            loop {
                if changed.changed().await.is_err() {
                    return;
                }
                let quorum = changed.borrow_and_update().clone();
                if !quorum.heard || quorum.leader != Some(leader) {
                    return;
                }
            }
        };
        tokio::select! {
            attempt = tokio::time::timeout(limit, calls::propose(client, proposal)) => {
                attempt.unwrap_or(Attempt::Unknown)
            }
            // Another leader: ask there, under the same request id.
            () = moved_on => Attempt::Unknown,
        }
    }
}

/// Bytes of proposals admitted at once (design §3).
pub(crate) struct Admission {
    /// On this node, as a proposer.
    pub(crate) node: tokio::sync::Semaphore,
    /// On this node, as leader.
    pub(crate) leader: tokio::sync::Semaphore,
}

impl Default for Admission {
    fn default() -> Self {
        Admission {
            node: tokio::sync::Semaphore::new(limits::PROPOSAL_BYTES_NODE_MAX),
            leader: tokio::sync::Semaphore::new(limits::PROPOSAL_BYTES_LEADER_MAX),
        }
    }
}
