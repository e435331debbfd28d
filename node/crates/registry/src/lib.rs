//! Floor 5: what OCI means by push, pull, mount, delete, list and refer.
//!
//! Knows the rules of the distribution specification and none of HTTP: the doors in `node/src/http` turn requests into
//! calls of [`Handle`] and errors into status codes. It keeps no state of its own but the pins of proposals in doubt,
//! the turns of requests at one session and how sessions ended; names live in `metadata`, bytes in `blobs`, copies in
//! `replication`.

pub mod blob;
mod condition;
mod ended;
pub mod fault;
pub mod handle;
pub mod history;
pub mod listing;
mod local;
pub mod manifest;
mod network;
mod pins;
pub mod read;
pub mod referrers;
mod server;
pub mod session_id;
mod turns;
pub mod upload;
mod wire;

pub use condition::Condition;
pub use fault::{AsOf, ReadFault, Unavailable, WriteFault};
pub use handle::{Config, Handle};
pub use read::{Asked, Consistency};
pub use session_id::SessionId;
