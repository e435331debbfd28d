//! Bad copies here: taken out of the way and reported, so that the wanted row brings them back; and when not.
//!
//! Bytes that are not what they must be are damaged. A medium that gives an error may give the bytes the next time: such a
//! copy is hashed whole in the background, and only what fails again counts as bad. Whatever is bad is given up within a
//! budget (see `losses`); beyond it the copy stays, and reads pass it by.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use blobs::handle::{ReadError, Stored};
use domain::{CopyId, Digest};
use metadata::command::HeldCopy;
use runtime::TaskKind;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::config::REMEMBERED_MAX;
use crate::core::{Core, lock};
use crate::losses::{Losses, Verdict};

/// How long reads pass a copy by that did not read. Unit: milliseconds.
const SUSPECT_MS: u64 = 60_000;
/// Copies hashed anew, or waiting for that, at once; of others the next read asks again.
const EXAMINED_MAX: usize = 64;

/// What is known of the copies here that are not well.
#[derive(Default)]
pub(crate) struct Health {
    /// Copies known as gone or damaged whose rows have not gone yet.
    bad: HashMap<Digest, CopyId>,
    /// Copies that did not read, and until when reads pass them by. Unit: milliseconds of the room's clock.
    suspect: HashMap<CopyId, u64>,
    /// Copies that are being hashed anew; the channel closes when that is done.
    examined: HashMap<CopyId, watch::Receiver<()>>,
    pub(crate) losses: Losses,
}

impl Health {
    pub(crate) fn bad(&self, digest: &Digest) -> Option<CopyId> {
        self.bad.get(digest).copied()
    }

    /// Notes a bad copy; false when it is known already.
    fn note_bad(&mut self, digest: Digest, copy: CopyId) -> bool {
        self.bad.insert(digest, copy) != Some(copy)
    }

    fn forget_bad(&mut self, digest: &Digest, copy: CopyId) {
        if self.bad(digest) == Some(copy) {
            self.bad.remove(digest);
        }
    }

    fn suspect(&mut self, copy: CopyId, now_ms: u64) {
        if self.suspect.len() >= REMEMBERED_MAX {
            self.suspect.retain(|_, until_ms| *until_ms > now_ms);
        }
        if self.suspect.len() < REMEMBERED_MAX {
            self.suspect.insert(copy, now_ms + SUSPECT_MS);
        }
    }
}

impl Core {
    /// A read of a copy here failed.
    pub(crate) async fn heal(self: &Arc<Self>, stored: Stored, failure: &ReadError) {
        let Stored { digest, copy, size, .. } = stored;
        match failure {
            ReadError::Storage { .. } => {}
            ReadError::NoGroups => drop(self.examine(stored)),
            ReadError::Unreadable { .. } => {
                self.suspect(copy);
                drop(self.examine(stored));
            }
            ReadError::Missing => {
                if matches!(self.blobs.probe(digest, copy, size).await, Ok(false)) {
                    self.give_up(stored, failure).await;
                }
            }
            ReadError::Damaged { .. } => self.give_up(stored, failure).await,
        }
    }

    /// Takes a bad copy out of the way and reports it, if the budget allows.
    async fn give_up(self: &Arc<Self>, stored: Stored, failure: &ReadError) {
        let Stored { digest, copy, .. } = stored;
        // A newer copy may have taken its place since the rows were read; and one reader of many is enough.
        let is_named = self.cluster.facts(&digest).is_ok_and(|facts| facts.copy_here == Some(copy));
        if !is_named || !lock(&self.health).note_bad(digest, copy) {
            return;
        }
        if !self.may_give_up(stored).await {
            lock(&self.health).forget_bad(&digest, copy);
            self.suspect(copy);
            return;
        }
        let gone = match failure {
            ReadError::Missing => true,
            _ => match self.blobs.quarantine(digest, copy).await {
                Ok(moved) => moved,
                Err(error) => {
                    error!(%digest, %copy, error = %error, "damaged copy could not be quarantined");
                    true
                }
            },
        };
        if gone {
            warn!(%digest, %copy, error = %failure, "copy lost, it will be fetched again");
            self.report_bad(digest, copy);
        } else {
            // Pinned: its proposal is not settled yet.
            let mut health = lock(&self.health);
            health.losses.take_back();
            health.forget_bad(&digest, copy);
        }
    }

    /// Whether one more bad copy may be given up without the operator's word.
    async fn may_give_up(self: &Arc<Self>, stored: Stored) -> bool {
        loop {
            let verdict = lock(&self.health).losses.judge(self.now_ms());
            match verdict {
                Verdict::GiveUp => return true,
                Verdict::Keep => return false,
                Verdict::Stop => {
                    error!(
                        digest = %stored.digest, copy = %stored.copy,
                        "too many copies went bad within an hour, is the store's disk failing? no more are given up \
                         before `cluster-cli sync --confirm-loss`"
                    );
                    return false;
                }
                Verdict::CountFirst(most) => {
                    let cluster = self.cluster.clone();
                    let counted = tokio::task::spawn_blocking(move || cluster.count_held(most)).await;
                    let Ok(Ok(count)) = counted else { return false };
                    lock(&self.health).losses.counted(count, self.now_ms());
                }
            }
        }
    }

    /// Reports a copy as lost in the background; until that is settled reads pass it by.
    pub(crate) fn report_lost(self: &Arc<Self>, digest: Digest, copy: CopyId) {
        if lock(&self.health).note_bad(digest, copy) {
            self.report_bad(digest, copy);
        }
    }

    /// Reports a copy that is noted as bad.
    fn report_bad(self: &Arc<Self>, digest: Digest, copy: CopyId) {
        self.counters.damaged.fetch_add(1, Ordering::Relaxed);
        let core = self.clone();
        self.tasks.spawn(TaskKind::Transfer, "report loss", async move {
            core.reporter.lost(HeldCopy { digest, copy }).await;
            lock(&core.health).forget_bad(&digest, copy);
            core.wake.notify_one();
        });
    }

    /// The operator's word: whatever is bad now or within the next hour is lost.
    pub(crate) fn confirm_loss(&self) {
        let mut health = lock(&self.health);
        health.losses.confirm(self.now_ms());
        health.suspect.clear();
    }

    fn suspect(&self, copy: CopyId) {
        lock(&self.health).suspect(copy, self.now_ms());
    }

    /// Whether reads had better pass this copy by for now.
    pub(crate) fn is_suspect(&self, copy: CopyId) -> bool {
        let now_ms = self.now_ms();
        lock(&self.health).suspect.get(&copy).is_some_and(|until_ms| *until_ms > now_ms)
    }

    /// Hashes a copy whole in the background, once at a time, and makes its group values anew. The channel closes when
    /// that is done.
    fn examine(self: &Arc<Self>, stored: Stored) -> watch::Receiver<()> {
        let mut health = lock(&self.health);
        if let Some(running) = health.examined.get(&stored.copy) {
            return running.clone();
        }
        let (sender, done) = watch::channel(());
        if health.examined.len() >= EXAMINED_MAX {
            return done;
        }
        health.examined.insert(stored.copy, done.clone());
        let core = self.clone();
        self.tasks.spawn(TaskKind::Transfer, "examine copy", async move {
            let result = core.blobs.rebuild_groups(stored).await;
            {
                let mut health = lock(&core.health);
                health.examined.remove(&stored.copy);
                if result.is_ok() {
                    health.suspect.remove(&stored.copy);
                }
            }
            match result {
                Ok(()) => {
                    info!(digest = %stored.digest, copy = %stored.copy, "copy is whole, its group values are made anew")
                }
                Err(failure @ ReadError::Unreadable { .. }) => core.give_up(stored, &failure).await,
                Err(ReadError::NoGroups) => {}
                Err(failure) => core.heal(stored, &failure).await,
            }
            drop(sender);
        });
        done
    }

    /// Waits until a copy's group values were made anew, or could not be.
    pub(crate) async fn rebuilt(self: &Arc<Self>, stored: Stored) {
        let mut done = self.examine(stored);
        while done.changed().await.is_ok() {}
    }
}
