//! Rows G1 to G3: parts of a blob.

use bytes::Bytes;
use http::Method;
use tests::client::{Answer, Ask};

use crate::row::{Algorithm, At, BOTH, Expect, blob, rows};

async fn part(at: &At, path: &str, range: &str) -> Answer {
    at.send(Ask::new(Method::GET, path).header("range", format!("bytes={range}"))).await
}

async fn pushed(at: &At, algorithm: Algorithm) -> (String, Bytes) {
    let (repository, content) = (at.repository(), at.bytes(2048));
    let digest = at.push(&repository, &content, algorithm).await;
    (blob(&repository, &digest), content)
}

async fn partial(at: &At, range: &str, start: usize, end: usize) {
    for algorithm in BOTH {
        let (path, content) = pushed(at, algorithm).await;
        let answer = part(at, &path, range).await.is(206);
        let answer = answer.has("content-length", (end - start).to_string());
        let answer = answer.has("content-range", format!("bytes {start}-{}/2048", end - 1));
        let answer = answer.has("docker-content-digest", algorithm.of(&content));
        assert_eq!(answer.body, content[start..end]);
    }
}

async fn unsatisfiable(at: &At, range: &str) {
    for algorithm in BOTH {
        let (path, _) = pushed(at, algorithm).await;
        part(at, &path, range).await.is(416).has("content-range", "bytes */2048");
    }
}

/// The parts of a multipart body, each with its `Content-Range`.
fn parts(answer: &Answer) -> Vec<(String, Bytes)> {
    let kind = answer.header("content-type");
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("parts have a boundary");
    let line = format!("--{}", boundary.trim_matches('"'));
    let (mut parts, mut rest) = (Vec::new(), answer.body.clone());
    loop {
        let at = rest.windows(line.len()).position(|window| window == line.as_bytes()).expect("a boundary");
        let after = rest.split_off(at + line.len());
        if !parts.is_empty() {
            let (_, last): &mut (String, Bytes) = parts.last_mut().expect("it is not empty");
            *last = rest.slice(..at - 2);
            assert_eq!(rest.slice(at - 2..at), &b"\r\n"[..], "a line end before the boundary");
        }
        if after.starts_with(b"--") {
            return parts;
        }
        let end = after.windows(4).position(|window| window == b"\r\n\r\n").expect("a part has a head");
        let head = String::from_utf8_lossy(&after[..end]).to_lowercase();
        let range = head.lines().find_map(|line| line.strip_prefix("content-range: ")).expect("a part has its range");
        parts.push((range.to_owned(), Bytes::new()));
        rest = after.slice(end + 4..);
    }
}

rows! {
    async fn g01_from_and_to(at) {
        partial(&at, "500-1499", 500, 1500).await;
    }

    async fn g01_from(at) {
        partial(&at, "500-", 500, 2048).await;
    }

    async fn g01_the_last(at) {
        partial(&at, "-500", 1548, 2048).await;
    }

    async fn g01_beyond_the_end_is_clamped(at) {
        partial(&at, "2000-5000", 2000, 2048).await;
    }

    async fn g02_a_reversed_range_is_416(at) {
        unsatisfiable(&at, "500-0").await;
    }

    async fn g02_a_range_behind_the_end_is_416(at) {
        unsatisfiable(&at, "5000-10000").await;
    }

    async fn g03_several_parts_are_all_there(at) {
        for algorithm in BOTH {
            let (path, content) = pushed(&at, algorithm).await;
            let answer = part(&at, &path, "0-9,100-199,-5").await.is(206);
            let answer = answer.has("docker-content-digest", algorithm.of(&content));
            assert_eq!(answer.header("content-length"), answer.body.len().to_string());
            let wanted = [(0, 10), (100, 200), (2043, 2048)];
            let wanted = wanted.map(|(from, to)| (format!("bytes {from}-{}/2048", to - 1), content.slice(from..to)));
            assert_eq!(parts(&answer), wanted);
        }
    }

    async fn g03_another_unit_is_ignored(at) {
        let (path, content) = pushed(&at, BOTH[0]).await;
        let ask = Ask::new(Method::GET, &path).header("range", "lines=1-2");
        assert_eq!(at.send(ask).await.is(200).has("content-length", "2048").body, content);
    }

    async fn g03_a_stale_if_range_gets_the_whole(at) {
        let (path, content) = pushed(&at, BOTH[0]).await;
        let ask = |tag: &str| Ask::new(Method::GET, &path).header("range", "bytes=0-9").header("if-range", tag);
        assert_eq!(at.send(ask("\"sha256:other\"")).await.is(200).has("content-length", "2048").body, content);
        let fresh = format!("\"{}\"", BOTH[0].of(&content));
        assert_eq!(at.send(ask(&fresh)).await.is(206).body, content[..10]);
    }

    async fn g03_head_ignores_a_range(at) {
        let (path, _) = pushed(&at, BOTH[0]).await;
        let ask = Ask::new(Method::HEAD, &path).header("range", "bytes=0-9");
        let answer = at.send(ask).await.is(200).has("content-length", "2048").has("content-range", "");
        assert!(answer.body.is_empty());
    }

    async fn g03_a_client_that_closes_early_is_no_error(at) {
        let (repository, content) = (at.repository(), at.bytes(3_000_000));
        let digest = at.push(&repository, &content, BOTH[0]).await;
        let mut open = at.open(Ask::new(Method::GET, blob(&repository, &digest))).await;
        assert!(open.next().await.is_some_and(|bytes| bytes.is_ok()));
        drop(open);
        // An error in a region's log fails the whole run when the regions end.
        at.head(blob(&repository, &digest)).await.is(200);
    }
}
