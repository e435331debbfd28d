//! What the door refuses, and what a region does that stands alone.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rows_blobs::{bytes, digest};
use crate::rows_manifests::{IMAGE, image, push_blobs};
use crate::world::World;

/// Longest wait for bytes that must come.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) async fn all(world: &World) {
    early_answers(world).await;
    continues(world).await;
    heads(world).await;
    idle_bodies(world).await;
    too_many(world).await;
}

/// Sends text and reads until `until` stands in the answer, or the end.
pub(crate) async fn exchange(stream: &mut TcpStream, text: impl AsRef<[u8]>, until: &str) -> String {
    stream.write_all(text.as_ref()).await.unwrap();
    read_until(stream, until).await
}

async fn read_until(stream: &mut TcpStream, until: &str) -> String {
    let mut seen = Vec::new();
    let read = async {
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains(until) {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => seen.extend_from_slice(&buffer[..count]),
            }
        }
    };
    assert!(tokio::time::timeout(LIMIT, read).await.is_ok(), "no `{until}` came");
    String::from_utf8_lossy(&seen).into_owned()
}

/// The status of a refused chunk arrives while its body is still being sent, and nothing of it is kept.
async fn early_answers(world: &World) {
    let session = world.ask("POST", "/v2/e/one/blobs/uploads/").send().await.expect(202).location();
    let mut stream = TcpStream::connect(world.door(0)).await.unwrap();
    let head = format!(
        "PATCH {session} HTTP/1.1\r\nhost: example.com\r\ncontent-range: 5-1000000004\r\ncontent-length: 1000000000\r\n\r\nx"
    );
    let answer = exchange(&mut stream, &head, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 416 "), "{answer}");
    drop(stream);
    world.get(&session).await.expect(204).has("range", "0-0");
    let large = bytes(1, 12_000_000);
    let chunk = world.ask("PATCH", &session).header("content-range", "5-12000004").body(large);
    chunk.send().await.error(416, "BLOB_UPLOAD_INVALID");
}

/// A client that waits for `100 Continue` is refused without having sent a byte, or told to go on.
async fn continues(world: &World) {
    let head = |path: &str, length: usize| {
        format!(
            "PUT {path} HTTP/1.1\r\nhost: example.com\r\ncontent-type: {IMAGE}\r\ncontent-length: {length}\r\nexpect: 100-continue\r\n\r\n"
        )
    };
    let mut stream = TcpStream::connect(world.door(0)).await.unwrap();
    let answer = exchange(&mut stream, &head("/v2/e/one/manifests/v1", 5_000_000), "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    push_blobs(world, "e/one", b"layer").await;
    let body = image(b"layer", &Value::Null);
    let mut stream = TcpStream::connect(world.door(0)).await.unwrap();
    let answer = exchange(&mut stream, &head("/v2/e/one/manifests/v1", body.len()), "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 100 "), "{answer}");
    let answer = exchange(&mut stream, &body, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
}

async fn heads(world: &World) {
    let with = async |bytes: usize| {
        let mut stream = TcpStream::connect(world.door(0)).await.unwrap();
        let head = format!("GET /v2/ HTTP/1.1\r\nhost: example.com\r\nx: {}\r\n\r\n", "x".repeat(bytes));
        exchange(&mut stream, &head, "\r\n\r\n").await
    };
    assert!(with(60_000).await.starts_with("HTTP/1.1 200 "));
    // Where more is on its way than is read, the reset may overtake the answer.
    let refused = with(300_000).await;
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 431 "), "{refused}");
    // What the HTTP library refuses by itself has the shape of every other error, on a used connection too.
    let ask = |line: &str, more: &str| format!("GET {line} HTTP/1.1\r\nhost: example.com\r\n{more}\r\n");
    let long = format!("/v2/{}", "x".repeat(70_000));
    let lines: String = (0..150).map(|at| format!("x{at}: y\r\n")).collect();
    let large = format!("x: {}\r\n", "x".repeat(70_000));
    for (request, status) in [
        (ask("/v2/", &large), 431),
        (ask("/v2/", &lines), 431),
        (ask(&long, ""), 431),
        (ask("/v2/\u{1}/tags/list", ""), 400),
    ] {
        for used in [false, true] {
            let mut stream = TcpStream::connect(world.door(0)).await.unwrap();
            if used {
                let first = exchange(&mut stream, ask("/v2/", ""), "{}").await;
                assert!(first.starts_with("HTTP/1.1 200 "), "{first}");
            }
            let answer = exchange(&mut stream, &request, "]}").await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(head.contains("docker-distribution-api-version: registry/2.0"), "{answer}");
            let body: Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["errors"][0]["code"], "UNSUPPORTED", "{answer}");
        }
    }
}

/// A client that stops sending does not hold its session for ever.
async fn idle_bodies(world: &World) {
    let session = world.ask("POST", "/v2/e/idle/blobs/uploads/").send().await.expect(202).location();
    let mut stream = TcpStream::connect(world.door(0)).await.unwrap();
    let head = format!("PATCH {session} HTTP/1.1\r\nhost: example.com\r\ncontent-length: 10\r\n\r\n01234");
    let answer = exchange(&mut stream, &head, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    world.get(&session).await.expect(204).has("range", "0-4");
    world.ask("PATCH", &session).header("content-range", "5-9").body("56789").send().await.expect(202);
    let answer = world.ask("PUT", &format!("{session}?digest={}", digest(b"0123456789"))).send().await.expect(201);
    world.get(&answer.location()).await.expect(200).is(b"0123456789");
}

async fn too_many(world: &World) {
    let session = |at: usize| format!("/v2/e/many{at}/blobs/uploads/");
    let mut held = Vec::new();
    for at in 0..2 {
        let location = world.ask("POST", &session(at)).send().await.expect(202).location();
        let mut stream = TcpStream::connect(world.door(0)).await.unwrap();
        let head = format!(
            "PATCH {location} HTTP/1.1\r\nhost: example.com\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n"
        );
        let answer = exchange(&mut stream, &head, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 100 "), "{answer}");
        held.push(stream);
    }
    world.get("/v2/").await.error(429, "TOOMANYREQUESTS");
    for stream in &mut held {
        let answer = read_until(stream, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    world.get("/v2/").await.expect(200);
}

/// The last region alive serves what it holds, marked, and refuses what it cannot prove or record.
pub(crate) async fn alone(world: &World) {
    let (first, dead) = (0, 1);
    for blob in [&b"alone"[..], b"layer", b"{}"] {
        let path = format!("/v2/a/one/blobs/uploads/?digest={}", digest(blob));
        world.ask_at(first, "POST", &path).body(blob.to_vec()).send().await.expect(201);
    }
    let body = image(b"layer", &json!({ "a": "alone" }));
    let path = "/v2/a/one/manifests/v1";
    let put = world.ask_at(dead, "PUT", path).header("content-type", IMAGE).body(body.clone());
    put.send().await.expect(201);
    // Until it is applied here too.
    world.ask_at(first, "GET", "/v2/a/one/manifests/v1").send().await.expect(200);
    world.kill(dead).await;
    let alone = |method: &'static str, path: String| world.ask_at(first, method, &path).send();
    let stale = |answer: &crate::client::Answer| {
        answer.header("warning").is_some_and(|text| text.starts_with("299 - \"stale: paris "))
    };
    let got = alone("GET", "/v2/a/one/manifests/v1".to_owned()).await.expect(200).is(&body);
    assert!(stale(&got));
    assert!(stale(&alone("GET", "/v2/a/one/tags/list".to_owned()).await.expect(200)));
    assert!(stale(&alone("HEAD", format!("/v2/a/one/blobs/{}", digest(b"alone"))).await.expect(200)));
    let blob = alone("GET", format!("/v2/a/one/blobs/{}", digest(b"alone"))).await.expect(200).is(b"alone");
    assert!(!stale(&blob));
    for unprovable in
        ["manifests/none".to_owned(), format!("blobs/{}", digest(b"none")), format!("referrers/{}", digest(b"x"))]
    {
        alone("GET", format!("/v2/a/one/{unprovable}")).await.error(503, "UNAVAILABLE");
    }
    let strict = world.ask_at(first, "GET", "/v2/a/one/manifests/v1").header("longshore-consistency", "strict");
    strict.send().await.error(503, "UNAVAILABLE");
    let refused = alone("POST", "/v2/a/one/blobs/uploads/".to_owned()).await.error(503, "UNAVAILABLE");
    let message = refused.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("paris is cut off from the other regions and cannot accept a push now"), "{message}");
}
