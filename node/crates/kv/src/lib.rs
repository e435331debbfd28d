//! Floor 1: bytes under keys, synchronous. One door to each of the two key-value libraries.
//!
//! `ledger` (redb) keeps what a promise rests on: the Raft log and the replicated state. `cache` (sled) keeps what can be
//! made again. Nothing here knows what the
//! bytes mean; callers choose the thread, for every call may block on the disk.

pub mod cache;
pub mod ledger;
