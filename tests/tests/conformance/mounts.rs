//! Rows S1, S2, M1 to M5: a blob in one request, and blobs that are in another repository already.

use bytes::Bytes;
use http::Method;
use tests::client::{Ask, Payload};

use crate::row::{BOTH, Expect, OCTETS, blob, rows, uploads};

rows! {
    async fn s01_one_post_uploads_a_whole_blob(at) {
        let (repository, content) = (at.repository(), at.bytes(2000));
        for algorithm in BOTH {
            let digest = algorithm.of(&content);
            let ask = Ask::new(Method::POST, format!("{}?digest={digest}", uploads(&repository)));
            let ask = ask.header("content-type", OCTETS).payload(Payload::Given(content.clone()));
            let answer = at.send(ask).await.created(&digest);
            at.is_at_location(&answer, &content).await;
        }
    }

    async fn s01_zero_bytes_may_come_in_chunked_coding(at) {
        let repository = at.repository();
        for algorithm in BOTH {
            let digest = algorithm.of(b"");
            let ask = Ask::new(Method::POST, format!("{}?digest={digest}", uploads(&repository)));
            let answer = at.send(ask.payload(Payload::Chunked(Bytes::new()))).await.created(&digest);
            at.is_at_location(&answer, b"").await;
        }
    }

    async fn s01_names_in_the_query_may_be_percent_encoded(at) {
        let (there, content) = (at.repository(), at.bytes(1500));
        for algorithm in BOTH {
            let (posted, put, mounted, anonymous) = (at.repository(), at.repository(), at.repository(), at.repository());
            let digest = algorithm.of(&content);
            let written = digest.replace(':', "%3A");
            let ask = Ask::new(Method::POST, format!("{}?digest={written}", uploads(&posted)));
            let answer = at.send(ask.payload(Payload::Given(content.clone()))).await.created(&digest);
            at.is_at_location(&answer, &content).await;
            let location = at.begin(&put).await;
            let answer = at.close(&location, &written.replace("%3A", "%3a"), &content).await.created(&digest);
            at.is_at_location(&answer, &content).await;
            at.push(&there, &content, algorithm).await;
            let from = there.replace('/', "%2F");
            for (repository, from) in [(&mounted, format!("&from={from}")), (&anonymous, String::new())] {
                let path = format!("{}?mount={written}{from}", uploads(repository));
                let answer = at.send(Ask::new(Method::POST, path)).await.created(&digest);
                assert_eq!(answer.location(), blob(repository, &digest));
                at.is_at_location(&answer, &content).await;
            }
            // What is encoded is read before it is judged: this is another repository, and another digest.
            let path = format!("{}?mount={written}&from={from}%2Fother", uploads(&at.repository()));
            at.send(Ask::new(Method::POST, path)).await.is(202);
            let path = format!("{}?mount={}", uploads(&at.repository()), written.replace("sha", "sha%20"));
            at.send(Ask::new(Method::POST, path)).await.refused(400, "DIGEST_INVALID");
        }
    }

    async fn s02_a_wrong_digest_is_400(at) {
        let (repository, content) = (at.repository(), at.bytes(2000));
        for algorithm in BOTH {
            let digest = algorithm.of(b"other bytes");
            let ask = Ask::new(Method::POST, format!("{}?digest={digest}", uploads(&repository)));
            at.send(ask.payload(Payload::Given(content.clone()))).await.refused(400, "DIGEST_INVALID");
            at.is_gone(&blob(&repository, &digest)).await;
        }
    }

    async fn m01_a_mount_from_a_repository_is_201(at) {
        let (here, there, content) = (at.repository(), at.repository(), at.bytes(900));
        for algorithm in BOTH {
            let digest = at.push(&there, &content, algorithm).await;
            let path = format!("{}?mount={digest}&from={there}", uploads(&here));
            let answer = at.send(Ask::new(Method::POST, path)).await.created(&digest);
            assert!(answer.location().starts_with(&format!("/v2/{here}/blobs/")));
            at.is_at_location(&answer, &content).await;
            at.head(blob(&here, &digest)).await.is(200).has("content-length", "900");
        }
    }

    async fn m02_a_mount_without_a_source_is_201(at) {
        let (here, there, content) = (at.repository(), at.repository(), at.bytes(900));
        for algorithm in BOTH {
            let digest = at.push(&there, &content, algorithm).await;
            let path = format!("{}?mount={digest}", uploads(&here));
            let answer = at.send(Ask::new(Method::POST, path)).await.created(&digest);
            assert!(answer.location().starts_with(&format!("/v2/{here}/blobs/")));
            at.is_at_location(&answer, &content).await;
            at.head(blob(&here, &digest)).await.is(200).has("content-length", "900");
        }
    }

    async fn m03_a_mount_of_what_nobody_has_opens_a_session(at) {
        let (here, there, content) = (at.repository(), at.repository(), at.bytes(900));
        at.push(&there, b"{}", BOTH[0]).await;
        for algorithm in BOTH {
            let digest = algorithm.of(&content);
            let path = format!("{}?mount={digest}&from={there}", uploads(&here));
            let location = at.send(Ask::new(Method::POST, path)).await.is(202).location();
            let answer = at.close(&location, &digest, &content).await.created(&digest);
            at.is_at_location(&answer, &content).await;
        }
    }

    async fn m03_a_mount_from_where_it_is_not_opens_a_session(at) {
        let (here, there, other, content) = (at.repository(), at.repository(), at.repository(), at.bytes(100));
        at.push(&other, b"{}", BOTH[0]).await;
        for algorithm in BOTH {
            let digest = at.push(&there, &content, algorithm).await;
            for from in [other.clone(), at.repository(), "Not%20A//Name".to_owned()] {
                let path = format!("{}?mount={digest}&from={from}", uploads(&here));
                at.send(Ask::new(Method::POST, path)).await.is(202).location();
                at.is_gone(&blob(&here, &digest)).await;
            }
        }
    }

    async fn m03_a_mount_of_what_no_repository_holds_any_more_opens_a_session(at) {
        let (here, there, content) = (at.repository(), at.repository(), at.bytes(100));
        let digest = at.push(&there, &content, BOTH[0]).await;
        at.delete(blob(&there, &digest)).await.is(202);
        for from in [String::new(), format!("&from={there}")] {
            let path = format!("{}?mount={digest}{from}", uploads(&here));
            let location = at.send(Ask::new(Method::POST, path)).await.is(202).location();
            at.delete(&location).await.is(204);
        }
    }

    async fn m04_a_mounted_blob_is_deleted_in_each_repository_by_itself(at) {
        let (here, there, content) = (at.repository(), at.repository(), at.bytes(900));
        for algorithm in BOTH {
            let digest = at.push(&there, &content, algorithm).await;
            let path = format!("{}?mount={digest}&from={there}", uploads(&here));
            at.send(Ask::new(Method::POST, path)).await.created(&digest);
            at.delete(blob(&here, &digest)).await.is(202);
            at.is_gone(&blob(&here, &digest)).await;
            at.head(blob(&there, &digest)).await.is(200);
            at.delete(blob(&there, &digest)).await.is(202);
            at.is_gone(&blob(&there, &digest)).await;
        }
    }

    async fn m04_a_blob_mounted_without_a_source_is_deleted_in_each_repository_by_itself(at) {
        let (here, there, content) = (at.repository(), at.repository(), at.bytes(900));
        for algorithm in BOTH {
            let digest = at.push(&there, &content, algorithm).await;
            for [first, second] in [[&here, &there], [&there, &here]] {
                // In the second turn it is mounted the other way round.
                let path = format!("{}?mount={digest}", uploads(first));
                at.send(Ask::new(Method::POST, path)).await.created(&digest);
                at.delete(blob(first, &digest)).await.is(202);
                at.is_gone(&blob(first, &digest)).await;
                assert_eq!(at.get(blob(second, &digest)).await.is(200).body, content);
                at.push(first, &content, algorithm).await;
            }
            for repository in [&there, &here] {
                at.delete(blob(repository, &digest)).await.is(202);
                at.is_gone(&blob(repository, &digest)).await;
            }
            let path = format!("{}?mount={digest}", uploads(&here));
            at.delete(at.send(Ask::new(Method::POST, path)).await.is(202).location()).await.is(204);
        }
    }

    async fn m05_the_session_of_a_mount_that_cannot_be_is_cancelled(at) {
        let (here, there) = (at.repository(), at.repository());
        let path = format!("{}?mount={}&from={there}", uploads(&here), BOTH[0].of(b"nowhere"));
        let location = at.send(Ask::new(Method::POST, path)).await.is(202).location();
        at.delete(&location).await.is(204);
        at.get(&location).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    }
}
