//! Whether this node's state is that of the others: found out, judged, and acted on (promise 10).
//!
//! A tick carries the hash that the leader recorded at the tick before it. Whoever recorded another one asks all voters
//! and tells them its own, so that everybody who differs, the leader too, judges for himself ([`judge`]). A node that
//! a majority contradicts marks itself for good and serves nothing; the others go on. While no majority agrees, nobody
//! accepts writes of clients.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::{NodeId, Revision};
use futures_util::future::join_all;
use runtime::{Backoff, clock};

use crate::handle::{Agreement, ChannelClass};
use crate::raft::judge::{Hash, Verdict, judge};
use crate::raft::member::Member;
use crate::raft::network::{calls, client};
use crate::state::Divergence;
use crate::state::places::DivergedRow;

/// Pauses between rounds of asking while nothing is decided.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// A marked node stands for election only when no leader was heard for so many election timeouts: its log may be the
/// one that has everything.
const LEADERLESS_TIMEOUTS: u32 = 4;

/// What a node knows of the state hash at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// Recorded by `apply`.
    Hash(Hash),
    /// The index is not applied yet.
    NotReached,
    /// No longer, or never, recorded.
    Forgotten,
}

/// A peer differs from the leader, or believes so: says what was recorded here, and looks into it if the peer has
/// recorded something else.
pub(crate) fn asked(member: &Member, from: NodeId, index: Revision, theirs: Hash) -> Recorded {
    let file = member.file();
    let recorded = file.recorded().into_iter().find(|(at, _)| *at == index);
    match recorded {
        Some((_, ours)) => {
            if ours != theirs {
                tracing::warn!(log_index = %index, node = %from, "another node recorded another state hash");
                file.doubt().send_replace(Some(Divergence { index, ours, theirs }));
            }
            Recorded::Hash(ours)
        }
        None if member.applied() < index => Recorded::NotReached,
        None => Recorded::Forgotten,
    }
}

/// Judges whenever a difference is found, for as long as the node lives.
pub(crate) async fn run(member: Member) {
    let token = member.tasks().token();
    let mut doubts = member.file().doubt().subscribe();
    // Found while the log was replayed; or known before the last stop, and then the others know of it as well.
    let mut doubt = *doubts.borrow_and_update();
    if doubt.is_none() {
        doubt = tokio::select! {
            found = at_start(&member) => found,
            () = token.cancelled() => return,
        };
    }
    let mut judged = Revision(0);
    loop {
        if let Some(doubt) = doubt.filter(|doubt| doubt.index > judged)
            && !member.is_diverged()
        {
            judged = tokio::select! {
                index = settle(&member, doubt) => index.max(judged),
                () = token.cancelled() => return,
            };
        }
        tokio::select! {
            changed = doubts.changed() => if changed.is_err() { return },
            () = token.cancelled() => return,
        }
        doubt = *doubts.borrow_and_update();
    }
}

/// Asks once whether somebody recorded another hash at the newest tick: what was undecided before a restart still is.
async fn at_start(member: &Member) -> Option<Divergence> {
    let (index, ours) = member.file().last_tick()?;
    let votes = ask(member, index, ours).await;
    let theirs = *votes.values().find(|theirs| **theirs != ours)?;
    Some(Divergence { index, ours, theirs })
}

/// Asks until it is decided who is right; gives the index at which it was.
async fn settle(member: &Member, doubt: Divergence) -> Revision {
    let me = member.identity().node;
    let mut backoff = Backoff::new(ASK_AGAIN.0, ASK_AGAIN.1);
    let (mut index, mut ours) = (doubt.index, doubt.ours);
    loop {
        let votes = ask(member, index, ours).await;
        match judge((me, ours), &votes, &member.voters()) {
            Verdict::Majority { wrong } => {
                go_on(member, index, &wrong);
                return index;
            }
            Verdict::Minority { right, hash } => {
                let mark = DivergedRow { index, ours, theirs: hash, right: right.into_iter().collect() };
                if stop_serving(member, mark).await {
                    return index;
                }
            }
            Verdict::Undecided { silent } => suspend(member, index, &silent, backoff.attempts()),
        }
        tokio::time::sleep(backoff.next_delay()).await;
        // Peers forget old indexes; a state that differs goes on to differ.
        (index, ours) = member.file().last_tick().unwrap_or((index, ours));
    }
}

/// The hashes that the other voters recorded at an index, of those that answer in time.
async fn ask(member: &Member, index: Revision, ours: Hash) -> BTreeMap<NodeId, Hash> {
    let me = member.identity().node;
    let limit = member.timing().election_max;
    let asking = member.voters().into_iter().filter(|node| *node != me).map(|node| async move {
        let client = client::connect(member.peers(), node, ChannelClass::Heartbeat)?;
        let answer = tokio::time::timeout(limit, calls::compare(client, me, index, ours)).await;
        match answer {
            Ok(Ok(Recorded::Hash(hash))) => Some((node, hash)),
            other => {
                tracing::debug!(peer = %node, log_index = %index, answer = ?other, "no state hash of the peer");
                None
            }
        }
    });
    join_all(asking).await.into_iter().flatten().collect()
}

fn go_on(member: &Member, index: Revision, wrong: &BTreeSet<NodeId>) {
    if !wrong.is_empty() {
        tracing::error!(
            log_index = %index,
            nodes = ?wrong,
            "these nodes differ in state from the majority, which goes on: empty their data directories and join them \
             anew with `cluster-cli join --replace`"
        );
    }
    member.file().agreement().send_if_modified(|agreement| {
        let suspended = matches!(agreement, Agreement::Undecided { .. });
        if suspended {
            tracing::info!(log_index = %index, "a majority agrees on this node's state, writes go on");
            *agreement = Agreement::Agrees;
        }
        suspended
    });
}

/// Marks this node; false when that did not work and must be tried again.
async fn stop_serving(member: &Member, mark: DivergedRow) -> bool {
    let file = member.file().clone();
    let told = mark.clone();
    let marking = tokio::task::spawn_blocking(move || file.mark_diverged(&mark)).await;
    match marking {
        Ok(Ok(true)) => {
            let DivergedRow { index, ours, theirs, right } = told;
            let (ours, theirs) = (domain::digest::encode_hex(&ours), domain::digest::encode_hex(&theirs));
            tracing::error!(
                log_index = %index, %ours, %theirs, ?right,
                "state differs from that of a majority, this node serves nothing from now on: stop it, empty its data \
                 directory and join it anew with `cluster-cli join --replace {}`",
                member.identity().node
            );
            true
        }
        // A snapshot has replaced the state meanwhile: it is judged anew.
        Ok(Ok(false)) => false,
        Ok(Err(error)) => {
            // A failed commit is never tried again on its file; the mark in memory stands until the node ends.
            tracing::error!(%error, "that this node has diverged cannot be written down");
            member.file().has_failed()
        }
        Err(_) => false,
    }
}

fn suspend(member: &Member, index: Revision, silent: &BTreeSet<NodeId>, attempts: u32) {
    if attempts == 0 {
        tracing::error!(log_index = %index, ?silent, "regions differ in state and no majority agrees, writes are refused");
    }
    member.file().agreement().send_if_modified(|agreement| match agreement {
        Agreement::Agrees => {
            *agreement = Agreement::Undecided { index, since: clock::now() };
            true
        }
        Agreement::Undecided { .. } | Agreement::Diverged { .. } => false,
    });
}

/// Keeps a marked node from leading, for as long as the node lives.
pub(crate) async fn stand_aside(member: Member) {
    let token = member.tasks().token();
    let began = clock::now();
    let mut agreement = member.file().agreement().subscribe();
    let mut quorum = member.quorum_changes();
    let mut attempts = 0;
    loop {
        let marked = match &*agreement.borrow_and_update() {
            Agreement::Diverged { right, .. } => Some(right.clone()),
            Agreement::Agrees | Agreement::Undecided { .. } => None,
        };
        let leads = member.raft_leader() == Some(member.identity().node);
        let config = member.raft().runtime_config();
        if let Some(right) = &marked {
            let silent = member.leader_silent_for().unwrap_or_else(|| began.elapsed());
            config.elect(silent >= member.timing().election_max * LEADERLESS_TIMEOUTS);
            attempts = if leads { attempts + 1 } else { 0 };
            // From the first attempt on it sends no heartbeats: without a successor the others elect.
            if leads && let Some(to) = successor(right, &member.voters(), member.identity().node, attempts) {
                tracing::warn!(%to, "a node that has diverged does not lead, leadership is handed over");
                member.hand_over(Some(to)).await;
            }
        } else {
            config.elect(true);
        }
        tokio::select! {
            changed = agreement.changed() => if changed.is_err() { return },
            changed = quorum.changed(), if marked.is_some() => if changed.is_err() { return },
            () = tokio::time::sleep(member.timing().election_max), if marked.is_some() => {}
            () = token.cancelled() => return,
        }
    }
}

/// Whom a marked leader hands over to: the voters that were right take turns, the others if none of those is left.
fn successor(right: &BTreeSet<NodeId>, voters: &BTreeSet<NodeId>, me: NodeId, attempt: usize) -> Option<NodeId> {
    let known: Vec<NodeId> = right.intersection(voters).copied().filter(|node| *node != me).collect();
    let others = || voters.iter().copied().filter(|node| *node != me).collect();
    let candidates = if known.is_empty() { others() } else { known };
    candidates.get(attempt.checked_rem(candidates.len())?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_were_right_take_turns() {
        let ids = |ids: &[u64]| -> BTreeSet<NodeId> { ids.iter().copied().map(NodeId).collect() };
        let next = |right: &[u64], voters: &[u64], attempt| successor(&ids(right), &ids(voters), NodeId(1), attempt);
        assert_eq!(next(&[2, 3], &[1, 2, 3], 0), Some(NodeId(2)));
        assert_eq!(next(&[2, 3], &[1, 2, 3], 1), Some(NodeId(3)));
        assert_eq!(next(&[2, 3], &[1, 2, 3], 2), Some(NodeId(2)));
        assert_eq!(next(&[2, 3], &[1, 3, 4], 1), Some(NodeId(3)), "only voters can lead");
        assert_eq!(next(&[2], &[1, 4], 0), Some(NodeId(4)));
        assert_eq!(next(&[2], &[1], 0), None);
    }
}
