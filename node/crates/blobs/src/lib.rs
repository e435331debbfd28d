//! Floor 2: bytes under a digest. Upload sessions, verification, range reads, inventory; the one door to object_store.
//!
//! Owns the files of one store (ground.md §3) and nothing else: it knows no repository rules, no Raft, no peers. Who
//! holds which copy is told by the caller, from the replicated state.

pub mod handle;

pub use handle::Handle;
