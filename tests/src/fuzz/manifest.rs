//! Manifests. An input is the `Content-Type` header's value, a line feed, and the body; no value is no header.

use std::collections::BTreeMap;

use domain::limits::{MANIFEST_BYTES_MAX, MANIFEST_CHILDREN_MAX};
use domain::manifest::{Child, Entry, Manifest, index_entries, parse};
use domain::{Digest, media_type};
use serde_json::json;

use super::json::{self, Json, Refused};
use super::{brief, digest, line_and_rest};

/// Shortest text of a digest. Unit: bytes.
const DIGEST_TEXT_BYTES_MIN: usize = 71;

/// Reads the body under its header, and as an index of referrers.
pub fn check(bytes: &[u8]) {
    let (header, body) = line_and_rest(bytes);
    let header = String::from_utf8_lossy(header);
    let header = Some(header.as_ref()).filter(|header| !header.is_empty());
    let read = parse(body, header);
    assert_eq!(read, parse(body, header), "the same twice");
    let entries = index_entries(body);
    assert_eq!(entries, index_entries(body), "the same twice");
    match &read {
        Ok(manifest) => {
            bounds(manifest, body);
            written_and_read_back(manifest);
        }
        Err(error) => brief(error),
    }
    match json::read(body) {
        Ok(document) => {
            // A stored body was a manifest before it is read as an index of referrers.
            let is_fit = body.len() <= MANIFEST_BYTES_MAX && std::str::from_utf8(body).is_ok();
            let expected = facts(&document, header).filter(|_| is_fit);
            assert_eq!(read.as_ref().ok(), expected.as_ref(), "{header:?}: {read:?}");
            assert_eq!(entries, listed(&document).unwrap_or_default());
        }
        Err(Refused::Grammar) => assert!(read.is_err() && entries.is_empty(), "not JSON, and read as {read:?}"),
        Err(Refused::Depth) => {}
    }
}

/// What was read is never more than the body held.
fn bounds(manifest: &Manifest, body: &[u8]) {
    let Manifest { media_type, children, subject, artifact_type, annotations } = manifest;
    assert!(
        [media_type::OCI_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_LIST]
            .contains(&media_type.as_str())
    );
    assert!(children.len() <= MANIFEST_CHILDREN_MAX, "{} children", children.len());
    let digests = (children.len() + usize::from(subject.is_some())) * DIGEST_TEXT_BYTES_MIN;
    let texts: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    let held = digests + texts + artifact_type.as_ref().map_or(0, String::len);
    assert!(held <= body.len(), "{held} bytes of {}", body.len());
    assert!(annotations.is_sorted_by(|a, b| a.0 < b.0), "annotations are in key order");
    let is_index = [media_type::OCI_INDEX, media_type::DOCKER_LIST].contains(&media_type.as_str());
    for child in children {
        assert!(child.may_be_manifest == is_index && !(child.exempt && is_index), "{child:?} of {media_type}");
    }
}

/// The plainest body that says the same must be read as the same.
fn written_and_read_back(manifest: &Manifest) {
    let Manifest { media_type, children, subject, artifact_type, annotations } = manifest;
    let descriptor = |child: &Child| {
        let mut descriptor = json!({ "digest": child.digest.to_string(), "size": child.size });
        if child.exempt {
            descriptor["mediaType"] = json!("application/vnd.oci.image.layer.nondistributable.v1.tar");
            descriptor["urls"] = json!(["https://example.com/layer"]);
        }
        descriptor
    };
    let mut descriptors = children.iter().map(descriptor);
    let annotations: BTreeMap<&str, &str> =
        annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let mut body = json!({ "schemaVersion": 2, "annotations": annotations });
    if [media_type::OCI_INDEX, media_type::DOCKER_LIST].contains(&media_type.as_str()) {
        body["manifests"] = descriptors.collect();
    } else {
        body["config"] = descriptors.next().expect("an image has a config");
        body["layers"] = descriptors.collect();
    }
    if let Some(subject) = subject {
        body["subject"] = json!({ "digest": subject.to_string(), "size": 0 });
    }
    if let Some(artifact_type) = artifact_type {
        body["artifactType"] = json!(artifact_type);
    }
    let body = body.to_string().into_bytes();
    // Escapes make the plain body longer than the limit in the extreme.
    if body.len() <= MANIFEST_BYTES_MAX {
        assert_eq!(parse(&body, Some(media_type)).as_ref(), Ok(manifest), "{}", String::from_utf8_lossy(&body));
    }
}

/// The value of a member of an object that no reader can understand differently: none when it is absent.
type Members<'j> = BTreeMap<&'j str, &'j Json>;

/// The members of an object by key. None for what is no object, for keys that are no text, and for one of `fields`
/// twice.
fn members<'j>(value: &'j Json, fields: &[&str]) -> Option<Members<'j>> {
    let Json::Object(pairs) = value else { return None };
    let mut members = BTreeMap::new();
    for (key, value) in pairs {
        let key = key.as_deref()?;
        if members.insert(key, value).is_some() && fields.contains(&key) {
            return None;
        }
    }
    Some(members)
}

/// A text that may be absent or null; the outer none is for what is neither.
fn text<'j>(members: &Members<'j>, field: &str) -> Option<Option<&'j str>> {
    match members.get(field) {
        None | Some(Json::Null) => Some(None),
        Some(Json::Text(Some(text))) => Some(Some(text)),
        Some(_) => None,
    }
}

fn number(value: &Json) -> Option<u64> {
    let Json::Number(written) = value else { return None };
    super::decimal(written).and_then(|number| u64::try_from(number).ok())
}

/// An array of at most as many elements as a manifest may have, and whether it is there; null is an empty one.
fn array<'j>(members: &Members<'j>, field: &str) -> Option<(bool, &'j [Json])> {
    match members.get(field) {
        None => Some((false, &[])),
        Some(Json::Null) => Some((true, &[])),
        Some(Json::Array(elements)) if elements.len() <= MANIFEST_CHILDREN_MAX => Some((true, elements)),
        Some(_) => None,
    }
}

fn annotations(members: &Members<'_>) -> Option<Vec<(String, String)>> {
    let pairs = match members.get("annotations") {
        None | Some(Json::Null) => return Some(Vec::new()),
        Some(Json::Object(pairs)) => pairs,
        Some(_) => return None,
    };
    let mut sorted = BTreeMap::new();
    for (key, value) in pairs {
        let Json::Text(Some(value)) = value else { return None };
        sorted.insert(key.clone()?, value.clone());
    }
    Some(sorted.into_iter().collect())
}

/// A descriptor as far as all of them must be well-formed. Source: OCI image-spec "descriptor".
struct Descriptor<'j> {
    digest: &'j str,
    size: u64,
    media_type: Option<&'j str>,
    has_urls: bool,
}

fn descriptor(value: &Json) -> Option<Descriptor<'_>> {
    let members = members(value, &["mediaType", "digest", "size", "urls"])?;
    let digest = text(&members, "digest")??;
    // Clients read it as 64 bits with a sign.
    let size = number(members.get("size")?).filter(|size| *size <= u64::MAX / 2)?;
    let (_, urls) = array(&members, "urls")?;
    Some(Descriptor { digest, size, media_type: text(&members, "mediaType")?, has_urls: !urls.is_empty() })
}

fn parsed(text: &str) -> Option<Digest> {
    digest::oracle(text)?;
    Digest::parse(text).ok()
}

/// What a document says under a header; none when it is to be refused.
///
/// Source: OCI image-spec "manifest" and "image-index", Docker schema 2; "Reading is strict" of `domain::manifest`.
fn facts(document: &Json, header: Option<&str>) -> Option<Manifest> {
    const FIELDS: &[&str] = &[
        "schemaVersion",
        "mediaType",
        "artifactType",
        "config",
        "layers",
        "manifests",
        "fsLayers",
        "subject",
        "annotations",
    ];
    let members = members(document, FIELDS)?;
    let given = |field: &str| members.get(field).is_some_and(|value| **value != Json::Null);
    if number(members.get("schemaVersion")?)? != 2 || given("fsLayers") {
        return None;
    }
    let (is_index, media_type) = kind(header, text(&members, "mediaType")?)?;
    let ((has_layers, layers), (has_manifests, manifests)) =
        (array(&members, "layers")?, array(&members, "manifests")?);
    if (has_manifests, has_layers, given("config")) != (is_index, !is_index, !is_index) {
        return None;
    }
    // Descriptors are read before anybody knows what the document is.
    let optional = |field: &str| match members.get(field) {
        None | Some(Json::Null) => Some(None),
        Some(value) => descriptor(value).map(Some),
    };
    let (config, subject) = (optional("config")?, optional("subject")?);
    let subject = match subject {
        Some(subject) => Some(parsed(subject.digest)?),
        None => None,
    };
    let named = text(&members, "artifactType")?.filter(|text| !text.is_empty());
    let derived = config.as_ref().and_then(|config| config.media_type).filter(|text| !text.is_empty());
    let listed = layers.iter().chain(manifests).map(descriptor).collect::<Option<Vec<_>>>()?;
    let descriptors: Vec<Descriptor<'_>> = config.into_iter().chain(listed).collect();
    Some(Manifest {
        media_type: media_type.to_owned(),
        children: children(&descriptors, is_index)?,
        subject,
        artifact_type: named.or(derived).map(str::to_owned),
        annotations: annotations(&members)?,
    })
}

/// Whether it is an index, and its type: as header and body say, and they must not differ.
fn kind(header: Option<&str>, body: Option<&str>) -> Option<(bool, &'static str)> {
    const KINDS: &[(bool, &str)] = &[
        (false, "application/vnd.oci.image.manifest.v1+json"),
        (true, "application/vnd.oci.image.index.v1+json"),
        (false, "application/vnd.docker.distribution.manifest.v2+json"),
        (true, "application/vnd.docker.distribution.manifest.list.v2+json"),
    ];
    let header = header.map(|value| value.split_once(';').map_or(value, |(before, _)| before));
    let header = header.map(|value| value.trim_matches(['\t', ' '])).filter(|value| !value.is_empty());
    let body = body.filter(|text| !text.is_empty());
    let of_header = header.map(|value| KINDS.iter().find(|(_, known)| value.eq_ignore_ascii_case(known)));
    let of_body = body.map(|value| KINDS.iter().find(|(_, known)| value == *known));
    match (of_header, of_body) {
        (Some(header), Some(body)) => header.filter(|_| header == body).copied(),
        (Some(found), None) | (None, Some(found)) => found.copied(),
        (None, None) => None,
    }
}

/// Distinct children: the first mention of each counts, and one mention that needs the blob is enough.
fn children(descriptors: &[Descriptor<'_>], is_index: bool) -> Option<Vec<Child>> {
    let mut first = BTreeMap::new();
    let mut needed = BTreeMap::new();
    for (at, found) in descriptors.iter().enumerate() {
        let digest = parsed(found.digest)?;
        first.entry(digest).or_insert(at);
        let is_foreign = found.has_urls && found.media_type.is_some_and(is_foreign) && !is_index;
        *needed.entry(digest).or_insert(false) |= !is_foreign;
    }
    let mut distinct: Vec<(usize, Digest)> = first.into_iter().map(|(digest, at)| (at, digest)).collect();
    distinct.sort_unstable_by_key(|(at, _)| *at);
    let child = |(at, digest): (usize, Digest)| Child {
        digest,
        size: descriptors[at].size,
        exempt: !needed[&digest],
        may_be_manifest: is_index,
    };
    (distinct.len() <= MANIFEST_CHILDREN_MAX).then(|| distinct.into_iter().map(child).collect())
}

/// Source: OCI image-spec "layer", non-distributable layers; Docker schema 2, foreign layers.
fn is_foreign(media_type: &str) -> bool {
    let docker = ["tar", "tar.gzip"].map(|kind| format!("application/vnd.docker.image.rootfs.foreign.diff.{kind}"));
    docker.iter().any(|known| known == media_type)
        || media_type
            .strip_prefix("application/vnd.oci.image.layer.nondistributable.v1")
            .is_some_and(|rest| rest.starts_with('.'))
}

/// The entries of an index, as a referrers list shows them; none for what is no index.
fn listed(document: &Json) -> Option<Vec<Entry>> {
    let members = members(document, &["manifests"])?;
    let (_, manifests) = array(&members, "manifests")?;
    let mut entries = Vec::new();
    for value in manifests {
        let members = self::members(value, &["mediaType", "digest", "size", "artifactType", "annotations"])?;
        let (media_type, digest) = (text(&members, "mediaType")?, text(&members, "digest")??);
        let (size, annotations) = (number(members.get("size")?)?, annotations(&members)?);
        let artifact_type = text(&members, "artifactType")?.filter(|text| !text.is_empty()).map(str::to_owned);
        // One that names no type, or no digest of ours, is left out; the others count.
        if let (Some(media_type), Some(digest)) = (media_type, parsed(digest)) {
            entries.push(Entry { digest, media_type: media_type.to_owned(), size, artifact_type, annotations });
        }
    }
    Some(entries)
}
