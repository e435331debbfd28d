//! Exponential backoff with full jitter, as a plain value.

use std::time::Duration;

/// Delays that double from `first` to `most`; each is drawn from the upper half of its step.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    attempt: u32,
}

impl Backoff {
    /// A fresh backoff.
    pub fn new(first: Duration, most: Duration) -> Self {
        Backoff { first, most, attempt: 0 }
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        let step = self.first.saturating_mul(1u32 << self.attempt.min(20)).min(self.most);
        self.attempt = self.attempt.saturating_add(1);
        let half = step / 2;
        let spread = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(crate::random::below(spread))
    }

    /// Starts over, after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// Delays handed out since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempt
    }
}
