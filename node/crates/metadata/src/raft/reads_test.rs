use std::time::Duration;

use domain::RegionId;
use runtime::TaskKind;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::command::Command;
use crate::handle::{Demand, Origin};
use crate::view::Freshness;

/// Deadline of what happens at once.
const AT_ONCE: Duration = Duration::from_secs(4);
/// Longest wait for proof.
const STRICT_WAIT: Duration = Duration::from_secs(8);
const LIMIT: Duration = Duration::from_secs(60);

/// A quorum answers, but what it names is not applied here: only the first pull waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_catches_up_does_not_make_every_pull_wait() {
    let folder = tempfile::tempdir().expect("folder");
    let strict_wait_ms_max = Some(u64::try_from(STRICT_WAIT.as_millis()).expect("small"));
    let (handle, tasks) = crate::birth::born_alone(folder.path(), |config| {
        config.strict_wait_ms_max = strict_wait_ms_max;
    })
    .await;
    let member = handle.member().clone();
    // Whoever writes to the state file keeps everybody else from it.
    let ledger = member.file().ledger();
    let hold = tokio::task::spawn_blocking(move || ledger.write()).await.expect("runs").expect("begins");
    let writer = handle.clone();
    let (written, writing) = oneshot::channel();
    tasks.spawn(TaskKind::Request, "write", async move {
        let command = Command::SetCordoned { region: RegionId(1), cordoned: true };
        drop(written.send(writer.propose(Origin { actor: "test".to_owned() }, command).await));
    });
    let committed = async {
        while member.quorum().committed <= member.applied() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, committed).await.expect("the write is committed, but not applied");
    let first = timeout(LIMIT, member.view(Demand::Pull, None)).await.expect("the wait has a bound").expect("reads");
    assert_eq!(first.freshness(), Freshness::Stale);
    // A round that succeeds says nothing of what is applied.
    let (answer, answered) = oneshot::channel();
    member.round_waiters().send(answer).await.expect("rounds run");
    assert!(answered.await.expect("answered").expect("a quorum answers") > member.applied());
    let second = timeout(AT_ONCE, member.view(Demand::Pull, None)).await.expect("no second wait").expect("reads");
    assert_eq!(second.freshness(), Freshness::Stale);
    drop(hold);
    timeout(LIMIT, writing).await.expect("goes on").expect("runs").expect("applied");
    let proved = async {
        while member.view(Demand::Pull, None).await.expect("reads").freshness() != Freshness::Strict {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, proved).await.expect("proof comes back");
    handle.shutdown().await;
    tasks.cancel();
}
