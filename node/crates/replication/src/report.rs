//! What this node tells the cluster of its own store: `Held`, `Lost`, `Deleted`, in batches (design §3).
//!
//! Each kind has a bounded queue and a task. A report waits for company at most `report_linger_ms`, not at all when somebody
//! waits for it, and is proposed again until it is settled; its pin lives as long, or longer: a proposal whose outcome
//! stayed unknown may still be applied after a later one was (see `doubt`). A full queue holds up whoever reports.

use std::sync::Arc;
use std::time::Duration;

use blobs::handle::Pin;
use domain::Revision;
use domain::limits::REPORT_DIGESTS_MAX;
use metadata::command::{Command, HeldCopy, StoreClaim};
use metadata::handle::ProposeError;
use metadata::outcome::Refusal;
use runtime::{Backoff, TaskKind, Tasks};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{debug, warn};

use crate::cluster::Cluster;
use crate::doubt::Doubts;

/// Proposals of one kind that may be under way at once.
const PROPOSALS_MAX: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Held,
    Lost,
    Deleted,
}

impl Kind {
    fn command(self, claim: StoreClaim, copies: Vec<HeldCopy>) -> Command {
        match self {
            Kind::Held => Command::Held { claim, copies },
            Kind::Lost => Command::Lost { claim, copies },
            Kind::Deleted => Command::Deleted { claim, copies },
        }
    }
}

/// How a report ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Applied at this revision; what the rows then say of the copy is another matter.
    Applied(Revision),
    /// Refused for good; nothing changed.
    Refused,
    /// The node stops.
    Abandoned,
}

struct Entry {
    copy: HeldCopy,
    pin: Option<Pin>,
    urgent: bool,
    done: Option<oneshot::Sender<Settled>>,
}

/// The queues.
pub(crate) struct Reporter {
    held: mpsc::Sender<Entry>,
    lost: mpsc::Sender<Entry>,
    deleted: mpsc::Sender<Entry>,
    /// Pins of settled reports of which an earlier proposal is in doubt.
    pub(crate) doubts: Arc<Doubts>,
}

impl Reporter {
    /// Starts the tasks.
    pub(crate) fn start(cluster: &Arc<dyn Cluster>, tasks: &Tasks, linger: Duration) -> Self {
        let doubts = Arc::new(Doubts::default());
        let queue = |kind: Kind, name: &'static str| {
            let (sender, receiver) = mpsc::channel(2 * REPORT_DIGESTS_MAX);
            let (cluster, tasks, doubts) = (cluster.clone(), tasks.clone(), doubts.clone());
            let batcher = Batcher { kind, cluster, tasks: tasks.clone(), linger, doubts };
            tasks.spawn(TaskKind::Worker, name, batcher.run(receiver));
            sender
        };
        Reporter {
            held: queue(Kind::Held, "report held"),
            lost: queue(Kind::Lost, "report lost"),
            deleted: queue(Kind::Deleted, "report deleted"),
            doubts,
        }
    }

    /// A copy is placed; waits until that is settled.
    pub(crate) async fn held(&self, copy: HeldCopy, pin: Pin, urgent: bool) -> Settled {
        settle(&self.held, Entry { copy, pin: Some(pin), urgent, done: None }).await
    }

    /// A copy is placed; waits only for room in the queue.
    pub(crate) async fn held_later(&self, copy: HeldCopy, pin: Pin) {
        if self.held.send(Entry { copy, pin: Some(pin), urgent: true, done: None }).await.is_err() {
            debug!(digest = %copy.digest, "report dropped, the node stops");
        }
    }

    /// A copy is gone or damaged; waits until that is settled.
    pub(crate) async fn lost(&self, copy: HeldCopy) -> Settled {
        settle(&self.lost, Entry { copy, pin: None, urgent: true, done: None }).await
    }

    /// Condemned copies are deleted; waits until that is settled.
    pub(crate) async fn deleted(&self, copies: Vec<HeldCopy>) -> Settled {
        let Some((last, rest)) = copies.split_last() else { return Settled::Applied(Revision(0)) };
        for copy in rest {
            let entry = Entry { copy: *copy, pin: None, urgent: false, done: None };
            if self.deleted.send(entry).await.is_err() {
                return Settled::Abandoned;
            }
        }
        settle(&self.deleted, Entry { copy: *last, pin: None, urgent: true, done: None }).await
    }
}

/// Ends a pin.
fn release(pin: Option<Pin>) {
    let _ended = pin;
}

async fn settle(queue: &mpsc::Sender<Entry>, mut entry: Entry) -> Settled {
    let (sender, receiver) = oneshot::channel();
    entry.done = Some(sender);
    if queue.send(entry).await.is_err() {
        return Settled::Abandoned;
    }
    receiver.await.unwrap_or(Settled::Abandoned)
}

struct Batcher {
    kind: Kind,
    cluster: Arc<dyn Cluster>,
    tasks: Tasks,
    linger: Duration,
    doubts: Arc<Doubts>,
}

impl Batcher {
    async fn run(self, mut queue: mpsc::Receiver<Entry>) {
        let permits = Arc::new(Semaphore::new(PROPOSALS_MAX));
        loop {
            let batch = tokio::select! {
                () = self.tasks.cancelled() => return,
                batch = self.gather(&mut queue) => batch,
            };
            if batch.is_empty() {
                return;
            }
            let permit = tokio::select! {
                () = self.tasks.cancelled() => return,
                permit = permits.clone().acquire_owned() => permit,
            };
            let (kind, cluster, tasks) = (self.kind, self.cluster.clone(), self.tasks.clone());
            let doubts = self.doubts.clone();
            self.tasks.spawn(TaskKind::Transfer, "propose report", async move {
                let copies = batch.iter().map(|entry| entry.copy).collect();
                let (settled, in_doubt) = tokio::select! {
                    // The boot that comes next fences whatever is in doubt.
                    () = tasks.cancelled() => (Settled::Abandoned, false),
                    settled = propose(kind, cluster.as_ref(), copies) => settled,
                };
                drop(permit);
                for Entry { copy, pin, done, .. } in batch {
                    // The pin goes first, so that whoever waits may delete what was refused.
                    match pin {
                        Some(pin) if in_doubt => doubts.hold(copy, pin, cluster.time_ms().ok()),
                        pin => release(pin),
                    }
                    if let Some(done) = done {
                        let _ = done.send(settled);
                    }
                }
            });
        }
    }

    /// Waits for a report, then for company. Empty when the room is gone.
    async fn gather(&self, queue: &mut mpsc::Receiver<Entry>) -> Vec<Entry> {
        let mut batch = Vec::new();
        let Some(first) = queue.recv().await else { return batch };
        let deadline = tokio::time::Instant::now() + self.linger;
        let mut urgent = first.urgent;
        batch.push(first);
        while batch.len() < REPORT_DIGESTS_MAX {
            let next = match queue.try_recv() {
                Ok(entry) => Some(entry),
                Err(_) if urgent => None,
                Err(_) => tokio::time::timeout_at(deadline, queue.recv()).await.ok().flatten(),
            };
            let Some(entry) = next else { break };
            urgent |= entry.urgent;
            batch.push(entry);
        }
        batch
    }
}

/// Proposes until it is settled. A fenced claim is taken anew; the bytes are pinned and stay true. True beside it when
/// the outcome of an earlier proposal is not known: it may still be applied.
async fn propose(kind: Kind, cluster: &dyn Cluster, copies: Vec<HeldCopy>) -> (Settled, bool) {
    let mut in_doubt = false;
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        let claim = cluster.opened().await;
        match cluster.propose(kind.command(claim, copies.clone())).await {
            Ok(applied) => return (Settled::Applied(applied.revision), in_doubt),
            Err(ProposeError::Refused(Refusal::Fenced | Refusal::TooOld)) => {
                debug!(?kind, boot = %claim.boot, "report refused under this boot, claiming again");
            }
            Err(ProposeError::Refused(refusal)) => {
                warn!(?kind, copies = copies.len(), error = %refusal, "report refused");
                return (Settled::Refused, in_doubt);
            }
            Err(error) => {
                in_doubt |= matches!(error, ProposeError::Unknown);
                debug!(?kind, copies = copies.len(), attempt = backoff.attempts(), error = %error, "report not settled");
            }
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}
