//! Manifests, tags by parameter, deletes.

use serde_json::{Value, json};

use crate::client::Answer;
use crate::rows_blobs::{digest, long_digest, push};
use crate::world::World;

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

pub(crate) fn descriptor(kind: &str, content: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": digest(content), "size": content.len() })
}

/// An image of one layer; its blobs are to be pushed.
pub(crate) fn image(layer: &[u8], more: &Value) -> Vec<u8> {
    let mut image = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor(CONFIG, b"{}"),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+zstd", layer)],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        image[key] = value.clone();
    }
    image.to_string().into_bytes()
}

pub(crate) async fn push_blobs(world: &World, repository: &str, layer: &[u8]) {
    push(world, repository, b"{}", &digest(b"{}")).await;
    push(world, repository, layer, &digest(layer)).await;
}

pub(crate) async fn put(world: &World, repository: &str, reference: &str, kind: &str, body: &[u8]) -> Answer {
    let put = world.ask("PUT", &format!("/v2/{repository}/manifests/{reference}")).header("content-type", kind);
    put.chunked(body.to_vec()).send().await
}

pub(crate) async fn all(world: &World) {
    images(world).await;
    types(world).await;
    subjects_and_sizes(world).await;
    missing_children(world).await;
    malformed(world).await;
    preconditions(world).await;
    tag_parameters(world).await;
    deletes(world).await;
}

async fn images(world: &World) {
    push_blobs(world, "f/one", b"layer").await;
    let body = image(b"layer", &json!({ "org.example.unknown": { "a": [1] } }));
    for reference in [digest(&body), long_digest(&body), "v1".to_owned()] {
        let answer = put(world, "f/one", &reference, &format!("{IMAGE}; charset=utf-8"), &body).await.expect(201);
        let named = if reference == "v1" { digest(&body) } else { reference.clone() };
        let answer = answer.has("docker-content-digest", &named);
        assert!(answer.header("oci-subject").is_none() && answer.header("oci-tag").is_none());
        world.get(&answer.location()).await.expect(200).is(&body).has("content-type", IMAGE);
        let path = format!("/v2/f/one/manifests/{reference}");
        let get = world.ask("GET", &path).header("accept", INDEX).header("accept", "*/*").send().await;
        let get = get.expect(200).is(&body).has("content-type", IMAGE).has("docker-content-digest", &named);
        let get = get.has("content-length", body.len().to_string());
        assert!(get.header("longshore-revision").is_some() && get.header("warning").is_none());
        let head = world.head(&path).await.expect(200).is(b"").has("content-length", body.len().to_string());
        head.has("docker-content-digest", &named).has("content-type", IMAGE);
        let tag = format!("\"{named}\"");
        world.ask("GET", &path).header("if-none-match", tag).send().await.expect(304).is(b"");
    }
    world.get("/v2/f/one/manifests/other").await.error(404, "MANIFEST_UNKNOWN");
    world.head("/v2/f/one/manifests/other").await.error(404, "MANIFEST_UNKNOWN");
    world.get(&format!("/v2/f/one/manifests/{}", digest(b"none"))).await.error(404, "MANIFEST_UNKNOWN");
    world.get("/v2/f/never/manifests/v1").await.error(404, "NAME_UNKNOWN");
    // What was just written can be asked for by its revision, anywhere.
    let stored = put(world, "f/one", "v2", IMAGE, &body).await.expect(201);
    let revision = stored.header("longshore-revision").unwrap().to_owned();
    let get = world.ask("GET", "/v2/f/one/manifests/v2").header("longshore-min-revision", &revision);
    let get = get.header("longshore-consistency", "local").send().await.expect(200);
    assert!(get.header("longshore-revision").unwrap().parse::<u64>().unwrap() >= revision.parse().unwrap());
}

async fn types(world: &World) {
    push_blobs(world, "f/types", b"layer").await;
    let empty = json!({ "schemaVersion": 2, "mediaType": IMAGE, "config": descriptor(CONFIG, b"{}"), "layers": [] });
    put(world, "f/types", "empty", IMAGE, empty.to_string().as_bytes()).await.expect(201);
    let foreign = json!({
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "digest": digest(b"never pushed"), "size": 12, "urls": ["https://example.com/layer"],
    });
    let layers = json!({ "layers": [foreign, descriptor("application/vnd.oci.image.layer.v1.tar", b"layer")] });
    put(world, "f/types", "foreign", IMAGE, &image(b"", &layers)).await.expect(201);
    let docker = image(b"layer", &json!({ "mediaType": DOCKER_IMAGE }));
    put(world, "f/types", "docker", DOCKER_IMAGE, &docker).await.expect(201);
    // Bytes that do not name their type are what the newest push calls them.
    let untyped = image(b"layer", &json!({ "mediaType": null }));
    for kind in [IMAGE, DOCKER_IMAGE, IMAGE] {
        let answer = put(world, "f/types", "untyped", kind, &untyped).await.expect(201);
        world.get(&answer.location()).await.expect(200).has("content-type", kind).is(&untyped);
    }
    put(world, "f/types", "untyped", INDEX, &untyped).await.error(400, "MANIFEST_INVALID");
    let list =
        json!({ "schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [descriptor(DOCKER_IMAGE, &docker)] });
    put(world, "f/types", "list", DOCKER_LIST, list.to_string().as_bytes()).await.expect(201);
    world.get("/v2/f/types/manifests/list").await.expect(200).has("content-type", DOCKER_LIST);
    let index = |children: &Value| json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": children }).to_string();
    let none = index(&json!([]));
    put(world, "f/types", "no-children", INDEX, none.as_bytes()).await.expect(201);
    let nested = index(&json!([descriptor(INDEX, none.as_bytes()), descriptor(IMAGE, empty.to_string().as_bytes())]));
    put(world, "f/types", "nested", INDEX, nested.as_bytes()).await.expect(201);
    // BuildKit's cache names blobs.
    let cache =
        index(&json!([descriptor("application/vnd.buildkit.cacheconfig.v0", b"{}"), descriptor("x/y", b"layer")]));
    put(world, "f/types", "cache", INDEX, cache.as_bytes()).await.expect(201);
    let artifact = json!({ "artifactType": "application/vnd.example", "layers": [descriptor("a/b", b"{}")] });
    put(world, "f/types", "artifact", IMAGE, &image(b"", &artifact)).await.expect(201);
}

async fn subjects_and_sizes(world: &World) {
    push_blobs(world, "f/sizes", b"layer").await;
    let subject = json!({ "subject": descriptor(IMAGE, b"not here") });
    let answer = put(world, "f/sizes", "referrer", IMAGE, &image(b"layer", &subject)).await.expect(201);
    answer.has("oci-subject", digest(b"not here"));
    let annotations: serde_json::Map<String, Value> =
        (0..390).map(|at| (format!("key-{at}"), "x".repeat(10_000).into())).collect();
    let large = image(b"layer", &json!({ "annotations": annotations }));
    assert!(large.len() > 3_900_000);
    let answer = put(world, "f/sizes", "large", IMAGE, &large).await.expect(201);
    world.get(&answer.location()).await.expect(200).is(&large);
    let full = domain::limits::MANIFEST_BYTES_MAX;
    let mut exact = image(b"layer", &json!({ "annotations": { "x": "" } }));
    let at = exact.windows(6).position(|window| window == b"\"x\":\"\"").unwrap() + 5;
    let fill = vec![b'f'; full - exact.len()];
    exact.splice(at..at, fill);
    assert_eq!(exact.len(), full);
    put(world, "f/sizes", "exact", IMAGE, &exact).await.expect(201);
    exact.push(b' ');
    put(world, "f/sizes", "over", IMAGE, &exact).await.error(413, "MANIFEST_INVALID");
    let announced = world.ask("PUT", "/v2/f/sizes/manifests/over").header("content-type", IMAGE).body(exact);
    announced.send().await.error(413, "MANIFEST_INVALID");
    world.get("/v2/f/sizes/manifests/over").await.error(404, "MANIFEST_UNKNOWN");
}

async fn missing_children(world: &World) {
    push(world, "f/strict", b"{}", &digest(b"{}")).await;
    let body = image(b"not pushed", &Value::Null);
    let refused = put(world, "f/strict", "v1", IMAGE, &body).await.error(400, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(refused.json()["errors"][0]["detail"]["digest"], digest(b"not pushed"));
    world.get("/v2/f/strict/manifests/v1").await.error(404, "MANIFEST_UNKNOWN");
    world.policy("f/sparse", true, &[]).await;
    push(world, "f/sparse", b"{}", &digest(b"{}")).await;
    for reference in [digest(&body), "v1".to_owned()] {
        put(world, "f/sparse", &reference, IMAGE, &body).await.expect(201);
        world.get(&format!("/v2/f/sparse/manifests/{reference}")).await.expect(200).is(&body);
    }
    world.head(&format!("/v2/f/sparse/blobs/{}", digest(b"not pushed"))).await.error(404, "BLOB_UNKNOWN");
    push(world, "f/sparse", b"not pushed", &digest(b"not pushed")).await;
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(IMAGE, b"unknown image")] });
    put(world, "f/sparse", "index", INDEX, index.to_string().as_bytes()).await.expect(201);
}

async fn malformed(world: &World) {
    push_blobs(world, "f/bad", b"layer").await;
    let body = image(b"layer", &Value::Null);
    let longer = [body.as_slice(), b"  "].concat();
    put(world, "f/bad", &digest(&body), IMAGE, &longer).await.error(400, "DIGEST_INVALID");
    world.get(&format!("/v2/f/bad/manifests/{}", digest(&body))).await.error(404, "MANIFEST_UNKNOWN");
    world.delete(&format!("/v2/f/bad/manifests/{}", digest(&body))).await.error(404, "MANIFEST_UNKNOWN");
    put(world, "f/bad", "sha256:baddigeststring", IMAGE, &body).await.error(400, "DIGEST_INVALID");
    world.get("/v2/f/bad/manifests/sha256:baddigeststring").await.error(400, "DIGEST_INVALID");
    for (kind, body) in [
        (IMAGE, &b"{"[..]),
        (IMAGE, &b""[..]),
        (IMAGE, &body[..body.len() - 1]),
        (INDEX, &body[..]),
        ("application/vnd.docker.distribution.manifest.v1+json", &b"{\"schemaVersion\":1}"[..]),
        ("text/plain", &body[..]),
    ] {
        put(world, "f/bad", "v1", kind, body).await.error(400, "MANIFEST_INVALID");
    }
    for tag in ["a".repeat(129).as_str(), ".a", "-a"] {
        put(world, "f/bad", tag, IMAGE, &body).await.error(400, "MANIFEST_INVALID");
    }
    push_blobs(world, "x/blobs/manifests/y", b"layer").await;
    put(world, "x/blobs/manifests/y", "v1", IMAGE, &body).await.expect(201);
    world.get("/v2/x/blobs/manifests/y/manifests/v1").await.expect(200).is(&body);
    world.get("/v2/x/blobs/manifests/y/tags/list").await.expect(200);
}

async fn preconditions(world: &World) {
    push_blobs(world, "f/pre", b"layer").await;
    let (one, two) = (image(b"layer", &json!({ "a": 1 })), image(b"layer", &json!({ "a": 2 })));
    let put = |name: &'static str, value: String, body: &Vec<u8>| {
        let put = world.ask("PUT", "/v2/f/pre/manifests/v1").header("content-type", IMAGE);
        put.header(name, value).body(body.clone()).send()
    };
    put("if-match", "*".to_owned(), &one).await.error(412, "DENIED");
    put("if-match", format!("\"{}\"", digest(&one)), &one).await.error(412, "DENIED");
    put("if-none-match", "*".to_owned(), &one).await.expect(201);
    put("if-none-match", "*".to_owned(), &two).await.error(412, "DENIED");
    put("if-match", format!("\"{}\"", digest(&two)), &two).await.error(412, "DENIED");
    put("if-match", format!("\"{}\"", digest(&one)), &two).await.expect(201);
    world.get("/v2/f/pre/manifests/v1").await.expect(200).is(&two);
    put("if-match", "*".to_owned(), &one).await.expect(201);
    world.policy("f/fixed", false, &["v*"]).await;
    push_blobs(world, "f/fixed", b"layer").await;
    crate::rows_manifests::put(world, "f/fixed", "v1", IMAGE, &one).await.expect(201);
    crate::rows_manifests::put(world, "f/fixed", "v1", IMAGE, &one).await.expect(201);
    let refused = crate::rows_manifests::put(world, "f/fixed", "v1", IMAGE, &two).await.error(403, "DENIED");
    assert!(refused.json()["errors"][0]["message"].as_str().unwrap().contains("f/fixed"));
    // T3: one immutable tag, and none is moved.
    let path = format!("f/fixed/manifests/{}?tag=other&tag=v1", digest(&two));
    let put = world.ask("PUT", &format!("/v2/{path}")).header("content-type", IMAGE).body(two);
    put.send().await.error(403, "DENIED");
    world.get("/v2/f/fixed/manifests/other").await.error(404, "MANIFEST_UNKNOWN");
}

/// Whoever asks only that the tag is there is not refused because somebody else moves it.
pub(crate) async fn a_tag_that_moves(world: &World) {
    push_blobs(world, "f/moving", b"layer").await;
    let put = |mine: u32, round: u32| {
        let put = world.ask("PUT", "/v2/f/moving/manifests/v1").header("content-type", IMAGE);
        put.body(image(b"layer", &json!({ "a": mine, "b": round })))
    };
    put(0, 0).send().await.expect(201);
    let writer = async |mine: u32| {
        for round in 0..25 {
            put(mine, round).header("if-match", "*").send().await.expect(201);
        }
    };
    tokio::join!(writer(1), writer(2));
}

/// By the policy `local` the region that takes a manifest must hold its blobs: it waits for them without asking the log
/// again and again.
pub(crate) async fn blobs_of_another_region(world: &World) {
    world.policy("f/local", false, &[]).await;
    let layer = vec![7; 96 << 20];
    push(world, "f/local", b"{}", &digest(b"{}")).await;
    let begun = world.ask_at(0, "POST", "/v2/f/local/blobs/uploads/").send().await.expect(202).location();
    let close = format!("{begun}{}digest={}", if begun.contains('?') { '&' } else { '?' }, digest(&layer));
    world.ask_at(0, "PUT", &close).body(layer.clone()).send().await.expect(201);
    let before = world.applied(0);
    let put = world.ask_at(1, "PUT", "/v2/f/local/manifests/v1").header("content-type", IMAGE);
    put.body(image(&layer, &Value::Null)).send().await.expect(201);
    let entries = world.applied(1).saturating_sub(before);
    println!("{entries} entries until a manifest was accepted whose layer was elsewhere");
    assert!(entries < 16, "{entries} entries");
}

async fn tag_parameters(world: &World) {
    push_blobs(world, "t/one", b"layer").await;
    let body = image(b"layer", &Value::Null);
    let put = |reference: &str, query: &str| {
        let path = format!("/v2/t/one/manifests/{reference}?{query}");
        world.ask("PUT", &path).header("content-type", IMAGE).body(body.clone()).send()
    };
    let named = |answer: &Answer| -> Vec<String> {
        let lines = answer.headers.get_all("oci-tag").iter().map(|value| value.to_str().unwrap());
        lines.flat_map(|line| line.split(", ")).map(str::to_owned).collect()
    };
    for digest in [digest(&body), long_digest(&body)] {
        let answer = put(&digest, "tag=a&tag=b&tag=a").await.expect(201);
        assert_eq!(named(&answer), ["a", "b"]);
        for tag in ["a", "b"] {
            world.head(&format!("/v2/t/one/manifests/{tag}")).await.expect(200).has("docker-content-digest", &digest);
        }
    }
    assert_eq!(world.get("/v2/t/one/tags/list").await.expect(200).json()["tags"], json!(["a", "b"]));
    let answer = put("c", "tag=d").await.expect(201);
    assert!(named(&answer).is_empty());
    world.get("/v2/t/one/manifests/d").await.error(404, "MANIFEST_UNKNOWN");
    let many = |count: usize| (0..count).map(|at| format!("tag=t{at}")).collect::<Vec<_>>().join("&");
    assert_eq!(named(&put(&digest(&body), &many(100)).await.expect(201)).len(), 100);
    put(&digest(&body), &many(101)).await.error(414, "MANIFEST_INVALID");
    put(&digest(&body), "tag=new&tag=.bad").await.error(400, "MANIFEST_INVALID");
    world.get("/v2/t/one/manifests/new").await.error(404, "MANIFEST_UNKNOWN");
    world.delete("/v2/t/one/manifests/a").await.expect(202);
    world.head("/v2/t/one/manifests/a").await.error(404, "MANIFEST_UNKNOWN");
}

async fn deletes(world: &World) {
    let layer = b"layer of deletes";
    for _ in 0..3 {
        push_blobs(world, "d/one", layer).await;
        let body = image(layer, &Value::Null);
        put(world, "d/one", "image", IMAGE, &body).await.expect(201);
        let by_digest = format!("/v2/d/one/manifests/{}", digest(&body));
        let blob = format!("/v2/d/one/blobs/{}", digest(layer));
        world.delete(&blob).await.error(405, "DENIED");
        world.get(&blob).await.expect(200).is(layer);
        world.delete("/v2/d/one/manifests/image").await.expect(202);
        world.head("/v2/d/one/manifests/image").await.error(404, "MANIFEST_UNKNOWN");
        world.delete("/v2/d/one/manifests/image").await.error(404, "MANIFEST_UNKNOWN");
        world.get(&by_digest).await.expect(200).is(&body);
        put(world, "d/one", "image", IMAGE, &body).await.expect(201);
        world.delete(&by_digest).await.expect(202);
        world.get("/v2/d/one/manifests/image").await.error(404, "MANIFEST_UNKNOWN");
        world.delete(&by_digest).await.error(404, "MANIFEST_UNKNOWN");
        assert_eq!(world.get("/v2/d/one/tags/list").await.expect(200).json()["tags"], json!([]));
        world.delete(&blob).await.expect(202);
        world.head(&blob).await.error(404, "BLOB_UNKNOWN");
    }
    world.delete("/v2/d/never/manifests/v1").await.error(404, "NAME_UNKNOWN");
    world.delete(&format!("/v2/d/one/blobs/{}", digest(b"never"))).await.error(404, "BLOB_UNKNOWN");
}
