//! Floor 4: drives what is (object storage) to what should be (the replicated state). Pure plan, thin workers.
//!
//! Fetch workers over the region's wanted rows, fetch-through, durability waiters, backfill, deletion of condemned
//! copies, collection, and the gRPC service by which peers read our blobs.
//!
//! The rows of the replicated state are the work list. What this room keeps in memory (flights, measurements, backoff,
//! hints) may be lost at any time without losing work.

mod backfill;
mod cluster;
mod collector;
mod condemned;
pub mod config;
mod core;
mod doubt;
mod durable;
mod flight;
pub mod handle;
mod healing;
mod hints;
mod inventory;
mod losses;
mod network;
mod plan;
mod reader;
mod report;
mod retries;
mod server;
mod sources;
mod transfer;
mod wire;
mod worker;

pub use config::Config;
pub use handle::Handle;

#[cfg(test)]
mod direct_test;
#[cfg(test)]
mod limits_test;
#[cfg(test)]
mod room_test;
#[cfg(test)]
mod world_test;
