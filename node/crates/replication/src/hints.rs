//! For which blobs somebody waits, and since when. Plain values and functions.

use std::collections::HashMap;

use domain::Digest;

use crate::config::REMEMBERED_MAX;

/// How long a hint counts unless it is given again. Unit: milliseconds.
const HINT_MS: u64 = 30_000;

#[derive(Clone, Copy, Debug)]
struct Hint {
    since_ms: u64,
    until_ms: u64,
}

/// The hints that were given. Times are of the room's clock. Unit: milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    map: HashMap<Digest, Hint>,
}

impl Hints {
    /// Somebody waits for these blobs. A hint that is given again lives on and keeps its first time.
    pub(crate) fn give(&mut self, digests: &[Digest], now_ms: u64) {
        if self.map.len() + digests.len() > REMEMBERED_MAX {
            self.map.retain(|_, hint| hint.until_ms > now_ms);
        }
        for digest in digests {
            let lives_on = self.map.get(digest).filter(|hint| hint.until_ms > now_ms);
            let since_ms = lives_on.map_or(now_ms, |hint| hint.since_ms);
            if self.map.len() < REMEMBERED_MAX || self.map.contains_key(digest) {
                self.map.insert(*digest, Hint { since_ms, until_ms: now_ms + HINT_MS });
            }
        }
    }

    /// Digests somebody waits for and since when, those that have waited longest first.
    pub(crate) fn oldest_first(&mut self, now_ms: u64) -> Vec<(Digest, u64)> {
        self.map.retain(|_, hint| hint.until_ms > now_ms);
        let mut list: Vec<(Digest, u64)> = self.map.iter().map(|(digest, hint)| (*digest, hint.since_ms)).collect();
        list.sort_unstable_by_key(|(digest, since_ms)| (*since_ms, *digest));
        list
    }

    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.map.contains_key(digest)
    }

    /// It has come.
    pub(crate) fn remove(&mut self, digest: &Digest) {
        self.map.remove(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest::Sha256([byte; 32])
    }

    #[test]
    fn whoever_waited_first_comes_first_however_often_hints_are_given() {
        let mut hints = Hints::default();
        hints.give(&[digest(9)], 10);
        hints.give(&[digest(5)], 20);
        hints.give(&[digest(1), digest(9)], 30);
        assert_eq!(hints.oldest_first(40), [(digest(9), 10), (digest(5), 20), (digest(1), 30)]);
        hints.remove(&digest(5));
        assert!(!hints.contains(&digest(5)));
        assert_eq!(hints.oldest_first(30 + HINT_MS - 1), [(digest(9), 10), (digest(1), 30)]);
        assert_eq!(hints.oldest_first(30 + HINT_MS), []);
        hints.give(&[digest(9)], 99_000);
        assert_eq!(hints.oldest_first(99_000), [(digest(9), 99_000)], "a hint that ended begins anew");
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut hints = Hints::default();
        for number in 0..REMEMBERED_MAX as u64 + 5 {
            let mut raw = [0; 32];
            raw[..8].copy_from_slice(&number.to_le_bytes());
            hints.give(&[Digest::Sha256(raw)], 1);
        }
        assert_eq!(hints.oldest_first(2).len(), REMEMBERED_MAX);
    }
}
