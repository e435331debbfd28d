//! Strict reads in shared rounds, and the escape to local state (design §5).

use std::time::{Duration, Instant};

use domain::{NodeId, Revision};
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::ReadPolicy;
use runtime::clock;
use tokio::sync::{mpsc, oneshot};

use crate::handle::{ChannelClass, Demand, ReadError};
use crate::raft::member::Member;
use crate::raft::network::{calls, client};
use crate::view::{Freshness, View};

/// Readers that wait for a round at once.
pub(crate) const ROUND_WAITERS_MAX: usize = 16 * 1024;
/// Pause between rounds that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(25);

/// A reader that waits for a round that begins after it asked; answered with the index to have applied.
pub(crate) type Waiter = oneshot::Sender<Result<Revision, String>>;

/// Why a round has no index.
#[derive(Clone, Debug)]
pub(crate) enum RoundError {
    /// This node does not lead.
    NotLeader(Option<NodeId>),
    /// No quorum confirmed.
    Unavailable(String),
}

impl Member {
    /// See [`crate::Handle::view`].
    pub(crate) async fn view(&self, demand: Demand, min: Option<Revision>) -> Result<View, ReadError> {
        self.refuse_diverged()?;
        let freshness = match demand {
            Demand::Local => Freshness::Local,
            Demand::Pull => self.confirm_or_escape().await,
            Demand::Strict => {
                self.confirm_within(self.timing().failover_wait, true).await?;
                Freshness::Strict
            }
        };
        if let Some(min) = min
            && !self.wait_applied(min, self.timing().failover_wait).await
        {
            return Err(ReadError::Unavailable {
                detail: format!("revision {min} has not arrived in this region yet"),
            });
        }
        // It may have come to light while this read waited.
        self.refuse_diverged()?;
        Ok(self.local_view(freshness)?)
    }

    /// See [`crate::Handle::hear_quorum`].
    pub(crate) async fn hear_quorum(&self) -> bool {
        // The watch may be a step behind: it is told only where somebody is going to wait on it.
        if self.quorum().heard || self.refresh_quorum() {
            return true;
        }
        if self.serves_nothing() || self.has_stopped() {
            return false;
        }
        let lost_for = self.quorum_lost_for().unwrap_or_default();
        let left = self.timing().failover_wait.saturating_sub(lost_for);
        if left.is_zero() {
            return false;
        }
        let mut changes = self.quorum_changes();
        let heard = changes.wait_for(|quorum| quorum.heard);
        matches!(tokio::time::timeout(left, heard).await, Ok(Ok(_)))
    }

    fn refuse_diverged(&self) -> Result<(), ReadError> {
        if !self.serves_nothing() {
            return Ok(());
        }
        Err(ReadError::Unavailable { detail: self.state_obstacle().unwrap_or_else(|| self.cut_off_text()) })
    }

    async fn confirm_or_escape(&self) -> Freshness {
        if self.escape().is_on() {
            return Freshness::Stale;
        }
        match self.confirm_within(self.timing().strict_wait, false).await {
            Ok(()) => Freshness::Strict,
            Err(_) => {
                self.escape().turn_on();
                Freshness::Stale
            }
        }
    }

    /// Confirms with a quorum that what is applied here is the newest state, retrying within `limit`. With `lost`, an
    /// outage that has lasted for all of `limit` already is not waited for again.
    async fn confirm_within(&self, limit: Duration, lost: bool) -> Result<(), ReadError> {
        let started = clock::now();
        let deadline = started + limit;
        loop {
            let detail = match tokio::time::timeout_at(deadline.into(), self.confirm(deadline)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(detail)) => detail,
                Err(_) => self.cut_off_text(),
            };
            let gone = lost && self.quorum_lost_for().is_some_and(|since| since >= limit);
            if clock::now() + RETRY_PAUSE >= deadline || gone {
                return Err(ReadError::Unavailable { detail });
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn confirm(&self, deadline: Instant) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        self.round_waiters().send(answer).await.map_err(|_| "this node is stopping".to_owned())?;
        let index = answered.await.map_err(|_| "this node is stopping".to_owned())??;
        if self.wait_applied(index, deadline.saturating_duration_since(clock::now())).await {
            Ok(())
        } else {
            Err(format!("revision {index} has not arrived in this region yet"))
        }
    }

    /// Runs rounds for as long as the node lives: whoever asked before a round begins shares it.
    pub(crate) async fn run_rounds(self, mut waiters: mpsc::Receiver<Waiter>) {
        let mut batch = Vec::new();
        let token = self.tasks().token();
        loop {
            let received = tokio::select! {
                received = waiters.recv_many(&mut batch, ROUND_WAITERS_MAX) => received,
                () = token.cancelled() => return,
            };
            if received == 0 {
                return;
            }
            let limit = self.timing().strict_wait;
            let round = match tokio::time::timeout(limit, self.round()).await {
                Ok(round) => round,
                Err(_) => Err(self.cut_off_text()),
            };
            for waiter in batch.drain(..) {
                // A reader that has gone away needs no answer.
                drop(waiter.send(round.clone()));
            }
        }
    }

    /// While reads are answered from local state, tries rounds until one succeeds and what it asks for is applied here:
    /// a region that still catches up would make every reader wait in vain.
    pub(crate) async fn run_probe(self) {
        let token = self.tasks().token();
        loop {
            tokio::select! {
                () = self.escape().wait_on() => {}
                () = token.cancelled() => return,
            }
            let deadline = clock::now() + self.timing().strict_wait;
            if self.confirm(deadline).await.is_ok() {
                self.escape().turn_off();
            } else {
                tokio::time::sleep(self.timing().heartbeat).await;
            }
        }
    }

    async fn round(&self) -> Result<Revision, String> {
        let quorum = self.quorum();
        let leader = match quorum.leader {
            Some(leader) => leader,
            None => return Err(self.cut_off_text()),
        };
        if leader == self.identity().node {
            return self.leader_read_index().await.map_err(|error| match error {
                RoundError::NotLeader(_) => self.cut_off_text(),
                RoundError::Unavailable(detail) => detail,
            });
        }
        let Some(client) = client::connect(self.peers(), leader, ChannelClass::Heartbeat) else {
            return Err(self.cut_off_text());
        };
        calls::read_index(client).await.map_err(|detail| detail.unwrap_or_else(|| self.cut_off_text()))
    }

    /// Confirms leadership with a quorum and gives the index that a strict read must have applied. Concurrent callers
    /// share the library's round.
    pub(crate) async fn leader_read_index(&self) -> Result<Revision, RoundError> {
        match self.raft().get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Ok(Revision(linearizer.read_log_id().index())),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(RoundError::NotLeader(forward.leader_id.map(NodeId)))
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(RoundError::Unavailable(self.cut_off_text()))
            }
            Err(RaftError::Fatal(error)) => Err(RoundError::Unavailable(error.to_string())),
        }
    }
}

/// Whether pull answers come from local state for now.
pub(crate) struct Escape {
    on: tokio::sync::watch::Sender<bool>,
}

impl Default for Escape {
    fn default() -> Self {
        Escape { on: tokio::sync::watch::Sender::new(false) }
    }
}

impl Escape {
    pub(crate) fn is_on(&self) -> bool {
        *self.on.borrow()
    }

    fn turn_on(&self) {
        if !self.on.send_replace(true) {
            tracing::warn!("no quorum confirms reads, pulls are answered from local state");
        }
    }

    fn turn_off(&self) {
        if self.on.send_replace(false) {
            tracing::info!("a quorum confirms reads again");
        }
    }

    async fn wait_on(&self) {
        let mut on = self.on.subscribe();
        // The sender lives as long as self.
        drop(on.wait_for(|on| *on).await);
    }
}

#[cfg(test)]
#[path = "reads_test.rs"]
mod tests;
