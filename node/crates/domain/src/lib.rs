//! Floor 0: the words every other room speaks.
//!
//! Values that were parsed once at a door and are valid from then on: digests, names, references, identifiers,
//! manifests and the limits of design §12. This crate does no I/O, reads no clock and knows no wire format but the
//! manifests of the OCI image specification.

pub mod digest;
pub mod durability;
pub mod ids;
pub mod limits;
pub mod manifest;
pub mod media_type;
pub mod range;
pub mod reference;
pub mod region;
pub mod repository;
pub mod tag;

pub use digest::{Algorithm, Digest};
pub use durability::Durability;
pub use ids::{Blake3Root, Boot, ClusterId, CopyId, Incarnation, NodeId, RegionId, RequestId, Revision, StoreId};
pub use range::ByteRange;
pub use reference::Reference;
pub use region::{Place, RegionName};
pub use repository::RepositoryName;
pub use tag::Tag;
