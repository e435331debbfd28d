//! Results, for people and for scripts.

use serde::Serialize;

use super::target::Target;
use super::workers::{Measured, Work};
use crate::show::units;

/// Latencies of single requests. Unit: milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) slowest: f64,
}

impl Latency {
    /// Percentiles by nearest rank of durations in microseconds.
    pub(crate) fn of(mut micros: Vec<u64>) -> Self {
        micros.sort_unstable();
        let rank = |percent: usize| {
            let position = (micros.len() * percent).div_ceil(100).max(1) - 1;
            micros.get(position).map_or(0.0, |micros| *micros as f64 / 1000.0)
        };
        Latency { p50: rank(50), p95: rank(95), p99: rank(99), slowest: rank(100) }
    }
}

/// What one run found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Result {
    /// `push`, `pull`, `manifest puts` or `tag gets`.
    pub(crate) what: &'static str,
    pub(crate) targets: Vec<String>,
    pub(crate) connections: u16,
    pub(crate) count: u64,
    /// Of one blob or manifest. Unit: bytes.
    pub(crate) size_bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    pub(crate) bytes_per_second: f64,
    pub(crate) latency_ms: Latency,
}

impl Result {
    /// The rounds of one work taken together.
    pub(crate) fn of(work: &Work, rounds: Vec<Measured>) -> Self {
        let seconds: f64 = rounds.iter().map(|round| round.elapsed.as_secs_f64()).sum();
        let micros: Vec<u64> = rounds.into_iter().flat_map(|round| round.micros).collect();
        let count = micros.len() as u64;
        Result {
            what: work.what,
            targets: work.targets.iter().map(Target::url).collect(),
            connections: work.connections,
            count,
            size_bytes: work.size_bytes,
            seconds,
            per_second: count as f64 / seconds,
            bytes_per_second: count as f64 * work.size_bytes as f64 / seconds,
            latency_ms: Latency::of(micros),
        }
    }

    pub(crate) fn text(&self) -> String {
        let Result { what, targets, connections, count, size_bytes, seconds, per_second, bytes_per_second, latency_ms } =
            self;
        let Latency { p50, p95, p99, slowest } = latency_ms;
        let size = units::bytes(*size_bytes);
        let over = units::count(u64::from(*connections), "connection", "connections");
        // Large things are told in bytes, small ones by number.
        let speed = if *size_bytes >= 64 * 1024 {
            units::rate(*bytes_per_second)
        } else {
            format!("{}/s", units::thousands(per_second.round() as u64))
        };
        format!(
            "{what}: {speed}\n  {} of {size} in {seconds:.2} s over {over} to {}\n  latency   p50 {}   p95 {}   p99 {}   slowest {}",
            units::thousands(*count),
            targets.join(", "),
            milliseconds(*p50),
            milliseconds(*p95),
            milliseconds(*p99),
            milliseconds(*slowest),
        )
    }
}

fn milliseconds(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

/// How the measured registries compare with one beside them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Comparison {
    pub(crate) what: &'static str,
    pub(crate) beside: String,
    /// Rounds that each of the two ran, in turn.
    pub(crate) rounds: u64,
    /// Speed over the speed of the other.
    pub(crate) ratio: f64,
}

impl Comparison {
    pub(crate) fn text(&self) -> String {
        let Comparison { what, beside, rounds, ratio } = self;
        format!("{what}: {ratio:.2} × {beside}, in {rounds} rounds by turns")
    }
}

/// What this machine could do at best. Unit: bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Machine {
    pub(crate) sha256: f64,
    pub(crate) blake3: f64,
    pub(crate) write_and_fsync: f64,
}

impl Machine {
    pub(crate) fn text(&self) -> String {
        let Machine { sha256, blake3, write_and_fsync } = self;
        format!(
            "this machine, one thread: sha256 {} · blake3 {} · write and fsync {}",
            units::rate(*sha256),
            units::rate(*blake3),
            units::rate(*write_and_fsync)
        )
    }

    /// A push can be no faster than the slower of its two steps.
    pub(crate) fn push_ratio(&self, bytes_per_second: f64) -> f64 {
        bytes_per_second / self.sha256.min(self.write_and_fsync)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let latency = Latency::of((1..=200).rev().map(|ms| ms * 1000).collect());
        assert_eq!(latency, Latency { p50: 100.0, p95: 190.0, p99: 198.0, slowest: 200.0 });
        assert_eq!(Latency::of(vec![7000]), Latency { p50: 7.0, p95: 7.0, p99: 7.0, slowest: 7.0 });
        assert_eq!(Latency::of(vec![]).p99, 0.0);
    }

    #[test]
    fn results_are_told_in_what_matters() {
        let mut result = Result {
            what: "push",
            targets: vec!["http://127.0.0.1:5001".to_owned()],
            connections: 4,
            count: 16,
            size_bytes: 64 << 20,
            seconds: 3.2,
            per_second: 5.0,
            bytes_per_second: 335_544_320.0,
            latency_ms: Latency { p50: 512.0, p95: 801.2, p99: 801.2, slowest: 9.5 },
        };
        let expected = "push: 336 MB/s\n  16 of 67.1 MB in 3.20 s over 4 connections to http://127.0.0.1:5001\n  \
                        latency   p50 512 ms   p95 801 ms   p99 801 ms   slowest 9.50 ms";
        assert_eq!(result.text(), expected);
        (result.what, result.size_bytes, result.per_second) = ("tag gets", 700, 12_345.6);
        assert!(result.text().starts_with("tag gets: 12,346/s\n"), "{}", result.text());
    }
}
