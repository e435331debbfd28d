//! What no client should send, row by row: requests whose frame is in doubt, text that is none, steps of sessions that are
//! over, pages after a state that never was.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::json;
use tests::client::{Ask, Payload};
use tests::image::MANIFEST;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::row::{At, BOTH, Expect, LAYER, blob, image, manifest, rows};

/// How long a connection may take to answer and end.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Sends bytes as they are to a region, past any balancer, and reads until the connection ends.
async fn raw(at: &At, sent: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(at.client(0).address()).await.expect("the region listens");
        stream.write_all(sent).await.expect("the region reads");
        let mut answer = Vec::new();
        // The end may be a reset, where bytes were left over.
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8(answer).expect("text")
    };
    tokio::time::timeout(ENDS_WITHIN, exchange).await.expect("the connection ends")
}

/// Status, head in lower case, and body of an answer.
fn parts(answer: &str) -> (u16, String, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), head.to_ascii_lowercase(), body)
}

/// An image whose bytes are changed before they are sent, with all its blobs pushed.
async fn changed_image(at: &At, repository: &str, change: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
    let (config, layer) = (at.bytes(60), at.bytes(700));
    at.push(repository, &config, BOTH[0]).await;
    at.push(repository, &layer, BOTH[0]).await;
    let body = image(BOTH[0], &config, &[(LAYER, &layer)], &json!({"x": "HERE"}));
    change(std::str::from_utf8(&body).expect("JSON is text"))
}

rows! {
    async fn e01_a_request_names_one_host(at) {
        for head in [
            "GET /v2/ HTTP/1.1\r\n\r\n",
            "GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET /v2/ HTTP/1.1\r\nHost: a b\r\n\r\n",
        ] {
            let answer = raw(&at, head.as_bytes()).await;
            let (status, head, body) = parts(&answer);
            assert_eq!((status, body.contains(r#""code":"UNSUPPORTED""#)), (400, true), "{answer}");
            assert!(head.contains("docker-distribution-api-version: registry/2.0"), "{answer}");
        }
        let answer = raw(&at, b"GET /v2/ HTTP/1.0\r\n\r\n").await;
        assert_eq!(parts(&answer).0, 200);
    }

    async fn e01_a_coding_that_is_not_known_is_501(at) {
        let (repository, content) = (at.repository(), at.bytes(5));
        let digest = BOTH[0].of(&content);
        for coding in ["gzip, chunked", "chunked, chunked"] {
            let mut sent = format!(
                "POST /v2/{repository}/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n5\r\n",
            )
            .into_bytes();
            sent.extend_from_slice(&content);
            sent.extend_from_slice(b"\r\n0\r\n\r\n");
            let answer = raw(&at, &sent).await;
            let (status, _, body) = parts(&answer);
            assert_eq!((status, body.contains(r#""code":"UNSUPPORTED""#)), (501, true), "{answer}");
        }
        at.is_gone(&blob(&repository, &digest)).await;
    }

    async fn e01_an_answer_says_that_its_connection_ends(at) {
        let repository = at.repository();
        let put = format!("PUT /v2/{repository}/manifests/v1 HTTP/1.1\r\nHost: a\r\nContent-Type: {MANIFEST}\r\n");
        let too_long = format!("{put}Content-Length: 40000000\r\n\r\n");
        let not_sent = format!("{put}Content-Length: 40000000\r\nExpect: 100-continue\r\n\r\n");
        for head in [too_long, not_sent] {
            let answer = raw(&at, head.as_bytes()).await;
            let (status, head, _) = parts(&answer);
            assert_eq!((status, head.contains("connection: close")), (413, true), "{answer}");
        }
    }

    async fn e01_a_head_that_is_too_long_gets_no_body_when_it_is_of_head(at) {
        for (method, has_body) in [("GET", true), ("HEAD", false)] {
            let long = format!("{method} /v2/{}/tags/list HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(70_000));
            let answer = raw(&at, long.as_bytes()).await;
            let (status, head, body) = parts(&answer);
            assert!([414, 431].contains(&status), "{answer}");
            assert!(head.contains("content-length: ") && !head.contains("content-length: 0"), "{answer}");
            assert_eq!(!body.is_empty(), has_body, "{answer}");
        }
    }

    async fn f14_a_digest_that_is_no_text_is_400(at) {
        let (repository, body) = (at.repository(), Bytes::from_static(b"{}"));
        at.push(&repository, &body, BOTH[0]).await;
        let path = manifest(&repository, "sha256:%ff");
        at.send(at.putting_at(&path, MANIFEST, &body)).await.refused(400, "DIGEST_INVALID");
        at.get(&path).await.refused(400, "DIGEST_INVALID");
        at.get(blob(&repository, "sha256:%ff")).await.refused(400, "DIGEST_INVALID");
        at.get(manifest(&repository, "%ff")).await.refused(400, "MANIFEST_INVALID");
        at.get("/v2/team/%ff/tags/list").await.refused(400, "NAME_INVALID");
    }

    async fn f17_bytes_that_are_no_text_are_refused(at) {
        let repository = at.repository();
        for bad in [&b"\xff\xfe"[..], b"\xc3\x28"] {
            let body = changed_image(&at, &repository, |text| {
                let (before, after) = text.split_once("HERE").expect("it is there");
                [before.as_bytes(), bad, after.as_bytes()].concat()
            })
            .await;
            at.put(&repository, "v1", MANIFEST, &body).await.refused(400, "MANIFEST_INVALID");
        }
        let body = changed_image(&at, &repository, |text| text.replace("HERE", "\u{e9}").into_bytes()).await;
        at.put(&repository, "v1", MANIFEST, &body).await.is(201);
    }

    async fn f17_a_size_that_clients_cannot_read_is_refused(at) {
        let repository = at.repository();
        for (size, status) in [("9223372036854775808", 400), ("18446744073709551616", 400), ("9223372036854775807", 201)] {
            let body = changed_image(&at, &repository, |text| text.replace("\"size\":700", &format!("\"size\":{size}")).into());
            at.put(&repository, "v1", MANIFEST, &body.await).await.is(status);
        }
    }

    async fn f17_a_part_of_a_manifest_is_refused(at) {
        let repository = at.repository();
        let image = at.image(&repository, BOTH[0]).await;
        let ask = at.putting(&repository, "v1", MANIFEST, &image.body).header("content-range", "bytes 0-99/5000");
        at.send(ask).await.refused(400, "MANIFEST_INVALID");
        at.is_gone(&manifest(&repository, "v1")).await;
    }

    async fn s01_a_post_with_a_body_begins_at_its_beginning(at) {
        let (repository, content) = (at.repository(), at.bytes(3));
        let digest = BOTH[0].of(&content);
        let ask = |range: &str| {
            let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
            Ask::new(Method::POST, path).header("content-range", range).payload(Payload::Given(content.clone()))
        };
        at.send(ask("5-7")).await.refused(400, "BLOB_UPLOAD_INVALID");
        at.send(ask("0-3")).await.refused(400, "SIZE_INVALID");
        at.is_gone(&blob(&repository, &digest)).await;
        at.send(ask("0-2")).await.created(&digest);
    }

    async fn u16_a_session_that_is_over_closes_as_nothing_else(at) {
        let repository = at.repository();
        let (first, second) = (at.bytes(90), at.bytes(80));
        let (one, two) = (at.push(&repository, &first, BOTH[0]).await, at.push(&repository, &second, BOTH[1]).await);
        let unknown = |answer: tests::client::Answer| answer.refused(404, "BLOB_UPLOAD_UNKNOWN");

        let cancelled = at.begin(&repository).await;
        at.delete(&cancelled).await.is(204);
        unknown(at.close(&cancelled, &one, &first).await);
        unknown(at.close(&cancelled, &one, b"").await);

        let failed = at.begin(&repository).await;
        let failed = at.patch(&failed, 0, b"other bytes").await.is(202).location();
        at.close(&failed, &one, b"").await.refused(400, "DIGEST_INVALID");
        unknown(at.close(&failed, &one, b"").await);

        let closed = at.begin(&repository).await;
        at.close(&closed, &one, &first).await.created(&one);
        unknown(at.close(&closed, &two, &second).await);
        // The same again is the answer again.
        for _ in 0..3 {
            at.close(&closed, &one, &first).await.created(&one);
        }
    }

    async fn l05_a_page_after_a_state_that_never_was_is_not_waited_for(at) {
        let repository = at.repository();
        let image = at.image(&repository, BOTH[0]).await;
        at.tag(&repository, "v1", &image).await;
        for path in [
            format!("/v2/{repository}/tags/list?rev=99999999999"),
            format!("/v2/{repository}/referrers/{}?rev=99999999999", image.digest),
            "/v2/_catalog?n=1&rev=18446744073709551615".to_owned(),
        ] {
            at.get(path).await.is(200);
        }
    }
}
