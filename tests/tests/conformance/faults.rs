//! Rows U5, U6, U19 where a smallest chunk is asked for; D8, E2, U21 where links between regions are cut or a region is
//! lost. One row after the other: each cuts, heals, and leaves a cluster in good health.

use std::time::Duration;

use http::Method;
use tests::client::{Answer, Ask, Client};
use tests::cluster::{Cluster, Options, PATIENCE};
use tests::registry::with_digest;
use tests::wait;

use crate::row::{At, BOTH, Expect, OCTETS, Row, blob, manifest, rows, uploads};

/// Smallest chunk that clients are asked for. Unit: bytes.
const CHUNK_MIN: usize = 2048;

/// Regions whose links can be cut.
pub(crate) fn options() -> Options {
    Options { settings: vec![("upload.chunk_bytes_min", format!("\"{CHUNK_MIN}B\""))], ..Options::meshed() }
}

/// Rows about chunks, which look for a smallest one, and those of this file.
pub(crate) fn all() -> Vec<Row> {
    let chunked = |(name, _): &Row| ["u05", "u06", "u10", "u14", "u19_chunks"].iter().any(|row| name.starts_with(row));
    crate::uploads::rows().into_iter().filter(chunked).chain(rows()).collect()
}

async fn ask(client: &Client, ask: Ask) -> Answer {
    let what = format!("{} {}", ask.method, ask.path);
    client.send(ask).await.unwrap_or_else(|failure| panic!("{what}: {failure:?}"))
}

/// Certainly not done, and worth a retry.
fn is_not_now(answer: Answer) {
    let answer = answer.is(503);
    assert_eq!(answer.code(), "UNAVAILABLE", "{}", answer.text());
    let seconds: u64 = answer.header("retry-after").parse().expect("Retry-After is a number of seconds");
    assert!(seconds > 0);
}

/// Waits until `path` at a region answers with `status`, from a state that is not marked stale.
async fn answers(client: &Client, method: Method, path: &str, status: u16) {
    wait::until(&format!("{method} {path} to be {status}"), PATIENCE, || async {
        let answer = client.send(Ask::new(method.clone(), path).within(Duration::from_secs(10))).await;
        let answer = answer.map_err(|failure| format!("{failure:?}"))?;
        if answer.status == status && !answer.is_marked_stale() { Ok(()) } else { Err(answer.status.to_string()) }
    })
    .await;
}

/// Cuts off a region that does not lead, and waits until it knows.
async fn cut(at: &At) -> usize {
    let cluster = at.cluster.read().await;
    let victim = cluster.follower().await;
    cluster.cut(victim);
    let client = at.client(victim);
    wait::until("the region to know that it is alone", PATIENCE, || async {
        let asked = client.send(Ask::new(Method::GET, "/readyz?for=push")).await;
        let answer = asked.map_err(|failure| format!("{failure:?}"))?;
        if answer.status == 503 { Ok(()) } else { Err(answer.status.to_string()) }
    })
    .await;
    victim
}

async fn heal(at: &At, victim: usize) {
    let cluster: &Cluster = &*at.cluster.read().await;
    cluster.heal(victim);
    cluster.await_ready().await;
}

/// An image under the tag `v1` and a blob beside it, known in every region.
async fn pushed(at: &At) -> (String, [String; 3]) {
    let (repository, content) = (at.repository(), at.bytes(500));
    let stored = at.image(&repository, BOTH[0]).await;
    at.tag(&repository, "v1", &stored).await;
    let digest = at.push(&repository, &content, BOTH[0]).await;
    at.cluster.read().await.await_quiet(PATIENCE).await;
    let paths = [manifest(&repository, "v1"), manifest(&repository, &stored.digest), blob(&repository, &digest)];
    (repository, paths)
}

rows! {
    async fn u05_the_smallest_chunk_is_told(at) {
        let answer = at.send(Ask::new(Method::POST, uploads(&at.repository()))).await.is(202);
        answer.has("oci-chunk-min-length", CHUNK_MIN.to_string());
    }

    async fn u21_the_session_of_a_region_that_cannot_be_reached_is_503(at) {
        let (repository, content) = (at.repository(), at.bytes(3000));
        let victim = at.cluster.read().await.follower().await;
        let (owner, other) = (at.client(victim), at.client((victim + 1) % 3));
        let location = ask(&owner, Ask::new(Method::POST, uploads(&repository))).await.is(202).location();
        let chunk = |from: usize| {
            let ask = Ask::new(Method::PATCH, &location).header("content-range", format!("{from}-{}", from + 999));
            let body = tests::client::Payload::Given(content.slice(from..from + 1000));
            ask.header("content-type", OCTETS).payload(body)
        };
        ask(&other, chunk(0)).await.is(202).has("range", "0-999");
        at.cluster.read().await.cut(victim);
        let digest = BOTH[0].of(&content);
        let closing = Ask::new(Method::PUT, with_digest(&location, &digest));
        let answered = tokio::join!(
            ask(&other, chunk(1000)),
            ask(&other, closing.clone()),
            ask(&other, Ask::new(Method::GET, &location)),
            ask(&other, Ask::new(Method::DELETE, &location)),
        );
        for answer in [answered.0, answered.1, answered.2, answered.3] {
            is_not_now(answer);
        }
        heal(&at, victim).await;
        answers(&other, Method::GET, &location, 204).await;
        ask(&other, chunk(1000)).await.is(202).has("range", "0-1999");
        ask(&other, chunk(2000)).await.is(202).has("range", "0-2999");
        ask(&other, closing).await.created(&digest);
    }

    async fn e02_without_a_quorum_writes_and_denials_are_503(at) {
        let (repository, paths) = pushed(&at).await;
        let victim = cut(&at).await;
        let alone = at.client(victim);
        is_not_now(ask(&alone, Ask::new(Method::POST, uploads(&repository))).await);
        for path in &paths {
            is_not_now(ask(&alone, Ask::new(Method::DELETE, path)).await);
        }
        for path in [manifest(&repository, "never"), format!("/v2/{}/tags/list", at.repository())] {
            is_not_now(ask(&alone, Ask::new(Method::GET, path)).await);
        }
        heal(&at, victim).await;
        for path in &paths {
            answers(&alone, Method::GET, path, 200).await;
        }
    }

    async fn e02_an_answer_that_may_be_stale_carries_a_warning(at) {
        let (_, paths) = pushed(&at).await;
        let victim = cut(&at).await;
        let alone = at.client(victim);
        for method in [Method::GET, Method::HEAD] {
            let answer = ask(&alone, Ask::new(method, &paths[0])).await.is(200);
            let warnings: Vec<&str> =
                answer.headers.get_all("warning").iter().map(|value| value.to_str().expect("text")).collect();
            assert!(warnings.iter().map(|warning| warning.len()).sum::<usize>() <= 4096);
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].starts_with("299 - \"stale: ") && warnings[0].ends_with('"'), "{warnings:?}");
        }
        heal(&at, victim).await;
        answers(&alone, Method::GET, &paths[0], 200).await;
    }

    async fn d08_what_was_deleted_meanwhile_is_gone_after_the_heal(at) {
        let (repository, paths) = pushed(&at).await;
        let victim = cut(&at).await;
        let (alone, other) = (at.client(victim), at.client((victim + 1) % 3));
        for path in [&paths[1], &paths[2]] {
            answers(&other, Method::DELETE, path, 202).await;
        }
        for path in &paths {
            ask(&other, Ask::new(Method::HEAD, path)).await.is(404);
        }
        // Nothing can be said to be gone without a quorum, and nothing is: it is old, or not known.
        let old = ask(&alone, Ask::new(Method::GET, &paths[0])).await;
        assert!(old.status == 503 || (old.status == 200 && old.is_marked_stale()), "{} {:?}", old.status, old.headers);
        heal(&at, victim).await;
        answers(&alone, Method::HEAD, &paths[0], 404).await;
        for _ in 0..3 {
            for path in &paths {
                at.is_gone(path).await;
                ask(&alone, Ask::new(Method::GET, path)).await.is(404);
            }
            assert!(at.tags(&repository).await.is_empty());
        }
    }

    async fn d08_what_was_deleted_stays_gone_in_a_region_that_comes_back_empty(at) {
        let (repository, paths) = pushed(&at).await;
        let mut cluster = at.cluster.write().await;
        let victim = cluster.follower().await;
        let member = (victim + 1) % 3;
        cluster.destroy(victim);
        let other = at.client(member);
        for path in [&paths[1], &paths[2]] {
            answers(&other, Method::DELETE, path, 202).await;
        }
        cluster.rejoin(victim, member).await;
        cluster.await_ready().await;
        drop(cluster);
        let new = at.client(victim);
        for _ in 0..3 {
            for path in &paths {
                ask(&new, Ask::new(Method::HEAD, path)).await.is(404);
                ask(&new, Ask::new(Method::GET, path)).await.is(404);
            }
            assert!(at.tags(&repository).await.is_empty());
        }
    }
}
