//! What the crowd pushes: a few contents that share their layers, and a few tags, so that clients get in each other's way.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tests::content::{Content, Random};
use tests::history::{self, Contents, Name};
use tests::image::{Blob, Image, MANIFEST, Manifest};

/// The repository that all clients work in, and those that blobs are mounted from.
pub(crate) const REPOSITORIES: [&str; 3] = ["crowd/app", "crowd/base", "other/base"];
/// In no order, and with names that begin alike.
pub(crate) const TAGS: [&str; 8] = ["v1.0", "latest", "v1", "V1", "v10", "_x", "v1-rc", "a"];
/// Types of the artifacts.
const TYPES: [&str; 2] = ["application/vnd.example.sbom", "application/vnd.example.signature"];
/// Unit: bytes.
const LAYERS: [u64; 8] = [1, 37, 512, 4096, 9000, 20_000, 70_000, 150_000];
const IMAGES: u64 = 6;
/// Blobs that no manifest names, so that they come and go.
const LOOSE: u64 = 3;

/// A blob to push.
pub(crate) struct Bytestring {
    pub(crate) digest: Name,
    pub(crate) bytes: Bytes,
}

/// A manifest to put.
pub(crate) struct Stored {
    pub(crate) digest: Name,
    pub(crate) manifest: Manifest,
    /// Blobs it names, by their place in the stock.
    pub(crate) blobs: Vec<usize>,
    pub(crate) subject: Option<Name>,
}

/// Everything there is.
pub(crate) struct Stock {
    pub(crate) repositories: Vec<Name>,
    pub(crate) tags: Vec<Name>,
    pub(crate) types: Vec<Name>,
    pub(crate) blobs: Vec<Bytestring>,
    /// Those that no manifest names, by their place.
    pub(crate) loose: Vec<usize>,
    pub(crate) manifests: Vec<Stored>,
    pub(crate) contents: Arc<Contents>,
}

fn names(names: &[&str]) -> Vec<Name> {
    names.iter().map(|name| Name::from(*name)).collect()
}

impl Stock {
    pub(crate) fn new(seed: u64) -> Stock {
        let mut stock = Stock {
            repositories: names(&REPOSITORIES),
            tags: names(&TAGS),
            types: names(&TYPES),
            blobs: Vec::new(),
            loose: Vec::new(),
            manifests: Vec::new(),
            contents: Arc::default(),
        };
        let mut random = Random::new(seed);
        let layers: Vec<Content> = LAYERS.iter().map(|len| Content::new(random.next(), *len)).collect();
        let images: Vec<Image> = (0..IMAGES)
            .map(|number| {
                let mut own = layers.clone();
                own.retain(|_| random.below(3) == 0);
                own.push(layers[usize::try_from(number).expect("few") % layers.len()].clone());
                own.dedup_by(|left, right| left.digest() == right.digest());
                Image::over(seed.wrapping_add(number), &own)
            })
            .collect();
        let mut contents = Contents::new();
        for image in &images {
            stock.add(&mut contents, image.manifest.clone(), &image.blobs, history::Content::default());
        }
        let index = Manifest::index(&[&images[0].manifest, &images[1].manifest]);
        let manifests = images[..2].iter().map(|image| Name::from(image.manifest.digest.as_str())).collect();
        stock.add(&mut contents, index, &[], history::Content { manifests, ..history::Content::default() });
        for (number, subject) in [(0, &images[0]), (1, &images[0]), (2, &images[1])] {
            let artifact_type = TYPES[number % TYPES.len()];
            let blobs = [Blob::Given(Bytes::from_static(b"{}")), Blob::Generated(layers[number + 1].clone())];
            let manifest = artifact(&blobs, artifact_type, &subject.manifest);
            let (subject, artifact_type) = (subject.manifest.digest.as_str().into(), artifact_type.into());
            let content =
                history::Content { subject: Some(subject), artifact_type: Some(artifact_type), ..Default::default() };
            stock.add(&mut contents, manifest, &blobs, content);
        }
        for number in 0..LOOSE {
            let loose = stock.keep(&Blob::Generated(Content::new(random.next(), 100 + number)));
            stock.loose.push(loose);
        }
        stock.contents = Arc::new(contents);
        stock
    }

    fn add(&mut self, contents: &mut Contents, manifest: Manifest, blobs: &[Blob], content: history::Content) {
        let digest: Name = manifest.digest.as_str().into();
        let blobs: Vec<usize> = blobs.iter().map(|blob| self.keep(blob)).collect();
        let named = blobs.iter().map(|index| self.blobs[*index].digest.clone()).collect();
        // The config's media type stands in for a type of its own; nobody asks for referrers of it.
        contents.insert(digest.clone(), history::Content { blobs: named, ..content.clone() });
        self.manifests.push(Stored { digest, manifest, blobs, subject: content.subject });
    }

    fn keep(&mut self, blob: &Blob) -> usize {
        let digest: Name = blob.digest().into();
        if let Some(index) = self.blobs.iter().position(|kept| kept.digest == digest) {
            return index;
        }
        let bytes = match blob {
            Blob::Generated(content) => content.bytes(),
            Blob::Given(bytes) => bytes.clone(),
        };
        self.blobs.push(Bytestring { digest, bytes });
        self.blobs.len() - 1
    }

    /// Manifests that others refer to.
    pub(crate) fn subjects(&self) -> Vec<Name> {
        let mut subjects: Vec<Name> = self.manifests.iter().filter_map(|stored| stored.subject.clone()).collect();
        subjects.dedup();
        subjects
    }

    /// A manifest by its digest.
    pub(crate) fn manifest(&self, digest: &str) -> Option<&Stored> {
        self.manifests.iter().find(|stored| &*stored.digest == digest)
    }
}

fn artifact(blobs: &[Blob; 2], artifact_type: &str, subject: &Manifest) -> Manifest {
    let body = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": artifact_type,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": blobs[0].digest(), "size": blobs[0].len()},
        "layers": [{"mediaType": "application/octet-stream", "digest": blobs[1].digest(), "size": blobs[1].len()}],
        "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.body.len()},
    });
    Manifest::new(MANIFEST, Bytes::from(body.to_string()))
}
