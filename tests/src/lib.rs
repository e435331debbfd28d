//! Harness of the end-to-end suites: starts regions as processes of their own, cuts, kills and wipes them, and speaks
//! to them as clients do.
//!
//! Nothing here waits for a fixed time: [`wait::until`] polls a condition up to a deadline. Nothing here looks into a
//! node: what a suite knows comes through HTTP, the CLI, files on the disk and the process table.

pub mod balancer;
pub mod binaries;
pub mod client;
pub mod cluster;
pub mod config;
pub mod content;
pub mod fuzz;
pub mod history;
pub mod image;
pub mod logs;
pub mod mesh;
pub mod metrics;
pub mod network;
pub mod power;
pub mod process;
pub mod proxy;
pub mod registry;
pub mod scale;
pub mod skip;
pub mod strace;
pub mod wait;
