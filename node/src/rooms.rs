//! The open rooms of a member.

/// Every room's handle, once the node is a member.
pub struct Rooms {
    /// Agreement and state.
    pub metadata: metadata::Handle,
    /// Bytes.
    pub blobs: blobs::Handle,
    /// Copies.
    pub replication: replication::Handle,
    /// Pushes and pulls.
    pub registry: registry::Handle,
}
