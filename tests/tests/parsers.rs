//! Properties of the parsers of foreign bytes: what the grammar makes is accepted and says what it was made of, and what
//! was changed in it is judged as the oracle judges it. The checks are those of the fuzz targets (`tests::fuzz`).

use domain::content_range::{self, Chunk};
use domain::entity_tag;
use domain::limits::MANIFEST_CHILDREN_MAX;
use domain::manifest::{self, Child, Manifest};
use domain::path::{self, Resource};
use domain::query::{Query, escape};
use domain::range::{Requested, parse_range};
use domain::{Algorithm, ByteRange, Digest, NodeId, Reference, RepositoryName, Tag, UploadId, media_type};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use tests::fuzz;

/// One change of a text: a piece of it goes, and another comes in its place.
type Change = (Index, usize, String);

/// Up to three changes, mostly with what parsers care for.
fn changes() -> impl Strategy<Value = Vec<Change>> {
    let piece = prop_oneof![
        3 => "[-a-zA-Z0-9_.:/%,=&*+ \"\\\\{}\\[\\]\n\t]{0,3}",
        1 => "\\PC{0,2}",
        2 => prop::sample::select(vec![
            "F", "_", "___", "-_", "._", "sha256:", "18446744073709551615", "18446744073709551616", "uploads", "%2F", "null", "W/",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec((any::<Index>(), 0..4usize, piece), 0..4)
}

fn changed(text: &str, changes: &[Change]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, gone, piece) in changes {
        let at = at.index(chars.len() + 1);
        let end = (at + gone).min(chars.len());
        chars.splice(at..end, piece.chars());
    }
    chars.into_iter().collect()
}

fn digests() -> impl Strategy<Value = Digest> {
    (prop::collection::vec(any::<u8>(), 64), any::<bool>()).prop_map(|(raw, long)| {
        let (algorithm, raw) = if long { (Algorithm::Sha512, &raw[..]) } else { (Algorithm::Sha256, &raw[..32]) };
        Digest::from_raw(algorithm, raw).expect("as long as its algorithm says")
    })
}

fn names() -> impl Strategy<Value = String> {
    let component = "[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}";
    let word = prop::sample::select(vec!["blobs", "uploads", "manifests", "tags", "list", "referrers", "v2"]);
    let component = prop_oneof![4 => component, 1 => word.prop_map(str::to_owned)];
    prop::collection::vec(component, 1..5).prop_map(|components| components.join("/"))
}

const TAG: &str = "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}";

proptest! {
    #[test]
    fn names_of_the_grammar_are_read_and_changed_ones_judged(name in names(), changes in changes()) {
        prop_assert_eq!(RepositoryName::parse(&name).map(|read| read.to_string()), Ok(name.clone()));
        fuzz::reference::check(changed(&name, &changes).as_bytes());
    }

    #[test]
    fn names_end_at_their_limit(length in 250..260usize) {
        prop_assert_eq!(RepositoryName::parse(&"a".repeat(length)).is_ok(), length <= 255);
        fuzz::reference::check("a/".repeat(length / 2).trim_end_matches('/').as_bytes());
    }

    #[test]
    fn tags_of_the_grammar_are_read_and_changed_ones_judged(tag in TAG, changes in changes()) {
        prop_assert_eq!(Tag::parse(&tag).map(|read| read.to_string()), Ok(tag.clone()));
        prop_assert_eq!(Reference::parse(&tag).ok(), Tag::parse(&tag).ok().map(Reference::Tag));
        fuzz::reference::check(changed(&tag, &changes).as_bytes());
    }

    #[test]
    fn digests_are_read_and_changed_ones_judged(digest in digests(), changes in changes()) {
        let text = digest.to_string();
        prop_assert_eq!(Digest::parse(&text), Ok(digest));
        prop_assert_eq!(Reference::parse(&text), Ok(Reference::Digest(digest)));
        let changed = changed(&text, &changes);
        fuzz::digest::check(changed.as_bytes());
        fuzz::reference::check(changed.as_bytes());
    }

    #[test]
    fn digests_are_ordered_as_their_keys(a in digests(), b in digests(), tail in prop::collection::vec(any::<u8>(), 0..4)) {
        prop_assert_eq!(a.cmp(&b), a.to_key().cmp(&b.to_key()));
        fuzz::digest::check(&[a.to_key(), tail].concat());
    }

    #[test]
    fn chunks_are_read_and_changed_ones_judged(offset in any::<u64>(), span in 0..u64::MAX, changes in changes()) {
        let last = offset.saturating_add(span).max(offset);
        let text = format!("{offset}-{last}");
        if let Some(length) = (last - offset).checked_add(1) {
            prop_assert_eq!(content_range::parse(&text), Ok(Chunk { offset, length }));
        }
        fuzz::content_range::check(text.as_bytes());
        fuzz::content_range::check(changed(&text, &changes).as_bytes());
    }
}

/// A size, and a number that lies around it.
fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![0..20u64, 2000..2100u64, any::<u64>(), u64::MAX - 3..=u64::MAX]
}

proptest! {
    #[test]
    fn ranges_inside_are_read_as_they_stand(
        size in 1..u64::MAX, picked in prop::collection::vec((any::<Index>(), any::<Index>()), 1..5), changes in changes()
    ) {
        let size_small = usize::try_from(size).expect("64 bits");
        let ranges: Vec<ByteRange> = picked.iter().map(|(first, last)| {
            let (first, last) = (first.index(size_small) as u64, last.index(size_small) as u64);
            ByteRange { start: first.min(last), end: first.max(last) + 1 }
        }).collect();
        let specs: Vec<String> = ranges.iter().map(|range| format!("{}-{}", range.start, range.end - 1)).collect();
        let header = format!("bytes={}", specs.join(", "));
        let expected = if let [one] = ranges[..] { Requested::One(one) } else { Requested::Many(ranges) };
        prop_assert_eq!(parse_range(&header, size), expected);
        fuzz::range::check(format!("{size}\n{}", changed(&header, &changes)).as_bytes());
    }

    #[test]
    fn ranges_of_any_kind_are_judged(
        size in numbers(), specs in prop::collection::vec((prop::option::of(numbers()), prop::option::of(numbers())), 0..6),
        changes in changes()
    ) {
        let number = |number: &Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        let specs: Vec<String> = specs.iter().map(|(first, last)| format!("{}-{}", number(first), number(last))).collect();
        let header = format!("bytes={}", specs.join(","));
        fuzz::range::check(format!("{size}\n{header}").as_bytes());
        fuzz::range::check(format!("{size}\n{}", changed(&header, &changes)).as_bytes());
    }

    #[test]
    fn the_number_of_ranges_is_bounded(count in 120..140usize) {
        let header = format!("bytes={}", vec!["0-0"; count].join(","));
        prop_assert_eq!(matches!(parse_range(&header, 1), Requested::Many(_)), count <= 128);
        fuzz::range::check(format!("1\n{header}").as_bytes());
    }

    #[test]
    fn queries_are_read_and_changed_ones_judged(
        pairs in prop::collection::vec(("\\PC{0,8}", "\\PC{0,12}"), 0..6), changes in changes()
    ) {
        let text: Vec<String> = pairs.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        let text = text.join("&");
        prop_assert_eq!(Query::parse(&text).pairs().to_vec(), pairs);
        fuzz::query::check(changed(&text, &changes).as_bytes());
    }

    #[test]
    fn rows_are_judged(rows in "[0-9]{0,24}", changes in changes()) {
        fuzz::query::check(rows.as_bytes());
        fuzz::query::check(changed(&rows, &changes).as_bytes());
    }

    #[test]
    fn upload_ids_are_read_and_changed_ones_judged(
        session in any::<[u8; 16]>(), node in numbers(), mac in any::<[u8; 32]>(), changes in changes()
    ) {
        let id = UploadId { session, node: NodeId(node), mac };
        prop_assert_eq!(UploadId::parse(&id.to_string()), Ok(id));
        fuzz::upload_id::check(changed(&id.to_string(), &changes).as_bytes());
    }

    #[test]
    fn entity_tags_are_read_and_changed_ones_judged(
        tags in prop::collection::vec((any::<bool>(), "[!#-~]{0,6}"), 0..5), between in "[ \t]{0,2},[ \t]{0,2},?", changes in changes()
    ) {
        let tags: Vec<String> =
            tags.iter().map(|(weak, text)| format!("{}\"{text}\"", if *weak { "W/" } else { "" })).collect();
        let line = tags.join(&between);
        prop_assert_eq!(entity_tag::list(&line), tags);
        fuzz::entity_tag::check(changed(&line, &changes).as_bytes());
    }
}

fn resources() -> impl Strategy<Value = Resource> {
    let last = "[a-zA-Z0-9_.:-]{1,12}";
    prop_oneof![
        Just(Resource::Tags),
        Just(Resource::Uploads),
        last.prop_map(Resource::Manifest),
        last.prop_map(Resource::Blob)
            .prop_filter("that is another resource", |blob| *blob != Resource::Blob("uploads".into())),
        last.prop_map(Resource::Upload),
        last.prop_map(Resource::Referrers),
    ]
}

proptest! {
    #[test]
    fn paths_are_read_and_changed_ones_judged(name in names(), resource in resources(), changes in changes()) {
        let tail = match &resource {
            Resource::Tags => "tags/list".to_owned(),
            Resource::Manifest(reference) => format!("manifests/{reference}"),
            Resource::Blob(digest) => format!("blobs/{digest}"),
            Resource::Upload(id) => format!("blobs/uploads/{id}"),
            Resource::Referrers(digest) => format!("referrers/{digest}"),
            _ => "blobs/uploads/".to_owned(),
        };
        let path = format!("/v2/{name}/{tail}");
        prop_assert_eq!(path::parse(&path), Some(path::Path { name: Some(name), resource: resource.clone() }));
        fuzz::path::check(path.as_bytes());
        fuzz::path::check(changed(&path, &changes).as_bytes());
    }
}

/// A manifest's facts, with what its body is made of.
#[derive(Clone, Debug)]
struct Made {
    content_type: &'static str,
    body: Value,
    facts: Manifest,
}

fn children(is_index: bool) -> impl Strategy<Value = Vec<Child>> {
    let child = (digests(), 0..=u64::MAX / 2, any::<bool>());
    prop::collection::btree_map(any::<[u8; 4]>(), child, 1..6).prop_map(move |children| {
        let child =
            |(digest, size, foreign)| Child { digest, size, exempt: foreign && !is_index, may_be_manifest: is_index };
        children.into_values().map(child).collect()
    })
}

fn manifests() -> impl Strategy<Value = Made> {
    let kind = prop::sample::select(vec![
        (media_type::OCI_MANIFEST, false),
        (media_type::DOCKER_MANIFEST, false),
        (media_type::OCI_INDEX, true),
        (media_type::DOCKER_LIST, true),
    ]);
    let annotations = prop::option::of(prop::collection::btree_map("\\PC{0,6}", "\\PC{0,6}", 0..4));
    let texts = (prop::option::of("[a-z/+.]{1,12}"), annotations, any::<bool>());
    (kind.prop_flat_map(|kind| (Just(kind), children(kind.1))), prop::option::of(digests()), texts).prop_map(
        |(((content_type, is_index), children), subject, (artifact_type, annotations, body_says))| {
            let descriptor = |child: &Child| {
                let mut descriptor = json!({ "digest": child.digest.to_string(), "size": child.size, "data": "e30=" });
                if child.exempt {
                    descriptor["urls"] = json!(["https://example.com/"]);
                    descriptor["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
                }
                descriptor
            };
            let mut descriptors: Vec<Value> = children.iter().map(descriptor).collect();
            let mut body = json!({ "schemaVersion": 2, "unknown": { "layers": [[]] } });
            let mut derived = None;
            if is_index {
                body["manifests"] = Value::Array(descriptors);
            } else {
                body["config"] = descriptors.remove(0);
                derived = body["config"]["mediaType"].as_str().map(str::to_owned);
                // The first layer a second time says nothing new.
                descriptors.extend(descriptors.first().cloned());
                body["layers"] = Value::Array(descriptors);
            }
            if body_says {
                body["mediaType"] = json!(content_type);
            }
            for (field, value) in [
                ("subject", subject.map(|digest| json!({ "digest": digest.to_string(), "size": 1, "mediaType": "x" }))),
                ("artifactType", artifact_type.as_ref().map(|text| json!(text))),
                ("annotations", annotations.as_ref().map(|pairs| json!(pairs))),
            ] {
                if let Some(value) = value {
                    body[field] = value;
                }
            }
            let facts = Manifest {
                media_type: content_type.to_owned(),
                children,
                subject,
                artifact_type: artifact_type.or(derived),
                annotations: annotations.unwrap_or_default().into_iter().collect(),
            };
            Made { content_type, body, facts }
        },
    )
}

/// Pointers to every value inside of a value, itself included.
fn places(value: &Value, pointer: &str, into: &mut Vec<String>) {
    into.push(pointer.to_owned());
    let inside: Vec<(String, &Value)> = match value {
        Value::Array(elements) => elements.iter().enumerate().map(|(at, element)| (at.to_string(), element)).collect(),
        Value::Object(members) => members.iter().map(|(key, member)| (key.clone(), member)).collect(),
        _ => Vec::new(),
    };
    for (key, inner) in inside {
        places(inner, &format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")), into);
    }
}

proptest! {
    #[test]
    fn manifests_are_read_and_changed_ones_judged(made in manifests(), pretty in any::<bool>(), changes in changes()) {
        let Made { content_type, body, facts } = made;
        let text = if pretty { serde_json::to_string_pretty(&body).expect("JSON") } else { body.to_string() };
        prop_assert_eq!(manifest::parse(text.as_bytes(), Some(content_type)), Ok(facts));
        fuzz::manifest::check(format!("{content_type}\n{text}").as_bytes());
        fuzz::manifest::check(format!("{content_type}\n{}", changed(&text, &changes)).as_bytes());
        fuzz::manifest::check(changed(&format!("{content_type}; a=b\n{text}"), &changes).as_bytes());
    }

    #[test]
    fn manifests_with_another_value_somewhere_are_judged(
        made in manifests(), at in any::<Index>(),
        value in prop::sample::select(vec![
            "null", "[]", "{}", "0", "2", "-1", "2.0", "18446744073709551616", "\"\"", "\"sha256:ab\"", "true", "[null]", "[[]]",
            "[{\"digest\":\"sha256:ab\",\"size\":1}]", "{\"digest\":\"\",\"size\":0}",
            // A descriptor's values in their order, without their names: JSON readers that fill records take it.
            "[null,\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",1,null]",
        ])
    ) {
        let mut body = made.body;
        let mut pointers = Vec::new();
        places(&body, "", &mut pointers);
        let place = pointers.swap_remove(at.index(pointers.len()));
        *body.pointer_mut(&place).expect("it was found there") = serde_json::from_str(value).expect("JSON");
        fuzz::manifest::check(format!("{}\n{body}", made.content_type).as_bytes());
    }
}

#[test]
fn the_number_of_children_is_bounded() {
    let descriptor = |at: usize| format!("{{\"digest\":\"sha256:{at:064x}\",\"size\":{at}}}");
    for count in MANIFEST_CHILDREN_MAX - 1..=MANIFEST_CHILDREN_MAX + 1 {
        let listed: Vec<String> = (1..=count).map(descriptor).collect();
        let listed = listed.join(",");
        let index = format!("{{\"schemaVersion\":2,\"manifests\":[{listed}]}}");
        let image = format!("{{\"schemaVersion\":2,\"config\":{},\"layers\":[{listed}]}}", descriptor(0));
        for (content_type, body, children) in
            [(media_type::OCI_INDEX, index, count), (media_type::OCI_MANIFEST, image, count + 1)]
        {
            let read = manifest::parse(body.as_bytes(), Some(content_type));
            assert_eq!(read.is_ok(), children <= MANIFEST_CHILDREN_MAX, "{children} children of {content_type}");
            fuzz::manifest::check(format!("{content_type}\n{body}").as_bytes());
        }
    }
}
