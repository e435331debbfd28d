//! Images to push: a config, layers, a manifest; and indexes over them.

use bytes::Bytes;
use serde_json::json;

use crate::content::{Content, sha256};

/// Media type of image manifests.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of indexes.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A manifest, ready to be put.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Its media type.
    pub media_type: &'static str,
    /// Its bytes.
    pub body: Bytes,
    /// `sha256:…`
    pub digest: String,
}

impl Manifest {
    /// A manifest of these bytes.
    pub fn new(media_type: &'static str, body: Bytes) -> Manifest {
        let digest = sha256(&body);
        Manifest { media_type, body, digest }
    }

    /// An index over `children`.
    pub fn index(children: &[&Manifest]) -> Manifest {
        let architectures = ["amd64", "arm64", "riscv64", "s390x"];
        let entries: Vec<_> = children
            .iter()
            .zip(architectures.iter().cycle())
            .map(|(child, architecture)| {
                json!({
                    "mediaType": child.media_type, "digest": child.digest, "size": child.body.len(),
                    "platform": {"os": "linux", "architecture": architecture},
                })
            })
            .collect();
        let body = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        Manifest::new(INDEX, Bytes::from(body.to_string()))
    }
}

/// An image: everything that has to be pushed.
#[derive(Clone, Debug)]
pub struct Image {
    /// Config first, then the layers.
    pub blobs: Vec<Blob>,
    /// Its manifest.
    pub manifest: Manifest,
}

/// A blob of an image: generated content, or a few given bytes.
#[derive(Clone, Debug)]
pub enum Blob {
    /// Made from a seed.
    Generated(Content),
    /// As given.
    Given(Bytes),
}

impl Blob {
    /// `sha256:…`
    pub fn digest(&self) -> String {
        match self {
            Blob::Generated(content) => content.digest().to_owned(),
            Blob::Given(bytes) => sha256(bytes),
        }
    }

    /// Unit: bytes.
    pub fn len(&self) -> u64 {
        match self {
            Blob::Generated(content) => content.len(),
            Blob::Given(bytes) => bytes.len() as u64,
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Image {
    /// An image under `seed` with layers of these sizes. Other seeds share nothing with it.
    pub fn new(seed: u64, layer_sizes: &[u64]) -> Image {
        let mut layers = Vec::new();
        for (index, size) in layer_sizes.iter().enumerate() {
            layers.push(Content::new(seed.wrapping_mul(1_000_003).wrapping_add(index as u64 + 1), *size));
        }
        Image::over(seed, &layers)
    }

    /// An image over given layers.
    pub fn over(seed: u64, layers: &[Content]) -> Image {
        let layer_ids: Vec<_> = layers.iter().map(|layer| layer.digest().to_owned()).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "author": format!("seed {seed}"),
            "rootfs": {"type": "layers", "diff_ids": layer_ids},
        });
        let config = Blob::Given(Bytes::from(config.to_string()));
        let entries: Vec<_> = layers
            .iter()
            .map(|layer| json!({"mediaType": LAYER, "digest": layer.digest(), "size": layer.len()}))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config.digest(), "size": config.len()},
            "layers": entries,
        });
        let manifest = Manifest::new(MANIFEST, Bytes::from(manifest.to_string()));
        let blobs = std::iter::once(config).chain(layers.iter().cloned().map(Blob::Generated)).collect();
        Image { blobs, manifest }
    }
}
