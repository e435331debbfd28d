use proptest::prelude::*;

use super::*;

const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";

fn config() -> String {
    format!(r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{A}","size":2}}"#)
}

fn image(extra: &str, layers: &str) -> String {
    format!(r#"{{"schemaVersion":2{extra},"config":{},"layers":{layers}}}"#, config())
}

fn layer(digest: &str, extra: &str) -> String {
    format!(r#"{{"mediaType":"{FOREIGN}","digest":"{digest}","size":7{extra}}}"#)
}

fn read(body: &str, header: &str) -> Result<Manifest, Error> {
    parse(body.as_bytes(), Some(header))
}

#[test]
fn every_type_is_read_and_parameters_are_dropped() {
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{B}","size":1}}],"x":{{"y":[1]}}}}"#);
    for (body, kind) in [
        (image("", "[]"), OCI_MANIFEST),
        (image("", "[]"), DOCKER_MANIFEST),
        (index.clone(), OCI_INDEX),
        (index, DOCKER_LIST),
    ] {
        let manifest = read(&body, &format!("{kind}; charset=utf-8")).expect(kind);
        assert_eq!(manifest.media_type, kind);
        assert_eq!(manifest.children.len(), 1);
        assert_eq!(manifest.children[0].may_be_manifest, kind == OCI_INDEX || kind == DOCKER_LIST);
    }
}

#[test]
fn the_body_decides_without_a_header_and_must_agree_with_one() {
    let body = image(&format!(r#","mediaType":"{OCI_MANIFEST}""#), "[]");
    assert_eq!(parse(body.as_bytes(), None).map(|m| m.media_type), Ok(OCI_MANIFEST.to_owned()));
    assert!(matches!(read(&body, DOCKER_MANIFEST), Err(Error::TypesDiffer { .. })));
    assert!(matches!(parse(image("", "[]").as_bytes(), None), Err(Error::NoType)));
    assert!(matches!(read(&image("", "[]"), "application/json"), Err(Error::Type { .. })));
    let foreign = image(r#","mediaType":"text/plain""#, "[]");
    assert!(matches!(parse(foreign.as_bytes(), None), Err(Error::Type { .. })));
}

#[test]
fn schema_1_is_refused_by_its_name() {
    let body = r#"{"schemaVersion":1,"fsLayers":[]}"#;
    for kind in [DOCKER_MANIFEST, OCI_MANIFEST, DOCKER_SCHEMA_1, DOCKER_SCHEMA_1_SIGNED] {
        assert_eq!(read(body, kind), Err(Error::Schema1), "{kind}");
    }
    assert_eq!(parse(body.as_bytes(), None), Err(Error::Schema1));
}

#[test]
fn malformed_documents_are_refused() {
    let deep = format!(r#"{{"schemaVersion":2,"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let many = format!("[{}]", vec![layer(B, ""); MANIFEST_CHILDREN_MAX + 1].join(","));
    let index_type = OCI_INDEX;
    for (body, header) in [
        (String::new(), OCI_MANIFEST),
        ("null".to_owned(), OCI_MANIFEST),
        ("[]".to_owned(), OCI_MANIFEST),
        ("{}".to_owned(), OCI_MANIFEST),
        (r#"{"schemaVersion":2}"#.to_owned(), OCI_MANIFEST),
        (r#"{"schemaVersion":2}"#.to_owned(), index_type),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), DOCKER_MANIFEST),
        (r#"{"schemaVersion":"2","manifests":[]}"#.to_owned(), index_type),
        (r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#.to_owned(), index_type),
        (image(r#","manifests":[]"#, "[]"), OCI_MANIFEST),
        (image(r#","config":null"#, "[]"), OCI_MANIFEST),
        (image("", "[]")[..40].to_owned(), OCI_MANIFEST),
        (image("", "[]") + "x", OCI_MANIFEST),
        (image("", "{}"), OCI_MANIFEST),
        (image("", r#"[{"digest":"sha256:no","size":1}]"#), OCI_MANIFEST),
        (image("", &format!(r#"[{{"digest":"{B}","size":-1}}]"#)), OCI_MANIFEST),
        (image("", &format!(r#"[{{"digest":"{B}"}}]"#)), OCI_MANIFEST),
        (image("", &many), OCI_MANIFEST),
        (image(r#","annotations":{"a":1}"#, "[]"), OCI_MANIFEST),
        (deep, OCI_MANIFEST),
    ] {
        assert!(read(&body, header).is_err(), "{}", clip(&body));
    }
    let full = |count: usize| {
        let layers: Vec<String> = (0..count).map(|i| layer(&format!("sha256:{i:064x}"), "")).collect();
        read(&image("", &format!("[{}]", layers.join(","))), OCI_MANIFEST).map(|manifest| manifest.children.len())
    };
    assert_eq!(full(MANIFEST_CHILDREN_MAX - 1), Ok(MANIFEST_CHILDREN_MAX));
    assert_eq!(full(MANIFEST_CHILDREN_MAX), Err(Error::TooManyChildren));
    let large = vec![b' '; MANIFEST_BYTES_MAX + 1];
    assert_eq!(parse(&large, Some(OCI_MANIFEST)), Err(Error::TooLarge { given: MANIFEST_BYTES_MAX + 1 }));
}

#[test]
fn values_without_names_are_no_descriptor() {
    let unnamed = format!(r#"[null,"{B}",1,null]"#);
    assert!(matches!(read(&image("", &format!("[{unnamed}]")), OCI_MANIFEST), Err(Error::Json { .. })));
    assert!(matches!(read(&image(&format!(r#","subject":{unnamed}"#), "[]"), OCI_MANIFEST), Err(Error::Json { .. })));
    assert!(matches!(read("[2,null,null,null,null,[],null,null,null]", OCI_INDEX), Err(Error::Json { .. })));
    assert!(index_entries(format!(r#"{{"manifests":[["m","{B}",5,null,null]]}}"#).as_bytes()).is_empty());
    assert!(index_entries(format!(r#"[[{{"mediaType":"m","digest":"{B}","size":5}}]]"#).as_bytes()).is_empty());
}

#[test]
fn a_schema_version_that_is_no_number_is_named_and_not_kept() {
    for (value, given) in [
        ("3", "3"),
        ("-2", "a negative number"),
        ("2.0", "a fraction or a large number"),
        ("true", "true or false"),
        ("\"2\"", "a text"),
        ("[[2],{}]", "an array"),
        ("{\"2\":{\"2\":[]}}", "an object"),
        ("null", "missing"),
    ] {
        let body = format!(r#"{{"schemaVersion":{value},"manifests":[]}}"#);
        assert_eq!(read(&body, OCI_INDEX), Err(Error::SchemaVersion { given: given.to_owned() }), "{value}");
    }
}

#[test]
fn go_writes_null_for_an_empty_list() {
    assert!(read(&image("", "null"), OCI_MANIFEST).is_ok());
    assert!(read(r#"{"schemaVersion":2,"manifests":null}"#, OCI_INDEX).is_ok());
}

#[test]
fn foreign_layers_with_urls_need_no_blob_unless_mentioned_plainly_too() {
    let with_urls = layer(B, r#","urls":["https://example.com/l"]"#);
    let exempt = |layers: &str| read(&image("", layers), OCI_MANIFEST).expect("valid").children[1].exempt;
    assert!(exempt(&format!("[{with_urls}]")));
    assert!(!exempt(&format!("[{}]", layer(B, ""))));
    assert!(!exempt(&format!("[{}]", layer(B, r#","urls":[]"#))));
    assert!(!exempt(&format!("[{with_urls},{}]", layer(B, ""))));
}

#[test]
fn children_are_distinct_and_in_order() {
    let body = image("", &format!("[{},{},{}]", layer(B, ""), layer(A, ""), layer(B, "")));
    let manifest = read(&body, OCI_MANIFEST).expect("valid");
    let digests: Vec<String> = manifest.children.iter().map(|child| child.digest.to_string()).collect();
    assert_eq!(digests, [A, B]);
}

#[test]
fn the_artifact_type_is_derived_and_annotations_are_sorted() {
    let extra = format!(
        r#","artifactType":"application/x","subject":{{"mediaType":"m","digest":"{B}","size":1}},"annotations":{{"b":"2","a":"1"}}"#
    );
    let manifest = read(&image(&extra, "[]"), OCI_MANIFEST).expect("valid");
    assert_eq!(manifest.artifact_type.as_deref(), Some("application/x"));
    assert_eq!(manifest.subject.map(|d| d.to_string()).as_deref(), Some(B));
    assert_eq!(manifest.annotations, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
    let derived = read(&image(r#","artifactType":"""#, "[]"), OCI_MANIFEST).expect("valid").artifact_type;
    assert_eq!(derived.as_deref(), Some("application/vnd.oci.image.config.v1+json"));
    let index = read(r#"{"schemaVersion":2,"manifests":[]}"#, OCI_INDEX).expect("valid");
    assert_eq!(index.artifact_type, None);
}

#[test]
fn a_fallback_index_gives_its_entries() {
    let body = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"m","digest":"{B}","size":5,"artifactType":"t","annotations":{{"k":"v"}}}}]}}"#
    );
    let entries = index_entries(body.as_bytes());
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].size, entries[0].artifact_type.as_deref()), (5, Some("t")));
    assert!(index_entries(b"{").is_empty() && index_entries(image("", "[]").as_bytes()).is_empty());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&body, Some(OCI_MANIFEST));
        let _ = index_entries(&body);
    }

    #[test]
    fn no_damage_to_a_manifest_makes_it_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut body = image(r#","annotations":{"a":"b"}"#, &format!("[{}]", layer(B, r#","urls":["u"]"#))).into_bytes();
        let at = at.index(body.len());
        body[at] = byte;
        if cut {
            body.truncate(at);
        }
        if let Ok(manifest) = parse(&body, Some(OCI_MANIFEST)) {
            prop_assert!(manifest.children.len() <= 2);
        }
    }

    #[test]
    fn no_header_makes_it_panic(header in "\\PC{0,60}") {
        let _ = read(&image("", "[]"), &header);
    }
}
