//! Row F20: what is there now decides whether a request is carried out. Every entity tag is a digest.

use http::Method;
use serde_json::json;
use tests::client::{Answer, Ask};
use tests::content::sha256;

use crate::row::{Algorithm, At, BOTH, Expect, Stored, blob, manifest, rows};

const IF_MATCH: &str = "if-match";
const IF_NONE_MATCH: &str = "if-none-match";

/// An entity tag.
fn quoted(digest: &str) -> String {
    format!("\"{digest}\"")
}

/// Header lines of one name.
async fn ask(at: &At, method: Method, path: &str, name: &str, lines: &[String]) -> Answer {
    let asked = lines.iter().fold(Ask::new(method, path), |asked, line| asked.header(name, line.clone()));
    at.send(asked).await
}

/// Values of `If-Match` that never match `digest`.
fn others(digest: &str) -> [Vec<String>; 4] {
    let other = quoted(&sha256(b"another"));
    let weak = format!("W/{}", quoted(digest));
    [
        vec![other.clone()],
        vec![weak],
        vec![other.clone(), "\"no digest\"".to_owned()],
        vec![format!("{other}, {other}")],
    ]
}

/// Values of `If-Match` that match it.
fn matching(digest: &str) -> [Vec<String>; 4] {
    let (own, other) = (quoted(digest), quoted(&sha256(b"another")));
    [vec![own.clone()], vec!["*".to_owned()], vec![format!("{other}, {own}")], vec![other, own]]
}

/// Says what is there.
fn is_412(answer: Answer, digest: &str) {
    let answer = answer.refused(412, "DENIED");
    assert!(answer.text().contains(digest), "what is there is named: {}", answer.text());
}

/// What a request names.
enum Named<'a> {
    Tag(&'a Stored),
    Manifest(&'a Stored),
    Blob(&'a [u8], Algorithm),
}

impl Named<'_> {
    fn digest(&self) -> String {
        match self {
            Named::Tag(stored) | Named::Manifest(stored) => stored.digest.clone(),
            Named::Blob(content, algorithm) => algorithm.of(content),
        }
    }

    /// Pushes it; where it lies.
    async fn push(&self, at: &At, repository: &str) -> String {
        match self {
            Named::Tag(stored) => {
                at.tag(repository, "v1", stored).await;
                manifest(repository, "v1")
            }
            Named::Manifest(stored) => {
                at.store(repository, stored).await;
                manifest(repository, &stored.digest)
            }
            Named::Blob(content, algorithm) => blob(repository, &at.push(repository, content, *algorithm).await),
        }
    }
}

async fn guards_a_delete(at: &At, repository: &str, named: Named<'_>) {
    let (path, digest) = (named.push(at, repository).await, named.digest());
    for lines in others(&digest) {
        is_412(ask(at, Method::DELETE, &path, IF_MATCH, &lines).await, &digest);
        at.head(&path).await.is(200);
    }
    for line in ["*".to_owned(), quoted(&digest), format!("\"x\", W/{}", quoted(&digest))] {
        is_412(ask(at, Method::DELETE, &path, IF_NONE_MATCH, &[line]).await, &digest);
        at.head(&path).await.is(200);
    }
    for lines in matching(&digest) {
        ask(at, Method::DELETE, &path, IF_MATCH, &lines).await.is(202);
        at.is_gone(&path).await;
        // What is not there is not found under any condition.
        for lines in [&lines, &others(&digest)[0]] {
            ask(at, Method::DELETE, &path, IF_MATCH, lines).await.is(404);
        }
        named.push(at, repository).await;
    }
    ask(at, Method::DELETE, &path, IF_NONE_MATCH, &[quoted(&sha256(b"another"))]).await.is(202);
    at.is_gone(&path).await;
}

async fn guards_a_read(at: &At, path: &str, digest: &str) {
    for method in [Method::GET, Method::HEAD] {
        for lines in matching(digest) {
            ask(at, method.clone(), path, IF_MATCH, &lines).await.is(200).has("etag", quoted(digest));
        }
        for lines in others(digest) {
            let answer = ask(at, method.clone(), path, IF_MATCH, &lines).await.is(412);
            assert_eq!(answer.body.is_empty(), method == Method::HEAD);
        }
        // Before what the client may have already.
        let asked = Ask::new(method.clone(), path).header(IF_NONE_MATCH, quoted(digest));
        at.send(asked.clone().header(IF_MATCH, quoted(digest))).await.is(304);
        at.send(asked.header(IF_MATCH, quoted(&sha256(b"another")))).await.is(412);
    }
}

/// PUT of a manifest.
async fn put(at: &At, path: &str, stored: &Stored, line: String) -> Answer {
    at.send(at.putting_at(path, stored.kind, &stored.body).header(IF_NONE_MATCH, line)).await
}

rows! {
    async fn f20_a_condition_guards_the_delete_of_a_tag(at) {
        let repository = at.repository();
        let stored = at.image(&repository, BOTH[0]).await;
        guards_a_delete(&at, &repository, Named::Tag(&stored)).await;
        at.head(manifest(&repository, &stored.digest)).await.is(200);
    }

    async fn f20_a_tag_that_moved_is_not_deleted(at) {
        let repository = at.repository();
        let (one, other) = (at.image(&repository, BOTH[0]).await, at.image(&repository, BOTH[0]).await);
        at.tag(&repository, "v1", &one).await;
        at.tag(&repository, "v1", &other).await;
        let path = manifest(&repository, "v1");
        is_412(ask(&at, Method::DELETE, &path, IF_MATCH, &[quoted(&one.digest)]).await, &other.digest);
        at.head(&path).await.is(200).has("docker-content-digest", &other.digest);
        ask(&at, Method::DELETE, &path, IF_MATCH, &[quoted(&other.digest)]).await.is(202);
        at.is_gone(&path).await;
    }

    async fn f20_a_condition_guards_the_delete_of_a_manifest(at) {
        for algorithm in BOTH {
            let repository = at.repository();
            let stored = at.image(&repository, algorithm).await;
            guards_a_delete(&at, &repository, Named::Manifest(&stored)).await;
        }
    }

    async fn f20_a_condition_guards_the_delete_of_a_blob(at) {
        for algorithm in BOTH {
            let content = at.bytes(300);
            guards_a_delete(&at, &at.repository(), Named::Blob(&content, algorithm)).await;
        }
    }

    async fn f20_a_condition_guards_reads(at) {
        for algorithm in BOTH {
            let repository = at.repository();
            let content = at.bytes(300);
            let digest = at.push(&repository, &content, algorithm).await;
            guards_a_read(&at, &blob(&repository, &digest), &digest).await;
            let stored = at.image(&repository, algorithm).await;
            guards_a_read(&at, &manifest(&repository, &stored.digest), &stored.digest).await;
            let reference = format!("{}?tag=v1", stored.digest);
            at.put(&repository, &reference, stored.kind, &stored.body).await.is(201);
            guards_a_read(&at, &manifest(&repository, "v1"), &stored.digest).await;
        }
    }

    async fn f20_if_none_match_with_digests_guards_a_put(at) {
        let repository = at.repository();
        let one = at.image(&repository, BOTH[0]).await;
        let index = Stored::index(BOTH[0], &[&one], &json!({}));
        let path = manifest(&repository, "v1");
        // Nothing is there, so it differs.
        put(&at, &path, &one, quoted(&one.digest)).await.created(&one.digest);
        let named = [quoted(&one.digest), format!("W/{}", quoted(&one.digest)), format!("\"x\", {}", quoted(&one.digest))];
        for line in named {
            is_412(put(&at, &path, &index, line).await, &one.digest);
            at.head(&path).await.is(200).has("docker-content-digest", &one.digest);
        }
        put(&at, &path, &index, quoted(&index.digest)).await.created(&index.digest);
        put(&at, &path, &one, "\"no digest\"".to_owned()).await.created(&one.digest);
        at.head(&path).await.is(200).has("docker-content-digest", &one.digest);
    }
}
