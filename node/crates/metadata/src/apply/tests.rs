//! The rules of `apply`, one by one, over a world that is easy to read.

mod backfill;
mod blobs;
mod collection;
mod departure;
mod invariants;
mod life;
mod manifests;
mod random;
mod tags;
mod world;
