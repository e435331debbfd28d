//! One client whose every request goes to the next region: every answer is what one registry would give.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Method, StatusCode};
use tests::client::{Answer, Ask, Failure, Payload};
use tests::cluster::{Cluster, Options, PATIENCE};
use tests::content::{Content, Random};
use tests::image::{Blob, Image};
use tests::registry::{Registry, Trouble, with_digest};
use tests::{scale, wait};
use tokio::time::Instant;

/// What a step may be answered.
#[derive(Clone, Copy)]
struct Allowed {
    /// As one registry answers the first time.
    first: StatusCode,
    /// As it answers when an earlier try of the same step may have happened.
    again: StatusCode,
}

const fn always(status: StatusCode) -> Allowed {
    Allowed { first: status, again: status }
}

/// A client that goes on to the next region with every request.
struct Walker {
    registry: Registry,
    /// Regions die meanwhile: 503 and 504 are allowed, and steps are repeated.
    in_trouble: bool,
    refused: u64,
    unknown: u64,
    /// Requests that were begun.
    steps: Arc<AtomicU64>,
}

impl Walker {
    fn new(registry: Registry, in_trouble: bool) -> Walker {
        Walker { registry, in_trouble, refused: 0, unknown: 0, steps: Arc::default() }
    }

    /// Sends until an answer is more than "not now", and checks it.
    async fn step(&mut self, ask: Ask, allowed: Allowed) -> Answer {
        let what = format!("{} {}", ask.method, ask.path);
        let deadline = Instant::now() + PATIENCE;
        self.steps.fetch_add(1, Ordering::Relaxed);
        let mut may_have_happened = false;
        loop {
            let answer = match self.registry.send(ask.clone()).await {
                Ok(answer) => answer,
                Err(failure) => {
                    assert!(self.in_trouble && Instant::now() < deadline, "{what}: {failure:?}");
                    let is_unknown = matches!(failure, Failure::Unknown(_));
                    may_have_happened |= is_unknown;
                    self.unknown += u64::from(is_unknown);
                    wait::breath().await;
                    continue;
                }
            };
            let status = answer.status;
            if status == allowed.first || (may_have_happened && status == allowed.again) {
                return answer;
            }
            let refused = status == StatusCode::SERVICE_UNAVAILABLE && !answer.header("retry-after").is_empty();
            let unknown = status == StatusCode::GATEWAY_TIMEOUT && answer.header("longshore-outcome") == "unknown";
            let is_trouble = self.in_trouble && (refused || unknown) && Instant::now() < deadline;
            assert!(is_trouble, "{what}: {status} instead of {}: {}", allowed.first, answer.text());
            self.refused += u64::from(refused);
            self.unknown += u64::from(unknown);
            may_have_happened |= unknown;
            wait::breath().await;
        }
    }

    /// A chunk: refused as out of order only when an earlier try arrived, in whole or in part; then the rest is sent.
    async fn chunk(&mut self, location: &str, offset: u64, bytes: Bytes) {
        let end = offset + bytes.len() as u64;
        let mut at = offset;
        while at < end {
            let rest = bytes.slice(usize::try_from(at - offset).expect("a chunk fits into memory")..);
            let ask = Ask::new(Method::PATCH, location).header("content-range", format!("{at}-{}", end - 1));
            let allowed = Allowed { first: StatusCode::ACCEPTED, again: StatusCode::RANGE_NOT_SATISFIABLE };
            let answer = self.step(ask.payload(Payload::Given(rest)), allowed).await;
            let held = answer.header("range").strip_prefix("0-").and_then(|last| last.parse::<u64>().ok());
            let held = held.expect("an answer to a chunk has a range") + 1;
            if answer.status == StatusCode::ACCEPTED {
                assert_eq!(held, end, "an acknowledged chunk is held");
            }
            assert!(held <= end, "the session holds {held} bytes, {end} were sent");
            if held <= at {
                // The earlier try is still being written.
                wait::breath().await;
            }
            at = at.max(held);
        }
    }

    async fn upload(&mut self, repository: &str, content: &Content) {
        let begin = Ask::new(Method::POST, format!("/v2/{repository}/blobs/uploads/"));
        let location = self.step(begin, always(StatusCode::ACCEPTED)).await.header("location").to_owned();
        let half = content.len() / 2;
        self.chunk(&location, 0, content.slice(0..half)).await;
        self.chunk(&location, half, content.slice(half..content.len())).await;
        let close = Ask::new(Method::PUT, with_digest(&location, content.digest()));
        self.step(close, always(StatusCode::CREATED)).await;
    }

    async fn push_given(&mut self, repository: &str, blob: &Blob) {
        let Blob::Given(bytes) = blob else { panic!("a config is given") };
        let digest = blob.digest();
        let ask = Ask::new(Method::POST, format!("/v2/{repository}/blobs/uploads/?digest={digest}"));
        self.step(ask.payload(Payload::Given(bytes.clone())), always(StatusCode::CREATED)).await;
    }

    async fn head(&mut self, path: &str, status: StatusCode) {
        self.step(Ask::new(Method::HEAD, path), always(status)).await;
    }

    async fn delete(&mut self, path: &str) {
        let allowed = Allowed { first: StatusCode::ACCEPTED, again: StatusCode::NOT_FOUND };
        self.step(Ask::new(Method::DELETE, path), allowed).await;
    }

    async fn tags(&mut self, repository: &str) -> String {
        let path = format!("/v2/{repository}/tags/list");
        self.step(Ask::new(Method::GET, path), always(StatusCode::OK)).await.text()
    }

    /// Push, look, mount, tag, list, delete, look again.
    async fn round(&mut self, number: u64, random: &mut Random) {
        let repository = format!("walk/app-{}", number % 3);
        let other = format!("walk/other-{}", number % 2);
        let tag = format!("t{number}");
        let layer = Content::new(random.next(), 200 + random.below(4000));
        let image = Image::over(number, std::slice::from_ref(&layer));
        let blob = format!("/v2/{repository}/blobs/{}", layer.digest());
        let manifest = format!("/v2/{repository}/manifests/{}", image.manifest.digest);
        let by_tag = format!("/v2/{repository}/manifests/{tag}");

        self.head(&blob, StatusCode::NOT_FOUND).await;
        self.upload(&repository, &layer).await;
        self.head(&blob, StatusCode::OK).await;
        let mount = format!("/v2/{other}/blobs/uploads/?mount={}&from={repository}", layer.digest());
        self.step(Ask::new(Method::POST, mount), always(StatusCode::CREATED)).await;
        self.head(&format!("/v2/{other}/blobs/{}", layer.digest()), StatusCode::OK).await;
        self.push_given(&repository, &image.blobs[0]).await;
        let put = Ask::new(Method::PUT, &by_tag).header("content-type", image.manifest.media_type);
        self.step(put.payload(Payload::Given(image.manifest.body.clone())), always(StatusCode::CREATED)).await;
        let listed = self.tags(&repository).await;
        assert!(listed.contains(&format!("\"{tag}\"")), "{tag} was put and is not listed: {listed}");
        let got = self.step(Ask::new(Method::GET, &by_tag), always(StatusCode::OK)).await;
        assert!(got.body == image.manifest.body, "{tag} resolves to other bytes");
        let bytes = self.step(Ask::new(Method::GET, &blob), always(StatusCode::OK)).await;
        assert!(bytes.body == layer.bytes(), "a blob has other bytes");

        self.delete(&by_tag).await;
        self.head(&by_tag, StatusCode::NOT_FOUND).await;
        self.head(&manifest, StatusCode::OK).await;
        self.delete(&manifest).await;
        self.head(&manifest, StatusCode::NOT_FOUND).await;
        let listed = self.tags(&repository).await;
        assert!(!listed.contains(&format!("\"{tag}\"")), "{tag} was deleted and is listed: {listed}");
        self.delete(&blob).await;
        self.head(&blob, StatusCode::NOT_FOUND).await;
        self.head(&format!("/v2/{other}/blobs/{}", layer.digest()), StatusCode::OK).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_what_one_registry_would_give() {
    let seed = scale::seed("show07");
    let rounds = scale::scaled(25, 1000);
    let cluster = Cluster::start(3, Options::default()).await;
    let mut walker = Walker::new(cluster.rotating(), false);
    let mut random = Random::new(seed);
    let started = Instant::now();
    for number in 0..rounds {
        walker.round(number, &mut random).await;
    }
    println!("{rounds} rounds in {:?}", started.elapsed());
    cluster.await_quiet(PATIENCE).await;
    cluster.assert_same_state(PATIENCE).await;
    cluster.finish().await;
}

/// Kills the leader in the midst of a round, and brings it back when another region leads.
async fn kill_leader_at(cluster: &mut Cluster, steps: &AtomicU64, target: u64) {
    let leader = cluster.leader().await;
    wait::until("the round to be in its midst", PATIENCE, || async {
        let now = steps.load(Ordering::Relaxed);
        if now >= target { Ok(()) } else { Err(format!("step {now} of {target}")) }
    })
    .await;
    cluster.kill(leader);
    cluster.leader().await;
    cluster.restart(leader);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_leader_killed_twice_there_are_refusals_and_no_wrong_answers() {
    let seed = scale::seed("show07 kills");
    let rounds = scale::scaled(20, 1000);
    let mut cluster = Cluster::start(3, Options::default()).await;
    let mut walker = Walker::new(cluster.rotating(), true);
    let mut random = Random::new(seed);
    for number in 0..rounds {
        if number == rounds / 4 || number == rounds * 3 / 4 {
            let steps = walker.steps.clone();
            let target = steps.load(Ordering::Relaxed) + random.below(15);
            tokio::join!(walker.round(number, &mut random), kill_leader_at(&mut cluster, &steps, target));
        } else {
            walker.round(number, &mut random).await;
        }
    }
    println!("{rounds} rounds, leader killed twice: {} refusals, {} unknown outcomes", walker.refused, walker.unknown);
    cluster.await_ready().await;
    cluster.await_quiet(PATIENCE).await;
    cluster.assert_same_state(PATIENCE).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicting_pushes_of_one_tag_have_one_winner_everywhere() {
    let seed = scale::seed("show07 conflicts");
    let cluster = Cluster::start(3, Options::default()).await;
    let images: Vec<Image> = (0..3).map(|number| Image::new(seed + number, &[100])).collect();
    for (region, image) in images.iter().enumerate() {
        cluster.at(region).push_image("race/app", &format!("base-{region}"), image).await.expect("pushed");
    }
    for round in 0..scale::scaled(5, 50) {
        let tag = format!("t{round}");
        let regions = [cluster.at(0), cluster.at(1), cluster.at(2)];
        let put = |region: usize| regions[region].put_manifest("race/app", &tag, &images[region].manifest);
        let (first, second, third) = tokio::join!(put(0), put(1), put(2));
        let answers = [first, second, third].map(|answer| answer.expect("every push of a tag is taken"));
        let revision = |answer: &Answer| answer.header("longshore-revision").parse::<u64>().expect("a revision");
        let winner = (0..3).max_by_key(|region| revision(&answers[*region])).expect("three of them");
        for (region, registry) in regions.iter().enumerate() {
            let got = registry.manifest("race/app", &tag).await.expect("the tag is there");
            assert_eq!(got.header("docker-content-digest"), images[winner].manifest.digest, "region {region}");
        }
    }
    cluster.assert_same_state(PATIENCE).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_conditional_pushes_one_wins_and_the_others_are_refused() {
    let seed = scale::seed("show07 conditions");
    let cluster = Cluster::start(3, Options::default()).await;
    let images: Vec<Image> = (0..3).map(|number| Image::new(seed + number, &[100])).collect();
    for (region, image) in images.iter().enumerate() {
        cluster.at(region).push_image("race/app", &format!("base-{region}"), image).await.expect("pushed");
    }
    let regions = [cluster.at(0), cluster.at(1), cluster.at(2)];
    let put = |region: usize| {
        let ask = Ask::new(Method::PUT, "/v2/race/app/manifests/only")
            .header("content-type", images[region].manifest.media_type)
            .header("if-none-match", "*")
            .payload(Payload::Given(images[region].manifest.body.clone()));
        regions[region].send(ask)
    };
    let (first, second, third) = tokio::join!(put(0), put(1), put(2));
    let statuses = [first, second, third].map(|answer| answer.expect("an answer").status.as_u16());
    let mut sorted = statuses;
    sorted.sort_unstable();
    assert_eq!(sorted, [201, 412, 412], "{statuses:?}");
    let winner = statuses.iter().position(|status| *status == 201).expect("one won");
    for registry in &regions {
        let got = registry.manifest("race/app", "only").await.expect("the tag is there");
        assert_eq!(got.header("docker-content-digest"), images[winner].manifest.digest);
    }
    let stale = regions[0].put_manifest("race/app", "only", &images[winner].manifest).await;
    assert!(!matches!(stale, Err(Trouble::Wrong(_))), "the same again is no conflict: {stale:?}");
    cluster.finish().await;
}
