//! Which blobs did not come: when each is tried again, and which holders had answered without it. Plain values and
//! functions.

use std::collections::HashMap;

use domain::{Digest, NodeId};

use crate::config::REMEMBERED_MAX;

/// Delay after the first failure; doubles. Unit: milliseconds.
const DELAY_MS: u64 = 250;
/// A full memory is looked through at most so often. Unit: milliseconds.
const SWEEP_MS: u64 = 1_000;

#[derive(Debug, Default)]
struct Retry {
    attempts: u32,
    at_ms: u64,
    /// Holders that answered without it.
    passed_over: Vec<NodeId>,
}

/// What failed. At most `REMEMBERED_MAX` blobs; whatever does not fit may be tried again at once, and comes in when others
/// are due. Times are of the room's clock. Unit: milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    map: HashMap<Digest, Retry>,
    swept_ms: Option<u64>,
}

impl Retries {
    /// It failed once more; the delay before the next try is at most `most_ms`.
    pub(crate) fn failed(&mut self, digest: &Digest, most_ms: u64, now_ms: u64) {
        if self.map.len() >= REMEMBERED_MAX && !self.map.contains_key(digest) {
            if self.swept_ms.is_none_or(|at| now_ms >= at + SWEEP_MS) {
                self.swept_ms = Some(now_ms);
                self.map.retain(|_, retry| retry.at_ms > now_ms);
            }
            if self.map.len() >= REMEMBERED_MAX {
                return;
            }
        }
        let retry = self.map.entry(*digest).or_default();
        let delay_ms = (DELAY_MS << retry.attempts.min(12)).min(most_ms);
        retry.attempts = retry.attempts.saturating_add(1);
        retry.at_ms = now_ms + delay_ms / 2 + runtime::random::below(delay_ms / 2 + 1);
    }

    /// A holder answered without a blob that has failed.
    pub(crate) fn pass_over(&mut self, digest: &Digest, node: NodeId) {
        if let Some(retry) = self.map.get_mut(digest)
            && !retry.passed_over.contains(&node)
        {
            retry.passed_over.push(node);
        }
    }

    /// Leaves out the holders that were passed over; when that are all of them, they are asked anew.
    pub(crate) fn keep_willing(&mut self, digest: &Digest, holders: &mut Vec<NodeId>) {
        let Some(retry) = self.map.get_mut(digest) else { return };
        if holders.iter().all(|node| retry.passed_over.contains(node)) {
            retry.passed_over.clear();
        }
        holders.retain(|node| !retry.passed_over.contains(node));
    }

    /// Moves the holders that were passed over behind the others.
    pub(crate) fn put_last(&self, digest: &Digest, holders: &mut [NodeId]) {
        if let Some(retry) = self.map.get(digest) {
            holders.sort_by_key(|node| retry.passed_over.contains(node));
        }
    }

    /// When it may be tried again.
    pub(crate) fn at_ms(&self, digest: &Digest) -> u64 {
        self.map.get(digest).map_or(0, |retry| retry.at_ms)
    }

    /// It has come.
    pub(crate) fn remove(&mut self, digest: &Digest) {
        self.map.remove(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn digest(number: u64) -> Digest {
        let mut raw = [0; 32];
        raw[..8].copy_from_slice(&number.to_le_bytes());
        Digest::Sha256(raw)
    }

    fn willing(retries: &mut Retries, number: u64) -> Vec<NodeId> {
        let mut holders = vec![A, B];
        retries.keep_willing(&digest(number), &mut holders);
        holders
    }

    #[test]
    fn delays_double_up_to_the_bound_and_end_with_the_blob() {
        let mut retries = Retries::default();
        for delay_ms in [250, 500, 1000, 1500, 1500] {
            retries.failed(&digest(1), 1500, 10_000);
            let at_ms = retries.at_ms(&digest(1));
            assert!((10_000 + delay_ms / 2..=10_000 + delay_ms).contains(&at_ms), "{at_ms}");
        }
        retries.remove(&digest(1));
        assert_eq!(retries.at_ms(&digest(1)), 0);
    }

    #[test]
    fn who_answered_without_it_is_passed_over_while_there_are_others() {
        let mut retries = Retries::default();
        retries.pass_over(&digest(1), A);
        assert_eq!(willing(&mut retries, 1), [A, B], "it has not failed");
        retries.failed(&digest(1), 5_000, 0);
        retries.failed(&digest(2), 5_000, 0);
        retries.pass_over(&digest(1), A);
        let mut ordered = vec![A, B];
        retries.put_last(&digest(1), &mut ordered);
        assert_eq!(ordered, [B, A], "a transfer by itself asks it last");
        assert_eq!(willing(&mut retries, 1), [B]);
        assert_eq!(willing(&mut retries, 2), [A, B], "of this blob only");
        retries.pass_over(&digest(1), B);
        assert_eq!(willing(&mut retries, 1), [A, B], "when nobody is left, all are asked anew");
        retries.pass_over(&digest(1), B);
        assert_eq!(willing(&mut retries, 1), [A]);
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut retries = Retries::default();
        for number in 0..100_000 {
            retries.failed(&digest(number), 60_000, 0);
        }
        assert_eq!(retries.map.len(), REMEMBERED_MAX);
        assert_eq!(retries.at_ms(&digest(99_999)), 0);
        retries.failed(&digest(99_999), 60_000, SWEEP_MS - 1);
        assert_eq!(retries.at_ms(&digest(99_999)), 0, "not looked through again that soon");
        retries.failed(&digest(99_999), 60_000, SWEEP_MS);
        assert!(retries.at_ms(&digest(99_999)) > SWEEP_MS, "those that are due made room");
        retries.failed(&digest(7), 60_000, SWEEP_MS);
        assert_eq!(retries.map.len(), 2);
    }
}
