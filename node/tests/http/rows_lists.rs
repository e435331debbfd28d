//! Tags, catalog, referrers.

use serde_json::{Value, json};

use crate::client::Answer;
use crate::rows_blobs::{digest, long_digest};
use crate::rows_manifests::{IMAGE, INDEX, descriptor, image, push_blobs, put};
use crate::world::World;

pub(crate) async fn all(world: &World) {
    tags(world).await;
    catalog(world).await;
    referrers(world).await;
    fallback(world).await;
}

/// Where the one path-only `Link` leads.
fn next(answer: &Answer) -> Option<String> {
    let links: Vec<_> = answer.headers.get_all("link").iter().collect();
    assert!(links.len() <= 1, "{}", answer.asked);
    let link = links.first()?.to_str().unwrap();
    let path = link.strip_prefix('<').and_then(|rest| rest.strip_suffix(">; rel=\"next\"")).unwrap();
    assert!(path.starts_with("/v2/"), "{link}");
    Some(path.to_owned())
}

async fn follow(world: &World, first: &str, field: &str) -> Vec<Value> {
    let (mut path, mut all) = (Some(first.to_owned()), Vec::new());
    while let Some(at) = path {
        let answer = world.get(&at).await.expect(200);
        all.extend(answer.json()[field].as_array().unwrap().iter().cloned());
        path = next(&answer);
    }
    all
}

async fn tags(world: &World) {
    world.get("/v2/l/one/tags/list").await.error(404, "NAME_UNKNOWN");
    push_blobs(world, "l/one", b"layer").await;
    let list = world.get("/v2/l/one/tags/list").await.expect(200);
    assert_eq!(list.json(), json!({ "name": "l/one", "tags": [] }));
    let body = image(b"layer", &Value::Null);
    let sorted = ["A", "V1", "_x", "a", "b", "b-1", "b.1", "c"];
    for tag in ["c", "b.1", "a", "V1", "b", "_x", "A", "b-1"] {
        put(world, "l/one", tag, IMAGE, &body).await.expect(201);
    }
    let list = world.get("/v2/l/one/tags/list").await.expect(200).has("content-type", "application/json");
    assert_eq!(list.json()["tags"], json!(sorted));
    assert!(next(&list).is_none());
    let etag = list.header("etag").unwrap().to_owned();
    world.ask("GET", "/v2/l/one/tags/list").header("if-none-match", etag).send().await.expect(304).is(b"");
    let after = world.get("/v2/l/one/tags/list?last=b").await.expect(200);
    assert_eq!(after.json()["tags"], json!(["b-1", "b.1", "c"]));
    assert_eq!(world.get("/v2/l/one/tags/list?last=aa").await.expect(200).json()["tags"][0], "b");
    assert_eq!(follow(world, "/v2/l/one/tags/list?n=2", "tags").await, sorted.map(Value::from));
    assert_eq!(
        follow(world, "/v2/l/one/tags/list?n=3&last=A", "tags").await,
        sorted[1..].iter().map(|&tag| Value::from(tag)).collect::<Vec<_>>()
    );
    let none = world.get("/v2/l/one/tags/list?n=0").await.expect(200);
    assert_eq!(none.json()["tags"], json!([]));
    assert!(next(&none).is_none());
    assert_eq!(world.get("/v2/l/one/tags/list?n=100000").await.expect(200).json()["tags"], json!(sorted));
    for bad in ["-1", "x", ""] {
        world.get(&format!("/v2/l/one/tags/list?n={bad}")).await.error(400, "UNSUPPORTED");
    }
}

async fn catalog(world: &World) {
    let all = follow(world, "/v2/_catalog", "repositories").await;
    assert!(all.contains(&json!("l/one")) && all.contains(&json!("f/one")));
    let mut sorted = all.clone();
    sorted.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    assert_eq!(all, sorted);
    assert_eq!(follow(world, "/v2/_catalog?n=2", "repositories").await, all);
    world.get("/v2/_catalog?n=x").await.error(400, "UNSUPPORTED");
}

async fn index_of(world: &World, path: &str) -> Answer {
    let answer = world.get(path).await.expect(200).has("content-type", INDEX);
    let body = answer.json();
    assert_eq!((&body["schemaVersion"], &body["mediaType"]), (&json!(2), &json!(INDEX)));
    assert!(body["manifests"].is_array());
    answer
}

async fn referrers(world: &World) {
    let subject = digest(b"some subject");
    let path = format!("/v2/r/one/referrers/{subject}");
    assert_eq!(index_of(world, &path).await.json()["manifests"], json!([]));
    push_blobs(world, "r/one", b"layer").await;
    let to = json!({ "subject": descriptor(IMAGE, b"some subject"), "annotations": { "org.example.k": "v" } });
    let with = |more: Value| {
        let mut all = to.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let plain = image(b"layer", &to);
    let one = image(b"layer", &with(json!({ "artifactType": "application/vnd.example+json" })));
    let two = image(b"layer", &with(json!({ "artifactType": "application/vnd.example+json", "x": 2 })));
    let mut index = with(json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }));
    index["annotations"] = json!({});
    let index = index.to_string().into_bytes();
    for (body, kind) in [(&plain, IMAGE), (&one, IMAGE), (&two, IMAGE), (&index, INDEX)] {
        put(world, "r/one", &digest(body), kind, body).await.expect(201).has("oci-subject", &subject);
    }
    let entries = index_of(world, &path).await.json()["manifests"].as_array().unwrap().clone();
    assert_eq!(entries.len(), 4);
    let entry = |body: &[u8]| entries.iter().find(|entry| entry["digest"] == digest(body)).unwrap();
    assert_eq!(entry(&plain)["artifactType"], "application/vnd.oci.image.config.v1+json");
    assert_eq!(entry(&one)["annotations"], json!({ "org.example.k": "v" }));
    assert_eq!(entry(&one)["size"], one.len());
    assert_eq!(entry(&index).as_object().unwrap().get("artifactType"), None);
    assert_eq!(entry(&index)["mediaType"], INDEX);
    let filtered = format!("{path}?artifactType=application%2Fvnd.example%2Bjson");
    let answer = index_of(world, &filtered).await.has("oci-filters-applied", "artifactType");
    assert_eq!(answer.json()["manifests"].as_array().unwrap().len(), 2);
    let paged = follow(world, &format!("{filtered}&n=1"), "manifests").await;
    assert_eq!(&paged, answer.json()["manifests"].as_array().unwrap());
    assert_eq!(&follow(world, &format!("{path}?n=3"), "manifests").await, &entries);
    let none = index_of(world, &format!("{path}?artifactType=a/b")).await.has("oci-filters-applied", "artifactType");
    assert_eq!(none.json()["manifests"], json!([]));
    world.get("/v2/r/one/referrers/sha256:x").await.error(400, "DIGEST_INVALID");
    assert_eq!(
        index_of(world, &format!("/v2/r/one/referrers/{}", long_digest(b"x"))).await.json()["manifests"],
        json!([])
    );
    world.delete(&format!("/v2/r/one/manifests/{}", digest(&one))).await.expect(202);
    assert_eq!(index_of(world, &path).await.json()["manifests"].as_array().unwrap().len(), 3);
    put(world, "r/one", "again", IMAGE, &one).await.expect(201);
    assert_eq!(&index_of(world, &path).await.json()["manifests"].as_array().unwrap().clone(), &entries);
}

async fn fallback(world: &World) {
    let subject = digest(b"old subject");
    push_blobs(world, "r/old", b"layer").await;
    let old = image(b"layer", &json!({ "x": 1, "artifactType": "application/old" }));
    put(world, "r/old", "old", IMAGE, &old).await.expect(201);
    let mut entry = descriptor(IMAGE, &old);
    entry["annotations"] = json!({ "k": "v" });
    // What the manifest says of its type goes before what the index says, and an entry named twice is shown once.
    entry["artifactType"] = json!("application/claimed");
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry, entry] }).to_string();
    entry["artifactType"] = json!("application/old");
    put(world, "r/old", &subject.replace(':', "-"), INDEX, index.as_bytes()).await.expect(201);
    let new =
        image(b"layer", &json!({ "subject": descriptor(IMAGE, b"old subject"), "artifactType": "application/new" }));
    put(world, "r/old", "new", IMAGE, &new).await.expect(201);
    let path = format!("/v2/r/old/referrers/{subject}");
    let entries = index_of(world, &path).await.json()["manifests"].as_array().unwrap().clone();
    let kinds: Vec<&str> = entries.iter().map(|entry| entry["artifactType"].as_str().unwrap()).collect();
    assert_eq!(kinds.len(), 2);
    assert!(kinds.contains(&"application/old") && kinds.contains(&"application/new"));
    assert_eq!(follow(world, &format!("{path}?n=1"), "manifests").await, entries);
    let filtered = index_of(world, &format!("{path}?artifactType=application/old")).await.json();
    assert_eq!(filtered["manifests"], json!([entry]));
}
