//! Manifests as the door reads them (`apply` parses no JSON, design §3).
//!
//! Reading is strict where two readers could otherwise understand one body differently (type, ambiguous documents,
//! repeated fields), and lenient everywhere else: unknown fields, unknown media types and annotations are kept, for the
//! bytes are stored as they came. No body makes this code recurse without bound, allocate beyond a small multiple of
//! [`MANIFEST_BYTES_MAX`] or panic.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

use crate::Digest;
use crate::digest::{self, clip};
use crate::limits::{MANIFEST_BYTES_MAX, MANIFEST_CHILDREN_MAX};
use crate::media_type::{
    DOCKER_LIST, DOCKER_MANIFEST, DOCKER_SCHEMA_1, DOCKER_SCHEMA_1_SIGNED, OCI_INDEX, OCI_MANIFEST,
    is_non_distributable,
};

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

/// Why a body is not a manifest this registry stores. HTTP 400 MANIFEST_INVALID, 413 for `TooLarge`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Larger than [`MANIFEST_BYTES_MAX`].
    #[error("manifest has {given} bytes, at most {MANIFEST_BYTES_MAX} are allowed")]
    TooLarge {
        /// Bytes given; at least that many where the body was not read on.
        given: usize,
    },
    /// Neither the `Content-Type` header nor the body names a type.
    #[error("neither Content-Type nor the body's mediaType says what the manifest is")]
    NoType,
    /// A type that is neither an OCI nor a Docker schema 2 manifest or index.
    #[error("media type `{given}` is not a manifest type of this registry")]
    Type {
        /// The beginning of what was given.
        given: String,
    },
    /// Header and body disagree.
    #[error("Content-Type says `{header}`, the body's mediaType says `{body}`")]
    TypesDiffer {
        /// The header's type.
        header: String,
        /// The body's type.
        body: String,
    },
    /// Not JSON, a field of the wrong kind, a field twice, nested too deeply or cut short.
    #[error("manifest is not valid JSON of its type: {detail}")]
    Json {
        /// What the parser said.
        detail: String,
    },
    /// Docker schema 1, by type or by `schemaVersion`: its digests do not name its bytes.
    #[error("this is a Docker schema 1 manifest, which is not supported; push the image as schema 2 or OCI")]
    Schema1,
    /// `schemaVersion` is not 2.
    #[error("schemaVersion is {given}, only 2 is supported")]
    SchemaVersion {
        /// The number given, or what is there instead.
        given: String,
    },
    /// A field that its type requires is absent.
    #[error("manifest of type `{media_type}` has no `{field}`")]
    Missing {
        /// The type.
        media_type: &'static str,
        /// The field.
        field: &'static str,
    },
    /// Fields of an image and of an index in one document: two readers would see two things.
    #[error("manifest of type `{media_type}` must not have `{field}`")]
    Ambiguous {
        /// The type.
        media_type: &'static str,
        /// The field.
        field: &'static str,
    },
    /// More distinct children than [`MANIFEST_CHILDREN_MAX`].
    #[error("manifest names more than {MANIFEST_CHILDREN_MAX} children")]
    TooManyChildren,
    /// A descriptor's digest is malformed.
    #[error("descriptor: {0}")]
    Digest(#[from] digest::Error),
}

/// A descriptor of an index, with all that a referrers list shows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Unit: bytes.
    pub size: u64,
    /// Its artifact type, where the descriptor names one.
    pub artifact_type: Option<String>,
    /// Annotations, in key order.
    pub annotations: Vec<(String, String)>,
}

/// Reads a manifest. `content_type` is the header's value, parameters included.
///
/// Source: OCI image-spec "manifest" and "image-index", Docker schema 2; OCI distribution-spec "Pushing Manifests".
pub fn parse(body: &[u8], content_type: Option<&str>) -> Result<Manifest, Error> {
    if body.len() > MANIFEST_BYTES_MAX {
        return Err(Error::TooLarge { given: body.len() });
    }
    let header = content_type.map(essence).filter(|text| !text.is_empty());
    if let Some(header) = &header {
        known_type(header)?;
    }
    // The parser would pass over other bytes in what it ignores, and other readers would not. Source: RFC 8259 §8.1.
    let text = std::str::from_utf8(body).map_err(|error| Error::Json { detail: error.to_string() })?;
    let Object(document) = serde_json::from_str::<Object<Document>>(text).map_err(json_error)?;
    match document.schema_version {
        Some(SchemaVersion(Ok(2))) => {}
        Some(SchemaVersion(Ok(1))) => return Err(Error::Schema1),
        Some(SchemaVersion(Ok(other))) => return Err(Error::SchemaVersion { given: other.to_string() }),
        Some(SchemaVersion(Err(what))) => return Err(Error::SchemaVersion { given: what.to_owned() }),
        None => return Err(Error::SchemaVersion { given: "missing".to_owned() }),
    }
    let media_type = decide_type(header, document.media_type.as_deref())?;
    let is_index = matches!(media_type, OCI_INDEX | DOCKER_LIST);
    document.check_shape(media_type, is_index)?;
    let subject = document.subject.as_ref().map(|Object(subject)| Digest::parse(&subject.digest)).transpose()?;
    let named = document.artifact_type.filter(|text| !text.is_empty());
    let config_type = document.config.as_ref().and_then(|Object(config)| config.media_type.clone());
    let artifact_type = named.or(config_type.filter(|text| !is_index && !text.is_empty()));
    let children = if is_index {
        children_of(&document.manifests.items, true)?
    } else {
        let named: Vec<Object<Descriptor>> = document.config.into_iter().chain(document.layers.items).collect();
        children_of(&named, false)?
    };
    let annotations = document.annotations.unwrap_or_default().into_iter().collect();
    Ok(Manifest { media_type: media_type.to_owned(), children, subject, artifact_type, annotations })
}

/// The entries of an index, for referrers stored under a fallback tag. Empty for anything that is not an index.
pub fn index_entries(body: &[u8]) -> Vec<Entry> {
    let Ok(Object(document)) = serde_json::from_slice::<Object<FallbackIndex>>(body) else { return Vec::new() };
    let to_entry = |Object(listed): Object<Listed>| {
        Some(Entry {
            digest: Digest::parse(&listed.digest).ok()?,
            media_type: listed.media_type?,
            size: listed.size,
            artifact_type: listed.artifact_type.filter(|text| !text.is_empty()),
            annotations: listed.annotations.unwrap_or_default().into_iter().collect(),
        })
    };
    document.manifests.items.into_iter().filter_map(to_entry).collect()
}

/// A media type without parameters, in lower case.
pub fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim_matches([' ', '\t']).to_ascii_lowercase()
}

fn known_type(text: &str) -> Result<&'static str, Error> {
    if [DOCKER_SCHEMA_1, DOCKER_SCHEMA_1_SIGNED].contains(&text) {
        return Err(Error::Schema1);
    }
    [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST]
        .into_iter()
        .find(|known| *known == text)
        .ok_or_else(|| Error::Type { given: clip(text) })
}

fn decide_type(header: Option<String>, body: Option<&str>) -> Result<&'static str, Error> {
    match (header, body.filter(|text| !text.is_empty())) {
        (Some(header), Some(body)) if header != body => Err(Error::TypesDiffer { header, body: clip(body) }),
        (Some(header), _) => known_type(&header),
        (None, Some(body)) => known_type(body),
        (None, None) => Err(Error::NoType),
    }
}

fn json_error(error: serde_json::Error) -> Error {
    Error::Json { detail: error.to_string().chars().take(200).collect() }
}

fn children_of(descriptors: &[Object<Descriptor>], may_be_manifest: bool) -> Result<Vec<Child>, Error> {
    let mut children: Vec<Child> = Vec::with_capacity(descriptors.len());
    let mut places: HashMap<Digest, usize> = HashMap::with_capacity(descriptors.len());
    for Object(descriptor) in descriptors {
        let digest = Digest::parse(&descriptor.digest)?;
        let exempt = !may_be_manifest
            && descriptor.urls.as_ref().is_some_and(|urls| !urls.items.is_empty())
            && descriptor.media_type.as_deref().is_some_and(is_non_distributable);
        if let Some(&at) = places.get(&digest) {
            // A digest is free of its blob only where every mention of it is.
            children[at].exempt &= exempt;
        } else if children.len() == MANIFEST_CHILDREN_MAX {
            return Err(Error::TooManyChildren);
        } else {
            places.insert(digest, children.len());
            children.push(Child { digest, size: descriptor.size, exempt, may_be_manifest });
        }
    }
    Ok(children)
}

/// A JSON object. What is derived would also take an array of the fields' values in their order, which no other reader
/// of manifests understands.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(std::marker::PhantomData))
    }
}

struct ObjectVisitor<T>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }
}

/// A `schemaVersion`, or what it is instead of a number. Nothing of it is kept: it may be as large as the body.
struct SchemaVersion(Result<u64, &'static str>);

impl<'de> Deserialize<'de> for SchemaVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SchemaVersionVisitor)
    }
}

struct SchemaVersionVisitor;

impl<'de> Visitor<'de> for SchemaVersionVisitor {
    type Value = SchemaVersion;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a schema version")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<SchemaVersion, E> {
        Ok(SchemaVersion(Ok(number)))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<SchemaVersion, E> {
        Ok(SchemaVersion(Err("a negative number")))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<SchemaVersion, E> {
        Ok(SchemaVersion(Err("a fraction or a large number")))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<SchemaVersion, E> {
        Ok(SchemaVersion(Err("true or false")))
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<SchemaVersion, E> {
        Ok(SchemaVersion(Err("a text")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<SchemaVersion, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(SchemaVersion(Err("an array")))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<SchemaVersion, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(SchemaVersion(Err("an object")))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<SchemaVersion>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Object<Descriptor>>,
    #[serde(default)]
    layers: List<Object<Descriptor>>,
    #[serde(default)]
    manifests: List<Object<Descriptor>>,
    #[serde(default)]
    fs_layers: Option<IgnoredAny>,
    subject: Option<Object<Descriptor>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Document {
    fn check_shape(&self, media_type: &'static str, is_index: bool) -> Result<(), Error> {
        let ambiguous = |field| Err(Error::Ambiguous { media_type, field });
        let missing = |field| Err(Error::Missing { media_type, field });
        if self.fs_layers.is_some() {
            return ambiguous("fsLayers");
        }
        if is_index {
            match () {
                () if self.layers.given => ambiguous("layers"),
                () if self.config.is_some() => ambiguous("config"),
                () if !self.manifests.given => missing("manifests"),
                () => Ok(()),
            }
        } else {
            match () {
                () if self.manifests.given => ambiguous("manifests"),
                () if self.config.is_none() => missing("config"),
                () if !self.layers.given => missing("layers"),
                () => Ok(()),
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: String,
    #[serde(deserialize_with = "size")]
    size: u64,
    urls: Option<List<IgnoredAny>>,
}

/// A descriptor's size: 64 bits with a sign, so that clients can read it. Source: OCI image-spec, "Descriptor".
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = u64::deserialize(deserializer)?;
    if i64::try_from(size).is_err() {
        return Err(de::Error::custom(format_args!("a size of {size} bytes does not fit into 63 bits")));
    }
    Ok(size)
}

#[derive(Deserialize)]
struct FallbackIndex {
    #[serde(default)]
    manifests: List<Object<Listed>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    media_type: Option<String>,
    digest: String,
    #[serde(deserialize_with = "size")]
    size: u64,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

/// An array that stops reading at [`MANIFEST_CHILDREN_MAX`]; `null`, as Go writes an empty one, counts as given.
struct List<T> {
    given: bool,
    items: Vec<T>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        List { given: false, items: Vec::new() }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor(std::marker::PhantomData))
    }
}

struct ListVisitor<T>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of at most {MANIFEST_CHILDREN_MAX} elements")
    }

    fn visit_unit<E: de::Error>(self) -> Result<List<T>, E> {
        Ok(List { given: true, items: Vec::new() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<List<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = elements.next_element()? {
            if items.len() == MANIFEST_CHILDREN_MAX {
                return Err(de::Error::custom(format_args!("more than {MANIFEST_CHILDREN_MAX} elements")));
            }
            items.push(item);
        }
        Ok(List { given: true, items })
    }
}

#[cfg(test)]
#[path = "manifest_test.rs"]
mod tests;
