//! Ping, blobs, ranges.

use crate::world::World;

/// `sha256:…` of bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let digest = registry::manifest::digest_of(domain::Algorithm::Sha256, bytes);
    digest.to_string()
}

/// `sha512:…` of bytes.
pub(crate) fn long_digest(bytes: &[u8]) -> String {
    registry::manifest::digest_of(domain::Algorithm::Sha512, bytes).to_string()
}

/// Bytes that differ by seed.
pub(crate) fn bytes(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8).wrapping_add(seed)).collect()
}

/// Pushes a blob in two requests.
pub(crate) async fn push(world: &World, repository: &str, bytes: &[u8], digest: &str) {
    let session = world.ask("POST", &format!("/v2/{repository}/blobs/uploads/")).send().await.expect(202).location();
    let put = world.ask("PUT", &format!("{session}?digest={digest}")).body(bytes.to_vec());
    let answer = put.send().await.expect(201).has("docker-content-digest", digest);
    world.get(&answer.location()).await.expect(200).is(bytes);
}

pub(crate) async fn all(world: &World) {
    ping(world).await;
    blobs(world).await;
    ranges(world).await;
    paths(world).await;
}

async fn ping(world: &World) {
    world.get("/v2/").await.expect(200).is(b"{}");
    world.head("/v2/").await.expect(200).has("content-length", "2").is(b"");
    world.get("/v2").await.expect(301).has("location", "/v2/");
}

async fn blobs(world: &World) {
    let content = bytes(1, 3000);
    for digest in [digest(&content), long_digest(&content)] {
        let path = format!("/v2/b/one/blobs/{digest}");
        world.get(&path).await.error(404, "BLOB_UNKNOWN");
        push(world, "b/one", &content, &digest).await;
        let answer = world.ask("GET", &path).header("accept-encoding", "zstd, gzip").send().await.expect(200);
        let answer = answer.is(&content).has("docker-content-digest", &digest).has("accept-ranges", "bytes");
        let answer = answer.has("content-length", "3000").has("etag", format!("\"{digest}\""));
        assert!(answer.header("content-encoding").is_none());
        world.head(&path).await.expect(200).is(b"").has("content-length", "3000").has("docker-content-digest", &digest);
        let tag = format!("\"{digest}\"");
        world.ask("GET", &path).header("if-none-match", tag).send().await.expect(304).is(b"");
        for method in ["GET", "HEAD"] {
            let same = world.ask(method, &path).header("if-none-match", "*").send().await.expect(304);
            assert_eq!((same.header("content-length"), same.header("transfer-encoding")), (None, None), "{method}");
            assert!(same.header("etag").is_some() && same.header("cache-control").is_some(), "{method}");
        }
        // B6: another repository does not show it.
        world.get(&format!("/v2/b/two/blobs/{digest}")).await.error(404, "BLOB_UNKNOWN");
        world.delete(&path).await.expect(202);
        world.head(&path).await.error(404, "BLOB_UNKNOWN");
        world.delete(&path).await.error(404, "BLOB_UNKNOWN");
    }
    let empty = digest(b"");
    let session = world.ask("POST", "/v2/b/one/blobs/uploads/").send().await.expect(202).location();
    world.ask("PUT", &format!("{session}?digest={empty}")).chunked("").send().await.expect(201);
    world.head(&format!("/v2/b/one/blobs/{empty}")).await.expect(200).has("content-length", "0");
    world.get(&format!("/v2/b/one/blobs/{empty}")).await.expect(200).has("content-length", "0").is(b"");
    for _ in 0..3 {
        let braces = format!("/v2/b/one/blobs/{}", digest(b"{}"));
        push(world, "b/one", b"{}", &digest(b"{}")).await;
        world.head(&braces).await.expect(200);
        world.delete(&braces).await.expect(202);
        world.head(&braces).await.error(404, "BLOB_UNKNOWN");
    }
    let upper = digest(b"x").to_uppercase().replace("SHA", "sha");
    for bad in [upper.as_str(), "sha256:ab", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:baddigeststring"] {
        for method in ["GET", "HEAD", "DELETE"] {
            world.ask(method, &format!("/v2/b/one/blobs/{bad}")).send().await.error(400, "DIGEST_INVALID");
        }
    }
}

async fn ranges(world: &World) {
    let content = bytes(2, 2048);
    let digest = digest(&content);
    push(world, "b/ranges", &content, &digest).await;
    let path = format!("/v2/b/ranges/blobs/{digest}");
    let ask = |range: &str| world.ask("GET", &path).header("range", range);
    for (range, from, to) in
        [("500-1499", 500, 1499), ("500-", 500, 2047), ("-500", 1548, 2047), ("2000-5000", 2000, 2047)]
    {
        let answer = ask(&format!("bytes={range}")).send().await.expect(206).is(&content[from..=to]);
        let answer = answer.has("content-range", format!("bytes {from}-{to}/2048"));
        answer.has("content-length", (to - from + 1).to_string());
    }
    for range in ["bytes=500-0", "bytes=5000-10000"] {
        let refused = ask(range).send().await.expect(416).has("content-range", "bytes */2048").is(b"");
        assert_eq!((refused.header("cache-control"), refused.header("etag")), (None, None));
    }
    ask("items=0-1").send().await.expect(200).is(&content);
    ask("bytes=0-1").header("if-range", "\"other\"").send().await.expect(200).is(&content);
    ask("bytes=0-1").header("if-range", format!("\"{digest}\"")).send().await.expect(206).is(&content[..2]);
    world.ask("HEAD", &path).header("range", "bytes=0-1").send().await.expect(200).has("content-length", "2048");
    let many = ask("bytes=0-9, 100-109").send().await.expect(206);
    let kind = many.header("content-type").unwrap().to_owned();
    assert!(kind.starts_with("multipart/byteranges; boundary="), "{kind}");
    let boundary = kind.split_once("boundary=").unwrap().1;
    let mut wanted = Vec::new();
    for (range, from, lead) in [("0-9", 0, ""), ("100-109", 100, "\r\n")] {
        wanted.extend_from_slice(format!("{lead}--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/2048\r\n\r\n").as_bytes());
        wanted.extend_from_slice(&content[from..from + 10]);
    }
    wanted.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    many.is(&wanted);
}

async fn paths(world: &World) {
    world.get("/v2/x/y/z").await.error(404, "UNSUPPORTED");
    world.get("/other").await.error(404, "UNSUPPORTED");
    world.ask("PATCH", "/v2/b/one/tags/list").send().await.error(405, "UNSUPPORTED").has("allow", "GET, HEAD");
    world.ask("GET", "/v2/b/one/blobs/uploads/").send().await.error(405, "UNSUPPORTED").has("allow", "POST");
    for bad in ["A/b", "a//b", "-a", "a..b"] {
        world.get(&format!("/v2/{bad}/tags/list")).await.error(400, "NAME_INVALID");
    }
    let strict = world.ask("GET", "/v2/_catalog").header("longshore-consistency", "eventual").send().await;
    strict.error(400, "UNSUPPORTED");
}
