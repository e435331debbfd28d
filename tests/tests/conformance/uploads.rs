//! Rows U1 to U6, U9 to U11, U13, U14, U16, U18 to U21: sessions that go well.

use bytes::Bytes;
use futures_util::stream;
use http::Method;
use tests::client::{Ask, Payload};
use tests::registry::with_digest;
use tests::wait;

use crate::row::{At, BOTH, Expect, OCTETS, blob, rows, uploads};

/// Chunks of the length that the registry asks for, 1,024 bytes at least: two whole ones and a smaller one.
async fn chunked(at: &At, repository: &str) -> (String, Bytes, usize) {
    let answer = at.send(Ask::new(Method::POST, uploads(repository))).await.is(202);
    let minimum = match answer.header("oci-chunk-min-length") {
        "" => 0,
        text => text.parse::<usize>().expect("a minimum is a number"),
    };
    let chunk = minimum.max(1024);
    (answer.location(), at.bytes(3 * chunk - 5), chunk)
}

rows! {
    async fn u01_post_opens_a_session(at) {
        let repository = at.repository();
        let answer = at.send(Ask::new(Method::POST, uploads(&repository))).await.is(202).has("range", "0-0");
        let location = answer.location();
        let id = location.strip_prefix(&uploads(&repository)).expect("the Location is below the repository's uploads");
        assert!(!answer.header("docker-upload-uuid").is_empty());
        assert!(id.contains(answer.header("docker-upload-uuid")), "{location} holds the UUID");
        assert!(!id.contains('/'), "{location} has one part behind uploads/");
        let uuid = answer.header("docker-upload-uuid");
        assert_eq!(uuid.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{uuid}");
    }

    async fn u02_one_put_uploads_a_whole_blob(at) {
        let (repository, content) = (at.repository(), at.bytes(4096));
        for algorithm in BOTH {
            let digest = algorithm.of(&content);
            let location = at.begin(&repository).await;
            let answer = at.close(&location, &digest, &content).await.created(&digest);
            at.is_at_location(&answer, &content).await;
        }
    }

    async fn u03_a_stream_without_length_or_range(at) {
        let (repository, content) = (at.repository(), at.bytes(4096));
        for algorithm in BOTH {
            let digest = algorithm.of(&content);
            let location = at.begin(&repository).await;
            let ask = Ask::new(Method::PATCH, location).header("content-type", OCTETS);
            let answer = at.send(ask.payload(Payload::Chunked(content.clone()))).await.is(202);
            let answer = at.close(&answer.location(), &digest, b"").await.created(&digest);
            at.is_at_location(&answer, &content).await;
        }
    }

    async fn u04_one_chunk_with_its_range(at) {
        let (repository, content) = (at.repository(), at.bytes(512));
        for algorithm in BOTH {
            let digest = algorithm.of(&content);
            let location = at.begin(&repository).await;
            let answer = at.patch(&location, 0, &content).await.is(202);
            let answer = at.close(&answer.location(), &digest, b"").await.created(&digest);
            at.is_at_location(&answer, &content).await;
        }
    }

    async fn u05_three_chunks_and_an_empty_put(at) {
        let repository = at.repository();
        for algorithm in BOTH {
            let (mut location, content, chunk) = chunked(&at, &repository).await;
            for (index, part) in content.chunks(chunk).enumerate() {
                location = at.patch(&location, index * chunk, part).await.is(202).location();
            }
            let digest = algorithm.of(&content);
            let answer = at.close(&location, &digest, b"").await.created(&digest);
            at.is_at_location(&answer, &content).await;
        }
    }

    async fn u06_the_last_chunk_in_the_put(at) {
        let repository = at.repository();
        for algorithm in BOTH {
            let (mut location, content, chunk) = chunked(&at, &repository).await;
            for index in 0..2 {
                let part = &content[index * chunk..(index + 1) * chunk];
                location = at.patch(&location, index * chunk, part).await.is(202).location();
            }
            let digest = algorithm.of(&content);
            let last = content.slice(2 * chunk..);
            let ask = Ask::new(Method::PUT, with_digest(&location, &digest))
                .header("content-range", format!("{}-{}", 2 * chunk, content.len() - 1))
                .payload(Payload::Given(last));
            let answer = at.send(ask).await.created(&digest);
            at.is_at_location(&answer, &content).await;
        }
    }

    async fn u09_a_fresh_session_tells_an_empty_range(at) {
        let location = at.begin(&at.repository()).await;
        at.get(location).await.is(204).has("range", "0-0");
    }

    async fn u10_a_refused_closing_chunk_leaves_a_session_that_ends_whole(at) {
        let repository = at.repository();
        for algorithm in BOTH {
            let (location, content, chunk) = chunked(&at, &repository).await;
            let digest = algorithm.of(&content);
            let location = at.patch(&location, 0, &content[..chunk]).await.is(202).location();
            let last = |location: &str| {
                Ask::new(Method::PUT, with_digest(location, &digest))
                    .header("content-range", format!("{}-{}", 2 * chunk, content.len() - 1))
                    .payload(Payload::Given(content.slice(2 * chunk..)))
            };
            let location = at.send(last(&location)).await.is(416).location();
            let location = at.patch(&location, chunk, &content[chunk..2 * chunk]).await.is(202).location();
            let answer = at.send(last(&location)).await.created(&digest);
            at.is_at_location(&answer, &content).await;
        }
    }

    async fn u10_a_refused_chunk_leaves_a_session_that_ends_whole(at) {
        let repository = at.repository();
        for algorithm in BOTH {
            let (location, content, chunk) = chunked(&at, &repository).await;
            at.patch(&location, chunk, &content[chunk..2 * chunk]).await.is(416);
            at.patch(&location, 0, &content[..chunk]).await.is(202);
            at.patch(&location, 2 * chunk, &content[2 * chunk..]).await.is(416);
            at.patch(&location, chunk, &content[chunk..2 * chunk]).await.is(202);
            at.patch(&location, 0, &content[..chunk]).await.is(416);
            let location = at.patch(&location, 2 * chunk, &content[2 * chunk..]).await.is(202).location();
            let digest = algorithm.of(&content);
            let answer = at.close(&location, &digest, b"").await.created(&digest);
            at.is_at_location(&answer, &content).await;
        }
    }

    async fn u11_a_location_whose_query_was_written_anew_is_accepted(at) {
        let (repository, content) = (at.repository(), at.bytes(300));
        let digest = BOTH[0].of(&content);
        let location = at.begin(&repository).await;
        let rewritten = |location: &str, more: &[(&str, &str)]| {
            let (path, query) = location.split_once('?').unwrap_or((location, ""));
            let mut pairs: Vec<String> = query.split('&').filter(|pair| !pair.is_empty()).map(str::to_owned).collect();
            pairs.extend(more.iter().map(|(name, value)| format!("{name}={}", value.replace(':', "%3A"))));
            pairs.sort();
            format!("{path}?{}", pairs.join("&"))
        };
        let location = at.patch(&rewritten(&location, &[]), 0, &content[..100]).await.is(202).location();
        at.get(rewritten(&location, &[("digest", &digest)])).await.is(204).has("range", "0-99");
        let ask = Ask::new(Method::PUT, rewritten(&location, &[("digest", &digest)]));
        let answer = at.send(ask.payload(Payload::Given(content.slice(100..)))).await.created(&digest);
        at.is_at_location(&answer, &content).await;
    }

    async fn u13_a_fresh_session_is_cancelled(at) {
        let location = at.begin(&at.repository()).await;
        at.delete(&location).await.is(204);
        at.get(&location).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    }

    async fn u13_a_session_with_bytes_is_cancelled(at) {
        let location = at.begin(&at.repository()).await;
        let location = at.patch(&location, 0, &at.bytes(300)).await.is(202).location();
        at.delete(&location).await.is(204);
        at.get(&location).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    }

    async fn u14_each_chunk_is_answered_with_location_and_range(at) {
        let repository = at.repository();
        let (mut location, content, chunk) = chunked(&at, &repository).await;
        for (index, part) in content.chunks(chunk).enumerate() {
            let last = index * chunk + part.len() - 1;
            let answer = at.patch(&location, index * chunk, part).await.is(202).has("range", format!("0-{last}"));
            location = answer.location();
        }
    }

    async fn u16_any_earlier_location_answers(at) {
        let content = at.bytes(900);
        let first = at.begin(&at.repository()).await;
        let second = at.patch(&first, 0, &content[..300]).await.is(202).location();
        let third = at.patch(&second, 300, &content[300..]).await.is(202).location();
        for location in [first, second, third] {
            let answer = at.get(location).await.is(204).has("range", "0-899");
            answer.location();
        }
    }

    async fn u18_an_upload_goes_on_after_a_broken_connection(at) {
        let (repository, content) = (at.repository(), at.bytes(600_000));
        let location = at.begin(&repository).await;
        let (parts, sent) = (content.slice(..400_000), std::sync::Arc::new(tokio::sync::Notify::new()));
        let told = sent.clone();
        // The body pauses for ever in its middle; the request is dropped there.
        let body = stream::unfold(Some(parts), move |left| {
            let told = told.clone();
            async move {
                match left {
                    Some(bytes) => Some((bytes, None)),
                    None => {
                        told.notify_one();
                        std::future::pending().await
                    }
                }
            }
        });
        let ask = Ask::new(Method::PATCH, &location).header("content-type", OCTETS);
        let client = at.last_region();
        tokio::select! {
            _ = client.open_stream(ask, body) => panic!("a body without an end has no answer"),
            () = sent.notified() => drop(client),
        }
        // Only once the break was met: a chunk that says no range is appended wherever the session stands by then.
        let held = wait::until("what came to be held", tests::cluster::PATIENCE, || async {
            let answer = at.get(&location).await.is(204);
            let last: usize = answer.header("range").trim_start_matches("0-").parse().expect("a range");
            if last > 0 { Ok(last + 1) } else { Err("the session is empty".to_owned()) }
        })
        .await;
        assert!(held <= 400_000, "no more is held than was sent");
        at.patch(&location, held, &content[held..]).await.is(202).has("range", "0-599999");
        let digest = BOTH[0].of(&content);
        let answer = at.close(&location, &digest, b"").await.created(&digest);
        at.is_at_location(&answer, &content).await;
    }

    async fn u19_a_digest_algorithm_may_be_announced(at) {
        let (repository, content) = (at.repository(), at.bytes(100));
        let path = format!("{}?digest-algorithm=sha512", uploads(&repository));
        let location = at.send(Ask::new(Method::POST, path)).await.is(202).location();
        let digest = BOTH[1].of(&content);
        at.close(&location, &digest, &content).await.created(&digest);
    }

    async fn u19_an_unknown_digest_algorithm_is_400(at) {
        let path = format!("{}?digest-algorithm=md5", uploads(&at.repository()));
        at.send(Ask::new(Method::POST, path)).await.refused(400, "DIGEST_INVALID");
    }

    async fn u19_a_json_type_without_a_body_opens_a_session(at) {
        let ask = Ask::new(Method::POST, uploads(&at.repository())).header("content-type", "application/json");
        at.send(ask).await.is(202).location();
    }

    async fn u19_unknown_query_names_are_ignored(at) {
        let path = format!("{}?origin=example.com&ns=registry.example.com", uploads(&at.repository()));
        at.send(Ask::new(Method::POST, path)).await.is(202).location();
    }

    async fn u19_chunks_below_the_minimum_are_taken(at) {
        let (repository, content) = (at.repository(), at.bytes(7));
        for algorithm in BOTH {
            let mut location = at.begin(&repository).await;
            for (offset, byte) in content.iter().enumerate() {
                location = at.patch(&location, offset, &[*byte]).await.is(202).location();
            }
            let digest = algorithm.of(&content);
            let answer = at.close(&location, &digest, b"").await.created(&digest);
            at.is_at_location(&answer, &content).await;
        }
    }

    async fn u20_of_two_chunks_at_one_offset_one_is_taken(at) {
        let repository = at.repository();
        for algorithm in BOTH {
            let contents = [at.bytes(200_000), at.bytes(200_000)];
            let location = at.begin(&repository).await;
            let (one, other) = tokio::join!(at.patch(&location, 0, &contents[0]), at.patch(&location, 0, &contents[1]));
            let content = match (one.status.as_u16(), other.status.as_u16()) {
                (202, 416) => &contents[0],
                (416, 202) => &contents[1],
                both => panic!("one is taken and one refused, not {both:?}"),
            };
            let digest = algorithm.of(content);
            let answer = at.close(&location, &digest, b"").await.created(&digest);
            at.is_at_location(&answer, content).await;
        }
    }

    async fn u21_the_closing_put_sent_again_is_201(at) {
        let (repository, content) = (at.repository(), at.bytes(5000));
        for algorithm in BOTH {
            let digest = algorithm.of(&content);
            let location = at.begin(&repository).await;
            at.patch(&location, 0, &content).await.is(202);
            for _ in 0..4 {
                let answer = at.close(&location, &digest, b"").await.created(&digest);
                at.is_at_location(&answer, &content).await;
            }
            at.head(blob(&repository, &digest)).await.is(200);
        }
    }
}
