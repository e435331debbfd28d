//! What is known of each peer as a source of bytes, and which one to ask. Plain values and functions.

use std::collections::BTreeMap;

use domain::{Digest, NodeId};

/// Assumed of a peer that was never measured. Unit: milliseconds.
const RTT_MS_UNKNOWN: u64 = 50;
/// Assumed of a peer that was never measured. Unit: bytes per second.
const BYTES_PER_S_UNKNOWN: f64 = 50e6;
/// Rest of a peer after its first failure in a row; doubles up to [`REST_MS_MAX`]. Unit: milliseconds.
const REST_MS: u64 = 250;
/// Longest rest. Unit: milliseconds.
const REST_MS_MAX: u64 = 5_000;
/// When a peer's rest has been over for so long, its failures are forgotten: only who is asked can deliver. Unit:
/// milliseconds.
const FORGET_MS: u64 = 30_000;
/// Weight of a new throughput sample.
const SAMPLE_WEIGHT: f64 = 0.3;

/// One peer as a source.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Source {
    /// Measured round trip. Unit: milliseconds.
    pub(crate) rtt_ms: Option<u64>,
    /// Smoothed throughput. Unit: bytes per second.
    pub(crate) bytes_per_s: Option<f64>,
    /// Failures since the last success, as far as they count.
    pub(crate) failures: u32,
    /// Not asked by workers before this time. Unit: milliseconds of the room's clock.
    pub(crate) rests_until_ms: u64,
    /// Transfers running from it.
    pub(crate) running: u32,
    /// Bytes received from it since start.
    pub(crate) bytes: u64,
}

impl Source {
    /// A transfer broke, or could not begin, by fault of the node.
    pub(crate) fn failed(&mut self, now_ms: u64) {
        self.failures = self.failures_at(now_ms);
        let rest = REST_MS.saturating_mul(1 << self.failures.min(10)).min(REST_MS_MAX);
        self.failures = self.failures.saturating_add(1);
        self.rests_until_ms = now_ms + rest;
    }

    /// Failures that still count.
    fn failures_at(&self, now_ms: u64) -> u32 {
        if now_ms >= self.rests_until_ms.saturating_add(FORGET_MS) { 0 } else { self.failures }
    }

    /// `bytes` came in `elapsed_ms`.
    pub(crate) fn delivered(&mut self, bytes: u64, elapsed_ms: u64) {
        self.failures = 0;
        self.rests_until_ms = 0;
        self.bytes += bytes;
        // Short transfers measure the round trip, not the throughput.
        if bytes < 1024 * 1024 {
            return;
        }
        let sample = bytes as f64 * 1000.0 / elapsed_ms.max(1) as f64;
        self.bytes_per_s = Some(self.bytes_per_s.map_or(sample, |old| old + (sample - old) * SAMPLE_WEIGHT));
    }

    /// Expected time until `size` bytes are here. Unit: milliseconds.
    fn cost_ms(&self, size: u64) -> f64 {
        let rtt = self.rtt_ms.unwrap_or(RTT_MS_UNKNOWN) as f64;
        let rate = self.bytes_per_s.unwrap_or(BYTES_PER_S_UNKNOWN).max(1.0);
        rtt * 2.0 + size as f64 * 1000.0 / rate * f64::from(1 + self.running)
    }
}

/// Holders in the order in which to ask them: those that rest last, then by expected time, then spread by digest.
pub(crate) fn order(
    digest: &Digest,
    size: u64,
    holders: &[NodeId],
    sources: &BTreeMap<NodeId, Source>,
    now_ms: u64,
) -> Vec<NodeId> {
    let mut keyed: Vec<_> = holders
        .iter()
        .map(|node| {
            let source = sources.get(node).copied().unwrap_or_default();
            let rests = source.rests_until_ms > now_ms;
            (rests, source.failures_at(now_ms).min(3), source.cost_ms(size.max(1)), spread(digest, *node), *node)
        })
        .collect();
    keyed.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)).then((a.3, a.4).cmp(&(b.3, b.4))));
    keyed.into_iter().map(|(.., node)| node).collect()
}

/// When the first of these holders may be asked again. Unit: milliseconds of the room's clock.
pub(crate) fn awake_at_ms(holders: &[NodeId], sources: &BTreeMap<NodeId, Source>) -> u64 {
    holders.iter().map(|node| sources.get(node).map_or(0, |source| source.rests_until_ms)).min().unwrap_or(0)
}

/// Equal sources take turns over the digests.
fn spread(digest: &Digest, node: NodeId) -> u64 {
    let byte = digest.raw().first().copied().unwrap_or(0);
    (u64::from(byte)).wrapping_add(node.0).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);

    fn digest(byte: u8) -> Digest {
        Digest::Sha256([byte; 32])
    }

    fn source(rtt_ms: u64) -> Source {
        Source { rtt_ms: Some(rtt_ms), ..Source::default() }
    }

    #[test]
    fn the_nearest_healthy_holder_comes_first() {
        let sources = BTreeMap::from([(A, source(200)), (B, source(2)), (C, source(80))]);
        assert_eq!(order(&digest(0), 1000, &[A, B, C], &sources, 0), [B, C, A]);
        let mut failing = sources.clone();
        failing.get_mut(&B).unwrap().failed(0);
        assert_eq!(order(&digest(0), 1000, &[A, B, C], &failing, 0), [C, A, B], "a failing one comes last");
        let awake = failing[&B].rests_until_ms;
        let later = |now_ms| order(&digest(0), 1000, &[A, B, C], &failing, now_ms);
        assert_eq!(later(awake + FORGET_MS - 1), [C, A, B], "nor right after its rest");
        assert_eq!(later(awake + FORGET_MS), [B, C, A], "but not for ever, or nobody would find out that it is well");
        failing.get_mut(&B).unwrap().delivered(10, 1);
        assert_eq!(order(&digest(0), 1000, &[A, B, C], &failing, 0), [B, C, A], "until it delivers again");
    }

    #[test]
    fn throughput_decides_for_large_blobs_and_load_spreads_them() {
        let mut sources = BTreeMap::from([(A, source(10)), (B, source(50))]);
        sources.get_mut(&A).unwrap().bytes_per_s = Some(5e6);
        sources.get_mut(&B).unwrap().bytes_per_s = Some(100e6);
        assert_eq!(order(&digest(0), 1_000_000_000, &[A, B], &sources, 0), [B, A]);
        assert_eq!(order(&digest(0), 1, &[A, B], &sources, 0), [A, B]);
        let mut equal = BTreeMap::from([(A, source(10)), (B, source(10))]);
        equal.get_mut(&A).unwrap().running = 4;
        assert_eq!(order(&digest(0), 10_000_000, &[A, B], &equal, 0), [B, A]);
    }

    #[test]
    fn equal_holders_take_turns() {
        let sources = BTreeMap::from([(A, source(10)), (B, source(10))]);
        let first: std::collections::BTreeSet<NodeId> =
            (0..=255).map(|byte| order(&digest(byte), 1000, &[A, B], &sources, 0)[0]).collect();
        assert_eq!(first.len(), 2);
    }

    #[test]
    fn rests_double_up_to_a_bound() {
        let mut source = Source::default();
        let rests: Vec<u64> = (0..7)
            .map(|_| {
                source.failed(0);
                source.rests_until_ms
            })
            .collect();
        assert_eq!(rests, [250, 500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(awake_at_ms(&[A, B], &BTreeMap::from([(A, source)])), 0, "B does not rest");
        assert_eq!(awake_at_ms(&[A], &BTreeMap::from([(A, source)])), 5000);
        source.failed(5000 + FORGET_MS);
        assert_eq!((source.failures, source.rests_until_ms), (1, 5250 + FORGET_MS), "what was long ago is forgotten");
    }
}
