//! Upload sessions, single posts, mounts.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::limits::{LIMIT, exchange};
use crate::rows_blobs::{bytes, digest, long_digest, push};
use crate::world::World;

async fn begin(world: &World, repository: &str) -> String {
    let answer = world.ask("POST", &format!("/v2/{repository}/blobs/uploads/")).send().await.expect(202);
    let answer = answer.has("range", "0-0");
    let location = answer.location();
    let uuid = answer.header("docker-upload-uuid").unwrap();
    assert!(uuid.len() == 36 && location.contains(uuid), "{location}");
    let shape = format!("/v2/{repository}/blobs/uploads/");
    assert!(location.strip_prefix(&shape).is_some_and(|id| !id.contains('/')), "{location}");
    location
}

pub(crate) async fn all(world: &World) {
    streams_and_chunks(world).await;
    out_of_order(world).await;
    wrong_digests(world).await;
    cancelled_and_unknown(world).await;
    malformed(world).await;
    parameters(world).await;
    at_once(world).await;
    closed_at_once(world).await;
    cut_inside_a_body(world).await;
    sent_again(world).await;
    single_posts(world).await;
    mounts(world).await;
}

async fn patch(world: &World, at: &str, content: &[u8], from: usize, to: usize) -> crate::client::Answer {
    let range = format!("{from}-{}", to - 1);
    world.ask("PATCH", at).header("content-range", range).body(content[from..to].to_vec()).send().await
}

async fn streams_and_chunks(world: &World) {
    let content = bytes(3, 3067);
    for digest in [digest(&content), long_digest(&content)] {
        let close = |session: String| world.ask("PUT", &format!("{session}?digest={digest}"));
        // U3
        let session = begin(world, "u/one").await;
        let answer = world.ask("PATCH", &session).chunked(content.clone()).send().await.expect(202);
        let answer = answer.has("range", "0-3066").has("content-length", "0");
        close(answer.location()).send().await.expect(201).has("docker-content-digest", &digest);
        // U5, U9, U14
        let session = begin(world, "u/one").await;
        for (from, to) in [(0, 1024), (1024, 2048), (2048, 3067)] {
            patch(world, &session, &content, from, to).await.expect(202).has("range", format!("0-{}", to - 1));
            world.get(&session).await.expect(204).has("range", format!("0-{}", to - 1)).location();
        }
        close(session).send().await.expect(201);
        // U6
        let session = begin(world, "u/one").await;
        patch(world, &session, &content, 0, 2048).await.expect(202);
        let last = close(session).header("content-range", "2048-3066").body(content[2048..].to_vec());
        let answer = last.send().await.expect(201);
        world.get(&answer.location()).await.expect(200).is(&content);
        // U11
        let session = begin(world, "u/one").await;
        let put = world.ask("PUT", &format!("{session}?a=1&digest={}&z=", digest.replace(':', "%3A")));
        put.body(content.clone()).send().await.expect(201);
    }
}

async fn out_of_order(world: &World) {
    let content = bytes(4, 3067);
    let digest = digest(&content);
    let session = begin(world, "u/two").await;
    let refused = patch(world, &session, &content, 1024, 2048).await.error(416, "BLOB_UPLOAD_INVALID");
    refused.has("range", "0-0").has("location", &session);
    patch(world, &session, &content, 0, 1024).await.expect(202);
    patch(world, &session, &content, 2048, 3067).await.error(416, "BLOB_UPLOAD_INVALID").has("range", "0-1023");
    // A chunk held already is refused too.
    patch(world, &session, &content, 0, 1024).await.error(416, "BLOB_UPLOAD_INVALID").has("range", "0-1023");
    let url = format!("{session}?digest={digest}");
    let last = world.ask("PUT", &url).header("content-range", "2048-3066").body(content[2048..].to_vec());
    last.send().await.error(416, "BLOB_UPLOAD_INVALID").has("location", &session);
    world.get(&url).await.expect(204).has("range", "0-1023").has("location", &session);
    patch(world, &session, &content, 1024, 2048).await.expect(202);
    let last = world.ask("PUT", &url).header("content-range", "2048-3066").body(content[2048..].to_vec());
    let answer = last.send().await.expect(201);
    world.get(&answer.location()).await.expect(200).is(&content);
}

async fn wrong_digests(world: &World) {
    let content = bytes(5, 2048);
    let wrong = digest(b"something else");
    let session = begin(world, "u/three").await;
    let put = world.ask("PUT", &format!("{session}?digest={wrong}")).body(content.clone());
    put.send().await.error(400, "DIGEST_INVALID");
    let session = begin(world, "u/three").await;
    world.ask("PATCH", &session).chunked(content.clone()).send().await.expect(202);
    world.ask("PUT", &format!("{session}?digest={wrong}")).send().await.error(400, "DIGEST_INVALID");
    world.head(&format!("/v2/u/three/blobs/{wrong}")).await.error(404, "BLOB_UNKNOWN");
    // The digest of another blob of the repository does not let other bytes through.
    push(world, "u/three", b"held", &digest(b"held")).await;
    let session = begin(world, "u/three").await;
    let put = world.ask("PUT", &format!("{session}?digest={}", digest(b"held"))).body(content);
    put.send().await.error(400, "DIGEST_INVALID");
}

async fn cancelled_and_unknown(world: &World) {
    let session = begin(world, "u/four").await;
    world.delete(&session).await.expect(204);
    let other = begin(world, "u/four").await.replace("/u/four/", "/u/five/");
    let live = begin(world, "u/four").await;
    let mut tampered = live.clone();
    let last = if tampered.ends_with('0') { "1" } else { "0" };
    tampered.replace_range(tampered.len() - 1.., last);
    let invented = "/v2/u/four/blobs/uploads/00000000-0000-0000-0000-000000000000".to_owned();
    for gone in [session, other, tampered, invented] {
        world.get(&gone).await.error(404, "BLOB_UPLOAD_UNKNOWN");
        world.delete(&gone).await.error(404, "BLOB_UPLOAD_UNKNOWN");
        world.ask("PATCH", &gone).body("x").send().await.error(404, "BLOB_UPLOAD_UNKNOWN");
        let put = world.ask("PUT", &format!("{gone}?digest={}", digest(b"never pushed"))).body("never pushed");
        put.send().await.error(404, "BLOB_UPLOAD_UNKNOWN");
    }
    world.get(&live).await.expect(204);
}

async fn malformed(world: &World) {
    let session = begin(world, "u/six").await;
    world.ask("PUT", &session).send().await.error(400, "DIGEST_INVALID");
    for bad in ["sha256:x", "md5:d41d8cd98f00b204e9800998ecf8427e", ""] {
        world.ask("PUT", &format!("{session}?digest={bad}")).send().await.error(400, "DIGEST_INVALID");
    }
    for range in ["5-4", "a-b", "0", "bytes 0-4", "-5"] {
        let patch = world.ask("PATCH", &session).header("content-range", range).body("12345");
        patch.send().await.error(400, "BLOB_UPLOAD_INVALID");
    }
    let patch = world.ask("PATCH", &session).header("content-range", "0-5").body("12345");
    patch.send().await.error(400, "SIZE_INVALID");
    let patch = world.ask("PATCH", &session).header("content-range", "0-5").chunked("12345");
    patch.send().await.error(400, "SIZE_INVALID");
    let patch = world.ask("PATCH", &session).header("content-range", "0-3").chunked("12345");
    patch.send().await.error(400, "SIZE_INVALID");
    world.get(&session).await.expect(204).has("range", "0-0");
    let put = world.ask("PUT", &format!("{session}?digest={}", digest(b"12345"))).body("12345");
    put.send().await.expect(201);
}

async fn parameters(world: &World) {
    let post = |query: &str| world.ask("POST", &format!("/v2/u/seven/blobs/uploads/?{query}"));
    post("digest-algorithm=sha512").send().await.expect(202);
    post("digest-algorithm=md5").send().await.error(400, "DIGEST_INVALID");
    post("origin=x&ns=y").header("content-type", "application/json").send().await.expect(202);
    post("digest=sha256:x").body("x").send().await.error(400, "DIGEST_INVALID");
}

async fn at_once(world: &World) {
    let content = bytes(6, 400_000);
    let session = begin(world, "u/eight").await;
    let send = || world.ask("PATCH", &session).header("content-range", "0-399999").chunked(content.clone()).send();
    let (one, two) = tokio::join!(send(), send());
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 416]);
    let answer = world.ask("PUT", &format!("{session}?digest={}", digest(&content))).send().await.expect(201);
    world.get(&answer.location()).await.expect(200).is(&content);
}

/// A closing PUT that comes again while the first one is at work waits for the outcome, with its bytes and without.
async fn closed_at_once(world: &World) {
    for (seed, with_body) in [(20, true), (21, false)] {
        let content = bytes(seed, 400_000);
        for first_at in 0..world.regions() {
            // Without a body the second one must not be the first at the owner, where it would close nothing: the owner
            // itself takes the first one, and has taken it once it asks for the body.
            let session = if with_body {
                begin(world, "u/eleven").await
            } else {
                world.ask_at(first_at, "POST", "/v2/u/eleven/blobs/uploads/").send().await.expect(202).location()
            };
            let url = format!("{session}?digest={}", digest(&content));
            let mut first = TcpStream::connect(world.door(first_at)).await.unwrap();
            let head = format!(
                "PUT {url} HTTP/1.1\r\nhost: example.com\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
                content.len()
            );
            let told = exchange(&mut first, head.as_bytes(), "\r\n\r\n").await;
            assert!(told.starts_with("HTTP/1.1 100 "), "{told}");
            first.write_all(&content[..200_000]).await.unwrap();
            let second = world.ask("PUT", &url);
            let second = if with_body { second.body(content.clone()) } else { second };
            let mut second = std::pin::pin!(second.send());
            // Nothing is said before the first one is through, unless it is the second one that is first at the owner.
            let early = tokio::time::timeout(Duration::from_millis(300), second.as_mut()).await;
            let told = exchange(&mut first, &content[200_000..], "\r\n\r\n").await;
            assert!(told.starts_with("HTTP/1.1 201 "), "{told}");
            let second = match early {
                Ok(answer) => answer,
                Err(_) => second.await,
            };
            second.expect(201).has("docker-content-digest", digest(&content));
        }
    }
}

async fn cut_inside_a_body(world: &World) {
    let content = bytes(7, 5000);
    let session = begin(world, "u/nine").await;
    world.ask("PATCH", &session).body(content[..1000].to_vec()).send().await.expect(202);
    let cut = world.ask("PATCH", &session).broken(content[1000..2000].to_vec(), 4000);
    assert!(cut.try_send().await.is_err());
    // The writer lets go once it has noticed, and keeps what came; until then the session says where it stood.
    let deadline = runtime::clock::now() + LIMIT;
    loop {
        let range = world.get(&session).await.expect(204).header("range").unwrap().to_owned();
        if range == "0-1999" {
            break;
        }
        assert_eq!(range, "0-999");
        assert!(runtime::clock::now() < deadline, "what a client sent before it broke off is kept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    patch(world, &session, &content, 2000, 5000).await.expect(202);
    let answer = world.ask("PUT", &format!("{session}?digest={}", digest(&content))).send().await.expect(201);
    world.get(&answer.location()).await.expect(200).is(&content);
}

async fn sent_again(world: &World) {
    let content = bytes(8, 5000);
    let session = begin(world, "u/ten").await;
    let url = format!("{session}?digest={}", digest(&content));
    world.ask("PUT", &url).body(content.clone()).send().await.expect(201);
    for region in 0..world.regions() {
        world.ask_at(region, "PUT", &url).send().await.expect(201).has("docker-content-digest", digest(&content));
        world.ask_at(region, "PUT", &url).body(content.clone()).send().await.expect(201);
        world.ask_at(region, "GET", &session).send().await.error(404, "BLOB_UPLOAD_UNKNOWN");
    }
    world.delete(&format!("/v2/u/ten/blobs/{}", digest(&content))).await.expect(202);
    world.ask("PUT", &url).send().await.error(404, "BLOB_UPLOAD_UNKNOWN");
}

async fn single_posts(world: &World) {
    let content = bytes(9, 2000);
    for digest in [digest(&content), long_digest(&content)] {
        let post = world.ask("POST", &format!("/v2/s/one/blobs/uploads/?digest={digest}")).body(content.clone());
        let answer = post.send().await.expect(201).has("docker-content-digest", &digest);
        world.get(&answer.location()).await.expect(200).is(&content);
    }
    let empty = world.ask("POST", &format!("/v2/s/one/blobs/uploads/?digest={}", digest(b""))).chunked("");
    empty.send().await.expect(201);
    let wrong = world.ask("POST", &format!("/v2/s/one/blobs/uploads/?digest={}", digest(b"y"))).body("x");
    wrong.send().await.error(400, "DIGEST_INVALID");
}

async fn mounts(world: &World) {
    let content = bytes(10, 2000);
    for digest in [digest(&content), long_digest(&content)] {
        push(world, "m/source", &content, &digest).await;
        for (target, query) in
            [("m/one", format!("mount={digest}&from=m/source")), ("m/two", format!("mount={digest}"))]
        {
            let post = world.ask("POST", &format!("/v2/{target}/blobs/uploads/?{query}")).send().await.expect(201);
            let location = post.location();
            assert!(location.starts_with(&format!("/v2/{target}/")), "{location}");
            world.head(&location).await.expect(200);
            world.get(&location).await.expect(200).is(&content);
            world.delete(&location).await.expect(202);
            world.head(&location).await.error(404, "BLOB_UNKNOWN");
            world.get(&format!("/v2/m/source/blobs/{digest}")).await.expect(200).is(&content);
        }
        world.delete(&format!("/v2/m/source/blobs/{digest}")).await.expect(202);
        world.head(&format!("/v2/m/source/blobs/{digest}")).await.error(404, "BLOB_UNKNOWN");
    }
    let nowhere = digest(b"nowhere");
    for query in
        [format!("mount={nowhere}&from=m/source"), format!("mount={nowhere}"), format!("mount={nowhere}&from=A")]
    {
        let post = world.ask("POST", &format!("/v2/m/three/blobs/uploads/?{query}")).send().await.expect(202);
        let session = post.location();
        if query.ends_with("from=A") {
            let put = world.ask("PUT", &format!("{session}?digest={nowhere}")).body("nowhere");
            put.send().await.expect(201);
        } else {
            world.delete(&session).await.expect(204);
        }
    }
}

/// The closing PUT sent again with its owner dead, and requests for a session that only the dead owner has.
pub(crate) async fn owner_gone(world: &World) {
    let dead = 2;
    let content = bytes(11, 5000);
    let begin_at_the_owner = world.ask_at(dead, "POST", "/v2/o/one/blobs/uploads/").send();
    let session = begin_at_the_owner.await.expect(202).location();
    let url = format!("{session}?digest={}", digest(&content));
    world.ask_at(0, "PUT", &url).body(content.clone()).send().await.expect(201);
    let open = world.ask_at(dead, "POST", "/v2/o/one/blobs/uploads/").send().await.expect(202).location();
    world.kill(dead).await;
    for region in [0, 1] {
        world.ask_at(region, "PUT", &url).send().await.expect(201);
        for method in ["GET", "PATCH", "DELETE"] {
            world.ask_at(region, method, &open).send().await.error(503, "UNAVAILABLE");
        }
        let put = world.ask_at(region, "PUT", &format!("{open}?digest={}", digest(b"z"))).body("z");
        put.send().await.error(503, "UNAVAILABLE");
    }
}

/// The answer to a closing PUT is in the state of every region, also when the owner does not answer.
pub(crate) async fn closed_without_the_owner(world: &World) {
    let (owner, content) = (1, bytes(12, 5000));
    let begun = world.ask_at(owner, "POST", "/v2/o/two/blobs/uploads/").send().await.expect(202).location();
    let url = format!("{begun}?digest={}", digest(&content));
    world.ask_at(0, "PUT", &url).body(content.clone()).send().await.expect(201);
    world.hold(owner, "Sessions/Status");
    world.ask_at(0, "PUT", &url).body(content.clone()).send().await.expect(201);
    world.ask_at(0, "PUT", &url).send().await.expect(201);
    world.hold(owner, "");
}

/// What was sent to an owner may happen once it goes on.
pub(crate) async fn cancelled_at_a_silent_owner(world: &World) {
    let owner = 1;
    let open = world.ask_at(owner, "POST", "/v2/o/three/blobs/uploads/").send().await.expect(202).location();
    world.hold(owner, "Sessions/Cancel");
    let answer = world.ask_at(0, "DELETE", &open).send().await.error(504, "UNKNOWN");
    answer.has("longshore-outcome", "unknown");
    world.hold(owner, "");
    let again = world.ask_at(0, "DELETE", &open).send().await;
    assert!([204, 404].contains(&again.status), "{again:?}");
}
