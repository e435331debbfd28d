//! Malformed everything gets the specified error: never a 500, never a panic, and nothing is stored.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use http::{Method, StatusCode};
use tests::binaries::binaries;
use tests::client::{Answer, Ask, Payload};
use tests::cluster::{Cluster, Options};
use tests::content::{Content, sha256};
use tests::image::{Blob, INDEX, Image, MANIFEST};
use tests::registry::{Registry, with_digest};
use tests::scale;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What is asked, and what may be answered: status and code (empty: any).
struct Case {
    what: &'static str,
    ask: Ask,
    status: u16,
    code: &'static str,
}

fn case(what: &'static str, ask: Ask, status: u16, code: &'static str) -> Case {
    Case { what, ask, status, code }
}

fn get(path: &str) -> Ask {
    Ask::new(Method::GET, path)
}

fn put_manifest(reference: &str, media_type: &str, body: impl Into<Bytes>) -> Ask {
    Ask::new(Method::PUT, format!("/v2/team/app/manifests/{reference}"))
        .header("content-type", media_type)
        .payload(Payload::Given(body.into()))
}

async fn assert_all(registry: &Registry, cases: Vec<Case>) {
    let mut findings = Vec::new();
    for Case { what, ask, status, code } in cases {
        let words = format!("{what}: {} {}", ask.method, ask.path);
        let is_head = ask.method == Method::HEAD;
        match registry.send(ask).await {
            Ok(answer) if answer.status.as_u16() != status => {
                findings.push(format!("{words}: {} instead of {status}: {}", answer.status, answer.text()));
            }
            Ok(answer) if !is_head && !code.is_empty() && answer.code() != code => {
                findings.push(format!("{words}: code {:?} instead of {code}: {}", answer.code(), answer.text()));
            }
            Ok(_) => {}
            Err(failure) => findings.push(format!("{words}: {failure:?}")),
        }
    }
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

async fn one_region() -> (Cluster, Registry, Image) {
    let seed = scale::seed("show06");
    let cluster = Cluster::start(1, Options::default()).await;
    let registry = cluster.at(0);
    let image = Image::new(seed, &[2000]);
    registry.push_image("team/app", "v1", &image).await.expect("a healthy region takes a push");
    (cluster, registry, image)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_names_digests_and_queries() {
    let (cluster, registry, image) = one_region().await;
    let upper = EMPTY.to_uppercase().replace("SHA256", "sha256");
    let unknown = sha256(b"nobody pushed this");
    let long_tag = format!("/v2/team/app/manifests/{}", "t".repeat(129));
    let long_name = format!("/v2/{}/tags/list", "n".repeat(300));
    let blob = |digest: &str| get(&format!("/v2/team/app/blobs/{digest}"));
    let cases = vec![
        case("upper case digest", blob(&upper), 400, "DIGEST_INVALID"),
        case("short digest", blob("sha256:abc"), 400, "DIGEST_INVALID"),
        case("unknown algorithm", blob("md5:d41d8cd98f00b204e9800998ecf8427e"), 400, "DIGEST_INVALID"),
        case("no algorithm", blob("notadigest"), 400, "DIGEST_INVALID"),
        case("not hexadecimal", blob(&EMPTY.replace('e', "g")), 400, "DIGEST_INVALID"),
        case("unknown blob", blob(&unknown), 404, "BLOB_UNKNOWN"),
        case("unknown blob, HEAD", Ask::new(Method::HEAD, format!("/v2/team/app/blobs/{unknown}")), 404, ""),
        case("blob of another repository", get(&format!("/v2/other/app/blobs/{}", image.blobs[0].digest())), 404, ""),
        case("unknown tag", get("/v2/team/app/manifests/nowhere"), 404, "MANIFEST_UNKNOWN"),
        case("unknown repository", get("/v2/team/none/manifests/v1"), 404, "NAME_UNKNOWN"),
        case("unknown repository, tags", get("/v2/team/none/tags/list"), 404, "NAME_UNKNOWN"),
        case("upper case name", get("/v2/Team/app/tags/list"), 400, "NAME_INVALID"),
        case("doubled slash", get("/v2/team//app/tags/list"), 400, "NAME_INVALID"),
        case("long name", get(&long_name), 400, "NAME_INVALID"),
        case("name of dots", get("/v2/team/../tags/list"), 400, "NAME_INVALID"),
        case("long tag", put_manifest(&"t".repeat(129), MANIFEST, "{}"), 400, "MANIFEST_INVALID"),
        case("long tag, GET", get(&long_tag), 400, "MANIFEST_INVALID"),
        case("tag begins with a dot", put_manifest(".tag", MANIFEST, "{}"), 400, "MANIFEST_INVALID"),
        case("malformed manifest digest", put_manifest("sha256:baddigeststring", MANIFEST, "{}"), 400, ""),
        case("negative page", get("/v2/team/app/tags/list?n=-1"), 400, "UNSUPPORTED"),
        case("page of letters", get("/v2/team/app/tags/list?n=x"), 400, "UNSUPPORTED"),
        case("malformed subject", get("/v2/team/app/referrers/sha256:abc"), 400, "DIGEST_INVALID"),
        case(
            "delete of an unknown manifest",
            Ask::new(Method::DELETE, format!("/v2/team/app/manifests/{unknown}")),
            404,
            "",
        ),
        case("delete of an unknown blob", Ask::new(Method::DELETE, format!("/v2/team/app/blobs/{unknown}")), 404, ""),
        case(
            "delete of a blob in use",
            Ask::new(Method::DELETE, format!("/v2/team/app/blobs/{}", image.blobs[1].digest())),
            405,
            "DENIED",
        ),
    ];
    assert_all(&registry, cases).await;
    let blob = registry.send(get("/v2/team/app/referrers/").header("accept", "*/*")).await.expect("an answer");
    assert!(blob.status.is_client_error(), "no digest at all: {}", blob.status);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_ranges() {
    let (cluster, registry, image) = one_region().await;
    let path = format!("/v2/team/app/blobs/{}", image.blobs[1].digest());
    let whole = match &image.blobs[1] {
        Blob::Generated(content) => content.bytes(),
        Blob::Given(bytes) => bytes.clone(),
    };
    let ranged = |range: &str| registry.send(get(&path).header("range", range));
    for (range, from, to) in
        [("bytes=5-9", 5, 10), ("bytes=1990-", 1990, 2000), ("bytes=-7", 1993, 2000), ("bytes=10-9999", 10, 2000)]
    {
        let answer = ranged(range).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes {from}-{}/2000", to - 1), "{range}");
        assert!(answer.body == whole.slice(from..to), "{range}: other bytes");
    }
    for range in ["bytes=2000-", "bytes=9999-10000", "bytes=-0"] {
        let answer = ranged(range).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
    }
    // What is no range at all may be ignored; it is never answered with wrong bytes.
    for range in ["bytes=9-5", "bytes=x-y", "bytes=", "lines=1-2", "bytes=0-1,5-6", "bytes=18446744073709551616-"] {
        let answer = ranged(range).await.expect("an answer");
        let is_whole = answer.status == StatusCode::OK && answer.body == whole;
        let is_refused = [400, 416].contains(&answer.status.as_u16());
        let is_multipart = answer.header("content-type").starts_with("multipart/byteranges");
        assert!(is_whole || is_refused || is_multipart, "{range}: {} with {} bytes", answer.status, answer.body.len());
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_manifests() {
    let (cluster, registry, image) = one_region().await;
    let body = image.manifest.body.clone();
    let too_large = Bytes::from(vec![b' '; 4 * 1024 * 1024 + 1]);
    let unknown = sha256(b"nobody pushed this");
    let lacking = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{unknown}","size":18}},"layers":[]}}"#
    );
    let childless = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{MANIFEST}","digest":"{unknown}","size":18}}]}}"#
    );
    let bad_digest = lacking.replace(&unknown, "sha256:zz");
    let negative = lacking.replace("18", "-18");
    let schema1 = r#"{"schemaVersion":1,"name":"team/app","tag":"v1","fsLayers":[]}"#;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let cases = vec![
        case("not JSON", put_manifest("bad", MANIFEST, "not json"), 400, "MANIFEST_INVALID"),
        case("half of it", put_manifest("bad", MANIFEST, body.slice(0..body.len() / 2)), 400, "MANIFEST_INVALID"),
        case("nothing", put_manifest("bad", MANIFEST, ""), 400, "MANIFEST_INVALID"),
        case(
            "not UTF-8",
            put_manifest("bad", MANIFEST, Bytes::from_static(b"{\"a\":\"\xff\xfe\"}")),
            400,
            "MANIFEST_INVALID",
        ),
        case("a list", put_manifest("bad", MANIFEST, "[]"), 400, "MANIFEST_INVALID"),
        case("deep", put_manifest("bad", MANIFEST, deep), 400, "MANIFEST_INVALID"),
        case(
            "schema 1",
            put_manifest("bad", "application/vnd.docker.distribution.manifest.v1+json", schema1),
            400,
            "MANIFEST_INVALID",
        ),
        case("another type", put_manifest("bad", INDEX, body.clone()), 400, "MANIFEST_INVALID"),
        case("an unknown type", put_manifest("bad", "text/plain", body.clone()), 400, "MANIFEST_INVALID"),
        case("a malformed digest inside", put_manifest("bad", MANIFEST, bad_digest), 400, "MANIFEST_INVALID"),
        case("a negative size", put_manifest("bad", MANIFEST, negative), 400, "MANIFEST_INVALID"),
        case("an unknown config", put_manifest("bad", MANIFEST, lacking), 400, "MANIFEST_BLOB_UNKNOWN"),
        case("an unknown child", put_manifest("bad", INDEX, childless), 400, "MANIFEST_BLOB_UNKNOWN"),
        case("another digest", put_manifest(&unknown, MANIFEST, body.clone()), 400, "DIGEST_INVALID"),
        case("too large", put_manifest("bad", MANIFEST, too_large), 413, "MANIFEST_INVALID"),
        case("nothing was stored", get("/v2/team/app/manifests/bad"), 404, "MANIFEST_UNKNOWN"),
    ];
    assert_all(&registry, cases).await;
    assert_eq!(registry.tags("team/app").await.expect("tags are listed"), ["v1"]);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_uploads() {
    let (cluster, registry, _image) = one_region().await;
    let content = Content::new(99, 3000);
    let location = registry.begin("team/app").await.expect("an upload is opened");
    let patch = |range: &str, bytes: Bytes| {
        Ask::new(Method::PATCH, location.clone()).header("content-range", range).payload(Payload::Given(bytes))
    };
    let close = |digest: &str| Ask::new(Method::PUT, with_digest(&location, digest));
    let elsewhere = location.replace("team/app", "other/app");
    let unknown = "/v2/team/app/blobs/uploads/00000000-0000-4000-8000-000000000000";
    let cases = vec![
        case("begins behind the offset", patch("1024-2047", content.slice(1024..2048)), 416, "BLOB_UPLOAD_INVALID"),
        case("the first chunk", patch("0-999", content.slice(0..1000)), 202, ""),
        case("a chunk again", patch("0-999", content.slice(0..1000)), 416, "BLOB_UPLOAD_INVALID"),
        case("reversed range", patch("1999-1000", content.slice(1000..2000)), 400, ""),
        case("range of letters", patch("a-b", content.slice(1000..2000)), 400, ""),
        case("another length", patch("1000-1999", content.slice(1000..1500)), 400, ""),
        case("no digest", Ask::new(Method::PUT, location.clone()), 400, "DIGEST_INVALID"),
        case("malformed digest", close("sha256:abc"), 400, "DIGEST_INVALID"),
        case("unknown algorithm", close("md5:d41d8cd98f00b204e9800998ecf8427e"), 400, "DIGEST_INVALID"),
        case("session of another repository", get(&elsewhere), 404, "BLOB_UPLOAD_UNKNOWN"),
        case("unknown session", get(unknown), 404, "BLOB_UPLOAD_UNKNOWN"),
        case("unknown session, PATCH", Ask::new(Method::PATCH, unknown), 404, "BLOB_UPLOAD_UNKNOWN"),
        case("cancel of an unknown session", Ask::new(Method::DELETE, unknown), 404, "BLOB_UPLOAD_UNKNOWN"),
        case("the offset is what it was", get(&location), 204, ""),
        case("the rest", patch("1000-2999", content.slice(1000..3000)), 202, ""),
        case("the right digest", close(content.digest()), 201, ""),
        case("the bytes", get(&format!("/v2/team/app/blobs/{}", content.digest())), 200, ""),
    ];
    assert_all(&registry, cases).await;
    let wrong = registry.begin("team/app").await.expect("an upload is opened");
    let ask = Ask::new(Method::PUT, with_digest(&wrong, EMPTY)).payload(Payload::Given(content.slice(0..10)));
    let answer: Answer = registry.send(ask).await.expect("an answer");
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "DIGEST_INVALID"), "{}", answer.text());
    let algorithm = Ask::new(Method::POST, "/v2/team/app/blobs/uploads/?digest-algorithm=md5");
    assert_eq!(registry.send(algorithm).await.expect("an answer").status, StatusCode::BAD_REQUEST);
    cluster.finish().await;
}

/// Sends bytes as they are, and gives what comes back until the connection ends.
async fn raw(address: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the node listens");
    stream.write_all(request).await.expect("the node takes bytes");
    stream.shutdown().await.expect("half of the connection ends");
    let mut answer = Vec::new();
    let end = tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    // A reset after the answer is as good as an end.
    end.expect("the node ends the exchange").ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_break_off_and_requests_that_are_none() {
    let (cluster, registry, _image) = one_region().await;
    let address = cluster.regions[0].http.to_string();
    let location = registry.begin("team/app").await.expect("an upload is opened");
    let truncated = format!("PATCH {location} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 1000\r\n\r\nhalf");
    let answer = raw(&address, truncated.as_bytes()).await;
    assert!(!answer.starts_with("HTTP/1.1 5") && !answer.starts_with("HTTP/1.1 2"), "a truncated body: {answer}");
    let manifest = format!(
        "PUT /v2/team/app/manifests/cut HTTP/1.1\r\nhost: {address}\r\ncontent-type: {MANIFEST}\r\ncontent-length: 1000\r\n\r\n{{"
    );
    let answer = raw(&address, manifest.as_bytes()).await;
    assert!(!answer.starts_with("HTTP/1.1 5") && !answer.starts_with("HTTP/1.1 2"), "a truncated manifest: {answer}");
    let long_header = format!("GET /v2/ HTTP/1.1\r\nhost: {address}\r\nx-long: {}\r\n\r\n", "x".repeat(200_000));
    for request in ["GARBAGE\r\n\r\n", "GET /v2/ HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02", &long_header] {
        let answer = raw(&address, request.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let unusual = [
        "/v2/%ff/tags/list",
        "/v2/team%2fapp/tags/list",
        "/v2/team/app/manifests/%00",
        "/v2/_catalog?n=99999999999999999999",
    ];
    for path in unusual {
        let answer = registry.send(get(path)).await.expect("an answer");
        assert!(answer.status.as_u16() < 500, "{path}: {} {}", answer.status, answer.text());
    }
    let listed = registry.send(get("/v2/team/app/tags/list")).await.expect("the node still answers");
    assert_eq!(listed.text(), r#"{"name":"team/app","tags":["v1"]}"#);
    cluster.finish().await;
}

/// What the node says of a configuration that it does not start with.
fn refused_configuration(text: &str, data: &Path) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("node.toml");
    let text = format!("[storage]\ndata = {:?}\n{text}", data.display().to_string());
    std::fs::write(&file, text).expect("a temporary directory is writable");
    let output = Command::new(&binaries().node).arg("--config").arg(&file).output().expect("the node runs");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{words}");
    assert!(!words.contains("panicked"), "{words}");
    words
}

#[test]
fn mistakes_in_the_configuration_are_all_named_before_anything_starts() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().join("data");
    let words =
        refused_configuration("[raft]\nprofle = \"lan\"\n[http]\nlisten = \"nonsense\"\n[raaft]\nx = 1\n", &data);
    for part in ["3 problems", "node.toml:4", "raft.profle", "did you mean raft.profile", "http.listen", "raaft"] {
        assert!(words.contains(part), "{part} is not named in:\n{words}");
    }
    let words = refused_configuration("[peer]\nlisten = \"0.0.0.0:7001\"\n[log]\ncolour = true\n", &data);
    for part in ["peer.listen", "peer.insecure", "log.colour"] {
        assert!(words.contains(part), "{part} is not named in:\n{words}");
    }
    let words = refused_configuration("this is not TOML", &data);
    assert!(words.contains("node.toml:3"), "{words}");
    assert!(!data.exists(), "a refused configuration left files behind");
}
