//! Wire types, generated from `proto/*.proto` with protox (no protoc needed). No logic: whoever speaks a protocol
//! converts at once by `TryFrom`, in files named `wire`, `network` or `server`.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::wildcard_imports,
    reason = "generated code"
)]

/// Administration: what `cluster-cli` speaks.
pub mod admin {
    tonic::include_proto!("longshore.admin.v1");
}
/// Blob bytes between regions.
pub mod blobs {
    tonic::include_proto!("longshore.blobs.v1");
}
/// Encoding of log entries, on disk and on the wire.
pub mod log {
    tonic::include_proto!("longshore.log.v1");
}
/// Raft and forwarded proposals.
pub mod raft {
    tonic::include_proto!("longshore.raft.v1");
}
/// Upload sessions passed on to their owner.
pub mod sessions {
    tonic::include_proto!("longshore.sessions.v1");
}
