//! A link between regions breaks in the midst of bytes that are passed on to the owner of their session: the client is
//! told that nothing was done, and the same request sent again is taken as if it were the first.

use bytes::Bytes;
use http::{Method, StatusCode};
use tests::client::{Ask, Client, Payload};
use tests::cluster::{Cluster, Options, PATIENCE};
use tests::content::{Content, PIECE};
use tests::registry::{Registry, Trouble, patiently, with_digest};
use tests::{scale, wait};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

/// What is on its way when the link breaks.
#[derive(Clone, Copy, Debug)]
enum Step {
    ChunkWithRange,
    Chunk,
    ClosingPut,
}

const OWNER: usize = 0;
const OTHER: usize = 1;

impl Step {
    fn ask(self, location: &str, content: &Content) -> Ask {
        match self {
            Step::ChunkWithRange => {
                Ask::new(Method::PATCH, location).header("content-range", format!("{PIECE}-{}", content.len() - 1))
            }
            Step::Chunk => Ask::new(Method::PATCH, location),
            Step::ClosingPut => Ask::new(Method::PUT, with_digest(location, content.digest())),
        }
    }

    fn done(self) -> StatusCode {
        match self {
            Step::ChunkWithRange | Step::Chunk => StatusCode::ACCEPTED,
            Step::ClosingPut => StatusCode::CREATED,
        }
    }
}

/// Sends most of a body through another region and breaks the link once the owner has written some of it.
async fn break_off(cluster: &Cluster, ask: Ask, body: Bytes) {
    let client = Client::new(cluster.regions[OTHER].http.to_string());
    let (pieces, stream) = mpsc::channel::<Bytes>(1);
    let sending = async {
        pieces.send(body.slice(0..body.len() - 1000)).await.expect("the body is read");
        wait::until("the owner to write what is passed on", PATIENCE, || async {
            let staged = cluster.regions[OWNER].files("staging").into_iter().filter_map(|path| path.metadata().ok());
            let largest = staged.map(|metadata| metadata.len()).max().unwrap_or(0);
            if largest > 2 * PIECE { Ok(()) } else { Err(format!("{largest} bytes are staged")) }
        })
        .await;
        cluster.reset(OWNER);
        // The body stays open: the client is still there, and has more to send.
        pieces
    };
    let (answer, _pieces) = tokio::join!(client.open_stream(ask, ReceiverStream::new(stream)), sending);
    let answer = answer.expect("the region answers when its link breaks");
    assert_eq!(
        answer.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "a link that broke before the end leaves nothing behind"
    );
    assert!(!answer.header("retry-after").is_empty(), "no Retry-After");
}

async fn repeat(other: &Registry, step: Step, location: &str, content: &Content, body: &Bytes) {
    let again = || async {
        let answer =
            other.expect(step.ask(location, content).payload(Payload::Chunked(body.clone())), step.done()).await?;
        let held = format!("0-{}", content.len() - 1);
        if step.done() == StatusCode::ACCEPTED && answer.header("range") != held {
            return Err(Trouble::Wrong(format!("the session holds {:?} instead of {held:?}", answer.header("range"))));
        }
        Ok(())
    };
    let taken = patiently(Instant::now() + PATIENCE, again).await;
    taken.unwrap_or_else(|trouble| panic!("{step:?} sent again after the break: {trouble:?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_broken_link_cut_is_sent_again_and_taken() {
    let seed = scale::seed("show16");
    let cluster = Cluster::start(2, Options::meshed()).await;
    let (owner, other) = (cluster.at(OWNER), cluster.at(OTHER));
    for (number, step) in [Step::ChunkWithRange, Step::Chunk, Step::ClosingPut].into_iter().enumerate() {
        let content = Content::new(seed + number as u64, 6 * PIECE + 5);
        let location = patiently(Instant::now() + PATIENCE, || owner.begin("team/app")).await;
        let location = location.expect("an upload is opened");
        let head = || other.patch(&location, 0, content.slice(0..PIECE));
        patiently(Instant::now() + PATIENCE, head).await.expect("a first chunk is passed on");
        let rest = content.slice(PIECE..content.len());
        break_off(&cluster, step.ask(&location, &content), rest.clone()).await;
        repeat(&other, step, &location, &content, &rest).await;
        if step.done() == StatusCode::ACCEPTED {
            let close = || other.finish(&location, content.digest(), Payload::Empty);
            patiently(Instant::now() + PATIENCE, close).await.expect("the upload is closed");
        }
        for registry in [&owner, &other] {
            let pull = || registry.pull_blob("team/app", content.digest(), content.len());
            patiently(Instant::now() + PATIENCE, pull).await.expect("the bytes are right");
        }
    }
    cluster.finish().await;
}
