//! Floor 0: the words every other room speaks.
//!
//! Values that were parsed once at a door and are valid from then on: digests, names, references, identifiers,
//! manifests and the limits of design §12. This crate does no I/O, reads no clock and knows no wire format but what
//! clients write: manifests, paths, queries and header values as the OCI specifications describe them. Their
//! parsers are here so that all are fuzzed without building anything else (`tests/fuzz`).

pub mod content_range;
pub mod digest;
pub mod durability;
pub mod entity_tag;
pub mod ids;
pub mod limits;
pub mod manifest;
pub mod media_type;
pub mod path;
pub mod query;
pub mod range;
pub mod reference;
pub mod region;
pub mod repository;
pub mod tag;
pub mod upload_id;

pub use digest::{Algorithm, Digest};
pub use durability::Durability;
pub use ids::{Blake3Root, Boot, ClusterId, CopyId, Incarnation, NodeId, RegionId, RequestId, Revision, StoreId};
pub use range::ByteRange;
pub use reference::Reference;
pub use region::{Place, RegionName};
pub use repository::RepositoryName;
pub use tag::Tag;
pub use upload_id::UploadId;
