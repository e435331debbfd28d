//! How many copies a node gives up before it asks the operator (design §7). Plain values and functions.
//!
//! A few copies go bad; a disk that fails, or is not mounted, makes many unreadable at once, and they may all be back when
//! it is. So a node gives up at most ten copies, or one in a hundred, within an hour. Then it stops, serves what does not
//! read from other regions, and goes on when the operator confirms that the bytes are lost.

use std::collections::VecDeque;

/// Copies that are given up whatever their share.
const FREE: u64 = 10;
/// Losses are counted together over so long, and a confirmation counts so long. Unit: milliseconds.
const WINDOW_MS: u64 = 3_600_000;
/// A count of the copies held is good for so long. Unit: milliseconds.
const COUNT_MS: u64 = 600_000;

/// Whether so many losses need the operator's word (design §7: over 1 %).
fn needs_word(missing: u64, held: u64) -> bool {
    missing > FREE && missing.saturating_mul(100) > held
}

/// Copies that rows name for this store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// As many, or at least as many.
    pub(crate) held: u64,
    /// There are no more.
    pub(crate) whole: bool,
}

/// What to do with a copy that is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Give it up; it was counted.
    GiveUp,
    /// Count the copies held, at most so many, and ask again.
    CountFirst(u64),
    /// Too many went bad: this one was the first to be kept.
    Stop,
    /// Keep it: the operator was asked.
    Keep,
}

/// The losses of a node. Times are of the room's clock. Unit: milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// When copies were given up within the window.
    recent: VecDeque<u64>,
    counted: Option<(u64, Count)>,
    stopped: bool,
    confirmed_until_ms: u64,
}

impl Losses {
    /// Judges one more bad copy.
    pub(crate) fn judge(&mut self, now_ms: u64) -> Verdict {
        while self.recent.front().is_some_and(|at_ms| at_ms + WINDOW_MS <= now_ms) {
            self.recent.pop_front();
        }
        if self.is_confirmed(now_ms) {
            return Verdict::GiveUp;
        }
        if self.stopped {
            return Verdict::Keep;
        }
        let lost = self.recent.len() as u64 + 1;
        let (at_ms, count) = self.counted.unwrap_or_default();
        if needs_word(lost, count.held) {
            if self.counted.is_none() || !count.whole || at_ms + COUNT_MS <= now_ms {
                return Verdict::CountFirst(lost.saturating_mul(200));
            }
            self.stopped = true;
            return Verdict::Stop;
        }
        self.recent.push_back(now_ms);
        Verdict::GiveUp
    }

    /// So many copies are held.
    pub(crate) fn counted(&mut self, count: Count, now_ms: u64) {
        self.counted = Some((now_ms, count));
    }

    /// The copy that was given up last was none.
    pub(crate) fn take_back(&mut self) {
        self.recent.pop_back();
    }

    /// Judges copies that are missing all at once; false when none of them is given up before the operator's word.
    pub(crate) fn judge_missing(&mut self, missing: u64, held: u64, now_ms: u64) -> bool {
        if self.is_confirmed(now_ms) {
            return true;
        }
        self.stopped |= needs_word(missing, held);
        !self.stopped
    }

    /// Nothing is given up before the operator confirms.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The operator's word: what is bad is lost. It counts for a while, so that he need not give it again and again.
    pub(crate) fn confirm(&mut self, now_ms: u64) {
        self.stopped = false;
        self.recent.clear();
        self.confirmed_until_ms = now_ms + WINDOW_MS;
    }

    /// Whether the operator's word counts now.
    pub(crate) fn is_confirmed(&self, now_ms: u64) -> bool {
        now_ms < self.confirmed_until_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(held: u64) -> Count {
        Count { held, whole: true }
    }

    /// Gives up copies until the verdict is another one; says how many and which.
    fn until_other(losses: &mut Losses, now_ms: u64) -> (u64, Verdict) {
        let mut given_up = 0;
        loop {
            match losses.judge(now_ms) {
                Verdict::GiveUp if given_up < 1_000 => given_up += 1,
                verdict => return (given_up, verdict),
            }
        }
    }

    #[test]
    fn losing_over_one_percent_at_once_needs_the_operators_word() {
        assert!(!needs_word(10, 10), "a handful is always repaired");
        assert!(needs_word(11, 1_000));
        assert!(!needs_word(11, 1_100));
        assert!(needs_word(5_000, 5_000));
        let mut losses = Losses::default();
        assert!(losses.judge_missing(11, 1_100, 0));
        assert!(!losses.judge_missing(11, 1_000, 0));
        assert!(!losses.judge_missing(1, 1_000, 0), "who was asked waits for the answer");
        losses.confirm(5);
        assert!(losses.judge_missing(1_000, 1_000, 5));
    }

    #[test]
    fn ten_copies_are_given_up_then_the_operator_is_asked() {
        let mut losses = Losses::default();
        assert_eq!(until_other(&mut losses, 5), (10, Verdict::CountFirst(2_200)));
        losses.counted(whole(40), 5);
        assert_eq!(until_other(&mut losses, 5), (0, Verdict::Stop));
        assert!(losses.is_stopped());
        assert_eq!(losses.judge(5 + 2 * WINDOW_MS), Verdict::Keep, "time alone confirms nothing");
        losses.confirm(6 + 2 * WINDOW_MS);
        assert!(!losses.is_stopped());
        for _ in 0..100 {
            assert_eq!(losses.judge(7 + 2 * WINDOW_MS), Verdict::GiveUp, "the operator's word");
        }
        assert_eq!(until_other(&mut losses, 6 + 3 * WINDOW_MS).0, 10, "it does not count for ever");
    }

    #[test]
    fn a_large_store_may_lose_one_in_a_hundred_and_the_hour_slides() {
        let mut losses = Losses::default();
        assert_eq!(until_other(&mut losses, 0), (10, Verdict::CountFirst(2_200)));
        losses.counted(Count { held: 2_200, whole: false }, 0);
        assert_eq!(
            until_other(&mut losses, 0),
            (12, Verdict::CountFirst(4_600)),
            "there may be more than were counted"
        );
        losses.counted(whole(3_000), 0);
        assert_eq!(until_other(&mut losses, 1), (8, Verdict::Stop));
        let mut losses = Losses::default();
        losses.counted(whole(3_000), 0);
        for hour in 0..5 {
            for _ in 0..10 {
                assert_eq!(losses.judge(hour * WINDOW_MS), Verdict::GiveUp);
            }
        }
        losses.take_back();
        assert_eq!(losses.recent.len(), 9);
    }
}
