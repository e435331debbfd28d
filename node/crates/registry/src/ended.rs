//! How upload sessions that lived here have ended: their records are gone, and a closing PUT that comes after its session's
//! end is either the successful one sent again, or one that must not succeed.
//!
//! It is a memory of this process, and bounded. A session it has forgotten is judged by what the state says of the digest
//! alone (design §4), as it is when the owner cannot be asked.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use blobs::handle::SessionKey;
use domain::Digest;

/// Sessions remembered; the oldest are forgotten first. About a megabyte.
const SESSIONS_MAX: usize = 8192;

/// The memory. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    order: VecDeque<SessionKey>,
    ends: HashMap<SessionKey, Option<Digest>>,
}

impl Ended {
    /// Notes an end: the digest it was closed as, or none where it was cancelled or failed for good.
    pub(crate) fn note(&self, session: SessionKey, closed_as: Option<Digest>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.ends.insert(session, closed_as).is_none() {
            known.order.push_back(session);
        }
        if known.order.len() > SESSIONS_MAX
            && let Some(oldest) = known.order.pop_front()
        {
            known.ends.remove(&oldest);
        }
    }

    /// How a session ended; the outer none is for one that is not remembered.
    pub(crate) fn of(&self, session: &SessionKey) -> Option<Option<Digest>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).ends.get(session).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: usize) -> SessionKey {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&(number as u64).to_le_bytes());
        SessionKey(key)
    }

    #[test]
    fn the_last_word_counts_and_the_oldest_are_forgotten() {
        let (ended, digest) = (Ended::default(), Digest::Sha256([7; 32]));
        assert_eq!(ended.of(&session(0)), None);
        ended.note(session(0), None);
        ended.note(session(0), Some(digest));
        assert_eq!(ended.of(&session(0)), Some(Some(digest)));
        for number in 1..SESSIONS_MAX {
            ended.note(session(number), None);
        }
        assert_eq!(ended.of(&session(0)), Some(Some(digest)));
        ended.note(session(SESSIONS_MAX), None);
        assert_eq!((ended.of(&session(0)), ended.of(&session(SESSIONS_MAX))), (None, Some(None)));
        assert_eq!(ended.known.lock().expect("nobody panicked").order.len(), SESSIONS_MAX);
    }
}
