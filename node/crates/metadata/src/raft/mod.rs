//! The shell around openraft: the one door to that library.
//!
//! openraft decides, the files here execute: a durable log (`log`), the state machine over the state file (`machine`),
//! spooled snapshots (`snapshot`), connections (`network`, `server`), proposals, reads and the leader's duties. What goes
//! to disk or over the wire is our own protobuf (`wire`), so that an upgrade of the library changes neither.

pub(crate) mod agreement;
pub(crate) mod config;
mod duty;
pub(crate) mod judge;
pub(crate) mod leader;
pub(crate) mod log;
pub(crate) mod log_writer;
pub(crate) mod machine;
pub(crate) mod member;
pub(crate) mod minting;
pub(crate) mod network;
pub(crate) mod peers;
pub(crate) mod propose;
pub(crate) mod reads;
pub(crate) mod server;
pub(crate) mod snapshot;
pub(crate) mod standing;
pub(crate) mod transfer;
pub(crate) mod types;
mod upkeep;
pub(crate) mod wire;
