//! Manifests as the door reads them (`apply` parses no JSON, design §3).

use crate::Digest;

/// One thing a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its digest.
    pub digest: Digest,
    /// Its size as the descriptor says. Unit: bytes.
    pub size: u64,
    /// Non-distributable layer with `urls`: no blob is needed.
    pub exempt: bool,
    /// Named by an index: it may be a manifest or (BuildKit cache) a blob; otherwise always a blob.
    pub may_be_manifest: bool,
}

/// What the registry needs to know of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Media type to store and answer with, without parameters.
    pub media_type: String,
    /// Distinct children, in order of first mention.
    pub children: Vec<Child>,
    /// The `subject`'s digest.
    pub subject: Option<Digest>,
    /// `artifactType`, else `config.mediaType` for images; none for indexes without one.
    pub artifact_type: Option<String>,
    /// Annotations, in key order.
    pub annotations: Vec<(String, String)>,
}
