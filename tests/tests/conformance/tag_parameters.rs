//! Rows T1 to T4, F20: several tags in one put, and conditions on them.

use serde_json::json;
use tests::client::Answer;
use tests::content::sha256;

use crate::row::{At, BOTH, Expect, Stored, manifest, rows};

fn query(tags: &[String]) -> String {
    tags.iter().map(|tag| format!("tag={tag}")).collect::<Vec<_>>().join("&")
}

async fn put(at: &At, repository: &str, stored: &Stored, tags: &[String]) -> Answer {
    let reference = format!("{}?{}", stored.digest, query(tags));
    at.put(repository, &reference, stored.kind, &stored.body).await
}

/// The tags that `OCI-Tag` names, in lines or in a list.
fn accepted(answer: &Answer) -> Vec<String> {
    let lines = answer.headers.get_all("oci-tag").iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|tag| tag.trim().to_owned()).collect()
}

fn many(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("t{number:03}")).collect()
}

async fn conditional(at: &At, path: &str, stored: &Stored, header: (&str, String)) -> Answer {
    at.send(at.putting_at(path, stored.kind, &stored.body).header(header.0, header.1)).await
}

rows! {
    async fn t01_one_tag_by_parameter(at) {
        for algorithm in BOTH {
            let repository = at.repository();
            let stored = at.image(&repository, algorithm).await;
            let answer = put(&at, &repository, &stored, &["a".to_owned()]).await.created(&stored.digest);
            assert_eq!(accepted(&answer), ["a"]);
            at.is_at_location(&answer, &stored.body).await;
        }
    }

    async fn t01_two_tags_by_parameter(at) {
        for algorithm in BOTH {
            let repository = at.repository();
            let child = at.image(&repository, algorithm).await;
            let index = Stored::index(algorithm, &[&child], &json!({}));
            let answer = put(&at, &repository, &index, &["a".to_owned(), "b".to_owned()]).await.created(&index.digest);
            let mut tags = accepted(&answer);
            tags.sort();
            assert_eq!(tags, ["a", "b"]);
            at.is_at_location(&answer, &index.body).await;
            assert_eq!(at.tags(&repository).await, ["a", "b"]);
            for tag in tags {
                let path = manifest(&repository, &tag);
                let head = at.head(&path).await.is(200).has("content-type", index.kind);
                let head = head.has("content-length", index.body.len().to_string());
                head.has("docker-content-digest", &index.digest);
                let got = at.get(&path).await.is(200).has("docker-content-digest", &index.digest);
                assert_eq!(got.body, index.body);
            }
        }
    }

    async fn t02_a_tag_keeps_the_digest_it_was_put_under(at) {
        for algorithm in BOTH {
            let repository = at.repository();
            let image = at.image(&repository, algorithm).await;
            let index = Stored::index(algorithm, &[&image], &json!({}));
            for stored in [image, index] {
                put(&at, &repository, &stored, &["a".to_owned()]).await.created(&stored.digest);
                let head = at.head(manifest(&repository, "a")).await.is(200);
                head.has("docker-content-digest", &stored.digest).has("content-type", stored.kind);
                let got = at.get(manifest(&repository, "a")).await.is(200);
                assert_eq!(got.has("docker-content-digest", &stored.digest).body, stored.body);
                assert_eq!(at.tags(&repository).await, ["a"]);
                at.delete(manifest(&repository, "a")).await.is(202);
                at.is_gone(&manifest(&repository, "a")).await;
            }
        }
    }

    async fn t03_ten_tags_are_one_revision(at) {
        is_one_revision(&at, 10).await;
    }

    async fn t03_a_hundred_tags_are_one_revision(at) {
        is_one_revision(&at, 100).await;
    }

    async fn t03_more_tags_than_allowed_are_414(at) {
        let repository = at.repository();
        let stored = at.image(&repository, BOTH[0]).await;
        put(&at, &repository, &stored, &many(101)).await.refused(414, "MANIFEST_INVALID");
        assert!(at.tags(&repository).await.is_empty());
    }

    async fn t03_one_bad_tag_moves_none(at) {
        let repository = at.repository();
        let stored = at.image(&repository, BOTH[0]).await;
        for bad in ["-bad", ".bad", "a/b", ""] {
            let answer = put(&at, &repository, &stored, &["good".to_owned(), bad.to_owned()]).await;
            answer.refused(400, "MANIFEST_INVALID");
            assert!(at.tags(&repository).await.is_empty());
        }
    }

    async fn t03_one_immutable_tag_moves_none(at) {
        let repository = at.immutable_repository();
        let (one, other) = (at.image(&repository, BOTH[0]).await, at.image(&repository, BOTH[0]).await);
        at.tag(&repository, "v1", &one).await;
        put(&at, &repository, &other, &["free".to_owned(), "v1".to_owned()]).await.refused(403, "DENIED");
        assert_eq!(at.tags(&repository).await, ["v1"]);
        at.head(manifest(&repository, "v1")).await.is(200).has("docker-content-digest", &one.digest);
    }

    async fn t03_a_tag_named_twice_counts_once(at) {
        let repository = at.repository();
        let stored = at.image(&repository, BOTH[0]).await;
        let answer = put(&at, &repository, &stored, &["a".to_owned(), "a".to_owned()]).await.created(&stored.digest);
        assert_eq!(accepted(&answer), ["a"]);
    }

    async fn t04_a_parameter_beside_a_tag_is_ignored(at) {
        let repository = at.repository();
        let stored = at.image(&repository, BOTH[0]).await;
        let answer = at.put(&repository, "a?tag=b", stored.kind, &stored.body).await.created(&stored.digest);
        assert!(accepted(&answer).is_empty());
        assert_eq!(at.tags(&repository).await, ["a"]);
    }

    async fn f20_if_none_match_refuses_a_tag_that_is_there(at) {
        let repository = at.repository();
        let (one, other) = (at.image(&repository, BOTH[0]).await, at.image(&repository, BOTH[0]).await);
        let path = manifest(&repository, "v1");
        let free = ("if-none-match", "*".to_owned());
        conditional(&at, &path, &one, free.clone()).await.created(&one.digest);
        for stored in [&other, &one] {
            conditional(&at, &path, stored, free.clone()).await.refused(412, "DENIED");
        }
        at.head(&path).await.is(200).has("docker-content-digest", &one.digest);
        at.delete(&path).await.is(202);
        conditional(&at, &path, &other, free).await.created(&other.digest);
    }

    async fn f20_a_stale_if_match_is_412(at) {
        let repository = at.repository();
        let (one, other) = (at.image(&repository, BOTH[0]).await, at.image(&repository, BOTH[0]).await);
        let path = manifest(&repository, "v1");
        let stale = ("if-match", format!("\"{}\"", sha256(b"stale")));
        conditional(&at, &path, &other, stale.clone()).await.refused(412, "DENIED");
        conditional(&at, &path, &other, ("if-match", "*".to_owned())).await.refused(412, "DENIED");
        at.is_gone(&path).await;
        at.tag(&repository, "v1", &one).await;
        conditional(&at, &path, &other, stale).await.refused(412, "DENIED");
        at.head(&path).await.is(200).has("docker-content-digest", &one.digest);
    }

    async fn f20_a_right_if_match_moves_the_tag_once(at) {
        let repository = at.repository();
        let (one, other) = (at.image(&repository, BOTH[0]).await, at.image(&repository, BOTH[0]).await);
        at.tag(&repository, "v1", &one).await;
        let path = manifest(&repository, "v1");
        let right = ("if-match", format!("\"{}\"", one.digest));
        let moved = conditional(&at, &path, &other, right.clone()).await.created(&other.digest);
        conditional(&at, &path, &one, right).await.refused(412, "DENIED");
        at.head(&path).await.is(200).has("docker-content-digest", &other.digest);
        // One revision: the same again moves nothing.
        let again = conditional(&at, &path, &other, ("if-match", "*".to_owned())).await.created(&other.digest);
        assert_eq!(again.header("longshore-revision"), moved.header("longshore-revision"));
    }

    async fn f20_conditions_hold_for_every_named_tag(at) {
        let repository = at.repository();
        let (one, other) = (at.image(&repository, BOTH[0]).await, at.image(&repository, BOTH[0]).await);
        at.tag(&repository, "b", &one).await;
        let path = manifest(&repository, &format!("{}?tag=a&tag=b", other.digest));
        conditional(&at, &path, &other, ("if-none-match", "*".to_owned())).await.refused(412, "DENIED");
        let right = ("if-match", format!("\"{}\"", one.digest));
        conditional(&at, &path, &other, right.clone()).await.refused(412, "DENIED");
        assert_eq!(at.tags(&repository).await, ["b"]);
        at.tag(&repository, "a", &one).await;
        conditional(&at, &path, &other, right).await.created(&other.digest);
        at.head(manifest(&repository, "a")).await.is(200).has("docker-content-digest", &other.digest);
    }

    async fn f20_an_immutable_tag_does_not_move(at) {
        let repository = at.immutable_repository();
        let (one, other) = (at.image(&repository, BOTH[0]).await, at.image(&repository, BOTH[0]).await);
        at.tag(&repository, "v1", &one).await;
        let answer = at.put(&repository, "v1", other.kind, &other.body).await.refused(403, "DENIED");
        assert!(answer.text().contains("immutable"), "the policy is named: {}", answer.text());
        at.delete(manifest(&repository, "v1")).await.refused(403, "DENIED");
        at.delete(manifest(&repository, &one.digest)).await.refused(403, "DENIED");
        at.tag(&repository, "other", &one).await;
        at.tag(&repository, "other", &other).await;
        at.head(manifest(&repository, "v1")).await.is(200).has("docker-content-digest", &one.digest);
    }

    async fn f20_an_immutable_tag_takes_the_same_digest_again(at) {
        let repository = at.immutable_repository();
        let stored = at.image(&repository, BOTH[0]).await;
        let first = at.tag(&repository, "v1", &stored).await;
        let again = at.tag(&repository, "v1", &stored).await;
        assert_eq!(again.header("longshore-revision"), first.header("longshore-revision"));
    }
}

async fn is_one_revision(at: &At, count: usize) {
    let repository = at.repository();
    let (before, stored) = (at.image(&repository, BOTH[0]).await, at.image(&repository, BOTH[0]).await);
    let tags = many(count);
    at.tag(&repository, &tags[0], &before).await;
    let answer = put(at, &repository, &stored, &tags).await.created(&stored.digest);
    let mut named = accepted(&answer);
    named.sort();
    assert_eq!(named, tags);
    assert_eq!(at.tags(&repository).await, tags);
    for tag in tags.iter().step_by(9) {
        // The same again moves nothing, and tells the revision at which the tag moved.
        let again = at.tag(&repository, tag, &stored).await;
        assert_eq!(again.header("longshore-revision"), answer.header("longshore-revision"), "{tag}");
    }
}
