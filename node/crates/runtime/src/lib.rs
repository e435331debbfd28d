//! Floor 1: task ownership, shutdown, clock, randomness, backoff.
//!
//! The only crate that may call `tokio::spawn` and read the clocks (see `.clippy.toml`); everyone else asks here, so
//! that every task has an owner and a name, and time can be reasoned about in one place.

pub mod backoff;
pub mod clock;
pub mod random;
pub mod tasks;

pub use backoff::Backoff;
pub use tasks::{TaskKind, Tasks};
