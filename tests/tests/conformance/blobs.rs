//! Rows B1 to B7: blobs that are asked for.

use bytes::Bytes;
use http::Method;
use tests::client::{Ask, Payload};
use tests::registry::with_digest;

use crate::row::{At, BOTH, Expect, blob, rows};

async fn is_empty(at: &At, repository: &str, digest: &str) {
    let answer = at.head(blob(repository, digest)).await.is(200).has("content-length", "0");
    answer.has("docker-content-digest", digest);
    let answer = at.get(blob(repository, digest)).await.is(200).has("content-length", "0");
    assert!(answer.has("docker-content-digest", digest).body.is_empty());
}

rows! {
    async fn b01_get_of_a_blob_never_pushed_is_404(at) {
        let repository = at.repository();
        at.push(&repository, b"something else", BOTH[0]).await;
        for algorithm in BOTH {
            let digest = algorithm.of(&at.bytes(20));
            at.get(blob(&repository, &digest)).await.refused(404, "BLOB_UNKNOWN");
            at.get(blob(&at.repository(), &digest)).await.refused(404, "BLOB_UNKNOWN");
        }
    }

    async fn b02_get_after_push_gives_exact_bytes(at) {
        let (repository, content) = (at.repository(), at.bytes(5000));
        for algorithm in BOTH {
            let digest = at.push(&repository, &content, algorithm).await;
            let ask = Ask::new(Method::GET, blob(&repository, &digest)).header("accept-encoding", "gzip");
            let answer = at.send(ask).await.is(200).has("docker-content-digest", &digest).has("content-length", "5000");
            let answer = answer.has("content-encoding", "").has("transfer-encoding", "");
            assert_eq!(answer.body, content);
        }
    }

    async fn b03_head_after_push_gives_length_and_digest(at) {
        let (repository, content) = (at.repository(), at.bytes(5000));
        for algorithm in BOTH {
            let digest = at.push(&repository, &content, algorithm).await;
            let answer = at.head(blob(&repository, &digest)).await.is(200);
            let answer = answer.has("docker-content-digest", &digest).has("content-length", "5000");
            assert!(answer.body.is_empty());
        }
    }

    async fn b04_a_blob_of_zero_bytes_comes_in_chunked_coding(at) {
        for algorithm in BOTH {
            let (repository, digest) = (at.repository(), algorithm.of(b""));
            let location = at.begin(&repository).await;
            let ask = Ask::new(Method::PUT, with_digest(&location, &digest)).payload(Payload::Chunked(Bytes::new()));
            at.send(ask).await.created(&digest);
            is_empty(&at, &repository, &digest).await;
        }
    }

    async fn b04_a_blob_of_zero_bytes_comes_as_an_empty_stream(at) {
        for algorithm in BOTH {
            let (repository, digest) = (at.repository(), algorithm.of(b""));
            let location = at.begin(&repository).await;
            let ask = Ask::new(Method::PATCH, &location).payload(Payload::Chunked(Bytes::new()));
            let location = at.send(ask).await.is(202).location();
            at.close(&location, &digest, b"").await.created(&digest);
            is_empty(&at, &repository, &digest).await;
        }
    }

    async fn b05_the_empty_object_is_pushed_and_deleted_again_and_again(at) {
        let repository = at.repository();
        for algorithm in [BOTH, BOTH, BOTH].concat() {
            let digest = at.push(&repository, b"{}", algorithm).await;
            let path = blob(&repository, &digest);
            at.head(&path).await.is(200).has("content-length", "2").has("docker-content-digest", &digest);
            let answer = at.get(&path).await.is(200).has("content-length", "2").has("docker-content-digest", &digest);
            assert_eq!(answer.body, &b"{}"[..]);
            at.delete(&path).await.is(202);
            at.is_gone(&path).await;
        }
    }

    async fn b06_a_malformed_digest_is_400(at) {
        let repository = at.repository();
        for algorithm in BOTH {
            let digest = at.push(&repository, b"{}", algorithm).await;
            let (kind, hex) = digest.split_once(':').expect("a digest has an algorithm");
            let wrong = [
                format!("{kind}:{}", hex.to_uppercase()),
                format!("{kind}:{}", &hex[1..]),
                format!("{kind}:{hex}0"),
                format!("{}:{hex}", kind.to_uppercase()),
                format!("md5:{}", &hex[..32]),
                format!("{kind}:"),
            ];
            for wrong in &wrong {
                at.get(blob(&repository, wrong)).await.refused(400, "DIGEST_INVALID");
                let head = at.head(blob(&repository, wrong)).await.is(400);
                assert!(head.body.is_empty());
            }
        }
        let crossed = BOTH[1].of(b"{}").replace("sha512", "sha256");
        at.get(blob(&repository, &crossed)).await.refused(400, "DIGEST_INVALID");
    }

    async fn b06_a_blob_of_another_repository_is_404(at) {
        let (here, there, content) = (at.repository(), at.repository(), at.bytes(40));
        at.push(&here, b"{}", BOTH[0]).await;
        for algorithm in BOTH {
            let digest = at.push(&there, &content, algorithm).await;
            at.get(blob(&here, &digest)).await.refused(404, "BLOB_UNKNOWN");
            at.is_gone(&blob(&here, &digest)).await;
            at.head(blob(&there, &digest)).await.is(200);
        }
    }

    async fn b06_the_same_bytes_have_two_names(at) {
        let (repository, content) = (at.repository(), at.bytes(40));
        let digest = at.push(&repository, &content, BOTH[0]).await;
        at.get(blob(&repository, &BOTH[1].of(&content))).await.refused(404, "BLOB_UNKNOWN");
        let other = at.push(&repository, &content, BOTH[1]).await;
        at.delete(blob(&repository, &digest)).await.is(202);
        at.is_gone(&blob(&repository, &digest)).await;
        assert_eq!(at.get(blob(&repository, &other)).await.is(200).body, content);
    }

    async fn b07_stored_bytes_are_never_encoded(at) {
        let (repository, content) = (at.repository(), at.bytes(3000));
        for algorithm in BOTH {
            let digest = at.push(&repository, &content, algorithm).await;
            let ask = Ask::new(Method::GET, blob(&repository, &digest)).header("accept-encoding", "zstd, gzip");
            let answer = at.send(ask).await.is(200).has("content-encoding", "").has("accept-ranges", "bytes");
            let answer = answer.has("etag", format!("\"{digest}\"")).has("content-length", "3000");
            assert_eq!(answer.body, content);
        }
    }

    async fn b07_an_entity_tag_that_is_held_is_304(at) {
        let (repository, content) = (at.repository(), at.bytes(3000));
        for algorithm in BOTH {
            let digest = at.push(&repository, &content, algorithm).await;
            let tag = format!("\"{digest}\"");
            let ask = Ask::new(Method::GET, blob(&repository, &digest));
            let answer = at.send(ask.clone().header("if-none-match", &tag)).await.is(304).has("etag", &tag);
            assert!(answer.body.is_empty());
            at.send(ask.header("if-none-match", "\"sha256:other\"")).await.is(200);
        }
    }
}
