//! Floor 3: what should exist. Commands, the pure `apply`, the Raft log, snapshots and the network between nodes.
//!
//! Owns the replicated state (design §3) and the one door to openraft. It knows nothing of blob bytes, OCI JSON or HTTP.

pub mod apply;
pub mod birth;
pub mod command;
pub mod handle;
pub mod outcome;
pub(crate) mod raft;
pub mod rows;
pub mod state;
pub mod view;
pub mod wire;

pub use command::Command;
pub use handle::Handle;
pub use outcome::Outcome;
pub use view::View;
