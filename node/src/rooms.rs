//! The open rooms of a member.

use std::sync::Arc;

/// Every room's handle, once the node is a member.
pub struct Rooms {
    /// Agreement and state.
    pub metadata: metadata::Handle,
    /// Bytes.
    pub blobs: Option<blobs::Handle>,
    /// Copies.
    pub replication: Option<replication::Handle>,
}

/// Rooms as the doors share them.
pub type SharedRooms = Arc<Rooms>;
