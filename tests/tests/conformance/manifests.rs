//! Rows F1 to F18: manifests that are put and asked for.

use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value, json};
use tests::client::{Answer, Ask, Payload};
use tests::content::sha256;
use tests::image::{INDEX, MANIFEST};

use crate::row::{At, BOTH, CONFIG, Expect, LAYER, Stored, blob, descriptor, image, manifest, rows};

const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Largest manifest. Unit: bytes.
const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Pushes `{}` and a layer, and gives the layer.
async fn blobs(at: &At, repository: &str) -> Bytes {
    let layer = at.bytes(400);
    for algorithm in BOTH {
        at.push(repository, b"{}", algorithm).await;
        at.push(repository, &layer, algorithm).await;
    }
    layer
}

/// Puts a manifest by digest and tag, and reads it back by both.
async fn is_stored(at: &At, repository: &str, stored: &Stored) {
    for (reference, digest) in [(stored.digest.as_str(), stored.digest.clone()), ("a-tag", sha256(&stored.body))] {
        let answer = at.put(repository, reference, stored.kind, &stored.body).await.created(&digest);
        for path in [answer.location(), manifest(repository, reference)] {
            let got = at.get(path).await.is(200).has("content-type", stored.kind);
            let got = got.has("content-length", stored.body.len().to_string()).has("docker-content-digest", &digest);
            assert_eq!(got.body, stored.body);
        }
    }
}

/// Each of these digests is named by an entry of its own.
fn names_each(answer: &Answer, missing: &[String]) {
    let body: Value = serde_json::from_slice(&answer.body).expect("an error is JSON");
    let errors = body["errors"].as_array().expect("`errors` is a list");
    assert_eq!(errors.len(), missing.len(), "{body}");
    for digest in missing {
        assert!(errors.iter().any(|entry| entry.to_string().contains(digest)), "{digest} is not named: {body}");
    }
    assert!(errors.iter().all(|entry| entry["code"] == "MANIFEST_BLOB_UNKNOWN"), "{body}");
}

/// A manifest of exactly `len` bytes.
fn sized(layer: &[u8], len: usize) -> Bytes {
    let body = |pad: usize| image(BOTH[0], b"{}", &[(LAYER, layer)], &json!({"annotations": {"pad": "x".repeat(pad)}}));
    let pad = len - body(0).len();
    let body = body(pad);
    assert_eq!(body.len(), len);
    body
}

rows! {
    async fn f01_put_by_digest_and_by_tag_without_a_length(at) {
        let repository = at.repository();
        let layer = blobs(&at, &repository).await;
        let body = image(BOTH[0], b"{}", &[(LAYER, &layer)], &json!({}));
        is_stored(&at, &repository, &Stored::new(MANIFEST, body, BOTH[0])).await;
    }

    async fn f02_get_with_two_accept_lines(at) {
        for algorithm in BOTH {
            let repository = at.repository();
            let image = at.image(&repository, algorithm).await;
            let index = Stored::index(algorithm, &[&image], &json!({}));
            at.store(&repository, &index).await;
            for stored in [image, index] {
                at.tag(&repository, "v1", &stored).await;
                for (reference, digest) in [("v1", &sha256(&stored.body)), (&stored.digest, &stored.digest)] {
                    let ask = Ask::new(Method::GET, manifest(&repository, reference));
                    let answer = at.send(ask.header("accept", INDEX).header("accept", MANIFEST)).await.is(200);
                    let answer = answer.has("content-type", stored.kind).has("docker-content-digest", digest);
                    let answer = answer.has("content-length", stored.body.len().to_string());
                    assert_eq!(answer.body, stored.body);
                }
            }
        }
    }

    async fn f03_head_has_the_same_headers(at) {
        for algorithm in BOTH {
            let repository = at.repository();
            let image = at.image(&repository, algorithm).await;
            let index = Stored::index(algorithm, &[&image], &json!({}));
            at.store(&repository, &index).await;
            for stored in [image, index] {
                at.tag(&repository, "v1", &stored).await;
                for (reference, digest) in [("v1", &sha256(&stored.body)), (&stored.digest, &stored.digest)] {
                    let ask = Ask::new(Method::HEAD, manifest(&repository, reference));
                    let answer = at.send(ask.header("accept", INDEX).header("accept", MANIFEST)).await.is(200);
                    let answer = answer.has("content-type", stored.kind).has("docker-content-digest", digest);
                    let answer = answer.has("content-length", stored.body.len().to_string());
                    assert!(answer.body.is_empty());
                }
            }
        }
    }

    async fn f04_plain_layers(at) {
        let repository = at.repository();
        let layer = blobs(&at, &repository).await;
        let body = image(BOTH[0], b"{}", &[("application/vnd.oci.image.layer.v1.tar", &layer)], &json!({}));
        is_stored(&at, &repository, &Stored::new(MANIFEST, body, BOTH[0])).await;
    }

    async fn f04_no_layers(at) {
        let repository = at.repository();
        blobs(&at, &repository).await;
        is_stored(&at, &repository, &Stored::new(MANIFEST, image(BOTH[0], b"{}", &[], &json!({})), BOTH[0])).await;
    }

    async fn f04_inline_data(at) {
        let repository = at.repository();
        let layer = blobs(&at, &repository).await;
        let inline = |kind: &str, bytes: &[u8], data: &str| {
            let mut descriptor = descriptor(BOTH[0], kind, bytes);
            descriptor["data"] = json!(data);
            descriptor
        };
        at.push(&repository, b"hello world", BOTH[0]).await;
        let config = inline(CONFIG, b"{}", "e30=");
        let layers = json!([
            inline(LAYER, b"hello world", "aGVsbG8gd29ybGQ="),
            descriptor(BOTH[0], LAYER, &layer),
            inline(LAYER, b"{}", "e30="),
        ]);
        for more in [json!({"config": config}), json!({"layers": layers}), json!({"config": config, "layers": layers})] {
            let body = image(BOTH[0], b"{}", &[(LAYER, &layer)], &more);
            is_stored(&at, &repository, &Stored::new(MANIFEST, body, BOTH[0])).await;
        }
        // Data in a descriptor stands for no blob: what it names has to be there.
        let layers = json!([inline(LAYER, b"not pushed", "bm90IHB1c2hlZA==")]);
        let body = image(BOTH[0], b"{}", &[], &json!({"layers": layers}));
        at.put(&repository, "v1", MANIFEST, &body).await.refused(400, "MANIFEST_BLOB_UNKNOWN");
    }

    async fn f04_layers_that_may_not_be_distributed(at) {
        let repository = at.repository();
        let layer = blobs(&at, &repository).await;
        let foreign = |kind: &str, bytes: &[u8]| {
            let mut foreign = descriptor(BOTH[0], kind, bytes);
            foreign["urls"] = json!(["https://example.com/layer"]);
            foreign
        };
        let layers = json!({"layers": [
            foreign("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", b"never pushed"),
            foreign("application/vnd.oci.image.layer.nondistributable.v1.tar", b"nor this"),
            descriptor(BOTH[0], LAYER, &layer),
        ]});
        let body = image(BOTH[0], b"{}", &[], &layers);
        is_stored(&at, &repository, &Stored::new(MANIFEST, body, BOTH[0])).await;
    }

    async fn f05_unknown_fields_are_kept(at) {
        let repository = at.repository();
        let layer = blobs(&at, &repository).await;
        let unknown = json!({"org.example.field": {"deep": [1, null, "x"]}, "another": 7});
        let config = json!({"architecture": "amd64", "os": "linux", "org.example.unknown": [unknown]}).to_string();
        let digest = at.push(&repository, config.as_bytes(), BOTH[0]).await;
        assert_eq!(at.get(blob(&repository, &digest)).await.is(200).body, config);
        let stored = Stored::new(MANIFEST, image(BOTH[0], config.as_bytes(), &[(LAYER, &layer)], &unknown), BOTH[0]);
        is_stored(&at, &repository, &stored).await;
        is_stored(&at, &repository, &Stored::index(BOTH[0], &[&stored], &unknown)).await;
    }

    async fn f06_an_index_of_two_images(at) {
        let repository = at.repository();
        let (one, other) = (at.image(&repository, BOTH[0]).await, at.image(&repository, BOTH[0]).await);
        let platform = |stored: &Stored, architecture: &str| {
            let mut entry = stored.descriptor();
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
            entry
        };
        let children = json!({"manifests": [platform(&one, "amd64"), platform(&other, "arm64")]});
        is_stored(&at, &repository, &Stored::index(BOTH[0], &[], &children)).await;
    }

    async fn f06_an_index_of_indexes(at) {
        let repository = at.repository();
        let one = at.image(&repository, BOTH[0]).await;
        let first = Stored::index(BOTH[0], &[&one], &json!({}));
        let second = Stored::index(BOTH[0], &[], &json!({"annotations": {"org.example.which": "second"}}));
        at.store(&repository, &first).await;
        at.store(&repository, &second).await;
        is_stored(&at, &repository, &Stored::index(BOTH[0], &[&first, &second], &json!({}))).await;
    }

    async fn f06_an_empty_index(at) {
        let repository = at.repository();
        is_stored(&at, &repository, &Stored::index(BOTH[0], &[], &json!({}))).await;
    }

    async fn f07_an_artifact(at) {
        let repository = at.repository();
        let layer = blobs(&at, &repository).await;
        let more = json!({"artifactType": "application/vnd.example.thing", "config": descriptor(BOTH[0], EMPTY, b"{}")});
        let body = image(BOTH[0], b"{}", &[("application/vnd.example.unknown", &layer)], &more);
        is_stored(&at, &repository, &Stored::new(MANIFEST, body, BOTH[0])).await;
    }

    async fn f07_an_artifact_of_nothing_but_the_empty_object(at) {
        let repository = at.repository();
        blobs(&at, &repository).await;
        let more = json!({"artifactType": "application/vnd.example.thing", "config": descriptor(BOTH[0], EMPTY, b"{}")});
        let stored = Stored::new(MANIFEST, image(BOTH[0], b"{}", &[(EMPTY, b"{}")], &more), BOTH[0]);
        is_stored(&at, &repository, &stored).await;
        let of = json!({"artifactType": "application/vnd.example.things"});
        is_stored(&at, &repository, &Stored::index(BOTH[0], &[&stored], &of)).await;
    }

    async fn f07_an_index_of_artifacts(at) {
        let repository = at.repository();
        let layer = blobs(&at, &repository).await;
        let artifact = |kind: &str, layer: &[u8]| {
            let more = json!({"artifactType": kind, "config": descriptor(BOTH[0], EMPTY, b"{}")});
            let body = image(BOTH[0], b"{}", &[("application/vnd.example.unknown", layer)], &more);
            Stored::new(MANIFEST, body, BOTH[0])
        };
        let children = [artifact("application/vnd.example.one", &layer), artifact("application/vnd.example.two", b"{}")];
        for child in &children {
            at.store(&repository, child).await;
        }
        is_stored(&at, &repository, &Stored::index(BOTH[0], &[&children[0], &children[1]], &json!({}))).await;
    }

    async fn f08_a_manifest_of_almost_four_megabytes(at) {
        let repository = at.repository();
        let layer = blobs(&at, &repository).await;
        // Each region takes one: one of them leads, the others hand it on.
        for region in at.clients() {
            let tag = format!("at-{}", region.address().replace(':', "-"));
            let annotations: Map<String, Value> =
                (0..390).map(|number| (format!("org.example.{tag}.{number}"), "x".repeat(10_000).into())).collect();
            let body = image(BOTH[0], b"{}", &[(LAYER, &layer)], &json!({"annotations": annotations}));
            let digest = sha256(&body);
            for reference in [&digest, &tag] {
                let ask = at.putting(&repository, reference, MANIFEST, &body);
                let answer = region.send(ask).await.expect("the region answers").created(&digest);
                at.is_at_location(&answer, &body).await;
            }
            for reference in [&tag, &digest] {
                let path = manifest(&repository, reference);
                let head = at.head(&path).await.is(200).has("docker-content-digest", &digest);
                assert!(head.has("content-length", body.len().to_string()).body.is_empty());
                assert_eq!(at.get(&path).await.is(200).body, body);
                region.send(Ask::new(Method::DELETE, &path)).await.expect("the region answers").is(202);
                at.is_gone(&path).await;
            }
        }
    }

    async fn f09_a_subject_may_be_absent(at) {
        let repository = at.repository();
        let layer = blobs(&at, &repository).await;
        for algorithm in BOTH {
            let absent = algorithm.of(b"nobody has this");
            let subject = descriptor(algorithm, MANIFEST, b"nobody has this");
            let body = image(BOTH[0], b"{}", &[(LAYER, &layer)], &json!({"subject": subject}));
            for reference in ["v1", &sha256(&body)] {
                let answer = at.put(&repository, reference, MANIFEST, &body).await.created(&sha256(&body));
                let answer = answer.has("oci-subject", &absent);
                at.is_at_location(&answer, &body).await;
            }
            at.get(manifest(&repository, &absent)).await.refused(404, "MANIFEST_UNKNOWN");
        }
    }

    async fn f10_sha512_throughout(at) {
        let repository = at.repository();
        let one = at.image(&repository, BOTH[1]).await;
        let other = at.image(&repository, BOTH[1]).await;
        let index = Stored::index(BOTH[1], &[&one, &other], &json!({}));
        let answer = at.store(&repository, &index).await;
        at.is_at_location(&answer, &index.body).await;
        for stored in [one, other, index] {
            let answer = at.get(manifest(&repository, &stored.digest)).await.is(200);
            let answer = answer.has("docker-content-digest", &stored.digest).has("content-type", stored.kind);
            assert_eq!(answer.body, stored.body);
            at.head(manifest(&repository, &stored.digest)).await.is(200).has("docker-content-digest", &stored.digest);
        }
    }

    async fn f11_a_sparse_image_is_stored_where_the_policy_says_so(at) {
        let repository = at.sparse_repository();
        let layer = blobs(&at, &repository).await;
        let body = image(BOTH[0], b"{}", &[(LAYER, &layer), (LAYER, b"never pushed")], &json!({}));
        is_stored(&at, &repository, &Stored::new(MANIFEST, body, BOTH[0])).await;
    }

    async fn f11_a_sparse_index_is_stored_where_the_policy_says_so(at) {
        let repository = at.sparse_repository();
        let here = at.image(&repository, BOTH[0]).await;
        let missing = Stored::new(MANIFEST, Bytes::from_static(b"{\"never\":\"pushed\"}"), BOTH[0]);
        is_stored(&at, &repository, &Stored::index(BOTH[0], &[&here, &missing], &json!({}))).await;
    }

    async fn f11_what_was_missing_may_come_later(at) {
        let repository = at.sparse_repository();
        let layer = blobs(&at, &repository).await;
        let late = at.bytes(300);
        let body = image(BOTH[0], b"{}", &[(LAYER, &layer), (LAYER, &late)], &json!({}));
        is_stored(&at, &repository, &Stored::new(MANIFEST, body, BOTH[0])).await;
        let path = blob(&repository, &sha256(&late));
        at.get(&path).await.refused(404, "BLOB_UNKNOWN");
        at.push(&repository, &late, BOTH[0]).await;
        assert_eq!(at.get(&path).await.is(200).body, late);
    }

    async fn f12_a_sparse_image_is_refused_elsewhere(at) {
        for algorithm in BOTH {
            let repository = at.repository();
            let layer = blobs(&at, &repository).await;
            let missing: [&[u8]; 3] = [b"never pushed", b"nor this", b"{\"no\":\"config\"}"];
            let layers = [(LAYER, &layer[..]), (LAYER, missing[0]), (LAYER, missing[1])];
            let body = image(algorithm, missing[2], &layers, &json!({}));
            let named = missing.map(|bytes| algorithm.of(bytes));
            for reference in ["v1", &algorithm.of(&body)] {
                let answer = at.put(&repository, reference, MANIFEST, &body).await;
                names_each(&answer.refused(400, "MANIFEST_BLOB_UNKNOWN"), &named);
                at.get(manifest(&repository, reference)).await.refused(404, "MANIFEST_UNKNOWN");
            }
        }
    }

    async fn f12_a_sparse_index_is_refused_elsewhere(at) {
        for algorithm in BOTH {
            let repository = at.repository();
            let here = at.image(&repository, algorithm).await;
            let missing = Stored::new(MANIFEST, Bytes::from_static(b"{\"never\":\"pushed\"}"), algorithm);
            let index = Stored::index(algorithm, &[&here, &missing], &json!({}));
            for reference in ["v1", &index.digest] {
                let answer = at.put(&repository, reference, INDEX, &index.body).await;
                names_each(&answer.refused(400, "MANIFEST_BLOB_UNKNOWN"), std::slice::from_ref(&missing.digest));
                at.get(manifest(&repository, reference)).await.refused(404, "MANIFEST_UNKNOWN");
            }
        }
    }

    async fn f13_a_body_of_another_digest_is_400(at) {
        for algorithm in BOTH {
            let repository = at.repository();
            let layer = blobs(&at, &repository).await;
            let body = image(algorithm, b"{}", &[(LAYER, &layer)], &json!({}));
            let longer = [&body[..], b"  "].concat();
            let digest = algorithm.of(&body);
            at.put(&repository, &digest, MANIFEST, &longer).await.refused(400, "DIGEST_INVALID");
            for digest in [digest, algorithm.of(&longer), sha256(&longer)] {
                at.get(manifest(&repository, &digest)).await.refused(404, "MANIFEST_UNKNOWN");
            }
        }
    }

    async fn f14_a_malformed_digest_is_400(at) {
        let repository = at.repository();
        let stored = at.image(&repository, BOTH[0]).await;
        at.put(&repository, "sha256:baddigeststring", MANIFEST, &stored.body).await.refused(400, "DIGEST_INVALID");
        let answer = at.get(manifest(&repository, "sha256:baddigeststring")).await;
        assert!([400, 404].contains(&answer.status.as_u16()), "{}", answer.status);
    }

    async fn f15_what_is_unknown_is_404(at) {
        let repository = at.repository();
        at.get(manifest(&repository, "v1")).await.refused(404, "NAME_UNKNOWN");
        at.image(&repository, BOTH[0]).await;
        at.get(manifest(&repository, &sha256(b"unknown"))).await.refused(404, "MANIFEST_UNKNOWN");
        at.get(manifest(&repository, "v1")).await.refused(404, "MANIFEST_UNKNOWN");
    }

    async fn f16_exactly_four_mebibytes_are_stored(at) {
        let repository = at.repository();
        let layer = blobs(&at, &repository).await;
        let body = sized(&layer, MANIFEST_BYTES_MAX);
        let answer = at.put(&repository, "v1", MANIFEST, &body).await.created(&sha256(&body));
        at.is_at_location(&answer, &body).await;
    }

    async fn f16_one_byte_more_is_413(at) {
        let repository = at.repository();
        let layer = blobs(&at, &repository).await;
        let body = sized(&layer, MANIFEST_BYTES_MAX + 1);
        at.put(&repository, "v1", MANIFEST, &body).await.refused(413, "MANIFEST_INVALID");
        let ask = Ask::new(Method::PUT, manifest(&repository, "v1")).header("content-type", MANIFEST);
        at.send(ask.payload(Payload::Given(body))).await.refused(413, "MANIFEST_INVALID");
        at.get(manifest(&repository, "v1")).await.refused(404, "MANIFEST_UNKNOWN");
    }

    async fn f16_what_is_too_large_is_413_without_reading_on(at) {
        let repository = at.repository();
        let layer = blobs(&at, &repository).await;
        let ask = Ask::new(Method::PUT, manifest(&repository, "v1")).header("content-type", MANIFEST);
        let endless = sized(&layer, MANIFEST_BYTES_MAX + 1);
        at.send_endless(ask.clone(), endless).await.refused(413, "MANIFEST_INVALID");
        // The length alone tells it: nothing of the body is waited for.
        let announced = ask.header("content-length", (MANIFEST_BYTES_MAX + 1).to_string());
        at.send_endless(announced, Bytes::from_static(b"{")).await.refused(413, "MANIFEST_INVALID");
    }

    async fn f17_what_is_no_manifest_is_400(at) {
        let repository = at.repository();
        let stored = at.image(&repository, BOTH[0]).await;
        let schema_1 = json!({"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": []}).to_string();
        let cases: [(&str, &[u8]); 7] = [
            (MANIFEST, b"no JSON"),
            (MANIFEST, b""),
            (MANIFEST, &stored.body[..stored.body.len() - 3]),
            (INDEX, &stored.body),
            (DOCKER_IMAGE, &stored.body),
            (SCHEMA_1, schema_1.as_bytes()),
            ("text/plain", b"{\"schemaVersion\":2}"),
        ];
        for (kind, body) in cases {
            at.put(&repository, "v1", kind, body).await.refused(400, "MANIFEST_INVALID");
        }
        at.get(manifest(&repository, "v1")).await.refused(404, "MANIFEST_UNKNOWN");
    }

    async fn f17_schema_1_is_refused_with_a_clear_text(at) {
        let repository = at.repository();
        at.push(&repository, b"{}", BOTH[0]).await;
        let body = json!({"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": []}).to_string();
        for kind in [SCHEMA_1, "application/vnd.docker.distribution.manifest.v1+json", DOCKER_IMAGE] {
            let answer = at.put(&repository, "v1", kind, body.as_bytes()).await.refused(400, "MANIFEST_INVALID");
            assert!(answer.text().contains("schema 1"), "{}", answer.text());
        }
    }

    async fn f17_parameters_of_a_type_are_not_stored(at) {
        let repository = at.repository();
        let stored = at.image(&repository, BOTH[0]).await;
        let kind = format!("{MANIFEST}; charset=utf-8");
        let fresh = at.repository();
        at.push(&fresh, b"{}", BOTH[0]).await;
        let body = image(BOTH[0], b"{}", &[], &json!({}));
        at.put(&fresh, "v1", &kind, &body).await.created(&sha256(&body));
        at.get(manifest(&fresh, "v1")).await.is(200).has("content-type", MANIFEST);
        // Also where the digest was stored before.
        at.put(&repository, "v1", &kind, &stored.body).await.created(&stored.digest);
        at.get(manifest(&repository, "v1")).await.is(200).has("content-type", MANIFEST);
    }

    async fn f18_docker_types(at) {
        let repository = at.repository();
        let layer = blobs(&at, &repository).await;
        let docker = image(BOTH[0], b"{}", &[(LAYER, &layer)], &json!({"mediaType": DOCKER_IMAGE}));
        let docker = Stored::new(DOCKER_IMAGE, docker, BOTH[0]);
        is_stored(&at, &repository, &docker).await;
        let list = json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [docker.descriptor()]});
        is_stored(&at, &repository, &Stored::new(DOCKER_LIST, Bytes::from(list.to_string()), BOTH[0])).await;
    }

    async fn f18_zstd_layers(at) {
        let repository = at.repository();
        let layer = blobs(&at, &repository).await;
        let kind = "application/vnd.oci.image.layer.v1.tar+zstd";
        let body = image(BOTH[0], b"{}", &[(kind, &layer)], &json!({}));
        is_stored(&at, &repository, &Stored::new(MANIFEST, body, BOTH[0])).await;
    }

    async fn f18_a_build_cache_whose_children_are_blobs(at) {
        let repository = at.repository();
        let layer = blobs(&at, &repository).await;
        let children = json!({"manifests": [
            descriptor(BOTH[0], LAYER, &layer),
            descriptor(BOTH[0], "application/vnd.buildkit.cacheconfig.v0", b"{}"),
        ]});
        is_stored(&at, &repository, &Stored::index(BOTH[0], &[], &children)).await;
        at.delete(blob(&repository, &sha256(&layer))).await.refused(405, "DENIED");
    }

    async fn f18_any_type_is_accepted_back(at) {
        let repository = at.repository();
        let stored = at.image(&repository, BOTH[0]).await;
        let ask = Ask::new(Method::GET, manifest(&repository, &stored.digest));
        at.send(ask.clone().header("accept", "*/*")).await.is(200).has("content-type", MANIFEST);
        at.send(ask.header("accept", "text/html")).await.is(200).has("content-type", MANIFEST);
    }
}
