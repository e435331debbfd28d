//! Rows E2 and U22 as far as they need small limits: a registry that is asked for more than it can do at once, and uploads
//! that nobody comes back to.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Method;
use tests::client::{Answer, Ask};
use tests::cluster::{Options, PATIENCE};
use tests::wait;
use tokio::task::JoinSet;

use crate::row::{BOTH, Expect, OCTETS, rows};

/// Requests at once.
const REQUESTS_MAX: usize = 4;

/// A region that soon has too much to do, and soon forgets.
pub(crate) fn options() -> Options {
    let settings = vec![
        ("http.requests_max", REQUESTS_MAX.to_string()),
        ("upload.expiry", "\"1s\"".to_owned()),
        // Abandoned uploads are looked for four times in it.
        ("gc.grace", "\"4s\"".to_owned()),
    ];
    Options { settings, ..Options::default() }
}

rows! {
    async fn e02_too_many_requests_at_once_are_429(at) {
        let repository = at.repository();
        let mut uploads: JoinSet<()> = JoinSet::new();
        for _ in 0..REQUESTS_MAX {
            let location = at.begin(&repository).await;
            let client = at.one_client();
            uploads.spawn(async move {
                // The answer before counts until it is sent: this one may be told to come again.
                loop {
                    let ask = Ask::new(Method::PATCH, location.clone()).header("content-type", OCTETS);
                    let body = stream::iter([Bytes::from_static(b"the first bytes of many")]).chain(stream::pending());
                    drop(client.open_stream(ask, body).await);
                    wait::breath().await;
                }
            });
        }
        let (answer, head): (Answer, Answer) = wait::until("every place to be taken", PATIENCE, || async {
            let (answer, head) = (at.get("/v2/").await, at.head("/v2/").await);
            if answer.status == 200 || head.status == 200 { Err("there is a place left".to_owned()) } else { Ok((answer, head)) }
        })
        .await;
        assert!(head.is(429).body.is_empty());
        let answer = answer.refused(429, "TOOMANYREQUESTS");
        let seconds: u64 = answer.header("retry-after").parse().expect("Retry-After is a number of seconds");
        assert!(seconds > 0);
        uploads.shutdown().await;
        wait::until("the places to be free again", PATIENCE, || async {
            let answer = at.get("/v2/").await;
            if answer.status == 200 { Ok(()) } else { Err(answer.status.to_string()) }
        })
        .await;
    }

    async fn u22_an_abandoned_session_is_unknown_and_its_staging_freed(at) {
        let repository = at.repository();
        let location = at.begin(&repository).await;
        let location = at.patch(&location, 0, &at.bytes(300_000)).await.is(202).location();
        let staged = || async {
            let cluster = at.cluster.read().await;
            cluster.regions[0].files("/staging/")
        };
        let before = staged().await;
        assert!(before.len() >= 2, "a session has files: {before:?}");
        wait::until("the session to expire", PATIENCE, || async {
            // Cluster time passes faster while something is logged.
            at.push(&repository, b"{}", BOTH[0]).await;
            let answer = at.get(&location).await;
            if answer.status == 404 { Ok(()) } else { Err(answer.status.to_string()) }
        })
        .await;
        at.patch(&location, 0, b"bytes").await.refused(404, "BLOB_UPLOAD_UNKNOWN");
        at.get(&location).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
        wait::until("its staging to be freed", PATIENCE, || async {
            let after = staged().await;
            let left: Vec<_> = before.iter().filter(|path| after.contains(path)).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
    }
}
