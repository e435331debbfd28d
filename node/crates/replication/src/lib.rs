//! Floor 4: drives what is (object storage) to what should be (the replicated state). Pure plan, thin workers.
//!
//! Fetch workers over the region's wanted rows, fetch-through, durability waiters, backfill, deletion of condemned
//! copies, and the gRPC service by which peers read our blobs.

pub mod handle;

pub use handle::Handle;
