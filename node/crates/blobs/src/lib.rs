//! Floor 2: bytes under a digest. Upload sessions, verification, range reads, inventory; the one door to object_store.
//!
//! Owns the files of one store (ground.md §3) and nothing else: it knows no repository rules, no Raft, no peers. Who
//! holds which copy is told by the caller, from the replicated state.

mod append;
mod batch;
mod buffers;
mod copies;
mod format;
mod groups;
mod groups_cache;
pub mod handle;
mod hashing;
mod index;
mod index_task;
mod ingest;
mod lane;
mod layout;
mod pins;
mod place;
mod quarantine;
mod read;
mod reader;
mod record;
mod sessions;
mod space;
mod store;

pub use format::{FormatError, format, give_up, identify};
pub use groups::{Groups, group_count};
pub use handle::Handle;
pub use space::Reserve;
pub use store::{Config, OpenError};
