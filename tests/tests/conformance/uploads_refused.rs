//! Rows U7, U8, U12, U15 to U17, U21: uploads that are refused, and what is left of them.

use bytes::Bytes;
use http::Method;
use tests::client::{Ask, Payload};
use tests::registry::with_digest;

use crate::row::{At, BOTH, Expect, blob, rows, uploads};

/// A well-formed digest of other bytes.
fn wrong(index: usize) -> String {
    BOTH[index].of(b"other bytes than those that were sent")
}

/// A session that holds the first `held` bytes.
async fn holding(at: &At, repository: &str, content: &[u8]) -> String {
    let location = at.begin(repository).await;
    if content.is_empty() { location } else { at.patch(&location, 0, content).await.is(202).location() }
}

/// None of a session's steps knows it.
async fn is_unknown(at: &At, location: &str) {
    at.patch(location, 0, b"bytes").await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    at.close(location, &BOTH[0].of(b"bytes"), b"bytes").await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    at.get(location).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    at.delete(location).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
}

rows! {
    async fn u07_a_first_chunk_beyond_the_start_is_416(at) {
        let content = at.bytes(2048);
        let location = at.begin(&at.repository()).await;
        at.patch(&location, 1024, &content[1024..]).await.is(416);
    }

    async fn u07_a_chunk_that_leaves_a_gap_is_416(at) {
        let content = at.bytes(3067);
        let location = holding(&at, &at.repository(), &content[..1024]).await;
        at.patch(&location, 2048, &content[2048..]).await.is(416);
    }

    async fn u07_a_chunk_that_is_held_already_is_416(at) {
        let content = at.bytes(2048);
        let location = holding(&at, &at.repository(), &content).await;
        at.patch(&location, 0, &content[..1024]).await.is(416);
    }

    async fn u08_a_closing_chunk_that_leaves_a_gap_is_416(at) {
        let (repository, content) = (at.repository(), at.bytes(3067));
        for algorithm in BOTH {
            let location = holding(&at, &repository, &content[..1024]).await;
            let ask = Ask::new(Method::PUT, with_digest(&location, &algorithm.of(&content)));
            let ask = ask.header("content-range", "2048-3066").payload(Payload::Given(content.slice(2048..)));
            at.send(ask).await.is(416);
            at.get(&location).await.is(204).has("range", "0-1023");
        }
    }

    async fn u09_the_very_url_that_was_refused_tells_the_range(at) {
        let (repository, content) = (at.repository(), at.bytes(3067));
        for algorithm in BOTH {
            let location = holding(&at, &repository, &content[..1024]).await;
            let url = with_digest(&location, &algorithm.of(&content));
            let ask = Ask::new(Method::PUT, &url).header("content-range", "2048-3066");
            at.send(ask.payload(Payload::Given(content.slice(2048..)))).await.is(416);
            let location = at.get(&url).await.is(204).has("range", "0-1023").location();
            at.patch(&location, 1024, &content[1024..]).await.is(202);
        }
    }

    async fn u09_the_url_of_a_refused_chunk_tells_the_range(at) {
        let content = at.bytes(2048);
        let location = at.begin(&at.repository()).await;
        at.patch(&location, 1024, &content[1024..]).await.is(416);
        at.get(&location).await.is(204).has("range", "0-0").location();
    }

    async fn u12_a_wrong_digest_at_a_whole_put_is_400(at) {
        let (repository, content) = (at.repository(), at.bytes(500));
        for index in 0..2 {
            let location = at.begin(&repository).await;
            at.close(&location, &wrong(index), &content).await.refused(400, "DIGEST_INVALID");
            at.is_gone(&blob(&repository, &wrong(index))).await;
        }
    }

    async fn u12_a_wrong_digest_after_chunks_is_400(at) {
        let (repository, content) = (at.repository(), at.bytes(500));
        for index in 0..2 {
            let mut location = at.begin(&repository).await;
            for (number, chunk) in content.chunks(200).enumerate() {
                location = at.patch(&location, number * 200, chunk).await.is(202).location();
            }
            at.close(&location, &wrong(index), b"").await.refused(400, "DIGEST_INVALID");
            at.is_gone(&blob(&repository, &wrong(index))).await;
        }
    }

    async fn u12_a_wrong_digest_after_a_stream_is_400(at) {
        let (repository, content) = (at.repository(), at.bytes(500));
        for index in 0..2 {
            let location = at.begin(&repository).await;
            let ask = Ask::new(Method::PATCH, location).payload(Payload::Chunked(content.clone()));
            let location = at.send(ask).await.is(202).location();
            at.close(&location, &wrong(index), b"").await.refused(400, "DIGEST_INVALID");
            at.is_gone(&blob(&repository, &wrong(index))).await;
        }
    }

    async fn u15_a_416_tells_where_to_go_on_and_keeps_nothing(at) {
        let (repository, content) = (at.repository(), at.bytes(3067));
        let location = holding(&at, &repository, &content[..1024]).await;
        let refused = at.patch(&location, 2048, &content[2048..]).await.refused(416, "BLOB_UPLOAD_INVALID");
        let refused = refused.has("range", "0-1023");
        let on = refused.location();
        at.get(&on).await.is(204).has("range", "0-1023");
        at.patch(&on, 1024, &content[1024..]).await.is(202).has("range", "0-3066");
    }

    async fn u15_a_416_of_a_fresh_session_tells_where_to_begin(at) {
        let (repository, content) = (at.repository(), at.bytes(2048));
        let location = at.begin(&repository).await;
        let refused = at.patch(&location, 1024, &content[1024..]).await.refused(416, "BLOB_UPLOAD_INVALID");
        let on = refused.has("range", "0-0").location();
        at.patch(&on, 0, &content).await.is(202).has("range", "0-2047");
    }

    async fn u15_a_416_of_a_closing_chunk_tells_where_to_go_on_and_keeps_nothing(at) {
        let (repository, content) = (at.repository(), at.bytes(3067));
        for algorithm in BOTH {
            let digest = algorithm.of(&content);
            let location = holding(&at, &repository, &content[..1024]).await;
            let ask = Ask::new(Method::PUT, with_digest(&location, &digest)).header("content-range", "2048-3066");
            let refused = at.send(ask.payload(Payload::Given(content.slice(2048..)))).await;
            let on = refused.refused(416, "BLOB_UPLOAD_INVALID").has("range", "0-1023").location();
            let answer = at.close(&on, &digest, &content[1024..]).await.created(&digest);
            at.is_at_location(&answer, &content).await;
        }
    }

    async fn u15_a_416_arrives_while_the_body_is_still_sent(at) {
        let location = at.begin(&at.repository()).await;
        let ask = Ask::new(Method::PATCH, &location).header("content-range", "1000000-80999999");
        let refused = at.send_endless(ask, at.bytes(100_000)).await.refused(416, "BLOB_UPLOAD_INVALID");
        refused.has("range", "0-0").location();
        let ask = Ask::new(Method::PUT, with_digest(&location, &wrong(0))).header("content-range", "1000000-80999999");
        at.send_endless(ask, at.bytes(100_000)).await.refused(416, "BLOB_UPLOAD_INVALID");
    }

    async fn u16_an_unknown_session_is_404(at) {
        let repository = at.repository();
        let never = format!("{}{}", uploads(&repository), "00000000-0000-4000-8000-000000000000");
        is_unknown(&at, &never).await;
        is_unknown(&at, &format!("{}x", uploads(&repository))).await;
    }

    async fn u16_a_cancelled_session_is_404(at) {
        let location = at.begin(&at.repository()).await;
        at.delete(&location).await.is(204);
        is_unknown(&at, &location).await;
    }

    async fn u16_a_session_of_another_repository_is_404(at) {
        let (here, there) = (at.repository(), at.repository());
        let location = at.begin(&here).await;
        is_unknown(&at, &location.replace(&here, &there)).await;
        at.get(&location).await.is(204);
    }

    async fn u16_a_tampered_session_is_404(at) {
        let location = at.begin(&at.repository()).await;
        let id = location.rsplit_once('/').map_or(0, |(head, _)| head.len() + 1);
        for place in [id, id + 9, location.len() - 1] {
            let other = if &location[place..=place] == "0" { "1" } else { "0" };
            let tampered = format!("{}{other}{}", &location[..place], &location[place + 1..]);
            is_unknown(&at, &tampered).await;
        }
        at.get(&location).await.is(204).has("range", "0-0");
    }

    async fn u17_a_put_without_a_good_digest_is_400(at) {
        let content = at.bytes(100);
        let location = holding(&at, &at.repository(), &content).await;
        at.send(Ask::new(Method::PUT, &location)).await.refused(400, "DIGEST_INVALID");
        for digest in ["", "sha256:short", "sha512:short", "sha256", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
            at.close(&location, digest, b"").await.refused(400, "DIGEST_INVALID");
        }
        at.get(&location).await.is(204).has("range", "0-99");
        let digest = BOTH[0].of(&content);
        at.close(&location, &digest, b"").await.created(&digest);
    }

    async fn u17_a_bad_content_range_is_400_and_moves_nothing(at) {
        let content = at.bytes(100);
        let location = holding(&at, &at.repository(), &content).await;
        for range in ["bytes 100-109/110", "100", "100-x", "109-100", "100-110", "100-108"] {
            let ask = Ask::new(Method::PATCH, &location).header("content-range", range);
            let answer = at.send(ask.payload(Payload::Given(Bytes::from_static(b"0123456789")))).await.is(400);
            let code = answer.code();
            assert!(["SIZE_INVALID", "BLOB_UPLOAD_INVALID"].contains(&code.as_str()), "{range}: {code}");
            at.get(&location).await.is(204).has("range", "0-99");
            let ask = Ask::new(Method::PUT, with_digest(&location, &wrong(0))).header("content-range", range);
            let answer = at.send(ask.payload(Payload::Given(Bytes::from_static(b"0123456789")))).await.is(400);
            let code = answer.code();
            assert!(["SIZE_INVALID", "BLOB_UPLOAD_INVALID"].contains(&code.as_str()), "{range}: {code}");
            at.get(&location).await.is(204).has("range", "0-99");
        }
    }

    async fn u17_a_stream_of_another_length_than_its_range_is_400_and_moves_nothing(at) {
        let content = at.bytes(100);
        let location = holding(&at, &at.repository(), &content).await;
        for range in ["100-110", "100-108"] {
            let ask = Ask::new(Method::PATCH, &location).header("content-range", range);
            let answer = at.send(ask.payload(Payload::Chunked(Bytes::from_static(b"0123456789")))).await.is(400);
            let code = answer.code();
            assert!(["SIZE_INVALID", "BLOB_UPLOAD_INVALID"].contains(&code.as_str()), "{range}: {code}");
            at.get(&location).await.is(204).has("range", "0-99");
        }
        let digest = BOTH[0].of(&content);
        at.close(&location, &digest, b"").await.created(&digest);
    }

    async fn u21_every_refusal_is_the_same_through_another_region(at) {
        let (repository, content) = (at.repository(), at.bytes(300));
        let location = holding(&at, &repository, &content[..100]).await;
        for _ in 0..3 {
            at.patch(&location, 200, &content[200..]).await.refused(416, "BLOB_UPLOAD_INVALID").has("range", "0-99");
            at.get(&location).await.is(204).has("range", "0-99");
        }
        let digest = BOTH[0].of(&content);
        at.close(&location, &digest, &content[100..]).await.created(&digest);
        for _ in 0..3 {
            at.close(&location, &digest, b"").await.created(&digest);
        }
        at.delete(&location).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    }
}
